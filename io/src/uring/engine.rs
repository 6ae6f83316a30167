//! The driver's task: commands in, requests to the ring, completions out.

use super::Registration;
use super::ring::{Action, Request, Ring};
use super::shared::{Command, DeviceState, Shared, UringError};
use crate::device::{Class, Completion, DeviceError, Operation};
use crate::limits::DEVICES_PER_DRIVER_MAX;
use crate::open::{DiscardMode, Drive, FlushMode};
use crate::transfer::{Step, Transfer};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// All that the driver's task owns.
pub(super) struct Engine {
    // Dropped first: it keeps the ring open.
    watch: AsyncFd<OwnedFd>,
    ring: Ring<Ticket>,
    /// Not yet taken by the ring.
    backlog: VecDeque<Request<Ticket>>,
    /// Dropped after the ring, which has their files.
    devices: Vec<Option<Attached>>,
    shared: Arc<Shared>,
    /// Set by the last command.
    ending: Option<oneshot::Sender<()>>,
    // Kept between turns for their memory.
    commands: VecDeque<Command>,
    completed: Vec<(Request<Ticket>, io::Result<usize>)>,
}

/// A drive on this ring.
struct Attached {
    drive: Arc<Drive>,
    state: Arc<DeviceState>,
    /// Operations that are not answered yet.
    in_flight: usize,
    /// No more operations come; given up when none is in flight.
    detaching: bool,
}

/// What the driver remembers with a request.
pub(super) struct Ticket {
    device: usize,
    transfer: Transfer,
    reply: oneshot::Sender<Completion>,
}

impl Engine {
    pub(super) fn new(ring: Ring<Ticket>, shared: Arc<Shared>) -> Result<Self, UringError> {
        Ok(Self {
            watch: ring.watch().map_err(UringError::Watch)?,
            ring,
            backlog: VecDeque::new(),
            devices: Vec::new(),
            shared,
            ending: None,
            commands: VecDeque::new(),
            completed: Vec::new(),
        })
    }

    /// Works until the last command came and all before it is done.
    pub(super) async fn run(mut self) {
        loop {
            poll_fn(|context| self.poll_event(context)).await;
            self.take_commands();
            self.turn();
            while self.ring.has_unsubmitted() || !(self.backlog.is_empty() || self.ring.is_full()) {
                // The kernel is short of something for a moment; others may run meanwhile.
                tokio::task::yield_now().await;
                self.turn();
            }
            if self.is_over() {
                break;
            }
            // Threads that submit without pause must not keep this thread from its other tasks.
            tokio::task::coop::consume_budget().await;
        }
        // Dropping the engine gives up the ring before anyone hears that it has ended.
        let told = self.ending.take();
        drop(self);
        // Whoever waits hears it by the drop as well.
        drop(told);
    }

    /// Ready when there are commands or completions.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let commands = self.shared.poll_take(context, &mut self.commands);
        let completions = match self.watch.poll_read_ready(context) {
            Poll::Ready(Ok(mut readable)) => {
                // Cleared before the queue is emptied, so that a later completion is told of anew.
                readable.clear_ready();
                Poll::Ready(())
            }
            // The runtime is shutting down and will drop this task, which drains the ring.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        };
        if commands.is_ready() { commands } else { completions }
    }

    /// Gives the ring what it takes, and answers what is completed.
    fn turn(&mut self) {
        loop {
            while let Some(request) = self.backlog.pop_front() {
                let Err(request) = self.ring.push(request) else { continue };
                self.backlog.push_front(*request);
                break;
            }
            let submitted = self.ring.submit();
            self.ring.reap(&mut self.completed);
            let completed = !self.completed.is_empty();
            let mut batch = std::mem::take(&mut self.completed);
            for (request, answer) in batch.drain(..) {
                self.complete(request, answer);
            }
            self.completed = batch;
            if let Err(error) = submitted {
                tracing::debug!(%error, "the kernel took no more requests for now");
                if !completed {
                    return;
                }
            } else if self.backlog.is_empty() || self.ring.is_full() {
                return;
            }
        }
    }

    fn take_commands(&mut self) {
        while let Some(command) = self.commands.pop_front() {
            match command {
                Command::Operate { device, operation, class, reply } => {
                    self.operate(device, operation, class, reply);
                }
                Command::Attach { drive, state, reply } => {
                    let attached = self.attach(*drive, state);
                    if let Err(Ok(device)) = reply.send(attached) {
                        // Whoever asked for it has gone.
                        self.detach(device);
                    }
                }
                Command::Detach { device } => self.detach(device),
                Command::Register { pool, reply } => {
                    let registered = self.ring.register(&pool).map(|registered| match registered {
                        Ok(()) => Registration::Registered,
                        Err(reason) => Registration::Refused { reason },
                    });
                    drop(reply.send(registered));
                }
                Command::Discarded { device } => self.leave(device),
                Command::Shutdown { reply } => {
                    self.ending = Some(reply);
                    for device in 0..self.devices.len() {
                        self.detach(device);
                    }
                }
            }
        }
    }

    fn attach(&mut self, drive: Drive, state: Arc<DeviceState>) -> Result<usize, UringError> {
        let free = self.devices.iter().position(Option::is_none);
        let device = free.unwrap_or(self.devices.len());
        if device == DEVICES_PER_DRIVER_MAX {
            return Err(UringError::Devices);
        }
        self.ring.set_file(device, Some(drive.file())).map_err(UringError::File)?;
        if free.is_none() {
            self.devices.push(None);
        }
        self.devices[device] =
            Some(Attached { drive: Arc::new(drive), state, in_flight: 0, detaching: false });
        Ok(device)
    }

    fn detach(&mut self, device: usize) {
        if let Some(attached) = &mut self.devices[device] {
            attached.detaching = true;
            self.give_up_if_idle(device);
        }
    }

    fn give_up_if_idle(&mut self, device: usize) {
        let idle = |attached: &Attached| attached.detaching && attached.in_flight == 0;
        if !self.devices[device].as_ref().is_some_and(idle) {
            return;
        }
        if let Err(error) = self.ring.set_file(device, None) {
            // The ring has the file open until it ends; the lock is given up all the same.
            tracing::warn!(%error, "ring did not give up a drive");
        }
        self.devices[device] = None;
    }

    fn operate(
        &mut self,
        device: usize,
        operation: Operation,
        class: Class,
        reply: oneshot::Sender<Completion>,
    ) {
        let attached = self.devices[device].as_mut().expect("a device sends no operation after its end");
        attached.in_flight += 1;
        let (offset_bytes, len_bytes) = operation.range().unwrap_or((0, 0));
        let done = Completion { result: Ok(()), buffer: None };
        let action = match operation {
            Operation::Read { buffer, .. } => Action::Read(buffer),
            Operation::Write { buffer, .. } => Action::Write(buffer),
            Operation::Flush => match attached.drive.flush_mode() {
                FlushMode::File | FlushMode::BlockDevice => Action::Flush,
                FlushMode::WriteThrough => return self.answer(device, reply, done),
            },
            Operation::Discard { .. } => match attached.drive.discard_mode() {
                DiscardMode::Ignore => return self.answer(device, reply, done),
                DiscardMode::BlockDevice => return self.discard(device, offset_bytes, len_bytes, reply),
            },
        };
        let len_bytes = match &action {
            Action::Read(buffer) | Action::Write(buffer) => buffer.len(),
            Action::Flush => 0,
        };
        self.backlog.push_back(Request {
            action,
            file_index: device,
            offset_bytes,
            resume_bytes: 0,
            background: class.is_background(),
            payload: Ticket { device, transfer: Transfer::new(offset_bytes, len_bytes), reply },
        });
    }

    /// On a thread that may block: rings of the kernels in question have no discard.
    fn discard(
        &mut self,
        device: usize,
        offset_bytes: u64,
        len_bytes: u64,
        reply: oneshot::Sender<Completion>,
    ) {
        let attached = self.devices[device].as_ref().expect("its operation is in flight");
        let (drive, state, shared) = (attached.drive.clone(), attached.state.clone(), self.shared.clone());
        drop(tokio::task::spawn_blocking(move || {
            let result = drive.discard(offset_bytes, len_bytes);
            let result = result.map_err(|source| DeviceError::Io { offset_bytes, len_bytes, source });
            // Before the driver hears of it, so that the driver gives up the drive's last owner.
            drop(drive);
            state.leave();
            shared.push_discarded(device);
            drop(reply.send(Completion { result, buffer: None }));
        }));
    }

    /// Takes the kernel's answer to a request.
    fn complete(&mut self, mut request: Request<Ticket>, answer: io::Result<usize>) {
        let result = match request.payload.transfer.next(answer) {
            Step::Again => {
                request.resume_bytes = request.payload.transfer.resume_bytes();
                request.offset_bytes = request.payload.transfer.next_offset_bytes();
                self.backlog.push_front(request);
                return;
            }
            Step::Done => Ok(()),
            Step::Failed(error) => Err(error),
        };
        let Request { action, payload: Ticket { device, reply, .. }, .. } = request;
        let buffer = match action {
            Action::Read(buffer) | Action::Write(buffer) => Some(buffer),
            Action::Flush => None,
        };
        self.answer(device, reply, Completion { result, buffer });
    }

    fn answer(&mut self, device: usize, reply: oneshot::Sender<Completion>, completion: Completion) {
        let attached = self.devices[device].as_ref().expect("its operation is in flight");
        attached.state.leave();
        self.leave(device);
        // Nobody may be waiting any more: the operation was done nevertheless, and the buffer goes here.
        drop(reply.send(completion));
    }

    /// One operation less in flight on this device.
    fn leave(&mut self, device: usize) {
        let attached = self.devices[device].as_mut().expect("its operation is in flight");
        attached.in_flight -= 1;
        self.give_up_if_idle(device);
    }

    fn is_over(&self) -> bool {
        self.ending.is_some() && self.devices.iter().all(Option::is_none)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The lock goes before anyone hears of the end; a discard in flight at the end of a runtime has the
        // drive longer.
        if let Err(error) = self.drive.file().unlock() {
            tracing::debug!(%error, "drive not unlocked");
        }
        self.state.reach_end();
    }
}

impl Drop for Engine {
    /// Does nothing after an orderly end. When the runtime ends around the driver, waits for what the kernel
    /// has, and refuses the rest.
    fn drop(&mut self) {
        let mut unseen = std::mem::take(&mut self.commands);
        unseen.extend(self.shared.close());
        for command in unseen {
            if let Command::Operate { operation, reply, .. } = command {
                drop(reply.send(Completion::refused(operation, DeviceError::Closed)));
            }
        }
        loop {
            for request in std::mem::take(&mut self.backlog) {
                let Request { action, payload: Ticket { device, reply, .. }, .. } = request;
                let buffer = match action {
                    Action::Read(buffer) | Action::Write(buffer) => Some(buffer),
                    Action::Flush => None,
                };
                self.answer(device, reply, Completion { result: Err(DeviceError::Closed), buffer });
            }
            if self.ring.in_flight() == 0 {
                return;
            }
            if self.ring.submit_and_wait().is_err() {
                // The ring's own drop tries once more, and leaks what it cannot get back.
                return;
            }
            self.ring.reap(&mut self.completed);
            let mut batch = std::mem::take(&mut self.completed);
            for (request, answer) in batch.drain(..) {
                self.complete(request, answer);
            }
        }
    }
}
