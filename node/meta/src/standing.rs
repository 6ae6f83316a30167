//! Whether this node's state is a member of the cluster, and as whom: one durable record in the store.
//!
//! A store without the record takes part in nothing: it answers no vote, append or snapshot. `meta::join` says how the record comes to be.

use crate::codec::{self, FOUNDED, STANDING};
use crate::kv::{Batch, OrderedKv};
use crate::machine::MachineError;
use crate::syncer::{SyncError, Syncer};
use serde::{Deserialize, Serialize};
use strongroom_types::{GroupId, NodeId};

/// The voters that groups are founded with, the same on all nodes that found. From the founding on they are remembered beside the standing:
/// which nodes a configuration names later changes no log's first entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// Those of the control group.
    pub control: Vec<NodeId>,
    /// Those of each data group.
    pub groups: Vec<Vec<NodeId>>,
}

impl Founding {
    /// Each group with its voters, the control group first.
    pub(crate) fn described(&self) -> impl Iterator<Item = (Option<GroupId>, &[NodeId])> {
        let data = (0..).map(|group| Some(GroupId::new(group))).zip(self.groups.iter().map(Vec::as_slice));
        std::iter::once((None, self.control.as_slice())).chain(data)
    }

    /// The voters of this group; none where it is not described.
    pub(crate) fn of(&self, group: Option<GroupId>) -> &[NodeId] {
        match group {
            None => &self.control,
            Some(group) => self.groups.get(usize::from(group.get())).map_or(&[], Vec::as_slice),
        }
    }

    /// Whether the node votes in any group.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.described().any(|(_, voters)| voters.contains(&node))
    }

    /// What the store was founded with; `None` where it was not, or not remembered.
    pub(crate) fn load(kv: &dyn OrderedKv) -> Result<Option<Self>, MachineError> {
        match kv.get(&FOUNDED)? {
            Some(value) => Ok(Some(codec::open("voters at the founding", &FOUNDED, &value)?)),
            None => Ok(None),
        }
    }
}

/// How a store stands. A store without any of this is pristine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// It said yes to these foundings, the latest last; at most `PROMISES_MAX`. Not a member yet.
    Promised {
        /// Their nonces.
        nonces: Vec<u64>,
    },
    /// The cluster was founded before without this store: it asks for an incarnation.
    Enrolling {
        /// The founding that was heard of.
        founding: u64,
    },
    /// It votes, as this incarnation of its node.
    Member {
        /// See `RaftId`.
        incarnation: u32,
        /// The founding of the cluster.
        founding: u64,
    },
}

impl Standing {
    pub(crate) fn load(kv: &dyn OrderedKv) -> Result<Option<Self>, MachineError> {
        match kv.get(&STANDING)? {
            Some(value) => Ok(Some(codec::open("standing of the node", &STANDING, &value)?)),
            None => Ok(None),
        }
    }

    /// Makes it durable.
    pub(crate) async fn save(&self, kv: &dyn OrderedKv, syncer: &Syncer) -> Result<(), SyncError> {
        self.save_with(None, kv, syncer).await
    }

    /// Makes it durable, with the voters that the groups are founded with.
    pub(crate) async fn save_founded(
        &self,
        founding: &Founding,
        kv: &dyn OrderedKv,
        syncer: &Syncer,
    ) -> Result<(), SyncError> {
        self.save_with(Some(founding), kv, syncer).await
    }

    async fn save_with(
        &self,
        founding: Option<&Founding>,
        kv: &dyn OrderedKv,
        syncer: &Syncer,
    ) -> Result<(), SyncError> {
        let mut batch = Batch::default();
        codec::put(&mut batch, STANDING.to_vec(), self);
        if let Some(founding) = founding {
            codec::put(&mut batch, FOUNDED.to_vec(), founding);
        }
        kv.apply(batch).map_err(|error| SyncError::Failed(std::sync::Arc::new(error)))?;
        syncer.sync().await
    }

    /// The founding that a member, or one that heard of a member, knows of.
    pub(crate) fn founding(&self) -> Option<u64> {
        match self {
            Self::Enrolling { founding, .. } | Self::Member { founding, .. } => Some(*founding),
            Self::Promised { .. } => None,
        }
    }
}
