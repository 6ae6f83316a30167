//! From what is left of a cold slab to all of it: which fragments are made again, by whom, where they go, and what the slab table is asked to take.
//!
//! In each zone that lost fragments one node reads any k that are left, the nearest first, and writes those of its zone. What is made again goes under a
//! generation of its own, so that it never meets what is left of the lost one, be it on the same drive. The seeds of its checksums are of that generation;
//! so the encoder sums it under the old one as well, and it is taken only if that gives the checksum that the slab table has of the lost one.
//! Zones do not wait for each other: what was made is proposed, what was not is tried again. Copies are not made again: a slab that lacks one becomes cold
//! instead ([`crate::converter`]). What is lost is decided elsewhere.

use crate::durable::{AckRule, Margin, Spread, SpreadError, margin};
use crate::encoding::{EncodeTask, Encoded, nearest_first, sources};
use crate::fragment_set::FragmentSet;
use crate::placement::{self, SomeFragments, place_again};
use strongroom_format::cold;
use strongroom_format::wire::message::{Encode, MadeBefore, Sources, Target};
use strongroom_types::slab::MadeAgain;
use strongroom_types::{
    ClusterView, FragmentIndex, Generation, Holder, NodeId, SlabId, SlabRecord, SlabState,
};

/// How lost fragments of a slab are made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairPlan {
    /// The slab.
    pub slab: SlabId,
    /// The generation that it must still have.
    pub known: Generation,
    /// What the fragments are made under.
    pub layout: Generation,
    /// One for each zone in which fragments are made.
    pub tasks: Vec<EncodeTask>,
}

/// Why a slab is not repaired now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// It is not cold.
    #[error("slab is not cold")]
    NotCold,
    /// Nothing of it is lost.
    #[error("nothing of it is lost")]
    Whole,
    /// Fewer than k fragments are on nodes that answer.
    #[error("{have} of the {needed} fragments that are needed answer")]
    TooFew {
        /// On nodes that answer.
        have: usize,
        /// Needed.
        needed: usize,
    },
    /// The slab table has no checksum of a fragment that is lost.
    #[error("the slab table has no checksum of {fragment}")]
    NoChecksum {
        /// Which.
        fragment: FragmentIndex,
    },
    /// None of the fragments can be placed.
    #[error(transparent)]
    Placement(#[from] placement::NotNow),
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Durable, and what they were: propose these, if there are any.
    pub made: Vec<MadeAgain>,
    /// What became of the rest.
    pub rest: Rest,
}

/// What became of the fragments that were not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rest {
    /// There are none.
    None,
    /// Somebody did not answer, or had not at hand what it needs.
    Failed,
    /// A holder would not take its fragment as things are.
    Refused,
    /// What came out is not what was lost, though all that it was made from matched its own checksums.
    Differs,
}

/// The fragments of `record` that are lost: those that the table has as missing, and those of holders that `is_gone` says are.
pub fn lost(record: &SlabRecord, is_gone: impl Fn(&Holder) -> bool) -> FragmentSet {
    let missing = FragmentSet::from_mask(record.sealed().map_or(0, |sealed| sealed.missing));
    missing.union(held(record, is_gone))
}

/// Fragments whose holders are such.
fn held(record: &SlabRecord, is_such: impl Fn(&Holder) -> bool) -> FragmentSet {
    let such = (0..).map(FragmentIndex::new).zip(&record.holders).filter(|(_, holder)| is_such(holder));
    such.map(|(fragment, _)| fragment).collect()
}

/// What the slab survives without these fragments: the queue's order.
///
/// # Errors
/// The zone of a holder is not known.
pub fn margin_without(
    record: &SlabRecord,
    view: &ClusterView,
    lost: FragmentSet,
) -> Result<Margin, SpreadError> {
    let spread = Spread::of(record, view)?;
    Ok(margin(&spread, spread.all().without(lost)))
}

/// Fragments of `record` on this node.
pub fn on_node(record: &SlabRecord, node: NodeId) -> FragmentSet {
    held(record, |holder| holder.node == node)
}

/// What of a slab is where it can be had, as far as known.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Fragments whose drives are there now.
    pub here: FragmentSet,
    /// Those that never come back, whoever does: their nodes are there without them, or were dismissed.
    pub for_good: FragmentSet,
}

/// Whether something of `record` would be lost if this node, which is dead, never came back. Only what is here counts as left: who is away may come back
/// with nothing. What is unreadable whether it comes back or not is not lost by that.
pub fn needs(record: &SlabRecord, view: &ClusterView, standing: Standing, node: NodeId) -> bool {
    let (own, missing) = (on_node(record, node), lost(record, |_| false));
    if own.is_empty() || record.state == SlabState::Dead {
        return false;
    }
    let Ok(spread) = Spread::of(record, view) else { return true };
    let left = standing.here.without(own).without(missing);
    if record.sealed().is_none() {
        // What was acknowledged is known only once enough of its holders say what they have.
        return !spread.tolerates(AckRule::Zone, spread.all().without(left));
    }
    let with_it = spread.all().without(standing.for_good.without(own)).without(missing);
    margin(&spread, left) == Margin::Lost && margin(&spread, with_it) != Margin::Lost
}

/// Plans to make `lost` fragments of `record` again, as many as can be placed. With the same seed and view it plans the same.
///
/// # Errors
/// It cannot or need not be done now.
pub fn plan(
    record: &SlabRecord,
    view: &ClusterView,
    lost: FragmentSet,
    seed: u64,
) -> Result<RepairPlan, NotNow> {
    let SlabState::Sealed(sealed) = &record.state else { return Err(NotNow::NotCold) };
    if record.profile.is_copies() {
        return Err(NotNow::NotCold);
    }
    let all = FragmentSet::first(record.profile.fragment_count());
    let lost = lost.intersection(all);
    if lost.is_empty() {
        return Err(NotNow::Whole);
    }
    // Of one that is not whole most blocks may be: it is asked last.
    let (whole, rest) = (sources(record, all.without(lost), view), sources(record, lost, view));
    let (have, needed) = (whole.len() + rest.len(), usize::from(record.profile.data_count()));
    if have < needed {
        return Err(NotNow::TooFew { have, needed });
    }
    let slice_len_bytes = cold::slice_len(sealed.len_bytes, record.profile.data_count());
    let to_place = SomeFragments { fragments: lost, len_bytes: cold::data_len(slice_len_bytes) };
    let placed = place_again(view, record, to_place, seed)?;
    let sources = |node: NodeId| {
        let mut near = whole.clone();
        nearest_first(&mut near, node, view);
        Sources::Fragments(near.into_iter().chain(rest.iter().copied()).collect())
    };
    plan_of(record, view, &placed, sources)
}

/// A task for each zone in which these fragments are made, by the first of its nodes that gets one; `sources` says what that reads.
///
/// # Errors
/// The slab is not cold, or the table has no checksum of a fragment.
pub(crate) fn plan_of(
    record: &SlabRecord,
    view: &ClusterView,
    placed: &[(FragmentIndex, Holder)],
    sources: impl Fn(NodeId) -> Sources,
) -> Result<RepairPlan, NotNow> {
    let sealed = record.sealed().ok_or(NotNow::NotCold)?;
    let mut tasks = Vec::new();
    for zone in view.zones() {
        let in_zone = |node: NodeId| view.zone_of(node) == Some(zone);
        let of_zone = placed.iter().filter(|(_, holder)| in_zone(holder.node));
        let targets: Vec<Target> =
            of_zone.map(|(fragment, holder)| target(record, *fragment, *holder)).collect::<Result<_, _>>()?;
        let Some(node) = targets.first().map(|target| target.node) else { continue };
        let encode = Encode {
            slab: record.slab,
            sources: sources(node),
            generation: record.next_generation,
            profile: record.profile,
            image_len_bytes: sealed.len_bytes,
            rows: sealed.rows,
            root_crc32c: sealed.root_crc32c,
            epoch: record.epoch,
            targets,
        };
        tasks.push(EncodeTask { node, encode });
    }
    let (known, layout) = (record.generation, record.next_generation);
    Ok(RepairPlan { slab: record.slab, known, layout, tasks })
}

fn target(record: &SlabRecord, fragment: FragmentIndex, holder: Holder) -> Result<Target, NotNow> {
    let table = record.sealed().and_then(|sealed| sealed.table_crc32c.get(usize::from(fragment.get())));
    let before = record.place(fragment).zip(table);
    let before = before.map(|((_, generation), table)| MadeBefore { generation, table_crc32c: *table });
    let before = before.ok_or(NotNow::NoChecksum { fragment })?;
    Ok(Target { fragment, node: holder.node, drive: holder.drive, before: Some(before) })
}

impl RepairPlan {
    /// What the attempt came to, from what each task answered, in their order.
    pub fn outcome(&self, answers: &[Encoded]) -> Outcome {
        let (mut made, mut rest) = (Vec::new(), Rest::None);
        for (index, task) in self.tasks.iter().enumerate() {
            let targets = &task.encode.targets;
            let of_task = match answers.get(index) {
                Some(Encoded::Done { tables_crc32c }) if tables_crc32c.len() == targets.len() => {
                    made.extend(targets.iter().zip(tables_crc32c).map(|(target, table_crc32c)| MadeAgain {
                        fragment: target.fragment,
                        holder: Holder { node: target.node, drive: target.drive },
                        table_crc32c: *table_crc32c,
                    }));
                    Rest::None
                }
                Some(Encoded::Refused) => Rest::Refused,
                Some(Encoded::Differs) => Rest::Differs,
                Some(Encoded::Done { .. } | Encoded::Failed) | None => Rest::Failed,
            };
            rest = rest.max(of_task);
        }
        Outcome { made, rest }
    }
}

#[cfg(test)]
pub(crate) mod tests;
