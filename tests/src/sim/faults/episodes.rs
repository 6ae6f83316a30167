//! The kinds of misfortune: what each takes from the cluster, and what happens in it.

use super::atlas::Toll;
use super::{Event, Targets};
use crate::sim::draws::Draws;
use crate::sim::drives::{DriveWeather, HANGS};
use crate::sim::net::Weather;
use crate::sim::world::End;
use std::ops::Range;
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

/// A kind of misfortune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Episode {
    /// A node is down for a while.
    OneNodeDown,
    /// A node ends and starts, four times.
    OneNodeFlaps,
    /// A node ends wherever its tasks are after some polls.
    KilledAnywhere,
    /// A node ends while it starts, several times.
    KilledAtStart,
    /// A process stands still, for up to a minute.
    Paused,
    /// All nodes of a zone are down for a while.
    ZoneDown,
    /// A zone is cut off.
    ZoneCut,
    /// What gets in or out of a zone is late.
    ZoneSlow,
    /// A node is not heard by some, or does not hear them.
    OneWayCut,
    /// A node takes requests and answers none.
    Mute,
    /// Messages are lost, late, doubled, damaged.
    FoulNetwork,
    /// A calendar jumps.
    ClockJump,
    /// A monotonic clock runs fast or slow, and changes its mind.
    ClockDrift,
    /// Operations of a drive take a minute.
    HungDrive,
    /// Power fails everywhere.
    PowerFailsEverywhere,
    /// A drive fails in all ways that can be seen.
    SickDrive,
    /// A drive loses writes, puts them elsewhere and lies about flushes; then its power fails.
    LyingDrive,
    /// A drive comes back as it was some seconds ago; its node was started anew since, in most runs, so that the cluster can tell.
    StaleDrive,
    /// A drive dies and is replaced.
    DeadDrive,
    /// A drive is replaced while its node is down.
    ErasedDrive,
    /// Bits on a drive flip.
    Rot,
    /// A node's state directory is lost.
    StateErased,
    /// A node's state directory comes back older.
    StateRolledBack,
    /// A bit of a node's state directory flips.
    StateCorrupt,
    /// The operator has a drive emptied, or all of a node, and thinks better of it, or not.
    Drain,
}

/// An episode with its time and place.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    episode: Episode,
    node: NodeId,
    zone: ZoneId,
    drive: usize,
    at: Duration,
    over: Duration,
}

const USUAL: &[Episode] = &[
    Episode::OneNodeDown,
    Episode::OneNodeDown,
    Episode::OneNodeFlaps,
    Episode::KilledAnywhere,
    Episode::KilledAnywhere,
    Episode::KilledAtStart,
    Episode::Paused,
    Episode::ZoneDown,
    Episode::ZoneCut,
    Episode::ZoneSlow,
    Episode::OneWayCut,
    Episode::Mute,
    Episode::FoulNetwork,
    Episode::ClockJump,
    Episode::ClockDrift,
    Episode::ClockDrift,
    Episode::PowerFailsEverywhere,
    Episode::Drain,
];
const MEDIA: &[Episode] = &[
    Episode::SickDrive,
    Episode::SickDrive,
    Episode::LyingDrive,
    Episode::StaleDrive,
    Episode::DeadDrive,
    Episode::ErasedDrive,
    Episode::Rot,
];
const STATE: &[Episode] = &[Episode::StateErased, Episode::StateRolledBack, Episode::StateCorrupt];
/// Of a million episodes these many harm media, and these many state directories.
const HARMS_MEDIA: u32 = 300_000;
const HARMS_STATE: u32 = 80_000;
/// Drives hang for so long that few of it are enough.
const HANGS_NOW: u32 = 25_000;

/// All that can be seen at once: each operation may fail in one of these ways.
const SICK: DriveWeather = DriveWeather {
    read_error: 20_000,
    write_error: 15_000,
    flush_error: 15_000,
    short: 8_000,
    bad_place: 4_000,
    burst_count_max: 8,
    rot: 10_000,
    slow: 50_000,
    ..DriveWeather::FAIR
};
const LYING: DriveWeather = DriveWeather {
    lost_write: 20_000,
    misdirected: 10_000,
    lying_flush: 300_000,
    slow: 20_000,
    ..DriveWeather::FAIR
};
const DEAD: DriveWeather = DriveWeather { dead: true, ..DriveWeather::FAIR };
const HANGING: DriveWeather = DriveWeather { hangs: 3_000, slow: 50_000, ..DriveWeather::FAIR };

/// Longest pause of a process.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Between an end and the start after it, where nothing else says how long.
const BREATH: Range<Duration> = Duration::from_millis(10)..Duration::from_secs(2);
/// Of a million drives that come back older, so many belong to a node that was started anew since the image was taken.
const RESTARTED_SINCE: u32 = 750_000;
/// A node is polled some hundred times in a second, and a thousand or two while it starts.
const POLLS_MAX: u64 = 4_000;
const POLLS_AT_START_MAX: u64 = 3_000;
/// A clock runs fast or slow by up to 5 %.
const DRIFT_MAX: u64 = 50_000;
const BATCHES_MAX: usize = 64;
/// Of a million drains these many are of one drive, and of those that find room these many are not ended.
const DRAINS_A_DRIVE: u32 = 750_000;
const DRAINS_FOR_GOOD: u32 = 500_000;

impl Episode {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::OneNodeDown,
        Self::OneNodeFlaps,
        Self::KilledAnywhere,
        Self::KilledAtStart,
        Self::Paused,
        Self::ZoneDown,
        Self::ZoneCut,
        Self::ZoneSlow,
        Self::OneWayCut,
        Self::Mute,
        Self::FoulNetwork,
        Self::ClockJump,
        Self::ClockDrift,
        Self::HungDrive,
        Self::PowerFailsEverywhere,
        Self::SickDrive,
        Self::LyingDrive,
        Self::StaleDrive,
        Self::DeadDrive,
        Self::ErasedDrive,
        Self::Rot,
        Self::StateErased,
        Self::StateRolledBack,
        Self::StateCorrupt,
        Self::Drain,
    ];

    /// Draws one; whether it is one that harms for good.
    fn draw(draws: &mut Draws, targets: &Targets) -> (Self, bool) {
        if targets.media && targets.drives_per_node > 0 && draws.chance(HARMS_MEDIA) {
            return (*draws.pick(MEDIA), true);
        }
        if targets.state && draws.chance(HARMS_STATE) {
            return (*draws.pick(STATE), true);
        }
        if targets.drives_per_node > 0 && draws.chance(HANGS_NOW) {
            return (Self::HungDrive, false);
        }
        (*draws.pick(USUAL), false)
    }
}

impl Scene {
    /// Draws an episode that begins at `at` and lasts about `lasts`. What harms for good happens in `harmed`.
    pub fn draw(draws: &mut Draws, targets: &Targets, harmed: ZoneId, at: Duration, lasts: Duration) -> Self {
        let (episode, harms) = Episode::draw(draws, targets);
        let zone = if harms { harmed } else { *draws.pick(&targets.zones()) };
        let node = *draws.pick(&targets.of(zone));
        let drive = if targets.drives_per_node > 0 { draws.index(targets.drives_per_node) } else { 0 };
        let long = draws.duration(lasts..PAUSE_MAX);
        let over = match episode {
            Episode::Paused if draws.chance(250_000) => at + long,
            _ => at + lasts,
        };
        Self { episode, node, zone, drive, at, over }
    }

    /// What it takes from the cluster.
    pub fn toll(&self) -> Toll {
        match self.episode {
            Episode::OneNodeDown
            | Episode::OneNodeFlaps
            | Episode::KilledAnywhere
            | Episode::KilledAtStart
            | Episode::Paused
            | Episode::OneWayCut
            | Episode::Mute
            | Episode::HungDrive => Toll::Node(self.node),
            Episode::ZoneDown | Episode::ZoneCut | Episode::ZoneSlow => Toll::Zone(self.zone),
            Episode::FoulNetwork => Toll::Disorder,
            Episode::ClockJump | Episode::ClockDrift => Toll::Clock(self.node),
            Episode::PowerFailsEverywhere => Toll::Power,
            Episode::SickDrive
            | Episode::LyingDrive
            | Episode::StaleDrive
            | Episode::DeadDrive
            | Episode::ErasedDrive
            | Episode::Rot => Toll::Media(self.node),
            Episode::StateErased | Episode::StateRolledBack | Episode::StateCorrupt => Toll::State(self.node),
            Episode::Drain => Toll::Drain,
        }
    }

    /// When.
    pub fn span(&self) -> Range<Duration> {
        match self.episode {
            // An operation that began to hang at the end.
            Episode::HungDrive => self.at..self.over + HANGS,
            _ => self.at..self.over,
        }
    }

    /// Adds what happens.
    pub fn play(&self, draws: &mut Draws, targets: &Targets, events: &mut Vec<(Duration, Event)>) {
        let Self { node, zone, drive, at, over, .. } = *self;
        let lasts = over - at;
        let end = if draws.chance(500_000) { End::PowerCut } else { End::Crash };
        match self.episode {
            Episode::OneNodeDown => events.extend([(at, Event::Kill(node, end)), (over, Event::Boot(node))]),
            Episode::OneNodeFlaps => {
                for part in 0..4 {
                    let at = at + lasts * part / 4;
                    events.push((at, Event::Kill(node, end)));
                    events.push((at + draws.duration(Duration::ZERO..lasts / 4), Event::Boot(node)));
                }
            }
            Episode::KilledAnywhere => {
                let polls = 1 + draws.below(POLLS_MAX);
                events.extend([
                    (at, Event::KillAtPoll(node, polls, end)),
                    (over, Event::Disarm(node)),
                    (over, Event::Boot(node)),
                ]);
            }
            Episode::KilledAtStart => self.kill_at_start(draws, end, events),
            Episode::Paused => events.extend([(at, Event::Pause(node)), (over, Event::Resume(node))]),
            Episode::ZoneDown => {
                for node in targets.of(zone) {
                    events.push((at + draws.duration(Duration::ZERO..lasts / 4), Event::Kill(node, end)));
                    events.push((over - draws.duration(Duration::ZERO..lasts / 4), Event::Boot(node)));
                }
            }
            Episode::ZoneCut => events.extend([(at, Event::CutZone(zone)), (over, Event::Mend)]),
            Episode::ZoneSlow => {
                let longer = draws.duration(Duration::from_millis(20)..Duration::from_millis(600));
                events.extend([(at, Event::SlowZone(zone, longer)), (over, Event::Mend)]);
            }
            Episode::OneWayCut => {
                for other in targets.nodes.keys().filter(|other| **other != node) {
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
            Episode::Mute => events.extend([(at, Event::Mute(node)), (over, Event::Mend)]),
            Episode::FoulNetwork => {
                events.extend([(at, Event::Weather(Weather::FOUL)), (over, Event::Weather(Weather::FAIR))]);
            }
            Episode::ClockJump => {
                let skew_ms = i64::try_from(draws.below(7_200_000)).expect("two hours") - 3_600_000;
                // Clients sign by the right time; within the 15 minutes that signatures allow, but for one in four.
                let skew_ms = if draws.chance(250_000) { skew_ms } else { skew_ms / 8 };
                events.extend([(at, Event::Skew(node, skew_ms)), (over, Event::Skew(node, 0))]);
            }
            Episode::ClockDrift => {
                for at in [at, at + lasts / 2] {
                    let drift = i32::try_from(draws.below(2 * DRIFT_MAX + 1)).expect("a small number");
                    let most = i32::try_from(DRIFT_MAX).expect("a small number");
                    events.push((at, Event::Drift(node, drift - most)));
                }
                events.push((over, Event::Drift(node, 0)));
            }
            Episode::HungDrive => events.extend([
                (at, Event::DriveWeather(node, drive, HANGING)),
                (over, Event::DriveWeather(node, drive, DriveWeather::FAIR)),
            ]),
            Episode::PowerFailsEverywhere => {
                for node in targets.nodes.keys() {
                    events.push((at, Event::Kill(*node, End::PowerCut)));
                    let after = draws.duration(Duration::from_millis(10)..lasts);
                    events.push((at + after, Event::Boot(*node)));
                }
            }
            Episode::SickDrive => events.extend([
                (at, Event::DriveWeather(node, drive, SICK)),
                (over, Event::DriveWeather(node, drive, DriveWeather::FAIR)),
            ]),
            Episode::LyingDrive => events.extend([
                (at, Event::DriveWeather(node, drive, LYING)),
                // What a flush lied about is lost here, or never.
                (over, Event::Kill(node, End::PowerCut)),
                (over, Event::DriveWeather(node, drive, DriveWeather::FAIR)),
                (over + draws.duration(BREATH), Event::Boot(node)),
            ]),
            Episode::StaleDrive => {
                events.push((at, Event::Remember(node, drive)));
                if draws.chance(RESTARTED_SINCE) {
                    let at = at + draws.duration(Duration::ZERO..lasts / 4);
                    events.extend([(at, Event::Kill(node, end)), (at + lasts / 20, Event::Boot(node))]);
                }
                events.extend([
                    (over, Event::Kill(node, end)),
                    (over, Event::Revert(node, drive)),
                    (over + draws.duration(BREATH), Event::Boot(node)),
                ]);
            }
            Episode::DeadDrive => events.extend([
                (at, Event::DriveWeather(node, drive, DEAD)),
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
            Episode::StateErased => events.extend([
                (at, Event::Kill(node, end)),
                (at, Event::EraseState(node)),
                (over, Event::Boot(node)),
            ]),
            Episode::StateRolledBack => events.extend([
                (at, Event::Kill(node, end)),
                (at, Event::RollBackState(node, 1 + draws.index(BATCHES_MAX))),
                (over, Event::Boot(node)),
            ]),
            Episode::Drain => {
                let of_drive = draws.chance(DRAINS_A_DRIVE);
                let subject = of_drive.then_some(drive).filter(|_| targets.drives_per_node > 0);
                events.push((at, Event::BeginDrain(node, subject)));
                // Where a node has another drive all of it finds room.
                let has_room = targets.roomy && targets.drives_per_node > 1 && subject.is_some();
                if !(has_room && draws.chance(DRAINS_FOR_GOOD)) {
                    events.push((over, Event::EndDrain(node, subject)));
                }
            }
            Episode::StateCorrupt => events.extend([
                (at, Event::Kill(node, end)),
                (at, Event::CorruptState(node, draws.u64())),
                (over, Event::Boot(node)),
            ]),
        }
    }

    /// Each start is ended by the number of its polls, so anywhere in opening drives, logs and groups.
    fn kill_at_start(&self, draws: &mut Draws, end: End, events: &mut Vec<(Duration, Event)>) {
        let Self { node, at, over, .. } = *self;
        events.push((at, Event::Kill(node, end)));
        let starts = u32::try_from(2 + draws.below(4)).expect("a few");
        for start in 0..starts {
            let at = at + (over - at) * start / starts;
            let end = if draws.chance(500_000) { End::PowerCut } else { End::Crash };
            events.push((at, Event::KillAtPoll(node, 1 + draws.below(POLLS_AT_START_MAX), end)));
            events.push((at, Event::Boot(node)));
        }
        events.push((over, Event::Disarm(node)));
        events.push((over, Event::Boot(node)));
    }
}
