//! Stories with a name: what chance brings too seldom, and what lies beyond the promise.

use super::drives::DriveWeather;
use super::faults::{Event, Schedule};
use super::net::Weather;
use super::operation::{Operation, Outcome};
use super::workload::Clients;
use super::world::End;
use std::time::Duration;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{NodeId, ZoneId};

/// A story. The seed decides everything that it leaves open.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens.
    pub what: &'static str,
    /// How.
    pub story: Story,
}

/// What happens instead of faults drawn from the seed.
pub enum Story {
    /// These faults, with clients at work, and then everything must come back.
    Faults(fn(&[(NodeId, ZoneId)]) -> Schedule),
    /// See [`rot_of_all_copies`].
    RotOfAllCopies,
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario { name: "calm", what: "nothing fails", story: Story::Faults(|_| Schedule::default()) },
    Scenario {
        name: "writer-silent-and-alive",
        what: "one node after the other is heard by none and hears all, longer than silence is borne",
        story: Story::Faults(writer_silent),
    },
    Scenario {
        name: "zone-cut-for-long",
        what: "each zone in turn is cut off longer than silence is borne",
        story: Story::Faults(zone_cut),
    },
    Scenario {
        name: "harsh-network",
        what: "of all messages many are lost or late, and zones are cut off",
        story: Story::Faults(harsh_network),
    },
    Scenario {
        name: "drives-die-one-by-one",
        what: "the drives of a zone die, and their nodes go on",
        story: Story::Faults(drives_die),
    },
    Scenario {
        name: "rot-of-all-copies",
        what: "every copy of an acknowledged row rots before its slab is sealed: beyond the promise, so there must be an alarm",
        story: Story::RotOfAllCopies,
    },
];

/// Longer than a writer's silence is borne, by some walks of the caretaker.
const SILENCE: Duration = Duration::from_secs(16);
const PAUSE: Duration = Duration::from_secs(5);

fn writer_silent(nodes: &[(NodeId, ZoneId)]) -> Schedule {
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

fn zone_cut(nodes: &[(NodeId, ZoneId)]) -> Schedule {
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
const HARSH: Weather = Weather { lost: 120_000, duplicated: 20_000, slow: 150_000 };

fn harsh_network(nodes: &[(NodeId, ZoneId)]) -> Schedule {
    let mut schedule = zone_cut(nodes);
    schedule.events.insert(0, (Duration::from_secs(1), Event::Weather(HARSH)));
    schedule
}

fn drives_die(nodes: &[(NodeId, ZoneId)]) -> Schedule {
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

/// Whether an alarm says that bytes are lost. One that says what silent holders may still have does not.
pub fn is_loss(alarm: &str) -> bool {
    !alarm.ends_with("holders that do not answer may have them")
}

const ROW_COUNT: usize = 12;
const ALARM_WITHIN: Duration = Duration::from_secs(60);
/// How the bytes of a value are searched for on media.
const SEARCH_LEN_BYTES: usize = 4 << 20;

/// Objects are stored and acknowledged, all nodes are killed before anything is sealed, and each place on any drive where the first object's bytes
/// stand rots. Bytes are lost then; that nobody is told must not be.
pub async fn rot_of_all_copies(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    // A late message would roll the slab, and then the row that rots might be the last of its slab: no row behind it tells that it was committed.
    world.network().set_weather(Weather::default());
    // Buckets are made by the first who need them.
    let mail: Vec<&String> = clients.history.keys().iter().step_by(2).collect();
    while clients.write_one(mail[0]).await.is_none() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (key, mut value) = (mail[1], None);
    // One after the other, each a row of its own, so that the rows behind the one that rots know that it is committed.
    for number in 0..ROW_COUNT {
        let key = if number == ROW_COUNT / 2 { key } else { mail[2] };
        let Some(stored) = clients.write_one(key).await else {
            return vec!["live: an object is not stored, and nothing fails".to_owned()];
        };
        if number == ROW_COUNT / 2 {
            value = Some(stored);
        }
    }
    let value = value.expect("stored half way");
    let nodes = world.nodes();
    for (node, _) in &nodes {
        cluster.kill(*node, End::Crash);
    }
    let mut copies = 0;
    // The frame's middle: the beginning is a number that others share parts of.
    let bytes = value.bytes();
    let needle = &bytes[4000..4032];
    for drive in nodes.iter().flat_map(|(node, _)| world.drives(*node)) {
        let mut at = 0;
        while at < drive.media.len_bytes() {
            let len =
                SEARCH_LEN_BYTES.min(usize::try_from(drive.media.len_bytes() - at).expect("a small drive"));
            let window = drive.media.peek(at, len);
            for found in memchr_all(&window, needle) {
                drive.media.rot(at + found as u64, 0x10);
                copies += 1;
            }
            // Overlapping, so that no place is cut in two.
            at += (len - if len == SEARCH_LEN_BYTES { BLOCK_LEN_BYTES as usize } else { 0 }) as u64;
        }
    }
    world.trace().line(format_args!("{key} {value} rots in {copies} places"));
    if copies < 2 {
        return vec![format!("the scenario is wrong: {key} {value} stands in {copies} places")];
    }
    for (node, _) in &nodes {
        cluster.boot(*node);
    }
    let until = tokio::time::Instant::now() + ALARM_WITHIN;
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if cluster.all_found().alarms.iter().any(|alarm| is_loss(alarm)) {
            break;
        }
    }
    let alarms = cluster.all_found().alarms;
    let mut violations = Vec::new();
    if !alarms.iter().any(|alarm| is_loss(alarm)) {
        violations.push(format!(
            "all copies of acknowledged {key} {value} are damaged, and no alarm says so within {ALARM_WITHIN:?}: {alarms:?}"
        ));
    }
    let get = Operation::Get { key: key.to_owned() };
    for (node, _) in &nodes {
        match cluster.ask(*node, get.clone(), Duration::from_secs(20), true, Duration::ZERO).await {
            Outcome::Unknown(_) | Outcome::Refused(_) => {}
            other => violations.push(format!("I9: damaged {key} by {node}: {other}")),
        }
    }
    violations
}

fn memchr_all<'a>(hay: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = needle[0];
    hay.iter()
        .enumerate()
        .filter(move |(at, byte)| **byte == first && hay[*at..].starts_with(needle))
        .map(|(at, _)| at)
}
