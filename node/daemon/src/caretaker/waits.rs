//! Slabs whose seal waits: since when, and when it is tried again.
//!
//! Each try has holders read what they have of the slab, so one that waits for long is tried ever more seldom; at once where a node answers
//! that did not at the last try, or where the slab was fenced anew, as its writer does to say where the locators end.

use super::pause::Pause;
use std::collections::{BTreeMap, BTreeSet};
use strongroom_core::FragmentSet;
use strongroom_types::{Epoch, Instant, SlabId};

/// Seals that wait.
#[derive(Default)]
pub(super) struct Waits {
    by_slab: BTreeMap<SlabId, Wait>,
}

struct Wait {
    since: Instant,
    pause: Pause,
    epoch: Epoch,
    /// Fragments whose nodes answered at the last try.
    answering: FragmentSet,
}

impl Waits {
    /// Whether a seal at this epoch is to be tried now, with these fragments' nodes answering.
    pub(super) fn is_due(&self, slab: SlabId, epoch: Epoch, answering: FragmentSet, now: Instant) -> bool {
        self.by_slab.get(&slab).is_none_or(|wait| {
            wait.pause.is_over(now) || wait.epoch != epoch || !answering.is_subset_of(wait.answering)
        })
    }

    /// Notes a try in vain; says since when the seal waits.
    pub(super) fn note(
        &mut self,
        slab: SlabId,
        epoch: Epoch,
        answering: FragmentSet,
        now: Instant,
    ) -> Instant {
        let before = self.by_slab.get(&slab);
        let pause = before.map_or_else(|| Pause::first(now), |wait| wait.pause.next(now));
        let since = before.map_or(now, |wait| wait.since);
        self.by_slab.insert(slab, Wait { since, pause, epoch, answering });
        since
    }

    /// Forgets all others; says which.
    pub(super) fn keep_only(&mut self, slabs: &BTreeSet<SlabId>) -> Vec<SlabId> {
        let over: Vec<SlabId> = self.by_slab.keys().filter(|slab| !slabs.contains(slab)).copied().collect();
        self.by_slab.retain(|slab, _| slabs.contains(slab));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::Waits;
    use crate::caretaker::pause::{PAUSE_MAX, PAUSE_MIN};
    use std::collections::BTreeSet;
    use std::time::Duration;
    use strongroom_core::FragmentSet;
    use strongroom_types::{Epoch, GroupId, Instant, SlabId};

    #[test]
    fn a_seal_in_vain_is_tried_ever_more_seldom_but_at_once_when_a_node_is_back() {
        let slab = SlabId::new(GroupId::new(0), 1).unwrap();
        let (epoch, two) = (Epoch::new(2), FragmentSet::from_mask(0b011));
        let start = Instant::ORIGIN;
        let mut waits = Waits::default();
        assert!(waits.is_due(slab, epoch, two, start));
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(waits.note(slab, epoch, two, now), start);
            let mut pause = Duration::ZERO;
            while !waits.is_due(slab, epoch, two, now.after(pause)) {
                pause += PAUSE_MIN;
            }
            assert!(waits.is_due(slab, epoch, FragmentSet::from_mask(0b110), now), "another node answers");
            assert!(!waits.is_due(slab, epoch, FragmentSet::from_mask(0b001), now), "one more does not");
            assert!(waits.is_due(slab, epoch.next(), two, now), "fenced anew");
            pauses.push(pause);
            now = now.after(pause);
        }
        assert_eq!((pauses[0], pauses[1], pauses[7]), (PAUSE_MIN, 2 * PAUSE_MIN, PAUSE_MAX));
        assert_eq!(waits.keep_only(&BTreeSet::from([slab])), []);
        assert_eq!(waits.keep_only(&BTreeSet::new()), [slab]);
        assert!(waits.is_due(slab, epoch, two, now), "what was forgotten is due");
    }
}
