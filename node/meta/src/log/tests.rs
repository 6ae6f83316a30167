//! Damage is seen, a crash leaves no hole. (openraft's own suite runs in `machine::storage::tests`.)

use super::{LogError, LogStore};
use crate::codec::{GroupKeys, RecordError};
use crate::kv::{Batch, MemoryKv, MemoryMedia, OrderedKv};
use crate::raft::{Command, LogEntry, LogId};
use crate::raft_id::RaftId;
use crate::syncer::Syncer;
use crate::testing::env_alone;
use bytes::Bytes;
use openraft::EntryPayload;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use std::sync::Arc;
use strongroom_types::GroupId;

const ID: RaftId = RaftId::from_bits(7);

fn open(media: &MemoryMedia) -> Result<LogStore, LogError> {
    let env = env_alone(1);
    let kv: Arc<dyn OrderedKv> = Arc::new(MemoryKv::on(media));
    let syncer = Syncer::new(Arc::clone(&kv), &env);
    let damage = crate::damage::Damage::new(Arc::clone(&kv), crate::damage::Alarms::default());
    LogStore::open(kv, ID, Some(GroupId::new(3)), syncer, env.spawn, damage)
}

fn log_id(term: u64, index: u64) -> LogId {
    openraft::testing::log_id(term, 1, index)
}

fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<LogEntry> {
    let entry = |index| LogEntry {
        log_id: log_id(term, index),
        payload: EntryPayload::Normal(Command::Commit { entries: Vec::new() }),
    };
    indexes.map(entry).collect()
}

async fn filled(media: &MemoryMedia, count: u64) -> LogStore {
    let mut log = open(media).unwrap();
    log.blocking_append(entries(1, 0..count)).await.unwrap();
    log
}

#[tokio::test(start_paused = true)]
async fn an_appended_entry_outlives_a_power_cut() {
    for seed in 0..20 {
        let media = MemoryMedia::new();
        filled(&media, 5).await;
        media.power_cut(seed);
        let mut log = open(&media).unwrap();
        assert_eq!(log.try_get_log_entries(0..10).await.unwrap(), entries(1, 0..5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_saved_vote_outlives_a_power_cut() {
    let media = MemoryMedia::new();
    let mut log = open(&media).unwrap();
    log.save_vote(&openraft::Vote::new(4, 2)).await.unwrap();
    media.power_cut(0);
    assert_eq!(open(&media).unwrap().read_vote().await.unwrap(), Some(openraft::Vote::new(4, 2)));
    for (id, expected) in
        [(2, openraft::Vote::new_committed(4, 2)), (ID.to_bits(), openraft::Vote::new(4, ID.to_bits()))]
    {
        let mut log = open(&media).unwrap();
        log.save_vote(&openraft::Vote::new_committed(4, id)).await.unwrap();
        media.power_cut(0);
        let found = open(&media).unwrap().read_vote().await.unwrap();
        assert_eq!(found, Some(expected), "that it won itself is for it to show again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_fails_the_append_and_the_vote() {
    let media = MemoryMedia::new();
    let mut log = open(&media).unwrap();
    media.fail_next_sync();
    assert!(log.blocking_append(entries(1, 0..1)).await.is_err());
    assert!(log.save_vote(&openraft::Vote::new(1, 1)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_is_an_error_never_an_end() {
    let media = MemoryMedia::new();
    let mut log = filled(&media, 5).await;
    let keys = GroupKeys::new(Some(GroupId::new(3)));
    assert!(media.corrupt(&keys.log(2)));
    assert!(log.try_get_log_entries(0..5).await.is_err());
    assert_eq!(log.try_get_log_entries(3..5).await.unwrap().len(), 2);
    assert!(media.corrupt(&keys.log(4)));
    assert!(matches!(open(&media), Err(LogError::CorruptEntry { index: 4 })));
}

#[tokio::test(start_paused = true)]
async fn a_missing_entry_is_an_error() {
    for missing in 0..4 {
        let media = MemoryMedia::new();
        let mut log = filled(&media, 5).await;
        let mut batch = Batch::default();
        batch.remove(GroupKeys::new(Some(GroupId::new(3))).log(missing));
        log.kv.apply(batch).unwrap();
        assert!(log.try_get_log_entries(0..5).await.is_err());
        match open(&media) {
            Err(LogError::Hole { expected: 0, found: Some(1) }) => assert_eq!(missing, 0),
            Err(other) => panic!("{other}"),
            Ok(mut log) => assert!(log.try_get_log_entries(0..5).await.is_err()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reads_for_followers_are_bounded_by_bytes_and_never_empty() {
    let media = MemoryMedia::new();
    let log = filled(&media, 100).await;
    let one = log.read(10, 20, 1).unwrap();
    assert_eq!(one, entries(1, 10..11));
    assert_eq!(log.read(10, 20, usize::MAX).unwrap(), entries(1, 10..20));
}

#[tokio::test(start_paused = true)]
async fn truncate_and_purge_at_every_cut_leave_a_log_without_hole() {
    for seed in 0..40 {
        let media = MemoryMedia::new();
        let mut log = filled(&media, 3000).await;
        log.truncate(log_id(1, 500)).await.unwrap();
        log.purge(log_id(1, 300)).await.unwrap();
        media.power_cut(seed);
        let mut log = open(&media).unwrap();
        let state = log.get_log_state().await.unwrap();
        let first = state.last_purged_log_id.map_or(0, |purged| purged.index + 1);
        let last = state.last_log_id.unwrap().index;
        assert!((first == 0 || first == 301) && (499..3000).contains(&last), "{first} {last}");
        assert_eq!(log.try_get_log_entries(0..4000).await.unwrap(), entries(1, first..last + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn entries_of_a_later_term_replace_truncated_ones() {
    let media = MemoryMedia::new();
    let mut log = filled(&media, 5).await;
    log.truncate(log_id(1, 2)).await.unwrap();
    log.blocking_append(entries(2, 2..4)).await.unwrap();
    let expected = [entries(1, 0..2), entries(2, 2..4)].concat();
    assert_eq!(log.try_get_log_entries(0..9).await.unwrap(), expected);
    assert_eq!(open(&media).unwrap().try_get_log_entries(0..9).await.unwrap(), expected);
}

/// What is on disks: may change only with the version byte, and then the old form must still be read.
#[test]
fn entries_have_the_bytes_that_are_on_disks() {
    let entry = entries(3, 7..8).remove(0);
    let bytes = super::encode_entry(&entry);
    assert_eq!(bytes[0], 6, "version");
    // Log id: term 3, node 1, index 7. Payload: a normal command, the third kind, without entries.
    assert_eq!(bytes[5..], [3, 1, 7, 1, 2, 0]);
    let crc = crc32c::crc32c(&[0, 0, 0, 0, 0, 0, 0, 7, 6, 3, 1, 7, 1, 2, 0]);
    assert_eq!(bytes[1..5], crc.to_be_bytes());
    assert_eq!(super::decode_entry(7, &bytes).unwrap(), entry);
    assert!(super::decode_entry(8, &bytes).is_err(), "an entry at another's place");
    for bit in 0..bytes.len() * 8 {
        let mut rotten = bytes.to_vec();
        rotten[bit / 8] ^= 1 << (bit % 8);
        let error = super::decode_entry(7, &rotten).unwrap_err();
        assert!(
            matches!(error, LogError::CorruptEntry { index: 7 }),
            "bit {bit}, the version's included: {error}"
        );
    }
}

fn with_version(index: u64, version: u8, body: &[u8]) -> Bytes {
    super::of_version(index, version, &[&[0; 5][..], body].concat())
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_another_version_wrote_is_no_damage_and_stays() {
    let expected = super::ENTRY_VERSION;
    for (version, body, whole) in
        [(1, &[3, 1, 4][..], false), (expected + 1, &[9; 40], false), (expected, &[9; 40], true)]
    {
        let media = MemoryMedia::new();
        let log = filled(&media, 4).await;
        let key = GroupKeys::new(Some(GroupId::new(3))).log(4);
        let mut batch = Batch::default();
        batch.put(key.clone(), with_version(4, version, body));
        log.kv.apply(batch).unwrap();
        let error = open(&media).err().unwrap();
        assert!(!error.is_damage(), "{error}");
        match error {
            LogError::Record(RecordError::OtherVersion { found, .. }) if !whole => assert_eq!(found, version),
            LogError::Record(RecordError::Undecodable { .. }) if whole => {}
            other => panic!("{version}: {other}"),
        }
        let kv = MemoryKv::on(&media);
        assert_eq!(kv.get(&key).unwrap(), Some(with_version(4, version, body)));
        assert_eq!(super::check_version(4, &with_version(4, version, body)).is_err(), !whole);
    }
}
