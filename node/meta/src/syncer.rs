//! Group commit: one sync of the store answers everyone who asked before it began.

use crate::kv::{KvError, OrderedKv};
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_env::{Env, Spawn};
use tokio::sync::oneshot;

/// A sync failed; nothing that was written since the last good one may be taken as durable, ever.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SyncError {
    /// The store said so.
    #[error("sync of the key-value store failed")]
    Failed(#[source] Arc<KvError>),
    /// The node is ending.
    #[error("the node is ending")]
    Ending,
}

/// Runs the syncs of one node's store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Syncer {
    inner: Arc<Inner>,
}

struct Inner {
    kv: Arc<dyn OrderedKv>,
    spawn: Arc<dyn Spawn>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: bool,
    /// Bounded by the groups of the node: each has at most one append, one vote and one snapshot under way.
    waiting: Vec<oneshot::Sender<Result<(), SyncError>>>,
    failed: Option<SyncError>,
}

impl Syncer {
    pub(crate) fn new(kv: Arc<dyn OrderedKv>, env: &Env) -> Self {
        let inner = Inner { kv, spawn: Arc::clone(&env.spawn), state: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Completes once everything that was applied to the store before this call is durable. The sync goes on where the
    /// returned future is dropped.
    pub(crate) fn sync(&self) -> impl Future<Output = Result<(), SyncError>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.inner.lock();
        match &state.failed {
            Some(failed) => {
                let _ = sender.send(Err(failed.clone()));
            }
            None => state.waiting.push(sender),
        }
        let start = !state.running && state.failed.is_none();
        state.running |= start;
        drop(state);
        if start {
            let inner = Arc::clone(&self.inner);
            self.inner.spawn.spawn("meta.sync", Box::pin(inner.run()));
        }
        async move { receiver.await.unwrap_or(Err(SyncError::Ending)) }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    async fn run(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut state = self.lock();
                if state.waiting.is_empty() {
                    state.running = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let (sender, receiver) = oneshot::channel();
            let kv = Arc::clone(&self.kv);
            let work = move || {
                let _ = sender.send(kv.sync());
            };
            self.spawn.blocking("meta.sync", Box::new(work)).await;
            let result = match receiver.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(SyncError::Failed(Arc::new(error))),
                Err(_) => Err(SyncError::Ending),
            };
            let mut state = self.lock();
            if let Err(error) = &result {
                state.failed = Some(error.clone());
                state.running = false;
            }
            let late = if result.is_err() { std::mem::take(&mut state.waiting) } else { Vec::new() };
            drop(state);
            for waiter in waiting.into_iter().chain(late) {
                let _ = waiter.send(result.clone());
            }
            if result.is_err() {
                return;
            }
        }
    }
}

/// Runs `work` off the runtime's thread; `None` where the node ended before it was done.
pub(crate) async fn offload<T: Send + 'static>(
    spawn: &Arc<dyn Spawn>,
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let work = move || {
        let _ = sender.send(work());
    };
    spawn.blocking(name, Box::new(work)).await;
    receiver.await.ok()
}

#[cfg(test)]
mod tests;
