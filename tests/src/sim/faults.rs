//! What goes wrong when: a schedule from the seed that stays within what Strongroom promises to survive.
//!
//! Episodes follow each other, each harming nodes of one zone, in any way at all but one: bytes on media are harmed in one
//! zone of a run only, so that no second loss can meet a first one that is not repaired yet. Between episodes everything is
//! back, if only for a moment. Power may also fail everywhere at once, since what was acknowledged is on stable media.

use super::draws::Draws;
use super::drives::DriveWeather;
use super::net::Weather;
use super::world::End;
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

/// One thing that happens to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node ends.
    Kill(NodeId, End),
    /// A node that is down starts.
    Boot(NodeId),
    /// A zone is cut off.
    CutZone(ZoneId),
    /// Nothing gets from one node to another.
    Cut(NodeId, NodeId),
    /// All cuts are mended.
    Mend,
    /// The network's weather changes.
    Weather(Weather),
    /// A drive's weather changes.
    DriveWeather(NodeId, usize, DriveWeather),
    /// A drive is replaced by an empty one; its node is down then.
    Erase(NodeId, usize),
    /// Bits of a drive rot: how many bytes, at places drawn from this.
    Rot(NodeId, usize, u32, u64),
    /// A node's calendar jumps.
    Skew(NodeId, i64),
}

/// When what happens, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Times since the beginning of the safety phase.
    pub events: Vec<(Duration, Event)>,
}

/// What there is to be harmed.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The nodes with their zones.
    pub nodes: Vec<(NodeId, ZoneId)>,
    /// Drives of each node.
    pub drives_per_node: usize,
    /// Whether bytes on media are harmed too.
    pub media: bool,
}

impl Targets {
    fn zones(&self) -> Vec<ZoneId> {
        let mut zones: Vec<ZoneId> = self.nodes.iter().map(|(_, zone)| *zone).collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }

    fn of(&self, zone: ZoneId) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, of)| *of == zone).map(|(node, _)| *node).collect()
    }
}

/// What an episode is.
#[derive(Clone, Copy, Debug)]
enum Episode {
    OneNodeDown,
    OneNodeFlaps,
    ZoneDown,
    ZoneCut,
    OneWayCut,
    FoulNetwork,
    ClockJump,
    PowerFailsEverywhere,
    SickDrive,
    DeadDrive,
    ErasedDrive,
    Rot,
}

const USUAL: [Episode; 9] = [
    Episode::OneNodeDown,
    Episode::OneNodeDown,
    Episode::OneNodeFlaps,
    Episode::ZoneDown,
    Episode::ZoneCut,
    Episode::OneWayCut,
    Episode::FoulNetwork,
    Episode::ClockJump,
    Episode::PowerFailsEverywhere,
];
const MEDIA: [Episode; 4] = [Episode::SickDrive, Episode::DeadDrive, Episode::ErasedDrive, Episode::Rot];

const LASTS: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_secs(12);
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(1)..Duration::from_secs(6);
const SICK: DriveWeather = DriveWeather {
    read_error: 30_000,
    write_error: 20_000,
    lost_write: 10_000,
    misdirected: 5_000,
    rot: 10_000,
    slow: 50_000,
    dead: false,
};

/// Draws a schedule that fills `span`.
pub fn draw(draws: &mut Draws, targets: &Targets, span: Duration) -> Schedule {
    let zones = targets.zones();
    let media_zone = *draws.pick(&zones);
    let mut schedule = Schedule::default();
    let mut at = draws.duration(PAUSE);
    while at < span {
        let lasts = draws.duration(LASTS);
        let (zone, episode) = if targets.media && targets.drives_per_node > 0 && draws.chance(300_000) {
            (media_zone, *draws.pick(&MEDIA))
        } else {
            (*draws.pick(&zones), *draws.pick(&USUAL))
        };
        play(draws, targets, &mut schedule.events, zone, episode, at, lasts);
        at += lasts + draws.duration(PAUSE);
    }
    schedule.events.sort_by_key(|(at, _)| *at);
    schedule
}

fn play(
    draws: &mut Draws,
    targets: &Targets,
    events: &mut Vec<(Duration, Event)>,
    zone: ZoneId,
    episode: Episode,
    at: Duration,
    lasts: Duration,
) {
    let members = targets.of(zone);
    let node = *draws.pick(&members);
    let end = if draws.chance(500_000) { End::PowerCut } else { End::Crash };
    let drive = if targets.drives_per_node > 0 { draws.index(targets.drives_per_node) } else { 0 };
    let over = at + lasts;
    match episode {
        Episode::OneNodeDown => events.extend([(at, Event::Kill(node, end)), (over, Event::Boot(node))]),
        Episode::OneNodeFlaps => {
            for part in 0..4 {
                let at = at + lasts * part / 4;
                events.push((at, Event::Kill(node, end)));
                events.push((at + draws.duration(Duration::ZERO..lasts / 4), Event::Boot(node)));
            }
        }
        Episode::ZoneDown => {
            for node in members {
                events.push((at + draws.duration(Duration::ZERO..lasts / 4), Event::Kill(node, end)));
                events.push((over - draws.duration(Duration::ZERO..lasts / 4), Event::Boot(node)));
            }
        }
        Episode::ZoneCut => events.extend([(at, Event::CutZone(zone)), (over, Event::Mend)]),
        Episode::OneWayCut => {
            for (other, _) in targets.nodes.iter().filter(|(other, _)| *other != node) {
                if draws.chance(500_000) {
                    let cut = if draws.chance(500_000) {
                        Event::Cut(node, *other)
                    } else {
                        Event::Cut(*other, node)
                    };
                    events.push((at, cut));
                }
            }
            events.push((over, Event::Mend));
        }
        Episode::FoulNetwork => {
            events.extend([(at, Event::Weather(Weather::FOUL)), (over, Event::Weather(Weather::FAIR))]);
        }
        Episode::ClockJump => {
            let skew_ms = i64::try_from(draws.below(7_200_000)).expect("two hours") - 3_600_000;
            // Clients sign by the right time; within the 15 minutes that signatures allow, but for one in four.
            let skew_ms = if draws.chance(250_000) { skew_ms } else { skew_ms / 8 };
            events.extend([(at, Event::Skew(node, skew_ms)), (over, Event::Skew(node, 0))]);
        }
        Episode::PowerFailsEverywhere => {
            for (node, _) in &targets.nodes {
                events.push((at, Event::Kill(*node, End::PowerCut)));
                events.push((at + draws.duration(Duration::from_millis(10)..lasts), Event::Boot(*node)));
            }
        }
        Episode::SickDrive => events.extend([
            (at, Event::DriveWeather(node, drive, SICK)),
            (over, Event::DriveWeather(node, drive, DriveWeather::FAIR)),
        ]),
        Episode::DeadDrive => events.extend([
            (at, Event::DriveWeather(node, drive, DriveWeather { dead: true, ..DriveWeather::FAIR })),
            (over, Event::Kill(node, End::Crash)),
            (over, Event::Erase(node, drive)),
            (over, Event::DriveWeather(node, drive, DriveWeather::FAIR)),
            (over, Event::Boot(node)),
        ]),
        Episode::ErasedDrive => events.extend([
            (at, Event::Kill(node, end)),
            (at, Event::Erase(node, drive)),
            (over, Event::Boot(node)),
        ]),
        Episode::Rot => {
            let count = u32::try_from(1 + draws.below(64)).expect("below 65");
            events.push((at, Event::Rot(node, drive, count, draws.u64())));
        }
    }
}

#[cfg(test)]
mod tests;
