//! What can go wrong with one operation, and who decides.

use crate::device::{Class, Operation, Shape};
use crate::limits::BLOCK_LEN_BYTES;
use std::future::Future;
use std::pin::Pin;

/// What an operation is, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// An operation that was submitted, as a plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Counts the operations on this media from 0.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// First byte; 0 for a flush.
    pub offset_bytes: u64,
    /// How many bytes; 0 for a flush.
    pub len_bytes: u64,
    /// What it is done for.
    pub class: Class,
    /// What goes wrong; [`Fault::None`] while [`FaultPlan::fault`] is asked.
    pub fault: Fault,
}

/// What goes wrong with one operation. A fault that does not fit the kind of operation changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// EIO, and nothing is done. After a failed flush, the writes that it should have covered are covered by
    /// no later flush either: they stay readable, and are lost or kept by luck when power fails.
    Error,
    /// EIO, though it was done.
    ErrorAfter,
    /// A write that reports success and leaves no trace.
    LostWrite,
    /// A read or write that goes to another place. The place is cut to what fits: a block, within the device.
    Misdirected {
        /// Where it goes instead.
        offset_bytes: u64,
    },
    /// Bits of the media flip: before a read, after a write.
    BitRot {
        /// Which byte of the device.
        offset_bytes: u64,
        /// Which of its bits.
        mask: u8,
    },
    /// A flush that reports success and makes nothing durable. A later, honest one does.
    LyingFlush,
    /// A read or write that ends early: so many blocks were transferred, fewer than asked, and `Short` is reported.
    Short {
        /// Blocks from the beginning.
        done_blocks: u32,
    },
}

/// Decides what goes wrong, and how long operations take.
pub trait FaultPlan: Send + Sync {
    /// What goes wrong with this operation. Asked once, when it is submitted.
    fn fault(&self, intent: &Intent) -> Fault;

    /// Holds the operation back until the future completes; `None` does it at once. Asked once, after `fault`.
    fn before(&self, intent: &Intent) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let _ = intent;
        None
    }
}

/// A function is a plan without latency.
impl<F: Fn(&Intent) -> Fault + Send + Sync> FaultPlan for F {
    fn fault(&self, intent: &Intent) -> Fault {
        self(intent)
    }
}

/// A plan under which all goes well.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl FaultPlan for NoFaults {
    fn fault(&self, _: &Intent) -> Fault {
        Fault::None
    }
}

impl Intent {
    pub(super) fn of(number: u64, operation: &Operation, class: Class) -> Self {
        let kind = match operation {
            Operation::Read { .. } => Kind::Read,
            Operation::Write { .. } => Kind::Write,
            Operation::Flush => Kind::Flush,
            Operation::Discard { .. } => Kind::Discard,
        };
        let (offset_bytes, len_bytes) = operation.range().unwrap_or((0, 0));
        Self { number, kind, offset_bytes, len_bytes, class, fault: Fault::None }
    }
}

impl Fault {
    /// The fault as it can happen to this operation on this device.
    pub(super) fn fitting(self, shape: Shape, intent: &Intent) -> Self {
        match self {
            Self::Misdirected { offset_bytes } => {
                let last = shape.len_bytes - intent.len_bytes;
                Self::Misdirected { offset_bytes: offset_bytes.min(last) & !(BLOCK_LEN_BYTES as u64 - 1) }
            }
            Self::BitRot { offset_bytes, mask } => {
                Self::BitRot { offset_bytes: offset_bytes.min(shape.len_bytes - 1), mask }
            }
            Self::Short { .. } if matches!(intent.kind, Kind::Flush | Kind::Discard) => Self::None,
            Self::Short { done_blocks } => {
                let blocks = intent.len_bytes / BLOCK_LEN_BYTES as u64;
                let most = u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX);
                Self::Short { done_blocks: done_blocks.min(most) }
            }
            Self::None | Self::Error | Self::ErrorAfter | Self::LostWrite | Self::LyingFlush => self,
        }
    }
}
