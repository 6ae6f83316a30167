use super::*;
use proptest::prelude::*;
use strongroom_types::limits::{EXTENT_LEN_BYTES_MAX, EXTENT_LEN_BYTES_MIN};

const DRIVE: DriveId = DriveId::new(77);

fn example() -> ExtentHeader {
    ExtentHeader {
        drive: DRIVE,
        slab: SlabId::from_bits(5),
        fragment: FragmentIndex::new(2),
        generation: Generation::new(4),
        ordinal: 1,
        kind: ExtentKind::Hot,
        profile: Profile::copies(3).unwrap(),
        epoch: Epoch::new(6),
    }
}

#[test]
fn free_and_never_used_are_free() {
    assert_eq!(decode(&[0; BLOCK_LEN], DRIVE, 9), Ok(ExtentState::Free));
    assert_eq!(decode(&free_block(DRIVE, 9), DRIVE, 9), Ok(ExtentState::Free));
}

#[test]
fn an_error_is_not_free() {
    assert!(decode(&[0xA5; BLOCK_LEN], DRIVE, 9).is_err());
    assert!(decode(&[], DRIVE, 9).is_err());
    for (mut block, at) in
        [(free_block(DRIVE, 9), 36), (example().encode(9).unwrap(), 40), (free_block(DRIVE, 9), 4095)]
    {
        block[at] ^= 0x80;
        assert!(matches!(decode(&block, DRIVE, 9), Err(FormatError::Checksum { .. })));
    }
    // One bit beside zero is not "never used".
    let mut block = [0; BLOCK_LEN];
    block[4000] = 1;
    assert!(matches!(decode(&block, DRIVE, 9), Err(FormatError::NotThis { .. })));
}

#[test]
fn a_header_of_another_place_is_misplaced() {
    for block in [free_block(DRIVE, 9), example().encode(9).unwrap()] {
        let error = |drive, index| decode(&block, drive, index).unwrap_err();
        let misplaced = |field| FormatError::Misplaced { structure: Structure::ExtentHeader, field };
        assert_eq!(error(DRIVE, 10), misplaced("extent index"));
        assert_eq!(error(DriveId::new(78), 9), misplaced("drive"));
        assert!(decode(&block, DRIVE, 9).is_ok());
    }
}

#[test]
fn limits_in_pairs() {
    let refused = |header: ExtentHeader| header.encode(0).is_err();
    assert!(!refused(ExtentHeader { ordinal: EXTENTS_PER_FRAGMENT_MAX - 1, ..example() }));
    assert!(refused(ExtentHeader { ordinal: EXTENTS_PER_FRAGMENT_MAX, ..example() }));
    assert!(!refused(ExtentHeader { fragment: FragmentIndex::new(2), ..example() }));
    assert!(refused(ExtentHeader { fragment: FragmentIndex::new(3), ..example() }));
    let coded = ExtentHeader { profile: Profile::new(7, 5).unwrap(), ..example() };
    assert!(refused(coded), "hot fragments are copies");
    assert!(!refused(ExtentHeader { kind: ExtentKind::Cold, ..coded }));
    assert!(
        !refused(ExtentHeader { kind: ExtentKind::Cold, ..example() }),
        "a sealed copy may be kept as cold"
    );
}

#[test]
fn the_first_extent_holds_two_mark_slots() {
    let geometry = FragmentGeometry::for_extent_len(EXTENT_LEN_BYTES_MIN).unwrap();
    assert_eq!(geometry.data_capacity(0), EXTENT_LEN_BYTES_MIN - 3 * 4096);
    assert_eq!(geometry.data_capacity(1), EXTENT_LEN_BYTES_MIN - 4096);
    assert_eq!(MarkSlot::First.offset_bytes(), 4096);
    assert_eq!(MarkSlot::Second.offset_bytes(), 8192);
    assert_eq!(geometry.data_offset_bytes(0), 3 * 4096);
    assert_eq!(MarkSlot::First.other(), MarkSlot::Second);
    assert_eq!(MarkSlot::Second.other(), MarkSlot::First);
}

#[test]
fn places_around_the_border_of_two_extents() {
    let geometry = FragmentGeometry::for_extent_len(EXTENT_LEN_BYTES_MIN).unwrap();
    let first = u64::from(geometry.data_capacity(0));
    assert_eq!(geometry.locate(0), Location { ordinal: 0, offset_bytes: 3 * 4096 });
    assert_eq!(geometry.locate(first - 1), Location { ordinal: 0, offset_bytes: EXTENT_LEN_BYTES_MIN - 1 });
    assert_eq!(geometry.locate(first), Location { ordinal: 1, offset_bytes: 4096 });
    assert_eq!(geometry.extents_for(0), 1);
    assert_eq!(geometry.extents_for(1), 1);
    assert_eq!(geometry.extents_for(first), 1);
    assert_eq!(geometry.extents_for(first + 1), 2);
    assert_eq!(geometry.split(first, 0).count(), 0);
}

#[test]
fn positions_that_no_fragment_has_do_not_panic() {
    let geometry = FragmentGeometry::for_extent_len(EXTENT_LEN_BYTES_MIN).unwrap();
    assert_eq!(geometry.locate(u64::MAX).ordinal, u32::MAX);
    assert_eq!(geometry.split(u64::MAX, u64::MAX).count(), 0);
    assert_eq!(geometry.split(u64::MAX - 1, u64::MAX).count(), 1);
    assert_eq!(geometry.extents_for(u64::MAX), u32::MAX);
}

#[test]
fn only_extent_lengths_that_drives_have() {
    assert!(FragmentGeometry::for_extent_len(EXTENT_LEN_BYTES_MIN).is_ok());
    assert!(FragmentGeometry::for_extent_len(EXTENT_LEN_BYTES_MAX).is_ok());
    for wrong in
        [0, 4096, EXTENT_LEN_BYTES_MIN / 2, EXTENT_LEN_BYTES_MIN + 1, EXTENT_LEN_BYTES_MAX * 2, u32::MAX]
    {
        assert!(FragmentGeometry::for_extent_len(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    /// Against the plainest model: walk the bytes extent by extent.
    #[test]
    fn pieces_cover_the_range_once_and_in_order(shift in 0u32..=8, position in 0u64..1 << 29, len in 0u64..1 << 25) {
        let geometry = FragmentGeometry::for_extent_len(EXTENT_LEN_BYTES_MIN << shift).unwrap();
        let mut at = position;
        for piece in geometry.split(position, len) {
            prop_assert!(piece.len_bytes > 0);
            prop_assert!(piece.offset_bytes >= geometry.data_offset_bytes(piece.ordinal));
            prop_assert!(piece.offset_bytes + piece.len_bytes <= geometry.extent_len_bytes());
            let before = geometry.data_capacity_of(piece.ordinal);
            let within = u64::from(piece.offset_bytes - geometry.data_offset_bytes(piece.ordinal));
            prop_assert_eq!(before + within, at);
            at += u64::from(piece.len_bytes);
        }
        prop_assert_eq!(at, position + len);
    }

    #[test]
    fn extents_are_enough_and_none_too_many(shift in 0u32..=8, len in 1u64..1 << 30) {
        let geometry = FragmentGeometry::for_extent_len(EXTENT_LEN_BYTES_MIN << shift).unwrap();
        let extents = geometry.extents_for(len);
        prop_assert!(geometry.data_capacity_of(extents) >= len);
        prop_assert!(geometry.data_capacity_of(extents - 1) < len);
    }

    #[test]
    fn a_header_survives_the_round_trip(
        drive: u128, slab: u64, generation: u32, ordinal in 0..EXTENTS_PER_FRAGMENT_MAX, epoch: u32, index: u32,
        k in 1u8..=16, m in 1u8..=16, fragment in 0u8..32,
    ) {
        let profile = Profile::new(k, m).unwrap();
        let header = ExtentHeader {
            drive: DriveId::new(drive),
            slab: SlabId::from_bits(slab),
            fragment: FragmentIndex::new(fragment % profile.fragment_count()),
            generation: Generation::new(generation),
            ordinal,
            kind: if k == 1 { ExtentKind::Hot } else { ExtentKind::Cold },
            profile,
            epoch: Epoch::new(epoch),
        };
        let block = header.encode(index).unwrap();
        prop_assert_eq!(decode(&block, header.drive, index), Ok(ExtentState::Used(header)));
    }
}
