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
            for write in [Write::Replace, Write::Add] {
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
