//! The ids that Raft knows voters by.

use serde::{Deserialize, Serialize};
use std::fmt;
use strongroom_types::NodeId;

/// One life of a node's state: the node and how often it came back without what it had. Raft must never see one id with two
/// memories, since a voter that forgot its vote can give it twice; so a node whose state is gone is another voter.
///
/// Packed into 64 bits: incarnation (high 24 bits), node (low 40 bits). Incarnation 0 is given at the founding and never again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RaftId(u64);

impl RaftId {
    const NODE_BITS: u32 = 40;
    /// The last incarnation that can be given.
    pub const INCARNATION_MAX: u32 = (1 << (u64::BITS - Self::NODE_BITS)) - 1;

    /// The id of this life of this node; `None` where one of them does not fit.
    pub fn new(node: NodeId, incarnation: u32) -> Option<Self> {
        let fits = node.get() >> Self::NODE_BITS == 0 && incarnation <= Self::INCARNATION_MAX;
        fits.then(|| Self(u64::from(incarnation) << Self::NODE_BITS | node.get()))
    }

    /// The id with these bits; every value is one.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits, as openraft has them.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Whose it is: where its messages go.
    pub const fn node(self) -> NodeId {
        NodeId::new(self.0 & ((1 << Self::NODE_BITS) - 1))
    }

    /// Which life of it.
    pub const fn incarnation(self) -> u32 {
        (self.0 >> Self::NODE_BITS) as u32
    }
}

impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node(), self.incarnation())
    }
}

impl fmt::Debug for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::RaftId;
    use strongroom_types::NodeId;

    #[test]
    fn node_and_incarnation_come_back_and_too_large_ones_are_refused() {
        let largest = NodeId::new((1 << 40) - 1);
        for (node, incarnation) in
            [(NodeId::new(1), 0), (NodeId::new(7), 1), (largest, 0), (largest, RaftId::INCARNATION_MAX)]
        {
            let id = RaftId::new(node, incarnation).unwrap();
            assert_eq!((id.node(), id.incarnation()), (node, incarnation));
            assert_eq!(RaftId::from_bits(id.to_bits()), id);
        }
        assert_eq!(
            RaftId::new(NodeId::new(5), 0).unwrap().to_bits(),
            5,
            "as they were before there were incarnations"
        );
        assert_eq!(RaftId::new(NodeId::new(1 << 40), 0), None);
        assert_eq!(RaftId::new(NodeId::new(1), RaftId::INCARNATION_MAX + 1), None);
        assert_eq!(RaftId::new(NodeId::new(5), 3).unwrap().to_string(), "node-5.3");
    }
}
