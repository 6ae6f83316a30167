//! The types that openraft works with here. All groups, control and data, are one kind of Raft: their commands differ, their
//! machinery does not.

use crate::control::{ControlCommand, ControlReply};
use crate::group::{Entry, GroupCommand, GroupReply};
use crate::machine::SnapshotStream;
use crate::runtime::ScopedRuntime;
use serde::{Deserialize, Serialize};

/// Names one command over all its tries, so that it takes effect once. Drawn at random by the client.
pub(crate) type Ticket = u64;

/// What a log entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "holders lie inside; these values are few and short-lived")]
pub enum Command {
    /// For the control group.
    Control {
        /// Names the command over all its tries.
        ticket: u64,
        /// The command.
        command: ControlCommand,
    },
    /// For a data group; never `GroupCommand::Commit`.
    Group {
        /// Names the command over all its tries.
        ticket: u64,
        /// The command.
        command: GroupCommand,
    },
    /// Commits of several callers, each with its ticket.
    Commit {
        /// In order.
        entries: Vec<(u64, Entry)>,
    },
}

/// What came of a log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "holders lie inside; these values are few and short-lived")]
pub enum Reply {
    /// Raft's own entries, and commands of the other kind of group.
    Nothing,
    /// Of a control command.
    Control(ControlReply),
    /// Of a data group's command.
    Group(GroupReply),
}

/// Binds openraft to the types above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Command;
    type R = Reply;
    type NodeId = u64;
    type Node = openraft::EmptyNode;
    type Entry = openraft::Entry<TypeConfig>;
    type SnapshotData = SnapshotStream;
    type AsyncRuntime = ScopedRuntime;
    type Responder = openraft::impls::OneshotResponder<TypeConfig>;
}

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type LogEntry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, openraft::EmptyNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::EmptyNode>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;

/// The index after this log id.
pub(crate) fn next_index(log_id: Option<&LogId>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index + 1)
}
