//! Buckets from making to removal.

use super::{apply, query};
use crate::control::{BucketState, ControlAnswer, ControlCommand, ControlQuery, ControlReply};
use crate::kv::{MemoryKv, MemoryMedia, OrderedKv};
use crate::machine::view::Changes;
use strongroom_types::{BucketClass, BucketId, BucketName, ClusterId, DriveId, NodeId, WallTime};

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
            other => panic!("{other:?}"),
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

#[test]
fn an_incarnation_is_given_once_for_each_nonce_and_never_twice() {
    let control = Control::new();
    let enrolments =
        |control: &Control| match query(&Changes::new(&control.kv, b"p".to_vec()), &ControlQuery::Enrolments)
            .unwrap()
        {
            ControlAnswer::Enrolments(found) => found,
            other => panic!("{other:?}"),
        };
    let enrol_after =
        |node, nonce, after| control.apply(ControlCommand::Enrol { node: NodeId::new(node), nonce, after });
    let enrol = |node, nonce| {
        let after = enrolments(&control).get(&NodeId::new(node)).copied().unwrap_or(0);
        match enrol_after(node, nonce, after) {
            ControlReply::Enrolled { incarnation } => incarnation,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((enrol(1, 11), enrol(1, 11)), (1, 1));
    assert_eq!((enrol(2, 11), enrol(1, 12)), (1, 2));
    assert_eq!(enrol(1, 11), 1, "late and again: what it got before");
    assert_eq!(
        enrol_after(1, 10, 0),
        ControlReply::Outdated,
        "of an earlier life, and late for the first time"
    );
    assert_eq!(enrolments(&control), [(NodeId::new(1), 2), (NodeId::new(2), 1)].into());
    let given: std::collections::BTreeSet<u32> = (100..200).map(|nonce| enrol(3, nonce)).collect();
    assert_eq!(given.len(), 100);
    assert_eq!(enrolments(&control)[&NodeId::new(3)], 100);
    for node in 4..=strongroom_types::limits::NODES_MAX as u64 {
        enrol(node, 1);
    }
    assert_eq!(enrol_after(999, 1, 0), ControlReply::Full);
    assert_eq!(enrol(3, 500), 101, "who is known goes on");
    assert_eq!(enrol_after(1 << 40, 1, 0), ControlReply::Full);
}

#[test]
fn a_drive_that_comes_back_old_is_refused_for_good() {
    let control = Control::new();
    let seen = |drive| match query(&Changes::new(&control.kv, b"p".to_vec()), &ControlQuery::Drive(drive))
        .unwrap()
    {
        ControlAnswer::Drive(seen) => seen,
        other => panic!("{other:?}"),
    };
    let drive = DriveId::new(7);
    let admit_after = |incarnation, run, after| {
        control.apply(ControlCommand::AdmitDrive { drive, incarnation, run, after })
    };
    let admit = |incarnation, run| admit_after(incarnation, run, seen(drive));
    assert_eq!(admit(5, 1), ControlReply::Done, "a new one, whatever it went through before");
    let first = seen(drive);
    assert_eq!(admit(5, 1), ControlReply::Done, "asked again");
    assert_eq!(admit(6, 1), ControlReply::Done, "raised in between");
    assert_eq!(admit(7, 2), ControlReply::Done, "opened again");
    // What the run before asked comes late.
    assert_eq!(admit_after(6, 1, first), ControlReply::Outdated);
    assert_eq!(admit_after(5, 1, None), ControlReply::Outdated);
    assert_eq!(admit(7, 2), ControlReply::Done, "the drive that is there is as good as before");
    // An image from the time of incarnation 6, opened: raised to 7, by another run.
    assert_eq!(admit(7, 3), ControlReply::DriveStale { seen: 7 });
    assert_eq!(admit(8, 4), ControlReply::DriveStale { seen: 7 }, "overtaking does not help");
    let other = DriveId::new(8);
    let command = ControlCommand::AdmitDrive { drive: other, incarnation: 1, run: 4, after: None };
    assert_eq!(control.apply(command), ControlReply::Done);
}
