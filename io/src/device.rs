//! The seam between what is stored and how it gets to media: owned operations in, completions with the buffer
//! out.

use crate::buffer::AlignedBuffer;
use crate::limits::{BLOCK_LEN_BYTES, BUFFER_LEN_BYTES_MAX};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What an operation is done for; background classes carry a lower I/O priority where the device has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A user waits for these bytes.
    ForegroundRead,
    /// A user waits for these bytes to be durable.
    Append,
    /// Bytes are rebuilt because fragments are missing.
    Repair,
    /// Convert, compact, tier.
    Convert,
    /// Verification without a known fault.
    Scrub,
}

impl Class {
    /// Whether nobody waits for it.
    pub fn is_background(self) -> bool {
        match self {
            Self::ForegroundRead | Self::Append => false,
            Self::Repair | Self::Convert | Self::Scrub => true,
        }
    }
}

/// Kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A flush.
    Flush,
    /// A discard.
    Discard,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Flush, Self::Discard];

    /// That of an operation.
    pub fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Read { .. } => Self::Read,
            Operation::Write { .. } => Self::Write,
            Operation::Flush => Self::Flush,
            Operation::Discard { .. } => Self::Discard,
        }
    }
}

/// What the device is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the device, a multiple of a block.
    pub len_bytes: u64,
}

impl Shape {
    /// Whether an operation fits: whole blocks within the device, not empty, and not above what one operation
    /// may transfer. Every backend asks this first.
    ///
    /// # Errors
    /// [`DeviceError::OutOfShape`].
    pub fn check(&self, operation: &Operation) -> Result<(), DeviceError> {
        let Some((offset_bytes, len_bytes)) = operation.range() else { return Ok(()) };
        let block = BLOCK_LEN_BYTES as u64;
        let len_bytes_max = match operation {
            Operation::Read { .. } | Operation::Write { .. } => BUFFER_LEN_BYTES_MAX as u64,
            Operation::Flush | Operation::Discard { .. } => self.len_bytes,
        };
        let blocks = offset_bytes.is_multiple_of(block) && len_bytes.is_multiple_of(block);
        let within = offset_bytes.checked_add(len_bytes).is_some_and(|end_bytes| end_bytes <= self.len_bytes);
        if blocks && within && len_bytes != 0 && len_bytes <= len_bytes_max {
            return Ok(());
        }
        Err(DeviceError::OutOfShape { offset_bytes, len_bytes })
    }
}

/// One operation. Offsets and lengths are multiples of a block (4096 bytes) and lie within the device; none
/// is empty.
#[derive(Debug)]
pub enum Operation {
    /// Fill the whole buffer from `offset_bytes` on.
    Read {
        /// First byte on the device.
        offset_bytes: u64,
        /// Its length says how much to read.
        buffer: AlignedBuffer,
    },
    /// Write the whole buffer to `offset_bytes` on. Complete means accepted by the device, not durable.
    Write {
        /// First byte on the device.
        offset_bytes: u64,
        /// The bytes.
        buffer: AlignedBuffer,
    },
    /// Make every write that completed before this was submitted durable.
    Flush,
    /// Tell the device that a range holds nothing any more; its later content is undefined. A hint.
    Discard {
        /// First byte on the device.
        offset_bytes: u64,
        /// How many bytes.
        len_bytes: u64,
    },
}

impl Operation {
    /// First byte on the device and number of bytes; `None` for a flush.
    pub fn range(&self) -> Option<(u64, u64)> {
        match self {
            Self::Read { offset_bytes, buffer } | Self::Write { offset_bytes, buffer } => {
                Some((*offset_bytes, buffer.len() as u64))
            }
            Self::Discard { offset_bytes, len_bytes } => Some((*offset_bytes, *len_bytes)),
            Self::Flush => None,
        }
    }

    /// The buffer back, of an operation that is not done.
    pub fn into_buffer(self) -> Option<AlignedBuffer> {
        match self {
            Self::Read { buffer, .. } | Self::Write { buffer, .. } => Some(buffer),
            Self::Flush | Self::Discard { .. } => None,
        }
    }
}

/// Why an operation failed. None says anything about what is on media afterwards.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Offset or length is not a multiple of a block, or outside the device, or empty, or above one
    /// operation's bound. Nothing was done.
    #[error(
        "operation at byte {offset_bytes} of {len_bytes} bytes: expected multiples of 4096 within the device"
    )]
    OutOfShape {
        /// As asked.
        offset_bytes: u64,
        /// As asked.
        len_bytes: u64,
    },
    /// The device reported an error (EIO and the like).
    #[error("device error at byte {offset_bytes} of {len_bytes} bytes")]
    Io {
        /// As asked.
        offset_bytes: u64,
        /// As asked.
        len_bytes: u64,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The device transferred less than asked, twice in a row at the same place.
    #[error("device transferred {done_bytes} of {len_bytes} bytes at byte {offset_bytes}")]
    Short {
        /// As asked.
        offset_bytes: u64,
        /// As asked.
        len_bytes: u64,
        /// What it did.
        done_bytes: u64,
    },
    /// The device was closed, or its thread has ended.
    #[error("device is closed")]
    Closed,
    /// The bound on operations in flight is reached; nothing was done.
    #[error("device has all {in_flight_max} operations in flight")]
    Busy {
        /// The bound.
        in_flight_max: usize,
    },
}

impl DeviceError {
    /// Whether the fault lies with the drive, rather than with the caller or the moment.
    pub fn is_media(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Short { .. } => true,
            Self::OutOfShape { .. } | Self::Closed | Self::Busy { .. } => false,
        }
    }
}

/// What came of an operation. The buffer comes back in every case but `Flush` and `Discard`, and except where
/// the device was closed with it in flight.
#[derive(Debug)]
pub struct Completion {
    /// Whether it was done, wholly.
    pub result: Result<(), DeviceError>,
    /// The buffer of a read or write.
    pub buffer: Option<AlignedBuffer>,
}

impl Completion {
    /// Of an operation that was not started: the buffer goes back with the reason.
    pub(crate) fn refused(operation: Operation, error: DeviceError) -> Self {
        Self { result: Err(error), buffer: operation.into_buffer() }
    }

    /// Of an operation whose device ended with it in flight.
    pub(crate) fn closed() -> Self {
        Self { result: Err(DeviceError::Closed), buffer: None }
    }
}

/// Is told when operations end.
pub trait Watcher: Send + Sync {
    /// An operation of this kind has ended.
    fn ended(&self, watched: &Watched, end: End<'_>);
}

/// What is known of an operation that is watched.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// What it is done for.
    pub class: Class,
    /// What it is.
    pub kind: Kind,
    /// How many bytes it is about; 0 for a flush.
    pub len_bytes: u64,
    /// When it was submitted, by the watcher's clock.
    pub begun_ns: u64,
}

/// How an operation ends for who watches it.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// It was completed, whichever way.
    Completed(&'a Completion),
    /// Nobody waits for it any more: what becomes of it is not known.
    Unawaited,
}

/// An operation under way. Dropping it does not stop the operation: the device keeps the buffer until it is
/// done.
pub struct Pending {
    inner: Pin<Box<dyn Future<Output = Completion> + Send>>,
    /// Beside the future rather than in one around it: being watched allocates nothing.
    watch: Option<(Arc<dyn Watcher>, Watched)>,
}

impl Pending {
    /// An operation whose completion is this future's output.
    pub fn new(future: impl Future<Output = Completion> + Send + 'static) -> Self {
        Self { inner: Box::pin(future), watch: None }
    }

    /// An operation that has its completion already.
    pub fn ready(completion: Completion) -> Self {
        Self::new(std::future::ready(completion))
    }

    /// Has its end told to `watcher`, once, be it that nobody waits for it any more. It has one watcher at most.
    pub fn watched(mut self, watcher: Arc<dyn Watcher>, watched: Watched) -> Self {
        assert!(self.watch.is_none(), "one wrapper of a device watches");
        self.watch = Some((watcher, watched));
        self
    }
}

impl Future for Pending {
    type Output = Completion;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let polled = self.inner.as_mut().poll(context);
        if let Poll::Ready(completion) = &polled
            && let Some((watcher, watched)) = self.watch.take()
        {
            watcher.ended(&watched, End::Completed(completion));
        }
        polled
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some((watcher, watched)) = self.watch.take() {
            watcher.ended(&watched, End::Unawaited);
        }
    }
}

/// A drive, or a file that stands for one.
pub trait Device: Send + Sync {
    /// What it is like; does not change while open.
    fn shape(&self) -> Shape;

    /// Starts an operation. Operations in flight at once are not ordered among each other.
    fn submit(&self, operation: Operation, class: Class) -> Pending;

    /// Starts no more operations, and completes once those in flight are done and the drive may be opened
    /// again. Dropping a device does the same without telling when. Wrappers must forward it.
    fn close(&self) -> Closing;
}

/// The end of a device, under way. Goes on when dropped.
pub type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

#[cfg(test)]
mod tests {
    use super::{
        AlignedBuffer, Class, Completion, DeviceError, End, Kind, Operation, Pending, Shape, Watched, Watcher,
    };
    use std::sync::{Arc, Mutex};

    const SHAPE: Shape = Shape { len_bytes: 16 * 4096 };

    fn read(offset_bytes: u64, len_bytes: usize) -> Result<(), DeviceError> {
        SHAPE.check(&Operation::Read { offset_bytes, buffer: AlignedBuffer::zeroed(len_bytes) })
    }

    fn discard(offset_bytes: u64, len_bytes: u64) -> Result<(), DeviceError> {
        SHAPE.check(&Operation::Discard { offset_bytes, len_bytes })
    }

    #[test]
    fn whole_blocks_within_the_device_pass_and_nothing_else() {
        assert!(read(0, 16 * 4096).is_ok());
        assert!(read(0, 17 * 4096).is_err());
        assert!(read(15 * 4096, 4096).is_ok());
        assert!(read(16 * 4096, 4096).is_err());
        assert!(read(15 * 4096 + 512, 4096).is_err());
        assert!(read(0, 0).is_err());
        assert!(discard(4096, 15 * 4096).is_ok());
        assert!(discard(4096, 16 * 4096).is_err());
        assert!(discard(4096, 100).is_err());
        assert!(discard(!4095, 8192).is_err());
        assert!(SHAPE.check(&Operation::Flush).is_ok());
    }

    #[derive(Default)]
    struct Noting(Mutex<Vec<&'static str>>);

    impl Watcher for Noting {
        fn ended(&self, watched: &Watched, end: End<'_>) {
            assert_eq!((watched.class, watched.kind, watched.begun_ns), (Class::Append, Kind::Flush, 7));
            self.0.lock().unwrap().push(match end {
                End::Completed(completion) if completion.result.is_ok() => "done",
                End::Completed(_) => "failed",
                End::Unawaited => "unawaited",
            });
        }
    }

    #[tokio::test]
    async fn every_watched_operation_ends_once() {
        let noting = Arc::new(Noting::default());
        let watched =
            Watched { class: Class::Append, kind: Kind::of(&Operation::Flush), len_bytes: 0, begun_ns: 7 };
        let pending =
            |result| Pending::ready(Completion { result, buffer: None }).watched(noting.clone(), watched);
        drop(pending(Ok(())).await);
        drop(pending(Err(DeviceError::Closed)).await);
        drop(pending(Ok(())));
        assert_eq!(*noting.0.lock().unwrap(), ["done", "failed", "unawaited"]);
    }
}
