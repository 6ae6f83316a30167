//! Arguments that do not fit are refused with a typed error and leave every output as it was.

use crate::stripe::{codec, pick, slices, slices_mut, stripe};
use strongroom_erasure::limits::SHARD_COUNT_MAX;
use strongroom_erasure::{Codec, CodecError, MatrixId, Write};

#[test]
fn shapes_in_pairs() {
    for matrix in MatrixId::ALL {
        for (k, m) in [(1, 1), (1, SHARD_COUNT_MAX - 1), (SHARD_COUNT_MAX - 1, 1), (16, 16)] {
            assert!(Codec::new(k, m, matrix).is_ok(), "RS({k},{m})");
        }
        for (k, m) in
            [(0, 1), (1, 0), (0, 0), (1, SHARD_COUNT_MAX), (SHARD_COUNT_MAX, 1), (16, 17), (usize::MAX, 2)]
        {
            let error = Codec::new(k, m, matrix).unwrap_err();
            assert_eq!(error, CodecError::ShapeUnsupported { data_count: k, parity_count: m });
        }
    }
}

#[test]
fn encode_and_verify_count_and_measure() {
    let codec = codec(4, 2, MatrixId::NormalisedCauchy);
    let shards = stripe(&codec, 1, 8);
    let data = slices(&shards[..4]);
    let encode = |data: &[&[u8]], parity_lens: &[usize]| {
        let mut parity: Vec<Vec<u8>> = parity_lens.iter().map(|&len| vec![0xDD; len]).collect();
        let result = codec.encode(data, &mut slices_mut(&mut parity));
        assert!(result.is_ok() || parity.iter().flatten().all(|&byte| byte == 0xDD));
        result
    };
    assert_eq!(encode(&data, &[8, 8]), Ok(()));
    assert_eq!(encode(&data[..3], &[8, 8]), Err(CodecError::DataCountWrong { expected: 4, found: 3 }));
    assert_eq!(
        encode(&slices(&shards[..5]), &[8, 8]),
        Err(CodecError::DataCountWrong { expected: 4, found: 5 })
    );
    assert_eq!(encode(&data, &[8]), Err(CodecError::ParityCountWrong { expected: 2, found: 1 }));
    assert_eq!(encode(&data, &[8, 8, 8]), Err(CodecError::ParityCountWrong { expected: 2, found: 3 }));
    assert_eq!(
        encode(&data, &[8, 7]),
        Err(CodecError::LengthDiffers { index: 5, expected_bytes: 8, found_bytes: 7 })
    );
    assert_eq!(
        encode(&[data[0], data[1], &data[2][..7], data[3]], &[8, 8]),
        Err(CodecError::LengthDiffers { index: 2, expected_bytes: 8, found_bytes: 7 })
    );

    let all = slices(&shards);
    assert_eq!(codec.verify(&all), Ok(true));
    assert_eq!(codec.verify(&all[..5]), Err(CodecError::ShardCountWrong { expected: 6, found: 5 }));
    assert_eq!(
        codec.verify(&[all[0], all[1], all[2], all[3], all[4], &all[5][..1]]),
        Err(CodecError::LengthDiffers { index: 5, expected_bytes: 8, found_bytes: 1 })
    );
}

#[test]
fn encode_some_takes_parity_alone() {
    let codec = codec(4, 2, MatrixId::NormalisedCauchy);
    let shards = stripe(&codec, 1, 8);
    let data = slices(&shards[..4]);
    let encode_one = |index: usize, len: usize| {
        let mut parity = vec![0xDD; len];
        let result = codec.encode_some(&data, &mut [(index, &mut parity)]);
        assert!(result.is_ok() || parity.iter().all(|&byte| byte == 0xDD));
        result
    };
    assert_eq!(encode_one(4, 8), Ok(()));
    assert_eq!(encode_one(5, 8), Ok(()));
    assert_eq!(encode_one(3, 8), Err(CodecError::NotParity { index: 3 }));
    assert_eq!(encode_one(6, 8), Err(CodecError::IndexUnknown { index: 6, shard_count: 6 }));
    assert_eq!(
        encode_one(4, 9),
        Err(CodecError::LengthDiffers { index: 4, expected_bytes: 8, found_bytes: 9 })
    );
    let (mut a, mut b) = (vec![0; 8], vec![0; 8]);
    assert_eq!(
        codec.encode_some(&data, &mut [(5, &mut a), (5, &mut b)]),
        Err(CodecError::IndexRepeated { index: 5 })
    );
    assert_eq!(codec.encode_some(&data, &mut []), Ok(()));
    assert_eq!(
        codec.encode_some(&data[1..], &mut []),
        Err(CodecError::DataCountWrong { expected: 4, found: 3 })
    );
}

#[test]
fn reconstruction_needs_k_known_and_distinct_shards() {
    let codec = codec(3, 3, MatrixId::NormalisedCauchy);
    let shards = stripe(&codec, 1, 8);
    let reconstruct = |present: &[(usize, &[u8])], wanted: usize| {
        let mut bytes = vec![0xDD; 8];
        let result = codec.reconstruct_some(present, &mut [(wanted, &mut bytes)]);
        assert!(result.is_ok() || bytes.iter().all(|&byte| byte == 0xDD));
        result
    };
    assert_eq!(reconstruct(&pick(&shards, &[1, 4, 5]), 0), Ok(()));
    assert_eq!(
        reconstruct(&pick(&shards, &[1, 4]), 0),
        Err(CodecError::TooFewShards { needed: 3, found: 2 })
    );
    assert_eq!(reconstruct(&[], 0), Err(CodecError::TooFewShards { needed: 3, found: 0 }));
    assert_eq!(reconstruct(&pick(&shards, &[1, 4, 4]), 0), Err(CodecError::IndexRepeated { index: 4 }));
    assert_eq!(
        reconstruct(&pick(&shards, &[1, 4, 5]), 6),
        Err(CodecError::IndexUnknown { index: 6, shard_count: 6 })
    );
    assert_eq!(
        reconstruct(&[(1, &shards[1]), (4, &shards[4]), (usize::MAX, &shards[5])], 0),
        Err(CodecError::IndexUnknown { index: usize::MAX, shard_count: 6 })
    );
    assert_eq!(
        reconstruct(&[(1, &shards[1]), (4, &shards[4][..7]), (5, &shards[5])], 0),
        Err(CodecError::LengthDiffers { index: 4, expected_bytes: 8, found_bytes: 7 })
    );
    // Also one that would not be read.
    assert_eq!(
        reconstruct(&[(1, &shards[1]), (4, &shards[4]), (5, &shards[5]), (2, &[])], 0),
        Err(CodecError::LengthDiffers { index: 2, expected_bytes: 8, found_bytes: 0 })
    );
    assert_eq!(codec.reconstruct_some(&pick(&shards, &[1, 4, 5]), &mut []), Ok(()));
}

#[test]
fn a_plan_takes_only_what_it_was_made_for() {
    let codec = codec(3, 3, MatrixId::NormalisedCauchy);
    let shards = stripe(&codec, 1, 8);
    assert_eq!(codec.plan(&[1, 2], &[0]).unwrap_err(), CodecError::TooFewShards { needed: 3, found: 2 });
    assert_eq!(codec.plan(&[1, 2, 3], &[0, 0]).unwrap_err(), CodecError::IndexRepeated { index: 0 });
    let plan = codec.plan(&[1, 4, 5, 2], &[0, 3]).unwrap();
    let reconstruct = |sources: &[usize], wanted: usize| {
        let mut bytes = vec![0xDD; 8];
        let result = plan.reconstruct(&pick(&shards, sources), &mut [(wanted, &mut bytes)]);
        assert!(result.is_ok() || bytes.iter().all(|&byte| byte == 0xDD));
        result
    };
    assert_eq!(reconstruct(&[5, 1, 4], 3), Ok(()));
    assert_eq!(reconstruct(&[1, 4], 0), Err(CodecError::SourceMissing { index: 5 }));
    assert_eq!(reconstruct(&[1, 4, 2], 0), Err(CodecError::SourceMissing { index: 5 }));
    assert_eq!(reconstruct(&[1, 4, 5, 2], 0), Err(CodecError::NotPlanned { index: 2 }));
    assert_eq!(reconstruct(&[1, 4, 5], 2), Err(CodecError::NotPlanned { index: 2 }));
    assert_eq!(reconstruct(&[1, 4, 5, 4], 0), Err(CodecError::IndexRepeated { index: 4 }));

    let partial_sum = |source: usize, wanted: usize, len: usize| {
        let mut sum = vec![0xDD; len];
        let result = plan.partial_sum(&[(source, &shards[4])], &mut [(wanted, &mut sum)], Write::Add);
        assert!(result.is_ok() || sum.iter().all(|&byte| byte == 0xDD));
        result
    };
    assert_eq!(partial_sum(4, 0, 8), Ok(()));
    assert_eq!(partial_sum(2, 0, 8), Err(CodecError::NotPlanned { index: 2 }));
    assert_eq!(partial_sum(6, 0, 8), Err(CodecError::IndexUnknown { index: 6, shard_count: 6 }));
    assert_eq!(partial_sum(4, 5, 8), Err(CodecError::NotPlanned { index: 5 }));
    assert_eq!(
        partial_sum(4, 0, 9),
        Err(CodecError::LengthDiffers { index: 0, expected_bytes: 8, found_bytes: 9 })
    );
    assert_eq!(plan.coefficient(0, 2), None);
    assert_eq!(plan.coefficient(1, 4), None);
}
