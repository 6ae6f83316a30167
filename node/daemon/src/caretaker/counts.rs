//! How many slabs there are of each kind, and what they survive.

use crate::alarms::Alarms;
use crate::status::SlabCounts;
use crate::survey::{self, Condition};
use std::collections::BTreeMap;
use strongroom_core::Margin;
use strongroom_types::{SlabId, SlabRecord};

/// Slabs that cannot be read.
const LOST: &str = "slabs that cannot be read";

/// Counts one.
pub(super) fn count(counts: &mut SlabCounts, record: &SlabRecord, condition: &Condition) {
    survey::count(counts, record);
    let Some(sealed) = record.sealed().filter(|sealed| sealed.rows > 0) else { return };
    counts.margins.add(condition.margin, 1);
    // Of an empty slab nothing can be missing; cold ones are counted with what is gone besides.
    if sealed.missing != 0 && record.profile.is_copies() {
        counts.deficit += 1;
    }
}

/// Counts the cold slabs of which fewer fragments than k are left, and has people know as long as there are any. Where some group was not seen, what was
/// told before stays.
pub(super) fn tell_lost(alarms: &Alarms, margins: &BTreeMap<SlabId, Margin>, saw_all: bool) -> u64 {
    let count = margins.values().filter(|margin| **margin == Margin::Lost).count() as u64;
    // Without figures: each other wording would be told as an alarm of its own. `slabs.lost` counts them.
    let words = "some slabs have too few fragments left to be read: bring back the drives and nodes that had the others; nothing of them is given back meanwhile";
    match count {
        0 if saw_all => alarms.over(LOST),
        0 => {}
        _ => alarms.lasting(LOST.into(), words.into()),
    }
    count
}

#[cfg(test)]
mod tests {
    use super::tell_lost;
    use crate::alarms::Alarms;
    use crate::events::Events;
    use crate::testing::StillClock;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use strongroom_core::Margin;
    use strongroom_types::{GroupId, SlabId};

    #[test]
    fn people_know_of_what_cannot_be_read_until_it_can_be() {
        let alarms = Alarms::new(Events::new(Arc::new(StillClock::default())));
        let slab = |number| SlabId::new(GroupId::new(0), number).unwrap();
        let found: BTreeMap<SlabId, Margin> = [(slab(1), Margin::Nothing), (slab(2), Margin::Lost)].into();
        assert_eq!(tell_lost(&alarms, &found, true), 1);
        let told = alarms.all();
        assert!(told.len() == 1 && told[0].starts_with("some slabs have too few"), "{told:?}");
        assert_eq!(tell_lost(&alarms, &BTreeMap::new(), false), 0);
        assert_eq!(alarms.all(), told, "a group was not seen");
        assert_eq!(tell_lost(&alarms, &BTreeMap::new(), true), 0);
        assert!(alarms.all().is_empty());
    }
}
