//! The header of an extent, and how a fragment's data lies over its extents.
//!
//! Headers are the only index of a drive: who reads them all knows what the drive holds. A header that cannot be read or
//! does not check says nothing: it never means "free".

use crate::block::{BLOCK_LEN, Block, Kind};
use crate::checksum::{FragmentKey, extent_seed};
use crate::error::{FormatError, Structure};
use strongroom_types::limits::{EXTENTS_PER_FRAGMENT_MAX, FRAGMENTS_MAX};
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{DriveId, Epoch, FragmentIndex, Generation, Profile, SlabId};

const KIND: Kind = Kind { structure: Structure::ExtentHeader, magic: *b"SR-EXTNT", version: 2 };
/// The first version knows no retired extents.
const OLDEST: u16 = 1;

/// What the extents of a fragment hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Rows with their headers, appended.
    Hot,
    /// A slice of the image or of its parity, and the checksum table.
    Cold,
}

/// To which fragment an extent belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentHeader {
    /// The drive that it is on.
    pub drive: DriveId,
    /// The slab.
    pub slab: SlabId,
    /// The fragment.
    pub fragment: FragmentIndex,
    /// The layout it belongs to.
    pub generation: Generation,
    /// Which extent of the fragment, from 0.
    pub ordinal: u32,
    /// What it holds.
    pub kind: ExtentKind,
    /// The layout's profile.
    pub profile: Profile,
    /// The slab's epoch when the extent was taken.
    pub epoch: Epoch,
}

/// What an extent is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentState {
    /// Never used, or given back.
    Free,
    /// Part of a fragment.
    Used(ExtentHeader),
    /// Of no fragment, and never to be used again: blocks of it could not be read.
    Retired,
}

const TAG_FREE: u8 = 0;
const TAG_HOT: u8 = 1;
const TAG_COLD: u8 = 2;
const TAG_RETIRED: u8 = 3;

impl ExtentHeader {
    /// The fragment that the extent belongs to.
    pub fn key(&self) -> FragmentKey {
        FragmentKey { slab: self.slab, fragment: self.fragment, generation: self.generation }
    }

    /// The header block of extent `index` of the drive.
    ///
    /// # Errors
    /// `Field` where a field is out of its range.
    pub fn encode(&self, index: u32) -> Result<Block, FormatError> {
        self.check()?;
        let tag = match self.kind {
            ExtentKind::Hot => TAG_HOT,
            ExtentKind::Cold => TAG_COLD,
        };
        Ok(encode(self.drive, index, tag, Some(self)))
    }

    fn check(&self) -> Result<(), FormatError> {
        let field = |field, found, expected| {
            Err(FormatError::Field { structure: KIND.structure, field, found: u64::from(found), expected })
        };
        let fragment = u32::from(self.fragment.get());
        if fragment >= u32::from(self.profile.fragment_count()) {
            return field("fragment", fragment, "below the profile's count of fragments");
        }
        if self.ordinal >= EXTENTS_PER_FRAGMENT_MAX {
            return field("ordinal", self.ordinal, "below 2048");
        }
        if self.kind == ExtentKind::Hot && !self.profile.is_copies() {
            return field("profile", u32::from(self.profile.data_count()), "copies, for a hot fragment");
        }
        Ok(())
    }
}

const _: () = assert!(EXTENTS_PER_FRAGMENT_MAX == 2048 && FRAGMENTS_MAX <= u8::MAX as usize);

fn encode(drive: DriveId, index: u32, tag: u8, header: Option<&ExtentHeader>) -> Block {
    let mut block = [0; BLOCK_LEN];
    let mut writer = KIND.begin(&mut block);
    writer.u128(drive.get());
    writer.u32(index);
    writer.u8(tag);
    if let Some(header) = header {
        writer.u8(header.fragment.get());
        writer.u8(header.profile.data_count());
        writer.u8(header.profile.parity_count());
        writer.u64(header.slab.to_bits());
        writer.u32(header.generation.get());
        writer.u32(header.ordinal);
        writer.u32(header.epoch.get());
    }
    KIND.finish(&mut block, extent_seed(drive.get(), index));
    block
}

/// The header block that says: extent `index` of `drive` is free.
pub fn free_block(drive: DriveId, index: u32) -> Block {
    encode(drive, index, TAG_FREE, None)
}

/// The header block that says: extent `index` of `drive` holds nothing and is not to be used.
pub fn retired_block(drive: DriveId, index: u32) -> Block {
    encode(drive, index, TAG_RETIRED, None)
}

/// What the header `block` of extent `index` of `drive` says. A block of zeros is an extent that was never used.
///
/// # Errors
/// Anything but zeros and a whole header of just this extent. An error is not "free": the extent is left alone.
/// `Misplaced` with field `drive` is a header from before the device was formatted.
pub fn decode(block: &[u8], drive: DriveId, index: u32) -> Result<ExtentState, FormatError> {
    let mut identity = match KIND.peek(block) {
        Err(FormatError::Zero { .. }) => return Ok(ExtentState::Free),
        peeked => peeked?,
    };
    let (found_drive, found_index) = (identity.u128()?, identity.u32()?);
    let mut reader = KIND.open_since(block, extent_seed(found_drive, found_index), OLDEST)?;
    let misplaced = |field| Err(FormatError::Misplaced { structure: KIND.structure, field });
    if reader.u128()? != drive.get() {
        return misplaced("drive");
    }
    if reader.u32()? != index {
        return misplaced("extent index");
    }
    let tag = reader.u8()?;
    let kind = match tag {
        TAG_FREE => {
            reader.zero_rest()?;
            return Ok(ExtentState::Free);
        }
        TAG_RETIRED => {
            reader.zero_rest()?;
            return Ok(ExtentState::Retired);
        }
        TAG_HOT => ExtentKind::Hot,
        TAG_COLD => ExtentKind::Cold,
        other => {
            return Err(reader.field("kind", u64::from(other), "0 (free), 1 (hot), 2 (cold) or 3 (retired)"));
        }
    };
    let fragment = FragmentIndex::new(reader.u8()?);
    let (data, parity) = (reader.u8()?, reader.u8()?);
    let profile = Profile::new(data, parity).map_err(|_| {
        reader.field("profile", u64::from(data) << 8 | u64::from(parity), "1 <= k, 1 <= m, k + m <= 32")
    })?;
    let header = ExtentHeader {
        drive,
        slab: SlabId::from_bits(reader.u64()?),
        fragment,
        generation: Generation::new(reader.u32()?),
        ordinal: reader.u32()?,
        kind,
        profile,
        epoch: Epoch::new(reader.u32()?),
    };
    reader.zero_rest()?;
    header.check()?;
    Ok(ExtentState::Used(header))
}

/// Blocks of the first extent of a fragment before its data: header and two mark slots.
const FIRST_BLOCKS: u32 = 3;
/// Blocks of every other extent before its data: the header.
const OTHER_BLOCKS: u32 = 1;

/// One of the two places for a fragment's mark. A rewrite goes to the slot that does not hold the newest mark, so a torn
/// rewrite never destroys it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkSlot {
    /// Block 1 of the first extent.
    First,
    /// Block 2 of the first extent.
    Second,
}

impl MarkSlot {
    /// Where the slot is in the fragment's first extent.
    pub const fn offset_bytes(self) -> u32 {
        match self {
            Self::First => BLOCK_LEN_BYTES,
            Self::Second => 2 * BLOCK_LEN_BYTES,
        }
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// How the data of a fragment lies over its extents. Positions count data bytes only, from 0, without headers and slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentGeometry {
    extent_len_bytes: u32,
}

/// A place in one of a fragment's extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Which extent of the fragment.
    pub ordinal: u32,
    /// Bytes from the extent's beginning.
    pub offset_bytes: u32,
}

/// Bytes in a row in one of a fragment's extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which extent of the fragment.
    pub ordinal: u32,
    /// Bytes from the extent's beginning.
    pub offset_bytes: u32,
    /// How many; at least one.
    pub len_bytes: u32,
}

impl FragmentGeometry {
    /// The geometry on a drive with this layout.
    pub fn new(layout: &crate::superblock::Layout) -> Self {
        Self { extent_len_bytes: layout.extent_len_bytes() }
    }

    /// The geometry for extents of `extent_len_bytes`, as a peer reports it.
    ///
    /// # Errors
    /// `Field` where no drive has such extents.
    pub fn for_extent_len(extent_len_bytes: u32) -> Result<Self, FormatError> {
        let smallest = u64::from(extent_len_bytes) + 2 * crate::superblock::RESERVE_LEN_BYTES;
        let smallest = smallest.next_multiple_of(u64::from(BLOCK_LEN_BYTES));
        crate::superblock::Layout::new(smallest, extent_len_bytes).map(|layout| Self::new(&layout))
    }

    /// Bytes of an extent.
    pub const fn extent_len_bytes(&self) -> u32 {
        self.extent_len_bytes
    }

    /// Where data begins in extent `ordinal` of the fragment.
    pub const fn data_offset_bytes(&self, ordinal: u32) -> u32 {
        if ordinal == 0 { FIRST_BLOCKS * BLOCK_LEN_BYTES } else { OTHER_BLOCKS * BLOCK_LEN_BYTES }
    }

    /// Data bytes in extent `ordinal` of the fragment; a multiple of a block.
    pub const fn data_capacity(&self, ordinal: u32) -> u32 {
        self.extent_len_bytes - self.data_offset_bytes(ordinal)
    }

    /// Data bytes in the first `extents` extents.
    pub fn data_capacity_of(&self, extents: u32) -> u64 {
        match extents {
            0 => 0,
            _ => u64::from(self.data_capacity(0)) + u64::from(extents - 1) * u64::from(self.data_capacity(1)),
        }
    }

    /// Where data byte `position_bytes` is. A position in an extent that no fragment can have (ordinal 2048 and up) is
    /// still located: the caller has no such extent.
    pub fn locate(&self, position_bytes: u64) -> Location {
        let first = u64::from(self.data_capacity(0));
        let Some(beyond) = position_bytes.checked_sub(first) else {
            let position = u32::try_from(position_bytes).expect("below the capacity of one extent");
            return Location { ordinal: 0, offset_bytes: self.data_offset_bytes(0) + position };
        };
        let other = u64::from(self.data_capacity(1));
        let ordinal =
            u32::try_from(beyond / other).ok().and_then(|full| full.checked_add(1)).unwrap_or(u32::MAX);
        let position = u32::try_from(beyond % other).expect("below the capacity of one extent");
        Location { ordinal, offset_bytes: self.data_offset_bytes(ordinal) + position }
    }

    /// The pieces that data bytes `position_bytes ..` of `len_bytes` consist of, in order; none where the length is zero.
    pub fn split(&self, position_bytes: u64, len_bytes: u64) -> impl Iterator<Item = Piece> + use<> {
        let geometry = *self;
        let mut position = position_bytes;
        let end = position_bytes.saturating_add(len_bytes);
        std::iter::from_fn(move || {
            if position >= end {
                return None;
            }
            let Location { ordinal, offset_bytes } = geometry.locate(position);
            let room = geometry.extent_len_bytes - offset_bytes;
            let len_bytes = u32::try_from(end - position).map_or(room, |left| left.min(room));
            position += u64::from(len_bytes);
            Some(Piece { ordinal, offset_bytes, len_bytes })
        })
    }

    /// How many extents a fragment with `data_len_bytes` takes: at least one, for header and marks.
    pub fn extents_for(&self, data_len_bytes: u64) -> u32 {
        match data_len_bytes.checked_sub(1) {
            None => 1,
            Some(last) => self.locate(last).ordinal.saturating_add(1),
        }
    }
}

/// For fuzzing: makes the checksum of `block` right, whatever is in it.
pub(crate) fn mend(block: &mut Block) {
    let identity = KIND.peek(block).and_then(|mut reader| Ok((reader.u128()?, reader.u32()?)));
    if let Ok((drive, index)) = identity {
        KIND.finish(block, extent_seed(drive, index));
    }
}

#[cfg(test)]
mod tests;
