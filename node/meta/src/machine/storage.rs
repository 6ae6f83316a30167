//! The state of one group as openraft's state machine.

use super::state::{Applied, Reader, State};
use super::stream::SnapshotStream;
use super::view::SnapshotView;
use super::{MachineError, state::Head};
use crate::damage::Damage;
use crate::fault::MetaFaults;
use crate::kv::OrderedKv;
use crate::raft::{
    LogEntry, LogId, Reply, Snapshot, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};
use crate::raft_id::RaftId;
use crate::syncer::{SyncError, Syncer, offload};
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::{AnyError, OptionalSend, StorageIOError};
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_env::Spawn;
use strongroom_types::GroupId;

/// The state machine of one group.
pub struct StateMachine {
    shared: Arc<Shared>,
}

struct Shared {
    kv: Arc<dyn OrderedKv>,
    id: RaftId,
    syncer: Syncer,
    spawn: Arc<dyn Spawn>,
    state: Mutex<State>,
    /// The latest snapshot: not a copy but a view of the store, whose state was synced. Gone after a restart; openraft then
    /// has another one built if it needs it.
    snapshot: Mutex<Option<(SnapshotMeta, SnapshotView)>>,
    damage: Damage,
}

fn write_failed(error: &(impl std::error::Error + 'static)) -> StorageError {
    StorageIOError::write_state_machine(AnyError::new(error)).into()
}

fn ending() -> StorageError {
    write_failed(&SyncError::Ending)
}

impl StateMachine {
    pub(crate) fn open(
        kv: Arc<dyn OrderedKv>,
        group: Option<GroupId>,
        id: RaftId,
        syncer: Syncer,
        spawn: Arc<dyn Spawn>,
        damage: Damage,
    ) -> Result<Self, MachineError> {
        let state = Mutex::new(State::open(Arc::clone(&kv), group)?);
        let shared = Shared { kv, id, syncer, spawn, state, snapshot: Mutex::new(None), damage };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// With deliberate faults.
    pub(crate) fn with_faults(self, faults: MetaFaults) -> Self {
        self.shared.state().faults = faults;
        self
    }

    pub(crate) fn reader(&self) -> Reader {
        self.shared.state().reader()
    }

    pub(crate) fn applied(&self) -> Arc<Applied> {
        self.shared.state().applied()
    }

    /// Runs `work` on the state, off the runtime's thread.
    async fn with_state<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, MachineError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let shared = Arc::clone(&self.shared);
        let done = offload(&self.shared.spawn, name, move || work(&mut shared.state())).await;
        done.ok_or_else(ending)?.map_err(|error| {
            self.shared.damage.stops(&error);
            write_failed(&error)
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn current(&self) -> MutexGuard<'_, Option<(SnapshotMeta, SnapshotView)>> {
        self.snapshot.lock().expect("no holder of this lock panics")
    }

    /// Keeps a snapshot unless a later one is there.
    fn keep(&self, meta: SnapshotMeta, view: SnapshotView) {
        let mut current = self.current();
        if current.as_ref().is_none_or(|(kept, _)| kept.last_log_id <= meta.last_log_id) {
            *current = Some((meta, view));
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let state = self.shared.state();
        let head = state.head();
        Ok((head.applied, head.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Reply>, StorageError>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        self.with_state("meta.apply", move |state| state.apply(entries)).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        let (head, view) = {
            let state = self.shared.state();
            (state.head().clone(), state.view())
        };
        SnapshotBuilder { shared: Arc::clone(&self.shared), head, view }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotStream>, StorageError> {
        let (generation, prefix) = self.with_state("meta.stage", State::stage).await?;
        Ok(Box::new(SnapshotStream::incoming(Arc::clone(&self.shared.kv), generation, prefix)))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        mut snapshot: Box<SnapshotStream>,
    ) -> Result<(), StorageError> {
        let failed = |error: AnyError| {
            StorageError::from(StorageIOError::write_snapshot(Some(meta.signature()), error))
        };
        if snapshot.is_outgoing() {
            let mut incoming = self.begin_receiving_snapshot().await?;
            snapshot.pump(&mut incoming).map_err(|error| failed(AnyError::new(&error)))?;
            snapshot = incoming;
        }
        let generation = snapshot.received().map_err(|error| failed(AnyError::new(&error)))?;
        let (applied, membership) = (meta.last_log_id, meta.last_membership.clone());
        self.with_state("meta.install", move |state| state.install(generation, applied, membership)).await?;
        self.shared.syncer.sync().await.map_err(|error| write_failed(&error))?;
        let view = self.shared.state().view();
        *self.shared.current() = Some((meta.clone(), view));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let current = self.shared.current().clone();
        let damage = || self.shared.damage.clone();
        Ok(current.map(|(meta, view)| Snapshot {
            meta,
            snapshot: Box::new(SnapshotStream::outgoing(view, damage())),
        }))
    }
}

/// Makes a snapshot of the state as it was when the builder was made.
pub struct SnapshotBuilder {
    shared: Arc<Shared>,
    head: Head,
    view: SnapshotView,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        // The log below it may be purged as soon as we return.
        self.shared.syncer.sync().await.map_err(|error| write_failed(&error))?;
        let Head { applied, membership, .. } = self.head.clone();
        let position = applied.map_or_else(|| "empty".to_owned(), |log_id| log_id.to_string());
        let meta = SnapshotMeta {
            last_log_id: applied,
            last_membership: membership,
            snapshot_id: format!("{position}@{}", self.shared.id.to_bits()),
        };
        self.shared.keep(meta.clone(), self.view.clone());
        Ok(Snapshot {
            meta,
            snapshot: Box::new(SnapshotStream::outgoing(self.view.clone(), self.shared.damage.clone())),
        })
    }
}

#[cfg(test)]
mod tests;
