//! Whether a generation of a slab is one layout: profile, holders, and what each fragment was made under are the same whenever it is seen, and once a later one was
//! seen none comes back. So a repair or a move that was overtaken was never taken. And what the tables count of a cold slab is there, where they say, in that generation.
//!
//! Looked at whenever a node says that the slab table took fragments, and whenever the tables are looked at for another reason. Not checked: layouts that came and
//! went in between, slabs that are not cold, and fragments that harm excuses, or whose nodes are not there.

use super::Violation;
use super::harm::Harm;
use super::watch::Glimpse;
use std::collections::BTreeMap;
use std::time::Duration;
use strongroom_format::wire::message::FragmentAddress;
use strongroom_types::slab::Generations as MadeUnder;
use strongroom_types::{Generation, Holder, Holders, NodeId, Profile, SlabId, SlabRecord, SlabState};
use tokio::time::Instant;

const RULE: &str = "SetHolders: a generation is one layout, and none comes back";
const THERE: &str = "SetHolders: what the slab table names is there";
/// Shorter than what was superseded is kept: an answer that took longer may be outdated by what drives say now.
const ANSWERED_WITHIN: Duration = Duration::from_millis(1500);

/// What was seen of cold slabs.
#[derive(Default)]
pub struct Generations {
    layouts: BTreeMap<(SlabId, Generation), (Profile, Holders, MadeUnder)>,
    /// The highest, and when the answer was there that had it.
    latest: BTreeMap<SlabId, (Generation, Instant)>,
    violations: Vec<Violation>,
}

impl Generations {
    /// Looks at slab tables that were asked for at `asked` and are there now. Answers may overtake each other: one that was asked for before another one came
    /// says nothing of what came after it.
    pub fn look(&mut self, table: &BTreeMap<SlabId, SlabRecord>, asked: Instant, now: Instant) {
        for record in table.values().filter(|record| !record.profile.is_copies()) {
            let SlabRecord { slab, generation, profile, .. } = *record;
            let layout = (profile, record.holders.clone(), record.made_under.clone());
            let known = self.layouts.entry((slab, generation)).or_insert_with(|| layout.clone());
            if *known != layout {
                let found = format!("{slab} {generation} was {known:?}, and is {layout:?}");
                self.found(RULE, found);
            }
            let (highest, seen) = *self.latest.entry(slab).or_insert((generation, now));
            if generation > highest {
                self.latest.insert(slab, (generation, now));
            } else if generation < highest && asked >= seen {
                self.found(RULE, format!("{slab} was at {highest}, and is at {generation}"));
            }
        }
    }

    /// Looks whether what tables that were asked for at `asked` count is on the drives that nodes have now; says how many fragments were looked at.
    pub fn look_at_holders(
        &mut self,
        table: &BTreeMap<SlabId, SlabRecord>,
        glimpses: &[(NodeId, u64, Glimpse)],
        harm: &Harm,
        (asked, now): (Instant, Instant),
    ) -> u64 {
        let mut looked = 0;
        if now.duration_since(asked) > ANSWERED_WITHIN {
            return looked;
        }
        for record in table.values().filter(|record| !record.profile.is_copies()) {
            let SlabState::Sealed(sealed) = &record.state else { continue };
            for (node, address) in FragmentAddress::all_of(record) {
                let holder = Holder { node, drive: address.drive };
                let counts = sealed.missing >> address.fragment.get() & 1 == 0
                    && !harm.excuses(&holder, record.slab, address.generation);
                let glimpse = glimpses.iter().find(|(of, ..)| *of == node).map(|(_, _, glimpse)| glimpse);
                let glimpse = glimpse.filter(|glimpse| {
                    counts && glimpse.drives.iter().any(|(_, drive)| *drive == address.drive)
                });
                let Some(glimpse) = glimpse else { continue };
                looked += 1;
                if !glimpse.fragments.iter().any(|report| report.address == address && report.sealed) {
                    self.found(THERE, format!("{node} has no {address:?} of {record:?}"));
                }
            }
        }
        looked
    }

    fn found(&mut self, rule: &'static str, found: String) {
        // Seen at each look from now on.
        if !self.violations.iter().any(|known| known.found == found) {
            self.violations.push(Violation { rule, found });
        }
    }

    /// What was found.
    pub fn result(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::{ANSWERED_WITHIN, Generations, Glimpse, Harm};
    use std::collections::BTreeMap;
    use std::time::Duration;
    use strongroom_format::wire::message::{FragmentAddress, FragmentReport};
    use strongroom_types::slab::Sealed;
    use strongroom_types::{
        DriveId, Epoch, Generation, GroupId, Holder, NodeId, Profile, SessionId, SlabId, SlabRecord,
        SlabState,
    };
    use tokio::time::Instant;

    fn table(generation: u32, drive: u128) -> BTreeMap<SlabId, SlabRecord> {
        let slab = SlabId::new(GroupId::new(0), 1).unwrap();
        let holder = |number| Holder { node: NodeId::new(1), drive: DriveId::new(number) };
        let record = SlabRecord {
            slab,
            state: SlabState::Dead,
            epoch: Epoch::FIRST,
            generation: Generation::new(generation),
            next_generation: Generation::new(9),
            profile: Profile::new(2, 1).unwrap(),
            holders: [1, 2, drive].map(holder).into_iter().collect(),
            made_under: [2, 2, 2].map(Generation::new).into_iter().collect(),
            writer: NodeId::new(1),
            session: SessionId::new(1),
            given_out: None,
            writer_done: true,
        };
        [(slab, record)].into()
    }

    #[test]
    fn a_generation_with_two_layouts_and_one_that_comes_back_are_seen() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let found = |looks: &[(u32, u128, u64, u64)]| {
            let mut generations = Generations::default();
            for (generation, drive, asked, now) in looks {
                generations.look(&table(*generation, *drive), at(*asked), at(*now));
            }
            generations.result().len()
        };
        assert_eq!(found(&[(3, 3, 0, 1), (3, 3, 1, 2), (4, 5, 2, 3)]), 0);
        assert_eq!(found(&[(3, 3, 0, 1), (3, 4, 1, 2), (3, 4, 2, 3)]), 1, "said once");
        assert_eq!(found(&[(3, 3, 0, 1), (4, 5, 2, 3), (3, 3, 4, 5)]), 1, "it came back");
        assert_eq!(found(&[(4, 5, 2, 3), (3, 3, 2, 5)]), 0, "asked for before, and late");
    }

    #[test]
    fn what_is_named_and_not_there_is_seen_unless_harm_excuses_it() {
        let now = Instant::now();
        let mut table = table(3, 3);
        let record = table.first_entry().unwrap().into_mut();
        let sealed = Sealed {
            rows: 1,
            len_bytes: 8192,
            root_crc32c: 1,
            table_crc32c: Default::default(),
            missing: 0b10,
        };
        record.state = SlabState::Sealed(sealed);
        let report = |address| FragmentReport {
            address,
            profile: Profile::new(2, 1).unwrap(),
            epoch: Epoch::FIRST,
            len_bytes: 4096,
            extents: 1,
            sealed: true,
        };
        let reports: Vec<FragmentReport> =
            FragmentAddress::all_of(record).map(|(_, address)| report(address)).collect();
        let found = |fragments: &[FragmentReport], harm: &Harm, asked: Instant| {
            let drives = (0..).zip([1, 2, 3].map(DriveId::new)).collect();
            let glimpse = Glimpse { drives, fragments: fragments.to_vec(), ..Glimpse::default() };
            let mut generations = Generations::default();
            let looked = generations.look_at_holders(
                &table,
                &[(NodeId::new(1), 1, glimpse)],
                harm,
                (asked, now + ANSWERED_WITHIN),
            );
            (looked, generations.result().len())
        };
        let none = Harm::default();
        assert_eq!(found(&reports, &none, now), (2, 0), "one is known to be missing");
        assert_eq!(found(&reports[..2], &none, now), (2, 1));
        let mut other = reports.clone();
        other[2].address.generation = Generation::new(3);
        assert_eq!(found(&other, &none, now), (2, 1), "of another generation");
        let harm = Harm { drives: [DriveId::new(3)].into(), ..Harm::default() };
        assert_eq!(found(&reports[..2], &harm, now), (1, 0));
        let late = now.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(found(&reports[..2], &none, late), (0, 0), "it took too long to say anything");
    }
}
