//! Bounds of this crate, with the arithmetic that sets them.

use std::time::Duration;
use strongroom_types::limits::{WIRE_HEAD_LEN_BYTES_MAX, WIRE_PAYLOAD_LEN_BYTES_MAX};

/// Calls to one peer that may wait for their answers at once. A writer has 4 rows in flight on a slab, a node some tens
/// of open slabs, and Raft one message for each group: 256 is some times that.
pub const CALLS_PER_PEER_MAX: usize = 256;
/// Bytes of requests to one peer that may wait to be sent: five frames of the greatest size.
pub const SEND_QUEUE_LEN_BYTES_MAX: usize = 64 << 20;
/// Requests of one peer that may be handled at once. Above the peer's own bound on calls, since a call that it gave up may
/// still be worked on here. At the bound nothing more is read from the peer.
pub const REQUESTS_PER_PEER_MAX: usize = 2 * CALLS_PER_PEER_MAX;
/// Bytes of requests of one peer that may be held at once; at the bound nothing more is read from the peer.
pub const REQUESTS_PER_PEER_LEN_BYTES_MAX: usize = 64 << 20;
/// Nodes that may be connected at once without being known: who joins is such a one until the others have heard of it.
pub const GUESTS_MAX: usize = 16;
/// Requests of such a one that may be handled at once: it asks to be let in, and no more.
pub const GUEST_REQUESTS_MAX: usize = 8;
/// Connections that may be at once between accept and the end of their hello: everyone may connect, so few.
pub const HANDSHAKES_MAX: usize = 64;
/// How long a connection may take to say who it is.
pub const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a dial may take, up to the peer's hello.
pub const DIAL_PATIENCE: Duration = Duration::from_secs(3);
/// The pause after the first dial that failed; doubled by each further one.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest pause between dials.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The pause after an accept that failed (no file descriptors left).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Silence after which the kernel asks whether the peer is still there.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// The pause between two such questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Bytes sent but not acknowledged for this long break the connection. Short against the 15 minutes of the kernel's default,
/// long against a lost packet or two.
pub const UNACKNOWLEDGED_PATIENCE: Duration = Duration::from_secs(10);
/// Frames are gathered into one write until they have this many bytes.
pub const WRITE_BATCH_LEN_BYTES: usize = 256 << 10;
/// Slices handed to one vectored write. The kernel takes 1024; the array lives on the stack.
pub const WRITE_SLICES_MAX: usize = 64;
/// Bytes that the reader asks of a socket at once where the frames are small.
pub const READ_BUFFER_LEN_BYTES: usize = 64 << 10;

const FRAME_LEN_BYTES_MAX: usize = WIRE_HEAD_LEN_BYTES_MAX as usize + WIRE_PAYLOAD_LEN_BYTES_MAX as usize;
const _: () = assert!(SEND_QUEUE_LEN_BYTES_MAX >= 2 * FRAME_LEN_BYTES_MAX);
const _: () = assert!(REQUESTS_PER_PEER_LEN_BYTES_MAX >= 2 * FRAME_LEN_BYTES_MAX);
const _: () = assert!(REQUESTS_PER_PEER_LEN_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(REQUESTS_PER_PEER_MAX >= CALLS_PER_PEER_MAX);
