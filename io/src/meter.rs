//! What a device was asked for and how it did: counts, bytes, errors and latencies by class and kind of operation.
//!
//! Plain atomics: an operation that is counted allocates nothing and takes no lock. Owns the numbers; who watches a device, by which clock, and what the
//! numbers are called outside is the node's. Operations that the device had no room for were none.

use crate::device::{Class, Completion, Kind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of a latency with an upper bound: from 64 microseconds on, each twice the one before, up to half a minute.
pub const LATENCY_BUCKETS: usize = 20;
const FIRST_BUCKET_US: u64 = 64;

/// Durations by how long they were.
#[derive(Debug, Default)]
pub struct Latency {
    /// The last one takes what is above all bounds.
    buckets: [AtomicU64; LATENCY_BUCKETS + 1],
    sum_ns: AtomicU64,
}

/// A [`Latency`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyCounts {
    /// How many fell into each bucket and in none before it; the last one has no upper bound.
    pub buckets: [u64; LATENCY_BUCKETS + 1],
    /// All of them added up.
    pub sum: Duration,
}

impl LatencyCounts {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Latency {
    /// The upper bound of a bucket, itself included; `None` of the last.
    pub fn bound(bucket: usize) -> Option<Duration> {
        (bucket < LATENCY_BUCKETS).then(|| Duration::from_micros(FIRST_BUCKET_US << bucket))
    }

    /// One more.
    pub fn note(&self, duration: Duration) {
        self.buckets[Self::bucket_of(duration)].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was noted so far. Notes that come meanwhile may be seen in part.
    pub fn read(&self) -> LatencyCounts {
        LatencyCounts {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
        }
    }

    fn bucket_of(duration: Duration) -> usize {
        let micros = duration.as_nanos().div_ceil(1000);
        let units = micros.div_ceil(u128::from(FIRST_BUCKET_US)).max(1);
        // The smallest power of two that is not below it.
        let power = u128::BITS - (units - 1).leading_zeros();
        usize::try_from(power).expect("at most 128").min(LATENCY_BUCKETS)
    }
}

/// What became of the operations of one class and kind.
#[derive(Debug, Default)]
struct Cell {
    latency: Latency,
    bytes: AtomicU64,
    errors: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellCounts {
    /// Of what class.
    pub class: Class,
    /// Of what kind.
    pub kind: Kind,
    /// How long they took, failed ones included.
    pub latency: LatencyCounts,
    /// Bytes of those that were done.
    pub bytes: u64,
    /// Those that the device failed.
    pub errors: u64,
}

/// Classes, in the order of a meter's cells.
const CLASSES: [Class; 5] =
    [Class::ForegroundRead, Class::Append, Class::Repair, Class::Convert, Class::Scrub];

/// What a device was asked for and how it did.
#[derive(Debug, Default)]
pub struct Meter {
    cells: [[Cell; Kind::ALL.len()]; CLASSES.len()],
}

impl Meter {
    /// Every class and kind of which there were any.
    pub fn read(&self) -> Vec<CellCounts> {
        let all = CLASSES.iter().flat_map(|class| Kind::ALL.map(|kind| (*class, kind)));
        let counts = all.map(|(class, kind)| {
            let cell = self.cell(class, kind);
            CellCounts {
                class,
                kind,
                latency: cell.latency.read(),
                bytes: cell.bytes.load(Ordering::Relaxed),
                errors: cell.errors.load(Ordering::Relaxed),
            }
        });
        counts.filter(|counts| counts.latency.count() > 0).collect()
    }

    /// An operation about so many bytes has ended after this time.
    pub fn note(
        &self,
        (class, kind): (Class, Kind),
        len_bytes: u64,
        completion: &Completion,
        took: Duration,
    ) {
        let cell = self.cell(class, kind);
        match &completion.result {
            Ok(()) => {
                cell.bytes.fetch_add(len_bytes, Ordering::Relaxed);
            }
            Err(error) if error.is_media() => {
                cell.errors.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => return,
        }
        cell.latency.note(took);
    }

    fn cell(&self, class: Class, kind: Kind) -> &Cell {
        let class = match class {
            Class::ForegroundRead => 0,
            Class::Append => 1,
            Class::Repair => 2,
            Class::Convert => 3,
            Class::Scrub => 4,
        };
        let kind = match kind {
            Kind::Read => 0,
            Kind::Write => 1,
            Kind::Flush => 2,
            Kind::Discard => 3,
        };
        &self.cells[class][kind]
    }
}

#[cfg(test)]
mod tests;
