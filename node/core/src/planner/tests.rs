use super::{Assumptions, Shape, choices, cold_profile};
use crate::durable::{AckRule, Spread, survives};
use strongroom_types::{ClusterView, DriveId, DriveView, Health, NodeId, NodeView, Profile, ZoneId};

/// A cluster with this many nodes in each zone, one drive each.
fn cluster(nodes_per_zone: &[u64]) -> ClusterView {
    let nodes = (1_u8..).zip(nodes_per_zone).flat_map(|(zone, count)| {
        (0..*count).map(move |index| {
            let number = u64::from(zone) * 100 + index;
            let drive = DriveView {
                drive: DriveId::new(u128::from(number)),
                extents_total: 100,
                extents_free: 100,
                extent_len_bytes: 1 << 24,
                writable: true,
                leaving: false,
            };
            NodeView {
                node: NodeId::new(number),
                zone: ZoneId::new(zone),
                health: Health::Up,
                may_hold_data: true,
                given_up: false,
                leaving: false,
                drives: vec![drive],
            }
        })
    });
    ClusterView { nodes: nodes.collect(), ..ClusterView::default() }
}

fn cold(nodes_per_zone: &[u64]) -> Option<(u8, u8)> {
    cold_profile(&cluster(nodes_per_zone)).map(Into::into)
}

#[test]
fn takes_the_profiles_of_the_design() {
    assert_eq!(cold(&[4, 4, 4]), Some((7, 5)));
    assert_eq!(cold(&[5, 5, 5]), Some((9, 6)));
    assert_eq!(cold(&[9, 7, 12]), Some((9, 6)));
    assert_eq!(cold(&[3, 3, 3]), Some((5, 4)));
    assert_eq!(cold(&[2, 2, 2]), Some((3, 3)));
    assert_eq!(cold(&[1, 1, 1]), Some((2, 1)));
    assert_eq!(cold(&[7, 7]), Some((6, 8)));
    assert_eq!(cold(&[9, 8]), Some((6, 8)));
    assert_eq!(cold(&[3, 3]), Some((2, 4)));
    assert_eq!(cold(&[2, 2]), Some((2, 2)));
    assert_eq!(cold(&[4, 5, 8]), Some((7, 5)), "the smallest zone decides");
}

#[test]
fn shapes_without_a_cold_profile_stay_copies() {
    assert_eq!(cold(&[]), None);
    assert_eq!(cold(&[12]), None, "one zone survives no zone");
    assert_eq!(cold(&[1, 1]), None);
}

#[test]
fn a_witness_is_no_data_node_but_one_whose_drives_failed_is() {
    let mut view = cluster(&[7, 7, 1]);
    view.nodes[14].drives.clear();
    assert_eq!(Shape::of(&view).zones().len(), 3, "no slab's profile may hang on which drives work now");
    view.nodes[14].may_hold_data = false;
    assert_eq!(Shape::of(&view).zones(), [(ZoneId::new(1), 7), (ZoneId::new(2), 7)]);
    assert_eq!(cold_profile(&view), Some(Profile::new(6, 8).unwrap()));
}

#[test]
fn nodes_that_leave_do_not_count_as_long_as_as_much_is_survived() {
    let leave = |shape: &[u64], nodes: &[usize]| {
        let mut view = cluster(shape);
        nodes.iter().for_each(|node| view.nodes[*node].leaving = true);
        cold_profile(&view).unwrap()
    };
    let profile = |data, parity| Profile::new(data, parity).unwrap();
    assert_eq!(leave(&[4, 4, 4], &[]), profile(7, 5));
    assert_eq!(leave(&[4, 4, 4], &[0]), profile(5, 4), "narrower, and a zone and a node more may go");
    assert_eq!(leave(&[2, 2, 2], &[0]), profile(3, 3), "else a node more might not");
    assert_eq!(leave(&[4, 4, 4], &[0, 1, 2, 3]), profile(7, 5), "a zone less is another matter");
    let mut view = cluster(&[4, 4, 4]);
    view.nodes[0].drives[0].leaving = true;
    assert_eq!(cold_profile(&view), Some(profile(5, 4)), "a node all of whose drives leave");
}

#[test]
fn every_choice_survives_what_it_says_and_nothing_above() {
    for shape in [[1, 1, 1], [2, 2, 2], [4, 4, 4], [5, 6, 7], [10, 10, 10]] {
        let all = choices(&Shape::of(&cluster(&shape)), &Assumptions::default());
        assert!(!all.is_empty());
        for choice in &all {
            let places: Vec<_> = (0..u64::from(choice.profile.fragment_count()))
                .map(|index| (ZoneId::new((index % 3) as u8), NodeId::new(index)))
                .collect();
            let spread = Spread::from_places(choice.profile, &places).unwrap();
            assert!(choice.survives_zone && survives(&spread, spread.all(), AckRule::Zone));
            let zone_plus_one = survives(&spread, spread.all(), AckRule::ZonePlusOne);
            assert_eq!(choice.survives_zone_plus_one, zone_plus_one, "{}", choice.profile);
            assert!(choice.nines > 0.0, "{}: {} nines", choice.profile, choice.nines);
        }
        let ranks = all.iter().map(|choice| (!choice.survives_zone_plus_one, choice.overhead));
        assert!(ranks.is_sorted_by(|a, b| a <= b), "zone+1 first, then by overhead");
    }
}

#[test]
fn repair_traffic_and_nines_compare_as_they_should() {
    let find = |shape: &[u64], profile: (u8, u8)| {
        let all = choices(&Shape::of(&cluster(shape)), &Assumptions::default());
        all.into_iter().find(|choice| choice.profile == Profile::try_from(profile).unwrap()).unwrap()
    };
    assert_eq!(find(&[4, 4, 4], (7, 5)).repair_cross_zone_fragments, 1);
    assert_eq!(find(&[5, 5, 5], (9, 6)).repair_cross_zone_fragments, 1);
    assert_eq!(find(&[7, 7], (6, 8)).repair_cross_zone_fragments, 0, "a zone repairs itself");
    assert_eq!(find(&[1, 1, 1], (2, 1)).repair_cross_zone_fragments, 2);
    assert!(find(&[2, 2, 2], (3, 3)).nines > find(&[2, 2, 2], (4, 2)).nines + 2.0);
    assert!((find(&[4, 4, 4], (7, 5)).overhead - 12.0 / 7.0).abs() < 1e-9);
}
