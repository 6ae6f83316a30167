//! A node's randomness: a split of the run's seed.

use super::draws::Draws;
use std::sync::{Mutex, PoisonError};
use strongroom_env::Rng;

/// See the module.
pub struct SimRng {
    draws: Mutex<Draws>,
}

impl SimRng {
    /// Draws from this stream.
    pub fn new(draws: Draws) -> Self {
        Self { draws: Mutex::new(draws) }
    }
}

impl Rng for SimRng {
    fn u64(&self) -> u64 {
        self.draws.lock().unwrap_or_else(PoisonError::into_inner).u64()
    }
}
