//! Bounds of the simulator, with the arithmetic that sets them.

use std::time::Duration;

/// Polls before the executor lets the runtime look at its timers, which on paused time matters only for liveness.
pub const POLLS_PER_TURN: u32 = 256;
/// Polls without any time passing that are taken for a livelock. A busy instant takes some thousands.
pub const POLLS_PER_INSTANT_MAX: u64 = 2_000_000;
/// Stack of the thread that a run has to itself: debug builds nest deep.
pub const STACK_LEN_BYTES: usize = 64 << 20;
/// Operations on one key that the checker can order: the width of its bit set.
pub const OPERATIONS_PER_KEY_MAX: usize = 256;
/// States that the checker of one key looks at before it gives up and fails the run, saying so.
pub const CHECKER_STATES_MAX: usize = 2_000_000;
/// Calls in flight from one node to one other, as in production.
pub const CALLS_PER_PEER_MAX: usize = strongroom_env::limits::CALLS_PER_PEER_MAX;
/// How long a node waits for a peer that gives no sign at all before it takes it for unreachable, as in production.
pub const DIAL_PATIENCE: Duration = strongroom_env::limits::DIAL_PATIENCE;
