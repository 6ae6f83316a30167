//! Buckets from making to removal.

use super::{apply, query};
use crate::control::{
    BucketState, ControlAnswer, ControlCommand, ControlQuery, ControlReply, NodeStanding, Pulse,
};
use crate::kv::{MemoryKv, MemoryMedia, OrderedKv};
use crate::limits::{DRAINS_MAX, NODES_SEEN_MAX};
use crate::machine::view::Changes;
use std::net::SocketAddr;
use strongroom_types::limits::NODES_MAX;
use strongroom_types::{
    BucketClass, BucketId, BucketName, ClusterId, DrainSubject, DriveId, Member, NodeId, WallTime, ZoneId,
};

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

#[test]
fn a_drain_lasts_until_it_is_ended_and_twice_is_once() {
    let control = Control::new();
    let drains = || match query(&Changes::new(&control.kv, b"p".to_vec()), &ControlQuery::Drains).unwrap() {
        ControlAnswer::Drains(drains) => drains,
        other => panic!("{other:?}"),
    };
    let begin = |subject, at| {
        control.apply(ControlCommand::BeginDrain { subject, at: WallTime::from_unix_millis(at) })
    };
    let (drive, node) = (DrainSubject::Drive(DriveId::new(7)), DrainSubject::Node(NodeId::new(7)));
    assert_eq!(begin(drive, 1), ControlReply::NoSuchDrive, "nobody ever saw it");
    assert!(drains().is_empty());
    let admit = ControlCommand::AdmitDrive { drive: DriveId::new(7), incarnation: 1, run: 1, after: None };
    assert_eq!(control.apply(admit), ControlReply::Done);
    for (at, subject) in [(2, drive), (3, drive), (4, node), (5, node)] {
        assert_eq!(begin(subject, at), ControlReply::Done);
    }
    let since = |at| WallTime::from_unix_millis(at);
    assert_eq!(drains(), [(node, since(4)), (drive, since(2))].into(), "since it was asked for first");
    for _ in 0..2 {
        assert_eq!(control.apply(ControlCommand::EndDrain { subject: drive }), ControlReply::Done);
        assert_eq!(drains(), [(node, since(4))].into());
    }
    assert_eq!(begin(drive, 9), ControlReply::Done, "it may begin anew");
    assert_eq!(drains(), [(node, since(4)), (drive, since(9))].into());
}

#[test]
fn drains_are_bounded() {
    let control = Control::new();
    let begin = |node: usize| {
        let subject = DrainSubject::Node(NodeId::new(node as u64));
        control.apply(ControlCommand::BeginDrain { subject, at: WallTime::from_unix_millis(1) })
    };
    // Put beside each other at once: one by one each would count all others.
    let mut changes = Changes::new(&control.kv, b"p".to_vec());
    for node in 0..DRAINS_MAX - 1 {
        let subject = DrainSubject::Node(NodeId::new(node as u64));
        changes.put(super::drain_key(subject), &(subject, WallTime::from_unix_millis(1)));
    }
    control.kv.apply(changes.into_batch()).unwrap();
    assert_eq!(begin(DRAINS_MAX), ControlReply::Done);
    assert_eq!(begin(DRAINS_MAX + 1), ControlReply::Full);
    assert_eq!(begin(DRAINS_MAX), ControlReply::Done, "what is there already is no more");
}

#[test]
fn a_node_is_admitted_moves_and_is_never_taken_again_once_dismissed() {
    let control = Control::new();
    let member = |node: u64, zone: u8, port: u16| Member {
        node: NodeId::new(node),
        zone: ZoneId::new(zone),
        address: SocketAddr::from(([127, 0, 0, 1], port)),
    };
    let admit = |member| control.apply(ControlCommand::AdmitNode { member });
    let dismiss =
        |node| control.apply(ControlCommand::DismissNode { node: NodeId::new(node), pulse: Pulse::Dead });
    let enrol = |after| control.apply(ControlCommand::Enrol { node: NodeId::new(7), nonce: 5, after });
    let nodes = || match query(&Changes::new(&control.kv, b"p".to_vec()), &ControlQuery::Nodes).unwrap() {
        ControlAnswer::Nodes(nodes) => nodes,
        other => panic!("{other:?}"),
    };
    assert_eq!(dismiss(7), ControlReply::NoSuchNode);
    assert_eq!(enrol(0), ControlReply::Enrolled { incarnation: 1 });
    assert_eq!(admit(member(7, 2, 1)), ControlReply::Done);
    assert_eq!(admit(member(7, 2, 1)), ControlReply::Done);
    assert_eq!(admit(member(7, 3, 1)), ControlReply::OtherZone { zone: ZoneId::new(2) });
    assert_eq!(admit(member(7, 2, 9)), ControlReply::Done, "it has moved");
    let record = nodes()[&NodeId::new(7)];
    assert_eq!((record.address.port(), record.standing), (9, NodeStanding::Member));
    assert_eq!(dismiss(7), ControlReply::Done);
    assert_eq!(dismiss(7), ControlReply::Done);
    assert_eq!(nodes()[&NodeId::new(7)].standing, NodeStanding::Dismissed);
    for refused in [admit(member(7, 2, 9)), admit(member(7, 3, 9)), enrol(0), enrol(1)] {
        assert_eq!(refused, ControlReply::Dismissed);
    }
}

#[test]
fn as_many_nodes_are_admitted_as_a_cluster_may_have_and_dismissed_ones_make_room() {
    let control = Control::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let admit = |node: usize| {
        let member = Member { node: NodeId::new(node as u64), zone: ZoneId::new(1), address };
        control.apply(ControlCommand::AdmitNode { member })
    };
    let dismiss = |node: usize| {
        control.apply(ControlCommand::DismissNode { node: NodeId::new(node as u64), pulse: Pulse::Dead })
    };
    for node in 1..=NODES_MAX {
        assert_eq!(admit(node), ControlReply::Done, "{node}");
    }
    assert_eq!(admit(NODES_MAX + 1), ControlReply::Full);
    assert_eq!(admit(5), ControlReply::Done, "one that is there");
    // And so on, until as many ids were used as are remembered.
    for node in NODES_MAX + 1..=NODES_SEEN_MAX {
        assert_eq!(dismiss(node - NODES_MAX), ControlReply::Done);
        assert_eq!(admit(node), ControlReply::Done, "{node}");
    }
    assert_eq!(dismiss(NODES_SEEN_MAX), ControlReply::Done);
    assert_eq!(admit(NODES_SEEN_MAX + 1), ControlReply::Full);
}

#[test]
fn a_node_that_was_drained_and_dismissed_has_no_drain_and_gets_none() {
    let control = Control::new();
    let (node, address) = (NodeId::new(7), SocketAddr::from(([127, 0, 0, 1], 1)));
    let at = WallTime::from_unix_millis(1);
    let begin = |subject| control.apply(ControlCommand::BeginDrain { subject, at });
    let drains = || match query(&Changes::new(&control.kv, b"p".to_vec()), &ControlQuery::Drains).unwrap() {
        ControlAnswer::Drains(drains) => drains,
        other => panic!("{other:?}"),
    };
    let member = Member { node, zone: ZoneId::new(1), address };
    assert_eq!(control.apply(ControlCommand::AdmitNode { member }), ControlReply::Done);
    let (own, other) = (DrainSubject::Node(node), DrainSubject::Node(NodeId::new(8)));
    let dismiss = || control.apply(ControlCommand::DismissNode { node, pulse: Pulse::Alive });
    assert_eq!(begin(other), ControlReply::Done);
    assert_eq!(dismiss(), ControlReply::NotDrained);
    assert_eq!(begin(own), ControlReply::Done);
    assert_eq!(dismiss(), ControlReply::Done);
    assert_eq!(dismiss(), ControlReply::Done, "again");
    assert_eq!(drains(), [(other, at)].into());
    assert_eq!(begin(own), ControlReply::Dismissed);
    assert_eq!(control.apply(ControlCommand::EndDrain { subject: own }), ControlReply::Done);
    assert_eq!(drains(), [(other, at)].into());
}
