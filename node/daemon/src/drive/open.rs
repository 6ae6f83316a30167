//! Formatting a drive, and finding out which drive a device is.

use super::read::read_device;
use crate::limits::SCAN_READS_MAX;
use futures::stream::{self, StreamExt, TryStreamExt};
use strongroom_format::FormatError;
use strongroom_format::error::Structure;
use strongroom_format::extent::{self, ExtentState};
use strongroom_format::superblock::{self, Layout, Superblock, SuperblockError};
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
    let offsets = Layout::superblock_offsets_bytes(device.shape().len_bytes).map_err(OpenError::Layout)?;
    let mut copies: [Result<Superblock, FormatError>; superblock::COPIES] =
        std::array::from_fn(|_| Err(FormatError::Unreadable { structure: Structure::Superblock }));
    for (copy, offset_bytes) in copies.iter_mut().zip(offsets) {
        if let Ok(block) =
            read_device(device, offset_bytes, BLOCK_LEN_BYTES as usize, Class::ForegroundRead).await
        {
            *copy = Superblock::decode(&block);
        }
    }
    Ok(superblock::choose(&copies)?)
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
pub(super) async fn check_superblock(
    device: &dyn Device,
    cluster: ClusterId,
) -> Result<Superblock, OpenError> {
    let superblock = inspect(device).await?;
    if superblock.cluster != cluster {
        return Err(OpenError::OtherCluster { found: superblock.cluster, expected: cluster });
    }
    let found = device.shape().len_bytes;
    if found < superblock.device_len_bytes {
        return Err(OpenError::Shrunk { found, expected: superblock.device_len_bytes });
    }
    Ok(superblock)
}
