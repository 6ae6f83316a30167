//! A pool of buffers whose memory is taken once, at start.
//!
//! A pool has a few size classes, each a row of equal buffers in one mapping. A request gets a buffer of the
//! smallest class that is long enough, or [`PoolError::Busy`]: never from a larger class, so that many small
//! requests cannot starve the large ones, and never from the heap, so that memory is bounded. A buffer goes
//! back by its drop.
//!
//! Each class is one registered buffer of a ring: see [`crate::uring::Driver::register`].
#![allow(unsafe_code)]

use super::AlignedBuffer;
use crate::limits::{BLOCK_LEN_BYTES, BUFFER_LEN_BYTES_MAX, POOL_CLASS_LEN_BYTES_MAX, POOL_CLASSES_MAX};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::fmt;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Equal buffers of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// Bytes of each, a multiple of 4096.
    pub len_bytes: usize,
    /// How many.
    pub count: usize,
}

/// Why a pool was not made, or gave no buffer.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// All buffers of the class are in use; hand the work back.
    #[error("all {count} buffers of {class_len_bytes} bytes are in use")]
    Busy {
        /// Bytes of the class that was asked for.
        class_len_bytes: usize,
        /// Its size.
        count: usize,
    },
    /// No class is long enough, or the length is not a multiple of a block. Waiting does not help.
    #[error("buffer of {len_bytes} bytes: expected a multiple of 4096, at most {len_bytes_max}")]
    Len {
        /// As asked.
        len_bytes: usize,
        /// Bytes of the largest class.
        len_bytes_max: usize,
    },
    /// The classes cannot make a pool: none or too many, not ascending, empty, not blocks, or above the bound.
    #[error(
        "size class {index} of {len_bytes} bytes x {count}: expected 1 to 8 ascending classes of whole blocks, at most 1 GiB each"
    )]
    Classes {
        /// Which class.
        index: usize,
        /// Bytes of its buffers.
        len_bytes: usize,
        /// How many buffers.
        count: usize,
    },
    /// The system gave no memory.
    #[error("the system gave no {len_bytes} bytes for a buffer pool")]
    Memory {
        /// Bytes of the class.
        len_bytes: usize,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Buffers of fixed number and sizes. Cheap to clone; the memory lives until the last clone and the last
/// buffer are gone.
#[derive(Clone)]
pub struct Pool {
    regions: Arc<[Region]>,
}

/// The memory of one class.
struct Region {
    start: NonNull<u8>,
    class: SizeClass,
    /// Buffers that nobody has; as many entries as fit were allocated at start.
    free: Mutex<Vec<u32>>,
}

// SAFETY: the memory behind `start` is handed out in disjoint pieces, each to one lease at a time, under the
// lock of `free`; the region itself never reads or writes it.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// One buffer of a pool, while somebody has it.
pub(crate) struct Lease {
    pool: Pool,
    class_index: usize,
    slot: u32,
}

impl Pool {
    /// Takes the memory for these classes, which are in ascending order of length.
    ///
    /// # Errors
    /// The classes are not as described there, or the system has no memory.
    pub fn new(classes: &[SizeClass]) -> Result<Self, PoolError> {
        if classes.is_empty() || classes.len() > POOL_CLASSES_MAX {
            return Err(PoolError::Classes { index: classes.len(), len_bytes: 0, count: 0 });
        }
        let mut regions = Vec::with_capacity(classes.len());
        let mut previous_len_bytes = 0;
        for (index, class) in classes.iter().enumerate() {
            let SizeClass { len_bytes, count } = *class;
            let total = len_bytes.checked_mul(count).filter(|total| *total <= POOL_CLASS_LEN_BYTES_MAX);
            let sound = len_bytes > previous_len_bytes
                && len_bytes.is_multiple_of(BLOCK_LEN_BYTES)
                && len_bytes <= BUFFER_LEN_BYTES_MAX;
            let Some(total) = total.and_then(NonZeroUsize::new).filter(|_| sound) else {
                return Err(PoolError::Classes { index, len_bytes, count });
            };
            regions.push(Region::map(*class, total)?);
            previous_len_bytes = len_bytes;
        }
        Ok(Self { regions: regions.into() })
    }

    /// A buffer of `len_bytes`. **Its bytes are those of its last use**: fill it, or take
    /// [`Pool::take_zeroed`].
    ///
    /// # Errors
    /// [`PoolError::Busy`] where the class has none left, [`PoolError::Len`] where no class will ever do.
    pub fn take(&self, len_bytes: usize) -> Result<AlignedBuffer, PoolError> {
        let class_index = self.regions.iter().position(|region| region.class.len_bytes >= len_bytes);
        let Some((class_index, true)) =
            class_index.map(|index| (index, len_bytes.is_multiple_of(BLOCK_LEN_BYTES)))
        else {
            let len_bytes_max = self.regions.last().map_or(0, |region| region.class.len_bytes);
            return Err(PoolError::Len { len_bytes, len_bytes_max });
        };
        let region = &self.regions[class_index];
        let SizeClass { len_bytes: class_len_bytes, count } = region.class;
        let slot = region.free().pop().ok_or(PoolError::Busy { class_len_bytes, count })?;
        let lease = Lease { pool: self.clone(), class_index, slot };
        // SAFETY: `slot` is below `count`, so the offset is inside the mapping; a mapping is page-aligned,
        // and so is every multiple of a class length; the kernel zeroed it at first. The slot was just taken
        // off the free list and comes back by the lease's drop alone, so nobody else has it. The lease keeps
        // the mapping alive.
        let mut buffer = unsafe {
            let start = region.start.add(slot as usize * class_len_bytes);
            AlignedBuffer::leased(start, class_len_bytes, lease)
        };
        buffer.truncate(len_bytes);
        Ok(buffer)
    }

    /// A buffer of `len_bytes` zeros.
    ///
    /// # Errors
    /// As [`Pool::take`].
    pub fn take_zeroed(&self, len_bytes: usize) -> Result<AlignedBuffer, PoolError> {
        let mut buffer = self.take(len_bytes)?;
        buffer.fill(0);
        Ok(buffer)
    }

    /// The classes, ascending.
    pub fn classes(&self) -> impl Iterator<Item = SizeClass> {
        self.regions.iter().map(|region| region.class)
    }

    /// How many buffers of the class with this length nobody has.
    pub fn available(&self, class_len_bytes: usize) -> usize {
        let region = self.regions.iter().find(|region| region.class.len_bytes == class_len_bytes);
        region.map_or(0, |region| region.free().len())
    }

    /// Bytes of the whole pool.
    pub fn len_bytes(&self) -> u64 {
        self.regions.iter().map(|region| region.len_bytes() as u64).sum()
    }

    /// Whether both are the same memory.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.regions, &other.regions)
    }

    /// Start and bytes of each class's memory, for registration with a ring.
    pub(crate) fn regions(&self) -> impl Iterator<Item = libc::iovec> {
        self.regions
            .iter()
            .map(|region| libc::iovec { iov_base: region.start.as_ptr().cast(), iov_len: region.len_bytes() })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.classes()).finish()
    }
}

impl Lease {
    /// The pool, and which of its classes.
    pub(crate) fn place(&self) -> (&Pool, usize) {
        (&self.pool, self.class_index)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.regions[self.class_index].free().push(self.slot);
    }
}

impl Region {
    fn map(class: SizeClass, total: NonZeroUsize) -> Result<Self, PoolError> {
        let count = u32::try_from(class.count).expect("blocks in a class are far below 2^32");
        let flags = MapFlags::MAP_PRIVATE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that is in use.
        let start =
            unsafe { mmap_anonymous(None, total, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) };
        let start =
            start.map_err(|errno| PoolError::Memory { len_bytes: total.get(), source: errno.into() })?.cast();
        let region = Self { start, class, free: Mutex::new((0..count).rev().collect()) };
        // SAFETY: the range is the mapping just made; huge pages change how it is backed, not what it holds.
        // A kernel without them refuses, and nothing is lost.
        let _hint = unsafe { madvise(region.start.cast::<c_void>(), total.get(), MmapAdvise::MADV_HUGEPAGE) };
        Ok(region)
    }

    fn len_bytes(&self) -> usize {
        self.class.len_bytes * self.class.count
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        // Nothing panics while holding it; a list that was pushed to or popped from is whole in any case.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what was mapped; every lease holds the pool, so none is left that
        // refers to it.
        let unmapped = unsafe { munmap(self.start.cast(), self.len_bytes()) };
        debug_assert!(unmapped.is_ok(), "unmapping a whole mapping does not fail");
    }
}
