//! The calls to one peer: those that wait to be sent and those that wait for their answer. No I/O here.

use super::TcpLimits;
use crate::NetError;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use strongroom_format::wire::Frame;
use strongroom_types::{Deadline, NodeId};
use tokio::sync::{Notify, oneshot};

/// The calls to one peer.
pub(super) struct Calls {
    to: NodeId,
    limits: TcpLimits,
    state: Mutex<State>,
    /// Told when a call begins to wait to be sent. One task listens: the peer's link.
    wanted: Notify,
}

struct State {
    next_id: u64,
    /// Whether the peer was just found unreachable: then calls fail at once until the next dial is due.
    refusing: bool,
    /// Whether the present connection gave an answer.
    answered: bool,
    to_send: VecDeque<Outgoing>,
    to_send_len_bytes: usize,
    awaiting: BTreeMap<u64, Awaiting>,
}

struct Awaiting {
    sent: bool,
    answer: oneshot::Sender<Result<Frame, NetError>>,
}

/// A request that is to be sent.
pub(super) struct Outgoing {
    pub(super) id: u64,
    pub(super) request: Frame,
    pub(super) deadline: Deadline,
}

/// A call under way. Dropping it gives its credit back; a late answer is thrown away.
pub(super) struct Call {
    id: u64,
    calls: Arc<Calls>,
    answer: oneshot::Receiver<Result<Frame, NetError>>,
}

impl Call {
    /// The answer, or why there is none.
    pub(super) async fn answer(&mut self) -> Result<Frame, NetError> {
        match (&mut self.answer).await {
            Ok(result) => result,
            // The table was dropped with the whole node.
            Err(_) => Err(NetError::Lost { to: self.calls.to }),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.calls.lock();
        if let Some(given_up) = state.awaiting.remove(&self.id)
            && !given_up.sent
            && let Some(place) = state.to_send.iter().position(|outgoing| outgoing.id == self.id)
            && let Some(outgoing) = state.to_send.remove(place)
        {
            state.to_send_len_bytes -= len_bytes(&outgoing.request);
        }
    }
}

impl Calls {
    pub(super) fn new(to: NodeId, limits: TcpLimits) -> Arc<Self> {
        let state = State {
            next_id: 1,
            refusing: false,
            answered: false,
            to_send: VecDeque::new(),
            to_send_len_bytes: 0,
            awaiting: BTreeMap::new(),
        };
        Arc::new(Self { to, limits, state: Mutex::new(state), wanted: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request, or hands it back: `Unreachable` where the peer was just found to be, `Busy` at a bound.
    pub(super) fn begin(self: &Arc<Self>, request: Frame, deadline: Deadline) -> Result<Call, NetError> {
        let request_len_bytes = len_bytes(&request);
        let mut state = self.lock();
        if state.refusing {
            return Err(NetError::Unreachable { to: self.to });
        }
        if state.awaiting.len() >= self.limits.calls_max
            || state.to_send_len_bytes + request_len_bytes > self.limits.send_queue_len_bytes_max
        {
            return Err(NetError::Busy { to: self.to, credits: self.limits.calls_max });
        }
        let id = state.next_id;
        state.next_id += 1;
        let (sender, answer) = oneshot::channel();
        state.awaiting.insert(id, Awaiting { sent: false, answer: sender });
        state.to_send.push_back(Outgoing { id, request, deadline });
        state.to_send_len_bytes += request_len_bytes;
        drop(state);
        self.wanted.notify_one();
        Ok(Call { id, calls: Arc::clone(self), answer })
    }

    /// Completes once something waits to be sent.
    pub(super) async fn wanted(&self) {
        while self.lock().to_send.is_empty() {
            self.wanted.notified().await;
        }
    }

    /// The next request, which counts as sent from now on.
    pub(super) fn next_to_send(&self) -> Option<Outgoing> {
        let mut state = self.lock();
        let outgoing = state.to_send.pop_front()?;
        state.to_send_len_bytes -= len_bytes(&outgoing.request);
        let awaiting =
            state.awaiting.get_mut(&outgoing.id).expect("a call that is given up leaves the queue as well");
        awaiting.sent = true;
        Some(outgoing)
    }

    /// Hands an answer to its call, if that still waits.
    pub(super) fn answer(&self, id: u64, answer: Result<Frame, NetError>) {
        let mut state = self.lock();
        state.answered = true;
        let awaiting = state.awaiting.remove(&id);
        drop(state);
        if let Some(awaiting) = awaiting {
            // An error here means that the caller gave up between the two lines above.
            let _given_up = awaiting.answer.send(answer);
        }
    }

    /// Fails every call: the connection is gone, or there was none. Says whether it had given any answer; if not, calls
    /// are refused until [`Self::reopen`].
    pub(super) fn fail_all(&self) -> bool {
        let mut state = self.lock();
        let answered = std::mem::take(&mut state.answered);
        state.refusing = !answered;
        state.to_send.clear();
        state.to_send_len_bytes = 0;
        let awaiting = std::mem::take(&mut state.awaiting);
        drop(state);
        for call in awaiting.into_values() {
            let to = self.to;
            let _given_up = call.answer.send(Err(if call.sent {
                NetError::Lost { to }
            } else {
                NetError::Unreachable { to }
            }));
        }
        answered
    }

    /// Calls are taken again.
    pub(super) fn reopen(&self) {
        self.lock().refusing = false;
    }
}

fn len_bytes(frame: &Frame) -> usize {
    frame.head.len() + frame.payload.len()
}
