use super::{Glimpse, GroupGlimpse, Harm, Looked, Watch};
use crate::sim::limits::{TASKS_OF_PAUSED_MAX, TASKS_PER_NODE_MAX};
use std::collections::{BTreeMap, BTreeSet};
use strongroom_format::wire::message::{FragmentAddress, FragmentReport};
use strongroom_types::slab::Sealed;
use strongroom_types::{
    DriveId, Epoch, FragmentIndex, Generation, GroupId, Holder, Holders, NodeId, Profile, SessionId, SlabId,
    SlabRecord, SlabState,
};

const NODE: NodeId = NodeId::new(1);

fn slab() -> SlabId {
    SlabId::new(GroupId::new(0), 1).unwrap()
}

fn report(len_bytes: u32, sealed: bool, epoch: u32) -> FragmentReport {
    let address = FragmentAddress {
        drive: DriveId::new(1),
        slab: slab(),
        fragment: FragmentIndex::new(0),
        generation: Generation::FIRST,
    };
    let profile = Profile::copies(3).unwrap();
    FragmentReport { address, profile, epoch: Epoch::new(epoch), len_bytes, extents: 1, sealed }
}

fn fragments(reports: &[FragmentReport]) -> Glimpse {
    Glimpse { fragments: reports.to_vec(), ..Glimpse::default() }
}

fn group(leads: bool, term: u64, applied: u64) -> Glimpse {
    let applied_under = Some((1, 1));
    let group = GroupGlimpse {
        group: "group-0".to_owned(),
        id: 1,
        leads,
        term,
        applied,
        applied_under,
        stopped: None,
    };
    Glimpse { groups: vec![group], ..Glimpse::default() }
}

/// What the slab table may have.
fn record(generation: u32, state: SlabState) -> SlabRecord {
    let mut holders = Holders::new();
    holders.push(Holder { node: NODE, drive: DriveId::new(1) }).unwrap();
    SlabRecord {
        slab: slab(),
        state,
        epoch: Epoch::FIRST,
        generation: Generation::new(generation),
        next_generation: Generation::new(generation).next(),
        profile: Profile::copies(3).unwrap(),
        made_under: holders.iter().map(|_| Generation::new(generation)).collect(),
        holders,
        writer: NODE,
        session: SessionId::new(1),
        given_out: None,
        writer_done: false,
    }
}

fn looked(node: u64, life: u64) -> Looked {
    Looked { node: NodeId::new(node), life, tasks: 10, paused: false, state_harmed: false }
}

/// Whether the drive of [`report`] was harmed.
fn harm(media: bool) -> Harm {
    Harm { drives: media.then_some(DriveId::new(1)).into_iter().collect(), ..Harm::default() }
}

/// The rules that these looks at nodes and lives break, where the table names the slab all the time.
fn broken(media: bool, looks: &[(u64, u64, Glimpse)]) -> Vec<&'static str> {
    let mut watch = Watch::default();
    let table = BTreeMap::from([(slab(), record(Generation::FIRST.get(), SlabState::Open))]);
    for (node, life, glimpse) in looks {
        let looked = looked(*node, *life);
        let (_, gone) = watch.look(looked, &harm(media), glimpse);
        watch.judge_gone(looked.node, &gone, &table);
    }
    let (count, violations) = watch.result();
    assert_eq!(count, looks.len() as u64);
    violations.into_iter().map(|violation| violation.rule.split(':').next().unwrap()).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn what_is_applied_is_the_same_everywhere_and_nothing_goes_back_in_a_life() {
    assert_eq!(broken(false, &[(1, 1, group(true, 1, 5)), (2, 1, group(true, 2, 5))]), NONE);
    assert_eq!(
        broken(false, &[(1, 1, group(true, 1, 5)), (2, 1, group(true, 1, 5))]),
        NONE,
        "one takes over"
    );
    for (applied, under, wrong) in
        [(5, (1, 1), false), (5, (1, 2), true), (5, (2, 1), true), (6, (2, 1), false)]
    {
        let mut other = group(false, 2, applied);
        other.groups[0].applied_under = Some(under);
        let expected: &[&str] = if wrong { &["Raft"] } else { &[] };
        assert_eq!(
            broken(false, &[(1, 1, group(false, 2, 5)), (2, 1, other)]),
            expected,
            "{applied} {under:?}"
        );
    }
    assert_eq!(broken(false, &[(1, 1, group(true, 2, 5)), (1, 1, group(false, 1, 5))]), ["Raft"]);
    assert_eq!(broken(false, &[(1, 1, group(false, 2, 5)), (1, 1, group(false, 2, 4))]), ["Raft"]);
    assert_eq!(
        broken(false, &[(1, 1, group(false, 2, 5)), (1, 2, group(false, 2, 4))]),
        NONE,
        "another life"
    );
}

#[test]
fn what_a_holder_has_grows_until_it_is_fenced() {
    let steps = |steps: &[FragmentReport]| -> Vec<(u64, u64, Glimpse)> {
        steps.iter().map(|report| (1, 1, fragments(&[*report]))).collect()
    };
    let grows =
        steps(&[report(0, false, 1), report(8192, false, 1), report(8192, true, 2), report(4096, true, 2)]);
    assert_eq!(broken(false, &grows), NONE);
    for wrong in [
        [report(8192, false, 1), report(4096, false, 1)],
        [report(8192, true, 2), report(8192, false, 2)],
        [report(8192, true, 2), report(8192, true, 1)],
    ] {
        assert_eq!(broken(false, &steps(&wrong)), ["I3"]);
        assert_eq!(broken(true, &steps(&wrong)), NONE, "its media were harmed");
    }
    // Over a restart rows stay; a mark that was not answered may go.
    let over = |old, new| broken(false, &[(1, 1, fragments(&[old])), (1, 2, fragments(&[new]))]);
    assert_eq!(over(report(8192, false, 1), report(4096, false, 1)), ["I3"]);
    assert_eq!(over(report(8192, true, 2), report(8192, false, 1)), NONE);
}

#[test]
fn what_is_gone_must_not_be_named() {
    let gone = |old: FragmentReport, media| {
        let mut watch = Watch::default();
        watch.look(looked(1, 1), &harm(media), &fragments(&[old]));
        let (_, gone) = watch.look(looked(1, 2), &harm(media), &fragments(&[]));
        (watch, gone)
    };
    assert_eq!(gone(report(0, false, 1), false).1, [], "nothing was in it yet");
    assert_eq!(gone(report(4096, true, 2), true).1, [], "harmed");
    let first = Generation::FIRST.get();
    for (record, wrong) in [
        (record(first, SlabState::Open), 1),
        (record(first, SlabState::Dead), 0),
        (record(first + 1, SlabState::Open), 0),
    ] {
        let (mut watch, gone) = gone(report(4096, true, 2), false);
        assert_eq!(gone.len(), 1);
        let table = BTreeMap::from([(slab(), record)]);
        watch.judge_gone(NODE, &gone, &table);
        assert_eq!(watch.result().1.len(), wrong);
        // Freed, and begun anew by a writer that does not know yet: as right or wrong as being gone.
        let mut watch = Watch::default();
        watch.look(looked(1, 1), &Harm::default(), &fragments(&[report(4096, true, 2)]));
        let (_, anew) = watch.look(looked(1, 1), &Harm::default(), &fragments(&[report(8192, false, 1)]));
        watch.judge_gone(NODE, &anew, &table);
        assert_eq!(watch.result().1.len(), wrong);
    }
}

#[test]
fn what_a_conversion_has_finished_is_not_freed_before_its_layout_is_given_up() {
    let sealed =
        Sealed { rows: 1, len_bytes: 8192, root_crc32c: 1, table_crc32c: heapless::Vec::new(), missing: 0 };
    let present = record(Generation::FIRST.get(), SlabState::Sealed(sealed));
    let given_up = SlabRecord { next_generation: Generation::new(3), ..present.clone() };
    let dead = SlabRecord { state: SlabState::Dead, ..present.clone() };
    let slice = |sealed| {
        let mut slice = report(4096, sealed, 2);
        slice.address.generation = Generation::new(2);
        slice.profile = Profile::new(3, 3).unwrap();
        slice
    };
    for (finished, after, table, wrong) in [
        (true, vec![], &present, 1),
        (true, vec![slice(false)], &present, 1),
        (false, vec![], &present, 0),
        (true, vec![], &given_up, 0),
        (true, vec![], &dead, 0),
    ] {
        let mut watch = Watch::default();
        watch.look(looked(1, 1), &Harm::default(), &fragments(&[slice(finished)]));
        let (_, gone) = watch.look(looked(1, 1), &Harm::default(), &fragments(&after));
        watch.judge_gone(NODE, &gone, &BTreeMap::from([(slab(), table.clone())]));
        assert_eq!(watch.result().1.len(), wrong, "{finished} {after:?} {table:?}");
    }
}

#[test]
fn too_many_tasks_are_seen() {
    let wrong = |tasks, paused| {
        let mut watch = Watch::default();
        watch.look(Looked { tasks, paused, ..looked(1, 1) }, &Harm::default(), &Glimpse::default());
        watch.result().1.len()
    };
    assert_eq!(wrong(TASKS_PER_NODE_MAX, false), 0);
    assert_eq!(wrong(TASKS_PER_NODE_MAX + 1, false), 1);
    assert_eq!(wrong(TASKS_PER_NODE_MAX + 1, true), 0);
    assert_eq!(wrong(TASKS_OF_PAUSED_MAX + 1, true), 1);
}

/// A mark goes with a life; then the table has this record, and the next look finds this fragment.
fn mark_goes(record: SlabRecord, next: FragmentReport, media: bool) -> Vec<&'static str> {
    let mut watch = Watch::default();
    let table = BTreeMap::from([(slab(), record)]);
    let looks = [(1, report(8192, true, 2)), (2, report(8192, false, 1)), (2, next), (2, next)];
    for (life, report) in looks {
        let (_, gone) = watch.look(looked(1, life), &harm(media), &fragments(&[report]));
        watch.judge_gone(NODE, &gone, &table);
    }
    watch.result().1.into_iter().map(|violation| violation.rule.split(':').next().unwrap()).collect()
}

#[test]
fn a_mark_that_counted_must_not_go_with_a_life() {
    let sealed = |missing| {
        let sealed =
            Sealed { rows: 1, len_bytes: 8192, root_crc32c: 1, table_crc32c: heapless::Vec::new(), missing };
        let state = SlabState::Sealed(sealed);
        SlabRecord { epoch: Epoch::new(2), ..record(Generation::FIRST.get(), state) }
    };
    let unmarked = report(8192, false, 1);
    assert_eq!(mark_goes(sealed(0), unmarked, false), ["I3"]);
    assert_eq!(mark_goes(sealed(0), report(8192, true, 1), false), ["I3"], "of another epoch");
    assert_eq!(mark_goes(sealed(0), unmarked, true), NONE, "harmed");
    assert_eq!(mark_goes(sealed(1), unmarked, false), NONE, "it does not count");
    assert_eq!(mark_goes(record(Generation::FIRST.get(), SlabState::Sealing), unmarked, false), NONE);
    // It was asked again before the seal was committed: the look was before that, the table after.
    assert_eq!(mark_goes(sealed(0), report(8192, true, 2), false), NONE);
}

#[test]
fn harm_ends_with_the_faults() {
    let mut after = harm(true);
    after.before = Some(BTreeSet::new());
    let mut watch = Watch::default();
    watch.look(looked(1, 1), &after, &fragments(&[report(4096, true, 2)]));
    let (_, gone) = watch.look(looked(1, 1), &after, &fragments(&[]));
    assert_eq!(gone.len(), 1, "it was made when all was fair");
}
