//! The kernel for machines with GFNI and AVX2, but without AVX-512: half the length, half the registers.
#![expect(
    unsafe_code,
    reason = "vectors are read and written by pointers, with instructions that not every machine has"
)]

use super::lanes::{self, Group, Lanes, by_count};
use super::{Kernel, Operands, Write, affine};
use crate::matrix::Matrix;
use std::arch::x86_64::{
    __m256i, _mm_sfence, _mm256_gf2p8affine_epi64_epi8, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_storeu_si256, _mm256_stream_si256, _mm256_testz_si256,
    _mm256_xor_si256,
};

/// Outputs made at a time at most.
const GROUP: usize = 4;

/// See the [module](self). There is one only where the machine has the instructions.
#[derive(Debug)]
pub struct Gfni256(());

static GFNI_256: Gfni256 = Gfni256(());

impl Gfni256 {
    /// It, if this machine can run it.
    pub fn detect() -> Option<&'static Self> {
        let can = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("gfni");
        can.then_some(&GFNI_256)
    }
}

impl Kernel for Gfni256 {
    fn name(&self) -> &'static str {
        "gfni256"
    }

    fn tables(&self, matrix: &Matrix) -> Box<[u64]> {
        affine::tables(matrix)
    }

    fn multiply(&self, operands: &Operands<'_>, outputs: &mut [&mut [u8]], write: Write) {
        operands.assert_outputs(outputs.iter().map(|output| output.len()));
        let len = lanes::group_len(outputs.len(), GROUP);
        for (rows, outputs) in operands.rows().chunks(len).zip(outputs.chunks_mut(len)) {
            lanes::with_group::<Ymm, _>(operands, rows, |group| {
                // SAFETY: a kernel of this kind is handed out only by `detect`, where it found the instructions.
                unsafe { by_count!(rows.len(), multiply(group, outputs, write), 1 2 3 4) }
            });
        }
    }

    fn verify(&self, operands: &Operands<'_>, expected: &[&[u8]]) -> bool {
        operands.assert_outputs(expected.iter().map(|bytes| bytes.len()));
        let len = lanes::group_len(expected.len(), GROUP);
        operands.rows().chunks(len).zip(expected.chunks(len)).all(|(rows, expected)| {
            lanes::with_group::<Ymm, _>(operands, rows, |group| {
                // SAFETY: a kernel of this kind is handed out only by `detect`, where it found the instructions.
                unsafe { by_count!(rows.len(), verify(group, expected), 1 2 3 4) }
            })
        })
    }
}

#[target_feature(enable = "avx2,gfni")]
fn multiply<const N: usize>(group: &Group<'_>, outputs: &mut [&mut [u8]], write: Write) {
    // SAFETY: who calls this has the instructions.
    unsafe { lanes::multiply::<Ymm, N>(group, outputs, write) }
}

#[target_feature(enable = "avx2,gfni")]
fn verify<const N: usize>(group: &Group<'_>, expected: &[&[u8]]) -> bool {
    // SAFETY: who calls this has the instructions.
    unsafe { lanes::verify::<Ymm, N>(group, expected) }
}

/// 32 bytes.
struct Ymm;

impl Lanes for Ymm {
    type Vector = __m256i;
    type Factor = __m256i;
    type Multiplier = __m256i;

    const LEN_BYTES: usize = 32;
    const WORDS: usize = 1;
    const ONE: &'static [u64] = &[affine::ONE];

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    /// By way of a copy: there are no masks for bytes.
    #[inline(always)]
    unsafe fn load_part(from: *const u8, count: usize) -> __m256i {
        let mut bytes = [0u8; Self::LEN_BYTES];
        // SAFETY: the caller's; `count` is less than the copy's length.
        unsafe {
            bytes.as_mut_ptr().copy_from_nonoverlapping(from, count);
            Self::load(bytes.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut u8, vector: __m256i) {
        // SAFETY: the caller's.
        unsafe { _mm256_storeu_si256(to.cast(), vector) }
    }

    #[inline(always)]
    unsafe fn store_part(to: *mut u8, count: usize, vector: __m256i) {
        let mut bytes = [0u8; Self::LEN_BYTES];
        // SAFETY: the caller's; `count` is less than the copy's length.
        unsafe {
            Self::store(bytes.as_mut_ptr(), vector);
            to.copy_from_nonoverlapping(bytes.as_ptr(), count);
        }
    }

    #[inline(always)]
    unsafe fn stream(to: *mut u8, vector: __m256i) {
        // SAFETY: the caller's.
        unsafe { _mm256_stream_si256(to.cast(), vector) }
    }

    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: the caller's.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn factor(vector: __m256i) -> __m256i {
        vector
    }

    #[inline(always)]
    unsafe fn vector(factor: __m256i) -> __m256i {
        factor
    }

    #[inline(always)]
    unsafe fn multiplier(words: *const u64) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_set1_epi64x(words.read().cast_signed()) }
    }

    #[inline(always)]
    unsafe fn product(factor: __m256i, multiplier: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_gf2p8affine_epi64_epi8::<0>(factor, multiplier) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_xor_si256(a, b) }
    }

    #[inline(always)]
    unsafe fn add_three(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_xor_si256(a, _mm256_xor_si256(b, c)) }
    }

    #[inline(always)]
    unsafe fn differ(wrong: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_or_si256(wrong, _mm256_xor_si256(a, b)) }
    }

    #[inline(always)]
    unsafe fn is_zero(vector: __m256i) -> bool {
        // SAFETY: the caller's.
        unsafe { _mm256_testz_si256(vector, vector) == 1 }
    }
}
