//! What a drive says of itself, four times over, and where everything else on it lies.
//!
//! **Who it is** (cluster, drive, lengths, in this format) is written once, by a format, and never changes. Two copies must agree in it: one alone may
//! be left over from an earlier use of the device.
//!
//! **How often it was opened**, the incarnation, does change, and there the highest holds among the copies that agree who it is, though a single one
//! says it. Asking for two equal copies would be safe against nothing, since each is under a checksum and of this drive, and it fails where it should
//! not: openings that were cut or failed leave copies that differ by one each, and with one more in a sector that cannot be read no two are equal.
//! What has to hold is that nothing lower is chosen than an incarnation that somebody was told, else the next opening would tell that one again:
//!
//! - Told is only what is durable in all four copies. A later rewrite writes higher ones, a copy at a time, each flushed before the next is begun, those
//!   first that say least. So a cut or an error harms one copy, and the three others say at least what was told.
//! - Of those three one may be in a sector that cannot be read, and another may be an old one whose rewrite the drive lost: two are left that say who
//!   it is, and one of them says at least what was told.
//! - An incarnation that was only tried may be chosen. That does no harm: an opening tells a higher one than any that it found.
//!
//! An image of the drive that was taken while it was rewritten may count as one from after that.
//!
//! **How far it was verified** goes with the incarnation: what the copy says that holds. It is never ahead of what was done, so an older copy costs some
//! reading and makes no promise false.

use crate::block::{Block, Kind, Reader, Writer};
use crate::error::{FormatError, Structure};
use strongroom_types::limits::{EXTENT_LEN_BYTES_MAX, EXTENT_LEN_BYTES_MIN};
use strongroom_types::units::{BLOCK_LEN_BYTES, KIB, MIB};
use strongroom_types::{ClusterId, DriveId, SlabId, WallTime};

const KIND: Kind = Kind { structure: Structure::Superblock, magic: *b"SR-SUPER", version: 2 };
/// The first version says nothing of tours.
const OLDEST: u16 = 1;

/// Copies of the superblock on a drive.
pub const COPIES: usize = 4;
/// Copies that must agree who the drive is.
pub const COPIES_AGREEING_MIN: usize = 2;
/// Bytes kept for superblock copies at the head of the device, and as many at its tail.
pub const RESERVE_LEN_BYTES: u64 = MIB;
/// Distance between the two copies of one reserve: further apart than any unit a drive loses at once.
const COPY_STRIDE_BYTES: u64 = 512 * KIB;
/// Bytes of a device at most: 256 TiB.
pub const DEVICE_LEN_BYTES_MAX: u64 = 1 << 48;

const _: () = assert!(COPY_STRIDE_BYTES + BLOCK_LEN_BYTES as u64 <= RESERVE_LEN_BYTES);
// The count of extents fits in 32 bits.
const _: () = assert!(DEVICE_LEN_BYTES_MAX / (EXTENT_LEN_BYTES_MIN as u64) <= u32::MAX as u64);
const _: () = assert!(EXTENT_LEN_BYTES_MIN.is_power_of_two() && EXTENT_LEN_BYTES_MAX.is_power_of_two());

/// What a drive says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The cluster it was formatted for.
    pub cluster: ClusterId,
    /// The drive; drawn anew at every format.
    pub drive: DriveId,
    /// Raised each time the superblock is rewritten; the highest holds among the copies that agree in all else.
    pub incarnation: u32,
    /// Bytes of the device when it was formatted.
    pub device_len_bytes: u64,
    /// Bytes of an extent.
    pub extent_len_bytes: u32,
    /// How far it was verified.
    pub verified: Verified,
}

/// How far a drive was verified: all its fragments are read in the order of their slabs, from one drawn at random on to the last and from the first on
/// to that one. That is a tour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Everything on the drive was written, or read and looked at, since then: the beginning of the last tour that is over.
    pub since: Option<WallTime>,
    /// The tour under way.
    pub tour: Option<TourPlace>,
}

/// How far a tour has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TourPlace {
    /// When it began.
    pub began: WallTime,
    /// The slab that it began at.
    pub origin: SlabId,
    /// The last slab whose fragments were looked at; `None` before the first.
    pub upto: Option<SlabId>,
}

impl Superblock {
    /// Whether both say the same of who the drive is: all but the incarnation and what goes with it.
    pub fn agrees_with(&self, other: &Self) -> bool {
        Self { incarnation: other.incarnation, verified: other.verified, ..*self } == *other
    }

    /// The block of one copy; all four are equal.
    ///
    /// # Errors
    /// `Field` where device and extent length make no layout.
    pub fn encode(&self) -> Result<Block, FormatError> {
        Layout::new(self.device_len_bytes, self.extent_len_bytes)?;
        let mut block = [0; BLOCK_LEN_BYTES as usize];
        let mut writer = KIND.begin(&mut block);
        writer.u128(self.cluster.get());
        writer.u128(self.drive.get());
        writer.u64(self.device_len_bytes);
        writer.u32(self.incarnation);
        writer.u32(self.extent_len_bytes);
        write_verified(&mut writer, &self.verified);
        KIND.finish(&mut block, 0);
        Ok(block)
    }

    /// The copy in `block`.
    ///
    /// # Errors
    /// `Zero` and `NotThis` where there is none, else what is wrong with it.
    pub fn decode(block: &[u8]) -> Result<Self, FormatError> {
        let mut reader = KIND.open_since(block, 0, OLDEST)?;
        let superblock = Self {
            cluster: ClusterId::new(reader.u128()?),
            drive: DriveId::new(reader.u128()?),
            device_len_bytes: reader.u64()?,
            incarnation: reader.u32()?,
            extent_len_bytes: reader.u32()?,
            verified: read_verified(&mut reader)?,
        };
        reader.zero_rest()?;
        Layout::new(superblock.device_len_bytes, superblock.extent_len_bytes)?;
        Ok(superblock)
    }

    /// Where things lie on this drive.
    ///
    /// # Errors
    /// `Field` where device and extent length make no layout; never for a superblock that was decoded.
    pub fn layout(&self) -> Result<Layout, FormatError> {
        Layout::new(self.device_len_bytes, self.extent_len_bytes)
    }
}

const TAG_NO_TOUR: u32 = 0;
const TAG_TOUR_BEGUN: u32 = 1;
const TAG_TOUR_UNDER_WAY: u32 = 2;

fn write_verified(writer: &mut Writer<'_>, verified: &Verified) {
    writer.u64(verified.since.map_or(0, WallTime::as_unix_millis));
    let Some(TourPlace { began, origin, upto }) = verified.tour else { return };
    writer.u32(if upto.is_some() { TAG_TOUR_UNDER_WAY } else { TAG_TOUR_BEGUN });
    writer.skip(4);
    writer.u64(began.as_unix_millis());
    writer.u64(origin.to_bits());
    writer.u64(upto.map_or(0, SlabId::to_bits));
}

fn read_verified(reader: &mut Reader<'_>) -> Result<Verified, FormatError> {
    let since = reader.u64()?;
    let since = (since != 0).then(|| WallTime::from_unix_millis(since));
    let tag = reader.u32()?;
    reader.zero(4)?;
    if tag == TAG_NO_TOUR {
        return Ok(Verified { since, tour: None });
    }
    let (began, origin) = (WallTime::from_unix_millis(reader.u64()?), SlabId::from_bits(reader.u64()?));
    let upto = match tag {
        TAG_TOUR_BEGUN => None,
        TAG_TOUR_UNDER_WAY => Some(SlabId::from_bits(reader.u64()?)),
        other => {
            let expected = "0 (no tour), 1 (begun) or 2 (under way)";
            return Err(reader.field("tour", u64::from(other), expected));
        }
    };
    Ok(Verified { since, tour: Some(TourPlace { began, origin, upto }) })
}

/// Where things lie on a drive: head reserve, extents, what is left over, tail reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    device_len_bytes: u64,
    extent_len_bytes: u32,
}

impl Layout {
    /// The layout of a device of `device_len_bytes` in extents of `extent_len_bytes`.
    ///
    /// # Errors
    /// `Field` where the extent length is no power of two within the limits, or the device is not a multiple of a block,
    /// above 256 TiB, or too small for the reserves and one extent.
    pub fn new(device_len_bytes: u64, extent_len_bytes: u32) -> Result<Self, FormatError> {
        let field =
            |field, found, expected| FormatError::Field { structure: KIND.structure, field, found, expected };
        if !extent_len_bytes.is_power_of_two()
            || !(EXTENT_LEN_BYTES_MIN..=EXTENT_LEN_BYTES_MAX).contains(&extent_len_bytes)
        {
            let expected = "a power of two from 256 KiB to 64 MiB";
            return Err(field("extent_len_bytes", u64::from(extent_len_bytes), expected));
        }
        check_device_len(device_len_bytes)?;
        let layout = Self { device_len_bytes, extent_len_bytes };
        if layout.extent_count() == 0 {
            return Err(field("device_len_bytes", device_len_bytes, "2 MiB and at least one extent"));
        }
        Ok(layout)
    }

    /// Where the four copies of the superblock are on a device of this length, whatever its extents.
    ///
    /// # Errors
    /// `Field` where the device is not a multiple of a block, above 256 TiB, or smaller than the reserves.
    pub fn superblock_offsets_bytes(device_len_bytes: u64) -> Result<[u64; COPIES], FormatError> {
        check_device_len(device_len_bytes)?;
        let tail = device_len_bytes - RESERVE_LEN_BYTES;
        Ok([0, COPY_STRIDE_BYTES, tail, tail + COPY_STRIDE_BYTES])
    }

    /// Bytes of the device.
    pub fn device_len_bytes(&self) -> u64 {
        self.device_len_bytes
    }

    /// Bytes of an extent.
    pub fn extent_len_bytes(&self) -> u32 {
        self.extent_len_bytes
    }

    /// How many extents there are; at least one.
    pub fn extent_count(&self) -> u32 {
        let room = self.device_len_bytes - 2 * RESERVE_LEN_BYTES;
        u32::try_from(room / u64::from(self.extent_len_bytes)).expect("asserted beside DEVICE_LEN_BYTES_MAX")
    }

    /// Where extent `index` begins on the device; `None` where there is no such extent.
    pub fn extent_offset_bytes(&self, index: u32) -> Option<u64> {
        (index < self.extent_count())
            .then(|| RESERVE_LEN_BYTES + u64::from(index) * u64::from(self.extent_len_bytes))
    }
}

fn check_device_len(device_len_bytes: u64) -> Result<(), FormatError> {
    if !(2 * RESERVE_LEN_BYTES..=DEVICE_LEN_BYTES_MAX).contains(&device_len_bytes)
        || !device_len_bytes.is_multiple_of(u64::from(BLOCK_LEN_BYTES))
    {
        return Err(FormatError::Field {
            structure: KIND.structure,
            field: "device_len_bytes",
            found: device_len_bytes,
            expected: "a multiple of 4096 from 2 MiB to 256 TiB",
        });
    }
    Ok(())
}

/// Why the four copies do not say what drive this is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// All four blocks are zero: the drive may be formatted.
    #[error("drive is blank: all four superblock copies are zero")]
    Blank,
    /// Something else is on it: it is formatted only when someone insists.
    #[error("drive holds something else: no superblock copy has our magic, and not all are zero")]
    Foreign,
    /// It was ours; too few copies agree to believe them, or two pairs do that say different things.
    #[error(
        "superblock damaged: {valid} of 4 copies are valid, expected two or more, and all that agree to agree on one drive"
    )]
    Damaged {
        /// Copies that are whole.
        valid: usize,
    },
    /// A copy was written by newer software: nothing on this drive is touched.
    #[error("superblock has format version {found}, this software knows up to {known}")]
    Version {
        /// The version found.
        found: u16,
        /// The highest version known here.
        known: u16,
    },
    /// Copies could not be read, and the others do not decide.
    #[error("{count} of 4 superblock copies could not be read, and the others are not enough")]
    Unreadable {
        /// How many.
        count: usize,
    },
}

/// What the four copies say together. A copy that the device did not give is passed as `FormatError::Unreadable`.
///
/// Two that agree who the drive is make a read, with the highest incarnation of all that agree so: see the module for why that is enough. A single
/// whole copy is not believed.
///
/// # Errors
/// See [`SuperblockError`]; only `Blank` allows to format without being told to.
pub fn choose(copies: &[Result<Superblock, FormatError>; COPIES]) -> Result<Superblock, SuperblockError> {
    for copy in copies {
        if let Err(FormatError::Version { found, known, .. }) = copy {
            return Err(SuperblockError::Version { found: *found, known: *known });
        }
    }
    let valid = || copies.iter().flatten();
    let agreeing = |superblock: &Superblock| valid().filter(|other| other.agrees_with(superblock)).count();
    let mut chosen: Option<&Superblock> = None;
    for candidate in valid().filter(|candidate| agreeing(candidate) >= COPIES_AGREEING_MIN) {
        match chosen {
            Some(held) if !held.agrees_with(candidate) => {
                return Err(SuperblockError::Damaged { valid: valid().count() });
            }
            Some(held) if held.incarnation >= candidate.incarnation => {}
            Some(_) | None => chosen = Some(candidate),
        }
    }
    if let Some(chosen) = chosen {
        return Ok(*chosen);
    }
    let errors = || copies.iter().filter_map(|copy| copy.as_ref().err());
    let zero = errors().filter(|error| matches!(error, FormatError::Zero { .. })).count();
    let not_this = errors().filter(|error| matches!(error, FormatError::NotThis { .. })).count();
    let unreadable = errors().filter(|error| matches!(error, FormatError::Unreadable { .. })).count();
    if zero == COPIES {
        Err(SuperblockError::Blank)
    } else if zero + not_this == COPIES {
        Err(SuperblockError::Foreign)
    } else if unreadable > 0 {
        Err(SuperblockError::Unreadable { count: unreadable })
    } else {
        Err(SuperblockError::Damaged { valid: valid().count() })
    }
}

/// For fuzzing: makes the checksum of `block` right, whatever is in it.
pub(crate) fn mend(block: &mut Block) {
    KIND.finish(block, 0);
}

#[cfg(test)]
mod tests;
