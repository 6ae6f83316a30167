//! What a node says of itself, as JSON.

use crate::jobs::{JobState, MarginCounts};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
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
    /// Its jobs by state; `GET /v1/jobs` lists them.
    pub jobs: BTreeMap<JobState, u64>,
    /// Alarms since its start: damage that could not be mended.
    pub alarms: Vec<String>,
}

/// A drive.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
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
    /// Extents that were taken out of use, since blocks of them could not be read.
    pub extents_retired: u32,
    /// Its scrub.
    pub scrub: ScrubStatus,
    /// Fragments that take nothing more since a write or flush of theirs failed.
    pub fragments_failed: u32,
    /// Fragments of which more may be here than can be told: nothing is said of them at a seal.
    pub fragments_unreadable: u32,
}

/// How far a drive was verified.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ScrubStatus {
    /// Every byte on the drive was written, or read and looked at, since then, in ms since 1970; none before the first tour of a drive that was not new.
    pub verified_since_unix_ms: Option<u64>,
    /// When the tour under way began, in ms since 1970.
    pub tour_began_unix_ms: Option<u64>,
    /// Bytes that the tour reads.
    pub bytes_total: u64,
    /// Of these, bytes that it has not come to.
    pub bytes_left: u64,
    /// Tours that ended in this run.
    pub tours_ended: u64,
    /// Bytes that were read in this run.
    pub bytes_verified: u64,
    /// Fragments found not to be whole in this run.
    pub fragments_bad: u64,
    /// Blocks that did not match their checksums in this run.
    pub blocks_corrupt: u64,
    /// Blocks that could not be read in this run.
    pub blocks_unreadable: u64,
    /// Fragments that could not be looked at in this run.
    pub fragments_passed_over: u64,
}

/// Another node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PeerStatus {
    /// Its id.
    pub node: u64,
    /// Its zone.
    pub zone: u8,
    /// Whether it answers.
    pub up: bool,
}

/// A Raft group.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupStatus {
    /// `control` or `group-N`.
    pub group: String,
    /// Who votes in it, by the membership that this node knows.
    #[serde(default)]
    pub voters: Vec<u64>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// Of these, those that cannot be read now.
    pub lost: u64,
    /// Bytes of images of hot slabs.
    pub hot_image_bytes: u64,
    /// Bytes of images of cold slabs.
    pub cold_image_bytes: u64,
    /// Fragments of superseded layouts that are still to be freed.
    pub to_free: u64,
    /// Slabs that are being compacted.
    pub compacting: u64,
    /// Dead, and not forgotten yet.
    pub dead: u64,
    /// Cold slabs of which fragments are on drives that are to be emptied.
    #[serde(default)]
    pub leaving: u64,
    /// Moves for the sake of balance: one while this node's last look found any to be worth it, or is still to come after the last.
    #[serde(default)]
    pub balancing: u64,
    /// Bytes of sealed images that versions had when the groups were last asked: a hint.
    pub alive_bytes: u64,
    /// Those with rows that are sealed, by what they survive as things are: what is away does not count.
    pub margins: MarginCounts,
}

impl std::ops::AddAssign for SlabCounts {
    fn add_assign(&mut self, other: Self) {
        self.open += other.open;
        self.sealing += other.sealing;
        self.empty += other.empty;
        self.hot += other.hot;
        self.cold += other.cold;
        self.deficit += other.deficit;
        self.lost += other.lost;
        self.hot_image_bytes += other.hot_image_bytes;
        self.cold_image_bytes += other.cold_image_bytes;
        self.to_free += other.to_free;
        self.compacting += other.compacting;
        self.dead += other.dead;
        self.leaving += other.leaving;
        self.balancing += other.balancing;
        self.alive_bytes += other.alive_bytes;
        self.margins += other.margins;
    }
}

/// The cluster, as asked from the slab tables of all groups and seen by the node that answers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// Its id.
    pub cluster: String,
    /// The node that answers.
    pub seen_by: u64,
    /// Its zones.
    pub zones: Vec<ZoneStatus>,
    /// Its groups: the control group first.
    pub groups: Vec<GroupView>,
    /// Its slabs; none where not all tables answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slabs: Option<SlabSurvey>,
    /// Why it is not known what its slabs are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slabs_unknown_because: Option<String>,
}

/// A zone.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ZoneStatus {
    /// Its id.
    pub zone: u8,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
}

/// A node, as another sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its id.
    pub node: u64,
    /// Whether it answers.
    pub up: bool,
    /// Whether it has been silent for so long that what it holds is made again elsewhere.
    pub given_up: bool,
    /// Its drives, as it told them last.
    pub drives: Vec<DriveSummary>,
}

/// A drive, as another node sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DriveSummary {
    /// Its id.
    pub drive: String,
    /// Bytes of its extents.
    pub bytes_total: u64,
    /// Bytes of those in use.
    pub bytes_allocated: u64,
    /// Whether it takes new fragments.
    pub writable: bool,
}

/// A group, as far as the node that answers knows.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupView {
    /// `control` or `group-N`.
    pub group: String,
    /// Whether this node votes in it: of the others it knows no leader.
    pub votes: bool,
    /// The leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<u64>,
}

/// All slabs, as one look at the tables of all groups has found them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlabSurvey {
    /// When the look ended: RFC 3339, by the answering node's calendar. A look serves for a few seconds.
    pub at: String,
    /// How many, by state and by what they survive.
    pub counts: SlabCounts,
    /// Bytes of images of sealed ones by what they survive.
    pub image_bytes: MarginCounts,
    /// Fragments that are lost: damaged, or their drive or node is gone.
    pub fragments_lost: u64,
    /// Fragments that may come back: their node is silent, and not for long.
    pub fragments_away: u64,
}
