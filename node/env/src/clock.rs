//! Time, and waiting for it.

use futures::future::BoxFuture;
use std::time::Duration;
use strongroom_types::{Instant, WallTime};

/// Time as one node sees it.
pub trait Clock: Send + Sync {
    /// Monotonic time since the clock's origin.
    fn now(&self) -> Instant;
    /// Calendar time; may jump in both directions.
    fn wall(&self) -> WallTime;
    /// Completes once `duration` has passed on the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}
