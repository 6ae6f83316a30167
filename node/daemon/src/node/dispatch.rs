//! What peers ask of this node, handed to whom it concerns.

use crate::encode::Encoder;
use crate::holder::Holder;
use crate::session::Session;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::sync::{Arc, OnceLock};
use strongroom_env::Handler;
use strongroom_format::wire::Frame;
use strongroom_format::wire::message::{Pong, Refusal, Request, Response};
use strongroom_meta::Meta;
use strongroom_types::NodeId;

/// Answers peers.
pub(super) struct Dispatcher {
    pub(super) pong: Pong,
    pub(super) session: Session,
    pub(super) holder: Holder,
    pub(super) encoder: Arc<Encoder>,
    /// What is asked before it is there is refused as busy.
    pub(super) meta: OnceLock<Arc<Meta>>,
}

impl Handler for Dispatcher {
    fn handle(&self, from: NodeId, request: Frame) -> BoxFuture<'static, Frame> {
        let decoded = match request.decode_request() {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::warn!(%from, %error, "request cannot be read");
                let refusal = Refusal::Invalid(error.to_string());
                let answer = Frame::response(&Response::Refused(refusal), Bytes::new());
                return Box::pin(futures::future::ready(answer));
            }
        };
        let payload = request.payload;
        let meta = self.meta.get().cloned();
        match decoded {
            Request::Ping => {
                let (session, drives) = (self.session.present(), self.holder.states());
                let pong = Pong { session, drives, ..self.pong.clone() };
                Box::pin(futures::future::ready(Frame::response(&Response::Pong(pong), Bytes::new())))
            }
            Request::Raft { group, body } => Box::pin(ask_meta(meta, from, group, body, true)),
            Request::Meta { group, body } => Box::pin(ask_meta(meta, from, group, body, false)),
            // What it has to do with anybody's drives is for the cluster to say, which this node may not have heard yet.
            _ if meta.as_ref().is_some_and(|meta| !meta.known().has(from)) => {
                meta.inspect(|meta| meta.look_at_members_now());
                let answer = Frame::response(&Response::Refused(Refusal::Busy), Bytes::new());
                Box::pin(futures::future::ready(answer))
            }
            Request::Encode(encode) => {
                let encoder = self.encoder.clone();
                Box::pin(async move { Frame::response(&encoder.serve(encode).await, Bytes::new()) })
            }
            Request::Sum(sum) => {
                let encoder = self.encoder.clone();
                Box::pin(async move {
                    let (response, payload) = encoder.sum(&sum).await;
                    Frame::response(&response, payload)
                })
            }
            drive_request => {
                let holder = self.holder.clone();
                Box::pin(async move {
                    let (response, payload) = holder.serve(drive_request, payload).await;
                    Frame::response(&response, payload)
                })
            }
        }
    }
}

async fn ask_meta(
    meta: Option<Arc<Meta>>,
    from: NodeId,
    group: Option<strongroom_types::GroupId>,
    body: Bytes,
    raft: bool,
) -> Frame {
    let response = match meta {
        Some(meta) => Response::Opaque(meta.handle(from, group, body, raft).await),
        None => Response::Refused(Refusal::Busy),
    };
    Frame::response(&response, Bytes::new())
}
