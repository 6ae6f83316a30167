//! Whether this node has its place: a voter of its groups, under the present id, that has caught up once since its start.
//!
//! What its own store says of that may be old: a copy of a state directory believes its membership and its leader. So the leaders are
//! asked, linearizably, and the control group which incarnation is the present one. Nothing hangs on it but what the node says of itself.

use super::life::Life;
use super::voters::votes;
use super::{Group, Meta};
use crate::client::{ClientAnswer, Operation};
use crate::limits::{JOIN_PATIENCE, JOIN_PAUSE_MAX, JOIN_PAUSE_MIN};
use futures::future::{join, join_all};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use strongroom_types::{Deadline, GroupId};

impl Meta {
    /// Asks until this life has its place in all groups.
    pub(super) async fn take_place(&self, life: &Life) {
        let Some(own) = life.id() else { return };
        let mut pause = JOIN_PAUSE_MIN;
        loop {
            let waiting = groups_of(life);
            let waiting = waiting.iter().filter(|(_, group)| !group.is_taken_in.load(Ordering::Acquire));
            let asked = join_all(waiting.map(|(id, group)| self.take_place_in(*id, group)));
            let is_present = async {
                life.is_present.load(Ordering::Acquire) || self.enrolments(life, own).await.is_some()
            };
            let (taken_in, is_present) = join(asked, is_present).await;
            if is_present && taken_in.into_iter().all(|is_taken_in| is_taken_in) {
                return;
            }
            self.env.clock.sleep(pause).await;
            pause = (pause * 2).min(JOIN_PAUSE_MAX);
        }
    }

    async fn take_place_in(&self, id: Option<GroupId>, group: &Group) -> bool {
        let deadline = Deadline::after(self.env.clock.now(), JOIN_PATIENCE);
        let Ok(ClientAnswer::Place { votes: true, committed }) =
            self.ask(id, Operation::Place(group.id), deadline).await
        else {
            return false;
        };
        while group.raft.metrics().borrow().last_applied.map(|log_id| log_id.index) < committed {
            if deadline.remaining(self.env.clock.now()).is_zero() {
                return false;
            }
            self.env.clock.sleep(JOIN_PAUSE_MIN).await;
        }
        group.is_taken_in.store(true, Ordering::Release);
        true
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
        let in_control = (!life.is_present.load(Ordering::Acquire))
            .then(|| String::from("control has not confirmed yet that this node's state is the present one"));
        in_groups.chain(in_control).collect()
    }
}

fn groups_of(life: &Life) -> Vec<(Option<GroupId>, Arc<Group>)> {
    let running = life.running.read().unwrap_or_else(PoisonError::into_inner);
    running.groups.iter().map(|(id, group)| (*id, Arc::clone(group))).collect()
}
