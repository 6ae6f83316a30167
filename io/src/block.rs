//! What the kernel says about a block device: its queue, its write cache, its partitions.
//!
//! Read from sysfs, which describes the device by its number.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Whether a device may hold acknowledged writes in volatile memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCache {
    /// A write that completed may be lost with the power until a flush.
    WriteBack,
    /// A write that completed is on media; or the device has no flush, and then nobody can do more.
    WriteThrough,
}

/// A block device as sysfs describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// Its kernel name, such as `nvme1n1`.
    pub name: String,
    /// Its write cache; `None` where the kernel does not say.
    pub write_cache: Option<WriteCache>,
    /// Whether single writes can be forced to media.
    pub fua: bool,
    /// Bytes that a discard covers at most; 0 where there is no discard.
    pub discard_len_bytes_max: u64,
    /// Bytes of the unit that it reads and writes as a whole, as far as known.
    pub logical_block_len_bytes: Option<u32>,
    /// Whether it spins.
    pub rotational: bool,
    /// The scheduler in use, such as `none`.
    pub scheduler: Option<String>,
    /// The kernel names of its partitions, in order.
    pub partitions: Vec<String>,
}

impl BlockDevice {
    /// The device with this number.
    ///
    /// # Errors
    /// The kernel has no block device of that number (file systems without one have numbers of their own kind).
    pub fn of_number(device_number: u64) -> io::Result<Self> {
        let number = format!("{}:{}", libc::major(device_number), libc::minor(device_number));
        Self::read(&Path::new("/sys/dev/block").join(number))
    }

    /// Reads the description below `directory`.
    fn read(directory: &Path) -> io::Result<Self> {
        let directory = directory.canonicalize()?;
        // A partition shares the queue of the disk that it is a part of.
        let queue = if directory.join("partition").exists() {
            directory.join("../queue")
        } else {
            directory.join("queue")
        };
        let scheduler = text(&queue, "scheduler").and_then(|line| {
            line.split_whitespace()
                .find_map(|word| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_owned()))
        });
        Ok(Self {
            name: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            write_cache: text(&queue, "write_cache").and_then(|word| match word.as_str() {
                "write back" => Some(WriteCache::WriteBack),
                "write through" => Some(WriteCache::WriteThrough),
                _ => None,
            }),
            fua: text(&queue, "fua").is_some_and(|word| word == "1"),
            discard_len_bytes_max: number(&queue, "discard_max_bytes").unwrap_or(0),
            logical_block_len_bytes: number(&queue, "logical_block_size")
                .and_then(|bytes| u32::try_from(bytes).ok()),
            rotational: text(&queue, "rotational").is_some_and(|word| word == "1"),
            scheduler,
            partitions: partitions(&directory)?,
        })
    }
}

fn text(queue: &Path, name: &str) -> Option<String> {
    Some(fs::read_to_string(queue.join(name)).ok()?.trim().to_owned())
}

fn number(queue: &Path, name: &str) -> Option<u64> {
    text(queue, name)?.parse().ok()
}

/// Partitions are folders inside their disk's folder that have a file `partition`.
fn partitions(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path: PathBuf = entry?.path();
        if path.join("partition").exists() {
            names.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{BlockDevice, WriteCache};
    use std::fs;
    use std::path::Path;

    fn disk(at: &Path, write_cache: &str) {
        fs::create_dir_all(at.join("queue")).unwrap();
        for (name, value) in [
            ("write_cache", write_cache),
            ("fua", "1"),
            ("discard_max_bytes", "1073741824"),
            ("logical_block_size", "512"),
            ("rotational", "0"),
            ("scheduler", "none [mq-deadline] kyber"),
        ] {
            fs::write(at.join("queue").join(name), format!("{value}\n")).unwrap();
        }
    }

    #[test]
    fn a_disk_is_read_with_its_partitions() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join("nvme1n1");
        disk(&at, "write back");
        for name in ["nvme1n1p2", "nvme1n1p1"] {
            fs::create_dir(at.join(name)).unwrap();
            fs::write(at.join(name).join("partition"), "1\n").unwrap();
        }
        let device = BlockDevice::read(&at).unwrap();
        assert_eq!(
            device,
            BlockDevice {
                name: "nvme1n1".to_owned(),
                write_cache: Some(WriteCache::WriteBack),
                fua: true,
                discard_len_bytes_max: 1 << 30,
                logical_block_len_bytes: Some(512),
                rotational: false,
                scheduler: Some("mq-deadline".to_owned()),
                partitions: vec!["nvme1n1p1".to_owned(), "nvme1n1p2".to_owned()],
            }
        );
        // A partition has no queue of its own.
        let partition = BlockDevice::read(&at.join("nvme1n1p1")).unwrap();
        assert_eq!(partition.write_cache, Some(WriteCache::WriteBack));
        assert!(partition.partitions.is_empty());
    }

    #[test]
    fn what_the_kernel_does_not_say_is_unknown() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join("sda");
        disk(&at, "something new");
        fs::remove_file(at.join("queue/discard_max_bytes")).unwrap();
        let device = BlockDevice::read(&at).unwrap();
        assert_eq!(device.write_cache, None);
        assert_eq!(device.discard_len_bytes_max, 0);
        assert!(BlockDevice::read(&root.path().join("none")).is_err());
    }
}
