//! Formatting a drive, opening one, and rebuilding what is on it from its headers.

use super::extents::Extents;
use super::fragment::{Body, Fragment, Rows, Slice, SliceState};
use super::read::read_device;
use super::state::State;
use crate::limits::SCAN_READS_MAX;
use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use strongroom_format::FormatError;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::cold;
use strongroom_format::error::Structure;
use strongroom_format::extent::{self, ExtentHeader, ExtentKind, ExtentState, FragmentGeometry, MarkSlot};
use strongroom_format::row::{self, ROW_HEADER_LEN_BYTES};
use strongroom_format::seal_mark;
use strongroom_format::superblock::{self, Layout, Superblock, SuperblockError};
use strongroom_io::{AlignedBuffer, Class, Device, DeviceError, Operation};
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{ClusterId, DriveId, RowSequence};

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
    for offset_bytes in
        Layout::superblock_offsets_bytes(superblock.device_len_bytes).map_err(OpenError::Layout)?
    {
        let buffer = AlignedBuffer::copy_of(&block).expect("a block is a whole block");
        device.submit(Operation::Write { offset_bytes, buffer }, Class::Append).await.result?;
    }
    device.submit(Operation::Flush, Class::Append).await.result?;
    Ok(superblock)
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

/// Reads all headers and rebuilds what the drive holds.
pub(super) async fn scan(
    device: Arc<dyn Device>,
    drive: DriveId,
    layout: Layout,
) -> Result<State, OpenError> {
    let mut extents = Extents::none_free(layout.extent_count());
    let mut unknown_extents = 0;
    let mut fragments: BTreeMap<FragmentKey, BTreeMap<u32, (u32, ExtentHeader)>> = BTreeMap::new();
    let headers = stream::iter(0..layout.extent_count()).map(|index| {
        let device = device.clone();
        async move {
            let offset = layout.extent_offset_bytes(index).expect("below the count");
            let block =
                read_device(device.as_ref(), offset, BLOCK_LEN_BYTES as usize, Class::ForegroundRead).await;
            (index, block.map(|block| extent::decode(&block, drive, index)))
        }
    });
    let mut headers = headers.buffered(SCAN_READS_MAX);
    while let Some((index, header)) = headers.next().await {
        match header {
            Ok(Ok(ExtentState::Free)) => extents.give_back(index),
            // Written before this drive was formatted: nothing of this drive's.
            Ok(Err(FormatError::Misplaced { field: "drive", .. })) => extents.give_back(index),
            Ok(Ok(ExtentState::Used(header))) => {
                let clash =
                    fragments.entry(header.key()).or_default().insert(header.ordinal, (index, header));
                if clash.is_some() {
                    tracing::error!(%drive, index, "two extents claim one place in a fragment; one is kept aside");
                    unknown_extents += 1;
                }
            }
            Ok(Err(error)) => {
                tracing::error!(%drive, index, %error, "extent header damaged: extent is kept aside");
                unknown_extents += 1;
            }
            Err(error) => {
                tracing::error!(%drive, index, %error, "extent header cannot be read: extent is kept aside");
                unknown_extents += 1;
            }
        }
    }
    let scanner = Scanner { device: device.clone(), layout, geometry: FragmentGeometry::new(&layout) };
    let mut state = State { fragments: BTreeMap::new(), extents, unknown_extents, suspect: false };
    for (key, parts) in fragments {
        let whole: Vec<(u32, ExtentHeader)> =
            (0..).map_while(|ordinal| parts.get(&ordinal).copied()).collect();
        // Behind a gap: an extent whose header is free was never written or is being given back, so nothing behind it was ever
        // answered for. Where some extent is unknown the gap may be that one, and then nothing is given back.
        for (ordinal, (index, _)) in &parts {
            if *ordinal as usize >= whole.len() {
                if state.unknown_extents == 0 {
                    state.extents.give_back(*index);
                } else {
                    state.unknown_extents += 1;
                }
            }
        }
        if let Some((_, header)) = whole.first() {
            let extents = whole.iter().map(|(index, _)| *index).collect();
            let fragment = scanner.fragment(key, header, extents).await;
            state.fragments.insert(key, fragment);
        }
    }
    Ok(state)
}

struct Scanner {
    device: Arc<dyn Device>,
    layout: Layout,
    geometry: FragmentGeometry,
}

impl Scanner {
    async fn fragment(&self, key: FragmentKey, header: &ExtentHeader, extents: Vec<u32>) -> Fragment {
        let first = self.mark_slot(&extents, MarkSlot::First).await;
        let second = self.mark_slot(&extents, MarkSlot::Second).await;
        let slots = (first.as_deref().map_err(Clone::clone), second.as_deref().map_err(Clone::clone));
        let mut fragment = Fragment {
            profile: header.profile,
            epoch: header.epoch,
            extents,
            failed: false,
            body: Body::Hot(Rows::default()),
        };
        match header.kind {
            ExtentKind::Hot => {
                let choice = seal_mark::choose(slots.0, slots.1, key);
                let mut rows = self.rows(key, &fragment.extents).await;
                rows.mark = choice.mark;
                rows.next_mark = Some(choice.next);
                if let Some(mark) = choice.mark {
                    fragment.epoch = fragment.epoch.max(mark.epoch);
                    if mark.settled && mark.rows <= rows.count() {
                        rows.truncate(mark.rows);
                    }
                }
                // A mark that cannot be read may have fenced the slab at an epoch that is not known now.
                rows.unreadable |= choice.damaged.is_some() && choice.mark.is_none();
                fragment.body = Body::Hot(rows);
            }
            ExtentKind::Cold => {
                let choice = cold::choose(slots.0, slots.1, key);
                let slice = match choice.mark {
                    Some(mark) => {
                        fragment.epoch = mark.epoch;
                        Slice {
                            len_bytes: mark.slice_len_bytes,
                            image_len_bytes: mark.image_len_bytes,
                            state: SliceState::Finished { table_crc32c: mark.table_crc32c },
                        }
                    }
                    None => Slice { len_bytes: 0, image_len_bytes: 0, state: SliceState::Unfinished },
                };
                fragment.body = Body::Cold(slice);
            }
        }
        fragment
    }

    async fn mark_slot(&self, extents: &[u32], slot: MarkSlot) -> Result<AlignedBuffer, FormatError> {
        let extent = self.layout.extent_offset_bytes(extents[0]).expect("an extent of this drive");
        let offset_bytes = extent + u64::from(slot.offset_bytes());
        read_device(self.device.as_ref(), offset_bytes, BLOCK_LEN_BYTES as usize, Class::ForegroundRead)
            .await
            .map_err(|_| FormatError::Unreadable { structure: Structure::SealMark })
    }

    /// Follows the row headers from the first to the last that is whole.
    async fn rows(&self, key: FragmentKey, extents: &[u32]) -> Rows {
        let mut rows = Rows { closed: true, ..Rows::default() };
        let capacity = self.geometry.data_capacity_of(u32::try_from(extents.len()).expect("bounded"));
        let mut window = Window::default();
        loop {
            let position = rows.data_end_bytes();
            if position + u64::from(ROW_HEADER_LEN_BYTES) > capacity {
                break;
            }
            let block = match window.block(self, extents, position).await {
                Ok(block) => block,
                Err(error) => {
                    tracing::error!(slab = %key.slab, fragment = %key.fragment, %error, "row header cannot be read");
                    rows.unreadable = true;
                    break;
                }
            };
            let sequence = RowSequence::new(rows.count());
            let Ok(header) = row::decode_expected(block, key.slab, key.fragment, sequence) else { break };
            let follows =
                header.offset_bytes == rows.end_bytes() && header.previous_chain == rows.last_chain();
            let fits = position + u64::from(ROW_HEADER_LEN_BYTES) + u64::from(header.len_bytes) <= capacity;
            if !follows || !fits {
                break;
            }
            rows.ends_blocks.push(header.end_bytes() / BLOCK_LEN_BYTES);
            rows.chains.push(header.chain);
            rows.committed_upto = rows.committed_upto.max(header.committed_upto);
            rows.durable += 1;
        }
        rows.found = rows.durable;
        rows
    }
}

/// The blocks around the last header that was read: small rows lie close together.
#[derive(Default)]
struct Window {
    extent: u32,
    start_bytes: u32,
    bytes: Option<AlignedBuffer>,
}

/// Bytes read at once while following row headers.
const WINDOW_LEN_BYTES: u32 = 64 * 1024;

impl Window {
    async fn block(
        &mut self,
        scanner: &Scanner,
        extents: &[u32],
        position_bytes: u64,
    ) -> Result<&[u8], DeviceError> {
        let place = scanner.geometry.locate(position_bytes);
        let extent = extents[place.ordinal as usize];
        let held = self.bytes.as_ref().map_or(0, |bytes| bytes.len()) as u32;
        let inside = extent == self.extent
            && place.offset_bytes >= self.start_bytes
            && place.offset_bytes + BLOCK_LEN_BYTES <= self.start_bytes + held;
        if !inside {
            let len = WINDOW_LEN_BYTES.min(scanner.geometry.extent_len_bytes() - place.offset_bytes);
            let base = scanner.layout.extent_offset_bytes(extent).expect("an extent of this drive");
            let offset = base + u64::from(place.offset_bytes);
            let device = scanner.device.as_ref();
            let class = Class::ForegroundRead;
            // Where the window cannot be read whole, the one block that is needed may still be.
            let bytes = match read_device(device, offset, len as usize, class).await {
                Ok(bytes) => bytes,
                Err(_) => read_device(device, offset, BLOCK_LEN_BYTES as usize, class).await?,
            };
            *self = Self { extent, start_bytes: place.offset_bytes, bytes: Some(bytes) };
        }
        let from = (place.offset_bytes - self.start_bytes) as usize;
        let bytes = self.bytes.as_ref().expect("just filled");
        Ok(&bytes[from..from + BLOCK_LEN_BYTES as usize])
    }
}
