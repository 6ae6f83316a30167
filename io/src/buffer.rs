//! Buffers that direct I/O accepts: aligned to a block, a multiple of a block long, owned.
//!
//! A buffer comes from the heap ([`AlignedBuffer::zeroed`]) or from a [`Pool`] of fixed size. It turns into
//! [`bytes::Bytes`] without a copy, so that what a drive read goes to the network from where it was read to.
#![allow(unsafe_code)]

pub mod pool;

pub use pool::{Pool, PoolError, SizeClass};

use crate::limits::{BLOCK_LEN_BYTES, BUFFER_LEN_BYTES_MAX};
use bytes::Bytes;
use pool::Lease;
use std::alloc::Layout;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Owned memory, aligned to 4096 bytes and a multiple of 4096 bytes long. May be empty.
pub struct AlignedBuffer {
    start: NonNull<u8>,
    len_bytes: usize,
    // Dropped last: the memory is given back when nothing refers to it any more.
    storage: Storage,
}

/// Whom the memory belongs to.
enum Storage {
    /// No memory.
    Empty,
    /// The global allocator.
    Heap(Layout),
    /// A pool; goes back by the lease's drop.
    Pool(Lease),
}

/// A length that no buffer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "buffer of {len_bytes} bytes: expected a multiple of {BLOCK_LEN_BYTES}, at most {BUFFER_LEN_BYTES_MAX}"
)]
pub struct LenError {
    /// As asked.
    pub len_bytes: usize,
}

// SAFETY: the memory is owned by this value alone and reached through `&self` or `&mut self` only, like a
// `Box<[u8]>`.
unsafe impl Send for AlignedBuffer {}
// SAFETY: as above; `&AlignedBuffer` gives out `&[u8]` only.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// A buffer of zeros on the heap.
    ///
    /// # Errors
    /// `len_bytes` is not a multiple of 4096, or above the bound.
    pub fn try_zeroed(len_bytes: usize) -> Result<Self, LenError> {
        if !len_bytes.is_multiple_of(BLOCK_LEN_BYTES) || len_bytes > BUFFER_LEN_BYTES_MAX {
            return Err(LenError { len_bytes });
        }
        let layout =
            Layout::from_size_align(len_bytes, BLOCK_LEN_BYTES).map_err(|_| LenError { len_bytes })?;
        if len_bytes == 0 {
            // Aligned like any other, though never read through.
            let start = NonNull::without_provenance(
                std::num::NonZeroUsize::new(BLOCK_LEN_BYTES).expect("a block has at least one byte"),
            );
            return Ok(Self { start, len_bytes, storage: Storage::Empty });
        }
        // SAFETY: the layout's size is not zero.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { std::alloc::handle_alloc_error(layout) };
        Ok(Self { start, len_bytes, storage: Storage::Heap(layout) })
    }

    /// A buffer of zeros on the heap.
    ///
    /// # Panics
    /// `len_bytes` is not a multiple of 4096, or above the bound: the caller's mistake. Lengths from outside go
    /// through [`AlignedBuffer::try_zeroed`].
    pub fn zeroed(len_bytes: usize) -> Self {
        match Self::try_zeroed(len_bytes) {
            Ok(buffer) => buffer,
            Err(error) => panic!("{error}"),
        }
    }

    /// A copy of `bytes`, padded with zeros to the next multiple of 4096.
    ///
    /// # Errors
    /// The padded length is above the bound.
    pub fn copy_of(bytes: &[u8]) -> Result<Self, LenError> {
        let padded = bytes.len().checked_next_multiple_of(BLOCK_LEN_BYTES).unwrap_or(usize::MAX);
        let mut buffer = Self::try_zeroed(padded)?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(buffer)
    }

    /// Shortens the buffer; the rest of its memory stays with it, unseen.
    ///
    /// # Panics
    /// `len_bytes` is not a multiple of 4096, or above the buffer's length.
    pub fn truncate(&mut self, len_bytes: usize) {
        assert!(len_bytes.is_multiple_of(BLOCK_LEN_BYTES), "{len_bytes} is not a multiple of a block");
        assert!(len_bytes <= self.len_bytes, "{len_bytes} is above the buffer's {}", self.len_bytes);
        self.len_bytes = len_bytes;
    }

    /// The same memory as shared bytes. It is given back when the last slice of them is dropped.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// The pool and size class that the memory came from, for registered I/O.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.storage {
            Storage::Pool(lease) => Some(lease),
            Storage::Empty | Storage::Heap(_) => None,
        }
    }

    /// A buffer in the memory of a pool.
    ///
    /// # Safety
    /// `start` is aligned to a block and begins `len_bytes` initialised bytes, a multiple of a block, that
    /// nothing else touches until `lease` is dropped.
    unsafe fn leased(start: NonNull<u8>, len_bytes: usize, lease: Lease) -> Self {
        Self { start, len_bytes, storage: Storage::Pool(lease) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if let Storage::Heap(layout) = self.storage {
            // SAFETY: `start` came from the global allocator with this very layout, and is freed here alone.
            unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) }
        }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is aligned and begins at least `len_bytes` initialised bytes (zeroed by the
        // allocator or the kernel at first), which live as long as `self` and are changed through `&mut self`
        // only. No buffer is longer than `isize::MAX`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len_bytes) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len_bytes) }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.storage {
            Storage::Empty | Storage::Heap(_) => "heap",
            Storage::Pool(_) => "pool",
        };
        write!(f, "AlignedBuffer({} bytes, {place})", self.len_bytes)
    }
}

#[cfg(test)]
mod tests;
