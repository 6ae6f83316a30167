//! Slabs of which a layout is to be made, or fragments of one: which is taken next, when one that failed is tried again, and when what was made so far
//! is given up.
//!
//! A retry finds the fragments that an earlier one has finished, so a layout is kept as long as there is hope. But a holder may refuse its fragment for
//! good: marks of one lie there without all that they speak of, or one of another profile, from before the cluster's shape changed. Or what was made
//! fills the drives that the rest should go to. Then only a layout under another generation gets through.

use super::pause::Pause;
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
    /// It is done, or not to be done at all.
    Over,
    /// Something was not there, or busy: to be tried again.
    Failed,
    /// A holder would not take its fragment, or has no room because of what was made.
    Refused,
}

/// What waits, and what is under way. In memory only: a new leader begins to count anew. The lowest rank goes first.
pub(super) struct Queue<R> {
    waiting: BTreeMap<R, BTreeSet<SlabId>>,
    under_way: BTreeSet<SlabId>,
    under_way_max: usize,
    /// The last of each rank that was taken.
    last: BTreeMap<R, SlabId>,
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

impl<R: Ord + Copy> Queue<R> {
    /// Empty; so many may be under way at once.
    pub(super) fn new(under_way_max: usize) -> Self {
        Self {
            waiting: BTreeMap::new(),
            under_way: BTreeSet::new(),
            under_way_max,
            last: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// A walk found these. What is known of others is forgotten, where `is_seen` says that the walk saw their group.
    pub(super) fn found(&mut self, found: BTreeMap<SlabId, R>, is_seen: impl Fn(SlabId) -> bool) {
        self.failed.retain(|slab, _| found.contains_key(slab) || !is_seen(*slab));
        self.waiting.clear();
        for (slab, rank) in found {
            self.waiting.entry(rank).or_default().insert(slab);
        }
    }

    /// The next that is due, round by round among those of one rank; it counts as under way. `None` while as many are as may be. What failed before
    /// waits for all that did not: it may fail for as long as something is away.
    pub(super) fn take(&mut self, now: Instant) -> Option<SlabId> {
        if self.under_way.len() >= self.under_way_max {
            return None;
        }
        let is_fresh = |slab: &SlabId| !self.failed.contains_key(slab);
        let is_due = |slab: &SlabId| {
            let pause = self.failed.get(slab).and_then(|attempts| attempts.pause);
            pause.is_none_or(|pause| pause.is_over(now))
        };
        let (rank, slab) = self.find(is_fresh).or_else(|| self.find(is_due))?;
        self.last.insert(rank, slab);
        self.under_way.insert(slab);
        Some(slab)
    }

    /// Whether anything is under way, or would be taken now were there a place.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        let is_due = |slab: &SlabId| {
            let pause = self.failed.get(slab).and_then(|attempts| attempts.pause);
            pause.is_none_or(|pause| pause.is_over(now))
        };
        !self.under_way.is_empty() || self.find(is_due).is_some()
    }

    fn find(&self, wanted: impl Fn(&SlabId) -> bool) -> Option<(R, SlabId)> {
        self.waiting.iter().find_map(|(rank, slabs)| {
            let last = self.last.get(rank).map_or(Bound::Unbounded, |last| Bound::Excluded(*last));
            let (behind, all) = (slabs.range((last, Bound::Unbounded)), slabs.iter());
            let mut turns = behind.chain(all).copied();
            let slab = turns.find(|slab| wanted(slab) && !self.under_way.contains(slab))?;
            Some((*rank, slab))
        })
    }

    /// A try at `layout` has ended, so; says whether that layout is to be given up, after which the next one is soon begun. Whether it was, the next try
    /// shows by the layout that it is at.
    pub(super) fn end(&mut self, slab: SlabId, layout: Generation, outcome: Outcome, now: Instant) -> bool {
        self.under_way.remove(&slab);
        if outcome == Outcome::Over {
            self.drop_waiting(slab);
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
        self.drop_waiting(slab);
    }

    /// What failed is due now. Its refusals still count.
    pub(super) fn retry_now(&mut self) {
        self.failed.values_mut().for_each(|attempts| attempts.pause = None);
    }

    /// Whether it is under way.
    pub(super) fn is_under_way(&self, slab: SlabId) -> bool {
        self.under_way.contains(&slab)
    }

    /// How many wait or are under way.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.values().map(BTreeSet::len).sum()
    }

    fn drop_waiting(&mut self, slab: SlabId) {
        self.waiting.values_mut().for_each(|slabs| {
            slabs.remove(&slab);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Queue, REFUSALS_MAX, REFUSALS_MIN};
    use crate::caretaker::pause::{PAUSE_MAX, PAUSE_MIN};
    use std::collections::BTreeMap;
    use std::time::Duration;
    use strongroom_types::{Generation, GroupId, Instant, SlabId};

    const START: Instant = Instant::ORIGIN;
    const LAYOUT: Generation = Generation::FIRST;

    fn slab(number: u64) -> SlabId {
        SlabId::new(GroupId::new(0), number).unwrap()
    }

    const UNDER_WAY_MAX: usize = 2;

    /// All of one rank.
    fn slabs(numbers: impl IntoIterator<Item = u64>) -> BTreeMap<SlabId, u8> {
        numbers.into_iter().map(|number| (slab(number), 0)).collect()
    }

    fn found(numbers: impl IntoIterator<Item = u64>) -> Queue<u8> {
        let mut queue = Queue::new(UNDER_WAY_MAX);
        queue.found(slabs(numbers), |_| true);
        queue
    }

    #[test]
    fn the_lowest_rank_goes_first_and_what_failed_last() {
        let mut queue = Queue::new(1);
        queue.found([(slab(1), 2), (slab(2), 1), (slab(3), 2)].into(), |_| true);
        let mut taken = Vec::new();
        let mut now = START;
        for _ in 0..4 {
            let slab = queue.take(now).unwrap();
            taken.push(slab);
            queue.end(slab, LAYOUT, Outcome::Failed, now);
            now = now.after(PAUSE_MAX);
        }
        assert_eq!(taken, [slab(2), slab(1), slab(3), slab(2)]);
    }

    #[test]
    fn all_get_their_turn_and_no_more_than_may_be_are_under_way() {
        let mut queue = found(0..5);
        let mut turns = Vec::new();
        for _ in 0..10 {
            let taken: Vec<SlabId> = std::iter::from_fn(|| queue.take(START)).collect();
            assert_eq!(taken.len(), UNDER_WAY_MAX);
            for slab in &taken {
                queue.end_unseen(*slab);
            }
            queue.found(slabs(0..5), |_| true);
            turns.extend(taken);
        }
        assert!(queue.under_way.is_empty());
        let expected: Vec<SlabId> = (0..5).map(slab).cycle().take(turns.len()).collect();
        assert_eq!(turns, expected);
    }

    #[test]
    fn one_that_is_under_way_is_not_taken_again_and_one_that_is_done_not_either() {
        let mut queue = found([1]);
        assert_eq!(queue.take(START), Some(slab(1)));
        queue.found(slabs([1]), |_| true);
        assert_eq!(queue.take(START), None);
        assert!(!queue.end(slab(1), LAYOUT, Outcome::Over, START));
        assert_eq!(queue.take(START), None);
        queue.found(slabs([1]), |_| true);
        assert_eq!(queue.take(START), Some(slab(1)), "the next walk found it again");
    }

    /// Tries until the layout is to be given up, or `tries` times; the pauses between.
    fn fail(
        queue: &mut Queue<u8>,
        (layout, outcome): (Generation, Outcome),
        now: &mut Instant,
        tries: u32,
    ) -> (bool, Vec<Duration>) {
        let mut pauses = Vec::new();
        for _ in 0..tries {
            assert_eq!(queue.take(*now), Some(slab(1)));
            let given_up = queue.end(slab(1), layout, outcome, *now);
            let mut probe = *now;
            while queue.take(probe).is_none() {
                probe = probe.after(PAUSE_MIN / 2);
            }
            queue.under_way.clear();
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
        let (mut queue, mut now) = (found([1]), START);
        let (given_up, pauses) = fail(&mut queue, (LAYOUT, Outcome::Failed), &mut now, 50);
        assert!(!given_up);
        assert_eq!((pauses[0], pauses[1], pauses[5]), (PAUSE_MIN, 2 * PAUSE_MIN, PAUSE_MAX));
        let mut layout = LAYOUT;
        for expected in [1, 2, 4, 8, 16, 32, 64, 64].map(|times| times * REFUSALS_MIN) {
            let (given_up, pauses) = fail(&mut queue, (layout, Outcome::Refused), &mut now, 2 * REFUSALS_MAX);
            assert!(given_up);
            assert_eq!(pauses.len(), expected as usize, "{layout}");
            assert_eq!(pauses.last(), Some(&PAUSE_MIN), "the next is soon begun");
            layout = layout.next();
        }
        let (_, pauses) = fail(&mut queue, (layout, Outcome::Refused), &mut now, 1);
        assert_eq!(pauses[0], PAUSE_MIN, "another layout begins anew");
    }

    #[test]
    fn a_layout_is_given_up_again_until_that_is_known_and_never_for_refusals_of_the_one_before() {
        let (mut queue, mut now) = (found([1]), START);
        let refused = (LAYOUT, Outcome::Refused);
        assert!(fail(&mut queue, refused, &mut now, REFUSALS_MIN).0);
        assert!(!fail(&mut queue, (LAYOUT, Outcome::Failed), &mut now, 1).0);
        assert!(fail(&mut queue, refused, &mut now, 1).0, "the table did not hear of it");
        let next = LAYOUT.next();
        assert!(!fail(&mut queue, (next, Outcome::Failed), &mut now, 100).0);
        assert!(!fail(&mut queue, (next, Outcome::Refused), &mut now, REFUSALS_MIN).0);
    }

    #[test]
    fn it_is_busy_while_anything_is_due_or_under_way() {
        let mut queue = found([]);
        assert!(!queue.is_busy(START));
        queue.found(slabs([1]), |_| true);
        assert!(queue.is_busy(START), "due");
        queue.take(START);
        assert!(queue.is_busy(START), "under way");
        queue.end(slab(1), LAYOUT, Outcome::Failed, START);
        assert!(!queue.is_busy(START), "it pauses");
        assert!(queue.is_busy(START.after(PAUSE_MIN)), "and is due again");
    }

    #[test]
    fn what_is_known_of_a_slab_outlives_a_walk_that_did_not_see_it() {
        let mut queue = found([1]);
        queue.end(slab(1), LAYOUT, Outcome::Failed, START);
        queue.found(BTreeMap::new(), |_| false);
        queue.found(slabs([1]), |_| true);
        assert_eq!(queue.take(START), None, "it still pauses");
        queue.found(BTreeMap::new(), |_| true);
        queue.found(slabs([1]), |_| true);
        assert_eq!(queue.take(START), Some(slab(1)));
    }
}
