//! A node's clocks: simulated time, and a calendar of its own that may be wrong.

use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use strongroom_env::Clock;
use strongroom_types::{Instant, WallTime};

/// The calendar at the beginning of every run: 2027-01-15T08:00:00Z.
pub const WALL_ORIGIN: WallTime = WallTime::from_unix_millis(1_800_000_000_000);

/// Simulated time as one node sees it.
#[derive(Clone)]
pub struct SimClock {
    origin: tokio::time::Instant,
    skew_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock since `origin` that goes right.
    pub fn new(origin: tokio::time::Instant) -> Self {
        Self { origin, skew_ms: Arc::default() }
    }

    /// The calendar jumps to be off by this.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant::ORIGIN.after(self.origin.elapsed())
    }

    fn wall(&self) -> WallTime {
        let elapsed_ms = u64::try_from(self.origin.elapsed().as_millis()).expect("runs last hours, not ages");
        let right = WALL_ORIGIN.as_unix_millis() + elapsed_ms;
        WallTime::from_unix_millis(right.saturating_add_signed(self.skew_ms.load(Ordering::Relaxed)))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
