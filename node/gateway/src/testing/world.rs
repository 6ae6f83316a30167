//! Time, randomness and keys.

use crate::auth::{Caller, Credential, Credentials, Secret};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use strongroom_env::{Clock, Rng};
use strongroom_types::{Instant, WallTime};

struct Time {
    now: Instant,
    wall: WallTime,
    sleepers: Vec<(Instant, tokio::sync::oneshot::Sender<()>)>,
}

/// A clock that moves when told to.
pub struct ManualClock {
    time: Mutex<Time>,
}

impl ManualClock {
    /// A clock that stands at `wall`.
    pub fn new(wall: WallTime) -> Self {
        Self { time: Mutex::new(Time { now: Instant::ORIGIN, wall, sleepers: Vec::new() }) }
    }

    /// Moves both clocks on, and wakes whom it passes.
    pub fn advance(&self, duration: Duration) {
        let mut time = self.time.lock().expect("no holder of this lock panics");
        time.now = time.now.after(duration);
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        time.wall = WallTime::from_unix_millis(time.wall.as_unix_millis().saturating_add(millis));
        let now = time.now;
        let (due, waiting) = std::mem::take(&mut time.sleepers).into_iter().partition(|(at, _)| *at <= now);
        time.sleepers = waiting;
        drop(time);
        let due: Vec<(Instant, tokio::sync::oneshot::Sender<()>)> = due;
        for (_, sleeper) in due {
            // Whoever no longer waits does not need to be woken.
            let _ = sleeper.send(());
        }
    }

    /// How many sleep.
    pub fn sleepers(&self) -> usize {
        let mut time = self.time.lock().expect("no holder of this lock panics");
        time.sleepers.retain(|(_, sleeper)| !sleeper.is_closed());
        time.sleepers.len()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.time.lock().expect("no holder of this lock panics").now
    }

    fn wall(&self) -> WallTime {
        self.time.lock().expect("no holder of this lock panics").wall
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut time = self.time.lock().expect("no holder of this lock panics");
        let at = time.now.after(duration);
        time.sleepers.push((at, sender));
        Box::pin(async move {
            // The clock is gone: time stands still for ever.
            if receiver.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// Numbers from a seed.
pub struct SeededRng {
    state: Mutex<u64>,
}

impl SeededRng {
    /// Numbers from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }
}

impl Rng for SeededRng {
    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn u64(&self) -> u64 {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Keys from a list.
#[derive(Default)]
pub struct Keys {
    keys: BTreeMap<String, Credential>,
}

impl Keys {
    /// One key.
    pub fn one(access_key: &str, secret: &str) -> Self {
        let mut keys = Self::default();
        keys.insert(access_key, secret);
        keys
    }

    /// Adds a key.
    pub fn insert(&mut self, access_key: &str, secret: &str) {
        let caller = Caller { access_key: access_key.to_owned(), name: access_key.to_lowercase() };
        self.keys.insert(access_key.to_owned(), Credential { secret: Secret::new(secret), caller });
    }
}

impl Credentials for Keys {
    fn find(&self, access_key: &str) -> Option<Credential> {
        self.keys.get(access_key).cloned()
    }
}
