//! Finding the leader: asking, following hints, trying again.

use super::voters::part_of;
use super::{Group, Meta, MetaError, check, encoded_len_bytes};
use crate::barrier::BarrierError;
use crate::client::{ClientAnswer, ClientRequest, Operation, Part};
use crate::limits::{ATTEMPT_PATIENCE_MAX, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, RETRY_UNCERTAIN_MAX};
use crate::machine::MachineError;
use crate::network::{addressee, answer, decode_body, encode_body, opaque};
use crate::proposer::ProposeError;
use crate::raft_id::RaftId;
use crate::syncer::offload;
use bytes::Bytes;
use futures::future::{Either, select};
use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::time::Duration;
use strongroom_env::NetError;
use strongroom_format::wire::{Frame, Request};
use strongroom_types::{Deadline, GroupId, Instant, NodeId};

/// Hints that are followed one after the other without a pause: two nodes may each think that the other leads.
const HINTS_FOLLOWED_MAX: u32 = 2;

/// What one call knows about its tries so far.
struct Tries {
    /// The group's voters, as far as known.
    voters: Vec<NodeId>,
    /// Other nodes: after each round of the voters one of them is asked whether it knows better.
    others: Vec<NodeId>,
    /// Who is asked next where no hint says otherwise.
    turn: usize,
    next: Option<NodeId>,
    hints_followed: u32,
    pause: Duration,
    /// When an outcome was first left open.
    uncertain_since: Option<Instant>,
    /// Whether the last refusal was for lack of room.
    busy: bool,
}

/// What to do after a try.
#[expect(clippy::large_enum_variant, reason = "holders lie inside; these values are few and short-lived")]
enum Step {
    Answer(ClientAnswer),
    /// Ask again; at once where a fresh hint says whom.
    Again {
        hint: Option<NodeId>,
    },
}

impl Meta {
    /// Asks the leader of `group`.
    pub(super) async fn ask(
        &self,
        group: Option<GroupId>,
        operation: Operation,
        deadline: Deadline,
    ) -> Result<ClientAnswer, MetaError> {
        if let Some(group) = group.filter(|group| group.get() >= self.config.groups) {
            return Err(MetaError::NoSuchGroup { group });
        }
        check(&operation)?;
        let voters = self.likely_voters(group);
        let others = self.others().into_iter().filter(|node| !voters.contains(node)).collect();
        let turn = voters.iter().position(|node| *node == self.config.node).unwrap_or(0);
        let mut tries = Tries {
            voters,
            others,
            turn,
            next: self.hint(group),
            hints_followed: 0,
            pause: RETRY_PAUSE_MIN,
            uncertain_since: None,
            busy: false,
        };
        loop {
            let now = self.env.clock.now();
            if let Some(given_up) = tries.given_up(now, deadline) {
                return Err(given_up);
            }
            let Some(target) = tries.next.take().or_else(|| tries.target()) else {
                return Err(MetaError::Unavailable);
            };
            let patience = deadline.remaining(now).min(ATTEMPT_PATIENCE_MAX);
            let found = self.try_at(target, group, &operation, Deadline::after(now, patience)).await;
            match tries.judge(target, found, operation.changes(), self.env.clock.now())? {
                Step::Answer(answer) => {
                    self.hints().insert(group, target);
                    return Ok(answer);
                }
                Step::Again { hint: Some(hint) } if self.known().has(hint) && tries.follow(target, hint) => {}
                Step::Again { .. } => {
                    self.hints().remove(&group);
                    tries.turn += 1;
                    tries.hints_followed = 0;
                    let jitter = self.env.rng.u64() % (tries.pause.as_millis() as u64 / 2 + 1);
                    let pause = tries.pause + Duration::from_millis(jitter);
                    let pause = pause.min(deadline.remaining(self.env.clock.now()));
                    self.env.clock.sleep(pause).await;
                    tries.pause = (tries.pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
    }

    fn hints(&self) -> MutexGuard<'_, BTreeMap<Option<GroupId>, NodeId>> {
        self.hints.lock().expect("no holder of this lock panics")
    }

    /// Who probably leads: what our own voter thinks, else who answered last.
    fn hint(&self, group: Option<GroupId>) -> Option<NodeId> {
        let own = self.group(group).and_then(|own| own.raft.metrics().borrow().current_leader);
        own.map(|id| RaftId::from_bits(id).node()).or_else(|| self.hints().get(&group).copied())
    }

    /// The voters by the membership that this node knows, else those that it was founded with.
    pub(super) fn likely_voters(&self, group: Option<GroupId>) -> Vec<NodeId> {
        let own = self.group(group).map(|group| {
            let metrics = group.raft.metrics().borrow().clone();
            metrics.membership_config.voter_ids().map(|id| RaftId::from_bits(id).node()).collect::<Vec<_>>()
        });
        let founders = || self.config.founding.as_ref().map(|founding| founding.of(group).to_vec());
        let voters = own.filter(|voters| !voters.is_empty()).or_else(founders).unwrap_or_default();
        voters.into_iter().filter(|node| !self.known().is_dismissed(*node)).collect()
    }

    /// Where a leader was seen by this node, which has no part in the group itself, and probably still is.
    fn hearsay(&self, group: Option<GroupId>) -> Option<NodeId> {
        self.hints().get(&group).copied().filter(|node| *node == self.config.node || self.watch.is_up(*node))
    }

    async fn try_at(
        &self,
        target: NodeId,
        group: Option<GroupId>,
        operation: &Operation,
        deadline: Deadline,
    ) -> Result<ClientAnswer, NetError> {
        if target == self.config.node {
            return Ok(self.serve(target, group, operation.clone(), deadline).await);
        }
        let patience = deadline.remaining(self.env.clock.now()).as_millis();
        let request = ClientRequest {
            patience_ms: u32::try_from(patience).unwrap_or(u32::MAX),
            operation: operation.clone(),
        };
        let request = Request::Meta { group, body: encode_body(&request) };
        let frame = self.env.net.call(target, Frame::request(&request, Bytes::new()), deadline).await?;
        // What does not decode may have been done all the same.
        Ok(opaque(&frame).and_then(|body| decode_body(&body)).unwrap_or(ClientAnswer::Unknown))
    }

    /// Answers a message of node `from`: a Raft message where `raft`, else a client's request to a leader.
    pub async fn handle(&self, from: NodeId, group: Option<GroupId>, body: Bytes, raft: bool) -> Bytes {
        let known = self.known();
        let is_known = known.has(from);
        if !is_known {
            self.look_at_members_now();
        }
        if raft {
            let running = self.group(group);
            if running.is_none() && is_known {
                self.begin_where_meant(group, &body);
            }
            let voter = running.filter(|_| is_known);
            return encode_body(&answer(voter.as_ref().map(|group| (group.id, &group.raft)), &body).await);
        }
        let answer = match decode_body::<ClientRequest>(&body) {
            Some(ClientRequest { operation, .. }) if !is_known && !operation.is_for_strangers() => {
                ClientAnswer::NotDone
            }
            Some(ClientRequest { patience_ms, operation }) if check(&operation).is_ok() => {
                let patience = Duration::from_millis(u64::from(patience_ms)).min(ATTEMPT_PATIENCE_MAX);
                self.serve(from, group, operation, Deadline::after(self.env.clock.now(), patience)).await
            }
            Some(_) | None => ClientAnswer::Malformed,
        };
        encode_body(&answer)
    }

    /// A message of a group that does not run here: where it is meant for this life of this node, the group is to.
    fn begin_where_meant(&self, group: Option<GroupId>, body: &[u8]) {
        let life = self.life();
        let Some(id) = life.id().filter(|id| addressee(body) == Some(*id)) else { return };
        if group.is_some_and(|group| group.get() >= self.config.groups) {
            return;
        }
        // Its sender tries again soon.
        if let Some(this) = self.me.upgrade() {
            let begin = async move { this.begin_group(&life, id, group).await };
            self.env.spawn.spawn("meta.begin-group", Box::pin(begin));
        }
    }

    /// Does `operation`, which node `from` asks for, if this node leads the group.
    async fn serve(
        &self,
        from: NodeId,
        group: Option<GroupId>,
        operation: Operation,
        deadline: Deadline,
    ) -> ClientAnswer {
        let operation = match operation {
            Operation::Join(ask) => return ClientAnswer::Join(self.serve_join(from, ask).await),
            operation => operation,
        };
        let Some(group) = self.group(group) else { return ClientAnswer::NotLeader(self.hearsay(group)) };
        match operation {
            Operation::Propose(command) => match group.proposer.propose(command, deadline).await {
                Ok(reply) => ClientAnswer::Reply(reply),
                Err(error) => error.into(),
            },
            Operation::Commit { ticket, entry } => {
                let len_bytes = encoded_len_bytes(&entry);
                match group.proposer.commit(ticket, entry, len_bytes, deadline).await {
                    Ok(outcome) => ClientAnswer::Outcome(outcome),
                    Err(error) => error.into(),
                }
            }
            Operation::ReadControl(query) => {
                let reader = group.reader.clone();
                self.serve_read(&group, deadline, move || reader.control(&query).map(ClientAnswer::Control))
                    .await
            }
            Operation::ReadGroup(query) => {
                let reader = group.reader.clone();
                self.serve_read(&group, deadline, move || reader.group(query).map(ClientAnswer::Group)).await
            }
            Operation::Place(id) => self.serve_place(&group, id, deadline).await,
            Operation::Join(_) => unreachable!("answered above"),
        }
    }

    /// Waits until this node's state has all that was committed by now, where it leads; gives the last entry of that.
    async fn pass(&self, group: &Group, deadline: Deadline) -> Result<Option<u64>, ClientAnswer> {
        let pass = Box::pin(group.barrier.pass());
        match select(pass, self.env.clock.sleep(deadline.remaining(self.env.clock.now()))).await {
            Either::Left((Ok(committed), _)) => Ok(committed),
            Either::Left((Err(error), _)) => Err(error.into()),
            Either::Right(_) => Err(ClientAnswer::NotDone),
        }
    }

    async fn serve_place(&self, group: &Group, id: RaftId, deadline: Deadline) -> ClientAnswer {
        match self.pass(group, deadline).await {
            Ok(committed) => {
                let part = part_of(group, id, committed);
                if part == Part::Awaited {
                    self.look_at_voters_now();
                }
                ClientAnswer::Place { part, committed }
            }
            Err(answer) => answer,
        }
    }

    async fn serve_read(
        &self,
        group: &Group,
        deadline: Deadline,
        read: impl FnOnce() -> Result<ClientAnswer, MachineError> + Send + 'static,
    ) -> ClientAnswer {
        if let Err(answer) = self.pass(group, deadline).await {
            return answer;
        }
        match offload(&self.env.spawn, "meta.read", read).await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "state cannot be read");
                // Where this node's store is damaged another one leads soon, and knows.
                if group.damage.met(&error) { ClientAnswer::NotLeader(None) } else { ClientAnswer::Failed }
            }
            None => ClientAnswer::NotDone,
        }
    }
}

impl Tries {
    /// The error to end with, once it is time to end.
    fn given_up(&self, now: Instant, deadline: Deadline) -> Option<MetaError> {
        let late = deadline.remaining(now).is_zero();
        match self.uncertain_since {
            Some(since) => (late || now.since(since) > RETRY_UNCERTAIN_MAX).then_some(MetaError::Unknown),
            None if late && self.busy => Some(MetaError::Busy),
            None => late.then_some(MetaError::Unavailable),
        }
    }

    fn judge(
        &mut self,
        target: NodeId,
        found: Result<ClientAnswer, NetError>,
        changes: bool,
        now: Instant,
    ) -> Result<Step, MetaError> {
        self.busy = matches!(found, Ok(ClientAnswer::Busy) | Err(NetError::Busy { .. }));
        let (open, hint) = match found {
            Ok(
                answer @ (ClientAnswer::Reply(_)
                | ClientAnswer::Outcome(_)
                | ClientAnswer::Control(_)
                | ClientAnswer::Group(_)
                | ClientAnswer::Place { .. }),
            ) => return Ok(Step::Answer(answer)),
            Ok(ClientAnswer::Failed) => return Err(MetaError::Failed),
            Ok(ClientAnswer::NotLeader(hint)) => (false, hint),
            Ok(ClientAnswer::Deposed(hint)) => (true, hint),
            // The leader knows what it lacks room for; it is asked again after the pause.
            Ok(ClientAnswer::Busy) | Err(NetError::Busy { .. }) => {
                self.next = Some(target);
                (false, None)
            }
            Ok(ClientAnswer::NotDone | ClientAnswer::Malformed | ClientAnswer::Join(_))
            | Err(NetError::Unreachable { .. } | NetError::TooLarge { .. }) => (false, None),
            Ok(ClientAnswer::Unknown) | Err(NetError::Lost { .. } | NetError::TimedOut { .. }) => {
                (true, None)
            }
        };
        if open && changes {
            self.uncertain_since.get_or_insert(now);
        }
        Ok(Step::Again { hint })
    }

    /// Whose turn it is; `None` where nobody else is known.
    fn target(&self) -> Option<NodeId> {
        let round = self.voters.len() + usize::from(!self.others.is_empty());
        let place = self.turn.checked_rem(round)?;
        let other = || self.others[(self.turn / round) % self.others.len()];
        Some(self.voters.get(place).copied().unwrap_or_else(other))
    }

    /// Takes a hint, unless it leads in a circle.
    fn follow(&mut self, target: NodeId, hint: NodeId) -> bool {
        let follow = hint != target && self.hints_followed < HINTS_FOLLOWED_MAX;
        if follow {
            self.hints_followed += 1;
            self.next = Some(hint);
        }
        follow
    }
}

impl From<ProposeError> for ClientAnswer {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader(hint) => Self::NotLeader(hint),
            ProposeError::Deposed(hint) => Self::Deposed(hint),
            ProposeError::Busy => Self::Busy,
            ProposeError::TooLate => Self::NotDone,
            ProposeError::Unknown => Self::Unknown,
        }
    }
}

impl From<BarrierError> for ClientAnswer {
    fn from(error: BarrierError) -> Self {
        match error {
            BarrierError::NotLeader(hint) => Self::NotLeader(hint),
            BarrierError::NoQuorum | BarrierError::Stopped => Self::NotDone,
            BarrierError::Busy => Self::Busy,
        }
    }
}
