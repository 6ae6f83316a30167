//! The definition, written down: the oracle that every other kernel is compared with.

use super::{Kernel, Operands, Write};
use crate::field;
use crate::matrix::Matrix;

/// One field multiplication per coefficient and byte. For tests and doubts, about a hundred times too slow.
#[derive(Clone, Copy, Debug)]
pub struct Naive;

impl Kernel for Naive {
    fn name(&self) -> &'static str {
        "naive"
    }

    /// The coefficients themselves, row by row, one a word.
    fn tables(&self, matrix: &Matrix) -> Box<[u64]> {
        (0..matrix.row_count()).flat_map(|row| matrix.row(row)).map(|&cell| u64::from(cell)).collect()
    }

    fn multiply(&self, operands: &Operands<'_>, outputs: &mut [&mut [u8]], write: Write) {
        operands.assert_outputs(outputs.iter().map(|output| output.len()));
        for (&row, output) in operands.rows().iter().zip(outputs) {
            for (position, byte) in output.iter_mut().enumerate() {
                let sum = sum_at(operands, row, position);
                *byte = match write {
                    Write::Replace | Write::Stream => sum,
                    Write::Add => field::add(*byte, sum),
                };
            }
        }
    }

    fn verify(&self, operands: &Operands<'_>, expected: &[&[u8]]) -> bool {
        operands.assert_outputs(expected.iter().map(|bytes| bytes.len()));
        operands.rows().iter().zip(expected).all(|(&row, bytes)| {
            bytes.iter().enumerate().all(|(position, &byte)| byte == sum_at(operands, row, position))
        })
    }
}

fn sum_at(operands: &Operands<'_>, row: u8, position: usize) -> u8 {
    let coefficients = &operands.tables()[usize::from(row) * operands.column_count()..];
    operands.columns().iter().zip(operands.inputs()).fold(0, |sum, (&column, input)| {
        let coefficient = u8::try_from(coefficients[usize::from(column)]).expect("tables hold bytes");
        field::add(sum, field::mul(coefficient, input[position]))
    })
}
