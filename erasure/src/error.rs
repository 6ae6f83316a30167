//! What a caller of the codec can get wrong.

use crate::limits::SHARD_COUNT_MAX;

/// Arguments that fit neither the codec nor each other. Nothing was written to any output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No such code.
    #[error("RS({data_count},{parity_count}): expected 1 <= k, 1 <= m and k + m <= {SHARD_COUNT_MAX}")]
    ShapeUnsupported {
        /// `k` as given.
        data_count: usize,
        /// `m` as given.
        parity_count: usize,
    },
    /// A matrix id from the format that this build does not know.
    #[error("unknown generator matrix {id}")]
    MatrixUnknown {
        /// The byte as found.
        id: u8,
    },
    /// Not exactly `k` data slices.
    #[error("expected {expected} data shards, found {found}")]
    DataCountWrong {
        /// `k`.
        expected: usize,
        /// Slices as given.
        found: usize,
    },
    /// Not exactly `m` parity slices.
    #[error("expected {expected} parity shards, found {found}")]
    ParityCountWrong {
        /// `m`.
        expected: usize,
        /// Slices as given.
        found: usize,
    },
    /// Not exactly `k + m` slices.
    #[error("expected all {expected} shards, found {found}")]
    ShardCountWrong {
        /// `k + m`.
        expected: usize,
        /// Slices as given.
        found: usize,
    },
    /// Not as many sums for a shard as it has blocks.
    #[error("shard {index} has {expected} blocks, there is room for {found} sums")]
    BlockCountWrong {
        /// The first shard of which that is so.
        index: usize,
        /// Blocks of a shard.
        expected: usize,
        /// Sums as given.
        found: usize,
    },
    /// One slice is longer or shorter than the others of the same call.
    #[error("shard {index} has {found_bytes} bytes, expected {expected_bytes}")]
    LengthDiffers {
        /// The shard whose slice differs.
        index: usize,
        /// Length the other arguments imply.
        expected_bytes: usize,
        /// Its length.
        found_bytes: usize,
    },
    /// A partial sum is longer or shorter than the sum it is added to.
    #[error("a partial sum has {found_bytes} bytes, expected {expected_bytes}")]
    SumLengthDiffers {
        /// Length of the sum.
        expected_bytes: usize,
        /// Length of the partial sum.
        found_bytes: usize,
    },
    /// No such shard in this code.
    #[error("shard {index} does not exist among {shard_count}")]
    IndexUnknown {
        /// The index as given.
        index: usize,
        /// `k + m`.
        shard_count: usize,
    },
    /// The same shard twice in one list.
    #[error("shard {index} is given twice")]
    IndexRepeated {
        /// The index as given.
        index: usize,
    },
    /// A parity shard was said to change.
    #[error("shard {index} is parity, only data can change")]
    NotData {
        /// The index as given.
        index: usize,
    },
    /// A data shard was asked of the encoder.
    #[error("shard {index} is data, only parity can be encoded")]
    NotParity {
        /// The index as given.
        index: usize,
    },
    /// A sum of a parity shard that is not encoded.
    #[error("shard {index} is to be summed, and is neither data nor wanted")]
    NotWanted {
        /// The index as given.
        index: usize,
    },
    /// Fewer than `k` shards are at hand: the bytes cannot be had from these.
    #[error("{needed} shards are needed, {found} are at hand")]
    TooFewShards {
        /// `k`.
        needed: usize,
        /// Distinct shards as given.
        found: usize,
    },
    /// The plan was not made from this source, or not for this wanted shard.
    #[error("shard {index} is not part of the plan")]
    NotPlanned {
        /// The index as given.
        index: usize,
    },
    /// A source that the plan needs was not given.
    #[error("the plan needs shard {index}")]
    SourceMissing {
        /// The first one missing.
        index: usize,
    },
    /// The range does not lie inside the slices.
    #[error("bytes {start}..{end} do not lie inside slices of {len_bytes} bytes")]
    RangeOutside {
        /// First position asked for.
        start: usize,
        /// Position after the last one asked for.
        end: usize,
        /// Length of the source slices.
        len_bytes: usize,
    },
}
