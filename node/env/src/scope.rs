//! The node that a task belongs to, for libraries that spawn tasks by a static function (openraft's runtime seam).
//!
//! Every task of a node runs inside [`Scope::run`]; code that has no [`crate::Env`] at hand finds its node's `Spawn` and `Rng`
//! by [`current`].

use crate::{Rng, Spawn};
use futures::future::BoxFuture;
use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    static SCOPE: Scope;
}

/// What a task inherits from its node.
#[derive(Clone)]
pub struct Scope {
    /// Starts further tasks of the same node.
    pub spawn: Arc<dyn Spawn>,
    /// The node's randomness.
    pub rng: Arc<dyn Rng>,
}

impl Scope {
    /// Runs `future` as part of this scope.
    pub fn run<F: Future + Send + 'static>(self, future: F) -> BoxFuture<'static, F::Output> {
        Box::pin(SCOPE.scope(self, future))
    }
}

/// The scope of the running task; `None` outside of every node.
pub fn current() -> Option<Scope> {
    SCOPE.try_with(Clone::clone).ok()
}
