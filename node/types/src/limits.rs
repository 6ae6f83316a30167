//! Every bound that more than one crate must agree on, with the arithmetic that sets it.
//!
//! A bound that one crate alone needs lives in that crate's own `limits.rs`.

use crate::units::{BLOCK_LEN_BYTES, GIB, KIB, MIB};

/// Bytes of a slab image at most. A locator's offset fits in 32 bits, and a lost drive's slabs stay small
/// enough to be rebuilt one by one within seconds.
pub const SLAB_LEN_BYTES_MAX: u32 = (256 * MIB) as u32;

/// Blocks of payload in a row at most: their checksums (4 bytes each) and the row header's fixed part
/// (at most 256 bytes) fill one block: 960 x 4 + 256 = 4096.
pub const ROW_BLOCKS_MAX: u32 = (BLOCK_LEN_BYTES - ROW_HEADER_FIXED_BYTES_MAX) / 4;
/// Bytes kept for a row header's fixed part.
pub const ROW_HEADER_FIXED_BYTES_MAX: u32 = 256;
/// Bytes of payload in a row at most: 3.75 MiB.
pub const ROW_LEN_BYTES_MAX: u32 = ROW_BLOCKS_MAX * BLOCK_LEN_BYTES;
/// Rows in a slab at most: every row carries at least one block.
pub const ROWS_PER_SLAB_MAX: u32 = SLAB_LEN_BYTES_MAX / BLOCK_LEN_BYTES;
/// Rows that a writer has in flight on one slab at most (D in the design).
pub const ROWS_IN_FLIGHT_MAX: usize = 4;

/// Plaintext bytes in a frame: the unit of compression, encryption and verified range reads.
pub const FRAME_LEN_BYTES: u32 = (64 * KIB) as u32;
/// Plaintext bytes in one needle at most. With 48 frames a needle with its header stays inside a row even
/// where compression did not help: 3 MiB + header < 3.75 MiB.
pub const NEEDLE_PLAIN_LEN_BYTES_MAX: u32 = (3 * MIB) as u32;
/// Frames in a needle at most.
pub const NEEDLE_FRAMES_MAX: u32 = NEEDLE_PLAIN_LEN_BYTES_MAX / FRAME_LEN_BYTES;
/// Bytes of a needle header at most: fixed part, bucket and key, and 12 bytes a frame.
pub const NEEDLE_HEADER_LEN_BYTES_MAX: u32 = 4096;

/// Objects up to this size travel as needles in rows of hot slabs; larger ones are cut into pieces.
pub const SMALL_OBJECT_LEN_BYTES_MAX: u64 = 8 * MIB;
/// Bytes of an object in one PUT at most, as in S3.
pub const OBJECT_LEN_BYTES_MAX: u64 = 5 * GIB;
/// Locators of one version at most: 5 GiB in needles of 3 MiB is 1,707.
pub const LOCATORS_PER_VERSION_MAX: usize = 2048;
/// Bytes of a config value that is kept inline in consensus at most.
pub const CONFIG_INLINE_LEN_BYTES_MAX: u32 = (64 * KIB) as u32;
/// Versions of a config key that are kept at most; the oldest goes first.
pub const CONFIG_VERSIONS_MAX: usize = 16;

/// Bytes of an object key at most, as in S3.
pub const OBJECT_KEY_LEN_BYTES_MAX: usize = 1024;
/// Bytes of user metadata (names and values) at most, as in S3.
pub const USER_METADATA_LEN_BYTES_MAX: usize = 2048;
/// Keys in a list answer at most, as in S3.
pub const LIST_KEYS_MAX: u32 = 1000;
/// Keys in one DeleteObjects request at most, as in S3.
pub const DELETE_KEYS_MAX: usize = 1000;
/// Entries in one CommitBatch at most.
pub const COMMIT_BATCH_ENTRIES_MAX: usize = 256;
/// Buckets in a cluster at most.
pub const BUCKETS_MAX: usize = 10_000;

/// Fragments of a slab (k + m) at most.
pub const FRAGMENTS_MAX: usize = 32;
/// Zones of a cluster at most.
pub const ZONES_MAX: usize = 8;
/// Nodes of a cluster at most.
pub const NODES_MAX: usize = 256;
/// Drives of a node at most (d3en.12xlarge has 24; HS1 has 24).
pub const DRIVES_PER_NODE_MAX: usize = 32;
/// Data groups of a cluster at most; the count is fixed when the cluster is made.
pub const GROUPS_MAX: u16 = 1024;

/// Bytes of an extent by default. The superblock says which size a drive was formatted with.
pub const EXTENT_LEN_BYTES_DEFAULT: u32 = (16 * MIB) as u32;
/// Bytes of an extent at least; smaller drives (tests, `strongroom dev`) use smaller extents.
pub const EXTENT_LEN_BYTES_MIN: u32 = (256 * KIB) as u32;
/// Bytes of an extent at most.
pub const EXTENT_LEN_BYTES_MAX: u32 = (64 * MIB) as u32;
/// Extents of one fragment at most: a whole slab image plus a header block per row in the worst case, in the
/// smallest extents, would be 2,081; the writer seals a slab before its holders need more than this.
pub const EXTENTS_PER_FRAGMENT_MAX: u32 = 2048;

/// Bytes of the bulk part of one frame on the wire at most: a full row and some room.
pub const WIRE_PAYLOAD_LEN_BYTES_MAX: u32 = (4 * MIB) as u32;
/// Bytes of the head (the message itself) of one frame on the wire at most. Raft entries travel here.
pub const WIRE_HEAD_LEN_BYTES_MAX: u32 = (8 * MIB) as u32;

const _: () = assert!(ROW_BLOCKS_MAX == 960);
const _: () = assert!(NEEDLE_PLAIN_LEN_BYTES_MAX + NEEDLE_HEADER_LEN_BYTES_MAX <= ROW_LEN_BYTES_MAX);
const _: () = assert!(NEEDLE_PLAIN_LEN_BYTES_MAX.is_multiple_of(FRAME_LEN_BYTES));
const _: () = assert!(
    OBJECT_LEN_BYTES_MAX.div_ceil(NEEDLE_PLAIN_LEN_BYTES_MAX as u64) <= LOCATORS_PER_VERSION_MAX as u64
);
const _: () = assert!(ROW_LEN_BYTES_MAX + BLOCK_LEN_BYTES <= WIRE_PAYLOAD_LEN_BYTES_MAX);
const _: () = assert!(EXTENT_LEN_BYTES_MIN.is_multiple_of(BLOCK_LEN_BYTES));
