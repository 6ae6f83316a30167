//! Who replaces whom.

use super::{Sitter, Step, Table};
use crate::raft_id::RaftId;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use strongroom_types::{GroupId, NodeId, ZoneId};

fn id(node: u64, incarnation: u32) -> u64 {
    RaftId::new(NodeId::new(node), incarnation).unwrap().to_bits()
}

fn set(ids: &[(u64, u32)]) -> BTreeSet<u64> {
    ids.iter().map(|(node, incarnation)| id(*node, *incarnation)).collect()
}

/// Nodes 1 to `count`, in three zones by turns, all of them fit.
fn all_fit(count: u64) -> BTreeMap<NodeId, Sitter> {
    let zone = |node: u64| ZoneId::new(u8::try_from((node - 1) % 3 + 1).unwrap());
    let sitter =
        |node| Sitter { zone: zone(node), is_lost: false, is_fit: true, is_leaving: false, seats: 0 };
    (1..=count).map(|node| (NodeId::new(node), sitter(node))).collect()
}

fn lose(sitters: &mut BTreeMap<NodeId, Sitter>, nodes: &[u64]) {
    for node in nodes {
        let sitter = sitters.get_mut(&NodeId::new(*node)).unwrap();
        (sitter.is_lost, sitter.is_fit) = (true, false);
    }
}

fn look(
    sitters: &BTreeMap<NodeId, Sitter>,
    configs: &[&[(u64, u32)]],
    learners: &[(u64, u32)],
    given: &[(u64, u32)],
) -> Option<Step> {
    let configs: Vec<_> = configs.iter().map(|config| set(config)).collect();
    let ids = configs.iter().flatten().copied().chain(set(learners)).collect();
    let enrolments: BTreeMap<_, _> = given.iter().map(|(node, last)| (NodeId::new(*node), *last)).collect();
    let (configs, ids, enrolments) = (&configs[..], &ids, &enrolments);
    Table { group: None, configs, ids, sitters, enrolments, leader: id(1, 0) }.next_step()
}

fn step(configs: &[&[(u64, u32)]], learners: &[(u64, u32)], given: &[(u64, u32)]) -> Option<Step> {
    look(&all_fit(3), configs, learners, given)
}

/// Each of these takes the place of the one before it.
fn replace(new: &[(u64, u32)]) -> Step {
    Step::Replace(new.iter().map(|(node, given)| (id(*node, given - 1), id(*node, *given))).collect())
}

/// Each first goes, each second comes.
fn moves(pairs: &[(u64, u64)]) -> Option<Step> {
    Some(Step::Replace(pairs.iter().map(|(old, new)| (id(*old, 0), id(*new, 0))).collect()))
}

const ALL: &[(u64, u32)] = &[(1, 0), (2, 0), (3, 0)];

#[test]
fn nothing_is_done_where_everybody_is_who_they_were() {
    assert_eq!(step(&[ALL], &[], &[]), None);
    assert_eq!(step(&[&[(1, 0), (2, 4), (3, 0)]], &[], &[(2, 4)]), None);
    assert_eq!(step(&[ALL], &[], &[(9, 3)]), None, "another group's voter");
    assert_eq!(look(&all_fit(9), &[ALL], &[], &[]), None, "who joins takes nobody's seat");
}

#[test]
fn voters_are_replaced_one_at_a_time_and_half_done_changes_are_finished_first() {
    assert_eq!(step(&[ALL], &[], &[(2, 1), (3, 1)]), Some(replace(&[(2, 1), (3, 1)])));
    assert_eq!(step(&[ALL], &[(2, 1)], &[(2, 1)]), Some(replace(&[(2, 1)])));
    let joint: &[&[(u64, u32)]] = &[ALL, &[(1, 0), (2, 1), (3, 0)]];
    assert_eq!(step(joint, &[], &[(2, 2)]), Some(Step::Finish(set(&[(1, 0), (2, 1), (3, 0)]))));
    let after: &[&[(u64, u32)]] = &[&[(1, 0), (2, 1), (3, 0)]];
    assert_eq!(step(after, &[], &[(2, 2)]), Some(replace(&[(2, 2)])));
}

#[test]
fn learners_of_an_earlier_life_are_forgotten_and_a_late_answer_takes_nothing_back() {
    assert_eq!(step(&[ALL], &[(2, 1)], &[(2, 2)]), Some(Step::Forget(set(&[(2, 1)]))));
    assert_eq!(step(&[&[(1, 0), (2, 2), (3, 0)]], &[], &[(2, 1)]), None);
}

#[test]
fn a_lost_voter_is_replaced_in_its_zone_first_and_then_where_voters_are_fewest() {
    let mut sitters = all_fit(6);
    lose(&mut sitters, &[2]);
    assert_eq!(look(&sitters, &[ALL], &[], &[]), moves(&[(2, 5)]));
    lose(&mut sitters, &[5]);
    let Some(Step::Replace(pairs)) = look(&sitters, &[ALL], &[], &[]) else { panic!("a seat is to move") };
    assert!(pairs == [(id(2, 0), id(4, 0))] || pairs == [(id(2, 0), id(6, 0))], "{pairs:?}");
    lose(&mut sitters, &[4, 6]);
    assert_eq!(look(&sitters, &[ALL], &[], &[]), None, "nobody is left who could sit there");
}

#[test]
fn who_learns_already_is_kept_and_who_has_few_seats_comes_first() {
    let mut sitters = all_fit(8);
    lose(&mut sitters, &[2]);
    sitters.get_mut(&NodeId::new(5)).unwrap().seats = 3;
    assert_eq!(look(&sitters, &[ALL], &[], &[]), moves(&[(2, 8)]));
    assert_eq!(look(&sitters, &[ALL], &[(5, 0)], &[]), moves(&[(2, 5)]));
    // It came back in the meantime: nobody is to learn any more.
    assert_eq!(look(&all_fit(8), &[ALL], &[(5, 0)], &[]), Some(Step::Forget(set(&[(5, 0)]))));
}

#[test]
fn a_node_that_enrolled_sits_down_as_who_it_is_now() {
    let mut sitters = all_fit(5);
    lose(&mut sitters, &[2]);
    let expected = Step::Replace(vec![(id(2, 0), id(5, 3))]);
    assert_eq!(look(&sitters, &[ALL], &[], &[(5, 3)]), Some(expected));
    // One that is lost is replaced by another, also where it had come back without its state.
    assert_eq!(look(&sitters, &[ALL], &[(2, 1)], &[(2, 1)]), Some(Step::Forget(set(&[(2, 1)]))));
}

#[test]
fn voters_of_a_lost_zone_go_to_the_others_and_back_when_it_returns() {
    let mut sitters = all_fit(6);
    lose(&mut sitters, &[3, 6]);
    let Some(Step::Replace(pairs)) = look(&sitters, &[ALL], &[], &[]) else { panic!("a seat is to move") };
    let new = RaftId::from_bits(pairs[0].1).node().get();
    assert!(pairs.len() == 1 && [4, 5].contains(&new), "{pairs:?}");
    let two_zones: &[(u64, u32)] = &[(1, 0), (2, 0), (new, 0)];
    assert_eq!(look(&sitters, &[two_zones], &[], &[]), None, "no better place is there");
    sitters = all_fit(6);
    let Some(Step::Replace(pairs)) = look(&sitters, &[two_zones], &[], &[]) else { panic!("back") };
    let (old, back) =
        (RaftId::from_bits(pairs[0].0).node().get(), RaftId::from_bits(pairs[0].1).node().get());
    assert!(pairs.len() == 1 && old % 3 == new % 3 && old != 1 && [3, 6].contains(&back), "{pairs:?}");
}

proptest! {
    /// However nodes fall: steps end, each leaves a working majority of those that are there, nobody sits twice, and in the end no seat is lost that
    /// somebody could take.
    #[test]
    fn steps_end_with_seats_that_are_taken(lost in proptest::collection::btree_set(1_u64..10, 0..7), group in 0_u16..9) {
        let mut sitters = all_fit(9);
        let lost: Vec<u64> = lost.into_iter().collect();
        lose(&mut sitters, &lost);
        let mut voters = set(ALL);
        let is_lost = |id: &u64| lost.contains(&RaftId::from_bits(*id).node().get());
        prop_assume!(voters.iter().filter(|id| is_lost(id)).count() <= 1);
        let enrolments = BTreeMap::new();
        for _ in 0..10 {
            let configs = [voters.clone()];
            let leader = *voters.iter().find(|id| !is_lost(id)).unwrap();
            let table = Table {
                group: Some(GroupId::new(group)), configs: &configs, ids: &voters, sitters: &sitters, enrolments: &enrolments, leader,
            };
            let Some(step) = table.next_step() else { break };
            let Step::Replace(pairs) = step else { panic!("{step:?}") };
            let (old, new) = pairs[0];
            let mut next = voters.clone();
            prop_assert!(next.remove(&old) && next.insert(new));
            prop_assert!(!is_lost(&new));
            voters = next;
        }
        let configs = [voters.clone()];
        let leader = *voters.iter().find(|id| !is_lost(id)).unwrap();
        let table = Table { group: None, configs: &configs, ids: &voters, sitters: &sitters, enrolments: &enrolments, leader };
        prop_assert_eq!(table.next_step(), None);
        let free = (1..10).filter(|node| !lost.contains(node)).count();
        prop_assert!(free < 3 || !voters.iter().any(is_lost));
        let zones = |ids: &mut dyn Iterator<Item = u64>| ids.map(|node| (node - 1) % 3).collect::<BTreeSet<_>>().len();
        let there = zones(&mut (1..10).filter(|node| !lost.contains(node)));
        let seated = zones(&mut voters.iter().filter(|id| !is_lost(id)).map(|id| RaftId::from_bits(*id).node().get()));
        prop_assert!(free < 3 || seated == there.min(3));
    }
}

fn leave(sitters: &mut BTreeMap<NodeId, Sitter>, nodes: &[u64]) {
    for node in nodes {
        sitters.get_mut(&NodeId::new(*node)).unwrap().is_leaving = true;
    }
}

#[test]
fn seats_of_who_is_to_be_emptied_go_to_who_stays_in_its_zone_and_wait_where_there_is_nobody() {
    let mut sitters = all_fit(6);
    leave(&mut sitters, &[2]);
    assert_eq!(look(&sitters, &[ALL], &[], &[]), moves(&[(2, 5)]));
    let after: &[(u64, u32)] = &[(1, 0), (3, 0), (5, 0)];
    assert_eq!(look(&sitters, &[after], &[], &[]), None);
    // The leader moves itself last.
    leave(&mut sitters, &[1]);
    assert_eq!(look(&sitters, &[ALL], &[], &[]), moves(&[(2, 5), (1, 4)]));
    // Nobody of the zone stays: two voters of another zone would be lost with that.
    leave(&mut sitters, &[5]);
    assert_eq!(look(&sitters, &[ALL], &[], &[]), moves(&[(1, 4)]));
    let mut sitters = all_fit(6);
    leave(&mut sitters, &[2]);
    lose(&mut sitters, &[5]);
    assert_eq!(look(&sitters, &[ALL], &[], &[]), None);
    // But a zone that has no voter will do.
    sitters.get_mut(&NodeId::new(6)).unwrap().zone = ZoneId::new(4);
    assert_eq!(look(&sitters, &[ALL], &[], &[]), moves(&[(2, 6)]));
}

#[test]
fn a_lost_seat_goes_to_who_is_to_be_emptied_only_where_its_zone_has_nobody_else() {
    let mut sitters = all_fit(8);
    lose(&mut sitters, &[2]);
    leave(&mut sitters, &[5]);
    assert_eq!(look(&sitters, &[ALL], &[], &[]), moves(&[(2, 8)]));
    lose(&mut sitters, &[8]);
    assert_eq!(look(&sitters, &[ALL], &[], &[]), moves(&[(2, 5)]), "better than two voters of one zone");
    let after: &[(u64, u32)] = &[(1, 0), (3, 0), (5, 0)];
    assert_eq!(look(&sitters, &[after], &[], &[]), None, "and so it stays");
}
