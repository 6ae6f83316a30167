//! The sums of all zones, however the sources are spread over them, add up to the lost shards.

use crate::stripe::{codec, label, pick, stripe};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, proptest};
use proptest::sample::subsequence;
use strongroom_erasure::{CodecError, MatrixId, Write, add_into};

/// Shape, sources, lost shards, and for each source the zone that holds it.
fn spread() -> impl Strategy<Value = (usize, usize, Vec<usize>, Vec<usize>, Vec<usize>)> {
    (1usize..=14).prop_flat_map(|k| (Just(k), 1..=15 - k)).prop_flat_map(|(k, m)| {
        let order = Just((0..k + m).collect::<Vec<_>>()).prop_shuffle();
        (order, subsequence((0..m).collect::<Vec<_>>(), 1..=m), vec(0usize..4, k)).prop_map(
            move |(order, lost_places, zones)| {
                let (sources, rest) = order.split_at(k);
                (k, m, sources.to_vec(), lost_places.iter().map(|&place| rest[place]).collect(), zones)
            },
        )
    })
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]

    #[test]
    fn sums_from_any_split_of_the_sources_are_the_shards(
        (k, m, sources, lost, zones) in spread(), seed in any::<u64>(), len in 0usize..80,
    ) {
        let codec = codec(k, m, MatrixId::NormalisedCauchy);
        let shards = stripe(&codec, seed, len);
        let expected: Vec<_> = lost.iter().map(|&index| shards[index].clone()).collect();
        let plan = codec.plan(&sources, &lost).unwrap();
        let held_by = |zone: usize| -> Vec<usize> {
            sources.iter().zip(&zones).filter(|held| *held.1 == zone).map(|held| *held.0).collect()
        };

        // Each zone makes the plan for itself and sends one buffer per lost shard; they are added up here.
        // A zone without sources sends zeros.
        let mut sums = vec![vec![0; len]; lost.len()];
        for zone in 0..4 {
            let remote = codec.plan(&sources, &lost).unwrap();
            let mut sent = vec![vec![0xDD; len]; lost.len()];
            remote.partial_sum(&pick(&shards, &held_by(zone)), &mut label(&mut sent, &lost), Write::Replace).unwrap();
            for (sum, partial) in sums.iter_mut().zip(&sent) {
                add_into(sum, partial).unwrap();
            }
        }
        prop_assert_eq!(&sums, &expected);

        // The same added up in place, source after source.
        let mut sums = vec![vec![0; len]; lost.len()];
        for &source in &sources {
            plan.partial_sum(&pick(&shards, &[source]), &mut label(&mut sums, &lost), Write::Add).unwrap();
        }
        prop_assert_eq!(&sums, &expected);
    }
}

#[test]
fn a_sum_without_one_source_is_not_the_shard() {
    let codec = codec(5, 4, MatrixId::NormalisedCauchy);
    let shards = stripe(&codec, 3, 40);
    let plan = codec.plan(&[1, 3, 5, 7, 8], &[0]).unwrap();
    let mut sum = vec![0; 40];
    plan.partial_sum(&pick(&shards, &[1, 3, 5, 7]), &mut [(0, &mut sum)], Write::Add).unwrap();
    assert_ne!(sum, shards[0]);
    plan.partial_sum(&pick(&shards, &[8]), &mut [(0, &mut sum)], Write::Add).unwrap();
    assert_eq!(sum, shards[0]);
}

#[test]
fn sums_of_different_lengths_are_refused() {
    let mut sum = [1; 9];
    assert_eq!(
        add_into(&mut sum, &[1; 10]),
        Err(CodecError::SumLengthDiffers { expected_bytes: 9, found_bytes: 10 })
    );
    assert_eq!(sum, [1; 9]);
    add_into(&mut sum, &[1; 9]).unwrap();
    assert_eq!(sum, [0; 9]);
}
