//! Drives: aligned buffers, the [`Device`] trait, and its backends.
//!
//! Knows bytes, blocks and flushes; knows nothing of slabs, extents or peers.

pub mod backend;
pub mod block;
pub mod blocking;
pub mod buffer;
pub mod device;
pub mod limits;
pub mod memory;
pub mod meter;
pub mod open;
pub mod probe;
mod sys;
mod transfer;
pub mod uring;

pub use backend::Backend;
pub use buffer::AlignedBuffer;
pub use device::{
    Class, Closing, Completion, Device, DeviceError, End, Kind, Operation, Pending, Shape, Watched, Watcher,
};
pub use open::{Direct, Drive, OpenError, OpenMode, open_drive};
