//! Linearizable reads on the leader: ReadIndex, one round for all readers that came before it began.
//!
//! A reader may use a round only if it came before the round began: the round proves leadership, and fixes the index to wait
//! for, at a time after the reader asked. No lease is trusted: clocks prove nothing here.

use crate::limits::READERS_MAX;
use crate::machine::Applied;
use crate::raft::Raft;
use crate::raft_id::RaftId;
use openraft::error::{CheckIsLeaderError, RaftError};
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_env::Spawn;
use strongroom_types::NodeId;
use tokio::sync::oneshot;

/// Why a round gave no index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BarrierError {
    /// Another node leads, perhaps the one named.
    NotLeader(Option<NodeId>),
    /// A quorum did not answer.
    NoQuorum,
    /// The group is stopped on this node.
    Stopped,
    /// Too many readers wait.
    Busy,
}

/// What readers wait for: the index that the state must reach; `None` where nothing was ever committed.
type Round = Result<Option<u64>, BarrierError>;

pub(crate) struct Barrier {
    raft: Raft,
    applied: Arc<Applied>,
    spawn: Arc<dyn Spawn>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: bool,
    waiting: Vec<oneshot::Sender<Round>>,
}

impl Barrier {
    pub(crate) fn new(raft: Raft, applied: Arc<Applied>, spawn: Arc<dyn Spawn>) -> Arc<Self> {
        Arc::new(Self { raft, applied, spawn, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Completes once the local state holds everything that was committed before this call; gives the last entry of that.
    pub(crate) async fn pass(self: &Arc<Self>) -> Result<Option<u64>, BarrierError> {
        let (sender, receiver) = oneshot::channel();
        let start = {
            let mut state = self.lock();
            if state.waiting.len() >= READERS_MAX {
                // Those whose readers gave up make room.
                state.waiting.retain(|waiter| !waiter.is_closed());
                if state.waiting.len() >= READERS_MAX {
                    return Err(BarrierError::Busy);
                }
            }
            state.waiting.push(sender);
            !std::mem::replace(&mut state.running, true)
        };
        if start {
            self.spawn.spawn("meta.barrier", Box::pin(Arc::clone(self).run()));
        }
        let committed = receiver.await.unwrap_or(Err(BarrierError::Stopped))?;
        if let Some(index) = committed {
            self.applied.reached(index).await;
        }
        Ok(committed)
    }

    async fn run(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut state = self.lock();
                if state.waiting.is_empty() {
                    state.running = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let round = self.round().await;
            for waiter in waiting {
                let _ = waiter.send(round.clone());
            }
        }
    }

    async fn round(&self) -> Round {
        match self.raft.get_read_log_id().await {
            Ok((read, _)) => Ok(read.map(|log_id| log_id.index)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
                Err(BarrierError::NotLeader(forward.leader_id.map(|id| RaftId::from_bits(id).node())))
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => Err(BarrierError::NoQuorum),
            Err(RaftError::Fatal(_)) => Err(BarrierError::Stopped),
        }
    }
}
