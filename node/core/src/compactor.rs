//! Which slabs are worth compacting, and in which order: what versions still have in them is copied elsewhere, and the slab is killed.
//!
//! Decided from sums that may be old: a wrong one costs a copy too many, never a byte, since nobody kills a slab for them. What is compared is the image with
//! what the copies will take, the blocks that rows are padded to included: so what was just written by a compaction is never worth another one, however small its
//! needles are, and images only become shorter from one to the next. How far a compaction has come, and what may go wrong in it, is its shell's.
//!
//! Slabs in which everything is alive may waste space as well: a quiet writer leaves images of a few mails, and each fragment takes a whole extent. So where several of
//! a group would together take a quarter of the extents ([`crowd`]), they are copied into one. What comes of that takes part again only where it would be a quarter at
//! most of the next: each byte is copied as often as the logarithm of what fills an extent says, and a crowd that was merged is none.

use crate::limits::{
    COMPACT_BATCH_LEN_BYTES, COMPACT_BATCH_NEEDLES_MAX, COMPACT_BATCH_ROWS, COMPACT_NOW_PERCENT_MAX,
    COMPACT_PERCENT_MAX, COMPACT_TIGHT_PERCENT_MAX, CROWD_PARTS, CROWD_TIGHT_PARTS, DRIVE_FULL_PERCENT_MAX,
    SPACE_TIGHT_PERCENT_MIN,
};
use strongroom_format::extent::FragmentGeometry;
use strongroom_types::limits::ZONES_MAX;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{ClusterView, Health, Profile};

/// What versions have in a slab, by the sums of all groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alive {
    /// Bytes of their needles.
    pub bytes: u64,
    /// How many needles these are.
    pub needles: u64,
}

impl Alive {
    /// With what another group has.
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            needles: self.needles.saturating_add(other.needles),
        }
    }
}

/// A sealed slab with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Bytes of its image.
    pub len_bytes: u32,
    /// How it is spread.
    pub profile: Profile,
    /// What versions have in it.
    pub alive: Alive,
    /// It has been sealed for so long that what is soon deleted again has been.
    pub is_cool: bool,
}

/// How much must be gained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// There is room enough: half of a slab that is cool.
    Usual,
    /// Drives are filling: less is worth it, at once, but nothing that would fill them further, be it for a while.
    Tight,
    /// Somebody asked for it: whatever has any garbage worth the name, at once.
    Now,
}

/// What a compaction leaves, in thousandths of the image. The lowest goes first: it gives the most for the least copying. 0 is a slab in which nothing is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(u32);

impl Rank {
    /// Nothing has to be copied.
    pub const NOTHING_ALIVE: Self = Self(0);
    /// All of it has to be copied, behind whatever gives bytes back.
    pub const CROWDED: Self = Self(1001);
}

/// Bytes of image that copies of these needles take: those of the needles, and a block for each row that they begin. The first rows of a batch go out with
/// what is there, the others wait and are full.
pub fn copy_len_bytes(alive: Alive) -> u64 {
    let batches = alive.bytes.div_ceil(COMPACT_BATCH_LEN_BYTES);
    let batches = batches.max(alive.needles.div_ceil(COMPACT_BATCH_NEEDLES_MAX as u64));
    let rows = alive.needles.min(batches.saturating_mul(COMPACT_BATCH_ROWS));
    alive.bytes.saturating_add(rows.saturating_mul(u64::from(BLOCK_LEN_BYTES)))
}

/// What a compaction would leave of this slab; `None` where it is not worth it now.
pub fn rank(candidate: &Candidate, need: Need) -> Option<Rank> {
    let Candidate { len_bytes, profile, alive, is_cool } = *candidate;
    if alive.needles == 0 {
        return Some(Rank::NOTHING_ALIVE);
    }
    let (copy, len) = (copy_len_bytes(alive), u64::from(len_bytes));
    let is_below = |percent: u64| copy.saturating_mul(100) <= len.saturating_mul(percent);
    let is_worth = match need {
        Need::Usual => is_cool && is_below(COMPACT_PERCENT_MAX),
        // The copies of the copies are there before the slab is gone, and become cold after it.
        Need::Tight => is_below(COMPACT_TIGHT_PERCENT_MAX) && is_below(emptier_below_percent(profile)),
        Need::Now => is_below(COMPACT_NOW_PERCENT_MAX),
    };
    let permille = copy.saturating_mul(1000) / len.max(1);
    is_worth.then(|| Rank(u32::try_from(permille).unwrap_or(u32::MAX).max(1)))
}

/// Those of a group's slabs whose fragments are mostly air, where together they would take few enough of the extents that they take now; else none.
/// All of them are copied by one node, one after the other, and so come to lie in one slab.
pub fn crowd<Id: Copy>(candidates: &[(Id, Candidate)], need: Need, geometry: &FragmentGeometry) -> Vec<Id> {
    let parts = match need {
        Need::Usual => CROWD_PARTS,
        Need::Tight | Need::Now => CROWD_TIGHT_PARTS,
    };
    let is_due = |candidate: &Candidate| candidate.is_cool || need != Need::Usual;
    let is_airy = |candidate: &Candidate| {
        let Candidate { profile, alive, .. } = *candidate;
        let (fragments, data) = (u64::from(profile.fragment_count()), u64::from(profile.data_count()));
        let filled = copy_len_bytes(alive).div_ceil(data).saturating_mul(fragments);
        alive.needles > 0
            && filled.saturating_mul(parts) <= taken_bytes(candidate.len_bytes.into(), profile, geometry)
    };
    let airy: Vec<&(Id, Candidate)> =
        candidates.iter().filter(|(_, candidate)| is_due(candidate) && is_airy(candidate)).collect();
    let taken = airy.iter().map(|(_, Candidate { len_bytes, profile, .. })| {
        taken_bytes((*len_bytes).into(), *profile, geometry)
    });
    let copies: u64 = airy.iter().map(|(_, candidate)| copy_len_bytes(candidate.alive)).sum();
    let together = airy.iter().map(|(_, candidate)| taken_bytes(copies, candidate.profile, geometry)).max();
    match together {
        Some(together) if airy.len() > 1 && together.saturating_mul(parts) <= taken.sum() => {
            airy.iter().map(|(id, _)| *id).collect()
        }
        Some(_) | None => Vec::new(),
    }
}

/// Bytes of the extents that an image of this length takes.
fn taken_bytes(len_bytes: u64, profile: Profile, geometry: &FragmentGeometry) -> u64 {
    let extents = geometry.extents_for(len_bytes.div_ceil(u64::from(profile.data_count())));
    u64::from(profile.fragment_count()) * u64::from(extents) * u64::from(geometry.extent_len_bytes())
}

/// Copies of an image below this part of a slab's take less than the slab does, all their fragments counted.
fn emptier_below_percent(profile: Profile) -> u64 {
    let (fragments, data) = (u64::from(profile.fragment_count()), u64::from(profile.data_count()));
    100 * fragments / (data * COPIES)
}

/// Copies of a new slab, as placement makes them in three zones.
const COPIES: u64 = 3;

/// The room on drives that answer, by zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    zones: heapless::Vec<Zone, ZONES_MAX>,
    extent_len_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Zone {
    total_bytes: u64,
    free_bytes: u64,
}

impl Space {
    /// As the view has it.
    pub fn of(view: &ClusterView) -> Self {
        let mut space = Self::default();
        for zone in view.zones().into_iter().take(ZONES_MAX) {
            let nodes = view.nodes.iter().filter(|node| node.zone == zone && node.health == Health::Up);
            let drives = nodes.flat_map(|node| &node.drives).filter(|drive| drive.writable);
            let mut sum = Zone { total_bytes: 0, free_bytes: 0 };
            for drive in drives {
                sum.total_bytes += u64::from(drive.extents_total) * u64::from(drive.extent_len_bytes);
                sum.free_bytes += u64::from(drive.extents_free) * u64::from(drive.extent_len_bytes);
                space.extent_len_bytes = space.extent_len_bytes.max(drive.extent_len_bytes);
            }
            if sum.total_bytes > 0 {
                space.zones.push(sum).expect("as many as were taken");
            }
        }
        space
    }

    /// How fragments lie on the drives with the longest extents; `None` where no drive answers.
    pub fn geometry(&self) -> Option<FragmentGeometry> {
        FragmentGeometry::for_extent_len(self.extent_len_bytes).ok()
    }

    /// Whether some zone's drives are filling.
    pub fn is_tight(&self) -> bool {
        let used = |zone: &Zone| zone.total_bytes.saturating_sub(zone.free_bytes);
        self.zones.iter().any(|zone| used(zone) * 100 >= zone.total_bytes * SPACE_TIGHT_PERCENT_MIN)
    }

    /// Whether copies of this length find room in two zones, and leave there what placement keeps free. With less, a compaction would take the last room, and
    /// stand still before it gives any back.
    pub fn takes(&self, len_bytes: u64) -> bool {
        let kept = |zone: &Zone| zone.total_bytes / 100 * u64::from(100 - DRIVE_FULL_PERCENT_MAX);
        let takes = |zone: &&Zone| zone.free_bytes >= len_bytes.saturating_add(kept(zone));
        self.zones.iter().filter(takes).count() >= 2
    }
}

#[cfg(test)]
mod tests;
