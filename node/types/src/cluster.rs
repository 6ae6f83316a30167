//! The cluster as one node sees it now: zones, nodes, drives, and who answers.
//!
//! A view, never an authority: it may choose where a new fragment goes; it may never weaken an ack rule.

use crate::ids::{DriveId, NodeId, ZoneId};

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
    /// Its drives, in the order of their ids.
    pub drives: Vec<DriveView>,
}

/// All nodes, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// The nodes.
    pub nodes: Vec<NodeView>,
}

impl ClusterView {
    /// The node with this id.
    pub fn node(&self, node: NodeId) -> Option<&NodeView> {
        self.nodes.iter().find(|candidate| candidate.node == node)
    }

    /// The zone of this node.
    pub fn zone_of(&self, node: NodeId) -> Option<ZoneId> {
        self.node(node).map(|node| node.zone)
    }

    /// The zones, each once, ascending.
    pub fn zones(&self) -> Vec<ZoneId> {
        let mut zones: Vec<ZoneId> = self.nodes.iter().map(|node| node.zone).collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }
}
