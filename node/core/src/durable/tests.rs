use super::{AckRule, Margin, Spread, SpreadError, is_durable, margin, survives};
use crate::fragment_set::FragmentSet;
use std::collections::BTreeSet;
use strongroom_types::{ClusterView, DriveId, Health, Holder, NodeId, NodeView, Profile, SlabId, ZoneId};

fn spread(profile: Profile, places: &[(u8, u64)]) -> Spread {
    let places: Vec<_> = places.iter().map(|(zone, node)| (ZoneId::new(*zone), NodeId::new(*node))).collect();
    Spread::from_places(profile, &places).unwrap()
}

/// Every layout of `count` fragments over up to three zones with up to three nodes each, but for the names of zones and nodes and
/// the order of fragments, on which the definition does not depend: fuller nodes and zones come first.
pub(crate) fn layouts(count: usize) -> Vec<Vec<(u8, u64)>> {
    let mut layouts = Vec::new();
    let mut counts = [[0_usize; 3]; 3];
    fill(&mut counts, 0, count, &mut layouts);
    layouts
}

fn fill(counts: &mut [[usize; 3]; 3], place: usize, left: usize, layouts: &mut Vec<Vec<(u8, u64)>>) {
    if place == 9 {
        let falling =
            counts.is_sorted_by(|a, b| a >= b) && counts.iter().all(|zone| zone.is_sorted_by(|a, b| a >= b));
        if left == 0 && falling {
            let places = (0..9).flat_map(|place| {
                std::iter::repeat_n(((place / 3) as u8, place as u64), counts[place / 3][place % 3])
            });
            layouts.push(places.collect());
        }
        return;
    }
    for here in 0..=left {
        counts[place / 3][place % 3] = here;
        fill(counts, place + 1, left - here, layouts);
    }
    counts[place / 3][place % 3] = 0;
}

/// The definition, word for word: for every zone z (and every node n outside of it), what is left holds k.
fn by_definition(needed: usize, places: &[(u8, u64)], written: u32, rule: AckRule) -> bool {
    let zones: BTreeSet<u8> = places.iter().map(|place| place.0).collect();
    let nodes: BTreeSet<u64> = places.iter().map(|place| place.1).collect();
    let left = |zone: u8, node: Option<u64>| {
        let kept = places
            .iter()
            .enumerate()
            .filter(|(index, (z, n))| written & 1 << index != 0 && *z != zone && Some(*n) != node);
        kept.count()
    };
    zones.iter().all(|zone| {
        left(*zone, None) >= needed
            && (rule == AckRule::Zone || nodes.iter().all(|node| left(*zone, Some(*node)) >= needed))
    })
}

#[test]
fn agrees_with_the_definition_up_to_nine_holders() {
    let mut durable = 0;
    for count in 2..=9_u8 {
        for places in &layouts(usize::from(count)) {
            for data in 1..count {
                let spread = spread(Profile::new(data, count - data).unwrap(), places);
                for written in 0..1_u32 << count {
                    for rule in [AckRule::Zone, AckRule::ZonePlusOne] {
                        let set = FragmentSet::from_mask(written);
                        let expected = by_definition(usize::from(data), places, written, rule);
                        assert_eq!(
                            is_durable(&spread, set, rule),
                            expected,
                            "{places:?} {written:b} {rule:?}"
                        );
                        assert_eq!(survives(&spread, set, rule), expected);
                        durable += u32::from(expected);
                    }
                }
            }
        }
    }
    assert!(durable > 1000, "both answers occur");
}

#[test]
fn one_zone_alone_is_never_durable() {
    let spread = spread(Profile::copies(3).unwrap(), &[(1, 1), (1, 2), (1, 3)]);
    assert!(!is_durable(&spread, spread.all(), AckRule::Zone));
}

#[test]
fn fragments_outside_the_profile_do_not_count() {
    let spread = spread(Profile::copies(2).unwrap(), &[(1, 1), (2, 2)]);
    assert!(!is_durable(&spread, FragmentSet::from_mask(0b1101), AckRule::Zone));
    assert!(is_durable(&spread, FragmentSet::from_mask(0b0011), AckRule::Zone));
}

#[test]
fn margins_fall_as_fragments_go() {
    let copies = spread(Profile::copies(3).unwrap(), &[(1, 1), (2, 2), (3, 3)]);
    let margins = [0b111, 0b011, 0b001, 0].map(|mask| margin(&copies, FragmentSet::from_mask(mask)));
    assert_eq!(margins, [Margin::ZonePlusOne, Margin::Zone, Margin::Nothing, Margin::Lost]);
    let one_zone = spread(Profile::copies(2).unwrap(), &[(1, 1), (1, 2)]);
    assert_eq!(margin(&one_zone, one_zone.all()), Margin::Node);
    assert!(Margin::Lost < Margin::Nothing && Margin::Zone < Margin::ZonePlusOne);
}

#[test]
fn an_unknown_zone_is_an_error_and_never_a_guess() {
    let node = |node, zone| NodeView {
        node: NodeId::new(node),
        zone: ZoneId::new(zone),
        health: Health::Down,
        may_hold_data: true,
        given_up: false,
        leaving: false,
        drives: Vec::new(),
    };
    let view = ClusterView { nodes: vec![node(1, 1), node(2, 2)], ..ClusterView::default() };
    let slab = SlabId::from_bits(5);
    let holder = |node| Holder { node: NodeId::new(node), drive: DriveId::new(9) };
    let profile = Profile::copies(2).unwrap();
    let of = |holders: &[Holder]| Spread::of_holders(slab, profile, holders, &view);
    assert!(of(&[holder(1), holder(2)]).is_ok(), "who is down still has a zone");
    assert_eq!(of(&[holder(1), holder(3)]), Err(SpreadError::NodeUnknown { slab, node: NodeId::new(3) }));
    assert_eq!(of(&[holder(1)]), Err(SpreadError::HolderCount { slab, holders: 1, fragments: 2 }));
    assert!(Spread::from_places(profile, &[]).is_none());
}
