//! The codec: one code RS(k, m) with its matrix, and the verbs on slices.
//!
//! It is immutable and cheap to share (`Arc<Codec>`); no operation keeps state or takes a lock.
//! There is no cache of plans inside: callers know best which patterns come again.

use crate::CodecError;
use crate::engine::{Engine, PreparedMatrix};
use crate::generator::{MatrixId, generator};
use crate::kernel::Write;
use crate::limits::SHARD_COUNT_MAX;
use crate::matrix::Matrix;
use crate::plan::Plan;
use crate::shards::{IN_ORDER, ShardList, common_len, expect_len};
use std::ops::Range;

/// RS(k, m) over one generator matrix. Shards `0..k` are data, `k..k + m` parity.
#[derive(Debug)]
pub struct Codec {
    data_count: usize,
    parity_count: usize,
    matrix: MatrixId,
    generator: Matrix,
    /// The parity rows of the generator.
    parity: PreparedMatrix,
}

impl Codec {
    /// RS(`data_count`, `parity_count`) on the fastest kernel of this machine. One data shard means copies.
    ///
    /// # Errors
    /// Outside `1 <= k`, `1 <= m`, `k + m <= SHARD_COUNT_MAX`.
    pub fn new(data_count: usize, parity_count: usize, matrix: MatrixId) -> Result<Self, CodecError> {
        Self::with_engine(data_count, parity_count, matrix, Engine::detect())
    }

    /// The same on a kernel of the caller's choice.
    ///
    /// # Errors
    /// As [`Codec::new`].
    pub fn with_engine(
        data_count: usize,
        parity_count: usize,
        matrix: MatrixId,
        engine: Engine,
    ) -> Result<Self, CodecError> {
        let fits = data_count.checked_add(parity_count).is_some_and(|count| count <= SHARD_COUNT_MAX);
        if data_count == 0 || parity_count == 0 || !fits {
            return Err(CodecError::ShapeUnsupported { data_count, parity_count });
        }
        let generator = generator(data_count, parity_count, matrix);
        let parity_rows = generator.select_rows(data_count..data_count + parity_count);
        let parity = PreparedMatrix::new(engine, &parity_rows);
        Ok(Self { data_count, parity_count, matrix, generator, parity })
    }

    /// `k`.
    pub fn data_count(&self) -> usize {
        self.data_count
    }

    /// `m`.
    pub fn parity_count(&self) -> usize {
        self.parity_count
    }

    /// `k + m`.
    pub fn shard_count(&self) -> usize {
        self.data_count + self.parity_count
    }

    /// Which matrix makes the parity.
    pub fn matrix_id(&self) -> MatrixId {
        self.matrix
    }

    /// The matrix itself: `k + m` rows of `k`, the identity first.
    pub fn generator(&self) -> &Matrix {
        &self.generator
    }

    /// Which kernel does the work.
    pub fn engine(&self) -> Engine {
        self.parity.engine()
    }

    /// Computes all parity: `k` slices in, `m` slices out, all of one length (zero included).
    ///
    /// # Errors
    /// A shape that does not fit; then no output has been touched.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), CodecError> {
        let len_bytes = self.expect_data(data)?;
        if parity.len() != self.parity_count {
            return Err(CodecError::ParityCountWrong { expected: self.parity_count, found: parity.len() });
        }
        for (index, bytes) in (self.data_count..).zip(parity.iter()) {
            expect_len(index, len_bytes, bytes.len())?;
        }
        let selected = (&IN_ORDER[..self.parity_count], &IN_ORDER[..self.data_count]);
        self.parity.multiply(selected, data, len_bytes, parity, Write::Replace);
        Ok(())
    }

    /// Computes only the parity shards asked for, each given with its index in `k..k + m`.
    ///
    /// # Errors
    /// A shape that does not fit, an index of data; then no output has been touched.
    pub fn encode_some(&self, data: &[&[u8]], wanted: &mut [(usize, &mut [u8])]) -> Result<(), CodecError> {
        let len_bytes = self.expect_data(data)?;
        // Distinct, known indices: so the list is not longer than the arrays below.
        ShardList::collect(wanted.iter().map(|output| output.0), self.shard_count())?;
        let mut rows = [0; SHARD_COUNT_MAX];
        let mut slices: [&mut [u8]; SHARD_COUNT_MAX] = Default::default();
        let output_count = wanted.len();
        for (place, (index, bytes)) in wanted.iter_mut().enumerate() {
            let row = index.checked_sub(self.data_count).ok_or(CodecError::NotParity { index: *index })?;
            expect_len(*index, len_bytes, bytes.len())?;
            rows[place] = IN_ORDER[row];
            slices[place] = bytes;
        }
        let selected = (&rows[..output_count], &IN_ORDER[..self.data_count]);
        self.parity.multiply(selected, data, len_bytes, &mut slices[..output_count], Write::Replace);
        Ok(())
    }

    /// Whether all `k + m` shards, given in order, agree. A mismatch does not say which one is wrong.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn verify(&self, shards: &[&[u8]]) -> Result<bool, CodecError> {
        if shards.len() != self.shard_count() {
            return Err(CodecError::ShardCountWrong { expected: self.shard_count(), found: shards.len() });
        }
        let len_bytes = common_len(shards.iter().map(|bytes| bytes.len()).enumerate())?;
        let (data, parity) = shards.split_at(self.data_count);
        let selected = (&IN_ORDER[..self.parity_count], &IN_ORDER[..self.data_count]);
        Ok(self.parity.verify(selected, data, len_bytes, parity))
    }

    /// Works out how to make `wanted` from `present`. The first `k` of `present` become the sources:
    /// name those first that are cheapest to read. A wanted shard may itself be present.
    ///
    /// # Errors
    /// Fewer than `k` present; an index that is unknown or repeated.
    pub fn plan(&self, present: &[usize], wanted: &[usize]) -> Result<Plan, CodecError> {
        self.plan_for(present.iter().copied(), wanted.iter().copied())
    }

    /// Makes the wanted shards, data or parity, from any `k` or more that are present. All slices are of
    /// one length. Makes a plan and drops it: for a pattern that comes again use [`Codec::plan`].
    ///
    /// # Errors
    /// Fewer than `k` present; a shape that does not fit; then no output has been touched.
    pub fn reconstruct_some(
        &self,
        present: &[(usize, &[u8])],
        wanted: &mut [(usize, &mut [u8])],
    ) -> Result<(), CodecError> {
        let plan = self.plan_for_slices(present, wanted)?;
        plan.reconstruct(&present[..self.data_count], wanted)
    }

    /// Makes the bytes at the positions `range` of the wanted shards, and computes nothing else.
    ///
    /// `present` are the same positions of `k` or more shards (whole shards, or the blocks that were
    /// read and checked); `range` counts from the start of these slices; each of `wanted` is
    /// `range.len()` long.
    ///
    /// # Errors
    /// Fewer than `k` present; a shape that does not fit; then no output has been touched.
    pub fn decode_range(
        &self,
        present: &[(usize, &[u8])],
        range: Range<usize>,
        wanted: &mut [(usize, &mut [u8])],
    ) -> Result<(), CodecError> {
        let plan = self.plan_for_slices(present, wanted)?;
        plan.decode_range(&present[..self.data_count], range, wanted)
    }

    fn plan_for(
        &self,
        present: impl Iterator<Item = usize>,
        wanted: impl Iterator<Item = usize>,
    ) -> Result<Plan, CodecError> {
        let mut sources = ShardList::collect(present, self.shard_count())?;
        let wanted = ShardList::collect(wanted, self.shard_count())?;
        if sources.len() < self.data_count {
            return Err(CodecError::TooFewShards { needed: self.data_count, found: sources.len() });
        }
        sources.truncate(self.data_count);
        Ok(Plan::new(self.engine(), &self.generator, sources, wanted))
    }

    fn plan_for_slices(
        &self,
        present: &[(usize, &[u8])],
        wanted: &[(usize, &mut [u8])],
    ) -> Result<Plan, CodecError> {
        // Those beyond the first k are not read, but a length that differs is a mistake all the same.
        common_len(present.iter().map(|(index, bytes)| (*index, bytes.len())))?;
        self.plan_for(present.iter().map(|shard| shard.0), wanted.iter().map(|output| output.0))
    }

    /// The common length of `k` data slices.
    fn expect_data(&self, data: &[&[u8]]) -> Result<usize, CodecError> {
        if data.len() != self.data_count {
            return Err(CodecError::DataCountWrong { expected: self.data_count, found: data.len() });
        }
        common_len(data.iter().map(|bytes| bytes.len()).enumerate())
    }
}
