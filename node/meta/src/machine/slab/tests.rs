//! Every state against every command, with what matches and what does not.

use super::{Layout, abandon_layout, begin_seal, commit_seal, count_whole, malformed, open, relayout};
use crate::group::GroupCommand;
use strongroom_types::slab::Sealed;
use strongroom_types::{
    DriveId, Epoch, Generation, GroupId, Holder, Holders, NodeId, Profile, RowSequence, SessionId, SlabId,
    SlabRecord, SlabState,
};

fn holders(count: usize) -> Holders {
    (0..count).map(|n| Holder { node: NodeId::new(n as u64), drive: DriveId::new(n as u128) }).collect()
}

fn sealed(rows: u32) -> Sealed {
    Sealed { rows, len_bytes: rows * 4096, root_crc32c: 9, table_crc32c: heapless::Vec::new(), missing: 0 }
}

fn opened() -> SlabRecord {
    let slab = SlabId::new(GroupId::new(1), 7).unwrap();
    open(slab, Profile::copies(3).unwrap(), holders(3), NodeId::new(4), SessionId::new(5))
}

fn states() -> Vec<SlabState> {
    vec![SlabState::Open, SlabState::Sealing, SlabState::Sealed(sealed(3)), SlabState::Dead]
}

fn layout(generation: u32) -> Layout {
    Layout {
        generation: Generation::new(generation),
        profile: Profile::new(3, 3).unwrap(),
        holders: holders(6),
        table_crc32c: (0..6).collect(),
        missing: 2,
    }
}

#[test]
fn a_slab_opens_at_the_first_epoch_and_generation() {
    let record = opened();
    assert_eq!((record.epoch, record.generation), (Epoch::FIRST, Generation::FIRST));
    assert_eq!(record.state, SlabState::Open);
}

#[test]
fn begin_seal_needs_the_epoch_and_a_slab_that_is_not_sealed() {
    for state in states() {
        for (known, matches) in [(1, false), (2, true), (3, false)] {
            let record = SlabRecord { state: state.clone(), epoch: Epoch::new(2), ..opened() };
            let open_or_sealing = matches!(state, SlabState::Open | SlabState::Sealing);
            for given_out in [None, Some(RowSequence::new(7))] {
                let expected = (matches && open_or_sealing).then(|| SlabRecord {
                    state: SlabState::Sealing,
                    epoch: Epoch::new(3),
                    given_out,
                    ..record.clone()
                });
                let found = begin_seal(&record, Epoch::new(known), given_out);
                assert_eq!(found, expected, "{state:?} at {known}");
            }
        }
    }
}

#[test]
fn what_the_writer_said_of_its_rows_stays() {
    let said = begin_seal(&opened(), Epoch::FIRST, Some(RowSequence::new(7))).unwrap();
    for later in [None, Some(RowSequence::new(9))] {
        let again = begin_seal(&said, said.epoch, later).unwrap();
        assert_eq!(again.given_out, Some(RowSequence::new(7)));
    }
    let fenced = begin_seal(&opened(), Epoch::FIRST, None).unwrap();
    let told = begin_seal(&fenced, fenced.epoch, Some(RowSequence::new(7))).unwrap();
    assert_eq!(told.given_out, Some(RowSequence::new(7)));
}

#[test]
fn commit_seal_needs_the_epoch_and_sealing_or_the_very_same_seal() {
    for state in states() {
        for (known, matches) in [(1, false), (2, true), (3, false)] {
            for seal in [sealed(3), sealed(4)] {
                let record = SlabRecord { state: state.clone(), epoch: Epoch::new(2), ..opened() };
                let found = commit_seal(&record, Epoch::new(known), &seal);
                let allowed = matches
                    && match &state {
                        SlabState::Sealing => true,
                        SlabState::Sealed(present) => *present == seal,
                        SlabState::Open | SlabState::Dead => false,
                    };
                let expected =
                    allowed.then(|| SlabRecord { state: SlabState::Sealed(seal.clone()), ..record.clone() });
                assert_eq!(found, expected, "{state:?} at {known}");
            }
        }
    }
}

#[test]
fn relayout_needs_the_generation_and_a_sealed_slab_and_keeps_the_image() {
    let known = [(1, 5, false), (2, 5, true), (3, 5, false), (2, 4, false), (2, 6, false), (2, 3, false)];
    for state in states() {
        for (known, made, matches) in known {
            let (generation, next_generation) = (Generation::new(2), Generation::new(5));
            let record = SlabRecord { state: state.clone(), generation, next_generation, ..opened() };
            let found = relayout(&record, Generation::new(known), layout(made));
            if !(matches && matches!(state, SlabState::Sealed(_))) {
                assert_eq!(found, None, "{state:?} at {known}, made under {made}");
                continue;
            }
            let found = found.unwrap();
            assert_eq!((found.generation, found.next_generation), (Generation::new(5), Generation::new(6)));
            assert_eq!(found.epoch, record.epoch);
            assert_eq!((found.profile, found.holders.len()), (Profile::new(3, 3).unwrap(), 6));
            let after = found.sealed().unwrap();
            assert_eq!((after.rows, after.len_bytes, after.root_crc32c), (3, 3 * 4096, 9));
            assert_eq!((after.table_crc32c.len(), after.missing), (6, 2));
        }
    }
}

#[test]
fn a_layout_that_was_given_up_is_never_taken() {
    for state in states() {
        let record = SlabRecord { state: state.clone(), ..opened() };
        assert_eq!(abandon_layout(&record, Generation::new(1)), None, "the present one");
        assert_eq!(abandon_layout(&record, Generation::new(3)), None, "not begun yet");
        let found = abandon_layout(&record, Generation::new(2));
        let SlabState::Sealed(_) = state else {
            assert_eq!(found, None, "{state:?}");
            continue;
        };
        let found = found.unwrap();
        assert_eq!(found, SlabRecord { next_generation: Generation::new(3), ..record.clone() });
        assert_eq!(abandon_layout(&found, Generation::new(2)), None, "a late proposal gives up no other");
        assert_eq!(relayout(&found, found.generation, layout(2)), None);
        assert!(relayout(&found, found.generation, layout(3)).is_some());
    }
}

#[test]
fn copies_that_were_missing_count_again_at_their_generation_only() {
    let short = Sealed { missing: 0b101, ..sealed(3) };
    for state in [SlabState::Open, SlabState::Sealing, SlabState::Sealed(short.clone()), SlabState::Dead] {
        for generation in [1, 2, 3] {
            let record = SlabRecord { state: state.clone(), generation: Generation::new(2), ..opened() };
            let fits = generation == 2 && matches!(state, SlabState::Sealed(_));
            let counted = SlabState::Sealed(Sealed { missing: 0b100, ..short.clone() });
            let expected = fits.then(|| SlabRecord { state: counted, ..record.clone() });
            assert_eq!(count_whole(&record, Generation::new(generation), 0b011), expected, "{state:?}");
        }
    }
    let coded = SlabRecord {
        state: SlabState::Sealed(short),
        profile: Profile::new(3, 3).unwrap(),
        holders: holders(6),
        ..opened()
    };
    assert_eq!(count_whole(&coded, coded.generation, 0b001), None, "a seal says nothing of coded fragments");
}

#[test]
fn layouts_with_a_wrong_count_are_malformed() {
    let command = |profile: Profile, holder_count, tables: u32| GroupCommand::Relayout {
        slab: SlabId::from_bits(1),
        generation: Generation::FIRST,
        layout: Generation::FIRST.next(),
        profile,
        holders: holders(holder_count),
        table_crc32c: (0..tables).collect(),
        missing: 0,
    };
    let (copies, coded) = (Profile::copies(3).unwrap(), Profile::new(3, 3).unwrap());
    assert_eq!(malformed(&command(coded, 6, 6)), None);
    assert_eq!(malformed(&command(copies, 3, 0)), None);
    assert!(malformed(&command(coded, 5, 6)).is_some());
    assert!(malformed(&command(coded, 6, 5)).is_some());
    assert!(malformed(&command(copies, 3, 3)).is_some());
    let open = |count| GroupCommand::OpenSlab {
        writer: NodeId::new(1),
        session: SessionId::new(1),
        profile: copies,
        holders: holders(count),
    };
    assert_eq!(malformed(&open(3)), None);
    assert!(malformed(&open(2)).is_some());
}
