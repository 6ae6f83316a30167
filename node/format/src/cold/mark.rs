//! The mark of a finished cold fragment; stands in the mark slots of its first extent.

use super::slice_len;
use crate::block::{BLOCK_LEN, Block, Kind};
use crate::checksum::{FragmentKey, mark_seed};
use crate::error::{FormatError, Structure};
use crate::seal_mark::{SlotChoice, check_key, choose_by, read_key, write_key};
use strongroom_types::limits::SLAB_LEN_BYTES_MAX;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{Epoch, FragmentIndex, Generation, Profile, SlabId};

const KIND: Kind = Kind { structure: Structure::ColdMark, magic: *b"SR-COLDM", version: 1 };

/// Says that slice and checksum table of a cold fragment are whole on media, and of what image they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdMark {
    /// The slab.
    pub slab: SlabId,
    /// The fragment.
    pub fragment: FragmentIndex,
    /// The layout it belongs to.
    pub generation: Generation,
    /// Which matrix made the parity; numbered by the erasure crate.
    pub matrix: u8,
    /// The layout's profile.
    pub profile: Profile,
    /// Bytes of the slice.
    pub slice_len_bytes: u32,
    /// Bytes of the image.
    pub image_len_bytes: u32,
    /// The slab's epoch at its seal.
    pub epoch: Epoch,
    /// Rows of the image.
    pub rows: u32,
    /// Root of the image's row chain.
    pub root_crc32c: u32,
    /// Checksum of the fragment's checksum table, as the slab table has it.
    pub table_crc32c: u32,
}

impl ColdMark {
    /// The fragment that the mark is about.
    pub fn key(&self) -> FragmentKey {
        FragmentKey { slab: self.slab, fragment: self.fragment, generation: self.generation }
    }

    /// The block of this mark, for either slot.
    ///
    /// # Errors
    /// `Field` where a field is out of its range or the lengths do not fit each other.
    pub fn encode(&self) -> Result<Block, FormatError> {
        self.check()?;
        let mut block = [0; BLOCK_LEN];
        let mut writer = KIND.begin(&mut block);
        write_key(&mut writer, self.key());
        writer.u8(self.profile.data_count());
        writer.u8(self.profile.parity_count());
        writer.u8(self.matrix);
        writer.u32(self.slice_len_bytes);
        writer.u32(self.image_len_bytes);
        writer.u32(self.epoch.get());
        writer.u32(self.rows);
        writer.u32(self.root_crc32c);
        writer.u32(self.table_crc32c);
        KIND.finish(&mut block, mark_seed(self.key()));
        Ok(block)
    }

    /// The mark of fragment `key` in `block`.
    ///
    /// # Errors
    /// `Zero`, `NotThis` and `Misplaced` where there is none of this fragment, else what is wrong with it.
    pub fn decode(block: &[u8], key: FragmentKey) -> Result<Self, FormatError> {
        let found = read_key(&mut KIND.peek(block)?)?;
        let mut reader = KIND.open(block, mark_seed(found))?;
        check_key(KIND.structure, found, key)?;
        read_key(&mut reader)?;
        let (data, parity, matrix) = (reader.u8()?, reader.u8()?, reader.u8()?);
        let profile = Profile::new(data, parity).map_err(|_| {
            reader.field("profile", u64::from(data) << 8 | u64::from(parity), "1 <= k, 1 <= m, k + m <= 32")
        })?;
        let mark = Self {
            slab: key.slab,
            fragment: key.fragment,
            generation: key.generation,
            matrix,
            profile,
            slice_len_bytes: reader.u32()?,
            image_len_bytes: reader.u32()?,
            epoch: Epoch::new(reader.u32()?),
            rows: reader.u32()?,
            root_crc32c: reader.u32()?,
            table_crc32c: reader.u32()?,
        };
        reader.zero_rest()?;
        mark.check()?;
        Ok(mark)
    }

    fn check(&self) -> Result<(), FormatError> {
        let field = |field, found: u32, expected| {
            Err(FormatError::Field { structure: KIND.structure, field, found: u64::from(found), expected })
        };
        let fragment = self.fragment.get();
        if fragment >= self.profile.fragment_count() {
            return field("fragment", u32::from(fragment), "below the profile's count of fragments");
        }
        let image = self.image_len_bytes;
        if image > SLAB_LEN_BYTES_MAX || !image.is_multiple_of(BLOCK_LEN_BYTES) {
            return field("image_len_bytes", image, "whole blocks, at most 256 MiB");
        }
        if self.slice_len_bytes != slice_len(image, self.profile.data_count()) {
            return field(
                "slice_len_bytes",
                self.slice_len_bytes,
                "the image's length over k, in whole blocks",
            );
        }
        if self.rows > image / BLOCK_LEN_BYTES || (self.rows == 0) != (image == 0) {
            return field("rows", self.rows, "at least one block a row, and rows where there is an image");
        }
        if self.rows == 0 && self.root_crc32c != 0 {
            return field("root_crc32c", self.root_crc32c, "0 without rows");
        }
        Ok(())
    }
}

/// What the two slots of fragment `key` say: the whole mark with the higher epoch. A slot that the device did not give is
/// passed as its error (`FormatError::Unreadable`).
pub fn choose(
    first: Result<&[u8], FormatError>,
    second: Result<&[u8], FormatError>,
    key: FragmentKey,
) -> SlotChoice<ColdMark> {
    let decode = |slot: Result<&[u8], FormatError>| slot.and_then(|block| ColdMark::decode(block, key));
    choose_by(decode(first), decode(second), |mark| mark.epoch)
}

/// For fuzzing: makes the checksum of `block` right, whatever is in it.
pub(crate) fn mend(block: &mut Block) {
    if let Ok(key) = KIND.peek(block).and_then(|mut reader| read_key(&mut reader)) {
        KIND.finish(block, mark_seed(key));
    }
}

#[cfg(test)]
mod tests;
