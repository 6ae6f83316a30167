//! The executor: one task at a time, the next one drawn from those that are ready.
//!
//! tokio runs beneath for its paused clock and its timers only. Its own queue is first in, first out, and would show one
//! interleaving for each seed's timing; and it cannot end all tasks of a node at once, in an order that is known.

use super::draws::Draws;
use super::limits::{POLLS_PER_INSTANT_MAX, POLLS_PER_TURN};
use super::trace::Trace;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use strongroom_types::NodeId;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Whom a task ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The run: clients, wires, faults.
    World,
    /// A node, in its present life.
    Node(NodeId),
}

/// All tasks of a run.
pub struct Tasks {
    trace: Arc<Trace>,
    state: Mutex<State>,
}

struct State {
    draws: Draws,
    next: u64,
    slots: BTreeMap<u64, Slot>,
    ready: Vec<u64>,
    root: Option<Waker>,
}

struct Slot {
    owner: Owner,
    name: &'static str,
    /// Whether it is in `ready`.
    queued: bool,
    waker: Waker,
    /// `None` while it is polled.
    future: Option<BoxFuture<'static, ()>>,
}

struct WakeTask {
    id: u64,
    tasks: Weak<Tasks>,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        if let Some(tasks) = self.tasks.upgrade() {
            tasks.wake(self.id);
        }
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new(draws: Draws, trace: Arc<Trace>) -> Arc<Self> {
        let state = State { draws, next: 1, slots: BTreeMap::new(), ready: Vec::new(), root: None };
        Arc::new(Self { trace, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task, ready to be polled, and gives its id.
    pub fn spawn(self: &Arc<Self>, owner: Owner, name: &'static str, future: BoxFuture<'static, ()>) -> u64 {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let waker = Waker::from(Arc::new(WakeTask { id, tasks: Arc::downgrade(self) }));
        state.slots.insert(id, Slot { owner, name, queued: true, waker, future: Some(future) });
        state.ready.push(id);
        let root = state.root.clone();
        drop(state);
        if let Some(root) = root {
            root.wake();
        }
        id
    }

    /// Ends a task at its present await.
    pub fn abort(&self, id: u64) {
        let slot = self.lock().slots.remove(&id);
        // Dropped here, without the lock: its destructors may spawn, wake and abort.
        drop(slot);
    }

    /// Ends all tasks of `owner` at their present await, oldest first, and says how many. What their destructors start is
    /// ended as well, so nobody of that owner is left.
    pub fn kill(&self, owner: Owner) -> usize {
        let mut count = 0;
        loop {
            let next = {
                let mut state = self.lock();
                let id = state.slots.iter().find(|(_, slot)| slot.owner == owner).map(|(id, _)| *id);
                id.and_then(|id| state.slots.remove(&id))
            };
            match next {
                Some(slot) => {
                    count += 1;
                    drop(slot);
                }
                None => return count,
            }
        }
    }

    /// How many tasks `owner` has.
    pub fn count(&self, owner: Owner) -> usize {
        self.lock().slots.values().filter(|slot| slot.owner == owner).count()
    }

    fn wake(&self, id: u64) {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&id) else { return };
        if std::mem::replace(&mut slot.queued, true) {
            return;
        }
        state.ready.push(id);
        let root = state.root.clone();
        drop(state);
        if let Some(root) = root {
            root.wake();
        }
    }

    /// Runs all tasks until `main` is done, then ends the others, oldest first.
    pub async fn run<T: Send + 'static>(self: &Arc<Self>, main: BoxFuture<'static, T>) -> T {
        let (sender, mut receiver) = oneshot::channel();
        let main = Box::pin(async move {
            let _nobody_else_takes_it = sender.send(main.await);
        });
        self.spawn(Owner::World, "main", main);
        let mut instant = (Instant::now(), 0);
        let output = poll_fn(|context| {
            self.lock().root = Some(context.waker().clone());
            for _ in 0..POLLS_PER_TURN {
                if !self.poll_one() {
                    return Poll::Pending;
                }
                if let Ok(output) = receiver.try_recv() {
                    return Poll::Ready(output);
                }
                instant.1 += 1;
            }
            let now = Instant::now();
            if now != instant.0 {
                instant = (now, 0);
            }
            assert!(instant.1 < POLLS_PER_INSTANT_MAX, "livelock: {}", self.busiest());
            context.waker().wake_by_ref();
            Poll::Pending
        });
        // tokio's budget would make its channels pend for its own scheduler's sake, which has nothing to share out here.
        let output = tokio::task::coop::unconstrained(output).await;
        let owners: Vec<Owner> = {
            let mut owners: Vec<Owner> = self.lock().slots.values().map(|slot| slot.owner).collect();
            owners.sort_unstable();
            owners.dedup();
            owners
        };
        for owner in owners.into_iter().rev() {
            self.kill(owner);
        }
        output
    }

    /// Polls one of the tasks that are ready; `false` if there is none.
    fn poll_one(&self) -> bool {
        let (id, mut future, waker) = {
            let mut state = self.lock();
            loop {
                if state.ready.is_empty() {
                    return false;
                }
                let len = state.ready.len();
                let place = state.draws.index(len);
                let id = state.ready.swap_remove(place);
                // One that was ended while it was ready is only in the list any more.
                let Some(slot) = state.slots.get_mut(&id) else { continue };
                slot.queued = false;
                let Some(future) = slot.future.take() else { continue };
                break (id, future, slot.waker.clone());
            }
        };
        self.trace.poll(id);
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut state = self.lock();
        let ended = if done {
            state.slots.remove(&id)
        } else {
            if let Some(slot) = state.slots.get_mut(&id) {
                slot.future = Some(future);
                return true;
            }
            None
        };
        // Done, or ended by itself or by what it called: dropped without the lock.
        drop(state);
        drop(ended);
        drop(future);
        true
    }

    fn busiest(&self) -> String {
        let state = self.lock();
        let names: Vec<_> = state
            .ready
            .iter()
            .filter_map(|id| state.slots.get(id))
            .map(|slot| (slot.owner, slot.name))
            .collect();
        format!("no time passes while these are ready: {names:?}")
    }
}
