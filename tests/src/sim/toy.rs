//! A small system to try the simulator on: registers replicated to one node in each of three zones, by the algorithm of
//! Attiya, Bar-Noy and Dolev. It keeps the same promises as a key in Strongroom, in 200 lines, and its mutants break them:
//! so the world, the faults and the checkers are tested before and apart from what they are for.

use super::operation::{Condition, Listed, Operation, Outcome, Value};
use super::system::{Door, Mutant, NodeParts, Shape, System};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use strongroom_env::{Env, Handler};
use strongroom_format::wire::{Frame, Request, Response};
use strongroom_meta::kv::{Batch, OrderedKv};
use strongroom_types::{Deadline, NodeId};

/// The toy.
pub struct Toy;

const PATIENCE: Duration = Duration::from_millis(800);
const QUORUM: usize = 2;
const KEYS_MAX: usize = 1000;

const LINEARIZABLE: &[&str] = &["linearizable per key"];

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "ack-in-one-zone",
        what: "writes to its own zone only",
        scenario: None,
        seen_by: LINEARIZABLE,
    },
    Mutant {
        name: "skip-sync",
        what: "acknowledges a write that is not on media",
        scenario: None,
        seen_by: LINEARIZABLE,
    },
    Mutant { name: "read-one", what: "reads from one replica", scenario: None, seen_by: LINEARIZABLE },
    Mutant {
        name: "clock-order",
        what: "orders writes by the wall clock",
        scenario: None,
        seen_by: LINEARIZABLE,
    },
    Mutant {
        name: "host-clock",
        what: "lets the host's clock decide, so that no two runs are the same",
        scenario: None,
        seen_by: &["two runs of this seed differ"],
    },
];

/// Orders writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Stamp {
    count: u64,
    writer: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Register {
    stamp: Stamp,
    value: Option<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    Read(String),
    Write(String, Register),
    Keys,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Register(Register),
    Written,
    Keys(Vec<String>),
    Failed,
}

impl System for Toy {
    fn shape(&self) -> Shape {
        Shape {
            zones: 3,
            nodes_per_zone: 1,
            drives_per_node: 0,
            drive_len_bytes: 0,
            drive_len_bytes_cramped: 0,
            survives_media_faults: false,
            survives_state_faults: false,
            joins: false,
            conditions: false,
            value_len_bytes_max: 2_000,
        }
    }

    fn mutants(&self) -> &'static [Mutant] {
        MUTANTS
    }

    fn start(&self, parts: NodeParts) -> BoxFuture<'static, anyhow::Result<Arc<dyn Door>>> {
        Box::pin(async move {
            let NodeParts { env, node, nodes, kv, mutant, .. } = parts;
            env.net.serve(Arc::new(Replica { env: env.clone(), kv, mutant }));
            let door = Coordinator { env, node, nodes: nodes.into_keys().collect(), mutant };
            Ok(Arc::new(door) as Arc<dyn Door>)
        })
    }
}

struct Replica {
    env: Env,
    kv: Arc<dyn OrderedKv>,
    mutant: Option<&'static str>,
}

impl Replica {
    fn answer(&self, ask: Ask) -> Result<Answer, strongroom_meta::kv::KvError> {
        Ok(match ask {
            Ask::Read(key) => Answer::Register(self.read(&key)?),
            Ask::Write(key, register) => {
                if register.stamp > self.read(&key)?.stamp {
                    let mut batch = Batch::default();
                    let bytes = postcard::to_stdvec(&register).expect("plain data");
                    batch.put(key.into_bytes(), Bytes::from(bytes));
                    self.kv.apply(batch)?;
                }
                if self.mutant != Some("skip-sync") {
                    self.kv.sync()?;
                }
                Answer::Written
            }
            Ask::Keys => {
                let pairs = self.kv.range(b"", &[0xff], KEYS_MAX)?;
                let keys = pairs.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned());
                Answer::Keys(keys.collect())
            }
        })
    }

    fn read(&self, key: &str) -> Result<Register, strongroom_meta::kv::KvError> {
        let bytes = self.kv.get(key.as_bytes())?;
        Ok(bytes.map(|bytes| postcard::from_bytes(&bytes).expect("written above")).unwrap_or_default())
    }
}

impl Handler for Replica {
    fn handle(&self, _from: NodeId, request: Frame) -> BoxFuture<'static, Frame> {
        let answer = match request.decode_request() {
            Ok(Request::Meta { body, .. }) => {
                let ask = postcard::from_bytes(&body).expect("only the toy's coordinator asks");
                self.answer(ask).unwrap_or(Answer::Failed)
            }
            _ => Answer::Failed,
        };
        let body = Bytes::from(postcard::to_stdvec(&answer).expect("plain data"));
        let mut takes = Duration::from_millis(self.env.rng.u64() % 4);
        if self.mutant == Some("host-clock") {
            let host = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            takes += Duration::from_millis(u64::from(host.subsec_nanos() % 3));
        }
        let sleep = self.env.clock.sleep(takes);
        Box::pin(async move {
            sleep.await;
            Frame::response(&Response::Opaque(body), Bytes::new())
        })
    }
}

#[derive(Clone)]
struct Coordinator {
    env: Env,
    node: NodeId,
    nodes: Vec<NodeId>,
    mutant: Option<&'static str>,
}

impl Coordinator {
    /// The first `needed` answers of all nodes; fewer where no more come.
    async fn ask(&self, ask: &Ask, needed: usize) -> Vec<Answer> {
        self.ask_these(&self.nodes, ask, needed).await
    }

    async fn ask_these(&self, nodes: &[NodeId], ask: &Ask, needed: usize) -> Vec<Answer> {
        let body = Bytes::from(postcard::to_stdvec(ask).expect("plain data"));
        let deadline = Deadline::after(self.env.clock.now(), PATIENCE);
        let mut calls: FuturesUnordered<_> = nodes
            .iter()
            .map(|node| {
                let request = Request::Meta { group: None, body: body.clone() };
                self.env.net.call(*node, Frame::request(&request, Bytes::new()), deadline)
            })
            .collect();
        let mut answers = Vec::new();
        while answers.len() < needed
            && let Some(called) = calls.next().await
        {
            let Ok(frame) = called else { continue };
            let Ok(Response::Opaque(body)) = frame.decode_response() else { continue };
            match postcard::from_bytes(&body).expect("only the toy's replica answers") {
                Answer::Failed => {}
                answer => answers.push(answer),
            }
        }
        answers
    }

    async fn read_newest(&self, key: &str) -> Option<Register> {
        let needed = if self.mutant == Some("read-one") { 1 } else { QUORUM };
        let answers = self.ask(&Ask::Read(key.to_owned()), needed).await;
        let registers: Vec<Register> = answers
            .into_iter()
            .filter_map(|answer| match answer {
                Answer::Register(register) => Some(register),
                Answer::Written | Answer::Keys(_) | Answer::Failed => None,
            })
            .collect();
        if registers.len() < needed {
            return None;
        }
        registers.into_iter().max_by_key(|register| register.stamp)
    }

    async fn write(&self, key: &str, register: Register) -> bool {
        let ask = Ask::Write(key.to_owned(), register);
        if self.mutant == Some("ack-in-one-zone") {
            return !self.ask_these(&[self.node], &ask, 1).await.is_empty();
        }
        self.ask(&ask, QUORUM).await.len() >= QUORUM
    }

    /// Reads, and makes sure that nobody reads an older value afterwards.
    async fn read(&self, key: &str) -> Option<Register> {
        let newest = self.read_newest(key).await?;
        self.write(key, newest.clone()).await.then_some(newest)
    }

    async fn change(&self, key: &str, value: Option<Vec<u8>>) -> bool {
        let Some(newest) = self.read_newest(key).await else { return false };
        let count = match self.mutant {
            Some("clock-order") => self.env.clock.wall().as_unix_millis(),
            _ => newest.stamp.count + 1,
        };
        let stamp = Stamp { count, writer: self.env.rng.u64() };
        self.write(key, Register { stamp, value }).await
    }

    async fn list(&self) -> Option<Vec<String>> {
        let answers = self.ask(&Ask::Keys, QUORUM).await;
        if answers.len() < QUORUM {
            return None;
        }
        let keys: BTreeSet<String> = answers
            .into_iter()
            .flat_map(|answer| match answer {
                Answer::Keys(keys) => keys,
                Answer::Register(_) | Answer::Written | Answer::Failed => Vec::new(),
            })
            .collect();
        let reads = join_all(keys.iter().map(|key| self.read(key))).await;
        let mut there = Vec::new();
        for (key, read) in keys.into_iter().zip(reads) {
            if read?.value.is_some() {
                there.push(key);
            }
        }
        Some(there)
    }

    async fn perform(self, operation: Operation) -> Outcome {
        let unknown = || Outcome::Unknown("no quorum".to_owned());
        match operation {
            Operation::Put { condition: Condition::Absent | Condition::Matches(_), .. }
            | Operation::Delete { condition: Condition::Absent | Condition::Matches(_), .. } => {
                Outcome::Refused("no conditions here".to_owned())
            }
            Operation::Head { .. } | Operation::GetVersion { .. } => {
                Outcome::Refused("no tags and no versions here".to_owned())
            }
            Operation::Put { key, value, condition: Condition::None } => {
                if self.change(&key, Some(Value::bytes(value).to_vec())).await {
                    Outcome::Stored(None)
                } else {
                    unknown()
                }
            }
            Operation::Delete { key, condition: Condition::None } => {
                if self.change(&key, None).await {
                    Outcome::Deleted
                } else {
                    unknown()
                }
            }
            Operation::Get { key } => match self.read(&key).await {
                Some(Register { value: Some(value), .. }) => Outcome::Found(Bytes::from(value)),
                Some(Register { value: None, .. }) => Outcome::Missing,
                None => unknown(),
            },
            Operation::List => self.list().await.map_or_else(unknown, |keys| {
                let listed = |key| Listed { key, described: None };
                Outcome::Listed(keys.into_iter().map(listed).collect())
            }),
        }
    }
}

impl Door for Coordinator {
    fn perform(&self, operation: Operation) -> BoxFuture<'static, Outcome> {
        Box::pin(self.clone().perform(operation))
    }
}
