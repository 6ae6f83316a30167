//! Whether this node's state is a member of the cluster, and as whom: one durable record in the store.
//!
//! A store without the record takes part in nothing: it answers no vote, append or snapshot. `meta::join` says how the record comes to be.

use crate::codec::{self, STANDING};
use crate::kv::{Batch, OrderedKv};
use crate::machine::MachineError;
use crate::syncer::{SyncError, Syncer};
use serde::{Deserialize, Serialize};

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
        let mut batch = Batch::default();
        codec::put(&mut batch, STANDING.to_vec(), self);
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
