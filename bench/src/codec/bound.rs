//! What the machine allows, beside what is measured: the ports that multiply, and memory.

use super::clock::cpu_seconds;
use super::sides::Operation;
use super::{COLD_BYTES, Row};
use serde::Serialize;
use std::hint::black_box;
use strongroom_erasure::crc32c::crc32c;
use strongroom_erasure::{Codec, Engine, MatrixId, Write};
use strongroom_io::AlignedBuffer;

/// Bytes that one product takes, at most one a cycle, on the machines that have AVX-512 and GFNI.
const PRODUCT_LEN_BYTES: f64 = 64.0;
/// What the first-level cache holds.
const CACHED_LEN_BYTES: usize = 16 << 10;
/// Streams that are read side by side; the best counts.
const STREAMS: [usize; 4] = [2, 4, 8, 16];
const TIMES: usize = 5;
const LINE_LEN_BYTES: usize = 64;
const PAGE_LEN_BYTES: usize = 4096;

/// Rates of this machine, in GB/s (10^9 bytes), by one thread while nothing else is measured; the best of several times each.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    /// Products of 64 bytes: one a cycle. `None` where the engine is another one.
    product_gb_per_s: Option<f64>,
    /// CRC32C of what is cached.
    sum_gb_per_s: f64,
    /// Reading what is not, several streams side by side.
    pub read_gb_per_s: f64,
    /// Writing past the caches, without reading.
    pub write_gb_per_s: f64,
}

impl Rates {
    /// Measures them.
    pub fn here(gigahertz: f64) -> Self {
        // At lines, as shards are, but not all at the same place of a page.
        let mut all = AlignedBuffer::zeroed(COLD_BYTES);
        let part_of = |count: usize| {
            (COLD_BYTES / (count + 1)).next_multiple_of(PAGE_LEN_BYTES) - PAGE_LEN_BYTES + LINE_LEN_BYTES
        };
        let read = STREAMS.map(|count| {
            // An even number of ones adds up to nothing; the last stream is that. So there is nothing to do but to read.
            let part = part_of(count);
            all.fill(1);
            all[part * count..].fill(0);
            let streams: Vec<&[u8]> = all.chunks_exact(part).take(count + 1).collect();
            let codec = Codec::new(count, 1, MatrixId::NormalisedCauchy).expect("a small shape");
            let verify = || assert!(codec.verify(black_box(&streams)).expect("streams of one length"));
            (part * (count + 1)) as f64 / seconds(verify)
        });
        let sum = seconds(|| {
            for _ in 0..COLD_BYTES / CACHED_LEN_BYTES {
                black_box(crc32c(black_box(&all[..CACHED_LEN_BYTES])));
            }
        });
        // A sum of nothing: zeros, and so many of them, from the beginning of a line on, that they go past the caches.
        let codec = Codec::new(1, 1, MatrixId::NormalisedCauchy).expect("a small shape");
        let plan = codec.plan(&[0], &[1]).expect("all data are there");
        let write = seconds(|| {
            let written = plan.partial_sum(&[], &mut [(1, black_box(&mut all[..]))], Write::Replace);
            written.expect("a sum of nothing");
        });
        let gigabytes = |bytes: usize| bytes as f64 / 1e9;
        Self {
            product_gb_per_s: (Engine::detect().name() == "gfni512").then_some(PRODUCT_LEN_BYTES * gigahertz),
            sum_gb_per_s: gigabytes(COLD_BYTES) / sum,
            read_gb_per_s: read.into_iter().fold(0.0, f64::max) / 1e9,
            write_gb_per_s: gigabytes(all.len()) / write,
        }
    }

    /// GB/s of data that a row cannot exceed; `None` where it is not known.
    pub fn of(&self, row: &Row) -> Option<f64> {
        let (k, m) = (row.data_count as f64, row.parity_count as f64);
        let lost = k.min(m);
        // Products of 64 bytes, and shards that are summed, read and written, for `k` of data. A normalised Cauchy matrix has ones in its first row and column.
        let (products, summed, read, written) = match row.operation {
            Operation::Encode => ((k - 1.0) * (m - 1.0), 0.0, k, m),
            Operation::Verify => ((k - 1.0) * (m - 1.0), 0.0, k + m, 0.0),
            // One lost shard of a code with one parity shard is the sum of all others.
            Operation::Reconstruct if row.parity_count == 1 => (0.0, 0.0, k, lost),
            Operation::Reconstruct => (k * lost, 0.0, k, lost),
            Operation::EncodeAndSum => ((k - 1.0) * (m - 1.0), k + m, k, m),
        };
        let of_products = self.product_gb_per_s.map_or(0.0, |rate| products / rate);
        // They may go on beside each other.
        let computed = of_products.max(summed / self.sum_gb_per_s);
        let moved = (read / self.read_gb_per_s).max(written / self.write_gb_per_s);
        let taken = if row.cold { computed.max(moved) } else { computed };
        (taken > 0.0).then_some(k / taken)
    }
}

/// What it takes at best.
fn seconds(mut work: impl FnMut()) -> f64 {
    let mut once = || {
        let begun = cpu_seconds();
        work();
        cpu_seconds() - begun
    };
    (0..TIMES).map(|_| once()).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::{Operation, Rates, Row};

    #[test]
    fn what_is_cold_is_bound_by_memory_and_what_is_warm_by_products() {
        let rates = Rates {
            product_gb_per_s: Some(200.0),
            sum_gb_per_s: 50.0,
            read_gb_per_s: 20.0,
            write_gb_per_s: 10.0,
        };
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
        near(bound(Operation::EncodeAndSum, false), 6.0 / (12.0 / 50.0));
        near(bound(Operation::Encode, true), 6.0 / (6.0 / 10.0));
        near(bound(Operation::Verify, true), 6.0 / (12.0 / 20.0));
    }
}
