//! Raft messages of one group over the node's [`Net`].

use crate::limits::{REPLICATION_PAUSE_MAX, REPLICATION_PAUSE_MIN};
use crate::raft::{Raft, TypeConfig};
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
use strongroom_types::{Deadline, GroupId, NodeId};

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
    /// The group is stopped on this node, or never was here.
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

/// Answers a Raft message on the voter's side.
pub(crate) async fn answer(raft: Option<&Raft>, body: &[u8]) -> RaftAnswer {
    let Some(raft) = raft else { return RaftAnswer::Stopped };
    match decode_body(body) {
        None => RaftAnswer::Malformed,
        Some(RaftBody::Append(request)) => match raft.append_entries(request).await {
            Ok(response) => RaftAnswer::Append(response),
            Err(_) => RaftAnswer::Stopped,
        },
        Some(RaftBody::Vote(request)) => match raft.vote(request).await {
            Ok(response) => RaftAnswer::Vote(response),
            Err(_) => RaftAnswer::Stopped,
        },
        Some(RaftBody::Snapshot(request)) => match raft.install_snapshot(request).await {
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
    node: NodeId,
    group: Option<GroupId>,
}

impl Network {
    pub(crate) fn new(env: Env, node: NodeId, group: Option<GroupId>) -> Self {
        Self { env, node, group }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Peer {
        Peer { env: self.env.clone(), node: self.node, group: self.group, target: NodeId::new(target) }
    }
}

/// One voter, as seen from another.
pub(crate) struct Peer {
    env: Env,
    node: NodeId,
    group: Option<GroupId>,
    target: NodeId,
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
        let request = Request::Raft { group: self.group, body: encode_body(&body) };
        let deadline = Deadline::after(self.env.clock.now(), patience);
        let frame = Frame::request(&request, Bytes::new());
        let answer = match self.env.net.call(self.target, frame, deadline).await {
            Ok(frame) => opaque(&frame).and_then(|body| decode_body(&body)),
            Err(NetError::TimedOut { .. }) => {
                let (id, target) = (self.node.get(), self.target.get());
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
                Err(RPCError::RemoteError(RemoteError::new(self.target.get(), error)))
            }
            _ => Err(malformed()),
        }
    }

    fn backoff(&self) -> Backoff {
        let doubling = |pause: &Duration| Some((*pause * 2).min(REPLICATION_PAUSE_MAX));
        Backoff::new(std::iter::successors(Some(REPLICATION_PAUSE_MIN), doubling))
    }
}
