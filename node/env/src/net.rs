//! Peers: one request, one answer.

use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use strongroom_format::FormatError;
use strongroom_format::wire::Frame;
use strongroom_types::{Deadline, NodeId};

/// Why a call to a peer gave no answer. In no case is it known whether the peer acted on the request, except
/// where a variant says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// No connection; the request was not sent.
    #[error("{to}: not reachable")]
    Unreachable {
        /// The peer.
        to: NodeId,
    },
    /// The connection broke while the answer was awaited.
    #[error("{to}: connection lost while waiting for the answer")]
    Lost {
        /// The peer.
        to: NodeId,
    },
    /// No answer within the deadline.
    #[error("{to}: no answer within the deadline")]
    TimedOut {
        /// The peer.
        to: NodeId,
    },
    /// Too many calls in flight to this peer, or too many bytes waiting to be sent to it; the request was not sent.
    #[error("{to}: too much in flight, the bound is {credits} calls")]
    Busy {
        /// The peer.
        to: NodeId,
        /// How many calls may be in flight.
        credits: usize,
    },
    /// The request is longer than a frame may be; it was not sent, and never can be.
    #[error("{to}: request is not a frame")]
    TooLarge {
        /// The peer.
        to: NodeId,
        /// Which part, and its bound.
        #[source]
        source: FormatError,
    },
}

/// Calls to peers, and calls from them.
pub trait Net: Send + Sync {
    /// Sends `request` to node `to` and completes with its answer. Requests may be lost, delayed, reordered, and,
    /// after a broken connection, acted on without an answer. A call to the own node goes straight to the handler.
    fn call(
        &self,
        to: NodeId,
        request: Frame,
        deadline: Deadline,
    ) -> BoxFuture<'static, Result<Frame, NetError>>;

    /// From now on requests from peers go to `handler`. Called once, at start.
    fn serve(&self, handler: Arc<dyn Handler>);

    /// There is such a peer, and it is to be found there. A network that needs no addresses ignores it.
    fn introduce(&self, _peer: NodeId, _address: SocketAddr) {}
}

/// Answers requests of peers.
pub trait Handler: Send + Sync {
    /// The answer to `request` from node `from`, which says that it belongs to this cluster; whether it is known here is for the handler to tell.
    fn handle(&self, from: NodeId, request: Frame) -> BoxFuture<'static, Frame>;
}
