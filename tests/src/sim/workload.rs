//! The cluster as clients and faults see it, and the clients.

use super::draws::Draws;
use super::faults::Event;
use super::history::History;
use super::limits::OPERATIONS_PER_KEY_MAX;
use super::operation::{Operation, Outcome, Value};
use super::system::{Door, NodeParts, System};
use super::world::{End, World};
use futures::future::{BoxFuture, Either, select};
use std::collections::BTreeMap;
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
}

#[derive(Clone)]
struct Entrance {
    door: Arc<dyn Door>,
    spawn: Arc<dyn Spawn>,
}

impl Cluster {
    /// A cluster of `system` in `world`, whose machines were added and are off.
    pub fn new(world: World, system: Arc<dyn System>, mutant: Option<&'static str>) -> Self {
        Self { inner: Arc::new(Inner { world, system, mutant, doors: Mutex::default() }) }
    }

    /// The world it is in.
    pub fn world(&self) -> &World {
        &self.inner.world
    }

    fn doors(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entrance>> {
        self.inner.doors.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.inner.world.kill(node, end);
        drop(door);
    }

    /// Lets something happen.
    pub fn happen(&self, event: Event) {
        let world = &self.inner.world;
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
                let most = match draws.below(20) {
                    0 => shape.value_len_bytes_max,
                    1..5 => shape.value_len_bytes_max.min(300_000),
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
