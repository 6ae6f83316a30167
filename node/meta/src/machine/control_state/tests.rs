//! Buckets from making to removal.

use super::{apply, query};
use crate::control::{BucketState, ControlAnswer, ControlCommand, ControlQuery, ControlReply};
use crate::kv::{MemoryKv, MemoryMedia, OrderedKv};
use crate::machine::view::Changes;
use strongroom_types::{BucketClass, BucketId, BucketName, ClusterId, WallTime};

struct Control {
    kv: MemoryKv,
}

impl Control {
    fn new() -> Self {
        Self { kv: MemoryKv::on(&MemoryMedia::new()) }
    }

    fn apply(&self, command: ControlCommand) -> ControlReply {
        let mut changes = Changes::new(&self.kv, b"p".to_vec());
        let reply = apply(&mut changes, command, 2).unwrap();
        self.kv.apply(changes.into_batch()).unwrap();
        reply
    }

    fn create(&self, name: &str) -> ControlReply {
        let (name, class) = (BucketName::new(name).unwrap(), BucketClass::Mail);
        self.apply(ControlCommand::CreateBucket { name, class, at: WallTime::from_unix_millis(5) })
    }

    fn names(&self) -> Vec<String> {
        match query(&Changes::new(&self.kv, b"p".to_vec()), &ControlQuery::Buckets).unwrap() {
            ControlAnswer::Buckets(records) => records.into_iter().map(|r| r.name.to_string()).collect(),
            ControlAnswer::Bucket(_) => unreachable!(),
        }
    }
}

fn state(reply: ControlReply) -> (BucketId, BucketState, bool) {
    match reply {
        ControlReply::Bucket { record, made } => (record.bucket, record.state, made),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_founding_counts() {
    let control = Control::new();
    let found = |cluster, groups| ControlCommand::Found { cluster: ClusterId::new(cluster), groups };
    assert_eq!(control.apply(found(1, 4)), ControlReply::Done);
    assert_eq!(control.apply(found(1, 4)), ControlReply::Done);
    let other = ControlReply::OtherCluster { cluster: ClusterId::new(1), groups: 4 };
    assert_eq!(control.apply(found(2, 4)), other);
    assert_eq!(control.apply(found(1, 5)), other);
}

#[test]
fn a_bucket_is_made_once_and_its_id_is_never_used_again() {
    let control = Control::new();
    let (first, making, made) = state(control.create("mail-a"));
    assert_eq!((making, made), (BucketState::Making, true));
    assert_eq!(state(control.create("mail-a")), (first, BucketState::Making, false));
    let apply = |command| control.apply(command);
    let open = |round| apply(ControlCommand::OpenBucket { bucket: first, round });
    let remove = |round| apply(ControlCommand::RemoveBucket { bucket: first, round });
    assert_eq!(state(open(1)).1, BucketState::Open);
    assert_eq!(state(remove(1)).1, BucketState::Open, "an open bucket is not removed");
    let removing = state(apply(ControlCommand::BeginRemoveBucket { bucket: first }));
    assert_eq!(removing.1, BucketState::Removing);
    assert_eq!(state(open(2)).1, BucketState::Removing, "what is being removed is reopened first");
    assert_eq!(state(apply(ControlCommand::ReopenBucket { bucket: first })).1, BucketState::Making);
    assert_eq!(state(open(2)).1, BucketState::Making, "of an earlier round");
    assert_eq!(state(open(3)).1, BucketState::Open);
    assert_eq!(state(apply(ControlCommand::ReopenBucket { bucket: first })).1, BucketState::Open);
    apply(ControlCommand::BeginRemoveBucket { bucket: first });
    apply(ControlCommand::BeginRemoveBucket { bucket: first });
    assert_eq!(state(remove(4)).1, BucketState::Removing, "overtaken by another remover");
    assert_eq!(remove(5), ControlReply::Done);
    assert_eq!(remove(5), ControlReply::NoSuchBucket);
    assert_eq!(open(5), ControlReply::NoSuchBucket);
    let (second, _, made) = state(control.create("mail-a"));
    assert!(made && second != first);
}

#[test]
fn buckets_are_bounded_and_listed_by_name() {
    let control = Control::new();
    control.create("bbb");
    control.create("aaa");
    assert_eq!(control.create("ccc"), ControlReply::Full);
    assert!(!state(control.create("bbb")).2, "one that is there is found also at the bound");
    assert_eq!(control.names(), ["aaa", "bbb"]);
}
