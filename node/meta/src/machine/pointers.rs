//! What this group's versions have in slabs, found by the slab: the namespace read backwards.
//!
//! ```text
//! 'r' slab offset    the version whose needle lies there, for each needle of each version that is kept
//! 'u' slab           how far locators that were ever committed here reach, and what versions have there now
//! 'c' slab           closed: no more locators into it
//! ```
//!
//! Changed in the same step of the store as the namespace, so that "no version here points into this slab" is one short scan, and exact. Snapshots carry
//! these tables like all others: to build them anew the receiver would have to walk every version before it could apply the next command. The sums in 'u' are
//! exact too, but nobody may kill a slab for them: they say nothing of what is still on its way, a closed slab's pointers do.
//!
//! **Invariant** A place belongs to one version at most. The reach only grows, and not at all once the slab's session is fenced here or the slab is closed. Once
//! a slab is closed here its pointers only become fewer. A mark that a slab is closed stays until its session is fenced here, which says the same.

use super::view::{Changes, View};
use super::{MachineError, session};
use crate::codec::{RecordError, decode, successor};
use crate::group::{Pointer, Usage};
use crate::limits::{POINTERS_PAGE_MAX, USAGES_PAGE_MAX};
use std::collections::BTreeSet;
use strongroom_types::{BucketId, GroupId, Locator, ObjectKey, SessionId, SlabId, VersionId};

const POINTERS: u8 = b'r';
const USAGES: u8 = b'u';
const CLOSED: u8 = b'c';

/// A version that has needles.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'key> {
    pub(crate) bucket: BucketId,
    pub(crate) key: &'key ObjectKey,
    pub(crate) version: VersionId,
}

fn slab_key(table: u8, slab: SlabId) -> Vec<u8> {
    [&[table][..], &slab.to_bits().to_be_bytes()].concat()
}

fn pointer_key(slab: SlabId, offset_bytes: u32) -> Vec<u8> {
    [&slab_key(POINTERS, slab)[..], &offset_bytes.to_be_bytes()].concat()
}

/// The key behind this one.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn usage(view: &impl View, slab: SlabId) -> Result<Usage, MachineError> {
    Ok(view.record("usage of a slab", &slab_key(USAGES, slab))?.unwrap_or_default())
}

pub(crate) fn is_closed(view: &impl View, slab: SlabId) -> Result<bool, MachineError> {
    Ok(view.get(&slab_key(CLOSED, slab))?.is_some())
}

pub(crate) fn close(changes: &mut Changes<'_>, slab: SlabId) {
    changes.put(slab_key(CLOSED, slab), &true);
}

/// Whether this version may point to all of these places.
pub(crate) fn may_have(
    view: &impl View,
    version: VersionId,
    locators: &[Locator],
) -> Result<bool, MachineError> {
    let slabs: BTreeSet<SlabId> = locators.iter().map(|locator| locator.slab).collect();
    for slab in slabs {
        if is_closed(view, slab)? {
            return Ok(false);
        }
    }
    let mut places = BTreeSet::new();
    for locator in locators {
        let found: Option<Pointer> =
            view.record("pointer", &pointer_key(locator.slab, locator.offset_bytes))?;
        let is_free = found.is_none_or(|pointer| pointer.version == version);
        if !is_free || !places.insert((locator.slab, locator.offset_bytes)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether no version points there, and one may.
pub(crate) fn is_free(view: &impl View, locator: &Locator) -> Result<bool, MachineError> {
    let taken = view.get(&pointer_key(locator.slab, locator.offset_bytes))?.is_some();
    Ok(!taken && !is_closed(view, locator.slab)?)
}

/// A version has these needles from now on, in the order of its pieces.
pub(crate) fn insert(
    changes: &mut Changes<'_>,
    owner: Owner<'_>,
    locators: &[Locator],
) -> Result<(), MachineError> {
    (0..).zip(locators).try_for_each(|(piece, locator)| insert_one(changes, owner, piece, locator))
}

/// A version has this needle from now on.
pub(crate) fn insert_one(
    changes: &mut Changes<'_>,
    owner: Owner<'_>,
    piece: u32,
    locator: &Locator,
) -> Result<(), MachineError> {
    let Owner { bucket, key, version } = owner;
    let pointer = Pointer { bucket, key: key.clone(), version, piece, locator: *locator };
    changes.put(pointer_key(locator.slab, locator.offset_bytes), &pointer);
    let before = usage(changes, locator.slab)?;
    let end = u32::try_from(locator.end_bytes()).unwrap_or(u32::MAX);
    let after = Usage {
        reach_bytes: before.reach_bytes.max(end),
        alive_bytes: before.alive_bytes.saturating_add(u64::from(locator.len_bytes)),
        needles: before.needles.saturating_add(1),
    };
    changes.put(slab_key(USAGES, locator.slab), &after);
    Ok(())
}

/// The version that had these needles is kept no more, or has them elsewhere.
pub(crate) fn remove(changes: &mut Changes<'_>, locators: &[Locator]) -> Result<(), MachineError> {
    for locator in locators {
        changes.remove(pointer_key(locator.slab, locator.offset_bytes));
        let before = usage(changes, locator.slab)?;
        let after = Usage {
            alive_bytes: before.alive_bytes.saturating_sub(u64::from(locator.len_bytes)),
            needles: before.needles.saturating_sub(1),
            ..before
        };
        changes.put(slab_key(USAGES, locator.slab), &after);
    }
    Ok(())
}

/// Bytes of the slab's image below which every locator lies that was ever committed here.
pub(crate) fn used_upto(view: &impl View, slab: SlabId) -> Result<u32, MachineError> {
    Ok(usage(view, slab)?.reach_bytes)
}

/// What versions have in a slab, behind an offset.
pub(crate) fn page(
    view: &impl View,
    slab: SlabId,
    after: Option<u32>,
    limit: usize,
) -> Result<Vec<Pointer>, MachineError> {
    let start = after.map_or_else(|| slab_key(POINTERS, slab), |after| behind(&pointer_key(slab, after)));
    let end = successor(&slab_key(POINTERS, slab)).expect("the table byte has a successor");
    let found = view.range(&start, &end, limit.min(POINTERS_PAGE_MAX))?;
    found.into_iter().map(|(_, value)| Ok(decode("pointer", &value)?)).collect()
}

/// How much versions have in slabs of one group's table, behind a slab.
pub(crate) fn usages(
    view: &impl View,
    of: GroupId,
    after: Option<SlabId>,
    limit: usize,
) -> Result<Vec<(SlabId, Usage)>, MachineError> {
    let first = SlabId::new(of, 0).expect("no count is zero");
    let prefix = [&[USAGES][..], &of.get().to_be_bytes()].concat();
    let end = successor(&prefix).expect("the table byte has a successor");
    let start = match after.filter(|after| *after >= first) {
        Some(after) => behind(&slab_key(USAGES, after)),
        None => prefix,
    };
    let found = view.range(&start, &end, limit.min(USAGES_PAGE_MAX))?;
    let usage = |(key, value): (bytes::Bytes, bytes::Bytes)| {
        let odd = RecordError::Undecodable { what: "key of a slab's usage" };
        let slab: [u8; 8] = key[1..].try_into().map_err(|_| odd)?;
        Ok((SlabId::from_bits(u64::from_be_bytes(slab)), decode("usage of a slab", &value)?))
    };
    found.into_iter().map(usage).collect()
}

/// The slab is dead: forgets how far it was used; and that it is closed, where its session cannot commit anything here any more. Says whether nothing points
/// into it, without which nothing changes.
pub(crate) fn release(
    changes: &mut Changes<'_>,
    slab: SlabId,
    session: SessionId,
) -> Result<bool, MachineError> {
    if !page(changes, slab, None, 1)?.is_empty() {
        return Ok(false);
    }
    changes.remove(slab_key(USAGES, slab));
    if session::is_fenced(changes, session)? {
        changes.remove(slab_key(CLOSED, slab));
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
