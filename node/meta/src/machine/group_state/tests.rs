//! Commits, versions and the slab table.

use super::{apply, commit, query};
use crate::group::{
    Change, Content, Entry, EntryOutcome, GroupAnswer, GroupCommand, GroupQuery, GroupReply, VersionRecord,
};
use crate::kv::{MemoryKv, MemoryMedia, OrderedKv};
use crate::machine::namespace::Position;
use crate::machine::view::Changes;
use bytes::Bytes;
use std::cell::Cell;
use strongroom_types::limits::CONFIG_VERSIONS_MAX;
use strongroom_types::{
    Attributes, BucketClass, BucketId, Condition, DriveId, ETag, Epoch, GroupId, Holder, Locator, NodeId,
    ObjectKey, Profile, SessionId, SlabId, SlabRecord, VersionId, WallTime,
};

const SESSION: SessionId = SessionId::new(5);
const MAIL: BucketId = BucketId::new(1);
const CONFIG: BucketId = BucketId::new(2);

struct Group {
    kv: MemoryKv,
    log_index: Cell<u64>,
}

impl Group {
    fn new() -> Self {
        let group = Self { kv: MemoryKv::on(&MemoryMedia::new()), log_index: Cell::new(0) };
        group.apply(GroupCommand::AdmitBucket { bucket: MAIL, class: BucketClass::Mail, round: 1 });
        group.apply(GroupCommand::AdmitBucket { bucket: CONFIG, class: BucketClass::Config, round: 1 });
        group
    }

    fn step<T>(&self, work: impl FnOnce(&mut Changes<'_>, u64) -> T) -> T {
        let mut changes = Changes::new(&self.kv, b"p".to_vec());
        let log_index = self.log_index.replace(self.log_index.get() + 1);
        let result = work(&mut changes, log_index);
        let batch = changes.into_batch();
        self.kv.apply(batch).unwrap();
        result
    }

    fn apply(&self, command: GroupCommand) -> GroupReply {
        self.step(|changes, log_index| apply(changes, GroupId::new(3), log_index, command).unwrap())
    }

    fn commit(&self, entry: Entry) -> EntryOutcome {
        self.step(|changes, log_index| {
            commit(changes, Position { log_index, entry_index: 0 }, entry).unwrap()
        })
    }

    fn query(&self, asked: GroupQuery) -> GroupAnswer {
        query(&Changes::new(&self.kv, b"p".to_vec()), asked).unwrap()
    }

    fn current(&self, bucket: BucketId, name: &str) -> Option<VersionRecord> {
        match self.query(GroupQuery::Version { bucket, key: key(name), version: None }) {
            GroupAnswer::Version(version) => version,
            other => panic!("{other:?}"),
        }
    }

    fn versions(&self, bucket: BucketId, name: &str) -> Vec<u128> {
        match self.query(GroupQuery::Versions { bucket, key: key(name) }) {
            GroupAnswer::Versions(versions) => versions.into_iter().map(|v| v.version.get()).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn beside_count(&self) -> usize {
        self.kv.range(b"pi", b"pj", 1000).unwrap().len()
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

fn record(version: u128, len: usize) -> VersionRecord {
    VersionRecord {
        version: VersionId::new(version),
        len_bytes: len as u64,
        etag: ETag::new(format!("tag{version}")),
        modified: WallTime::from_unix_millis(5),
        attributes: Attributes::default(),
        content: Content::Inline(Bytes::from(vec![version as u8; len])),
    }
}

fn put(bucket: BucketId, name: &str, version: u128, condition: Condition) -> Entry {
    Entry {
        bucket,
        key: key(name),
        condition,
        change: Change::Put(record(version, 1000)),
        session: Some(SESSION),
    }
}

fn delete(bucket: BucketId, name: &str, condition: Condition) -> Entry {
    Entry { bucket, key: key(name), condition, change: Change::Delete, session: None }
}

#[test]
fn conditions_are_decided_against_the_current_version() {
    use EntryOutcome::{Applied, ConditionFailed, NoSuchKey};
    let tag = |version: u128| Condition::Matches(ETag::new(format!("tag{version}")));
    // condition, outcome without a current version, outcome with version 7
    let table = [
        (Condition::None, Applied, Applied),
        (Condition::Absent, Applied, ConditionFailed),
        (Condition::Present, NoSuchKey, Applied),
        (tag(7), NoSuchKey, Applied),
        (tag(8), NoSuchKey, ConditionFailed),
    ];
    for (condition, without, with) in table {
        for bucket in [MAIL, CONFIG] {
            for change in [Change::Put(record(9, 10)), Change::Delete] {
                let entry = || Entry {
                    bucket,
                    key: key("k"),
                    condition: condition.clone(),
                    change: change.clone(),
                    session: Some(SESSION),
                };
                let empty = Group::new();
                assert_eq!(empty.commit(entry()), without, "{condition:?}");
                let full = Group::new();
                full.commit(put(bucket, "k", 7, Condition::None));
                assert_eq!(full.commit(entry()), with, "{condition:?}");
                let after = full.current(bucket, "k").map(|version| version.version.get());
                let expected = match (with == Applied, &change) {
                    (true, Change::Put(_)) => Some(9),
                    (true, Change::Delete) => None,
                    (false, _) => Some(7),
                };
                assert_eq!(after, expected);
            }
        }
    }
}

#[test]
fn a_put_of_the_current_version_is_applied_again_whatever_its_condition() {
    let group = Group::new();
    assert_eq!(group.commit(put(CONFIG, "k", 1, Condition::Absent)), EntryOutcome::Applied);
    assert_eq!(group.commit(put(CONFIG, "k", 1, Condition::Absent)), EntryOutcome::Applied);
    assert_eq!(group.commit(put(CONFIG, "k", 2, Condition::Absent)), EntryOutcome::ConditionFailed);
    assert_eq!(group.versions(CONFIG, "k"), [1]);
}

#[test]
fn entries_of_one_command_see_each_other() {
    let group = Group::new();
    let entries = vec![
        put(MAIL, "a", 1, Condition::Absent),
        put(MAIL, "a", 2, Condition::Absent),
        put(MAIL, "a", 3, Condition::Matches(ETag::new("tag1"))),
        delete(MAIL, "b", Condition::Present),
    ];
    let outcomes = vec![
        EntryOutcome::Applied,
        EntryOutcome::ConditionFailed,
        EntryOutcome::Applied,
        EntryOutcome::NoSuchKey,
    ];
    assert_eq!(group.apply(GroupCommand::Commit { entries }), GroupReply::Committed(outcomes));
    assert_eq!(group.current(MAIL, "a").unwrap(), record(3, 1000));
}

#[test]
fn mail_keeps_one_version_and_config_the_newest_few() {
    let group = Group::new();
    for version in 1..=30 {
        for bucket in [MAIL, CONFIG] {
            group.commit(put(bucket, "k", version, Condition::None));
        }
    }
    assert_eq!(group.versions(MAIL, "k"), [30]);
    let newest: Vec<u128> = (15..=30).rev().collect();
    assert_eq!(newest.len(), CONFIG_VERSIONS_MAX);
    assert_eq!(group.versions(CONFIG, "k"), newest);
    assert_eq!(group.beside_count(), 1 + CONFIG_VERSIONS_MAX, "bytes of versions that went are gone");
    let named = |version| {
        let version = Some(VersionId::new(version));
        group.query(GroupQuery::Version { bucket: CONFIG, key: key("k"), version })
    };
    assert_eq!(named(15), GroupAnswer::Version(Some(record(15, 1000))));
    assert_eq!(named(30), GroupAnswer::Version(Some(record(30, 1000))));
    assert_eq!(named(14), GroupAnswer::Version(None));
}

#[test]
fn a_deleted_config_key_keeps_its_versions_and_a_mail_key_nothing() {
    let group = Group::new();
    for bucket in [MAIL, CONFIG] {
        for version in 1..=20 {
            group.commit(put(bucket, "k", version, Condition::None));
        }
        group.commit(delete(bucket, "k", Condition::None));
        assert_eq!(group.current(bucket, "k"), None);
    }
    assert_eq!(group.versions(MAIL, "k"), [0u128; 0]);
    assert_eq!(group.versions(CONFIG, "k"), (5..=20).rev().collect::<Vec<u128>>());
    group.commit(put(CONFIG, "k", 21, Condition::Absent));
    assert_eq!(group.versions(CONFIG, "k"), (6..=21).rev().collect::<Vec<u128>>());
    assert_eq!(group.beside_count(), CONFIG_VERSIONS_MAX);
}

#[test]
fn versions_of_a_key_are_not_those_of_a_longer_one() {
    let group = Group::new();
    for (version, name) in [(1, "a"), (2, "ab"), (3, "a"), (4, "a\u{0}"), (5, "a\u{0}"), (6, "ab")] {
        group.commit(put(CONFIG, name, version, Condition::None));
    }
    assert_eq!(group.versions(CONFIG, "a"), [3, 1]);
    assert_eq!(group.versions(CONFIG, "a\u{0}"), [5, 4]);
    assert_eq!(group.versions(CONFIG, "ab"), [6, 2]);
}

#[test]
fn a_bucket_admits_until_it_is_closed_and_closes_when_empty() {
    let group = Group::new();
    let other = BucketId::new(9);
    assert_eq!(group.commit(put(other, "k", 1, Condition::None)), EntryOutcome::NoSuchBucket);
    let asked = || GroupQuery::Versions { bucket: other, key: key("k") };
    assert_eq!(group.query(asked()), GroupAnswer::NoSuchBucket);
    group.commit(put(MAIL, "k", 1, Condition::None));
    assert_eq!(
        group.apply(GroupCommand::CloseBucket { bucket: MAIL, class: BucketClass::Mail, round: 1 }),
        GroupReply::NotEmpty
    );
    assert_eq!(
        group.commit(put(MAIL, "l", 2, Condition::None)),
        EntryOutcome::Applied,
        "refused: still open"
    );
    group.commit(delete(MAIL, "k", Condition::None));
    group.commit(delete(MAIL, "l", Condition::None));
    assert_eq!(
        group.apply(GroupCommand::CloseBucket { bucket: MAIL, class: BucketClass::Mail, round: 1 }),
        GroupReply::Done
    );
    assert_eq!(group.commit(put(MAIL, "k", 3, Condition::None)), EntryOutcome::NoSuchBucket);
    assert_eq!(
        group.apply(GroupCommand::CloseBucket { bucket: other, class: BucketClass::Mail, round: 1 }),
        GroupReply::Done
    );
    group.apply(GroupCommand::AdmitBucket { bucket: MAIL, class: BucketClass::Mail, round: 1 });
    assert_eq!(group.commit(put(MAIL, "k", 3, Condition::None)), EntryOutcome::Applied);
}

#[test]
fn what_is_late_of_an_earlier_round_neither_admits_nor_closes() {
    let group = Group::new();
    let class = BucketClass::Mail;
    let close = |round| group.apply(GroupCommand::CloseBucket { bucket: MAIL, class, round });
    let admit = |round| group.apply(GroupCommand::AdmitBucket { bucket: MAIL, class, round });
    assert_eq!(close(3), GroupReply::Done);
    assert_eq!(admit(2), GroupReply::Outdated);
    assert_eq!(group.commit(put(MAIL, "k", 1, Condition::None)), EntryOutcome::NoSuchBucket);
    assert_eq!(admit(4), GroupReply::Done);
    assert_eq!(close(3), GroupReply::Outdated);
    assert_eq!(group.commit(put(MAIL, "k", 1, Condition::None)), EntryOutcome::Applied);
    // Never admitted here, and closed: what comes late must not open it.
    let other = BucketId::new(9);
    assert_eq!(group.apply(GroupCommand::CloseBucket { bucket: other, class, round: 2 }), GroupReply::Done);
    assert_eq!(
        group.apply(GroupCommand::AdmitBucket { bucket: other, class, round: 1 }),
        GroupReply::Outdated
    );
}

fn open_slab(group: &Group) -> SlabRecord {
    let holders = (0..2).map(|n| Holder { node: NodeId::new(n), drive: DriveId::new(1) }).collect();
    let (writer, session) = (NodeId::new(1), SessionId::new(2));
    let profile = Profile::copies(2).unwrap();
    match group.apply(GroupCommand::OpenSlab { writer, session, profile, holders }) {
        GroupReply::Slab(record) => record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn slab_ids_carry_the_group_and_are_never_used_twice() {
    let group = Group::new();
    let slabs: Vec<SlabId> = (0..5).map(|_| open_slab(&group).slab).collect();
    let expected: Vec<SlabId> = (0..5).map(|n| SlabId::new(GroupId::new(3), n).unwrap()).collect();
    assert_eq!(slabs, expected);
}

#[test]
fn a_slab_changes_by_compare_and_set() {
    let group = Group::new();
    let record = open_slab(&group);
    let seal = GroupCommand::BeginSeal { slab: record.slab, epoch: record.epoch, given_out: None };
    let GroupReply::Slab(sealing) = group.apply(seal.clone()) else { panic!("sealing expected") };
    assert_eq!(sealing.epoch, Epoch::new(2));
    assert_eq!(group.apply(seal), GroupReply::SlabDiffers(sealing.clone()));
    assert_eq!(group.query(GroupQuery::Slab(record.slab)), GroupAnswer::Slab(Some(sealing)));
    let absent =
        GroupCommand::BeginSeal { slab: SlabId::from_bits(999), epoch: Epoch::FIRST, given_out: None };
    assert_eq!(group.apply(absent), GroupReply::NoSuchSlab);
}

#[test]
fn slabs_are_listed_page_by_page() {
    let group = Group::new();
    let all: Vec<SlabId> = (0..7).map(|_| open_slab(&group).slab).collect();
    let page = |after, limit| match group.query(GroupQuery::Slabs { after, limit, live_only: true }) {
        GroupAnswer::Slabs(slabs) => slabs.into_iter().map(|slab| slab.slab).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(page(None, 3), all[..3]);
    assert_eq!(page(Some(all[2]), 3), all[3..6]);
    assert_eq!(page(Some(all[5]), 3), all[6..]);
    assert!(page(None, 0).is_empty());
}

fn put_needles(name: &str, session: Option<SessionId>, locators: &[Locator]) -> Entry {
    let content = Content::Needles(locators.to_vec());
    let change = Change::Put(VersionRecord { content, ..record(u128::from(name.as_bytes()[0]), 1000) });
    Entry { bucket: MAIL, key: key(name), condition: Condition::None, change, session }
}

fn needle(slab: SlabId, offset_bytes: u32, len_bytes: u32) -> Locator {
    Locator { slab, offset_bytes, len_bytes, header_crc32c: 1, plain_len_bytes: 10 }
}

#[test]
fn a_fenced_session_commits_no_needles_and_opens_no_slab() {
    let group = Group::new();
    let other = SessionId::new(6);
    let slab = SlabId::from_bits(77);
    assert_eq!(group.commit(put_needles("a", Some(SESSION), &[needle(slab, 0, 50)])), EntryOutcome::Applied);
    let fence = GroupCommand::FenceSession { session: SESSION };
    for _ in 0..2 {
        assert_eq!(group.apply(fence.clone()), GroupReply::Done);
    }
    let refused = group.commit(put_needles("b", Some(SESSION), &[needle(slab, 64, 50)]));
    assert_eq!((refused, group.current(MAIL, "b")), (EntryOutcome::SessionFenced, None));
    let nameless = group.commit(put_needles("b", None, &[needle(slab, 64, 50)]));
    assert_eq!(nameless, EntryOutcome::SessionFenced, "nobody could be fenced who does not say who it is");
    let open = |session| GroupCommand::OpenSlab {
        writer: NodeId::new(1),
        session,
        profile: Profile::copies(2).unwrap(),
        holders: [1, 2]
            .map(|node| Holder { node: NodeId::new(node), drive: DriveId::new(u128::from(node)) })
            .into_iter()
            .collect(),
    };
    assert_eq!(group.apply(open(SESSION)), GroupReply::SessionFenced);
    // What was committed stays, deletes and inline values name no session, and other sessions go on.
    assert!(group.current(MAIL, "a").is_some());
    assert_eq!(group.commit(delete(MAIL, "a", Condition::None)), EntryOutcome::Applied);
    assert_eq!(group.commit(put(MAIL, "c", 9, Condition::None)), EntryOutcome::Applied);
    assert!(matches!(group.apply(open(other)), GroupReply::Slab(_)));
    assert_eq!(group.commit(put_needles("d", Some(other), &[needle(slab, 64, 50)])), EntryOutcome::Applied);
}

#[test]
fn the_reach_into_a_slab_is_the_end_of_the_last_needle_ever_committed() {
    let group = Group::new();
    let (slab, other) = (SlabId::from_bits(77), SlabId::from_bits(78));
    let reach = |slab| match group.query(GroupQuery::UsedUpto(slab)) {
        GroupAnswer::UsedUpto(bytes) => bytes,
        answer => panic!("{answer:?}"),
    };
    assert_eq!(reach(slab), 0);
    assert_eq!(
        group.commit(put_needles("a", Some(SESSION), &[needle(slab, 4096, 50), needle(other, 0, 30)])),
        EntryOutcome::Applied
    );
    assert_eq!((reach(slab), reach(other)), (4146, 30));
    assert_eq!(group.commit(put_needles("b", Some(SESSION), &[needle(slab, 0, 50)])), EntryOutcome::Applied);
    assert_eq!(reach(slab), 4146, "an earlier needle changes nothing");
    // One that is refused points to nothing; one that is removed again did.
    let exists =
        Entry { condition: Condition::Absent, ..put_needles("a", Some(SESSION), &[needle(slab, 8192, 50)]) };
    let again = Change::Put(VersionRecord {
        content: Content::Needles(vec![needle(slab, 8192, 50)]),
        ..record(99, 1000)
    });
    assert_eq!(group.commit(Entry { change: again, ..exists }), EntryOutcome::ConditionFailed);
    assert_eq!(group.commit(delete(MAIL, "a", Condition::None)), EntryOutcome::Applied);
    assert_eq!(reach(slab), 4146);
}
