//! The kernel for machines with AVX-512 and GFNI: one instruction multiplies 64 bytes by a constant, another adds three vectors, and a mask takes what is left at
//! the end of a shard.
#![expect(
    unsafe_code,
    reason = "vectors are read and written by pointers, with instructions that not every machine has"
)]

use super::affine;
use super::lanes::Lanes;
use super::vectors::vector_kernel;
use std::arch::x86_64::{
    __m512i, _mm_sfence, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_mask_storeu_epi8,
    _mm512_maskz_loadu_epi8, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_storeu_si512,
    _mm512_stream_si512, _mm512_ternarylogic_epi64, _mm512_test_epi64_mask, _mm512_xor_si512,
};

vector_kernel! {
    /// See the [module](self). There is one only where the machine has the instructions.
    Gfni512, "gfni512",
    lanes: Zmm,
    tables: affine::tables,
    features: "avx512f,avx512bw,gfni",
    detected: is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("gfni"),
    outputs: 1 2 3 4 5 6 7 8 9 10
}

/// 64 bytes.
struct Zmm;

/// Bits for the first `count` bytes of a vector, of which there are fewer than it has.
#[inline(always)]
fn mask(count: usize) -> u64 {
    debug_assert!(count < Zmm::LEN_BYTES);
    (1 << count) - 1
}

// SAFETY: a vector has 64 bytes, a multiplier is one word.
unsafe impl Lanes for Zmm {
    type Vector = __m512i;
    type Factor = __m512i;
    type Multiplier = __m512i;

    const LEN_BYTES: usize = 64;
    const WORDS: usize = 1;
    const ONE: &'static [u64] = &[affine::ONE];

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const u8, count: usize) -> __m512i {
        // SAFETY: the caller's; no byte without a bit of the mask is read.
        unsafe { _mm512_maskz_loadu_epi8(mask(count), from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut u8, vector: __m512i) {
        // SAFETY: the caller's.
        unsafe { _mm512_storeu_si512(to.cast(), vector) }
    }

    #[inline(always)]
    unsafe fn store_part(to: *mut u8, count: usize, vector: __m512i) {
        // SAFETY: the caller's; no byte without a bit of the mask is written.
        unsafe { _mm512_mask_storeu_epi8(to.cast(), mask(count), vector) }
    }

    #[inline(always)]
    unsafe fn stream(to: *mut u8, vector: __m512i) {
        // SAFETY: the caller's.
        unsafe { _mm512_stream_si512(to.cast(), vector) }
    }

    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: the caller's.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn factor(vector: __m512i) -> __m512i {
        vector
    }

    #[inline(always)]
    unsafe fn vector(factor: __m512i) -> __m512i {
        factor
    }

    #[inline(always)]
    unsafe fn multiplier(words: *const u64) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_set1_epi64(words.read().cast_signed()) }
    }

    #[inline(always)]
    unsafe fn product(factor: __m512i, multiplier: __m512i) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_gf2p8affine_epi64_epi8::<0>(factor, multiplier) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_xor_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn add_three(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_ternarylogic_epi64::<0x96>(a, b, c) }
    }

    #[inline(always)]
    unsafe fn differ(wrong: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_ternarylogic_epi64::<0xF6>(wrong, a, b) }
    }

    #[inline(always)]
    unsafe fn is_zero(vector: __m512i) -> bool {
        // SAFETY: the caller's.
        unsafe { _mm512_test_epi64_mask(vector, vector) == 0 }
    }
}
