//! The life of a slab in its table, as pure functions: `None` says that the record is not what the proposer knew, and nothing
//! changes.
//!
//! ```text
//!            BeginSeal (epoch+1)        CommitSeal at the epoch
//!   Open ───────────────────▶ Sealing ───────────────────▶ Sealed ⟲ Relayout (next generation)
//!                             ⟲ BeginSeal (epoch+1)       │        ⟲ SetHolders (next generation)
//!                                                         │        ⟲ CountWhole, CountMissing, AbandonLayout
//!                                                         │ KillEmpty (no rows), KillSlab at the generation
//!                                                         ▼
//!                                                        Dead ──▶ ForgetSlab: not in the table any more
//! ```

use crate::group::GroupCommand;
use crate::limits::RELOCATE_MOVES_MAX;
use std::collections::BTreeSet;
use strongroom_types::limits::{FRAGMENTS_MAX, ROWS_PER_SLAB_MAX};
use strongroom_types::slab::{MadeAgain, Sealed};
use strongroom_types::{
    Epoch, FragmentIndex, Generation, Holders, NodeId, Profile, RowSequence, SessionId, SlabId, SlabRecord,
    SlabState,
};

pub(crate) fn open(
    slab: SlabId,
    profile: Profile,
    holders: Holders,
    writer: NodeId,
    session: SessionId,
) -> SlabRecord {
    SlabRecord {
        slab,
        state: SlabState::Open,
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        next_generation: Generation::FIRST.next(),
        profile,
        made_under: holders.iter().map(|_| Generation::FIRST).collect(),
        holders,
        writer,
        session,
        given_out: None,
        writer_done: false,
    }
}

/// What the writer said of its rows stays.
pub(crate) fn begin_seal(
    record: &SlabRecord,
    epoch: Epoch,
    given_out: Option<RowSequence>,
) -> Option<SlabRecord> {
    match record.state {
        SlabState::Open | SlabState::Sealing if record.epoch == epoch => {
            let given_out = record.given_out.or(given_out);
            Some(SlabRecord { state: SlabState::Sealing, epoch: epoch.next(), given_out, ..record.clone() })
        }
        SlabState::Open | SlabState::Sealing | SlabState::Sealed(_) | SlabState::Dead => None,
    }
}

/// Sealing again with what is there already is no change and no refusal.
pub(crate) fn commit_seal(record: &SlabRecord, epoch: Epoch, sealed: &Sealed) -> Option<SlabRecord> {
    if record.epoch != epoch {
        return None;
    }
    match &record.state {
        SlabState::Sealing => Some(SlabRecord { state: SlabState::Sealed(sealed.clone()), ..record.clone() }),
        SlabState::Sealed(present) if present == sealed => Some(record.clone()),
        SlabState::Open | SlabState::Sealed(_) | SlabState::Dead => None,
    }
}

/// A new layout of the same image: rows, length and root stay as they were sealed.
pub(crate) struct Layout {
    pub(crate) generation: Generation,
    pub(crate) profile: Profile,
    pub(crate) holders: Holders,
    pub(crate) table_crc32c: heapless::Vec<u32, 32>,
    pub(crate) missing: u32,
}

pub(crate) fn relayout(record: &SlabRecord, generation: Generation, layout: Layout) -> Option<SlabRecord> {
    match &record.state {
        SlabState::Sealed(sealed)
            if record.generation == generation && record.next_generation == layout.generation =>
        {
            let Layout { generation, profile, holders, table_crc32c, missing } = layout;
            let sealed = Sealed { table_crc32c, missing, ..sealed.clone() };
            let made_under = holders.iter().map(|_| generation).collect();
            let (state, next_generation) = (SlabState::Sealed(sealed), generation.next());
            let record = record.clone();
            Some(SlabRecord { state, generation, next_generation, profile, holders, made_under, ..record })
        }
        SlabState::Open | SlabState::Sealing | SlabState::Sealed(_) | SlabState::Dead => None,
    }
}

/// The layout that is being made under `layout` will never be the present one; the next attempt makes another.
pub(crate) fn abandon_layout(record: &SlabRecord, layout: Generation) -> Option<SlabRecord> {
    match &record.state {
        SlabState::Sealed(_) if record.next_generation == layout => {
            Some(SlabRecord { next_generation: layout.next(), ..record.clone() })
        }
        SlabState::Open | SlabState::Sealing | SlabState::Sealed(_) | SlabState::Dead => None,
    }
}

/// Counting again what counts already is no change and no refusal.
pub(crate) fn count_whole(record: &SlabRecord, generation: Generation, whole: u32) -> Option<SlabRecord> {
    match &record.state {
        SlabState::Sealed(sealed) if record.generation == generation && record.profile.is_copies() => {
            let sealed = Sealed { missing: sealed.missing & !whole, ..sealed.clone() };
            Some(SlabRecord { state: SlabState::Sealed(sealed), ..record.clone() })
        }
        SlabState::Open | SlabState::Sealing | SlabState::Sealed(_) | SlabState::Dead => None,
    }
}

/// Fragments that were made again under `layout` take the place of the lost ones.
pub(crate) fn set_holders(
    record: &SlabRecord,
    generation: Generation,
    layout: Generation,
    made: &[MadeAgain],
) -> Option<SlabRecord> {
    let SlabState::Sealed(sealed) = &record.state else { return None };
    let known = record.generation == generation && record.next_generation == layout;
    if !known || record.profile.is_copies() {
        return None;
    }
    let mut changed = SlabRecord { generation: layout, next_generation: layout.next(), ..record.clone() };
    let mut sealed = sealed.clone();
    for MadeAgain { fragment, holder, table_crc32c } in made {
        let place = usize::from(fragment.get());
        *changed.holders.get_mut(place)? = *holder;
        *changed.made_under.get_mut(place)? = layout;
        *sealed.table_crc32c.get_mut(place)? = *table_crc32c;
        sealed.missing &= !(1 << place);
    }
    changed.state = SlabState::Sealed(sealed);
    Some(changed)
}

/// Counting again what is counted already is no change and no refusal.
pub(crate) fn count_missing(record: &SlabRecord, generation: Generation, missing: u32) -> Option<SlabRecord> {
    let known = u32::MAX >> (u32::BITS - u32::from(record.profile.fragment_count()));
    match &record.state {
        SlabState::Sealed(sealed) if record.generation == generation => {
            let sealed = Sealed { missing: sealed.missing | (missing & known), ..sealed.clone() };
            Some(SlabRecord { state: SlabState::Sealed(sealed), ..record.clone() })
        }
        SlabState::Open | SlabState::Sealing | SlabState::Sealed(_) | SlabState::Dead => None,
    }
}

/// A slab without rows has no needles, so no version can point into it. Killing it again is no change and no refusal.
pub(crate) fn kill_empty(record: &SlabRecord) -> Option<SlabRecord> {
    match &record.state {
        SlabState::Sealed(sealed) if sealed.rows == 0 => {
            Some(SlabRecord { state: SlabState::Dead, ..record.clone() })
        }
        SlabState::Dead => Some(record.clone()),
        SlabState::Open | SlabState::Sealing | SlabState::Sealed(_) => None,
    }
}

/// Saying it again is no change and no refusal.
pub(crate) fn writer_done(record: &SlabRecord) -> Option<SlabRecord> {
    match &record.state {
        SlabState::Sealing | SlabState::Sealed(_) | SlabState::Dead => {
            Some(SlabRecord { writer_done: true, ..record.clone() })
        }
        SlabState::Open => None,
    }
}

/// Killing it again is no change and no refusal, whatever generation it was killed at.
pub(crate) fn kill(record: &SlabRecord, generation: Generation) -> Option<SlabRecord> {
    match &record.state {
        SlabState::Sealed(_) if record.generation == generation => {
            Some(SlabRecord { state: SlabState::Dead, ..record.clone() })
        }
        SlabState::Dead => Some(record.clone()),
        SlabState::Open | SlabState::Sealing | SlabState::Sealed(_) => None,
    }
}

/// Why a slab command makes no sense, whatever the table says; checked before it is proposed.
pub(crate) fn malformed(command: &GroupCommand) -> Option<&'static str> {
    let layout = |profile: &Profile, holders: &Holders| {
        (holders.len() != usize::from(profile.fragment_count()))
            .then_some("a slab needs one holder a fragment")
    };
    match command {
        GroupCommand::OpenSlab { profile, holders, .. } => layout(profile, holders),
        GroupCommand::Relayout { profile, holders, table_crc32c, .. } => {
            let expected = if profile.is_copies() { 0 } else { usize::from(profile.fragment_count()) };
            let tables = table_crc32c.len() != expected;
            layout(profile, holders)
                .or(tables.then_some("a layout needs one table checksum a coded fragment"))
        }
        GroupCommand::BeginSeal { given_out, .. } => given_out
            .is_some_and(|rows| rows.get() > ROWS_PER_SLAB_MAX)
            .then_some("a slab has not so many rows"),
        GroupCommand::SetHolders { made, .. } => {
            let known = |fragment: &FragmentIndex| usize::from(fragment.get()) < FRAGMENTS_MAX;
            let distinct: BTreeSet<FragmentIndex> = made.iter().map(|made| made.fragment).collect();
            let fits = distinct.len() == made.len() && distinct.iter().all(known);
            (made.is_empty() || !fits)
                .then_some("fragments that were made again are distinct, and at least one")
        }
        GroupCommand::Relocate { moves, .. } => (moves.is_empty() || moves.len() > RELOCATE_MOVES_MAX)
            .then_some("a relocation has a bounded number of moves, and at least one"),
        GroupCommand::AdmitBucket { .. }
        | GroupCommand::CloseBucket { .. }
        | GroupCommand::Commit { .. }
        | GroupCommand::WriterDone { .. }
        | GroupCommand::CloseSlab { .. }
        | GroupCommand::KillSlab { .. }
        | GroupCommand::ReleaseSlab { .. }
        | GroupCommand::ForgetSlab { .. }
        | GroupCommand::CommitSeal { .. }
        | GroupCommand::AbandonLayout { .. }
        | GroupCommand::CountWhole { .. }
        | GroupCommand::CountMissing { .. }
        | GroupCommand::KillEmpty { .. }
        | GroupCommand::FenceSession { .. } => None,
    }
}

#[cfg(test)]
mod tests;
