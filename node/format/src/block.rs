//! The frame that all block structures share, and the cursor that reads and writes fixed fields.
//!
//! The first 16 bytes are the same in every structure and in every future version of it: magic (8), version (2), zero (2),
//! CRC32C (4) over the seed and the whole block without these 4 bytes. So a version that is not known can still be told
//! from a damaged block.

use crate::checksum::extend;
use crate::error::{FormatError, Structure};
use strongroom_types::units::BLOCK_LEN_BYTES;

/// Bytes in a block, for indexing.
pub const BLOCK_LEN: usize = BLOCK_LEN_BYTES as usize;

/// One block of bytes.
pub type Block = [u8; BLOCK_LEN];

const VERSION_AT: usize = 8;
/// So many bytes of a magic are no chance: a block with a rotten magic is damaged, and damaged is not absent. No two magics
/// of block structures have so many in common.
const MAGIC_BYTES_EQUAL_MIN: usize = 6;
const CRC_AT: usize = 12;
/// Where a structure's own fields begin.
pub(crate) const BODY_AT: usize = 16;

/// A structure that fills one block.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) structure: Structure,
    pub(crate) magic: [u8; 8],
    pub(crate) version: u16,
}

impl Kind {
    /// An empty block of this kind, with a writer at its first own field.
    pub(crate) fn begin(self, block: &mut [u8]) -> Writer<'_> {
        assert!(block.len() == BLOCK_LEN);
        block.fill(0);
        let mut writer = Writer { out: block, at: 0 };
        writer.bytes(&self.magic);
        writer.u16(self.version);
        writer.at = BODY_AT;
        writer
    }

    /// Writes the checksum once all fields are in.
    pub(crate) fn finish(self, block: &mut [u8], seed: u32) {
        assert!(block.len() == BLOCK_LEN);
        let crc = block_crc32c(block, seed);
        block[CRC_AT..BODY_AT].copy_from_slice(&crc.to_le_bytes());
    }

    /// Length and magic; gives a reader at the first own field, to find out the seed. Nothing it reads is checked yet.
    pub(crate) fn peek(self, block: &[u8]) -> Result<Reader<'_>, FormatError> {
        let structure = self.structure;
        if block.len() != BLOCK_LEN {
            return Err(FormatError::Length {
                structure,
                found: block.len() as u64,
                expected: BLOCK_LEN as u64,
            });
        }
        let magic: [u8; VERSION_AT] = block[..VERSION_AT].try_into().expect("a block is longer");
        if magic != self.magic {
            let equal = magic.iter().zip(&self.magic).filter(|(found, expected)| found == expected).count();
            return Err(if equal >= MAGIC_BYTES_EQUAL_MIN {
                let (found, expected) = (u64::from_le_bytes(magic), "the magic, of which most is there");
                FormatError::Field { structure, field: "magic", found, expected }
            } else if is_zero(block) {
                FormatError::Zero { structure }
            } else {
                FormatError::NotThis { structure }
            });
        }
        Ok(Reader { structure, bytes: block, at: BODY_AT })
    }

    /// Length, magic, checksum and version; gives a reader at the first own field.
    pub(crate) fn open(self, block: &[u8], seed: u32) -> Result<Reader<'_>, FormatError> {
        self.open_since(block, seed, self.version)
    }

    /// As [`Self::open`], of a structure whose versions from `oldest` on only gained fields, where older blocks have zeros.
    pub(crate) fn open_since(self, block: &[u8], seed: u32, oldest: u16) -> Result<Reader<'_>, FormatError> {
        let structure = self.structure;
        let body = self.peek(block)?;
        let mut frame = Reader { structure, bytes: block, at: VERSION_AT };
        let version = frame.u16()?;
        frame.at = CRC_AT;
        let expected = frame.u32()?;
        let found = block_crc32c(block, seed);
        if found != expected {
            return Err(FormatError::Checksum { structure, expected, found });
        }
        if !(oldest..=self.version).contains(&version) {
            return Err(FormatError::Version { structure, found: version, known: self.version });
        }
        frame.at = VERSION_AT + 2;
        frame.zero(2)?;
        Ok(body)
    }
}

fn block_crc32c(block: &[u8], seed: u32) -> u32 {
    extend(extend(seed, &block[..CRC_AT]), &block[BODY_AT..])
}

/// Whether every byte is zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Writes little-endian fields one after the other. Lengths are the code's own, so running over the end is a bug.
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        self.out[self.at..end].copy_from_slice(bytes);
        self.at = end;
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.bytes(&value.to_le_bytes());
    }

    /// Leaves `len` bytes as they are (zero).
    pub(crate) fn skip(&mut self, len: usize) {
        self.at += len;
    }
}

/// Reads little-endian fields one after the other; running over the end is an error.
pub(crate) struct Reader<'a> {
    structure: Structure,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(structure: Structure, bytes: &'a [u8]) -> Self {
        Self { structure, bytes, at: 0 }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let taken = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(FormatError::Length {
            structure: self.structure,
            found: self.bytes.len() as u64,
            expected: (self.at as u64).saturating_add(len as u64),
        })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], FormatError> {
        Ok(self.take(LEN)?.try_into().expect("take gave LEN bytes"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, FormatError> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// `len` bytes that this version keeps zero.
    pub(crate) fn zero(&mut self, len: usize) -> Result<(), FormatError> {
        match self.take(len)?.iter().find(|&&byte| byte != 0) {
            None => Ok(()),
            Some(&byte) => Err(self.field("reserved byte", u64::from(byte), "0")),
        }
    }

    /// The rest, which this version keeps zero.
    pub(crate) fn zero_rest(mut self) -> Result<(), FormatError> {
        self.zero(self.bytes.len() - self.at)
    }

    /// Nothing is left.
    pub(crate) fn end(&self) -> Result<(), FormatError> {
        if self.at != self.bytes.len() {
            let (found, expected) = (self.bytes.len() as u64, self.at as u64);
            return Err(FormatError::Length { structure: self.structure, found, expected });
        }
        Ok(())
    }

    pub(crate) fn field(&self, field: &'static str, found: u64, expected: &'static str) -> FormatError {
        FormatError::Field { structure: self.structure, field, found, expected }
    }
}

#[cfg(test)]
mod tests;
