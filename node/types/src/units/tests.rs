use super::*;

#[test]
fn rounding_in_pairs() {
    assert_eq!(round_up_to_block(0), 0);
    assert_eq!(round_up_to_block(1), 4096);
    assert_eq!(round_up_to_block(4096), 4096);
    assert_eq!(round_up_to_block(4097), 8192);
    assert_eq!(round_up_to_block(u32::MAX - 4095), u32::MAX - 4095);
    assert_eq!(blocks_for(0), 0);
    assert_eq!(blocks_for(4096), 1);
    assert_eq!(blocks_for(4097), 2);
    assert_eq!(blocks_for(u32::MAX), 1 << 20);
}

#[test]
#[should_panic(expected = "within a block")]
fn a_length_that_cannot_be_rounded_is_a_bug() {
    round_up_to_block(u32::MAX - 4094);
}
