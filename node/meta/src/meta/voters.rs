//! Carrying out what [`super::seats`] decides: replacing voters.
//!
//! Every few seconds, and when told of an enrolment, a node that leads groups asks the control group which incarnation of each node is
//! the present one, and compares its groups' memberships. A voter of an earlier one is as good as dead: its node answers no message
//! that is meant for it. A voter is replaced in steps that each leave the group able to work, one voter of a group at a
//! time: the new one becomes a learner, and once it has what the leader had when it was asked for, it takes the old one's
//! place (openraft goes through a joint membership). A leader that finds a step of an earlier leader half done finishes it first.
//! One that is gone again before it has caught up keeps nobody else waiting: all successors learn at once, whoever has caught up first
//! is next, groups are tended side by side, and who hears of another enrolment while it waits looks anew.

use super::life::Life;
use super::seats::{Sitter, Step, Table};
use super::{Group, Meta};
use crate::client::Part;
use crate::control::{ControlAnswer, ControlQuery};
use crate::limits::{
    JOIN_ALARM_AFTER, JOIN_PATIENCE, JOIN_PAUSE_MIN, VOTERS_LOOK_EVERY, VOTERS_STEP_PATIENCE,
};
use crate::raft_id::RaftId;
use futures::future::{join_all, select};
use openraft::{ChangeMembers, EmptyNode, ServerState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use strongroom_types::{Deadline, GroupId, Instant, NodeId};

/// A node that leads nothing asks at its first look and then at one of this many.
const IDLE_LOOKS: u64 = 10;

/// The control group says that this life of the node's state is not the present one.
#[derive(Debug, thiserror::Error)]
#[error("an older copy: this is incarnation {own}, and {present} was given since")]
struct Outdated {
    own: u32,
    present: u32,
}

impl Meta {
    /// Looks for ever.
    pub(super) async fn tend_voters(self: Arc<Self>) {
        let mut leaderless: BTreeMap<Option<GroupId>, Instant> = BTreeMap::new();
        for look in 0u64.. {
            let told = Box::pin(self.look_at_voters.notified());
            select(told, self.env.clock.sleep(VOTERS_LOOK_EVERY)).await;
            let life = self.life();
            let Some(own) = life.id() else { continue };
            self.watch_leaders(&life, own, &mut leaderless);
            let asks = look.is_multiple_of(IDLE_LOOKS) || !life.is_present.load(Ordering::Acquire);
            self.tend(&life, own, asks).await;
        }
    }

    /// Somebody enrolled, or misses its place: look now instead of at the next turn.
    pub(super) fn look_at_voters_now(&self) {
        self.looks_wanted.fetch_add(1, Ordering::AcqRel);
        self.look_at_voters.notify_one();
    }

    /// A group that lost its majority stays as it is, and somebody must know.
    fn watch_leaders(&self, life: &Life, own: RaftId, since: &mut BTreeMap<Option<GroupId>, Instant>) {
        let now = self.env.clock.now();
        let groups = life.running.read().unwrap_or_else(PoisonError::into_inner).groups.clone();
        let unasked = life.unasked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for id in self.all_groups() {
            let waits = match groups.get(&id) {
                Some(group) => group.raft.metrics().borrow().current_leader.is_none(),
                None => unasked.contains(&id),
            };
            if own.incarnation() == 0 || !waits {
                since.remove(&id);
                continue;
            }
            if now.since(*since.entry(id).or_insert(now)) > JOIN_ALARM_AFTER {
                let name = id.map_or_else(|| String::from("the control group"), |id| id.to_string());
                let voters = self.likely_voters(id);
                self.alarms.raise(&format!(
                    "{name} has no leader that could take this node in again: a majority of its voters, as far as known nodes {voters:?}, must run \
                     with the state directories that they had. If those are gone for good, the group stays refused"
                ));
            }
        }
    }

    /// Asks who is who where this node leads a group, or where `asks` says so: an older copy of a state directory leads nothing.
    async fn tend(&self, life: &Life, own: RaftId, asks: bool) {
        let groups = life.running.read().unwrap_or_else(PoisonError::into_inner).groups.clone();
        let leads = |group: &Group| group.raft.metrics().borrow().state == ServerState::Leader;
        if !asks && !groups.values().any(|group| leads(group)) {
            return;
        }
        let looks_wanted = self.looks_wanted.load(Ordering::Acquire);
        let Some(enrolments) = self.enrolments(life, own).await else { return };
        let sitters = self.sitters(&groups);
        let led = groups.iter().filter(|(_, group)| leads(group));
        let led = led.map(|(id, group)| self.tend_group(*id, group, (&sitters, &enrolments), looks_wanted));
        // openraft may never answer a change that its leader lost the term for.
        select(Box::pin(join_all(led)), self.env.clock.sleep(VOTERS_STEP_PATIENCE)).await;
    }

    /// All nodes, as far as seats go.
    fn sitters(&self, groups: &BTreeMap<Option<GroupId>, Arc<Group>>) -> BTreeMap<NodeId, Sitter> {
        let mut seats: BTreeMap<NodeId, usize> = BTreeMap::new();
        for group in groups.values() {
            for id in group.raft.metrics().borrow().membership_config.voter_ids() {
                *seats.entry(RaftId::from_bits(id).node()).or_default() += 1;
            }
        }
        let known = self.known();
        let nodes: BTreeSet<NodeId> =
            known.members().into_keys().chain(known.dismissed().map(|(node, _)| node)).collect();
        let sitter = |node: NodeId| {
            let is_own = node == self.config.node;
            let is_lost = known.is_dismissed(node) || !is_own && self.watch.is_given_up(node);
            let is_fit = !is_lost && known.is_admitted(node) && (is_own || self.watch.is_up(node));
            let (is_leaving, seats) = (self.watch.is_leaving(node), seats.get(&node).copied().unwrap_or(0));
            Some((node, Sitter { zone: known.zone(node)?, is_lost, is_fit, is_leaving, seats }))
        };
        nodes.into_iter().filter_map(sitter).collect()
    }

    /// The present incarnations; `None` where there is no answer, or one that ends this life.
    pub(super) async fn enrolments(&self, life: &Life, own: RaftId) -> Option<BTreeMap<NodeId, u32>> {
        let deadline = Deadline::after(self.env.clock.now(), JOIN_PATIENCE);
        let Ok(ControlAnswer::Enrolments(enrolments)) =
            self.control_query(ControlQuery::Enrolments, deadline).await
        else {
            return None;
        };
        let present = enrolments.get(&own.node()).copied().unwrap_or(0);
        if present > own.incarnation() {
            life.damage.found(&Outdated { own: own.incarnation(), present });
            return None;
        }
        life.is_present.store(true, Ordering::Release);
        Some(enrolments)
    }

    /// Does what is to be done, while it goes well and is this node's to do.
    async fn tend_group(
        &self,
        id: Option<GroupId>,
        group: &Group,
        (sitters, enrolments): (&BTreeMap<NodeId, Sitter>, &BTreeMap<NodeId, u32>),
        looks_wanted: u64,
    ) {
        loop {
            let (configs, ids) = {
                let metrics = group.raft.metrics().borrow().clone();
                if metrics.state != ServerState::Leader {
                    return;
                }
                let membership = metrics.membership_config.membership().clone();
                let ids: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
                (membership.get_joint_config().clone(), ids)
            };
            let leader = group.id.to_bits();
            let table = Table { group: id, configs: &configs, ids: &ids, sitters, enrolments, leader };
            let Some(step) = table.next_step() else { return };
            tracing::info!(group = ?id, ?step, "membership");
            let changes = match &step {
                Step::Finish(voters) => ChangeMembers::ReplaceAllVoters(voters.clone()),
                Step::Forget(learners) => ChangeMembers::RemoveNodes(learners.clone()),
                Step::Replace(pairs) => {
                    let Some((old, new)) = self.first_caught_up(group, pairs, &ids, looks_wanted).await
                    else {
                        return;
                    };
                    let mut voters = configs[0].clone();
                    voters.remove(&old);
                    voters.insert(new);
                    ChangeMembers::ReplaceAllVoters(voters)
                }
            };
            if let Err(error) = group.raft.change_membership(changes, false).await {
                tracing::debug!(group = ?id, error = &error as &dyn std::error::Error, "membership is not changed yet");
                return;
            }
        }
    }

    /// Makes the successors learners where they are not, and waits until one has what the leader has now; `None` where this node leads no more,
    /// or is to look anew: there may be other successors by now.
    async fn first_caught_up(
        &self,
        group: &Group,
        pairs: &[(u64, u64)],
        ids: &BTreeSet<u64>,
        looks_wanted: u64,
    ) -> Option<(u64, u64)> {
        for (_, new) in pairs.iter().filter(|(_, new)| !ids.contains(new)) {
            group.raft.add_learner(*new, EmptyNode {}, false).await.ok()?;
        }
        let target = group.raft.metrics().borrow().last_log_index;
        while self.looks_wanted.load(Ordering::Acquire) == looks_wanted {
            {
                let progress = group.raft.metrics().borrow().replication.clone()?;
                let matched = |id| progress.get(&id)?.as_ref().map(|log_id| log_id.index);
                if let Some(pair) = pairs.iter().find(|(_, new)| matched(*new) >= target) {
                    return Some(*pair);
                }
            }
            self.env.clock.sleep(JOIN_PAUSE_MIN).await;
        }
        None
    }
}

/// Whether `id` votes in the group by the last membership that this node knows; in one that is being changed, before and after.
pub(super) fn votes(group: &Group, id: RaftId) -> bool {
    let metrics = group.raft.metrics();
    let metrics = metrics.borrow();
    let configs = metrics.membership_config.membership().get_joint_config();
    !configs.is_empty() && configs.iter().all(|voters| voters.contains(&id.to_bits()))
}

/// What `id` has to do with the group, on its leader, which has just passed a round with this last entry committed.
pub(super) fn part_of(group: &Group, id: RaftId, committed: Option<u64>) -> Part {
    if votes(group, id) {
        return Part::Votes;
    }
    let metrics = group.raft.metrics();
    let metrics = metrics.borrow();
    let membership = &metrics.membership_config;
    let is_awaited = membership.nodes().any(|(known, _)| RaftId::from_bits(*known).node() == id.node());
    // Of a change that is not committed it is not known whether it comes about.
    let is_committed = membership.log_id().as_ref().map(|log_id| log_id.index) <= committed;
    if is_awaited || !is_committed { Part::Awaited } else { Part::None }
}
