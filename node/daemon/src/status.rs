//! What a node says of itself, as JSON.

use serde::{Deserialize, Serialize};

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub node: u64,
    /// Its zone.
    pub zone: u8,
    /// The cluster.
    pub cluster: String,
    /// The program's version.
    pub version: String,
    /// Whether it serves.
    pub ready: bool,
    /// If not, why.
    pub not_ready_because: Vec<String>,
    /// Its drives.
    pub drives: Vec<DriveStatus>,
    /// Drives of its configuration that could not be opened at its start, and why: the node runs without them.
    pub drives_failed: Vec<String>,
    /// The other nodes as it sees them.
    pub peers: Vec<PeerStatus>,
    /// The Raft groups that it votes in.
    pub groups: Vec<GroupStatus>,
    /// Slabs of the groups that it leads.
    pub slabs: SlabCounts,
    /// Alarms since its start: damage that could not be mended.
    pub alarms: Vec<String>,
}

/// A drive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DriveStatus {
    /// Its id.
    pub drive: String,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Bytes of extents in use.
    pub bytes_allocated: u64,
    /// Bytes of rows, slices, headers and checksum tables in them.
    pub bytes_used: u64,
    /// Fragments.
    pub fragments: u64,
    /// Whether it takes new fragments.
    pub writable: bool,
    /// How often it was opened, or marked in between: an older image of it is told by this.
    pub incarnation: u32,
    /// Whether its word counts: `awaited` until the control group has compared the incarnation, then `admitted`, or `stale`; `replaced` where the
    /// device under it is another one now.
    pub standing: String,
    /// A write or flush failed since the node's start: it takes no new fragments.
    pub suspect: bool,
    /// Extents that are neither free nor in a fragment, since their headers cannot be read.
    pub extents_unknown: u32,
    /// Fragments that take nothing more since a write or flush of theirs failed.
    pub fragments_failed: u32,
    /// Fragments of which more may be here than can be told: nothing is said of them at a seal.
    pub fragments_unreadable: u32,
}

/// Another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its id.
    pub node: u64,
    /// Its zone.
    pub zone: u8,
    /// Whether it answers.
    pub up: bool,
}

/// A Raft group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupStatus {
    /// `control` or `group-N`.
    pub group: String,
    /// Whether this node leads it.
    pub leads: bool,
    /// The leader it knows.
    pub leader: Option<u64>,
    /// Raft's term.
    pub term: u64,
    /// The last entry in its log.
    pub last_log: u64,
    /// The last entry applied.
    pub applied: u64,
    /// The last entry in its snapshot.
    pub snapshot: u64,
}

/// Slabs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabCounts {
    /// Being written.
    pub open: u64,
    /// Being sealed.
    pub sealing: u64,
    /// Sealed and empty.
    pub empty: u64,
    /// Sealed, as copies.
    pub hot: u64,
    /// Erasure-coded.
    pub cold: u64,
    /// Sealed or cold, and not all fragments are there.
    pub deficit: u64,
    /// Bytes of images of hot slabs.
    pub hot_image_bytes: u64,
    /// Bytes of images of cold slabs.
    pub cold_image_bytes: u64,
    /// Fragments of superseded layouts that are still to be freed.
    pub to_free: u64,
}

impl std::ops::AddAssign for SlabCounts {
    fn add_assign(&mut self, other: Self) {
        self.open += other.open;
        self.sealing += other.sealing;
        self.empty += other.empty;
        self.hot += other.hot;
        self.cold += other.cold;
        self.deficit += other.deficit;
        self.hot_image_bytes += other.hot_image_bytes;
        self.cold_image_bytes += other.cold_image_bytes;
        self.to_free += other.to_free;
    }
}

/// A problem body (RFC 9457).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// In a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What to do.
    pub detail: String,
}
