//! Why a drive was not opened.

use std::io;
use std::path::{Path, PathBuf};

/// Why a drive was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or this one) has it open as a drive.
    #[error("{}: locked: another Strongroom process has this drive", path.display())]
    Locked {
        /// The drive.
        path: PathBuf,
    },
    /// The block device is mounted, or claimed by another process.
    #[error("{}: in use: mounted, or claimed by another process", path.display())]
    InUse {
        /// The drive.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A whole disk that carries partitions.
    #[error("{}: carries partitions ({}); refused unless allowed explicitly", path.display(), partitions.join(", "))]
    Partitioned {
        /// The drive.
        path: PathBuf,
        /// Their kernel names.
        partitions: Vec<String>,
    },
    /// Neither a block device nor a regular file.
    #[error("{}: neither a block device nor a regular file", path.display())]
    NotADrive {
        /// The path.
        path: PathBuf,
    },
    /// The file system has no direct I/O.
    #[error("{}: the file system refuses direct I/O (O_DIRECT); use a raw device, ext4 or xfs", path.display())]
    DirectRefused {
        /// The drive.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file to create must be whole blocks, and not empty.
    #[error("drive of {len_bytes} bytes: expected a multiple of 4096, at least 4096")]
    CreateLen {
        /// As asked.
        len_bytes: u64,
    },
    /// The file is there with another length.
    #[error("{}: {found_bytes} bytes, expected {expected_bytes}", path.display())]
    LenDiffers {
        /// The drive.
        path: PathBuf,
        /// As asked.
        expected_bytes: u64,
        /// Its length.
        found_bytes: u64,
    },
    /// Not even one block.
    #[error("{}: {found_bytes} bytes, expected at least 4096", path.display())]
    TooSmall {
        /// The drive.
        path: PathBuf,
        /// Its length.
        found_bytes: u64,
    },
    /// The device cannot write 4096 bytes at a time.
    #[error("{}: logical blocks of {len_bytes} bytes, expected at most 4096", path.display())]
    LogicalBlock {
        /// The drive.
        path: PathBuf,
        /// What it has.
        len_bytes: u32,
    },
    /// The path came to mean another file while it was opened.
    #[error("{}: replaced by another file while it was opened", path.display())]
    Changed {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: could not be {deed}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried, as a participle.
        deed: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// For `map_err`.
    pub(super) fn io(path: &Path, deed: &'static str) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, deed, source }
    }
}
