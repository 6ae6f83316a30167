//! Bounds of the load generator, with the arithmetic that sets them.

use std::time::Duration;

/// Requests in flight at most: each holds a connection, and 4,096 with as many again on a server on the same machine stay
/// below a usual limit of 16,384 open files.
pub const CONCURRENCY_MAX: usize = 4096;
/// Client threads at most.
pub const THREADS_MAX: usize = 64;
/// Objects written in one round at most: their places are kept in memory (8 bytes each) to read them back.
pub const OBJECTS_MAX: u64 = 100_000_000;
/// Distinct bodies that are kept in memory by default: at a mean of 68 KiB some 140 MB.
pub const BODIES_DEFAULT: u64 = 2000;
/// Bytes of all bodies in memory at most.
pub const BODIES_LEN_BYTES_MAX: u64 = 8 << 30;

/// Waiting for the answer to one request, its body included.
pub const REQUEST_WAIT_MAX: Duration = Duration::from_secs(120);
/// How often one request is sent again after `503 SlowDown`.
pub const BUSY_RETRIES_MAX: u32 = 20;
/// Pause after the first `503`; it doubles each time.
pub const BUSY_PAUSE_INITIAL: Duration = Duration::from_millis(5);
/// Pause after any `503` at most.
pub const BUSY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Failed requests after which a round is given up.
pub const FAILURES_MAX: u64 = 100;
/// Failures that are kept in words.
pub const FAILURES_SHOWN_MAX: usize = 5;
/// Bytes of an error answer that are kept.
pub const ERROR_BODY_LEN_BYTES_MAX: usize = 2048;

/// Bytes of a status document at most: 256 nodes of 32 drives at about 1 KiB each.
pub const STATUS_LEN_BYTES_MAX: usize = 8 << 20;
/// Waiting for a status document.
pub const STATUS_WAIT_MAX: Duration = Duration::from_secs(5);

/// Longest latency a histogram holds, in microseconds: a request with all its retries.
pub const LATENCY_US_MAX: u64 = 600_000_000;

const _: () = assert!(
    LATENCY_US_MAX as u128
        >= REQUEST_WAIT_MAX.as_micros() + BUSY_RETRIES_MAX as u128 * BUSY_PAUSE_MAX.as_micros()
);
