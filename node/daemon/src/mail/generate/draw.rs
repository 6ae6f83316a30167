//! Numbers from a seed, and the sizes drawn with them.

use super::super::limits::{GENERATED_LEN_BYTES_MAX, GENERATED_LEN_BYTES_MIN};

/// What a mail consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Html,
    Files,
}

/// Share, median in KiB and sigma of each kind: the table in the module above.
const MIXTURE: [(Kind, f64, f64, f64); 3] =
    [(Kind::Text, 0.46, 6.0, 0.9), (Kind::Html, 0.48, 42.0, 0.5), (Kind::Files, 0.06, 260.0, 1.4)];

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). Written here, because what a seed
/// means must not change when a library changes its generator.
pub(super) struct Draw {
    state: u64,
}

impl Draw {
    /// Numbers for mail `index` of `seed`.
    pub(super) fn new(seed: u64, index: u64) -> Self {
        let mut draw = Self { state: seed };
        draw.state = draw.u64() ^ index;
        draw.state = draw.u64();
        draw
    }

    pub(super) fn u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0. The bias of at most `bound` / 2^64 is of no matter here.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "there is a number below the bound");
        ((u128::from(self.u64()) * bound as u128) >> 64) as usize
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// A number in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// What mail `index` of `seed` consists of, and its bytes.
pub(super) fn kind_and_len(seed: u64, index: u64) -> (Kind, usize) {
    // Another sequence than the one that the content is drawn from, or sizes and content would be related.
    let mut draw = Draw::new(!seed, index);
    let mut share = draw.unit();
    let mut chosen = MIXTURE[0];
    for kind in MIXTURE {
        chosen = kind;
        share -= kind.1;
        if share < 0.0 {
            break;
        }
    }
    let (kind, _, median_kib, sigma) = chosen;
    let len_bytes = median_kib * 1024.0 * (sigma * draw.normal()).exp();
    (kind, (len_bytes as usize).clamp(GENERATED_LEN_BYTES_MIN, GENERATED_LEN_BYTES_MAX))
}
