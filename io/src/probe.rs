//! What the kernel and a drive offer, what is missing, and what Strongroom will therefore do: in words.
//!
//! Looks only: nothing on the drive is changed, and no lock is taken, so that a drive in use can be probed too.

use crate::block::{BlockDevice, WriteCache};
use crate::buffer::AlignedBuffer;
use crate::limits::BLOCK_LEN_BYTES;
use crate::sys;
use crate::uring::{self, Features, UringError};
use nix::sys::resource::{Resource, getrlimit};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What was found; its `Display` says it in words.
#[derive(Debug)]
pub struct Probe {
    /// What was probed.
    pub path: PathBuf,
    /// The kernel's release.
    pub kernel: String,
    /// What io_uring offers here, or why there is none.
    pub uring: Result<Features, UringError>,
    /// Bytes that the process may lock; `None` without limit.
    pub locked_len_bytes_max: Option<u64>,
    /// The drive.
    pub target: Target,
}

/// What the path leads to.
#[derive(Debug)]
pub enum Target {
    /// Nothing that can be looked at.
    Unknown(io::Error),
    /// Neither a block device nor a regular file.
    NotADrive,
    /// A file that stands for a drive, on this device as far as that is known.
    File(Common),
    /// A block device.
    BlockDevice(Common),
}

/// What files and block devices have in common.
#[derive(Debug)]
pub struct Common {
    /// Bytes.
    pub len_bytes: io::Result<u64>,
    /// Whether a block could be read past the page cache.
    pub direct: io::Result<()>,
    /// The block device, or the one below the file.
    pub device: Option<BlockDevice>,
}

/// Looks at the kernel and at a drive.
pub fn probe(path: &Path) -> Probe {
    Probe {
        path: path.to_owned(),
        kernel: nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_else(|_| "unknown".to_owned()),
        uring: uring::features(),
        locked_len_bytes_max: locked_len_bytes_max(),
        target: target(path),
    }
}

fn target(path: &Path) -> Target {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Target::Unknown(error),
    };
    let is_block_device = metadata.file_type().is_block_device();
    if !is_block_device && !metadata.is_file() {
        return Target::NotADrive;
    }
    let file = File::open(path);
    let len_bytes = match &file {
        Ok(file) if is_block_device => sys::block_device_len_bytes(file),
        Ok(_) => Ok(metadata.len()),
        Err(error) => Err(io::Error::from(error.kind())),
    };
    let number = if is_block_device { metadata.rdev() } else { metadata.dev() };
    let common = Common { len_bytes, direct: direct(path), device: BlockDevice::of_number(number).ok() };
    if is_block_device { Target::BlockDevice(common) } else { Target::File(common) }
}

fn direct(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT | libc::O_CLOEXEC).open(path)?;
    file.read_at(&mut AlignedBuffer::zeroed(BLOCK_LEN_BYTES), 0)?;
    Ok(())
}

/// The limit on locked memory, which the capability to lock memory lifts.
fn locked_len_bytes_max() -> Option<u64> {
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    if capabilities >> CAP_IPC_LOCK & 1 == 1 {
        return None;
    }
    let (soft, _hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((0, 0));
    (soft != libc::RLIM_INFINITY).then_some(soft)
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on Linux {}", self.path.display(), self.kernel)?;
        self.say_kernel(f)?;
        match &self.target {
            Target::Unknown(error) => {
                writeln!(f, "Drive: cannot be looked at: {error}. Only the kernel was probed.")
            }
            Target::NotADrive => {
                writeln!(f, "Drive: neither a block device nor a regular file. Strongroom will refuse it.")
            }
            Target::File(common) => {
                writeln!(f, "Drive: a file of {}.", Len(&common.len_bytes))?;
                common.say(f)?;
                writeln!(f, "Flush: fdatasync, because the file system has records of its own to write.")?;
                writeln!(f, "Discard: none on files; freed space stays allocated, which keeps flushes fast.")
            }
            Target::BlockDevice(common) => {
                writeln!(f, "Drive: a block device of {}.", Len(&common.len_bytes))?;
                common.say(f)?;
                common.say_block_device(f)
            }
        }
    }
}

impl Probe {
    fn say_kernel(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.uring {
            Ok(features) => {
                writeln!(f, "io_uring: works. Strongroom will drive the drives by a ring on each core.")?;
                if !features.single_issuer {
                    writeln!(
                        f,
                        "io_uring: no single-issuer rings before Linux 6.0; a little more CPU for each operation."
                    )?;
                }
                if !features.registered_buffers {
                    writeln!(f, "io_uring: no registered buffers; each operation pins its pages anew.")?;
                }
            }
            Err(error) => {
                if let UringError::Unavailable(source) = error
                    && source.raw_os_error() == Some(libc::ENOMEM)
                {
                    writeln!(f, "io_uring: even a ring does not fit into the memory that may be locked.")?;
                }
                let reason =
                    std::error::Error::source(error).map(|source| format!(" ({source})")).unwrap_or_default();
                writeln!(
                    f,
                    "io_uring: {error}{reason}. Strongroom will use blocking threads: the same speed for 5 to 9 times the CPU."
                )?;
            }
        }
        match self.locked_len_bytes_max {
            None => writeln!(f, "Locked memory: no limit; buffer pools of any size can be registered."),
            Some(bytes) => writeln!(
                f,
                "Locked memory: at most {} KiB; larger buffer pools stay unregistered and cost more CPU for each operation. Raise LimitMEMLOCK or grant CAP_IPC_LOCK.",
                bytes / 1024
            ),
        }
    }
}

impl Common {
    fn say(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.direct {
            Ok(()) => writeln!(f, "Direct I/O: works.")?,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => writeln!(
                f,
                "Direct I/O: refused by the file system. Strongroom will refuse it as a drive of a node; `dev` goes through the page cache."
            )?,
            Err(error) => writeln!(f, "Direct I/O: not tried to the end: {error}.")?,
        }
        let Some(device) = &self.device else {
            return writeln!(f, "Device: the kernel names none below this file.");
        };
        let kind = if device.rotational { "spinning" } else { "solid state, or virtual" };
        let scheduler = device.scheduler.as_deref().unwrap_or("unknown");
        writeln!(f, "Device: {} ({kind}), scheduler {scheduler}.", device.name)?;
        match device.write_cache {
            Some(WriteCache::WriteBack) if device.fua => {
                writeln!(
                    f,
                    "Write cache: volatile; single writes can be forced to media (FUA), which Strongroom does not need: it flushes batches."
                )
            }
            Some(WriteCache::WriteBack) => {
                writeln!(f, "Write cache: volatile; no forced writes (FUA), which Strongroom does not need.")
            }
            Some(WriteCache::WriteThrough) => writeln!(
                f,
                "Write cache: none, or the device passes no flush on (some virtual disks); then durability rests with the peers in the other zones."
            ),
            None => writeln!(f, "Write cache: unknown, so taken for volatile."),
        }
    }

    fn say_block_device(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device.as_ref();
        match device.and_then(|device| device.logical_block_len_bytes) {
            Some(bytes) if bytes as usize > BLOCK_LEN_BYTES => {
                writeln!(
                    f,
                    "Logical block: {bytes} bytes, more than 4096. Strongroom will refuse the drive."
                )?;
            }
            Some(bytes) => writeln!(f, "Logical block: {bytes} bytes; Strongroom uses 4096.")?,
            None => writeln!(f, "Logical block: unknown.")?,
        }
        if device.and_then(|device| device.write_cache) == Some(WriteCache::WriteThrough) {
            writeln!(f, "Flush: none; a completed write is as durable as this device makes it.")?;
        } else {
            writeln!(f, "Flush: a flush of the device's cache after each batch.")?;
        }
        if device.is_some_and(|device| device.discard_len_bytes_max > 0) {
            writeln!(f, "Discard: freed extents are discarded.")?;
        } else {
            writeln!(f, "Discard: the device has none.")?;
        }
        match device.map(|device| device.partitions.as_slice()) {
            None | Some([]) => Ok(()),
            Some(names) => {
                writeln!(
                    f,
                    "Partitions: {}. Strongroom will refuse the drive unless told to take it.",
                    names.join(", ")
                )
            }
        }
    }
}

/// A length for people.
struct Len<'a>(&'a io::Result<u64>);

impl fmt::Display for Len<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(bytes) => write!(f, "{bytes} bytes ({:.1} GiB)", *bytes as f64 / (1u64 << 30) as f64),
            Err(error) => write!(f, "unknown length ({error})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::probe;
    use std::path::Path;

    #[test]
    fn a_file_is_described_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drive");
        std::fs::write(&path, vec![5; 8192]).unwrap();
        let words = probe(&path).to_string();
        assert!(words.contains("a file of 8192 bytes"), "{words}");
        for topic in
            ["io_uring: ", "Locked memory: ", "Direct I/O: ", "Device: ", "Flush: fdatasync", "Discard: none"]
        {
            assert!(words.contains(topic), "{topic} is missing in\n{words}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), vec![5; 8192]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_there_is_said_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none");
        assert!(probe(&path).to_string().contains("Only the kernel was probed"));
        assert!(!path.exists());
        assert!(probe(folder.path()).to_string().contains("will refuse it"));
        assert!(probe(Path::new("/dev/null")).to_string().contains("neither a block device"));
    }
}
