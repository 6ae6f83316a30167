//! Fences, agreed lengths, and giving fragments back: the jobs that end a fragment's life of appends.

use super::Shared;
use super::append::header_write;
use super::fragment::{Body, Fragment, Rows};
use super::lane::Write;
use super::state::{State, key_of};
use strongroom_format::checksum::FragmentKey;
use strongroom_format::extent::{self, ExtentKind, MarkSlot};
use strongroom_format::seal_mark::SealMark;
use strongroom_format::wire::message::{Refusal, Seal, Settle};
use strongroom_io::AlignedBuffer;

/// Fences a slab here. A slab of which nothing is here gets an empty fragment, so that the fence outlives a restart.
pub(super) fn plan_seal(shared: &Shared, state: &mut State, seal: &Seal) -> Result<Vec<Write>, Refusal> {
    if !seal.profile.is_copies() {
        return Err(Refusal::Invalid(format!("seal of {}: expected copies", seal.profile)));
    }
    let key = key_of(&seal.address);
    let mut writes = Vec::new();
    if !state.fragments.contains_key(&key) {
        let extent = state.take_extents(1)?[0];
        let mut fragment = Fragment {
            profile: seal.profile,
            epoch: seal.epoch,
            extents: Vec::new(),
            failed: false,
            body: Body::Hot(Rows::default()),
        };
        writes.push(header_write(shared, &fragment, &key, ExtentKind::Hot, extent));
        fragment.extents.push(extent);
        state.fragments.insert(key, fragment);
    }
    let fragment = state.fragments.get_mut(&key).expect("there, or just inserted");
    if seal.epoch < fragment.epoch {
        return Err(Refusal::Fenced { epoch: fragment.epoch });
    }
    let Body::Hot(rows) = &mut fragment.body else {
        return Err(Refusal::Invalid(String::from("seal of a cold fragment")));
    };
    if rows.unreadable {
        return Err(Refusal::DriveError);
    }
    if rows.mark.is_some_and(|mark| mark.epoch == seal.epoch) {
        // Asked again: the mark is on media, or the write that was to put it there failed and said so.
        return if fragment.failed && rows.mark_failed { Err(Refusal::DriveError) } else { Ok(writes) };
    }
    fragment.epoch = seal.epoch;
    let mark = SealMark {
        slab: key.slab,
        fragment: key.fragment,
        generation: key.generation,
        epoch: seal.epoch,
        rows: rows.count(),
        root_crc32c: rows.last_chain(),
        settled: false,
    };
    writes.push(mark_write(shared, &fragment.extents, rows, mark));
    Ok(writes)
}

/// Cuts a fragment to the agreed length.
pub(super) fn plan_settle(
    shared: &Shared,
    state: &mut State,
    settle: &Settle,
) -> Result<Vec<Write>, Refusal> {
    let key = key_of(&settle.address);
    let Some(fragment) = state.fragments.get_mut(&key) else { return Err(Refusal::NotHere) };
    if settle.epoch < fragment.epoch {
        return Err(Refusal::Fenced { epoch: fragment.epoch });
    }
    let Body::Hot(rows) = &mut fragment.body else {
        return Err(Refusal::Invalid(String::from("settle of a cold fragment")));
    };
    if settle.epoch > fragment.epoch || rows.mark.is_none() {
        return Err(Refusal::Invalid(String::from("settle of a slab that is not fenced here")));
    }
    let mark = SealMark {
        slab: key.slab,
        fragment: key.fragment,
        generation: key.generation,
        epoch: settle.epoch,
        rows: settle.rows,
        root_crc32c: settle.root_crc32c,
        settled: true,
    };
    if rows.mark == Some(mark) {
        return Ok(Vec::new());
    }
    if rows.durable < settle.rows {
        return Err(Refusal::Beyond { len_bytes: rows.durable_end_bytes() });
    }
    let chain = settle.rows.checked_sub(1).map_or(0, |last| rows.chains[last as usize]);
    if chain != settle.root_crc32c {
        let offset_bytes =
            rows.start_blocks(settle.rows.saturating_sub(1)) * strongroom_types::units::BLOCK_LEN_BYTES;
        return Err(Refusal::Corrupt { offset_bytes });
    }
    rows.truncate(settle.rows);
    Ok(vec![mark_write(shared, &fragment.extents, rows, mark)])
}

fn mark_write(shared: &Shared, extents: &[u32], rows: &mut Rows, mark: SealMark) -> Write {
    let slot = rows.next_mark.unwrap_or(MarkSlot::First);
    rows.next_mark = Some(slot.other());
    rows.mark = Some(mark);
    let block = mark.encode().expect("rows and root come from this fragment or from the slab table");
    let buffer = AlignedBuffer::copy_of(&block).expect("a block is a whole block");
    Write { offset_bytes: shared.device_offset_bytes(extents[0], slot.offset_bytes()), buffer }
}

/// The mark is on media, or the write or flush failed.
pub(super) fn complete(state: &mut State, key: &FragmentKey, done: bool) -> Result<(), Refusal> {
    let Some(fragment) = state.fragments.get_mut(key) else { return Err(Refusal::NotHere) };
    if done {
        return Ok(());
    }
    fragment.failed = true;
    if let Body::Hot(rows) = &mut fragment.body {
        rows.mark_failed = true;
    }
    Err(Refusal::DriveError)
}

/// How a fragment is given back.
pub(super) struct FreePlan {
    /// Its extents.
    pub(super) extents: Vec<u32>,
    /// The header of its first extent: once that is gone, what is left of the others is plainly garbage.
    pub(super) first: Vec<Write>,
    /// The other headers.
    pub(super) rest: Vec<Write>,
}

/// Takes a fragment out of memory and plans the overwriting of its headers; `None` where it is not here.
pub(super) fn plan_free(shared: &Shared, state: &mut State, key: &FragmentKey) -> Option<FreePlan> {
    let fragment = state.fragments.remove(key)?;
    let mut headers = fragment.extents.iter().map(|extent| {
        let block = extent::free_block(shared.id, *extent);
        let buffer = AlignedBuffer::copy_of(&block).expect("a block is a whole block");
        Write { offset_bytes: shared.device_offset_bytes(*extent, 0), buffer }
    });
    let first = headers.next().into_iter().collect();
    let rest = headers.collect();
    Some(FreePlan { extents: fragment.extents, first, rest })
}
