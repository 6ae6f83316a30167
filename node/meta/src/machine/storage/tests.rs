//! openraft's own suite on both stores, outcomes that are remembered, and installs that the power interrupts.

use super::StateMachine;
use crate::group::{Change, Entry, EntryOutcome, GroupCommand, GroupQuery, GroupReply};
use crate::kv::{FjallKv, MemoryKv, MemoryMedia, OrderedKv};
use crate::limits::OUTCOMES_REMEMBERED;
use crate::log::LogStore;
use crate::machine::state::State;
use crate::machine::window::{Outcome, Window};
use crate::machine::{SnapshotStream, view::Changes};
use crate::raft::{Command, LogEntry, Reply, StorageError, TypeConfig};
use crate::raft_id::RaftId;
use crate::syncer::Syncer;
use crate::testing::env_alone;
use openraft::EntryPayload;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite, log_id};
use std::sync::Arc;
use strongroom_types::{BucketClass, BucketId, Condition, GroupId, NodeId, ObjectKey};

mod crash;

const GROUP: Option<GroupId> = Some(GroupId::new(0));

fn stores(kv: Arc<dyn OrderedKv>) -> (LogStore, StateMachine) {
    let env = env_alone(1);
    let syncer = Syncer::new(Arc::clone(&kv), &env);
    // The spawner lives as long as the process of the test.
    std::mem::forget(Arc::clone(&env.spawn));
    let damage = crate::damage::Damage::new(Arc::clone(&kv), crate::damage::Alarms::default());
    let log = LogStore::open(
        Arc::clone(&kv),
        RaftId::from_bits(1),
        GROUP,
        syncer.clone(),
        Arc::clone(&env.spawn),
        damage.clone(),
    )
    .unwrap();
    let id = crate::raft_id::RaftId::from_bits(1);
    let machine = StateMachine::open(kv, GROUP, id, syncer, env.spawn, damage).unwrap();
    (log, machine)
}

struct OnMemory;

impl StoreBuilder<TypeConfig, LogStore, StateMachine> for OnMemory {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError> {
        let (log, machine) = stores(Arc::new(MemoryKv::on(&MemoryMedia::new())));
        Ok(((), log, machine))
    }
}

struct OnFjall;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for OnFjall {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError> {
        let directory = tempfile::tempdir().unwrap();
        let (log, machine) = stores(Arc::new(
            FjallKv::open(directory.path(), Arc::new(crate::testing::TestRng::new(1))).unwrap(),
        ));
        Ok((directory, log, machine))
    }
}

#[test]
fn openrafts_suite_passes_on_memory() {
    Suite::test_all(OnMemory).unwrap();
}

#[test]
fn openrafts_suite_passes_on_fjall() {
    Suite::test_all(OnFjall).unwrap();
}

fn entry(index: u64, command: Command) -> LogEntry {
    LogEntry { log_id: log_id(1, 1, index), payload: EntryPayload::Normal(command) }
}

fn admit(index: u64) -> LogEntry {
    let command = GroupCommand::AdmitBucket { bucket: BucketId::new(1), class: BucketClass::Mail, round: 1 };
    entry(index, Command::Group { ticket: 1_000_000 + index, command })
}

fn delete(key: &str, condition: Condition) -> Entry {
    let key = ObjectKey::new(key).unwrap();
    Entry { bucket: BucketId::new(1), key, condition, change: Change::Delete, session: None }
}

fn begin_open(ticket: u64, index: u64) -> LogEntry {
    let command = GroupCommand::OpenSlab {
        writer: NodeId::new(1),
        session: strongroom_types::SessionId::new(1),
        profile: strongroom_types::Profile::copies(2).unwrap(),
        holders: heapless::Vec::new(),
    };
    entry(index, Command::Group { ticket, command })
}

#[test]
fn a_ticket_takes_effect_once_also_after_a_restart() {
    let media = MemoryMedia::new();
    let mut state = State::open(Arc::new(MemoryKv::on(&media)), GROUP).unwrap();
    let first = state.apply(vec![begin_open(5, 0)]).unwrap();
    assert!(matches!(first[0], Reply::Group(GroupReply::Slab(_))));
    assert_eq!(state.apply(vec![begin_open(5, 1)]).unwrap(), first);
    drop(state);
    let mut state = State::open(Arc::new(MemoryKv::on(&media)), GROUP).unwrap();
    assert_eq!(state.apply(vec![begin_open(5, 2)]).unwrap(), first);
    assert_ne!(state.apply(vec![begin_open(6, 3)]).unwrap(), first);
}

#[test]
fn a_commit_that_was_refused_stays_refused_for_its_ticket() {
    let mut state = State::open(Arc::new(MemoryKv::on(&MemoryMedia::new())), GROUP).unwrap();
    state.apply(vec![admit(0)]).unwrap();
    let commit = |index, tickets: &[u64]| {
        let entries = tickets.iter().map(|ticket| (*ticket, delete("k", Condition::Present))).collect();
        entry(index, Command::Commit { entries })
    };
    let refused = |count| vec![Reply::Group(GroupReply::Committed(vec![EntryOutcome::NoSuchKey; count]))];
    assert_eq!(state.apply(vec![commit(1, &[7, 7])]).unwrap(), refused(2));
    assert_eq!(state.apply(vec![commit(2, &[7])]).unwrap(), refused(1));
}

#[test]
fn the_window_forgets_the_oldest_first_and_is_bounded() {
    let kv = MemoryKv::on(&MemoryMedia::new());
    let mut window = Window::default();
    let per_entry = 256;
    let entries = OUTCOMES_REMEMBERED as u64 / per_entry + 3;
    for index in 0..entries {
        let mut changes = Changes::new(&kv, b"p".to_vec());
        let outcome = |n| (index * per_entry + n, Outcome::Entry(EntryOutcome::Applied));
        window.remember(&mut changes, index, (0..per_entry).map(outcome).collect());
        let batch = changes.into_batch();
        kv.apply(batch).unwrap();
    }
    let loaded = Window::load(&Changes::new(&kv, b"p".to_vec())).unwrap();
    for window in [&window, &loaded] {
        assert_eq!(window.get(3 * per_entry - 1), None);
        assert_eq!(window.get(3 * per_entry), Some(&Outcome::Entry(EntryOutcome::Applied)));
        assert!(window.get(entries * per_entry - 1).is_some());
    }
    assert_eq!(kv.range(b"p", b"q", 1_000_000).unwrap().len() as u64, entries - 3);
}

/// A state with `slabs` slabs, and its snapshot.
async fn snapshot_of(slabs: u64) -> (crate::raft::SnapshotMeta, SnapshotStream) {
    let (_, mut machine) = stores(Arc::new(MemoryKv::on(&MemoryMedia::new())));
    machine.apply((0..slabs).map(|n| begin_open(n, n)).collect::<Vec<_>>()).await.unwrap();
    let snapshot = machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    (snapshot.meta, *snapshot.snapshot)
}

fn slab_count(state: &State) -> usize {
    let asked = GroupQuery::Slabs { after: None, limit: 1000, live_only: false };
    match state.reader().group(asked).unwrap() {
        crate::group::GroupAnswer::Slabs(slabs) => slabs.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_install_that_the_power_interrupts_leaves_the_old_or_the_new_state() {
    let (mut old_seen, mut new_seen) = (false, false);
    for seed in 0..60 {
        let media = MemoryMedia::new();
        let kv: Arc<dyn OrderedKv> = Arc::new(MemoryKv::on(&media));
        let (_, mut machine) = stores(Arc::clone(&kv));
        machine.apply((0..3).map(|n| begin_open(n, n)).collect::<Vec<_>>()).await.unwrap();
        kv.sync().unwrap();
        let (meta, mut snapshot) = snapshot_of(900).await;
        let mut incoming = machine.begin_receiving_snapshot().await.unwrap();
        snapshot.pump(&mut incoming).unwrap();
        let generation = incoming.received().unwrap();
        {
            // As in install_snapshot, without its sync.
            let mut state = machine.shared.state();
            state.install(generation, meta.last_log_id, meta.last_membership.clone()).unwrap();
        }
        media.power_cut(seed);
        let kv: Arc<dyn OrderedKv> = Arc::new(MemoryKv::on(&media));
        let mut state = State::open(Arc::clone(&kv), GROUP).unwrap();
        let applied = state.head().applied.unwrap().index;
        match slab_count(&state) {
            3 => {
                assert_eq!(applied, 2);
                old_seen = true;
            }
            900 => {
                assert_eq!(applied, 899);
                new_seen = true;
            }
            other => panic!("{other} slabs after cut {seed}"),
        }
        let tables = kv.range(&[0, 1, b's'], &[0, 1, b's' + 1], 10_000).unwrap();
        let generations: std::collections::BTreeSet<&[u8]> =
            tables.iter().map(|(key, _)| &key[3..7]).collect();
        assert_eq!(generations.len(), 1, "remains are removed at the start");
        let next = applied + 1;
        state.apply(vec![begin_open(next, next)]).unwrap();
    }
    assert!(old_seen && new_seen);
}

#[tokio::test(start_paused = true)]
async fn an_installed_state_is_durable_and_remembers_outcomes() {
    let media = MemoryMedia::new();
    let (_, mut machine) = stores(Arc::new(MemoryKv::on(&media)));
    let (meta, snapshot) = snapshot_of(20).await;
    machine.install_snapshot(&meta, Box::new(snapshot)).await.unwrap();
    assert_eq!(media.unsynced_count(), 0);
    media.power_cut(0);
    let (_, mut machine) = stores(Arc::new(MemoryKv::on(&media)));
    assert_eq!(machine.applied_state().await.unwrap().0, meta.last_log_id);
    let again = machine.apply(vec![begin_open(4, 20)]).await.unwrap();
    let Reply::Group(GroupReply::Slab(record)) = &again[0] else { panic!("{again:?}") };
    assert_eq!(record.slab.to_bits(), 4, "the outcome of the first try");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_is_refused_and_the_old_state_stays() {
    let (_, mut machine) = stores(Arc::new(MemoryKv::on(&MemoryMedia::new())));
    machine.apply(vec![begin_open(0, 0)]).await.unwrap();
    let (meta, _) = snapshot_of(20).await;
    let incoming = machine.begin_receiving_snapshot().await.unwrap();
    assert!(machine.install_snapshot(&meta, incoming).await.is_err());
    assert_eq!(slab_count(&machine.shared.state()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_the_state_at_its_moment_and_synced() {
    let media = MemoryMedia::new();
    let (_, mut machine) = stores(Arc::new(MemoryKv::on(&media)));
    machine.apply(vec![begin_open(0, 0)]).await.unwrap();
    let mut builder = machine.get_snapshot_builder().await;
    machine.apply(vec![begin_open(1, 1)]).await.unwrap();
    let snapshot = builder.build_snapshot().await.unwrap();
    assert_eq!(media.unsynced_count(), 0);
    assert_eq!(snapshot.meta.last_log_id.unwrap().index, 0);
    let (_, mut other) = stores(Arc::new(MemoryKv::on(&MemoryMedia::new())));
    other.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert_eq!(slab_count(&other.shared.state()), 1);
}
