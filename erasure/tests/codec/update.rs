//! Parity that is brought up to date with a change is the parity of what is there then.

use crate::stripe::{codec, label, stripe};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert_eq, proptest};
use proptest::sample::Index;
use strongroom_erasure::{CodecError, MatrixId, add_into};

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(100))]

    #[test]
    fn updated_parity_is_that_of_the_new_data(
        (k, m) in (1usize..=12, 1usize..=6), seed in any::<u64>(), len in 1usize..400,
        index in any::<Index>(), fresh in vec(any::<u8>(), 400), some in any::<Index>(),
    ) {
        for matrix in MatrixId::ALL {
            let codec = codec(k, m, matrix);
            let mut shards = stripe(&codec, seed, len);
            let (index, fresh) = (index.index(k), &fresh[..len]);
            let mut delta = shards[index].clone();
            add_into(&mut delta, fresh).unwrap();

            // All parity but one shard, in no special order: whoever holds that one does it elsewhere.
            let mut rows: Vec<usize> = (k..k + m).rev().collect();
            let elsewhere = rows.remove(some.index(m));
            let mut parity: Vec<Vec<u8>> = rows.iter().map(|&row| shards[row].clone()).collect();
            codec.update(index, &delta, &mut label(&mut parity, &rows)).unwrap();
            // The last one in two parts.
            let mut last = shards[elsewhere].clone();
            let (front, back) = last.split_at_mut(len / 2);
            codec.update(index, &delta[..len / 2], &mut [(elsewhere, front)]).unwrap();
            codec.update(index, &delta[len / 2..], &mut [(elsewhere, back)]).unwrap();

            shards[index].copy_from_slice(fresh);
            let (data, expected) = shards.split_at_mut(k);
            let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let mut outputs: Vec<&mut [u8]> = expected.iter_mut().map(Vec::as_mut_slice).collect();
            codec.encode(&data, &mut outputs).unwrap();
            for (row, updated) in rows.iter().zip(&parity) {
                prop_assert_eq!(updated, &shards[*row]);
            }
            prop_assert_eq!(&last, &shards[elsewhere]);
        }
    }
}

#[test]
fn only_data_changes_and_only_parity_follows() {
    let codec = codec(3, 2, MatrixId::NormalisedCauchy);
    let mut parity = [7u8; 4];
    let mut update = |index, delta: &[u8], row| codec.update(index, delta, &mut [(row, &mut parity[..])]);
    assert_eq!(update(3, &[1; 4], 4), Err(CodecError::NotData { index: 3 }));
    assert_eq!(update(2, &[1; 4], 2), Err(CodecError::NotParity { index: 2 }));
    assert_eq!(update(2, &[1; 4], 5), Err(CodecError::IndexUnknown { index: 5, shard_count: 5 }));
    let differs = CodecError::LengthDiffers { index: 4, expected_bytes: 3, found_bytes: 4 };
    assert_eq!(update(2, &[1; 3], 4), Err(differs));
    assert_eq!(parity, [7; 4]);
    let mut again = [7u8; 4];
    let twice = &mut [(3, &mut parity[..]), (3, &mut again[..])];
    assert_eq!(codec.update(0, &[1; 4], twice), Err(CodecError::IndexRepeated { index: 3 }));
}
