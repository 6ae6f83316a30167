//! Whether the store is what this node had last, or an older copy of it.
//!
//! A state directory that is put back as it was earlier is whole in itself: its ledger fits, and its id may be the present one. But what was
//! promised since is gone. So a member counts each opening of its store, durably, and tells all other nodes before its groups run; they
//! remember the last opening, durably before they answer, and one that comes back with less, or with the same number in another run, is told.
//! Such a store is set aside, and the node enrols anew.
//!
//! A copy that was taken during the last run is not told by that. So those that lead groups answer what this voter said to have in their term;
//! if its store has not got that, it is older too.
//!
//! | the node is | then |
//! |---|---|
//! | started again | it comes with a greater number |
//! | cut off while it stores the number | nobody heard of it; it stores it again |
//! | cut off before all have heard | those that have remember less than what comes next |
//! | an older copy, of this id or an earlier one | who heard of a later opening says so |
//! | an older copy of the last opening | a leader says what it was told since, or it misses nothing that counts in its term |
//! | one that was no member yet, as which it may have promised since | it becomes one, opens, and is told |
//!
//! Nodes that do not answer are waited for no longer than [`OPENING_PATIENCE`], or a group of three could not start with one of them down;
//! they are asked on until each has answered once, and so are those that come to be known later. So an older copy that starts while everybody who knows better is away votes until
//! they are back. What the control group gave since (`voters`) is asked for besides.

use super::Meta;
use super::life::Life;
use super::start::Kept;
use crate::client::{JoinAnswer, JoinAsk};
use crate::codec::{self, OPENING, seen_key};
use crate::fault::MetaFault;
use crate::kv::{Batch, OrderedKv};
use crate::limits::{JOIN_PATIENCE, JOIN_PAUSE_MAX, JOIN_PAUSE_MIN, OPENING_PATIENCE};
use crate::log::LogError;
use crate::machine::MachineError;
use crate::raft::{LogId, Vote};
use crate::raft_id::RaftId;
use crate::standing::Standing;
use crate::syncer::SyncError;
use futures::FutureExt as _;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use strongroom_types::{Deadline, GroupId, NodeId};

/// One opening of a member's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opening {
    /// The founding of its cluster.
    pub(crate) founding: u64,
    /// See `RaftId`.
    pub(crate) incarnation: u32,
    /// Counts the openings of this incarnation, from 1.
    pub(crate) number: u64,
    /// Drawn for this run, so that two openings with one number are told apart.
    pub(crate) run: u64,
}

impl Opening {
    /// Whether its store has forgotten what `seen` knew.
    fn is_outdated_by(&self, seen: &Self) -> bool {
        let (own, last) = ((self.incarnation, self.number), (seen.incarnation, seen.number));
        self.founding == seen.founding && (own < last || own == last && self.run != seen.run)
    }
}

/// What a voter said to have in a group, to its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    group: Option<GroupId>,
    /// The leader's; who answers it has stored it.
    vote: Vote,
    last: LogId,
}

impl Said {
    /// Whether a store that holds this has forgotten it.
    fn is_forgotten_by(&self, kept: &Kept) -> bool {
        match kept.vote {
            Some(vote) if vote > self.vote => false,
            Some(vote) if vote == self.vote => {
                // What a snapshot brought need not be in the log.
                kept.last < Some(self.last) && kept.applied.reached(self.last.index).now_or_never().is_none()
            }
            Some(_) | None => true,
        }
    }
}

/// What a life knows of its own opening.
#[derive(Default)]
pub(super) struct Opened {
    opening: Option<Opening>,
    /// Who has heard of it.
    heard: BTreeSet<NodeId>,
}

impl Opened {
    pub(super) fn is_told(&self) -> bool {
        self.opening.is_some()
    }
}

/// A peer remembers a later opening.
#[derive(Debug, thiserror::Error)]
#[error("an older copy: {peer} saw a later opening than number {} of incarnation {}", opening.number, opening.incarnation)]
struct Outdated {
    peer: NodeId,
    opening: Opening,
}

/// A leader remembers more than the store holds.
#[derive(Debug, thiserror::Error)]
#[error("an older copy: it told {peer} to have {} of group {:?}, and has not", said.last, said.group)]
struct Forgotten {
    peer: NodeId,
    said: Said,
}

/// Why an opening cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpeningError {
    #[error("openings cannot be read")]
    Read(#[from] MachineError),
    #[error("an opening cannot be stored")]
    Store(#[from] SyncError),
    #[error("votes cannot be read")]
    Kept(#[from] LogError),
}

impl Meta {
    /// Tells all others that this store is open, as `incarnation`; whether its groups may run.
    pub(super) async fn open(
        &self,
        life: &Life,
        founding: u64,
        incarnation: u32,
    ) -> Result<bool, OpeningError> {
        if self.config.faults.has(MetaFault::RollBackUnnoticed)
            || self.config.faults.has(MetaFault::ReuseRaftId)
        {
            return Ok(true);
        }
        let known = life.opened.lock().unwrap_or_else(PoisonError::into_inner).opening;
        if known.is_none() {
            let number = load(life, "opening of the store", &OPENING)?.unwrap_or(0_u64) + 1;
            let mut batch = Batch::default();
            codec::put(&mut batch, OPENING.to_vec(), &number);
            store(life, batch).await?;
            let mut opened = life.opened.lock().unwrap_or_else(PoisonError::into_inner);
            opened.opening = Some(Opening { founding, incarnation, number, run: life.run });
        }
        let kept = life.kept()?;
        self.tell_opening(life, Some(&kept), Deadline::after(self.env.clock.now(), OPENING_PATIENCE)).await;
        Ok(life.damage.reason().is_none())
    }

    /// Goes on until every node has heard of this opening, and those that join later.
    pub(super) async fn tell_the_rest(&self, life: &Life) {
        loop {
            self.env.clock.sleep(JOIN_PAUSE_MAX).await;
            // Its groups run: what it says to their leaders by now is none of what it had.
            self.tell_opening(life, None, Deadline::after(self.env.clock.now(), JOIN_PATIENCE)).await;
        }
    }

    /// Tells those that have not heard yet, each as often as it takes until the deadline. `kept` is what the store has, where it is to be compared.
    async fn tell_opening(
        &self,
        life: &Life,
        kept: Option<&BTreeMap<Option<GroupId>, Kept>>,
        deadline: Deadline,
    ) {
        let others = self.others();
        let (opening, unheard) = {
            let opened = life.opened.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(opening) = opened.opening else { return };
            let unheard: Vec<NodeId> =
                others.into_iter().filter(|node| !opened.heard.contains(node)).collect();
            (opening, unheard)
        };
        join_all(unheard.into_iter().map(async |peer| {
            let answer = loop {
                let remaining = deadline.remaining(self.env.clock.now());
                if remaining.is_zero() {
                    return;
                }
                if let Some(answer) = self.ask_peer(peer, JoinAsk::Opened(opening), remaining).await {
                    break answer;
                }
                self.env.clock.sleep(JOIN_PAUSE_MIN.min(remaining)).await;
            };
            match answer {
                JoinAnswer::Outdated => life.damage.found(&Outdated { peer, opening }),
                JoinAnswer::Seen { said } => {
                    // One that has nothing of a group has forgotten all that it ever said there.
                    let is_forgotten = |said: &&Said| {
                        kept.is_some_and(|kept| {
                            kept.get(&said.group).is_none_or(|kept| said.is_forgotten_by(kept))
                        })
                    };
                    if let Some(said) = said.iter().find(is_forgotten) {
                        life.damage.found(&Forgotten { peer, said: *said });
                    }
                    life.opened.lock().unwrap_or_else(PoisonError::into_inner).heard.insert(peer);
                }
                // Not this time.
                JoinAnswer::Promised
                | JoinAnswer::Founded { .. }
                | JoinAnswer::NotFounded
                | JoinAnswer::Noted
                | JoinAnswer::Members(_)
                | JoinAnswer::Heard
                | JoinAnswer::Refused => {}
            }
        }))
        .await;
    }

    /// Answers node `from`. `standing` is this node's own, and stays as it is meanwhile.
    pub(super) async fn serve_opening(
        &self,
        life: &Life,
        standing: Option<&Standing>,
        from: NodeId,
        opening: Opening,
    ) -> JoinAnswer {
        // What is kept of each is bounded by how many there may be.
        if !self.known().has(from) {
            self.look_at_members_now();
            return JoinAnswer::Refused;
        }
        // A founder that was erased before anybody followed it left a founding that is none.
        if standing.and_then(Standing::founding).is_some_and(|founding| founding != opening.founding) {
            return JoinAnswer::Outdated;
        }
        let key = seen_key(from);
        match load::<Opening>(life, "opening of a peer", &key) {
            Ok(Some(seen)) if opening.is_outdated_by(&seen) => return JoinAnswer::Outdated,
            Ok(Some(seen)) if seen == opening => {
                return JoinAnswer::Seen { said: said_by(life, from, opening) };
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "opening of a peer cannot be read");
                return JoinAnswer::Refused;
            }
        }
        let mut batch = Batch::default();
        codec::put(&mut batch, key, &opening);
        match store(life, batch).await {
            Ok(()) => JoinAnswer::Seen { said: said_by(life, from, opening) },
            Err(_) => JoinAnswer::Refused,
        }
    }
}

/// What `from` said to have in the groups that this node leads.
fn said_by(life: &Life, from: NodeId, opening: Opening) -> Vec<Said> {
    let Some(id) = RaftId::new(from, opening.incarnation) else { return Vec::new() };
    let running = life.running.read().unwrap_or_else(PoisonError::into_inner);
    let said = running.groups.iter().filter_map(|(group, running)| {
        let metrics = running.raft.metrics().borrow().clone();
        let last = (*metrics.replication?.get(&id.to_bits())?)?;
        Some(Said { group: *group, vote: metrics.vote, last })
    });
    said.collect()
}

fn load<R: serde::de::DeserializeOwned>(
    life: &Life,
    what: &'static str,
    key: &[u8],
) -> Result<Option<R>, MachineError> {
    let found = match life.lease.get(key).map_err(MachineError::from) {
        Ok(Some(value)) => codec::open(what, key, &value).map(Some).map_err(MachineError::from),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    found.inspect_err(|error| {
        if error.is_damage() {
            life.damage.found(error);
        }
    })
}

/// Makes it durable.
async fn store(life: &Life, batch: Batch) -> Result<(), SyncError> {
    life.lease.apply(batch).map_err(|error| SyncError::Failed(Arc::new(error)))?;
    life.syncer.sync().await
}
