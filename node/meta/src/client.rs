//! What a node asks the leader of a group, and what it answers: between nodes as the body of `Request::Meta`, and on the leader
//! itself as plain values.

use crate::control::{ControlAnswer, ControlCommand, ControlQuery};
use crate::group::{Entry, EntryOutcome, GroupAnswer, GroupQuery};
use crate::meta::{Opening, Said};
use crate::raft::{Command, Reply};
use crate::raft_id::RaftId;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use strongroom_types::{Member, NodeId};

/// A request and how long its sender waits.
#[derive(Serialize, Deserialize)]
pub(crate) struct ClientRequest {
    pub(crate) patience_ms: u32,
    pub(crate) operation: Operation,
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "holders lie inside; these values are few and short-lived")]
pub(crate) enum Operation {
    Propose(Command),
    Commit {
        ticket: u64,
        entry: Entry,
    },
    ReadControl(ControlQuery),
    ReadGroup(GroupQuery),
    /// Between nodes, whoever leads.
    Join(JoinAsk),
    /// A node asks whether it votes, and how far it must have come to have caught up.
    Place(RaftId),
}

/// What nodes ask each other before their groups run; see `meta::join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JoinAsk {
    /// The founder asks for a promise.
    Promise { nonce: u64 },
    /// Are you a member?
    Standing,
    /// The asking node has a new id: look at your groups.
    Enrolled,
    /// The asking node's store is open; see `meta::openings`.
    Opened(Opening),
    /// Whom do you know?
    Members,
    /// Is a node with the asking one's id heard at this address?
    Namesake { address: SocketAddr },
    /// Was this node heard within [`DEAD_AFTER`](crate::limits::DEAD_AFTER)?
    Hears { node: NodeId },
}

/// An answer to that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JoinAnswer {
    /// It is durable.
    Promised,
    /// This node is a member of that founding, or heard of one.
    Founded { founding: u64 },
    /// This node knows of no cluster.
    NotFounded,
    /// The asking node is not the founder by this node's configuration, or the promise was given and taken back.
    Refused,
    /// Heard.
    Noted,
    /// A later opening of the asking node's store was seen: this one is an older copy.
    Outdated,
    /// No later opening was seen, and this one is remembered. In the groups that this node leads, the asking one has said to have this.
    Seen { said: Vec<Said> },
    /// These.
    Members(Vec<Member>),
    /// It is.
    Heard,
}

/// What a node has to do with a group, by its leader's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// It votes.
    Votes,
    /// It is to: it learns, or an earlier one of the same node votes.
    Awaited,
    /// Nothing, and that is committed.
    None,
}

impl Operation {
    /// Whether one may ask for it that is not known here: what a newcomer needs to be known.
    pub(crate) fn is_for_strangers(&self) -> bool {
        match self {
            Self::Join(_) | Self::ReadControl(_) => true,
            Self::Propose(Command::Control { command, .. }) => matches!(
                command,
                ControlCommand::Found { .. }
                    | ControlCommand::Enrol { .. }
                    | ControlCommand::AdmitNode { .. }
            ),
            Self::Propose(_) | Self::Commit { .. } | Self::ReadGroup(_) | Self::Place(_) => false,
        }
    }

    /// Whether it may change the state, so that an answer that did not come leaves the outcome open.
    pub(crate) fn changes(&self) -> bool {
        match self {
            Self::Propose(_) | Self::Commit { .. } => true,
            Self::ReadControl(_) | Self::ReadGroup(_) | Self::Join(_) | Self::Place(_) => false,
        }
    }
}

/// What came of it at the node that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ClientAnswer {
    Reply(Reply),
    Outcome(EntryOutcome),
    Control(ControlAnswer),
    Group(GroupAnswer),
    /// Not here; perhaps there. Nothing was done.
    NotLeader(Option<NodeId>),
    /// Not here any more; may have been done.
    Deposed(Option<NodeId>),
    /// Too much under way. Nothing was done.
    Busy,
    /// Could not be done in time. Nothing was done.
    NotDone,
    /// May have been done.
    Unknown,
    /// The state could not be read here.
    Failed,
    /// The request makes no sense. Nothing was done.
    Malformed,
    Join(JoinAnswer),
    /// What it has to do with the group, and the last entry that was committed when it asked.
    Place {
        part: Part,
        committed: Option<u64>,
    },
}
