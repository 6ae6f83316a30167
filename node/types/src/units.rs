//! Sizes that everything else is counted in.

/// Bytes in a block: the unit of alignment, of checksums on media and of torn-write detection.
pub const BLOCK_LEN_BYTES: u32 = 4096;

/// `KIB` bytes in a kibibyte.
pub const KIB: u64 = 1024;
/// Bytes in a mebibyte.
pub const MIB: u64 = 1024 * KIB;
/// Bytes in a gibibyte.
pub const GIB: u64 = 1024 * MIB;

/// The smallest multiple of a block that is not below `len_bytes`.
///
/// Lengths within a slab are below 2^32 - 4096, so the sum cannot overflow for them; a larger argument
/// is a broken invariant and panics.
pub const fn round_up_to_block(len_bytes: u32) -> u32 {
    match len_bytes.checked_next_multiple_of(BLOCK_LEN_BYTES) {
        Some(rounded) => rounded,
        None => panic!("length within a block of 2^32"),
    }
}

/// How many blocks hold `len_bytes`.
pub const fn blocks_for(len_bytes: u32) -> u32 {
    len_bytes.div_ceil(BLOCK_LEN_BYTES)
}

const _: () = assert!(BLOCK_LEN_BYTES.is_power_of_two());

#[cfg(test)]
mod tests;
