//! The portable kernel: table look-ups that make up to eight products at once.
//!
//! For each input there is a table of 256 words; word `b` holds `b` times the coefficient of eight
//! rows, one product a byte. So one load and one XOR per input byte serve eight outputs, and the
//! cost of a code depends on `k`, hardly on `m`. The usual table per coefficient needs a look-up per
//! input byte *and output*: a third of the speed at six outputs. Two tables of 16 entries
//! pay off only with a byte shuffle, which needs an instruction-set kernel.
//!
//! A table takes 2 KiB: those of RS(10, 4) stay in the first-level cache.

use super::{Kernel, Operands, Write};
use crate::field;
use crate::matrix::Matrix;
use std::ops::ControlFlow;

/// Rows whose products share a word.
const LANE_COUNT: usize = 8;

/// Positions summed before anything is written. Shorter blocks touch each line of a shard more often:
/// with many shards at equal offsets the lines have been evicted in between (16 bytes: a fifth slower on
/// 1 MiB shards than on 4 KiB). Longer ones no longer keep their sums near at hand.
const BLOCK_LEN_BYTES: usize = 32;

/// Look-up tables in portable Rust, a word at a time.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

type Table = [u64; 256];

/// Which byte of a word belongs to which output: the part of a group of rows that a call selects.
struct Lanes {
    /// (bits to shift the word right by, place of the output)
    shifts: [(u32, usize); LANE_COUNT],
    count: usize,
}

impl Kernel for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    /// One table for each group of eight rows and each column, group by group.
    fn tables(&self, matrix: &Matrix) -> Box<[u64]> {
        let mut tables = Vec::new();
        for row_first in (0..matrix.row_count()).step_by(LANE_COUNT) {
            let rows = row_first..matrix.row_count().min(row_first + LANE_COUNT);
            for column in 0..matrix.column_count() {
                let mut table: Table = [0; 256];
                // Products are linear: those of the eight bits give all others by addition.
                for bit in 0..8 {
                    let power = 1usize << bit;
                    let word = rows.clone().rev().fold(0, |word, row| {
                        word << 8 | u64::from(field::mul(matrix.at(row, column), power as u8))
                    });
                    for below in 0..power {
                        table[power | below] = table[below] ^ word;
                    }
                }
                tables.extend_from_slice(&table);
            }
        }
        tables.into_boxed_slice()
    }

    fn multiply(&self, operands: &Operands<'_>, outputs: &mut [&mut [u8]], write: Write) {
        operands.assert_outputs(outputs.iter().map(|output| output.len()));
        let finished = for_each_block(operands, |lanes, position, sums| {
            for &(shift, output) in &lanes.shifts[..lanes.count] {
                let bytes = &mut outputs[output][position..position + sums.len()];
                match write {
                    Write::Replace | Write::Stream => {
                        for (byte, sum) in bytes.iter_mut().zip(sums) {
                            *byte = (sum >> shift) as u8;
                        }
                    }
                    Write::Add => {
                        for (byte, sum) in bytes.iter_mut().zip(sums) {
                            *byte ^= (sum >> shift) as u8;
                        }
                    }
                }
            }
            ControlFlow::Continue(())
        });
        assert!(finished.is_continue());
    }

    fn verify(&self, operands: &Operands<'_>, expected: &[&[u8]]) -> bool {
        operands.assert_outputs(expected.iter().map(|bytes| bytes.len()));
        for_each_block(operands, |lanes, position, sums| {
            let agrees = lanes.shifts[..lanes.count].iter().all(|&(shift, output)| {
                let bytes = &expected[output][position..position + sums.len()];
                bytes.iter().zip(sums).fold(0, |wrong, (byte, sum)| wrong | byte ^ (sum >> shift) as u8) == 0
            });
            if agrees { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .is_continue()
    }
}

/// Computes the sums of each group of rows block by block and shows them to `visit`, together with
/// their first position, until it has seen enough.
#[inline(always)]
fn for_each_block(
    operands: &Operands<'_>,
    mut visit: impl FnMut(&Lanes, usize, &[u64]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let (tables, rest) = operands.tables().as_chunks::<256>();
    assert!(rest.is_empty(), "tables are whole");
    // A matrix without columns has no tables; its sums are zero, and no input will ask for a table.
    let table_count = operands.column_count().max(1);
    let group_last = operands.rows().iter().max().map(|&row| usize::from(row) / LANE_COUNT);
    for group in 0..group_last.map_or(0, |last| last + 1) {
        let lanes = lanes_of(operands.rows(), group);
        if lanes.count == 0 {
            continue;
        }
        let tables = tables.get(group * table_count..(group + 1) * table_count).unwrap_or(&[]);
        let block_end = operands.len_bytes() - operands.len_bytes() % BLOCK_LEN_BYTES;
        for position in (0..block_end).step_by(BLOCK_LEN_BYTES) {
            visit(&lanes, position, &sums::<BLOCK_LEN_BYTES>(operands, tables, position))?;
        }
        for position in block_end..operands.len_bytes() {
            visit(&lanes, position, &sums::<1>(operands, tables, position))?;
        }
    }
    ControlFlow::Continue(())
}

fn lanes_of(rows: &[u8], group: usize) -> Lanes {
    let mut lanes = Lanes { shifts: [(0, 0); LANE_COUNT], count: 0 };
    for (output, &row) in rows.iter().enumerate() {
        if usize::from(row) / LANE_COUNT == group {
            lanes.shifts[lanes.count] = (u32::from(row) % LANE_COUNT as u32 * 8, output);
            lanes.count += 1;
        }
    }
    lanes
}

/// The sums of one group of rows at `LEN` positions.
#[inline(always)]
fn sums<const LEN: usize>(operands: &Operands<'_>, tables: &[Table], position: usize) -> [u64; LEN] {
    let mut sums = [0; LEN];
    for (&column, input) in operands.columns().iter().zip(operands.inputs()) {
        let table = &tables[usize::from(column)];
        let bytes = input[position..].first_chunk::<LEN>().expect("the caller stops at the last whole block");
        for (sum, &byte) in sums.iter_mut().zip(bytes) {
            *sum ^= table[usize::from(byte)];
        }
    }
    sums
}
