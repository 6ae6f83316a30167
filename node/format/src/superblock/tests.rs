use super::*;
use crate::block::BLOCK_LEN;
use proptest::prelude::*;

fn example() -> Superblock {
    Superblock {
        cluster: ClusterId::new(1),
        drive: DriveId::new(2),
        incarnation: 3,
        device_len_bytes: 64 * MIB,
        extent_len_bytes: EXTENT_LEN_BYTES_MIN,
        verified: Verified::default(),
    }
}

fn zero() -> Result<Superblock, FormatError> {
    Superblock::decode(&[0; BLOCK_LEN])
}

fn foreign() -> Result<Superblock, FormatError> {
    Superblock::decode(&[0x55; BLOCK_LEN])
}

fn torn() -> Result<Superblock, FormatError> {
    let mut block = example().encode().unwrap();
    block[40] ^= 1;
    Superblock::decode(&block)
}

fn newer() -> Result<Superblock, FormatError> {
    let mut block = example().encode().unwrap();
    block[8] = 3;
    mend(&mut block);
    Superblock::decode(&block)
}

fn unreadable() -> Result<Superblock, FormatError> {
    Err(FormatError::Unreadable { structure: Structure::Superblock })
}

#[test]
fn two_copies_that_agree_make_a_read() {
    let good = Ok(example());
    assert_eq!(choose(&[good.clone(), good.clone(), good.clone(), good.clone()]), good_choice());
    for other in [zero(), foreign(), torn(), unreadable()] {
        assert_eq!(choose(&[good.clone(), other.clone(), good.clone(), other]), good_choice());
    }
}

fn good_choice() -> Result<Superblock, SuperblockError> {
    Ok(example())
}

#[test]
fn one_copy_is_not_believed() {
    let good = Ok(example());
    let one =
        |other: Result<Superblock, FormatError>| choose(&[good.clone(), other.clone(), other.clone(), other]);
    assert_eq!(one(zero()), Err(SuperblockError::Damaged { valid: 1 }));
    assert_eq!(one(foreign()), Err(SuperblockError::Damaged { valid: 1 }));
    assert_eq!(one(torn()), Err(SuperblockError::Damaged { valid: 1 }));
    assert_eq!(one(unreadable()), Err(SuperblockError::Unreadable { count: 3 }));
}

fn incarnation(incarnation: u32) -> Result<Superblock, FormatError> {
    Ok(Superblock { incarnation, ..example() })
}

#[test]
fn of_copies_that_agree_who_it_is_the_highest_incarnation_holds() {
    let [old, new] = [incarnation(3), incarnation(4)];
    for copies in [
        [old.clone(), old.clone(), new.clone(), new.clone()],
        [new.clone(), old.clone(), new.clone(), old.clone()],
        // A rewrite cut after its first copy, in the middle of its second, and before the last.
        [new.clone(), old.clone(), old.clone(), old.clone()],
        [new.clone(), torn(), old.clone(), old.clone()],
        [new.clone(), new.clone(), new.clone(), old],
    ] {
        assert_eq!(choose(&copies).unwrap().incarnation, 4);
    }
}

#[test]
fn copies_of_which_no_two_are_equal_say_who_it_is_and_so_do_two_of_them() {
    let differing = [incarnation(5), incarnation(3), incarnation(6), incarnation(4)];
    assert_eq!(choose(&differing).unwrap().incarnation, 6);
    for lost in [unreadable(), torn(), zero(), foreign()] {
        let copies = [differing[0].clone(), lost.clone(), differing[2].clone(), differing[3].clone()];
        assert_eq!(choose(&copies).unwrap().incarnation, 6);
        let copies = [lost.clone(), differing[1].clone(), lost, differing[3].clone()];
        assert_eq!(choose(&copies).unwrap().incarnation, 4);
    }
}

#[test]
fn the_incarnation_of_another_drive_counts_for_nothing() {
    let other = Superblock { incarnation: 9, ..example() };
    for other in [
        Superblock { drive: DriveId::new(9), ..other },
        Superblock { cluster: ClusterId::new(9), ..other },
        Superblock { device_len_bytes: 32 * MIB, ..other },
        Superblock { extent_len_bytes: 2 * EXTENT_LEN_BYTES_MIN, ..other },
    ] {
        assert_eq!(choose(&[Ok(other), incarnation(3), incarnation(4), torn()]).unwrap().incarnation, 4);
        let alone = choose(&[Ok(other), incarnation(3), torn(), torn()]);
        assert_eq!(alone, Err(SuperblockError::Damaged { valid: 2 }));
        let two_and_two = choose(&[Ok(other), incarnation(3), Ok(other), incarnation(4)]);
        assert_eq!(two_and_two, Err(SuperblockError::Damaged { valid: 4 }));
    }
}

#[test]
fn only_four_zero_blocks_are_blank() {
    assert_eq!(choose(&[zero(), zero(), zero(), zero()]), Err(SuperblockError::Blank));
    assert_eq!(choose(&[zero(), zero(), zero(), foreign()]), Err(SuperblockError::Foreign));
    assert_eq!(choose(&[foreign(), foreign(), foreign(), foreign()]), Err(SuperblockError::Foreign));
    assert_eq!(
        choose(&[zero(), zero(), zero(), unreadable()]),
        Err(SuperblockError::Unreadable { count: 1 })
    );
    assert_eq!(choose(&[zero(), zero(), zero(), torn()]), Err(SuperblockError::Damaged { valid: 0 }));
    let all_torn = [torn(), torn(), torn(), torn()];
    assert_eq!(choose(&all_torn), Err(SuperblockError::Damaged { valid: 0 }));
}

#[test]
fn a_newer_copy_anywhere_refuses_the_drive() {
    let good = Ok(example());
    let copies = [good.clone(), good.clone(), good, newer()];
    assert_eq!(choose(&copies), Err(SuperblockError::Version { found: 3, known: 2 }));
}

#[test]
fn a_flipped_version_is_damage_and_not_a_newer_version() {
    let mut block = example().encode().unwrap();
    block[8] = 3;
    assert!(matches!(Superblock::decode(&block), Err(FormatError::Checksum { .. })));
}

#[test]
fn extent_lengths_in_pairs() {
    let device = 1 << 30;
    for right in [EXTENT_LEN_BYTES_MIN, 16 << 20, EXTENT_LEN_BYTES_MAX] {
        assert!(Layout::new(device, right).is_ok(), "{right}");
    }
    for wrong in
        [0, 4096, EXTENT_LEN_BYTES_MIN / 2, EXTENT_LEN_BYTES_MIN + 4096, EXTENT_LEN_BYTES_MAX * 2, u32::MAX]
    {
        assert!(Layout::new(device, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn device_lengths_in_pairs() {
    let extent = EXTENT_LEN_BYTES_MIN;
    let least = 2 * RESERVE_LEN_BYTES + u64::from(extent);
    assert_eq!(Layout::new(least, extent).unwrap().extent_count(), 1);
    assert!(Layout::new(least - 4096, extent).is_err());
    assert!(Layout::new(least + 512, extent).is_err());
    assert!(Layout::new(DEVICE_LEN_BYTES_MAX, extent).is_ok());
    assert!(Layout::new(DEVICE_LEN_BYTES_MAX + 4096, extent).is_err());
    assert!(Layout::new(u64::MAX, extent).is_err());
    assert!(Layout::superblock_offsets_bytes(2 * RESERVE_LEN_BYTES).is_ok());
    assert!(Layout::superblock_offsets_bytes(2 * RESERVE_LEN_BYTES - 4096).is_err());
    assert!(Layout::superblock_offsets_bytes(0).is_err());
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    assert!(Superblock { extent_len_bytes: 5, ..example() }.encode().is_err());
    assert!(Superblock { device_len_bytes: MIB, ..example() }.encode().is_err());
}

proptest! {
    #[test]
    fn nothing_overlaps(blocks in 600u64..1 << 30, shift in 0u32..=8) {
        let device_len_bytes = blocks * 4096;
        let extent_len_bytes = EXTENT_LEN_BYTES_MIN << shift;
        let Ok(layout) = Layout::new(device_len_bytes, extent_len_bytes) else { return Ok(()) };
        let copies = Layout::superblock_offsets_bytes(device_len_bytes).unwrap();
        let first = layout.extent_offset_bytes(0).unwrap();
        let last = layout.extent_offset_bytes(layout.extent_count() - 1).unwrap() + u64::from(extent_len_bytes);
        prop_assert!(copies[0] < copies[1] && copies[1] + 4096 <= first);
        prop_assert!(last <= copies[2] && copies[2] < copies[3] && copies[3] + 4096 <= device_len_bytes);
        prop_assert!(copies[2] - last < u64::from(extent_len_bytes), "no room for one more extent");
        prop_assert_eq!(layout.extent_offset_bytes(layout.extent_count()), None);
    }

    #[test]
    fn a_copy_survives_the_round_trip(
        cluster: u128, drive: u128, incarnation: u32, blocks in 1000u64..1 << 36,
        since in 0u64..9, tour: Option<(u64, u64, Option<u64>)>,
    ) {
        let tour = tour.map(|(began, origin, upto)| TourPlace {
            began: WallTime::from_unix_millis(began),
            origin: SlabId::from_bits(origin),
            upto: upto.map(SlabId::from_bits),
        });
        let since = (since != 0).then(|| WallTime::from_unix_millis(since));
        let superblock = Superblock {
            cluster: ClusterId::new(cluster),
            drive: DriveId::new(drive),
            incarnation,
            device_len_bytes: blocks * 4096,
            extent_len_bytes: EXTENT_LEN_BYTES_MIN,
            verified: Verified { since, tour },
        };
        prop_assert_eq!(Superblock::decode(&superblock.encode().unwrap()), Ok(superblock));
    }
}

#[test]
fn a_copy_of_the_first_version_says_nothing_of_tours_and_none_is_older() {
    let mut block = example().encode().unwrap();
    block[8] = 1;
    mend(&mut block);
    assert_eq!(Superblock::decode(&block), Ok(example()));
    block[8] = 0;
    mend(&mut block);
    assert!(matches!(Superblock::decode(&block), Err(FormatError::Version { found: 0, known: 2, .. })));
}

#[test]
fn a_tour_is_no_part_of_who_the_drive_is_and_its_tag_is_checked() {
    let tour = TourPlace { began: WallTime::from_unix_millis(1), origin: SlabId::from_bits(2), upto: None };
    let other = Superblock { verified: Verified { since: None, tour: Some(tour) }, ..example() };
    assert!(other.agrees_with(&example()));
    let mut block = other.encode().unwrap();
    block[72] = 3;
    mend(&mut block);
    assert!(matches!(Superblock::decode(&block), Err(FormatError::Field { field: "tour", found: 3, .. })));
}
