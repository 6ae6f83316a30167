//! The operating system's randomness.

use crate::Rng;
use rand::RngCore;

/// Each thread's own generator, seeded by the operating system and reseeded as it is used; never shared or reused
/// between threads or processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRng;

impl Rng for OsRng {
    fn u64(&self) -> u64 {
        rand::rng().next_u64()
    }
}
