//! What the status page shows of the groups.

use super::Meta;
use crate::raft_id::RaftId;
use openraft::ServerState;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use strongroom_types::{GroupId, NodeId};

/// A group as this node, a voter of it, sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group; `None` is the control group.
    pub group: Option<GroupId>,
    /// As which voter this node takes part: its Raft id, of its node and incarnation.
    pub id: u64,
    /// Whether this node leads it.
    pub leads: bool,
    /// Who leads it, as far as known.
    pub leader: Option<NodeId>,
    /// Raft's term.
    pub term: u64,
    /// Index of the last log entry.
    pub last_log: Option<u64>,
    /// Index of the last entry in the state.
    pub applied: Option<u64>,
    /// Under whom that entry was appended: term and Raft id.
    pub applied_under: Option<(u64, u64)>,
    /// Index of the last entry in the latest snapshot.
    pub snapshot: Option<u64>,
    /// Index of the last entry that was purged from the log.
    pub purged: Option<u64>,
    /// The voters.
    pub voters: Vec<NodeId>,
    /// Why the group is stopped here, where it is.
    pub stopped: Option<String>,
}

impl Meta {
    /// Whether this node leads the group now, as far as it knows.
    pub fn leads(&self, group: GroupId) -> bool {
        self.group(Some(group))
            .is_some_and(|group| group.raft.metrics().borrow().state == ServerState::Leader)
    }

    /// The groups that this node votes in, the control group first.
    pub fn status(&self) -> Vec<GroupStatus> {
        let status = |(id, group): (&Option<GroupId>, &Arc<super::Group>)| {
            let node_of = |id: u64| RaftId::from_bits(id).node();
            let metrics = group.raft.metrics().borrow().clone();
            GroupStatus {
                group: *id,
                id: metrics.id,
                leads: metrics.state == ServerState::Leader,
                leader: metrics.current_leader.map(node_of),
                term: metrics.current_term,
                last_log: metrics.last_log_index,
                applied: metrics.last_applied.map(|log_id| log_id.index),
                applied_under: metrics
                    .last_applied
                    .map(|log_id| (log_id.leader_id.term, log_id.leader_id.node_id)),
                snapshot: metrics.snapshot.map(|log_id| log_id.index),
                purged: metrics.purged.map(|log_id| log_id.index),
                voters: metrics
                    .membership_config
                    .voter_ids()
                    .map(node_of)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect(),
                stopped: metrics.running_state.err().map(|fatal| fatal.to_string()),
            }
        };
        let life = self.life();
        let running = life.running.read().unwrap_or_else(PoisonError::into_inner);
        running.groups.iter().map(status).collect()
    }

    /// What an operator must know, since the start. Each begins with [`crate::ALARM_PREFIX`].
    pub fn alarms(&self) -> Vec<String> {
        self.alarms.all()
    }

    /// Completes once the store failed: a write or a sync of it. From then on nothing is acknowledged here, and the process must end, to
    /// be started again with what is on the media. Gives what failed.
    pub async fn failed(&self) -> String {
        self.alarms.failure().any().await
    }

    /// Why this node's voice does not count yet where it should.
    pub fn not_ready_because(&self) -> Vec<String> {
        let waits = self.waits_for().into_iter().chain(self.without_place());
        waits.chain(self.not_admitted_because()).collect()
    }
}
