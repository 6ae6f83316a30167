//! Versions come, go and move; whatever was done, the pointers are the namespace read backwards, and a model that knows no tables says the same.

use super::Usage;
use crate::group::{
    Change, Content, Entry, EntryOutcome, GroupAnswer, GroupCommand, GroupQuery, GroupReply, Move,
    MoveOutcome, Pointer, VersionRecord,
};
use crate::kv::{MemoryKv, MemoryMedia, OrderedKv};
use crate::limits::{POINTERS_PAGE_MAX, RELOCATE_MOVES_MAX};
use crate::machine::group_state::{apply, commit, query};
use crate::machine::malformed;
use crate::machine::namespace::Position;
use crate::machine::view::Changes;
use bytes::Bytes;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use strongroom_types::limits::CONFIG_VERSIONS_MAX;
use strongroom_types::{
    Attributes, BucketClass, BucketId, Condition, ETag, GroupId, Locator, ObjectKey, SessionId, SlabId,
    VersionId, WallTime,
};

const SESSION: SessionId = SessionId::new(5);
const MAIL: BucketId = BucketId::new(1);
const CONFIG: BucketId = BucketId::new(2);
const GROUP: GroupId = GroupId::new(3);

struct Group {
    kv: MemoryKv,
    log_index: Cell<u64>,
}

impl Group {
    fn new() -> Self {
        let group = Self { kv: MemoryKv::on(&MemoryMedia::new()), log_index: Cell::new(0) };
        for (bucket, class) in [(MAIL, BucketClass::Mail), (CONFIG, BucketClass::Config)] {
            group.apply(GroupCommand::AdmitBucket { bucket, class, round: 1 });
        }
        group
    }

    fn step<T>(&self, work: impl FnOnce(&mut Changes<'_>, u64) -> T) -> T {
        let mut changes = Changes::new(&self.kv, b"p".to_vec());
        let log_index = self.log_index.replace(self.log_index.get() + 1);
        let result = work(&mut changes, log_index);
        self.kv.apply(changes.into_batch()).unwrap();
        result
    }

    fn apply(&self, command: GroupCommand) -> GroupReply {
        self.step(|changes, log_index| apply(changes, GROUP, log_index, command).unwrap())
    }

    fn commit(&self, entry: Entry) -> EntryOutcome {
        self.step(|changes, log_index| {
            commit(changes, Position { log_index, entry_index: 0 }, entry).unwrap()
        })
    }

    fn query(&self, asked: GroupQuery) -> GroupAnswer {
        query(&Changes::new(&self.kv, b"p".to_vec()), asked).unwrap()
    }

    fn versions(&self, bucket: BucketId, name: &str) -> Vec<VersionRecord> {
        match self.query(GroupQuery::Versions { bucket, key: key(name) }) {
            GroupAnswer::Versions(versions) => versions,
            other => panic!("{other:?}"),
        }
    }

    fn pointers(&self, slab: SlabId) -> (bool, Vec<Pointer>) {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            match self.query(GroupQuery::Pointers { slab, after, limit: 2 }) {
                GroupAnswer::Pointers { closed, pointers } if pointers.is_empty() => return (closed, all),
                GroupAnswer::Pointers { pointers, .. } => {
                    after = pointers.last().map(|pointer| pointer.locator.offset_bytes);
                    all.extend(pointers);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn usages(&self, of: GroupId) -> BTreeMap<SlabId, Usage> {
        let (mut all, mut after) = (BTreeMap::new(), None);
        loop {
            match self.query(GroupQuery::Usages { of, after, limit: 1 }) {
                GroupAnswer::Usages(page) if page.is_empty() => return all,
                GroupAnswer::Usages(page) => {
                    after = page.last().map(|(slab, _)| *slab);
                    all.extend(page);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn relocate(&self, moves: Vec<Move>) -> Vec<MoveOutcome> {
        match self.apply(GroupCommand::Relocate { session: SESSION, moves }) {
            GroupReply::Relocated(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

fn slab(number: u64) -> SlabId {
    SlabId::new(GROUP, number).unwrap()
}

fn needle(slab: SlabId, place: u32) -> Locator {
    Locator { slab, offset_bytes: place * 64, len_bytes: 50, header_crc32c: 1, plain_len_bytes: 10 }
}

fn put(bucket: BucketId, name: &str, version: u128, locators: &[Locator]) -> Entry {
    let content = if locators.is_empty() {
        Content::Inline(Bytes::from_static(b"small"))
    } else {
        Content::Needles(locators.to_vec())
    };
    let record = VersionRecord {
        version: VersionId::new(version),
        len_bytes: 10,
        etag: ETag::new(format!("tag{version}")),
        modified: WallTime::from_unix_millis(5),
        attributes: Attributes::default(),
        content,
    };
    let change = Change::Put(record);
    Entry { bucket, key: key(name), condition: Condition::None, change, session: Some(SESSION) }
}

fn delete(bucket: BucketId, name: &str) -> Entry {
    Entry { bucket, key: key(name), condition: Condition::None, change: Change::Delete, session: None }
}

fn one_move(bucket: BucketId, name: &str, version: u128, piece: u32, from: Locator, to: Locator) -> Move {
    Move { bucket, key: key(name), version: VersionId::new(version), piece, from, to }
}

fn locators(version: &VersionRecord) -> Vec<Locator> {
    match &version.content {
        Content::Needles(locators) => locators.clone(),
        Content::Inline(_) => Vec::new(),
    }
}

#[test]
fn a_move_changes_the_place_and_nothing_else() {
    for bucket in [MAIL, CONFIG] {
        let group = Group::new();
        let (first, second, copy) = (needle(slab(0), 0), needle(slab(0), 1), needle(slab(1), 7));
        assert_eq!(group.commit(put(bucket, "k", 1, &[first, second])), EntryOutcome::Applied);
        let before = group.versions(bucket, "k");
        let moves = vec![one_move(bucket, "k", 1, 1, second, copy)];
        for _ in 0..2 {
            assert_eq!(group.relocate(moves.clone()), [MoveOutcome::Moved], "a second time too");
            let after = group.versions(bucket, "k");
            let expected =
                VersionRecord { content: Content::Needles(vec![first, copy]), ..before[0].clone() };
            assert_eq!(after, [expected]);
            assert_eq!(group.pointers(slab(0)).1.len(), 1);
            assert_eq!(group.pointers(slab(1)).1.len(), 1);
        }
        let reach = |slab| group.usages(GROUP)[&slab].reach_bytes;
        assert_eq!((reach(slab(0)), reach(slab(1))), (64 + 50, 7 * 64 + 50), "a seal must keep the copy");
    }
}

#[test]
fn a_move_of_what_is_not_so_any_more_is_refused() {
    let group = Group::new();
    let (here, copy, taken) = (needle(slab(0), 0), needle(slab(1), 0), needle(slab(1), 1));
    group.commit(put(MAIL, "k", 1, &[here]));
    group.commit(put(MAIL, "other", 2, &[taken]));
    let other_len = Locator { len_bytes: 51, ..copy };
    for (refused, outcome) in [
        (one_move(MAIL, "k", 9, 0, here, copy), MoveOutcome::Differs),
        (one_move(MAIL, "absent", 1, 0, here, copy), MoveOutcome::Differs),
        (one_move(CONFIG, "k", 1, 0, here, copy), MoveOutcome::Differs),
        (one_move(MAIL, "k", 1, 1, here, copy), MoveOutcome::Differs),
        (one_move(MAIL, "k", 1, 0, needle(slab(0), 1), copy), MoveOutcome::Differs),
        (one_move(MAIL, "k", 1, 0, here, other_len), MoveOutcome::Differs),
        (one_move(MAIL, "k", 1, 0, here, taken), MoveOutcome::PlaceRefused),
    ] {
        assert_eq!(group.relocate(vec![refused.clone()]), [outcome], "{refused:?}");
        assert_eq!(locators(&group.versions(MAIL, "k")[0]), [here]);
    }
    // Overwritten in between: the copy is garbage.
    group.commit(put(MAIL, "k", 3, &[needle(slab(2), 0)]));
    assert_eq!(group.relocate(vec![one_move(MAIL, "k", 1, 0, here, copy)]), [MoveOutcome::Differs]);
    assert!(group.pointers(slab(0)).1.is_empty());
    // Written by a session that is fenced: its slab may be sealed without the copy.
    group.apply(GroupCommand::FenceSession { session: SESSION });
    let moves = vec![one_move(MAIL, "k", 3, 0, needle(slab(2), 0), copy)];
    assert_eq!(group.apply(GroupCommand::Relocate { session: SESSION, moves }), GroupReply::SessionFenced);
    assert_eq!(locators(&group.versions(MAIL, "k")[0]), [needle(slab(2), 0)]);
}

#[test]
fn a_closed_slab_gets_no_pointer_and_keeps_what_it_has() {
    let group = Group::new();
    group.commit(put(MAIL, "k", 1, &[needle(slab(0), 0)]));
    for _ in 0..2 {
        assert_eq!(group.apply(GroupCommand::CloseSlab { slab: slab(0) }), GroupReply::Done);
    }
    let late = put(MAIL, "late", 2, &[needle(slab(1), 0), needle(slab(0), 1)]);
    assert_eq!(group.commit(late), EntryOutcome::PlaceRefused);
    assert!(group.versions(MAIL, "late").is_empty() && group.pointers(slab(1)).1.is_empty());
    group.commit(put(MAIL, "elsewhere", 3, &[needle(slab(1), 0)]));
    let back = one_move(MAIL, "elsewhere", 3, 0, needle(slab(1), 0), needle(slab(0), 2));
    assert_eq!(group.relocate(vec![back]), [MoveOutcome::PlaceRefused]);
    // The version that is there: again, with the same places, is no new pointer.
    assert_eq!(group.commit(put(MAIL, "k", 1, &[needle(slab(0), 0)])), EntryOutcome::Applied);
    let (closed, pointers) = group.pointers(slab(0));
    assert!(closed);
    assert_eq!(pointers.iter().map(|pointer| pointer.version.get()).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_place_is_of_one_version() {
    let group = Group::new();
    let place = needle(slab(0), 0);
    group.commit(put(MAIL, "k", 1, &[place]));
    assert_eq!(group.commit(put(MAIL, "l", 2, &[place])), EntryOutcome::PlaceRefused);
    assert_eq!(group.commit(put(MAIL, "l", 2, &[needle(slab(0), 1); 2])), EntryOutcome::PlaceRefused);
    assert!(group.versions(MAIL, "l").is_empty());
    group.commit(delete(MAIL, "k"));
    assert_eq!(group.commit(put(MAIL, "l", 2, &[place])), EntryOutcome::Applied);
}

#[test]
fn an_older_version_that_comes_again_is_kept_once() {
    let group = Group::new();
    for version in [1, 2] {
        group.commit(put(CONFIG, "k", version, &[needle(slab(0), version as u32)]));
    }
    assert_eq!(group.commit(put(CONFIG, "k", 1, &[needle(slab(0), 1)])), EntryOutcome::Applied);
    let kept: Vec<u128> = group.versions(CONFIG, "k").iter().map(|version| version.version.get()).collect();
    assert_eq!(kept, [1, 2]);
    assert_eq!(group.pointers(slab(0)).1.len(), 2);
}

#[test]
fn a_slab_is_released_once_nothing_points_into_it_and_stays_closed_until_its_session_is_fenced() {
    let group = Group::new();
    let release = || group.apply(GroupCommand::ReleaseSlab { slab: slab(0), session: SESSION });
    group.commit(put(MAIL, "k", 1, &[needle(slab(0), 0)]));
    group.apply(GroupCommand::CloseSlab { slab: slab(0) });
    assert_eq!(release(), GroupReply::NotEmpty);
    assert!(group.usages(GROUP).contains_key(&slab(0)));
    group.commit(delete(MAIL, "k"));
    assert_eq!((release(), group.usages(GROUP).len()), (GroupReply::Done, 0));
    let late = || group.commit(put(MAIL, "late", 2, &[needle(slab(0), 1)]));
    assert_eq!(late(), EntryOutcome::PlaceRefused, "closed still");
    group.apply(GroupCommand::FenceSession { session: SESSION });
    assert_eq!((release(), group.pointers(slab(0))), (GroupReply::Done, (false, Vec::new())));
    assert_eq!(late(), EntryOutcome::SessionFenced);
}

#[test]
fn a_dead_slab_is_forgotten_and_known_to_have_been() {
    let group = Group::new();
    let open = || match group.apply(GroupCommand::OpenSlab {
        writer: strongroom_types::NodeId::new(1),
        session: SESSION,
        profile: strongroom_types::Profile::copies(2).unwrap(),
        holders: heapless::Vec::new(),
    }) {
        GroupReply::Slab(record) => record,
        other => panic!("{other:?}"),
    };
    let (record, next) = (open(), open());
    let forget = |slab| group.apply(GroupCommand::ForgetSlab { slab });
    assert_eq!(forget(record.slab), GroupReply::SlabDiffers(record.clone()));
    group.apply(GroupCommand::BeginSeal { slab: record.slab, epoch: record.epoch, given_out: None });
    let sealed = strongroom_types::slab::Sealed {
        rows: 0,
        len_bytes: 0,
        root_crc32c: 0,
        table_crc32c: heapless::Vec::new(),
        missing: 0,
    };
    let (slab, epoch) = (record.slab, record.epoch.next());
    group.apply(GroupCommand::CommitSeal { slab, epoch, sealed });
    assert!(matches!(group.apply(GroupCommand::KillEmpty { slab }), GroupReply::Slab(_)));
    assert_eq!((forget(slab), forget(slab)), (GroupReply::Done, GroupReply::NoSuchSlab));
    let asked = |slab| group.query(GroupQuery::Slab(slab));
    assert_eq!(asked(slab), GroupAnswer::SlabForgotten);
    assert_eq!(asked(next.slab), GroupAnswer::Slab(Some(next.clone())));
    let never = SlabId::new(GROUP, 2).unwrap();
    assert_eq!(asked(never), GroupAnswer::Slab(None), "its id is still to be given");
    assert_eq!(open().slab, never);
}

#[test]
fn pages_and_commands_are_bounded() {
    let group = Group::new();
    let count = u32::try_from(POINTERS_PAGE_MAX).unwrap() + 1;
    for place in 0..count {
        group.commit(put(MAIL, &format!("k{place}"), u128::from(place), &[needle(slab(0), place)]));
    }
    let asked = GroupQuery::Pointers { slab: slab(0), after: None, limit: u32::MAX };
    match group.query(asked) {
        GroupAnswer::Pointers { pointers, .. } => assert_eq!(pointers.len(), POINTERS_PAGE_MAX),
        other => panic!("{other:?}"),
    }
    let moves = |count| vec![one_move(MAIL, "k", 1, 0, needle(slab(0), 0), needle(slab(1), 0)); count];
    for (count, fine) in [(0, false), (1, true), (RELOCATE_MOVES_MAX, true), (RELOCATE_MOVES_MAX + 1, false)]
    {
        let command = GroupCommand::Relocate { session: SESSION, moves: moves(count) };
        assert_eq!(malformed(&command).is_none(), fine, "{count}");
    }
}

/// What may be done, drawn small so that it meets.
#[derive(Clone, Debug)]
enum Act {
    Put {
        bucket: usize,
        name: usize,
        places: Vec<(u64, u32)>,
    },
    /// An earlier put once more, as when its first try had no answer.
    Again(usize),
    Delete {
        bucket: usize,
        name: usize,
    },
    /// The needle at this place in the model, counted round.
    Move {
        which: usize,
        to: (u64, u32),
    },
    Close(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let place = || (0u64..3, 0u32..12);
    let act = prop_oneof![
        4 => (0usize..2, 0usize..3, prop::collection::vec(place(), 0..3))
            .prop_map(|(bucket, name, places)| Act::Put { bucket, name, places }),
        1 => (0usize..40).prop_map(Act::Again),
        2 => (0usize..2, 0usize..3).prop_map(|(bucket, name)| Act::Delete { bucket, name }),
        3 => (0usize..40, place()).prop_map(|(which, to)| Act::Move { which, to }),
        1 => (0u64..3).prop_map(Act::Close),
    ];
    prop::collection::vec(act, 1..80)
}

const BUCKETS: [BucketId; 2] = [MAIL, CONFIG];
const NAMES: [&str; 3] = ["a", "b", "ab"];

/// Versions of a key, the newest first, each with its places.
type Versions = Vec<(u128, Vec<Locator>)>;
/// A place, and which piece of which version of which key lies there.
type Owned = ((SlabId, u32), (usize, usize, u128, u32, Locator));

/// Versions by key, the newest first, each with its places; whether there is a current one.
#[derive(Default)]
struct Model {
    kept: BTreeMap<(usize, usize), (bool, Versions)>,
    closed: BTreeSet<SlabId>,
    puts: Vec<(usize, usize, u128, Vec<Locator>)>,
}

impl Model {
    fn owners(&self) -> Vec<Owned> {
        let mut all = Vec::new();
        for ((bucket, name), (_, versions)) in &self.kept {
            for (version, places) in versions {
                for (piece, locator) in (0..).zip(places) {
                    let place = (locator.slab, locator.offset_bytes);
                    all.push((place, (*bucket, *name, *version, piece, *locator)));
                }
            }
        }
        all.sort_by_key(|(place, _)| *place);
        all
    }

    fn is_free(&self, place: &Locator, version: u128) -> bool {
        let of_other = |(at, owner): &Owned| *at == (place.slab, place.offset_bytes) && owner.2 != version;
        !self.closed.contains(&place.slab) && !self.owners().iter().any(of_other)
    }

    fn put(&mut self, bucket: usize, name: usize, version: u128, places: &[Locator]) -> EntryOutcome {
        let current = self.kept.get(&(bucket, name)).filter(|(current, _)| *current);
        if current.is_some_and(|(_, versions)| versions[0].0 == version) {
            return EntryOutcome::Applied;
        }
        let distinct: BTreeSet<(SlabId, u32)> =
            places.iter().map(|place| (place.slab, place.offset_bytes)).collect();
        if distinct.len() != places.len() || !places.iter().all(|place| self.is_free(place, version)) {
            return EntryOutcome::PlaceRefused;
        }
        let (current, versions) = self.kept.entry((bucket, name)).or_default();
        if bucket == 0 {
            versions.clear();
        }
        versions.retain(|(kept, _)| *kept != version);
        versions.insert(0, (version, places.to_vec()));
        versions.truncate(CONFIG_VERSIONS_MAX);
        *current = true;
        EntryOutcome::Applied
    }

    fn delete(&mut self, bucket: usize, name: usize) {
        if let Some((current, versions)) = self.kept.get_mut(&(bucket, name)) {
            *current = false;
            if bucket == 0 {
                versions.clear();
            }
        }
    }

    fn relocate(&mut self, owner: (usize, usize, u128, u32, Locator), to: Locator) -> MoveOutcome {
        let (bucket, name, version, piece, from) = owner;
        if from == to {
            return MoveOutcome::Moved;
        }
        if self.closed.contains(&to.slab)
            || self.owners().iter().any(|(at, _)| *at == (to.slab, to.offset_bytes))
        {
            return MoveOutcome::PlaceRefused;
        }
        let (_, versions) = self.kept.get_mut(&(bucket, name)).unwrap();
        let (_, places) = versions.iter_mut().find(|(kept, _)| *kept == version).unwrap();
        places[piece as usize] = to;
        MoveOutcome::Moved
    }
}

fn compare(group: &Group, model: &Model) -> Result<(), TestCaseError> {
    let owners = model.owners();
    let mut sums: BTreeMap<SlabId, (u64, u32)> = BTreeMap::new();
    for ((slab, _), (.., locator)) in &owners {
        let sum = sums.entry(*slab).or_default();
        *sum = (sum.0 + u64::from(locator.len_bytes), sum.1 + 1);
    }
    let usages = group.usages(GROUP);
    for number in 0..3 {
        let slab = slab(number);
        let (closed, pointers) = group.pointers(slab);
        prop_assert_eq!(closed, model.closed.contains(&slab));
        let of_slab = owners.iter().filter(|((of, _), _)| *of == slab);
        let expected: Vec<Pointer> = of_slab
            .map(|(_, (bucket, name, version, piece, locator))| Pointer {
                bucket: BUCKETS[*bucket],
                key: key(NAMES[*name]),
                version: VersionId::new(*version),
                piece: *piece,
                locator: *locator,
            })
            .collect();
        prop_assert_eq!(pointers, expected);
        let usage = usages.get(&slab).copied().unwrap_or_default();
        prop_assert_eq!((usage.alive_bytes, usage.needles), sums.get(&slab).copied().unwrap_or_default());
        let ends = owners.iter().filter(|((of, _), _)| *of == slab).map(|(_, owner)| owner.4.end_bytes());
        prop_assert!(u64::from(usage.reach_bytes) >= ends.max().unwrap_or(0));
    }
    for (bucket, id) in BUCKETS.into_iter().enumerate() {
        for (name, text) in NAMES.into_iter().enumerate() {
            let found: Vec<(u128, Vec<Locator>)> = group
                .versions(id, text)
                .iter()
                .map(|version| (version.version.get(), locators(version)))
                .collect();
            let expected = model.kept.get(&(bucket, name)).map_or(&[][..], |(_, versions)| versions);
            prop_assert_eq!(&found, expected, "{}", text);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn pointers_are_the_namespace_read_backwards(acts in acts()) {
        let (group, mut model) = (Group::new(), Model::default());
        for (number, act) in (1u128..).zip(acts) {
            match act {
                Act::Put { bucket, name, places } => {
                    let places: Vec<Locator> =
                        places.into_iter().map(|(of, at)| needle(slab(of), at)).collect();
                    let outcome = group.commit(put(BUCKETS[bucket], NAMES[name], number, &places));
                    prop_assert_eq!(outcome, model.put(bucket, name, number, &places));
                    model.puts.push((bucket, name, number, places));
                }
                Act::Again(which) => {
                    if let Some((bucket, name, version, places)) =
                        model.puts.get(which % model.puts.len().max(1)).cloned()
                    {
                        let outcome = group.commit(put(BUCKETS[bucket], NAMES[name], version, &places));
                        prop_assert_eq!(outcome, model.put(bucket, name, version, &places));
                    }
                }
                Act::Delete { bucket, name } => {
                    group.commit(delete(BUCKETS[bucket], NAMES[name]));
                    model.delete(bucket, name);
                }
                Act::Move { which, to } => {
                    let owners = model.owners();
                    if let Some((_, owner)) = owners.get(which % owners.len().max(1)) {
                        let (bucket, name, version, piece, from) = *owner;
                        let to = needle(slab(to.0), to.1);
                        let one = one_move(BUCKETS[bucket], NAMES[name], version, piece, from, to);
                        prop_assert_eq!(group.relocate(vec![one]), [model.relocate(*owner, to)]);
                    }
                }
                Act::Close(number) => {
                    group.apply(GroupCommand::CloseSlab { slab: slab(number) });
                    model.closed.insert(slab(number));
                }
            }
            compare(&group, &model)?;
        }
    }
}
