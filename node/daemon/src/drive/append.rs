//! Rows: what one append writes, and what it changes once that is durable.

use super::extent_list::ExtentList;
use super::fragment::{Body, Fragment};
use super::state::{Need, State, check_fragment, key_of};
use super::{Shared, media::Write};
use strongroom_format::checksum::FragmentKey;
use strongroom_format::extent::{ExtentHeader, ExtentKind, MarkSlot};
use strongroom_format::row::{self, ROW_HEADER_LEN_BYTES, RowFields};
use strongroom_format::wire::message::{Append, Refusal};
use strongroom_io::AlignedBuffer;
use strongroom_types::RowSequence;
use strongroom_types::limits::{EXTENTS_PER_FRAGMENT_MAX, ROW_LEN_BYTES_MAX};
use strongroom_types::units::BLOCK_LEN_BYTES;

/// Takes the row into memory as planned and gives the writes that put it on media. After a refusal nothing has changed.
pub(super) fn plan(
    shared: &Shared,
    state: &mut State,
    append: &Append,
    payload: &[u8],
) -> Result<Vec<Write>, Refusal> {
    check_shape(append, payload)?;
    let key = key_of(&append.address);
    let (mut fields, end_bytes, have_extents) = admit(state, append, &key)?;
    let position_bytes =
        u64::from(end_bytes) + u64::from(append.sequence.get()) * u64::from(ROW_HEADER_LEN_BYTES);
    let row_len_bytes = u64::from(ROW_HEADER_LEN_BYTES) + payload.len() as u64;
    let needed = shared.geometry.extents_for(position_bytes + row_len_bytes);
    if needed > EXTENTS_PER_FRAGMENT_MAX {
        return Err(Refusal::Full);
    }

    let mut row = AlignedBuffer::zeroed(ROW_HEADER_LEN_BYTES as usize + payload.len());
    fields.slab = key.slab;
    let chain =
        row::encode(&fields, payload, &mut row).map_err(|error| Refusal::Invalid(error.to_string()))?;
    let need = if have_extents == 0 { Need::New } else { Need::Growth };
    let fresh = state.take_extents(needed.saturating_sub(have_extents), need)?;

    let fragment = state.fragments.entry(key).or_insert_with(|| Fragment {
        profile: append.profile,
        epoch: append.epoch,
        extents: ExtentList::default(),
        failed: false,
        body: Body::Hot(Box::default()),
    });
    let mut writes = Vec::with_capacity(fresh.len() + 1);
    for extent in fresh {
        writes.push(header_write(shared, fragment, &key, ExtentKind::Hot, (fragment.extents.len(), extent)));
        fragment.extents.push(extent);
    }
    place(shared, &fragment.extents, position_bytes, row, &mut writes);
    let Body::Hot(rows) = &mut fragment.body else { unreachable!("admit refuses cold fragments") };
    let payload_blocks =
        u32::try_from(payload.len()).expect("checked against the row bound") / BLOCK_LEN_BYTES;
    rows.ends_blocks.push(end_bytes / BLOCK_LEN_BYTES + payload_blocks);
    rows.chains.push(chain);
    rows.committed_upto = rows.committed_upto.max(append.committed_upto);
    Ok(writes)
}

fn check_shape(append: &Append, payload: &[u8]) -> Result<(), Refusal> {
    let whole_blocks = payload.len().is_multiple_of(BLOCK_LEN_BYTES as usize);
    if payload.is_empty() || payload.len() > ROW_LEN_BYTES_MAX as usize || !whole_blocks {
        return Err(Refusal::Invalid(format!(
            "row of {} bytes: expected 1 to 960 whole blocks",
            payload.len()
        )));
    }
    if !append.profile.is_copies() {
        return Err(Refusal::Invalid(format!("append to {}: expected copies", append.profile)));
    }
    check_fragment(&append.address, append.profile)
}

/// Whether the row may follow what is here; gives its header's fields, the end of the image so far, and how many extents there are.
fn admit(state: &State, append: &Append, key: &FragmentKey) -> Result<(RowFields, u32, u32), Refusal> {
    let fields = |previous_chain| RowFields {
        slab: key.slab,
        fragment: key.fragment,
        epoch: append.epoch,
        sequence: append.sequence,
        offset_bytes: append.offset_bytes,
        committed_upto: append.committed_upto,
        previous_chain,
    };
    let Some(fragment) = state.fragments.get(key) else {
        let first = append.sequence == RowSequence::FIRST;
        if !first && state.absent() == Refusal::NotHere {
            return Err(Refusal::OutOfOrder { expected: RowSequence::FIRST });
        }
        if !first || state.suspect {
            return Err(Refusal::DriveError);
        }
        return check_offset(append, 0).map(|()| (fields(0), 0, 0));
    };
    let Body::Hot(rows) = &fragment.body else {
        return Err(Refusal::Invalid(String::from("append to a cold fragment")));
    };
    // Fencing first: a fenced writer must learn that it is, whatever else is wrong.
    if append.epoch < fragment.epoch || rows.mark.is_some() {
        return Err(Refusal::Fenced { epoch: fragment.epoch });
    }
    if append.epoch > fragment.epoch || append.profile != fragment.profile {
        return Err(Refusal::Invalid(String::from(
            "append of an epoch or profile that this slab was not opened with",
        )));
    }
    if fragment.failed || rows.closed {
        return Err(Refusal::DriveError);
    }
    if append.sequence != rows.next_sequence() {
        return Err(Refusal::OutOfOrder { expected: rows.next_sequence() });
    }
    check_offset(append, rows.end_bytes())?;
    let extents = u32::try_from(fragment.extents.len()).expect("extents per fragment are bounded");
    Ok((fields(rows.last_chain()), rows.end_bytes(), extents))
}

fn check_offset(append: &Append, end_bytes: u32) -> Result<(), Refusal> {
    if append.offset_bytes != end_bytes {
        let found = append.offset_bytes;
        return Err(Refusal::Invalid(format!("row at image byte {found}: expected {end_bytes}")));
    }
    Ok(())
}

/// The header of an extent of `fragment`, given by its place in it and on the drive; with the first one the mark slots are emptied, where a fragment of the same
/// key that was given back may have left a mark.
pub(super) fn header_write(
    shared: &Shared,
    fragment: &Fragment,
    key: &FragmentKey,
    kind: ExtentKind,
    (place, extent): (usize, u32),
) -> Write {
    let header = ExtentHeader {
        drive: shared.id,
        slab: key.slab,
        fragment: key.fragment,
        generation: key.generation,
        ordinal: u32::try_from(place).expect("extents per fragment are bounded"),
        kind,
        profile: fragment.profile,
        epoch: fragment.epoch,
    };
    let block =
        header.encode(extent).expect("profile, fragment and ordinal were checked when the job was admitted");
    Write {
        offset_bytes: shared.device_offset_bytes(extent, 0),
        buffer: header_buffer(&block, header.ordinal),
    }
}

/// What stands at the beginning of an extent with this place in its fragment: the header, and in the first one two empty mark slots.
pub(super) fn header_buffer(header: &[u8], ordinal: u32) -> AlignedBuffer {
    let blocks = if ordinal == 0 { 3 } else { 1 };
    let mut buffer = AlignedBuffer::zeroed(blocks * BLOCK_LEN_BYTES as usize);
    buffer[..header.len()].copy_from_slice(header);
    buffer
}

const _: () = assert!(MarkSlot::Second.offset_bytes() == 2 * BLOCK_LEN_BYTES);

/// The writes of `data` at `position_bytes` of a fragment's data: one, unless it crosses extents.
pub(super) fn place(
    shared: &Shared,
    extents: &ExtentList,
    position_bytes: u64,
    data: AlignedBuffer,
    writes: &mut Vec<Write>,
) {
    let mut pieces = shared.geometry.split(position_bytes, data.len() as u64).peekable();
    let mut done = 0;
    while let Some(piece) = pieces.next() {
        let extent = extents.get(piece.ordinal).expect("extents were taken for all of it");
        let offset_bytes = shared.device_offset_bytes(extent, piece.offset_bytes);
        if done == 0 && pieces.peek().is_none() {
            writes.push(Write { offset_bytes, buffer: data });
            return;
        }
        let end = done + piece.len_bytes as usize;
        let buffer = AlignedBuffer::copy_of(&data[done..end]).expect("pieces are whole blocks");
        writes.push(Write { offset_bytes, buffer });
        done = end;
    }
}

/// The row is on media, or the write or flush failed. Gives what the writer is told.
pub(super) fn complete(
    state: &mut State,
    key: &FragmentKey,
    sequence: RowSequence,
    done: bool,
) -> Result<(), Refusal> {
    let Some(fragment) = state.fragments.get_mut(key) else { return Err(Refusal::NotHere) };
    if !done {
        fragment.failed = true;
    }
    if fragment.failed {
        // Also a row that was written whole: the one before it was not, and a holder has a prefix.
        return Err(Refusal::DriveError);
    }
    let Body::Hot(rows) = &mut fragment.body else { unreachable!("a hot fragment stays hot") };
    assert!(rows.durable == sequence.get(), "rows of a fragment complete in their order");
    rows.durable += 1;
    // Its batch or an earlier one wrote it, and one that failed would have failed the fragment.
    rows.header_durable = true;
    Ok(())
}
