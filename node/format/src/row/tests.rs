use super::*;
use proptest::prelude::*;

fn fields() -> RowFields {
    RowFields {
        slab: SlabId::from_bits(11),
        fragment: FragmentIndex::new(1),
        epoch: Epoch::new(2),
        sequence: RowSequence::new(3),
        offset_bytes: 5 * BLOCK_LEN_BYTES,
        committed_upto: RowSequence::new(2),
        previous_chain: 0xABCD,
    }
}

fn row(fields: &RowFields, blocks: usize) -> Result<(u32, Vec<u8>), FormatError> {
    let payload: Vec<u8> = (0..blocks * BLOCK_LEN).map(|index| (index / 7) as u8).collect();
    let mut out = vec![0xEE; payload.len() + BLOCK_LEN];
    let chain = encode(fields, &payload, &mut out)?;
    Ok((chain, out))
}

#[test]
fn a_row_reads_back() {
    let (chain, bytes) = row(&fields(), 3).unwrap();
    let header =
        decode_expected(&bytes[..BLOCK_LEN], fields().slab, fields().fragment, fields().sequence).unwrap();
    assert_eq!(header.fields(), fields());
    assert_eq!(header.chain, chain);
    assert_eq!(header.len_bytes, 3 * BLOCK_LEN_BYTES);
    assert_eq!(header.end_bytes(), 8 * BLOCK_LEN_BYTES);
    assert_eq!(header.verify_payload(&bytes[BLOCK_LEN..]), Ok(()));
    assert_eq!(header.verify_blocks(1, &bytes[2 * BLOCK_LEN..3 * BLOCK_LEN]), Ok(()));
    assert_eq!(header.encode().unwrap()[..], bytes[..BLOCK_LEN]);
}

#[test]
fn all_holders_have_equal_chains() {
    let (chain, first) = row(&fields(), 2).unwrap();
    let differing = RowFields {
        fragment: FragmentIndex::new(2),
        epoch: Epoch::new(9),
        committed_upto: RowSequence::new(3),
        ..fields()
    };
    let (other_chain, other) = row(&differing, 2).unwrap();
    assert_eq!(chain, other_chain);
    assert_ne!(first[..BLOCK_LEN], other[..BLOCK_LEN]);
    assert_eq!(first[BLOCK_LEN..], other[BLOCK_LEN..]);
}

#[test]
fn the_chain_sums_everything_else() {
    let (chain, bytes) = row(&fields(), 2).unwrap();
    for changed in [
        RowFields { slab: SlabId::from_bits(12), ..fields() },
        RowFields { sequence: RowSequence::new(4), ..fields() },
        RowFields { offset_bytes: 6 * BLOCK_LEN_BYTES, ..fields() },
        RowFields { previous_chain: 0xABCE, ..fields() },
    ] {
        assert_ne!(row(&changed, 2).unwrap().0, chain, "{changed:?}");
    }
    assert_ne!(row(&fields(), 1).unwrap().0, chain);
    let mut payload = bytes[BLOCK_LEN..].to_vec();
    payload[8191] ^= 1;
    let mut out = vec![0; payload.len() + BLOCK_LEN];
    assert_ne!(encode(&fields(), &payload, &mut out).unwrap(), chain);
}

#[test]
fn stale_and_misdirected_headers_fail() {
    let (_, bytes) = row(&fields(), 1).unwrap();
    let block = &bytes[..BLOCK_LEN];
    let expect = |slab, fragment, sequence| {
        decode_expected(
            block,
            SlabId::from_bits(slab),
            FragmentIndex::new(fragment),
            RowSequence::new(sequence),
        )
    };
    let misplaced = |field| Err(FormatError::Misplaced { structure: Structure::RowHeader, field });
    assert!(expect(11, 1, 3).is_ok());
    assert_eq!(expect(12, 1, 3), misplaced("slab"));
    assert_eq!(expect(11, 2, 3), misplaced("fragment"));
    assert_eq!(expect(11, 1, 4), misplaced("sequence"));
    assert!(matches!(decode_header(&[0; BLOCK_LEN]), Err(FormatError::Zero { .. })));
    assert!(matches!(decode_header(&bytes[BLOCK_LEN..]), Err(FormatError::NotThis { .. })));
    assert!(matches!(decode_header(&bytes), Err(FormatError::Length { .. })));
}

#[test]
fn a_header_torn_at_any_sector_fails() {
    let (_, new) = row(&fields(), 900).unwrap();
    let (_, old) = row(&RowFields { slab: SlabId::from_bits(4), ..fields() }, 900).unwrap();
    for background in [&old[..BLOCK_LEN], &[0; BLOCK_LEN][..]] {
        for written in 1..8 {
            let mut torn = background.to_vec();
            torn[..written * 512].copy_from_slice(&new[..written * 512]);
            assert!(decode_header(&torn).is_err(), "first {written} sectors");
            let mut torn = new[..BLOCK_LEN].to_vec();
            torn[..written * 512].copy_from_slice(&background[..written * 512]);
            assert!(decode_header(&torn).is_err(), "all but the first {written} sectors");
        }
    }
}

#[test]
fn the_first_bad_block_is_named() {
    let (_, bytes) = row(&fields(), 4).unwrap();
    let header = decode_header(&bytes[..BLOCK_LEN]).unwrap();
    let payload = &bytes[BLOCK_LEN..];
    let bad = |payload: &[u8]| header.verify_payload(payload).unwrap_err().block;
    for block in 0..4 {
        let mut rotten = payload.to_vec();
        rotten[block * BLOCK_LEN + 100] ^= 4;
        assert_eq!(bad(&rotten), block as u32);
        assert_eq!(
            header.verify_blocks(block as u32, &rotten[block * BLOCK_LEN..]).unwrap_err().block,
            block as u32
        );
    }
    assert_eq!(bad(&payload[..3 * BLOCK_LEN]), 3, "a missing block");
    assert_eq!(bad(&payload[..4 * BLOCK_LEN - 1]), 3, "a short block");
    assert_eq!(bad(&[payload, &[0; BLOCK_LEN]].concat()), 4, "a surplus block");
    assert_eq!(bad(&[]), 0);
    // Two blocks swapped: each is whole, neither is in its place.
    let mut swapped = payload.to_vec();
    swapped[..BLOCK_LEN].copy_from_slice(&payload[BLOCK_LEN..2 * BLOCK_LEN]);
    assert_eq!(bad(&swapped), 0);
    assert!(header.verify_blocks(u32::MAX, &payload[..2 * BLOCK_LEN]).is_err());
}

#[test]
fn limits_in_pairs() {
    assert!(row(&fields(), ROW_BLOCKS_MAX as usize).is_ok());
    assert!(row(&fields(), ROW_BLOCKS_MAX as usize + 1).is_err());
    assert!(row(&fields(), 1).is_ok());
    assert!(row(&fields(), 0).is_err());
    assert!(encode(&fields(), &[0; 100], &mut [0; 100 + BLOCK_LEN]).is_err(), "half a block");
    assert!(encode(&fields(), &[0; BLOCK_LEN], &mut [0; BLOCK_LEN]).is_err());
    assert!(encode_in_place(&fields(), &mut [0; 100]).is_err());

    let with = |change: fn(&mut RowFields)| {
        let mut fields = fields();
        change(&mut fields);
        row(&fields, 1).is_ok()
    };
    assert!(with(|fields| fields.offset_bytes = SLAB_LEN_BYTES_MAX - BLOCK_LEN_BYTES));
    assert!(!with(|fields| fields.offset_bytes = SLAB_LEN_BYTES_MAX));
    assert!(!with(|fields| fields.offset_bytes = u32::MAX - 4095));
    assert!(!with(|fields| fields.offset_bytes += 1));
    assert!(with(|fields| fields.offset_bytes = 3 * BLOCK_LEN_BYTES));
    assert!(!with(|fields| fields.offset_bytes = 2 * BLOCK_LEN_BYTES), "three rows in two blocks");
    assert!(with(|fields| fields.committed_upto = RowSequence::new(3)));
    assert!(!with(|fields| fields.committed_upto = RowSequence::new(4)));
    assert!(with(|fields| fields.fragment = FragmentIndex::new(31)));
    assert!(!with(|fields| fields.fragment = FragmentIndex::new(32)));
    let last = |fields: &mut RowFields| {
        fields.sequence = RowSequence::new(ROWS_PER_SLAB_MAX - 1);
        fields.offset_bytes = SLAB_LEN_BYTES_MAX - BLOCK_LEN_BYTES;
    };
    assert!(with(last));
    assert!(!with(|fields| fields.sequence = RowSequence::new(ROWS_PER_SLAB_MAX)));
}

#[test]
fn the_first_row_begins_the_image_and_the_chain() {
    let first = RowFields {
        sequence: RowSequence::FIRST,
        offset_bytes: 0,
        committed_upto: RowSequence::FIRST,
        previous_chain: 0,
        ..fields()
    };
    assert!(row(&first, 1).is_ok());
    assert!(row(&RowFields { previous_chain: 1, ..first }, 1).is_err());
    assert!(row(&RowFields { offset_bytes: BLOCK_LEN_BYTES, ..first }, 1).is_err());
}

proptest! {
    #[test]
    fn a_header_survives_the_round_trip(
        slab: u64, fragment in 0u8..32, epoch: u32, sequence in 1u32..1000, gap in 0u32..1000, committed in 0u32..1000,
        previous_chain: u32, blocks in 1usize..20,
    ) {
        let fields = RowFields {
            slab: SlabId::from_bits(slab),
            fragment: FragmentIndex::new(fragment),
            epoch: Epoch::new(epoch),
            sequence: RowSequence::new(sequence),
            offset_bytes: (sequence + gap) * BLOCK_LEN_BYTES,
            committed_upto: RowSequence::new(committed.min(sequence)),
            previous_chain,
        };
        let (chain, bytes) = row(&fields, blocks).unwrap();
        let header = decode_expected(&bytes[..BLOCK_LEN], fields.slab, fields.fragment, fields.sequence).unwrap();
        prop_assert_eq!(header.fields(), fields);
        prop_assert_eq!(header.chain, chain);
        prop_assert_eq!(header.verify_payload(&bytes[BLOCK_LEN..]), Ok(()));
    }
}
