//! Ids. Each is a newtype with a private field, so that no two of them can be mixed up, and none dereferences
//! to its number.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal, $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The id with this number.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number, for bytes on disk and wire.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, $format), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A cluster; drawn at random when it is made. A drive or peer of another cluster is refused by it.
    ClusterId(u128), "cluster-", "{:032x}"
);
id!(
    /// An availability zone.
    ZoneId(u8), "zone-", "{}"
);
id!(
    /// A node; never given to another one. What Raft knows it by is this and which life of its state it is (`strongroom_meta::RaftId`).
    NodeId(u64), "node-", "{}"
);
id!(
    /// A drive as it was formatted: a drive that was wiped and formatted again is another drive.
    DriveId(u128), "drive-", "{:032x}"
);
id!(
    /// One run of a node's process; drawn at random at start. A writer's slabs belong to its session.
    SessionId(u64), "session-", "{:016x}"
);
id!(
    /// A data group: one namespace shard and one slab-table shard under one Raft log.
    GroupId(u16), "group-", "{}"
);
id!(
    /// A bucket; never reused, also when a bucket of the same name is made again.
    BucketId(u64), "bucket-", "{}"
);
id!(
    /// One version of one object: chosen by its writer at random, written into the needle before the commit.
    /// Identifies; does not order.
    VersionId(u128), "", "{:032x}"
);
id!(
    /// Which fragment of a slab: `0..k` hold the image itself, `k..k+m` parity. For copies, which copy.
    FragmentIndex(u8), "f", "{}"
);
id!(
    /// Counts the sealing attempts of a slab. A holder refuses appends of an epoch below the one it knows.
    Epoch(u32), "epoch-", "{}"
);
id!(
    /// Counts the layouts of a slab: each convert or move makes the next one, by compare-and-set.
    Generation(u32), "generation-", "{}"
);
id!(
    /// Place of a row in its slab, from 0 without gaps.
    RowSequence(u32), "row-", "{}"
);

impl Epoch {
    /// The epoch that a slab is opened with.
    pub const FIRST: Self = Self(1);

    /// The epoch after this one.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a slab is sealed a few times, not 2^32"))
    }
}

impl Generation {
    /// The generation that a slab is opened with.
    pub const FIRST: Self = Self(1);

    /// The generation after this one.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a slab is moved a few times, not 2^32"))
    }
}

impl RowSequence {
    /// The first row of a slab.
    pub const FIRST: Self = Self(0);

    /// The row after this one.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("rows per slab are bounded far below 2^32"))
    }
}

/// A slab: the group whose table it is in (high 16 bits) and that group's count (low 48 bits). Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlabId(u64);

impl SlabId {
    const COUNT_BITS: u32 = 48;

    /// The slab with number `count` of `group`; `None` where the count does not fit in 48 bits.
    pub const fn new(group: GroupId, count: u64) -> Option<Self> {
        if count >> Self::COUNT_BITS != 0 {
            return None;
        }
        Some(Self((group.0 as u64) << Self::COUNT_BITS | count))
    }

    /// The slab with these 64 bits; every value names one.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64 bits, for bytes on disk and wire.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The group whose slab table knows this slab.
    pub const fn group(self) -> GroupId {
        GroupId((self.0 >> Self::COUNT_BITS) as u16)
    }
}

impl fmt::Display for SlabId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slab-{}.{}", self.group().0, self.0 & ((1 << Self::COUNT_BITS) - 1))
    }
}

impl fmt::Debug for SlabId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
