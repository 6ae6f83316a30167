//! The kernel for machines with AVX-512 and GFNI: one instruction multiplies 64 bytes by a constant.
//!
//! `VGF2P8AFFINEQB` applies an 8 x 8 matrix of bits to each byte. A product with a constant is linear over bits, whatever the
//! field's polynomial, so a coefficient is such a matrix: one word. Outputs are made six at a time, their sums in registers, so that an
//! input is read once for six; what is left at the end of a shard goes through a mask.
#![expect(
    unsafe_code,
    reason = "vectors are read and written by pointers, with instructions that not every machine has"
)]

use super::{Kernel, Operands, Write};
use crate::field;
use crate::limits::SHARD_COUNT_MAX;
use crate::matrix::Matrix;
use std::arch::x86_64::{
    __m512i, _mm512_cmpneq_epi8_mask, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512,
    _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_storeu_si512, _mm512_xor_si512,
};

/// Bytes of a vector.
const VECTOR_LEN_BYTES: usize = 64;
/// Outputs made at a time at most.
const GROUP: usize = 6;

/// See the [module](self). There is one only where the machine has the instructions.
#[derive(Debug)]
pub struct Gfni512(());

static GFNI_512: Gfni512 = Gfni512(());

/// The coefficients of a group of outputs, input by input, as bit matrices.
type Group<const N: usize> = [[u64; N]; SHARD_COUNT_MAX];

impl Gfni512 {
    /// It, if this machine can run it.
    pub fn detect() -> Option<&'static Self> {
        let can = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("gfni");
        can.then_some(&GFNI_512)
    }
}

impl Kernel for Gfni512 {
    fn name(&self) -> &'static str {
        "gfni512"
    }

    /// A word for each coefficient, row by row.
    fn tables(&self, matrix: &Matrix) -> Box<[u64]> {
        let cells = (0..matrix.row_count())
            .flat_map(|row| (0..matrix.column_count()).map(move |column| (row, column)));
        cells.map(|(row, column)| bits_of(matrix.at(row, column))).collect()
    }

    fn multiply(&self, operands: &Operands<'_>, outputs: &mut [&mut [u8]], write: Write) {
        operands.assert_outputs(outputs.iter().map(|output| output.len()));
        for (rows, outputs) in operands.rows().chunks(GROUP).zip(outputs.chunks_mut(GROUP)) {
            match rows.len() {
                1 => multiply_group::<1>(operands, rows, outputs, write),
                2 => multiply_group::<2>(operands, rows, outputs, write),
                3 => multiply_group::<3>(operands, rows, outputs, write),
                4 => multiply_group::<4>(operands, rows, outputs, write),
                5 => multiply_group::<5>(operands, rows, outputs, write),
                _ => multiply_group::<GROUP>(operands, rows, outputs, write),
            }
        }
    }

    fn verify(&self, operands: &Operands<'_>, expected: &[&[u8]]) -> bool {
        operands.assert_outputs(expected.iter().map(|bytes| bytes.len()));
        let mut groups = operands.rows().chunks(GROUP).zip(expected.chunks(GROUP));
        groups.all(|(rows, expected)| match rows.len() {
            1 => verify_group::<1>(operands, rows, expected),
            2 => verify_group::<2>(operands, rows, expected),
            3 => verify_group::<3>(operands, rows, expected),
            4 => verify_group::<4>(operands, rows, expected),
            5 => verify_group::<5>(operands, rows, expected),
            _ => verify_group::<GROUP>(operands, rows, expected),
        })
    }
}

/// What the instruction takes for a product with `coefficient`: byte 7 - i says which bits of the factor make bit i of the product.
fn bits_of(coefficient: u8) -> u64 {
    let mut bits = 0;
    for from in 0..8 {
        let product = field::mul(coefficient, 1 << from);
        for to in (0..8).filter(|to| product >> to & 1 == 1) {
            bits |= 1 << (8 * (7 - to) + from);
        }
    }
    bits
}

/// The coefficients of these rows, dense.
fn gather<const N: usize>(operands: &Operands<'_>, rows: &[u8]) -> Group<N> {
    let mut group = [[0; N]; SHARD_COUNT_MAX];
    for (of_input, &column) in group.iter_mut().zip(operands.columns()) {
        for (bits, &row) in of_input.iter_mut().zip(rows) {
            *bits = operands.tables()[usize::from(row) * operands.column_count() + usize::from(column)];
        }
    }
    group
}

fn multiply_group<const N: usize>(
    operands: &Operands<'_>,
    rows: &[u8],
    outputs: &mut [&mut [u8]],
    write: Write,
) {
    let group = gather::<N>(operands, rows);
    let outputs = outputs.try_into().expect("a group has an output for each of its rows");
    // SAFETY: a `Gfni512` is handed out only by `detect`, where it found AVX-512F, AVX-512BW and GFNI, and this is called by none but its methods.
    unsafe { multiply_with(&group, operands, outputs, write) }
}

fn verify_group<const N: usize>(operands: &Operands<'_>, rows: &[u8], expected: &[&[u8]]) -> bool {
    let group = gather::<N>(operands, rows);
    let expected = expected.try_into().expect("a group has a slice for each of its rows");
    // SAFETY: a `Gfni512` is handed out only by `detect`, where it found AVX-512F, AVX-512BW and GFNI, and this is called by none but its methods.
    unsafe { verify_with(&group, operands, expected) }
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn multiply_with<const N: usize>(
    group: &Group<N>,
    operands: &Operands<'_>,
    outputs: &mut [&mut [u8]; N],
    write: Write,
) {
    for position in (0..operands.len_bytes()).step_by(VECTOR_LEN_BYTES) {
        let sums = sums(group, operands.inputs(), position);
        for (output, sum) in outputs.iter_mut().zip(sums) {
            let bytes = match write {
                Write::Replace => sum,
                Write::Add => _mm512_xor_si512(sum, load(output, position)),
            };
            store(output, position, bytes);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn verify_with<const N: usize>(group: &Group<N>, operands: &Operands<'_>, expected: &[&[u8]; N]) -> bool {
    (0..operands.len_bytes()).step_by(VECTOR_LEN_BYTES).all(|position| {
        let sums = sums(group, operands.inputs(), position);
        // Behind the end of a shard sums and what is loaded are both zero.
        let wrong = expected
            .iter()
            .zip(sums)
            .fold(0, |wrong, (bytes, sum)| wrong | _mm512_cmpneq_epi8_mask(sum, load(bytes, position)));
        wrong == 0
    })
}

/// The sums of a group's outputs for the vector at `position`.
#[target_feature(enable = "avx512f,avx512bw,gfni")]
#[inline]
fn sums<const N: usize>(group: &Group<N>, inputs: &[&[u8]], position: usize) -> [__m512i; N] {
    let mut sums = [_mm512_setzero_si512(); N];
    for (of_input, input) in group.iter().zip(inputs) {
        let bytes = load(input, position);
        for (sum, &bits) in sums.iter_mut().zip(of_input) {
            let product = _mm512_gf2p8affine_epi64_epi8::<0>(bytes, _mm512_set1_epi64(bits.cast_signed()));
            *sum = _mm512_xor_si512(*sum, product);
        }
    }
    sums
}

/// The vector at `position`; behind the end it is zero.
#[target_feature(enable = "avx512f,avx512bw,gfni")]
#[inline]
fn load(bytes: &[u8], position: usize) -> __m512i {
    let rest = &bytes[position..];
    match rest.first_chunk::<VECTOR_LEN_BYTES>() {
        // SAFETY: the chunk has as many bytes as a vector; no alignment is asked for.
        Some(whole) => unsafe { _mm512_loadu_si512(whole.as_ptr().cast()) },
        // SAFETY: the mask has a bit for each byte of `rest`, and no byte without one is read.
        None => unsafe { _mm512_maskz_loadu_epi8(mask(rest.len()), rest.as_ptr().cast()) },
    }
}

/// Writes the vector at `position`, as far as there are bytes.
#[target_feature(enable = "avx512f,avx512bw,gfni")]
#[inline]
fn store(bytes: &mut [u8], position: usize, vector: __m512i) {
    let rest = &mut bytes[position..];
    match rest.first_chunk_mut::<VECTOR_LEN_BYTES>() {
        // SAFETY: the chunk has as many bytes as a vector; no alignment is asked for.
        Some(whole) => unsafe { _mm512_storeu_si512(whole.as_mut_ptr().cast(), vector) },
        None => {
            let (mask, start) = (mask(rest.len()), rest.as_mut_ptr());
            // SAFETY: the mask has a bit for each byte of `rest`, and no byte without one is written.
            unsafe { _mm512_mask_storeu_epi8(start.cast(), mask, vector) }
        }
    }
}

/// Bits for the first `count` bytes of a vector, of which there are fewer than it has.
fn mask(count: usize) -> u64 {
    assert!(count < VECTOR_LEN_BYTES);
    (1 << count) - 1
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
