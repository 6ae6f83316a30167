//! The ring and the table of what the kernel works on: the one place where the kernel is given pointers.
//!
//! A request is moved into the table before the kernel hears of it and leaves with its completion. Nothing
//! else takes a request out, so its buffer lives as long as the kernel may touch it.
#![allow(unsafe_code)]

use super::{Features, UringError};
use crate::buffer::{AlignedBuffer, Pool};
use crate::limits::{
    DEVICES_PER_DRIVER_MAX, OPERATIONS_PER_RING_MAX, POOL_CLASSES_MAX, POOLS_PER_DRIVER_MAX,
    REGISTERED_BUFFERS_MAX, SUBMISSION_ENTRIES,
};
use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, Probe, opcode, squeue};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The lowest level of the best-effort class: class 2 in the upper three bits, level 7 below.
const PRIORITY_BACKGROUND: u16 = (2 << 13) | 7;
/// Whatever the process has.
const PRIORITY_FOREGROUND: u16 = 0;

/// What the kernel is to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Fill the buffer, from `resume_bytes` of the request on.
    Read(AlignedBuffer),
    /// Write the buffer, from `resume_bytes` of the request on.
    Write(AlignedBuffer),
    /// `fdatasync`.
    Flush,
}

/// One request to the kernel, and what its owner wants to remember with it.
pub(super) struct Request<T> {
    pub(super) action: Action,
    /// Where [`Ring::set_file`] put the file.
    pub(super) file_index: usize,
    /// Byte of the device that byte `resume_bytes` of the buffer belongs to.
    pub(super) offset_bytes: u64,
    /// How much of the buffer is done already.
    pub(super) resume_bytes: usize,
    pub(super) background: bool,
    pub(super) payload: T,
}

/// A ring with its table.
pub(super) struct Ring<T> {
    // Dropped in this order, after `drop` has seen to it that the kernel works on nothing: first the kernel
    // forgets the ring, then the requests go, then the memory of the pools.
    io: IoUring,
    table: Vec<Option<Request<T>>>,
    free: Vec<usize>,
    pools: Vec<Pool>,
    features: Features,
}

impl<T> Ring<T> {
    /// A ring of the thread that calls this; it must not leave the thread.
    pub(super) fn new() -> Result<Self, UringError> {
        let build = |single_issuer: bool| {
            let mut builder = IoUring::builder();
            builder.setup_coop_taskrun().setup_submit_all().setup_cqsize(OPERATIONS_PER_RING_MAX as u32);
            if single_issuer {
                builder.setup_single_issuer();
            }
            builder.build(SUBMISSION_ENTRIES)
        };
        let (io, single_issuer) = match build(true) {
            // Older kernels do not know that flag.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (build(false), false),
            other => (other, true),
        };
        let io = io.map_err(UringError::Unavailable)?;

        let mut probe = Probe::new();
        io.submitter().register_probe(&mut probe).map_err(UringError::Unavailable)?;
        for (code, operation) in [
            (opcode::Read::CODE, "reading"),
            (opcode::Write::CODE, "writing"),
            (opcode::ReadFixed::CODE, "reading into registered buffers"),
            (opcode::WriteFixed::CODE, "writing from registered buffers"),
            (opcode::Fsync::CODE, "flushing"),
        ] {
            if !probe.is_supported(code) {
                return Err(UringError::Lacking { operation });
            }
        }
        io.submitter()
            .register_files_sparse(DEVICES_PER_DRIVER_MAX as u32)
            .map_err(|_| UringError::Lacking { operation: "registered files" })?;
        let registered_buffers =
            io.submitter().register_buffers_sparse(REGISTERED_BUFFERS_MAX as u32).is_ok();
        let features =
            Features { cooperative: true, single_issuer, registered_files: true, registered_buffers };
        Ok(Self { io, table: Vec::new(), free: Vec::new(), pools: Vec::new(), features })
    }

    pub(super) fn features(&self) -> Features {
        self.features
    }

    /// Readable while completions wait, and once for each that comes; watched by the runtime of this thread.
    pub(super) fn watch(&self) -> io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: the ring has its descriptor open for as long as `self` is borrowed.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.io.as_raw_fd()) }.try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` is open, and the same, until it is dropped; the `AsyncFd` owns it and does not
        // lend it mutably.
        let watch = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        watch.map_err(io::Error::from)
    }

    /// Requests that the kernel has, or will have after [`Ring::submit`].
    pub(super) fn in_flight(&self) -> usize {
        self.table.len() - self.free.len()
    }

    /// Whether [`Ring::submit`] has anything to do.
    pub(super) fn has_unsubmitted(&mut self) -> bool {
        !self.io.submission().is_empty()
    }

    /// Lets `index` mean this file, or none. The ring keeps the file open until it is told otherwise.
    pub(super) fn set_file(&mut self, index: usize, file: Option<&File>) -> io::Result<()> {
        let index = u32::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let descriptor = file.map_or(-1, AsRawFd::as_raw_fd);
        match self.io.submitter().register_files_update(index, &[descriptor])? {
            1 => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Makes the memory of a pool known to the kernel.
    pub(super) fn register(&mut self, pool: &Pool) -> Result<io::Result<()>, UringError> {
        if self.pools.iter().any(|known| known.same_as(pool)) {
            return Ok(Ok(()));
        }
        if self.pools.len() == POOLS_PER_DRIVER_MAX {
            return Err(UringError::Pools);
        }
        let first = self.pools.len() * POOL_CLASSES_MAX;
        for (class_index, region) in pool.regions().enumerate() {
            let place = (first + class_index) as u32;
            // SAFETY: the region is a mapping of the pool, which the ring keeps alive from here on until
            // after the kernel has forgotten the ring. Should a later class be refused, the places filled so
            // far are never named by an entry, and filled anew by the next pool; the kernel has pinned their
            // pages and does not follow the address. Who else touches the memory, and when, is ruled by the
            // leases of the pool and, while the kernel works on a buffer, by the table.
            let registered = unsafe { self.io.submitter().register_buffers_update(place, &[region], None) };
            if let Err(error) = registered {
                return Ok(Err(error));
            }
        }
        self.pools.push(pool.clone());
        Ok(Ok(()))
    }

    /// Whether nothing is taken until a completion has been reaped.
    pub(super) fn is_full(&self) -> bool {
        self.in_flight() == OPERATIONS_PER_RING_MAX
    }

    /// Queues a request; back if the ring is full, or the queue is until the next [`Ring::submit`].
    pub(super) fn push(&mut self, mut request: Request<T>) -> Result<(), Box<Request<T>>> {
        if self.is_full() || self.io.submission().is_full() {
            return Err(Box::new(request));
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.table.push(None);
            self.table.len() - 1
        });
        let entry = entry(&self.pools, &mut request).user_data(slot as u64);
        self.table[slot] = Some(request);
        // SAFETY: the entry points into the buffer of the request, from `resume_bytes` to its end (`entry`
        // slices it, so both are in bounds). The buffer was just moved into the table, which does not move
        // the memory; it stays there, untouched by anyone, until the completion for `slot` has arrived: only
        // `reap` empties a slot, and `drop` waits or leaks.
        let pushed = unsafe { self.io.submission().push(&entry) };
        pushed.expect("the queue was seen not to be full, and nobody else fills it");
        Ok(())
    }

    /// Hands all that is queued to the kernel, by one call as a rule.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        while self.has_unsubmitted() {
            match self.io.submit() {
                Ok(0) => return Err(io::ErrorKind::WouldBlock.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands over what is queued and waits until at least one completion is there.
    pub(super) fn submit_and_wait(&mut self) -> io::Result<()> {
        loop {
            match self.io.submit_and_wait(1) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves all that is completed into `into`, with the kernel's answers.
    pub(super) fn reap(&mut self, into: &mut Vec<(Request<T>, io::Result<usize>)>) {
        let Self { io, table, free, .. } = self;
        loop {
            let before = into.len();
            for completion in io.completion() {
                let slot = completion.user_data() as usize;
                let request = table[slot].take().expect("the kernel completes each request once");
                free.push(slot);
                let answer = completion.result();
                let answer = usize::try_from(answer).map_err(|_| io::Error::from_raw_os_error(-answer));
                into.push((request, answer));
            }
            // The queue is empty when it was seen empty after the last entry was taken: its descriptor tells
            // of later ones.
            if into.len() == before {
                return;
            }
        }
    }
}

/// The entry for a request. Its pointer is into the buffer of `request`.
fn entry<T>(pools: &[Pool], request: &mut Request<T>) -> squeue::Entry {
    let file = Fixed(request.file_index as u32);
    let offset = request.offset_bytes;
    let priority = if request.background { PRIORITY_BACKGROUND } else { PRIORITY_FOREGROUND };
    match &mut request.action {
        Action::Read(buffer) => {
            let registered = registered(pools, buffer);
            let rest = &mut buffer[request.resume_bytes..];
            let (start, len) = (rest.as_mut_ptr(), rest.len() as u32);
            match registered {
                Some(index) => {
                    opcode::ReadFixed::new(file, start, len, index).offset(offset).ioprio(priority).build()
                }
                None => opcode::Read::new(file, start, len).offset(offset).ioprio(priority).build(),
            }
        }
        Action::Write(buffer) => {
            let registered = registered(pools, buffer);
            let rest = &buffer[request.resume_bytes..];
            let (start, len) = (rest.as_ptr(), rest.len() as u32);
            match registered {
                Some(index) => {
                    opcode::WriteFixed::new(file, start, len, index).offset(offset).ioprio(priority).build()
                }
                None => opcode::Write::new(file, start, len).offset(offset).ioprio(priority).build(),
            }
        }
        Action::Flush => opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build(),
    }
}

/// The index of the registered buffer that this buffer is a part of. The kernel checks that it is.
fn registered(pools: &[Pool], buffer: &AlignedBuffer) -> Option<u16> {
    let (pool, class_index) = buffer.lease()?.place();
    let pool_index = pools.iter().position(|known| known.same_as(pool))?;
    u16::try_from(pool_index * POOL_CLASSES_MAX + class_index).ok()
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let mut completed = Vec::new();
        while self.in_flight() > 0 {
            if let Err(error) = self.submit_and_wait() {
                // The kernel may still write: the memory can never be used again.
                tracing::error!(%error, in_flight = self.in_flight(), "ring not drained: its buffers are leaked");
                std::mem::forget(std::mem::take(&mut self.table));
                std::mem::forget(std::mem::take(&mut self.pools));
                return;
            }
            self.reap(&mut completed);
            completed.clear();
        }
    }
}
