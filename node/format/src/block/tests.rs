use super::*;

const KIND: Kind = Kind { structure: Structure::SealMark, magic: *b"SR-SEALM", version: 1 };

fn block() -> Block {
    let mut block = [0; BLOCK_LEN];
    KIND.begin(&mut block).u32(7);
    KIND.finish(&mut block, 3);
    block
}

#[test]
fn a_block_opens_under_its_seed_only() {
    assert_eq!(KIND.open(&block(), 3).and_then(|mut reader| reader.u32()), Ok(7));
    assert!(matches!(KIND.open(&block(), 4), Err(FormatError::Checksum { .. })));
}

#[test]
fn a_rotten_magic_is_damage_and_not_absence() {
    let with = |wrong: usize| {
        let mut block = block();
        block[..wrong].fill(0);
        KIND.open(&block, 3).err().unwrap()
    };
    for wrong in 1..=2 {
        assert!(matches!(with(wrong), FormatError::Field { field: "magic", .. }));
        assert!(!with(wrong).is_absence());
    }
    assert!(matches!(with(3), FormatError::NotThis { .. }));
    assert!(with(3).is_absence());
}

#[test]
fn another_structure_is_something_else() {
    let magics = [b"SR-SUPER", b"SR-EXTNT", b"SR-ROWHD", b"SR-SEALM", b"SR-COLDM"];
    for (index, one) in magics.iter().enumerate() {
        for other in &magics[index + 1..] {
            let equal = one.iter().zip(other.iter()).filter(|(one, other)| one == other).count();
            assert!(equal < MAGIC_BYTES_EQUAL_MIN);
        }
    }
}

#[test]
fn reserved_bytes_are_zero() {
    let mut block = block();
    block[10] = 1;
    KIND.finish(&mut block, 3);
    assert!(matches!(KIND.open(&block, 3), Err(FormatError::Field { field: "reserved byte", .. })));
    let mut block = self::block();
    block[4095] = 1;
    KIND.finish(&mut block, 3);
    let mut reader = KIND.open(&block, 3).unwrap();
    reader.u32().unwrap();
    assert!(reader.zero_rest().is_err());
}
