//! Cold fragments: pieces in order, then the checksum table, then, once those are durable, the marks.

use super::Shared;
use super::append::{header_write, place};
use super::extent_list::ExtentList;
use super::fragment::{Body, Fragment, Slice, SliceState};
use super::media::Write;
use super::state::{Need, State, check_fragment, key_of};
use strongroom_format::checksum::FragmentKey;
use strongroom_format::cold::{self, ChecksumTable, ColdMark};
use strongroom_format::extent::{ExtentKind, MarkSlot};
use strongroom_format::wire::message::{FinishFragment, Refusal, WriteFragment};
use strongroom_io::AlignedBuffer;
use strongroom_types::limits::{EXTENTS_PER_FRAGMENT_MAX, SLAB_LEN_BYTES_MAX};
use strongroom_types::units::BLOCK_LEN_BYTES;

/// Which matrix makes parity in this version: the erasure crate's normalised Cauchy.
pub(crate) const MATRIX: u8 = strongroom_erasure::MatrixId::NormalisedCauchy.to_byte();

/// Takes a piece into memory as planned and gives its writes. After a refusal nothing has changed.
pub(super) fn plan_piece(
    shared: &Shared,
    state: &mut State,
    write: &WriteFragment,
    payload: &[u8],
) -> Result<Vec<Write>, Refusal> {
    check_shape(write, payload)?;
    let key = key_of(&write.address);
    let mut writes = Vec::new();
    begin(shared, state, write, &key, &mut writes)?;
    let fragment = state.fragments.get_mut(&key).expect("there, or just begun");
    let failed = fragment.failed;
    let Body::Cold(slice) = &mut fragment.body else {
        return Err(Refusal::Invalid(String::from("piece for a hot fragment")));
    };
    let other = slice.len_bytes != write.slice_len_bytes || fragment.profile != write.profile;
    let table = match &mut slice.state {
        SliceState::Unfinished { .. } => return Err(Refusal::Beyond { len_bytes: 0 }),
        SliceState::Incomplete => return Err(Refusal::DriveError),
        SliceState::Finished { .. } | SliceState::Building(_) if other => {
            return Err(Refusal::Invalid(String::from(
                "piece of another profile or length than the fragment has",
            )));
        }
        // A retry of a conversion whose answer was lost: the same bytes are here already.
        SliceState::Finished { .. } => return Ok(Vec::new()),
        SliceState::Building(table) => table,
    };
    if failed {
        return Err(Refusal::DriveError);
    }
    if write.offset_bytes != table.slice_len_bytes() {
        return Err(Refusal::Beyond { len_bytes: table.slice_len_bytes() });
    }
    table.push_blocks(payload).map_err(|error| Refusal::Invalid(error.to_string()))?;
    let buffer = AlignedBuffer::copy_of(payload).expect("checked to be whole blocks");
    place(shared, &fragment.extents, u64::from(write.offset_bytes), buffer, &mut writes);
    Ok(writes)
}

fn check_shape(write: &WriteFragment, payload: &[u8]) -> Result<(), Refusal> {
    let block = BLOCK_LEN_BYTES as usize;
    let end = u64::from(write.offset_bytes) + payload.len() as u64;
    let whole = |bytes: u32| bytes.is_multiple_of(BLOCK_LEN_BYTES);
    let fits = !payload.is_empty()
        && payload.len().is_multiple_of(block)
        && whole(write.offset_bytes)
        && whole(write.slice_len_bytes)
        && end <= u64::from(write.slice_len_bytes)
        && write.slice_len_bytes <= SLAB_LEN_BYTES_MAX;
    if fits {
        return check_fragment(&write.address, write.profile);
    }
    let (offset, len, slice) = (write.offset_bytes, payload.len(), write.slice_len_bytes);
    Err(Refusal::Invalid(format!(
        "piece of {len} bytes at {offset} of {slice}: expected whole blocks within the slice"
    )))
}

/// Makes the fragment at its first piece, or begins it again where its making was cut short.
fn begin(
    shared: &Shared,
    state: &mut State,
    write: &WriteFragment,
    key: &FragmentKey,
    writes: &mut Vec<Write>,
) -> Result<(), Refusal> {
    let there = state.fragments.get(key);
    if there.is_some() && !begins_again(state, write) {
        return Ok(());
    }
    if state.suspect {
        return Err(Refusal::DriveError);
    }
    if write.offset_bytes != 0 {
        return Err(match state.absent() {
            Refusal::NotHere => Refusal::Beyond { len_bytes: 0 },
            other => other,
        });
    }
    let have = there.map_or(0, |fragment| fragment.extents.len() as u32);
    let needed = shared.geometry.extents_for(cold::data_len(write.slice_len_bytes));
    if needed > EXTENTS_PER_FRAGMENT_MAX {
        return Err(Refusal::Full);
    }
    let need = if have == 0 { Need::New } else { Need::Growth };
    let fresh = state.take_extents(needed.saturating_sub(have), need)?;
    let body = Body::Cold(Slice::new(
        write.slice_len_bytes,
        SliceState::Building(Box::new(ChecksumTable::new(*key))),
    ));
    let fragment = state.fragments.entry(*key).or_insert_with(|| Fragment {
        profile: write.profile,
        epoch: strongroom_types::Epoch::FIRST,
        extents: ExtentList::default(),
        failed: false,
        body: Body::Cold(Slice::new(0, SliceState::Unfinished { damaged: false })),
    });
    fragment.body = body;
    // Another attempt may be of another profile, which stands in every header.
    let stale = if fragment.profile == write.profile { Vec::new() } else { fragment.extents.split_off(0) };
    fragment.profile = write.profile;
    for extent in stale.into_iter().chain(fresh) {
        writes.push(header_write(shared, fragment, key, ExtentKind::Cold, (fragment.extents.len(), extent)));
        fragment.extents.push(extent);
    }
    Ok(())
}

/// Whether this is the first piece of a fragment that is being made already. To be the first of its batch: pieces of the attempt
/// before it could otherwise be written after.
pub(super) fn begins_again(state: &State, write: &WriteFragment) -> bool {
    let Some(fragment) = state.fragments.get(&key_of(&write.address)) else { return false };
    let Body::Cold(slice) = &fragment.body else { return false };
    let unfinished = matches!(slice.state, SliceState::Building(_) | SliceState::Unfinished { .. });
    unfinished && write.offset_bytes == 0 && !fragment.failed
}

/// A piece was written, or not.
pub(super) fn complete_piece(state: &mut State, key: &FragmentKey, done: bool) -> Result<(), Refusal> {
    let Some(fragment) = state.fragments.get_mut(key) else { return Err(Refusal::NotHere) };
    if !done {
        fragment.failed = true;
    }
    if fragment.failed { Err(Refusal::DriveError) } else { Ok(()) }
}

/// How a cold fragment is ended.
pub(super) enum FinishPlan {
    /// It was ended before; nothing to write.
    Already {
        /// Its table's checksum.
        table_crc32c: u32,
    },
    /// Write the table, flush it with the pieces, then write the marks.
    Write {
        /// The table.
        table: Vec<Write>,
        /// Both mark slots.
        marks: Vec<Write>,
        /// The table's checksum.
        table_crc32c: u32,
    },
}

/// Plans the end of a cold fragment.
pub(super) fn plan_finish(
    shared: &Shared,
    state: &mut State,
    finish: &FinishFragment,
) -> Result<FinishPlan, Refusal> {
    let key = key_of(&finish.address);
    let absent = state.absent();
    let Some(fragment) = state.fragments.get_mut(&key) else { return Err(absent) };
    let Body::Cold(slice) = &mut fragment.body else {
        return Err(Refusal::Invalid(String::from("end of a cold fragment, and this one is hot")));
    };
    let table = match &slice.state {
        SliceState::Finished { table_crc32c } if slice.image_len_bytes == finish.image_len_bytes => {
            return Ok(FinishPlan::Already { table_crc32c: *table_crc32c });
        }
        SliceState::Finished { .. } => {
            return Err(Refusal::Invalid(String::from("fragment was made of an image of another length")));
        }
        SliceState::Unfinished { .. } => return Err(Refusal::Beyond { len_bytes: 0 }),
        SliceState::Incomplete => return Err(Refusal::DriveError),
        SliceState::Building(table) => table,
    };
    if fragment.failed {
        return Err(Refusal::DriveError);
    }
    if table.slice_len_bytes() != slice.len_bytes {
        return Err(Refusal::Beyond { len_bytes: table.slice_len_bytes() });
    }
    let table_crc32c = table.table_crc32c();
    let mark = ColdMark {
        slab: key.slab,
        fragment: key.fragment,
        generation: key.generation,
        matrix: MATRIX,
        profile: fragment.profile,
        slice_len_bytes: slice.len_bytes,
        image_len_bytes: finish.image_len_bytes,
        epoch: finish.epoch,
        rows: finish.rows,
        root_crc32c: finish.root_crc32c,
        table_crc32c,
    };
    let block = mark.encode().map_err(|error| Refusal::Invalid(error.to_string()))?;
    let marks = [MarkSlot::First, MarkSlot::Second].map(|slot| Write {
        offset_bytes: shared.device_offset_bytes(fragment.extents.first(), slot.offset_bytes()),
        buffer: AlignedBuffer::copy_of(&block).expect("a block is a whole block"),
    });
    let mut writes = Vec::new();
    let bytes = AlignedBuffer::copy_of(&table.encode()).expect("a table is whole blocks");
    place(shared, &fragment.extents, u64::from(slice.len_bytes), bytes, &mut writes);
    slice.image_len_bytes = finish.image_len_bytes;
    fragment.epoch = finish.epoch;
    Ok(FinishPlan::Write { table: writes, marks: marks.into(), table_crc32c })
}

/// The fragment is whole on media, or a write or flush failed.
pub(super) fn complete_finish(
    state: &mut State,
    key: &FragmentKey,
    table_crc32c: u32,
    done: bool,
) -> Result<(), Refusal> {
    let Some(fragment) = state.fragments.get_mut(key) else { return Err(Refusal::NotHere) };
    if !done {
        fragment.failed = true;
        return Err(Refusal::DriveError);
    }
    let Body::Cold(slice) = &mut fragment.body else { unreachable!("a cold fragment stays cold") };
    slice.state = SliceState::Finished { table_crc32c };
    Ok(())
}
