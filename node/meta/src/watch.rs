//! What the node around the groups thinks of other nodes: it pings them anyway.
//!
//! Opinions. They choose which voter is replaced, and by whom; a wrong one costs a move of a seat, since each change of a membership is Raft's own,
//! and nothing is promised on one's word.

use std::time::Duration;
use strongroom_types::NodeId;

/// Opinions about other nodes.
pub trait Watch: Send + Sync {
    /// Whether it answers.
    fn is_up(&self, node: NodeId) -> bool;

    /// Whether it has answered at all, and within this time.
    fn was_heard_within(&self, node: NodeId, patience: Duration) -> bool;

    /// Whether it has been silent for so long that nobody waits for it any more.
    fn is_given_up(&self, node: NodeId) -> bool;

    /// Whether it is to be emptied, so that its seats are to go to others where that costs nothing.
    fn is_leaving(&self, node: NodeId) -> bool;
}
