//! The kernel for machines with GFNI and AVX2, but without AVX-512: half the length, half the registers.
#![expect(unsafe_code, reason = "there are instructions that not every machine has")]

use super::affine;
use super::vectors::vector_kernel;
use super::ymm::{Products, Ymm};
use std::arch::x86_64::{__m256i, _mm256_gf2p8affine_epi64_epi8, _mm256_set1_epi64x};

vector_kernel! {
    /// See the [module](self). There is one only where the machine has the instructions.
    Gfni256, "gfni256",
    lanes: Ymm<Affine>,
    tables: affine::tables,
    features: "avx2,gfni",
    detected: is_x86_feature_detected!("avx2") && is_x86_feature_detected!("gfni"),
    outputs: 1 2 3 4
}

/// Products by bit matrices.
struct Affine;

// SAFETY: a multiplier is one word.
unsafe impl Products for Affine {
    type Factor = __m256i;
    type Multiplier = __m256i;

    const WORDS: usize = 1;
    const ONE: &'static [u64] = &[affine::ONE];

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
}
