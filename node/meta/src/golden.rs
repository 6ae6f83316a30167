//! The bytes of everything that lies in logs and tables, pinned in `golden/v6.txt`: a line a value, its name and its bytes in hex.
//!
//! postcard numbers the variants of an enum in their order, so that a new one in the middle makes another command of what lies in the logs. Whoever
//! changes a line here raises `ENTRY_VERSION` or `RECORD_VERSION` with it. `STRONGROOM_BLESS=1 cargo test -p strongroom-meta golden` adds lines that
//! are missing and drops those of what is gone; it never changes one.

use crate::codec::encode;
use crate::control::{
    BucketRecord, BucketState, ControlCommand, ControlReply, NodeRecord, NodeStanding, Pulse, SeenDrive,
};
use crate::group::{
    Change, Content, Entry, EntryOutcome, GroupCommand, GroupReply, Move, MoveOutcome, Pointer, Usage,
    VersionRecord,
};
use crate::log::encode_entry;
use crate::raft::{Command, LogEntry, LogId, Reply};
use crate::standing::{Founding, Standing};
use bytes::Bytes;
use openraft::{CommittedLeaderId, EntryPayload, Membership};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use strongroom_types::slab::{MadeAgain, Sealed};
use strongroom_types::{
    Attributes, BucketClass, BucketId, BucketName, ClusterId, Condition, DrainSubject, DriveId, ETag, Epoch,
    FragmentIndex, Generation, GroupId, Holder, Holders, Locator, Member, NodeId, ObjectKey, Profile,
    RowSequence, SessionId, SlabId, SlabRecord, SlabState, VersionId, WallTime, ZoneId,
};

const PINNED: &str = include_str!("../golden/v6.txt");

fn slab() -> SlabId {
    SlabId::new(GroupId::new(3), 7).unwrap()
}

fn holders() -> Holders {
    (1..4).map(|n| Holder { node: NodeId::new(n), drive: DriveId::new(0x100 + u128::from(n)) }).collect()
}

fn sealed() -> Sealed {
    let table_crc32c = (1..4).collect();
    Sealed { rows: 5, len_bytes: 40_960, root_crc32c: 0xdead_beef, table_crc32c, missing: 0b100 }
}

fn slab_record(state: SlabState) -> SlabRecord {
    SlabRecord {
        slab: slab(),
        state,
        epoch: Epoch::new(2),
        generation: Generation::FIRST,
        next_generation: Generation::new(3),
        profile: Profile::copies(3).unwrap(),
        holders: holders(),
        made_under: [1, 3, 1].map(Generation::new).into_iter().collect(),
        writer: NodeId::new(1),
        session: SessionId::new(0x55),
        given_out: Some(RowSequence::new(5)),
        writer_done: true,
    }
}

fn locator() -> Locator {
    Locator {
        slab: slab(),
        offset_bytes: 4096,
        len_bytes: 500,
        header_crc32c: 0x1234_5678,
        plain_len_bytes: 400,
    }
}

fn one_move() -> Move {
    let to = Locator { offset_bytes: 8192, ..locator() };
    let (bucket, version) = (BucketId::new(2), VersionId::new(0xabcd));
    Move { bucket, key: ObjectKey::new("a/b").unwrap(), version, piece: 1, from: locator(), to }
}

fn version(content: Content) -> VersionRecord {
    VersionRecord {
        version: VersionId::new(0xabcd),
        len_bytes: 400,
        etag: ETag::new("d41d8cd98f00b204e9800998ecf8427e"),
        modified: WallTime::from_unix_millis(1_700_000_000_000),
        attributes: Attributes {
            content_type: Some("message/rfc822".to_owned()),
            user: vec![("folder".to_owned(), "inbox".to_owned())],
            ..Attributes::default()
        },
        content,
    }
}

fn entry(condition: Condition, change: Change) -> Entry {
    let session = matches!(change, Change::Put(_)).then(|| SessionId::new(0x55));
    Entry { bucket: BucketId::new(2), key: ObjectKey::new("a/b").unwrap(), condition, change, session }
}

/// One of each; a variant that is not named here does not compile.
fn group_commands() -> Vec<(&'static str, GroupCommand)> {
    let (bucket, class, round) = (BucketId::new(2), BucketClass::Mail, 4);
    let all = vec![
        GroupCommand::AdmitBucket { bucket, class, round },
        GroupCommand::CloseBucket { bucket, class: BucketClass::Config, round },
        GroupCommand::Commit { entries: vec![entry(Condition::None, Change::Delete)] },
        GroupCommand::OpenSlab {
            writer: NodeId::new(1),
            session: SessionId::new(0x55),
            profile: Profile::copies(3).unwrap(),
            holders: holders(),
        },
        GroupCommand::BeginSeal { slab: slab(), epoch: Epoch::FIRST, given_out: Some(RowSequence::new(5)) },
        GroupCommand::CommitSeal { slab: slab(), epoch: Epoch::new(2), sealed: sealed() },
        GroupCommand::Relayout {
            slab: slab(),
            generation: Generation::FIRST,
            layout: Generation::new(3),
            profile: Profile::new(2, 1).unwrap(),
            holders: holders(),
            table_crc32c: (7..10).collect(),
            missing: 0,
        },
        GroupCommand::KillEmpty { slab: slab() },
        GroupCommand::FenceSession { session: SessionId::new(0x55) },
        GroupCommand::CountWhole { slab: slab(), generation: Generation::FIRST, whole: 0b100 },
        GroupCommand::AbandonLayout { slab: slab(), layout: Generation::new(3) },
        GroupCommand::SetHolders {
            slab: slab(),
            generation: Generation::FIRST,
            layout: Generation::new(3),
            made: vec![MadeAgain { fragment: FragmentIndex::new(2), holder: holders()[0], table_crc32c: 11 }],
        },
        GroupCommand::CountMissing { slab: slab(), generation: Generation::FIRST, missing: 0b100 },
        GroupCommand::WriterDone { slab: slab() },
        GroupCommand::CloseSlab { slab: slab() },
        GroupCommand::Relocate { session: SessionId::new(0x55), moves: vec![one_move()] },
        GroupCommand::KillSlab { slab: slab(), generation: Generation::FIRST },
        GroupCommand::ReleaseSlab { slab: slab(), session: SessionId::new(0x55) },
        GroupCommand::ForgetSlab { slab: slab() },
    ];
    let name = |command: &GroupCommand| match command {
        GroupCommand::AdmitBucket { .. } => "admit-bucket",
        GroupCommand::CloseBucket { .. } => "close-bucket",
        GroupCommand::Commit { .. } => "commit-alone",
        GroupCommand::OpenSlab { .. } => "open-slab",
        GroupCommand::BeginSeal { .. } => "begin-seal",
        GroupCommand::CommitSeal { .. } => "commit-seal",
        GroupCommand::Relayout { .. } => "relayout",
        GroupCommand::KillEmpty { .. } => "kill-empty",
        GroupCommand::FenceSession { .. } => "fence-session",
        GroupCommand::CountWhole { .. } => "count-whole",
        GroupCommand::AbandonLayout { .. } => "abandon-layout",
        GroupCommand::SetHolders { .. } => "set-holders",
        GroupCommand::CountMissing { .. } => "count-missing",
        GroupCommand::WriterDone { .. } => "writer-done",
        GroupCommand::CloseSlab { .. } => "close-slab",
        GroupCommand::Relocate { .. } => "relocate",
        GroupCommand::KillSlab { .. } => "kill-slab",
        GroupCommand::ReleaseSlab { .. } => "release-slab",
        GroupCommand::ForgetSlab { .. } => "forget-slab",
    };
    all.into_iter().map(|command| (name(&command), command)).collect()
}

fn member() -> Member {
    let address = SocketAddr::from(([10, 0, 1, 10], 7100));
    Member { node: NodeId::new(7), zone: ZoneId::new(2), address }
}

fn founding() -> Founding {
    let voters = |nodes: [u64; 3]| nodes.map(NodeId::new).to_vec();
    Founding { control: voters([1, 2, 3]), groups: vec![voters([1, 2, 3]), voters([4, 5, 6])] }
}

/// One of each, as above.
fn control_commands() -> Vec<(&'static str, ControlCommand)> {
    let bucket = BucketId::new(2);
    let all = vec![
        ControlCommand::Found { cluster: ClusterId::new(0x77), groups: 16 },
        ControlCommand::CreateBucket {
            name: BucketName::new("mail").unwrap(),
            class: BucketClass::Mail,
            at: WallTime::from_unix_millis(1_700_000_000_000),
        },
        ControlCommand::OpenBucket { bucket, round: 4 },
        ControlCommand::BeginRemoveBucket { bucket },
        ControlCommand::RemoveBucket { bucket, round: 4 },
        ControlCommand::ReopenBucket { bucket },
        ControlCommand::Enrol { node: NodeId::new(5), nonce: 0x22, after: 1 },
        ControlCommand::AdmitDrive {
            drive: DriveId::new(0x101),
            incarnation: 6,
            run: 0x9999,
            after: Some(SeenDrive { incarnation: 5, run: 0x8888, stale: false }),
        },
        ControlCommand::BeginDrain {
            subject: DrainSubject::Drive(DriveId::new(0x101)),
            at: WallTime::from_unix_millis(1_700_000_000_000),
        },
        ControlCommand::EndDrain { subject: DrainSubject::Node(NodeId::new(5)) },
        ControlCommand::AdmitNode { member: member() },
        ControlCommand::DismissNode { node: NodeId::new(5), pulse: Pulse::Alive },
    ];
    let name = |command: &ControlCommand| match command {
        ControlCommand::Found { .. } => "found",
        ControlCommand::CreateBucket { .. } => "create-bucket",
        ControlCommand::OpenBucket { .. } => "open-bucket",
        ControlCommand::BeginRemoveBucket { .. } => "begin-remove-bucket",
        ControlCommand::RemoveBucket { .. } => "remove-bucket",
        ControlCommand::ReopenBucket { .. } => "reopen-bucket",
        ControlCommand::Enrol { .. } => "enrol",
        ControlCommand::AdmitDrive { .. } => "admit-drive",
        ControlCommand::BeginDrain { .. } => "begin-drain",
        ControlCommand::EndDrain { .. } => "end-drain",
        ControlCommand::AdmitNode { .. } => "admit-node",
        ControlCommand::DismissNode { .. } => "dismiss-node",
    };
    all.into_iter().map(|command| (name(&command), command)).collect()
}

fn log_entry(payload: EntryPayload<crate::raft::TypeConfig>) -> LogEntry {
    LogEntry { log_id: LogId::new(CommittedLeaderId::new(3, 1), 9), payload }
}

/// Everything, by name.
fn values() -> BTreeMap<String, Bytes> {
    let mut values = BTreeMap::new();
    let mut add = |name: String, bytes: Bytes| {
        assert!(values.insert(name.clone(), bytes).is_none(), "{name} twice");
    };
    for (name, command) in control_commands() {
        let payload = EntryPayload::Normal(Command::Control { ticket: 0x11, command });
        add(format!("log control {name}"), encode_entry(&log_entry(payload)));
    }
    for (name, command) in group_commands() {
        let payload = EntryPayload::Normal(Command::Group { ticket: 0x11, command });
        add(format!("log group {name}"), encode_entry(&log_entry(payload)));
    }
    let inline = Content::Inline(Bytes::from_static(b"small"));
    let entries = vec![
        (1, entry(Condition::None, Change::Put(version(inline)))),
        (2, entry(Condition::Absent, Change::Put(version(Content::Needles(vec![locator()]))))),
        (3, entry(Condition::Matches(ETag::new("t")), Change::Delete)),
        (4, entry(Condition::Present, Change::Delete)),
    ];
    let commit = EntryPayload::Normal(Command::Commit { entries });
    add("log commit".to_owned(), encode_entry(&log_entry(commit)));
    add("log blank".to_owned(), encode_entry(&log_entry(EntryPayload::Blank)));
    let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 4])];
    let membership = Membership::new(voters, BTreeSet::from([5]));
    add("log membership".to_owned(), encode_entry(&log_entry(EntryPayload::Membership(membership))));
    for (name, state) in [
        ("open", SlabState::Open),
        ("sealing", SlabState::Sealing),
        ("sealed", SlabState::Sealed(sealed())),
        ("dead", SlabState::Dead),
    ] {
        add(format!("slab {name}"), encode(&slab_record(state)));
    }
    for (name, standing) in [
        ("promised", Standing::Promised { nonces: vec![1, 2] }),
        ("enrolling", Standing::Enrolling { founding: 2 }),
        ("member", Standing::Member { incarnation: 1, founding: 2 }),
    ] {
        add(format!("standing {name}"), encode(&standing));
    }
    let Member { node, zone, address } = member();
    for (name, standing) in [("member", NodeStanding::Member), ("dismissed", NodeStanding::Dismissed)] {
        let record = NodeRecord { zone, address, standing };
        add(format!("node {name}"), encode(&record));
        add(format!("nodes known {name}"), encode(&BTreeMap::from([(node, record)])));
    }
    add("voters at the founding".to_owned(), encode(&founding()));
    let record = BucketRecord {
        bucket: BucketId::new(2),
        name: BucketName::new("mail").unwrap(),
        class: BucketClass::Mail,
        created: WallTime::from_unix_millis(1_700_000_000_000),
        state: BucketState::Removing,
        round: 4,
    };
    add("bucket".to_owned(), encode(&record));
    let Move { bucket, key, version, piece, to, .. } = one_move();
    add("pointer".to_owned(), encode(&Pointer { bucket, key, version, piece, locator: to }));
    add("usage".to_owned(), encode(&Usage { reach_bytes: 8692, alive_bytes: 1000, needles: 2 }));
    let replies = vec![
        Reply::Nothing,
        Reply::Control(ControlReply::Done),
        Reply::Control(ControlReply::Enrolled { incarnation: 1 }),
        Reply::Control(ControlReply::DriveStale { seen: 6 }),
        Reply::Group(GroupReply::Committed(vec![EntryOutcome::Applied, EntryOutcome::SessionFenced])),
        Reply::Group(GroupReply::SessionFenced),
        Reply::Group(GroupReply::Committed(vec![EntryOutcome::PlaceRefused])),
        Reply::Group(GroupReply::Relocated(vec![
            MoveOutcome::Moved,
            MoveOutcome::Differs,
            MoveOutcome::PlaceRefused,
        ])),
    ];
    add("replies".to_owned(), encode(&replies));
    add("reply no-such-drive".to_owned(), encode(&Reply::Control(ControlReply::NoSuchDrive)));
    let since = WallTime::from_unix_millis(1_700_000_000_000);
    add("drain".to_owned(), encode(&(DrainSubject::Node(NodeId::new(5)), since)));
    let replies = [
        ControlReply::Dismissed,
        ControlReply::OtherZone { zone: ZoneId::new(2) },
        ControlReply::NoSuchNode,
        ControlReply::NotDrained,
    ];
    add("replies about nodes".to_owned(), encode(&replies.map(Reply::Control)));
    values
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

#[test]
fn what_lies_on_media_is_encoded_as_pinned() {
    let pinned: BTreeMap<&str, &str> =
        PINNED.lines().map(|line| line.rsplit_once(' ').expect("a name and bytes")).collect();
    let values = values();
    if std::env::var_os("STRONGROOM_BLESS").is_some() {
        let line = |(name, bytes): (&String, &Bytes)| {
            let bytes = pinned.get(name.as_str()).map_or_else(|| hex(bytes), |bytes| (*bytes).to_owned());
            format!("{name} {bytes}\n")
        };
        let text: String = values.iter().map(line).collect();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v6.txt");
        std::fs::write(path, text).unwrap();
        return;
    }
    for (name, bytes) in &values {
        assert_eq!(pinned.get(name.as_str()).copied(), Some(&*hex(bytes)), "{name}");
    }
    assert_eq!(pinned.len(), values.len(), "a pinned value is not encoded any more");
}
