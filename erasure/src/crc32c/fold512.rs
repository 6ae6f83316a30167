//! Folding with carry-less products of 64-byte vectors.
//!
//! Four vectors run over the bytes, 256 at a time. To move one on by `d` bits is to multiply it with `x^d`; each half of a 128-bit lane is multiplied with `x^d` modulo
//! the polynomial, which leaves a lane of the same remainder. At the end the four become one, its four lanes one, and that is given to the instruction that makes a
//! CRC of a word at a time.
//!
//! Source: V. Gopal et al., *Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction*, Intel 2009; bits are reflected here, hence the constants.
#![expect(unsafe_code, reason = "vectors are read by pointers, with instructions that not every machine has")]

use crate::off::{CRC_FOLD512, is_off};
use std::arch::x86_64::{
    __m128i, __m512i, _mm_crc32_u8, _mm_crc32_u64, _mm_cvtsi32_si128, _mm_cvtsi128_si64, _mm_unpackhi_epi64,
    _mm_xor_si128, _mm512_clmulepi64_epi128, _mm512_extracti32x4_epi32, _mm512_loadu_si512, _mm512_set_epi64,
    _mm512_ternarylogic_epi64, _mm512_xor_si512, _mm512_zextsi128_si512,
};
use std::sync::OnceLock;

/// Vectors that run side by side.
const RUNNING: usize = 4;
/// Bytes of a vector.
const VECTOR_LEN_BYTES: usize = 64;
/// Bytes of a step.
const STEP_LEN_BYTES: usize = RUNNING * VECTOR_LEN_BYTES;
/// Shorter ones are not worth the beginning and the end.
const LEN_BYTES_MIN: usize = 2 * STEP_LEN_BYTES;

/// Castagnoli's polynomial without its x^32.
const POLYNOMIAL: u32 = 0x1EDC_6F41;

/// There is one only where the machine has the instructions.
#[derive(Debug)]
pub(super) struct Fold512(());

impl Fold512 {
    /// It, for so many bytes, if it is worth while and this machine can run it.
    pub(super) fn detect_for(len_bytes: usize) -> Option<&'static Self> {
        static DETECTED: OnceLock<Option<Fold512>> = OnceLock::new();
        if len_bytes < LEN_BYTES_MIN {
            return None;
        }
        let detect = || {
            let can = !is_off(CRC_FOLD512)
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("vpclmulqdq")
                && is_x86_feature_detected!("sse4.2");
            can.then_some(Self(()))
        };
        DETECTED.get_or_init(detect).as_ref()
    }

    /// CRC32C of the bytes that gave `crc32c`, followed by `bytes`.
    pub(super) fn append(&self, crc32c: u32, bytes: &[u8]) -> u32 {
        // SAFETY: there is a `Fold512` only where `detect_for` has found the instructions.
        !unsafe { fold(!crc32c, bytes) }
    }
}

/// `x^exponent` modulo the polynomial, as the instruction takes it: bits reflected, one place up.
const fn power(exponent: u32) -> i64 {
    let (mut remainder, mut count) = (1u32, 0);
    while count < exponent {
        let carry = remainder >> 31;
        remainder = (remainder << 1) ^ (POLYNOMIAL * carry);
        count += 1;
    }
    (remainder.reverse_bits() as i64) << 1
}

/// What the low and the high half of a lane are multiplied by so that it moves on by so many bytes.
const fn distance(bytes: usize) -> [i64; 2] {
    let bits = 8 * bytes as u32;
    [power(bits + 32), power(bits - 32)]
}

const BY_STEP: [i64; 2] = distance(STEP_LEN_BYTES);
const BY_VECTORS: [[i64; 2]; RUNNING - 1] =
    [distance(3 * VECTOR_LEN_BYTES), distance(2 * VECTOR_LEN_BYTES), distance(VECTOR_LEN_BYTES)];
const BY_LANES: [[i64; 2]; 3] = [distance(48), distance(32), distance(16)];

/// `state` and what is returned are complements of CRCs.
#[target_feature(enable = "avx512f,vpclmulqdq,sse4.2")]
fn fold(state: u32, bytes: &[u8]) -> u32 {
    let (steps, rest) = bytes.as_chunks::<STEP_LEN_BYTES>();
    let (first, steps) = steps.split_first().expect("there are bytes for two steps");
    let mut running = load(first);
    // What came before is added to the first four bytes.
    let before = _mm512_zextsi128_si512(_mm_cvtsi32_si128(state.cast_signed()));
    running[0] = _mm512_xor_si512(running[0], before);
    let by_step = each_lane(BY_STEP);
    for step in steps {
        for (vector, next) in running.iter_mut().zip(load(step)) {
            *vector = move_on(*vector, by_step, next);
        }
    }
    let [mut sum, second, third, last] = running;
    sum = move_on(sum, each_lane(BY_VECTORS[0]), last);
    sum = move_on(second, each_lane(BY_VECTORS[1]), sum);
    sum = move_on(third, each_lane(BY_VECTORS[2]), sum);
    let [[a, b], [c, d], [e, f]] = BY_LANES;
    // The last lane stays where it is; the product with zero leaves nothing of it, so it is added behind.
    let lanes = move_on(sum, _mm512_set_epi64(0, 0, f, e, d, c, b, a), _mm512_zextsi128_si512(zero()));
    let lane = _mm_xor_si128(
        _mm_xor_si128(_mm512_extracti32x4_epi32::<0>(lanes), _mm512_extracti32x4_epi32::<1>(lanes)),
        _mm_xor_si128(_mm512_extracti32x4_epi32::<2>(lanes), _mm512_extracti32x4_epi32::<3>(sum)),
    );
    let low = _mm_cvtsi128_si64(lane).cast_unsigned();
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(lane, lane)).cast_unsigned();
    let mut state = _mm_crc32_u64(_mm_crc32_u64(0, low), high);
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        state = _mm_crc32_u64(state, u64::from_le_bytes(*word));
    }
    rest.iter().fold(state as u32, |state, &byte| _mm_crc32_u8(state, byte))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn zero() -> __m128i {
    _mm_cvtsi32_si128(0)
}

/// The vectors of a step.
#[target_feature(enable = "avx512f")]
#[inline]
fn load(step: &[u8; STEP_LEN_BYTES]) -> [__m512i; RUNNING] {
    let (vectors, _) = step.as_chunks::<VECTOR_LEN_BYTES>();
    // SAFETY: a chunk has as many bytes as a vector; no alignment is asked for.
    let load = |index: usize| unsafe { _mm512_loadu_si512(vectors[index].as_ptr().cast()) };
    [load(0), load(1), load(2), load(3)]
}

/// The same two factors for each lane.
#[target_feature(enable = "avx512f")]
#[inline]
fn each_lane([low, high]: [i64; 2]) -> __m512i {
    _mm512_set_epi64(high, low, high, low, high, low, high, low)
}

/// The vector moved on to where `next` is, added to it.
#[target_feature(enable = "avx512f,vpclmulqdq")]
#[inline]
fn move_on(vector: __m512i, factors: __m512i, next: __m512i) -> __m512i {
    let low = _mm512_clmulepi64_epi128::<0x00>(vector, factors);
    let high = _mm512_clmulepi64_epi128::<0x11>(vector, factors);
    _mm512_ternarylogic_epi64::<0x96>(low, high, next)
}
