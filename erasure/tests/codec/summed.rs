//! Encoding with sums is encoding, and the sums are those of the blocks.

use crate::stripe::{codec, label, slices, stripe};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, proptest};
use proptest::sample::{select, subsequence};
use std::num::NonZeroUsize;
use strongroom_erasure::{CodecError, MatrixId};

const BLOCK: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A shape, parity that is wanted, and shards that are summed, each in any order.
fn wanted() -> impl Strategy<Value = (usize, usize, Vec<usize>, Vec<usize>)> {
    (1usize..=17, 1usize..=8).prop_flat_map(|(k, m)| {
        subsequence((k..k + m).collect::<Vec<_>>(), 0..=m).prop_shuffle().prop_flat_map(move |wanted| {
            let can: Vec<usize> = (0..k).chain(wanted.iter().copied()).collect();
            let count = can.len();
            (Just(k), Just(m), Just(wanted), subsequence(can, 0..=count).prop_shuffle())
        })
    })
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(80))]

    #[test]
    fn parity_and_sums_are_those_of_two_passes(
        (k, m, wanted, summed) in wanted(), seed in any::<u64>(),
        len in select(vec![0usize, 1, 511, 4095, 4096, 4097, 8192, 9000, 20_000]),
        block in select(vec![1usize << 9, 4096, 5000, 1 << 16]),
    ) {
        let codec = codec(k, m, MatrixId::NormalisedCauchy);
        let shards = stripe(&codec, seed, len);
        let mut parity = vec![vec![0xEE; len]; wanted.len()];
        let mut sums = vec![vec![0xABCD; len.div_ceil(block)]; summed.len()];
        let mut places: Vec<(usize, &mut [u32])> =
            summed.iter().copied().zip(sums.iter_mut().map(Vec::as_mut_slice)).collect();
        let block = NonZeroUsize::new(block).unwrap();
        codec.encode_summed(&slices(&shards[..k]), &mut label(&mut parity, &wanted), block, &mut places).unwrap();
        for (index, made) in wanted.iter().zip(&parity) {
            prop_assert_eq!(made, &shards[*index]);
        }
        for (index, sums) in summed.iter().zip(&sums) {
            let blocks: Vec<u32> = shards[*index].chunks(block.get()).map(crc32c::crc32c).collect();
            prop_assert_eq!(&blocks, sums);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let codec = codec(2, 2, MatrixId::NormalisedCauchy);
    let (data, mut parity) = ([[1u8; 4097]; 2], [9u8; 4097]);
    let data = [&data[0][..], &data[1][..]];
    let mut encode = |wanted: usize, summed: &[(usize, usize)]| {
        let mut sums: Vec<Vec<u32>> = summed.iter().map(|&(_, count)| vec![7; count]).collect();
        let mut places: Vec<(usize, &mut [u32])> =
            summed.iter().map(|sums| sums.0).zip(sums.iter_mut().map(Vec::as_mut_slice)).collect();
        codec.encode_summed(&data, &mut [(wanted, &mut parity)], BLOCK, &mut places)
    };
    let wrong = |index, found| Err(CodecError::BlockCountWrong { index, expected: 2, found });
    assert_eq!(encode(2, &[(0, 2), (1, 1)]), wrong(1, 1));
    assert_eq!(encode(2, &[(2, 3)]), wrong(2, 3));
    assert_eq!(encode(2, &[(0, 2), (3, 2)]), Err(CodecError::NotWanted { index: 3 }));
    assert_eq!(encode(2, &[(0, 2), (0, 2)]), Err(CodecError::IndexRepeated { index: 0 }));
    assert_eq!(encode(2, &[(4, 2)]), Err(CodecError::IndexUnknown { index: 4, shard_count: 4 }));
    assert_eq!(encode(1, &[(0, 2)]), Err(CodecError::NotParity { index: 1 }));
    assert_eq!(encode(2, &[(2, 2), (0, 2)]), Ok(()));
    assert_eq!(parity, [0; 4097]);
}
