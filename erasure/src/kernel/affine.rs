//! Coefficients as bit matrices, for the instruction `VGF2P8AFFINEQB`.
//!
//! It applies an 8 x 8 matrix of bits to each byte. A product with a constant is linear over bits, whatever the field's polynomial, so a coefficient is such a
//! matrix: one word.

use super::lanes;
use crate::field;
use crate::matrix::Matrix;

/// The word of the coefficient one.
pub(super) const ONE: u64 = bits_of(1);

/// A word for each coefficient.
pub(super) fn tables(matrix: &Matrix) -> Box<[u64]> {
    let shape = (matrix.row_count(), matrix.column_count());
    lanes::tables(shape, |row, column| [bits_of(matrix.at(row, column))])
}

/// What the instruction takes for a product with `coefficient`: byte 7 - i says which bits of the factor make bit i of the product.
const fn bits_of(coefficient: u8) -> u64 {
    let mut bits = 0;
    let mut from = 0;
    while from < 8 {
        let product = field::mul(coefficient, 1 << from);
        let mut to = 0;
        while to < 8 {
            bits |= ((product >> to & 1) as u64) << (8 * (7 - to) + from);
            to += 1;
        }
        from += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::bits_of;
    use crate::field;

    /// The instruction as its manual describes it.
    fn affine(bits: u64, byte: u8) -> u8 {
        (0..8).fold(0, |product, to| {
            let row = (bits >> (8 * (7 - to))) as u8;
            product | (((row & byte).count_ones() as u8) & 1) << to
        })
    }

    #[test]
    fn bit_matrices_multiply_as_the_field_does() {
        for coefficient in 0..=255 {
            let bits = bits_of(coefficient);
            for byte in 0..=255 {
                assert_eq!(affine(bits, byte), field::mul(coefficient, byte));
            }
        }
    }
}
