//! What unit tests of this crate share.

use futures::future::BoxFuture;
use std::sync::Mutex;
use std::time::Duration;
use strongroom_env::Clock;
use strongroom_types::{Instant, WallTime};
use tokio::sync::watch;

/// A clock that stands still until it is moved.
pub(crate) struct StillClock {
    now: watch::Sender<Instant>,
    wall: Mutex<WallTime>,
}

impl Default for StillClock {
    fn default() -> Self {
        let wall = Mutex::new(WallTime::from_unix_millis(1_700_000_000_000));
        Self { now: watch::Sender::new(Instant::ORIGIN), wall }
    }
}

impl StillClock {
    /// Moves both clocks on.
    pub(crate) fn pass(&self, duration: Duration) {
        self.now.send_modify(|now| *now = now.after(duration));
        let mut wall = self.wall.lock().expect("no code panics while it holds this lock");
        let millis = u64::try_from(duration.as_millis()).expect("a short time");
        *wall = WallTime::from_unix_millis(wall.as_unix_millis() + millis);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Instant {
        *self.now.borrow()
    }

    fn wall(&self) -> WallTime {
        *self.wall.lock().expect("no code panics while it holds this lock")
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        let until = self.now().after(duration);
        Box::pin(async move {
            // Where the clock is gone nobody waits any more.
            let _ = now.wait_for(|now| *now >= until).await;
        })
    }
}
