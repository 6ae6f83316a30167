//! Reads: beside the lane, every block checked before it leaves.
//!
//! What is known in memory decides whether bytes are here; the device decides only whether they can be read. So a failed read is never
//! "not here", and a fragment that was freed or cut while it was read is never "corrupt": what was found in its extents may be another's by then.

use super::Shared;
use super::extent_list::ExtentList;
use super::fragment::{Body, Rows, SliceState};
use super::standing::Ask;
use super::state::key_of;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use strongroom_core::mutants::Mutant;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::cold::{TableBlock, table};
use strongroom_format::row::{self, ROW_HEADER_LEN_BYTES, RowHeader};
use strongroom_format::wire::message::{Read, Refusal, Seal, SealReport};
use strongroom_io::{AlignedBuffer, Class, Device, DeviceError, Operation};
use strongroom_types::RowSequence;
use strongroom_types::limits::WIRE_PAYLOAD_LEN_BYTES_MAX;
use strongroom_types::units::BLOCK_LEN_BYTES;

/// Payload blocks between a row's header and the wanted ones up to which both are read in one go.
const READ_THROUGH_BLOCKS: u32 = 32;

/// Device reads that one request has under way at once: a range of small rows has one for each row, and a device takes 256 in all.
const READS_IN_FLIGHT_MAX: usize = 16;

/// A part of a read: blocks of one row.
struct RowPart {
    sequence: RowSequence,
    /// First block of the row in the image.
    start_blocks: u32,
    /// Chain checksum of the row, as it was written or found at start.
    chain: u32,
    /// Blocks of the row that are read.
    blocks: std::ops::Range<u32>,
    /// Bytes wanted, from the first of these blocks on.
    wanted: std::ops::Range<usize>,
}

enum Plan {
    Hot { parts: Vec<RowPart>, extents: ExtentList },
    Cold { slice_len_bytes: u32, extents: ExtentList },
}

/// Why bytes could not be given, before it is known whether the fragment is still here.
enum Fault {
    /// The device failed, or an extent is not known.
    Device,
    /// The device has no place for it now.
    Busy,
    /// A block does not match; where in the fragment's image or slice.
    Checksum { offset_bytes: u32 },
}

pub(super) async fn read(shared: &Shared, request: Read) -> Result<Bytes, Refusal> {
    if let Some(refusal) = shared.state().standing.refusal(Ask::Read) {
        return Err(refusal);
    }
    let class = if request.foreground { Class::ForegroundRead } else { Class::Convert };
    if class.is_background() {
        shared.device.turn(class).await;
    }
    let mut fault = Fault::Device;
    // Once more before anything is said: a transfer may fail where the media is whole. Planned again, since the fragment may have been
    // given back meanwhile, or made again in other extents.
    for _ in 0..2 {
        let plan = plan(shared, &request)?;
        let result = match plan {
            Plan::Hot { parts, extents } => read_rows(shared, &request, parts, &extents, class).await,
            Plan::Cold { slice_len_bytes, extents } => {
                read_slice(shared, &request, slice_len_bytes, &extents, class).await
            }
        };
        match result {
            Ok(bytes) => return Ok(bytes),
            Err(found) => fault = found,
        }
    }
    if matches!(fault, Fault::Checksum { .. }) {
        // What is there is not what was written: perhaps another drive.
        shared.check_identity().await;
        if let Some(refusal) = shared.state().standing.refusal(Ask::Read) {
            return Err(refusal);
        }
    }
    plan(shared, &request)?;
    if !matches!(fault, Fault::Busy) {
        shared.state().note_bad(&request.address);
    }
    match fault {
        Fault::Busy => Err(Refusal::Busy),
        Fault::Device if shared.mutants.has(Mutant::EioIsNotFound) => Err(Refusal::NotHere),
        Fault::Device => Err(Refusal::DriveError),
        Fault::Checksum { offset_bytes } => {
            tracing::warn!(drive = %shared.id, slab = %request.address.slab, fragment = %request.address.fragment, offset_bytes, "block does not match its checksum");
            Err(Refusal::Corrupt { offset_bytes })
        }
    }
}

fn plan(shared: &Shared, request: &Read) -> Result<Plan, Refusal> {
    if request.len_bytes == 0 || request.len_bytes > WIRE_PAYLOAD_LEN_BYTES_MAX {
        return Err(Refusal::Invalid(format!(
            "read of {} bytes: expected 1 to {WIRE_PAYLOAD_LEN_BYTES_MAX}",
            request.len_bytes
        )));
    }
    let state = shared.state();
    let fragment = state.fragment(&request.address)?;
    let end = u64::from(request.offset_bytes) + u64::from(request.len_bytes);
    let (len_bytes, beyond) = match &fragment.body {
        Body::Hot(rows) => {
            let len_bytes = rows.durable_end_bytes();
            (len_bytes, if rows.unreadable { Refusal::DriveError } else { Refusal::Beyond { len_bytes } })
        }
        Body::Cold(slice) => match slice.state {
            SliceState::Finished { .. } => (slice.len_bytes, Refusal::Beyond { len_bytes: slice.len_bytes }),
            SliceState::Building(_) | SliceState::Unfinished { damaged: false } => {
                (0, Refusal::Beyond { len_bytes: 0 })
            }
            SliceState::Unfinished { damaged: true } => (0, Refusal::Corrupt { offset_bytes: 0 }),
            SliceState::Incomplete => (0, Refusal::DriveError),
        },
    };
    if end > u64::from(len_bytes) {
        return Err(beyond);
    }
    let extents = fragment.extents.clone();
    Ok(match &fragment.body {
        Body::Hot(rows) => Plan::Hot { parts: row_parts(rows, request), extents },
        Body::Cold(slice) => Plan::Cold { slice_len_bytes: slice.len_bytes, extents },
    })
}

fn row_parts(rows: &Rows, request: &Read) -> Vec<RowPart> {
    let end = request.offset_bytes + request.len_bytes;
    let mut offset = request.offset_bytes;
    let mut parts = Vec::new();
    while offset < end {
        let row = rows.row_at(offset).expect("the read ends within what is durable");
        let row_start = rows.start_blocks(row) * BLOCK_LEN_BYTES;
        let row_end = rows.ends_blocks[row as usize] * BLOCK_LEN_BYTES;
        let part_end = end.min(row_end);
        let first = (offset - row_start) / BLOCK_LEN_BYTES;
        let last = (part_end - row_start).div_ceil(BLOCK_LEN_BYTES);
        let skip = (offset - row_start - first * BLOCK_LEN_BYTES) as usize;
        parts.push(RowPart {
            sequence: RowSequence::new(row),
            start_blocks: rows.start_blocks(row),
            chain: rows.chains[row as usize],
            blocks: first..last,
            wanted: skip..skip + (part_end - offset) as usize,
        });
        offset = part_end;
    }
    parts
}

async fn read_rows(
    shared: &Shared,
    request: &Read,
    parts: Vec<RowPart>,
    extents: &ExtentList,
    class: Class,
) -> Result<Bytes, Fault> {
    let key = key_of(&request.address);
    let key = &key;
    let read = |part: RowPart| async move { read_row_part(shared, key, &part, extents, class).await };
    let mut reads = stream::iter(parts).map(read).buffered(READS_IN_FLIGHT_MAX);
    let Some(mut first) = reads.try_next().await? else { return Ok(Bytes::new()) };
    if first.len() < request.len_bytes as usize {
        let mut all = BytesMut::with_capacity(request.len_bytes as usize);
        all.extend_from_slice(&first);
        while let Some(bytes) = reads.try_next().await? {
            all.extend_from_slice(&bytes);
        }
        first = all.freeze();
    }
    Ok(first)
}

async fn read_row_part(
    shared: &Shared,
    key: &FragmentKey,
    part: &RowPart,
    extents: &ExtentList,
    class: Class,
) -> Result<Bytes, Fault> {
    let block = u64::from(BLOCK_LEN_BYTES);
    let header_position = (u64::from(part.start_blocks) + u64::from(part.sequence.get())) * block;
    let payload_position = header_position + u64::from(ROW_HEADER_LEN_BYTES);
    let start_bytes = part.start_blocks * BLOCK_LEN_BYTES;
    // The chain is kept elsewhere, and sums the header's checksums: a header that is whole but not this row's does not vouch for itself.
    let header_of = |bytes: &[u8]| -> Result<RowHeader, Fault> {
        row::decode_expected(bytes, key.slab, key.fragment, part.sequence)
            .ok()
            .filter(|header| header.chain == part.chain && header.offset_bytes == start_bytes)
            .ok_or(Fault::Checksum { offset_bytes: start_bytes })
    };
    if part.blocks.start <= READ_THROUGH_BLOCKS {
        let len = u64::from(ROW_HEADER_LEN_BYTES) + u64::from(part.blocks.end) * block;
        let bytes = read_range(shared, extents, header_position, len, class).await?.into_bytes();
        let header = header_of(&bytes[..ROW_HEADER_LEN_BYTES as usize])?;
        let from = (ROW_HEADER_LEN_BYTES + part.blocks.start * BLOCK_LEN_BYTES) as usize;
        let blocks = bytes.slice(from..);
        check_blocks(&header, part, &blocks)?;
        return Ok(blocks.slice(part.wanted.clone()));
    }
    let position = payload_position + u64::from(part.blocks.start) * block;
    let len = u64::from(part.blocks.end - part.blocks.start) * block;
    let (header, blocks) = futures::join!(
        read_range(shared, extents, header_position, u64::from(ROW_HEADER_LEN_BYTES), class),
        read_range(shared, extents, position, len, class)
    );
    let header = header_of(&header?)?;
    let blocks = blocks?.into_bytes();
    check_blocks(&header, part, &blocks)?;
    Ok(blocks.slice(part.wanted.clone()))
}

fn check_blocks(header: &RowHeader, part: &RowPart, blocks: &[u8]) -> Result<(), Fault> {
    header
        .verify_blocks(part.blocks.start, blocks)
        .map_err(|bad| Fault::Checksum { offset_bytes: header.offset_bytes + bad.block * BLOCK_LEN_BYTES })
}

async fn read_slice(
    shared: &Shared,
    request: &Read,
    slice_len_bytes: u32,
    extents: &ExtentList,
    class: Class,
) -> Result<Bytes, Fault> {
    let key = key_of(&request.address);
    let start = request.offset_bytes / BLOCK_LEN_BYTES * BLOCK_LEN_BYTES;
    let end = (request.offset_bytes + request.len_bytes).next_multiple_of(BLOCK_LEN_BYTES);
    let tables = table::table_block_for(start)..table::table_block_for(end - BLOCK_LEN_BYTES) + 1;
    let table_position = u64::from(slice_len_bytes) + u64::from(tables.start) * u64::from(BLOCK_LEN_BYTES);
    let table_len = u64::from(tables.end - tables.start) * u64::from(BLOCK_LEN_BYTES);
    let (table_bytes, blocks) = futures::join!(
        read_range(shared, extents, table_position, table_len, class),
        read_range(shared, extents, u64::from(start), u64::from(end - start), class)
    );
    let (table_bytes, blocks) = (table_bytes?, blocks?.into_bytes());
    let mut position = start;
    for (index, table_block) in tables.zip(table_bytes.chunks_exact(BLOCK_LEN_BYTES as usize)) {
        let checked = TableBlock::decode(key, slice_len_bytes, index, table_block)
            .map_err(|_| Fault::Checksum { offset_bytes: position })?;
        let covered_end = end.min((index + 1).saturating_mul(table::ENTRIES_PER_BLOCK * BLOCK_LEN_BYTES));
        let range = (position - start) as usize..(covered_end - start) as usize;
        checked
            .verify(position, &blocks[range])
            .map_err(|bad| Fault::Checksum { offset_bytes: bad.position_bytes })?;
        position = covered_end;
    }
    let skip = (request.offset_bytes - start) as usize;
    Ok(blocks.slice(skip..skip + request.len_bytes as usize))
}

/// Reads a range of a fragment's data; one buffer, without a copy unless it crosses extents.
async fn read_range(
    shared: &Shared,
    extents: &ExtentList,
    position_bytes: u64,
    len_bytes: u64,
    class: Class,
) -> Result<AlignedBuffer, Fault> {
    let submit = |piece: strongroom_format::extent::Piece| async move {
        // A row whose header was found may end in an extent that was not.
        let extent = extents.get(piece.ordinal).ok_or(Fault::Device)?;
        let offset_bytes = shared.device_offset_bytes(extent, piece.offset_bytes);
        read_device(shared.device.as_ref(), offset_bytes, piece.len_bytes as usize, class).await.map_err(
            |error| if matches!(error, DeviceError::Busy { .. }) { Fault::Busy } else { Fault::Device },
        )
    };
    let mut pieces = shared.geometry.split(position_bytes, len_bytes);
    let first = pieces.next().expect("a read has at least one block");
    if u64::from(first.len_bytes) == len_bytes {
        return submit(first).await;
    }
    let mut all = AlignedBuffer::zeroed(len_bytes as usize);
    let mut done = 0;
    let mut pieces =
        stream::iter(std::iter::once(first).chain(pieces).map(submit)).buffered(READS_IN_FLIGHT_MAX);
    while let Some(piece) = pieces.try_next().await? {
        all[done..done + piece.len()].copy_from_slice(&piece);
        done += piece.len();
    }
    Ok(all)
}

/// Reads whole blocks of the device.
pub(super) async fn read_device(
    device: &dyn Device,
    offset_bytes: u64,
    len_bytes: usize,
    class: Class,
) -> Result<AlignedBuffer, DeviceError> {
    read_into(device, offset_bytes, AlignedBuffer::zeroed(len_bytes), class).await
}

/// Fills a buffer.
pub(super) async fn read_into(
    device: &dyn Device,
    offset_bytes: u64,
    buffer: AlignedBuffer,
    class: Class,
) -> Result<AlignedBuffer, DeviceError> {
    let completion = device.submit(Operation::Read { offset_bytes, buffer }, class).await;
    completion.result?;
    completion.buffer.ok_or(DeviceError::Closed)
}

/// What is here of a slab that was just fenced.
///
/// Rows that this run wrote are known to be whole; rows that were found at start are read and checked now.
pub(super) async fn seal_report(shared: &Shared, seal: &Seal) -> Result<SealReport, Refusal> {
    // What this run wrote is not read again, so a drive that was erased meanwhile would vouch for rows that are gone.
    shared.check_identity().await;
    if let Some(refusal) = shared.state().standing.refusal(Ask::Fence) {
        return Err(refusal);
    }
    let (report, found, extents) = {
        let state = shared.state();
        let fragment = state.fragment(&seal.address)?;
        let Body::Hot(rows) = &fragment.body else { return Err(Refusal::NotHere) };
        if fragment.epoch != seal.epoch {
            return Err(Refusal::Fenced { epoch: fragment.epoch });
        }
        let durable = rows.durable as usize;
        let report = SealReport {
            epoch: fragment.epoch,
            rows: rows.durable,
            bad_rows: Vec::new(),
            row_ends_blocks: rows.ends_blocks[..durable].to_vec(),
            row_chain_crc32c: rows.chains[..durable].to_vec(),
            committed_upto: rows.committed_upto,
        };
        (report, rows.found.min(rows.durable), fragment.extents.clone())
    };
    let mut report = report;
    let bad_rows = {
        let key = key_of(&seal.address);
        let part = |row: u32| {
            let start = row.checked_sub(1).map_or(0, |before| report.row_ends_blocks[before as usize]);
            RowPart {
                sequence: RowSequence::new(row),
                start_blocks: start,
                chain: report.row_chain_crc32c[row as usize],
                blocks: 0..report.row_ends_blocks[row as usize] - start,
                wanted: 0..0,
            }
        };
        let (key, part, extents) = (&key, &part, &extents);
        let check = |row| async move {
            let part = part(row);
            // Once more before anything is said, as in a read.
            let mut result = read_row_part(shared, key, &part, extents, Class::Append).await;
            if result.is_err() {
                result = read_row_part(shared, key, &part, extents, Class::Append).await;
            }
            match result {
                Ok(_) => Ok(None),
                // The device had no place for the read: that says nothing about the row.
                Err(Fault::Busy) => Err(Refusal::Busy),
                Err(Fault::Device | Fault::Checksum { .. }) => Ok(Some(RowSequence::new(row))),
            }
        };
        stream::iter(0..found)
            .map(check)
            .buffered(READS_IN_FLIGHT_MAX)
            .try_filter_map(|bad| std::future::ready(Ok(bad)))
            .try_collect::<Vec<_>>()
            .await?
    };
    report.bad_rows = bad_rows;
    let durable = match &shared.state().fragment(&seal.address)?.body {
        Body::Hot(rows) => rows.durable,
        Body::Cold(_) => 0,
    };
    if durable < report.rows {
        // Cut meanwhile, so what looks bad may be another's by now.
        return Err(Refusal::Busy);
    }
    if shared.mutants.has(Mutant::TruncateOnBadCrc) {
        truncate_at_bad(&mut report);
        // What it says is what it has from now on: else the rows behind would be read all the same, and nobody would miss them.
        if let Some(Body::Hot(rows)) =
            shared.state().fragments.get_mut(&key_of(&seal.address)).map(|fragment| &mut fragment.body)
        {
            rows.truncate(report.rows.min(rows.durable));
        }
    }
    Ok(report)
}

/// The mutant: a bad row is taken for the torn tail of a crash, and with it all behind it.
pub(super) fn truncate_at_bad(report: &mut SealReport) {
    let Some(first) = report.bad_rows.first().copied() else { return };
    report.rows = first.get();
    report.row_ends_blocks.truncate(first.get() as usize);
    report.row_chain_crc32c.truncate(first.get() as usize);
    report.committed_upto = report.committed_upto.min(first);
    report.bad_rows.clear();
}
