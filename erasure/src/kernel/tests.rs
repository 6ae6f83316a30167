//! Every kernel against the naive one, over shapes, selections, lengths and both ways to write.

use super::Write;
use crate::engine::{Engine, PreparedMatrix};
use crate::matrix::Matrix;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::{Index, select, subsequence};

/// Around the lengths at which a kernel changes from blocks to a tail.
const LENS: [usize; 15] = [0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 255, 300];

#[derive(Clone, Debug)]
struct Case {
    matrix: Matrix,
    rows: Vec<u8>,
    columns: Vec<u8>,
    inputs: Vec<Vec<u8>>,
    before: Vec<Vec<u8>>,
}

fn case() -> impl Strategy<Value = Case> {
    (1usize..32, 1usize..32, select(&LENS[..])).prop_flat_map(|(row_count, column_count, len)| {
        let rows = subsequence((0..row_count as u8).collect::<Vec<_>>(), 0..=row_count).prop_shuffle();
        let columns =
            subsequence((0..column_count as u8).collect::<Vec<_>>(), 0..=column_count).prop_shuffle();
        (rows, columns, vec(any::<u8>(), row_count * column_count)).prop_flat_map(
            move |(rows, columns, cells)| {
                let matrix = Matrix::from_fn(row_count, column_count, |r, c| cells[r * column_count + c]);
                let shards = |count| vec(vec(any::<u8>(), len), count);
                (shards(columns.len()), shards(rows.len())).prop_map(move |(inputs, before)| Case {
                    matrix: matrix.clone(),
                    rows: rows.clone(),
                    columns: columns.clone(),
                    inputs,
                    before,
                })
            },
        )
    })
}

fn multiply(engine: Engine, case: &Case, write: Write) -> Vec<Vec<u8>> {
    let prepared = PreparedMatrix::new(engine, &case.matrix);
    let inputs: Vec<&[u8]> = case.inputs.iter().map(Vec::as_slice).collect();
    let mut outputs = case.before.clone();
    let len = outputs.first().or(case.inputs.first()).map_or(0, Vec::len);
    let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    prepared.multiply((&case.rows, &case.columns), &inputs, len, &mut slices, write);
    outputs
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(96))]

    #[test]
    fn every_kernel_computes_what_the_naive_one_does(case in case(), flip in any::<Index>()) {
        let naive = Engine::naive();
        for engine in Engine::available() {
            for write in [Write::Replace, Write::Stream, Write::Add] {
                prop_assert_eq!(multiply(engine, &case, write), multiply(naive, &case, write), "{:?}", engine);
            }
            let sums = multiply(naive, &case, Write::Replace);
            let inputs: Vec<&[u8]> = case.inputs.iter().map(Vec::as_slice).collect();
            let prepared = PreparedMatrix::new(engine, &case.matrix);
            let verify = |sums: &[Vec<u8>]| {
                let expected: Vec<&[u8]> = sums.iter().map(Vec::as_slice).collect();
                let len = sums.first().or(case.inputs.first()).map_or(0, Vec::len);
                prepared.verify((&case.rows, &case.columns), &inputs, len, &expected)
            };
            prop_assert!(verify(&sums));
            // One wrong bit anywhere is seen.
            let byte_count: usize = sums.iter().map(Vec::len).sum();
            if byte_count > 0 {
                let mut wrong = sums.clone();
                let place = flip.index(byte_count);
                let len = sums[0].len();
                wrong[place / len][place % len] ^= 1 << (place % 8);
                prop_assert!(!verify(&wrong));
            }
        }
    }
}

#[test]
fn add_undoes_itself() {
    let case = Case {
        matrix: Matrix::from_fn(9, 3, |row, column| (row * 7 + column * 11 + 1) as u8),
        rows: (0..9).collect(),
        columns: vec![2, 0],
        inputs: vec![(0..77).collect(), (100..177).collect()],
        before: vec![vec![0xA5; 77]; 9],
    };
    for engine in Engine::available() {
        let once = multiply(engine, &case, Write::Add);
        assert_ne!(once, case.before);
        assert_eq!(multiply(engine, &Case { before: once, ..case.clone() }, Write::Add), case.before);
    }
}

/// Bytes that are nothing special.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Slices of `len` bytes that begin so far behind a multiple of the longest vector's length.
struct Aligned {
    bytes: Vec<Vec<u8>>,
    starts: Vec<usize>,
    len: usize,
}

impl Aligned {
    const TO: usize = 64;

    fn new(contents: &[Vec<u8>], behind: usize) -> Self {
        let mut aligned = Self { bytes: Vec::new(), starts: Vec::new(), len: contents[0].len() };
        for content in contents {
            let mut bytes = vec![0xEE; content.len() + 2 * Self::TO];
            let start = bytes.as_ptr().align_offset(Self::TO) + behind;
            bytes[start..start + content.len()].copy_from_slice(content);
            aligned.bytes.push(bytes);
            aligned.starts.push(start);
        }
        aligned
    }

    fn slices(&self) -> Vec<&[u8]> {
        let with_starts = self.bytes.iter().zip(&self.starts);
        with_starts.map(|(bytes, &start)| &bytes[start..start + self.len]).collect()
    }

    fn slices_mut(&mut self) -> Vec<&mut [u8]> {
        let with_starts = self.bytes.iter_mut().zip(&self.starts);
        with_starts.map(|(bytes, &start)| &mut bytes[start..start + self.len]).collect()
    }

    /// Nothing was written around the slices.
    fn assert_margins(&self) {
        for (bytes, &start) in self.bytes.iter().zip(&self.starts) {
            assert!(bytes[..start].iter().chain(&bytes[start + self.len..]).all(|&byte| byte == 0xEE));
        }
    }
}

/// A matrix whose first row and column are ones, as those that are used, or none such.
fn matrix(rows: usize, columns: usize, is_normalised: bool) -> Matrix {
    Matrix::from_fn(rows, columns, |row, column| match is_normalised && (row == 0 || column == 0) {
        true => 1,
        false => (row * 29 + column * 53 + 2) as u8,
    })
}

#[test]
fn every_kernel_at_every_length_and_alignment() {
    const SHAPE: (usize, usize) = (3, 4);
    for is_normalised in [false, true] {
        let matrix = matrix(SHAPE.0, SHAPE.1, is_normalised);
        let selected: (Vec<u8>, Vec<u8>) = ((0..SHAPE.0 as u8).collect(), (0..SHAPE.1 as u8).collect());
        let selected = (&selected.0[..], &selected.1[..]);
        let prepared: Vec<PreparedMatrix> =
            Engine::available().map(|engine| PreparedMatrix::new(engine, &matrix)).collect();
        for len in 0..=300 {
            let inputs: Vec<Vec<u8>> = (0..SHAPE.1).map(|index| noise(len, index as u64)).collect();
            let mut expected = Aligned::new(&vec![vec![0; len]; SHAPE.0], 0);
            let (oracle, others) = prepared.split_first().unwrap();
            let whole: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            oracle.multiply(selected, &whole, len, &mut expected.slices_mut(), Write::Replace);
            for (behind, prepared) in
                (0..Aligned::TO).flat_map(|behind| others.iter().map(move |one| (behind, one)))
            {
                let inputs = Aligned::new(&inputs, behind);
                let mut outputs =
                    Aligned::new(&vec![vec![0x55; len]; SHAPE.0], (behind * 7 + 3) % Aligned::TO);
                let write = if behind % 2 == 0 { Write::Replace } else { Write::Stream };
                prepared.multiply(selected, &inputs.slices(), len, &mut outputs.slices_mut(), write);
                assert_eq!(outputs.slices(), expected.slices(), "{prepared:?}, {len} bytes, {behind} behind");
                outputs.assert_margins();
                assert!(prepared.verify(selected, &inputs.slices(), len, &outputs.slices()));
            }
        }
    }
}

/// Where the words of the last multiplier are the last of the table. A pointer that is made beyond them and not read is seen by Miri alone:
/// `RUSTFLAGS="-Ctarget-feature=+avx2,+gfni,+avx512f,+avx512bw" cargo +nightly miri test -p strongroom-erasure --lib -- corners`.
#[test]
fn every_kernel_at_the_corners_of_the_matrix() {
    // Miri takes seconds for each.
    const ROW_COUNT: usize = if cfg!(miri) { 3 } else { 12 };
    const LEN: usize = if cfg!(miri) { 70 } else { 150 };
    let (rows, columns): (Vec<u8>, Vec<u8>) = ((0..12).collect(), (0..5).collect());
    let cases = [1, 2, 5].map(|column_count| (column_count, ROW_COUNT)).into_iter().flat_map(
        |(column_count, row_count)| {
            (0..column_count)
                .flat_map(move |column| (0..row_count).map(move |row| (column_count, row_count, column, row)))
        },
    );
    for (column_count, row_count, column, row) in cases {
        let matrix = matrix(row_count, column_count, true);
        let selected = (&rows[row..row_count], &columns[column..column_count]);
        let inputs: Vec<Vec<u8>> = selected.1.iter().map(|&index| noise(LEN, index.into())).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let made = |engine| {
            let mut outputs = vec![vec![0x55; LEN]; selected.0.len()];
            let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
            PreparedMatrix::new(engine, &matrix).multiply(
                selected,
                &inputs,
                LEN,
                &mut slices,
                Write::Replace,
            );
            outputs
        };
        for engine in Engine::available() {
            assert_eq!(made(engine), made(Engine::naive()), "{engine:?}, {selected:?}");
        }
    }
}

/// In several groups of outputs, streamed past the caches where they are aligned, and where they cannot be.
#[test]
fn long_stripes_are_those_of_the_scalar_kernel() {
    let matrix = matrix(12, 5, true);
    let selected: (Vec<u8>, Vec<u8>) = ((0..12).collect(), (0..5).collect());
    let selected = (&selected.0[..], &selected.1[..]);
    for len in [128 << 10, (128 << 10) + 77] {
        let inputs: Vec<Vec<u8>> = (0..5).map(|index| noise(len, index)).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let mut expected = Aligned::new(&vec![vec![0; len]; 12], 0);
        let scalar = PreparedMatrix::new(Engine::scalar(), &matrix);
        scalar.multiply(selected, &inputs, len, &mut expected.slices_mut(), Write::Replace);
        for engine in Engine::available().filter(|engine| engine.name() != Engine::naive().name()) {
            for behind in [0, 1] {
                let prepared = PreparedMatrix::new(engine, &matrix);
                let mut outputs = Aligned::new(&vec![vec![0x55; len]; 12], behind);
                prepared.multiply(selected, &inputs, len, &mut outputs.slices_mut(), Write::Stream);
                assert!(outputs.slices() == expected.slices(), "{engine:?}, {len} bytes, {behind} behind");
                outputs.assert_margins();
                assert!(prepared.verify(selected, &inputs, len, &outputs.slices()));
                // The same once more takes it away.
                prepared.multiply(selected, &inputs, len, &mut outputs.slices_mut(), Write::Add);
                assert!(outputs.slices().iter().all(|bytes| bytes.iter().all(|&byte| byte == 0)));
            }
        }
    }
}

/// Streamed unasked, and not streamed though it was asked for.
#[test]
fn stripes_beyond_the_caches_and_of_many_inputs_are_those_of_the_scalar_kernel() {
    for (columns, len, write) in [(5, 2 << 20, Write::Replace), (13, 8192, Write::Stream)] {
        let matrix = matrix(2, columns, true);
        let selected: (Vec<u8>, Vec<u8>) = ((0..2).collect(), (0..columns as u8).collect());
        let selected = (&selected.0[..], &selected.1[..]);
        let inputs: Vec<Vec<u8>> = (0..columns as u64).map(|index| noise(len, index)).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let mut expected = Aligned::new(&vec![vec![0; len]; 2], 0);
        let scalar = PreparedMatrix::new(Engine::scalar(), &matrix);
        scalar.multiply(selected, &inputs, len, &mut expected.slices_mut(), Write::Replace);
        let portable = [Engine::naive().name(), Engine::scalar().name()];
        for engine in Engine::available().filter(|engine| !portable.contains(&engine.name())) {
            let mut outputs = Aligned::new(&vec![vec![0x55; len]; 2], 0);
            PreparedMatrix::new(engine, &matrix).multiply(
                selected,
                &inputs,
                len,
                &mut outputs.slices_mut(),
                write,
            );
            assert!(outputs.slices() == expected.slices(), "{engine:?}, {columns} inputs of {len} bytes");
            outputs.assert_margins();
        }
    }
}
