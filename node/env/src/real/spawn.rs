//! Tasks on a tokio runtime, tracked so that a node can end all of its own.

use crate::{Rng, Scope, Spawn, Task};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;

/// Starts a node's tasks on one runtime and knows which of them still run.
pub struct RealSpawn {
    runtime: Handle,
    rng: Arc<dyn Rng>,
    blocking: Arc<Semaphore>,
    tracked: Arc<Tracked>,
    itself: Weak<RealSpawn>,
}

struct Tracked {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    closed: bool,
    next: u64,
    running: BTreeMap<u64, AbortHandle>,
}

/// Lives inside a task's future: dropped when the task ends in whatever way.
struct Running {
    id: u64,
    tracked: Arc<Tracked>,
}

impl Tracked {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock, and the state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let last = {
            let mut state = self.tracked.lock();
            state.running.remove(&self.id);
            state.running.is_empty()
        };
        if last {
            self.tracked.ended.notify_waiters();
        }
    }
}

impl RealSpawn {
    /// Starts tasks on `runtime`, with at most `blocking_max` pieces of blocking work at once.
    pub fn new(runtime: Handle, rng: Arc<dyn Rng>, blocking_max: usize) -> Arc<Self> {
        assert!(blocking_max > 0, "blocking work needs at least one thread");
        Arc::new_cyclic(|itself| Self {
            runtime,
            rng,
            blocking: Arc::new(Semaphore::new(blocking_max)),
            tracked: Arc::new(Tracked { state: Mutex::default(), ended: Notify::new() }),
            itself: itself.clone(),
        })
    }

    /// How many tasks run now.
    pub fn running_count(&self) -> usize {
        self.tracked.lock().running.len()
    }

    /// Ends every task at its present await, starts none from now on, and completes when all have ended. Not to be
    /// awaited in one of those tasks.
    pub async fn shutdown(&self) {
        let running: Vec<AbortHandle> = {
            let mut state = self.tracked.lock();
            state.closed = true;
            state.running.values().cloned().collect()
        };
        for task in running {
            task.abort();
        }
        loop {
            let ended = self.tracked.ended.notified();
            if self.tracked.lock().running.is_empty() {
                return;
            }
            ended.await;
        }
    }

    fn scope(&self) -> Scope {
        let spawn = self.itself.upgrade().expect("a method of it runs, so someone holds it");
        Scope { spawn, rng: Arc::clone(&self.rng) }
    }
}

impl Spawn for RealSpawn {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let scoped = self.scope().run(future);
        // Held over the start, so that a task which ends at once takes out an entry that is there.
        let mut state = self.tracked.lock();
        if state.closed {
            tracing::debug!(name, "task not started: the node has ended");
            return Task::new(|| {});
        }
        let id = state.next;
        state.next += 1;
        let running = Running { id, tracked: Arc::clone(&self.tracked) };
        let handle = self.runtime.spawn(async move {
            let _running = running;
            scoped.await;
        });
        let abort = handle.abort_handle();
        state.running.insert(id, abort.clone());
        Task::new(move || abort.abort())
    }

    fn blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let runtime = self.runtime.clone();
        let blocking = Arc::clone(&self.blocking);
        Box::pin(async move {
            let permit = blocking.acquire_owned().await.expect("this semaphore is never closed");
            let done = runtime.spawn_blocking(move || {
                // The permit goes with the work: who stops waiting does not make room while a thread is still busy.
                let _permit = permit;
                work();
            });
            if let Err(error) = done.await {
                tracing::error!(name, %error, "blocking work did not end by itself");
            }
        })
    }
}

#[cfg(test)]
mod tests;
