//! What happened that is worth telling: the newest few events, numbered, for whoever follows them.
//!
//! Owns a ring of bounded length. A reader says which event it saw last and is told how many it has missed since, if any; nobody who tells an event ever
//! waits for a reader. Alarms, which last, are [`crate::alarms`]'s; an event only says that one was raised. Nothing is kept beyond the process: numbers
//! begin again with it, and [`Events::run`] tells one process from the next.

mod event;

use crate::limits::EVENTS_KEPT_MAX;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_env::Clock;
use strongroom_types::WallTime;
use tokio::sync::watch;

pub use event::Event;

/// An event, its number and when it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its number, from 1 without gaps.
    pub sequence: u64,
    /// By this node's calendar.
    pub at: WallTime,
    /// What happened.
    pub event: Event,
}

/// What a reader has not seen yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Events that came since and are not kept any more.
    pub lost: u64,
    /// The others, the oldest first.
    pub told: Vec<Arc<Told>>,
}

/// The newest events of this node.
pub struct Events {
    clock: Arc<dyn Clock>,
    run: u64,
    ring: Mutex<VecDeque<Arc<Told>>>,
    /// The number of the newest one.
    newest: watch::Sender<u64>,
}

impl Events {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let run = clock.wall().as_unix_millis();
        Arc::new(Self { clock, run, ring: Mutex::default(), newest: watch::Sender::new(0) })
    }

    /// Which process's numbers these are: when it began. For telling a reader of an earlier one that it has to begin again.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Tells an event. Where as many are kept as may be, the oldest goes.
    pub fn tell(&self, event: Event) {
        let mut ring = self.lock();
        let sequence = *self.newest.borrow() + 1;
        if ring.len() == EVENTS_KEPT_MAX {
            ring.pop_front();
        }
        ring.push_back(Arc::new(Told { sequence, at: self.clock.wall(), event }));
        // Under the lock, so that numbers and ring agree.
        self.newest.send_replace(sequence);
    }

    /// What came after event number `seen`; 0 for all that is kept.
    pub fn after(&self, seen: u64) -> Unseen {
        let ring = self.lock();
        let newest = *self.newest.borrow();
        let Some(oldest) = ring.front().map(|told| told.sequence) else { return Unseen::default() };
        // A number from the future is not one of this run: all is new to that reader.
        let seen = if seen > newest { 0 } else { seen };
        let lost = oldest.saturating_sub(seen + 1);
        Unseen { lost, told: ring.iter().filter(|told| told.sequence > seen).cloned().collect() }
    }

    /// Completes once there is an event after number `seen`.
    pub async fn wait_beyond(&self, seen: u64) {
        let mut newest = self.newest.subscribe();
        // The sender lives as long as this.
        let _ = newest.wait_for(|newest| *newest > seen).await;
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Told>>> {
        self.ring.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests;
