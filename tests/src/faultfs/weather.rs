//! What goes wrong on a volume, and the account of what did.

use super::content::Tear;
use serde::{Deserialize, Serialize};

/// Faults of a volume, until the next weather. Rates are in a million. All zeros: nothing goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weather {
    /// Reads that fail with EIO.
    pub read_error_per_million: u32,
    /// Writes that fail with EIO; half of these were done all the same.
    pub write_error_per_million: u32,
    /// Flushes that fail with EIO. What they should have covered is covered by no later one.
    pub flush_error_per_million: u32,
    /// Writes that report success and leave no trace.
    pub lost_write_per_million: u32,
    /// Writes that go to another place of the file.
    pub misdirected_write_per_million: u32,
    /// Bits that flip while bytes are read (on the way, not on media).
    pub read_flip_per_million: u32,
    /// Operations that take longer.
    pub slow_per_million: u32,
    /// How long, at most.
    pub slow_ms_max: u32,
    /// Flushes report success and make nothing durable. A later, honest one does.
    pub flush_lies: bool,
    /// Nothing is answered before the weather changes, or power is cut.
    pub hangs: bool,
    /// Writes fail with ENOSPC.
    pub full: bool,
    /// Everything fails with EIO.
    pub dead: bool,
}

/// How power cuts tear, and how large a volume says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nature {
    /// The unit of writing.
    pub tear: Tear,
    /// Bytes in all; what `statfs` says, and where writes fail with ENOSPC.
    pub len_bytes_max: u64,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was done on a volume, or on all.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl std::ops::AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counts! {
    /// Reads.
    reads,
    /// Writes.
    writes,
    /// Flushes of files and folders.
    flushes,
    /// Bytes read.
    read_bytes,
    /// Bytes written.
    written_bytes,
    /// Changes of folders and lengths.
    changes,
    /// Reads that failed.
    read_errors,
    /// Reads that failed because a block was unreadable.
    unreadable_reads,
    /// Writes that failed.
    write_errors,
    /// Flushes that failed.
    flush_errors,
    /// Flushes that lied.
    flush_lies,
    /// Writes lost.
    lost_writes,
    /// Writes that went elsewhere.
    misdirected_writes,
    /// Reads with a flipped bit.
    read_flips,
    /// Bits flipped on media.
    rotten_bits,
    /// Blocks made unreadable.
    unreadable_blocks,
    /// Operations held back.
    slow_operations,
    /// Writes refused for want of space.
    full_writes,
    /// Power cuts.
    power_cuts,
    /// Sectors that a power cut kept as they were written last.
    sectors_kept,
    /// Sectors that a power cut took back.
    sectors_dropped,
    /// Changes of folders and lengths that a power cut took back.
    changes_dropped,
    /// Operations of processes that had a file open when power was cut.
    stale_operations,
    /// Times that a volume came back blank.
    blanks,
    /// Times that a volume came back as of an earlier time.
    rollbacks,
}
