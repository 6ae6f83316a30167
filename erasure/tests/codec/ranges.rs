//! A range of a lost shard from the same range of others equals that slice of the whole.

use crate::stripe::{codec, label, pick, stripe};
use proptest::prelude::{any, prop_assert_eq, proptest};
use proptest::sample::Index;
use strongroom_erasure::{CodecError, MatrixId};

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]

    #[test]
    fn a_decoded_range_is_a_slice_of_the_whole(seed in any::<u64>(), ends in any::<[Index; 4]>(), len in 0usize..500) {
        let codec = codec(7, 5, MatrixId::NormalisedCauchy);
        let shards = stripe(&codec, seed, len);
        let (present, lost) = ([11, 2, 9, 4, 7, 0, 6], [1, 3, 10]);

        // What was read (blocks, say), inside the shards; and what is asked for, inside what was read.
        let mut read = [ends[0].index(len + 1), ends[1].index(len + 1)];
        read.sort_unstable();
        let windows: Vec<(usize, &[u8])> =
            present.iter().map(|&index| (index, &shards[index][read[0]..read[1]])).collect();
        let mut asked = [ends[2].index(read[1] - read[0] + 1), ends[3].index(read[1] - read[0] + 1)];
        asked.sort_unstable();
        let range = asked[0]..asked[1];

        let expected: Vec<_> = lost.iter()
            .map(|&index| shards[index][read[0] + range.start..read[0] + range.end].to_vec())
            .collect();
        let mut decoded = vec![vec![0xDD; range.len()]; lost.len()];
        codec.decode_range(&windows, range.clone(), &mut label(&mut decoded, &lost)).unwrap();
        prop_assert_eq!(&decoded, &expected);

        let plan = codec.plan(&present, &lost).unwrap();
        let mut decoded = vec![vec![0xDD; range.len()]; lost.len()];
        plan.decode_range(&windows, range, &mut label(&mut decoded, &lost)).unwrap();
        prop_assert_eq!(&decoded, &expected);
    }
}

#[test]
fn ranges_are_checked_in_pairs() {
    let codec = codec(3, 3, MatrixId::NormalisedCauchy);
    let shards = stripe(&codec, 1, 10);
    let present = pick(&shards, &[1, 2, 3]);
    let decode = |range: std::ops::Range<usize>| {
        let mut bytes = vec![0; range.len()];
        codec.decode_range(&present, range, &mut [(0, &mut bytes)]).map(|()| bytes)
    };
    assert_eq!(decode(0..10).unwrap(), shards[0]);
    assert_eq!(decode(9..10).unwrap(), shards[0][9..]);
    assert_eq!(decode(10..10).unwrap(), []);
    assert_eq!(decode(9..11), Err(CodecError::RangeOutside { start: 9, end: 11, len_bytes: 10 }));
    assert_eq!(decode(11..11), Err(CodecError::RangeOutside { start: 11, end: 11, len_bytes: 10 }));
    #[expect(clippy::reversed_empty_ranges, reason = "what a careless caller may pass")]
    let reversed = 6..4;
    assert_eq!(decode(reversed), Err(CodecError::RangeOutside { start: 6, end: 4, len_bytes: 10 }));

    // The output must have the length of the range, not that of the slices.
    let mut whole = vec![0; 10];
    assert_eq!(
        codec.decode_range(&present, 2..5, &mut [(0, &mut whole)]),
        Err(CodecError::LengthDiffers { index: 0, expected_bytes: 3, found_bytes: 10 })
    );
    assert_eq!(whole, [0; 10]);
}
