//! Stories that are only a schedule of faults.

use crate::sim::draws::Draws;
use crate::sim::drives::DriveWeather;
use crate::sim::faults::{Event, Schedule};
use crate::sim::net::Weather;
use crate::sim::world::End;
use std::collections::BTreeMap;
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

/// Longer than a writer's silence is borne, by some walks of the caretaker.
const SILENCE: Duration = Duration::from_secs(16);
const PAUSE: Duration = Duration::from_secs(5);

pub(super) fn writer_silent(nodes: &[(NodeId, ZoneId)], _: &mut Draws) -> Schedule {
    let mut schedule = Schedule::default();
    let mut at = PAUSE;
    for (turn, (silent, _)) in nodes.iter().enumerate() {
        // Not heard by half of the others: of those, some lead groups and fence its slabs, while rows still get through elsewhere.
        for (place, (other, _)) in nodes.iter().filter(|(other, _)| other != silent).enumerate() {
            if (place + turn) % 2 == 0 {
                schedule.events.push((at, Event::Cut(*silent, *other)));
            }
        }
        schedule.events.push((at + SILENCE, Event::Mend));
        at += SILENCE + PAUSE;
    }
    schedule
}

pub(super) fn zone_cut(nodes: &[(NodeId, ZoneId)], _: &mut Draws) -> Schedule {
    let mut zones: Vec<ZoneId> = nodes.iter().map(|(_, zone)| *zone).collect();
    zones.sort_unstable();
    zones.dedup();
    let mut schedule = Schedule::default();
    let mut at = PAUSE;
    for zone in zones {
        schedule.events.extend([(at, Event::CutZone(zone)), (at + SILENCE, Event::Mend)]);
        at += SILENCE + PAUSE;
    }
    schedule
}

/// So much that a row is often at one holder only when its slab is given up, and that holder silent when it is sealed.
const HARSH: Weather = Weather { lost: 120_000, duplicated: 20_000, slow: 150_000, damaged: 0 };

pub(super) fn harsh_network(nodes: &[(NodeId, ZoneId)], draws: &mut Draws) -> Schedule {
    let mut schedule = zone_cut(nodes, draws);
    schedule.events.insert(0, (Duration::from_secs(1), Event::Weather(HARSH)));
    schedule
}

pub(super) fn drives_die(nodes: &[(NodeId, ZoneId)], _: &mut Draws) -> Schedule {
    let zone = nodes[0].1;
    let dead = DriveWeather { dead: true, ..DriveWeather::FAIR };
    let mut schedule = Schedule::default();
    let mut at = 2 * PAUSE;
    for (node, _) in nodes.iter().filter(|(_, of)| *of == zone) {
        schedule.events.push((at, Event::DriveWeather(*node, 0, dead)));
        at += PAUSE;
        schedule.events.push((at, Event::DriveWeather(*node, 0, DriveWeather::FAIR)));
        at += PAUSE;
    }
    schedule
}

const BREATH: Duration = Duration::from_millis(500);

/// Kills after 1, 4, 16, ... polls at most, of a start or of a node that serves.
pub(super) fn killed_at_every_step(nodes: &[(NodeId, ZoneId)], draws: &mut Draws) -> Schedule {
    let mut schedule = Schedule::default();
    let mut at = PAUSE;
    for round in 0..7_u32 {
        for (turn, (node, _)) in (0_u32..).zip(nodes) {
            let polls = 1 + draws.below(1 << (2 * ((round + turn) % 7)));
            let end = if draws.chance(500_000) { End::PowerCut } else { End::Crash };
            schedule.events.push((at, Event::KillAtPoll(*node, polls, end)));
            schedule.events.push((at + BREATH, Event::Boot(*node)));
            at += 2 * BREATH;
            schedule.events.push((at, Event::Disarm(*node)));
            schedule.events.push((at, Event::Boot(*node)));
        }
    }
    schedule
}

/// So slow that much is half done whenever somebody is killed.
const SLOW: Weather = Weather { lost: 20_000, duplicated: 0, slow: 400_000, damaged: 0 };
const KILLED_EVERY: Duration = Duration::from_millis(2500);

/// One node after the other is killed, and starts again, while each step that takes a few messages takes a while.
pub(super) fn killed_while_slow(nodes: &[(NodeId, ZoneId)], draws: &mut Draws) -> Schedule {
    let mut schedule = Schedule::default();
    schedule.events.push((PAUSE, Event::Weather(SLOW)));
    let mut at = PAUSE;
    for _ in 0..30 {
        at += KILLED_EVERY / 2 + draws.duration(Duration::ZERO..KILLED_EVERY);
        let (node, _) = nodes[draws.index(nodes.len())];
        let end = if draws.chance(500_000) { End::PowerCut } else { End::Crash };
        schedule.events.push((at, Event::Kill(node, end)));
        schedule.events.push((at + BREATH, Event::Boot(node)));
    }
    schedule
}

/// Long enough for a writer to give a holder up, short enough that nobody else takes it for gone.
const LATE: Duration = Duration::from_millis(300);

/// Nodes hear nothing of one holder and then, of those of its turn, of nobody else, so that whoever seals has one answer, from the one who knows
/// least. Nodes of the other turn keep the groups alive: each group has its voters on one node of each zone.
pub(super) fn holders_swap_silence(nodes: &[(NodeId, ZoneId)], draws: &mut Draws) -> Schedule {
    let mut turns: BTreeMap<ZoneId, Vec<NodeId>> = BTreeMap::new();
    for (node, zone) in nodes {
        turns.entry(*zone).or_default().push(*node);
    }
    let zones: Vec<&Vec<NodeId>> = turns.values().collect();
    let mut schedule = Schedule::default();
    let mut at = PAUSE;
    for round in 0..12_usize {
        let turn = draws.index(zones[0].len());
        let late = round % zones.len();
        let late_node = zones[late][turn];
        for (other, _) in nodes.iter().filter(|(other, _)| *other != late_node) {
            schedule.events.push((at, Event::Cut(*other, late_node)));
        }
        at += LATE / 4 + draws.duration(Duration::ZERO..LATE);
        schedule.events.push((at, Event::Mend));
        for silent in (0..zones.len()).filter(|zone| *zone != late).map(|zone| zones[zone][turn]) {
            for (other, _) in nodes.iter().filter(|(other, _)| *other != silent) {
                schedule.events.push((at, Event::Cut(silent, *other)));
                schedule.events.push((at, Event::Cut(*other, silent)));
            }
        }
        at += Duration::from_secs(4);
        schedule.events.push((at, Event::Mend));
        at += Duration::from_secs(1);
    }
    schedule
}

pub(super) fn slow_zone_dies(nodes: &[(NodeId, ZoneId)], draws: &mut Draws) -> Schedule {
    let zone = nodes[draws.index(nodes.len())].1;
    let mut schedule = Schedule::default();
    schedule.events.push((PAUSE, Event::SlowZone(zone, Duration::from_millis(450))));
    let at = PAUSE + draws.duration(Duration::from_secs(10)..Duration::from_secs(25));
    for (node, _) in nodes.iter().filter(|(_, of)| *of == zone) {
        schedule.events.push((at, Event::Kill(*node, End::PowerCut)));
        schedule.events.push((at, Event::Erase(*node, 0)));
        schedule.events.push((at, Event::Erase(*node, 1)));
        schedule.events.push((at + PAUSE, Event::Boot(*node)));
    }
    schedule.events.push((at, Event::Mend));
    schedule.events.sort_by_key(|(at, _)| *at);
    schedule
}
