//! Bounds of the soak, and how patient it is.

use std::time::Duration;

/// How long a request may take before its outcome counts as unknown: above [`NODE_PATIENCE`].
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(15);
/// How long the cluster may take to be whole again after a fault.
pub const RECOVERY_PATIENCE: Duration = Duration::from_secs(180);
/// How long an object may take to be readable at the end.
pub const READ_BACK_PATIENCE: Duration = Duration::from_secs(60);
/// A version that was certainly replaced is forgotten after so long: no read that could see it is under way any more.
pub const FORGET_AFTER: Duration = Duration::from_secs(60);
/// A write of unknown outcome has had its effect after so long, or never has one: it may lie in the socket of a process that stands still, and then
/// a node goes on with it for ten seconds, while its client has long gone away.
pub const UNKNOWN_UNTIL: Duration = Duration::from_secs(120);
const _: () = assert!(
    UNKNOWN_UNTIL.as_secs() >= PAUSE_MAX.as_secs() + REQUEST_PATIENCE.as_secs() + NODE_PATIENCE.as_secs()
);
/// After which a node gives a request up by itself.
const NODE_PATIENCE: Duration = Duration::from_secs(10);
/// Violations kept with their words; the rest is counted.
pub const VIOLATIONS_MAX: usize = 100;
/// Bytes of a mail at most, so that one mail in thousands does not take the whole budget.
pub const MAIL_LEN_BYTES_MAX: usize = 6 << 20;
/// Part of a zone's drives that clients may fill: nothing gives back the space of deleted mail yet, and conversion holds two forms for a
/// while.
pub const FILL_PER_CENT: u64 = 20;
/// Keys of the bucket of settings.
pub const SETTINGS: u64 = 40;
/// Parts that the keys of mail are spread over; a list reads one.
pub const SHARDS: u64 = 16;
/// Longest pause of a process.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Reads at once when all is read back.
pub const READERS: usize = 16;

/// An operation of a volume takes from nothing to this long. Without it no write would stay unflushed for a moment, and power cuts would meet none.
pub const LATENCY_MS_MAX: u32 = 1;
