//! Bounds of the node's queues and batches.

use std::time::Duration;

/// Jobs that wait for a drive's lane at most; beyond, the drive says Busy. With rows of at most 3.75 MiB and 4 rows in flight
/// from each of some tens of writers this is never reached unless the drive stalls.
pub const DRIVE_JOBS_WAITING_MAX: usize = 256;
/// Jobs in one batch of the lane at most.
pub const DRIVE_BATCH_JOBS_MAX: usize = 64;
/// Bytes in one batch of the lane at most (soft: the job that crosses it is still taken): what a drive writes in some 20 ms.
pub const DRIVE_BATCH_LEN_BYTES_MAX: usize = 16 << 20;
/// Rows that arrived before the row they follow, kept a moment, per drive at most.
pub const DRIVE_EARLY_ROWS_MAX: usize = 64;
/// Fragments in one page of a report at most.
pub const REPORT_FRAGMENTS_MAX: usize = 4096;
/// Extent headers read at once when a drive is opened.
pub const SCAN_READS_MAX: usize = 32;
/// One part in so many of a drive's extents is kept for fences: each takes one extent at most.
pub const DRIVE_FENCE_RESERVE_PARTS: u32 = 100;
/// Extents with unreadable headers that a drive names in its status at most.
pub const DAMAGE_EXTENTS_TOLD_MAX: usize = 16;
/// Needles and events that wait for the writer's task at most; beyond, who hands them over waits.
pub const INGEST_EVENTS_WAITING_MAX: usize = 1024;
/// Slab records that a node keeps to find fragments with; at some 300 bytes each: 20 MB.
pub const SLAB_RECORDS_CACHED_MAX: usize = 65_536;
/// Buckets that a node keeps to resolve names with.
pub const BUCKETS_CACHED_MAX: usize = strongroom_types::limits::BUCKETS_MAX;
/// Bytes of objects on their way in at most, over all requests of a node; beyond, the client is told to slow down.
pub const PUT_LEN_BYTES_MAX: u64 = 256 << 20;
/// Needles of one PUT that are on their way at once; with the one that is being filled, a request holds three of at most 3 MiB.
pub const PUT_NEEDLES_IN_FLIGHT_MAX: usize = 2;
/// Encodings that a node does at once at most: as many as make a device that answers late busy. Each holds windows of k slices, 8 MiB, and of what is made of
/// them, no more than as many again, and the same of what is next: 32 MiB, 256 MiB in all; a repair of one fragment of six 8 MiB, 64 MiB in all.
pub const ENCODES_MAX: usize = 8;
/// Sums for other zones' encodings that a node makes at once at most; each holds windows of at most k slices and their sums: 16 MiB. Beyond, who asks reads
/// the fragments.
pub const SUMS_MAX: usize = 16;
/// Slabs that a group's leader seals at once at most.
pub const SEALS_MAX: usize = 4;
/// Slabs whose missing holders a leader asks at once at most.
pub const RECOUNTS_MAX: usize = 4;
/// Slabs that a leader converts at once at most.
pub const CONVERTS_MAX: usize = 2;
/// Cold slabs that a leader has made whole again at once at most.
pub const REPAIRS_MAX: usize = 4;
/// Cold slabs of which a leader moves fragments at once at most; of these one for balance.
pub const MOVES_MAX: usize = 2;
/// Slabs that a node compacts at once at most: in each a batch of needles is in memory.
pub const COMPACTIONS_MAX: usize = 1;
/// Slabs that are compacted before it is asked again how much is alive where.
pub const COMPACTIONS_BETWEEN_LOOKS_MAX: usize = 16;
/// Needles that a compaction reads at once.
pub const COMPACT_READS_MAX: usize = 4;
/// Times that a slab into which nothing points is tried to be killed: each time it got another layout in between, which takes longer.
pub const KILLS_MAX: usize = 3;
/// Dead slabs that a leader has forgotten at once at most.
pub const FORGETS_MAX: usize = 4;
/// Slabs whose usage is asked for at once.
pub const USAGES_PAGE: u32 = 4096;
/// Slab records asked for at once when a group's table is walked.
pub const SLABS_PAGE: u32 = 256;
/// Slabs that a node asks about in one sweep over its own fragments.
pub const SWEEP_SLABS_MAX: usize = 256;
/// Alarms that are kept for status.
pub const ALARMS_MAX: usize = 64;
/// Sessions and groups that are remembered as fenced; one that is forgotten is fenced once more, which changes nothing.
pub const SESSIONS_FENCED_MAX: usize = 65_536;
/// Events that are kept for those who follow them; at some 200 bytes each: 400 KB.
pub const EVENTS_KEPT_MAX: usize = 2048;
/// Standing jobs of a node at most: one for each of its workers, and some for each of its drives.
pub const JOBS_STANDING_MAX: usize = 16 + 2 * strongroom_types::limits::DRIVES_PER_NODE_MAX;
/// Runs of jobs at once at most; an operator has one or two.
pub const JOBS_RUNNING_MAX: usize = 32;
/// Runs that have ended and are kept, with their reports of some KB.
pub const JOBS_ENDED_MAX: usize = 128;
/// Named counts of a job at most.
pub const JOB_COUNTS_MAX: usize = 16;
/// Slabs that a run keeps in mind at once; at some 16 bytes each: 4 MB. What is beyond is its next share.
pub const RUN_SLABS_MAX: usize = 262_144;
/// Fragments that a repair keeps in mind at once; at some 32 bytes each: 8 MB. What is beyond comes once those are whole.
pub const RUN_FRAGMENTS_MAX: usize = 262_144;
/// Open slabs that lack a holder and of which a run asks at one look whether there is something in them: a writer has a few open slabs, and there are at most 256 writers.
pub const RUN_OPEN_SLABS_MAX: usize = 1024;
/// Fragments that a tour found not to be whole and keeps in mind, for whoever asked for it; at some 24 bytes each: 400 KB a drive. All are counted.
pub const SCRUB_BAD_FRAGMENTS_MAX: usize = 16_384;
/// Connections of the control socket at once at most: operators' commands, those who follow events, and a scraper.
pub const CONTROL_CONNECTIONS_MAX: usize = 32;
/// Readers that follow events at once at most: fewer than connections, so that they never keep an order out.
pub const EVENT_STREAMS_MAX: usize = 16;
const _: () = assert!(EVENT_STREAMS_MAX < CONTROL_CONNECTIONS_MAX);
/// Bytes of a request's body at most: an order is a few fields.
pub const CONTROL_BODY_LEN_BYTES_MAX: usize = 64 << 10;
/// Bytes of a body that are taken from who sends too many, so that the refusal arrives; one at a time for each connection, and none is kept.
pub const CONTROL_BODY_TAKEN_LEN_BYTES_MAX: usize = 1 << 20;
/// How long a body may take.
pub const CONTROL_BODY_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's head at most.
pub const CONTROL_HEAD_LEN_BYTES_MAX: usize = 16 << 10;
/// How long a head may take, and a connection be idle.
pub const CONTROL_HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// Connections for metrics and health over TCP at once at most: some scrapers and load balancers.
pub const METRICS_CONNECTIONS_MAX: usize = 64;

const _: () = assert!(
    strongroom_core::limits::COMPACT_BATCH_NEEDLES_MAX <= strongroom_meta::limits::RELOCATE_MOVES_MAX
);
const _: () = assert!(USAGES_PAGE as usize <= strongroom_meta::limits::USAGES_PAGE_MAX);
