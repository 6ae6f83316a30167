use super::{Glimpse, GroupGlimpse, Harm, Watch};
use std::collections::BTreeMap;
use strongroom_format::wire::message::{FragmentAddress, FragmentReport};
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
    let group = GroupGlimpse { group: "group-0".to_owned(), leads, term, applied, stopped: None };
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
        profile: Profile::copies(3).unwrap(),
        holders,
        writer: NODE,
        session: SessionId::new(1),
        given_out: None,
    }
}

/// The rules that these looks at nodes and lives break, where the table names the slab all the time.
fn broken(media: bool, looks: &[(u64, u64, Glimpse)]) -> Vec<&'static str> {
    let mut watch = Watch::default();
    let table = BTreeMap::from([(slab(), record(Generation::FIRST.get(), SlabState::Open))]);
    for (node, life, glimpse) in looks {
        let node = NodeId::new(*node);
        let (_, gone) = watch.look(node, *life, 10, Harm { media, state: false }, glimpse);
        watch.judge_gone(node, &gone, &table);
    }
    let (count, violations) = watch.result();
    assert_eq!(count, looks.len() as u64);
    violations.into_iter().map(|violation| violation.rule.split(':').next().unwrap()).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn a_term_has_one_leader_and_nothing_goes_back_in_a_life() {
    assert_eq!(broken(false, &[(1, 1, group(true, 1, 5)), (2, 1, group(true, 2, 5))]), NONE);
    assert_eq!(broken(false, &[(1, 1, group(true, 1, 5)), (2, 1, group(true, 1, 5))]), ["Raft"]);
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
        let harm = Harm { media, state: false };
        let mut watch = Watch::default();
        watch.look(NODE, 1, 10, harm, &fragments(&[old]));
        let (_, gone) = watch.look(NODE, 2, 10, harm, &fragments(&[]));
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
        watch.look(NODE, 1, 10, Harm::default(), &fragments(&[report(4096, true, 2)]));
        let (_, anew) = watch.look(NODE, 1, 10, Harm::default(), &fragments(&[report(8192, false, 1)]));
        watch.judge_gone(NODE, &anew, &table);
        assert_eq!(watch.result().1.len(), wrong);
    }
}

#[test]
fn too_many_tasks_are_seen() {
    let mut watch = Watch::default();
    watch.look(NODE, 1, 1_000_000, Harm::default(), &Glimpse::default());
    assert_eq!(watch.result().1.len(), 1);
}
