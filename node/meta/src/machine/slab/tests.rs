//! Every state against every command, with what matches and what does not.

use super::{
    Layout, abandon_layout, begin_seal, commit_seal, count_missing, count_whole, kill, malformed, open,
    relayout, set_holders, writer_done,
};
use crate::group::GroupCommand;
use strongroom_types::slab::{MadeAgain, Sealed};
use strongroom_types::{
    DriveId, Epoch, FragmentIndex, Generation, GroupId, Holder, Holders, NodeId, Profile, RowSequence,
    SessionId, SlabId, SlabRecord, SlabState,
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
fn fragments_made_again_are_taken_at_their_generation_and_layout_only() {
    let short = Sealed { missing: 0b1011, table_crc32c: (0..6).collect(), ..sealed(3) };
    let again = |fragment, holder: usize| MadeAgain {
        fragment: FragmentIndex::new(fragment),
        holder: holders(9)[holder],
        table_crc32c: 1000 + u32::from(fragment),
    };
    let made = [again(1, 8), again(4, 7)];
    for state in [SlabState::Open, SlabState::Sealing, SlabState::Sealed(short.clone()), SlabState::Dead] {
        for (known, layout) in [(1, 5), (2, 5), (3, 5), (2, 4), (2, 6)] {
            let record = SlabRecord {
                state: state.clone(),
                generation: Generation::new(2),
                next_generation: Generation::new(5),
                profile: Profile::new(3, 3).unwrap(),
                holders: holders(6),
                made_under: (0..6).map(|_| Generation::new(2)).collect(),
                ..opened()
            };
            let (known, layout) = (Generation::new(known), Generation::new(layout));
            let found = set_holders(&record, known, layout, &made);
            if !matches!(state, SlabState::Sealed(_)) || (known.get(), layout.get()) != (2, 5) {
                assert_eq!(found, None, "{state:?} at {known}, made under {layout}");
                continue;
            }
            let found = found.unwrap();
            assert_eq!((found.generation, found.next_generation), (Generation::new(5), Generation::new(6)));
            let table_crc32c = [0, 1001, 2, 3, 1004, 5].into_iter().collect();
            let expected = Sealed { missing: 0b1001, table_crc32c, ..short.clone() };
            assert_eq!(found.sealed(), Some(&expected), "4 was gone, not missing");
            for place in 0..6 {
                let fragment = FragmentIndex::new(place);
                let again = made.iter().find(|made| made.fragment == fragment);
                let expected = again.map(|made| (made.holder, layout)).or(record.place(fragment));
                assert_eq!(found.place(fragment), expected);
            }
            assert_eq!(set_holders(&found, known, layout, &made), None, "a late proposal is not taken");
            assert_eq!(set_holders(&record, known, layout, &[again(6, 8)]), None);
            let copies = SlabRecord { profile: Profile::copies(6).unwrap(), ..record };
            assert_eq!(set_holders(&copies, known, layout, &made), None, "copies are not made again");
        }
    }
}

#[test]
fn what_is_found_missing_counts_at_its_generation_only() {
    let short = Sealed { missing: 0b001, ..sealed(3) };
    // Found missing, and counted of it: there are no more fragments than the profile says.
    let profiles = [
        (Profile::copies(3).unwrap(), 0b1111_0010, 0b011),
        (Profile::new(3, 3).unwrap(), 0b1110_0110, 0b10_0111),
    ];
    for state in [SlabState::Open, SlabState::Sealing, SlabState::Sealed(short.clone()), SlabState::Dead] {
        for (profile, found, missing) in profiles {
            for generation in [1, 2, 3] {
                let opened = SlabRecord { profile, state: state.clone(), ..opened() };
                let record = SlabRecord { generation: Generation::new(2), ..opened };
                let fits = generation == 2 && matches!(state, SlabState::Sealed(_));
                let counted = SlabState::Sealed(Sealed { missing, ..short.clone() });
                let expected = fits.then(|| SlabRecord { state: counted, ..record.clone() });
                let known = Generation::new(generation);
                assert_eq!(count_missing(&record, known, found), expected, "{state:?}, {profile:?}");
            }
        }
    }
}

#[test]
fn fragments_made_again_are_named_once() {
    let command = |made: &[u8]| GroupCommand::SetHolders {
        slab: SlabId::from_bits(1),
        generation: Generation::FIRST,
        layout: Generation::FIRST.next(),
        made: made
            .iter()
            .map(|fragment| MadeAgain {
                fragment: FragmentIndex::new(*fragment),
                holder: holders(1)[0],
                table_crc32c: 1,
            })
            .collect(),
    };
    assert_eq!(malformed(&command(&[0, 31])), None);
    for wrong in [&[][..], &[3, 3], &[32], &[0, 64]] {
        assert!(malformed(&command(wrong)).is_some(), "{wrong:?}");
    }
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

#[test]
fn only_a_sealed_slab_is_killed_at_its_generation_and_a_dead_one_stays_dead() {
    for state in states() {
        for (known, matches) in [(1, false), (2, true), (3, false)] {
            let record = SlabRecord { state: state.clone(), generation: Generation::new(2), ..opened() };
            let dead = SlabRecord { state: SlabState::Dead, ..record.clone() };
            let expected = match &state {
                SlabState::Sealed(_) => matches.then(|| dead.clone()),
                SlabState::Dead => Some(dead.clone()),
                SlabState::Open | SlabState::Sealing => None,
            };
            assert_eq!(kill(&record, Generation::new(known)), expected, "{state:?}");
        }
    }
}

#[test]
fn a_writer_is_done_with_what_is_not_open_any_more() {
    for state in states() {
        let record = SlabRecord { state: state.clone(), ..opened() };
        let done = SlabRecord { writer_done: true, ..record.clone() };
        let expected = (state != SlabState::Open).then(|| done.clone());
        assert_eq!(writer_done(&record), expected, "{state:?}");
        if let Some(done) = expected {
            assert_eq!(writer_done(&done), Some(done.clone()), "again");
        }
    }
}
