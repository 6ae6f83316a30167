//! Slabs that are to become cold: which is taken next, when one that failed is tried again, and when what was made so far is given up.
//!
//! A retry finds the fragments that an earlier one has finished, so a layout is kept as long as there is hope. But a holder may refuse its fragment for
//! good: marks of one lie there without all that they speak of, or one of another profile, from before the cluster's shape changed. Or what was made
//! fills the drives that the rest should go to. Then only a layout under another generation gets through.

use super::pause::Pause;
use crate::limits::CONVERTS_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use strongroom_types::{Generation, Instant, SlabId};

/// Refusals before the first layout of a slab is given up: half a minute with the pauses between. The next one gets twice as many, and so on, since making
/// a layout again wears drives, and what stands in its way may have nothing to do with it.
const REFUSALS_MIN: u32 = 7;
const REFUSALS_MAX: u32 = REFUSALS_MIN << 6;

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is cold, or not to be converted at all.
    Over,
    /// Something was not there, or busy: to be tried again.
    Failed,
    /// A holder would not take its fragment, or has no room because of what was made.
    Refused,
}

/// What waits, and what is under way. In memory only: a new leader begins to count anew.
#[derive(Default)]
pub(super) struct Conversions {
    cool: BTreeSet<SlabId>,
    under_way: BTreeSet<SlabId>,
    last: Option<SlabId>,
    failed: BTreeMap<SlabId, Attempts>,
}

struct Attempts {
    /// The generation that they were made under; refusals of another one say nothing of it.
    layout: Generation,
    /// `None` before the first failure.
    pause: Option<Pause>,
    refusals: u32,
    refusals_max: u32,
}

impl Conversions {
    /// A walk found that these are to become cold. What is known of others is forgotten, where `is_seen` says that the walk saw their group.
    pub(super) fn found(&mut self, cool: BTreeSet<SlabId>, is_seen: impl Fn(SlabId) -> bool) {
        self.failed.retain(|slab, _| cool.contains(slab) || !is_seen(*slab));
        self.cool = cool;
    }

    /// The next that is due, round by round; it counts as under way. `None` while as many are as may be.
    pub(super) fn take(&mut self, now: Instant) -> Option<SlabId> {
        if self.under_way.len() >= CONVERTS_MAX {
            return None;
        }
        let last = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let (behind, all) = (self.cool.range((last, Bound::Unbounded)), self.cool.iter());
        let is_due = |slab: &SlabId| {
            let pause = self.failed.get(slab).and_then(|attempts| attempts.pause);
            pause.is_none_or(|pause| pause.is_over(now)) && !self.under_way.contains(slab)
        };
        let slab = behind.chain(all).copied().find(is_due)?;
        self.last = Some(slab);
        self.under_way.insert(slab);
        Some(slab)
    }

    /// A try at `layout` has ended, so; says whether that layout is to be given up, after which the next one is soon begun. Whether it was, the next try
    /// shows by the layout that it is at.
    pub(super) fn end(&mut self, slab: SlabId, layout: Generation, outcome: Outcome, now: Instant) -> bool {
        self.under_way.remove(&slab);
        if outcome == Outcome::Over {
            self.cool.remove(&slab);
            self.failed.remove(&slab);
            return false;
        }
        let fresh = Attempts { layout, pause: None, refusals: 0, refusals_max: REFUSALS_MIN };
        let attempts = self.failed.entry(slab).or_insert(fresh);
        if attempts.layout != layout {
            let refusals_max = (attempts.refusals_max * 2).min(REFUSALS_MAX);
            *attempts = Attempts { layout, pause: None, refusals: 0, refusals_max };
        }
        attempts.refusals += u32::from(outcome == Outcome::Refused);
        let hopeless = outcome == Outcome::Refused && attempts.refusals >= attempts.refusals_max;
        let long = attempts.pause.filter(|_| !hopeless);
        attempts.pause = Some(long.map_or_else(|| Pause::first(now), |pause| pause.next(now)));
        hopeless
    }

    /// A try has ended before it was known what it is at.
    pub(super) fn end_unseen(&mut self, slab: SlabId) {
        self.under_way.remove(&slab);
        // The next walk finds it again.
        self.cool.remove(&slab);
    }
}

#[cfg(test)]
mod tests {
    use super::{Conversions, Outcome, REFUSALS_MAX, REFUSALS_MIN};
    use crate::caretaker::pause::{PAUSE_MAX, PAUSE_MIN};
    use crate::limits::CONVERTS_MAX;
    use std::time::Duration;
    use strongroom_types::{Generation, GroupId, Instant, SlabId};

    const START: Instant = Instant::ORIGIN;
    const LAYOUT: Generation = Generation::FIRST;

    fn slab(number: u64) -> SlabId {
        SlabId::new(GroupId::new(0), number).unwrap()
    }

    fn found(slabs: impl IntoIterator<Item = u64>) -> Conversions {
        let mut conversions = Conversions::default();
        conversions.found(slabs.into_iter().map(slab).collect(), |_| true);
        conversions
    }

    #[test]
    fn all_get_their_turn_and_no_more_than_may_be_are_under_way() {
        let mut conversions = found(0..5);
        let mut turns = Vec::new();
        for _ in 0..10 {
            let taken: Vec<SlabId> = std::iter::from_fn(|| conversions.take(START)).collect();
            assert_eq!(taken.len(), CONVERTS_MAX);
            for slab in &taken {
                conversions.end_unseen(*slab);
            }
            conversions.found((0..5).map(self::slab).collect(), |_| true);
            turns.extend(taken);
        }
        assert!(conversions.under_way.is_empty());
        let expected: Vec<SlabId> = (0..5).map(slab).cycle().take(turns.len()).collect();
        assert_eq!(turns, expected);
    }

    #[test]
    fn one_that_is_under_way_is_not_taken_again_and_one_that_is_cold_not_either() {
        let mut conversions = found([1]);
        assert_eq!(conversions.take(START), Some(slab(1)));
        conversions.found([slab(1)].into(), |_| true);
        assert_eq!(conversions.take(START), None);
        assert!(!conversions.end(slab(1), LAYOUT, Outcome::Over, START));
        assert_eq!(conversions.take(START), None);
        conversions.found([slab(1)].into(), |_| true);
        assert_eq!(conversions.take(START), Some(slab(1)), "the next walk found it again");
    }

    /// Tries until the layout is to be given up, or `tries` times; the pauses between.
    fn fail(
        conversions: &mut Conversions,
        (layout, outcome): (Generation, Outcome),
        now: &mut Instant,
        tries: u32,
    ) -> (bool, Vec<Duration>) {
        let mut pauses = Vec::new();
        for _ in 0..tries {
            assert_eq!(conversions.take(*now), Some(slab(1)));
            let given_up = conversions.end(slab(1), layout, outcome, *now);
            let mut probe = *now;
            while conversions.take(probe).is_none() {
                probe = probe.after(PAUSE_MIN / 2);
            }
            conversions.under_way.clear();
            pauses.push(probe.since(*now));
            *now = probe;
            if given_up {
                return (true, pauses);
            }
        }
        (false, pauses)
    }

    #[test]
    fn what_fails_is_tried_ever_more_seldom_and_given_up_only_where_it_was_refused() {
        let (mut conversions, mut now) = (found([1]), START);
        let (given_up, pauses) = fail(&mut conversions, (LAYOUT, Outcome::Failed), &mut now, 50);
        assert!(!given_up);
        assert_eq!((pauses[0], pauses[1], pauses[5]), (PAUSE_MIN, 2 * PAUSE_MIN, PAUSE_MAX));
        let mut layout = LAYOUT;
        for expected in [1, 2, 4, 8, 16, 32, 64, 64].map(|times| times * REFUSALS_MIN) {
            let (given_up, pauses) =
                fail(&mut conversions, (layout, Outcome::Refused), &mut now, 2 * REFUSALS_MAX);
            assert!(given_up);
            assert_eq!(pauses.len(), expected as usize, "{layout}");
            assert_eq!(pauses.last(), Some(&PAUSE_MIN), "the next is soon begun");
            layout = layout.next();
        }
        let (_, pauses) = fail(&mut conversions, (layout, Outcome::Refused), &mut now, 1);
        assert_eq!(pauses[0], PAUSE_MIN, "another layout begins anew");
    }

    #[test]
    fn a_layout_is_given_up_again_until_that_is_known_and_never_for_refusals_of_the_one_before() {
        let (mut conversions, mut now) = (found([1]), START);
        let refused = (LAYOUT, Outcome::Refused);
        assert!(fail(&mut conversions, refused, &mut now, REFUSALS_MIN).0);
        assert!(!fail(&mut conversions, (LAYOUT, Outcome::Failed), &mut now, 1).0);
        assert!(fail(&mut conversions, refused, &mut now, 1).0, "the table did not hear of it");
        let next = LAYOUT.next();
        assert!(!fail(&mut conversions, (next, Outcome::Failed), &mut now, 100).0);
        assert!(!fail(&mut conversions, (next, Outcome::Refused), &mut now, REFUSALS_MIN).0);
    }

    #[test]
    fn what_is_known_of_a_slab_outlives_a_walk_that_did_not_see_it() {
        let mut conversions = found([1]);
        conversions.end(slab(1), LAYOUT, Outcome::Failed, START);
        conversions.found([].into(), |_| false);
        conversions.found([slab(1)].into(), |_| true);
        assert_eq!(conversions.take(START), None, "it still pauses");
        conversions.found([].into(), |_| true);
        conversions.found([slab(1)].into(), |_| true);
        assert_eq!(conversions.take(START), Some(slab(1)));
    }
}
