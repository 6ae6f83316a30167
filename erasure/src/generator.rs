//! The generator matrices: `k + m` rows of `k` coefficients, shard = row * data.
//!
//! Both are systematic (the first `k` rows are the identity, so data shards are the data) and both
//! are MDS (any `k` rows are invertible, so any `k` shards suffice). Parity on a drive is only worth
//! something together with the matrix that made it: **what these functions return is part of the
//! on-disk format**. A better matrix gets a new [`MatrixId`]; these never change.

use crate::CodecError;
use crate::field;
use crate::limits::SHARD_COUNT_MAX;
use crate::matrix::Matrix;

/// Which generator matrix made the parity. The value is the byte in the on-disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MatrixId {
    /// Cauchy, scaled so that the first parity row and the first parity column are all ones.
    ///
    /// Strongroom's own choice: only (m - 1)(k - 1) coefficients need a real product, and with
    /// `k = 1` every parity shard is a copy.
    NormalisedCauchy = 1,
    /// A Vandermonde matrix brought to systematic form: what the crate `reed-solomon-erasure` and
    /// several others build. Kept as the differential oracle.
    Vandermonde = 2,
}

impl MatrixId {
    /// Every matrix this build knows.
    pub const ALL: [Self; 2] = [Self::NormalisedCauchy, Self::Vandermonde];

    /// The byte in the on-disk format.
    pub const fn to_byte(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for MatrixId {
    type Error = CodecError;
    fn try_from(id: u8) -> Result<Self, CodecError> {
        Self::ALL.into_iter().find(|matrix| matrix.to_byte() == id).ok_or(CodecError::MatrixUnknown { id })
    }
}

/// The generator matrix of RS(`data_count`, `parity_count`). The caller has checked the shape.
pub(crate) fn generator(data_count: usize, parity_count: usize, matrix: MatrixId) -> Matrix {
    let shard_count = data_count + parity_count;
    assert!(data_count > 0 && parity_count > 0 && shard_count <= SHARD_COUNT_MAX);
    let generator = match matrix {
        MatrixId::NormalisedCauchy => {
            Matrix::from_fn(shard_count, data_count, |row, column| match row.checked_sub(data_count) {
                None => u8::from(row == column),
                Some(parity) => cauchy_normalised(parity, column),
            })
        }
        MatrixId::Vandermonde => systematic(&vandermonde(shard_count, data_count)),
    };
    assert_eq!((generator.row_count(), generator.column_count()), (shard_count, data_count));
    generator
}

/// Point of the first data column. Parity rows take the points from 0 up, data columns those from
/// here up, whatever `k` and `m` are. So each code is a corner of one fixed table: RS(9,6) and
/// RS(9,7) share their first six parity rows. (Numbering the points through from `k` would not.)
const DATA_POINT_FIRST: usize = 128;

// The points of rows and columns must be distinct bytes.
const _: () = assert!(SHARD_COUNT_MAX <= DATA_POINT_FIRST && DATA_POINT_FIRST + SHARD_COUNT_MAX <= 256);

/// The coefficient of data shard `column` in parity shard `parity`, both counted from 0.
///
/// A Cauchy matrix has cells `1 / (x_row + y_column)` with all points distinct; every square part of
/// it is invertible (Cauchy's determinant), which makes the code MDS. Multiplying a row or a column
/// by a constant other than zero keeps that. So column `j` is multiplied by `x_0 + y_j`, which makes
/// the first row ones, and then each row is divided by its first cell.
fn cauchy_normalised(parity: usize, column: usize) -> u8 {
    let cell = |parity: usize, column: usize| {
        let sum = field::add(parity as u8, (DATA_POINT_FIRST + column) as u8);
        let first = field::add(0, (DATA_POINT_FIRST + column) as u8);
        field::div(first, sum).expect("a row point is below every column point, so the sum is not zero")
    };
    field::div(cell(parity, column), cell(parity, 0)).expect("a quotient of non-zero values is not zero")
}

/// Cell (row, column) is `row^column`. Any `k` rows are invertible because the rows' points differ.
fn vandermonde(row_count: usize, column_count: usize) -> Matrix {
    Matrix::from_fn(row_count, column_count, |row, column| field::pow(row as u8, column))
}

/// Multiplies from the right by the inverse of the top square, which leaves the identity there.
/// Any `k` rows stay invertible: each such square is multiplied by one invertible matrix.
fn systematic(matrix: &Matrix) -> Matrix {
    let top = matrix.select_rows(0..matrix.column_count());
    matrix.multiply(&top.invert().expect("rows of a Vandermonde matrix with distinct points are independent"))
}

#[cfg(test)]
mod tests {
    use super::{MatrixId, generator};
    use crate::CodecError;
    use crate::limits::SHARD_COUNT_MAX;
    use crate::matrix::Matrix;

    fn parity_of(data_count: usize, parity_count: usize, matrix: MatrixId) -> Matrix {
        generator(data_count, parity_count, matrix).select_rows(data_count..data_count + parity_count)
    }

    fn shapes() -> impl Iterator<Item = (usize, usize)> {
        (1..SHARD_COUNT_MAX).flat_map(|k| (1..=SHARD_COUNT_MAX - k).map(move |m| (k, m)))
    }

    #[test]
    fn every_generator_starts_with_the_identity() {
        for (k, m) in shapes() {
            for matrix in MatrixId::ALL {
                assert_eq!(
                    generator(k, m, matrix).select_rows(0..k),
                    Matrix::identity(k),
                    "RS({k},{m}) {matrix:?}"
                );
            }
        }
    }

    #[test]
    fn normalised_cauchy_has_ones_in_the_first_row_and_column_only() {
        for (k, m) in shapes() {
            let parity = parity_of(k, m, MatrixId::NormalisedCauchy);
            for row in 0..m {
                for column in 0..k {
                    let cell = parity.at(row, column);
                    assert_ne!(cell, 0);
                    assert_eq!(cell == 1, row == 0 || column == 0, "RS({k},{m}) at ({row},{column})");
                }
            }
        }
    }

    #[test]
    fn each_normalised_cauchy_code_is_a_corner_of_one_table() {
        for (k, m) in shapes() {
            let parity = parity_of(k, m, MatrixId::NormalisedCauchy);
            let tall = parity_of(1, SHARD_COUNT_MAX - 1, MatrixId::NormalisedCauchy);
            assert!((0..m).all(|row| parity.at(row, 0) == tall.at(row, 0)));
            if k + m < SHARD_COUNT_MAX {
                let (wider, taller) = (
                    parity_of(k + 1, m, MatrixId::NormalisedCauchy),
                    parity_of(k, m + 1, MatrixId::NormalisedCauchy),
                );
                for row in 0..m {
                    assert_eq!(parity.row(row), &wider.row(row)[..k]);
                    assert_eq!(parity.row(row), taller.row(row));
                }
            }
        }
    }

    #[test]
    fn one_data_shard_means_copies_in_both() {
        for m in 1..SHARD_COUNT_MAX {
            for matrix in MatrixId::ALL {
                assert_eq!(generator(1, m, matrix), Matrix::from_fn(m + 1, 1, |_, _| 1));
            }
        }
    }

    #[test]
    fn ids_are_the_bytes_of_the_format() {
        assert_eq!(MatrixId::NormalisedCauchy.to_byte(), 1);
        assert_eq!(MatrixId::Vandermonde.to_byte(), 2);
        for id in 0..=255 {
            match MatrixId::try_from(id) {
                Ok(matrix) => assert_eq!(matrix.to_byte(), id),
                Err(error) => {
                    assert!(id == 0 || id > 2);
                    assert_eq!(error, CodecError::MatrixUnknown { id });
                }
            }
        }
    }

    /// Cells worked out apart from this code. If this fails, parity already on drives has become unreadable.
    #[test]
    fn the_coefficients_of_the_format_never_change() {
        let golden = |matrix, rows: [[u8; 5]; 4]| {
            assert_eq!(parity_of(5, 4, matrix), Matrix::from_fn(4, 5, |row, column| rows[row][column]));
        };
        golden(MatrixId::NormalisedCauchy, GOLDEN_CAUCHY);
        golden(MatrixId::Vandermonde, GOLDEN_VANDERMONDE);
    }

    const GOLDEN_CAUCHY: [[u8; 5]; 4] = [
        [0x01, 0x01, 0x01, 0x01, 0x01],
        [0x01, 0x59, 0x05, 0xe6, 0xed],
        [0x01, 0x05, 0x7c, 0xbe, 0x48],
        [0x01, 0xe6, 0xbe, 0x24, 0x81],
    ];
    const GOLDEN_VANDERMONDE: [[u8; 5]; 4] = [
        [0x07, 0x07, 0x06, 0x06, 0x01],
        [0x09, 0x08, 0x09, 0x08, 0x01],
        [0x0f, 0x0e, 0x0e, 0x0f, 0x01],
        [0x02, 0x7d, 0x95, 0xfd, 0x16],
    ];
}
