//! The pause before something that failed is tried again.

use std::time::Duration;
use strongroom_types::Instant;

/// Before the second try; then twice as long each time.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(500);
/// At most.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Since the last try that failed.
#[derive(Clone, Copy)]
pub(super) struct Pause {
    until: Instant,
    len: Duration,
}

impl Pause {
    /// After the first try, which failed now.
    pub(super) fn first(now: Instant) -> Self {
        Self { until: now.after(PAUSE_MIN), len: PAUSE_MIN }
    }

    /// After another one.
    pub(super) fn next(self, now: Instant) -> Self {
        let len = (self.len * 2).min(PAUSE_MAX);
        Self { until: now.after(len), len }
    }

    /// Whether it is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }
}
