//! Vectors of AVX2, with one way or another to multiply them.
#![expect(unsafe_code, reason = "vectors are read and written by pointers")]

use super::lanes::Lanes;
use std::arch::x86_64::{
    __m256i, _mm_sfence, _mm256_loadu_si256, _mm256_or_si256, _mm256_setzero_si256, _mm256_storeu_si256,
    _mm256_stream_si256, _mm256_testz_si256, _mm256_xor_si256,
};
use std::marker::PhantomData;

const LEN_BYTES: usize = 32;

/// How vectors are multiplied. See [`Lanes`] for what each is, and for what makes it safe.
///
/// # Safety
/// Of who implements it: [`Products::multiplier`] reads no more than [`Products::WORDS`] words.
pub(super) unsafe trait Products {
    type Factor: Copy;
    type Multiplier: Copy;

    const WORDS: usize;
    const ONE: &'static [u64];

    unsafe fn factor(vector: __m256i) -> Self::Factor;
    unsafe fn vector(factor: Self::Factor) -> __m256i;
    unsafe fn multiplier(words: *const u64) -> Self::Multiplier;
    unsafe fn product(factor: Self::Factor, multiplier: Self::Multiplier) -> __m256i;
}

/// 32 bytes.
pub(super) struct Ymm<P>(PhantomData<P>);

// SAFETY: a vector has 32 bytes; for the multipliers the products speak.
unsafe impl<P: Products> Lanes for Ymm<P> {
    type Vector = __m256i;
    type Factor = P::Factor;
    type Multiplier = P::Multiplier;

    const LEN_BYTES: usize = LEN_BYTES;
    const WORDS: usize = P::WORDS;
    const ONE: &'static [u64] = P::ONE;

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
        let mut bytes = [0u8; LEN_BYTES];
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
        let mut bytes = [0u8; LEN_BYTES];
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
    unsafe fn factor(vector: __m256i) -> P::Factor {
        // SAFETY: the caller's.
        unsafe { P::factor(vector) }
    }

    #[inline(always)]
    unsafe fn vector(factor: P::Factor) -> __m256i {
        // SAFETY: the caller's.
        unsafe { P::vector(factor) }
    }

    #[inline(always)]
    unsafe fn multiplier(words: *const u64) -> P::Multiplier {
        // SAFETY: the caller's.
        unsafe { P::multiplier(words) }
    }

    #[inline(always)]
    unsafe fn product(factor: P::Factor, multiplier: P::Multiplier) -> __m256i {
        // SAFETY: the caller's.
        unsafe { P::product(factor, multiplier) }
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
