//! What is told of nodes and drives as events: changes only, and not what is found at this node's own start.

use crate::events::{Event, Events};
use std::collections::BTreeMap;
use strongroom_format::wire::message::DriveState;
use strongroom_types::{DriveId, NodeId};

/// What was told of a node last.
#[derive(Default)]
pub(super) struct Told {
    node: Node,
    /// Those that it has now: at most as many as a node may have.
    drives: BTreeMap<DriveId, Use>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Node {
    #[default]
    Unknown,
    Up,
    Down,
    GivenUp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Open,
    Suspect,
    Refused,
}

impl Told {
    /// The node answers, and has these drives.
    pub(super) fn heard(&mut self, node: NodeId, drives: &[DriveState], events: &Events) {
        match self.node {
            Node::Unknown | Node::Up => {}
            Node::Down | Node::GivenUp => events.tell(Event::NodeUp { node }),
        }
        self.node = Node::Up;
        let now: BTreeMap<DriveId, Use> = drives.iter().map(|state| (state.drive, use_of(state))).collect();
        for (drive, present) in &now {
            let (drive, before) = (*drive, self.drives.get(drive));
            if before == Some(present) {
                continue;
            }
            match present {
                // One that is not admitted yet takes nothing either: that passes, and is no news of a drive not seen before.
                Use::Suspect if before.is_none() => {}
                Use::Suspect => events.tell(Event::DriveSuspect { node, drive }),
                Use::Refused => events.tell(Event::DriveRefused { node, drive }),
                Use::Open if before.is_none() => {}
                Use::Open => events.tell(Event::DriveInUse { node, drive }),
            }
        }
        for drive in self.drives.keys().filter(|drive| !now.contains_key(drive)) {
            events.tell(Event::DriveGone { node, drive: *drive });
        }
        self.drives = now;
    }

    /// The node is down, and given up or not.
    pub(super) fn missed(&mut self, node: NodeId, given_up: bool, events: &Events) {
        if self.node == Node::Up || self.node == Node::Unknown {
            events.tell(Event::NodeDown { node });
            self.node = Node::Down;
        }
        if given_up && self.node == Node::Down {
            events.tell(Event::NodeGivenUp { node });
            self.node = Node::GivenUp;
        }
    }
}

fn use_of(state: &DriveState) -> Use {
    match (state.gone, state.writable) {
        (true, _) => Use::Refused,
        (false, true) => Use::Open,
        (false, false) => Use::Suspect,
    }
}

#[cfg(test)]
mod tests {
    use super::Told;
    use crate::events::Events;
    use crate::testing::StillClock;
    use std::sync::Arc;
    use strongroom_format::wire::message::DriveState;
    use strongroom_types::{DriveId, NodeId};

    const NODE: NodeId = NodeId::new(3);

    fn drive(writable: bool, gone: bool) -> DriveState {
        let (extents_total, extents_free) = (1, 1);
        DriveState {
            drive: DriveId::new(1),
            extents_total,
            extents_free,
            extent_len_bytes: 4096,
            writable,
            gone,
        }
    }

    #[test]
    fn each_change_is_told_once_and_the_start_is_not() {
        let events = Events::new(Arc::new(StillClock::default()));
        let mut told = Told::default();
        told.heard(NODE, &[drive(false, false)], &events);
        told.heard(NODE, &[drive(true, false)], &events);
        told.heard(NODE, &[drive(true, false)], &events);
        told.heard(NODE, &[drive(false, false)], &events);
        told.heard(NODE, &[drive(false, true)], &events);
        told.heard(NODE, &[drive(false, true)], &events);
        told.missed(NODE, false, &events);
        told.missed(NODE, false, &events);
        told.missed(NODE, true, &events);
        told.missed(NODE, true, &events);
        told.heard(NODE, &[], &events);
        told.heard(NODE, &[drive(false, true)], &events);
        let names: Vec<_> = events.after(0).told.iter().map(|told| told.event.name()).collect();
        let expected = [
            "drive_in_use",
            "drive_suspect",
            "drive_refused",
            "node_down",
            "node_given_up",
            "node_up",
            "drive_gone",
            "drive_refused",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_node_that_never_answered_is_told_as_down() {
        let events = Events::new(Arc::new(StillClock::default()));
        let mut told = Told::default();
        told.missed(NODE, false, &events);
        assert_eq!(events.after(0).told[0].event.name(), "node_down");
    }
}
