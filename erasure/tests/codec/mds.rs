//! The codes are MDS: any k shards give everything back.
//!
//! Why checking inverses proves it: the shards of a position are G * d, with G the generator (k + m rows
//! of k) and d the k data bytes. Someone who holds the shards of a set S of k knows G_S * d, where
//! G_S are the rows of S. That determines d if and only if G_S is invertible, and then it determines every
//! shard. Losing at most m shards leaves at least k, so a subset of k is left whatever the loss. So: for every
//! k-subset, G_S has an inverse. G does not depend on data, lengths or positions, so
//! going through all subsets once is a complete proof for that shape.

use crate::stripe::{PROFILES, codec, each_subset};
use strongroom_erasure::MatrixId;
use strongroom_erasure::matrix::Matrix;

fn assert_mds(k: usize, m: usize, matrix: MatrixId) -> usize {
    let codec = codec(k, m, matrix);
    let mut subset_count = 0;
    each_subset(k + m, k, |chosen, _| {
        let rows = codec.generator().select_rows(chosen.iter().copied());
        assert!(rows.invert().is_some(), "RS({k},{m}) {matrix:?}: shards {chosen:?} do not suffice");
        subset_count += 1;
    });
    subset_count
}

#[test]
fn every_profile_is_mds_with_the_normalised_cauchy_matrix() {
    for (k, m) in PROFILES {
        let expected = (1..=m).fold(1, |subsets, i| subsets * (k + i) / i);
        assert_eq!(assert_mds(k, m, MatrixId::NormalisedCauchy), expected, "k of k + m for RS({k},{m})");
    }
}

#[test]
fn small_shapes_are_mds_with_both_matrices() {
    for k in 1..=9 {
        for m in 1..=10 - k {
            for matrix in MatrixId::ALL {
                assert_mds(k, m, matrix);
            }
        }
    }
}

/// The check above can fail: with a Vandermonde matrix put under the identity (the tempting short
/// cut) some losses cannot be repaired.
#[test]
fn the_check_finds_a_matrix_that_is_not_mds() {
    let (k, m) = (4, 4);
    let careless = Matrix::from_fn(k + m, k, |row, column| match row.checked_sub(k) {
        None => u8::from(row == column),
        Some(parity) => strongroom_erasure::field::pow(parity as u8, column),
    });
    let mut singular_count = 0;
    each_subset(k + m, k, |chosen, _| {
        singular_count += usize::from(careless.select_rows(chosen.iter().copied()).invert().is_none());
    });
    assert!(singular_count > 0);
}
