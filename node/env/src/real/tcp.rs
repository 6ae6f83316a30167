//! Peers over TCP: one long-lived connection for each direction of each pair, dialed by who asks.
//!
//! Owns connecting, framing, matching answers to calls, and their bounds. Does not know what the frames say, and gives no
//! order or delivery beyond one connection: a call is sent once or not at all, and never again by itself.

mod calls;
mod inbound;
mod outbound;
mod stream;
pub mod transport;

pub use transport::{Channel, PlainTcp, Transport};

use crate::limits::{
    CALLS_PER_PEER_MAX, GUEST_REQUESTS_MAX, GUESTS_MAX, REQUESTS_PER_PEER_LEN_BYTES_MAX,
    REQUESTS_PER_PEER_MAX, SEND_QUEUE_LEN_BYTES_MAX,
};
use crate::{Clock, Handler, Net, NetError, Rng, Spawn};
use calls::Calls;
use futures::future::{BoxFuture, Either, select};
use inbound::Inbound;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use strongroom_format::wire::{Frame, Hello};
use strongroom_types::limits::{WIRE_HEAD_LEN_BYTES_MAX, WIRE_PAYLOAD_LEN_BYTES_MAX};
use strongroom_types::{ClusterId, Deadline, NodeId};
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::sync::{Semaphore, oneshot};

/// Who this node is and where its peers are.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// The cluster; connections of another one are refused.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// The peers and where they listen, as `host:port`. Of others a few are served at once. The own node may be among them.
    pub peers: BTreeMap<NodeId, String>,
    /// The bounds.
    pub limits: TcpLimits,
}

/// The bounds for each peer. `default()` is what `limits.rs` says; tests take less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Calls to it that wait for their answers.
    pub calls_max: usize,
    /// Bytes of requests to it that wait to be sent.
    pub send_queue_len_bytes_max: usize,
    /// Its requests that are handled at once.
    pub requests_max: usize,
    /// Bytes of its requests that are held at once; at least one frame's.
    pub request_len_bytes_max: usize,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            calls_max: CALLS_PER_PEER_MAX,
            send_queue_len_bytes_max: SEND_QUEUE_LEN_BYTES_MAX,
            requests_max: REQUESTS_PER_PEER_MAX,
            request_len_bytes_max: REQUESTS_PER_PEER_LEN_BYTES_MAX,
        }
    }
}

/// What the network needs of its node.
#[derive(Clone)]
pub struct TcpParts {
    /// For deadlines and pauses.
    pub clock: Arc<dyn Clock>,
    /// So that nodes do not dial in step.
    pub rng: Arc<dyn Rng>,
    /// Runs the connections; when its tasks end, so do they.
    pub spawn: Arc<dyn Spawn>,
    /// Turns sockets into channels.
    pub transport: Arc<dyn Transport>,
}

/// The network of a node in production.
pub struct TcpNet {
    shared: Arc<Shared>,
    local: SocketAddr,
    listener: Mutex<Option<TcpListener>>,
}

/// What the tasks of the network share.
struct Shared {
    cluster: ClusterId,
    node: NodeId,
    limits: TcpLimits,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    spawn: Arc<dyn Spawn>,
    transport: Arc<dyn Transport>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    /// Who is connected, or was, and not known.
    guests: Mutex<BTreeMap<NodeId, Arc<Inbound>>>,
    handler: OnceLock<Arc<dyn Handler>>,
    /// Bounds the calls of this node to itself.
    own_calls: Arc<Semaphore>,
}

struct Peer {
    /// Where it listens, the latest word first. They are tried in turn: one that was configured may be right again after all nodes have moved.
    addresses: Vec<String>,
    calls: Arc<Calls>,
    inbound: Arc<Inbound>,
    /// Whether its link was started.
    linked: bool,
}

impl TcpNet {
    /// Listens on `address`. Connections wait in the kernel until [`Net::serve`].
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(
        address: impl ToSocketAddrs,
        config: TcpConfig,
        parts: TcpParts,
    ) -> io::Result<Arc<Self>> {
        let frame_len_bytes_max = WIRE_HEAD_LEN_BYTES_MAX as usize + WIRE_PAYLOAD_LEN_BYTES_MAX as usize;
        assert!(
            config.limits.request_len_bytes_max >= frame_len_bytes_max,
            "a frame that never gets room blocks its peer"
        );
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        let TcpConfig { cluster, node, peers, limits } = config;
        let TcpParts { clock, rng, spawn, transport } = parts;
        let shared = Shared {
            cluster,
            node,
            limits,
            clock,
            rng,
            spawn,
            transport,
            peers: Mutex::default(),
            guests: Mutex::default(),
            handler: OnceLock::new(),
            own_calls: Arc::new(Semaphore::new(limits.calls_max)),
        };
        let net = Self { shared: Arc::new(shared), local, listener: Mutex::new(Some(listener)) };
        for (peer, address) in peers {
            net.set_peer(peer, address);
        }
        Ok(Arc::new(net))
    }

    /// Where this node listens, with the port that the system chose where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Adds a peer, or says where it listens now. A connection that is there stays.
    pub fn set_peer(&self, peer: NodeId, address: String) {
        let limits = self.shared.limits;
        let is_new = {
            let mut peers = self.shared.peers();
            let is_new = !peers.contains_key(&peer);
            let known = peers.entry(peer).or_insert_with(|| Peer {
                addresses: Vec::new(),
                calls: Calls::new(peer, limits),
                inbound: Inbound::new(limits),
                linked: false,
            });
            known.addresses.retain(|known| *known != address);
            known.addresses.insert(0, address);
            known.addresses.truncate(ADDRESSES_MAX);
            is_new
        };
        // One that was a guest comes again as a peer, with a peer's room.
        if let Some(guest) = self.shared.guests().remove(&peer).filter(|_| is_new) {
            guest.take_over();
        }
    }
}

/// Addresses of a peer that are tried: the latest and the one before.
const ADDRESSES_MAX: usize = 2;

impl Shared {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hello(&self) -> Hello {
        Hello { cluster: self.cluster, node: self.node }
    }

    fn guests(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Inbound>>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the peer is dialed after so many dials in vain.
    fn address(&self, peer: NodeId, failed: usize) -> Option<String> {
        let peers = self.peers();
        let addresses = &peers.get(&peer)?.addresses;
        addresses.get(failed.checked_rem(addresses.len())?).cloned()
    }

    /// What is kept of who connects; `None` where there is no room for another one that is not known.
    fn inbound(&self, from: NodeId) -> Option<Arc<Inbound>> {
        if let Some(peer) = self.peers().get(&from) {
            return Some(Arc::clone(&peer.inbound));
        }
        let mut guests = self.guests();
        if !guests.contains_key(&from) && guests.len() >= GUESTS_MAX {
            // Those that are gone and have nothing under way here any more.
            guests.retain(|_, guest| Arc::strong_count(guest) > 1 || !guest.is_idle());
            if guests.len() >= GUESTS_MAX {
                return None;
            }
        }
        let limits = TcpLimits {
            requests_max: self.limits.requests_max.min(GUEST_REQUESTS_MAX),
            request_len_bytes_max: WIRE_HEAD_LEN_BYTES_MAX as usize + WIRE_PAYLOAD_LEN_BYTES_MAX as usize,
            ..self.limits
        };
        Some(Arc::clone(guests.entry(from).or_insert_with(|| Inbound::new(limits))))
    }

    /// The calls to `peer`, whose link is started by the first of them.
    fn calls(self: &Arc<Self>, peer: NodeId) -> Option<Arc<Calls>> {
        let mut peers = self.peers();
        let known = peers.get_mut(&peer)?;
        let calls = Arc::clone(&known.calls);
        if !std::mem::replace(&mut known.linked, true) {
            drop(peers);
            self.spawn
                .spawn("peer-link", Box::pin(outbound::keep(Arc::clone(self), peer, Arc::clone(&calls))));
        }
        Some(calls)
    }

    async fn call_peer(
        self: Arc<Self>,
        to: NodeId,
        request: Frame,
        deadline: Deadline,
    ) -> Result<Frame, NetError> {
        request.check_bounds().map_err(|source| NetError::TooLarge { to, source })?;
        let calls = self.calls(to).ok_or(NetError::Unreachable { to })?;
        let mut call = calls.begin(request, deadline)?;
        let patience = deadline.remaining(self.clock.now());
        within(&self.clock, patience, call.answer()).await.unwrap_or(Err(NetError::TimedOut { to }))
    }

    /// As a peer's request would be: in a task of its own, which goes on where the caller stops waiting.
    async fn call_self(self: Arc<Self>, request: Frame, deadline: Deadline) -> Result<Frame, NetError> {
        let to = self.node;
        request.check_bounds().map_err(|source| NetError::TooLarge { to, source })?;
        let handler = Arc::clone(self.handler.get().ok_or(NetError::Unreachable { to })?);
        let Ok(permit) = Arc::clone(&self.own_calls).try_acquire_owned() else {
            return Err(NetError::Busy { to, credits: self.limits.calls_max });
        };
        let (sender, answer) = oneshot::channel();
        self.spawn.spawn(
            "own-request",
            Box::pin(async move {
                let _permit = permit;
                // An error means that nobody waits any more.
                let _given_up = sender.send(handler.handle(to, request).await);
            }),
        );
        let patience = deadline.remaining(self.clock.now());
        match within(&self.clock, patience, answer).await {
            Some(answer) => answer.map_err(|_ended| NetError::Lost { to }),
            None => Err(NetError::TimedOut { to }),
        }
    }
}

impl Net for TcpNet {
    fn call(
        &self,
        to: NodeId,
        request: Frame,
        deadline: Deadline,
    ) -> BoxFuture<'static, Result<Frame, NetError>> {
        let shared = Arc::clone(&self.shared);
        if to == shared.node {
            Box::pin(shared.call_self(request, deadline))
        } else {
            Box::pin(shared.call_peer(to, request, deadline))
        }
    }

    fn introduce(&self, peer: NodeId, address: SocketAddr) {
        self.set_peer(peer, address.to_string());
    }

    fn serve(&self, handler: Arc<dyn Handler>) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listener = listener.expect("serve is called once, at start");
        assert!(self.shared.handler.set(Arc::clone(&handler)).is_ok(), "serve is called once, at start");
        let accepting = inbound::accept_all(Arc::clone(&self.shared), listener, handler);
        self.shared.spawn.spawn("peer-accept", Box::pin(accepting));
    }
}

/// What `future` gives within `patience`; it is dropped where it gives nothing by then.
async fn within<T>(clock: &Arc<dyn Clock>, patience: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), clock.sleep(patience)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}

#[cfg(test)]
mod tests;
