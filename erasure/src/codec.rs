//! The codec: one code RS(k, m) with its matrix, and the verbs on slices.
//!
//! It is cheap to share (`Arc<Codec>`) and takes no lock. All that changes in it are the plans it keeps for patterns that come again.

mod summed;

use crate::CodecError;
use crate::engine::{Engine, PreparedMatrix};
use crate::generator::{MatrixId, generator};
use crate::kernel::Write;
use crate::limits::SHARD_COUNT_MAX;
use crate::matrix::Matrix;
use crate::plan::{Plan, Plans};
use crate::shards::{IN_ORDER, ShardList, common_len, expect_len, expect_range};
use std::ops::Range;
use std::sync::Arc;

/// RS(k, m) over one generator matrix. Shards `0..k` are data, `k..k + m` parity.
#[derive(Debug)]
pub struct Codec {
    data_count: usize,
    parity_count: usize,
    matrix: MatrixId,
    generator: Matrix,
    /// The parity rows of the generator.
    parity: PreparedMatrix,
    plans: Plans,
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
        Ok(Self { data_count, parity_count, matrix, generator, parity, plans: Plans::new() })
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
        self.encode_with(data, parity, Write::Replace)
    }

    /// The same, with a word on what becomes of the bytes that are in the parity slices.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn encode_with(
        &self,
        data: &[&[u8]],
        parity: &mut [&mut [u8]],
        write: Write,
    ) -> Result<(), CodecError> {
        let len_bytes = self.expect_data(data)?;
        self.expect_parity(len_bytes, parity)?;
        self.encode_all(data, len_bytes, parity, write);
        Ok(())
    }

    fn encode_all(&self, data: &[&[u8]], len_bytes: usize, parity: &mut [&mut [u8]], write: Write) {
        let selected = (&IN_ORDER[..self.parity_count], &IN_ORDER[..self.data_count]);
        self.parity.multiply(selected, data, len_bytes, parity, write);
    }

    /// Computes only the parity shards asked for, each given with its index in `k..k + m`.
    ///
    /// # Errors
    /// A shape that does not fit, an index of data; then no output has been touched.
    pub fn encode_some(&self, data: &[&[u8]], wanted: &mut [(usize, &mut [u8])]) -> Result<(), CodecError> {
        let len_bytes = self.expect_data(data)?;
        self.multiply_parity(&IN_ORDER[..self.data_count], data, len_bytes, wanted, Write::Replace)
    }

    /// What these columns contribute to the parity shards given with their indices.
    fn multiply_parity(
        &self,
        columns: &[u8],
        inputs: &[&[u8]],
        len_bytes: usize,
        parity: &mut [(usize, &mut [u8])],
        write: Write,
    ) -> Result<(), CodecError> {
        // Distinct, known indices: so the list is not longer than the arrays below.
        ShardList::collect(parity.iter().map(|output| output.0), self.shard_count())?;
        let mut rows = [0; SHARD_COUNT_MAX];
        let mut slices: [&mut [u8]; SHARD_COUNT_MAX] = Default::default();
        let output_count = parity.len();
        for (place, (index, bytes)) in parity.iter_mut().enumerate() {
            let row = index.checked_sub(self.data_count).ok_or(CodecError::NotParity { index: *index })?;
            expect_len(*index, len_bytes, bytes.len())?;
            rows[place] = IN_ORDER[row];
            slices[place] = bytes;
        }
        let selected = (&rows[..output_count], columns);
        self.parity.multiply(selected, inputs, len_bytes, &mut slices[..output_count], write);
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

    /// Brings parity up to date with one data shard that changes. `delta` is what it was XOR what it will be
    /// ([`add_into`](crate::add_into) makes it), at any range of positions; `parity` are the same positions of any parity shards, each with its index in `k..k + m`.
    ///
    /// # Errors
    /// `index` is no data, one of `parity` is; a shape that does not fit; then nothing has been touched.
    pub fn update(
        &self,
        index: usize,
        delta: &[u8],
        parity: &mut [(usize, &mut [u8])],
    ) -> Result<(), CodecError> {
        if index >= self.data_count {
            return Err(CodecError::NotData { index });
        }
        let column = [IN_ORDER[index]];
        self.multiply_parity(&column, &[delta], delta.len(), parity, Write::Add)
    }

    /// Works out how to make `wanted` from `present`, or remembers. The first `k` of `present` become the sources:
    /// name those first that are cheapest to read. A wanted shard may itself be present.
    ///
    /// # Errors
    /// Fewer than `k` present; an index that is unknown or repeated.
    pub fn plan(&self, present: &[usize], wanted: &[usize]) -> Result<Arc<Plan>, CodecError> {
        self.plan_for(present.iter().copied(), wanted.iter().copied())
    }

    /// Makes the wanted shards, data or parity, from any `k` or more that are present. All slices are of
    /// one length.
    ///
    /// # Errors
    /// Fewer than `k` present; a shape that does not fit; then no output has been touched.
    pub fn reconstruct_some(
        &self,
        present: &[(usize, &[u8])],
        wanted: &mut [(usize, &mut [u8])],
    ) -> Result<(), CodecError> {
        let (plan, len_bytes) = self.plan_for_slices(present, wanted)?;
        plan.apply_in_order(&present[..self.data_count], 0..len_bytes, wanted)
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
        let (plan, len_bytes) = self.plan_for_slices(present, wanted)?;
        expect_range(&range, len_bytes)?;
        plan.apply_in_order(&present[..self.data_count], range, wanted)
    }

    fn plan_for(
        &self,
        present: impl Iterator<Item = usize>,
        wanted: impl Iterator<Item = usize>,
    ) -> Result<Arc<Plan>, CodecError> {
        let mut sources = ShardList::collect(present, self.shard_count())?;
        let wanted = ShardList::collect(wanted, self.shard_count())?;
        if sources.len() < self.data_count {
            return Err(CodecError::TooFewShards { needed: self.data_count, found: sources.len() });
        }
        sources.truncate(self.data_count);
        let make = |sources, wanted| Plan::new(self.engine(), &self.generator, sources, wanted);
        Ok(self.plans.get(sources, wanted, make))
    }

    /// The plan, and how long what is present is.
    fn plan_for_slices(
        &self,
        present: &[(usize, &[u8])],
        wanted: &[(usize, &mut [u8])],
    ) -> Result<(Arc<Plan>, usize), CodecError> {
        // Those beyond the first k are not read, but a length that differs is a mistake all the same.
        let len_bytes = common_len(present.iter().map(|(index, bytes)| (*index, bytes.len())))?;
        let plan =
            self.plan_for(present.iter().map(|shard| shard.0), wanted.iter().map(|output| output.0))?;
        Ok((plan, len_bytes))
    }

    /// `m` parity slices of the length of the data.
    fn expect_parity(&self, len_bytes: usize, parity: &[&mut [u8]]) -> Result<(), CodecError> {
        if parity.len() != self.parity_count {
            return Err(CodecError::ParityCountWrong { expected: self.parity_count, found: parity.len() });
        }
        let mut indexed = (self.data_count..).zip(parity);
        indexed.try_for_each(|(index, bytes)| expect_len(index, len_bytes, bytes.len()))
    }

    /// The common length of `k` data slices.
    fn expect_data(&self, data: &[&[u8]]) -> Result<usize, CodecError> {
        if data.len() != self.data_count {
            return Err(CodecError::DataCountWrong { expected: self.data_count, found: data.len() });
        }
        common_len(data.iter().map(|bytes| bytes.len()).enumerate())
    }
}
