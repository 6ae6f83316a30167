//! Formatting a drive, and finding out which drive a device is.

use super::media::{self, Write};
use super::read::read_device;
use crate::limits::SCAN_READS_MAX;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::ops::RangeInclusive;
use strongroom_env::Clock;
use strongroom_format::FormatError;
use strongroom_format::error::Structure;
use strongroom_format::extent::{self, ExtentState};
use strongroom_format::superblock::{self, Layout, Superblock, SuperblockError, Verified};
use strongroom_io::{AlignedBuffer, Class, Device, DeviceError, Operation};
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{ClusterId, DriveId};

/// Why a drive was not opened or formatted. Nothing was written, except where a write of a format failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The superblocks say something else than a drive of ours.
    #[error("{0}")]
    Superblock(#[from] SuperblockError),
    /// It belongs to another cluster.
    #[error("drive belongs to {found}, this node to {expected}: it is not touched")]
    OtherCluster {
        /// On the drive.
        found: ClusterId,
        /// In the configuration.
        expected: ClusterId,
    },
    /// The device is shorter than when it was formatted.
    #[error(
        "device has {found} bytes, and had {expected} when it was formatted: is it the right one, and whole?"
    )]
    Shrunk {
        /// Now.
        found: u64,
        /// Then.
        expected: u64,
    },
    /// Device and extent length make no layout.
    #[error("{0}")]
    Layout(#[source] FormatError),
    /// The device failed.
    #[error("device failed: {0}")]
    Device(#[from] DeviceError),
    /// The drive is ours and in use; formatting would destroy what is on it.
    #[error("drive {drive} of {cluster} is on this device: give --force to destroy what it holds")]
    Ours {
        /// The drive.
        drive: DriveId,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// The device holds something else.
    #[error("device holds something that is not Strongroom's: give --force to destroy it")]
    Foreign,
}

/// What a drive becomes.
#[derive(Clone, Copy, Debug)]
pub struct FormatSpec {
    /// Of this cluster.
    pub cluster: ClusterId,
    /// With this new id.
    pub drive: DriveId,
    /// In extents of this length.
    pub extent_len_bytes: u32,
    /// Whether whatever is on it may be destroyed.
    pub force: bool,
}

/// What the device's superblocks say.
///
/// # Errors
/// `Superblock` where they do not say which drive this is.
pub async fn inspect(device: &dyn Device) -> Result<Superblock, OpenError> {
    Ok(find(device).await?.superblock)
}

/// What the superblocks say, and which copies agree: at least two.
pub(super) struct Found {
    pub(super) superblock: Superblock,
    copies: Copies,
    offsets: [u64; superblock::COPIES],
}

type Copies = [Result<Superblock, FormatError>; superblock::COPIES];

impl Found {
    /// The copies that are of this drive, by their place.
    fn agreeing(&self, place: usize) -> Option<&Superblock> {
        self.copies[place].as_ref().ok().filter(|copy| copy.agrees_with(&self.superblock))
    }

    /// The lowest incarnation in a copy that agrees.
    fn lowest(&self) -> u32 {
        let agreeing = (0..superblock::COPIES).filter_map(|place| self.agreeing(place));
        agreeing.map(|copy| copy.incarnation).min().expect("the one that was chosen")
    }
}

pub(super) async fn find(device: &dyn Device) -> Result<Found, OpenError> {
    let offsets = Layout::superblock_offsets_bytes(device.shape().len_bytes).map_err(OpenError::Layout)?;
    let copies = copies(device, offsets).await;
    Ok(Found { superblock: superblock::choose(&copies)?, copies, offsets })
}

async fn copies(device: &dyn Device, offsets: [u64; superblock::COPIES]) -> Copies {
    let mut copies: Copies =
        std::array::from_fn(|_| Err(FormatError::Unreadable { structure: Structure::Superblock }));
    for (copy, offset_bytes) in copies.iter_mut().zip(offsets) {
        if let Ok(block) =
            read_again(device, offset_bytes, BLOCK_LEN_BYTES as usize, Class::ForegroundRead).await
        {
            *copy = Superblock::decode(&block);
        }
    }
    copies
}

/// Reads whole blocks of the device, once more where the first time fails: a transfer may fail where the media is whole.
pub(super) async fn read_again(
    device: &dyn Device,
    offset_bytes: u64,
    len_bytes: usize,
    class: Class,
) -> Result<AlignedBuffer, DeviceError> {
    match read_device(device, offset_bytes, len_bytes, class).await {
        Err(error) if error.is_media() => read_device(device, offset_bytes, len_bytes, class).await,
        result => result,
    }
}

/// What came of raising the incarnation.
pub(super) struct Raised {
    /// What may be told: the new one where all copies say so durably, else the one that was found.
    pub(super) incarnation: u32,
    /// What the superblocks may say from now on, as long as the device is this drive: more than one where it is not known which copies were rewritten.
    pub(super) expected: RangeInclusive<u32>,
    /// Why not all copies say so.
    pub(super) failed: Option<DeviceError>,
}

/// The incarnation after that one. The highest stays: told twice, it is taken for an old image's.
pub(super) fn next_incarnation(incarnation: u32) -> u32 {
    incarnation.saturating_add(1)
}

/// Rewrites the superblock with this incarnation; durable when this returns, and with it all that a run of before left in the device's cache. To be
/// done with no write under way that another flush is to make durable.
///
/// One copy at a time, durable before the next: a cut or an error harms one. First those that say nothing, then those that say less, so that until
/// the last is written there is one that says as much as was found.
pub(super) async fn raise(
    device: &dyn Device,
    clock: &dyn Clock,
    found: &Found,
    incarnation: u32,
    verified: Verified,
) -> Raised {
    assert!(incarnation >= found.superblock.incarnation, "it is never lowered");
    let block = Superblock { incarnation, verified, ..found.superblock }
        .encode()
        .expect("another incarnation of a superblock that was decoded");
    let mut places: [usize; superblock::COPIES] = std::array::from_fn(|place| place);
    places.sort_by_key(|place| found.agreeing(*place).map(|copy| copy.incarnation));
    for place in places {
        let buffer = AlignedBuffer::copy_of(&block).expect("a block is a whole block");
        let write = Write { offset_bytes: found.offsets[place], buffer };
        let written = match media::write(device, clock, write).await {
            Ok(()) => media::flush(device, clock).await,
            failed => failed,
        };
        if let Err(error) = written {
            return Raised {
                incarnation: found.superblock.incarnation,
                expected: found.lowest()..=incarnation,
                failed: Some(error),
            };
        }
    }
    Raised { incarnation, expected: incarnation..=incarnation, failed: None }
}

/// Writes the superblocks of a new, empty drive.
///
/// # Errors
/// See [`OpenError`]: without `force` only a blank device is formatted.
pub async fn format(device: &dyn Device, spec: &FormatSpec) -> Result<Superblock, OpenError> {
    if !spec.force {
        match inspect(device).await {
            Err(OpenError::Superblock(SuperblockError::Blank)) => {}
            Err(OpenError::Superblock(SuperblockError::Foreign)) => return Err(OpenError::Foreign),
            Ok(found) => return Err(OpenError::Ours { drive: found.drive, cluster: found.cluster }),
            Err(error) => return Err(error),
        }
    }
    let superblock = Superblock {
        cluster: spec.cluster,
        drive: spec.drive,
        incarnation: 1,
        device_len_bytes: device.shape().len_bytes,
        extent_len_bytes: spec.extent_len_bytes,
        verified: Verified::default(),
    };
    let block = superblock.encode().map_err(OpenError::Layout)?;
    clear_headers(device, &superblock).await?;
    for offset_bytes in
        Layout::superblock_offsets_bytes(superblock.device_len_bytes).map_err(OpenError::Layout)?
    {
        let buffer = AlignedBuffer::copy_of(&block).expect("a block is a whole block");
        device.submit(Operation::Write { offset_bytes, buffer }, Class::Append).await.result?;
    }
    device.submit(Operation::Flush, Class::Append).await.result?;
    Ok(superblock)
}

/// Makes every extent read as free under the new superblock: whatever else was on the device would be taken for damaged headers, and
/// damaged is not free.
async fn clear_headers(device: &dyn Device, superblock: &Superblock) -> Result<(), OpenError> {
    let layout = superblock.layout().map_err(OpenError::Layout)?;
    let clear = |index| async move {
        let offset_bytes = layout.extent_offset_bytes(index).expect("below the count");
        let header = read_device(device, offset_bytes, BLOCK_LEN_BYTES as usize, Class::ForegroundRead).await;
        let free = header.is_ok_and(|block| is_free(&extent::decode(&block, superblock.drive, index)));
        if free { Ok(()) } else { free_header(device, &layout, superblock.drive, index).await }
    };
    stream::iter(0..layout.extent_count()).map(clear).buffered(SCAN_READS_MAX).try_collect::<()>().await?;
    Ok(device.submit(Operation::Flush, Class::Append).await.result?)
}

/// Whether the extent holds nothing of this drive: never used, given back, or written before the drive was formatted.
pub(super) fn is_free(header: &Result<ExtentState, FormatError>) -> bool {
    matches!(header, Ok(ExtentState::Free) | Err(FormatError::Misplaced { field: "drive", .. }))
}

/// Overwrites an extent's header with one that says free.
pub(super) async fn free_header(
    device: &dyn Device,
    layout: &Layout,
    drive: DriveId,
    index: u32,
) -> Result<(), DeviceError> {
    let offset_bytes = layout.extent_offset_bytes(index).expect("an extent of this drive");
    let block = extent::free_block(drive, index);
    let buffer = AlignedBuffer::copy_of(&block).expect("a block is a whole block");
    device.submit(Operation::Write { offset_bytes, buffer }, Class::Append).await.result
}

/// The superblock of a drive that may be opened for `cluster`.
pub(super) async fn check_superblock(device: &dyn Device, cluster: ClusterId) -> Result<Found, OpenError> {
    let found = find(device).await?;
    let superblock = found.superblock;
    if superblock.cluster != cluster {
        return Err(OpenError::OtherCluster { found: superblock.cluster, expected: cluster });
    }
    let len_bytes = device.shape().len_bytes;
    if len_bytes < superblock.device_len_bytes {
        return Err(OpenError::Shrunk { found: len_bytes, expected: superblock.device_len_bytes });
    }
    Ok(found)
}
