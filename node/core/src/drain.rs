//! How far a drain is: what is left on the drives that are to be emptied, what stands in its way, and how fast it goes.
//!
//! Whether it is over is told by the slab tables, where no slab that is not dead names a drive of the subject, and of a node by the groups as well, whose voters
//! it is none of. That is so at the moment of the look; a writer with
//! an old view of the cluster may still put a copy of a new slab there, which is moved like the others. Asking the tables, and moving, is done elsewhere.

use crate::converter;
use crate::fragment_set::FragmentSet;
use crate::limits::DRAIN_SAMPLES_MAX;
use crate::mover::{fragment_len_bytes, plan_out};
use crate::{placement, repair};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use strongroom_types::{
    ClusterView, DrainSubject, FragmentIndex, Instant, SlabRecord, SlabState, WallTime, ZoneId,
};

/// Why a fragment is not moved now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Obstacle {
    /// Its slab is being written or sealed: passes by itself.
    #[error("its slab is being written or sealed; this passes")]
    Writing,
    /// Every other node of the zone has a fragment of the slab: a second one there would lower what it survives.
    #[error("{zone} has no node without a fragment of the slab: add a node there, or end the drain")]
    NodesShort {
        /// The zone.
        zone: ZoneId,
    },
    /// Too few drives of the zone answer and take fragments.
    #[error(
        "{zone} has too few drives that answer and take fragments: bring its nodes back, add drives there, or end the drain"
    )]
    DrivesShort {
        /// The zone.
        zone: ZoneId,
    },
    /// The drives of the zone that could take it are full.
    #[error("the drives of {zone} that could take it are full: add drives there, or end the drain")]
    NoRoom {
        /// The zone.
        zone: ZoneId,
    },
    /// Too little of the slab answers to make the fragment from.
    #[error("too little of the slab answers to make the fragment from")]
    TooFewAnswer,
    /// The cluster without what is to be emptied allows no layout that survives the loss of a zone.
    #[error("the cluster without what is to be emptied allows no layout that survives the loss of a zone")]
    NoProfile,
}

/// Fragments and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many fragments.
    pub fragments: u64,
    /// Their bytes, headers not included. Those of slabs that are being written are not known, and not counted.
    pub bytes: u64,
}

/// What is left of a drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// In all.
    pub all: Amount,
    /// Of these, what does not move now, and why.
    pub waiting: BTreeMap<Obstacle, Amount>,
}

/// How far a drain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is emptied.
    pub subject: DrainSubject,
    /// When it was asked for, by the clock of whoever did.
    pub began: WallTime,
    /// What is left: nothing once it is over.
    pub left: Left,
    /// Of a node, the groups in which it has a seat: none once it is over.
    pub seats_left: u64,
    /// What has gone since this node looked first.
    pub moved: Amount,
    /// Bytes a second, as of late; `None` until there were two looks.
    pub rate_bytes_per_s: Option<u64>,
}

impl Progress {
    /// Whether no slab that is not dead named the subject when the tables were asked, nor any group as a voter.
    pub fn is_over(&self) -> bool {
        self.left.all.fragments == 0 && self.seats_left == 0
    }

    /// How long the rest takes at this rate; `None` where nothing moves.
    pub fn time_left(&self) -> Option<Duration> {
        let rate = self.rate_bytes_per_s.filter(|rate| *rate > 0)?;
        Some(Duration::from_secs(self.left.all.bytes.div_ceil(rate)))
    }
}

impl Left {
    /// Looks at a slab of which `lost` fragments do not count now.
    pub fn look(
        &mut self,
        subject: DrainSubject,
        record: &SlabRecord,
        lost: FragmentSet,
        view: &ClusterView,
    ) {
        if record.state == SlabState::Dead {
            return;
        }
        for (index, holder) in (0..).zip(&record.holders) {
            if !subject.covers(*holder) {
                continue;
            }
            let fragment = FragmentIndex::new(index);
            let copy_len_bytes = || record.sealed().map_or(0, |sealed| u64::from(sealed.len_bytes));
            let bytes = fragment_len_bytes(record).unwrap_or_else(copy_len_bytes);
            let one = Amount { fragments: 1, bytes };
            self.all.add(one);
            if let Some(obstacle) = obstacle(record, fragment, lost, view) {
                self.waiting.entry(obstacle).or_default().add(one);
            }
        }
    }
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.fragments += other.fragments;
        self.bytes += other.bytes;
    }

    fn less(self, other: Self) -> Self {
        let Self { fragments, bytes } = self;
        Self {
            fragments: fragments.saturating_sub(other.fragments),
            bytes: bytes.saturating_sub(other.bytes),
        }
    }
}

/// What keeps this fragment where it is, as far as can be told by trying to plan.
fn obstacle(
    record: &SlabRecord,
    fragment: FragmentIndex,
    lost: FragmentSet,
    view: &ClusterView,
) -> Option<Obstacle> {
    let sealed = match &record.state {
        SlabState::Sealed(sealed) if sealed.rows > 0 => sealed,
        SlabState::Open | SlabState::Sealing | SlabState::Sealed(_) => return Some(Obstacle::Writing),
        SlabState::Dead => return None,
    };
    if record.profile.is_copies() {
        return match converter::plan(record, view, 0).err()? {
            converter::NotNow::NotSealed | converter::NotNow::Empty => Some(Obstacle::Writing),
            converter::NotNow::AlreadyCold => None,
            converter::NotNow::NoProfile => Some(Obstacle::NoProfile),
            converter::NotNow::NoSource => Some(Obstacle::TooFewAnswer),
            converter::NotNow::Placement(reason) => Some(of_placement(reason)),
        };
    }
    let lost = lost.union(FragmentSet::from_mask(sealed.missing));
    let one: FragmentSet = [fragment].into_iter().collect();
    let planned = match lost.contains(fragment) {
        true => repair::plan(record, view, lost, 0).map(|_| ()),
        false => plan_out(record, view, one, lost, 0).map(|_| ()),
    };
    match planned.err()? {
        repair::NotNow::NotCold | repair::NotNow::Whole => None,
        repair::NotNow::TooFew { .. } | repair::NotNow::NoChecksum { .. } => Some(Obstacle::TooFewAnswer),
        repair::NotNow::Placement(reason) => Some(of_placement(reason)),
    }
}

fn of_placement(reason: placement::NotNow) -> Obstacle {
    match reason {
        placement::NotNow::NodesShort { zone } => Obstacle::NodesShort { zone },
        placement::NotNow::ZoneShort { zone, full: true, .. } => Obstacle::NoRoom { zone },
        placement::NotNow::ZoneShort { zone, full: false, .. } => Obstacle::DrivesShort { zone },
        placement::NotNow::Unsafe { .. } => Obstacle::NoProfile,
    }
}

/// What has moved between looks.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<Amount>,
    moved: Amount,
    samples: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// Takes a look at what is left; gives what has gone since the first, and how fast, in bytes a second. What is added meanwhile is not counted against it.
    pub fn note(&mut self, left: Amount, now: Instant) -> (Amount, Option<u64>) {
        if let Some(last) = self.last {
            self.moved.add(last.less(left));
        }
        self.last = Some(left);
        if self.samples.len() == DRAIN_SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((now, self.moved.bytes));
        let rate = self.samples.front().and_then(|(since, bytes)| {
            let micros = u64::try_from(now.since(*since).as_micros()).ok().filter(|micros| *micros > 0)?;
            let moved = u128::from(self.moved.bytes - bytes) * 1_000_000 / u128::from(micros);
            u64::try_from(moved).ok()
        });
        (self.moved, rate)
    }
}

#[cfg(test)]
mod tests;
