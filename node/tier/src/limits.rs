//! Bounds of the S3 client, with the arithmetic that sets them.

use std::time::Duration;

/// Tries of one request, the first included. Two more tries carry a request over one failed connection and one gateway that
/// went away; beyond that the caller has to know.
pub const ATTEMPTS_MAX: u32 = 3;
/// Pause before the first retry at most; the SDK doubles it and draws within it at random.
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(100);
/// Pause before any retry at most.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Waiting for a TCP connection: several round trips around the world, and one lost SYN (1 s).
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);
/// Waiting for the next byte of an answer. A node answers an append that lost a holder well within a second; a group
/// without a leader for two; Raft voters replaced after a lost zone for about ten.
pub const READ_WAIT_MAX: Duration = Duration::from_secs(30);
/// One try as a whole until its answer's head: the largest archive object (256 MiB) at 1 MiB/s, and the wait for the answer.
pub const ATTEMPT_MAX: Duration = Duration::from_secs(256 + 30);
/// One operation with all its tries and pauses.
pub const OPERATION_MAX: Duration =
    Duration::from_secs(ATTEMPTS_MAX as u64 * (ATTEMPT_MAX.as_secs() + BACKOFF_MAX.as_secs()));
/// Idle connections kept to one endpoint: what a node's cores keep busy at once.
pub const IDLE_CONNECTIONS_MAX: usize = 64;
/// How long an idle connection is kept: below the 20 s and more after which usual servers close theirs, so that a request
/// seldom meets a connection that is just being closed.
pub const IDLE_MAX: Duration = Duration::from_secs(15);

const _: () = assert!(BACKOFF_INITIAL.as_millis() <= BACKOFF_MAX.as_millis());
const _: () = assert!(CONNECT_WAIT_MAX.as_secs() < READ_WAIT_MAX.as_secs());
const _: () = assert!(READ_WAIT_MAX.as_secs() < ATTEMPT_MAX.as_secs());
