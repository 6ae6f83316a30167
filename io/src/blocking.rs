//! The [`Device`] by plain system calls in a few threads of its own.
//!
//! It runs where io_uring is forbidden (containers), at the same speed for several times the CPU; and it is
//! the oracle that the ring is tested against. Classes are ignored: threads take operations in the order they
//! came.

use crate::device::{Class, Closing, Completion, Device, DeviceError, Operation, Pending, Shape};
use crate::limits::{BLOCKING_THREADS_PER_DEVICE, OPERATIONS_PER_DEVICE_MAX};
use crate::open::Drive;
use crate::transfer::{Step, Transfer};
use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// A drive with threads that work on it.
pub struct BlockingDevice {
    shape: Shape,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something in the queue, or the device was closed.
    changed: Condvar,
}

struct State {
    queue: VecDeque<Job>,
    /// Queued or being done.
    in_flight: usize,
    closed: bool,
    threads: usize,
    /// Told when the last thread has ended.
    waiting: Vec<oneshot::Sender<()>>,
}

struct Job {
    operation: Operation,
    reply: oneshot::Sender<Completion>,
}

impl BlockingDevice {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(drive: Drive) -> io::Result<Self> {
        let state =
            State { queue: VecDeque::new(), in_flight: 0, closed: false, threads: 0, waiting: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        // Closes what was started so far, should a thread be refused.
        let device = Self { shape: drive.shape(), shared };
        let drive = Arc::new(drive);
        for index in 0..BLOCKING_THREADS_PER_DEVICE {
            let (drive, shared) = (drive.clone(), device.shared.clone());
            device.shared.lock().threads += 1;
            let thread = std::thread::Builder::new().name(format!("drive-{index}")).spawn(move || {
                shared.work(&drive);
                // The lock of the drive is given up before anyone hears that the threads have ended.
                drop(drive);
                shared.thread_ended();
            });
            if let Err(error) = thread {
                device.shared.thread_ended();
                return Err(error);
            }
        }
        Ok(device)
    }

    fn begin_close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Device for BlockingDevice {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn submit(&self, operation: Operation, _class: Class) -> Pending {
        if let Err(error) = self.shape.check(&operation) {
            return Pending::ready(Completion::refused(operation, error));
        }
        let mut state = self.shared.lock();
        if state.closed {
            return Pending::ready(Completion::refused(operation, DeviceError::Closed));
        }
        if state.in_flight == OPERATIONS_PER_DEVICE_MAX {
            let error = DeviceError::Busy { in_flight_max: OPERATIONS_PER_DEVICE_MAX };
            return Pending::ready(Completion::refused(operation, error));
        }
        let (reply, answer) = oneshot::channel();
        state.in_flight += 1;
        state.queue.push_back(Job { operation, reply });
        drop(state);
        self.shared.changed.notify_one();
        Pending::new(async move { answer.await.unwrap_or_else(|_| Completion::closed()) })
    }

    fn close(&self) -> Closing {
        self.begin_close();
        let (told, end) = oneshot::channel();
        let mut state = self.shared.lock();
        if state.threads != 0 {
            state.waiting.push(told);
        }
        drop(state);
        // The sender is dropped when there is nothing to wait for any more.
        Box::pin(async move { drop(end.await) })
    }
}

impl Drop for BlockingDevice {
    fn drop(&mut self) {
        self.begin_close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does operations until the device is closed and the queue is empty.
    fn work(&self, drive: &Drive) {
        loop {
            let mut state = self.lock();
            let job = loop {
                if let Some(job) = state.queue.pop_front() {
                    break job;
                }
                if state.closed {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            let completion = perform(drive, job.operation);
            self.lock().in_flight -= 1;
            // Nobody may be waiting any more: the operation was done nevertheless.
            drop(job.reply.send(completion));
        }
    }

    fn thread_ended(&self) {
        let mut state = self.lock();
        state.threads -= 1;
        if state.threads == 0 {
            // Whoever waits hears it by the drop.
            state.waiting.clear();
        }
    }
}

fn perform(drive: &Drive, operation: Operation) -> Completion {
    match operation {
        Operation::Read { offset_bytes, mut buffer } => {
            let result = transfer(offset_bytes, buffer.len(), |resume_bytes, offset_bytes| {
                drive.file().read_at(&mut buffer[resume_bytes..], offset_bytes)
            });
            Completion { result, buffer: Some(buffer) }
        }
        Operation::Write { offset_bytes, buffer } => {
            let result = transfer(offset_bytes, buffer.len(), |resume_bytes, offset_bytes| {
                drive.file().write_at(&buffer[resume_bytes..], offset_bytes)
            });
            Completion { result, buffer: Some(buffer) }
        }
        Operation::Flush => Completion { result: whole(0, 0, drive.flush()), buffer: None },
        Operation::Discard { offset_bytes, len_bytes } => {
            let result = whole(offset_bytes, len_bytes, drive.discard(offset_bytes, len_bytes));
            Completion { result, buffer: None }
        }
    }
}

fn transfer(
    offset_bytes: u64,
    len_bytes: usize,
    mut ask: impl FnMut(usize, u64) -> io::Result<usize>,
) -> Result<(), DeviceError> {
    let mut transfer = Transfer::new(offset_bytes, len_bytes);
    loop {
        let answer = ask(transfer.resume_bytes(), transfer.next_offset_bytes());
        match transfer.next(answer) {
            Step::Done => return Ok(()),
            Step::Again => {}
            Step::Failed(error) => return Err(error),
        }
    }
}

fn whole(offset_bytes: u64, len_bytes: u64, answer: io::Result<()>) -> Result<(), DeviceError> {
    answer.map_err(|source| DeviceError::Io { offset_bytes, len_bytes, source })
}
