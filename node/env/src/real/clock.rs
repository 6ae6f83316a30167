//! The operating system's clocks.

use crate::Clock;
use futures::future::BoxFuture;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use strongroom_types::{Instant, WallTime};

/// Monotonic time since this was made, and the system's calendar.
///
/// The monotonic side is tokio's, since that is what sleeping is measured by.
#[derive(Clone, Copy, Debug)]
pub struct RealClock {
    origin: tokio::time::Instant,
}

impl RealClock {
    /// A clock whose origin is now.
    pub fn new() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Instant {
        Instant::ORIGIN.after(self.origin.elapsed())
    }

    fn wall(&self) -> WallTime {
        // A calendar before 1970 is a machine whose clock was never set: the earliest time there is, since nothing is
        // ordered by it.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::from_unix_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
