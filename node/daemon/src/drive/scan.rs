//! Rebuilding what a drive holds from its headers, at every start.
//!
//! Says less rather than more where something cannot be read or does not check: an extent is free only if its header says so, and a
//! fragment of which more may be here than is found says nothing at a seal.

use super::extent_list::ExtentList;
use super::extents::Extents;
use super::fragment::{Body, Fragment, Rows, Slice, SliceState};
use super::open::{Raised, free_header, is_free, read_again};
use super::read::read_device;
use super::standing::Standing;
use super::state::State;
use crate::limits::SCAN_READS_MAX;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use strongroom_format::FormatError;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::cold::{self, ColdMark};
use strongroom_format::error::Structure;
use strongroom_format::extent::{self, ExtentHeader, ExtentKind, ExtentState, FragmentGeometry, MarkSlot};
use strongroom_format::row::{self, ROW_HEADER_LEN_BYTES, RowHeader};
use strongroom_format::seal_mark::{self, SealMark};
use strongroom_format::superblock::{Layout, Verified};
use strongroom_io::{AlignedBuffer, Class, Device, DeviceError, Operation};
use strongroom_types::limits::ROW_BLOCKS_MAX;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{DriveId, Epoch, Profile, RowSequence};

/// Reads all headers and rebuilds what the drive holds. Writes nothing but the rest of a free, or of a cut to the agreed length, that was cut short.
pub(super) async fn scan(
    device: Arc<dyn Device>,
    drive: DriveId,
    layout: Layout,
    raised: &Raised,
    verified: Verified,
) -> State {
    let mut extents = Extents::none_free(layout.extent_count());
    let mut unknown_extents = BTreeSet::new();
    let mut retired_extents = BTreeSet::new();
    let mut used = Vec::new();
    let headers = stream::iter(0..layout.extent_count()).map(|index| {
        let device = device.clone();
        async move {
            let offset = layout.extent_offset_bytes(index).expect("below the count");
            let block =
                read_again(device.as_ref(), offset, BLOCK_LEN_BYTES as usize, Class::ForegroundRead).await;
            (index, block.map(|block| extent::decode(&block, drive, index)))
        }
    });
    let mut headers = headers.buffered(SCAN_READS_MAX);
    while let Some((index, header)) = headers.next().await {
        match header {
            Ok(header) if is_free(&header) => extents.give_back(index),
            Ok(Ok(ExtentState::Free)) => unreachable!("free is free"),
            Ok(Ok(ExtentState::Retired)) => drop(retired_extents.insert(index)),
            Ok(Ok(ExtentState::Used(header))) => used.push(UsedExtent::new(index, &header)),
            Ok(Err(error)) => {
                tracing::error!(%drive, index, %error, "extent header damaged: extent is kept aside");
                unknown_extents.insert(index);
            }
            Err(error) => {
                tracing::error!(%drive, index, %error, "extent header cannot be read: extent is kept aside");
                unknown_extents.insert(index);
            }
        }
    }
    let Gathered { found, mut orphans, contested } = gather(used, drive, &mut unknown_extents);
    let scanner = Scanner {
        device: device.clone(),
        layout,
        geometry: FragmentGeometry::new(&layout),
        extents_unknown: !unknown_extents.is_empty(),
    };
    let (scanner, contested) = (&scanner, &contested);
    let mut fragments: Vec<(FragmentKey, Fragment)> = Vec::with_capacity(found.len());
    let mut read = stream::iter(found)
        .map(|(first, extents)| async move {
            (first.key, scanner.fragment(&first, extents, contested.contains(&first.key)).await)
        })
        .buffered(SCAN_READS_MAX);
    while let Some(fragment) = read.next().await {
        fragments.push(fragment);
    }
    drop(read);
    for (key, fragment) in &mut fragments {
        // Where all that the agreed length needs is here, what is behind a gap is behind that length, whatever is unknown.
        if fragment.extents_agreed(&scanner.geometry).is_some_and(|agreed| agreed <= fragment.extents.len()) {
            fragment.extents.extend(orphans.remove(key).unwrap_or_default());
        }
    }
    let orphans = orphans.into_values().flatten().collect();
    let suspect = raised.failed.is_some();
    let mut state = State {
        // At once and in order: its nodes are full then, where one by one they would be half empty.
        fragments: BTreeMap::from_iter(fragments),
        extents,
        unknown_extents,
        retired_extents,
        bad_extents: BTreeSet::new(),
        suspect,
        standing: Standing::Admitted,
        verified,
        passed_over: false,
        tours_ended: 0,
    };
    give_back_orphans(device.as_ref(), &layout, drive, orphans, &mut state).await;
    give_back_cut(device.as_ref(), &layout, drive, &scanner.geometry, &mut state).await;
    state
}

/// What an extent's header says, as far as it is needed to put fragments together: there may be a million of them.
#[derive(Clone, Copy)]
struct UsedExtent {
    key: FragmentKey,
    ordinal: u32,
    index: u32,
    kind: ExtentKind,
    profile: Profile,
    epoch: Epoch,
}

impl UsedExtent {
    fn new(index: u32, header: &ExtentHeader) -> Self {
        let ExtentHeader { ordinal, kind, profile, epoch, .. } = *header;
        Self { key: header.key(), ordinal, index, kind, profile, epoch }
    }
}

/// Fragments as far as headers tell.
struct Gathered {
    /// Each with its first extent, and all that follow without a gap.
    found: Vec<(UsedExtent, ExtentList)>,
    /// Extents behind a gap: one whose header is free was never written or is being given back, so nothing behind it was ever answered for. Where some extent
    /// is unknown the gap may be that one, and then nothing is given back.
    orphans: BTreeMap<FragmentKey, Vec<u32>>,
    /// Fragments of which two extents claim one place.
    contested: BTreeSet<FragmentKey>,
}

fn gather(mut used: Vec<UsedExtent>, drive: DriveId, unknown_extents: &mut BTreeSet<u32>) -> Gathered {
    // Of two that claim one place the one with the lower index is kept aside.
    used.sort_unstable_by_key(|extent| (extent.key, extent.ordinal, Reverse(extent.index)));
    let mut gathered = Gathered { found: Vec::new(), orphans: BTreeMap::new(), contested: BTreeSet::new() };
    for parts in used.chunk_by(|one, next| one.key == next.key) {
        let key = parts[0].key;
        let (mut extents, mut behind, mut before) = (ExtentList::default(), Vec::new(), None);
        for part in parts {
            if before == Some(part.ordinal) {
                let index = part.index;
                tracing::error!(%drive, index, "two extents claim one place in a fragment; one is kept aside");
                unknown_extents.insert(index);
                gathered.contested.insert(key);
            } else if extents.len() == part.ordinal as usize {
                extents.push(part.index);
            } else {
                behind.push(part.index);
            }
            before = Some(part.ordinal);
        }
        if !behind.is_empty() {
            gathered.orphans.insert(key, behind);
        }
        if !extents.is_empty() {
            gathered.found.push((parts[0], extents));
        }
    }
    gathered
}

/// Ends what a cut free or a cut growth left. The headers are overwritten before the extents are free, since a fragment that is made
/// again under the same key would find its old extents claimed beside its new ones.
async fn give_back_orphans(
    device: &dyn Device,
    layout: &Layout,
    drive: DriveId,
    orphans: Vec<u32>,
    state: &mut State,
) {
    if !state.unknown_extents.is_empty() || orphans.is_empty() {
        state.unknown_extents.extend(orphans);
        return;
    }
    match free_headers(device, layout, drive, orphans.clone()).await {
        Ok(()) => orphans.into_iter().for_each(|index| state.extents.give_back(index)),
        Err(error) => {
            tracing::error!(%drive, %error, "extents of a cut free could not be overwritten: they are kept aside");
            state.unknown_extents.extend(orphans);
            state.suspect = true;
        }
    }
}

/// Ends what a cut to the agreed length left. Where the incarnation could not be raised, the mark that says the length may itself be in no more than
/// the device's cache: then all stays as it is, and so it does where the headers cannot be overwritten.
async fn give_back_cut(
    device: &dyn Device,
    layout: &Layout,
    drive: DriveId,
    geometry: &FragmentGeometry,
    state: &mut State,
) {
    let cut = |fragment: &'_ Fragment| fragment.extents_cut(geometry).collect::<Vec<_>>();
    let extents = state.fragments.values().flat_map(cut).collect::<Vec<_>>();
    if state.suspect || extents.is_empty() {
        return;
    }
    if let Err(error) = free_headers(device, layout, drive, extents).await {
        tracing::error!(%drive, %error, "extents behind an agreed length could not be overwritten: they stay in use");
        state.suspect = true;
        return;
    }
    let keys = state.fragments.keys().copied().collect::<Vec<_>>();
    keys.iter().for_each(|key| state.give_back_cut(key, geometry));
}

/// Overwrites headers of extents with ones that say free; durable when this returns.
async fn free_headers(
    device: &dyn Device,
    layout: &Layout,
    drive: DriveId,
    extents: Vec<u32>,
) -> Result<(), DeviceError> {
    let writes = extents.into_iter().map(|index| free_header(device, layout, drive, index));
    stream::iter(writes).buffered(SCAN_READS_MAX).try_collect::<()>().await?;
    device.submit(Operation::Flush, Class::Append).await.result
}

struct Scanner {
    device: Arc<dyn Device>,
    layout: Layout,
    geometry: FragmentGeometry,
    /// Some header could not be read or does not check: where a fragment's extents end, another may follow that is not known.
    extents_unknown: bool,
}

impl Scanner {
    async fn fragment(&self, header: &UsedExtent, extents: ExtentList, contested: bool) -> Fragment {
        let key = header.key;
        let first = self.mark_slot(&extents, MarkSlot::First).await;
        let second = self.mark_slot(&extents, MarkSlot::Second).await;
        let slots = (first.as_deref().map_err(Clone::clone), second.as_deref().map_err(Clone::clone));
        let (epoch, body) = match header.kind {
            ExtentKind::Hot => {
                let choice = seal_mark::choose(slots.0, slots.1, key);
                let mut rows = self.rows(key, &extents, choice.mark.as_ref()).await;
                rows.unreadable |= contested;
                rows.next_mark = Some(choice.next);
                rows.mark = choice.mark;
                // A mark that does not check may have fenced the slab at an epoch that is not known now. That costs nothing: no row
                // is taken here any more, and a seal of a lower epoch is refused by the slab table.
                (
                    choice.mark.map_or(header.epoch, |mark| mark.epoch.max(header.epoch)),
                    Body::Hot(Box::new(rows)),
                )
            }
            ExtentKind::Cold => {
                let choice = cold::choose(slots.0, slots.1, key);
                let slice = self.slice(choice.mark.as_ref(), choice.damaged.is_some(), &extents, contested);
                (choice.mark.map_or(header.epoch, |mark| mark.epoch), Body::Cold(slice))
            }
        };
        Fragment { profile: header.profile, epoch, extents, failed: false, body }
    }

    fn slice(&self, mark: Option<&ColdMark>, damaged: bool, extents: &ExtentList, contested: bool) -> Slice {
        let Some(mark) = mark else {
            let state = if contested { SliceState::Incomplete } else { SliceState::Unfinished { damaged } };
            return Slice::new(0, state);
        };
        let needed = self.geometry.extents_for(cold::data_len(mark.slice_len_bytes));
        let state = if contested || (extents.len() as u64) < u64::from(needed) {
            SliceState::Incomplete
        } else {
            SliceState::Finished { table_crc32c: mark.table_crc32c }
        };
        Slice { image_len_bytes: mark.image_len_bytes, ..Slice::new(mark.slice_len_bytes, state) }
    }

    async fn mark_slot(&self, extents: &ExtentList, slot: MarkSlot) -> Result<AlignedBuffer, FormatError> {
        let extent = self.layout.extent_offset_bytes(extents.first()).expect("an extent of this drive");
        let offset_bytes = extent + u64::from(slot.offset_bytes());
        read_again(self.device.as_ref(), offset_bytes, BLOCK_LEN_BYTES as usize, Class::ForegroundRead)
            .await
            .map_err(|_| FormatError::Unreadable { structure: Structure::SealMark })
    }

    /// Follows the row headers from the first to the last that is there, or to the agreed length.
    ///
    /// A header that does not check is no end by itself: the row may have been acknowledged and have rotted since. Where it is one
    /// bit that flipped, or where the row after it tells how long it was, the row is there, to be found bad by who reads it. The same
    /// holds where there is no header at all (a lost write), once a later row says that it was committed: until then the rows behind
    /// the gap are what a crash left of rows in flight.
    async fn rows(&self, key: FragmentKey, extents: &ExtentList, mark: Option<&SealMark>) -> Rows {
        let mut rows = Rows { closed: true, header_durable: true, ..Rows::default() };
        let capacity = self.geometry.data_capacity_of(u32::try_from(extents.len()).expect("bounded"));
        let settled = mark.filter(|mark| mark.settled).map(|mark| mark.rows);
        let mut window = Window::default();
        let mut gap = None;
        while settled != Some(rows.count()) {
            if rows.data_end_bytes() + u64::from(ROW_HEADER_LEN_BYTES) > capacity {
                rows.unreadable |= self.extents_unknown;
                break;
            }
            match self.next_row(key, extents, capacity, &rows, &mut window).await {
                Ok(Next::Row { end_bytes, chain, committed_upto, header_found }) => {
                    if !header_found {
                        gap = gap.or(Some(rows.count()));
                    }
                    rows.ends_blocks.push(end_bytes / BLOCK_LEN_BYTES);
                    rows.chains.push(chain);
                    rows.committed_upto = rows.committed_upto.max(committed_upto);
                    rows.durable += 1;
                }
                Ok(Next::End) => break,
                Ok(Next::Unknown) => {
                    tracing::error!(slab = %key.slab, fragment = %key.fragment, row = rows.count(), "row headers do not check, and rows follow");
                    rows.unreadable = true;
                    break;
                }
                Err(error) => {
                    tracing::error!(slab = %key.slab, fragment = %key.fragment, %error, "row header cannot be read");
                    rows.unreadable = true;
                    break;
                }
            }
        }
        if let Some(row) = gap.filter(|row| settled.is_none() && rows.committed_upto.get() <= *row) {
            rows.truncate(row);
        }
        // What a mark counts was on media before the mark was.
        if mark.is_some_and(|mark| {
            mark.rows > rows.count() || (mark.settled && rows.chain_at(mark.rows) != mark.root_crc32c)
        }) {
            rows.unreadable = true;
        }
        rows.found = rows.durable;
        rows
    }

    async fn next_row(
        &self,
        key: FragmentKey,
        extents: &ExtentList,
        capacity: u64,
        rows: &Rows,
        window: &mut Window,
    ) -> Result<Next, DeviceError> {
        let sequence = RowSequence::new(rows.count());
        let decode = |block: &[u8]| row::decode_expected(block, key.slab, key.fragment, sequence);
        let follows = |header: &RowHeader| {
            header.offset_bytes == rows.end_bytes() && header.previous_chain == rows.last_chain()
        };
        let position = rows.data_end_bytes();
        let block = window.block(self, extents, position).await?;
        let decoded = decode(block);
        let header_found = decoded.as_ref().map_or_else(|error| !error.is_absence(), &follows);
        let header = match decoded {
            Err(FormatError::Checksum { .. } | FormatError::Field { .. }) => mended(block, decode),
            decoded => decoded.ok(),
        };
        if let Some(header) = header.filter(follows) {
            // Its payload may end in an extent that was not found: then it is there, and bad.
            return Ok(Next::Row {
                end_bytes: header.end_bytes(),
                chain: header.chain,
                committed_upto: header.committed_upto,
                header_found: true,
            });
        }
        for blocks in 1..=ROW_BLOCKS_MAX {
            let position =
                position + u64::from(ROW_HEADER_LEN_BYTES) + u64::from(blocks) * u64::from(BLOCK_LEN_BYTES);
            if position + u64::from(ROW_HEADER_LEN_BYTES) > capacity {
                break;
            }
            let Ok(header) = row::decode_header(window.block(self, extents, position).await?) else {
                continue;
            };
            let place = u64::from(header.offset_bytes)
                + u64::from(header.sequence.get()) * u64::from(ROW_HEADER_LEN_BYTES);
            if (header.slab, header.fragment, place) != (key.slab, key.fragment, position)
                || header.sequence <= sequence
            {
                continue;
            }
            if header.sequence == sequence.next() {
                let (end_bytes, chain) = (header.offset_bytes, header.previous_chain);
                return Ok(Next::Row { end_bytes, chain, committed_upto: RowSequence::FIRST, header_found });
            }
            return Ok(if header.committed_upto > sequence { Next::Unknown } else { Next::End });
        }
        Ok(Next::End)
    }
}

/// What comes after the rows that were found so far.
enum Next {
    /// A row; whether it is whole is found out when it is read.
    Row { end_bytes: u32, chain: u32, committed_upto: RowSequence, header_found: bool },
    /// Nothing that speaks for another row.
    End,
    /// More than one row, of which too little can be told.
    Unknown,
}

/// The header that `block` was before one of its bits flipped, if one did: a torn block is never mended by one bit.
fn mended(block: &[u8], decode: impl Fn(&[u8]) -> Result<RowHeader, FormatError>) -> Option<RowHeader> {
    let mut block = block.to_vec();
    (0..8 * block.len()).find_map(|bit| {
        block[bit / 8] ^= 1 << (bit % 8);
        let header = decode(&block).ok();
        block[bit / 8] ^= 1 << (bit % 8);
        header
    })
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
        extents: &ExtentList,
        position_bytes: u64,
    ) -> Result<&[u8], DeviceError> {
        let place = scanner.geometry.locate(position_bytes);
        let extent = extents.get(place.ordinal).expect("within the capacity of what was found");
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
                Err(_) => read_again(device, offset, BLOCK_LEN_BYTES as usize, class).await?,
            };
            *self = Self { extent, start_bytes: place.offset_bytes, bytes: Some(bytes) };
        }
        let from = (place.offset_bytes - self.start_bytes) as usize;
        let bytes = self.bytes.as_ref().expect("just filled");
        Ok(&bytes[from..from + BLOCK_LEN_BYTES as usize])
    }
}
