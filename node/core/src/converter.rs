//! From copies to a cold layout: who computes which fragments, and when the new layout may be proposed.

use crate::placement;
use strongroom_format::wire::message::{Encode, Free};
use strongroom_types::limits::FRAGMENTS_MAX;
use strongroom_types::{ClusterView, Generation, Holders, NodeId, Profile, SlabId, SlabRecord};

/// One zone's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeTask {
    /// Who computes it: a node of the zone.
    pub node: NodeId,
    /// The message.
    pub encode: Encode,
}

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
    todo!()
}

/// The fragments of a superseded layout, each with the node to tell. Only to be sent once the superseding record is committed and the
/// grace time has passed; a `Free` names its generation, so that it never meets the new layout.
pub fn free_list(superseded: &SlabRecord) -> impl Iterator<Item = (NodeId, Free)> + '_ {
    std::iter::empty()
}

/// A conversion under way: collects what the encoders answer.
#[derive(Debug)]
pub struct Conversion {
    plan: ConvertPlan,
}

/// What an encoder answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// All its fragments are durable; checksums of their tables, in the order of its targets.
    Done {
        /// The checksums.
        tables_crc32c: Vec<u32>,
    },
    /// It refused or did not answer.
    Failed,
}

/// Where a conversion stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Encoders are still at work.
    Pending,
    /// All fragments are durable: propose this.
    Relayout(Relayout),
    /// Leave the slab as it is and try later. Nothing is freed now: a retry writes over what is there, and what stays unknown to the
    /// slab table is freed after its quarantine.
    Abandon,
}

/// What to propose to the slab table, by compare-and-set on `known`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayout {
    /// The slab.
    pub slab: SlabId,
    /// The generation it must still have.
    pub known: Generation,
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
        Self { plan }
    }

    /// The plan.
    pub fn plan(&self) -> &ConvertPlan {
        &self.plan
    }

    /// Takes the answer to task `task` (its index in the plan). A second answer to one task changes nothing.
    pub fn answer(&mut self, task: usize, answer: Encoded) -> Progress {
        todo!()
    }
}
