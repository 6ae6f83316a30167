//! Bounds of the decisions, with the arithmetic that sets them.

use std::time::Duration;
use strongroom_types::limits::{
    EXTENT_LEN_BYTES_MIN, EXTENTS_PER_FRAGMENT_MAX, FRAGMENTS_MAX, NEEDLE_HEADER_LEN_BYTES_MAX,
    NEEDLE_PLAIN_LEN_BYTES_MAX, ROW_LEN_BYTES_MAX, ROWS_IN_FLIGHT_MAX,
};
use strongroom_types::units::{BLOCK_LEN_BYTES, MIB};

/// Needles in a row begin at multiples of this.
pub const NEEDLE_ALIGN_BYTES: u32 = 8;

/// Bytes of needles that wait for a row at most, by default: four full rows in the queue behind the four in flight keep a
/// writer busy for longer than any holder is waited for.
pub const WAITING_LEN_BYTES_MAX: u64 = 32 * MIB;

/// Rows of one slab that are not yet acknowledged by every live holder, at most. A holder that lags gets its rows anyway, up
/// to here; then the writer gathers larger rows until the holder answers or counts as late.
pub const ROWS_TRACKED_MAX: usize = 64;
/// Bytes of those rows at most: what a lagging holder may keep in memory. Twice the rows in flight, each full: 30 MiB.
pub const ROWS_TRACKED_LEN_BYTES_MAX: u64 = 2 * ROWS_IN_FLIGHT_MAX as u64 * ROW_LEN_BYTES_MAX as u64;

/// Slabs that were rolled and still wait for acknowledgements, at most; at the bound the oldest is given up.
pub const RETIRING_SLABS_MAX: usize = 4;

/// Times that a needle is put into a row before its writer gives up, by default.
pub const TRIES_MAX: u8 = 3;

/// A holder is waited for this long at least before it counts as late.
pub const ACK_PATIENCE_MIN: Duration = Duration::from_millis(50);
/// A holder counts as late after this many times the 99th percentile of recent answers.
pub const ACK_PATIENCE_FACTOR: u32 = 5;
/// A holder is waited for this long at most, however slow the recent answers were: below a client's usual timeout.
pub const ACK_PATIENCE_MAX: Duration = Duration::from_secs(5);
/// Answers that the percentile looks back on.
pub const ACK_LATENCIES_COUNT: usize = 256;
/// Answers after which the percentile is computed anew.
pub const ACK_LATENCIES_STEP: usize = 32;

/// A rolled slab waits this long at least for the answers still under way: rows in flight become durable in place, and the last
/// copy gets whole, so that the seal leaves nothing to repair.
pub const RETIRING_PATIENCE_MIN: Duration = Duration::from_secs(1);
/// And this many times the patience with a holder.
pub const RETIRING_PATIENCE_FACTOR: u32 = 4;

/// A node whose holder failed or was late is avoided in new slabs for this long; after it, heartbeats know better.
pub const AVOID_FOR: Duration = Duration::from_secs(5);
/// Nodes avoided at most; the oldest is forgotten first.
pub const AVOIDED_NODES_MAX: usize = FRAGMENTS_MAX;

/// Pause before a slab is asked for again after a failure; doubles with each failure in a row.
pub const OPEN_PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest such pause.
pub const OPEN_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A needle waits this long at most for a slab to be opened.
pub const NEEDLE_WAIT_MAX: Duration = Duration::from_secs(10);

/// A slab with content is sealed at this age, by default, so that it can be converted.
pub const SLAB_AGE_MAX: Duration = Duration::from_secs(3600);

/// Bytes that a hot fragment takes on a drive at most, row headers included: all extents that a fragment may have, in the
/// smallest size, each without its header block: 2048 x 252 KiB = 504 MiB.
pub const FRAGMENT_LEN_BYTES_MAX: u64 =
    EXTENTS_PER_FRAGMENT_MAX as u64 * (EXTENT_LEN_BYTES_MIN - BLOCK_LEN_BYTES) as u64;

/// Drives fuller than this are not chosen while the zone has others.
pub const DRIVE_FULL_PREFERRED_PERCENT_MAX: u32 = 90;
/// Drives fuller than this are never chosen.
pub const DRIVE_FULL_PERCENT_MAX: u32 = 95;

/// A slab is compacted if its copies take at most this part of its image, in percent: each byte that is copied gives at least one back.
pub const COMPACT_PERCENT_MAX: u64 = 50;
/// The same where drives are filling: four bytes copied for one.
pub const COMPACT_TIGHT_PERCENT_MAX: u64 = 80;
/// The same where somebody asks for it: nine bytes copied for one.
pub const COMPACT_NOW_PERCENT_MAX: u64 = 90;
/// Slabs that are mostly air are copied into one where that takes one part in so many of the extents: a byte is copied at most as often as four goes into what fills
/// the extents of a slab (a megabyte of mail a fragment: five times).
pub const CROWD_PARTS: u64 = 4;
/// The same where drives are filling, or somebody asks for it.
pub const CROWD_TIGHT_PARTS: u64 = 2;
/// Drives of a zone are filling from here on: placement avoids those that are ten percent fuller.
pub const SPACE_TIGHT_PERCENT_MIN: u64 = 80;
/// Bytes of needles that a compaction copies at once (soft: the needle that crosses it is still taken): a full row, and what waits for the next.
pub const COMPACT_BATCH_LEN_BYTES: u64 = 4 * MIB;
/// Needles that a compaction copies at once at most.
pub const COMPACT_BATCH_NEEDLES_MAX: usize = 256;
/// Rows that the needles of one batch take at most, where none fails: as many as may be in flight go out with one needle each, and the rest fills two, or
/// begins one more in another slab or behind a foreign needle.
pub const COMPACT_BATCH_ROWS: u64 = ROWS_IN_FLIGHT_MAX as u64 + 4;

/// Fragments of a cold profile that is chosen by itself, at most: up to here encoding and checksums fuse without spilling
/// registers. Wider ones save little more space and read from more drives.
pub const COLD_FRAGMENTS_DEFAULT_MAX: u8 = 15;

/// A drive gets fragments of fuller ones of its zone once so many ten-thousandths of it more are free than of the zone on the average: ten percent. A blank node
/// among n others that are filled by the part f lacks f n / (n + 1): it gets some from f = 20 % where there is one other, from f = 12 % where there are five.
pub const REBALANCE_BEGIN_BASIS_POINTS: u64 = 1000;
/// And until it lacks no more than half of that: so what fills and empties by a few percent moves nothing.
pub const REBALANCE_END_BASIS_POINTS: u64 = REBALANCE_BEGIN_BASIS_POINTS / 2;
/// Moves whose old fragments may not be given back yet that a leader remembers at most. One at a time, each for some tenths of a second, during two grace times of
/// a minute: some hundreds.
pub const REBALANCE_RECENT_MAX: usize = 1024;

/// Looks at a drain that its rate is taken from.
pub const DRAIN_SAMPLES_MAX: usize = 32;

const _: () = assert!(ROWS_TRACKED_MAX >= 2 * ROWS_IN_FLIGHT_MAX);
const _: () = assert!(
    (NEEDLE_PLAIN_LEN_BYTES_MAX + NEEDLE_HEADER_LEN_BYTES_MAX).next_multiple_of(NEEDLE_ALIGN_BYTES)
        <= ROW_LEN_BYTES_MAX
);
const _: () = assert!(WAITING_LEN_BYTES_MAX >= ROW_LEN_BYTES_MAX as u64);
const _: () =
    assert!(DRIVE_FULL_PREFERRED_PERCENT_MAX < DRIVE_FULL_PERCENT_MAX && DRIVE_FULL_PERCENT_MAX < 100);
const _: () = assert!(
    COMPACT_PERCENT_MAX < COMPACT_TIGHT_PERCENT_MAX && COMPACT_TIGHT_PERCENT_MAX < COMPACT_NOW_PERCENT_MAX
);
const _: () = assert!(COMPACT_NOW_PERCENT_MAX < 100);
const _: () = assert!(SPACE_TIGHT_PERCENT_MIN < DRIVE_FULL_PREFERRED_PERCENT_MAX as u64);
const _: () = assert!(REBALANCE_END_BASIS_POINTS < REBALANCE_BEGIN_BASIS_POINTS);
const _: () = assert!(COLD_FRAGMENTS_DEFAULT_MAX as usize <= FRAGMENTS_MAX);
const _: () = assert!(BLOCK_LEN_BYTES.is_multiple_of(NEEDLE_ALIGN_BYTES));
const _: () = assert!(ACK_LATENCIES_COUNT.is_multiple_of(ACK_LATENCIES_STEP));
