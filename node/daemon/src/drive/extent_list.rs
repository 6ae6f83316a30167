//! The extents of one fragment, in order.
//!
//! A drive has a hundred thousand fragments and more, and all of them are in memory. Extents are taken in turn, so those of a fragment mostly follow each other:
//! what is kept is runs, and one run takes no memory of its own.

use std::num::NonZeroU32;

/// Extents in order; at most as many as a fragment may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentList {
    runs: Runs,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Runs {
    #[default]
    None,
    One(Run),
    // The vector in a box: so that a list takes two words, whatever is in it.
    #[expect(clippy::box_collection, reason = "three words more in each of a hundred thousand fragments")]
    Many(Box<Vec<Run>>),
}

/// Extents that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    count: NonZeroU32,
}

impl Run {
    fn one(extent: u32) -> Self {
        Self { first: extent, count: NonZeroU32::MIN }
    }

    /// With this extent behind it, where it follows.
    fn with(self, extent: u32) -> Option<Self> {
        let follows = self.first.checked_add(self.count.get()) == Some(extent);
        let count = self.count.checked_add(1).filter(|_| follows)?;
        Some(Self { count, ..self })
    }

    fn iter(self) -> impl Iterator<Item = u32> {
        (0..self.count.get()).map(move |place| self.first + place)
    }
}

impl ExtentList {
    fn runs(&self) -> &[Run] {
        match &self.runs {
            Runs::None => &[],
            Runs::One(run) => std::slice::from_ref(run),
            Runs::Many(runs) => runs,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.runs().iter().map(|run| run.count.get() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs().is_empty()
    }

    /// The extent at a place, counted from 0.
    pub fn get(&self, ordinal: u32) -> Option<u32> {
        let mut before = 0;
        for run in self.runs() {
            let place = ordinal - before;
            if place < run.count.get() {
                return Some(run.first + place);
            }
            before += run.count.get();
        }
        None
    }

    /// The first: the one with the marks. Every fragment that anybody can ask for has one.
    pub fn first(&self) -> u32 {
        self.get(0).expect("a fragment has an extent")
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs().iter().flat_map(|run| run.iter())
    }

    /// One more behind the last.
    pub fn push(&mut self, extent: u32) {
        let longer = self.runs().last().and_then(|last| last.with(extent));
        self.runs = match (std::mem::take(&mut self.runs), longer) {
            (Runs::None, _) => Runs::One(Run::one(extent)),
            (Runs::One(_), Some(longer)) => Runs::One(longer),
            (Runs::One(run), None) => Runs::Many(Box::new(vec![run, Run::one(extent)])),
            (Runs::Many(mut runs), longer) => {
                match longer {
                    Some(longer) => *runs.last_mut().expect("it is longer now") = longer,
                    None => runs.push(Run::one(extent)),
                }
                Runs::Many(runs)
            }
        };
    }

    /// Leaves the first `kept`; gives the others, in order.
    pub fn split_off(&mut self, kept: usize) -> Vec<u32> {
        let (all, rest) = (self.clone(), self.iter().skip(kept).collect());
        *self = all.iter().take(kept).collect();
        rest
    }
}

impl FromIterator<u32> for ExtentList {
    fn from_iter<I: IntoIterator<Item = u32>>(extents: I) -> Self {
        let mut list = Self::default();
        list.extend(extents);
        list
    }
}

impl Extend<u32> for ExtentList {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, extents: I) {
        extents.into_iter().for_each(|extent| self.push(extent));
    }
}

#[cfg(test)]
mod tests {
    use super::ExtentList;
    use proptest::prelude::*;

    #[test]
    fn a_list_takes_two_words() {
        assert_eq!(size_of::<ExtentList>(), 16);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn a_list_is_what_was_put_in(
            runs in prop::collection::vec((prop_oneof![0u32..60, u32::MAX - 9..=u32::MAX], 1u32..9), 0..8),
            kept in 0usize..40,
        ) {
            let extents: Vec<u32> =
                runs.iter().flat_map(|(first, count)| (0..*count).map_while(|place| first.checked_add(place))).collect();
            let mut list: ExtentList = extents.iter().copied().collect();
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), extents.clone());
            prop_assert_eq!((list.len(), list.is_empty()), (extents.len(), extents.is_empty()));
            for place in 0..=extents.len() {
                prop_assert_eq!(list.get(u32::try_from(place).unwrap()), extents.get(place).copied());
            }
            let rest = list.split_off(kept);
            let (expected, behind) = extents.split_at(kept.min(extents.len()));
            prop_assert_eq!((list.clone(), &rest[..]), (expected.iter().copied().collect(), behind));
            list.extend(rest);
            prop_assert_eq!(list, extents.into_iter().collect::<ExtentList>());
        }
    }
}
