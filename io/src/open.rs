//! Opening a drive: a raw block device, or a file that stands for one.
//!
//! A drive is opened for direct I/O and for this process alone. What is written to a file-backed drive at
//! creation is zeros over its whole length: space that was only reserved makes every later flush about ten
//! times dearer, because each first write then changes the file system's own records too.

mod create;
mod error;

pub use error::OpenError;

use crate::block::{BlockDevice, WriteCache};
use crate::buffer::AlignedBuffer;
use crate::device::Shape;
use crate::limits::{BLOCK_LEN_BYTES, DEVICE_LEN_BYTES_MAX};
use crate::sys;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How to open a drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenMode {
    /// Make a file of this many bytes where there is none. A file that is there must have this length.
    pub create_len_bytes: Option<u64>,
    /// Whether the page cache may stand in between.
    pub direct: Direct,
    /// What to do with a disk that carries partitions.
    pub partitioned: Partitioned,
}

/// Whether the page cache may stand between Strongroom and the drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direct {
    /// A file system that refuses direct I/O is an error.
    #[default]
    Required,
    /// Go on through the page cache, with a warning: for development, never for a node (a scrub would read
    /// memory).
    IfPossible,
}

/// What to do with a disk that carries partitions: it most likely holds somebody's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioned {
    /// Refuse it.
    #[default]
    Refuse,
    /// The operator said so.
    Allow,
}

/// How [`crate::Operation::Flush`] is done; chosen once, at open.
///
/// The queue's `fua` is not used: it would make single writes durable, but 32 writes and one flush cost a
/// tenth of 32 forced writes, and the log that needs single writes lives elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// `fdatasync` on a file: the file system writes what it must know to find the data, then flushes the
    /// device.
    File,
    /// `fdatasync` on a block device: writes what is in the page cache, if anything, then flushes the
    /// device's cache.
    BlockDevice,
    /// Nothing: a raw device, opened directly, that says a completed write is on media (`write through`).
    /// Some virtual disks say so because they pass no flush on; then no call could do more, and durability is
    /// the peers'.
    WriteThrough,
}

/// How [`crate::Operation::Discard`] is done; chosen once, at open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardMode {
    /// Nothing. Files are left as they are: a hole would have to be allocated again, at the price of slow
    /// flushes.
    Ignore,
    /// The block device is told.
    BlockDevice,
}

impl FlushMode {
    fn choose(kind: Kind, direct: bool, write_cache: Option<WriteCache>) -> Self {
        match (kind, direct, write_cache) {
            (Kind::File, _, _) => Self::File,
            (Kind::BlockDevice, true, Some(WriteCache::WriteThrough)) => Self::WriteThrough,
            (Kind::BlockDevice, _, _) => Self::BlockDevice,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    BlockDevice,
}

/// A drive that this process has for itself, ready for a backend. Dropping it gives it up.
#[derive(Debug)]
pub struct Drive {
    file: File,
    path: PathBuf,
    shape: Shape,
    direct: bool,
    flush_mode: FlushMode,
    discard_mode: DiscardMode,
}

impl Drive {
    /// What it is like.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether reads and writes bypass the page cache.
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// How a flush is done.
    pub fn flush_mode(&self) -> FlushMode {
        self.flush_mode
    }

    /// How a discard is done.
    pub fn discard_mode(&self) -> DiscardMode {
        self.discard_mode
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        match self.flush_mode {
            FlushMode::File | FlushMode::BlockDevice => self.file.sync_data(),
            FlushMode::WriteThrough => Ok(()),
        }
    }

    pub(crate) fn discard(&self, offset_bytes: u64, len_bytes: u64) -> io::Result<()> {
        match self.discard_mode {
            DiscardMode::Ignore => Ok(()),
            DiscardMode::BlockDevice => match sys::discard(&self.file, offset_bytes, len_bytes) {
                // A hint that is not understood is no fault of the drive.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
                other => other,
            },
        }
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        // The lock belongs to the open file, which a ring may hold a moment longer than this process does.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(path = %self.path.display(), %error, "drive not unlocked");
        }
    }
}

/// Opens a drive for this process alone.
///
/// Blocks: with `create_len_bytes` for as long as it takes to write that many bytes.
///
/// # Errors
/// See [`OpenError`]; nothing on an existing drive was changed.
pub fn open_drive(path: &Path, mode: OpenMode) -> Result<Drive, OpenError> {
    open_drive_with_progress(path, mode, &mut |_, _| {})
}

/// As [`open_drive`]; `progress` hears of bytes written and bytes in all while a file is created.
///
/// # Errors
/// As [`open_drive`].
pub fn open_drive_with_progress(
    path: &Path,
    mode: OpenMode,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Drive, OpenError> {
    if let Some(len_bytes) = mode.create_len_bytes {
        let whole = len_bytes.is_multiple_of(BLOCK_LEN_BYTES as u64);
        if len_bytes == 0 || !whole || len_bytes > DEVICE_LEN_BYTES_MAX {
            return Err(OpenError::CreateLen { len_bytes });
        }
        match std::fs::metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create::create(path, len_bytes, progress)?;
            }
            Err(source) => return Err(OpenError::io(path, "looked at")(source)),
        }
    }
    open_existing(path, mode)
}

fn open_existing(path: &Path, mode: OpenMode) -> Result<Drive, OpenError> {
    let metadata = std::fs::metadata(path).map_err(OpenError::io(path, "looked at"))?;
    let kind = if metadata.file_type().is_block_device() {
        Kind::BlockDevice
    } else if metadata.is_file() {
        Kind::File
    } else {
        return Err(OpenError::NotADrive { path: path.to_owned() });
    };
    let block_device = match kind {
        Kind::BlockDevice => {
            Some(BlockDevice::of_number(metadata.rdev()).map_err(OpenError::io(path, "found in sysfs"))?)
        }
        Kind::File => None,
    };
    if let Some(device) = &block_device
        && !device.partitions.is_empty()
        && mode.partitioned == Partitioned::Refuse
    {
        let partitions = device.partitions.clone();
        return Err(OpenError::Partitioned { path: path.to_owned(), partitions });
    }

    let (file, direct) = match open_file(path, kind, libc::O_DIRECT).and_then(|file| tried(file, path)) {
        Ok(file) => (file, true),
        Err(OpenError::DirectRefused { .. }) if mode.direct == Direct::IfPossible => {
            tracing::warn!(path = %path.display(), "direct I/O refused: going on through the page cache");
            (open_file(path, kind, 0)?, false)
        }
        Err(error) => return Err(error),
    };
    let opened = file.metadata().map_err(OpenError::io(path, "looked at"))?;
    if (opened.dev(), opened.ino(), opened.rdev()) != (metadata.dev(), metadata.ino(), metadata.rdev()) {
        return Err(OpenError::Changed { path: path.to_owned() });
    }
    lock(&file, path)?;

    let found_bytes = match kind {
        Kind::BlockDevice => sys::block_device_len_bytes(&file).map_err(OpenError::io(path, "measured"))?,
        // Looked up again under the lock.
        Kind::File => file.metadata().map_err(OpenError::io(path, "measured"))?.len(),
    };
    if let Some(expected_bytes) = mode.create_len_bytes
        && expected_bytes != found_bytes
    {
        return Err(OpenError::LenDiffers { path: path.to_owned(), expected_bytes, found_bytes });
    }
    if kind == Kind::BlockDevice {
        let len_bytes = sys::logical_block_len_bytes(&file).map_err(OpenError::io(path, "measured"))?;
        if len_bytes as usize > BLOCK_LEN_BYTES {
            return Err(OpenError::LogicalBlock { path: path.to_owned(), len_bytes });
        }
    }
    // A tail shorter than a block cannot be addressed.
    let len_bytes = found_bytes.min(DEVICE_LEN_BYTES_MAX) & !(BLOCK_LEN_BYTES as u64 - 1);
    if len_bytes == 0 {
        return Err(OpenError::TooSmall { path: path.to_owned(), found_bytes });
    }
    let write_cache = block_device.as_ref().and_then(|device| device.write_cache);
    let discards = block_device.is_some_and(|device| device.discard_len_bytes_max > 0);
    Ok(Drive {
        file,
        path: path.to_owned(),
        shape: Shape { len_bytes },
        direct,
        flush_mode: FlushMode::choose(kind, direct, write_cache),
        discard_mode: if discards { DiscardMode::BlockDevice } else { DiscardMode::Ignore },
    })
}

/// Opens for reading and writing; a block device also for nobody else (not mounted, no other daemon).
fn open_file(path: &Path, kind: Kind, flags: i32) -> Result<File, OpenError> {
    let exclusive = if kind == Kind::BlockDevice { libc::O_EXCL } else { 0 };
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags | exclusive | libc::O_CLOEXEC)
        .open(path);
    opened.map_err(|source| match source.raw_os_error() {
        Some(libc::EBUSY) => OpenError::InUse { path: path.to_owned(), source },
        Some(libc::EINVAL) if flags & libc::O_DIRECT != 0 => {
            OpenError::DirectRefused { path: path.to_owned(), source }
        }
        _ => OpenError::io(path, "opened")(source),
    })
}

/// Some file systems take the flag and refuse the first read.
fn tried(file: File, path: &Path) -> Result<File, OpenError> {
    match file.read_at(&mut AlignedBuffer::zeroed(BLOCK_LEN_BYTES), 0) {
        Err(source) if source.raw_os_error() == Some(libc::EINVAL) => {
            Err(OpenError::DirectRefused { path: path.to_owned(), source })
        }
        // An unreadable block is a matter for whoever reads it: the drive may be good elsewhere.
        Ok(_) | Err(_) => Ok(file),
    }
}

fn lock(file: &File, path: &Path) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::io(path, "locked")(source)),
    }
}

#[cfg(test)]
mod tests;
