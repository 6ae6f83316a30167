//! Raft messages of one group over the node's [`Net`].

use crate::limits::{REPLICATION_PAUSE_MAX, REPLICATION_PAUSE_MIN};
use crate::raft::{Raft, TypeConfig};
use crate::raft_id::RaftId;
use bytes::Bytes;
use openraft::EmptyNode;
use openraft::error::{
    InstallSnapshotError, RPCError, RaftError, RemoteError, SnapshotMismatch, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use strongroom_env::{Env, NetError};
use strongroom_format::wire::{Frame, Request, Response};
use strongroom_types::{Deadline, GroupId};

/// A Raft message with the voter that it is meant for. A node under another id than that must not answer: what it says would count as the
/// word of a voter that may have promised something else.
#[derive(Serialize, Deserialize)]
struct RaftMessage {
    to: RaftId,
    body: RaftBody,
}

/// A Raft message to a voter.
#[derive(Serialize, Deserialize)]
enum RaftBody {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<u64>),
    Snapshot(InstallSnapshotRequest<TypeConfig>),
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RaftAnswer {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    Snapshot(InstallSnapshotResponse<u64>),
    /// The piece does not continue what came before: begin again.
    SnapshotMismatch(SnapshotMismatch),
    /// The group is stopped on this node, never was here, or the voter that is meant is no more.
    Stopped,
    /// The message does not decode.
    Malformed,
}

/// Encodes a body; bodies are bounded by the limits of what they carry.
pub(crate) fn encode_body<B: Serialize>(body: &B) -> Bytes {
    Bytes::from(postcard::to_stdvec(body).expect("bodies hold only types that postcard encodes"))
}

/// Decodes a body that takes up all bytes.
pub(crate) fn decode_body<B: DeserializeOwned>(bytes: &[u8]) -> Option<B> {
    match postcard::take_from_bytes(bytes) {
        Ok((body, [])) => Some(body),
        Ok(_) | Err(_) => None,
    }
}

/// The opaque answer in a frame; `None` where the peer refused or answered something else.
pub(crate) fn opaque(frame: &Frame) -> Option<Bytes> {
    match frame.decode_response() {
        Ok(Response::Opaque(body)) => Some(body),
        Ok(_) | Err(_) => None,
    }
}

/// What a message to a voter would have it append, and what a candidate says it voted.
#[cfg(test)]
pub(crate) fn said(body: &[u8]) -> (Vec<crate::raft::LogEntry>, Option<crate::raft::Vote>) {
    match decode_body::<RaftMessage>(body).unwrap().body {
        RaftBody::Append(request) => (request.entries, None),
        RaftBody::Vote(request) => (Vec::new(), Some(request.vote)),
        RaftBody::Snapshot(_) => (Vec::new(), None),
    }
}

/// Whom a Raft message is meant for; `None` where it does not decode that far.
pub(crate) fn addressee(body: &[u8]) -> Option<RaftId> {
    // Its first field; the rest may be megabytes.
    postcard::take_from_bytes(body).ok().map(|(to, _)| to)
}

/// Answers a Raft message on the voter's side.
pub(crate) async fn answer(voter: Option<(RaftId, &Raft)>, body: &[u8]) -> RaftAnswer {
    let Some((id, raft)) = voter else { return RaftAnswer::Stopped };
    let Some(RaftMessage { to, body }) = decode_body(body) else { return RaftAnswer::Malformed };
    if to != id {
        return RaftAnswer::Stopped;
    }
    match body {
        RaftBody::Append(request) => match raft.append_entries(request).await {
            Ok(response) => RaftAnswer::Append(response),
            Err(_) => RaftAnswer::Stopped,
        },
        RaftBody::Vote(request) => match raft.vote(request).await {
            Ok(response) => RaftAnswer::Vote(response),
            Err(_) => RaftAnswer::Stopped,
        },
        RaftBody::Snapshot(request) => match raft.install_snapshot(request).await {
            Ok(response) => RaftAnswer::Snapshot(response),
            Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch))) => {
                RaftAnswer::SnapshotMismatch(mismatch)
            }
            Err(RaftError::Fatal(_)) => RaftAnswer::Stopped,
        },
    }
}

/// Makes connections to the voters of one group.
pub(crate) struct Network {
    env: Env,
    own: RaftId,
    group: Option<GroupId>,
}

impl Network {
    pub(crate) fn new(env: Env, own: RaftId, group: Option<GroupId>) -> Self {
        Self { env, own, group }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Peer {
        Peer { env: self.env.clone(), own: self.own, group: self.group, target: RaftId::from_bits(target) }
    }
}

/// One voter, as seen from another.
pub(crate) struct Peer {
    env: Env,
    own: RaftId,
    group: Option<GroupId>,
    target: RaftId,
}

/// Why a peer's answer is of no use.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("the group is stopped at the peer")]
    Stopped,
    #[error("the peer's answer is not one to this message")]
    Malformed,
}

type CallError<E> = RPCError<u64, EmptyNode, RaftError<u64, E>>;

impl Peer {
    async fn call<E: std::error::Error>(
        &self,
        body: RaftBody,
        action: RPCTypes,
        patience: Duration,
    ) -> Result<RaftAnswer, CallError<E>> {
        let body = encode_body(&RaftMessage { to: self.target, body });
        let request = Request::Raft { group: self.group, body };
        let deadline = Deadline::after(self.env.clock.now(), patience);
        let frame = Frame::request(&request, Bytes::new());
        let answer = match self.env.net.call(self.target.node(), frame, deadline).await {
            Ok(frame) => opaque(&frame).and_then(|body| decode_body(&body)),
            Err(NetError::TimedOut { .. }) => {
                let (id, target) = (self.own.to_bits(), self.target.to_bits());
                return Err(RPCError::Timeout(Timeout { action, id, target, timeout: patience }));
            }
            // Also for a lost connection: openraft retries a `Network` error at once, and a peer that refuses every
            // connection would keep this node busy.
            // Too large cannot be: limits.rs bounds messages below the wire's bound.
            Err(
                error @ (NetError::Unreachable { .. }
                | NetError::Lost { .. }
                | NetError::Busy { .. }
                | NetError::TooLarge { .. }),
            ) => return Err(unreachable(&error)),
        };
        match answer {
            Some(RaftAnswer::Stopped) => Err(unreachable(&AnswerError::Stopped)),
            Some(RaftAnswer::Malformed) | None => Err(unreachable(&AnswerError::Malformed)),
            Some(answer) => Ok(answer),
        }
    }
}

fn unreachable<E: std::error::Error>(error: &(impl std::error::Error + 'static)) -> CallError<E> {
    RPCError::Unreachable(Unreachable::new(error))
}

fn malformed<E: std::error::Error>() -> CallError<E> {
    unreachable(&AnswerError::Malformed)
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        let body = RaftBody::Append(request);
        match self.call(body, RPCTypes::AppendEntries, option.hard_ttl()).await? {
            RaftAnswer::Append(response) => Ok(response),
            _ => Err(malformed()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        match self.call(RaftBody::Vote(request), RPCTypes::Vote, option.hard_ttl()).await? {
            RaftAnswer::Vote(response) => Ok(response),
            _ => Err(malformed()),
        }
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64, InstallSnapshotError>>>
    {
        let body = RaftBody::Snapshot(request);
        match self.call(body, RPCTypes::InstallSnapshot, option.hard_ttl()).await? {
            RaftAnswer::Snapshot(response) => Ok(response),
            RaftAnswer::SnapshotMismatch(mismatch) => {
                let error = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RPCError::RemoteError(RemoteError::new(self.target.to_bits(), error)))
            }
            _ => Err(malformed()),
        }
    }

    fn backoff(&self) -> Backoff {
        let doubling = |pause: &Duration| Some((*pause * 2).min(REPLICATION_PAUSE_MAX));
        Backoff::new(std::iter::successors(Some(REPLICATION_PAUSE_MIN), doubling))
    }
}
