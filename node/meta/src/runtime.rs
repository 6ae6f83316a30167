//! The seam through which openraft spawns, sleeps and draws random numbers: tasks belong to their node's scope and end with
//! it, randomness is the node's, time is tokio's (which the simulator pauses).

use openraft::async_runtime::{AsyncRuntime, TokioOneShotSender};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use strongroom_env::{Rng, Scope, scope};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, Timeout, error::Elapsed};

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ScopedRuntime;

/// The task ended without a result: it panicked, or its node ended.
#[derive(Debug, thiserror::Error)]
#[error("task ended without a result")]
pub struct TaskGone;

/// The result of a task, once it is there.
pub struct Join<T>(oneshot::Receiver<T>);

impl<T> Future for Join<T> {
    type Output = Result<T, TaskGone>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|result| result.map_err(|_| TaskGone))
    }
}

/// The node's randomness in the form that openraft asks for.
pub struct ScopeRng(Arc<dyn Rng>);

impl fmt::Debug for ScopeRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeRng")
    }
}

impl rand_core_06::RngCore for ScopeRng {
    fn next_u32(&mut self) -> u32 {
        self.0.u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0.u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.0.u64().to_le_bytes()[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

fn current() -> Scope {
    scope::current().expect("openraft is started inside its node's scope, and its tasks inherit it")
}

impl AsyncRuntime for ScopedRuntime {
    type JoinError = TaskGone;
    type JoinHandle<T: openraft::OptionalSend + 'static> = Join<T>;
    type Sleep = Sleep;
    type Instant = Instant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + openraft::OptionalSend> = Timeout<T>;
    type ThreadLocalRng = ScopeRng;
    type OneshotSender<T: openraft::OptionalSend> = TokioOneShotSender<T>;
    type OneshotReceiver<T: openraft::OptionalSend> = oneshot::Receiver<T>;
    type OneshotReceiverError = oneshot::error::RecvError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + openraft::OptionalSend + 'static,
        T::Output: openraft::OptionalSend + 'static,
    {
        let scope = current();
        let (sender, receiver) = oneshot::channel();
        let task = scope.clone().run(async move {
            // Nobody waits for most of openraft's tasks.
            let _ = sender.send(future.await);
        });
        scope.spawn.spawn("raft", task);
        Join(receiver)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        tokio::time::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        tokio::time::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + openraft::OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + openraft::OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout_at(deadline, future)
    }

    fn is_panic(_: &Self::JoinError) -> bool {
        // A panic ends the process in production (panic = "abort"); in tests the task's node is then seen as stopped.
        false
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        ScopeRng(current().rng)
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: openraft::OptionalSend,
    {
        let (sender, receiver) = oneshot::channel();
        (TokioOneShotSender(sender), receiver)
    }
}
