//! The cluster as clients and faults see it, and the clients.

use super::draws::Draws;
use super::drives::DriveWeather;
use super::faults::Event;
use super::history::History;
use super::limits::OPERATIONS_PER_KEY_MAX;
use super::operation::{Operation, Outcome, Value};
use super::system::{Door, NodeParts, System};
use super::world::{End, World};
use futures::future::{BoxFuture, Either, select};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use strongroom_env::{Spawn, Task};
use strongroom_types::NodeId;
use tokio::sync::oneshot;

const TO_DOOR: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(2);
const PATIENCE: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(15);
const THINK: Range<Duration> = Duration::ZERO..Duration::from_millis(1_200);
const REBOOT: Duration = Duration::from_secs(1);
/// Events of a key that are left for the reads at the end.
const RESERVED: usize = 64;
const _: () = assert!(RESERVED < OPERATIONS_PER_KEY_MAX);

/// The running system.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    world: World,
    system: Arc<dyn System>,
    mutant: Option<&'static str>,
    doors: Mutex<BTreeMap<NodeId, Entrance>>,
    found: Mutex<Found>,
}

/// What nodes said or showed, over all their lives.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Alarms.
    pub alarms: BTreeSet<String>,
    /// What probes found.
    pub wrong: BTreeSet<String>,
    /// Nodes whose media were harmed.
    pub harmed: BTreeSet<NodeId>,
}

#[derive(Clone)]
struct Entrance {
    door: Arc<dyn Door>,
    spawn: Arc<dyn Spawn>,
}

impl Cluster {
    /// A cluster of `system` in `world`, whose machines were added and are off.
    pub fn new(world: World, system: Arc<dyn System>, mutant: Option<&'static str>) -> Self {
        Self {
            inner: Arc::new(Inner {
                world,
                system,
                mutant,
                doors: Mutex::default(),
                found: Mutex::default(),
            }),
        }
    }

    /// The world it is in.
    pub fn world(&self) -> &World {
        &self.inner.world
    }

    fn doors(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entrance>> {
        self.inner.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.inner.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found until now.
    pub fn all_found(&self) -> Found {
        let alarms: Vec<String> = self.doors().values().flat_map(|entrance| entrance.door.alarms()).collect();
        let mut found = self.found();
        found.alarms.extend(alarms);
        found.clone()
    }

    /// Probes all nodes now.
    pub async fn probe(&self) {
        let answers = self.ask_each(|door| door.probe()).await;
        let wrong = answers.into_iter().flat_map(|(node, wrong)| {
            wrong.unwrap_or_default().into_iter().map(move |wrong| format!("{node}: {wrong}"))
        });
        let wrong: Vec<String> = wrong.collect();
        self.found().wrong.extend(wrong);
    }

    /// Starts a node, unless it runs. One that fails to start is started again after a while.
    pub fn boot(&self, node: NodeId) {
        let world = &self.inner.world;
        if world.is_up(node) {
            return;
        }
        let boot = world.boot(node);
        let spawn: Arc<dyn Spawn> = boot.spawn;
        let parts = NodeParts {
            env: boot.env,
            node,
            nodes: world.nodes().into_iter().collect(),
            drives: boot.drives,
            kv: boot.kv,
            life: boot.life,
            clock: Arc::new(world.clock()),
            mutant: self.inner.mutant,
        };
        let (cluster, entrance) = (self.clone(), Arc::clone(&spawn));
        let start = async move {
            let starting = cluster.inner.system.start(parts);
            match starting.await {
                Ok(door) => {
                    cluster.inner.world.trace().line(format_args!("node  {node} serves"));
                    cluster.doors().insert(node, Entrance { door, spawn: entrance });
                }
                Err(error) => {
                    cluster.inner.world.trace().line(format_args!("node  {node} does not start: {error:#}"));
                    let again = cluster.clone();
                    let later = async move {
                        tokio::time::sleep(REBOOT).await;
                        again.kill(node, End::Crash);
                        again.boot(node);
                    };
                    cluster.inner.world.spawn("supervisor", Box::pin(later));
                }
            }
        };
        spawn.spawn("start", Box::pin(start));
    }

    /// Ends a node, if it runs.
    pub fn kill(&self, node: NodeId, end: End) {
        let door = self.doors().remove(&node);
        if let Some(entrance) = &door {
            self.found().alarms.extend(entrance.door.alarms());
        }
        self.inner.world.kill(node, end);
        drop(door);
    }

    /// Lets something happen.
    pub fn happen(&self, event: Event) {
        let world = &self.inner.world;
        match event {
            Event::DriveWeather(_, _, weather) if weather == DriveWeather::FAIR => {}
            Event::DriveWeather(node, ..) | Event::Erase(node, _) | Event::Rot(node, ..) => {
                self.found().harmed.insert(node);
            }
            _ => {}
        }
        match event {
            Event::Kill(node, end) => self.kill(node, end),
            Event::Boot(node) => self.boot(node),
            Event::CutZone(zone) => world.network().cut_zone(zone),
            Event::Cut(from, to) => world.network().cut(from, to),
            Event::Mend => world.network().mend(),
            Event::Weather(weather) => world.network().set_weather(weather),
            Event::DriveWeather(node, drive, weather) => {
                if let Some(drive) = world.drives(node).get(drive) {
                    drive.plan.set_weather(weather);
                }
            }
            Event::Erase(node, drive) => {
                if let Some(drive) = world.drives(node).get(drive) {
                    drive.media.erase();
                    world
                        .trace()
                        .line(format_args!("drive {} is replaced by an empty one", drive.plan.name()));
                }
            }
            Event::Rot(node, drive, count, seed) => {
                if let Some(drive) = world.drives(node).get(drive) {
                    let mut draws = Draws::new(seed);
                    for _ in 0..count {
                        let offset_bytes = draws.below(drive.media.len_bytes());
                        drive.media.rot(offset_bytes, 1 << draws.below(8));
                    }
                    world.trace().line(format_args!("drive {} rots in {count} places", drive.plan.name()));
                }
            }
            Event::Skew(node, skew_ms) => world.set_skew_ms(node, skew_ms),
        }
    }

    /// Asks `node` and waits for `patience` at most. Where the client stops waiting, `hang_up` says whether the node
    /// notices.
    pub async fn ask(
        &self,
        node: NodeId,
        operation: Operation,
        patience: Duration,
        hang_up: bool,
        on_the_way: Duration,
    ) -> Outcome {
        tokio::time::sleep(on_the_way).await;
        let (door, spawn) = match self.doors().get(&node) {
            Some(entrance) => (Arc::clone(&entrance.door), Arc::clone(&entrance.spawn)),
            None => return Outcome::Refused("nobody listens".to_owned()),
        };
        let (task, answer) = in_task(&*spawn, async move { door.perform(operation).await });
        match select(answer, Box::pin(tokio::time::sleep(patience))).await {
            Either::Left((Ok(outcome), _)) => {
                tokio::time::sleep(on_the_way).await;
                outcome
            }
            Either::Left((Err(_), _)) => Outcome::Unknown("the connection broke".to_owned()),
            Either::Right(((), _)) => {
                if hang_up {
                    task.abort();
                }
                Outcome::Unknown("no answer in time".to_owned())
            }
        }
    }

    /// Has each node that serves do something, in a task of the node; `None` from one that ended meanwhile.
    pub async fn ask_each<T: Send + 'static>(
        &self,
        ask: impl Fn(Arc<dyn Door>) -> BoxFuture<'static, T>,
    ) -> BTreeMap<NodeId, Option<T>> {
        let entrances = self.doors().clone();
        let mut answers = BTreeMap::new();
        for (node, Entrance { door, spawn }) in entrances {
            let (_task, answer) = in_task(&*spawn, ask(door));
            answers.insert(node, answer.await.ok());
        }
        answers
    }
}

fn in_task<T: Send + 'static>(
    spawn: &dyn Spawn,
    future: impl Future<Output = T> + Send + 'static,
) -> (Task, oneshot::Receiver<T>) {
    let (sender, answer) = oneshot::channel();
    let task = spawn.spawn(
        "client-request",
        Box::pin(async move {
            let _hung_up = sender.send(future.await);
        }),
    );
    (task, answer)
}

/// What all clients of a run share.
pub struct Clients {
    /// The cluster.
    pub cluster: Cluster,
    /// What they did.
    pub history: Arc<History>,
    /// Set when they are to stop.
    pub stop: Arc<AtomicBool>,
    values: AtomicU64,
    nodes: Vec<NodeId>,
}

impl Clients {
    /// Clients of a cluster.
    pub fn new(cluster: Cluster, history: Arc<History>) -> Arc<Self> {
        let nodes = cluster.world().nodes().into_iter().map(|(node, _)| node).collect();
        Arc::new(Self { cluster, history, stop: Arc::default(), values: AtomicU64::new(1), nodes })
    }

    /// One client, until it is to stop. Reads more of what was written lately by using few keys.
    pub async fn one(self: Arc<Self>, name: String) {
        let world = self.cluster.world();
        let mut draws = world.draws(&name);
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(draws.duration(THINK)).await;
            let operation = self.draw(&mut draws);
            let room = match &operation {
                Operation::Put { key, .. } | Operation::Get { key } | Operation::Delete { key } => {
                    self.history.event_count(key) + RESERVED < OPERATIONS_PER_KEY_MAX
                }
                Operation::List => {
                    let fullest = self.history.keys().iter().map(|key| self.history.event_count(key)).max();
                    fullest.unwrap_or(0) + RESERVED < OPERATIONS_PER_KEY_MAX
                }
            };
            let (node, patience) = (*draws.pick(&self.nodes), draws.duration(PATIENCE));
            let (hang_up, on_the_way) = (draws.chance(500_000), draws.duration(TO_DOOR));
            if !room {
                continue;
            }
            let invoked = self.history.invoke(world.trace(), &name, operation.clone());
            let outcome = self.cluster.ask(node, operation, patience, hang_up, on_the_way).await;
            self.history.complete(world.trace(), &name, invoked, &outcome);
        }
    }

    fn draw(&self, draws: &mut Draws) -> Operation {
        let key = draws.pick(self.history.keys()).clone();
        let shape = self.cluster.inner.system.shape();
        match draws.below(100) {
            0..45 => {
                let number = self.values.fetch_add(1, Ordering::Relaxed);
                let most = match draws.below(100) {
                    0 => shape.value_len_bytes_max,
                    1..20 => shape.value_len_bytes_max.min(200_000),
                    _ => shape.value_len_bytes_max.min(20_000),
                };
                let len_bytes = Value::LEN_BYTES_MIN + draws.index(most - Value::LEN_BYTES_MIN + 1);
                let if_absent = shape.conditions && draws.chance(200_000);
                Operation::Put { key, value: Value { number, len_bytes }, if_absent }
            }
            45..85 => Operation::Get { key },
            85..96 => Operation::Delete { key },
            _ => Operation::List,
        }
    }

    /// Writes one object of 10 kB under this key through the first node; gives it if it was acknowledged. Not in the history.
    pub async fn write_one(&self, key: &str) -> Option<Value> {
        let number = self.values.fetch_add(1, Ordering::Relaxed);
        let value = Value { number, len_bytes: 10_000 };
        let operation = Operation::Put { key: key.to_owned(), value, if_absent: false };
        let outcome = self.cluster.ask(self.nodes[0], operation, PATIENCE.end, true, TO_DOOR.start).await;
        (outcome == Outcome::Stored).then_some(value)
    }

    /// Writes through every node until each has taken one; `Err` names the one that never did.
    pub async fn write_all(&self, limit: Duration) -> Result<(), String> {
        let world = self.cluster.world();
        let until = tokio::time::Instant::now() + limit;
        for (node, key) in self.nodes.iter().zip(self.history.keys().iter().cycle()) {
            loop {
                let number = self.values.fetch_add(1, Ordering::Relaxed);
                let value = Value { number, len_bytes: 3000 };
                let operation = Operation::Put { key: key.clone(), value, if_absent: false };
                let invoked = self.history.invoke(world.trace(), "writer", operation.clone());
                let asked = self.cluster.ask(*node, operation.clone(), PATIENCE.end, true, TO_DOOR.start);
                let outcome = asked.await;
                self.history.complete(world.trace(), "writer", invoked, &outcome);
                if outcome == Outcome::Stored {
                    break;
                }
                if tokio::time::Instant::now() > until {
                    return Err(format!(
                        "{operation} by {node}, all faults being over for {limit:?}: {outcome}"
                    ));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Ok(())
    }

    /// Reads everything through every node until each answers; `Err` names what never did.
    pub async fn read_all(&self, limit: Duration) -> Result<(), String> {
        let world = self.cluster.world();
        let until = tokio::time::Instant::now() + limit;
        for node in &self.nodes {
            let gets = self.history.keys().iter().map(|key| Operation::Get { key: key.clone() });
            for operation in gets.chain([Operation::List]) {
                loop {
                    let invoked = self.history.invoke(world.trace(), "reader", operation.clone());
                    let asked = self.cluster.ask(*node, operation.clone(), PATIENCE.end, true, TO_DOOR.start);
                    let outcome = asked.await;
                    self.history.complete(world.trace(), "reader", invoked, &outcome);
                    if !matches!(outcome, Outcome::Unknown(_) | Outcome::Refused(_)) {
                        break;
                    }
                    if tokio::time::Instant::now() > until {
                        return Err(format!(
                            "{operation} by {node}, all faults being over for {limit:?}: {outcome}"
                        ));
                    }
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        }
        Ok(())
    }
}
