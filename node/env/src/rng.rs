//! Randomness.

/// Random numbers: seeded in simulation, from the operating system otherwise.
pub trait Rng: Send + Sync {
    /// 64 random bits.
    fn u64(&self) -> u64;

    /// 128 random bits.
    fn u128(&self) -> u128 {
        u128::from(self.u64()) << 64 | u128::from(self.u64())
    }
}
