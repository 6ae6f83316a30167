//! The tour of a drive: which slab is verified next, and what may be said of what was verified.

use super::Drive;
use super::verify::{self, NotVerified, PieceBuffers, Verification};
use std::ops::Bound;
use strongroom_core::tour;
use strongroom_env::Rng;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::superblock::{TourPlace, Verified};
use strongroom_types::{FragmentIndex, Generation, SlabId, WallTime};

/// How far a tour is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TourProgress {
    /// What may be said, as it is written to the drive.
    pub verified: Verified,
    /// Bytes that verifying all of the drive reads.
    pub bytes_total: u64,
    /// Of these, bytes of fragments that the tour has not come to.
    pub bytes_left: u64,
    /// Tours that ended since the drive was opened.
    pub tours_ended: u64,
}

impl Drive {
    /// How far it is.
    pub fn tour_progress(&self) -> TourProgress {
        let state = self.shared.state();
        let left = state.verified.tour.map(|place| tour::left(&place));
        let of_ranges = |ranges: [tour::Slabs; 2]| {
            let ranges = ranges.into_iter().filter(|range| !tour::is_empty(range));
            let fragments = ranges.flat_map(|range| state.fragments.range(keys(range)));
            fragments.map(|(_, fragment)| verify::verified_bytes(fragment)).sum()
        };
        let bytes_total = state.fragments.values().map(verify::verified_bytes).sum();
        TourProgress {
            verified: state.verified,
            bytes_total,
            bytes_left: left.map_or(bytes_total, of_ranges),
            tours_ended: state.tours_ended,
        }
    }

    /// A drive with nothing on it and no word on how far it was verified is a new one: from now on everything on it was written since now.
    pub fn begin_history(&self, now: WallTime) {
        let mut state = self.shared.state();
        if state.verified.since.is_none() && state.fragments.is_empty() && state.unknown_extents.is_empty() {
            state.verified.since = Some(now);
        }
    }

    /// Begins a tour at a slab drawn at random; what an earlier one that is not over has done is done again.
    pub fn begin_tour(&self, rng: &dyn Rng, now: WallTime) {
        let mut state = self.shared.state();
        let mut slabs: Vec<SlabId> = state.fragments.keys().map(|key| key.slab).collect();
        slabs.dedup();
        let origin = match slabs.len() as u64 {
            0 => SlabId::from_bits(0),
            count => slabs[usize::try_from(rng.u64() % count).expect("below the count")],
        };
        state.verified.tour = Some(TourPlace { began: now, origin, upto: None });
        state.passed_over = false;
    }

    /// The fragments of the slabs that the tour under way comes to next, of so many slabs at most, in its order; none at its end, and where none is under way.
    pub fn next_of_tour(&self, slabs_max: usize) -> Vec<FragmentKey> {
        let state = self.shared.state();
        let Some(place) = state.verified.tour else { return Vec::new() };
        let ranges = tour::left(&place).into_iter().filter(|range| !tour::is_empty(range));
        let (mut slabs, mut last) = (0, None);
        let is_wanted = |key: &FragmentKey| {
            if last.replace(key.slab) != Some(key.slab) {
                slabs += 1;
            }
            slabs <= slabs_max
        };
        ranges
            .flat_map(|range| state.fragments.range(keys(range)))
            .map(|(key, _)| *key)
            .take_while(is_wanted)
            .collect()
    }

    /// The tour has looked at all of this slab. Without effect on a tour that was begun at another time.
    pub fn tour_is_past(&self, slab: SlabId, began: WallTime) {
        if let Some(place) = self.shared.state().verified.tour.as_mut().filter(|place| place.began == began) {
            place.upto = Some(slab);
        }
    }

    /// The tour under way has left something out, so its end will promise nothing: what was true before still is. Nor is its place written from now
    /// on, since it would be gone on with after a restart as if it were whole.
    pub fn tour_passes_over(&self) {
        self.shared.state().passed_over = true;
    }

    /// The tour under way is over. What may be said from now on is durable with the next incarnation.
    pub fn end_tour(&self, now: WallTime) {
        let mut state = self.shared.state();
        state.verified = match state.passed_over {
            false => tour::ended(&state.verified, now),
            true => Verified { tour: None, ..state.verified },
        };
        state.passed_over = false;
        state.tours_ended += 1;
    }

    /// Begins to read a fragment into these buffers, with so many reads ahead; `None` where there is nothing of it to verify.
    ///
    /// # Errors
    /// It cannot be read now.
    pub async fn verify(
        &self,
        key: FragmentKey,
        depth: usize,
        buffers: PieceBuffers,
    ) -> Result<Option<Verification>, NotVerified> {
        Verification::begin(self.shared.clone(), key, depth, buffers).await
    }
}

fn first(slab: SlabId) -> FragmentKey {
    FragmentKey { slab, fragment: FragmentIndex::new(0), generation: Generation::new(0) }
}

fn last(slab: SlabId) -> FragmentKey {
    FragmentKey { slab, fragment: FragmentIndex::new(u8::MAX), generation: Generation::new(u32::MAX) }
}

fn keys((from, to): tour::Slabs) -> (Bound<FragmentKey>, Bound<FragmentKey>) {
    let from = match from {
        Bound::Included(slab) => Bound::Included(first(slab)),
        Bound::Excluded(slab) => Bound::Excluded(last(slab)),
        Bound::Unbounded => Bound::Unbounded,
    };
    let to = match to {
        Bound::Included(slab) => Bound::Included(last(slab)),
        Bound::Excluded(slab) => Bound::Excluded(first(slab)),
        Bound::Unbounded => Bound::Unbounded,
    };
    (from, to)
}
