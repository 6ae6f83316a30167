//! Byte for byte the parity of `reed-solomon-erasure`, an independent implementation.

use crate::stripe::{codec, slices, slices_mut, stripe};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use reed_solomon_erasure::galois_8::ReedSolomon;
use strongroom_erasure::{Codec, Engine, MatrixId};

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(1), Just(15), Just(16), Just(17), Just(64), 2usize..300]
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(12))]

    #[test]
    fn vandermonde_parity_is_that_of_reed_solomon_erasure(seed in any::<u64>(), len in len()) {
        for k in 1..=14 {
            for m in 1..=15 - k {
                let shards = stripe(&codec(k, m, MatrixId::Vandermonde), seed, len);
                let mut theirs = shards.clone();
                for parity in &mut theirs[k..] {
                    parity.fill(0x11);
                }
                // It refuses empty shards; ours encode to empty parity.
                if len > 0 {
                    ReedSolomon::new(k, m).unwrap().encode(&mut theirs).unwrap();
                }
                prop_assert_eq!(&shards, &theirs, "RS({},{}) of {} bytes", k, m, len);
            }
        }
    }

    #[test]
    fn every_engine_encodes_the_same(seed in any::<u64>(), len in len(), k in 1usize..=16, m in 1usize..=16) {
        for matrix in MatrixId::ALL {
            let expected = stripe(&codec(k, m, matrix), seed, len);
            for engine in Engine::available() {
                let codec = Codec::with_engine(k, m, matrix, engine).unwrap();
                prop_assert_eq!(codec.engine().name(), engine.name());
                let mut parity = vec![vec![7; len]; m];
                codec.encode(&slices(&expected[..k]), &mut slices_mut(&mut parity)).unwrap();
                prop_assert_eq!(&parity, &expected[k..], "RS({},{}) {:?} {:?}", k, m, matrix, engine);
            }
        }
    }
}

#[test]
fn copies_are_copies() {
    for matrix in MatrixId::ALL {
        for m in [1, 2, 31] {
            let shards = stripe(&codec(1, m, matrix), 5, 99);
            assert!(shards.iter().all(|copy| *copy == shards[0]));
        }
    }
}

/// With the normalised Cauchy matrix the first parity shard is the plain XOR, as in RAID 5.
#[test]
fn the_first_parity_shard_is_the_xor_of_the_data() {
    let shards = stripe(&codec(7, 5, MatrixId::NormalisedCauchy), 9, 33);
    for position in 0..33 {
        assert_eq!(shards[7][position], shards[..7].iter().fold(0, |sum, shard| sum ^ shard[position]));
    }
}
