//! Bounds of the codec, with their arithmetic. Lengths of shards have no bound here.

/// Most shards (data and parity together) of a codec.
///
/// The field would carry 256. 32 covers every profile the planner offers and lets each operation
/// gather its slices in arrays on the stack: 32 slices of 16 bytes are 512 bytes.
pub const SHARD_COUNT_MAX: usize = 32;

/// Most coefficients a matrix of the codec can have: `rows <= SHARD_COUNT_MAX`, and as at least one
/// shard is parity, `columns < SHARD_COUNT_MAX`.
pub const COEFFICIENT_COUNT_MAX: usize = SHARD_COUNT_MAX * (SHARD_COUNT_MAX - 1);

/// Plans that a codec keeps. One takes, for each coefficient (shards wanted times `k`), 8 bytes for an affine instruction and 32 for a byte shuffle; the scalar kernel's takes 2 KiB for each source
/// and eight shards wanted. For 64 plans of RS(17, 3) that make three shards this is 26 KiB, 102 KiB and 2.2 MB; more than 992 coefficients there never are: 0.5, 2 and
/// 16 MB.
pub const PLANS_KEPT: usize = 64;

// Shard indices and places in lists of shards are kept as bytes, 0xFF meaning "none".
const _: () = assert!(SHARD_COUNT_MAX < u8::MAX as usize);
