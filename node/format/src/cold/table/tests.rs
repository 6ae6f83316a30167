use super::*;
use crate::checksum::{crc32c, fragment_block_from_plain};
use proptest::prelude::*;
use strongroom_types::{FragmentIndex, Generation, SlabId};

const KEY: FragmentKey = FragmentKey {
    slab: SlabId::from_bits(3),
    fragment: FragmentIndex::new(1),
    generation: Generation::new(2),
};

fn slice(blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK_LEN).map(|index| (index / 11 + index / BLOCK_LEN) as u8).collect()
}

fn table(blocks: usize) -> ChecksumTable {
    let mut table = ChecksumTable::new(KEY);
    table.push_blocks(&slice(blocks)).unwrap();
    table
}

/// A table whose blocks nobody reads: what is tested is its size.
fn filled(entries: u32) -> ChecksumTable {
    let mut table = ChecksumTable::new(KEY);
    for entry in 0..entries {
        table.push_checksum(entry).unwrap();
    }
    table
}

#[test]
fn a_table_finds_the_first_bad_block() {
    let table = table(5);
    let mut bytes = slice(5);
    assert_eq!(table.verify(0, &bytes), Ok(()));
    assert_eq!(table.verify(2 * 4096, &bytes[2 * BLOCK_LEN..4 * BLOCK_LEN]), Ok(()));
    assert!(table.verify(4096, &bytes[2 * BLOCK_LEN..3 * BLOCK_LEN]).is_err(), "a block from beside");
    bytes[3 * BLOCK_LEN + 5] ^= 1;
    assert_eq!(table.verify(4096, &bytes[BLOCK_LEN..]).unwrap_err().position_bytes, 3 * 4096);
    let bytes = slice(6);
    assert_eq!(table.verify(0, &bytes).unwrap_err().position_bytes, 5 * 4096, "beyond the slice");
    assert_eq!(table.verify(0, &bytes[..100]).unwrap_err().position_bytes, 0, "a short block");
    assert!(table.verify(1, &bytes[..BLOCK_LEN]).is_err(), "not at a block");
    assert!(table.verify(u32::MAX - 4095, &bytes[..2 * BLOCK_LEN]).is_err());
}

#[test]
fn blocks_of_the_table_are_bound_to_fragment_layout_and_place() {
    let table = filled(2000);
    let bytes = table.encode();
    let slice_len_bytes = table.slice_len_bytes();
    assert_eq!(ChecksumTable::decode(KEY, slice_len_bytes, &bytes), Ok(table));
    for key in [
        FragmentKey { slab: SlabId::from_bits(4), ..KEY },
        FragmentKey { fragment: FragmentIndex::new(2), ..KEY },
        FragmentKey { generation: Generation::new(3), ..KEY },
    ] {
        let found = ChecksumTable::decode(key, slice_len_bytes, &bytes);
        assert!(matches!(found, Err(FormatError::Checksum { .. })));
    }
    let (first, second) = bytes.split_at(BLOCK_LEN);
    assert!(ChecksumTable::decode(KEY, slice_len_bytes, &[second, first].concat()).is_err());
    assert!(matches!(TableBlock::decode(KEY, slice_len_bytes, 0, second), Err(FormatError::Checksum { .. })));
    assert!(TableBlock::decode(KEY, slice_len_bytes, 1, second).is_ok());
    assert!(TableBlock::decode(KEY, slice_len_bytes + 4096, 1, second).is_err(), "a slice of another length");
    assert!(matches!(
        TableBlock::decode(KEY, slice_len_bytes, 0, &[0; BLOCK_LEN]),
        Err(FormatError::Zero { .. })
    ));
}

#[test]
fn one_block_of_the_table_verifies_its_part_of_the_slice() {
    let slice_bytes = slice(1022);
    let table = table(1022);
    let bytes = table.encode();
    let second = TableBlock::decode(KEY, table.slice_len_bytes(), 1, &bytes[BLOCK_LEN..]).unwrap();
    assert_eq!(second.entries().len(), 2);
    assert_eq!(table_block_for(1019 * 4096), 0);
    assert_eq!(table_block_for(1020 * 4096), 1);
    assert_eq!(second.verify(1020 * 4096, &slice_bytes[1020 * BLOCK_LEN..]), Ok(()));
    assert!(second.verify(1019 * 4096, &slice_bytes[1019 * BLOCK_LEN..1020 * BLOCK_LEN]).is_err());
}

#[test]
fn the_tables_checksum_depends_on_entries_order_and_fragment() {
    let sum = |key, entries: &[u32]| {
        let mut table = ChecksumTable::new(key);
        entries.iter().for_each(|entry| table.push_checksum(*entry).unwrap());
        table.table_crc32c()
    };
    let other = FragmentKey { generation: Generation::new(9), ..KEY };
    assert_eq!(sum(KEY, &[1, 2]), sum(KEY, &[1, 2]));
    assert_ne!(sum(KEY, &[1, 2]), sum(KEY, &[2, 1]));
    assert_ne!(sum(KEY, &[1, 2]), sum(KEY, &[1]));
    assert_ne!(sum(KEY, &[1, 2]), sum(other, &[1, 2]));
}

#[test]
fn sizes_in_pairs() {
    assert_eq!(table_blocks(0), 0);
    assert_eq!(table_blocks(4096), 1);
    assert_eq!(table_blocks(1020 * 4096), 1);
    assert_eq!(table_blocks(1021 * 4096), 2);
    let mut full = filled(ENTRIES_MAX);
    assert_eq!(full.slice_len_bytes(), SLAB_LEN_BYTES_MAX);
    assert_eq!(full.encode().len(), 65 * BLOCK_LEN);
    assert!(full.push_checksum(1).is_err());
    assert!(full.push_blocks(&[0; BLOCK_LEN]).is_err());
    assert_eq!(full.entries().len() as u32, ENTRIES_MAX);
    assert!(ChecksumTable::new(KEY).push_blocks(&[0; 100]).is_err());
    let bytes = full.encode();
    assert!(ChecksumTable::decode(KEY, SLAB_LEN_BYTES_MAX, &bytes[..64 * BLOCK_LEN]).is_err());
    assert!(ChecksumTable::decode(KEY, 0, &[]).is_ok());
}

proptest! {
    #[test]
    fn a_table_survives_the_round_trip(entries in prop::collection::vec(any::<u32>(), 0..3000), slab: u64) {
        let key = FragmentKey { slab: SlabId::from_bits(slab), ..KEY };
        let mut table = ChecksumTable::new(key);
        entries.iter().for_each(|entry| table.push_checksum(*entry).unwrap());
        prop_assert_eq!(table.entries(), &entries[..]);
        let decoded = ChecksumTable::decode(key, table.slice_len_bytes(), &table.encode());
        prop_assert_eq!(decoded, Ok(table));
    }

    #[test]
    fn plain_checksums_and_blocks_give_one_table(blocks in 1usize..6) {
        let mut from_plain = ChecksumTable::new(KEY);
        for block in slice(blocks).chunks(BLOCK_LEN) {
            let entry = fragment_block_from_plain(KEY, from_plain.slice_len_bytes(), crc32c(block));
            from_plain.push_checksum(entry).unwrap();
        }
        prop_assert_eq!(from_plain, table(blocks));
    }
}
