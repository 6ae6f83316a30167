use super::*;
use crate::block::BLOCK_LEN;
use proptest::prelude::*;

fn key() -> FragmentKey {
    FragmentKey {
        slab: SlabId::from_bits(7),
        fragment: FragmentIndex::new(3),
        generation: Generation::new(2),
    }
}

#[test]
fn the_polynomial_is_castagnolis() {
    // The check value of CRC-32C in the catalogues of CRC algorithms, and RFC 3720 B.4 (32 bytes of zeros, of ones).
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
}

#[test]
fn a_block_is_bound_to_its_place() {
    let block = [0x5A; BLOCK_LEN];
    let here = image_block(SlabId::from_bits(7), 4096, &block);
    assert_ne!(here, image_block(SlabId::from_bits(8), 4096, &block));
    assert_ne!(here, image_block(SlabId::from_bits(7), 8192, &block));
    assert_ne!(here, crc32c(&block));

    let here = fragment_block(key(), 4096, &block);
    assert_ne!(here, fragment_block(key(), 8192, &block));
    assert_ne!(here, fragment_block(FragmentKey { slab: SlabId::from_bits(8), ..key() }, 4096, &block));
    assert_ne!(here, fragment_block(FragmentKey { fragment: FragmentIndex::new(4), ..key() }, 4096, &block));
    assert_ne!(here, fragment_block(FragmentKey { generation: Generation::new(3), ..key() }, 4096, &block));
}

proptest! {
    #[test]
    fn a_known_plain_checksum_gives_the_seeded_one(
        block in prop::collection::vec(any::<u8>(), BLOCK_LEN),
        slab: u64, fragment: u8, generation: u32, position: u32,
    ) {
        let key = FragmentKey {
            slab: SlabId::from_bits(slab),
            fragment: FragmentIndex::new(fragment),
            generation: Generation::new(generation),
        };
        prop_assert_eq!(
            fragment_block_from_plain(key, position, crc32c(&block)),
            fragment_block(key, position, &block)
        );
    }
}
