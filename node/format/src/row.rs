//! A row: one header block and its payload, written to a holder in one write.
//!
//! The slab's image consists of payloads only. The header block is the holder's own framing: it names the holder's
//! fragment and what that holder knew, so it differs between holders, while `chain` sums what must not differ.

use crate::block::{BLOCK_LEN, Block, Kind};
use crate::checksum::{extend, image_block, row_chain_seed, row_header_seed};
use crate::error::{FormatError, Structure};
use strongroom_types::limits::{
    FRAGMENTS_MAX, ROW_BLOCKS_MAX, ROW_HEADER_FIXED_BYTES_MAX, ROW_LEN_BYTES_MAX, ROWS_PER_SLAB_MAX,
    SLAB_LEN_BYTES_MAX,
};
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{Epoch, FragmentIndex, RowSequence, SlabId};

const KIND: Kind = Kind { structure: Structure::RowHeader, magic: *b"SR-ROWHD", version: 1 };

/// Bytes of a row's header: one block.
pub const ROW_HEADER_LEN_BYTES: u32 = BLOCK_LEN_BYTES;
/// Where the block checksums begin.
const BLOCK_CRCS_AT: usize = ROW_HEADER_FIXED_BYTES_MAX as usize;

const _: () = assert!(BLOCK_CRCS_AT + 4 * ROW_BLOCKS_MAX as usize == BLOCK_LEN);

/// What a row's header says besides what follows from the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowFields {
    /// The slab.
    pub slab: SlabId,
    /// This holder's fragment.
    pub fragment: FragmentIndex,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// Place of the row, without gaps.
    pub sequence: RowSequence,
    /// First byte of the payload in the slab image.
    pub offset_bytes: u32,
    /// Rows below this were known to be durable in more than one zone when this row was sent.
    pub committed_upto: RowSequence,
    /// `chain` of the row before; 0 for the first.
    pub previous_chain: u32,
}

impl RowFields {
    fn check(&self, len_bytes: u32) -> Result<(), FormatError> {
        let field = |field, found: u32, expected| {
            Err(FormatError::Field { structure: KIND.structure, field, found: u64::from(found), expected })
        };
        let sequence = self.sequence.get();
        if usize::from(self.fragment.get()) >= FRAGMENTS_MAX {
            return field("fragment", u32::from(self.fragment.get()), "below 32");
        }
        if len_bytes == 0 || len_bytes > ROW_LEN_BYTES_MAX || !len_bytes.is_multiple_of(BLOCK_LEN_BYTES) {
            return field("len_bytes", len_bytes, "1 to 960 whole blocks");
        }
        if sequence >= ROWS_PER_SLAB_MAX {
            return field("sequence", sequence, "below 65536");
        }
        let block = self.offset_bytes / BLOCK_LEN_BYTES;
        if !self.offset_bytes.is_multiple_of(BLOCK_LEN_BYTES)
            || self.offset_bytes > SLAB_LEN_BYTES_MAX - len_bytes
        {
            return field("offset_bytes", self.offset_bytes, "whole blocks, the row inside 256 MiB");
        }
        if block < sequence || (sequence == 0 && block != 0) {
            return field(
                "offset_bytes",
                self.offset_bytes,
                "at least one block a row before, none before the first",
            );
        }
        if self.committed_upto > self.sequence {
            return field("committed_upto", self.committed_upto.get(), "at most this row's sequence");
        }
        if sequence == 0 && self.previous_chain != 0 {
            return field("previous_chain", self.previous_chain, "0 in the first row");
        }
        Ok(())
    }
}

const _: () = assert!(FRAGMENTS_MAX == 32 && ROWS_PER_SLAB_MAX == 65536 && ROW_BLOCKS_MAX == 960);

/// Checksums of a row's payload blocks.
pub type BlockChecksums = heapless::Vec<u32, { ROW_BLOCKS_MAX as usize }>;

/// A row's header, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowHeader {
    /// The slab.
    pub slab: SlabId,
    /// This holder's fragment.
    pub fragment: FragmentIndex,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// Place of the row, without gaps.
    pub sequence: RowSequence,
    /// First byte of the payload in the slab image.
    pub offset_bytes: u32,
    /// Bytes of the payload: 1 to 960 whole blocks.
    pub len_bytes: u32,
    /// Rows below this were known to be durable in more than one zone when this row was sent.
    pub committed_upto: RowSequence,
    /// `chain` of the row before; 0 for the first.
    pub previous_chain: u32,
    /// Sums everything that is equal at all holders, from the first row to this one.
    pub chain: u32,
    /// For each payload block its [`image_block`] checksum.
    pub block_crc32c: BlockChecksums,
}

/// A payload block that does not match its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{slab} {sequence}: block {block} of the payload has crc32c {found:08x}, expected {expected:08x}")]
pub struct BadBlock {
    /// The slab.
    pub slab: SlabId,
    /// The row.
    pub sequence: RowSequence,
    /// Which block of the payload, from 0.
    pub block: u32,
    /// The checksum in the row's header; 0 where the row has no such block.
    pub expected: u32,
    /// The checksum of the bytes; 0 where the block is short.
    pub found: u32,
}

fn chain(fields: &RowFields, len_bytes: u32, block_crcs: &[u8]) -> u32 {
    let mut crc = row_chain_seed();
    for part in [fields.previous_chain, fields.sequence.get(), fields.offset_bytes, len_bytes] {
        crc = extend(crc, &part.to_le_bytes());
    }
    crc = extend(crc, &fields.slab.to_bits().to_le_bytes());
    extend(crc, block_crcs)
}

/// Writes the header of the row whose payload already stands in `row` after the first block, into that first block.
/// Gives the row's chain value.
///
/// # Errors
/// `Field` where a field or the payload's length is out of its range, `Length` where `row` has no payload or no whole blocks.
pub fn encode_in_place(fields: &RowFields, row: &mut [u8]) -> Result<u32, FormatError> {
    let structure = KIND.structure;
    let Some((header, payload)) = row.split_at_mut_checked(BLOCK_LEN) else {
        return Err(FormatError::Length {
            structure,
            found: row.len() as u64,
            expected: 2 * BLOCK_LEN as u64,
        });
    };
    let len_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    fields.check(len_bytes)?;
    let mut block_crc32c = BlockChecksums::new();
    for (offset_bytes, block) in
        (fields.offset_bytes..).step_by(BLOCK_LEN).zip(payload.chunks_exact(BLOCK_LEN))
    {
        let crc = image_block(fields.slab, offset_bytes, block);
        block_crc32c.push(crc).expect("the payload's length was checked");
    }
    Ok(encode_header(fields, len_bytes, &block_crc32c, header))
}

fn encode_header(fields: &RowFields, len_bytes: u32, block_crc32c: &[u32], header: &mut [u8]) -> u32 {
    assert!(block_crc32c.len() * BLOCK_LEN == len_bytes as usize);
    let crcs_end = BLOCK_CRCS_AT + 4 * block_crc32c.len();
    let mut writer = KIND.begin(header);
    writer.u64(fields.slab.to_bits());
    writer.u8(fields.fragment.get());
    writer.skip(3);
    writer.u32(fields.sequence.get());
    writer.u32(fields.epoch.get());
    writer.u32(fields.offset_bytes);
    writer.u32(len_bytes);
    writer.u32(fields.committed_upto.get());
    writer.u32(fields.previous_chain);
    writer.skip(BLOCK_CRCS_AT - CHAIN_AT);
    for crc in block_crc32c {
        writer.u32(*crc);
    }
    let chain = chain(fields, len_bytes, &header[BLOCK_CRCS_AT..crcs_end]);
    header[CHAIN_AT..CHAIN_AT + 4].copy_from_slice(&chain.to_le_bytes());
    KIND.finish(header, row_header_seed(fields.slab, fields.fragment, fields.sequence.get()));
    chain
}

/// Where the chain value stands: after the fields written above.
const CHAIN_AT: usize = 52;

/// Writes header and payload of a row into `out`, which is one block longer than the payload. Gives the row's chain value.
///
/// # Errors
/// As [`encode_in_place`], and `Length` where `out` is not one block longer than the payload.
pub fn encode(fields: &RowFields, payload: &[u8], out: &mut [u8]) -> Result<u32, FormatError> {
    let expected = payload.len().saturating_add(BLOCK_LEN);
    if out.len() != expected {
        let structure = KIND.structure;
        return Err(FormatError::Length { structure, found: out.len() as u64, expected: expected as u64 });
    }
    out[BLOCK_LEN..].copy_from_slice(payload);
    encode_in_place(fields, out)
}

/// The row header in `block`, whichever row's it is.
///
/// # Errors
/// `Zero` and `NotThis` where there is none, else what is wrong with it.
pub fn decode_header(block: &[u8]) -> Result<RowHeader, FormatError> {
    let mut identity = KIND.peek(block)?;
    let slab = SlabId::from_bits(identity.u64()?);
    let fragment = FragmentIndex::new(identity.u8()?);
    identity.take(3)?;
    let sequence = RowSequence::new(identity.u32()?);

    let mut reader = KIND.open(block, row_header_seed(slab, fragment, sequence.get()))?;
    reader.take(8 + 1)?;
    reader.zero(3)?;
    reader.take(4)?;
    let epoch = Epoch::new(reader.u32()?);
    let offset_bytes = reader.u32()?;
    let len_bytes = reader.u32()?;
    let committed_upto = RowSequence::new(reader.u32()?);
    let previous_chain = reader.u32()?;
    let chain_found = reader.u32()?;
    reader.zero(BLOCK_CRCS_AT - CHAIN_AT - 4)?;

    let fields = RowFields { slab, fragment, epoch, sequence, offset_bytes, committed_upto, previous_chain };
    fields.check(len_bytes)?;
    let blocks = (len_bytes / BLOCK_LEN_BYTES) as usize;
    let crc_bytes = reader.take(4 * blocks)?;
    reader.zero_rest()?;
    let chain = chain(&fields, len_bytes, crc_bytes);
    if chain != chain_found {
        return Err(FormatError::Field {
            structure: KIND.structure,
            field: "chain",
            found: u64::from(chain_found),
            expected: "the checksum of this row's fields",
        });
    }
    let block_crc32c = crc_bytes
        .chunks_exact(4)
        .map(|crc| u32::from_le_bytes(crc.try_into().expect("chunks of 4")))
        .collect();
    Ok(RowHeader {
        slab,
        fragment,
        epoch,
        sequence,
        offset_bytes,
        len_bytes,
        committed_upto,
        previous_chain,
        chain,
        block_crc32c,
    })
}

/// The header of just this row in `block`.
///
/// # Errors
/// As [`decode_header`], and `Misplaced` where it is whole but another row's: stale, or misdirected.
pub fn decode_expected(
    block: &[u8],
    slab: SlabId,
    fragment: FragmentIndex,
    sequence: RowSequence,
) -> Result<RowHeader, FormatError> {
    let header = decode_header(block)?;
    let misplaced = |field| Err(FormatError::Misplaced { structure: KIND.structure, field });
    if header.slab != slab {
        return misplaced("slab");
    }
    if header.fragment != fragment {
        return misplaced("fragment");
    }
    if header.sequence != sequence {
        return misplaced("sequence");
    }
    Ok(header)
}

impl RowHeader {
    /// How many payload blocks the row has.
    pub fn block_count(&self) -> u32 {
        self.len_bytes / BLOCK_LEN_BYTES
    }

    /// One past the payload's last byte in the slab image: where the next row begins.
    pub fn end_bytes(&self) -> u32 {
        self.offset_bytes + self.len_bytes
    }

    /// What has to be given to [`encode`] for an equal header.
    pub fn fields(&self) -> RowFields {
        RowFields {
            slab: self.slab,
            fragment: self.fragment,
            epoch: self.epoch,
            sequence: self.sequence,
            offset_bytes: self.offset_bytes,
            committed_upto: self.committed_upto,
            previous_chain: self.previous_chain,
        }
    }

    /// The block of this header, for a holder that rebuilds a row: the checksums are taken from here, so a payload that
    /// does not match them fails after as before.
    ///
    /// # Errors
    /// `Field` where a field is out of its range; never for a header that was decoded.
    pub fn encode(&self) -> Result<Block, FormatError> {
        let fields = self.fields();
        fields.check(self.len_bytes)?;
        if self.block_crc32c.len() as u32 != self.block_count() {
            return Err(FormatError::Field {
                structure: KIND.structure,
                field: "block_crc32c",
                found: self.block_crc32c.len() as u64,
                expected: "one checksum for each block",
            });
        }
        let mut block = [0; BLOCK_LEN];
        encode_header(&fields, self.len_bytes, &self.block_crc32c, &mut block);
        Ok(block)
    }

    /// Whether `payload` is this row's payload.
    ///
    /// # Errors
    /// The first block that does not match; a missing or surplus block counts as one.
    pub fn verify_payload(&self, payload: &[u8]) -> Result<(), BadBlock> {
        self.verify_blocks(0, payload)?;
        let given = u32::try_from(payload.len() / BLOCK_LEN).unwrap_or(u32::MAX);
        if given < self.block_count() {
            return Err(self.bad_block(given, 0));
        }
        Ok(())
    }

    /// Whether `bytes` are this row's payload blocks from `first_block` on.
    ///
    /// # Errors
    /// The first block that does not match, is cut short, or is none of this row's.
    pub fn verify_blocks(&self, first_block: u32, bytes: &[u8]) -> Result<(), BadBlock> {
        for (index, bytes) in (first_block..=u32::MAX).zip(bytes.chunks(BLOCK_LEN)) {
            if index >= self.block_count() || bytes.len() != BLOCK_LEN {
                return Err(self.bad_block(index, 0));
            }
            let found = image_block(self.slab, self.offset_bytes + index * BLOCK_LEN_BYTES, bytes);
            if self.block_crc32c.get(index as usize) != Some(&found) {
                return Err(self.bad_block(index, found));
            }
        }
        Ok(())
    }

    fn bad_block(&self, block: u32, found: u32) -> BadBlock {
        let expected = self.block_crc32c.get(block as usize).copied().unwrap_or(0);
        BadBlock { slab: self.slab, sequence: self.sequence, block, expected, found }
    }
}

/// For fuzzing: makes chain and checksum of `block` right, whatever is in it.
pub(crate) fn mend(block: &mut Block) {
    let identity = KIND.peek(block).and_then(|mut reader| {
        let (slab, fragment, _) = (reader.u64()?, reader.u8()?, reader.take(3)?);
        let (sequence, epoch, offset_bytes) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (len_bytes, committed_upto, previous_chain) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let fields = RowFields {
            slab: SlabId::from_bits(slab),
            fragment: FragmentIndex::new(fragment),
            epoch: Epoch::new(epoch),
            sequence: RowSequence::new(sequence),
            offset_bytes,
            committed_upto: RowSequence::new(committed_upto),
            previous_chain,
        };
        Ok((fields, len_bytes))
    });
    let Ok((fields, len_bytes)) = identity else { return };
    let crcs_end = BLOCK_CRCS_AT + 4 * (len_bytes / BLOCK_LEN_BYTES).min(ROW_BLOCKS_MAX) as usize;
    let chain = chain(&fields, len_bytes, &block[BLOCK_CRCS_AT..crcs_end]);
    block[CHAIN_AT..CHAIN_AT + 4].copy_from_slice(&chain.to_le_bytes());
    KIND.finish(block, row_header_seed(fields.slab, fields.fragment, fields.sequence.get()));
}

#[cfg(test)]
mod tests;
