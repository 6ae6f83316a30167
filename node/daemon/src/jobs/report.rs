//! What a run leaves behind for the record.

use serde::{Deserialize, Serialize};
use strongroom_core::Margin;
use utoipa::ToSchema;

/// A run's report, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Report {
    /// Of a repair.
    Repair(RepairReport),
    /// Of a scrub.
    Scrub(ScrubReport),
    /// Of a compaction.
    Compact(CompactReport),
}

/// What a repair came to. It says `done` only after a linearizable look at the slab tables of all groups has found nothing below its full margin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepairReport {
    /// When the first look ended, and when the last did: RFC 3339, by this node's calendar.
    pub first_look: String,
    /// See `first_look`.
    pub last_look: String,
    /// Looks at all tables.
    pub looks: u64,
    /// Slabs at the last look.
    pub slabs: u64,
    /// Slabs that were below their full margin at the first look.
    pub slabs_below_first: u64,
    /// Those at the last look; none where the run is done.
    pub slabs_below_last: u64,
    /// Fragments that were lost and have another place or another layout now.
    pub fragments_made_again: u64,
    /// Bytes of them.
    pub bytes_made_again: u64,
    /// Fragments that were away, or counted as lost, and are there again as they were.
    pub fragments_back: u64,
    /// What sealed slabs survived at the first look.
    pub margins_first: MarginCounts,
    /// And at the last.
    pub margins_last: MarginCounts,
}

/// What a scrub came to: tours that began after it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScrubReport {
    /// When it began, and when it ended: RFC 3339, by this node's calendar.
    pub began: String,
    /// See `began`.
    pub ended: String,
    /// How long it took.
    pub seconds: f64,
    /// Drives that were verified from end to end.
    pub drives: u64,
    /// Drives whose devices were others before they were.
    pub drives_gone: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Fragments that were verified.
    pub fragments: u64,
    /// Of these, those that are not what was written.
    pub fragments_bad: u64,
    /// Blocks of theirs that do not match their checksums.
    pub blocks_corrupt: u64,
    /// Blocks that cannot be read.
    pub blocks_unreadable: u64,
    /// Fragments that could not be looked at: where there are any, not every byte was verified.
    pub fragments_passed_over: u64,
    /// Damaged fragments that the slab table does not count on now: they are made again, or were.
    pub fragments_told: u64,
    /// Damaged fragments of slabs that are still written: their sealer finds out.
    pub fragments_told_at_seal: u64,
    /// Damaged fragments that are whole again already.
    pub fragments_whole_again: u64,
}

/// What a compaction came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompactReport {
    /// Slabs that are dead now: what they took on drives is given back `slab.free_after_ms` later.
    pub slabs: u64,
    /// Needles that were copied out of them.
    pub needles: u64,
    /// Bytes of these.
    pub bytes: u64,
}

/// Sealed slabs by what they survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MarginCounts {
    /// They cannot be read now.
    pub lost: u64,
    /// Some single node's loss would end that they can be read.
    pub nothing: u64,
    /// Any one node may go.
    pub node: u64,
    /// Any one zone may go.
    pub zone: u64,
    /// Any one zone and one more node may go.
    pub zone_plus_one: u64,
}

impl MarginCounts {
    /// One more slab, or fragment, or byte, that survives this.
    pub fn add(&mut self, margin: Margin, count: u64) {
        *self.of_mut(margin) += count;
    }

    /// Each margin by its name, the lowest first.
    pub fn by_name(&self) -> [(&'static str, u64); 5] {
        [
            ("lost", self.lost),
            ("nothing", self.nothing),
            ("node", self.node),
            ("zone", self.zone),
            ("zone_plus_one", self.zone_plus_one),
        ]
    }

    fn of_mut(&mut self, margin: Margin) -> &mut u64 {
        match margin {
            Margin::Lost => &mut self.lost,
            Margin::Nothing => &mut self.nothing,
            Margin::Node => &mut self.node,
            Margin::Zone => &mut self.zone,
            Margin::ZonePlusOne => &mut self.zone_plus_one,
        }
    }
}

impl std::ops::AddAssign for MarginCounts {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.nothing += other.nothing;
        self.node += other.node;
        self.zone += other.zone;
        self.zone_plus_one += other.zone_plus_one;
    }
}
