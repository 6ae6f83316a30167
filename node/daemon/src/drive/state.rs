//! The fragments of a drive and its free extents.

use super::Damage;
use super::extents::Extents;
use super::fragment::{Body, Fragment, Slice, SliceState};
use super::standing::{Ask, Standing};
use crate::limits::{DAMAGE_EXTENTS_TOLD_MAX, DRIVE_FENCE_RESERVE_PARTS};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use strongroom_core::limits::DRIVE_FULL_PERCENT_MAX;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::cold;
use strongroom_format::extent::FragmentGeometry;
use strongroom_format::superblock::Verified;
use strongroom_format::wire::message::{FragmentAddress, FragmentReport, Refusal, Report};
use strongroom_types::limits::FRAGMENTS_MAX;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{DriveId, FragmentIndex, Generation, Profile};

/// What a drive holds.
#[derive(Debug)]
pub(crate) struct State {
    /// By slab, fragment, layout.
    pub(crate) fragments: BTreeMap<FragmentKey, Fragment>,
    /// Free extents.
    pub(crate) extents: Extents,
    /// Extents whose header could not be read, does not check, or could not be overwritten: neither free nor in a fragment. While
    /// there are any, a fragment that is not known here may be in them.
    pub(crate) unknown_extents: BTreeSet<u32>,
    /// Extents that were taken out of use, since blocks of them could not be read.
    pub(crate) retired_extents: BTreeSet<u32>,
    /// Extents in use of which blocks cannot be read: retired once their fragment is given back.
    pub(crate) bad_extents: BTreeSet<u32>,
    /// A write or flush failed: no new fragments here.
    pub(crate) suspect: bool,
    /// Whether the drive's word counts.
    pub(crate) standing: Standing,
    /// How far the drive was verified.
    pub(crate) verified: Verified,
    /// The tour under way has left something out.
    pub(crate) passed_over: bool,
    /// Tours that were ended in this run.
    pub(crate) tours_ended: u64,
}

/// What extents are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A fragment that is not here yet.
    New,
    /// More of one that is.
    Growth,
    /// A fence of a slab of which nothing is here.
    Fence,
}

/// The key of an address.
pub(crate) fn key_of(address: &FragmentAddress) -> FragmentKey {
    FragmentKey { slab: address.slab, fragment: address.fragment, generation: address.generation }
}

/// Whether this layout has such a fragment; asked before anything is planned for it.
pub(crate) fn check_fragment(address: &FragmentAddress, profile: Profile) -> Result<(), Refusal> {
    let (fragment, count) = (address.fragment.get(), profile.fragment_count());
    if fragment < count {
        return Ok(());
    }
    Err(Refusal::Invalid(format!("fragment {fragment} of {profile}: expected below {count}")))
}

/// Bytes of headers, rows, slices and tables of a fragment.
pub(crate) fn used_bytes(fragment: &Fragment) -> u64 {
    // An extent's header, and two mark slots in the first.
    let overhead = (fragment.extents.len() as u64 + 2) * u64::from(BLOCK_LEN_BYTES);
    overhead
        + match &fragment.body {
            Body::Hot(rows) => rows.data_end_bytes(),
            Body::Cold(slice) => cold::data_len(slice.len_bytes),
        }
}

impl State {
    /// What may be written of how far the drive was verified.
    pub(crate) fn verified_to_write(&self) -> Verified {
        match self.passed_over {
            false => self.verified,
            true => Verified { tour: None, ..self.verified },
        }
    }

    /// The fragment at `address`.
    pub(crate) fn fragment(&self, address: &FragmentAddress) -> Result<&Fragment, Refusal> {
        self.fragments.get(&key_of(address)).ok_or_else(|| self.absent())
    }

    /// What is said of a fragment that is not known here: only where every header was read is it certain that it is not here.
    pub(crate) fn absent(&self) -> Refusal {
        match self.standing.refusal(Ask::Absence) {
            Some(refusal) => refusal,
            None if self.unknown_extents.is_empty() => Refusal::NotHere,
            None => Refusal::DriveError,
        }
    }

    /// A flush failed. What it left undone no later flush can be relied on to do: pieces that were written and not yet made durable
    /// are lost, whichever batch they were in.
    pub(crate) fn forsake_unflushed(&mut self) {
        for fragment in self.fragments.values_mut() {
            if let Body::Cold(Slice { state: SliceState::Building(_), .. }) = &fragment.body {
                fragment.failed = true;
            }
        }
    }

    /// Takes `count` extents, or none and `Full`. What is begun here, placement may have begun here: the drive refuses from the same share on. The
    /// last extents are for fences, without which a slab that cannot grow could not be sealed either.
    pub(crate) fn take_extents(&mut self, count: u32, need: Need) -> Result<Vec<u32>, Refusal> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let (free, total) = (self.extents.free_count(), self.extents.total_count());
        let full = u64::from(free) * 100 < u64::from(total) * u64::from(100 - DRIVE_FULL_PERCENT_MAX);
        let reserve = match need {
            Need::New | Need::Growth => total / DRIVE_FENCE_RESERVE_PARTS,
            Need::Fence => 0,
        };
        if (need == Need::New && full) || free.saturating_sub(reserve) < count {
            return Err(Refusal::Full);
        }
        Ok((0..count).map(|_| self.extents.take().expect("there are enough: just counted")).collect())
    }

    /// Gives back the extents of a fragment behind its agreed length, whose headers say durably that they are free.
    pub(crate) fn give_back_cut(&mut self, key: &FragmentKey, geometry: &FragmentGeometry) {
        let Some(fragment) = self.fragments.get_mut(key) else { return };
        let kept = fragment.extents.len() - fragment.extents_cut(geometry).count();
        fragment.extents.split_off(kept).into_iter().for_each(|extent| self.extents.give_back(extent));
    }

    /// These are taken out of use, and their headers say so durably.
    pub(crate) fn retire(&mut self, extents: Vec<u32>) {
        self.bad_extents.retain(|extent| !extents.contains(extent));
        self.retired_extents.extend(extents);
    }

    /// What is wrong here.
    pub(crate) fn damage(&self) -> Damage {
        let count = |wanted: &dyn Fn(&Fragment) -> bool| {
            let fragments = self.fragments.values().filter(|fragment| wanted(fragment)).count();
            u32::try_from(fragments).expect("each has an extent of its own")
        };
        Damage {
            standing: self.standing,
            suspect: self.suspect,
            extents_unknown: u32::try_from(self.unknown_extents.len())
                .expect("extents are counted in 32 bits"),
            extents_retired: u32::try_from(self.retired_extents.len())
                .expect("extents are counted in 32 bits"),
            extents_unknown_first: self
                .unknown_extents
                .iter()
                .copied()
                .take(DAMAGE_EXTENTS_TOLD_MAX)
                .collect(),
            fragments_failed: count(&|fragment| fragment.failed),
            fragments_unreadable: count(&|fragment| match &fragment.body {
                Body::Hot(rows) => rows.unreadable || rows.bad,
                Body::Cold(slice) => slice.is_damaged(),
            }),
        }
    }

    /// A block of a fragment cannot be read, or does not match its checksum.
    pub(crate) fn note_bad(&mut self, address: &FragmentAddress) {
        match self.fragments.get_mut(&key_of(address)).map(|fragment| &mut fragment.body) {
            Some(Body::Cold(slice)) => slice.bad = true,
            Some(Body::Hot(rows)) => {
                rows.bad = true;
                // What this run wrote is vouched for no more: it is read at a seal like what was found.
                rows.found = rows.durable;
            }
            None => {}
        }
    }

    /// Whether a fragment of a sealed slab that the slab table says is here is not whole here: absent, not found whole when the drive was opened, or bad. Of
    /// a drive whose word does not count nothing is said. No absence: an extent that cannot be told may be its.
    pub(crate) fn lacks(&self, address: &FragmentAddress, profile: Profile) -> bool {
        let whole = match self.fragments.get(&key_of(address)).map(|fragment| &fragment.body) {
            Some(Body::Cold(slice)) => !profile.is_copies() && slice.is_whole(),
            Some(Body::Hot(rows)) => profile.is_copies() && !rows.bad && !rows.unreadable,
            None => false,
        };
        !whole && self.standing == Standing::Admitted
    }

    /// A page of what is here.
    pub(crate) fn report(&self, drive: DriveId, report: &Report) -> (Vec<FragmentReport>, bool) {
        // One slab has at most so many fragments here; a page never ends inside a slab.
        let limit = (report.limit as usize).clamp(FRAGMENTS_MAX, crate::limits::REPORT_FRAGMENTS_MAX);
        let mut page: Vec<FragmentReport> = Vec::new();
        let after = report.after.map_or(Bound::Unbounded, |slab| {
            let (fragment, generation) = (FragmentIndex::new(u8::MAX), Generation::new(u32::MAX));
            Bound::Excluded(FragmentKey { slab, fragment, generation })
        });
        for (key, fragment) in self.fragments.range((after, Bound::Unbounded)) {
            if page.len() >= limit && page.last().is_some_and(|last| last.address.slab != key.slab) {
                return (page, true);
            }
            page.push(report_of(drive, key, fragment));
        }
        (page, false)
    }
}

fn report_of(drive: DriveId, key: &FragmentKey, fragment: &Fragment) -> FragmentReport {
    let (len_bytes, sealed) = match &fragment.body {
        Body::Hot(rows) => (rows.durable_end_bytes(), rows.mark.is_some()),
        Body::Cold(slice) => (slice.len_bytes, matches!(slice.state, SliceState::Finished { .. })),
    };
    FragmentReport {
        address: FragmentAddress {
            drive,
            slab: key.slab,
            fragment: key.fragment,
            generation: key.generation,
        },
        profile: fragment.profile,
        epoch: fragment.epoch,
        len_bytes,
        extents: u32::try_from(fragment.extents.len()).expect("extents per fragment are bounded"),
        sealed,
    }
}
