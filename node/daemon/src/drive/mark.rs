//! Fences, agreed lengths, and giving fragments back: the jobs that end a fragment's life of appends.

use super::Shared;
use super::append::{header_buffer, header_write};
use super::extent_list::ExtentList;
use super::fragment::{Body, Fragment, Rows};
use super::media::Write;
use super::state::{Need, State, check_fragment, key_of};
use strongroom_format::checksum::FragmentKey;
use strongroom_format::extent::{self, ExtentKind, MarkSlot};
use strongroom_format::seal_mark::SealMark;
use strongroom_format::wire::message::{Refusal, Seal, Settle};
use strongroom_io::AlignedBuffer;

/// Fences a slab here. To be the first of its batch, so that the mark counts rows that are on media. A slab of which nothing is here gets an empty fragment, so that the fence outlives a restart.
pub(super) fn plan_seal(shared: &Shared, state: &mut State, seal: &Seal) -> Result<Vec<Write>, Refusal> {
    if !seal.profile.is_copies() {
        return Err(Refusal::Invalid(format!("seal of {}: expected copies", seal.profile)));
    }
    check_fragment(&seal.address, seal.profile)?;
    let key = key_of(&seal.address);
    if !state.fragments.contains_key(&key) {
        // "No rows" is a word that the sealer counts: it is given only where it is certain that there are none.
        if state.absent() != Refusal::NotHere {
            return Err(state.absent());
        }
        let extent = state.take_extents(1, Need::Fence)?[0];
        let mut fragment = Fragment {
            profile: seal.profile,
            epoch: seal.epoch,
            extents: ExtentList::default(),
            failed: false,
            body: Body::Hot(Box::default()),
        };
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
        return if rows.mark_failed { Err(Refusal::DriveError) } else { Ok(Vec::new()) };
    }
    fragment.epoch = seal.epoch;
    let mark = SealMark {
        slab: key.slab,
        fragment: key.fragment,
        generation: key.generation,
        epoch: seal.epoch,
        rows: rows.durable,
        root_crc32c: rows.chain_at(rows.durable),
        // An agreed length stays agreed: a later fence must not bring back what was cut.
        settled: rows.mark.is_some_and(|mark| mark.settled),
    };
    let mark = mark_write(shared, &fragment.extents, rows, mark);
    if rows.header_durable {
        return Ok(vec![mark]);
    }
    // Just made here, or its making failed: a mark in an extent whose header says nothing is found by nobody. Writes of a batch are not ordered,
    // so the mark goes with the header that empties its slot.
    let mut header = header_write(shared, fragment, &key, ExtentKind::Hot, (0, fragment.extents.first()));
    let at = (mark.offset_bytes - header.offset_bytes) as usize;
    header.buffer[at..at + mark.buffer.len()].copy_from_slice(&mark.buffer);
    Ok(vec![header])
}

/// How a fragment is cut to the agreed length.
pub(super) struct SettlePlan {
    /// The mark; nothing where it is on media.
    pub(super) mark: Vec<Write>,
    /// Headers that say free, over those of the extents behind the agreed end: not before the mark is durable, since without it they are missed.
    pub(super) cut: Vec<Write>,
}

/// Cuts a fragment to the agreed length. Asked again it cuts what could not be cut the first time.
pub(super) fn plan_settle(
    shared: &Shared,
    state: &mut State,
    settle: &Settle,
) -> Result<SettlePlan, Refusal> {
    let key = key_of(&settle.address);
    let absent = state.absent();
    let Some(fragment) = state.fragments.get_mut(&key) else { return Err(absent) };
    if settle.epoch < fragment.epoch {
        return Err(Refusal::Fenced { epoch: fragment.epoch });
    }
    let Body::Hot(rows) = &mut fragment.body else {
        return Err(Refusal::Invalid(String::from("settle of a cold fragment")));
    };
    let known = rows.mark.filter(|mark| mark.epoch == settle.epoch);
    let Some(known) = known.filter(|_| settle.epoch == fragment.epoch) else {
        return Err(Refusal::Invalid(String::from("settle of a slab that is not fenced here at this epoch")));
    };
    let mark = SealMark {
        slab: key.slab,
        fragment: key.fragment,
        generation: key.generation,
        epoch: settle.epoch,
        rows: settle.rows,
        root_crc32c: settle.root_crc32c,
        settled: true,
    };
    if known.settled && known != mark {
        return Err(Refusal::Invalid(String::from("settle at another length than this epoch has")));
    }
    if rows.mark_failed {
        return Err(Refusal::DriveError);
    }
    if known == mark {
        return Ok(SettlePlan { mark: Vec::new(), cut: cut_writes(shared, fragment) });
    }
    if rows.durable < settle.rows {
        // Where headers do not check, "not here" would be a guess.
        let beyond = Refusal::Beyond { len_bytes: rows.durable_end_bytes() };
        return Err(if rows.unreadable { Refusal::DriveError } else { beyond });
    }
    if settle.rows < rows.committed_upto.get() {
        return Err(Refusal::Invalid(format!(
            "settle at {} rows of a slab with {} committed",
            settle.rows,
            rows.committed_upto.get()
        )));
    }
    if rows.chain_at(settle.rows) != settle.root_crc32c {
        let offset_bytes =
            rows.start_blocks(settle.rows.saturating_sub(1)) * strongroom_types::units::BLOCK_LEN_BYTES;
        return Err(Refusal::Corrupt { offset_bytes });
    }
    rows.truncate(settle.rows);
    let mark = vec![mark_write(shared, &fragment.extents, rows, mark)];
    Ok(SettlePlan { mark, cut: cut_writes(shared, fragment) })
}

/// The fragment keeps the extents until all of these are flushed. The first is never among them, so no mark is touched.
fn cut_writes(shared: &Shared, fragment: &Fragment) -> Vec<Write> {
    let cut = fragment.extents_cut(&shared.geometry);
    cut.map(|extent| free_write(shared, extent, 1)).collect()
}

/// Says on media that an extent is free; with the first of a fragment its mark slots are emptied.
fn free_write(shared: &Shared, extent: u32, ordinal: u32) -> Write {
    let offset_bytes = shared.device_offset_bytes(extent, 0);
    Write { offset_bytes, buffer: header_buffer(&extent::free_block(shared.id, extent), ordinal) }
}

fn retire_write(shared: &Shared, extent: u32) -> Write {
    let offset_bytes = shared.device_offset_bytes(extent, 0);
    let block = extent::retired_block(shared.id, extent);
    Write { offset_bytes, buffer: AlignedBuffer::copy_of(&block).expect("a block is a whole block") }
}

fn mark_write(shared: &Shared, extents: &ExtentList, rows: &mut Rows, mark: SealMark) -> Write {
    let slot = rows.next_mark.unwrap_or(MarkSlot::First);
    rows.next_mark = Some(slot.other());
    rows.mark = Some(mark);
    rows.mark_under_way = true;
    let block = mark.encode().expect("rows and root come from this fragment or from the slab table");
    let buffer = AlignedBuffer::copy_of(&block).expect("a block is a whole block");
    Write { offset_bytes: shared.device_offset_bytes(extents.first(), slot.offset_bytes()), buffer }
}

/// The mark is on media, or the write or flush failed.
pub(super) fn complete(state: &mut State, key: &FragmentKey, done: bool) -> Result<(), Refusal> {
    let Some(fragment) = state.fragments.get_mut(key) else { return Err(Refusal::NotHere) };
    let Body::Hot(rows) = &mut fragment.body else { unreachable!("a hot fragment stays hot") };
    rows.mark_failed = !done;
    rows.mark_under_way = false;
    if done {
        rows.header_durable = true;
        return Ok(());
    }
    fragment.failed = true;
    // What is in that slot is not known; the other one may hold the only mark that is.
    rows.next_mark = rows.next_mark.map(MarkSlot::other);
    Err(Refusal::DriveError)
}

/// How a fragment is given back.
pub(super) struct FreePlan {
    /// Its extents that become free.
    pub(super) extents: Vec<u32>,
    /// Those that are taken out of use.
    pub(super) retired: Vec<u32>,
    /// The header of its first extent: once that is gone, what is left of the others is plainly garbage.
    pub(super) first: Vec<Write>,
    /// The other headers.
    pub(super) rest: Vec<Write>,
}

/// Takes a fragment out of memory and plans the overwriting of its headers; `None` where it is not here. To be the first of its batch:
/// a header that the same batch writes could come after.
pub(super) fn plan_free(
    shared: &Shared,
    state: &mut State,
    key: &FragmentKey,
) -> Result<Option<FreePlan>, Refusal> {
    let Some(fragment) = state.fragments.remove(key) else {
        return if state.absent() == Refusal::NotHere { Ok(None) } else { Err(state.absent()) };
    };
    let bad = &state.bad_extents;
    let mut headers = (0..).zip(fragment.extents.iter()).map(|(ordinal, extent)| {
        if bad.contains(&extent) { retire_write(shared, extent) } else { free_write(shared, extent, ordinal) }
    });
    let first = headers.next().into_iter().collect();
    let rest = headers.collect();
    let (retired, extents) = fragment.extents.iter().partition(|extent| bad.contains(extent));
    Ok(Some(FreePlan { extents, retired, first, rest }))
}
