//! Conversions that failed: when each is tried again, and when what was made so far is given up.
//!
//! A retry finds the fragments that an earlier one has finished, so the layout is kept as long as there is hope. But some holder may refuse its
//! fragment for good: half of one lies there that cannot be told from one that was damaged, or one of another profile, from before the
//! cluster's shape changed. Or what was made fills the drives that the rest should go to. Then only a layout under another generation gets through.

use std::collections::BTreeMap;
use std::time::Duration;
use strongroom_types::{Instant, SlabId};

/// Before the second try; then twice as long each time.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Failures before the first layout of a slab is given up: half a minute with the pauses between. Each one after it gets twice as many, since making
/// a layout again wears drives, and what stands in its way may have nothing to do with it.
const FAILURES_MIN: u32 = 7;
const FAILURES_MAX: u32 = FAILURES_MIN << 6;

/// What failed so far. In memory only: a new leader begins to count anew.
#[derive(Default)]
pub(super) struct Attempts {
    by_slab: BTreeMap<SlabId, Attempt>,
}

struct Attempt {
    next: Instant,
    pause: Duration,
    failures: u32,
    failures_max: u32,
}

impl Attempts {
    /// Whether a slab is to be tried now.
    pub(super) fn is_due(&self, slab: SlabId, now: Instant) -> bool {
        self.by_slab.get(&slab).is_none_or(|attempt| now >= attempt.next)
    }

    /// Forgets all but these.
    pub(super) fn keep_only(&mut self, slabs: &[SlabId]) {
        self.by_slab.retain(|slab, _| slabs.contains(slab));
    }

    /// Notes a failure; says whether the layout is to be given up.
    pub(super) fn note(&mut self, slab: SlabId, now: Instant) -> bool {
        let attempt = self.by_slab.entry(slab).or_insert(Attempt {
            next: now,
            pause: PAUSE_MIN / 2,
            failures: 0,
            failures_max: FAILURES_MIN,
        });
        attempt.pause = (attempt.pause * 2).min(PAUSE_MAX);
        attempt.next = now.after(attempt.pause);
        attempt.failures += 1;
        if attempt.failures < attempt.failures_max {
            return false;
        }
        attempt.failures = 0;
        attempt.failures_max = (attempt.failures_max * 2).min(FAILURES_MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Attempts, FAILURES_MAX, FAILURES_MIN, PAUSE_MAX, PAUSE_MIN};
    use std::time::Duration;
    use strongroom_types::{GroupId, Instant, SlabId};

    #[test]
    fn a_conversion_that_fails_is_tried_ever_more_seldom_and_its_layout_given_up_ever_more_seldom() {
        let slab = |number| SlabId::new(GroupId::new(0), number).unwrap();
        let mut attempts = Attempts::default();
        let mut now = Instant::ORIGIN;
        let (mut pauses, mut failures, mut given_up) = (Vec::new(), 0, Vec::new());
        while given_up.len() < 9 {
            assert!(attempts.is_due(slab(1), now) && attempts.is_due(slab(2), now));
            failures += 1;
            if attempts.note(slab(1), now) {
                given_up.push(std::mem::take(&mut failures));
            }
            let mut pause = Duration::ZERO;
            while !attempts.is_due(slab(1), now.after(pause)) {
                pause += PAUSE_MIN;
            }
            now = now.after(pause);
            pauses.push(pause);
        }
        assert_eq!((pauses[0], pauses[1], pauses[9]), (PAUSE_MIN, 2 * PAUSE_MIN, PAUSE_MAX));
        assert_eq!(given_up[..3], [FAILURES_MIN, 2 * FAILURES_MIN, 4 * FAILURES_MIN]);
        assert_eq!(given_up[7..], [FAILURES_MAX, FAILURES_MAX]);
        attempts.keep_only(&[slab(2)]);
        assert!(attempts.by_slab.is_empty(), "what is cold is forgotten");
    }
}
