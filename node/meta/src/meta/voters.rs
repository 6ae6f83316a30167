//! Replacing voters whose node came back without its state.
//!
//! Every few seconds, and when told of an enrolment, a node that leads groups asks the control group which incarnation of each node is
//! the present one, and compares its groups' memberships. A voter of an earlier one is as good as dead: its node answers no message
//! that is meant for it. It is replaced by the present one in steps that each leave the group able to work, one voter of a group at a
//! time: the new one becomes a learner, and once it has what the leader had when it was asked for, it takes the old one's
//! place (openraft goes through a joint membership). A leader that finds a step of an earlier leader half done finishes it first.
//! One that is gone again before it has caught up keeps nobody else waiting: all successors learn at once, whoever has caught up first
//! is next, groups are tended side by side, and who hears of another enrolment while it waits looks anew.

use super::life::Life;
use super::start::described_groups;
use super::{Group, Meta};
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

/// What is to be done with a group's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A change is half done: finish it.
    Finish(BTreeSet<u64>),
    /// This learner is of no use.
    Forget(BTreeSet<u64>),
    /// One of the seconds, as soon as it has caught up, takes the place of its first.
    Replace(Vec<(u64, u64)>),
}

/// The next step, if there is one. `configs` are the voter sets of the membership, more than one where it is joint.
pub(super) fn next_step(
    configs: &[BTreeSet<u64>],
    nodes: &BTreeSet<u64>,
    configured: &[NodeId],
    enrolments: &BTreeMap<NodeId, u32>,
) -> Option<Step> {
    let last = configs.last()?;
    if configs.len() > 1 {
        return Some(Step::Finish(last.clone()));
    }
    let incarnation = |id: u64| RaftId::from_bits(id).incarnation();
    // Never back: a membership may know of a later incarnation than an answer that took long.
    let present = |node: NodeId| {
        let known =
            nodes.iter().filter(|id| RaftId::from_bits(**id).node() == node).map(|id| incarnation(*id));
        let given = enrolments.get(&node).copied().unwrap_or(0);
        known.chain([given]).max().and_then(|incarnation| RaftId::new(node, incarnation))
    };
    let wanted: BTreeSet<u64> =
        configured.iter().filter_map(|node| present(*node)).map(RaftId::to_bits).collect();
    let useless: BTreeSet<u64> =
        nodes.iter().filter(|id| !last.contains(id) && !wanted.contains(id)).copied().collect();
    if !useless.is_empty() {
        return Some(Step::Forget(useless));
    }
    let outdated = last.iter().filter(|id| !wanted.contains(id));
    let pairs = outdated.filter_map(|old| Some((*old, present(RaftId::from_bits(*old).node())?.to_bits())));
    let pairs: Vec<_> = pairs.filter(|(old, new)| old != new).collect();
    (!pairs.is_empty()).then_some(Step::Replace(pairs))
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
        for (id, voters) in described_groups(&self.config) {
            let Some(group) = groups.get(&id) else { continue };
            if own.incarnation() == 0 || group.raft.metrics().borrow().current_leader.is_some() {
                since.remove(&id);
                continue;
            }
            if now.since(*since.entry(id).or_insert(now)) > JOIN_ALARM_AFTER {
                let name = id.map_or_else(|| String::from("the control group"), |id| id.to_string());
                self.alarms.raise(&format!(
                    "{name} has no leader that could take this node in again: a majority of its voters, nodes {voters:?}, must run \
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
        let led = described_groups(&self.config).filter_map(|(id, voters)| {
            let group = groups.get(&id).filter(|group| leads(group))?;
            Some(self.tend_group(id, group, voters, (&enrolments, looks_wanted)))
        });
        // openraft may never answer a change that its leader lost the term for.
        select(Box::pin(join_all(led)), self.env.clock.sleep(VOTERS_STEP_PATIENCE)).await;
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
        configured: &[NodeId],
        (enrolments, looks_wanted): (&BTreeMap<NodeId, u32>, u64),
    ) {
        loop {
            let (configs, nodes) = {
                let metrics = group.raft.metrics().borrow().clone();
                if metrics.state != ServerState::Leader {
                    return;
                }
                let membership = metrics.membership_config.membership().clone();
                let nodes: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
                (membership.get_joint_config().clone(), nodes)
            };
            let Some(step) = next_step(&configs, &nodes, configured, enrolments) else { return };
            tracing::info!(group = ?id, ?step, "membership");
            let changes = match &step {
                Step::Finish(voters) => ChangeMembers::ReplaceAllVoters(voters.clone()),
                Step::Forget(learners) => ChangeMembers::RemoveNodes(learners.clone()),
                Step::Replace(pairs) => {
                    let Some((old, new)) = self.first_caught_up(group, pairs, &nodes, looks_wanted).await
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
        nodes: &BTreeSet<u64>,
        looks_wanted: u64,
    ) -> Option<(u64, u64)> {
        for (_, new) in pairs.iter().filter(|(_, new)| !nodes.contains(new)) {
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

#[cfg(test)]
mod tests {
    use super::{Step, next_step};
    use crate::raft_id::RaftId;
    use std::collections::{BTreeMap, BTreeSet};
    use strongroom_types::NodeId;

    fn id(node: u64, incarnation: u32) -> u64 {
        RaftId::new(NodeId::new(node), incarnation).unwrap().to_bits()
    }

    fn set(ids: &[(u64, u32)]) -> BTreeSet<u64> {
        ids.iter().map(|(node, incarnation)| id(*node, *incarnation)).collect()
    }

    fn step(configs: &[&[(u64, u32)]], learners: &[(u64, u32)], given: &[(u64, u32)]) -> Option<Step> {
        let configs: Vec<_> = configs.iter().map(|config| set(config)).collect();
        let nodes = configs.iter().flatten().copied().chain(set(learners)).collect();
        let configured: Vec<_> = (1..=3).map(NodeId::new).collect();
        let given: BTreeMap<_, _> = given.iter().map(|(node, last)| (NodeId::new(*node), *last)).collect();
        next_step(&configs, &nodes, &configured, &given)
    }

    /// Each of these takes the place of the one before it.
    fn replace(new: &[(u64, u32)]) -> Step {
        Step::Replace(new.iter().map(|(node, given)| (id(*node, given - 1), id(*node, *given))).collect())
    }

    const ALL: &[(u64, u32)] = &[(1, 0), (2, 0), (3, 0)];

    #[test]
    fn nothing_is_done_where_everybody_is_who_they_were() {
        assert_eq!(step(&[ALL], &[], &[]), None);
        assert_eq!(step(&[&[(1, 0), (2, 4), (3, 0)]], &[], &[(2, 4)]), None);
        assert_eq!(step(&[ALL], &[], &[(9, 3)]), None, "another group's voter");
    }

    #[test]
    fn voters_are_replaced_one_at_a_time_and_half_done_changes_are_finished_first() {
        assert_eq!(step(&[ALL], &[], &[(2, 1), (3, 1)]), Some(replace(&[(2, 1), (3, 1)])));
        assert_eq!(step(&[ALL], &[(2, 1)], &[(2, 1)]), Some(replace(&[(2, 1)])));
        let joint: &[&[(u64, u32)]] = &[ALL, &[(1, 0), (2, 1), (3, 0)]];
        assert_eq!(step(joint, &[], &[(2, 2)]), Some(Step::Finish(set(&[(1, 0), (2, 1), (3, 0)]))));
        let after: &[&[(u64, u32)]] = &[&[(1, 0), (2, 1), (3, 0)]];
        assert_eq!(step(after, &[], &[(2, 2)]), Some(replace(&[(2, 2)])));
    }

    #[test]
    fn learners_of_an_earlier_life_are_forgotten_and_a_late_answer_takes_nothing_back() {
        assert_eq!(step(&[ALL], &[(2, 1)], &[(2, 2)]), Some(Step::Forget(set(&[(2, 1)]))));
        assert_eq!(step(&[&[(1, 0), (2, 2), (3, 0)]], &[], &[(2, 1)]), None);
    }
}
