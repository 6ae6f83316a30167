//! The executor: one task at a time, the next one drawn from those that are ready.
//!
//! tokio runs beneath for its paused clock and its timers only. Its own queue is first in, first out, and would show one
//! interleaving for each seed's timing; and it cannot end all tasks of a node at once, in an order that is known.

use super::draws::Draws;
use super::limits::{POLLS_PER_INSTANT_MAX, POLLS_PER_TURN};
use super::trace::{Trace, set_place};
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
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
    /// Owners that stand still, and what of theirs is ready.
    paused: BTreeSet<Owner>,
    held: Vec<u64>,
    /// What happens to an owner once its tasks were polled so many times more.
    armed: BTreeMap<Owner, Armed>,
    root: Option<Waker>,
}

struct Armed {
    polls_left: u64,
    then: Box<dyn FnOnce() + Send>,
}

struct Slot {
    owner: Owner,
    name: &'static str,
    /// Whether it is in `ready` or `held`.
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
        let state = State {
            draws,
            next: 1,
            slots: BTreeMap::new(),
            ready: Vec::new(),
            paused: BTreeSet::new(),
            held: Vec::new(),
            armed: BTreeMap::new(),
            root: None,
        };
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
        state.queue(owner, id);
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
                None => {
                    let mut state = self.lock();
                    state.paused.remove(&owner);
                    // What is held of it is gone; the list is of those that live.
                    let State { slots, held, .. } = &mut *state;
                    held.retain(|id| slots.contains_key(id));
                    return count;
                }
            }
        }
    }

    /// None of the owner's tasks is polled until it is resumed; what wakes them meanwhile is not lost.
    pub fn pause(&self, owner: Owner) {
        let mut state = self.lock();
        state.paused.insert(owner);
        let State { slots, ready, held, .. } = &mut *state;
        ready.retain(|id| {
            let holds = slots.get(id).is_some_and(|slot| slot.owner == owner);
            if holds {
                held.push(*id);
            }
            !holds
        });
    }

    /// The owner goes on, if it stood still.
    pub fn resume(&self, owner: Owner) {
        let mut state = self.lock();
        if !state.paused.remove(&owner) {
            return;
        }
        let State { slots, ready, held, .. } = &mut *state;
        held.retain(|id| {
            let goes_on = slots.get(id).is_none_or(|slot| slot.owner == owner);
            if goes_on {
                ready.push(*id);
            }
            !goes_on
        });
        let root = state.root.clone();
        drop(state);
        if let Some(root) = root {
            root.wake();
        }
    }

    /// Calls `then` once tasks of `owner` were polled `polls` times more, in this life or a later one: between two polls, so that each of its
    /// tasks is at an await, or not begun.
    pub fn arm(&self, owner: Owner, polls: u64, then: impl FnOnce() + Send + 'static) {
        let armed = Armed { polls_left: polls.max(1), then: Box::new(then) };
        let before = self.lock().armed.insert(owner, armed);
        drop(before);
    }

    /// Nothing happens any more to `owner` by its polls.
    pub fn disarm(&self, owner: Owner) {
        let armed = self.lock().armed.remove(&owner);
        drop(armed);
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
        let owner = slot.owner;
        state.queue(owner, id);
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
        let (id, owner, mut future, waker) = {
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
                break (id, slot.owner, future, slot.waker.clone());
            }
        };
        self.trace.poll(id);
        let node = match owner {
            Owner::World => None,
            Owner::Node(node) => Some(node),
        };
        set_place(node);
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        set_place(None);
        let mut state = self.lock();
        let (mut ended, mut left) = (None, None);
        if done {
            ended = state.slots.remove(&id);
            left = Some(future);
        } else if let Some(slot) = state.slots.get_mut(&id) {
            slot.future = Some(future);
        } else {
            left = Some(future);
        }
        let due = state.count_poll(owner);
        // Done, or ended by itself or by what it called: dropped without the lock.
        drop(state);
        drop(ended);
        drop(left);
        if let Some(then) = due {
            then();
        }
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

impl State {
    /// Puts a task where it waits for its next poll.
    fn queue(&mut self, owner: Owner, id: u64) {
        if self.paused.contains(&owner) {
            self.held.push(id);
        } else {
            self.ready.push(id);
        }
    }

    /// A task of `owner` was polled; gives what is to happen now.
    fn count_poll(&mut self, owner: Owner) -> Option<Box<dyn FnOnce() + Send>> {
        let armed = self.armed.get_mut(&owner)?;
        armed.polls_left -= 1;
        if armed.polls_left > 0 {
            return None;
        }
        self.armed.remove(&owner).map(|armed| armed.then)
    }
}
