//! Small dense matrices over the field: rows of at most a few dozen coefficients.
//!
//! Inversion is plain Gauss-Jordan. It costs a few microseconds and happens once per loss pattern,
//! because callers keep the [`Plan`](crate::Plan) that comes of it.

use crate::field;

/// A dense matrix, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    row_count: usize,
    column_count: usize,
    cells: Vec<u8>,
}

impl Matrix {
    /// The matrix whose cell at (row, column) is `cell(row, column)`.
    pub fn from_fn(row_count: usize, column_count: usize, mut cell: impl FnMut(usize, usize) -> u8) -> Self {
        let mut cells = Vec::with_capacity(row_count * column_count);
        for row in 0..row_count {
            cells.extend((0..column_count).map(|column| cell(row, column)));
        }
        Self { row_count, column_count, cells }
    }

    /// Ones on the diagonal.
    pub fn identity(size: usize) -> Self {
        Self::from_fn(size, size, |row, column| u8::from(row == column))
    }

    /// How many rows.
    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// How many columns.
    pub fn column_count(&self) -> usize {
        self.column_count
    }

    /// The cell at (`row`, `column`).
    ///
    /// # Panics
    /// Outside the matrix, as a slice does.
    pub fn at(&self, row: usize, column: usize) -> u8 {
        self.row(row)[column]
    }

    /// One row.
    ///
    /// # Panics
    /// Outside the matrix, as a slice does.
    pub fn row(&self, row: usize) -> &[u8] {
        &self.cells[row * self.column_count..(row + 1) * self.column_count]
    }

    /// The rows at `indices`, in that order.
    ///
    /// # Panics
    /// If one lies outside the matrix.
    pub fn select_rows(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let mut cells = Vec::new();
        let mut row_count = 0;
        for index in indices {
            cells.extend_from_slice(self.row(index));
            row_count += 1;
        }
        Self { row_count, column_count: self.column_count, cells }
    }

    /// `self * right`.
    ///
    /// # Panics
    /// Unless `self` has as many columns as `right` has rows.
    pub fn multiply(&self, right: &Self) -> Self {
        assert_eq!(self.column_count, right.row_count, "inner sizes must agree");
        Self::from_fn(self.row_count, right.column_count, |row, column| {
            self.row(row)
                .iter()
                .enumerate()
                .fold(0, |sum, (inner, &cell)| field::add(sum, field::mul(cell, right.at(inner, column))))
        })
    }

    /// The inverse, or nothing if the rows are linearly dependent.
    ///
    /// # Panics
    /// Unless the matrix is square.
    pub fn invert(&self) -> Option<Self> {
        assert_eq!(self.row_count, self.column_count, "only a square matrix can have an inverse");
        let size = self.row_count;
        let mut left = self.clone();
        let mut right = Self::identity(size);
        for pivot in 0..size {
            let row = (pivot..size).find(|&row| left.at(row, pivot) != 0)?;
            left.swap_rows(pivot, row);
            right.swap_rows(pivot, row);
            let scale = field::inverse(left.at(pivot, pivot))?;
            left.scale_row(pivot, scale);
            right.scale_row(pivot, scale);
            for row in (0..size).filter(|&row| row != pivot) {
                let factor = left.at(row, pivot);
                left.add_scaled_row(row, pivot, factor);
                right.add_scaled_row(row, pivot, factor);
            }
        }
        debug_assert_eq!(left, Self::identity(size));
        Some(right)
    }

    fn row_mut(&mut self, row: usize) -> &mut [u8] {
        &mut self.cells[row * self.column_count..(row + 1) * self.column_count]
    }

    fn swap_rows(&mut self, a: usize, b: usize) {
        for column in 0..self.column_count {
            self.cells.swap(a * self.column_count + column, b * self.column_count + column);
        }
    }

    fn scale_row(&mut self, row: usize, factor: u8) {
        for cell in self.row_mut(row) {
            *cell = field::mul(*cell, factor);
        }
    }

    /// `row += factor * source`, where the two rows differ.
    fn add_scaled_row(&mut self, row: usize, source: usize, factor: u8) {
        if factor == 0 {
            return;
        }
        for column in 0..self.column_count {
            let term = field::mul(self.at(source, column), factor);
            let cell = &mut self.row_mut(row)[column];
            *cell = field::add(*cell, term);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Matrix;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        /// A random matrix is invertible 99.6 times in 100, so both outcomes occur.
        #[test]
        fn an_inverse_undoes_the_matrix_from_both_sides(size in 1usize..12, cells in any::<[u8; 144]>()) {
            let matrix = Matrix::from_fn(size, size, |row, column| cells[row * 12 + column]);
            if let Some(inverse) = matrix.invert() {
                prop_assert_eq!(matrix.multiply(&inverse), Matrix::identity(size));
                prop_assert_eq!(inverse.multiply(&matrix), Matrix::identity(size));
                prop_assert_eq!(inverse.invert(), Some(matrix));
            }
        }

        #[test]
        fn dependent_rows_have_no_inverse(size in 2usize..12, cells in any::<[u8; 144]>(), factor in any::<u8>()) {
            let matrix = Matrix::from_fn(size, size, |row, column| {
                if row == size - 1 { crate::field::mul(factor, cells[column]) } else { cells[row * 12 + column] }
            });
            prop_assert_eq!(matrix.invert(), None);
        }
    }

    #[test]
    fn a_zero_on_the_diagonal_is_pivoted_around() {
        let swap = Matrix::from_fn(2, 2, |row, column| u8::from(row != column));
        assert_eq!(swap.invert(), Some(swap.clone()));
    }

    #[test]
    fn rows_are_selected_in_the_order_asked() {
        let matrix = Matrix::from_fn(3, 2, |row, column| (10 * row + column) as u8);
        assert_eq!(
            matrix.select_rows([2, 0]),
            Matrix::from_fn(2, 2, |row, column| [[20, 21], [0, 1]][row][column])
        );
    }
}
