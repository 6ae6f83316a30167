//! What is encoded: shards in memory, one stripe for warm figures, more than any cache holds for cold ones.

use strongroom_erasure::Codec;
use strongroom_io::AlignedBuffer;

/// Shards of one length, data first, each at an address that a drive could read from.
pub struct Stripe {
    pub data: Vec<AlignedBuffer>,
    pub parity: Vec<AlignedBuffer>,
}

/// Stripes that are gone through one after the other.
pub struct Pool {
    stripes: Vec<Stripe>,
    next: usize,
}

impl Stripe {
    /// Data from a seed; parity as `codec` makes it.
    pub fn new(codec: &Codec, len_bytes: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(2) + 1;
        let mut fill = |mut buffer: AlignedBuffer| {
            for word in buffer.as_chunks_mut::<8>().0 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *word = (state ^ state >> 29).to_le_bytes();
            }
            buffer
        };
        let data = (0..codec.data_count()).map(|_| fill(AlignedBuffer::zeroed(len_bytes))).collect();
        let parity = (0..codec.parity_count()).map(|_| AlignedBuffer::zeroed(len_bytes)).collect();
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
    pub fn new(codec: &Codec, len_bytes: usize, bytes: Option<usize>) -> Self {
        let count = bytes.map_or(1, |bytes| bytes.div_ceil(codec.shard_count() * len_bytes));
        let stripes = (0..count as u64).map(|seed| Stripe::new(codec, len_bytes, seed)).collect();
        Self { stripes, next: 0 }
    }

    /// The one that was used longest ago.
    pub fn next(&mut self) -> &mut Stripe {
        let index = self.next;
        self.next = if index + 1 == self.stripes.len() { 0 } else { index + 1 };
        &mut self.stripes[index]
    }
}
