//! Typed calls to peers.

use bytes::Bytes;
use std::time::Duration;
use strongroom_env::{Env, NetError};
use strongroom_format::FormatError;
use strongroom_format::wire::Frame;
use strongroom_format::wire::message::{Refusal, Request, Response};
use strongroom_types::{Deadline, NodeId};

/// Why a call did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer; the peer may or may not have acted.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The peer refused; it did nothing.
    #[error("{from} refused: {refusal}")]
    Refused {
        /// Who.
        from: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// The answer is not one to this request: a bug, or a peer of another version.
    #[error("{from} gave an answer that does not fit the request")]
    Misfit {
        /// Who.
        from: NodeId,
    },
    /// The answer cannot be read.
    #[error("answer cannot be read: {0}")]
    Format(#[from] FormatError),
}

/// Calls peers, this node included.
#[derive(Clone)]
pub struct Peers {
    env: Env,
}

impl Peers {
    /// Calls through `env`.
    pub fn new(env: Env) -> Self {
        Self { env }
    }

    /// Asks `to` and gives its answer with the payload, unless it refused.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn ask(
        &self,
        to: NodeId,
        request: &Request,
        payload: Bytes,
        patience: Duration,
    ) -> Result<(Response, Bytes), CallError> {
        let deadline = Deadline::after(self.env.clock.now(), patience);
        let answer = self.env.net.call(to, Frame::request(request, payload), deadline).await?;
        match answer.decode_response()? {
            Response::Refused(refusal) => Err(CallError::Refused { from: to, refusal }),
            response => Ok((response, answer.payload)),
        }
    }

    /// Asks for something that is answered by `Done`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn order(
        &self,
        to: NodeId,
        request: &Request,
        payload: Bytes,
        patience: Duration,
    ) -> Result<(), CallError> {
        match self.ask(to, request, payload, patience).await? {
            (Response::Done, _) => Ok(()),
            _ => Err(CallError::Misfit { from: to }),
        }
    }
}
