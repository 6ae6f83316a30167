//! From copies to a cold layout: who computes which fragments, and when the new layout may be proposed.
//!
//! In each zone one node reads a whole copy and computes only the fragments that its own zone will hold, so that nothing crosses
//! zones where each has its copy. Offsets in the image stay: locators do not change. When to convert a slab is decided elsewhere.

use crate::encoding::{EncodeTask, Encoded, sources};
use crate::fragment_set::FragmentSet;
use crate::placement::{self, ColdFragments, ColdPlacement, place_cold};
use crate::planner::cold_profile;
use strongroom_format::cold;
use strongroom_format::wire::message::{Encode, FragmentAddress, Free, Sources, Target};
use strongroom_types::limits::FRAGMENTS_MAX;
use strongroom_types::{
    ClusterView, FragmentIndex, Generation, Holders, NodeId, Profile, SlabId, SlabRecord, SlabState,
};

/// How a slab gets its cold layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertPlan {
    /// The slab.
    pub slab: SlabId,
    /// The layout it has.
    pub source_generation: Generation,
    /// The layout it gets.
    pub generation: Generation,
    /// Its profile.
    pub profile: Profile,
    /// Its holders.
    pub holders: Holders,
    /// Some node holds more than one fragment; the caller may rather wait for nodes to come back.
    pub nodes_shared: bool,
    /// One for each zone that gets fragments.
    pub tasks: Vec<EncodeTask>,
}

/// Why a slab is not converted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// It is not sealed.
    #[error("slab is not sealed")]
    NotSealed,
    /// It is cold already.
    #[error("slab is cold already")]
    AlreadyCold,
    /// It has no rows: kill it instead.
    #[error("slab is empty")]
    Empty,
    /// The cluster's shape allows no cold profile.
    #[error("the cluster's shape allows no cold profile")]
    NoProfile,
    /// No whole copy is on a node that answers.
    #[error("no whole copy answers")]
    NoSource,
    /// The new layout cannot be placed.
    #[error(transparent)]
    Placement(#[from] placement::NotNow),
}

/// Plans the conversion of `record`. With the same seed and view it plans the same, so that a retry writes over what a failed attempt
/// left.
///
/// # Errors
/// It cannot or need not be converted now.
pub fn plan(record: &SlabRecord, view: &ClusterView, seed: u64) -> Result<ConvertPlan, NotNow> {
    let SlabState::Sealed(sealed) = &record.state else { return Err(NotNow::NotSealed) };
    if !record.profile.is_copies() {
        return Err(NotNow::AlreadyCold);
    }
    if sealed.rows == 0 {
        return Err(NotNow::Empty);
    }
    let (all, missing) =
        (FragmentSet::first(record.profile.fragment_count()), FragmentSet::from_mask(sealed.missing));
    // Of one that is not whole most rows may be: it is asked last.
    let (copies, rest) = (sources(record, all.without(missing), view), sources(record, missing, view));
    if copies.is_empty() && rest.is_empty() {
        return Err(NotNow::NoSource);
    }
    let profile = cold_profile(view).ok_or(NotNow::NoProfile)?;
    let slice_len_bytes = cold::slice_len(sealed.len_bytes, profile.data_count());
    let cold = ColdFragments { profile, len_bytes: cold::data_len(slice_len_bytes) };
    let ColdPlacement { holders, nodes_shared } = place_cold(view, cold, &record.holders, seed)?;
    let generation = record.next_generation;

    let targets: Vec<Target> = (0..)
        .zip(&holders)
        .map(|(index, holder)| Target {
            fragment: FragmentIndex::new(index),
            node: holder.node,
            drive: holder.drive,
            before: None,
        })
        .collect();
    let mut tasks = Vec::new();
    for zone in view.zones() {
        let in_zone = |node: NodeId| view.zone_of(node) == Some(zone);
        let targets: Vec<Target> = targets.iter().copied().filter(|target| in_zone(target.node)).collect();
        let Some(first_target) = targets.first() else { continue };
        let local_copy = copies.iter().find(|copy| in_zone(copy.node));
        let node = local_copy.map_or(first_target.node, |copy| copy.node);
        let mut sources = copies.clone();
        // Stable: among equally near ones the order of the fragments stays.
        sources.sort_by_key(|source| (source.node != node, !in_zone(source.node)));
        let encode = Encode {
            slab: record.slab,
            sources: Sources::Copies(sources.into_iter().chain(rest.iter().copied()).collect()),
            generation,
            profile,
            image_len_bytes: sealed.len_bytes,
            rows: sealed.rows,
            root_crc32c: sealed.root_crc32c,
            epoch: record.epoch,
            targets,
        };
        tasks.push(EncodeTask { node, encode });
    }
    let encoded: usize = tasks.iter().map(|task| task.encode.targets.len()).sum();
    assert_eq!(encoded, holders.len(), "every fragment is computed once");
    let (slab, source_generation) = (record.slab, record.generation);
    Ok(ConvertPlan { slab, source_generation, generation, profile, holders, nodes_shared, tasks })
}

/// The fragments of a superseded layout, each with the node to tell. Only to be sent once the superseding record is committed and the
/// grace time has passed; a `Free` names its generation, so that it never meets the new layout.
pub fn free_list(superseded: &SlabRecord) -> impl Iterator<Item = (NodeId, Free)> + '_ {
    FragmentAddress::all_of(superseded).map(|(node, address)| (node, Free { address }))
}

/// A conversion under way: collects what the encoders answer.
#[derive(Debug)]
pub struct Conversion {
    plan: ConvertPlan,
    /// One for each task of the plan, `None` until it has answered.
    answers: Vec<Option<Encoded>>,
}

/// Where a conversion stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Encoders are still at work.
    Pending,
    /// All fragments are durable: propose this.
    Relayout(Box<Relayout>),
    /// All encoders have answered, not all well: leave the slab as it is and try later. Nothing is freed now: a retry writes over what is there, and finds what was finished.
    Failed,
    /// The same, and some holder would not take its fragment: if that lasts, what was made stands in the way.
    Refused,
}

/// What to propose to the slab table, by compare-and-set on `known`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayout {
    /// The slab.
    pub slab: SlabId,
    /// The generation it must still have.
    pub known: Generation,
    /// What the new layout was made under; it must not have been given up.
    pub layout: Generation,
    /// The new profile.
    pub profile: Profile,
    /// The new holders.
    pub holders: Holders,
    /// Checksum of each fragment's table.
    pub table_crc32c: heapless::Vec<u32, FRAGMENTS_MAX>,
    /// Fragments that are not there: none, for now.
    pub missing: u32,
}

impl Conversion {
    /// Begins; the shell sends each task of the plan.
    pub fn new(plan: ConvertPlan) -> Self {
        let answers = plan.tasks.iter().map(|_| None).collect();
        Self { plan, answers }
    }

    /// The plan.
    pub fn plan(&self) -> &ConvertPlan {
        &self.plan
    }

    /// Takes the answer to task `task` (its index in the plan; a call that was not answered is `Failed`) and says where the conversion
    /// stands. A second answer to one task changes nothing. An attempt with a failed encoder goes on until the others have
    /// answered too: a retry would get in their way.
    pub fn answer(&mut self, task: usize, answer: Encoded) -> Progress {
        let targets = self.plan.tasks.get(task).map(|task| task.encode.targets.len());
        if let Some(slot @ None) = self.answers.get_mut(task) {
            *slot = Some(match answer {
                Encoded::Done { tables_crc32c } if Some(tables_crc32c.len()) == targets => {
                    Encoded::Done { tables_crc32c }
                }
                Encoded::Done { .. } | Encoded::Differs | Encoded::Failed => Encoded::Failed,
                Encoded::Refused => Encoded::Refused,
            });
        }
        self.progress()
    }

    fn failure(&self) -> Progress {
        let refused = self.answers.contains(&Some(Encoded::Refused));
        if refused { Progress::Refused } else { Progress::Failed }
    }

    /// Where the conversion stands.
    pub fn progress(&self) -> Progress {
        if self.answers.iter().any(Option::is_none) {
            return Progress::Pending;
        }
        let mut table_crc32c = heapless::Vec::new();
        table_crc32c.resize(self.plan.holders.len(), 0).expect("as many as holders");
        for (task, answer) in self.plan.tasks.iter().zip(&self.answers) {
            let Some(Encoded::Done { tables_crc32c }) = answer else { return self.failure() };
            for (target, table) in task.encode.targets.iter().zip(tables_crc32c) {
                table_crc32c[usize::from(target.fragment.get())] = *table;
            }
        }
        Progress::Relayout(Box::new(Relayout {
            slab: self.plan.slab,
            known: self.plan.source_generation,
            layout: self.plan.generation,
            profile: self.plan.profile,
            holders: self.plan.holders.clone(),
            table_crc32c,
            missing: 0,
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests;
