//! What goes wrong when: a schedule from the seed that stays within what Strongroom promises to survive.
//!
//! [`episodes`] are the kinds of misfortune; [`atlas`] knows the promise and says which of them may meet. Several tracks of episodes are drawn from
//! the seed; one that the atlas does not admit is dropped for another a little later.

pub mod atlas;
pub mod episodes;
pub mod text;

use self::atlas::Atlas;
use self::episodes::Scene;
use super::draws::Draws;
use super::drives::DriveWeather;
use super::net::Weather;
use super::system::Shape;
use super::world::{End, World};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

/// One thing that happens to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node ends.
    Kill(NodeId, End),
    /// A node ends once its tasks were polled so many times more, in this life or the next.
    KillAtPoll(NodeId, u64, End),
    /// It does not any more.
    Disarm(NodeId),
    /// A node that is down starts.
    Boot(NodeId),
    /// A node's process stands still.
    Pause(NodeId),
    /// It goes on.
    Resume(NodeId),
    /// A zone is cut off.
    CutZone(ZoneId),
    /// Nothing gets from one node to another.
    Cut(NodeId, NodeId),
    /// What gets in or out of a zone takes so much longer.
    SlowZone(ZoneId, Duration),
    /// A node takes requests and answers none.
    Mute(NodeId),
    /// All cuts are mended, no zone is slow, nobody is mute.
    Mend,
    /// The network's weather changes.
    Weather(Weather),
    /// A drive's weather changes.
    DriveWeather(NodeId, usize, DriveWeather),
    /// A drive is replaced by an empty one, its node being down.
    Erase(NodeId, usize),
    /// What is on a drive now is remembered.
    Remember(NodeId, usize),
    /// A drive is again what was remembered of it, its node being down.
    Revert(NodeId, usize),
    /// Bits of a drive rot: how many bytes, at places drawn from this.
    Rot(NodeId, usize, u32, u64),
    /// A node loses its state directory, being down.
    EraseState(NodeId),
    /// A node's state directory loses so many of the last batches that were synced, the node being down.
    RollBackState(NodeId, usize),
    /// A bit flips in one value of a node's state directory, the node being down; which one is drawn from this.
    CorruptState(NodeId, u64),
    /// A node's calendar jumps.
    Skew(NodeId, i64),
    /// The operator has a node emptied, or the drive in this place of it, as soon as somebody takes the order.
    BeginDrain(NodeId, Option<usize>),
    /// The operator has it used again.
    EndDrain(NodeId, Option<usize>),
    /// A node's monotonic clock runs so many millionths too fast, or too slow if negative.
    Drift(NodeId, i32),
}

impl Event {
    /// The node whose media it harms.
    pub fn harms(self) -> Option<NodeId> {
        match self {
            Self::DriveWeather(node, _, weather) if weather.harms() => Some(node),
            Self::Erase(node, _) | Self::Revert(node, _) | Self::Rot(node, ..) => Some(node),
            Self::Kill(..)
            | Self::KillAtPoll(..)
            | Self::Disarm(_)
            | Self::Boot(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::CutZone(_)
            | Self::Cut(..)
            | Self::SlowZone(..)
            | Self::Mute(_)
            | Self::Mend
            | Self::Weather(_)
            | Self::DriveWeather(..)
            | Self::Remember(..)
            | Self::EraseState(_)
            | Self::RollBackState(..)
            | Self::CorruptState(..)
            | Self::BeginDrain(..)
            | Self::EndDrain(..)
            | Self::Skew(..)
            | Self::Drift(..) => None,
        }
    }
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
    pub nodes: BTreeMap<NodeId, ZoneId>,
    /// Drives of each node.
    pub drives_per_node: usize,
    /// Whether bytes on media are harmed too.
    pub media: bool,
    /// Whether state directories are harmed too.
    pub state: bool,
    /// Whether drives have room for what others hold.
    pub roomy: bool,
}

impl Targets {
    /// What there is in a world that was furnished for a system of this shape.
    pub fn of_world(world: &World, shape: &Shape) -> Self {
        let nodes: BTreeMap<NodeId, ZoneId> = world.nodes().into_iter().collect();
        let drives_per_node = nodes.keys().map(|node| world.drives(*node).len()).min().unwrap_or(0);
        // In drives that are full slabs stay copies, so what the harmed zone loses is never made whole by becoming cold: too little is left of the
        // promise there for other harm.
        let lens = nodes.keys().flat_map(|node| world.drives(*node)).map(|drive| drive.media.len_bytes());
        let cramped = lens.collect::<BTreeSet<u64>>().len() > 1;
        let (media, state) = (shape.survives_media_faults && !cramped, shape.survives_state_faults);
        Self { nodes, drives_per_node, media, state, roomy: !cramped }
    }

    /// All zones.
    pub fn zones(&self) -> Vec<ZoneId> {
        let mut zones: Vec<ZoneId> = self.nodes.values().copied().collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }

    /// The nodes of a zone.
    pub fn of(&self, zone: ZoneId) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, of)| **of == zone).map(|(node, _)| *node).collect()
    }
}

/// Episodes that may go on at once.
const TRACKS: usize = 2;
const LASTS: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_secs(12);
const BETWEEN: std::ops::Range<Duration> = Duration::from_millis(1)..Duration::from_secs(6);

/// Draws a schedule that fills `span`.
pub fn draw(draws: &mut Draws, targets: &Targets, span: Duration) -> Schedule {
    let mut atlas = Atlas::new(&targets.nodes, *draws.pick(&targets.zones()));
    let mut schedule = Schedule::default();
    for _ in 0..TRACKS {
        let mut at = draws.duration(BETWEEN);
        while at < span {
            let lasts = draws.duration(LASTS);
            let scene = Scene::draw(draws, targets, atlas.harmed_zone(), at, lasts);
            if atlas.admit(scene.toll(), scene.span()).is_ok() {
                scene.play(draws, targets, &mut schedule.events);
                at = scene.span().end;
            }
            at += draws.duration(BETWEEN);
        }
    }
    schedule.events.sort_by_key(|(at, _)| *at);
    schedule
}

#[cfg(test)]
mod tests;
