//! Plans of a codec that were asked for before: patterns of loss come again and again, and inverting a matrix costs as much as decoding some kilobytes.
//!
//! A pattern has one place, by its hash, and the last one that came stays there. Reading a place takes no lock and waits for nobody (`arc-swap`); two that
//! make the same plan at once both make it, and either stays.

use super::Plan;
use crate::limits::PLANS_KEPT;
use crate::shards::ShardList;
use arc_swap::ArcSwapOption;
use std::fmt;
use std::sync::Arc;

/// See the [module](self).
pub(crate) struct Plans {
    places: Box<[ArcSwapOption<Plan>; PLANS_KEPT]>,
}

impl Plans {
    pub(crate) fn new() -> Self {
        Self { places: Box::new(std::array::from_fn(|_| ArcSwapOption::empty())) }
    }

    /// The plan for this pattern, kept or made now.
    pub(crate) fn get(
        &self,
        sources: ShardList,
        wanted: ShardList,
        make: impl FnOnce(ShardList, ShardList) -> Plan,
    ) -> Arc<Plan> {
        let place = &self.places[place_of(&sources, &wanted)];
        if let Some(plan) = place.load_full().filter(|plan| plan.is_of(&sources, &wanted)) {
            return plan;
        }
        let plan = Arc::new(make(sources, wanted));
        place.store(Some(plan.clone()));
        plan
    }
}

/// Over both lists, in their order.
fn place_of(sources: &ShardList, wanted: &ShardList) -> usize {
    // Each word is multiplied by an odd number of its own, the powers of one, which is quick because no word waits for the one before.
    let mut factor = SPLITMIX64;
    let hash = sources.words().chain(wanted.words()).fold(0, |hash: u64, word| {
        factor = factor.wrapping_mul(SPLITMIX64);
        hash.wrapping_add((word ^ word >> 29).wrapping_mul(factor))
    });
    // The best bits are the highest.
    (hash.wrapping_mul(SPLITMIX64) >> (u64::BITS - PLANS_KEPT.ilog2())) as usize
}

/// An odd number whose bits are even as those of noise: the increment of splitmix64 (G. L. Steele, D. Lea, C. H. Flood 2014).
const SPLITMIX64: u64 = 0x9E37_79B9_7F4A_7C15;

const _: () = assert!(PLANS_KEPT.is_power_of_two());

impl fmt::Debug for Plans {
    /// How many there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.places.iter().filter(|place| place.load().is_some()).count();
        write!(f, "Plans({count} of {PLANS_KEPT})")
    }
}

#[cfg(test)]
mod tests {
    use super::place_of;
    use crate::limits::PLANS_KEPT;
    use crate::shards::ShardList;
    use crate::{Codec, MatrixId};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    #[test]
    fn a_pattern_that_comes_again_is_not_worked_out_again() {
        let codec = Codec::new(4, 3, MatrixId::NormalisedCauchy).unwrap();
        let first = codec.plan(&[1, 2, 3, 4], &[0]).unwrap();
        assert!(Arc::ptr_eq(&first, &codec.plan(&[1, 2, 3, 4], &[0]).unwrap()));
        // What is beyond the first k makes no other pattern; another order does.
        assert!(Arc::ptr_eq(&first, &codec.plan(&[1, 2, 3, 4, 6], &[0]).unwrap()));
        assert!(!Arc::ptr_eq(&first, &codec.plan(&[2, 1, 3, 4], &[0]).unwrap()));
        assert!(!Arc::ptr_eq(&first, &codec.plan(&[1, 2, 3, 4], &[5]).unwrap()));
    }

    #[test]
    fn patterns_that_share_a_place_each_get_their_own_plan() {
        let codec = Codec::new(6, 6, MatrixId::NormalisedCauchy).unwrap();
        let list = |indices: &[usize]| ShardList::collect(indices.iter().copied(), 12).unwrap();
        let sources: Vec<Vec<usize>> = (0..6)
            .flat_map(|out| {
                (6..12).map(move |put| (0..12).filter(|&i| i != out && (i < 6 || i == put)).collect())
            })
            .collect();
        let mut patterns = Vec::new();
        for sources in &sources {
            patterns.extend((0..12).map(|wanted| (sources.clone(), vec![wanted])));
        }
        let places: BTreeSet<usize> =
            patterns.iter().map(|(from, to)| place_of(&list(from), &list(to))).collect();
        assert!(patterns.len() > 2 * PLANS_KEPT && places.len() > PLANS_KEPT / 2);
        for _ in 0..2 {
            for (sources, wanted) in &patterns {
                let plan = codec.plan(sources, wanted).unwrap();
                assert_eq!(plan.sources().collect::<Vec<_>>(), *sources);
                assert_eq!(plan.wanted().collect::<Vec<_>>(), *wanted);
            }
        }
    }
}
