//! The kernel for machines with AVX2: products are looked up, 32 at once, in two tables of sixteen that a vector holds (Plank, Greenan and Miller 2013).
#![expect(
    unsafe_code,
    reason = "tables are read by pointers, and there are instructions that not every machine has"
)]

use super::nibbles;
use super::vectors::vector_kernel;
use super::ymm::{Products, Ymm};
use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_set1_epi8,
    _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_xor_si256,
};

vector_kernel! {
    /// See the [module](self). There is one only where the machine has the instructions.
    Shuffle256, "shuffle256",
    lanes: Ymm<Shuffle>,
    tables: nibbles::tables,
    features: "avx2",
    detected: is_x86_feature_detected!("avx2"),
    outputs: 1 2 3 4
}

/// A vector, and the halves of its bytes.
#[derive(Clone, Copy)]
struct Halves {
    whole: __m256i,
    low: __m256i,
    high: __m256i,
}

/// Products by look-up.
struct Shuffle;

// SAFETY: a multiplier is two tables of two words each.
unsafe impl Products for Shuffle {
    type Factor = Halves;
    type Multiplier = [__m256i; 2];

    const WORDS: usize = nibbles::WORDS;
    const ONE: &'static [u64] = &nibbles::ONE;

    #[inline(always)]
    unsafe fn factor(vector: __m256i) -> Halves {
        // SAFETY: the caller's.
        unsafe {
            let low = _mm256_set1_epi8(0x0F);
            let high = _mm256_and_si256(_mm256_srli_epi64::<4>(vector), low);
            Halves { whole: vector, low: _mm256_and_si256(vector, low), high }
        }
    }

    #[inline(always)]
    unsafe fn vector(factor: Halves) -> __m256i {
        factor.whole
    }

    #[inline(always)]
    unsafe fn multiplier(words: *const u64) -> [__m256i; 2] {
        // SAFETY: the caller's: two tables of two words each.
        unsafe {
            let (low, high) = (_mm_loadu_si128(words.cast()), _mm_loadu_si128(words.add(2).cast()));
            [_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high)]
        }
    }

    #[inline(always)]
    unsafe fn product(factor: Halves, [low, high]: [__m256i; 2]) -> __m256i {
        // SAFETY: the caller's.
        unsafe {
            let (low, high) = (_mm256_shuffle_epi8(low, factor.low), _mm256_shuffle_epi8(high, factor.high));
            _mm256_xor_si256(low, high)
        }
    }
}
