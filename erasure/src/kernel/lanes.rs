//! The loop that all kernels with vector instructions share, written over [`Lanes`]: what one instruction set does with one vector.
//!
//! Outputs are made a *group* at a time, their sums in registers, so that an input is read once for a group. Of each input two neighbouring vectors are taken, so that
//! a multiplier that was fetched serves twice; inputs go in pairs, for one instruction adds three vectors on the machines that matter. Where the first row and the
//! first column of a group hold nothing but ones, as those of a normalised Cauchy matrix do, they are added without a product: of `k * m` products `(k - 1) * (m - 1)`
//! are left. What does not fill a vector at the end of a shard is read and written in part.
//!
//! Outputs of a stripe that does not fit the caches, or of which the caller says that nothing is in them, are written past them: else each of their lines would be read
//! before it is written. For stripes that fit this costs up to half of the speed. Inputs are left to the hardware's prefetching; fetching them ahead as well made it slower by up to a
//! half, for shards begin at pages and share the sets of the first-level cache.
//!
//! Everything here is `inline(always)` and has no instructions of its own: it becomes part of a function of a kernel's file, which has been reached through detection.
#![expect(unsafe_code, reason = "vectors are read and written by pointers")]

use super::{Operands, Write};
use crate::limits::SHARD_COUNT_MAX;
use std::array;

/// Stripes from this length on are streamed: more than a core's share of the last cache of the machines this is for. Below, what is streamed would have been written
/// sooner into a cache (RS(3, 3) at 6 MiB: 0.6 times the speed).
const STREAM_FROM_BYTES: usize = 12 << 20;
/// Where more inputs are read at once, streaming costs more than it saves: shards begin at pages, so each has its next line in the same set of the first-level
/// cache, which has 8 or 12 places (RS(17, 3): half of the speed; RS(10, 4) still gains).
const STREAM_INPUTS_MAX: usize = 12;
/// Bytes of a cache line.
const LINE_BYTES: usize = 64;
/// Words in which the multipliers of a group are gathered where they do not stand side by side: those of the largest group of any kernel.
pub(super) const GATHERED_WORDS_MAX: usize = SHARD_COUNT_MAX * 16;

/// One instruction set, on one vector.
///
/// # Safety
/// Of who implements it: no function reads or writes more than [`Lanes::LEN_BYTES`] bytes, or `count` of them where it takes a part, or [`Lanes::WORDS`] words.
///
/// Of who calls any of its functions: the machine has the instructions; and where a pointer is taken, so many bytes are there. No alignment is asked for except by
/// [`Lanes::stream`].
pub(super) unsafe trait Lanes {
    /// Some bytes, side by side.
    type Vector: Copy;
    /// A vector as it is multiplied.
    type Factor: Copy;
    /// A coefficient as vectors are multiplied with it.
    type Multiplier: Copy;

    /// Bytes of a vector.
    const LEN_BYTES: usize;
    /// Words of a coefficient in the tables.
    const WORDS: usize;
    /// The words of the coefficient one.
    const ONE: &'static [u64];

    unsafe fn zero() -> Self::Vector;
    unsafe fn load(from: *const u8) -> Self::Vector;
    /// The first `count` bytes, fewer than a vector has; the others are zero.
    unsafe fn load_part(from: *const u8, count: usize) -> Self::Vector;
    unsafe fn store(to: *mut u8, vector: Self::Vector);
    /// The first `count` bytes, fewer than a vector has.
    unsafe fn store_part(to: *mut u8, count: usize, vector: Self::Vector);
    /// Past the caches, to an address that is a multiple of the vector's length.
    unsafe fn stream(to: *mut u8, vector: Self::Vector);
    /// What was streamed is seen by others before what is written later.
    unsafe fn fence();
    unsafe fn factor(vector: Self::Vector) -> Self::Factor;
    unsafe fn vector(factor: Self::Factor) -> Self::Vector;
    unsafe fn multiplier(words: *const u64) -> Self::Multiplier;
    unsafe fn product(factor: Self::Factor, multiplier: Self::Multiplier) -> Self::Vector;
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn add_three(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `wrong`, or where `a` and `b` differ.
    unsafe fn differ(wrong: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn is_zero(vector: Self::Vector) -> bool;
}

/// Words of one coefficient after another, in the order of the matrix's columns, within a column of its rows: the outputs of a group have theirs side by side.
pub(super) fn tables<const WORDS: usize>(
    (row_count, column_count): (usize, usize),
    words_of: impl Fn(usize, usize) -> [u64; WORDS],
) -> Box<[u64]> {
    let cells = (0..column_count).flat_map(|column| (0..row_count).map(move |row| (row, column)));
    cells.flat_map(|(row, column)| words_of(row, column)).collect()
}

/// Some outputs of a call and what they are made of.
pub(super) struct Group<'a> {
    inputs: &'a [&'a [u8]],
    len_bytes: usize,
    /// Multipliers: those of input `i` begin at `i * stride`.
    words: &'a [u64],
    stride: usize,
    /// The first input and the first output have ones only.
    is_normalised: bool,
    /// A stripe so long is written past the caches unasked.
    is_long: bool,
}

/// Has `work` done with the group that makes `rows` of these operands.
pub(super) fn with_group<L: Lanes, T>(
    operands: &Operands<'_>,
    rows: &[u8],
    work: impl FnOnce(&Group<'_>) -> T,
) -> T {
    let columns = operands.columns();
    match (rows, columns) {
        ([row, ..], [column, ..]) if follow(rows) && follow(columns) => {
            let stride = row_count::<L>(operands) * L::WORDS;
            let first = usize::from(*column) * stride + usize::from(*row) * L::WORDS;
            work(&Group::new::<L>(operands, rows, &operands.tables()[first..], stride))
        }
        _ => gathered::<L, T>(operands, rows, work),
    }
}

/// The same where multipliers do not stand as they are needed: they are copied first.
#[inline(never)]
fn gathered<L: Lanes, T>(operands: &Operands<'_>, rows: &[u8], work: impl FnOnce(&Group<'_>) -> T) -> T {
    let mut words = [0; GATHERED_WORDS_MAX];
    let stride = rows.len() * L::WORDS;
    let of_column = row_count::<L>(operands) * L::WORDS;
    for (of_input, &column) in words.chunks_exact_mut(stride.max(1)).zip(operands.columns()) {
        for (cell, &row) in of_input.chunks_exact_mut(L::WORDS).zip(rows) {
            let first = usize::from(column) * of_column + usize::from(row) * L::WORDS;
            cell.copy_from_slice(&operands.tables()[first..first + L::WORDS]);
        }
    }
    work(&Group::new::<L>(operands, rows, &words, stride))
}

fn row_count<L: Lanes>(operands: &Operands<'_>) -> usize {
    operands.tables().len() / (operands.column_count() * L::WORDS).max(1)
}

/// Splits `count` outputs into groups of at most `max`, as equal as can be.
pub(super) fn group_len(count: usize, max: usize) -> usize {
    count.div_ceil(count.div_ceil(max).max(1)).max(1)
}

impl<'a> Group<'a> {
    fn new<L: Lanes>(operands: &Operands<'a>, rows: &[u8], words: &'a [u64], stride: usize) -> Self {
        let (column_count, len_bytes) = (operands.columns().len(), operands.len_bytes());
        let is_one = |first: usize| words[first..first + L::WORDS] == *L::ONE;
        let is_normalised = column_count > 0
            && (0..rows.len()).all(|row| is_one(row * L::WORDS))
            && (0..column_count).all(|column| is_one(column * stride));
        let touched_bytes = len_bytes * (column_count + operands.rows().len());
        let is_long = touched_bytes >= STREAM_FROM_BYTES;
        Self { inputs: operands.inputs(), len_bytes, words, stride, is_normalised, is_long }
    }

    /// What [`multiply`] and [`verify`] rely on.
    fn assert_group<L: Lanes, const N: usize>(&self) {
        let last = self.inputs.len().checked_sub(1);
        assert!(last.is_none_or(|last| last * self.stride + N * L::WORDS <= self.words.len()));
        assert!(!self.is_normalised || !self.inputs.is_empty());
    }
}

/// Whether each is one more than the one before.
fn follow(indices: &[u8]) -> bool {
    indices.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

/// Bytes that are worked on at once: those of `V` whole vectors, or fewer than one vector has.
#[derive(Clone, Copy)]
struct Span {
    position: usize,
    len_bytes: usize,
}

/// Makes the `N` outputs of a group.
///
/// # Safety
/// The machine has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn multiply<L: Lanes, const N: usize>(
    group: &Group<'_>,
    outputs: &mut [&mut [u8]],
    write: Write,
) {
    assert!(outputs.len() == N && outputs.iter().all(|output| output.len() == group.len_bytes));
    let mut starts: [*mut u8; N] = array::from_fn(|index| outputs[index].as_mut_ptr());
    let is_aligned = starts.iter().all(|start| start.align_offset(L::LEN_BYTES.max(LINE_BYTES)) == 0);
    let may_stream = is_aligned && group.inputs.len() <= STREAM_INPUTS_MAX;
    let writing = match write {
        Write::Add => Writing::Add,
        Write::Stream if may_stream => Writing::Stream,
        Write::Replace if may_stream && group.is_long => Writing::Stream,
        Write::Replace | Write::Stream => Writing::Replace,
    };
    // SAFETY: the caller's; and `starts` are those of `N` outputs as long as the group.
    unsafe {
        match group.is_normalised {
            true => multiply_all::<L, N, true>(group, &mut starts, writing),
            false => multiply_all::<L, N, false>(group, &mut starts, writing),
        }
    }
}

/// How sums come into outputs.
#[derive(Clone, Copy, PartialEq)]
enum Writing {
    Replace,
    Add,
    Stream,
}

/// # Safety
/// As of [`multiply`]; behind each of `outputs` as many bytes may be written as the group is long, and nobody else has them.
#[inline(always)]
unsafe fn multiply_all<L: Lanes, const N: usize, const NORMALISED: bool>(
    group: &Group<'_>,
    outputs: &mut [*mut u8; N],
    writing: Writing,
) {
    group.assert_group::<L, N>();
    let mut span = Span { position: 0, len_bytes: 2 * L::LEN_BYTES };
    // SAFETY: the caller's; spans end before the group does.
    unsafe {
        while span.position + 2 * L::LEN_BYTES <= group.len_bytes {
            multiply_span::<L, N, 2, NORMALISED>(group, outputs, span, writing);
            span.position += 2 * L::LEN_BYTES;
        }
        while span.position < group.len_bytes {
            span.len_bytes = L::LEN_BYTES.min(group.len_bytes - span.position);
            // What is left of a vector is not streamed.
            let writing = if writing == Writing::Stream { Writing::Replace } else { writing };
            multiply_span::<L, N, 1, NORMALISED>(group, outputs, span, writing);
            span.position += span.len_bytes;
        }
        if writing == Writing::Stream {
            L::fence();
        }
    }
}

/// # Safety
/// As of [`multiply_all`]; the span is that of `V` vectors, or of a part of one, within the group.
#[inline(always)]
unsafe fn multiply_span<L: Lanes, const N: usize, const V: usize, const NORMALISED: bool>(
    group: &Group<'_>,
    outputs: &[*mut u8; N],
    span: Span,
    writing: Writing,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = sums::<L, N, V, NORMALISED>(group, span);
        for index in 0..N {
            let to = outputs[index].add(span.position);
            if writing == Writing::Add {
                let before = load::<L, V>(to, span);
                for (sum, before) in sums[index].iter_mut().zip(before) {
                    *sum = L::add(*sum, before);
                }
            }
            for (vector, &sum) in sums[index].iter().enumerate() {
                let to = to.add(vector * L::LEN_BYTES);
                if span.len_bytes < V * L::LEN_BYTES {
                    L::store_part(to, span.len_bytes, sum);
                } else if writing == Writing::Stream {
                    L::stream(to, sum);
                } else {
                    L::store(to, sum);
                }
            }
        }
    }
}

/// Whether the `N` slices are what [`multiply`] would write.
///
/// # Safety
/// The machine has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn verify<L: Lanes, const N: usize>(group: &Group<'_>, expected: &[&[u8]]) -> bool {
    assert!(expected.len() == N && expected.iter().all(|bytes| bytes.len() == group.len_bytes));
    let starts: [*const u8; N] = array::from_fn(|index| expected[index].as_ptr());
    // SAFETY: the caller's; and `starts` are those of `N` slices as long as the group.
    unsafe {
        match group.is_normalised {
            true => verify_all::<L, N, true>(group, &starts),
            false => verify_all::<L, N, false>(group, &starts),
        }
    }
}

/// # Safety
/// As of [`verify`]; behind each of `expected` as many bytes may be read as the group is long.
#[inline(always)]
unsafe fn verify_all<L: Lanes, const N: usize, const NORMALISED: bool>(
    group: &Group<'_>,
    expected: &[*const u8; N],
) -> bool {
    group.assert_group::<L, N>();
    let mut span = Span { position: 0, len_bytes: 2 * L::LEN_BYTES };
    // SAFETY: the caller's; spans end before the group does.
    unsafe {
        while span.position + 2 * L::LEN_BYTES <= group.len_bytes {
            if !verify_span::<L, N, 2, NORMALISED>(group, expected, span) {
                return false;
            }
            span.position += 2 * L::LEN_BYTES;
        }
        while span.position < group.len_bytes {
            span.len_bytes = L::LEN_BYTES.min(group.len_bytes - span.position);
            if !verify_span::<L, N, 1, NORMALISED>(group, expected, span) {
                return false;
            }
            span.position += span.len_bytes;
        }
    }
    true
}

/// # Safety
/// As of [`verify_all`]; the span is that of `V` vectors, or of a part of one, within the group.
#[inline(always)]
unsafe fn verify_span<L: Lanes, const N: usize, const V: usize, const NORMALISED: bool>(
    group: &Group<'_>,
    expected: &[*const u8; N],
    span: Span,
) -> bool {
    // SAFETY: the caller's.
    unsafe {
        let sums = sums::<L, N, V, NORMALISED>(group, span);
        let mut wrong = L::zero();
        for index in 0..N {
            // Behind the end sums and what is loaded are both zero.
            let bytes = load::<L, V>(expected[index].add(span.position), span);
            for vector in 0..V {
                wrong = L::differ(wrong, sums[index][vector], bytes[vector]);
            }
        }
        L::is_zero(wrong)
    }
}

/// The sums of a group for one span.
///
/// # Safety
/// As of [`multiply_span`].
#[inline(always)]
unsafe fn sums<L: Lanes, const N: usize, const V: usize, const NORMALISED: bool>(
    group: &Group<'_>,
    span: Span,
) -> [[L::Vector; V]; N] {
    // SAFETY: the caller's; an input is as long as the group, and each has words for `N` outputs, which `assert_group` has seen.
    unsafe {
        let count = group.inputs.len();
        let input = |index: usize| group.inputs.get_unchecked(index).as_ptr().add(span.position);
        // Behind the last input it may point beyond the words, which is why it only wraps.
        let mut words = group.words.as_ptr();
        let (mut sums, mut index) = ([[L::zero(); V]; N], 0);
        if NORMALISED {
            sums = [load::<L, V>(input(0), span); N];
            (words, index) = (words.wrapping_add(group.stride), 1);
        }
        while index + 1 < count {
            let (a, b) = (load::<L, V>(input(index), span), load::<L, V>(input(index + 1), span));
            let (a, b) = (factors::<L, V>(a), factors::<L, V>(b));
            for output in 0..N {
                if NORMALISED && output == 0 {
                    for v in 0..V {
                        sums[0][v] = L::add_three(sums[0][v], L::vector(a[v]), L::vector(b[v]));
                    }
                    continue;
                }
                let by_a = L::multiplier(words.add(output * L::WORDS));
                let by_b = L::multiplier(words.add(group.stride + output * L::WORDS));
                for v in 0..V {
                    let (a, b) = (L::product(a[v], by_a), L::product(b[v], by_b));
                    sums[output][v] = L::add_three(sums[output][v], a, b);
                }
            }
            (words, index) = (words.wrapping_add(2 * group.stride), index + 2);
        }
        if index < count {
            let a = factors::<L, V>(load::<L, V>(input(index), span));
            for output in 0..N {
                if NORMALISED && output == 0 {
                    for v in 0..V {
                        sums[0][v] = L::add(sums[0][v], L::vector(a[v]));
                    }
                    continue;
                }
                let by_a = L::multiplier(words.add(output * L::WORDS));
                for v in 0..V {
                    sums[output][v] = L::add(sums[output][v], L::product(a[v], by_a));
                }
            }
        }
        sums
    }
}

/// # Safety
/// The machine has the instructions of `L`.
#[inline(always)]
unsafe fn factors<L: Lanes, const V: usize>(vectors: [L::Vector; V]) -> [L::Factor; V] {
    // SAFETY: the caller's.
    unsafe {
        let mut factors = [L::factor(vectors[0]); V];
        for v in 1..V {
            factors[v] = L::factor(vectors[v]);
        }
        factors
    }
}

/// # Safety
/// The machine has the instructions of `L`; from `bytes` on as many may be read as the span is long.
#[inline(always)]
unsafe fn load<L: Lanes, const V: usize>(bytes: *const u8, span: Span) -> [L::Vector; V] {
    // SAFETY: the caller's.
    unsafe {
        let mut vectors = [L::zero(); V];
        for (index, vector) in vectors.iter_mut().enumerate() {
            *vector = if span.len_bytes < V * L::LEN_BYTES {
                L::load_part(bytes, span.len_bytes)
            } else {
                L::load(bytes.add(index * L::LEN_BYTES))
            };
        }
        vectors
    }
}
