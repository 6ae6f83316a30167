//! Test doubles of a node's surroundings, over tokio, and a cluster of nodes in one process.

use crate::fault::MetaFaults;
use crate::kv::{MemoryKv, MemoryMedia};
use crate::meta::{Meta, MetaConfig, MetaError, Timing};
use crate::standing::Founding;
use crate::watch::Watch;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use strongroom_env::{Clock, Env, Handler, Net, NetError, Rng, Scope, Spawn, Task};
use strongroom_format::wire::{Frame, Request, Response};
use strongroom_types::{ClusterId, Deadline, GroupId, Instant, Member, NodeId, WallTime, ZoneId};

/// tokio's clock, counted from the first look at it.
pub(crate) struct TestClock {
    origin: tokio::time::Instant,
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap())
    }

    fn wall(&self) -> WallTime {
        WallTime::from_unix_millis(1)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// SplitMix64.
pub(crate) struct TestRng(AtomicU64);

impl TestRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)))
    }
}

impl Rng for TestRng {
    fn u64(&self) -> u64 {
        let mut bits = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

/// tokio tasks that end when the node is killed.
pub(crate) struct TestSpawn {
    me: Weak<TestSpawn>,
    rng: Arc<dyn Rng>,
    tasks: Mutex<Option<Vec<tokio::task::AbortHandle>>>,
}

impl TestSpawn {
    pub(crate) fn new(rng: Arc<dyn Rng>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { me: me.clone(), rng, tasks: Mutex::new(Some(Vec::new())) })
    }

    fn kill(&self) {
        for task in self.tasks.lock().unwrap().take().into_iter().flatten() {
            task.abort();
        }
    }
}

impl Spawn for TestSpawn {
    fn spawn(&self, _: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let mut tasks = self.tasks.lock().unwrap();
        let Some(tasks) = tasks.as_mut() else { return Task::new(|| {}) };
        let scope = Scope { spawn: self.me.upgrade().unwrap(), rng: Arc::clone(&self.rng) };
        let task = tokio::spawn(scope.run(future)).abort_handle();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.clone());
        Task::new(move || task.abort())
    }

    fn blocking(&self, _: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }
}

struct Alone;

impl Net for Alone {
    fn call(&self, to: NodeId, _: Frame, _: Deadline) -> BoxFuture<'static, Result<Frame, NetError>> {
        Box::pin(async move { Err(NetError::Unreachable { to }) })
    }

    fn serve(&self, _: Arc<dyn Handler>) {}
}

fn env(rng: Arc<dyn Rng>, spawn: Arc<TestSpawn>, net: Arc<dyn Net>) -> Env {
    Env { clock: Arc::new(TestClock { origin: tokio::time::Instant::now() }), rng, spawn, net }
}

/// The surroundings of a node without peers.
pub(crate) fn env_alone(seed: u64) -> Env {
    let rng: Arc<dyn Rng> = Arc::new(TestRng::new(seed));
    env(Arc::clone(&rng), TestSpawn::new(rng), Arc::new(Alone))
}

/// The network of a cluster: who is there, what is cut, what was said.
#[derive(Default)]
pub(crate) struct World {
    nodes: Mutex<BTreeMap<NodeId, Running>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    /// How many answers of client requests to lose from now on.
    lose_answers: AtomicU64,
    /// Raft messages so far.
    pub(crate) raft_messages: AtomicU64,
    /// The media of all nodes: whatever a Raft message carries must be on its sender's.
    media: Mutex<BTreeMap<NodeId, MemoryMedia>>,
    /// How many log entries and votes were found there.
    pub(crate) entries_checked: AtomicU64,
    /// Where nodes are.
    places: Mutex<BTreeMap<NodeId, SocketAddr>>,
    /// Where nodes take others to be.
    told: Mutex<BTreeMap<(NodeId, NodeId), SocketAddr>>,
    /// Nodes that nobody waits for any more.
    given_up: Mutex<BTreeSet<NodeId>>,
    leaving: Mutex<BTreeSet<NodeId>>,
    /// CRC32C over all requests so far: when, from, to and what.
    pub(crate) trace: Mutex<u32>,
}

/// A node that runs, and what ends it.
type Running = (Arc<Meta>, Arc<TestSpawn>);

struct WorldNet {
    me: NodeId,
    rng: Arc<dyn Rng>,
    world: Arc<World>,
}

impl World {
    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.lock().unwrap().contains(&(from, to))
    }

    fn note(&self, from: NodeId, to: NodeId, request: &Frame) {
        let at = ORIGIN.with(|origin| origin.borrow().unwrap()).elapsed().as_nanos() as u64;
        let mut trace = self.trace.lock().unwrap();
        for part in [&at.to_be_bytes()[..], &from.get().to_be_bytes(), &to.get().to_be_bytes(), &request.head]
        {
            *trace = crc32c::crc32c_append(*trace, part);
        }
    }

    /// Fails where the sender could forget what it says here.
    fn check_durable(&self, from: NodeId, group: Option<GroupId>, body: &[u8]) {
        let (entries, vote) = crate::network::said(body);
        let (media, keys) = (self.media.lock().unwrap()[&from].clone(), crate::codec::GroupKeys::new(group));
        for entry in &entries {
            let index = entry.log_id.index;
            // A sender that is behind its own purge, or deposed meanwhile, may say what it has no more.
            if let Some(durable) = media.is_durable(&keys.log(index), &crate::log::encode_entry(entry)) {
                assert!(durable, "{from} sends entry {index} of {group:?} before it is on its own media");
                self.entries_checked.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(vote) = vote {
            let found = media.durable(&keys.vote()).expect("a candidate has voted");
            let found: crate::raft::Vote = crate::codec::open("vote", &keys.vote(), &found).unwrap();
            assert!(
                found >= vote,
                "{from} asks for votes for {vote} in {group:?}, and has {found} on its media"
            );
        }
    }

    async fn deliver(self: Arc<Self>, from: NodeId, to: NodeId, request: Frame) -> Result<Frame, NetError> {
        if self.is_cut(from, to) {
            std::future::pending::<()>().await;
        }
        let target = self.nodes.lock().unwrap().get(&to).cloned();
        let Some((meta, spawn)) = target else { return Err(NetError::Unreachable { to }) };
        request.check_bounds().unwrap();
        self.note(from, to, &request);
        let (group, body, raft) = match request.decode_request().unwrap() {
            Request::Raft { group, body } => (group, body, true),
            Request::Meta { group, body } => (group, body, false),
            other => panic!("{other:?}"),
        };
        if raft {
            self.check_durable(from, group, &body);
            self.raft_messages.fetch_add(1, Ordering::Relaxed);
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let handle = async move {
            let _ = sender.send(meta.handle(from, group, body, raft).await);
        };
        spawn.spawn("handle", Box::pin(handle));
        let answer = receiver.await.map_err(|_| NetError::Lost { to })?;
        let lose = |left: u64| left.checked_sub(1);
        if !raft && self.lose_answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lose).is_ok() {
            return Err(NetError::Lost { to });
        }
        if self.is_cut(to, from) {
            std::future::pending::<()>().await;
        }
        Ok(Frame::response(&Response::Opaque(answer), Bytes::new()))
    }
}

/// What a node thinks of the others: whoever runs and is not cut off is up.
struct WorldWatch {
    me: NodeId,
    world: Arc<World>,
}

impl Watch for WorldWatch {
    fn is_up(&self, node: NodeId) -> bool {
        let runs = self.world.nodes.lock().unwrap().contains_key(&node);
        let told = self.world.told.lock().unwrap().get(&(self.me, node)).copied();
        let place = self.world.places.lock().unwrap().get(&node).copied();
        let runs = runs && place == Some(told.unwrap_or(member(node).address));
        runs && !self.world.is_cut(self.me, node) && !self.world.is_cut(node, self.me)
    }

    fn was_heard_within(&self, node: NodeId, _: Duration) -> bool {
        self.is_up(node)
    }

    fn is_given_up(&self, node: NodeId) -> bool {
        !self.is_up(node) && self.world.given_up.lock().unwrap().contains(&node)
    }

    fn is_leaving(&self, node: NodeId) -> bool {
        self.world.leaving.lock().unwrap().contains(&node)
    }
}

impl Net for WorldNet {
    fn call(
        &self,
        to: NodeId,
        request: Frame,
        deadline: Deadline,
    ) -> BoxFuture<'static, Result<Frame, NetError>> {
        let (me, world) = (self.me, Arc::clone(&self.world));
        let there = Duration::from_micros(200 + self.rng.u64() % 800);
        let back = Duration::from_micros(200 + self.rng.u64() % 800);
        // The clock's origin does not matter for what remains, but it must be the caller's: nodes start at different times.
        let remaining = deadline.remaining(self.now());
        Box::pin(async move {
            let answer = async {
                tokio::time::sleep(there).await;
                let answer = world.deliver(me, to, request).await;
                tokio::time::sleep(back).await;
                answer
            };
            tokio::time::timeout(remaining, answer).await.unwrap_or(Err(NetError::TimedOut { to }))
        })
    }

    fn introduce(&self, peer: NodeId, address: SocketAddr) {
        self.world.told.lock().unwrap().insert((self.me, peer), address);
    }

    fn serve(&self, _: Arc<dyn Handler>) {}
}

impl WorldNet {
    fn now(&self) -> Instant {
        ORIGIN.with(|origin| {
            let origin = *origin.borrow_mut().get_or_insert_with(tokio::time::Instant::now);
            Instant::from_nanos(u64::try_from(origin.elapsed().as_nanos()).unwrap())
        })
    }
}

thread_local! {
    /// One origin for all clocks of a test's cluster.
    static ORIGIN: std::cell::RefCell<Option<tokio::time::Instant>> = const { std::cell::RefCell::new(None) };
}

/// A cluster whose founders all vote in all groups.
pub(crate) struct Cluster {
    pub(crate) world: Arc<World>,
    media: BTreeMap<NodeId, MemoryMedia>,
    founders: Vec<NodeId>,
    /// Where nodes are that do not stand where all others take them to.
    pub(crate) moved: BTreeMap<NodeId, Member>,
    groups: u16,
    seed: u64,
    starts: u64,
    timing: Timing,
    /// The fault that nodes are started with.
    pub(crate) faults: MetaFaults,
}

pub(crate) fn node(number: u64) -> NodeId {
    NodeId::new(number)
}

/// Nodes 1, 2 and 3 are in three zones, and so are the next three.
pub(crate) fn member(node: NodeId) -> Member {
    let zone = u8::try_from((node.get() - 1) % 3 + 1).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(node.get()).unwrap()));
    Member { node, zone: ZoneId::new(zone), address }
}

impl Cluster {
    /// `count` nodes, started and founded.
    pub(crate) async fn start(count: u64, groups: u16, seed: u64, timing: Timing) -> Self {
        let mut cluster = Self::off(count, groups, seed, timing);
        for n in 1..=count {
            cluster.start_node(node(n)).await;
        }
        cluster
    }

    /// `count` nodes that were never started.
    pub(crate) fn off(count: u64, groups: u16, seed: u64, timing: Timing) -> Self {
        ORIGIN.with(|origin| *origin.borrow_mut() = Some(tokio::time::Instant::now()));
        let media: BTreeMap<_, _> = (1..=count).map(|n| (node(n), MemoryMedia::new())).collect();
        let world = Arc::new(World { media: Mutex::new(media.clone()), ..World::default() });
        let (founders, moved) = (media.keys().copied().collect(), BTreeMap::new());
        Self { world, media, founders, moved, groups, seed, starts: 0, timing, faults: MetaFaults::NONE }
    }

    /// A node that founds nothing, with an empty store. It was never started.
    pub(crate) fn add_node(&mut self, id: NodeId) {
        let media = MemoryMedia::new();
        self.world.media.lock().unwrap().insert(id, media.clone());
        self.media.insert(id, media);
    }

    /// From now on nobody waits for these any more.
    pub(crate) fn give_up(&self, nodes: &[NodeId]) {
        *self.world.given_up.lock().unwrap() = nodes.iter().copied().collect();
    }

    /// These are to be emptied, and nobody else.
    pub(crate) fn leave(&self, nodes: &[NodeId]) {
        *self.world.leaving.lock().unwrap() = nodes.iter().copied().collect();
    }

    pub(crate) async fn start_node(&mut self, id: NodeId) -> Arc<Meta> {
        self.try_start_node(id).await.unwrap()
    }

    pub(crate) async fn try_start_node(&mut self, id: NodeId) -> Result<Arc<Meta>, MetaError> {
        self.starts += 1;
        let rng: Arc<dyn Rng> =
            Arc::new(TestRng::new(self.seed.wrapping_mul(1000).wrapping_add(self.starts)));
        let spawn = TestSpawn::new(Arc::clone(&rng));
        let net = WorldNet { me: id, rng: Arc::clone(&rng), world: Arc::clone(&self.world) };
        let origin = ORIGIN.with(|origin| origin.borrow().unwrap());
        let env =
            Env { clock: Arc::new(TestClock { origin }), rng, spawn: spawn.clone(), net: Arc::new(net) };
        let founders = self.founders.clone();
        let is_founder = founders.contains(&id);
        // Who joins knows one of the others, and not the first.
        let told = if is_founder { founders.clone() } else { vec![founders[founders.len() - 1], id] };
        let member = |node| self.moved.get(&node).copied().unwrap_or_else(|| member(node));
        let config = MetaConfig {
            node: id,
            cluster: ClusterId::new(7),
            groups: self.groups,
            members: told.into_iter().map(member).collect(),
            founding: is_founder.then(|| Founding {
                control: founders.clone(),
                groups: vec![founders.clone(); usize::from(self.groups)],
            }),
            timing: self.timing,
            faults: self.faults,
        };
        self.world.places.lock().unwrap().insert(id, member(id).address);
        let kv = Arc::new(MemoryKv::on(&self.media[&id]));
        let watch = WorldWatch { me: id, world: Arc::clone(&self.world) };
        let meta = Meta::start(env, config, kv, Arc::new(watch)).await?;
        self.world.nodes.lock().unwrap().insert(id, (Arc::clone(&meta), Arc::clone(&spawn)));
        let founder = Arc::clone(&meta);
        let deadline = self.deadline(60);
        let found = async move {
            // Where it cannot be, the test sees that nothing works.
            let _ = founder.bootstrap(deadline).await;
        };
        spawn.spawn("bootstrap", Box::pin(found));
        Ok(meta)
    }

    pub(crate) fn kill(&self, id: NodeId) {
        if let Some((_, spawn)) = self.world.nodes.lock().unwrap().remove(&id) {
            spawn.kill();
        }
        // Its store is dead from here on, also for tasks that still run.
        drop(MemoryKv::on(&self.media[&id]));
    }

    pub(crate) fn power_cut_all(&self, seed: u64) {
        for (place, media) in self.media.values().enumerate() {
            media.power_cut(seed.wrapping_mul(31).wrapping_add(place as u64));
        }
        for id in self.media.keys() {
            self.kill(*id);
        }
    }

    pub(crate) fn media(&self, id: NodeId) -> &MemoryMedia {
        &self.media[&id]
    }

    /// Cuts a node off from all others, both ways.
    pub(crate) fn cut_off(&self, id: NodeId) {
        let mut cut = self.world.cut.lock().unwrap();
        for other in self.media.keys().filter(|other| **other != id) {
            cut.insert((id, *other));
            cut.insert((*other, id));
        }
    }

    pub(crate) fn heal(&self) {
        self.world.cut.lock().unwrap().clear();
    }

    /// Loses the next `count` answers to clients.
    pub(crate) fn lose_answers(&self, count: u64) {
        self.world.lose_answers.store(count, Ordering::Relaxed);
    }

    pub(crate) fn meta(&self, id: NodeId) -> Arc<Meta> {
        Arc::clone(&self.world.nodes.lock().unwrap()[&id].0)
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> Vec<Arc<Meta>> {
        self.world.nodes.lock().unwrap().values().map(|(meta, _)| Arc::clone(meta)).collect()
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.media.keys().copied().collect()
    }

    pub(crate) fn deadline(&self, seconds: u64) -> Deadline {
        let origin = ORIGIN.with(|origin| origin.borrow().unwrap());
        let now = Instant::from_nanos(u64::try_from(origin.elapsed().as_nanos()).unwrap());
        Deadline::after(now, Duration::from_secs(seconds))
    }

    /// The node that leads `group`, once there is one that the others do not doubt.
    pub(crate) async fn leader(&self, group: GroupId) -> NodeId {
        for _ in 0..1000 {
            let leader = self
                .world
                .nodes
                .lock()
                .unwrap()
                .iter()
                .find(|(_, (meta, _))| meta.leads(group))
                .map(|n| *n.0);
            if let Some(leader) = leader {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no leader within 20 s");
    }
}
