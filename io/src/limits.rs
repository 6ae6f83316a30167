//! Every bound of this crate, with the arithmetic that sets it.

/// Bytes of a block: the unit of offsets and lengths, and the alignment of buffers. The largest logical block
/// of the drives in question, and the page size.
pub const BLOCK_LEN_BYTES: usize = 4096;
/// Bytes of a sector: the most that a drive stores or loses as a whole when power fails.
pub const SECTOR_LEN_BYTES: usize = 512;

/// Bytes of one buffer, and so of one operation, at most. One request to the system transfers at most 2 GiB
/// less a page; half of that is far above every row (4 MiB) and every scrub read.
pub const BUFFER_LEN_BYTES_MAX: usize = 1 << 30;
/// Bytes of a device at most: offsets are signed 64-bit numbers to the system.
pub const DEVICE_LEN_BYTES_MAX: u64 = (i64::MAX as u64) & !(BLOCK_LEN_BYTES as u64 - 1);

/// Operations in flight on one device at most. Drives reach their full speed at 32 to 128.
pub const OPERATIONS_PER_DEVICE_MAX: usize = 256;
/// Devices on one driver at most: all drives of a node (32), if they are on one core.
pub const DEVICES_PER_DRIVER_MAX: usize = 32;
/// Operations that one ring gives to the kernel at once at most; no more completions than these ever wait in
/// it, so it cannot overflow. What its devices submit beyond waits in the driver. Eight devices at their
/// bound: enough to keep any number of drives busy, in a ring of 48 KiB (2048 x 16 bytes and 256 x 64), which
/// counts as locked memory.
pub const OPERATIONS_PER_RING_MAX: usize = 8 * OPERATIONS_PER_DEVICE_MAX;
/// Operations handed to the kernel by one system call at most.
pub const SUBMISSION_ENTRIES: u32 = 256;

/// Size classes of a pool at most; each is one registered buffer of a ring.
pub const POOL_CLASSES_MAX: usize = 8;
/// Pools registered with one driver at most.
pub const POOLS_PER_DRIVER_MAX: usize = 16;
/// Registered buffers of a ring. More than 1024 are cut off silently by some kernels' tools; this stays below.
pub const REGISTERED_BUFFERS_MAX: usize = POOL_CLASSES_MAX * POOLS_PER_DRIVER_MAX;
/// Bytes of one size class in a pool at most: what the kernel takes as one registered buffer.
pub const POOL_CLASS_LEN_BYTES_MAX: usize = 1 << 30;

/// Threads of one device in the blocking backend.
pub const BLOCKING_THREADS_PER_DEVICE: usize = 4;

/// Bytes written at once while a file that stands for a drive is created.
pub const CREATE_CHUNK_LEN_BYTES: usize = 4 << 20;

/// Bytes in the write cache of a device in memory at most; beyond, the oldest reach the media by themselves,
/// as in a real drive.
pub const MEMORY_CACHE_LEN_BYTES_MAX: usize = 64 << 20;

const _: () = assert!(BLOCK_LEN_BYTES.is_multiple_of(SECTOR_LEN_BYTES));
const _: () = assert!(BUFFER_LEN_BYTES_MAX.is_multiple_of(BLOCK_LEN_BYTES));
const _: () = assert!(BUFFER_LEN_BYTES_MAX < (2 << 30) - BLOCK_LEN_BYTES);
const _: () = assert!(DEVICE_LEN_BYTES_MAX.is_multiple_of(BLOCK_LEN_BYTES as u64));
// The kernel makes completion rings of at most 65,536 entries.
const _: () = assert!(OPERATIONS_PER_RING_MAX <= 65_536);
const _: () = assert!(SUBMISSION_ENTRIES as usize <= OPERATIONS_PER_RING_MAX);
const _: () = assert!(REGISTERED_BUFFERS_MAX <= 1024);
const _: () = assert!(CREATE_CHUNK_LEN_BYTES.is_multiple_of(BLOCK_LEN_BYTES));
