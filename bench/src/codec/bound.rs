//! What the machine allows, beside what is measured: the ports that multiply, and memory.

use super::clock::cpu_seconds;
use super::sides::Operation;
use super::{COLD_BYTES, Row, median};
use serde::Serialize;
use std::hint::black_box;
use strongroom_erasure::crc32c::crc32c;
use strongroom_erasure::{Codec, Engine, MatrixId, Write};

/// Bytes that one product takes, at most one a cycle, on the machines that have AVX-512 and GFNI.
const PRODUCT_LEN_BYTES: f64 = 64.0;
/// What the first-level cache holds.
const CACHED_LEN_BYTES: usize = 16 << 10;
/// Streams that are read side by side.
const STREAMS: usize = 8;
const TIMES: usize = 5;

/// Rates of this machine, in GB/s (10^9 bytes), by one thread while nothing else is measured; medians.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    /// Products of 64 bytes: one a cycle. `None` where the engine is another one.
    product_gb_per_s: Option<f64>,
    /// CRC32C of what is cached.
    sum_gb_per_s: f64,
    /// What moves between memory and caches at most: the better of reading alone, eight streams side by side, and copying past the caches (read and written).
    pub moved_gb_per_s: f64,
}

impl Rates {
    /// Measures them.
    pub fn here(gigahertz: f64) -> Self {
        let from = vec![1u8; COLD_BYTES];
        let mut to = vec![2u8; COLD_BYTES];
        // A sum of streams without a product, compared with one more: nothing but reading.
        let sum_of_streams = Codec::new(STREAMS, 1, MatrixId::NormalisedCauchy).expect("a small shape");
        let part = COLD_BYTES / (STREAMS + 1);
        let zeros = vec![0u8; part * (STREAMS + 1)];
        let streams: Vec<&[u8]> = zeros.chunks(part).collect();
        let read =
            seconds(|| assert!(sum_of_streams.verify(black_box(&streams)).expect("streams of one length")));
        let copy_of_one = Codec::new(1, 1, MatrixId::NormalisedCauchy).expect("a small shape");
        let copy = seconds(|| {
            let copied = copy_of_one.encode_with(&[black_box(&from)], &mut [&mut to], Write::Stream);
            copied.expect("slices of one length");
        });
        let sum = seconds(|| {
            for _ in 0..COLD_BYTES / CACHED_LEN_BYTES {
                black_box(crc32c(black_box(&from[..CACHED_LEN_BYTES])));
            }
        });
        let bytes = COLD_BYTES as f64 / 1e9;
        Self {
            product_gb_per_s: (Engine::detect().name() == "gfni512").then_some(PRODUCT_LEN_BYTES * gigahertz),
            sum_gb_per_s: bytes / sum,
            moved_gb_per_s: (zeros.len() as f64 / 1e9 / read).max(2.0 * bytes / copy),
        }
    }

    /// GB/s of data that a row cannot exceed; `None` where it is not known.
    pub fn of(&self, row: &Row) -> Option<f64> {
        let (k, m) = (row.data_count as f64, row.parity_count as f64);
        let lost = k.min(m);
        // Products of 64 bytes, and shards that are summed and moved, for `k` of data. A normalised Cauchy matrix has ones in its first row and column.
        let (products, summed, moved) = match row.operation {
            Operation::Encode => ((k - 1.0) * (m - 1.0), 0.0, k + m),
            Operation::Verify => ((k - 1.0) * (m - 1.0), 0.0, k + m),
            Operation::Reconstruct => (k * lost, 0.0, k + lost),
            Operation::EncodeAndSum => ((k - 1.0) * (m - 1.0), k + m, k + m),
        };
        let computed = products / self.product_gb_per_s? + summed / self.sum_gb_per_s;
        let moved = moved / self.moved_gb_per_s;
        let taken = if row.cold { computed.max(moved) } else { computed };
        (taken > 0.0).then_some(k / taken)
    }
}

/// What it takes: a median.
fn seconds(mut work: impl FnMut()) -> f64 {
    let mut once = || {
        let begun = cpu_seconds();
        work();
        cpu_seconds() - begun
    };
    median((0..TIMES).map(|_| once()).collect())
}

#[cfg(test)]
mod tests {
    use super::{Operation, Rates, Row};

    #[test]
    fn what_is_cold_is_bound_by_memory_and_what_is_warm_by_products() {
        let rates = Rates { product_gb_per_s: Some(200.0), sum_gb_per_s: 50.0, moved_gb_per_s: 20.0 };
        let bound = |operation, cold| {
            let (data_count, parity_count, shard_len_bytes) = (6, 6, 4096);
            let row = Row {
                operation,
                data_count,
                parity_count,
                shard_len_bytes,
                cold,
                bound_gb_per_s: None,
                sides: vec![],
            };
            rates.of(&row).unwrap()
        };
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}")
        };
        near(bound(Operation::Encode, false), 6.0 / (25.0 / 200.0));
        near(bound(Operation::Reconstruct, false), 6.0 / (36.0 / 200.0));
        near(bound(Operation::EncodeAndSum, false), 6.0 / (25.0 / 200.0 + 12.0 / 50.0));
        near(bound(Operation::Encode, true), 6.0 / (12.0 / 20.0));
        near(bound(Operation::Verify, true), 6.0 / (12.0 / 20.0));
    }
}
