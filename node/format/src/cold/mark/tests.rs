use super::*;
use crate::extent::MarkSlot;
use crate::seal_mark::SealMark;
use proptest::prelude::*;

const MIB: u32 = 1 << 20;

fn example() -> ColdMark {
    ColdMark {
        slab: SlabId::from_bits(3),
        fragment: FragmentIndex::new(11),
        generation: Generation::new(2),
        matrix: 1,
        profile: Profile::new(7, 5).unwrap(),
        slice_len_bytes: slice_len(10 * MIB, 7),
        image_len_bytes: 10 * MIB,
        epoch: Epoch::new(2),
        rows: 9,
        root_crc32c: 4,
        table_crc32c: 5,
    }
}

#[test]
fn slices_round_up_to_blocks() {
    assert_eq!(slice_len(0, 7), 0);
    assert_eq!(slice_len(4096, 7), 4096);
    assert_eq!(slice_len(7 * 4096, 7), 4096);
    assert_eq!(slice_len(8 * 4096, 7), 8192);
    assert_eq!(slice_len(SLAB_LEN_BYTES_MAX, 1), SLAB_LEN_BYTES_MAX);
}

#[test]
fn data_is_the_slice_and_its_table() {
    assert_eq!(crate::cold::data_len(0), 0);
    assert_eq!(crate::cold::data_len(1020 * 4096), 1021 * 4096);
    assert_eq!(crate::cold::data_len(1021 * 4096), 1023 * 4096);
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    assert!(example().encode().is_ok());
    let refused = |mark: ColdMark| mark.encode().is_err();
    assert!(refused(ColdMark { slice_len_bytes: example().slice_len_bytes + 4096, ..example() }));
    assert!(refused(ColdMark { slice_len_bytes: example().slice_len_bytes - 4096, ..example() }));
    assert!(refused(ColdMark { image_len_bytes: 10 * MIB + 1, ..example() }));
    assert!(refused(ColdMark { fragment: FragmentIndex::new(12), ..example() }));
    assert!(!refused(ColdMark { rows: 10 * MIB / 4096, ..example() }));
    assert!(refused(ColdMark { rows: 10 * MIB / 4096 + 1, ..example() }));
    assert!(refused(ColdMark { rows: 0, ..example() }));
    let whole = |image_len_bytes| ColdMark {
        profile: Profile::copies(12).unwrap(),
        image_len_bytes,
        slice_len_bytes: image_len_bytes,
        ..example()
    };
    assert!(!refused(whole(SLAB_LEN_BYTES_MAX)));
    assert!(refused(whole(SLAB_LEN_BYTES_MAX + 4096)));
    assert!(refused(whole(0)), "rows without an image");
    assert!(!refused(ColdMark { rows: 0, root_crc32c: 0, ..whole(0) }));
}

#[test]
fn the_mark_of_another_layout_is_misplaced() {
    let block = example().encode().unwrap();
    let key = example().key();
    assert_eq!(ColdMark::decode(&block, key), Ok(example()));
    let next = FragmentKey { generation: key.generation.next(), ..key };
    assert_eq!(
        ColdMark::decode(&block, next),
        Err(FormatError::Misplaced { structure: Structure::ColdMark, field: "generation" })
    );
    // A hot fragment's mark in the same slot is something else.
    assert!(matches!(SealMark::decode(&block, key), Err(FormatError::NotThis { .. })));
}

#[test]
fn a_whole_mark_in_either_slot_is_found() {
    let block = example().encode().unwrap();
    let zero = [0; BLOCK_LEN];
    let choice = choose(Ok(&zero), Ok(&block), example().key());
    assert_eq!((choice.mark, choice.next, choice.damaged), (Some(example()), MarkSlot::First, None));
    let later = ColdMark { epoch: Epoch::new(3), ..example() };
    let later_block = later.encode().unwrap();
    assert_eq!(choose(Ok(&block), Ok(&later_block), example().key()).mark, Some(later));
    assert_eq!(choose(Ok(&zero), Ok(&zero), example().key()).mark, None);
}

proptest! {
    #[test]
    fn a_mark_survives_the_round_trip(
        slab: u64, generation: u32, matrix: u8, k in 1u8..=16, m in 1u8..=16, fragment in 0u8..32,
        blocks in 1u32..=65536, rows in 1u32..=65536, epoch: u32, root_crc32c: u32, table_crc32c: u32,
    ) {
        let profile = Profile::new(k, m).unwrap();
        let mark = ColdMark {
            slab: SlabId::from_bits(slab),
            fragment: FragmentIndex::new(fragment % profile.fragment_count()),
            generation: Generation::new(generation),
            matrix,
            profile,
            slice_len_bytes: slice_len(blocks * 4096, k),
            image_len_bytes: blocks * 4096,
            epoch: Epoch::new(epoch),
            rows: rows.min(blocks),
            root_crc32c,
            table_crc32c,
        };
        prop_assert_eq!(ColdMark::decode(&mark.encode().unwrap(), mark.key()), Ok(mark));
    }

    /// Each byte of the image has its place in one fragment, and the last slice is not wholly padding by a block.
    #[test]
    fn slices_hold_the_image(blocks in 1u32..=65536, k in 1u8..=31) {
        let image = blocks * 4096;
        let slice = slice_len(image, k);
        prop_assert!(u64::from(slice) * u64::from(k) >= u64::from(image));
        prop_assert!(u64::from(slice - 4096) * u64::from(k) < u64::from(image));
    }
}
