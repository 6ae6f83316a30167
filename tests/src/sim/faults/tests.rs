use super::episodes::Episode;
use super::{Event, Targets, draw};
use crate::sim::draws::Draws;
use std::collections::BTreeSet;
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

fn targets() -> Targets {
    let nodes = (0..6).map(|number| (NodeId::new(number + 1), ZoneId::new((number % 3) as u8))).collect();
    Targets { nodes, drives_per_node: 2, media: true, state: true, roomy: true }
}

#[test]
fn bytes_are_harmed_in_one_zone_only() {
    let targets = targets();
    let mut harmed_runs = 0;
    for seed in 0..300 {
        let schedule = draw(&mut Draws::new(seed), &targets, Duration::from_secs(120));
        let mut zones = BTreeSet::new();
        for (_, event) in &schedule.events {
            let state = match event {
                Event::EraseState(node) | Event::RollBackState(node, _) | Event::CorruptState(node, _) => {
                    Some(*node)
                }
                _ => None,
            };
            zones.extend(event.harms().or(state).map(|node| targets.nodes[&node]));
        }
        assert!(zones.len() <= 1, "seed {seed} harms {zones:?}");
        harmed_runs += zones.len();
    }
    assert!(harmed_runs > 200, "media is harmed in {harmed_runs} of 300 runs");
}

#[test]
fn every_node_that_is_killed_is_booted_after_and_every_cut_mended() {
    for seed in 0..300 {
        let schedule = draw(&mut Draws::new(seed), &targets(), Duration::from_secs(120));
        assert!(schedule.events.is_sorted_by_key(|(at, _)| *at));
        let (mut down, mut still, mut armed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut cut = false;
        for (_, event) in &schedule.events {
            match event {
                Event::Kill(node, _) => drop(down.insert(*node)),
                Event::KillAtPoll(node, ..) => drop(armed.insert(*node)),
                Event::Disarm(node) => drop(armed.remove(node)),
                Event::Boot(node) => drop(down.remove(node)),
                Event::Pause(node) => drop(still.insert(*node)),
                Event::Resume(node) => drop(still.remove(node)),
                Event::CutZone(_) | Event::Cut(..) | Event::SlowZone(..) | Event::Mute(_) => cut = true,
                Event::Mend => cut = false,
                _ => {}
            }
        }
        assert!(down.is_empty() && still.is_empty() && armed.is_empty() && !cut, "seed {seed}: {down:?}");
    }
}

#[test]
fn only_what_finds_room_stays_to_be_emptied() {
    let left = |targets: &Targets| {
        let mut left = Vec::new();
        for seed in 0..200 {
            let mut begun = BTreeSet::new();
            for (_, event) in draw(&mut Draws::new(seed), targets, Duration::from_secs(120)).events {
                match event {
                    Event::BeginDrain(node, drive) => drop(begun.insert((node, drive))),
                    Event::EndDrain(node, drive) => drop(begun.remove(&(node, drive))),
                    _ => {}
                }
            }
            left.extend(begun);
        }
        left
    };
    let some = left(&targets());
    assert!(!some.is_empty() && some.iter().all(|(_, drive)| drive.is_some()), "{some:?}");
    assert_eq!(left(&Targets { roomy: false, ..targets() }), []);
    assert_eq!(left(&Targets { drives_per_node: 1, ..targets() }), []);
}

#[test]
fn all_kinds_happen() {
    let mut kinds = BTreeSet::new();
    for seed in 0..100 {
        for (_, event) in draw(&mut Draws::new(seed), &targets(), Duration::from_secs(120)).events {
            kinds.insert(format!("{event:?}").split('(').next().unwrap().to_owned());
        }
    }
    assert_eq!(kinds.len(), 24, "{kinds:?}");
    let names: BTreeSet<String> = Episode::ALL.iter().map(|episode| format!("{episode:?}")).collect();
    assert_eq!(names.len(), 25);
}
