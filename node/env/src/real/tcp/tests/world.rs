//! Nodes on loopback, and handlers for them.

use crate::real::tcp::TcpLimits;
use crate::real::{OsRng, PlainTcp, RealClock, RealSpawn, TcpConfig, TcpNet, TcpParts};
use crate::{Clock, Handler, Net, NetError};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use strongroom_format::wire::{EnvelopeHeader, Frame, FrameKind, Hello};
use strongroom_types::{ClusterId, Deadline, NodeId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

pub(super) const CLUSTER: ClusterId = ClusterId::new(7);
/// Longer than any test: nothing here is meant to run into it.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// Runs a test on both runtimes that production may use.
pub(super) fn on_both<F: Future<Output = ()>>(test: fn() -> F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    tokio_uring::start(test());
}

pub(super) fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

pub(super) fn frame(head: &[u8], payload: &[u8]) -> Frame {
    Frame { head: Bytes::copy_from_slice(head), payload: Bytes::copy_from_slice(payload) }
}

pub(super) struct TestNode {
    pub(super) id: NodeId,
    pub(super) net: Arc<TcpNet>,
    pub(super) spawn: Arc<RealSpawn>,
    clock: RealClock,
}

impl TestNode {
    pub(super) async fn start(number: u64, handler: Arc<dyn Handler>) -> Self {
        Self::start_with(number, CLUSTER, "127.0.0.1:0".parse().unwrap(), TcpLimits::default(), handler).await
    }

    pub(super) async fn start_with(
        number: u64,
        cluster: ClusterId,
        at: SocketAddr,
        limits: TcpLimits,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let clock = RealClock::new();
        let spawn = RealSpawn::new(Handle::current(), Arc::new(OsRng), 1);
        let config = TcpConfig { cluster, node: id(number), peers: BTreeMap::new(), limits };
        let parts = TcpParts {
            clock: Arc::new(clock),
            rng: Arc::new(OsRng),
            spawn: spawn.clone(),
            transport: Arc::new(PlainTcp),
        };
        let net = TcpNet::bind(at, config, parts).await.unwrap();
        net.serve(handler);
        Self { id: id(number), net, spawn, clock }
    }

    pub(super) fn knows(&self, peer: &Self) {
        self.net.set_peer(peer.id, peer.net.local_addr().to_string());
    }

    pub(super) async fn call(
        &self,
        to: NodeId,
        request: Frame,
        patience: Duration,
    ) -> Result<Frame, NetError> {
        self.net.call(to, request, Deadline::after(self.clock.now(), patience)).await
    }
}

impl TestNode {
    /// A call that borrows nothing.
    pub(super) fn net_call(&self, to: NodeId, request: Frame) -> BoxFuture<'static, Result<Frame, NetError>> {
        self.net.call(to, request, Deadline::after(self.clock.now(), LONG))
    }
}

/// Two nodes that know each other, 1 and 2.
pub(super) async fn pair(one: Arc<dyn Handler>, two: Arc<dyn Handler>) -> (TestNode, TestNode) {
    let (one, two) = (TestNode::start(1, one).await, TestNode::start(2, two).await);
    one.knows(&two);
    two.knows(&one);
    (one, two)
}

/// Answers with the same head and the payload turned round, after the caller's id.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) handled: AtomicUsize,
}

impl Turn {
    pub(super) fn answer(from: NodeId, request: &Frame) -> Frame {
        let mut head = from.get().to_le_bytes().to_vec();
        head.extend_from_slice(&request.head);
        let payload: Vec<u8> = request.payload.iter().rev().copied().collect();
        Frame { head: head.into(), payload: payload.into() }
    }
}

impl Handler for Turn {
    fn handle(&self, from: NodeId, request: Frame) -> BoxFuture<'static, Frame> {
        self.handled.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Self::answer(from, &request) })
    }
}

/// Tells that a request is there, then keeps it until it is let go.
pub(super) struct Gate {
    pub(super) arrived: Arc<Semaphore>,
    pub(super) leave: Arc<Semaphore>,
    pub(super) inside: Arc<AtomicUsize>,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        let (arrived, leave) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        Arc::new(Self { arrived, leave, inside: Arc::default() })
    }

    /// Completes once `count` more requests are there.
    pub(super) async fn arrived(&self, count: u32) {
        self.arrived.acquire_many(count).await.unwrap().forget();
    }
}

impl Handler for Gate {
    fn handle(&self, _from: NodeId, request: Frame) -> BoxFuture<'static, Frame> {
        let (arrived, leave) = (Arc::clone(&self.arrived), Arc::clone(&self.leave));
        let inside = Arc::clone(&self.inside);
        Box::pin(async move {
            inside.fetch_add(1, Ordering::SeqCst);
            arrived.add_permits(1);
            leave.acquire().await.unwrap().forget();
            inside.fetch_sub(1, Ordering::SeqCst);
            request
        })
    }
}

/// A peer made by hand, for what a real one never does.
pub(super) struct ByHand {
    pub(super) socket: TcpStream,
}

impl ByHand {
    pub(super) async fn connect(to: &TestNode) -> Self {
        Self { socket: TcpStream::connect(to.net.local_addr()).await.unwrap() }
    }

    /// Connects and says to be `number` of `cluster`; hears the other's hello.
    pub(super) async fn greet(to: &TestNode, cluster: ClusterId, number: u64) -> (Self, Hello) {
        let mut peer = Self::connect(to).await;
        peer.socket.write_all(&Hello { cluster, node: id(number) }.encode()).await.unwrap();
        let mut bytes = [0; Hello::LEN_BYTES];
        peer.socket.read_exact(&mut bytes).await.unwrap();
        (peer, Hello::decode(&bytes).unwrap())
    }

    /// The bytes of a request.
    pub(super) fn request(request_id: u64, frame: &Frame) -> Vec<u8> {
        let header = EnvelopeHeader::for_frame(FrameKind::Request, request_id, 60_000, frame).unwrap();
        [&header.encode()[..], &frame.head, &frame.payload].concat()
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The id in the next answer.
    pub(super) async fn answer(&mut self) -> u64 {
        let mut bytes = [0; EnvelopeHeader::LEN_BYTES];
        self.socket.read_exact(&mut bytes).await.unwrap();
        let header = EnvelopeHeader::decode(&bytes).unwrap();
        assert_eq!(header.kind, FrameKind::Response);
        let mut rest = vec![0; (header.head_len_bytes + header.payload_len_bytes) as usize];
        self.socket.read_exact(&mut rest).await.unwrap();
        header.request_id
    }

    /// Completes once the node has closed the connection; gives how many bytes came before.
    pub(super) async fn closed(&mut self) -> usize {
        let mut rest = Vec::new();
        // A reset is an end as well: the node closed while bytes of ours were unread.
        let _reset = self.socket.read_to_end(&mut rest).await;
        rest.len()
    }
}
