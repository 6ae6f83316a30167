//! Proposals on the leader. Commits are gathered: while one command is on its way, those that come meanwhile wait, and go
//! together as the next one. Other commands go at once, each for itself.
//!
//! Every wait is bounded by its caller's deadline, and says at the end what is known: a commit that is still in the queue was
//! certainly not proposed; one that was proposed may be applied now, later or never.

use crate::group::{Entry, EntryOutcome, GroupReply};
use crate::limits::{
    COMMIT_BATCH_LEN_BYTES_MAX, COMMIT_QUEUE_ENTRIES_MAX, COMMIT_QUEUE_LEN_BYTES_MAX, PROPOSALS_MAX,
};
use crate::raft::{Command, Raft, Reply, Ticket};
use crate::raft_id::RaftId;
use futures::future::{Either, select};
use openraft::error::ClientWriteError;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_env::Env;
use strongroom_types::limits::COMMIT_BATCH_ENTRIES_MAX;
use strongroom_types::{Deadline, NodeId};
use tokio::sync::oneshot;

/// Why a proposal has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProposeError {
    /// Another node leads, perhaps the one named. Certainly not applied.
    NotLeader(Option<NodeId>),
    /// Proposed, and then taken from this node's log by a later leader. With five voters another one may still hold it and
    /// come to lead: may or may not be applied.
    Deposed(Option<NodeId>),
    /// A bound was reached. Certainly not applied.
    Busy,
    /// The deadline passed before it was proposed. Certainly not applied.
    TooLate,
    /// Proposed; may or may not be applied, now or later.
    Unknown,
}

pub(crate) struct Proposer {
    id: RaftId,
    raft: Raft,
    env: Env,
    queue: Mutex<Queue>,
    proposals: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    running: bool,
    waiting: VecDeque<Waiting>,
    len_bytes: usize,
    next_place: u64,
}

struct Waiting {
    /// Names it in the queue.
    place: u64,
    ticket: Ticket,
    entry: Entry,
    len_bytes: usize,
    deadline: Deadline,
    answer: oneshot::Sender<Result<EntryOutcome, ProposeError>>,
}

impl Queue {
    /// The next command's entries, from the front, within the bounds of a command.
    fn take_batch(&mut self) -> Vec<Waiting> {
        let mut batch = Vec::new();
        let mut len_bytes = 0;
        while let Some(first) = self.waiting.front() {
            if batch.len() == COMMIT_BATCH_ENTRIES_MAX || len_bytes >= COMMIT_BATCH_LEN_BYTES_MAX {
                break;
            }
            len_bytes += first.len_bytes;
            batch.extend(self.waiting.pop_front());
        }
        self.len_bytes -= len_bytes;
        batch
    }

    /// Takes one out that was not proposed yet.
    fn withdraw(&mut self, place: u64) -> bool {
        let Ok(index) = self.waiting.binary_search_by_key(&place, |waiting| waiting.place) else {
            return false;
        };
        let withdrawn = self.waiting.remove(index).expect("the index was just found");
        self.len_bytes -= withdrawn.len_bytes;
        true
    }
}

impl Proposer {
    pub(crate) fn new(id: RaftId, raft: Raft, env: Env) -> Arc<Self> {
        Arc::new(Self { id, raft, env, queue: Mutex::default(), proposals: AtomicUsize::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder of this lock panics")
    }

    /// Proposes a command other than a commit.
    pub(crate) async fn propose(&self, command: Command, deadline: Deadline) -> Result<Reply, ProposeError> {
        if self.proposals.fetch_add(1, Ordering::AcqRel) >= PROPOSALS_MAX {
            self.proposals.fetch_sub(1, Ordering::AcqRel);
            return Err(ProposeError::Busy);
        }
        let _counted = Counted(&self.proposals);
        self.write(command, deadline).await
    }

    /// Proposes one commit, together with others. `len_bytes` is its encoded length.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        ticket: Ticket,
        entry: Entry,
        len_bytes: usize,
        deadline: Deadline,
    ) -> Result<EntryOutcome, ProposeError> {
        let (answer, answered) = oneshot::channel();
        let (place, start) = {
            let mut queue = self.lock();
            let full = queue.waiting.len() >= COMMIT_QUEUE_ENTRIES_MAX
                || queue.len_bytes + len_bytes > COMMIT_QUEUE_LEN_BYTES_MAX;
            if full {
                return Err(ProposeError::Busy);
            }
            let place = queue.next_place;
            queue.next_place += 1;
            queue.len_bytes += len_bytes;
            queue.waiting.push_back(Waiting { place, ticket, entry, len_bytes, deadline, answer });
            (place, !std::mem::replace(&mut queue.running, true))
        };
        let withdraw = Withdraw { proposer: self, place };
        if start {
            self.env.spawn.spawn("meta.commit", Box::pin(Arc::clone(self).run()));
        }
        let patience = deadline.remaining(self.env.clock.now());
        match select(answered, self.env.clock.sleep(patience)).await {
            Either::Left((Ok(outcome), _)) => outcome,
            Either::Left((Err(_), _)) => Err(ProposeError::Unknown),
            Either::Right(_) if withdraw.now() => Err(ProposeError::TooLate),
            Either::Right(_) => Err(ProposeError::Unknown),
        }
    }

    async fn run(self: Arc<Self>) {
        loop {
            let batch = {
                let mut queue = self.lock();
                let batch = queue.take_batch();
                if batch.is_empty() {
                    queue.running = false;
                    return;
                }
                batch
            };
            // Nobody waits longer than this; and openraft may never answer (an entry that a snapshot overtook).
            let deadline =
                batch.iter().map(|waiting| waiting.deadline).max().expect("the batch is not empty");
            let (entries, answers): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| ((waiting.ticket, waiting.entry), waiting.answer)).unzip();
            let count = entries.len();
            let outcomes = match self.write(Command::Commit { entries }, deadline).await {
                Ok(Reply::Group(GroupReply::Committed(outcomes))) if outcomes.len() == count => {
                    outcomes.into_iter().map(Ok).collect()
                }
                // The group is of the other kind; routing does not let this happen.
                Ok(_) => vec![Err(ProposeError::Unknown); count],
                Err(error) => vec![Err(error); count],
            };
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                let _ = answer.send(outcome);
            }
        }
    }

    async fn write(&self, command: Command, deadline: Deadline) -> Result<Reply, ProposeError> {
        let patience = deadline.remaining(self.env.clock.now());
        if patience.is_zero() {
            return Err(ProposeError::TooLate);
        }
        // Asked first, because openraft's refusal does not say whether the entry was in the log before.
        let leader = self.raft.metrics().borrow().current_leader;
        if leader != Some(self.id.to_bits()) {
            return Err(ProposeError::NotLeader(leader.map(|id| RaftId::from_bits(id).node())));
        }
        // A stopped group did not take it.
        let Ok(answered) = self.raft.client_write_ff(command).await else {
            return Err(ProposeError::NotLeader(None));
        };
        match select(answered, self.env.clock.sleep(patience)).await {
            Either::Left((Ok(Ok(response)), _)) => Ok(response.data),
            Either::Left((Ok(Err(ClientWriteError::ForwardToLeader(forward))), _)) => {
                Err(ProposeError::Deposed(forward.leader_id.map(|id| RaftId::from_bits(id).node())))
            }
            Either::Left((Ok(Err(ClientWriteError::ChangeMembershipError(_))) | Err(_), _))
            | Either::Right(_) => Err(ProposeError::Unknown),
        }
    }
}

/// Gives a proposal's place back, however its future ends.
struct Counted<'count>(&'count AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Takes a commit out of the queue where its caller went away.
struct Withdraw<'proposer> {
    proposer: &'proposer Proposer,
    place: u64,
}

impl Withdraw<'_> {
    fn now(&self) -> bool {
        self.proposer.lock().withdraw(self.place)
    }
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.now();
    }
}
