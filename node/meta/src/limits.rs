//! Bounds of the metadata groups, with the arithmetic that sets them.

use std::time::Duration;
use strongroom_types::limits::{
    COMMIT_BATCH_ENTRIES_MAX, CONFIG_INLINE_LEN_BYTES_MAX, DRIVES_PER_NODE_MAX, LIST_KEYS_MAX, NODES_MAX,
    OBJECT_KEY_LEN_BYTES_MAX, WIRE_HEAD_LEN_BYTES_MAX,
};

/// Bytes of one encoded command at most. Larger ones are refused before they are proposed.
pub const COMMAND_LEN_BYTES_MAX: usize = 2 << 20;
/// Bytes of commits that are gathered into one command: the command's bound less one commit of the largest kind
/// (see [`ENTRY_LEN_BYTES_MAX`]), which is added before the sum is looked at.
pub const COMMIT_BATCH_LEN_BYTES_MAX: usize = COMMAND_LEN_BYTES_MAX - ENTRY_LEN_BYTES_MAX;
/// Bytes of one encoded commit at most: 2,048 locators of at most 25 bytes (50 KiB) or 64 KiB inline, a key, user
/// metadata and the other attributes, which the gateway's header bound keeps below 64 KiB.
pub const ENTRY_LEN_BYTES_MAX: usize = 256 << 10;
/// Bytes of log entries in one message to a follower at most: one command always fits, and the message fits the wire.
pub const APPEND_LEN_BYTES_MAX: usize = 4 << 20;
/// Log entries in one message to a follower at most.
pub const APPEND_ENTRIES_MAX: u64 = 256;
/// Bytes of one piece of a snapshot on the wire.
pub const SNAPSHOT_CHUNK_LEN_BYTES: u64 = 1 << 20;
/// Bytes of a snapshot that the sending side keeps behind its position, so that a piece that was lost can be sent again
/// without reading the state from its beginning: two pieces.
pub const SNAPSHOT_REWIND_LEN_BYTES: usize = 2 * SNAPSHOT_CHUNK_LEN_BYTES as usize;
/// Bytes of a key in a snapshot at most: table, bucket, length, object key, version.
pub const STATE_KEY_LEN_BYTES_MAX: usize = 1 + 8 + 2 + OBJECT_KEY_LEN_BYTES_MAX + 16;
/// Bytes of a value in a snapshot at most. The largest value is the window record of one full batch of commits or one
/// object's record, both below a command's bound.
pub const STATE_VALUE_LEN_BYTES_MAX: usize = COMMAND_LEN_BYTES_MAX;
/// Bytes of received snapshot that are gathered into one batch of the store.
pub const SNAPSHOT_BATCH_LEN_BYTES: usize = 256 << 10;

/// Keys that are read from the store in one go while a range is walked.
pub const SCAN_KEYS: usize = 256;
/// Keys that are removed from the store in one batch when a whole range goes.
pub const CLEAR_KEYS: usize = 1024;
/// Log entries that are read from the store in one go.
pub const LOG_READ_ENTRIES: usize = 64;

/// Commits that wait for the proposal in flight at most, for each group: 16 full batches. At some milliseconds a batch this
/// is far less than any caller's patience; beyond it the caller is told to come again.
pub const COMMIT_QUEUE_ENTRIES_MAX: usize = 16 * COMMIT_BATCH_ENTRIES_MAX;
/// Bytes of commits that wait at most, for each group.
pub const COMMIT_QUEUE_LEN_BYTES_MAX: usize = 16 << 20;
/// Other commands of one group in flight on its leader at most.
pub const PROPOSALS_MAX: usize = 256;
/// Readers of one group that wait for a round at most.
pub const READERS_MAX: usize = 16_384;

/// Outcomes that a group remembers, so that a command which is proposed again after an unknown outcome takes effect once.
/// About 40 bytes each in memory: 1.3 MiB a group at most. Together with [`RETRY_UNCERTAIN_MAX`] this is right up to
/// 32,768 / 5 s = 6,500 commits a second and group, sustained.
pub const OUTCOMES_REMEMBERED: usize = 32_768;
/// For how long after the first unknown outcome a command is proposed again.
pub const RETRY_UNCERTAIN_MAX: Duration = Duration::from_secs(5);
/// How long one try at one node may take before another node is asked: a leader that vanished without a word is replaced after some 1.5 s, and
/// whoever waited for it until then has spent a try or two. A try again is safe: commands are done once.
pub const ATTEMPT_PATIENCE_MAX: Duration = Duration::from_secs(1);
/// First pause between tries; doubles up to [`RETRY_PAUSE_MAX`].
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause between tries.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_millis(200);
/// First pause of replication to a peer that does not answer; doubles up to [`REPLICATION_PAUSE_MAX`].
pub const REPLICATION_PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause of replication: well below an election timeout, so that a peer which came back is not made to elect.
pub const REPLICATION_PAUSE_MAX: Duration = Duration::from_millis(200);

/// Keys of a list page at most.
pub const LIST_ENTRIES_MAX: usize = LIST_KEYS_MAX as usize;
/// Slabs of a page at most: 1,024 records of at most 1 KiB stay below 2 MiB.
pub const SLABS_PAGE_MAX: usize = 1024;

/// Needles of versions in one page at most: 256 of at most 1.2 KiB, of which the key is 1 KiB, stay below 320 KiB.
pub const POINTERS_PAGE_MAX: usize = 256;
/// Slabs with what versions have in them, in one page at most: 4,096 of at most 30 bytes stay below 120 KiB.
pub const USAGES_PAGE_MAX: usize = 4096;
/// Moves of one relocation at most: 256 of at most 1.2 KiB are below a command's bound, and each rewrites at most one version's record of 50 KiB.
pub const RELOCATE_MOVES_MAX: usize = 256;

/// Nonces of a node that the control group remembers: as many lives of its state, of which requests may still be on their way.
pub const ENROLMENT_NONCES_MAX: usize = 16;
/// Nodes and drives that the control group remembers to be emptied: all that a cluster can have. Each is some 30 bytes, so that all of them are below 270 KB in an
/// answer.
pub const DRAINS_MAX: usize = NODES_MAX * (1 + DRIVES_PER_NODE_MAX);
/// Nonces of foundings that a voter remembers to have promised: one for each time that the founder was erased meanwhile.
pub const PROMISES_MAX: usize = 16;
/// Alarms that are kept; the oldest goes first.
pub const ALARMS_MAX: usize = 32;
/// Between two looks at whether voters are to be replaced.
pub const VOTERS_LOOK_EVERY: Duration = Duration::from_secs(3);
/// How long one step of replacing a voter may take before the group is looked at again.
pub const VOTERS_STEP_PATIENCE: Duration = Duration::from_secs(30);
/// First pause between tries to join the cluster; doubles up to [`JOIN_PAUSE_MAX`].
pub const JOIN_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between tries to join the cluster.
pub const JOIN_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long other voters may take to say whether they saw a later opening of this store, before its groups run without their word. Those that
/// run answer within a sync; a voter that vanished must not keep a group of three from starting.
pub const OPENING_PATIENCE: Duration = Duration::from_secs(1);
/// How long one peer may take to say how it stands.
pub const JOIN_PATIENCE: Duration = Duration::from_secs(2);
/// After this long without being let in, or without a leader under a new id, an operator is told.
pub const JOIN_ALARM_AFTER: Duration = Duration::from_secs(60);

const _: () = assert!(COMMAND_LEN_BYTES_MAX <= APPEND_LEN_BYTES_MAX);
// A message may overshoot its bound by the last entry that was added, and carries some fixed bytes.
const _: () =
    assert!(APPEND_LEN_BYTES_MAX + COMMAND_LEN_BYTES_MAX + (1 << 20) <= WIRE_HEAD_LEN_BYTES_MAX as usize);
const _: () = assert!(RELOCATE_MOVES_MAX * (OBJECT_KEY_LEN_BYTES_MAX + 256) <= COMMAND_LEN_BYTES_MAX);
const _: () = assert!(ENTRY_LEN_BYTES_MAX >= 2 * CONFIG_INLINE_LEN_BYTES_MAX as usize);
const _: () = assert!(SNAPSHOT_REWIND_LEN_BYTES >= SNAPSHOT_CHUNK_LEN_BYTES as usize);
const _: () = assert!(OUTCOMES_REMEMBERED > COMMIT_BATCH_ENTRIES_MAX);
/// Drives that the control group remembers: four lives of each of the most drives that a cluster can have.
pub const DRIVES_SEEN_MAX: usize =
    4 * strongroom_types::limits::NODES_MAX * strongroom_types::limits::DRIVES_PER_NODE_MAX;
/// Nodes that the control group remembers, those that were dismissed included: four generations of the most that a cluster can have.
pub const NODES_SEEN_MAX: usize = 4 * strongroom_types::limits::NODES_MAX;
/// Between two looks at which nodes there are. A newcomer that asks for something is not kept waiting for it.
pub const MEMBERS_LOOK_EVERY: Duration = Duration::from_secs(3);
/// The least time between two such looks, whoever asks for one.
pub const MEMBERS_LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Groups that are asked at once whether this node votes in them.
pub const PLACES_ASKED_MAX: usize = 16;
/// How long a node must have been silent to all others to be dismissed as a dead one: longer than while messages are lost or its process is started again. A
/// machine that boots takes longer: who dismisses one then is told what that would lose, and it comes back under another id.
pub const DEAD_AFTER: Duration = Duration::from_secs(10);
/// How long another machine may be heard under a node's id before that node is refused: longer than one that has moved is taken to be where it was.
pub const NAMESAKE_PATIENCE: Duration = Duration::from_secs(10);
