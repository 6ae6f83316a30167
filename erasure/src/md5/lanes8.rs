//! Eight messages in the lanes of AVX2.
#![expect(unsafe_code, reason = "words are read by pointers, with instructions that not every machine has")]

use super::rounds::{self, Words};
use super::{Block, Side, State};
use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256, _mm256_set1_epi32,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_xor_si256,
};

const LANES: usize = 8;

/// There is one only where the machine has the instructions.
pub(super) struct Lanes8(());

impl Lanes8 {
    /// It, if this machine can run it.
    pub(super) fn detect() -> Option<&'static Self> {
        static DETECTED: Lanes8 = Lanes8(());
        is_x86_feature_detected!("avx2").then_some(&DETECTED)
    }
}

impl Side for Lanes8 {
    fn lanes(&self) -> usize {
        LANES
    }

    fn compress(&self, states: &mut [State], blocks: &[&[Block]]) {
        let states = states.as_mut_array().expect("a state for each lane");
        let blocks = blocks.as_array().expect("blocks for each lane");
        // SAFETY: a `Lanes8` is handed out only by `detect`, where it found AVX2.
        unsafe { compress(states, blocks) }
    }
}

/// A word of each of eight messages. Only the functions here make one, and they have the instructions.
#[derive(Clone, Copy)]
struct Ymm(__m256i);

#[target_feature(enable = "avx2")]
fn compress(states: &mut [State; LANES], blocks: &[&[Block]; LANES]) {
    let mut columns = [[0u32; LANES]; 4];
    for (lane, state) in states.iter().enumerate() {
        for (column, word) in columns.iter_mut().zip(state) {
            column[lane] = *word;
        }
    }
    // SAFETY: a column has as many bytes as a vector; no alignment is asked for.
    let load = |column: &[u32; LANES]| Ymm(unsafe { _mm256_loadu_si256(column.as_ptr().cast()) });
    let mut state = [load(&columns[0]), load(&columns[1]), load(&columns[2]), load(&columns[3])];
    let constants = rounds::constants();
    for place in 0..blocks[0].len() {
        // By way of memory: there are few enough lanes for that.
        let mut words = [[0u32; LANES]; 16];
        for (lane, blocks) in blocks.iter().enumerate() {
            for (column, word) in words.iter_mut().zip(blocks[place].as_chunks::<4>().0) {
                column[lane] = u32::from_le_bytes(*word);
            }
        }
        let mut columns = [state[0]; 16];
        for (column, words) in columns.iter_mut().zip(&words) {
            *column = load(words);
        }
        state = rounds::block(state, &columns, constants);
    }
    for (column, words) in columns.iter_mut().zip(state) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(column.as_mut_ptr().cast(), words.0) };
    }
    for (lane, state) in states.iter_mut().enumerate() {
        *state = [columns[0][lane], columns[1][lane], columns[2][lane], columns[3][lane]];
    }
}

impl Words for Ymm {
    #[inline(always)]
    fn each(self, word: u32) -> Self {
        // SAFETY: see `Ymm`.
        Self(unsafe { _mm256_set1_epi32(word.cast_signed()) })
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: see `Ymm`.
        Self(unsafe { _mm256_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn rotated_left<const BITS: i32, const BITS_BACK: i32>(self) -> Self {
        // SAFETY: see `Ymm`.
        unsafe {
            let (left, right) = (_mm256_slli_epi32::<BITS>(self.0), _mm256_srli_epi32::<BITS_BACK>(self.0));
            Self(_mm256_or_si256(left, right))
        }
    }

    #[inline(always)]
    fn chosen(self, b: Self, c: Self) -> Self {
        // SAFETY: see `Ymm`.
        Self(unsafe { _mm256_xor_si256(c.0, _mm256_and_si256(self.0, _mm256_xor_si256(b.0, c.0))) })
    }

    #[inline(always)]
    fn xor_three(self, b: Self, c: Self) -> Self {
        // SAFETY: see `Ymm`.
        Self(unsafe { _mm256_xor_si256(self.0, _mm256_xor_si256(b.0, c.0)) })
    }

    #[inline(always)]
    fn or_not_xor(self, b: Self, c: Self) -> Self {
        // SAFETY: see `Ymm`.
        unsafe {
            let not = _mm256_xor_si256(c.0, _mm256_set1_epi32(-1));
            Self(_mm256_xor_si256(b.0, _mm256_or_si256(self.0, not)))
        }
    }
}
