//! Power cuts before and after every durable step of a small life of log and state, with every prefix of what was under way left behind; and
//! roll-backs of any length after each of them, which must be told.

use super::{admit, begin_open, stores};
use crate::kv::{Integrity, MemoryKv, MemoryMedia, OrderedKv};
use crate::log::LogStore;
use crate::machine::storage::StateMachine;
use crate::raft::{LogEntry, StorageError, Vote};
use openraft::storage::{
    RaftLogReader, RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine,
};
use openraft::testing::log_id;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was acknowledged, and so must be there.
#[derive(Clone, Default)]
struct Facts {
    vote: Vote,
    entries: BTreeMap<u64, LogEntry>,
    /// Below this entries may be gone: a purge was begun.
    purged_below: u64,
    /// The state holds at least this.
    applied: Option<u64>,
}

struct Run {
    log: LogStore,
    machine: StateMachine,
    facts: Facts,
}

impl Run {
    async fn vote(&mut self, term: u64) -> Result<(), StorageError> {
        let vote = Vote::new(term, 1);
        self.log.save_vote(&vote).await?;
        self.facts.vote = vote;
        Ok(())
    }

    async fn append(&mut self, entries: Vec<LogEntry>) -> Result<(), StorageError> {
        self.log.blocking_append(entries.clone()).await?;
        self.facts.entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        Ok(())
    }

    async fn truncate(&mut self, from: u64) -> Result<(), StorageError> {
        self.facts.entries.split_off(&from);
        self.log.truncate(log_id(1, 1, from)).await
    }

    async fn snapshot_and_purge(&mut self, upto: u64) -> Result<(), StorageError> {
        self.machine.get_snapshot_builder().await.build_snapshot().await?;
        self.facts.applied = Some(upto);
        self.purge(upto).await
    }

    async fn purge(&mut self, upto: u64) -> Result<(), StorageError> {
        self.facts.purged_below = upto + 1;
        self.log.purge(log_id(1, 1, upto)).await
    }

    async fn install(&mut self, upto: u64) -> Result<(), StorageError> {
        let (_, mut other) = stores(Arc::new(MemoryKv::on(&MemoryMedia::new())));
        let entries = (0..=upto).map(|n| if n == 0 { admit(0) } else { begin_open(n, n) });
        other.apply(entries).await?;
        let snapshot = other.get_snapshot_builder().await.build_snapshot().await?;
        self.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await?;
        self.facts.applied = Some(upto);
        Ok(())
    }

    /// The whole life; ends early where the power fails.
    async fn live(&mut self) -> Result<(), StorageError> {
        self.vote(1).await?;
        self.append(vec![admit(0), begin_open(1, 1), begin_open(2, 2)]).await?;
        self.log.save_committed(Some(log_id(1, 1, 1))).await?;
        self.machine.apply(vec![admit(0), begin_open(1, 1)]).await?;
        self.append(vec![begin_open(3, 3), begin_open(4, 4)]).await?;
        self.vote(2).await?;
        self.truncate(3).await?;
        self.append(vec![begin_open(13, 3)]).await?;
        self.machine.apply(vec![begin_open(2, 2)]).await?;
        self.snapshot_and_purge(2).await?;
        self.append(vec![begin_open(14, 4), begin_open(15, 5)]).await?;
        self.install(9).await?;
        self.purge(9).await?;
        self.vote(3).await?;
        self.append(vec![begin_open(20, 10), begin_open(21, 11)]).await
    }
}

async fn run(media: &MemoryMedia) -> (Facts, bool) {
    let (log, machine) = stores(Arc::new(MemoryKv::on(media)));
    let mut run = Run { log, machine, facts: Facts::default() };
    let lived = run.live().await.is_ok();
    (run.facts, lived)
}

async fn verify(media: &MemoryMedia, facts: &Facts, what: &str) {
    let kv = Arc::new(MemoryKv::on(media));
    assert_eq!(kv.integrity(), Integrity::Whole, "{what}: a power cut loses nothing that was acknowledged");
    let (mut log, mut machine) = stores(kv);
    let vote = log.read_vote().await.unwrap().unwrap_or_default();
    assert!(vote >= facts.vote, "{what}: voted {}, has {vote}", facts.vote);
    let applied = machine.applied_state().await.unwrap().0.map(|log_id| log_id.index);
    assert!(applied >= facts.applied, "{what}: the state was at {:?}, is at {applied:?}", facts.applied);
    let purged = log.get_log_state().await.unwrap().last_purged_log_id.map(|log_id| log_id.index);
    assert!(purged <= applied, "{what}: purged {purged:?} beyond the state {applied:?}");
    for (index, entry) in &facts.entries {
        let found = log.try_get_log_entries(*index..index + 1).await.unwrap();
        let may_be_gone = *index < facts.purged_below && purged >= Some(*index);
        assert!(found == [entry.clone()] || may_be_gone, "{what}: entry {index}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_durable_step_may_be_cut_before_and_after() {
    let mut cuts = 0;
    for syncs in 0.. {
        let media = MemoryMedia::new();
        media.power_off_after(syncs);
        let (facts, lived) = run(&media).await;
        let under_way = media.unsynced_count();
        for keep in 0..=under_way {
            let cut = media.copied_with_unsynced();
            cut.power_cut_keeping(keep);
            verify(&cut, &facts, &format!("cut at sync {syncs}, {keep} of {under_way} batches kept")).await;
            cuts += 1;
        }
        if lived {
            break;
        }
    }
    assert!(cuts > 20, "{cuts} cuts");
}

#[tokio::test(start_paused = true)]
async fn every_roll_back_is_told_however_short() {
    let mut told = 0;
    for syncs in 1.. {
        let media = MemoryMedia::new();
        media.power_off_after(syncs);
        let (_, lived) = run(&media).await;
        media.power_cut_keeping(0);
        for batches in 1..40 {
            let rotten = media.copied_with_unsynced();
            if rotten.roll_back(batches) < batches {
                break;
            }
            let found = MemoryKv::on(&rotten).integrity();
            assert!(
                matches!(found, Integrity::Lost(_)),
                "{batches} batches less after {syncs} syncs: {found:?}"
            );
            told += 1;
        }
        if lived {
            break;
        }
    }
    assert!(told > 50, "{told} roll-backs");
}
