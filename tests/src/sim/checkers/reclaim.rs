//! Whether what is garbage was given back, once a run is quiet, and whether the tables that say so are right.
//!
//! - What the groups say that versions have in slabs is what the versions say: each needle once, at its place, with its owner; and the sums are those.
//! - No slab is left that is worth compacting: in which nothing is alive, or whose copies would take half of it, or less than that where drives are filling. So
//!   images are in proportion to what is alive, which is asked for by other arithmetic than the node's. And no slabs of a group are left that are mostly air and would
//!   take much less space as one.
//! - No dead slab is left in the tables: its holders have freed it, and it is forgotten.
//!
//! Not checked: what was alive before; garbage in slabs that are open; whether a slab that could not be compacted for want of room would have been worth it.

use super::Violation;
use super::layout::Facts;
use std::collections::BTreeMap;
use strongroom_core::compactor::{self, Alive, Candidate, Need, Rank, Space};
use strongroom_meta::group::{Pointer, Usage};
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{
    ClusterView, DriveView, GroupId, Health, Locator, NodeView, SlabId, SlabRecord, SlabState, VersionId,
};

const POINTERS: &str = "pointers: they are the versions read backwards";
const SUMS: &str = "pointers: sums are those of the pointers";
const PROPORTION: &str = "space: images are in proportion to what is alive";
const FORGOTTEN: &str = "space: dead slabs are forgotten";

/// What groups say of slabs.
#[derive(Clone, Debug, Default)]
pub struct Backwards {
    /// Every needle of every version, by the group that says so.
    pub pointers: Vec<(GroupId, Pointer)>,
    /// How much that is.
    pub usages: BTreeMap<(GroupId, SlabId), Usage>,
}

impl Backwards {
    /// What is alive in each slab, by the sums.
    pub fn alive(&self) -> BTreeMap<SlabId, Alive> {
        let mut alive: BTreeMap<SlabId, Alive> = BTreeMap::new();
        for ((_, slab), usage) in &self.usages {
            let of_group = Alive { bytes: usage.alive_bytes, needles: usage.needles.into() };
            let sum = alive.entry(*slab).or_default();
            *sum = sum.plus(of_group);
        }
        alive
    }
}

/// The slabs that are not left as they are, and why: they are dead and to be forgotten, or worth compacting, alone or with others of their group.
pub fn left(
    facts: &Facts,
    slabs: &BTreeMap<SlabId, SlabRecord>,
    alive: &BTreeMap<SlabId, Alive>,
) -> Vec<(SlabId, &'static str)> {
    let dead = slabs.values().filter(|record| record.state == SlabState::Dead);
    let mut left: Vec<_> = dead.map(|record| (record.slab, "a dead slab is not forgotten")).collect();
    let space = Space::of(&view(facts));
    let need = if space.is_tight() { Need::Tight } else { Need::Usual };
    let mut by_group: BTreeMap<GroupId, Vec<(SlabId, Candidate)>> = BTreeMap::new();
    for record in slabs.values() {
        let Some(sealed) = record.sealed().filter(|sealed| sealed.rows > 0) else { continue };
        let alive = alive.get(&record.slab).copied().unwrap_or_default();
        let (len_bytes, profile) = (sealed.len_bytes, record.profile);
        let candidate = Candidate { len_bytes, profile, alive, is_cool: true };
        by_group.entry(record.slab.group()).or_default().push((record.slab, candidate));
    }
    for candidates in by_group.values() {
        let geometry = space.geometry();
        let crowd =
            geometry.map(|geometry| compactor::crowd(candidates, need, &geometry)).unwrap_or_default();
        left.extend(candidates.iter().filter_map(|(slab, candidate)| {
            let rank = compactor::rank(candidate, need);
            let has_room =
                rank == Some(Rank::NOTHING_ALIVE) || space.takes(compactor::copy_len_bytes(candidate.alive));
            match rank {
                Some(_) => has_room.then_some((*slab, "a slab is worth compacting")),
                None => (has_room && crowd.contains(slab))
                    .then_some((*slab, "a slab is worth copying together with others")),
            }
        }));
    }
    left
}

/// The cluster as a leader sees it with every node up.
pub(super) fn view(facts: &Facts) -> ClusterView {
    let nodes = facts.zones.iter().map(|(node, zone)| {
        let own = facts.drives.iter().filter(|(of, _)| of == node);
        let drives = own.map(|(_, state)| DriveView {
            drive: state.drive,
            extents_total: state.extents_total,
            extents_free: state.extents_free,
            extent_len_bytes: state.extent_len_bytes,
            writable: state.writable,
            leaving: facts.is_leaving(*node, state.drive),
        });
        NodeView {
            node: *node,
            zone: *zone,
            health: Health::Up,
            may_hold_data: true,
            given_up: false,
            leaving: false,
            drives: drives.collect(),
        }
    });
    ClusterView { nodes: nodes.collect(), ..ClusterView::default() }
}

/// Checks everything, where the groups were asked.
pub fn check(facts: &Facts) -> Vec<Violation> {
    let mut violations = Vec::new();
    if let Some(backwards) = &facts.backwards {
        check_pointers(facts, backwards, &mut violations);
        check_sums(backwards, &mut violations);
        check_proportion(facts, backwards, &mut violations);
    }
    violations
}

fn check_pointers(facts: &Facts, backwards: &Backwards, violations: &mut Vec<Violation>) {
    let mut expected: BTreeMap<(SlabId, u32), (&str, VersionId, u32, &Locator)> = BTreeMap::new();
    for (name, version, locators) in &facts.versions {
        for (piece, locator) in (0..).zip(locators) {
            expected.insert((locator.slab, locator.offset_bytes), (name, *version, piece, locator));
        }
    }
    for (group, pointer) in &backwards.pointers {
        let Pointer { key, version, piece, locator, .. } = pointer;
        let is_same = |(name, of, at, place): (&str, VersionId, u32, &Locator)| {
            let key = format!("/{}", key.as_str());
            (of, at, place) == (*version, *piece, locator) && name.ends_with(&key)
        };
        let found = expected.remove(&(locator.slab, locator.offset_bytes));
        if !found.is_some_and(is_same) {
            let found = format!("{group} has {pointer:?}, versions have {found:?}");
            violations.push(Violation { rule: POINTERS, found });
        }
    }
    for missed in expected.values() {
        violations.push(Violation { rule: POINTERS, found: format!("no group has {missed:?}") });
    }
}

fn check_sums(backwards: &Backwards, violations: &mut Vec<Violation>) {
    let mut sums: BTreeMap<(GroupId, SlabId), (u64, u32)> = BTreeMap::new();
    for (group, pointer) in &backwards.pointers {
        let sum = sums.entry((*group, pointer.locator.slab)).or_default();
        *sum = (sum.0 + u64::from(pointer.locator.len_bytes), sum.1 + 1);
    }
    for (place, usage) in &backwards.usages {
        let sum = sums.remove(place).unwrap_or_default();
        if (usage.alive_bytes, usage.needles) != sum {
            violations.push(Violation { rule: SUMS, found: format!("{place:?}: {usage:?}, not {sum:?}") });
        }
    }
    for (place, sum) in sums {
        violations.push(Violation { rule: SUMS, found: format!("{place:?}: none, not {sum:?}") });
    }
}

fn check_proportion(facts: &Facts, backwards: &Backwards, violations: &mut Vec<Violation>) {
    let alive = backwards.alive();
    for record in facts.slabs.values() {
        if record.state == SlabState::Dead {
            violations.push(Violation { rule: FORGOTTEN, found: format!("{record:?}") });
        }
    }
    let is_stuck = |record: &&SlabRecord| {
        let alive = alive.get(&record.slab).copied().unwrap_or_default();
        alive.needles > 0 && !Space::of(&view(facts)).takes(compactor::copy_len_bytes(alive))
    };
    let sealed = facts.slabs.values().filter(|record| record.sealed().is_some());
    let (mut images, mut bound) = (0, 0);
    for record in sealed.filter(|record| !is_stuck(record)) {
        images += record.sealed().map_or(0, |sealed| u64::from(sealed.len_bytes));
        let Alive { bytes, needles } = alive.get(&record.slab).copied().unwrap_or_default();
        bound += 2 * (bytes + needles * u64::from(BLOCK_LEN_BYTES));
    }
    if images > bound {
        let found = format!("{images} bytes of sealed images, {bound} at most for what is alive");
        violations.push(Violation { rule: PROPORTION, found });
    }
}

#[cfg(test)]
mod tests;
