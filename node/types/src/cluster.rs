//! The cluster as one node sees it now: zones, nodes, drives, and who answers.
//!
//! A view, never an authority: it may choose where a new fragment goes; it may never weaken an ack rule.

use crate::ids::{DriveId, NodeId, ZoneId};
use crate::slab::Holder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is to be emptied: its fragments are made elsewhere, and it gets no new ones while there is another place for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DrainSubject {
    /// All drives of this node, those that it gets later included.
    Node(NodeId),
    /// This drive.
    Drive(DriveId),
}

impl DrainSubject {
    /// Whether what this holder has is to leave it.
    pub fn covers(self, holder: Holder) -> bool {
        match self {
            Self::Node(node) => holder.node == node,
            Self::Drive(drive) => holder.drive == drive,
        }
    }
}

/// Whether a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Answered lately.
    Up,
    /// Has not answered for longer than the patience.
    Down,
}

/// One drive as its node last reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveView {
    /// The drive.
    pub drive: DriveId,
    /// Extents in all.
    pub extents_total: u32,
    /// Extents that hold nothing.
    pub extents_free: u32,
    /// Bytes of one extent.
    pub extent_len_bytes: u32,
    /// Whether it takes new fragments.
    pub writable: bool,
    /// It is to be emptied, by itself or with its node.
    pub leaving: bool,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// The node.
    pub node: NodeId,
    /// Its zone.
    pub zone: ZoneId,
    /// Whether it answers.
    pub health: Health,
    /// Whether it has drives, working or not, for all we know: one that was never heard of may have some, one that named none is a witness.
    pub may_hold_data: bool,
    /// It has been silent for so long that what it holds is made again elsewhere.
    pub given_up: bool,
    /// It is to be emptied, and so are its drives.
    pub leaving: bool,
    /// Its drives, in the order of their ids.
    pub drives: Vec<DriveView>,
}

impl NodeView {
    /// Whether nothing is to stay on it: it is to be emptied, or all of its drives are.
    pub fn is_leaving(&self) -> bool {
        self.leaving || (!self.drives.is_empty() && self.drives.iter().all(|drive| drive.leaving))
    }
}

/// All nodes, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// The nodes.
    pub nodes: Vec<NodeView>,
    /// Nodes that take part never again, with the zones that they were in: slabs may name them still.
    pub dismissed: BTreeMap<NodeId, ZoneId>,
}

impl ClusterView {
    /// The node with this id.
    pub fn node(&self, node: NodeId) -> Option<&NodeView> {
        self.nodes.iter().find(|candidate| candidate.node == node)
    }

    /// The zone of this node, also of one that was dismissed.
    pub fn zone_of(&self, node: NodeId) -> Option<ZoneId> {
        let dismissed = || self.dismissed.get(&node).copied();
        self.node(node).map(|node| node.zone).or_else(dismissed)
    }

    /// Whether what this holder has is to be made elsewhere, since its drive or node is to be emptied. Of a drive that its node does not name nothing is known.
    pub fn is_leaving(&self, holder: Holder) -> bool {
        self.node(holder.node).is_some_and(|node| {
            node.leaving || node.drives.iter().any(|drive| drive.drive == holder.drive && drive.leaving)
        })
    }

    /// The zones, each once, ascending.
    pub fn zones(&self) -> Vec<ZoneId> {
        let mut zones: Vec<ZoneId> = self.nodes.iter().map(|node| node.zone).collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }
}
