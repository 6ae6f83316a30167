//! The seam to the hot loop: multiply a prepared matrix with slices of bytes.
//!
//! Every operation of the codec is the same sum, `output[row][p] = Σ matrix[row][column] * input[column][p]`
//! for each position `p`: encoding, decoding, partial sums; verification compares instead of storing.
//! A kernel is one way to compute it on one kind of machine; all kernels give the same bytes.
//!
//! The trait is shaped by what an instruction-set kernel needs:
//! - **Several outputs at a time.** It gets all inputs and all outputs in one call, so it can keep a
//!   group of outputs in registers and read each input once per group. How large a group is (a
//!   const generic inside the kernel) is its own affair.
//! - **Tables of its own.** [`Kernel::tables`] runs once per matrix and may lay out anything it wants
//!   in 64-bit words: bit matrices for an affine instruction, pairs of 16-entry tables for a byte
//!   shuffle. Tables travel with the engine that made them, so no kernel ever sees another's.
//! - **Parts of the matrix.** [`Operands`] selects rows (parity that a zone holds) and columns
//!   (sources that a zone holds) of one prepared matrix. A kernel that wants its tables dense
//!   gathers them once at entry; there are at most
//!   [`COEFFICIENT_COUNT_MAX`](crate::limits::COEFFICIENT_COUNT_MAX).
//! - **Accumulate** ([`Write::Add`]), and **verify without stores**.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lanes;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vectors;

#[cfg(target_arch = "x86_64")]
mod affine;
#[cfg(target_arch = "x86_64")]
mod gfni256;
#[cfg(target_arch = "x86_64")]
mod gfni512;
mod naive;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod nibbles;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod shuffle256;
#[cfg(target_arch = "x86_64")]
mod ymm;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub use gfni256::Gfni256;
#[cfg(target_arch = "x86_64")]
pub use gfni512::Gfni512;
pub use naive::Naive;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub use shuffle256::Shuffle256;

use crate::matrix::Matrix;
use std::fmt;

/// What happens to the bytes already in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// They are overwritten.
    Replace,
    /// They are overwritten by a caller who knows that nothing of this is in the caches, nor wanted there. Only how fast it is differs from [`Write::Replace`], which
    /// does the same by itself where a stripe is longer than a cache.
    Stream,
    /// The sum is added to (XORed onto) them.
    Add,
}

/// One way to compute sums of products. See the [module](self) for why it is shaped so.
pub trait Kernel: fmt::Debug + Send + Sync {
    /// Short name for logs, metrics and benchmarks.
    fn name(&self) -> &'static str;

    /// Tables for `matrix`, in this kernel's own layout. [`Operands::tables`] hands them back.
    fn tables(&self, matrix: &Matrix) -> Box<[u64]>;

    /// Computes one output for each selected row.
    ///
    /// # Panics
    /// Unless there is one output of [`Operands::len_bytes`] for each of [`Operands::rows`].
    fn multiply(&self, operands: &Operands<'_>, outputs: &mut [&mut [u8]], write: Write);

    /// Whether `expected` is what [`Kernel::multiply`] would write. Stores nothing, may stop early.
    ///
    /// # Panics
    /// Unless there is one slice of [`Operands::len_bytes`] for each of [`Operands::rows`].
    fn verify(&self, operands: &Operands<'_>, expected: &[&[u8]]) -> bool;
}

/// The right-hand side of one call: parts of a prepared matrix, and the inputs.
///
/// Its constructor checks that everything fits, and is not public: a kernel may rely on
/// the relations stated at each accessor.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    tables: &'a [u64],
    column_count: usize,
    rows: &'a [u8],
    columns: &'a [u8],
    inputs: &'a [&'a [u8]],
    len_bytes: usize,
}

impl<'a> Operands<'a> {
    /// `inputs[i]` belongs to column `columns[i]`.
    ///
    /// # Panics
    /// If a selected row or column lies outside the matrix (`row_count` by `column_count`), or an
    /// input has another length. The operations of the codec have checked this for their callers.
    pub(crate) fn new(
        tables: &'a [u64],
        (row_count, column_count): (usize, usize),
        (rows, columns): (&'a [u8], &'a [u8]),
        inputs: &'a [&'a [u8]],
        len_bytes: usize,
    ) -> Self {
        assert!(rows.iter().all(|&row| usize::from(row) < row_count), "row outside the matrix");
        assert!(
            columns.iter().all(|&column| usize::from(column) < column_count),
            "column outside the matrix"
        );
        assert_eq!(columns.len(), inputs.len(), "one column for each input");
        assert!(inputs.iter().all(|input| input.len() == len_bytes), "inputs of one length");
        Self { tables, column_count, rows, columns, inputs, len_bytes }
    }

    /// What this kernel's [`Kernel::tables`] returned for the whole matrix.
    pub fn tables(&self) -> &'a [u64] {
        self.tables
    }

    /// Columns of the whole matrix.
    pub fn column_count(&self) -> usize {
        self.column_count
    }

    /// The selected rows, one for each output; each below the matrix's row count.
    pub fn rows(&self) -> &'a [u8] {
        self.rows
    }

    /// The selected columns, one for each input; each below [`Operands::column_count`].
    pub fn columns(&self) -> &'a [u8] {
        self.columns
    }

    /// The inputs, each of [`Operands::len_bytes`]. There may be none: an empty sum is zero.
    pub fn inputs(&self) -> &'a [&'a [u8]] {
        self.inputs
    }

    /// Length of every input and every output.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Panics unless the outputs of a call (given by their lengths) fit these operands.
    pub fn assert_outputs(&self, mut lens_bytes: impl ExactSizeIterator<Item = usize>) {
        assert_eq!(lens_bytes.len(), self.rows.len(), "one output for each selected row");
        assert!(lens_bytes.all(|len_bytes| len_bytes == self.len_bytes), "outputs as long as inputs");
    }
}
