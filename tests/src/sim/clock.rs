//! A node's clocks: simulated time that may run fast or slow, and a calendar of its own that may be wrong.

use futures::future::BoxFuture;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use strongroom_env::Clock;
use strongroom_types::{Instant, WallTime};

/// The calendar at the beginning of every run: 2027-01-15T08:00:00Z.
pub const WALL_ORIGIN: WallTime = WallTime::from_unix_millis(1_800_000_000_000);

/// Simulated time as one node sees it.
///
/// The monotonic clock may run fast or slow; timers of the node go by it. Two things do not: openraft's own timers, which are tokio's, and the
/// calendar, which somebody keeps right unless it jumps.
#[derive(Clone)]
pub struct SimClock {
    origin: tokio::time::Instant,
    skew_ms: Arc<AtomicI64>,
    drift: Arc<Mutex<Drift>>,
}

/// How fast a monotonic clock runs, since when, and what it showed then.
#[derive(Clone, Copy, Default)]
struct Drift {
    parts_per_million: i32,
    since: Duration,
    shown: Duration,
}

const MILLION: i128 = 1_000_000;

impl Drift {
    fn rate(self) -> u128 {
        u128::try_from(MILLION + i128::from(self.parts_per_million)).expect("a clock never runs backwards")
    }

    /// What the clock shows after `elapsed`; never less than before.
    fn shows(self, elapsed: Duration) -> Duration {
        if self.parts_per_million == 0 {
            return self.shown + (elapsed - self.since);
        }
        let nanos = (elapsed - self.since).as_nanos() * self.rate() / MILLION.unsigned_abs();
        self.shown + Duration::from_nanos(u64::try_from(nanos).expect("runs last hours, not ages"))
    }

    /// How long it takes until the clock shows `duration` more, at least.
    fn takes(self, duration: Duration) -> Duration {
        if self.parts_per_million == 0 {
            return duration;
        }
        let nanos = (duration.as_nanos() * MILLION.unsigned_abs()).div_ceil(self.rate());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl SimClock {
    /// A clock since `origin` that goes right.
    pub fn new(origin: tokio::time::Instant) -> Self {
        Self { origin, skew_ms: Arc::default(), drift: Arc::default() }
    }

    /// The calendar jumps to be off by this.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// From now on the monotonic clock runs so much too fast, or too slow if negative.
    pub fn set_drift(&self, parts_per_million: i32) {
        let elapsed = self.origin.elapsed();
        let mut drift = self.drift.lock().unwrap_or_else(PoisonError::into_inner);
        *drift = Drift { parts_per_million, since: elapsed, shown: drift.shows(elapsed) };
    }

    fn drift(&self) -> Drift {
        *self.drift.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant::ORIGIN.after(self.drift().shows(self.origin.elapsed()))
    }

    fn wall(&self) -> WallTime {
        let elapsed_ms = u64::try_from(self.origin.elapsed().as_millis()).expect("runs last hours, not ages");
        let right = WALL_ORIGIN.as_unix_millis() + elapsed_ms;
        WallTime::from_unix_millis(right.saturating_add_signed(self.skew_ms.load(Ordering::Relaxed)))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(self.drift().takes(duration)))
    }
}

#[cfg(test)]
mod tests {
    use super::Drift;
    use std::time::Duration;

    #[test]
    fn a_clock_that_drifts_never_goes_back_and_never_wakes_early() {
        let mut drift = Drift::default();
        let (mut elapsed, mut shown) = (Duration::ZERO, Duration::ZERO);
        for step in 0..2_000_u32 {
            let parts_per_million = [50_000, -50_000, 0, 1, -49_999][step as usize % 5];
            drift = Drift { parts_per_million, since: elapsed, shown: drift.shows(elapsed) };
            let wanted = Duration::from_nanos(u64::from(step) * 1_234_567);
            elapsed += drift.takes(wanted);
            let now = drift.shows(elapsed);
            assert!(now >= shown + wanted && now <= shown + wanted + Duration::from_nanos(3), "step {step}");
            shown = now;
        }
        let fast = Drift { parts_per_million: 50_000, ..Drift::default() };
        assert_eq!(fast.shows(Duration::from_secs(100)), Duration::from_secs(105));
    }
}
