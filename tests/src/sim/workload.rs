//! The cluster as clients and faults see it, and the clients.

mod clients;
mod operator;

pub use clients::Clients;

use super::checkers::watch::Glimpse;
use super::draws::Draws;
use super::drives::{DriveWeather, SimDrive};
use super::faults::{Event, text};
use super::net::Weather;
use super::operation::{Operation, Outcome};
use super::system::{Door, NodeParts, System};
use super::world::{End, World};
use futures::future::{BoxFuture, Either, select};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use strongroom_env::{Spawn, Task};
use strongroom_io::memory::MemoryImage;
use strongroom_meta::kv::{MemoryKv, MemoryMedia as KvMedia, OrderedKv};
use strongroom_types::NodeId;
use tokio::sync::oneshot;

const REBOOT: Duration = Duration::from_secs(1);
/// How long a node may take to tell that a drive came back old: until the control group has a leader and answers.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// What nodes say of such a drive.
pub const CAME_BACK_OLD: &str = "came back as it was earlier";
/// Keys of a state directory that are looked at: more than a run makes.
const KEYS_MAX: usize = 1 << 20;
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

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
    /// What drives are remembered to have been.
    images: Mutex<BTreeMap<(NodeId, usize), Remembered>>,
    /// The present or last life of each node.
    lives: Mutex<BTreeMap<NodeId, u64>>,
    /// Drives that came back as they were in an earlier life of their node: the node tells, and only reads them.
    stale: Mutex<BTreeSet<(NodeId, usize)>>,
    /// What is to be emptied.
    operator: operator::Operator,
}

struct Remembered {
    image: MemoryImage,
    life: u64,
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
    /// Nodes whose state directories were.
    pub state_harmed: BTreeSet<NodeId>,
    /// Nodes whose process stood still: until all is at rest requests may be waiting.
    pub paused: BTreeSet<NodeId>,
    /// How often the state directory of a node was erased: each time it is another voter afterwards.
    pub state_erased: BTreeMap<NodeId, u64>,
    /// What was done to them, and how often it was felt: a kill ended a node that ran, a drive's change found a drive.
    pub tried: BTreeMap<&'static str, u64>,
}

#[derive(Clone)]
struct Entrance {
    life: u64,
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
                images: Mutex::default(),
                lives: Mutex::default(),
                stale: Mutex::default(),
                operator: operator::Operator::default(),
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

    /// Probes all nodes now; one that does not answer soon, since it stands still or its drive hangs, is left out.
    pub async fn probe(&self) {
        let entrances = self.doors().clone();
        let probes = entrances.into_iter().map(|(node, Entrance { door, spawn, .. })| async move {
            let (_task, answer) = in_task(&*spawn, door.probe());
            let wrong = tokio::time::timeout(PROBE_PATIENCE, answer).await.ok().and_then(Result::ok);
            wrong.unwrap_or_default().into_iter().map(move |wrong| format!("{node}: {wrong}"))
        });
        let wrong: Vec<String> = futures::future::join_all(probes).await.into_iter().flatten().collect();
        self.found().wrong.extend(wrong);
    }

    /// Starts a node, unless it runs. One that fails to start is started again after a while.
    pub fn boot(&self, node: NodeId) {
        let world = &self.inner.world;
        if world.is_up(node) {
            return;
        }
        let boot = world.boot(node);
        lock(&self.inner.lives).insert(node, boot.life);
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
        let (cluster, entrance, life) = (self.clone(), Arc::clone(&spawn), boot.life);
        let start = async move {
            let starting = cluster.inner.system.start(parts);
            match starting.await {
                Ok(door) => {
                    cluster.inner.world.trace().line(format_args!("node  {node} serves"));
                    cluster.doors().insert(node, Entrance { life, door, spawn: entrance });
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

    /// Ends a node, if it runs; whether it did.
    pub fn kill(&self, node: NodeId, end: End) -> bool {
        let door = self.doors().remove(&node);
        if let Some(entrance) = &door {
            self.found().alarms.extend(entrance.door.alarms());
        }
        let ran = self.inner.world.kill(node, end);
        drop(door);
        ran
    }

    fn felt(&self, fault: &'static str) {
        *self.found().tried.entry(fault).or_default() += 1;
    }

    /// Lets something happen.
    pub fn happen(&self, event: Event) {
        if let Some(node) = event.harms() {
            self.found().harmed.insert(node);
        }
        if let Event::Pause(node) = event {
            self.found().paused.insert(node);
        }
        let felt = self.does(event);
        if let Some(fault) = text::fault(&event).filter(|_| felt) {
            self.felt(fault);
        }
    }

    /// Does it; whether there was anybody to feel it by now.
    fn does(&self, event: Event) -> bool {
        let world = &self.inner.world;
        match event {
            Event::Kill(node, end) => return self.kill(node, end),
            Event::KillAtPoll(node, polls, end) => {
                let cluster = self.clone();
                world.arm(node, polls, move || {
                    if cluster.kill(node, end) {
                        cluster.felt("kill-at-poll");
                    }
                });
                return false;
            }
            Event::Disarm(node) => world.disarm(node),
            Event::Boot(node) => self.boot(node),
            Event::Pause(node) => return world.pause(node),
            Event::Resume(node) => world.resume(node),
            Event::CutZone(zone) => world.network().cut_zone(zone),
            Event::Cut(from, to) => world.network().cut(from, to),
            Event::SlowZone(zone, longer) => world.network().slow_zone(zone, longer),
            Event::Mute(node) => world.network().mute(node),
            Event::Mend => world.network().mend(),
            Event::Weather(weather) => world.network().set_weather(weather),
            Event::DriveWeather(node, drive, weather) => {
                let Some(drive) = world.drives(node).get(drive).cloned() else { return false };
                drive.plan.set_weather(weather);
            }
            Event::Erase(node, drive) => {
                lock(&self.inner.stale).remove(&(node, drive));
                return self.change_media(node, drive, |drive| {
                    drive.media.erase();
                    "is replaced by an empty one"
                });
            }
            Event::Remember(node, drive) => {
                if let Some(found) = world.drives(node).get(drive) {
                    let remembered = Remembered { image: found.media.image(), life: self.life(node) };
                    lock(&self.inner.images).insert((node, drive), remembered);
                }
            }
            Event::Revert(node, drive) => return self.revert(node, drive),
            Event::Rot(node, drive, count, seed) => {
                let Some(drive) = world.drives(node).get(drive).cloned() else { return false };
                let mut draws = Draws::new(seed);
                for _ in 0..count {
                    let offset_bytes = draws.below(drive.media.len_bytes());
                    drive.media.rot(offset_bytes, 1 << draws.below(8));
                }
                world.trace().line(format_args!("drive {} rots in {count} places", drive.plan.name()));
            }
            Event::EraseState(node) => {
                *self.found().state_erased.entry(node).or_default() += 1;
                return self.change_state(node, |kv| {
                    kv.erase();
                    Some("is gone".to_owned())
                });
            }
            Event::RollBackState(node, batches) => {
                return self.change_state(node, |kv| {
                    let older = kv.roll_back(batches);
                    (older > 0).then(|| format!("is {older} batches older"))
                });
            }
            Event::CorruptState(node, seed) => {
                return self.change_state(node, |kv| {
                    let all = MemoryKv::on(kv).range(&[], &[0xff; 8], KEYS_MAX).unwrap_or_default();
                    if all.is_empty() {
                        return None;
                    }
                    let (key, value) = Draws::new(seed).pick(&all);
                    kv.corrupt(key);
                    Some(format!("has a bit flipped in the {} B of {key:?}", value.len()))
                });
            }
            Event::BeginDrain(node, drive) => self.begin_drain(node, drive),
            Event::EndDrain(node, drive) => self.end_drain(node, drive),
            Event::Skew(node, skew_ms) => world.set_skew_ms(node, skew_ms),
            Event::Drift(node, parts_per_million) => world.set_drift(node, parts_per_million),
        }
        true
    }

    fn revert(&self, node: NodeId, drive: usize) -> bool {
        let Some(remembered) = lock(&self.inner.images).remove(&(node, drive)) else { return false };
        if remembered.life != self.life(node) {
            lock(&self.inner.stale).insert((node, drive));
        }
        self.change_media(node, drive, |drive| {
            drive.media.restore(&remembered.image);
            "is as it once was"
        })
    }

    /// A drive's media change while its node is down; one that runs ends first. Whether there is such a drive.
    fn change_media(
        &self,
        node: NodeId,
        drive: usize,
        change: impl FnOnce(&SimDrive) -> &'static str,
    ) -> bool {
        self.kill(node, End::Crash);
        let world = &self.inner.world;
        let Some(drive) = world.drives(node).get(drive).cloned() else { return false };
        let what = change(&drive);
        drive.plan.forget();
        world.trace().line(format_args!("drive {} {what}", drive.plan.name()));
        true
    }

    /// A state directory changes while its node is down; one that runs ends first. `None` from `change`: there was nothing to change.
    fn change_state(&self, node: NodeId, change: impl FnOnce(&KvMedia) -> Option<String>) -> bool {
        self.kill(node, End::Crash);
        self.found().state_harmed.insert(node);
        let world = &self.inner.world;
        let what = world.kv(node).and_then(|kv| change(&kv));
        world.trace().line(format_args!("state of {node} {}", what.as_deref().unwrap_or("holds nothing")));
        what.is_some()
    }

    /// Ends all faults: whatever still works works from now on, and every node runs.
    pub fn end_faults(&self) {
        let world = &self.inner.world;
        self.happen(Event::Mend);
        self.happen(Event::Weather(Weather::FAIR));
        for (node, _) in world.nodes() {
            self.happen(Event::Disarm(node));
            self.happen(Event::Resume(node));
            self.happen(Event::Skew(node, 0));
            self.happen(Event::Drift(node, 0));
            for drive in 0..world.drives(node).len() {
                self.happen(Event::DriveWeather(node, drive, DriveWeather::FAIR));
            }
            // A drive that failed takes no more fragments until its node starts again: here an operator has it do so.
            if self.found().harmed.contains(&node) {
                self.kill(node, End::Crash);
            }
            self.happen(Event::Boot(node));
        }
    }

    /// Has drives that came back old replaced by new ones, as an operator would: where their node says so, and no other. Nobody is told of an image
    /// that was taken since the last life of the node in which the control group took the drive in.
    async fn replace_old_drives(&self) {
        let stale: Vec<_> = lock(&self.inner.stale).iter().copied().collect();
        for (node, drive) in stale {
            let until = tokio::time::Instant::now() + TOLD_WITHIN;
            while !self.tells_old_drive(node) && tokio::time::Instant::now() < until {
                tokio::time::sleep(REBOOT).await;
            }
            let told = self.tells_old_drive(node);
            self.inner
                .world
                .trace()
                .line(format_args!("drive {drive} of {node} came back old, told: {told}"));
            lock(&self.inner.stale).remove(&(node, drive));
            if told {
                self.happen(Event::Erase(node, drive));
                self.happen(Event::Boot(node));
            }
        }
    }

    /// Whether a node says now that a drive of it came back old.
    pub fn tells_old_drive(&self, node: NodeId) -> bool {
        let door = self.doors().get(&node).map(|entrance| Arc::clone(&entrance.door));
        door.is_some_and(|door| door.alarms().iter().any(|alarm| alarm.contains(CAME_BACK_OLD)))
    }

    fn life(&self, node: NodeId) -> u64 {
        lock(&self.inner.lives).get(&node).copied().unwrap_or(0)
    }

    /// Nodes whose media were harmed until now.
    pub fn harmed(&self) -> BTreeSet<NodeId> {
        self.found().harmed.clone()
    }

    /// Nodes whose state directories were harmed until now.
    pub fn state_harmed(&self) -> BTreeSet<NodeId> {
        self.found().state_harmed.clone()
    }

    /// Nodes that stood still since all was at rest last.
    pub fn paused(&self) -> BTreeSet<NodeId> {
        self.found().paused.clone()
    }

    /// All is at rest: nothing waits any more because a node stood still.
    pub fn forget_pauses(&self) {
        self.found().paused.clear();
    }

    /// How often the state directory of `node` was erased until now.
    pub fn state_erased(&self, node: NodeId) -> u64 {
        self.found().state_erased.get(&node).copied().unwrap_or(0)
    }

    /// Has some node that serves do something: the first one that does it in time.
    pub async fn ask_any<T: Send + 'static>(
        &self,
        patience: Duration,
        ask: impl Fn(Arc<dyn Door>) -> BoxFuture<'static, T>,
    ) -> Option<T> {
        let entrances = self.doors().clone();
        for Entrance { door, spawn, .. } in entrances.into_values() {
            let (_task, answer) = in_task(&*spawn, ask(door));
            if let Ok(Ok(answer)) = tokio::time::timeout(patience, answer).await {
                return Some(answer);
            }
        }
        None
    }

    /// What can be seen at once of each node that serves, in which of its lives.
    pub fn glimpses(&self) -> Vec<(NodeId, u64, Glimpse)> {
        self.doors().iter().map(|(node, entrance)| (*node, entrance.life, entrance.door.glimpse())).collect()
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
        for (node, Entrance { door, spawn, .. }) in entrances {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
