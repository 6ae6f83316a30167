use super::{Ledger, Seen};
use crate::limits::RUN_OPEN_SLABS_MAX;
use crate::status::SlabSurvey;
use crate::survey::{Condition, fragment_len_bytes};
use strongroom_core::{FragmentSet, Margin};
use strongroom_types::slab::Sealed;
use strongroom_types::{
    DriveId, Epoch, Generation, GroupId, Holder, NodeId, Profile, SessionId, SlabId, SlabRecord, SlabState,
};

const LEN_BYTES: u32 = 12 * 4096;

/// A cold slab of RS(3,3), its fragments made under these.
fn cold(number: u64, made_under: [u32; 6]) -> SlabRecord {
    let sealed = Sealed {
        rows: 1,
        len_bytes: LEN_BYTES,
        root_crc32c: 0,
        table_crc32c: Default::default(),
        missing: 0,
    };
    let holder = |node: u64| Holder { node: NodeId::new(node), drive: DriveId::new(node.into()) };
    SlabRecord {
        slab: SlabId::new(GroupId::new(0), number).unwrap(),
        state: SlabState::Sealed(sealed),
        epoch: Epoch::FIRST,
        generation: Generation::new(2),
        next_generation: Generation::new(3),
        profile: Profile::new(3, 3).unwrap(),
        holders: (1..=6).map(holder).collect(),
        made_under: made_under.map(Generation::new).into_iter().collect(),
        writer: NodeId::new(1),
        session: SessionId::new(1),
        given_out: None,
        writer_done: false,
    }
}

fn condition(lost: u32, away: u32) -> Condition {
    let (lost, away) = (FragmentSet::from_mask(lost), FragmentSet::from_mask(away));
    Condition { lost, away, margin: Margin::Node }
}

fn look(ledger: &mut Ledger, records: &[(SlabRecord, Condition)]) {
    let mut seen = Seen::default();
    for (record, condition) in records {
        seen.add(record, condition, &ledger.lacking);
    }
    let mut survey = SlabSurvey::default();
    survey.counts.cold = records.len() as u64;
    survey.counts.deficit = records.iter().filter(|(_, condition)| !condition.is_whole()).count() as u64;
    ledger.note(&survey, seen);
}

#[test]
fn what_was_lacking_is_told_as_made_again_or_back_once_it_is_whole() {
    let mut ledger = Ledger::default();
    let (first, second) = (cold(1, [2; 6]), cold(2, [2; 6]));
    look(&mut ledger, &[(first.clone(), condition(0b000011, 0b100000)), (second.clone(), condition(0, 0))]);
    assert_eq!((ledger.done, ledger.lacking.len()), (0, 3));
    assert_eq!(ledger.report.slabs_below_first, 1);

    // Fragment 0 was made again; 1 is still lost; 5 is back; and another slab lacks one.
    let repaired = cold(1, [3, 2, 2, 2, 2, 2]);
    look(&mut ledger, &[(repaired.clone(), condition(0b000010, 0)), (second, condition(0b000001, 0))]);
    assert_eq!((ledger.done, ledger.lacking.len()), (2, 2));
    let report = &ledger.report;
    assert_eq!((report.fragments_made_again, report.fragments_back, report.slabs_below_last), (1, 1, 2));
    assert_eq!(report.bytes_made_again, fragment_len_bytes(&repaired));
    assert_eq!(fragment_len_bytes(&repaired), 4 * 4096 + 4096, "a third, and its checksums");

    // What was made again is lost once more, under its new generation; the second slab is dead.
    look(&mut ledger, &[(cold(1, [3, 4, 2, 2, 2, 2]), condition(0b000001, 0))]);
    assert_eq!((ledger.done, ledger.lacking.len()), (4, 1));
    look(&mut ledger, &[(cold(1, [5, 4, 2, 2, 2, 2]), condition(0, 0))]);
    let report = &ledger.report;
    assert_eq!((ledger.done, ledger.lacking.len()), (5, 0));
    assert_eq!((report.looks, report.fragments_made_again, report.fragments_back), (4, 3, 1));
    assert_eq!((report.slabs_below_first, report.slabs_below_last, report.slabs), (1, 0, 1));
}

#[test]
fn open_slabs_without_a_holder_are_noted_up_to_a_bound_and_empty_ones_want_nothing() {
    let mut seen = Seen::default();
    let before = Default::default();
    for number in 0..=RUN_OPEN_SLABS_MAX as u64 {
        let open = SlabRecord { state: SlabState::Open, ..cold(number, [2; 6]) };
        seen.add(&open, &condition(0, 0b1), &before);
        seen.add(&open, &condition(0, 0), &before);
    }
    assert_eq!((seen.open_short.len(), seen.open_short_count), (RUN_OPEN_SLABS_MAX, RUN_OPEN_SLABS_MAX + 1));
    let mut empty = cold(9, [2; 6]);
    if let SlabState::Sealed(sealed) = &mut empty.state {
        sealed.rows = 0;
    }
    seen.add(&empty, &condition(0b1, 0), &before);
    seen.add(&SlabRecord { state: SlabState::Dead, ..empty }, &condition(0b1, 0), &before);
    assert!(seen.lacking.is_empty() && seen.holders.is_empty());
}

#[test]
fn who_must_have_answered_and_who_is_waited_for_are_the_holders() {
    let mut seen = Seen::default();
    seen.add(&cold(1, [2; 6]), &condition(0b1, 0b10), &Default::default());
    assert_eq!(seen.holders.iter().map(|node| node.get()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(seen.away.iter().map(|node| node.get()).collect::<Vec<_>>(), [2]);
}
