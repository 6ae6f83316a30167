//! Whether this node has its place: a voter wherever it is to be one, under the present id, that has caught up once since its start.
//!
//! What its own store says of that may be old: a copy of a state directory believes its membership and its leader, and who was away may have lost its
//! seat to another. So the leaders are asked, linearizably, and the control group which incarnation is the present one. A group in which this node has no
//! part any more is left: nobody tells it of the change that took its seat. Nothing else hangs on it but what the node says of itself.

use super::life::Life;
use super::voters::votes;
use super::{Group, Meta, MetaError};
use crate::client::{ClientAnswer, Operation, Part};
use crate::control::{ControlAnswer, ControlQuery};
use crate::limits::{JOIN_PATIENCE, JOIN_PAUSE_MAX, JOIN_PAUSE_MIN, PLACES_ASKED_MAX, VOTERS_LOOK_EVERY};
use crate::raft_id::RaftId;
use futures::StreamExt as _;
use futures::future::join;
use futures::stream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use strongroom_types::{Deadline, GroupId, NodeId};

impl Meta {
    /// Asks until this life has its place in all groups, and again wherever it seems to have lost it.
    pub(super) async fn take_place(&self, life: &Arc<Life>) {
        let Some(own) = life.id() else { return };
        let mut pause = JOIN_PAUSE_MIN;
        loop {
            let asked = async {
                let mut done = true;
                let answers = stream::iter(to_be_asked(life)).map(|id| self.take_place_in(life, own, id));
                let mut answers = std::pin::pin!(answers.buffer_unordered(PLACES_ASKED_MAX));
                while let Some(is_done) = answers.next().await {
                    done &= is_done;
                }
                done
            };
            let is_present = async {
                life.is_present.load(Ordering::Acquire) || self.enrolments(life, own).await.is_some()
            };
            let (is_done, is_present) = join(asked, is_present).await;
            if is_done && is_present {
                pause = JOIN_PAUSE_MIN;
                self.env.clock.sleep(VOTERS_LOOK_EVERY).await;
            } else {
                self.env.clock.sleep(pause).await;
                pause = (pause * 2).min(JOIN_PAUSE_MAX);
            }
        }
    }

    /// Whether nothing is left to wait for in this group.
    async fn take_place_in(&self, life: &Arc<Life>, own: RaftId, id: Option<GroupId>) -> bool {
        let deadline = Deadline::after(self.env.clock.now(), JOIN_PATIENCE);
        let Ok(ClientAnswer::Place { part, committed }) = self.ask(id, Operation::Place(own), deadline).await
        else {
            return false;
        };
        match part {
            Part::Votes => {}
            Part::Awaited => return false,
            Part::None => {
                life.unasked.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                self.leave_group(life, id);
                return true;
            }
        }
        let running = groups_of(life).into_iter().find(|(group, _)| *group == id);
        // Its leader has it begin.
        let Some((_, group)) = running else { return false };
        while group.raft.metrics().borrow().last_applied.map(|log_id| log_id.index) < committed {
            if deadline.remaining(self.env.clock.now()).is_zero() {
                return false;
            }
            self.env.clock.sleep(JOIN_PAUSE_MIN).await;
        }
        group.is_taken_in.store(true, Ordering::Release);
        true
    }

    /// The groups in which `node` has part, by the word of each group's leader, linearizably: it votes there, or is to.
    ///
    /// # Errors
    /// Some group does not answer within the deadline.
    pub async fn seats_of(
        &self,
        node: NodeId,
        deadline: Deadline,
    ) -> Result<Vec<Option<GroupId>>, MetaError> {
        let ControlAnswer::Enrolments(enrolments) =
            self.control_query(ControlQuery::Enrolments, deadline).await?
        else {
            return Err(MetaError::Failed);
        };
        let present = RaftId::new(node, enrolments.get(&node).copied().unwrap_or(0));
        let Some(present) = present else { return Ok(Vec::new()) };
        let ask = |group| async move { (group, self.ask(group, Operation::Place(present), deadline).await) };
        let answers = stream::iter(self.all_groups()).map(ask).buffer_unordered(PLACES_ASKED_MAX);
        let mut answers = std::pin::pin!(answers);
        let mut seats = Vec::new();
        while let Some((group, answer)) = answers.next().await {
            match answer? {
                ClientAnswer::Place { part: Part::None, .. } => {}
                ClientAnswer::Place { part: Part::Votes | Part::Awaited, .. } => seats.push(group),
                _ => return Err(MetaError::Failed),
            }
        }
        seats.sort_unstable();
        Ok(seats)
    }

    /// What this node waits for that is a member.
    pub(super) fn without_place(&self) -> Vec<String> {
        let life = self.life();
        let Some(own) = life.id() else { return Vec::new() };
        let name =
            |group: Option<GroupId>| group.map_or_else(|| String::from("control"), |group| group.to_string());
        let groups = groups_of(&life);
        let waiting = groups.iter().filter(|(_, group)| !group.is_taken_in.load(Ordering::Acquire));
        let in_groups = waiting.map(|(id, group)| match votes(group, own) {
            true => {
                format!("{} has not confirmed yet that this node is a voter that has caught up", name(*id))
            }
            false => format!("{} has not taken this node in yet", name(*id)),
        });
        let unasked = life.unasked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unasked = unasked
            .into_iter()
            .map(|id| format!("{} has not said yet whether this node is to vote in it", name(id)));
        let in_control = (!life.is_present.load(Ordering::Acquire))
            .then(|| String::from("control has not confirmed yet that this node's state is the present one"));
        in_groups.chain(unasked).chain(in_control).collect()
    }
}

fn groups_of(life: &Life) -> Vec<(Option<GroupId>, Arc<Group>)> {
    let running = life.running.read().unwrap_or_else(PoisonError::into_inner);
    running.groups.iter().map(|(id, group)| (*id, Arc::clone(group))).collect()
}

/// The groups whose leaders have not said that this node votes there, and those that tell it nothing any more.
fn to_be_asked(life: &Life) -> Vec<Option<GroupId>> {
    let is_silent = |group: &Group| group.raft.metrics().borrow().current_leader.is_none();
    let is_open = |group: &Group| !group.is_taken_in.load(Ordering::Acquire) || is_silent(group);
    let groups = groups_of(life);
    let running = groups.iter().filter(|(_, group)| is_open(group)).map(|(id, _)| *id);
    let unasked = life.unasked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    running.chain(unasked).collect()
}
