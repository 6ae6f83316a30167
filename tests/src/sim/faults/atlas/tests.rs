use super::{Atlas, Rule, Toll};
use std::ops::Range;
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

/// Nodes 1 to 6; 1 and 4 in zone 0, which is the harmed one, 2 and 5 in zone 1, 3 and 6 in zone 2.
fn atlas() -> Atlas {
    let zones = (0..6).map(|number| (node(number + 1), zone((number % 3) as u8))).collect();
    Atlas::new(&zones, zone(0))
}

fn node(number: u64) -> NodeId {
    NodeId::new(number)
}

fn zone(number: u8) -> ZoneId {
    ZoneId::new(number)
}

fn s(range: Range<u64>) -> Range<Duration> {
    Duration::from_secs(range.start)..Duration::from_secs(range.end)
}

#[test]
fn harm_stays_in_one_zone_for_good() {
    let mut atlas = atlas();
    for toll in [Toll::Media(node(2)), Toll::Media(node(3)), Toll::State(node(6))] {
        assert_eq!(atlas.admit(toll, s(0..1)), Err(Rule::HarmInOneZone));
    }
    assert_eq!(atlas.admit(Toll::Media(node(1)), s(0..1)), Ok(()));
    assert_eq!(atlas.admit(Toll::State(node(4)), s(5..6)), Ok(()));
    assert_eq!(atlas.admit(Toll::Media(node(2)), s(1_000..1_001)), Err(Rule::HarmInOneZone));
}

#[test]
fn any_zones_may_be_away_at_once_while_none_is_harmed() {
    let mut atlas = atlas();
    assert_eq!(atlas.admit(Toll::Node(node(2)), s(10..20)), Ok(()));
    assert_eq!(atlas.admit(Toll::Node(node(5)), s(12..13)), Ok(()), "of the same zone");
    assert_eq!(atlas.admit(Toll::Zone(zone(2)), s(12..19)), Ok(()), "of another");
    assert_eq!(
        atlas.admit(Toll::Power, s(12..13)),
        Err(Rule::OneForEach),
        "its end would start those that are down"
    );
    assert_eq!(atlas.admit(Toll::Power, s(30..31)), Ok(()));
}

#[test]
fn while_the_harmed_zone_suffers_the_others_are_there_or_all_lose_power() {
    let mut atlas = atlas();
    for (toll, at) in [(Toll::Media(node(1)), 0), (Toll::State(node(1)), 100)] {
        assert_eq!(atlas.admit(toll, s(at + 10..at + 20)), Ok(()));
        for away in [Toll::Node(node(2)), Toll::Zone(zone(2))] {
            assert_eq!(atlas.admit(away, s(at + 19..at + 21)), Err(Rule::NotBesideHarm), "{away:?}");
        }
        assert_eq!(atlas.admit(Toll::Power, s(at + 12..at + 13)), Ok(()));
        assert_eq!(atlas.admit(Toll::Node(node(4)), s(at + 14..at + 15)), Ok(()), "of the harmed zone");
        assert_eq!(
            atlas.admit(Toll::Node(node(3)), s(at + 20..at + 21)),
            Ok(()),
            "one ends as the other begins"
        );
        assert_eq!(
            atlas.admit(Toll::Media(node(4)), s(at + 19..at + 21)),
            Err(Rule::NotBesideHarm),
            "the other way round"
        );
        assert_eq!(atlas.admit(Toll::Power, s(at + 30..at + 31)), Ok(()));
        assert_eq!(
            atlas.admit(Toll::Media(node(4)), s(at + 30..at + 31)),
            Ok(()),
            "harm in the middle of it"
        );
    }
}

#[test]
fn a_node_has_one_misfortune_at_a_time() {
    let mut atlas = atlas();
    assert_eq!(atlas.admit(Toll::Node(node(1)), s(0..10)), Ok(()));
    for toll in [Toll::Media(node(1)), Toll::Zone(zone(0)), Toll::State(node(1))] {
        assert_eq!(atlas.admit(toll, s(9..11)), Err(Rule::OneForEach), "{toll:?}");
    }
    assert_eq!(atlas.admit(Toll::Clock(node(1)), s(0..10)), Ok(()), "clocks besides");
    assert_eq!(atlas.admit(Toll::Clock(node(1)), s(9..11)), Err(Rule::OneForEach));
    assert_eq!(atlas.admit(Toll::Disorder, s(0..10)), Ok(()));
    assert_eq!(atlas.admit(Toll::Disorder, s(9..11)), Err(Rule::OneForEach));
}
