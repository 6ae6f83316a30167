//! The clients: what they ask for, and what everybody asks for when the faults are over.

use super::Cluster;
use crate::sim::draws::Draws;
use crate::sim::history::History;
use crate::sim::limits::OPERATIONS_PER_KEY_MAX;
use crate::sim::operation::{Condition, Operation, Outcome, Value};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use strongroom_types::NodeId;

const TO_DOOR: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(2);
const PATIENCE: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(15);
const THINK: Range<Duration> = Duration::ZERO..Duration::from_millis(1_200);
/// Events of a key that are left for the reads at the end.
const RESERVED: usize = 64;
const _: () = assert!(RESERVED < OPERATIONS_PER_KEY_MAX);

/// What all clients of a run share.
pub struct Clients {
    /// The cluster.
    pub cluster: Cluster,
    /// What they did.
    pub history: Arc<History>,
    /// Set when they are to stop.
    pub stop: Arc<AtomicBool>,
    values: AtomicU64,
}

impl Clients {
    /// Clients of a cluster.
    pub fn new(cluster: Cluster, history: Arc<History>) -> Arc<Self> {
        Arc::new(Self { cluster, history, stop: Arc::default(), values: AtomicU64::new(1) })
    }

    /// All nodes by now.
    fn nodes(&self) -> Vec<NodeId> {
        self.cluster.world().nodes().into_iter().map(|(node, _)| node).collect()
    }

    /// One client, until it is to stop. Reads more of what was written lately by using few keys.
    pub async fn one(self: Arc<Self>, name: String) {
        let world = self.cluster.world();
        let mut draws = world.draws(&name);
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(draws.duration(THINK)).await;
            let operation = self.draw(&mut draws);
            let room = match operation.key() {
                Some(key) => self.history.event_count(key) + RESERVED < OPERATIONS_PER_KEY_MAX,
                None => {
                    let fullest = self.history.keys().iter().map(|key| self.history.event_count(key)).max();
                    fullest.unwrap_or(0) + RESERVED < OPERATIONS_PER_KEY_MAX
                }
            };
            let (node, patience) = (*draws.pick(&self.nodes()), draws.duration(PATIENCE));
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
                let condition = match draws.below(100) {
                    0..15 if shape.conditions => Condition::Absent,
                    15..35 => self.if_match(&key),
                    _ => Condition::None,
                };
                Operation::Put { key, value: Value { number, len_bytes }, condition }
            }
            45..72 => Operation::Get { key },
            72..80 if shape.conditions => Operation::Head { key },
            80..85 => match self.history.version(&key, draws) {
                Some((version, value)) => Operation::GetVersion { key, version, value },
                None => Operation::Get { key },
            },
            72..85 => Operation::Get { key },
            85..96 => {
                let condition = if draws.chance(300_000) { self.if_match(&key) } else { Condition::None };
                Operation::Delete { key, condition }
            }
            _ => Operation::List,
        }
    }

    /// That a key still is what it was when it was last seen.
    fn if_match(&self, key: &str) -> Condition {
        let latest = self.history.latest(key).filter(|_| self.cluster.inner.system.shape().conditions);
        latest.map_or(Condition::None, Condition::Matches)
    }

    /// Writes one object of 10 kB under this key through the first node; gives it if it was acknowledged.
    pub async fn write_one(&self, key: &str) -> Option<Value> {
        self.write_through(self.nodes()[0], key).await
    }

    /// Writes one object of 10 kB under this key through this node; gives it if it was acknowledged.
    pub async fn write_through(&self, node: NodeId, key: &str) -> Option<Value> {
        self.write_sized(node, key, 10_000).await
    }

    /// Writes one object of this length; gives it if it was acknowledged.
    pub async fn write_sized(&self, node: NodeId, key: &str, len_bytes: usize) -> Option<Value> {
        let number = self.values.fetch_add(1, Ordering::Relaxed);
        let value = Value { number, len_bytes };
        let operation = Operation::Put { key: key.to_owned(), value, condition: Condition::None };
        self.tell(node, operation).await.is_stored().then_some(value)
    }

    /// Removes what is under this key through this node; says whether that was acknowledged.
    pub async fn remove(&self, node: NodeId, key: &str) -> bool {
        let operation = Operation::Delete { key: key.to_owned(), condition: Condition::None };
        self.tell(node, operation).await == Outcome::Deleted
    }

    async fn tell(&self, node: NodeId, operation: Operation) -> Outcome {
        let world = self.cluster.world();
        let invoked = self.history.invoke(world.trace(), "teller", operation.clone());
        let outcome = self.cluster.ask(node, operation, PATIENCE.end, true, TO_DOOR.start).await;
        self.history.complete(world.trace(), "teller", invoked, &outcome);
        outcome
    }

    /// Writes through every node until each has taken one; `Err` names the one that never did.
    pub async fn write_all(&self, limit: Duration) -> Result<(), String> {
        let world = self.cluster.world();
        let until = tokio::time::Instant::now() + limit;
        for (node, key) in self.nodes().iter().zip(self.history.keys().iter().cycle()) {
            loop {
                let number = self.values.fetch_add(1, Ordering::Relaxed);
                let value = Value { number, len_bytes: 3000 };
                let operation = Operation::Put { key: key.clone(), value, condition: Condition::None };
                let invoked = self.history.invoke(world.trace(), "writer", operation.clone());
                let asked = self.cluster.ask(*node, operation.clone(), PATIENCE.end, true, TO_DOOR.start);
                let outcome = asked.await;
                self.history.complete(world.trace(), "writer", invoked, &outcome);
                if outcome.is_stored() {
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

    /// Reads everything through every node until each answers; `Err` names what never did. First, drives that are told to be old are replaced.
    pub async fn read_all(&self, limit: Duration) -> Result<(), String> {
        let world = self.cluster.world();
        self.cluster.replace_old_drives().await;
        let until = tokio::time::Instant::now() + limit;
        for node in &self.nodes() {
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
