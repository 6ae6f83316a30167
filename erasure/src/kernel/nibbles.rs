//! Coefficients as tables for byte shuffles: products of the sixteen low and the sixteen high halves of a byte.

use super::lanes;
use crate::field;
use crate::matrix::Matrix;

/// Words of the two tables.
pub(super) const WORDS: usize = 4;
/// The tables of the coefficient one.
pub(super) const ONE: [u64; WORDS] = words_of(1);

/// Two tables for each coefficient, that of the low halves first.
pub(super) fn tables(matrix: &Matrix) -> Box<[u64]> {
    let shape = (matrix.row_count(), matrix.column_count());
    lanes::tables(shape, |row, column| words_of(matrix.at(row, column)))
}

const fn words_of(coefficient: u8) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let mut place = 0;
    while place < 32 {
        let factor = if place < 16 { place } else { (place - 16) << 4 };
        words[place / 8] |= (field::mul(coefficient, factor as u8) as u64) << (8 * (place % 8));
        place += 1;
    }
    words
}
