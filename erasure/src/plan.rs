//! A loss pattern worked out: which sources make which wanted shards, with what coefficients.
//!
//! Making a plan inverts a matrix and fills tables (microseconds); applying it allocates nothing.
//! A codec keeps those that were asked for last, so a pattern that comes again costs nothing of that.
//!
//! # Partial sums
//! A lost shard is a sum over `k` sources. Sources in another zone need not travel one by one: that
//! zone applies the same plan to the sources it holds ([`Plan::partial_sum`]) and sends one buffer
//! for each lost shard. The buffers of all zones, added up with [`add_into`], are the shard. A plan depends
//! only on the code, the sources in their order, and the wanted shards, so each zone makes it for itself.

mod kept;

pub(crate) use kept::Plans;

use crate::CodecError;
use crate::engine::{Engine, PreparedMatrix};
use crate::kernel::Write;
use crate::limits::SHARD_COUNT_MAX;
use crate::matrix::Matrix;
use crate::shards::{IN_ORDER, ShardList, common_len, expect_len, expect_range};
use std::ops::Range;

/// How to make the wanted shards out of `k` sources. Made by [`Codec::plan`](crate::Codec::plan).
#[derive(Debug)]
pub struct Plan {
    shard_count: usize,
    sources: ShardList,
    wanted: ShardList,
    /// A row for each wanted shard, a column for each source.
    coefficients: Matrix,
    prepared: PreparedMatrix,
}

impl Plan {
    /// `generator` has a row for each shard; `sources` are as many as it has columns.
    pub(crate) fn new(engine: Engine, generator: &Matrix, sources: ShardList, wanted: ShardList) -> Self {
        assert_eq!(sources.len(), generator.column_count());
        // sources = S * data and wanted = W * data, so wanted = W * S^-1 * sources.
        let data_from_sources = generator
            .select_rows(sources.iter())
            .invert()
            .expect("any k rows of a generator are independent: both matrices are MDS");
        let coefficients = generator.select_rows(wanted.iter()).multiply(&data_from_sources);
        let prepared = PreparedMatrix::new(engine, &coefficients);
        Self { shard_count: generator.row_count(), sources, wanted, coefficients, prepared }
    }

    /// Whether it is the plan for these.
    fn is_of(&self, sources: &ShardList, wanted: &ShardList) -> bool {
        self.sources.as_bytes() == sources.as_bytes() && self.wanted.as_bytes() == wanted.as_bytes()
    }

    /// The `k` shards that are read, in the order they were given.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.sources.iter()
    }

    /// The shards that can be made, in the order they were asked for.
    pub fn wanted(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.wanted.iter()
    }

    /// What `source` is multiplied by in the sum for `wanted`; nothing if the plan does not hold both.
    pub fn coefficient(&self, wanted: usize, source: usize) -> Option<u8> {
        let (row, column) = (self.wanted.place(wanted)?, self.sources.place(source)?);
        Some(self.coefficients.at(row.into(), column.into()))
    }

    /// The engine that applies it.
    pub fn engine(&self) -> Engine {
        self.prepared.engine()
    }

    /// Makes wanted shards. `sources` are all of [`Plan::sources`], `wanted` any of [`Plan::wanted`],
    /// each with its index, in any order; all slices are of one length.
    ///
    /// # Errors
    /// A shape that does not fit; then no output has been touched.
    pub fn reconstruct(
        &self,
        sources: &[(usize, &[u8])],
        wanted: &mut [(usize, &mut [u8])],
    ) -> Result<(), CodecError> {
        self.expect_every_source(sources)?;
        self.apply(sources, None, wanted, Write::Replace)
    }

    /// Makes the bytes at the positions `range` of wanted shards, and computes nothing else.
    ///
    /// `sources` are the same positions of all of [`Plan::sources`] (whole shards, or the blocks that
    /// were read and checked); `range` counts from the start of these slices; each of `wanted` is
    /// `range.len()` long.
    ///
    /// # Errors
    /// A shape that does not fit; then no output has been touched.
    pub fn decode_range(
        &self,
        sources: &[(usize, &[u8])],
        range: Range<usize>,
        wanted: &mut [(usize, &mut [u8])],
    ) -> Result<(), CodecError> {
        self.expect_every_source(sources)?;
        self.apply(sources, Some(range), wanted, Write::Replace)
    }

    /// Adds up what `sources`, any part of [`Plan::sources`], contribute to wanted shards.
    ///
    /// With [`Write::Replace`] each of `sums` becomes that part of the sum, with [`Write::Add`] it is added
    /// to what is there. When every source has contributed exactly once, the sum is the shard.
    ///
    /// # Errors
    /// A shape that does not fit; then no output has been touched.
    pub fn partial_sum(
        &self,
        sources: &[(usize, &[u8])],
        sums: &mut [(usize, &mut [u8])],
        write: Write,
    ) -> Result<(), CodecError> {
        self.apply(sources, None, sums, write)
    }

    /// Makes the positions `range` of all wanted shards, where it is known that `sources` and `wanted` are those of the plan, in its order, and that `range` is within the sources.
    ///
    /// # Errors
    /// A length that differs; then no output has been touched.
    pub(crate) fn apply_in_order(
        &self,
        sources: &[(usize, &[u8])],
        range: Range<usize>,
        wanted: &mut [(usize, &mut [u8])],
    ) -> Result<(), CodecError> {
        debug_assert!(self.sources().eq(sources.iter().map(|source| source.0)));
        debug_assert!(self.wanted().eq(wanted.iter().map(|output| output.0)));
        let mut inputs: [&[u8]; SHARD_COUNT_MAX] = [&[]; SHARD_COUNT_MAX];
        for (input, (_, bytes)) in inputs.iter_mut().zip(sources) {
            *input = &bytes[range.clone()];
        }
        let mut outputs: [&mut [u8]; SHARD_COUNT_MAX] = Default::default();
        let (source_count, wanted_count) = (sources.len(), wanted.len());
        for (output, (index, bytes)) in outputs.iter_mut().zip(wanted) {
            expect_len(*index, range.len(), bytes.len())?;
            *output = bytes;
        }
        self.prepared.multiply(
            (&IN_ORDER[..wanted_count], &IN_ORDER[..source_count]),
            &inputs[..source_count],
            range.len(),
            &mut outputs[..wanted_count],
            Write::Replace,
        );
        Ok(())
    }

    fn expect_every_source(&self, sources: &[(usize, &[u8])]) -> Result<(), CodecError> {
        let given = ShardList::collect(sources.iter().map(|source| source.0), self.shard_count)?;
        match self.sources.iter().find(|&index| given.place(index).is_none()) {
            Some(index) => Err(CodecError::SourceMissing { index }),
            None => Ok(()),
        }
    }

    /// The way to the kernel for what comes from callers: checks everything, then gathers slices and places on the stack.
    fn apply(
        &self,
        sources: &[(usize, &[u8])],
        range: Option<Range<usize>>,
        outputs: &mut [(usize, &mut [u8])],
        write: Write,
    ) -> Result<(), CodecError> {
        // Distinct, known indices: so neither list is longer than the arrays below.
        ShardList::collect(sources.iter().map(|source| source.0), self.shard_count)?;
        ShardList::collect(outputs.iter().map(|output| output.0), self.shard_count)?;
        let source_len = if sources.is_empty() {
            common_len(outputs.iter().map(|(index, bytes)| (*index, bytes.len())))?
        } else {
            common_len(sources.iter().map(|(index, bytes)| (*index, bytes.len())))?
        };
        let range = range.unwrap_or(0..source_len);
        expect_range(&range, source_len)?;

        let mut columns = [0; SHARD_COUNT_MAX];
        let mut inputs: [&[u8]; SHARD_COUNT_MAX] = [&[]; SHARD_COUNT_MAX];
        for (place, &(index, bytes)) in sources.iter().enumerate() {
            columns[place] = self.sources.place(index).ok_or(CodecError::NotPlanned { index })?;
            inputs[place] = &bytes[range.clone()];
        }
        let mut rows = [0; SHARD_COUNT_MAX];
        let mut slices: [&mut [u8]; SHARD_COUNT_MAX] = Default::default();
        let output_count = outputs.len();
        for (place, (index, bytes)) in outputs.iter_mut().enumerate() {
            rows[place] = self.wanted.place(*index).ok_or(CodecError::NotPlanned { index: *index })?;
            expect_len(*index, range.len(), bytes.len())?;
            slices[place] = bytes;
        }
        self.prepared.multiply(
            (&rows[..output_count], &columns[..sources.len()]),
            &inputs[..sources.len()],
            range.len(),
            &mut slices[..output_count],
            write,
        );
        Ok(())
    }
}

/// Adds (XORs) a partial sum that came from elsewhere onto `sum`.
///
/// # Errors
/// [`CodecError::SumLengthDiffers`].
pub fn add_into(sum: &mut [u8], partial: &[u8]) -> Result<(), CodecError> {
    if sum.len() != partial.len() {
        return Err(CodecError::SumLengthDiffers { expected_bytes: sum.len(), found_bytes: partial.len() });
    }
    // By words, so that unoptimised builds are not slow; the compiler makes vectors of it otherwise.
    let (sum_words, sum_rest) = sum.as_chunks_mut::<8>();
    let (partial_words, partial_rest) = partial.as_chunks::<8>();
    for (word, other) in sum_words.iter_mut().zip(partial_words) {
        *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(*other)).to_ne_bytes();
    }
    for (byte, other) in sum_rest.iter_mut().zip(partial_rest) {
        *byte ^= other;
    }
    Ok(())
}
