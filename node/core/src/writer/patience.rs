//! How long a holder is waited for: a few times what answers lately took.

use crate::limits::{
    ACK_LATENCIES_COUNT, ACK_LATENCIES_STEP, ACK_PATIENCE_FACTOR, ACK_PATIENCE_MAX, ACK_PATIENCE_MIN,
};
use std::time::Duration;

/// The last answers and what follows from them.
#[derive(Debug)]
pub(super) struct Patience {
    latencies_us: Box<[u32; ACK_LATENCIES_COUNT]>,
    recorded: usize,
    now: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { latencies_us: Box::new([0; ACK_LATENCIES_COUNT]), recorded: 0, now: ACK_PATIENCE_MIN }
    }

    /// The patience now.
    pub(super) fn get(&self) -> Duration {
        self.now
    }

    /// An answer took this long. The percentile is taken every few answers only: it moves slowly and costs a selection.
    pub(super) fn record(&mut self, latency: Duration) {
        self.latencies_us[self.recorded % ACK_LATENCIES_COUNT] =
            u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.recorded += 1;
        if self.recorded.is_multiple_of(ACK_LATENCIES_STEP) {
            self.now = self.compute();
        }
    }

    fn compute(&self) -> Duration {
        let mut recent = *self.latencies_us;
        let recent = &mut recent[..self.recorded.min(ACK_LATENCIES_COUNT)];
        let rank = (recent.len() * 99).div_ceil(100) - 1;
        let (_, p99_us, _) = recent.select_nth_unstable(rank);
        (Duration::from_micros(u64::from(*p99_us)) * ACK_PATIENCE_FACTOR)
            .clamp(ACK_PATIENCE_MIN, ACK_PATIENCE_MAX)
    }
}

#[cfg(test)]
mod tests;
