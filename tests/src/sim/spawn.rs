//! A node's tasks, in one of its lives.

use super::draws::Draws;
use super::tasks::{Owner, Tasks};
use futures::future::BoxFuture;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use strongroom_env::{Rng, Scope, Spawn, Task};
use strongroom_types::NodeId;

/// How long work off the runtime's thread takes.
const BLOCKING: Range<Duration> = Duration::ZERO..Duration::from_millis(3);

/// See the module.
pub struct SimSpawn {
    tasks: Arc<Tasks>,
    node: NodeId,
    rng: Arc<dyn Rng>,
    draws: Mutex<Draws>,
    ended: AtomicBool,
    itself: Weak<SimSpawn>,
}

impl SimSpawn {
    /// The tasks of `node` in a new life.
    pub fn new(tasks: Arc<Tasks>, node: NodeId, rng: Arc<dyn Rng>, draws: Draws) -> Arc<Self> {
        let (draws, ended) = (Mutex::new(draws), AtomicBool::new(false));
        Arc::new_cyclic(|itself| Self { tasks, node, rng, draws, ended, itself: itself.clone() })
    }

    /// Ends the life: no task is started any more, and all end at their present await. Says how many did.
    pub fn kill(&self) -> usize {
        self.ended.store(true, Ordering::Relaxed);
        self.tasks.kill(Owner::Node(self.node))
    }
}

impl Spawn for SimSpawn {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        if self.ended.load(Ordering::Relaxed) {
            return Task::new(|| {});
        }
        let spawn = self.itself.upgrade().expect("a method of it runs, so someone holds it");
        let scoped = Scope { spawn, rng: Arc::clone(&self.rng) }.run(future);
        let id = self.tasks.spawn(Owner::Node(self.node), name, scoped);
        // Weak, or a handle kept in a task would keep all tasks alive.
        let tasks = Arc::downgrade(&self.tasks);
        Task::new(move || {
            if let Some(tasks) = tasks.upgrade() {
                tasks.abort(id);
            }
        })
    }

    fn blocking(&self, _name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let takes = self.draws.lock().unwrap_or_else(PoisonError::into_inner).duration(BLOCKING);
        Box::pin(async move {
            work();
            tokio::time::sleep(takes).await;
        })
    }
}
