//! The checksum table of a cold fragment: one CRC32C for each block of the slice, in blocks that stand after the slice.

use crate::block::{BLOCK_LEN, Reader, Writer, is_zero};
use crate::checksum::{FragmentKey, extend, fragment_block, table_block_seed, table_seed};
use crate::error::{FormatError, Structure};
use strongroom_types::limits::SLAB_LEN_BYTES_MAX;
use strongroom_types::units::BLOCK_LEN_BYTES;

const STRUCTURE: Structure = Structure::ChecksumTable;
const MAGIC: [u8; 4] = *b"SRCT";
const VERSION: u16 = 1;
const CRC_AT: usize = 12;
const ENTRIES_AT: usize = 16;

/// Checksums in one block of the table.
pub const ENTRIES_PER_BLOCK: u32 = (BLOCK_LEN_BYTES - ENTRIES_AT as u32) / 4;
/// Checksums in one table at most: a slice is at most a whole image.
pub const ENTRIES_MAX: u32 = SLAB_LEN_BYTES_MAX / BLOCK_LEN_BYTES;

const _: () = assert!(ENTRIES_PER_BLOCK == 1020 && ENTRIES_AT + 4 * ENTRIES_PER_BLOCK as usize == BLOCK_LEN);

/// Blocks of the table for a slice of this length.
pub const fn table_blocks(slice_len_bytes: u32) -> u32 {
    slice_len_bytes.div_ceil(BLOCK_LEN_BYTES).div_ceil(ENTRIES_PER_BLOCK)
}

/// Which block of the table holds the checksum for the slice's block at `position_bytes`.
pub const fn table_block_for(position_bytes: u32) -> u32 {
    position_bytes / BLOCK_LEN_BYTES / ENTRIES_PER_BLOCK
}

/// A block of a cold fragment that does not match its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fragment:?}: block at byte {position_bytes} has crc32c {found:08x}, expected {expected:08x}")]
pub struct BadPosition {
    /// The fragment.
    pub fragment: FragmentKey,
    /// Where the block begins in the slice.
    pub position_bytes: u32,
    /// The checksum in the table; 0 where the table has none for it.
    pub expected: u32,
    /// The checksum of the bytes; 0 where the block is short.
    pub found: u32,
}

/// The whole table. Made by pushing the checksums of the slice's blocks in order, or decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChecksumTable {
    key: FragmentKey,
    entries: Vec<u32>,
}

impl ChecksumTable {
    /// An empty table for fragment `key`.
    pub fn new(key: FragmentKey) -> Self {
        Self { key, entries: Vec::new() }
    }

    /// The fragment that the table is of.
    pub fn key(&self) -> FragmentKey {
        self.key
    }

    /// The checksums, one for each block of the slice.
    pub fn entries(&self) -> &[u32] {
        &self.entries
    }

    /// Bytes of the slice so far.
    pub fn slice_len_bytes(&self) -> u32 {
        self.entries.len() as u32 * BLOCK_LEN_BYTES
    }

    /// Takes the next blocks of the slice.
    ///
    /// # Errors
    /// `Length` where `bytes` is not whole blocks, `Field` where the slice would be longer than an image can be; then
    /// nothing was taken.
    pub fn push_blocks(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        if !bytes.len().is_multiple_of(BLOCK_LEN) {
            let found = bytes.len() as u64;
            let expected = found.next_multiple_of(BLOCK_LEN as u64);
            return Err(FormatError::Length { structure: STRUCTURE, found, expected });
        }
        self.check_room(bytes.len() / BLOCK_LEN)?;
        for block in bytes.chunks_exact(BLOCK_LEN) {
            self.entries.push(fragment_block(self.key, self.slice_len_bytes(), block));
        }
        Ok(())
    }

    /// Takes the checksum of the slice's next block, made by [`fragment_block`] or
    /// [`crate::checksum::fragment_block_from_plain`] for the position [`Self::slice_len_bytes`].
    ///
    /// # Errors
    /// `Field` where the slice would be longer than an image can be.
    pub fn push_checksum(&mut self, crc32c: u32) -> Result<(), FormatError> {
        self.check_room(1)?;
        self.entries.push(crc32c);
        Ok(())
    }

    fn check_room(&self, more: usize) -> Result<(), FormatError> {
        let entries = self.entries.len().saturating_add(more) as u64;
        if entries > u64::from(ENTRIES_MAX) {
            let expected = "at most 65536";
            return Err(FormatError::Field {
                structure: STRUCTURE,
                field: "entries",
                found: entries,
                expected,
            });
        }
        Ok(())
    }

    /// The table's own checksum: over its entries, bound to the fragment. What the slab table keeps.
    pub fn table_crc32c(&self) -> u32 {
        self.entries.iter().fold(table_seed(self.key), |crc, entry| extend(crc, &entry.to_le_bytes()))
    }

    /// The table's blocks, to be written right after the slice.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; table_blocks(self.slice_len_bytes()) as usize * BLOCK_LEN];
        let blocks = out.chunks_exact_mut(BLOCK_LEN).zip(self.entries.chunks(ENTRIES_PER_BLOCK as usize));
        for (index, (block, entries)) in (0u32..).zip(blocks) {
            encode_block(self.key, index, entries, block);
        }
        out
    }

    /// The table of fragment `key` with a slice of `slice_len_bytes` in `bytes`.
    ///
    /// # Errors
    /// `Length` where `bytes` is not just the table, else what is wrong with its first bad block.
    pub fn decode(key: FragmentKey, slice_len_bytes: u32, bytes: &[u8]) -> Result<Self, FormatError> {
        let expected = u64::from(table_blocks(slice_len_bytes)) * u64::from(BLOCK_LEN_BYTES);
        if bytes.len() as u64 != expected {
            return Err(FormatError::Length { structure: STRUCTURE, found: bytes.len() as u64, expected });
        }
        let mut entries = Vec::with_capacity(bytes.len() / 4);
        for (index, block) in (0u32..).zip(bytes.chunks_exact(BLOCK_LEN)) {
            entries.extend_from_slice(TableBlock::decode(key, slice_len_bytes, index, block)?.entries());
        }
        Ok(Self { key, entries })
    }

    /// Whether `bytes` are the slice's blocks from `position_bytes` (a multiple of a block) on.
    ///
    /// # Errors
    /// The first block that does not match, is cut short, or lies beyond the slice.
    pub fn verify(&self, position_bytes: u32, bytes: &[u8]) -> Result<(), BadPosition> {
        verify(self.key, 0, &self.entries, position_bytes, bytes)
    }
}

fn encode_block(key: FragmentKey, index: u32, entries: &[u32], block: &mut [u8]) {
    assert!(!entries.is_empty() && entries.len() <= ENTRIES_PER_BLOCK as usize);
    let mut writer = Writer::new(block);
    writer.bytes(&MAGIC);
    writer.u16(VERSION);
    writer.u16(entries.len() as u16);
    writer.u32(index);
    writer.u32(0);
    for entry in entries {
        writer.u32(*entry);
    }
    let crc = block_crc32c(key, index, block);
    block[CRC_AT..ENTRIES_AT].copy_from_slice(&crc.to_le_bytes());
}

fn block_crc32c(key: FragmentKey, index: u32, block: &[u8]) -> u32 {
    extend(extend(table_block_seed(key, index), &block[..CRC_AT]), &block[ENTRIES_AT..])
}

fn verify(
    key: FragmentKey,
    first: u32,
    entries: &[u32],
    position_bytes: u32,
    bytes: &[u8],
) -> Result<(), BadPosition> {
    let positions = (0u64..).map(|index| u64::from(position_bytes) + index * u64::from(BLOCK_LEN_BYTES));
    for (position, block) in positions.zip(bytes.chunks(BLOCK_LEN)) {
        let position_bytes = u32::try_from(position).unwrap_or(u32::MAX);
        let entry =
            (position_bytes / BLOCK_LEN_BYTES).checked_sub(first).and_then(|at| entries.get(at as usize));
        let whole = position_bytes.is_multiple_of(BLOCK_LEN_BYTES) && block.len() == BLOCK_LEN;
        let found = if whole { fragment_block(key, position_bytes, block) } else { 0 };
        if !whole || entry != Some(&found) {
            let expected = entry.copied().unwrap_or(0);
            return Err(BadPosition { fragment: key, position_bytes, expected, found });
        }
    }
    Ok(())
}

/// One block of a table, for a reader that wants one range and not the whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableBlock {
    key: FragmentKey,
    index: u32,
    entries: heapless::Vec<u32, { ENTRIES_PER_BLOCK as usize }>,
}

impl TableBlock {
    /// Block `index` of the table of fragment `key` with a slice of `slice_len_bytes`.
    ///
    /// # Errors
    /// What is wrong with it; a block of another fragment, layout or place fails by its checksum.
    pub fn decode(
        key: FragmentKey,
        slice_len_bytes: u32,
        index: u32,
        block: &[u8],
    ) -> Result<Self, FormatError> {
        if block.len() != BLOCK_LEN {
            let (found, expected) = (block.len() as u64, BLOCK_LEN as u64);
            return Err(FormatError::Length { structure: STRUCTURE, found, expected });
        }
        if block[..MAGIC.len()] != MAGIC {
            return Err(if is_zero(block) {
                FormatError::Zero { structure: STRUCTURE }
            } else {
                FormatError::NotThis { structure: STRUCTURE }
            });
        }
        let expected = Reader::new(STRUCTURE, &block[CRC_AT..ENTRIES_AT]).u32()?;
        let found = block_crc32c(key, index, block);
        if found != expected {
            return Err(FormatError::Checksum { structure: STRUCTURE, expected, found });
        }
        let mut reader = Reader::new(STRUCTURE, block);
        reader.take(MAGIC.len())?;
        let version = reader.u16()?;
        if version != VERSION {
            return Err(FormatError::Version { structure: STRUCTURE, found: version, known: VERSION });
        }
        let count = u32::from(reader.u16()?);
        let blocks = slice_len_bytes.div_ceil(BLOCK_LEN_BYTES);
        let before = index.saturating_mul(ENTRIES_PER_BLOCK);
        if count == 0 || count != blocks.saturating_sub(before).min(ENTRIES_PER_BLOCK) {
            return Err(reader.field("count", u64::from(count), "one entry for each block of the slice"));
        }
        let index_found = reader.u32()?;
        if index_found != index {
            return Err(reader.field("index", u64::from(index_found), "the place of the block in the table"));
        }
        reader.take(ENTRIES_AT - CRC_AT)?;
        let mut entries = heapless::Vec::new();
        for _ in 0..count {
            entries.push(reader.u32()?).expect("count is at most a block's");
        }
        reader.zero_rest()?;
        Ok(Self { key, index, entries })
    }

    /// The checksums in this block.
    pub fn entries(&self) -> &[u32] {
        &self.entries
    }

    /// Whether `bytes` are the slice's blocks from `position_bytes` (a multiple of a block) on.
    ///
    /// # Errors
    /// The first block that does not match, is cut short, or is not covered by this block of the table.
    pub fn verify(&self, position_bytes: u32, bytes: &[u8]) -> Result<(), BadPosition> {
        verify(self.key, self.index * ENTRIES_PER_BLOCK, &self.entries, position_bytes, bytes)
    }
}

const _: () = assert!(ENTRIES_MAX == 65536);

/// For fuzzing: makes the checksums of a table's blocks right, whatever is in them.
pub(crate) fn mend(key: FragmentKey, bytes: &mut [u8]) {
    for (index, block) in (0u32..).zip(bytes.chunks_exact_mut(BLOCK_LEN)) {
        let crc = block_crc32c(key, index, block);
        block[CRC_AT..ENTRIES_AT].copy_from_slice(&crc.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
