//! Numbers that follow from a seed. Our own generator (SplitMix64, by Steele, Lea and Flood), so that a seed found today
//! means the same after every update of a library.

use std::ops::Range;
use std::time::Duration;

/// A stream of numbers from a seed.
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
}

impl Draws {
    /// The stream of this seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Another stream, which depends on this one's seed and on `name` alone as long as nothing was drawn: what one part
    /// of the world draws does not shift what another gets.
    pub fn split(&self, name: &str) -> Self {
        let mut hash = Fnv::new();
        hash.bytes(name.as_bytes());
        Self { state: mix(self.state ^ hash.value()) }
    }

    /// 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        // The bias of a plain remainder would be the same in effect; this is as cheap.
        u64::try_from((u128::from(self.u64()) * u128::from(bound)) >> 64).expect("below a u64")
    }

    /// An index into something that is not empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// One of `items`, which are not none.
    pub fn pick<'items, T>(&mut self, items: &'items [T]) -> &'items T {
        &items[self.index(items.len())]
    }

    /// Whether something happens that happens `per_million` times in a million.
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < u64::from(per_million)
    }

    /// A time in `range`, in whole microseconds.
    pub fn duration(&mut self, range: Range<Duration>) -> Duration {
        let micros =
            |duration: Duration| u64::try_from(duration.as_micros()).expect("simulated times are short");
        let (start, end) = (micros(range.start), micros(range.end));
        Duration::from_micros(start + self.below((end - start).max(1)))
    }
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64.
pub const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// FNV-1a: tells two traces apart; nobody attacks it.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(u64);

impl Fnv {
    /// The hash of nothing.
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Adds a number.
    pub fn u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number).wrapping_add(STEP);
    }

    /// The hash.
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl Default for Fnv {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Draws;

    #[test]
    fn streams_are_stable_and_split_by_name() {
        // Known answers of SplitMix64 for seed 1234567.
        let mut draws = Draws::new(1_234_567);
        assert_eq!(draws.u64(), 6_457_827_717_110_365_317);
        assert_eq!(draws.u64(), 3_203_168_211_198_807_973);
        let root = Draws::new(5);
        assert_eq!(root.split("net").u64(), root.split("net").u64());
        assert_ne!(root.split("net").u64(), root.split("drives").u64());
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut draws = Draws::new(1);
        let mut seen = [0_u32; 7];
        for _ in 0..7000 {
            seen[draws.index(7)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
}
