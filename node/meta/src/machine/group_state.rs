//! The state of a data group: keys and versions (see `namespace`), what they have in slabs (see `pointers`), fenced sessions (see `session`), and the slab table.
//!
//! ```text
//! 's' slab   slab record
//! 'x'        count of slabs ever opened; the next slab's number
//! ```
//!
//! **Invariant** A slab leaves the table only once it is dead. So one that is not there, and whose number is below the count, was dead.

use super::MachineError;
use super::list::{Listing, list};
use super::namespace::{self, Admission, Position};
use super::slab::{self, Layout};
use super::view::{Changes, View};
use super::{pointers, session};
use crate::codec::decode;
use crate::group::{Entry, EntryOutcome, GroupAnswer, GroupCommand, GroupQuery, GroupReply};
use crate::limits::{SCAN_KEYS, SLABS_PAGE_MAX};
use strongroom_types::slab::MadeAgain;
use strongroom_types::{Generation, GroupId, SlabId, SlabRecord, SlabState};

const SLABS: u8 = b's';
const SLAB_COUNT: &[u8] = b"x";

fn slab_key(slab: SlabId) -> Vec<u8> {
    [&[SLABS][..], &slab.to_bits().to_be_bytes()].concat()
}

fn slab_record(view: &impl View, slab: SlabId) -> Result<Option<SlabRecord>, MachineError> {
    view.record("slab", &slab_key(slab))
}

/// Changes a slab by compare-and-set.
fn change_slab(
    changes: &mut Changes<'_>,
    slab: SlabId,
    change: impl FnOnce(&SlabRecord) -> Option<SlabRecord>,
) -> Result<GroupReply, MachineError> {
    let Some(record) = slab_record(changes, slab)? else { return Ok(GroupReply::NoSuchSlab) };
    Ok(match change(&record) {
        Some(changed) => {
            changes.put(slab_key(slab), &changed);
            GroupReply::Slab(changed)
        }
        None => GroupReply::SlabDiffers(record),
    })
}

/// Applies one commit.
pub(crate) fn commit(
    changes: &mut Changes<'_>,
    position: Position,
    entry: Entry,
) -> Result<EntryOutcome, MachineError> {
    namespace::commit(changes, position, entry)
}

/// Applies a command other than `Commit`.
pub(crate) fn apply(
    changes: &mut Changes<'_>,
    group: GroupId,
    log_index: u64,
    command: GroupCommand,
) -> Result<GroupReply, MachineError> {
    match command {
        GroupCommand::AdmitBucket { bucket, class, round } => {
            if namespace::admission(changes, bucket)?.is_some_and(|found| found.round > round) {
                return Ok(GroupReply::Outdated);
            }
            changes.put(namespace::bucket_key(bucket), &Admission { class, open: true, round });
            Ok(GroupReply::Done)
        }
        GroupCommand::CloseBucket { bucket, class, round } => {
            if namespace::admission(changes, bucket)?.is_some_and(|found| found.round > round) {
                return Ok(GroupReply::Outdated);
            }
            if namespace::has_objects(changes, bucket)? {
                return Ok(GroupReply::NotEmpty);
            }
            // Also where it was never admitted: an admission of an earlier round may still be on its way.
            changes.put(namespace::bucket_key(bucket), &Admission { class, open: false, round });
            Ok(GroupReply::Done)
        }
        GroupCommand::Commit { entries } => {
            let mut outcomes = Vec::with_capacity(entries.len());
            for (entry_index, entry) in (0..).zip(entries) {
                outcomes.push(commit(changes, Position { log_index, entry_index }, entry)?);
            }
            Ok(GroupReply::Committed(outcomes))
        }
        GroupCommand::OpenSlab { session, .. } if session::is_fenced(changes, session)? => {
            Ok(GroupReply::SessionFenced)
        }
        GroupCommand::OpenSlab { writer, session, profile, holders } => {
            let count: u64 = changes.record("slab count", SLAB_COUNT)?.unwrap_or(0);
            // 2^48 slabs of a group: not within any disk's life.
            let Some(slab) = SlabId::new(group, count) else { return Ok(GroupReply::NoSuchSlab) };
            let record = slab::open(slab, profile, holders, writer, session);
            changes.put(SLAB_COUNT.to_vec(), &(count + 1));
            changes.put(slab_key(slab), &record);
            Ok(GroupReply::Slab(record))
        }
        GroupCommand::BeginSeal { slab, epoch, given_out } => {
            change_slab(changes, slab, |record| slab::begin_seal(record, epoch, given_out))
        }
        GroupCommand::CommitSeal { slab, epoch, sealed } => {
            change_slab(changes, slab, |record| slab::commit_seal(record, epoch, &sealed))
        }
        GroupCommand::Relayout { slab, generation, layout, profile, holders, table_crc32c, missing } => {
            let layout = Layout { generation: layout, profile, holders, table_crc32c, missing };
            change_slab(changes, slab, |record| slab::relayout(record, generation, layout))
        }
        GroupCommand::CountWhole { slab, generation, whole } => {
            change_slab(changes, slab, |record| slab::count_whole(record, generation, whole))
        }
        GroupCommand::SetHolders { slab, generation, layout, made } => {
            change_slab(changes, slab, |record| slab::set_holders(record, generation, layout, &made))
        }
        GroupCommand::CountMissing { slab, generation, missing } => {
            change_slab(changes, slab, |record| slab::count_missing(record, generation, missing))
        }
        GroupCommand::AbandonLayout { slab, layout } => {
            change_slab(changes, slab, |record| slab::abandon_layout(record, layout))
        }
        GroupCommand::KillEmpty { slab } => change_slab(changes, slab, slab::kill_empty),
        GroupCommand::FenceSession { session } => {
            session::fence(changes, session);
            Ok(GroupReply::Done)
        }
        GroupCommand::WriterDone { slab } => change_slab(changes, slab, slab::writer_done),
        GroupCommand::CloseSlab { slab } => {
            pointers::close(changes, slab);
            Ok(GroupReply::Done)
        }
        GroupCommand::Relocate { session, .. } if session::is_fenced(changes, session)? => {
            Ok(GroupReply::SessionFenced)
        }
        GroupCommand::Relocate { moves, .. } => {
            let outcomes = moves.iter().map(|one| namespace::relocate(changes, one));
            Ok(GroupReply::Relocated(outcomes.collect::<Result<_, _>>()?))
        }
        GroupCommand::KillSlab { slab, generation } => {
            change_slab(changes, slab, |record| slab::kill(record, generation))
        }
        GroupCommand::ReleaseSlab { slab, session } => {
            let released = pointers::release(changes, slab, session)?;
            Ok(if released { GroupReply::Done } else { GroupReply::NotEmpty })
        }
        GroupCommand::ForgetSlab { slab } => forget_slab(changes, slab),
    }
}

/// As `SetHolders`, and whatever the slab's layout is: a deliberate fault.
pub(crate) fn set_holders_blindly(
    changes: &mut Changes<'_>,
    slab: SlabId,
    layout: Generation,
    made: &[MadeAgain],
) -> Result<GroupReply, MachineError> {
    change_slab(changes, slab, |record| {
        let outdated = SlabRecord { next_generation: layout, ..record.clone() };
        slab::set_holders(&outdated, record.generation, layout, made)
    })
}

fn forget_slab(changes: &mut Changes<'_>, slab: SlabId) -> Result<GroupReply, MachineError> {
    Ok(match slab_record(changes, slab)? {
        Some(record) if record.state == SlabState::Dead => {
            changes.remove(slab_key(slab));
            GroupReply::Done
        }
        Some(record) => GroupReply::SlabDiffers(record),
        None => GroupReply::NoSuchSlab,
    })
}

/// Whether the slab was opened once.
fn was_opened(view: &impl View, slab: SlabId) -> Result<bool, MachineError> {
    let count: u64 = view.record("slab count", SLAB_COUNT)?.unwrap_or(0);
    Ok(SlabId::new(slab.group(), count).is_none_or(|next| slab < next))
}

pub(crate) fn query(view: &impl View, query: GroupQuery) -> Result<GroupAnswer, MachineError> {
    let open =
        |bucket| Ok::<_, MachineError>(namespace::admission(view, bucket)?.is_some_and(|found| found.open));
    Ok(match query {
        GroupQuery::Version { bucket, key, version } => {
            if !open(bucket)? {
                return Ok(GroupAnswer::NoSuchBucket);
            }
            GroupAnswer::Version(namespace::version(view, bucket, &key, version)?)
        }
        GroupQuery::Versions { bucket, key } => {
            if !open(bucket)? {
                return Ok(GroupAnswer::NoSuchBucket);
            }
            GroupAnswer::Versions(namespace::versions(view, bucket, &key)?)
        }
        GroupQuery::List { bucket, prefix, delimiter, after, limit } => {
            if !open(bucket)? {
                return Ok(GroupAnswer::NoSuchBucket);
            }
            GroupAnswer::List(list(view, &Listing { bucket, prefix, delimiter, after, limit })?)
        }
        GroupQuery::Slab(slab) => match slab_record(view, slab)? {
            None if was_opened(view, slab)? => GroupAnswer::SlabForgotten,
            record => GroupAnswer::Slab(record),
        },
        GroupQuery::UsedUpto(slab) => GroupAnswer::UsedUpto(pointers::used_upto(view, slab)?),
        GroupQuery::Pointers { slab, after, limit } => GroupAnswer::Pointers {
            closed: pointers::is_closed(view, slab)?,
            pointers: pointers::page(view, slab, after, limit as usize)?,
        },
        GroupQuery::Usages { of, after, limit } => {
            GroupAnswer::Usages(pointers::usages(view, of, after, limit as usize)?)
        }
        GroupQuery::Slabs { after, limit, live_only } => {
            GroupAnswer::Slabs(slabs(view, after, limit as usize, live_only)?)
        }
    })
}

fn slabs(
    view: &impl View,
    after: Option<SlabId>,
    limit: usize,
    live_only: bool,
) -> Result<Vec<SlabRecord>, MachineError> {
    let limit = limit.min(SLABS_PAGE_MAX);
    let mut slabs = Vec::new();
    let mut start = match after {
        Some(after) => [&slab_key(after)[..], &[0]].concat(),
        None => vec![SLABS],
    };
    while slabs.len() < limit {
        let page = view.range(&start, &[SLABS + 1], SCAN_KEYS.min(limit - slabs.len()))?;
        let Some((last, _)) = page.last() else { break };
        start = [&last[..], &[0]].concat();
        for (_, value) in page {
            let record: SlabRecord = decode("slab", &value)?;
            if !(live_only && record.state == SlabState::Dead) {
                slabs.push(record);
            }
        }
    }
    Ok(slabs)
}

#[cfg(test)]
mod tests;
