//! The [`Device`] by a ring of its own, driven inside the runtime of one thread.
//!
//! A [`Driver`] owns a ring and lives as one local task of the thread that started it. Devices send it
//! operations through a bounded queue, from any thread; it puts all that are queued into the ring by one
//! system call and waits for completions by the readiness of the ring's descriptor. So it needs no thread,
//! and an operation submitted while the runtime is busy waits for the running task only, not until the
//! runtime parks.
//!
//! **Invariant** A buffer that the kernel knows is owned by the table of operations in flight until its
//! completion has arrived: also when the caller dropped its [`Pending`], and when the runtime is shut down
//! around the driver (then dropping the driver's task waits for the kernel; if it cannot, it leaks the
//! buffers rather than free them).
//!
//! Not used, because measured to be harmful or useless here: deferred task work (hangs beside tokio-uring's
//! ring), polled completions, a submission thread, and the idle I/O class (it doubles the latency of
//! foreground reads). Background classes carry the lowest best-effort priority instead; schedulers without
//! priorities ignore it.

mod engine;
mod ring;
mod shared;

pub use shared::UringError;

use crate::buffer::Pool;
use crate::device::{Class, Closing, Completion, Device, DeviceError, Operation, Pending, Shape};
use crate::limits::OPERATIONS_PER_DEVICE_MAX;
use crate::open::Drive;
use engine::Engine;
use ring::Ring;
use shared::{Command, DeviceState, Shared};
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A ring and the task that drives it. The ring ends, after all operations in flight, when the driver and all
/// of its devices are dropped, or by [`Driver::shutdown`].
pub struct Driver {
    handle: Arc<Handle>,
}

/// Whether the kernel took the memory of a pool.
#[derive(Debug)]
pub enum Registration {
    /// Operations on buffers of the pool skip the pinning of pages.
    Registered,
    /// They do not; all else is the same. The usual reason is the limit on locked memory (`LimitMEMLOCK`, or
    /// `CAP_IPC_LOCK` to have none).
    Refused {
        /// What the system said.
        reason: io::Error,
    },
}

/// What the kernel offers to a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Completions do not interrupt the thread.
    pub cooperative: bool,
    /// The kernel knows that one thread submits.
    pub single_issuer: bool,
    /// Drives are known by an index.
    pub registered_files: bool,
    /// Pools of buffers can be made known.
    pub registered_buffers: bool,
}

/// What a driver would have, found by making a ring and dropping it.
///
/// # Errors
/// There is no io_uring here: too old a kernel, or forbidden.
pub fn features() -> Result<Features, UringError> {
    Ok(Ring::<()>::new()?.features())
}

impl Driver {
    /// Makes a ring and starts its task on this thread. Called inside a `LocalSet` of a runtime with I/O
    /// enabled; `tokio_uring::start` makes one.
    ///
    /// # Errors
    /// There is no io_uring here, or it lacks an operation.
    ///
    /// # Panics
    /// Outside of a `LocalSet`.
    pub fn start() -> Result<Self, UringError> {
        let shared = Arc::new(Shared::default());
        let engine = Engine::new(Ring::new()?, shared.clone())?;
        drop(tokio::task::spawn_local(engine.run()));
        Ok(Self { handle: Arc::new(Handle { shared }) })
    }

    /// Puts a drive to work on this ring.
    ///
    /// # Errors
    /// All places are taken, or the driver has ended. The drive is given up then.
    pub async fn attach(&self, drive: Drive) -> Result<UringDevice, UringError> {
        let shape = drive.shape();
        let (reply, answer) = oneshot::channel();
        let state = Arc::new(DeviceState::default());
        let attach = Command::Attach { drive: Box::new(drive), state: state.clone(), reply };
        self.handle.shared.push(attach).map_err(|_| UringError::Ended)?;
        let index = answer.await.map_err(|_| UringError::Ended)??;
        Ok(UringDevice { shape, index, state, handle: self.handle.clone() })
    }

    /// Makes the memory of a pool known to the kernel, for all devices of this driver.
    ///
    /// # Errors
    /// All places are taken, or the driver has ended. A refusal by the system is no error.
    pub async fn register(&self, pool: &Pool) -> Result<Registration, UringError> {
        let (reply, answer) = oneshot::channel();
        let register = Command::Register { pool: pool.clone(), reply };
        self.handle.shared.push(register).map_err(|_| UringError::Ended)?;
        answer.await.map_err(|_| UringError::Ended)?
    }

    /// Takes no more operations, and completes when all in flight are done and all drives are given up.
    pub async fn shutdown(self) {
        let (reply, end) = oneshot::channel();
        if self.handle.shared.push_last(Command::Shutdown { reply }).is_ok() {
            // The driver's task drops the other end when it is done, or is dropped itself.
            drop(end.await);
        }
    }
}

/// A drive on a [`Driver`]'s ring.
pub struct UringDevice {
    shape: Shape,
    index: usize,
    state: Arc<DeviceState>,
    handle: Arc<Handle>,
}

impl Device for UringDevice {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn submit(&self, operation: Operation, class: Class) -> Pending {
        if let Err(error) = self.shape.check(&operation) {
            return Pending::ready(Completion::refused(operation, error));
        }
        if !self.state.enter() {
            let error = DeviceError::Busy { in_flight_max: OPERATIONS_PER_DEVICE_MAX };
            return Pending::ready(Completion::refused(operation, error));
        }
        let (reply, answer) = oneshot::channel();
        let operate = Command::Operate { device: self.index, operation, class, reply };
        match self.handle.shared.push_operation(&self.state, operate) {
            Ok(()) => Pending::new(async move { answer.await.unwrap_or_else(|_| Completion::closed()) }),
            Err(command) => {
                self.state.leave();
                let Command::Operate { operation, .. } = command else {
                    unreachable!("what is refused is what was pushed")
                };
                Pending::ready(Completion::refused(operation, DeviceError::Closed))
            }
        }
    }

    fn close(&self) -> Closing {
        let end = self.state.wait_for_end();
        self.handle.shared.push_detach(&self.state, self.index);
        Box::pin(async move { drop(end.await) })
    }
}

impl Drop for UringDevice {
    fn drop(&mut self) {
        self.handle.shared.push_detach(&self.state, self.index);
    }
}

/// The last one to be dropped ends the driver.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (reply, _) = oneshot::channel();
        drop(self.shared.push_last(Command::Shutdown { reply }));
    }
}

#[cfg(test)]
mod tests;
