//! Whether every fragment is where it is to be, once a run is quiet: none on a drive that is to be emptied, and no two of a slab on one node, where there is another
//! place for it; and whether drives are filled alike, where they can be.
//!
//! Not checked: places in drives that are so full that a fragment would fill them further than placement likes, and slabs of which something is missing.

use super::layout::{Facts, has_room, is_chosen};
use super::reclaim;
use std::collections::BTreeMap;
use strongroom_core::FragmentSet;
use strongroom_core::limits::DRIVE_FULL_PREFERRED_PERCENT_MAX;
use strongroom_core::rebalancer::Rebalancer;
use strongroom_format::cold;
use strongroom_format::extent::FragmentGeometry;
use strongroom_format::wire::message::DriveState;
use strongroom_types::{Holder, Instant, NodeId, SlabId, SlabRecord, SlabState};

/// What is to be moved of a slab and is not, though there is a place for it: off a drive that is to be emptied, or off a node that has another fragment of it.
/// Whether drives are filled alike is not asked here.
pub fn misplaced(facts: &Facts, record: &SlabRecord) -> Option<&'static str> {
    let others_on = |node: NodeId, but: usize| {
        let others = record.holders.iter().enumerate().filter(|(index, _)| *index != but);
        others.filter(|(_, holder)| holder.node == node).count()
    };
    let is_hot = record.profile.is_copies();
    match &record.state {
        SlabState::Open => {
            let leaves = record.holders.iter().any(|holder| facts.is_leaving(holder.node, holder.drive));
            let zone = |node: NodeId| facts.zones.get(&node);
            let stays = |holder: &Holder| {
                facts.drives.iter().any(|(node, state)| {
                    let is_usable =
                        state.writable && !facts.is_leaving(*node, state.drive) && is_chosen(state);
                    zone(*node) == zone(holder.node) && is_usable
                })
            };
            // As long as one is needed somewhere, others may be used.
            return (leaves && record.holders.iter().all(stays))
                .then_some("a slab is written to a drive that is to be emptied");
        }
        SlabState::Sealed(_) if !is_hot => {}
        SlabState::Sealed(_) | SlabState::Sealing | SlabState::Dead => return None,
    }
    let sealed = record.sealed()?;
    let data_len_bytes = cold::data_len(cold::slice_len(sealed.len_bytes, record.profile.data_count()));
    for (index, holder) in record.holders.iter().enumerate() {
        let (leaves, shares) =
            (facts.is_leaving(holder.node, holder.drive), others_on(holder.node, index) > 0);
        let takes = |(node, state): &(NodeId, DriveState), roomy: bool| {
            facts.zones.get(node) == facts.zones.get(&holder.node)
                && others_on(*node, index) == 0
                && state.drive != holder.drive
                && has_room(facts, record, *node, state, data_len_bytes)
                && (!roomy || stays_roomy(state, data_len_bytes))
        };
        if leaves && facts.drives.iter().any(|drive| takes(drive, false)) {
            return Some("a fragment is on a drive that is to be emptied");
        }
        if shares && !leaves && sealed.missing == 0 && facts.drives.iter().any(|drive| takes(drive, true)) {
            return Some("two fragments are on one node, and another has none");
        }
    }
    None
}

/// Whether placement still likes a drive once it has taken so much more.
fn stays_roomy(state: &DriveState, data_len_bytes: u64) -> bool {
    let Ok(geometry) = FragmentGeometry::for_extent_len(state.extent_len_bytes) else { return false };
    let taken = state.extents_total - state.extents_free + geometry.extents_for(data_len_bytes);
    u64::from(taken) * 100 <= u64::from(state.extents_total) * u64::from(DRIVE_FULL_PREFERRED_PERCENT_MAX)
}

/// Whether whoever looks at all slabs at once, with nothing remembered, would move a fragment for balance.
pub fn unbalanced(facts: &Facts, slabs: &BTreeMap<SlabId, SlabRecord>) -> Option<String> {
    let view = reclaim::view(facts);
    let mut look = Rebalancer::new().begin(&view, Instant::ORIGIN);
    for record in slabs.values() {
        look.consider(record, FragmentSet::EMPTY, &view);
    }
    look.end().map(|one| format!("drives are not filled alike: {one:?}"))
}

#[cfg(test)]
mod tests {
    use super::misplaced;
    use crate::sim::checkers::layout::Facts;
    use strongroom_format::wire::message::DriveState;
    use strongroom_types::slab::Sealed;
    use strongroom_types::{
        DrainSubject, DriveId, Epoch, Generation, GroupId, Holder, NodeId, Profile, SessionId, SlabId,
        SlabRecord, SlabState, ZoneId,
    };

    /// Two nodes of two drives in each of three zones; drive 10 n + i is the i-th of node n.
    fn facts() -> Facts {
        let mut facts = Facts::default();
        for node in 1..=6_u64 {
            facts.zones.insert(NodeId::new(node), ZoneId::new(u8::try_from((node - 1) % 3 + 1).unwrap()));
            for index in 0..2_u64 {
                let state = DriveState {
                    drive: DriveId::new(u128::from(node * 10 + index)),
                    extents_total: 100,
                    extents_free: 90,
                    extent_len_bytes: 1 << 18,
                    writable: true,
                    gone: false,
                };
                facts.drives.push((NodeId::new(node), state));
            }
        }
        facts
    }

    fn cold(drives: [u128; 6]) -> SlabRecord {
        let holder = |drive: u128| Holder {
            node: NodeId::new(u64::try_from(drive / 10).unwrap()),
            drive: DriveId::new(drive),
        };
        let table_crc32c = (0..6).collect();
        let sealed = Sealed { rows: 1, len_bytes: 4096, root_crc32c: 1, table_crc32c, missing: 0 };
        SlabRecord {
            slab: SlabId::new(GroupId::new(0), 1).unwrap(),
            state: SlabState::Sealed(sealed),
            epoch: Epoch::FIRST,
            generation: Generation::new(2),
            next_generation: Generation::new(3),
            profile: Profile::new(3, 3).unwrap(),
            holders: drives.map(holder).into_iter().collect(),
            made_under: [2; 6].map(Generation::new).into_iter().collect(),
            writer: NodeId::new(1),
            session: SessionId::new(1),
            given_out: None,
            writer_done: true,
        }
    }

    #[test]
    fn what_is_where_it_is_not_to_be_is_found_where_there_is_another_place() {
        let (sound, shared) = (cold([10, 20, 30, 40, 50, 60]), cold([10, 20, 30, 11, 50, 60]));
        let drained = |subject: DrainSubject| {
            let mut facts = facts();
            facts.drains.insert(subject);
            facts
        };
        assert_eq!(misplaced(&facts(), &sound), None);
        let found = misplaced(&drained(DrainSubject::Drive(DriveId::new(10))), &sound).unwrap();
        assert!(found.contains("to be emptied"));
        // Both nodes of its zone have one: it waits.
        assert_eq!(misplaced(&drained(DrainSubject::Node(NodeId::new(1))), &sound), None);
        let found = misplaced(&facts(), &shared).unwrap();
        assert!(found.contains("on one node"));
        let mut full = facts();
        full.drives
            .iter_mut()
            .filter(|(node, _)| node.get() == 4)
            .for_each(|(_, drive)| drive.extents_free = 9);
        assert_eq!(misplaced(&full, &shared), None, "nowhere to go");
        let open = SlabRecord { state: SlabState::Open, ..sound };
        assert!(misplaced(&drained(DrainSubject::Node(NodeId::new(1))), &open).is_some());
        assert_eq!(misplaced(&facts(), &open), None);
    }
}
