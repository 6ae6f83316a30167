use super::*;
use proptest::prelude::*;

const KEY: FragmentKey = FragmentKey {
    slab: SlabId::from_bits(3),
    fragment: FragmentIndex::new(1),
    generation: Generation::new(2),
};

fn mark(epoch: u32, settled: bool) -> SealMark {
    SealMark {
        slab: KEY.slab,
        fragment: KEY.fragment,
        generation: KEY.generation,
        epoch: Epoch::new(epoch),
        rows: 8,
        root_crc32c: 99,
        settled,
    }
}

fn block(mark: SealMark) -> Block {
    mark.encode().unwrap()
}

const ZERO: Block = [0; BLOCK_LEN];

#[test]
fn the_higher_epoch_then_the_settled_one_holds() {
    for (older, newer) in
        [(mark(2, false), mark(3, false)), (mark(2, true), mark(3, false)), (mark(3, false), mark(3, true))]
    {
        let (old, new) = (block(older), block(newer));
        let choice = choose(Ok(&old), Ok(&new), KEY);
        assert_eq!((choice.mark, choice.next, choice.damaged), (Some(newer), MarkSlot::First, None));
        let choice = choose(Ok(&new), Ok(&old), KEY);
        assert_eq!((choice.mark, choice.next, choice.damaged), (Some(newer), MarkSlot::Second, None));
    }
}

#[test]
fn a_first_mark_goes_to_the_first_slot_and_its_successor_to_the_second() {
    let choice = choose(Ok(&ZERO), Ok(&ZERO), KEY);
    assert_eq!((choice.mark, choice.next, choice.damaged), (None, MarkSlot::First, None));
    let first = block(mark(2, false));
    let choice = choose(Ok(&first), Ok(&ZERO), KEY);
    assert_eq!((choice.mark, choice.next, choice.damaged), (Some(mark(2, false)), MarkSlot::Second, None));
}

#[test]
fn a_rewrite_torn_at_any_sector_leaves_the_older_mark() {
    let (old, new) = (mark(2, false), mark(3, false));
    let stale = block(mark(1, false));
    for written in 1..8 {
        let mut torn = stale;
        torn[..written * 512].copy_from_slice(&block(new)[..written * 512]);
        let choice = choose(Ok(&block(old)), Ok(&torn), KEY);
        // All of the mark is in the first sector, and the rest of the block is zero before and after.
        assert_eq!(choice.mark, Some(new), "{written} sectors");
    }
    let mut torn = stale;
    torn[..20].copy_from_slice(&block(new)[..20]);
    let choice = choose(Ok(&block(old)), Ok(&torn), KEY);
    assert_eq!((choice.mark, choice.next), (Some(old), MarkSlot::Second));
    assert!(matches!(choice.damaged, Some(FormatError::Checksum { .. })));
}

#[test]
fn what_is_not_this_fragments_is_absent_and_what_is_damaged_is_not() {
    let others = [
        FragmentKey { slab: SlabId::from_bits(4), ..KEY },
        FragmentKey { fragment: FragmentIndex::new(2), ..KEY },
        FragmentKey { generation: Generation::new(1), ..KEY },
    ];
    for key in others {
        let stale = block(SealMark {
            slab: key.slab,
            fragment: key.fragment,
            generation: key.generation,
            ..mark(9, true)
        });
        assert!(matches!(SealMark::decode(&stale, KEY), Err(FormatError::Misplaced { .. })));
        let choice = choose(Ok(&stale), Ok(&[0x77; BLOCK_LEN]), KEY);
        assert_eq!((choice.mark, choice.damaged), (None, None));
    }
    let mut rotten = block(mark(2, false));
    rotten[33] ^= 1;
    let choice = choose(Ok(&rotten), Ok(&ZERO), KEY);
    assert_eq!((choice.mark, choice.next), (None, MarkSlot::Second));
    assert!(choice.damaged.is_some());
    let unreadable = FormatError::Unreadable { structure: Structure::SealMark };
    let choice = choose(Ok(&ZERO), Err(unreadable.clone()), KEY);
    assert_eq!((choice.mark, choice.next, choice.damaged), (None, MarkSlot::First, Some(unreadable)));
}

#[test]
fn limits_in_pairs() {
    assert!(SealMark { rows: ROWS_PER_SLAB_MAX, ..mark(1, false) }.encode().is_ok());
    assert!(SealMark { rows: ROWS_PER_SLAB_MAX + 1, ..mark(1, false) }.encode().is_err());
    assert!(SealMark { rows: 0, root_crc32c: 0, ..mark(1, false) }.encode().is_ok());
    assert!(SealMark { rows: 0, root_crc32c: 1, ..mark(1, false) }.encode().is_err());
}

proptest! {
    #[test]
    fn a_mark_survives_the_round_trip(
        slab: u64, fragment: u8, generation: u32, epoch: u32, rows in 1..=ROWS_PER_SLAB_MAX, root_crc32c: u32, settled: bool,
    ) {
        let mark = SealMark {
            slab: SlabId::from_bits(slab),
            fragment: FragmentIndex::new(fragment),
            generation: Generation::new(generation),
            epoch: Epoch::new(epoch),
            rows,
            root_crc32c,
            settled,
        };
        prop_assert_eq!(SealMark::decode(&mark.encode().unwrap(), mark.key()), Ok(mark));
    }
}
