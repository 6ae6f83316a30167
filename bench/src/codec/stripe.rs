//! What is encoded: shards in memory, one stripe for warm figures, more than any cache holds for cold ones.

use std::ops::{Deref, DerefMut};
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

/// A shard in memory.
pub struct Shard {
    buffer: AlignedBuffer,
    start: usize,
    len_bytes: usize,
}

/// Shards of one length, data first.
pub struct Stripe {
    pub data: Vec<Shard>,
    pub parity: Vec<Shard>,
}

impl Layout {
    /// Zeros for the shard of this index.
    pub fn shard(self, index: usize) -> Shard {
        let start = index * self.apart_bytes % PAGE_LEN_BYTES;
        let buffer = AlignedBuffer::zeroed((start + self.len_bytes).next_multiple_of(PAGE_LEN_BYTES));
        Shard { buffer, start, len_bytes: self.len_bytes }
    }
}

impl Deref for Shard {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len_bytes]
    }
}

impl DerefMut for Shard {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.len_bytes]
    }
}

/// Stripes that are gone through one after the other.
pub struct Pool {
    stripes: Vec<Stripe>,
    next: usize,
}

impl Stripe {
    /// Data from a seed; parity as `codec` makes it.
    pub fn new(codec: &Codec, layout: Layout, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(2) + 1;
        let mut fill = |mut shard: Shard| {
            for word in shard.as_chunks_mut::<8>().0 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *word = (state ^ state >> 29).to_le_bytes();
            }
            shard
        };
        let data = (0..codec.data_count()).map(|index| fill(layout.shard(index))).collect();
        let parity = (codec.data_count()..codec.shard_count()).map(|index| layout.shard(index)).collect();
        let mut stripe = Self { data, parity };
        let mut parity = std::mem::take(&mut stripe.parity);
        let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(|shard| &mut shard[..]).collect();
        codec.encode(&stripe.slices()[..], &mut outputs).expect("shapes fit");
        stripe.parity = parity;
        stripe
    }

    /// All shards in their order.
    pub fn slices(&self) -> Vec<&[u8]> {
        self.data.iter().chain(&self.parity).map(|shard| &shard[..]).collect()
    }

    /// Bytes of a shard.
    pub fn len_bytes(&self) -> usize {
        self.data.first().map_or(0, |shard| shard.len())
    }
}

impl Pool {
    /// One stripe, or as many as `bytes` of data and parity take.
    pub fn new(codec: &Codec, layout: Layout, bytes: Option<usize>) -> Self {
        let count = bytes.map_or(1, |bytes| bytes.div_ceil(codec.shard_count() * layout.len_bytes));
        let stripes = (0..count as u64).map(|seed| Stripe::new(codec, layout, seed)).collect();
        Self { stripes, next: 0 }
    }

    /// The one that was used longest ago.
    pub fn next(&mut self) -> &mut Stripe {
        let index = self.next;
        self.next = if index + 1 == self.stripes.len() { 0 } else { index + 1 };
        &mut self.stripes[index]
    }
}
