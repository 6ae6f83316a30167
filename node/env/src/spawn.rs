//! Tasks that end with their node.

use futures::future::BoxFuture;

/// Starts tasks on behalf of one node. When the node ends, they end at their next await.
pub trait Spawn: Send + Sync {
    /// Starts `future`; it goes on if the returned handle is dropped. `name` is for traces.
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task;

    /// Runs CPU-heavy or blocking `work` off the runtime's thread (in simulation: at once, on it) and completes when
    /// it is done.
    fn blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// A started task. Dropping it lets the task go on.
pub struct Task {
    abort: Box<dyn Fn() + Send + Sync>,
}

impl Task {
    /// A handle whose `abort` calls this.
    pub fn new(abort: impl Fn() + Send + Sync + 'static) -> Self {
        Self { abort: Box::new(abort) }
    }

    /// Ends the task at its next await.
    pub fn abort(&self) {
        (self.abort)();
    }
}
