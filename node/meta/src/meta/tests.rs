//! Three nodes in one process: elections, cuts, crashes, retries.

use super::{MetaError, Timing, group_of};
use crate::control::{BucketState, ControlAnswer, ControlCommand, ControlQuery, ControlReply};
use crate::group::{
    Change, Content, Entry, EntryOutcome, GroupAnswer, GroupCommand, GroupQuery, GroupReply, VersionRecord,
};
use crate::testing::{Cluster, TestRng, node};
use bytes::Bytes;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_env::Rng;
use strongroom_types::{
    Attributes, BucketClass, BucketId, BucketName, Condition, ETag, GroupId, NodeId, ObjectKey, Profile,
    SessionId, VersionId, WallTime,
};

mod faults;
mod joins;
mod lives;
mod older;
mod steps;

const GROUP: GroupId = GroupId::new(0);
const SESSION: SessionId = SessionId::new(5);
const BUCKET: BucketId = BucketId::new(1);

fn quick() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(50),
        election_min: Duration::from_millis(150),
        election_max: Duration::from_millis(300),
        snapshot_piece: Duration::from_secs(5),
        snapshot_every: 30,
        log_keep: 5,
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

fn put(name: &str, version: u128, condition: Condition) -> Entry {
    let record = VersionRecord {
        version: VersionId::new(version),
        len_bytes: 1,
        etag: ETag::new(version.to_string()),
        modified: WallTime::from_unix_millis(1),
        attributes: Attributes::default(),
        content: Content::Inline(Bytes::from_static(b"x")),
    };
    Entry { bucket: BUCKET, key: key(name), condition, change: Change::Put(record), session: Some(SESSION) }
}

async fn cluster(groups: u16, seed: u64) -> Cluster {
    let cluster = Cluster::start(3, groups, seed, quick()).await;
    cluster.meta(node(1)).bootstrap(cluster.deadline(20)).await.unwrap();
    for group in 0..groups {
        let admit = GroupCommand::AdmitBucket { bucket: BUCKET, class: BucketClass::Mail, round: 1 };
        let meta = cluster.meta(node(1));
        assert_eq!(
            meta.write(GroupId::new(group), admit, cluster.deadline(20)).await.unwrap(),
            GroupReply::Done
        );
    }
    cluster
}

async fn version_at(cluster: &Cluster, at: NodeId, name: &str) -> Result<Option<u128>, MetaError> {
    let asked = GroupQuery::Version { bucket: BUCKET, key: key(name), version: None };
    match cluster.meta(at).read(GROUP, asked, cluster.deadline(10)).await? {
        GroupAnswer::Version(version) => Ok(version.map(|version| version.version.get())),
        other => panic!("{other:?}"),
    }
}

fn status_of(cluster: &Cluster, id: NodeId) -> super::GroupStatus {
    cluster.meta(id).status().into_iter().find(|status| status.group == Some(GROUP)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_node_reads_what_any_node_wrote() {
    let cluster = cluster(2, 1).await;
    for writer in cluster.nodes() {
        let name = format!("by-{writer}");
        let (meta, deadline) = (cluster.meta(writer), cluster.deadline(10));
        let version = u128::from(writer.get());
        let outcome = meta.commit(GROUP, put(&name, version, Condition::Absent), deadline).await.unwrap();
        assert_eq!(outcome, EntryOutcome::Applied);
        for reader in cluster.nodes() {
            assert_eq!(version_at(&cluster, reader, &name).await.unwrap(), Some(version));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_control_group_makes_buckets_and_refuses_another_cluster() {
    let cluster = cluster(1, 2).await;
    let name = BucketName::new("mail-store").unwrap();
    let create = ControlCommand::CreateBucket {
        name: name.clone(),
        class: BucketClass::Mail,
        at: WallTime::from_unix_millis(1),
    };
    let meta = cluster.meta(node(2));
    let ControlReply::Bucket { record, made } = meta.control(create, cluster.deadline(10)).await.unwrap()
    else {
        panic!("a bucket was expected")
    };
    assert!(made && record.state == BucketState::Making);
    for reader in cluster.nodes() {
        let meta = cluster.meta(reader);
        let found =
            meta.control_query(ControlQuery::Bucket(name.clone()), cluster.deadline(10)).await.unwrap();
        assert_eq!(found, ControlAnswer::Bucket(Some(record.clone())));
    }
    let other = ControlCommand::Found { cluster: strongroom_types::ClusterId::new(8), groups: 1 };
    let refused = meta.control(other, cluster.deadline(10)).await.unwrap();
    assert!(matches!(refused, ControlReply::OtherCluster { groups: 1, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_lost_leader_is_replaced_and_its_acknowledged_writes_stay() {
    for seed in 0..5 {
        let mut cluster = cluster(1, 10 + seed).await;
        let leader = cluster.leader(GROUP).await;
        let other = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
        cluster.meta(leader).commit(GROUP, put("a", 1, Condition::None), cluster.deadline(10)).await.unwrap();
        cluster.kill(leader);
        assert_eq!(version_at(&cluster, other, "a").await.unwrap(), Some(1));
        let outcome = cluster
            .meta(other)
            .commit(GROUP, put("b", 2, Condition::None), cluster.deadline(10))
            .await
            .unwrap();
        assert_eq!(outcome, EntryOutcome::Applied);
        cluster.start_node(leader).await;
        assert_eq!(version_at(&cluster, leader, "b").await.unwrap(), Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_long_catches_up_by_snapshot() {
    let mut cluster = cluster(1, 20).await;
    let leader = cluster.leader(GROUP).await;
    let away = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
    cluster.kill(away);
    for n in 0..200u32 {
        let entry = put(&format!("k{n}"), u128::from(n) + 1, Condition::None);
        cluster.meta(leader).commit(GROUP, entry, cluster.deadline(10)).await.unwrap();
    }
    // openraft purges no entry that is on its way to a voter, be it dead, before that try has failed.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let purged =
        status_of(&cluster, leader).purged.unwrap_or_else(|| panic!("{:?}", status_of(&cluster, leader)));
    assert!(purged > 100, "the log was purged up to {purged}");
    cluster.start_node(away).await;
    while cluster.meta(away).status().is_empty() {
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    let status = |id| status_of(&cluster, id);
    assert!(status(away).applied < Some(purged));
    for _ in 0..500 {
        if status(away).applied >= status(leader).applied {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        status(away).applied >= Some(purged) && status(away).purged >= Some(purged),
        "{:?}",
        status(away)
    );
    // The other two had it all; now the one that was away must do.
    let third = cluster.nodes().into_iter().find(|id| *id != leader && *id != away).unwrap();
    cluster.kill(third);
    for n in [0u32, 77, 199] {
        let found = version_at(&cluster, away, &format!("k{n}")).await.unwrap();
        assert_eq!(found, Some(u128::from(n) + 1));
    }
    cluster.kill(away);
    cluster.start_node(away).await;
    cluster.start_node(third).await;
    cluster.kill(leader);
    assert_eq!(version_at(&cluster, away, "k199").await.unwrap(), Some(200));
}

#[tokio::test(start_paused = true)]
async fn the_minority_acknowledges_nothing_and_the_majority_goes_on() {
    let cluster = cluster(1, 30).await;
    let leader = cluster.leader(GROUP).await;
    let other = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
    cluster.meta(leader).commit(GROUP, put("k", 1, Condition::None), cluster.deadline(10)).await.unwrap();
    cluster.cut_off(leader);
    let alone = cluster.meta(leader);
    let written = alone.commit(GROUP, put("k", 2, Condition::None), cluster.deadline(4)).await;
    assert!(
        matches!(written, Err(MetaError::Unknown)),
        "proposed by a leader that did not know yet: {written:?}"
    );
    let asked = GroupQuery::Version { bucket: BUCKET, key: key("k"), version: None };
    let read = alone.read(GROUP, asked, cluster.deadline(4)).await;
    assert!(matches!(read, Err(MetaError::Unavailable)), "{read:?}");
    let tag = Condition::Matches(ETag::new("1"));
    let outcome = cluster.meta(other).commit(GROUP, put("k", 3, tag), cluster.deadline(10)).await.unwrap();
    assert_eq!(outcome, EntryOutcome::Applied);
    cluster.heal();
    assert_eq!(version_at(&cluster, leader, "k").await.unwrap(), Some(3));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        version_at(&cluster, leader, "k").await.unwrap(),
        Some(3),
        "the lost write does not come back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_never_sent_is_known_not_to_be_done() {
    let cluster = cluster(1, 31).await;
    let leader = cluster.leader(GROUP).await;
    let other = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
    for id in cluster.nodes().into_iter().filter(|id| *id != other) {
        cluster.kill(id);
    }
    let written = cluster.meta(other).commit(GROUP, put("k", 2, Condition::None), cluster.deadline(3)).await;
    assert!(matches!(written, Err(MetaError::Unavailable)), "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_answer_was_lost_takes_effect_once() {
    let cluster = cluster(1, 32).await;
    let leader = cluster.leader(GROUP).await;
    let other = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
    let meta = cluster.meta(other);
    cluster.lose_answers(1);
    let outcome = meta.commit(GROUP, put("k", 1, Condition::Absent), cluster.deadline(10)).await.unwrap();
    assert_eq!(outcome, EntryOutcome::Applied, "its own first try does not fail its condition");
    let holders = (0..2)
        .map(|n| strongroom_types::Holder { node: node(n), drive: strongroom_types::DriveId::new(1) })
        .collect();
    let (writer, session, profile) = (node(1), SessionId::new(1), Profile::copies(2).unwrap());
    cluster.lose_answers(2);
    let open = GroupCommand::OpenSlab { writer, session, profile, holders };
    let GroupReply::Slab(slab) = meta.write(GROUP, open, cluster.deadline(10)).await.unwrap() else {
        panic!("a slab was expected")
    };
    cluster.lose_answers(2);
    let seal = GroupCommand::BeginSeal { slab: slab.slab, epoch: slab.epoch, given_out: None };
    let sealing = meta.write(GROUP, seal, cluster.deadline(10)).await.unwrap();
    assert!(matches!(sealing, GroupReply::Slab(record) if record.epoch == slab.epoch.next()));
    let asked = GroupQuery::Slabs { after: None, limit: 10, live_only: false };
    let GroupAnswer::Slabs(slabs) = meta.read(GROUP, asked, cluster.deadline(10)).await.unwrap() else {
        panic!("slabs were expected")
    };
    assert_eq!(slabs.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_answer_was_lost_does_not_delete_a_later_version() {
    let cluster = cluster(1, 33).await;
    let leader = cluster.leader(GROUP).await;
    let other = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
    let deadline = cluster.deadline(20);
    cluster.meta(leader).commit(GROUP, put("k", 1, Condition::None), deadline).await.unwrap();
    cluster.lose_answers(1);
    let delete = Entry {
        bucket: BUCKET,
        key: key("k"),
        condition: Condition::None,
        change: Change::Delete,
        session: None,
    };
    let meta = cluster.meta(other);
    let deletion = meta.commit(GROUP, delete, deadline);
    let (writer, world) = (cluster.meta(leader), Arc::clone(&cluster.world));
    let later = async move {
        // Between the first try, which is applied, and the second.
        tokio::time::sleep(Duration::from_millis(8)).await;
        let _ = &world;
        writer.commit(GROUP, put("k", 2, Condition::Absent), deadline).await
    };
    let (deleted, put) = futures::future::join(deletion, later).await;
    assert_eq!((deleted.unwrap(), put.unwrap()), (EntryOutcome::Applied, EntryOutcome::Applied));
    assert_eq!(version_at(&cluster, leader, "k").await.unwrap(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn readers_share_rounds_and_commits_share_entries() {
    let cluster = cluster(1, 34).await;
    let leader = cluster.leader(GROUP).await;
    let meta = cluster.meta(leader);
    let log =
        || meta.status().into_iter().find(|status| status.group == Some(GROUP)).unwrap().last_log.unwrap();
    let before = log();
    let commits = (0..500).map(|n| {
        let (meta, deadline) = (Arc::clone(&meta), cluster.deadline(10));
        async move { meta.commit(GROUP, put(&format!("k{n}"), n + 1, Condition::None), deadline).await }
    });
    for outcome in join_all(commits).await {
        assert_eq!(outcome.unwrap(), EntryOutcome::Applied);
    }
    assert!(log() - before <= 10, "500 commits in {} log entries", log() - before);
    let messages = || cluster.world.raft_messages.load(Ordering::Relaxed);
    let before = messages();
    let reads = (0..500).map(|n| version_at(&cluster, leader, Box::leak(format!("k{n}").into_boxed_str())));
    for (n, version) in (1..).zip(join_all(reads).await) {
        assert_eq!(version.unwrap(), Some(n));
    }
    assert!(messages() - before < 40, "{} messages for 500 reads", messages() - before);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_commits_are_refused_not_queued() {
    let cluster = cluster(1, 35).await;
    let leader = cluster.leader(GROUP).await;
    cluster.cut_off(leader);
    let meta = cluster.meta(leader);
    let commits = (0..crate::limits::COMMIT_QUEUE_ENTRIES_MAX as u128 + 1000).map(|n| {
        let (meta, deadline) = (Arc::clone(&meta), cluster.deadline(1));
        async move { meta.commit(GROUP, put("k", n + 1, Condition::None), deadline).await }
    });
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in join_all(commits).await {
        let outcome = match outcome {
            Ok(_) => "done",
            Err(MetaError::Busy) => "busy",
            Err(MetaError::Unavailable) => "not done",
            Err(MetaError::Unknown) => "unknown",
            Err(other) => panic!("{other}"),
        };
        *count.entry(outcome).or_default() += 1;
    }
    assert!(!count.contains_key("done"));
    assert!(count["busy"] > 0 && count["not done"] > 0, "{count:?}");
    let batch = strongroom_types::limits::COMMIT_BATCH_ENTRIES_MAX;
    assert!((1..=2 * batch).contains(&count["unknown"]), "only what was proposed: {count:?}");
}

/// Writers go on until the power of all nodes fails; every version that was acknowledged, or a later one of its key, is there.
async fn power_cut(seed: u64) {
    let mut cluster = cluster(1, seed).await;
    let rng = TestRng::new(seed);
    for round in 0..3u64 {
        let acknowledged: Arc<Mutex<BTreeMap<String, u128>>> = Arc::default();
        let mut writers = Vec::new();
        for writer in 0..6u64 {
            let meta = cluster.meta(node(1 + writer % 3));
            let (acknowledged, deadline) = (Arc::clone(&acknowledged), cluster.deadline(30));
            writers.push(tokio::spawn(async move {
                let name = format!("w{writer}");
                for n in 1.. {
                    let version = u128::from(round) << 32 | n;
                    if meta.commit(GROUP, put(&name, version, Condition::None), deadline).await.is_ok() {
                        acknowledged.lock().unwrap().insert(name.clone(), version);
                    }
                }
            }));
        }
        tokio::time::sleep(Duration::from_micros(200_000 + rng.u64() % 900_000)).await;
        cluster.power_cut_all(rng.u64());
        for writer in writers {
            writer.abort();
        }
        let acknowledged = acknowledged.lock().unwrap().clone();
        assert!(!acknowledged.is_empty());
        // Asked from the first moment on: a leader that comes back may not remember yet what it had committed.
        let mut readers = Vec::new();
        for id in cluster.nodes() {
            let meta = cluster.start_node(id).await;
            for (name, version) in acknowledged.clone() {
                let (meta, deadline) = (Arc::clone(&meta), cluster.deadline(30));
                let asked = GroupQuery::Version { bucket: BUCKET, key: key(&name), version: None };
                readers.push(tokio::spawn(async move {
                    let found = match meta.read(GROUP, asked, deadline).await.unwrap() {
                        GroupAnswer::Version(found) => found.map(|found| found.version.get()),
                        other => panic!("{other:?}"),
                    };
                    assert!(found >= Some(version), "{name} at {found:?}, acknowledged {version}");
                }));
            }
            tokio::time::sleep(Duration::from_micros(rng.u64() % 500_000)).await;
        }
        for reader in readers {
            reader.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_of_all_nodes_keeps_every_acknowledged_write() {
    for seed in 100..110 {
        power_cut(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_store_fails_a_sync_stops_and_the_others_go_on() {
    let cluster = cluster(1, 40).await;
    let leader = cluster.leader(GROUP).await;
    let other = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
    cluster.media(leader).fail_next_sync();
    let outcome =
        cluster.meta(other).commit(GROUP, put("k", 1, Condition::None), cluster.deadline(10)).await.unwrap();
    assert_eq!(outcome, EntryOutcome::Applied);
    assert_eq!(version_at(&cluster, other, "k").await.unwrap(), Some(1));
    let status = cluster.meta(leader).status();
    assert!(status.iter().any(|status| status.stopped.is_some()), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn commands_beyond_the_limits_are_refused_at_the_door() {
    let cluster = cluster(1, 41).await;
    let (meta, deadline) = (cluster.meta(node(1)), cluster.deadline(5));
    let big = |len| {
        let mut entry = put("k", 1, Condition::None);
        if let Change::Put(record) = &mut entry.change {
            record.content = Content::Inline(Bytes::from(vec![0; len]));
        }
        entry
    };
    let inside = crate::limits::ENTRY_LEN_BYTES_MAX - 100;
    assert_eq!(meta.commit(GROUP, big(inside), deadline).await.unwrap(), EntryOutcome::Applied);
    let outside = meta.commit(GROUP, big(crate::limits::ENTRY_LEN_BYTES_MAX), deadline).await;
    assert!(matches!(outside, Err(MetaError::TooLarge { .. })));
    let entries = |count| GroupCommand::Commit { entries: vec![put("k", 1, Condition::None); count] };
    assert!(meta.write(GROUP, entries(256), deadline).await.is_ok());
    assert!(matches!(meta.write(GROUP, entries(257), deadline).await, Err(MetaError::Invalid { .. })));
    let absent = meta.write(GroupId::new(1), entries(1), deadline).await;
    assert!(matches!(absent, Err(MetaError::NoSuchGroup { .. })));
}

#[tokio::test(start_paused = true)]
async fn foreign_bytes_are_answered_not_obeyed() {
    let cluster = cluster(1, 42).await;
    let meta = cluster.meta(node(1));
    for body in [Bytes::new(), Bytes::from_static(&[0xff; 40]), Bytes::from_static(&[0; 3])] {
        for (raft, group) in
            [(true, Some(GROUP)), (false, Some(GROUP)), (true, None), (true, Some(GroupId::new(9)))]
        {
            assert!(!meta.handle(node(2), group, body.clone(), raft).await.is_empty());
            assert!(!meta.handle(node(99), group, body.clone(), raft).await.is_empty());
        }
    }
    assert_eq!(version_at(&cluster, node(1), "k").await.unwrap(), None);
}

/// Elections, a lost leader, replication that backs off from it, a snapshot for it: all messages of a run, with their times.
async fn traced(seed: u64) -> (u32, u64) {
    let mut cluster = cluster(2, seed).await;
    let leader = cluster.leader(GROUP).await;
    let other = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
    cluster.kill(leader);
    for n in 0..60u32 {
        let entry = put(&format!("k{n}"), u128::from(n) + 1, Condition::None);
        cluster.meta(other).commit(GROUP, entry, cluster.deadline(10)).await.unwrap();
    }
    cluster.start_node(leader).await;
    assert_eq!(version_at(&cluster, leader, "k59").await.unwrap(), Some(60));
    tokio::time::sleep(Duration::from_secs(3)).await;
    (*cluster.world.trace.lock().unwrap(), cluster.world.raft_messages.load(Ordering::Relaxed))
}

#[test]
fn a_seed_gives_the_same_messages_at_the_same_times() {
    let run = |seed| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(traced(seed))
    };
    for seed in 50..53 {
        let first = run(seed);
        for _ in 0..3 {
            assert_eq!(run(seed), first, "seed {seed}");
        }
    }
    assert_ne!(run(50), run(51));
}

#[test]
fn keys_go_to_the_group_that_is_written_on_disk() {
    let at = |groups, bucket, name: &str| group_of(groups, BucketId::new(bucket), &key(name)).get();
    // These values may never change.
    let crc = crc32c::crc32c(b"\0\0\0\0\0\0\0\x01mail/1");
    assert_eq!(u32::from(at(64, 1, "mail/1")), crc % 64);
    assert_eq!(at(1, 1, "mail/1"), 0);
    let mut counts = [0; 16];
    for n in 0..16_000 {
        counts[usize::from(at(16, 3, &format!("user/{n}/mail")))] += 1;
    }
    assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
}
