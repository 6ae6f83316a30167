//! The world: machines with drives in zones, wires between them, and one clock. Starts, kills and restarts nodes.

use super::clock::SimClock;
use super::draws::Draws;
use super::drives::SimDrive;
use super::entropy;
use super::limits::STACK_LEN_BYTES;
use super::net::{Network, SimNet};
use super::rng::SimRng;
use super::scenarios::Furniture;
use super::spawn::SimSpawn;
use super::system::Shape;
use super::tasks::{Owner, Tasks};
use super::trace::{Sink, Summary, Trace};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use strongroom_env::{Env, Rng};
use strongroom_io::Device;
use strongroom_io::memory::MemoryDevice;
use strongroom_meta::kv::{MemoryKv, MemoryMedia as KvMedia, OrderedKv};
use strongroom_types::{NodeId, ZoneId};

/// How often, in a million, nodes have two drives, and the drives of a zone are small.
const TWO_DRIVES: u32 = 250_000;
const CRAMPED: u32 = 120_000;
/// And in so many of a million runs a node joins at the beginning of the faults.
const NEWCOMER: u32 = 250_000;

/// The world. Clones are the same one.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    draws: Draws,
    origin: tokio::time::Instant,
    trace: Arc<Trace>,
    tasks: Arc<Tasks>,
    network: Arc<Network>,
    machines: Mutex<BTreeMap<NodeId, Machine>>,
}

struct Machine {
    zone: ZoneId,
    clock: SimClock,
    drives: Vec<SimDrive>,
    kv: KvMedia,
    lives: u64,
    spawn: Option<Arc<SimSpawn>>,
}

/// What a process finds when it starts.
pub struct Boot {
    /// The world as it sees it.
    pub env: Env,
    /// Its drives, opened.
    pub drives: Vec<Arc<dyn Device>>,
    /// Its state directory, opened.
    pub kv: Arc<dyn OrderedKv>,
    /// Counts its lives from 1.
    pub life: u64,
    /// Starts tasks of this life.
    pub spawn: Arc<SimSpawn>,
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process is killed; the machine stays and keeps what it was told to write.
    Crash,
    /// Power fails: of what was not flushed, anything may be gone. Peers hear nothing.
    PowerCut,
}

/// Runs `body` in a new world of this seed, on a thread of its own, and gives its output and what is left of the trace.
///
/// # Panics
/// Where the run panicked.
pub fn run<T: Send + 'static>(
    seed: u64,
    sink: Sink,
    body: impl FnOnce(World) -> BoxFuture<'static, T> + Send + 'static,
) -> (T, Summary) {
    let thread = std::thread::Builder::new().name(format!("seed-{seed}")).stack_size(STACK_LEN_BYTES);
    let running = thread.spawn(move || {
        // First of all: whatever this thread makes draws its seeds from here.
        entropy::seed_this_thread(Draws::new(seed).split("entropy").u64());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime without I/O takes nothing from the system").block_on(async move {
            let world = World::new(seed, sink);
            let _told = world.inner.trace.catch_logs();
            let (tasks, trace) = (Arc::clone(&world.inner.tasks), Arc::clone(&world.inner.trace));
            let output = tasks.run(body(world)).await;
            (output, trace.summary())
        })
    });
    match running.expect("the system gives a thread").join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

impl World {
    fn new(seed: u64, sink: Sink) -> Self {
        let draws = Draws::new(seed);
        let trace = Arc::new(Trace::new(sink));
        let tasks = Tasks::new(draws.split("tasks"), Arc::clone(&trace));
        let network = Network::new(draws.split("network"), Arc::clone(&trace), Arc::clone(&tasks));
        let (origin, machines) = (tokio::time::Instant::now(), Mutex::default());
        Self { inner: Arc::new(Inner { draws, origin, trace, tasks, network, machines }) }
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<NodeId, Machine>> {
        self.inner.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream of numbers for the part of the run with this name.
    pub fn draws(&self, name: &str) -> Draws {
        self.inner.draws.split(name)
    }

    /// What happened so far.
    pub fn trace(&self) -> &Trace {
        &self.inner.trace
    }

    /// The wires.
    pub fn network(&self) -> &Arc<Network> {
        &self.inner.network
    }

    /// How long the run has gone on, in simulated time.
    pub fn elapsed(&self) -> std::time::Duration {
        self.inner.origin.elapsed()
    }

    /// A clock that goes right, for clients.
    pub fn clock(&self) -> SimClock {
        SimClock::new(self.inner.origin)
    }

    /// Starts a task that belongs to no node.
    pub fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        self.inner.tasks.spawn(Owner::World, name, future);
    }

    /// Adds the machines that a system wants, with drives that the seed draws: usually one a node, sometimes two of half the size, and sometimes
    /// those of one zone are so small that they get full.
    pub fn furnish(&self, shape: &Shape) {
        let mut draws = self.draws("furniture");
        let two = draws.chance(TWO_DRIVES);
        let cramped = draws.chance(CRAMPED).then(|| u8::try_from(draws.below(u64::from(shape.zones))));
        let cramped = cramped.map(|zone| zone.expect("below a u8"));
        if two || cramped.is_some() {
            let trace = &self.inner.trace;
            trace.line(format_args!("world two drives a node: {two}, small drives in zone {cramped:?}"));
        }
        for number in 0..shape.zones * shape.nodes_per_zone {
            let zone = number % shape.zones;
            let len_bytes =
                if cramped == Some(zone) { shape.drive_len_bytes_cramped } else { shape.drive_len_bytes };
            let drives = match shape.drives_per_node {
                0 => Vec::new(),
                count if two => vec![len_bytes / 2; 2 * count],
                count => vec![len_bytes; count],
            };
            self.add(NodeId::new(u64::from(number) + 1), ZoneId::new(zone + 1), &drives);
        }
    }

    /// Adds a machine like the others of this zone, with empty drives. It is off.
    pub fn add_to(&self, zone: ZoneId) -> NodeId {
        let nodes = self.nodes();
        let like =
            nodes.iter().find(|(_, of)| *of == zone).map(|(node, _)| *node).expect("a zone of the world");
        let drives: Vec<u64> = self.drives(like).iter().map(|drive| drive.media.len_bytes()).collect();
        let node = nodes.iter().map(|(node, _)| node.get()).max().map_or(1, |last| last + 1);
        let node = NodeId::new(node);
        self.add(node, zone, &drives);
        node
    }

    /// Adds a machine that is to join in this run, where the seed says that one does.
    pub fn add_newcomer(&self, shape: &Shape) -> Option<NodeId> {
        let mut draws = self.draws("newcomer");
        let joins = draws.chance(NEWCOMER) && shape.joins;
        let zones: Vec<ZoneId> = self.nodes().into_iter().map(|(_, zone)| zone).collect();
        let zone = *draws.pick(&zones);
        joins.then(|| self.add_to(zone))
    }

    /// Adds the machines of a story that wants others.
    pub fn furnish_so(&self, shape: &Shape, furniture: &Furniture) {
        let count = shape.zones * shape.nodes_per_zone;
        let drives = vec![furniture.drive_len_bytes; furniture.drives_per_node];
        for number in 0..count + u8::from(furniture.spare_node) {
            let zone = number % shape.zones;
            self.add(NodeId::new(u64::from(number) + 1), ZoneId::new(zone + 1), &drives);
        }
    }

    /// Adds a machine with empty drives of these lengths. It is off.
    pub fn add(&self, node: NodeId, zone: ZoneId, drives_len_bytes: &[u64]) {
        let trace = &self.inner.trace;
        let drives = drives_len_bytes.iter().enumerate();
        let drives = drives
            .map(|(index, len)| SimDrive::new(node, index, *len, &self.inner.draws, Arc::clone(trace)))
            .collect();
        let (clock, kv) = (self.clock(), KvMedia::new());
        self.machines().insert(node, Machine { zone, clock, drives, kv, lives: 0, spawn: None });
        self.inner.network.add(node, zone);
    }

    /// Takes a machine away that is off, with all that it has.
    ///
    /// # Panics
    /// It runs.
    pub fn scrap(&self, node: NodeId) {
        assert!(!self.is_up(node), "{node} runs");
        self.machines().remove(&node);
        self.inner.trace.line(format_args!("node  {node} is taken away"));
    }

    /// All machines with their zones.
    pub fn nodes(&self) -> Vec<(NodeId, ZoneId)> {
        self.machines().iter().map(|(node, machine)| (*node, machine.zone)).collect()
    }

    /// Whether there is such a machine.
    pub fn has(&self, node: NodeId) -> bool {
        self.machines().contains_key(&node)
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.machines().get(&node).is_some_and(|machine| machine.spawn.is_some())
    }

    /// How many tasks a node has.
    pub fn task_count(&self, node: NodeId) -> usize {
        self.inner.tasks.count(Owner::Node(node))
    }

    /// The drives of a node.
    pub fn drives(&self, node: NodeId) -> Vec<SimDrive> {
        self.machines().get(&node).map(|machine| machine.drives.clone()).unwrap_or_default()
    }

    /// The state directory's media of a node.
    pub fn kv(&self, node: NodeId) -> Option<KvMedia> {
        self.machines().get(&node).map(|machine| machine.kv.clone())
    }

    /// The node's calendar jumps to be off by this.
    pub fn set_skew_ms(&self, node: NodeId, skew_ms: i64) {
        if let Some(machine) = self.machines().get(&node) {
            machine.clock.set_skew_ms(skew_ms);
            self.inner.trace.line(format_args!("clock {node} is off by {skew_ms} ms"));
        }
    }

    /// From now on the node's monotonic clock runs so much too fast, or too slow if negative.
    pub fn set_drift(&self, node: NodeId, parts_per_million: i32) {
        if let Some(machine) = self.machines().get(&node) {
            machine.clock.set_drift(parts_per_million);
            self.inner.trace.line(format_args!("clock {node} drifts by {parts_per_million} us/s"));
        }
    }

    /// The node's process stands still, if it runs: none of its tasks goes on, and requests to it wait. Whether it ran.
    pub fn pause(&self, node: NodeId) -> bool {
        let runs = self.is_up(node);
        if runs {
            self.inner.tasks.pause(Owner::Node(node));
            self.inner.network.set_paused(node, true);
            self.inner.trace.line(format_args!("node  {node} stands still"));
        }
        runs
    }

    /// It goes on, with the ideas that it had.
    pub fn resume(&self, node: NodeId) {
        self.inner.network.set_paused(node, false);
        self.inner.tasks.resume(Owner::Node(node));
        self.inner.trace.line(format_args!("node  {node} goes on"));
    }

    /// Calls `then` between two polls of the node's tasks, after this many of them, in this life or a later one.
    pub fn arm(&self, node: NodeId, polls: u64, then: impl FnOnce() + Send + 'static) {
        self.inner.tasks.arm(Owner::Node(node), polls, then);
    }

    /// Forgets what was armed.
    pub fn disarm(&self, node: NodeId) {
        self.inner.tasks.disarm(Owner::Node(node));
    }

    /// Begins the next life of a node that is down.
    ///
    /// # Panics
    /// No such machine, or it runs.
    pub fn boot(&self, node: NodeId) -> Boot {
        let mut machines = self.machines();
        let machine = machines.get_mut(&node).expect("a machine that was added");
        assert!(machine.spawn.is_none(), "{node} runs already");
        machine.lives += 1;
        let life = machine.lives;
        let draws = self.inner.draws.split(&format!("{node} life {life}"));
        let rng: Arc<dyn Rng> = Arc::new(SimRng::new(draws.split("rng")));
        let spawn =
            SimSpawn::new(Arc::clone(&self.inner.tasks), node, Arc::clone(&rng), draws.split("blocking"));
        machine.spawn = Some(Arc::clone(&spawn));
        let clock = Arc::new(machine.clock.clone());
        let kv = Arc::new(MemoryKv::on(&machine.kv));
        let drives = machine.drives.iter().map(|drive| {
            let device =
                MemoryDevice::open(&drive.media).expect("the life before was ended, and its session with it");
            Arc::new(device) as Arc<dyn Device>
        });
        let drives = drives.collect();
        drop(machines);
        self.inner.network.up(node, Arc::clone(&spawn));
        let net = SimNet::new(Arc::clone(&self.inner.network), node, clock.clone(), Arc::clone(&spawn));
        let env = Env { clock, rng, spawn: spawn.clone(), net: Arc::new(net) };
        self.inner.trace.line(format_args!("node  {node} boots, life {life}"));
        Boot { env, drives, kv, life, spawn }
    }

    /// Ends a node: all its futures are dropped where they are. Nothing happens to one that is down. Whether it ran.
    pub fn kill(&self, node: NodeId, end: End) -> bool {
        let Some((spawn, drives, kv, lives)) = self.machines().get_mut(&node).and_then(|machine| {
            let spawn = machine.spawn.take()?;
            Some((spawn, machine.drives.clone(), machine.kv.clone(), machine.lives))
        }) else {
            return false;
        };
        let mut draws = self.inner.draws.split(&format!("{node} end {lives}"));
        // The media first: a destructor that wrote something would write it after the end.
        for drive in &drives {
            match end {
                End::Crash => drive.media.disconnect(draws.u64()),
                End::PowerCut => drive.media.power_cut(draws.u64()),
            }
        }
        match end {
            // What a process gave to its kernel stays; the store buffers in the process, so it may be gone as well.
            End::Crash | End::PowerCut => kv.power_cut(draws.u64()),
        }
        self.inner.network.down(node, end == End::PowerCut);
        let tasks = spawn.kill();
        self.inner.trace.line(format_args!("node  {node} ends by {end:?} with {tasks} tasks"));
        true
    }
}

#[cfg(test)]
mod tests;
