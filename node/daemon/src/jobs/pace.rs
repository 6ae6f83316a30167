//! How fast a job goes, and how fast it may.

use crate::config::Budget;
use std::num::NonZeroU64;
use std::time::Duration;
use strongroom_types::Instant;

/// Between two samples at least.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// Samples that the rate is taken over: some half a minute.
const SAMPLES: usize = 16;

/// How fast something is counted up, over the last half minute.
#[derive(Debug)]
pub(super) struct Rate {
    samples: heapless::Deque<(Instant, u64), SAMPLES>,
}

impl Rate {
    /// Of what begins now.
    pub(super) fn from(now: Instant) -> Self {
        let mut samples = heapless::Deque::new();
        samples.push_back((now, 0)).expect("there is room for one");
        Self { samples }
    }

    /// So much is done by now. Less than before is the beginning of another round.
    pub(super) fn note(&mut self, now: Instant, done: u64) {
        if self.samples.back().is_some_and(|(_, before)| done < *before) {
            self.samples.clear();
        }
        if self.samples.back().is_some_and(|(last, _)| now.since(*last) < SAMPLE_EVERY) {
            return;
        }
        if self.samples.is_full() {
            self.samples.pop_front();
        }
        self.samples.push_back((now, done)).expect("there is room after the oldest went");
    }

    /// For each second since the oldest sample; what has stalled gets slower. `None` where no time has passed.
    pub(super) fn per_second(&self, now: Instant, done: u64) -> Option<f64> {
        let (since, before) = self.samples.front()?;
        let seconds = now.since(*since).as_secs_f64();
        (seconds > 0.0).then(|| done.saturating_sub(*before) as f64 / seconds)
    }
}

/// What a unit of work takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes that are made or moved.
    pub bytes: u64,
    /// Reads and writes of drives, of whatever node.
    pub operations: u64,
    /// Bytes that go from zone to zone.
    pub far_bytes: u64,
}

/// The budget of a job, and what of it is spent.
#[derive(Debug, Default)]
pub(super) struct Paces {
    pub(super) bytes: Pace,
    operations: Pace,
    far_bytes: Pace,
}

impl Paces {
    pub(super) fn spend(&mut self, cost: Cost, now: Instant) {
        self.bytes.spend(cost.bytes, now);
        self.operations.spend(cost.operations, now);
        self.far_bytes.spend(cost.far_bytes, now);
    }

    /// How long to wait before the next unit.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        [&self.bytes, &self.operations, &self.far_bytes]
            .map(|pace| pace.wait(now))
            .into_iter()
            .max()
            .unwrap_or_default()
    }

    pub(super) fn set(&mut self, budget: Budget, now: Instant) {
        self.bytes.set(budget.bytes_per_second, now);
        self.operations.set(budget.operations_per_second, now);
        self.far_bytes.set(budget.far_bytes_per_second, now);
    }

    pub(super) fn budget(&self) -> Budget {
        Budget {
            bytes_per_second: self.bytes.per_second,
            operations_per_second: self.operations.per_second,
            far_bytes_per_second: self.far_bytes.per_second,
        }
    }
}

/// So many a second at most. What is spent is spent at once, and then nothing more until it is paid off: units of work are large.
#[derive(Debug, Default)]
pub(super) struct Pace {
    per_second: Option<NonZeroU64>,
    free_at: Instant,
}

impl Pace {
    fn spend(&mut self, count: u64, now: Instant) {
        let Some(per_second) = self.per_second else { return };
        let nanos = u128::from(count) * 1_000_000_000 / u128::from(per_second.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now).after(cost);
    }

    fn wait(&self, now: Instant) -> Duration {
        self.free_at.since(now)
    }

    /// Another limit, from now on: what was to be paid off under the old one is forgotten.
    pub(super) fn set(&mut self, per_second: Option<NonZeroU64>, now: Instant) {
        *self = Self { per_second, free_at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, Pace, Paces, Rate, SAMPLE_EVERY, SAMPLES};
    use crate::config::Budget;
    use std::num::NonZeroU64;
    use std::time::Duration;
    use strongroom_types::Instant;

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN.after(Duration::from_secs(seconds))
    }

    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let mut rate = Rate::from(at(0));
        assert_eq!(rate.per_second(at(0), 0), None);
        let every = SAMPLE_EVERY.as_secs();
        let mut done = 0;
        for second in 1..=200 {
            done += if second <= 100 { 10 } else { 4 };
            rate.note(at(second), done);
        }
        assert_eq!(rate.per_second(at(200), done), Some(4.0));
        let window = every * (SAMPLES as u64 - 1);
        let stalled = rate.per_second(at(200 + window), done).unwrap();
        assert!((1.9..2.1).contains(&stalled), "{stalled}: it has stalled for as long as is looked at");
        rate.note(at(300), 0);
        rate.note(at(310), 50);
        assert_eq!(rate.per_second(at(310), 50), Some(5.0), "another round");
    }

    #[test]
    fn what_was_spent_is_paid_off_before_the_next_unit() {
        let mut pace = Pace::default();
        pace.spend(1 << 40, at(0));
        assert_eq!(pace.wait(at(0)), Duration::ZERO, "no limit");
        pace.set(NonZeroU64::new(100), at(1));
        pace.spend(150, at(1));
        pace.spend(50, at(1));
        assert_eq!(pace.wait(at(1)), Duration::from_secs(2));
        assert_eq!(pace.wait(at(3)), Duration::ZERO);
        pace.spend(100, at(10));
        assert_eq!(pace.wait(at(10)), Duration::from_secs(1), "rest is not saved up");
        pace.set(None, at(10));
        assert_eq!(pace.wait(at(10)), Duration::ZERO);
    }

    #[test]
    fn whichever_is_spent_most_of_is_waited_for() {
        let [bytes_per_second, operations_per_second, far_bytes_per_second] =
            [1000, 10, 100].map(NonZeroU64::new);
        let budget = Budget { bytes_per_second, operations_per_second, far_bytes_per_second };
        let waits = |cost: Cost| {
            let mut paces = Paces::default();
            paces.set(budget, at(5));
            assert_eq!(paces.budget(), budget);
            paces.spend(cost, at(5));
            paces.wait(at(5)).as_secs()
        };
        assert_eq!(waits(Cost { bytes: 3000, operations: 20, far_bytes: 100 }), 3);
        assert_eq!(waits(Cost { bytes: 3000, operations: 40, far_bytes: 100 }), 4);
        assert_eq!(waits(Cost { bytes: 3000, operations: 20, far_bytes: 500 }), 5);
    }
}
