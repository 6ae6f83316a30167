//! A cold fragment: a slice of the image (or of its parity), a checksum for each of its blocks, and the mark that says it is
//! whole.

pub mod mark;
pub mod table;

pub use mark::{ColdMark, choose};
pub use table::{BadPosition, ChecksumTable, TableBlock};

use strongroom_types::units::BLOCK_LEN_BYTES;

/// Bytes of each fragment of an image of `image_len_bytes` cut in `k`: S of the design.
///
/// # Panics
/// Where `k` is 0 or the image is within a block of 2^32: no profile and no slab is.
pub const fn slice_len(image_len_bytes: u32, k: u8) -> u32 {
    strongroom_types::units::round_up_to_block(image_len_bytes.div_ceil(k as u32))
}

/// Data bytes of a cold fragment with its table, for the extents it takes.
pub const fn data_len(slice_len_bytes: u32) -> u64 {
    slice_len_bytes as u64 + table::table_blocks(slice_len_bytes) as u64 * BLOCK_LEN_BYTES as u64
}
