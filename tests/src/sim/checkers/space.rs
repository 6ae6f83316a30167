//! Whether space is accounted for, drive by drive, once a run is quiet: nothing leaks.
//!
//! - Every extent of a drive is free or in a fragment that is reported: free + used = total.
//! - Every fragment takes just the extents that its bytes need.
//! - So the bytes that drives give to slabs follow from the slab table alone, and so does the factor over the bytes of images: it
//!   must be the profile's, but for the rounding to extents, which is bounded by one extent a fragment.
//!
//! That the fragments are those of the slab table, no more and no less, is checked by [`super::layout`]; with it, nothing that
//! was superseded or given up is left anywhere.
//!
//! Not checked: extents of fragments of slabs that are still open (rows are being added, so what they need is not known outside
//! their drive), and of copies with another length than the agreed one (they were not told it); drives that were harmed, where extents
//! with a damaged header are kept aside; bytes of images
//! that belong to no version any more (compaction does not exist yet: they are counted, see [`Tally::garbage`]); memory and state
//! directories.

use super::Violation;
use super::layout::Facts;
use std::collections::BTreeMap;
use strongroom_format::cold;
use strongroom_format::extent::FragmentGeometry;
use strongroom_format::wire::message::{DriveState, FragmentReport};
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{SlabId, SlabRecord, SlabState};

const EXTENTS: &str = "space: every extent is free or in a fragment";
const NEEDED: &str = "space: a fragment takes the extents that it needs";
const FACTOR: &str = "space: drives hold what images need, and no more";

/// What was gone through; bytes are those of all drives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Drives that were judged.
    pub drives: u64,
    /// In extents that are used.
    pub allocated: u64,
    /// Of images of slabs that are sealed.
    pub images: u64,
    /// Of needles of versions.
    pub alive: u64,
}

impl Tally {
    /// Bytes of images in no version.
    pub fn garbage(&self) -> u64 {
        self.images.saturating_sub(self.alive)
    }
}

/// Checks all drives.
pub fn check(facts: &Facts) -> (Tally, Vec<Violation>) {
    let (mut tally, mut violations) = (Tally::default(), Vec::new());
    let mut found = |rule, found| violations.push(Violation { rule, found });
    // What fragments take and may take at most, of sealed slabs on drives that were not harmed.
    let (mut taken, mut bound) = (0_u64, 0_u64);
    for (node, drive, reports) in &facts.fragments {
        let state = facts.drives.iter().find(|(_, state)| state.drive == *drive);
        let Some((_, state)) = state else { continue };
        let used: u32 = reports.iter().map(|report| report.extents).sum();
        let in_use = state.extents_total.saturating_sub(state.extents_free);
        tally.allocated += u64::from(in_use) * u64::from(state.extent_len_bytes);
        if facts.harm.drives.contains(drive) {
            continue;
        }
        tally.drives += 1;
        if in_use != used || state.extents_free > state.extents_total {
            found(
                EXTENTS,
                format!(
                    "{node} {drive}: {} extents, {} free, {used} in fragments",
                    state.extents_total, state.extents_free
                ),
            );
        }
        for report in reports {
            let Some(needed) =
                facts.slabs.get(&report.address.slab).and_then(|record| needed(record, report, state))
            else {
                continue;
            };
            if report.extents != needed {
                found(NEEDED, format!("{node} {drive}: {report:?} needs {needed} extents"));
            }
            taken += u64::from(report.extents) * u64::from(state.extent_len_bytes);
            bound +=
                u64::from(report.len_bytes) + u64::from(state.extent_len_bytes) + overhead(report, state);
        }
    }
    if taken > bound {
        found(FACTOR, format!("{taken} bytes are taken by fragments that need {bound} at most"));
    }
    for record in facts.slabs.values() {
        tally.images += record.sealed().map_or(0, |sealed| u64::from(sealed.len_bytes));
    }
    let mut sealed_needles: BTreeMap<SlabId, u64> = BTreeMap::new();
    for locator in facts.versions.iter().flat_map(|(_, _, locators)| locators) {
        *sealed_needles.entry(locator.slab).or_default() += u64::from(locator.len_bytes);
    }
    let is_sealed = |slab: &SlabId| facts.slabs.get(slab).is_some_and(|record| record.sealed().is_some());
    tally.alive = sealed_needles.iter().filter(|(slab, _)| is_sealed(slab)).map(|(_, bytes)| bytes).sum();
    (tally, violations)
}

/// Bytes of headers, marks, row headers and checksum tables that a fragment may have besides its own.
fn overhead(report: &FragmentReport, state: &DriveState) -> u64 {
    let block = u64::from(BLOCK_LEN_BYTES);
    // Every row and every block has a checksum of its own somewhere; an extent has a header.
    let rows = u64::from(report.len_bytes) / block;
    (rows + 3) * block + u64::from(report.extents) * u64::from(state.extent_len_bytes) / block
}

/// Extents that a fragment needs; `None` where that cannot be told from outside.
fn needed(record: &SlabRecord, report: &FragmentReport, state: &DriveState) -> Option<u32> {
    let SlabState::Sealed(sealed) = &record.state else { return None };
    if !report.address.is_of(record) {
        return None;
    }
    let geometry = FragmentGeometry::for_extent_len(state.extent_len_bytes).ok()?;
    let data_len_bytes = if record.profile.is_copies() {
        if report.len_bytes != sealed.len_bytes {
            return None;
        }
        u64::from(sealed.len_bytes) + u64::from(sealed.rows) * u64::from(BLOCK_LEN_BYTES)
    } else {
        cold::data_len(cold::slice_len(sealed.len_bytes, record.profile.data_count()))
    };
    Some(geometry.extents_for(data_len_bytes))
}

#[cfg(test)]
mod tests;
