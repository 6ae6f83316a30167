//! Encoding with sums is encoding, and the sums are those of the blocks.

use crate::stripe::{codec, slices, slices_mut, stripe};
use proptest::prelude::{any, prop_assert_eq, proptest};
use proptest::sample::select;
use std::num::NonZeroUsize;
use strongroom_erasure::{CodecError, MatrixId};

const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(60))]

    #[test]
    fn parity_and_sums_are_those_of_two_passes(
        (k, m) in (1usize..=17, 1usize..=8), seed in any::<u64>(),
        len in select(vec![0usize, 1, 511, 4095, 4096, 4097, 8192, 9000, 20_000]),
        block in select(vec![1usize << 9, 4096, 5000, 1 << 16]),
    ) {
        let codec = codec(k, m, MatrixId::NormalisedCauchy);
        let shards = stripe(&codec, seed, len);
        let (data, expected) = shards.split_at(k);
        let mut parity = vec![vec![0xEE; len]; m];
        let mut sums = vec![vec![0xABCD; len.div_ceil(block)]; k + m];
        let mut places: Vec<&mut [u32]> = sums.iter_mut().map(Vec::as_mut_slice).collect();
        let block = NonZeroUsize::new(block).unwrap();
        codec.encode_summed(&slices(data), &mut slices_mut(&mut parity), block, &mut places).unwrap();
        prop_assert_eq!(&parity, expected);
        for (shard, sums) in shards.iter().zip(&sums) {
            let blocks: Vec<u32> = shard.chunks(block.get()).map(crc32c::crc32c).collect();
            prop_assert_eq!(&blocks, sums);
        }
    }
}

#[test]
fn there_is_a_place_for_each_sum() {
    let codec = codec(2, 1, MatrixId::NormalisedCauchy);
    let (data, mut parity) = ([[1u8; 4097]; 2], [9u8; 4097]);
    let data = [&data[0][..], &data[1][..]];
    let mut encode = |counts: &[usize]| {
        let mut sums: Vec<Vec<u32>> = counts.iter().map(|&count| vec![7; count]).collect();
        let mut places: Vec<&mut [u32]> = sums.iter_mut().map(Vec::as_mut_slice).collect();
        codec.encode_summed(&data, &mut [&mut parity], BLOCK, &mut places)
    };
    assert_eq!(encode(&[2, 2]), Err(CodecError::ShardCountWrong { expected: 3, found: 2 }));
    let wrong = |index, found| Err(CodecError::BlockCountWrong { index, expected: 2, found });
    assert_eq!(encode(&[2, 1, 2]), wrong(1, 1));
    assert_eq!(encode(&[2, 2, 3]), wrong(2, 3));
    assert_eq!(encode(&[2, 2, 2]), Ok(()));
    assert_eq!(parity, [0; 4097]);
}
