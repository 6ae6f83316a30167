//! A store that fails, one that another version wrote, and what all replicas have alike and none can read: none of this is damage.

use super::lives::{id_of, whole, write};
use super::{BUCKET, GROUP, cluster, put, quick, version_at};
use crate::codec::{self, GroupKeys};
use crate::damage::ALARM_PREFIX;
use crate::group::{Change, Content, EntryOutcome, GroupCommand, GroupReply};
use crate::kv::{Batch, MemoryKv, MemoryMedia, OrderedKv};
use crate::meta::{MetaError, StartError};
use crate::testing::{Cluster, node};
use bytes::Bytes;
use std::time::Duration;
use strongroom_types::{BucketClass, Condition, NodeId};

/// Puts a value in place of what lies at the key; gives that.
fn exchange(media: &MemoryMedia, key: &[u8], value: Option<Bytes>) -> Bytes {
    let kv = MemoryKv::on(media);
    let before = kv.get(key).unwrap().expect("the record is there");
    kv.apply(Batch { changes: vec![(key.to_vec(), value)] }).unwrap();
    kv.sync().unwrap();
    before
}

/// The record with this version, and a checksum that fits.
fn with_version(key: &[u8], sealed: &Bytes, version: u8) -> Bytes {
    let mut record = codec::unseal("test", key, sealed).unwrap().to_vec();
    record[0] = version;
    codec::seal(key, &record)
}

fn value(media: &MemoryMedia, key: &[u8]) -> Bytes {
    MemoryKv::on(media).get(key).unwrap().expect("the record is there")
}

fn everything(media: &MemoryMedia) -> Vec<(Bytes, Bytes)> {
    MemoryKv::on(media).range(&[], &[0xff; 4], usize::MAX).unwrap()
}

fn last_log(media: &MemoryMedia, keys: GroupKeys) -> Vec<u8> {
    MemoryKv::on(media).range_back(&keys.log(0), &keys.log_end(), 1).unwrap()[0].0.to_vec()
}

/// Each of the records that are written all along, and nothing of the store is changed; put back, the node goes on as who it was.
#[tokio::test(start_paused = true)]
async fn a_store_that_another_version_wrote_is_left_as_it_is() {
    let mut cluster = cluster(1, 500).await;
    write(&cluster, node(1), "k", 1).await;
    whole(&cluster).await;
    let (keys, control) = (GroupKeys::new(Some(GROUP)), GroupKeys::new(None));
    cluster.kill(node(2));
    let media = cluster.media(node(2)).clone();
    let records = [
        codec::STANDING.to_vec(),
        codec::OPENING.to_vec(),
        codec::seen_key(node(1)),
        keys.vote(),
        keys.committed(),
        keys.head(),
        control.head(),
        last_log(&media, keys),
    ];
    for key in records {
        for newer in [true, false] {
            let is_entry = key.get(2) == Some(&b'l');
            let before = value(&media, &key);
            let other = if is_entry {
                crate::log::of_version(
                    GroupKeys::log_index(&key).unwrap(),
                    if newer { u8::MAX } else { 1 },
                    &before,
                )
            } else {
                let own = codec::unseal("test", &key, &before).unwrap()[0];
                with_version(&key, &before, if newer { own + 1 } else { own - 1 })
            };
            exchange(&media, &key, Some(other));
            let found = everything(&media);
            let refused = cluster
                .try_start_node(node(2))
                .await
                .err()
                .expect("it starts, with a record of another version");
            let MetaError::Start(error) = &refused else { panic!("{refused}") };
            let StartError::OtherVersion(error) = &**error else { panic!("{error}") };
            let words = if newer {
                "newer version of strongroom: start that one"
            } else {
                "older version of strongroom"
            };
            assert!(
                error.to_string().contains(words) && error.to_string().contains("nothing was changed"),
                "{error}"
            );
            assert_eq!(everything(&media), found, "{key:?}: nothing was changed");
            assert_eq!(media.set_aside_reasons(), [""; 0]);
            exchange(&media, &key, Some(before));
        }
    }
    let meta = cluster.start_node(node(2)).await;
    whole(&cluster).await;
    assert_eq!(id_of(&meta).incarnation(), 0);
    assert_eq!(version_at(&cluster, node(2), "k").await.unwrap(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_whole_and_makes_no_sense_stops_the_start_and_is_no_damage() {
    let mut cluster = cluster(1, 501).await;
    whole(&cluster).await;
    cluster.kill(node(2));
    let media = cluster.media(node(2)).clone();
    let keys = GroupKeys::new(Some(GROUP));
    for key in [codec::STANDING.to_vec(), keys.vote(), keys.head()] {
        let before = value(&media, &key);
        let own = codec::unseal("test", &key, &before).unwrap()[0];
        exchange(&media, &key, Some(codec::seal(&key, &[own, 0xff, 0xff])));
        assert!(cluster.try_start_node(node(2)).await.is_err());
        assert_eq!(media.set_aside_reasons(), [""; 0]);
        exchange(&media, &key, Some(before));
    }
    let meta = cluster.start_node(node(2)).await;
    whole(&cluster).await;
    assert_eq!(id_of(&meta).incarnation(), 0);
}

fn inline(name: &str, version: u128, len: usize) -> crate::group::Entry {
    let mut entry = put(name, version, Condition::None);
    let Change::Put(record) = &mut entry.change else { unreachable!("it is a put") };
    record.content = Content::Inline(Bytes::from(vec![7; len]));
    record.len_bytes = len as u64;
    entry
}

/// One that all replicas share: were it damage, each that leads would set its store aside in turn.
#[tokio::test(start_paused = true)]
async fn what_no_replica_can_read_condemns_none_of_them() {
    for (seed, missing) in [(510, true), (511, false)] {
        let mut cluster = cluster(1, seed).await;
        whole(&cluster).await;
        // Too long to lie in the record itself.
        let outcome =
            cluster.meta(node(1)).commit(GROUP, inline("k", 1, 1000), cluster.deadline(20)).await.unwrap();
        assert_eq!(outcome, EntryOutcome::Applied);
        write(&cluster, node(1), "other", 2).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for id in cluster.nodes() {
            cluster.kill(id);
            let media = cluster.media(id);
            let kv = MemoryKv::on(media);
            let state = GroupKeys::new(Some(GROUP)).state(0);
            let table = [&state[..], if missing { b"i" } else { b"k" }].concat();
            let found = kv.range(&table, &codec::successor(&table).unwrap(), 1).unwrap();
            let (key, sealed) = found[0].clone();
            assert!(missing || key.ends_with(b"k"), "the first key of the table");
            let own = codec::unseal("test", &key, &sealed).unwrap()[0];
            exchange(media, &key, (!missing).then(|| codec::seal(&key, &[own, 0xff])));
        }
        for id in cluster.nodes() {
            cluster.start_node(id).await;
        }
        whole(&cluster).await;
        let leader = cluster.leader(GROUP).await;
        for asked in [leader, node(1), node(2), node(3)] {
            let read = version_at(&cluster, asked, "k").await;
            assert!(matches!(read, Err(MetaError::Failed)), "{read:?}");
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let alarms = |id: &NodeId| cluster.meta(*id).alarms();
        let told = cluster
            .nodes()
            .iter()
            .filter(|id| alarms(id).iter().any(|alarm| alarm.contains("not damaged")))
            .count();
        assert!(told > 0, "nobody says so");
        for id in cluster.nodes() {
            assert_eq!(cluster.media(id).set_aside_reasons(), [""; 0], "{id}");
        }
        assert_eq!(version_at(&cluster, node(1), "other").await.unwrap(), Some(2), "the rest is served");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_a_sync_says_so_and_acknowledges_nothing_more() {
    let cluster = Cluster::start(1, 1, 520, quick()).await;
    let meta = cluster.meta(node(1));
    meta.bootstrap(cluster.deadline(20)).await.unwrap();
    let admit = GroupCommand::AdmitBucket { bucket: BUCKET, class: BucketClass::Mail, round: 1 };
    assert_eq!(meta.write(GROUP, admit, cluster.deadline(20)).await.unwrap(), GroupReply::Done);
    write(&cluster, node(1), "k", 1).await;
    assert!(
        tokio::time::timeout(Duration::from_secs(60), meta.failed()).await.is_err(),
        "nothing failed yet"
    );
    assert_eq!(meta.alarms(), [""; 0]);
    cluster.media(node(1)).fail_next_sync();
    for version in 2..5 {
        let written = meta.commit(GROUP, put("k", version, Condition::None), cluster.deadline(2)).await;
        assert!(written.is_err(), "{written:?}");
    }
    let reason = tokio::time::timeout(Duration::from_secs(1), meta.failed()).await.expect("it failed");
    assert!(reason.contains("sync"), "{reason}");
    let alarms = meta.alarms();
    assert!(
        alarms.len() == 1
            && alarms[0].starts_with(ALARM_PREFIX)
            && alarms[0].contains("device failed or is full"),
        "{alarms:?}"
    );
    assert_eq!(
        cluster.media(node(1)).set_aside_reasons(),
        [""; 0],
        "what is there is what the next process begins with"
    );
}
