//! The longest time without an acknowledgement, at one gateway.

use serde::Serialize;
use std::time::{Duration, Instant};

/// The longest time between two acknowledgements from `from` to `to`; without any, all of it.
pub fn longest(acknowledged: &[Instant], from: Instant, to: Instant) -> Duration {
    let mut times: Vec<Instant> =
        acknowledged.iter().copied().filter(|at| (from..=to).contains(at)).collect();
    times.extend([from, to]);
    times.sort();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// What several trials came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// The middle one (the lower of two).
    pub median_ms: u64,
    /// The longest.
    pub worst_ms: u64,
}

impl Spread {
    /// Of these.
    pub fn of(times: &[Duration]) -> Self {
        let mut millis: Vec<u64> =
            times.iter().map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).collect();
        millis.sort_unstable();
        let Some(last) = millis.len().checked_sub(1) else { return Self::default() };
        Self { count: millis.len(), median_ms: millis[last / 2], worst_ms: millis[last] }
    }
}

#[cfg(test)]
mod tests {
    use super::{Spread, longest};
    use std::time::{Duration, Instant};

    #[test]
    fn the_ends_of_the_time_count_as_acknowledgements() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let acknowledged = [at(10), at(20), at(70), at(80)];
        assert_eq!(longest(&acknowledged, at(5), at(90)), Duration::from_millis(50));
        assert_eq!(longest(&acknowledged, at(30), at(400)), Duration::from_millis(320));
        assert_eq!(longest(&[], at(0), at(7)), Duration::from_millis(7));
    }

    #[test]
    fn spreads_name_the_middle_and_the_worst() {
        let millis = |all: &[u64]| all.iter().map(|one| Duration::from_millis(*one)).collect::<Vec<_>>();
        assert_eq!(Spread::of(&millis(&[5, 1, 9])), Spread { count: 3, median_ms: 5, worst_ms: 9 });
        assert_eq!(Spread::of(&millis(&[4, 2])), Spread { count: 2, median_ms: 2, worst_ms: 4 });
        assert_eq!(Spread::of(&[]), Spread::default());
    }
}
