use super::{ColdFragments, NotNow, PlacementError, place_cold, place_hot};
use crate::durable::{AckRule, Spread, is_durable, survives};
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use std::collections::{BTreeMap, BTreeSet};
use strongroom_types::{
    ClusterView, DriveId, DriveView, Health, Holder, Holders, NodeId, NodeView, Profile, SlabId, ZoneId,
};

fn drive(number: u128, extents_free: u32) -> DriveView {
    let drive = DriveId::new(number);
    DriveView {
        drive,
        extents_total: 1000,
        extents_free,
        extent_len_bytes: 1 << 24,
        writable: true,
        leaving: false,
    }
}

/// Zones with nodes with drives, each given by its free extents out of 1000. Node = 100 x zone + place.
fn cluster(zones: &[&[&[u32]]]) -> ClusterView {
    let mut nodes = Vec::new();
    for (zone, places) in (1_u8..).zip(zones) {
        for (place, frees) in (0_u64..).zip(*places) {
            let number = u64::from(zone) * 100 + place;
            let drives =
                (0..).zip(*frees).map(|(index, free)| drive(u128::from(number) * 100 + index, *free));
            nodes.push(NodeView {
                node: NodeId::new(number),
                zone: ZoneId::new(zone),
                health: Health::Up,
                may_hold_data: !frees.is_empty(),
                given_up: false,
                leaving: false,
                drives: drives.collect(),
            });
        }
    }
    ClusterView { nodes, ..ClusterView::default() }
}

fn zones(view: &ClusterView, holders: &[Holder]) -> BTreeMap<u8, usize> {
    let mut zones = BTreeMap::new();
    for holder in holders {
        *zones.entry(view.zone_of(holder.node).unwrap().get()).or_insert(0) += 1;
    }
    zones
}

fn nodes(holders: &[Holder]) -> usize {
    holders.iter().map(|holder| holder.node).collect::<BTreeSet<_>>().len()
}

fn set_down(view: &mut ClusterView, zone: u8) {
    view.nodes.iter_mut().filter(|node| node.zone.get() == zone).for_each(|node| node.health = Health::Down);
}

/// Fragments of an extent each.
fn cold(profile: Profile) -> ColdFragments {
    ColdFragments { profile, len_bytes: 4096 }
}

const FREE: &[u32] = &[500, 500];

#[test]
fn three_zones_get_one_copy_each() {
    let view = cluster(&[&[FREE; 4], &[FREE; 4], &[FREE; 4]]);
    for seed in 0..100 {
        let placed = place_hot(&view, &[], seed).unwrap();
        assert_eq!((placed.profile, placed.deficit), (Profile::copies(3).unwrap(), false));
        assert_eq!(zones(&view, &placed.holders), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
        assert_eq!(placed, place_hot(&view, &[], seed).unwrap(), "the seed decides");
    }
}

#[test]
fn two_zones_get_two_copies_each() {
    let view = cluster(&[&[FREE; 2], &[FREE; 3]]);
    let placed = place_hot(&view, &[], 1).unwrap();
    assert!(!placed.deficit);
    assert_eq!(zones(&view, &placed.holders), BTreeMap::from([(1, 2), (2, 2)]));
    assert_eq!(nodes(&placed.holders), 4);
    // With one node in a zone: both copies on its drives, and it says so.
    let view = cluster(&[&[FREE], &[FREE; 3]]);
    let placed = place_hot(&view, &[], 1).unwrap();
    assert_eq!((placed.holders.len(), nodes(&placed.holders), placed.deficit), (4, 3, true));
    let view = cluster(&[&[&[500]], &[&[500]]]);
    let placed = place_hot(&view, &[], 1).unwrap();
    assert_eq!((placed.profile, placed.deficit), (Profile::copies(2).unwrap(), true));
}

#[test]
fn a_zone_that_is_down_leaves_a_deficit_and_one_more_copy() {
    let mut view = cluster(&[&[FREE; 4], &[FREE; 4], &[FREE; 4]]);
    set_down(&mut view, 2);
    let placed = place_hot(&view, &[], 3).unwrap();
    assert_eq!((placed.holders.len(), nodes(&placed.holders), placed.deficit), (3, 3, true));
    assert_eq!(zones(&view, &placed.holders).len(), 2);
    let mut small = cluster(&[&[FREE], &[FREE], &[FREE]]);
    set_down(&mut small, 3);
    let placed = place_hot(&small, &[], 3).unwrap();
    assert_eq!((placed.holders.len(), placed.deficit), (2, true), "no other node for a third copy");
    // A zone never heard of since the start is still a zone of the cluster.
    view.nodes.iter_mut().filter(|node| node.zone.get() == 2).for_each(|node| node.drives.clear());
    let placed = place_hot(&view, &[], 3).unwrap();
    assert_eq!((placed.holders.len(), placed.deficit), (3, true));
}

#[test]
fn never_fewer_than_two_zones() {
    let mut view = cluster(&[&[FREE; 4], &[FREE; 4], &[FREE; 4]]);
    set_down(&mut view, 1);
    set_down(&mut view, 3);
    assert_eq!(place_hot(&view, &[], 0), Err(PlacementError::TooFewZones { zones_up: 1 }));
    let full = cluster(&[&[FREE], &[&[49]], &[&[0]]]);
    assert_eq!(place_hot(&full, &[], 0), Err(PlacementError::Full { zones_free: 1 }));
    assert_eq!(place_hot(&ClusterView::default(), &[], 0), Err(PlacementError::TooFewZones { zones_up: 0 }));
}

#[test]
fn full_drives_are_passed_over_while_the_zone_has_others() {
    let view = cluster(&[&[&[99, 100]], &[&[99], &[60]], &[&[50]]]);
    for seed in 0..50 {
        let placed = place_hot(&view, &[], seed).unwrap();
        let chosen = |drive| placed.holders.iter().any(|holder| holder.drive == DriveId::new(drive));
        assert!(chosen(100 * 100 + 1), "10 % free is enough");
        assert!(chosen(300 * 100), "5 % free is taken where the zone has nothing better");
        assert!(!chosen(100 * 100), "9.9 % free is passed over");
    }
    let mut view = cluster(&[&[FREE], &[FREE], &[FREE]]);
    view.nodes[0].drives.iter_mut().for_each(|drive| drive.writable = false);
    assert_eq!(zones(&view, &place_hot(&view, &[], 0).unwrap().holders), BTreeMap::from([(2, 1), (3, 1)]));
}

#[test]
fn avoided_nodes_are_used_only_for_the_second_zone() {
    let view = cluster(&[&[FREE; 2], &[FREE], &[FREE]]);
    let avoid = |nodes: &[u64]| -> Vec<NodeId> { nodes.iter().copied().map(NodeId::new).collect() };
    for seed in 0..20 {
        let placed = place_hot(&view, &avoid(&[100]), seed).unwrap();
        assert!(!placed.deficit && placed.holders.iter().all(|holder| holder.node != NodeId::new(100)));
        let placed = place_hot(&view, &avoid(&[200]), seed).unwrap();
        assert!(placed.deficit && zones(&view, &placed.holders).keys().eq([&1, &3]));
        let placed = place_hot(&view, &avoid(&[200, 300]), seed).unwrap();
        assert_eq!(zones(&view, &placed.holders).len(), 3, "better an avoided node than no answer");
    }
}

#[test]
fn emptier_drives_get_more() {
    let view = cluster(&[&[&[200], &[800]], &[&[500]], &[&[500]]]);
    let emptier = (0..1000).filter(|seed| {
        place_hot(&view, &[], *seed).unwrap().holders.iter().any(|holder| holder.node == NodeId::new(101))
    });
    let count = emptier.count();
    assert!((750..850).contains(&count), "four fifths of the free space, {count} of 1000 slabs");
}

#[test]
fn cold_fragments_lie_on_distinct_nodes_in_even_zones() {
    let view = cluster(&[&[FREE; 4], &[FREE; 4], &[FREE; 5]]);
    let current = place_hot(&view, &[], 7).unwrap().holders;
    let profile = Profile::new(7, 5).unwrap();
    for seed in 0..50 {
        let placed = place_cold(&view, cold(profile), &current, seed).unwrap();
        assert!(!placed.nodes_shared);
        assert_eq!(nodes(&placed.holders), 12);
        assert_eq!(zones(&view, &placed.holders), BTreeMap::from([(1, 4), (2, 4), (3, 4)]));
        let spread = Spread::of_holders(SlabId::from_bits(1), profile, &placed.holders, &view).unwrap();
        assert!(survives(&spread, spread.all(), AckRule::ZonePlusOne));
        for holder in &current {
            assert!(
                placed.holders.iter().any(|other| other.node == holder.node),
                "copies feed their own node"
            );
        }
    }
}

#[test]
fn too_few_nodes_share_by_drives_and_say_so() {
    let view = cluster(&[&[FREE; 2], &[FREE; 2], &[FREE; 2]]);
    let placed = place_cold(&view, cold(Profile::new(7, 5).unwrap()), &Holders::new(), 1).unwrap();
    assert!(placed.nodes_shared);
    assert_eq!(placed.holders.iter().collect::<BTreeSet<_>>().len(), 12, "distinct drives");
    let short = place_cold(&view, cold(Profile::new(9, 6).unwrap()), &Holders::new(), 1).unwrap_err();
    assert!(matches!(short, NotNow::ZoneShort { drives: 4, fragments: 5, full: false, .. }));
}

#[test]
fn cold_placement_waits_for_a_zone() {
    let mut view = cluster(&[&[FREE; 4], &[FREE; 4], &[FREE; 4]]);
    set_down(&mut view, 2);
    let refused = place_cold(&view, cold(Profile::new(7, 5).unwrap()), &Holders::new(), 1);
    let (zone, full) = (ZoneId::new(2), false);
    assert_eq!(refused, Err(NotNow::ZoneShort { zone, drives: 0, fragments: 4, full }));
    let two = cluster(&[&[FREE; 6], &[FREE; 6]]);
    let profile = Profile::new(7, 5).unwrap();
    assert_eq!(
        place_cold(&two, cold(profile), &Holders::new(), 1),
        Err(NotNow::Unsafe { profile, zones: 2 })
    );
    let refused = place_cold(&ClusterView::default(), cold(profile), &Holders::new(), 1);
    assert_eq!(refused, Err(NotNow::Unsafe { profile, zones: 0 }));
}

#[test]
fn a_zone_whose_drives_are_full_is_told_from_one_that_lacks_drives() {
    let profile = Profile::new(3, 3).unwrap();
    let short = |change: &dyn Fn(&mut ClusterView)| {
        let mut view = cluster(&[&[FREE; 2], &[FREE; 2], &[FREE; 2]]);
        view.nodes[1].drives.truncate(1);
        for drive in &mut view.nodes[0].drives {
            drive.extents_free = 1;
        }
        change(&mut view);
        match place_cold(&view, cold(profile), &Holders::new(), 1).unwrap_err() {
            NotNow::ZoneShort { zone, full, .. } => (zone, full),
            other => panic!("{other}"),
        }
    };
    let zone = ZoneId::new(1);
    assert_eq!(short(&|_| {}), (zone, true));
    assert_eq!(short(&|view| view.nodes[1].health = Health::Down), (zone, false), "one is away");
    assert_eq!(short(&|view| view.nodes[0].drives.clear()), (zone, false), "its drives are gone");
    let off =
        |view: &mut ClusterView| view.nodes[0].drives.iter_mut().for_each(|drive| drive.writable = false);
    assert_eq!(short(&off), (zone, false), "its drives take nothing");
}

fn leave(view: &mut ClusterView, nodes: &[u64]) {
    for node in view.nodes.iter_mut().filter(|node| nodes.contains(&node.node.get())) {
        node.leaving = true;
        node.drives.iter_mut().for_each(|drive| drive.leaving = true);
    }
}

#[test]
fn what_is_to_be_emptied_gets_a_copy_only_where_its_zone_has_no_other() {
    let both: &[&[u32]] = &[FREE, FREE];
    let mut view = cluster(&[both, both, both]);
    leave(&mut view, &[100]);
    for seed in 0..50 {
        let placed = place_hot(&view, &[], seed).unwrap();
        assert!(!placed.leaving && !placed.deficit);
        assert!(placed.holders.iter().all(|holder| holder.node.get() != 100));
        // Not even while its neighbour is to be avoided: two zones will do for that long.
        let placed = place_hot(&view, &[NodeId::new(101)], seed).unwrap();
        assert!(!placed.leaving && placed.deficit);
    }
    leave(&mut view, &[101]);
    let placed = place_hot(&view, &[], 1).unwrap();
    assert!(placed.leaving && !placed.deficit, "better a copy that moves soon than none");
    assert_eq!(zones(&view, &placed.holders), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    // With a fourth zone there are three without it.
    let mut view = cluster(&[both, both, both, both]);
    leave(&mut view, &[100, 101]);
    assert!((0..50).all(|seed| !place_hot(&view, &[], seed).unwrap().leaving));
}

#[test]
fn a_cold_layout_waits_rather_than_share_a_node_since_another_is_to_be_emptied() {
    let both: &[&[u32]] = &[FREE, FREE];
    let profile = Profile::new(3, 3).unwrap();
    let mut view = cluster(&[both, both, both]);
    leave(&mut view, &[100]);
    let (zone, drives, fragments) = (ZoneId::new(1), 2, 2);
    let refused = place_cold(&view, cold(profile), &Holders::new(), 1);
    assert_eq!(refused, Err(NotNow::ZoneShort { zone, drives, fragments, full: false }));
    view.nodes[0].health = Health::Down;
    assert!(
        place_cold(&view, cold(profile), &Holders::new(), 1).is_err(),
        "it may come back, or another for it"
    );
    view.nodes[0].given_up = true;
    assert!(place_cold(&view, cold(profile), &Holders::new(), 1).unwrap().nodes_shared);
    // A drive of a node takes none; the others do.
    let mut view = cluster(&[both, both, both]);
    view.nodes[0].drives[0].leaving = true;
    let leaving = view.nodes[0].drives[0].drive;
    for seed in 0..50 {
        let placed = place_cold(&view, cold(profile), &Holders::new(), seed).unwrap();
        assert!(!placed.nodes_shared && placed.holders.iter().all(|holder| holder.drive != leaving));
    }
}

fn any_cluster() -> impl Strategy<Value = ClusterView> {
    let drive = (0_u32..1001, any::<bool>(), any::<bool>());
    let node = (1_u8..6, any::<bool>(), proptest::collection::vec(drive, 0..4));
    proptest::collection::vec(node, 0..16).prop_map(|nodes| {
        let nodes = (1_u64..).zip(nodes).map(|(number, (zone, up, drives))| NodeView {
            node: NodeId::new(number),
            zone: ZoneId::new(zone),
            health: if up { Health::Up } else { Health::Down },
            may_hold_data: !up || !drives.is_empty(),
            given_up: false,
            leaving: false,
            drives: (0..)
                .zip(drives)
                .map(|(index, (free, writable, leaving))| DriveView {
                    writable,
                    leaving,
                    ..self::drive(u128::from(number) * 10 + index, free)
                })
                .collect(),
        });
        ClusterView { nodes: nodes.collect(), ..ClusterView::default() }
    })
}

#[test]
fn cold_fragments_go_where_there_is_room_if_there_is_any() {
    // More than a twentieth of each is free, but a fragment of 120 extents goes only on every second one.
    let two: &[u32] = &[100, 121];
    let profile = Profile::new(3, 3).unwrap();
    let len_bytes = 120 * ((1 << 24) - 4096) - 2 * 4096;
    let large = ColdFragments { profile, len_bytes };
    for seed in 0..50 {
        let view = cluster(&[&[two; 2], &[two; 2], &[two; 2]]);
        let placed = place_cold(&view, large, &Holders::new(), seed).unwrap();
        let drives = |odd| placed.holders.iter().filter(|holder| holder.drive.get() % 2 == odd).count();
        assert_eq!((drives(1), drives(0)), (6, 0));
        // Else where an earlier attempt may have left its fragment.
        let view = cluster(&[&[two; 2], &[two, &[100]], &[two; 2]]);
        let placed = place_cold(&view, large, &Holders::new(), seed).unwrap();
        assert_eq!(nodes(&placed.holders), 6);
    }
}

#[test]
fn cold_fragments_wait_for_a_node_that_is_away_rather_than_share_one() {
    let both: &[&[u32]] = &[&[50, 50], &[50, 50]];
    let profile = Profile::new(3, 3).unwrap();
    let mut view = cluster(&[both, both, both]);
    assert!(!place_cold(&view, cold(profile), &Holders::new(), 1).unwrap().nodes_shared);
    view.nodes[0].health = Health::Down;
    let (zone, drives, fragments) = (view.nodes[0].zone, 2, 2);
    let refused = place_cold(&view, cold(profile), &Holders::new(), 1);
    assert_eq!(refused, Err(NotNow::ZoneShort { zone, drives, fragments, full: false }));
    // Not for ever.
    view.nodes[0].given_up = true;
    assert!(place_cold(&view, cold(profile), &Holders::new(), 1).unwrap().nodes_shared);
    // Where the cluster has no other node, its drives must do.
    let one: &[&[u32]] = &[&[50, 50]];
    assert!(
        place_cold(&cluster(&[one, both, both]), cold(profile), &Holders::new(), 1).unwrap().nodes_shared
    );
}

proptest! {
    #[test]
    fn whatever_is_placed_can_be_acknowledged(view in any_cluster(), seed: u64, avoid in 0_u64..16) {
        if let Ok(placed) = place_hot(&view, &[NodeId::new(avoid)], seed) {
            let spread =
                Spread::of_holders(SlabId::from_bits(1), placed.profile, &placed.holders, &view).unwrap();
            prop_assert!(is_durable(&spread, spread.all(), AckRule::Zone));
            prop_assert_eq!(placed.holders.iter().collect::<BTreeSet<_>>().len(), placed.holders.len());
            prop_assert!(placed.deficit || nodes(&placed.holders) >= 3);
            prop_assert_eq!(placed.leaving, placed.holders.iter().any(|holder| view.is_leaving(*holder)));
            // Never one that is to be emptied where its zone has another.
            let stays = |holder: &Holder| !super::pools(&view, &[])
                .iter().any(|pool| Some(pool.zone) == view.zone_of(holder.node));
            prop_assert!(placed.holders.iter().filter(|holder| view.is_leaving(**holder)).all(stays));
        }
    }

    #[test]
    fn whatever_cold_layout_is_placed_survives_a_zone(view in any_cluster(), seed: u64, k in 1_u8..12, m in 1_u8..12) {
        let profile = Profile::new(k, m).unwrap();
        if let Ok(placed) = place_cold(&view, cold(profile), &Holders::new(), seed) {
            let spread = Spread::of_holders(SlabId::from_bits(1), profile, &placed.holders, &view).unwrap();
            prop_assert!(survives(&spread, spread.all(), AckRule::Zone));
            prop_assert!(!placed.holders.iter().any(|holder| view.is_leaving(*holder)));
            prop_assert_eq!(placed.holders.iter().collect::<BTreeSet<_>>().len(), placed.holders.len());
            prop_assert_eq!(placed.nodes_shared, nodes(&placed.holders) < placed.holders.len());
        }
    }
}
