//! Any loss within the code's reach comes back, whatever is lost and whatever is asked for.

use crate::stripe::{PROFILES, codec, each_subset, label, pick, slices, slices_mut, stripe};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::{Index, subsequence};
use strongroom_erasure::MatrixId;
use strongroom_erasure::field::{add, mul};

/// Every way to lose m shards, for every profile: all that is lost comes back.
#[test]
fn every_loss_of_every_profile_is_reconstructed() {
    for (k, m) in PROFILES {
        let codec = codec(k, m, MatrixId::NormalisedCauchy);
        let shards = stripe(&codec, (100 * k + m) as u64, 19);
        let mut rebuilt = vec![vec![0; 19]; m];
        each_subset(k + m, k, |present, lost| {
            rebuilt.iter_mut().for_each(|buffer| buffer.fill(0xDD));
            codec.reconstruct_some(&pick(&shards, present), &mut label(&mut rebuilt, lost)).unwrap();
            for (buffer, &index) in rebuilt.iter().zip(lost) {
                assert_eq!(*buffer, shards[index], "RS({k},{m}): shard {index} from {present:?}");
            }
        });
    }
}

/// Shape, matrix, present shards (k or more, any order), wanted shards (any, present or not, any order).
fn pattern() -> impl Strategy<Value = (usize, usize, MatrixId, Vec<usize>, Vec<usize>)> {
    (1usize..=31).prop_flat_map(|k| (Just(k), 1..=32 - k)).prop_flat_map(|(k, m)| {
        let indices = || (0..k + m).collect::<Vec<_>>();
        let present = subsequence(indices(), k..=k + m).prop_shuffle();
        let wanted = subsequence(indices(), 0..=k + m).prop_shuffle();
        (Just(k), Just(m), proptest::sample::select(&MatrixId::ALL[..]), present, wanted)
    })
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]

    #[test]
    fn any_k_shards_make_any_others(
        (k, m, matrix, present, wanted) in pattern(), seed in any::<u64>(), len in 0usize..100,
    ) {
        let codec = codec(k, m, matrix);
        let shards = stripe(&codec, seed, len);
        let expected: Vec<_> = wanted.iter().map(|&index| shards[index].clone()).collect();

        let mut rebuilt = vec![vec![0xDD; len]; wanted.len()];
        codec.reconstruct_some(&pick(&shards, &present), &mut label(&mut rebuilt, &wanted)).unwrap();
        prop_assert_eq!(&rebuilt, &expected);

        // A plan does the same, again and again, with its sources in any order.
        let plan = codec.plan(&present, &wanted).unwrap();
        prop_assert!(plan.sources().eq(present[..k].iter().copied()));
        prop_assert!(plan.wanted().eq(wanted.iter().copied()));
        for _ in 0..2 {
            let mut rebuilt = vec![vec![0xDD; len]; wanted.len()];
            let mut sources = pick(&shards, &present[..k]);
            sources.reverse();
            plan.reconstruct(&sources, &mut label(&mut rebuilt, &wanted)).unwrap();
            prop_assert_eq!(&rebuilt, &expected);
        }
    }

    #[test]
    fn some_parity_is_a_part_of_all_parity(
        (k, m, matrix, _, wanted) in pattern(), seed in any::<u64>(), len in 0usize..100,
    ) {
        let codec = codec(k, m, matrix);
        let shards = stripe(&codec, seed, len);
        let wanted: Vec<usize> = wanted.into_iter().filter(|&index| index >= k).collect();
        let mut parity = vec![vec![0xDD; len]; wanted.len()];
        codec.encode_some(&slices(&shards[..k]), &mut label(&mut parity, &wanted)).unwrap();
        for (buffer, &index) in parity.iter().zip(&wanted) {
            prop_assert_eq!(buffer, &shards[index]);
        }
    }

    #[test]
    fn verify_sees_one_wrong_bit_anywhere(
        (k, m, matrix, _, _) in pattern(),
        seed in any::<u64>(), len in 1usize..100, shard in any::<Index>(), bit in any::<Index>(),
    ) {
        let codec = codec(k, m, matrix);
        let mut shards = stripe(&codec, seed, len);
        prop_assert!(codec.verify(&slices(&shards)).unwrap());
        let (shard, bit) = (shard.index(k + m), bit.index(8 * len));
        shards[shard][bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!codec.verify(&slices(&shards)).unwrap());
    }

    /// And a wanted shard that is itself a source is handed through.
    #[test]
    fn coefficients_say_what_is_computed((k, m, matrix, present, wanted) in pattern(), seed in any::<u64>()) {
        let codec = codec(k, m, matrix);
        let shards = stripe(&codec, seed, 1);
        let plan = codec.plan(&present, &wanted).unwrap();
        for &index in &wanted {
            let terms: Vec<(u8, usize)> =
                plan.sources().map(|source| (plan.coefficient(index, source).unwrap(), source)).collect();
            let sum = terms.iter().fold(0, |sum, &(coefficient, source)| add(sum, mul(coefficient, shards[source][0])));
            prop_assert_eq!(sum, shards[index][0]);
            if present[..k].contains(&index) {
                prop_assert!(terms.iter().all(|&(coefficient, source)| coefficient == u8::from(source == index)));
            } else {
                prop_assert!(terms.iter().all(|term| term.0 != 0), "MDS leaves no source unused");
            }
        }
        prop_assert_eq!(plan.coefficient(k + m, present[0]), None);
    }
}

#[test]
fn empty_shards_are_a_stripe_too() {
    let codec = codec(4, 2, MatrixId::NormalisedCauchy);
    let mut shards = vec![Vec::new(); 6];
    assert!(codec.verify(&slices(&shards)).unwrap());
    let (data, parity) = shards.split_at_mut(4);
    codec.encode(&slices(data), &mut slices_mut(parity)).unwrap();
    assert!(shards.iter().all(Vec::is_empty));
}

/// Long enough that every kernel runs its main loop many times, and a tail.
#[test]
fn long_shards_come_back() {
    let codec = codec(9, 6, MatrixId::NormalisedCauchy);
    let shards = stripe(&codec, 77, 300_007);
    assert!(codec.verify(&slices(&shards)).unwrap());
    let lost = [0, 4, 8, 9, 12, 14];
    let present: Vec<usize> = (0..15).filter(|index| !lost.contains(index)).collect();
    let mut rebuilt = vec![vec![0; 300_007]; 6];
    codec.reconstruct_some(&pick(&shards, &present), &mut label(&mut rebuilt, &lost)).unwrap();
    assert!(rebuilt.iter().zip(lost).all(|(buffer, index)| *buffer == shards[index]));
}
