//! How a store becomes a member: by founding the cluster with all its other voters, or, where it was founded before, by enrolling.
//!
//! **Founding.** The founder is the lowest of all voters. It draws a nonce, stores it as its own promise, and asks every voter to promise
//! it. A voter that is not a member stores the nonce before it says yes. Once all have said yes in one run, and the founder's latest
//! promise still is that nonce, it becomes a member with incarnation 0; the other voters ask all voters how they stand, and
//! one that hears of a member of a founding which it has promised itself becomes a member too. Each member of incarnation 0 writes
//! the first entry of its groups' logs itself: the voters, which are the same everywhere.
//!
//! | power fails, or state is lost | then |
//! |---|---|
//! | founder, before it stored the nonce | nobody heard of it; it draws another |
//! | founder, while it asks | it has the nonce and asks again; who promised says yes again |
//! | founder, after all said yes | as before: nothing counts before it is a member itself, durably |
//! | voter, before it stored the promise | it did not answer; it is asked again |
//! | voter, after it stored the promise | it says yes again |
//! | voter erased before the founder is a member | it promises again as if for the first time: it had voted in nothing |
//! | voter erased afterwards | it has not promised that nonce, so it enrols |
//! | founder erased before it is a member | it draws another nonce; voters promise it besides, which takes their word for the earlier one back |
//! | founder erased afterwards, others members | the first of them says so; it enrols |
//! | founder erased afterwards, none is a member yet | as if never founded: nobody has voted in anything but the founder, alone |
//!
//! *No two foundings.* A founding needs the promise of every voter, and a member promises nothing more. So while one voter is a
//! member of founding `a`, nobody can make `b`. A promise that was taken back, by one for `b`, still lets its voter follow a member of
//! `a` that it hears of: that member's word is needed for `b`, and it will not give it. Only an answer to a question that was
//! asked since the promise counts for that: an earlier one may speak of a founder that was erased meanwhile.
//!
//! **Enrolling.** A store that hears of a founding which it has not promised was not there, or was erased: that of a node which joins, of one that
//! founds nothing, of one that lost its state. It draws a nonce for this run and
//! asks the control group for an incarnation, as often as it takes: the same nonce gets the same one. A crash costs that incarnation and no
//! more. Only when the incarnation is stored, and its opening told (`openings`), may it have part in groups: in those whose leaders
//! take it in (`voters`), which begin here when the first message of such a leader comes. It is ready once all that are to have (`place`). Then it asks to be
//! in the table of nodes (`members`). While another machine answers under its id it does not enrol.
//!
//! **What this does not cover.** A majority of a group erased at once: the rest knows that it is not a majority, and refuses. It says so.

use super::life::Life;
use super::{Meta, MetaError};
use crate::client::{ClientAnswer, ClientRequest, JoinAnswer, JoinAsk, Operation};
use crate::control::{ControlAnswer, ControlCommand, ControlQuery, ControlReply};
use crate::limits::{JOIN_ALARM_AFTER, JOIN_PATIENCE, JOIN_PAUSE_MAX, JOIN_PAUSE_MIN, PROMISES_MAX};
use crate::network::{decode_body, encode_body, opaque};
use crate::standing::{Founding, Standing};
use crate::syncer::SyncError;
use bytes::Bytes;
use futures::future::{join, join_all};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use strongroom_format::wire::{Frame, Request};
use strongroom_types::{Deadline, NodeId};

impl Meta {
    /// Those that found the cluster, where this node is to be one of them.
    fn founders(&self) -> BTreeSet<NodeId> {
        let founding = self.config.founding.iter().filter(|founding| founding.has(self.config.node));
        founding.flat_map(Founding::described).flat_map(|(_, voters)| voters.iter().copied()).collect()
    }

    fn founder(&self) -> Option<NodeId> {
        self.founders().first().copied()
    }

    /// Becomes a member, however long that takes, and starts the groups. Returns early where this life ends.
    pub(super) async fn join(&self, life: &Arc<Life>) {
        let (begun, mut pause) = (self.env.clock.now(), JOIN_PAUSE_MIN);
        while !self.step(life).await {
            if self.env.clock.now().since(begun) > JOIN_ALARM_AFTER {
                self.tell_stuck(life).await;
            }
            self.env.clock.sleep(pause).await;
            pause = (pause * 2).min(JOIN_PAUSE_MAX);
        }
    }

    /// One try; whether this life is a member with running groups now.
    async fn step(&self, life: &Arc<Life>) -> bool {
        let standing = life.standing.lock().await.clone();
        let done = match standing {
            Some(Standing::Member { incarnation, founding }) => {
                return self.take_part(life, incarnation, founding).await;
            }
            Some(Standing::Enrolling { founding }) => self.enrol(life, founding).await,
            None | Some(Standing::Promised { .. }) if self.founder() == Some(self.config.node) => {
                self.found(life).await
            }
            before @ (None | Some(Standing::Promised { .. })) => self.listen(life, before).await,
        };
        if let Err(error) = done {
            tracing::error!(error = &error as &dyn std::error::Error, "standing cannot be stored");
        }
        false
    }

    async fn take_part(&self, life: &Arc<Life>, incarnation: u32, founding: u64) -> bool {
        match self.open(life, founding, incarnation).await {
            Ok(true) => {}
            // This life ends.
            Ok(false) => return false,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store is not open");
                return false;
            }
        }
        if let Err(error) = self.start_groups(life, incarnation).await {
            tracing::error!(error = &error as &dyn std::error::Error, "groups cannot be started");
            return false;
        }
        if incarnation == 0 {
            self.stand(life).await;
            self.look_at_members_now();
        } else {
            self.look_at_members_now();
            // Those that lead look at once instead of at their next turn.
            self.ask_all(&JoinAsk::Enrolled).await;
        }
        true
    }

    /// In groups that never had a leader the lowest voter stands at once, without waiting for one. By what it stored: what openraft tells of a group that
    /// was just started is not what it has read, and whoever stands where a leader lives deposes it.
    async fn stand(&self, life: &Life) {
        let groups = life.running.read().unwrap_or_else(PoisonError::into_inner).groups.clone();
        // Where it cannot be read now it is told, and the groups elect by themselves.
        let Ok(Some(founding)) = self.founding(life) else { return };
        for (id, voters) in founding.described() {
            let Some(group) = groups.get(&id) else { continue };
            if group.is_fresh && voters.iter().min() == Some(&self.config.node) {
                // Where the group is stopped, it says so itself.
                let _ = group.raft.trigger().elect().await;
            }
        }
    }

    /// The founder's side.
    async fn found(&self, life: &Life) -> Result<(), SyncError> {
        let (nonce, before) = {
            let mut standing = life.standing.lock().await;
            let nonce = match &*standing {
                Some(Standing::Promised { nonces }) if !nonces.is_empty() => nonces[nonces.len() - 1],
                _ => {
                    let nonce = self.env.rng.u64();
                    let promised = Standing::Promised { nonces: vec![nonce] };
                    promised.save(&*life.lease, &life.syncer).await?;
                    *standing = Some(promised);
                    nonce
                }
            };
            (nonce, standing.clone())
        };
        let founders = self.founders();
        let promise = JoinAsk::Promise { nonce };
        let promises = founders.iter().filter(|node| **node != self.config.node);
        let promises = promises.map(|peer| self.ask_peer(*peer, promise.clone(), JOIN_PATIENCE));
        // Founders may all have been replaced since, where this node is one that was erased.
        let others = self.others().into_iter().filter(|node| !founders.contains(node));
        let others = others.map(|peer| self.ask_peer(peer, JoinAsk::Standing, JOIN_PATIENCE));
        let (answers, others) = join(join_all(promises), join_all(others)).await;
        if let Some(founding) = founded(&answers).or_else(|| founded(&others)) {
            return self.heard(life, before, founding).await;
        }
        let mut standing = life.standing.lock().await;
        if *standing != before {
            return Ok(());
        }
        if answers.contains(&Some(JoinAnswer::Refused)) {
            // It heard what an earlier life of this node asked after what this one did, and takes none of both back. A new founding is later than any.
            let promised = Standing::Promised { nonces: vec![self.env.rng.u64()] };
            promised.save(&*life.lease, &life.syncer).await?;
            *standing = Some(promised);
        } else if answers.iter().all(|answer| *answer == Some(JoinAnswer::Promised)) {
            let member = Standing::Member { incarnation: 0, founding: nonce };
            self.save_founded(life, &member).await?;
            *standing = Some(member);
        }
        Ok(())
    }

    /// With the voters of all groups, which this store is founded with.
    async fn save_founded(&self, life: &Life, member: &Standing) -> Result<(), SyncError> {
        let founding = self.config.founding.as_ref().expect("who is founded was told with whom");
        member.save_founded(founding, &*life.lease, &life.syncer).await
    }

    /// Another voter's side: asks whether there is a cluster.
    async fn listen(&self, life: &Life, before: Option<Standing>) -> Result<(), SyncError> {
        match founded(&self.ask_all(&JoinAsk::Standing).await) {
            Some(founding) => self.heard(life, before, founding).await,
            None => Ok(()),
        }
    }

    /// A member of this founding was heard of, in answer to a question that was asked while this node stood as `before`.
    async fn heard(&self, life: &Life, before: Option<Standing>, founding: u64) -> Result<(), SyncError> {
        let mut standing = life.standing.lock().await;
        if *standing != before {
            return Ok(());
        }
        let next = match &*standing {
            Some(Standing::Promised { nonces })
                if nonces.contains(&founding) && self.config.founding.is_some() =>
            {
                Standing::Member { incarnation: 0, founding }
            }
            None | Some(Standing::Promised { .. }) => Standing::Enrolling { founding },
            Some(Standing::Enrolling { .. } | Standing::Member { .. }) => return Ok(()),
        };
        match next {
            Standing::Member { .. } => self.save_founded(life, &next).await?,
            _ => next.save(&*life.lease, &life.syncer).await?,
        }
        *standing = Some(next);
        Ok(())
    }

    async fn enrol(&self, life: &Life, founding: u64) -> Result<(), SyncError> {
        // Only who has read the table can tell whether a new incarnation would end somebody else's.
        if !self.reads_and_may_take_part(life).await {
            return Ok(());
        }
        let deadline = Deadline::after(self.env.clock.now(), JOIN_PATIENCE);
        let Ok(ControlAnswer::Enrolments(given)) =
            self.control_query(ControlQuery::Enrolments, deadline).await
        else {
            return Ok(());
        };
        let after = given.get(&self.config.node).copied().unwrap_or(0);
        // Not a stored nonce: an older copy of a store that was about to enrol would get the incarnation that was used since.
        let command = ControlCommand::Enrol { node: self.config.node, nonce: life.run, after };
        match self.control(command, deadline).await {
            Ok(ControlReply::Enrolled { incarnation }) => {
                let mut standing = life.standing.lock().await;
                let member = Standing::Member { incarnation, founding };
                member.save(&*life.lease, &life.syncer).await?;
                *standing = Some(member);
                tracing::warn!(incarnation, "this node's state is new: it joins its groups as another voter");
            }
            // Given to an earlier life in the meantime, or dismissed; the next try knows.
            Ok(ControlReply::Outdated | ControlReply::Dismissed) => {}
            Ok(other) => self.alarms.raise(&format!("this node is given no new Raft id: {other:?}")),
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "not enrolled yet"),
        }
        Ok(())
    }

    async fn tell_stuck(&self, life: &Life) {
        let others = self.others();
        match &*life.standing.lock().await {
            Some(Standing::Enrolling { .. }) => self.alarms.raise(&format!(
                "new and empty, and the control group does not let this node in: a majority of its voters, among nodes {others:?}, must run with \
                 the state directories that they had. If those are gone for good, the cluster cannot go on by itself"
            )),
            None if self.config.founding.is_none() => self.alarms.raise_membership(&format!(
                "this node is to join a cluster, and none of nodes {others:?} says that it is one: check their addresses in its node.toml, and that \
                 they run; of another cluster.id nobody answers"
            )),
            // A cluster that is being made waits for its operator to start the other nodes, who knows that.
            None | Some(Standing::Promised { .. } | Standing::Member { .. }) => {}
        }
    }

    /// What a node that is not a member waits for; `None` where it is one.
    pub(super) fn waits_for(&self) -> Option<String> {
        let life = self.life();
        if life.id().is_some() {
            return None;
        }
        if life.is_open() {
            return Some(String::from(
                "other nodes are asked whether this node's state is the last that they saw",
            ));
        }
        let founders = self.founders();
        Some(match founders.is_empty() {
            true => format!(
                "this node has no state yet: a cluster must let it in, by way of nodes {:?}",
                self.others()
            ),
            false => format!(
                "this node has no state yet: a new cluster needs all of nodes {founders:?} to start, and one that exists must let it in"
            ),
        })
    }

    pub(super) async fn ask_peer(
        &self,
        peer: NodeId,
        ask: JoinAsk,
        patience: Duration,
    ) -> Option<JoinAnswer> {
        let patience_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let request = ClientRequest { patience_ms, operation: Operation::Join(ask) };
        let request = Request::Meta { group: None, body: encode_body(&request) };
        let deadline = Deadline::after(self.env.clock.now(), patience);
        let frame = self.env.net.call(peer, Frame::request(&request, Bytes::new()), deadline).await.ok()?;
        match opaque(&frame).and_then(|body| decode_body(&body))? {
            ClientAnswer::Join(answer) => Some(answer),
            _ => None,
        }
    }

    /// Answers another node.
    pub(super) async fn serve_join(&self, from: NodeId, ask: JoinAsk) -> JoinAnswer {
        let life = self.life();
        let mut standing = life.standing.lock().await;
        let known = standing.as_ref().and_then(Standing::founding);
        match (ask, known) {
            (JoinAsk::Opened(opening), _) => {
                self.serve_opening(&life, standing.as_ref(), from, opening).await
            }
            (JoinAsk::Enrolled, _) => {
                self.look_at_voters_now();
                JoinAnswer::Noted
            }
            (JoinAsk::Members, _) => JoinAnswer::Members(self.known().members().into_values().collect()),
            (JoinAsk::Namesake { address }, _) => self.serve_namesake(from, address),
            (JoinAsk::Hears { node }, _) => self.serve_hears(node),
            (JoinAsk::Standing | JoinAsk::Promise { .. }, Some(founding)) => JoinAnswer::Founded { founding },
            (JoinAsk::Standing, None) => JoinAnswer::NotFounded,
            (JoinAsk::Promise { .. }, None) if self.founder() != Some(from) => JoinAnswer::Refused,
            (JoinAsk::Promise { nonce }, None) => {
                let mut nonces = match &*standing {
                    Some(Standing::Promised { nonces }) => nonces.clone(),
                    _ => Vec::new(),
                };
                if nonces.last() == Some(&nonce) {
                    return JoinAnswer::Promised;
                }
                // One that was taken back.
                if nonces.contains(&nonce) {
                    return JoinAnswer::Refused;
                }
                nonces.push(nonce);
                // Of a founding that it forgot to have promised it hears as one that was not there: it enrols.
                let excess = nonces.len().saturating_sub(PROMISES_MAX);
                nonces.drain(..excess);
                let promised = Standing::Promised { nonces };
                if promised.save(&*life.lease, &life.syncer).await.is_err() {
                    return JoinAnswer::Refused;
                }
                *standing = Some(promised);
                JoinAnswer::Promised
            }
        }
    }

    /// Waits until this node is a member.
    pub(super) async fn joined(&self, deadline: Deadline) -> Result<(), MetaError> {
        while self.life().id().is_none() {
            if deadline.remaining(self.env.clock.now()).is_zero() {
                return Err(MetaError::Unavailable);
            }
            self.env.clock.sleep(JOIN_PAUSE_MIN).await;
        }
        Ok(())
    }
}

/// The founding that someone is a member of.
fn founded(answers: &[Option<JoinAnswer>]) -> Option<u64> {
    answers.iter().find_map(|answer| match answer {
        Some(JoinAnswer::Founded { founding }) => Some(*founding),
        _ => None,
    })
}
