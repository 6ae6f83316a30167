//! The kernel for ARM machines: products are looked up, sixteen at once, in two tables of sixteen.
#![expect(
    unsafe_code,
    reason = "vectors are read and written by pointers, with instructions that not every machine has"
)]

use super::lanes::Lanes;
use super::nibbles;
use super::vectors::vector_kernel;
use std::arch::aarch64::{
    uint8x16_t, vandq_u8, vdupq_n_u8, veorq_u8, vld1q_u8, vmaxvq_u8, vorrq_u8, vqtbl1q_u8, vshrq_n_u8,
    vst1q_u8,
};

vector_kernel! {
    /// See the [module](self). There is one only where the machine has the instructions.
    Neon, "neon",
    lanes: Q,
    tables: nibbles::tables,
    features: "neon",
    detected: std::arch::is_aarch64_feature_detected!("neon"),
    outputs: 1 2 3 4
}

/// A vector, and the halves of its bytes.
#[derive(Clone, Copy)]
struct Halves {
    whole: uint8x16_t,
    low: uint8x16_t,
    high: uint8x16_t,
}

/// 16 bytes.
struct Q;

// SAFETY: a vector has sixteen bytes, a multiplier is two tables of two words each.
unsafe impl Lanes for Q {
    type Vector = uint8x16_t;
    type Factor = Halves;
    type Multiplier = [uint8x16_t; 2];

    const LEN_BYTES: usize = 16;
    const WORDS: usize = nibbles::WORDS;
    const ONE: &'static [u64] = &nibbles::ONE;

    #[inline(always)]
    unsafe fn zero() -> uint8x16_t {
        // SAFETY: the caller's.
        unsafe { vdupq_n_u8(0) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> uint8x16_t {
        // SAFETY: the caller's.
        unsafe { vld1q_u8(from) }
    }

    /// By way of a copy: there are no masks.
    #[inline(always)]
    unsafe fn load_part(from: *const u8, count: usize) -> uint8x16_t {
        let mut bytes = [0u8; Self::LEN_BYTES];
        // SAFETY: the caller's; `count` is less than the copy's length.
        unsafe {
            bytes.as_mut_ptr().copy_from_nonoverlapping(from, count);
            Self::load(bytes.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut u8, vector: uint8x16_t) {
        // SAFETY: the caller's.
        unsafe { vst1q_u8(to, vector) }
    }

    #[inline(always)]
    unsafe fn store_part(to: *mut u8, count: usize, vector: uint8x16_t) {
        let mut bytes = [0u8; Self::LEN_BYTES];
        // SAFETY: the caller's; `count` is less than the copy's length.
        unsafe {
            Self::store(bytes.as_mut_ptr(), vector);
            to.copy_from_nonoverlapping(bytes.as_ptr(), count);
        }
    }

    /// There is no such store in the language: an ordinary one.
    #[inline(always)]
    unsafe fn stream(to: *mut u8, vector: uint8x16_t) {
        // SAFETY: the caller's.
        unsafe { Self::store(to, vector) }
    }

    /// Ordinary stores need none.
    #[inline(always)]
    unsafe fn fence() {}

    #[inline(always)]
    unsafe fn factor(vector: uint8x16_t) -> Halves {
        // SAFETY: the caller's.
        unsafe {
            Halves { whole: vector, low: vandq_u8(vector, vdupq_n_u8(0x0F)), high: vshrq_n_u8::<4>(vector) }
        }
    }

    #[inline(always)]
    unsafe fn vector(factor: Halves) -> uint8x16_t {
        factor.whole
    }

    #[inline(always)]
    unsafe fn multiplier(words: *const u64) -> [uint8x16_t; 2] {
        // SAFETY: the caller's: two tables of two words each.
        unsafe { [vld1q_u8(words.cast()), vld1q_u8(words.add(2).cast())] }
    }

    #[inline(always)]
    unsafe fn product(factor: Halves, [low, high]: [uint8x16_t; 2]) -> uint8x16_t {
        // SAFETY: the caller's.
        unsafe { veorq_u8(vqtbl1q_u8(low, factor.low), vqtbl1q_u8(high, factor.high)) }
    }

    #[inline(always)]
    unsafe fn add(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        // SAFETY: the caller's.
        unsafe { veorq_u8(a, b) }
    }

    #[inline(always)]
    unsafe fn add_three(a: uint8x16_t, b: uint8x16_t, c: uint8x16_t) -> uint8x16_t {
        // SAFETY: the caller's.
        unsafe { veorq_u8(a, veorq_u8(b, c)) }
    }

    #[inline(always)]
    unsafe fn differ(wrong: uint8x16_t, a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        // SAFETY: the caller's.
        unsafe { vorrq_u8(wrong, veorq_u8(a, b)) }
    }

    #[inline(always)]
    unsafe fn is_zero(vector: uint8x16_t) -> bool {
        // SAFETY: the caller's.
        unsafe { vmaxvq_u8(vector) == 0 }
    }
}
