//! The order in which the fragments of a drive are verified, and how fast.
//!
//! A tour goes through the slabs in the order of their ids, from one drawn at random on and round to it: so no two drives that hold the same slabs look at
//! the same one at once. What is written behind the tour's place while it goes on counts from when it was written. So when it is over, everything on the
//! drive was written, or looked at, since it began.

use std::ops::Bound;
use std::time::Duration;
use strongroom_format::superblock::{TourPlace, Verified};
use strongroom_types::{SlabId, WallTime};

/// A range of slabs.
pub type Slabs = (Bound<SlabId>, Bound<SlabId>);

/// What is left of a tour: first these slabs, then those.
pub fn left(tour: &TourPlace) -> [Slabs; 2] {
    let (origin, nothing) = (tour.origin, (Bound::Excluded(tour.origin), Bound::Excluded(tour.origin)));
    match tour.upto {
        None => [(Bound::Included(origin), Bound::Unbounded), (Bound::Unbounded, Bound::Excluded(origin))],
        Some(upto) if upto >= origin => {
            [(Bound::Excluded(upto), Bound::Unbounded), (Bound::Unbounded, Bound::Excluded(origin))]
        }
        Some(upto) => [nothing, (Bound::Excluded(upto), Bound::Excluded(origin))],
    }
}

/// Whether nothing can be in the range; a map panics when it is asked for such a one.
pub fn is_empty(slabs: &Slabs) -> bool {
    match slabs {
        (Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
        (Bound::Included(from), Bound::Excluded(to)) => from >= to,
        (Bound::Excluded(from) | Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

/// The state after the tour under way is over. Where the clock was set back meanwhile, what was true stays told no later than now.
pub fn ended(verified: &Verified, now: WallTime) -> Verified {
    let since = verified.tour.map(|tour| tour.began.min(now));
    Verified { since: since.or(verified.since), tour: None }
}

/// How long `bytes` may take where `left_bytes`, they included, are to be looked at in `left`.
pub fn span(bytes: u64, left_bytes: u64, left: Duration) -> Duration {
    if left_bytes == 0 {
        return Duration::ZERO;
    }
    left.mul_f64((bytes as f64 / left_bytes as f64).min(1.0))
}

#[cfg(test)]
mod tests;
