//! The network as one node sees it: its calls to others and to itself, and the requests that it serves.

use super::{Network, Process};
use crate::sim::spawn::SimSpawn;
use futures::future::{BoxFuture, Either, select};
use std::sync::Arc;
use strongroom_env::{Clock, Handler, Net, NetError, Spawn};
use strongroom_format::wire::Frame;
use strongroom_types::{Deadline, NodeId};
use tokio::sync::oneshot;

/// A call under way; gives up when dropped.
pub(super) struct Call {
    pub(super) call: u64,
    pub(super) network: Arc<Network>,
    pub(super) answer: oneshot::Receiver<Result<Frame, NetError>>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let flight = self.network.lock().flights.remove(&self.call);
        drop(flight);
    }
}

/// The network as one node sees it, in one of its lives.
pub struct SimNet {
    network: Arc<Network>,
    node: NodeId,
    clock: Arc<dyn Clock>,
    spawn: Arc<SimSpawn>,
}

impl SimNet {
    /// The network for a life of `node` that began with [`Network::up`].
    pub(in crate::sim) fn new(
        network: Arc<Network>,
        node: NodeId,
        clock: Arc<dyn Clock>,
        spawn: Arc<SimSpawn>,
    ) -> Self {
        Self { network, node, clock, spawn }
    }

    async fn call_peer(
        network: Arc<Network>,
        clock: Arc<dyn Clock>,
        from: NodeId,
        to: NodeId,
        request: Frame,
        deadline: Deadline,
    ) -> Result<Frame, NetError> {
        let patience = deadline.remaining(clock.now());
        let mut call = network.begin(from, to, &request, patience)?;
        drop(request);
        match select(&mut call.answer, clock.sleep(patience)).await {
            Either::Left((answer, _)) => answer.unwrap_or(Err(NetError::Lost { to })),
            Either::Right(((), _)) => Err(NetError::TimedOut { to }),
        }
    }

    async fn call_self(
        network: Arc<Network>,
        clock: Arc<dyn Clock>,
        spawn: Arc<SimSpawn>,
        node: NodeId,
        request: Frame,
        deadline: Deadline,
    ) -> Result<Frame, NetError> {
        request.check_bounds().map_err(|source| NetError::TooLarge { to: node, source })?;
        let handler = match network.lock().processes.get(&node) {
            Some(Process::Up { handler: Some(handler), .. }) => Arc::clone(handler),
            _ => return Err(NetError::Unreachable { to: node }),
        };
        let (sender, answer) = oneshot::channel();
        spawn.spawn(
            "own-request",
            Box::pin(async move {
                let _given_up = sender.send(handler.handle(node, request).await);
            }),
        );
        match select(answer, clock.sleep(deadline.remaining(clock.now()))).await {
            Either::Left((answer, _)) => answer.map_err(|_ended| NetError::Lost { to: node }),
            Either::Right(((), _)) => Err(NetError::TimedOut { to: node }),
        }
    }
}

impl Net for SimNet {
    fn call(
        &self,
        to: NodeId,
        request: Frame,
        deadline: Deadline,
    ) -> BoxFuture<'static, Result<Frame, NetError>> {
        let (network, clock) = (Arc::clone(&self.network), Arc::clone(&self.clock));
        if to == self.node {
            Box::pin(Self::call_self(network, clock, Arc::clone(&self.spawn), to, request, deadline))
        } else {
            Box::pin(Self::call_peer(network, clock, self.node, to, request, deadline))
        }
    }

    fn serve(&self, handler: Arc<dyn Handler>) {
        let mut state = self.network.lock();
        match state.processes.get_mut(&self.node) {
            Some(Process::Up { spawn, handler: served }) if Arc::ptr_eq(spawn, &self.spawn) => {
                assert!(served.replace(handler).is_none(), "serve is called once, at start");
            }
            // A life that is over.
            _ => {}
        }
    }
}
