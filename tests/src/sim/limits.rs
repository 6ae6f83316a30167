//! Bounds of the simulator, with the arithmetic that sets them.

use std::time::Duration;

/// Polls before the executor lets the runtime look at its timers, which on paused time matters only for liveness.
pub const POLLS_PER_TURN: u32 = 256;
/// Polls without any time passing that are taken for a livelock. A busy instant takes some thousands.
pub const POLLS_PER_INSTANT_MAX: u64 = 2_000_000;
/// Stack of the thread that a run has to itself: debug builds nest deep.
pub const STACK_LEN_BYTES: usize = 64 << 20;
/// Operations on one key in a run: what the checker of histories goes through in milliseconds.
pub const OPERATIONS_PER_KEY_MAX: usize = 1024;
/// Operations on one key that are under way at once or have no known outcome: the width of the checker's bit set.
pub const OPERATIONS_UNDER_WAY_MAX: usize = 256;
/// States that the checker of one key looks at before it gives up and fails the run, saying so.
pub const CHECKER_STATES_MAX: usize = 2_000_000;
/// Calls in flight from one node to one other, as in production.
pub const CALLS_PER_PEER_MAX: usize = strongroom_env::limits::CALLS_PER_PEER_MAX;
/// How long a node waits for a peer that gives no sign at all before it takes it for unreachable, as in production.
pub const DIAL_PATIENCE: Duration = strongroom_env::limits::DIAL_PATIENCE;
/// Requests of one node that wait for another whose process stands still, as many as it may have under way in production.
pub const REQUESTS_PER_PEER_MAX: usize = strongroom_env::limits::REQUESTS_PER_PEER_MAX;
/// Tasks of one node at once.
pub const TASKS_PER_NODE_MAX: usize = 600;
/// Tasks of one that stands still, or did lately: besides, one for each request that its kernel has taken, so many from each of up to eight peers.
pub const TASKS_OF_PAUSED_MAX: usize = 8 * REQUESTS_PER_PEER_MAX;
/// Tasks of one that is at rest.
pub const TASKS_AT_REST_MAX: usize = 60;
const _: () = assert!(TASKS_AT_REST_MAX < TASKS_PER_NODE_MAX && TASKS_PER_NODE_MAX < TASKS_OF_PAUSED_MAX);
