//! What crosses from the devices, on any thread, to the driver.

use super::Registration;
use crate::buffer::Pool;
use crate::device::{Class, Completion, Operation};
use crate::limits::{DEVICES_PER_DRIVER_MAX, OPERATIONS_PER_DEVICE_MAX, POOLS_PER_DRIVER_MAX};
use crate::open::Drive;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::oneshot;

/// Why the ring does not serve.
#[derive(Debug, thiserror::Error)]
pub enum UringError {
    /// The kernel gives no ring: too old, or forbidden (by a container's filter or
    /// `kernel.io_uring_disabled`), or the limit on locked memory is below the ring itself (about 64 KiB
    /// each, counted for all processes of the user).
    #[error("the kernel gives no io_uring")]
    Unavailable(#[source] io::Error),
    /// The kernel's io_uring lacks an operation.
    #[error("the kernel's io_uring lacks {operation}")]
    Lacking {
        /// Which.
        operation: &'static str,
    },
    /// The ring's descriptor could not be watched.
    #[error("the ring cannot be watched by the runtime")]
    Watch(#[source] io::Error),
    /// All places for drives are taken.
    #[error("all {DEVICES_PER_DRIVER_MAX} places for drives on this driver are taken")]
    Devices,
    /// All places for pools are taken.
    #[error("all {POOLS_PER_DRIVER_MAX} places for registered pools on this driver are taken")]
    Pools,
    /// The ring did not take the drive.
    #[error("the ring did not take the drive")]
    File(#[source] io::Error),
    /// The driver has ended.
    #[error("the driver has ended")]
    Ended,
}

/// What the driver is asked to do.
pub(super) enum Command {
    /// Start an operation; [`DeviceState::enter`] has counted it.
    Operate { device: usize, operation: Operation, class: Class, reply: oneshot::Sender<Completion> },
    /// Take a drive; answers with its index.
    Attach { drive: Box<Drive>, state: Arc<DeviceState>, reply: oneshot::Sender<Result<usize, UringError>> },
    /// Give a drive up once its operations are done. No operation for it follows.
    Detach { device: usize },
    /// Make a pool known to the kernel.
    Register { pool: Pool, reply: oneshot::Sender<Result<Registration, UringError>> },
    /// A discard, done on another thread, has ended.
    Discarded { device: usize },
    /// Finish what is in flight, and end. Nothing but `Discarded` follows.
    Shutdown { reply: oneshot::Sender<()> },
}

/// What a device and the driver both know of the device.
#[derive(Default)]
pub(super) struct DeviceState {
    /// Operations, counted where they are submitted.
    in_flight: AtomicUsize,
    /// Changed under the lock of the queue, so that no operation is queued behind its device's end.
    detached: AtomicBool,
    end: Mutex<End>,
}

/// Whether the driver has given the drive up.
enum End {
    /// No; these want to be told.
    Ahead(Vec<oneshot::Sender<()>>),
    /// Yes.
    Reached,
}

impl Default for End {
    fn default() -> Self {
        Self::Ahead(Vec::new())
    }
}

impl DeviceState {
    /// Counts one more operation, unless the bound is reached.
    pub(super) fn enter(&self) -> bool {
        let bound = |count| (count < OPERATIONS_PER_DEVICE_MAX).then_some(count + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, bound).is_ok()
    }

    /// Counts one less.
    pub(super) fn leave(&self) {
        let before = self.in_flight.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "an operation leaves once, after it entered");
    }

    /// Fails once the end is reached: nothing is sent, the sender is dropped.
    pub(super) fn wait_for_end(&self) -> oneshot::Receiver<()> {
        let (told, end) = oneshot::channel();
        match &mut *self.end.lock().unwrap_or_else(PoisonError::into_inner) {
            End::Ahead(waiting) => waiting.push(told),
            End::Reached => drop(told),
        }
        end
    }

    /// The drive is given up.
    pub(super) fn reach_end(&self) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = End::Reached;
    }
}

/// The queue to the driver. Bounded because operations are counted by their devices, and devices by the
/// driver; all other commands come once in the life of a device or pool.
#[derive(Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    closed: bool,
    waker: Option<Waker>,
}

impl Shared {
    /// Hands a command to the driver, or back if it has ended.
    pub(super) fn push(&self, command: Command) -> Result<(), Box<Command>> {
        let queue = self.lock();
        if queue.closed {
            return Err(Box::new(command));
        }
        Self::give(queue, command);
        Ok(())
    }

    /// Hands an operation to the driver, or back if its device or the driver has ended.
    pub(super) fn push_operation(&self, state: &DeviceState, command: Command) -> Result<(), Command> {
        let queue = self.lock();
        if queue.closed || state.detached.load(Ordering::Relaxed) {
            return Err(command);
        }
        Self::give(queue, command);
        Ok(())
    }

    /// Ends a device, if neither that nor the end of the driver is under way already.
    pub(super) fn push_detach(&self, state: &DeviceState, device: usize) {
        let queue = self.lock();
        let first = !state.detached.swap(true, Ordering::Relaxed);
        if first && !queue.closed {
            Self::give(queue, Command::Detach { device });
        }
    }

    /// Hands over the last command; later ones are refused.
    pub(super) fn push_last(&self, command: Command) -> Result<(), Box<Command>> {
        let mut queue = self.lock();
        if std::mem::replace(&mut queue.closed, true) {
            return Err(Box::new(command));
        }
        Self::give(queue, command);
        Ok(())
    }

    /// Tells the driver that a discard has ended, also while it shuts down.
    pub(super) fn push_discarded(&self, device: usize) {
        Self::give(self.lock(), Command::Discarded { device });
    }

    /// All commands, or be woken when there are some.
    pub(super) fn poll_take(&self, context: &mut Context<'_>, into: &mut VecDeque<Command>) -> Poll<()> {
        let mut queue = self.lock();
        if queue.commands.is_empty() {
            queue.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut queue.commands, into);
        Poll::Ready(())
    }

    /// Refuses all that comes, and gives back what is queued.
    pub(super) fn close(&self) -> VecDeque<Command> {
        let mut queue = self.lock();
        queue.closed = true;
        queue.waker = None;
        std::mem::take(&mut queue.commands)
    }

    fn give(mut queue: MutexGuard<'_, Queue>, command: Command) {
        queue.commands.push_back(command);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics between statements that leave the queue in parts.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
