use super::{ended, is_empty, left, span};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;
use strongroom_format::superblock::{TourPlace, Verified};
use strongroom_types::{SlabId, WallTime};

fn slab(number: u64) -> SlabId {
    SlabId::from_bits(number)
}

fn next(slabs: &BTreeSet<SlabId>, tour: &TourPlace) -> Option<SlabId> {
    let ranges = left(tour).into_iter().filter(|range| !is_empty(range));
    ranges.flat_map(|range| slabs.range(range).copied().collect::<Vec<_>>()).next()
}

proptest! {
    #[test]
    fn a_tour_meets_each_slab_once_from_its_origin_round_whatever_is_written_or_freed(
        slabs in proptest::collection::btree_set(0u64..40, 1..20),
        origin in 0u64..40,
        changes in proptest::collection::vec((0u64..40, any::<bool>()), 0..20),
    ) {
        let steady: BTreeSet<u64> =
            slabs.iter().copied().filter(|slab| changes.iter().all(|(changed, _)| changed != slab)).collect();
        let mut present: BTreeSet<SlabId> = slabs.iter().map(|number| slab(*number)).collect();
        let mut tour = TourPlace { began: WallTime::default(), origin: slab(origin), upto: None };
        let (mut met, mut changes) = (Vec::new(), changes.into_iter());
        while let Some(found) = next(&present, &tour) {
            met.push(found);
            tour.upto = Some(found);
            if let Some((changed, there)) = changes.next() {
                if there { present.insert(slab(changed)); } else { present.remove(&slab(changed)); }
            }
        }
        let distinct: BTreeSet<SlabId> = met.iter().copied().collect();
        prop_assert_eq!(distinct.len(), met.len(), "none twice");
        prop_assert!(steady.iter().all(|number| distinct.contains(&slab(*number))), "none left out");
        let turns: Vec<u64> = met.iter().map(|slab| slab.to_bits().wrapping_sub(origin)).collect();
        prop_assert!(turns.is_sorted(), "from the origin round: {:?}", met);
    }
}

#[test]
fn what_is_verified_counts_from_the_beginning_of_the_tour_that_is_over_and_from_no_later_than_now() {
    let at = WallTime::from_unix_millis;
    let tour = TourPlace { began: at(100), origin: slab(1), upto: Some(slab(1)) };
    let verified = Verified { since: Some(at(50)), tour: Some(tour) };
    assert_eq!(ended(&verified, at(200)), Verified { since: Some(at(100)), tour: None });
    assert_eq!(ended(&verified, at(90)).since, Some(at(90)), "the clock was set back");
    let none = Verified { tour: None, ..verified };
    assert_eq!(ended(&none, at(200)), none, "no tour was under way");
}

#[test]
fn the_time_that_is_left_is_shared_by_bytes() {
    let left = Duration::from_secs(100);
    assert_eq!(span(1, 4, left), Duration::from_secs(25));
    assert_eq!(span(4, 4, left), left);
    assert_eq!(span(9, 4, left), left, "more than was counted on");
    assert_eq!(span(1, 4, Duration::ZERO), Duration::ZERO);
    assert_eq!(span(1, 0, left), Duration::ZERO);
}
