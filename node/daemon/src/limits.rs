//! Bounds of the node's queues and batches.

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
/// Encodings that a node does at once at most; each holds up to 32 windows of 256 KiB twice: 16 MiB.
pub const ENCODES_MAX: usize = 2;
/// Slabs that a group's leader seals at once at most.
pub const SEALS_MAX: usize = 4;
/// Slabs whose missing holders a leader asks at once at most.
pub const RECOUNTS_MAX: usize = 4;
/// Slabs that a leader converts at once at most.
pub const CONVERTS_MAX: usize = 2;
/// Slab records asked for at once when a group's table is walked.
pub const SLABS_PAGE: u32 = 256;
/// Slabs that a node asks about in one sweep over its own fragments.
pub const SWEEP_SLABS_MAX: usize = 256;
/// Alarms that are kept for status.
pub const ALARMS_MAX: usize = 64;
/// Sessions and groups that are remembered as fenced; one that is forgotten is fenced once more, which changes nothing.
pub const SESSIONS_FENCED_MAX: usize = 65_536;
