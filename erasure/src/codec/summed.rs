//! Encoding and summing up in one go over memory: a tile of all shards at a time, which the first-level cache holds.
//!
//! Parity that the caches do not hold is not written past them, as [`Codec::encode`] does: it would have to be made aside, summed up there and copied, and a core that
//! does nothing but such stores waits for each (RS(6, 6) of 64 KiB: 0.7 times the speed; only RS(17, 3), with three of twenty, gains).

use super::Codec;
use crate::CodecError;
use crate::crc32c;
use crate::kernel::Write;
use crate::limits::SHARD_COUNT_MAX;
use crate::shards::{IN_ORDER, ShardList, expect_len};
use std::num::NonZeroUsize;

/// Bytes of all shards together in a tile: what the first-level cache of the machines this is for (32 KiB) still holds then.
const TILE_LEN_BYTES: usize = 28 << 10;
/// Of one shard at least. What many shards do not find in the first-level cache any more costs less than shorter sums (RS(17, 3): 1.1 times as fast as with half of it).
const TILE_SHARD_LEN_BYTES_MIN: usize = 2 << 10;
/// Of one shard a multiple of this.
const TILE_STEP_LEN_BYTES: usize = 512;

impl Codec {
    /// [`Codec::encode_some`], and the CRC32C of each block of the shards of `sums` while their bytes are in the first-level cache.
    ///
    /// A block has `block_len_bytes`, the last one of a shard what is left. `sums` names shards by their indices, any of the data and of those that are `wanted`.
    ///
    /// # Errors
    /// A shape that does not fit, an index of data among `wanted`, a sum of parity that is not; then nothing has been touched.
    pub fn encode_summed(
        &self,
        data: &[&[u8]],
        wanted: &mut [(usize, &mut [u8])],
        block_len_bytes: NonZeroUsize,
        sums: &mut [(usize, &mut [u32])],
    ) -> Result<(), CodecError> {
        let len_bytes = self.expect_data(data)?;
        let block_count = len_bytes.div_ceil(block_len_bytes.get());
        let made = ShardList::collect(wanted.iter().map(|output| output.0), self.shard_count())?;
        ShardList::collect(sums.iter().map(|sums| sums.0), self.shard_count())?;
        let mut rows = [0; SHARD_COUNT_MAX];
        for (row, (index, bytes)) in rows.iter_mut().zip(wanted.iter()) {
            let parity = index.checked_sub(self.data_count).ok_or(CodecError::NotParity { index: *index })?;
            expect_len(*index, len_bytes, bytes.len())?;
            *row = IN_ORDER[parity];
        }
        for (index, sums) in &*sums {
            if *index >= self.data_count && made.place(*index).is_none() {
                return Err(CodecError::NotWanted { index: *index });
            }
            if sums.len() != block_count {
                let (index, found) = (*index, sums.len());
                return Err(CodecError::BlockCountWrong { index, expected: block_count, found });
            }
        }
        let selected = (&rows[..wanted.len()], &IN_ORDER[..self.data_count]);
        let tile_len = (TILE_LEN_BYTES / (self.data_count + wanted.len())).max(TILE_SHARD_LEN_BYTES_MIN);
        let tile_len = tile_len - tile_len % TILE_STEP_LEN_BYTES;
        for block in 0..block_count {
            let start = block * block_len_bytes.get();
            let end = len_bytes.min(start + block_len_bytes.get());
            sums.iter_mut().for_each(|(_, sums)| sums[block] = 0);
            for start in (start..end).step_by(tile_len) {
                let tile = start..end.min(start + tile_len);
                let mut inputs: [&[u8]; SHARD_COUNT_MAX] = [&[]; SHARD_COUNT_MAX];
                for (input, bytes) in inputs.iter_mut().zip(data) {
                    *input = &bytes[tile.clone()];
                }
                let mut outputs: [&mut [u8]; SHARD_COUNT_MAX] = Default::default();
                for (output, (_, bytes)) in outputs.iter_mut().zip(wanted.iter_mut()) {
                    *output = &mut bytes[tile.clone()];
                }
                let (inputs, outputs) = (&inputs[..data.len()], &mut outputs[..selected.0.len()]);
                self.parity.multiply(selected, inputs, tile.len(), outputs, Write::Replace);
                for (index, sums) in sums.iter_mut() {
                    let bytes = match made.place(*index) {
                        Some(place) => &*outputs[usize::from(place)],
                        None => inputs[*index],
                    };
                    sums[block] = crc32c::append(sums[block], bytes);
                }
            }
        }
        Ok(())
    }
}
