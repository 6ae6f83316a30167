//! The network: real frames between nodes, with latency, loss, duplicates, reordering and cuts drawn from the seed.
//!
//! Every call travels for itself, so calls overtake each other more than on the one connection of production. A broken
//! connection is one call's loss here, but where bytes change on the way: then the envelope's checksums must see it, and all that waits on that
//! connection is lost, as in production. Not modelled: bandwidth.

use super::draws::Draws;
use super::limits::{CALLS_PER_PEER_MAX, DIAL_PATIENCE, REQUESTS_PER_PEER_MAX};
use super::spawn::SimSpawn;
use super::tasks::{Owner, Tasks};
use super::trace::Trace;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use strongroom_env::{Handler, NetError, Spawn};
use strongroom_format::wire::{Frame, FrameKind};
use strongroom_types::{NodeId, ZoneId};
use tokio::sync::oneshot;

mod port;
mod wire;

use port::Call;
pub use port::SimNet;
use wire::{decode, encode, request_name};

const WITHIN_ZONE: Range<Duration> = Duration::from_micros(50)..Duration::from_millis(1);
const ACROSS_ZONES: Range<Duration> = Duration::from_micros(500)..Duration::from_millis(4);
const SLOW: Range<Duration> = Duration::from_millis(5)..Duration::from_millis(300);
const BREAK: Range<Duration> = Duration::from_millis(1)..Duration::from_secs(1);

/// How often something goes wrong with one message, in a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// The connection breaks under it: it does not arrive, and the caller hears of a loss.
    pub lost: u32,
    /// A request arrives twice.
    pub duplicated: u32,
    /// It takes much longer than the others.
    pub slow: u32,
    /// One of its bits flips.
    pub damaged: u32,
}

impl Weather {
    /// Nothing is lost or doubled; now and then something is slow.
    pub const FAIR: Self = Self { lost: 0, duplicated: 0, slow: 1_000, damaged: 0 };
    /// Bad, but most messages arrive.
    pub const FOUL: Self = Self { lost: 20_000, duplicated: 20_000, slow: 50_000, damaged: 3_000 };
}

/// All wires.
pub struct Network {
    trace: Arc<Trace>,
    tasks: Arc<Tasks>,
    state: Mutex<State>,
}

struct State {
    draws: Draws,
    weather: Weather,
    zones: BTreeMap<NodeId, ZoneId>,
    processes: BTreeMap<NodeId, Process>,
    /// Nothing gets from the first to the second.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Nodes whose answers go nowhere, without anybody hearing of it.
    mutes: BTreeSet<NodeId>,
    /// What gets in or out of these zones takes so much longer.
    far: BTreeMap<ZoneId, Duration>,
    /// Processes that stand still, and how many requests of each peer wait for them.
    paused: BTreeMap<NodeId, BTreeMap<NodeId, usize>>,
    next: u64,
    flights: BTreeMap<u64, Flight>,
}

/// What is at a node's address.
enum Process {
    /// Nothing at all: the machine is off.
    Dark,
    /// A machine whose process is gone; it refuses connections.
    Gone,
    /// A process.
    Up { spawn: Arc<SimSpawn>, handler: Option<Arc<dyn Handler>> },
}

/// A call that waits for its answer.
struct Flight {
    from: NodeId,
    to: NodeId,
    answer: oneshot::Sender<Result<Frame, NetError>>,
}

/// A message under way.
#[derive(Clone)]
struct Message {
    call: u64,
    from: NodeId,
    to: NodeId,
    bytes: Bytes,
}

impl Message {
    /// The same with one bit flipped.
    fn damaged(mut self, bit: u64) -> Self {
        let mut bytes = BytesMut::from(&*self.bytes);
        bytes[usize::try_from(bit / 8).expect("within the message")] ^= 1 << (bit % 8);
        self.bytes = bytes.freeze();
        self
    }
}

/// What becomes of a message.
enum Fate {
    Arrives { after: Duration, again_after: Option<Duration> },
    Lost { after: Duration },
    Damaged { after: Duration, bit: u64 },
}

impl Network {
    /// No nodes yet, fair weather.
    pub fn new(draws: Draws, trace: Arc<Trace>, tasks: Arc<Tasks>) -> Arc<Self> {
        let state = State {
            draws,
            weather: Weather::FAIR,
            zones: BTreeMap::new(),
            processes: BTreeMap::new(),
            cuts: BTreeSet::new(),
            mutes: BTreeSet::new(),
            far: BTreeMap::new(),
            paused: BTreeMap::new(),
            next: 1,
            flights: BTreeMap::new(),
        };
        Arc::new(Self { trace, tasks, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a machine, which is off.
    pub(super) fn add(&self, node: NodeId, zone: ZoneId) {
        let mut state = self.lock();
        state.zones.insert(node, zone);
        state.processes.insert(node, Process::Dark);
    }

    /// A process starts on the machine.
    pub(super) fn up(&self, node: NodeId, spawn: Arc<SimSpawn>) {
        self.lock().processes.insert(node, Process::Up { spawn, handler: None });
    }

    /// The process ends. Its callers hear of it, unless the machine went dark with it.
    pub(super) fn down(self: &Arc<Self>, node: NodeId, dark: bool) {
        let mut state = self.lock();
        let process = if dark { Process::Dark } else { Process::Gone };
        state.paused.remove(&node);
        let before = state.processes.insert(node, process);
        let waiting: Vec<u64> =
            state.flights.iter().filter(|(_, flight)| flight.to == node).map(|(call, _)| *call).collect();
        drop(state);
        drop(before);
        if !dark {
            for call in waiting {
                self.fail(call, WITHIN_ZONE.end, |to| NetError::Lost { to });
            }
        }
    }

    /// From now on the weather is this.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
        self.trace.line(format_args!("net   weather {weather:?}"));
    }

    /// Nothing gets from `from` to `to` any more, messages under way included.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.lock().cuts.insert((from, to));
        self.trace.line(format_args!("net   cut {from} > {to}"));
    }

    /// Nothing gets in or out of the zone any more.
    pub fn cut_zone(&self, zone: ZoneId) {
        let mut state = self.lock();
        let nodes: Vec<(NodeId, ZoneId)> = state.zones.iter().map(|(node, zone)| (*node, *zone)).collect();
        for (from, from_zone) in &nodes {
            for (to, to_zone) in &nodes {
                if (*from_zone == zone) != (*to_zone == zone) {
                    state.cuts.insert((*from, *to));
                }
            }
        }
        drop(state);
        self.trace.line(format_args!("net   cut {zone}"));
    }

    /// Everything that gets in or out of the zone takes so much longer, and up to half of that again.
    pub fn slow_zone(&self, zone: ZoneId, longer: Duration) {
        self.lock().far.insert(zone, longer);
        self.trace.line(format_args!("net   {zone} is {} ms away", longer.as_millis()));
    }

    /// From now on the node takes requests, acts on every other one, and answers none; those who wait for it hear nothing.
    pub fn mute(&self, node: NodeId) {
        self.lock().mutes.insert(node);
        self.trace.line(format_args!("net   {node} is mute"));
    }

    /// All cuts are mended, no zone is far, nobody is mute.
    pub fn mend(&self) {
        let mut state = self.lock();
        state.cuts.clear();
        state.mutes.clear();
        state.far.clear();
        drop(state);
        self.trace.line(format_args!("net   mended"));
    }

    /// The process of the node stands still, or goes on: meanwhile its kernel takes requests, up to a bound, and they wait.
    pub(super) fn set_paused(&self, node: NodeId, paused: bool) {
        let mut state = self.lock();
        if paused {
            state.paused.entry(node).or_default();
        } else {
            state.paused.remove(&node);
        }
    }

    fn begin(
        self: &Arc<Self>,
        from: NodeId,
        to: NodeId,
        request: &Frame,
        patience: Duration,
    ) -> Result<Call, NetError> {
        let patience_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let mut state = self.lock();
        let in_flight =
            state.flights.values().filter(|flight| flight.from == from && flight.to == to).count();
        if in_flight >= CALLS_PER_PEER_MAX {
            return Err(NetError::Busy { to, credits: CALLS_PER_PEER_MAX });
        }
        if !state.zones.contains_key(&to) {
            return Err(NetError::Unreachable { to });
        }
        let call = state.next;
        state.next += 1;
        let bytes = encode(FrameKind::Request, call, patience_ms, request)
            .map_err(|source| NetError::TooLarge { to, source })?;
        let (sender, answer) = oneshot::channel();
        state.flights.insert(call, Flight { from, to, answer: sender });
        let message = Message { call, from, to, bytes };
        let fate = state.fate(&message, true);
        drop(state);
        let (name, head, payload) = (request_name(&request.head), request.head.len(), request.payload.len());
        match fate {
            Fate::Arrives { after, again_after } => {
                let twice = if again_after.is_some() { ", twice" } else { "" };
                self.trace.line(format_args!(
                    "net   {from} > {to} #{call} {name} {head}+{payload} B, {} us{twice}",
                    after.as_micros()
                ));
                if let Some(again_after) = again_after {
                    self.carry(again_after, message.clone(), Self::arrive_request);
                }
                self.carry(after, message, Self::arrive_request);
            }
            Fate::Lost { after } => {
                self.trace.line(format_args!("net   {from} > {to} #{call} {name} {head}+{payload} B, lost"));
                self.fail(call, after, |to| NetError::Lost { to });
            }
            Fate::Damaged { after, bit } => {
                self.trace.line(format_args!(
                    "net   {from} > {to} #{call} {name} {head}+{payload} B, bit {bit} flips"
                ));
                self.carry(after, message.damaged(bit), |network, message| {
                    network.arrive_damaged(FrameKind::Request, &message);
                });
            }
        }
        Ok(Call { call, network: Arc::clone(self), answer })
    }

    fn carry(self: &Arc<Self>, after: Duration, message: Message, arrive: fn(&Arc<Self>, Message)) {
        let network = Arc::clone(self);
        let wire = async move {
            tokio::time::sleep(after).await;
            arrive(&network, message);
        };
        self.tasks.spawn(Owner::World, "wire", Box::pin(wire));
    }

    /// Ends a call without an answer, after a while.
    fn fail(self: &Arc<Self>, call: u64, after: Duration, error: fn(NodeId) -> NetError) {
        let network = Arc::clone(self);
        let wire = async move {
            tokio::time::sleep(after).await;
            let flight = network.lock().flights.remove(&call);
            if let Some(flight) = flight {
                let _given_up = flight.answer.send(Err(error(flight.to)));
            }
        };
        self.tasks.spawn(Owner::World, "wire", Box::pin(wire));
    }

    fn arrive_request(self: &Arc<Self>, message: Message) {
        let Message { call, from, to, bytes } = message;
        let mut state = self.lock();
        if state.cuts.contains(&(from, to)) {
            drop(state);
            return self.silence(call);
        }
        let (spawn, handler) = match state.processes.get(&to) {
            None | Some(Process::Dark) => {
                drop(state);
                return self.silence(call);
            }
            Some(Process::Gone | Process::Up { handler: None, .. }) => {
                drop(state);
                return self.fail(call, WITHIN_ZONE.start, |to| NetError::Unreachable { to });
            }
            Some(Process::Up { spawn, handler: Some(handler) }) => (Arc::clone(spawn), Arc::clone(handler)),
        };
        if let Some(waiting) = state.paused.get_mut(&to) {
            let count = waiting.entry(from).or_default();
            if *count == REQUESTS_PER_PEER_MAX {
                // It stays with the sender, who gives up on it.
                return;
            }
            *count += 1;
        }
        let is_mute = state.mutes.contains(&to);
        drop(state);
        if is_mute && call.is_multiple_of(2) {
            self.trace.line(format_args!("net   {from} > {to} #{call} is taken and forgotten"));
            return;
        }
        let request = decode(FrameKind::Request, &bytes).expect("nothing has changed on the way");
        let network = Arc::clone(self);
        spawn.spawn(
            "peer-request",
            Box::pin(async move {
                let answer = handler.handle(from, request).await;
                // Weak ends do not matter here: the network outlives every node.
                network.answer(call, to, from, &answer);
            }),
        );
    }

    /// What arrives is not what was sent. The checksums must see it; then the connection it came on is given up, with all calls on it.
    fn arrive_damaged(self: &Arc<Self>, kind: FrameKind, message: &Message) {
        let Message { call, from, to, bytes } = message;
        let state = self.lock();
        if state.cuts.contains(&(*from, *to)) || !matches!(state.processes.get(to), Some(Process::Up { .. }))
        {
            drop(state);
            return self.silence(*call);
        }
        let Err(error) = decode(kind, bytes) else {
            panic!("a damaged frame passed its checksums: call {call} from {from} to {to}");
        };
        let (caller, callee) = match kind {
            FrameKind::Request => (*from, *to),
            FrameKind::Response => (*to, *from),
        };
        let calls = state.flights.iter().filter(|(_, flight)| (flight.from, flight.to) == (caller, callee));
        let calls: Vec<u64> = calls.map(|(call, _)| *call).collect();
        drop(state);
        self.trace.line(format_args!(
            "net   {from} > {to} #{call} arrives damaged ({error}), {} calls are lost",
            calls.len()
        ));
        for call in calls {
            self.fail(call, WITHIN_ZONE.start, |to| NetError::Lost { to });
        }
    }

    /// Nothing comes back: what the kernel makes of that when the caller waits long enough.
    fn silence(self: &Arc<Self>, call: u64) {
        self.fail(call, DIAL_PATIENCE, |to| NetError::Lost { to });
    }

    fn answer(self: &Arc<Self>, call: u64, from: NodeId, to: NodeId, answer: &Frame) {
        let (head, payload) = (answer.head.len(), answer.payload.len());
        let Ok(bytes) = encode(FrameKind::Response, call, 0, answer) else {
            self.trace
                .line(format_args!("net   {from} > {to} #{call} answer of {head}+{payload} B is no frame"));
            return;
        };
        let message = Message { call, from, to, bytes };
        let mut state = self.lock();
        let fate = state.fate(&message, false);
        let is_mute = state.mutes.contains(&from);
        drop(state);
        if is_mute {
            self.trace.line(format_args!("net   {from} > {to} #{call} answer is never sent"));
            return;
        }
        match fate {
            Fate::Arrives { after, .. } => {
                self.trace.line(format_args!(
                    "net   {from} > {to} #{call} answer {head}+{payload} B, {} us",
                    after.as_micros()
                ));
                self.carry(after, message, Self::arrive_answer);
            }
            Fate::Lost { after } => {
                self.trace.line(format_args!("net   {from} > {to} #{call} answer {head}+{payload} B, lost"));
                self.fail(call, after, |to| NetError::Lost { to });
            }
            Fate::Damaged { after, bit } => {
                self.trace.line(format_args!(
                    "net   {from} > {to} #{call} answer {head}+{payload} B, bit {bit} flips"
                ));
                self.carry(after, message.damaged(bit), |network, message| {
                    network.arrive_damaged(FrameKind::Response, &message);
                });
            }
        }
    }

    fn arrive_answer(self: &Arc<Self>, message: Message) {
        let Message { call, from, to, bytes } = message;
        let mut state = self.lock();
        if state.cuts.contains(&(from, to)) {
            drop(state);
            return self.silence(call);
        }
        let flight = state.flights.remove(&call);
        drop(state);
        if let Some(flight) = flight {
            let answer = decode(FrameKind::Response, &bytes).expect("nothing has changed on the way");
            let _given_up = flight.answer.send(Ok(answer));
        }
    }
}

impl State {
    fn fate(&mut self, message: &Message, request: bool) -> Fate {
        let zones = (self.zones.get(&message.from).copied(), self.zones.get(&message.to).copied());
        let Weather { lost, duplicated, slow, damaged } = self.weather;
        let after = self.latency(zones, slow);
        // Drawn always, so that the weather changes what happens and not what is drawn next.
        let (is_lost, is_duplicated) = (self.draws.chance(lost), self.draws.chance(duplicated));
        let (breaks_after, again_after) = (self.draws.duration(BREAK), self.latency(zones, slow));
        let is_damaged = self.draws.chance(damaged);
        let bit = self.draws.below(8 * message.bytes.len() as u64);
        if is_lost {
            return Fate::Lost { after: breaks_after };
        }
        if is_damaged {
            return Fate::Damaged { after, bit };
        }
        Fate::Arrives { after, again_after: (request && is_duplicated).then_some(again_after) }
    }

    fn latency(&mut self, zones: (Option<ZoneId>, Option<ZoneId>), slow: u32) -> Duration {
        let near = zones.0 == zones.1;
        let mut takes = self.draws.duration(if near { WITHIN_ZONE } else { ACROSS_ZONES });
        let extra = self.draws.duration(SLOW);
        if self.draws.chance(slow) {
            takes += extra;
        }
        if !near && !self.far.is_empty() {
            let ways = [zones.0, zones.1].into_iter().flatten();
            let far: Duration = ways.filter_map(|zone| self.far.get(&zone)).sum();
            takes += far + far.mul_f64(extra.as_secs_f64() / SLOW.end.as_secs_f64() / 2.0);
        }
        takes
    }
}

#[cfg(test)]
mod tests;
