//! What is encoded: shards in memory, one stripe for warm figures, more than any cache holds for cold ones. Lists of slices are made beforehand: a caller has them.

use strongroom_erasure::Codec;
use strongroom_io::AlignedBuffer;

/// Bytes of a page.
const PAGE_LEN_BYTES: usize = 4096;

/// How long shards are and where they begin.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub len_bytes: usize,
    /// Each so much further behind the beginning of a page than the one before.
    pub apart_bytes: usize,
}

/// What is done with parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// It is written.
    Written,
    /// It is read.
    Read,
    /// It is read, and one bit of the data is wrong.
    Wrong,
}

/// Shards of one length. Where parity is written `all` and `sources` are empty, else `parity` is.
#[derive(Default)]
pub struct Stripe<'a> {
    pub data: Vec<&'a [u8]>,
    pub parity: Vec<&'a mut [u8]>,
    pub all: Vec<&'a [u8]>,
    /// Those that are there where as many data shards are lost as can be, the first ones.
    pub sources: Vec<(usize, &'a [u8])>,
}

/// Stripes that are gone through one after the other.
pub struct Pool<'a> {
    stripes: Vec<Stripe<'a>>,
    next: usize,
}

/// Data shards that are lost in a reconstruction, the first ones.
pub fn lost_count(codec: &Codec) -> usize {
    codec.data_count().min(codec.parity_count())
}

impl Layout {
    /// Bytes from the page in which a shard begins to that of the next one.
    fn pitch(self) -> usize {
        let room = if self.apart_bytes > 0 { PAGE_LEN_BYTES } else { 0 };
        (self.len_bytes + room).next_multiple_of(PAGE_LEN_BYTES)
    }

    /// Memory for so many shards.
    pub fn arena(self, count: usize) -> AlignedBuffer {
        AlignedBuffer::zeroed(count * self.pitch())
    }

    /// Shards in memory of [`Layout::arena`], those of a stripe from `first_index` on.
    pub fn shards(self, arena: &mut [u8], first_index: usize) -> Vec<&mut [u8]> {
        let rooms = arena.chunks_exact_mut(self.pitch()).zip(first_index..);
        let starts = rooms.map(|(room, index)| (index * self.apart_bytes % PAGE_LEN_BYTES, room));
        starts.map(|(start, room)| &mut room[start..start + self.len_bytes]).collect()
    }

    /// Stripes that take so many bytes, at least one.
    pub fn stripe_count(self, codec: &Codec, bytes: usize) -> usize {
        bytes.div_ceil(codec.shard_count() * self.len_bytes).max(1)
    }
}

impl<'a> Stripe<'a> {
    /// Data from a seed; parity as `codec` makes it.
    pub fn new(codec: &Codec, layout: Layout, parity: Parity, arena: &'a mut [u8], seed: u64) -> Self {
        let mut state = seed.wrapping_mul(2) + 1;
        let mut data = layout.shards(arena, 0);
        let mut made = data.split_off(codec.data_count());
        for word in data.iter_mut().flat_map(|shard| shard.as_chunks_mut::<8>().0) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *word = (state ^ state >> 29).to_le_bytes();
        }
        let shared: Vec<&[u8]> = data.iter().map(|shard| &**shard).collect();
        codec.encode(&shared, &mut made).expect("shapes fit");
        if parity == Parity::Wrong {
            *data[0].last_mut().expect("a shard has bytes") ^= 1;
        }
        let data: Vec<&[u8]> = data.into_iter().map(|shard| &*shard).collect();
        if parity == Parity::Written {
            return Self { data, parity: made, ..Self::default() };
        }
        let all: Vec<&[u8]> = data.iter().copied().chain(made.into_iter().map(|shard| &*shard)).collect();
        let present = lost_count(codec)..lost_count(codec) + codec.data_count();
        let sources = present.map(|index| (index, all[index])).collect();
        Self { data, parity: Vec::new(), all, sources }
    }
}

impl<'a> Pool<'a> {
    /// As many as the arena has room for.
    pub fn new(codec: &Codec, layout: Layout, parity: Parity, arena: &'a mut [u8]) -> Self {
        let of_stripe = arena.chunks_exact_mut(codec.shard_count() * layout.pitch());
        let stripe = |(arena, seed)| Stripe::new(codec, layout, parity, arena, seed);
        Self { stripes: of_stripe.zip(0..).map(stripe).collect(), next: 0 }
    }

    /// The one that was used longest ago.
    pub fn next(&mut self) -> &mut Stripe<'a> {
        let index = self.next;
        self.next = if index + 1 == self.stripes.len() { 0 } else { index + 1 };
        &mut self.stripes[index]
    }
}
