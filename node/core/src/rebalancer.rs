//! Which fragment is moved next, so that a slab's fragments are on distinct nodes and no drive is much emptier than the others of its zone.
//!
//! Looked at again and again by whoever leads a group, with the slabs of that group and what drives say of themselves; each look proposes one move at most.
//! First, of a slab that has two fragments on one node one goes to a node of the zone that has none. Then, a drive that is much emptier than its zone's average
//! gets fragments from fuller ones, until it is not. Only whole cold fragments move, within their zone, and never so that the slab survives less.
//!
//! It comes to rest: a move of the first kind leaves fewer fragments that share a node, and none makes more; one of the second kind leaves the giving drive at
//! least as full as the taking one, so the sum of (used bytes)² / (all bytes) falls. A drive that gets anything gets it until it lacks half as much as began it,
//! and no more. A fragment that was moved takes room twice until the old one is given back: that is counted as done.
//!
//! Leaders of other groups do the same at the same time, and what they have moved is seen only as drives report it. How a move is done is [`crate::mover`]'s.

use crate::fragment_set::FragmentSet;
use crate::limits::{
    DRIVE_FULL_PREFERRED_PERCENT_MAX, REBALANCE_BEGIN_BASIS_POINTS, REBALANCE_END_BASIS_POINTS,
    REBALANCE_RECENT_MAX,
};
use crate::mover::{Move, fragment_len_bytes, leaving};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use strongroom_format::extent::FragmentGeometry;
use strongroom_types::{
    ClusterView, DriveId, DriveView, FragmentIndex, Health, Holder, Instant, NodeId, SlabRecord, ZoneId,
};

const WHOLE_BASIS_POINTS: u64 = 10_000;

/// What a leader remembers from look to look.
#[derive(Debug, Default)]
pub struct Rebalancer {
    /// Drives that lacked so much that they get fragments until they lack little.
    filling: BTreeSet<DriveId>,
    /// Moves whose old fragment may still take room.
    recent: VecDeque<Recent>,
}

#[derive(Debug)]
struct Recent {
    from: DriveId,
    len_bytes: u64,
    until: Instant,
}

/// A drive that may give and take.
#[derive(Clone, Copy, Debug)]
struct Drive {
    zone: ZoneId,
    holder: Holder,
    view: DriveView,
    total_bytes: u64,
    used_bytes: u64,
}

impl Drive {
    fn fill(&self) -> u64 {
        basis_points(self.used_bytes, self.total_bytes)
    }

    /// Bytes that a fragment takes here, whole extents; `None` where that cannot be said.
    fn taken_by(&self, fragment_len_bytes: u64) -> Option<u64> {
        let geometry = FragmentGeometry::for_extent_len(self.view.extent_len_bytes).ok()?;
        let extents = u64::from(geometry.extents_for(fragment_len_bytes));
        Some(extents * u64::from(self.view.extent_len_bytes))
    }

    /// Whether it takes so much and stays one that placement likes to choose.
    fn has_room(&self, len_bytes: u64) -> bool {
        let free_bytes = u64::from(self.view.extents_free) * u64::from(self.view.extent_len_bytes);
        let after = self.total_bytes - free_bytes.min(self.total_bytes) + len_bytes;
        len_bytes <= free_bytes
            && after * 100 <= self.total_bytes * u64::from(DRIVE_FULL_PREFERRED_PERCENT_MAX)
    }
}

fn basis_points(part: u64, whole: u64) -> u64 {
    (u128::from(part) * u128::from(WHOLE_BASIS_POINTS) / u128::from(whole.max(1))) as u64
}

/// The lower goes first.
type Rank = (Kind, Reverse<u64>, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    NodeShared,
    Fuller,
}

/// One look at the slabs of a leader's groups.
#[derive(Debug)]
pub struct Look {
    drives: BTreeMap<DriveId, Drive>,
    /// Drives that get fragments, by zone.
    filling: BTreeMap<ZoneId, Vec<DriveId>>,
    mean: BTreeMap<ZoneId, u64>,
    best: Option<(Rank, Move)>,
}

impl Rebalancer {
    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a look at the cluster as it is now.
    pub fn begin(&mut self, view: &ClusterView, now: Instant) -> Look {
        self.recent.retain(|recent| recent.until > now);
        let mut drives = drives_of(view);
        for recent in &self.recent {
            if let Some(drive) = drives.get_mut(&recent.from) {
                drive.used_bytes = drive.used_bytes.saturating_sub(recent.len_bytes);
            }
        }
        let mut sums: BTreeMap<ZoneId, (u64, u64)> = BTreeMap::new();
        for drive in drives.values() {
            let (used, total) = sums.entry(drive.zone).or_default();
            (*used, *total) = (*used + drive.used_bytes, *total + drive.total_bytes);
        }
        let mean: BTreeMap<ZoneId, u64> =
            sums.into_iter().map(|(zone, (used, total))| (zone, basis_points(used, total))).collect();
        let lacks = |drive: &Drive| mean[&drive.zone].saturating_sub(drive.fill());
        self.filling
            .retain(|drive| drives.get(drive).is_some_and(|drive| lacks(drive) > REBALANCE_END_BASIS_POINTS));
        let begin = drives.values().filter(|drive| lacks(drive) > REBALANCE_BEGIN_BASIS_POINTS);
        self.filling.extend(begin.map(|drive| drive.holder.drive));
        let mut filling: BTreeMap<ZoneId, Vec<DriveId>> = BTreeMap::new();
        if self.recent.len() < REBALANCE_RECENT_MAX {
            for drive in &self.filling {
                filling.entry(drives[drive].zone).or_default().push(*drive);
            }
        }
        Look { drives, filling, mean, best: None }
    }

    /// A move was committed; what it left takes room until about `grace` is over.
    pub fn moved(
        &mut self,
        one: &Move,
        record: &SlabRecord,
        view: &ClusterView,
        now: Instant,
        grace: Duration,
    ) {
        let drive = drives_of(view).remove(&one.from.drive);
        let len_bytes = drive.zip(fragment_len_bytes(record)).and_then(|(drive, len)| drive.taken_by(len));
        if let Some(len_bytes) = len_bytes.filter(|_| self.recent.len() < REBALANCE_RECENT_MAX) {
            self.recent.push_back(Recent { from: one.from.drive, len_bytes, until: now.after(grace) });
        }
    }
}

/// The drives that answer, take fragments and are not to be emptied.
fn drives_of(view: &ClusterView) -> BTreeMap<DriveId, Drive> {
    let up = view.nodes.iter().filter(|node| node.health == Health::Up && !node.leaving);
    let drives = up.flat_map(|node| node.drives.iter().map(move |drive| (node, drive)));
    let usable = drives.filter(|(_, drive)| drive.writable && !drive.leaving && drive.extents_total > 0);
    let usable = usable.map(|(node, drive)| {
        let bytes = |extents: u32| u64::from(extents) * u64::from(drive.extent_len_bytes);
        let one = Drive {
            zone: node.zone,
            holder: Holder { node: node.node, drive: drive.drive },
            view: *drive,
            total_bytes: bytes(drive.extents_total),
            used_bytes: bytes(drive.extents_total.saturating_sub(drive.extents_free)),
        };
        (drive.drive, one)
    });
    usable.collect()
}

impl Look {
    /// Looks at a slab, of which `lost` fragments do not count now. One of which any is lost, away or to leave is left to others.
    pub fn consider(&mut self, record: &SlabRecord, lost: FragmentSet, view: &ClusterView) {
        let Some(len_bytes) = fragment_len_bytes(record) else { return };
        let is_there = |holder: &Holder| view.node(holder.node).is_some_and(|node| node.health == Health::Up);
        let is_calm = lost.is_empty() && record.sealed().is_some_and(|sealed| sealed.missing == 0);
        if !is_calm || !record.holders.iter().all(is_there) || !leaving(record, view).is_empty() {
            return;
        }
        for (index, holder) in (0..).zip(&record.holders) {
            let fragment = FragmentIndex::new(index);
            let (node, Some(zone)) = (holder.node, view.zone_of(holder.node)) else { continue };
            if count_on(record, node) > 1 {
                self.consider_apart(record, fragment, *holder, zone, len_bytes);
            }
            self.consider_fuller(record, fragment, *holder, zone, len_bytes);
        }
    }

    /// To the emptiest drive of a node that has nothing of the slab.
    fn consider_apart(
        &mut self,
        record: &SlabRecord,
        fragment: FragmentIndex,
        from: Holder,
        zone: ZoneId,
        len_bytes: u64,
    ) {
        let is_free = |drive: &&Drive| {
            drive.zone == zone
                && count_on(record, drive.holder.node) == 0
                && drive.taken_by(len_bytes).is_some_and(|len_bytes| drive.has_room(len_bytes))
        };
        let emptiest = self.drives.values().filter(is_free).min_by_key(|drive| drive.fill());
        let Some((to, fill)) = emptiest.map(|drive| (drive.holder, drive.fill())) else { return };
        let fuller = self.drives.get(&from.drive).map_or(0, Drive::fill);
        self.propose((Kind::NodeShared, Reverse(fuller), fill), record, fragment, from, to);
    }

    /// To a drive that is much emptier than the zone's average, from one that is fuller than that.
    fn consider_fuller(
        &mut self,
        record: &SlabRecord,
        fragment: FragmentIndex,
        from: Holder,
        zone: ZoneId,
        len_bytes: u64,
    ) {
        let Some(giving) = self.drives.get(&from.drive).copied() else { return };
        if self.mean.get(&zone).is_none_or(|mean| giving.fill() <= *mean) {
            return;
        }
        let Some(given) = giving.taken_by(len_bytes) else { return };
        for drive in self.filling.get(&zone).cloned().unwrap_or_default() {
            let taking = self.drives[&drive];
            let Some(taken) = taking.taken_by(len_bytes) else { continue };
            let others = count_on(record, taking.holder.node) - usize::from(taking.holder.node == from.node);
            let is_distinct = others == 0 || taking.holder.node == from.node;
            let is_other_drive = record.holders.iter().all(|holder| holder.drive != drive);
            let left = basis_points(giving.used_bytes.saturating_sub(given), giving.total_bytes);
            let reached = basis_points(taking.used_bytes + taken, taking.total_bytes);
            if is_distinct && is_other_drive && left > reached && taking.has_room(taken) {
                let rank = (Kind::Fuller, Reverse(giving.fill()), taking.fill());
                self.propose(rank, record, fragment, from, taking.holder);
            }
        }
    }

    fn propose(
        &mut self,
        rank: Rank,
        record: &SlabRecord,
        fragment: FragmentIndex,
        from: Holder,
        to: Holder,
    ) {
        if self.best.as_ref().is_none_or(|(best, _)| rank < *best) {
            self.best = Some((rank, Move { slab: record.slab, fragment, from, to }));
        }
    }

    /// What to move next.
    pub fn end(self) -> Option<Move> {
        self.best.map(|(_, one)| one)
    }
}

fn count_on(record: &SlabRecord, node: NodeId) -> usize {
    record.holders.iter().filter(|holder| holder.node == node).count()
}

#[cfg(test)]
mod tests;
