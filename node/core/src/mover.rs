//! Fragments of a cold slab that are whole and are to be elsewhere: since their drive is to be emptied, or for the sake of balance.
//!
//! A move is a repair of what is not lost: the fragment is made again under a generation of its own, and the slab table takes it by compare-and-set. Until then the
//! old one counts, and is read; it is given back once it is superseded. What is made is read from the old one alone, so that a move costs one read and not k;
//! where that does not give what it should, k others do ([`Sources::Moved`]). A move never lowers what a slab survives: else it waits.
//! Which fragments are lost is decided elsewhere, and so is when a move is worth it.

use crate::encoding::{nearest_first, sources};
use crate::fragment_set::FragmentSet;
use crate::placement::{self, SomeFragments, lowers, place_moved};
use crate::repair::{NotNow, RepairPlan, plan_of};
use strongroom_format::cold;
use strongroom_format::wire::message::Sources;
use strongroom_types::{ClusterView, FragmentIndex, Health, Holder, NodeId, SlabId, SlabRecord};

/// One fragment that is to be elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The slab.
    pub slab: SlabId,
    /// Which of its fragments.
    pub fragment: FragmentIndex,
    /// Where it must still be.
    pub from: Holder,
    /// Where it is to be: in the same zone.
    pub to: Holder,
}

/// The fragments of `record` that are on drives that are to be emptied.
pub fn leaving(record: &SlabRecord, view: &ClusterView) -> FragmentSet {
    let fragments = (0..).map(FragmentIndex::new).zip(&record.holders);
    fragments.filter(|(_, holder)| view.is_leaving(**holder)).map(|(fragment, _)| fragment).collect()
}

/// Bytes that each fragment of a cold slab takes on its drive, extent headers not included; `None` where it is not cold.
pub fn fragment_len_bytes(record: &SlabRecord) -> Option<u64> {
    let sealed = record.sealed().filter(|_| !record.profile.is_copies())?;
    Some(cold::data_len(cold::slice_len(sealed.len_bytes, record.profile.data_count())))
}

/// Plans to make `fragments` of `record` elsewhere, as many as can be placed. With the same seed and view it plans the same. `lost` are those that do not
/// count now: none of them is moved.
///
/// # Errors
/// It cannot or need not be done now.
pub fn plan_out(
    record: &SlabRecord,
    view: &ClusterView,
    fragments: FragmentSet,
    lost: FragmentSet,
    seed: u64,
) -> Result<RepairPlan, NotNow> {
    let len_bytes = fragment_len_bytes(record).ok_or(NotNow::NotCold)?;
    let all = FragmentSet::first(record.profile.fragment_count());
    let fragments = fragments.intersection(all).without(lost);
    if fragments.is_empty() {
        return Err(NotNow::Whole);
    }
    let placed = place_moved(view, record, SomeFragments { fragments, len_bytes }, lost, seed)?;
    plan_placed(record, view, &placed, lost)
}

/// Plans one move, if its place still is one that it may go to.
///
/// # Errors
/// It cannot or need not be done now.
pub fn plan_move(
    record: &SlabRecord,
    view: &ClusterView,
    one: Move,
    lost: FragmentSet,
) -> Result<RepairPlan, NotNow> {
    let place = usize::from(one.fragment.get());
    if fragment_len_bytes(record).is_none() {
        return Err(NotNow::NotCold);
    }
    if record.holders.get(place) != Some(&one.from) || lost.contains(one.fragment) {
        return Err(NotNow::Whole);
    }
    let mut after = record.holders.clone();
    after[place] = one.to;
    let takes = view.node(one.to.node).is_some_and(|node| {
        let is_it = |drive: &strongroom_types::DriveView| drive.drive == one.to.drive && drive.writable;
        node.health == Health::Up && node.drives.iter().any(is_it)
    });
    let zone = view.zone_of(one.from.node);
    let may = takes
        && zone == view.zone_of(one.to.node)
        && !view.is_leaving(one.to)
        && !record.holders.iter().any(|holder| holder.drive == one.to.drive)
        && !lowers(view, record, &record.holders, &after, lost);
    match zone {
        Some(_) if may => plan_placed(record, view, &[(one.fragment, one.to)], lost),
        Some(zone) => Err(placement::NotNow::NodesShort { zone }.into()),
        None => Err(NotNow::Whole),
    }
}

fn plan_placed(
    record: &SlabRecord,
    view: &ClusterView,
    placed: &[(FragmentIndex, Holder)],
    lost: FragmentSet,
) -> Result<RepairPlan, NotNow> {
    let all = FragmentSet::first(record.profile.fragment_count());
    let moved: FragmentSet = placed.iter().map(|(fragment, _)| *fragment).collect();
    let own = sources(record, moved, view);
    let others = sources(record, all.without(lost).without(moved), view);
    let rest = sources(record, lost, view);
    let (have, needed) = (own.len() + others.len() + rest.len(), usize::from(record.profile.data_count()));
    if own.len() < placed.len() && have < needed {
        return Err(NotNow::TooFew { have, needed });
    }
    let sources = |node: NodeId| {
        let mut others = others.clone();
        nearest_first(&mut others, node, view);
        Sources::Moved(own.iter().copied().chain(others).chain(rest.iter().copied()).collect())
    };
    plan_of(record, view, placed, sources)
}

#[cfg(test)]
mod tests;
