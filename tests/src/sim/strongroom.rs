//! The real node in the simulated world: door, store, ingest, drives, consensus, caretaker and sweeper as they are shipped, on memory drives and a
//! key-value store in memory. Clients sign their requests and give them to the door; only sockets and HTTP's framing are left out.

mod client;
mod facts;

use super::system::{Door, Mutant, NodeParts, Shape, System};
use anyhow::Context;
use client::Client;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use strongroom::config::{Credentials, Member, SlabPolicy};
use strongroom::drive::{FormatSpec, OpenError};
use strongroom::node::{Node, NodeParts as RealParts};
use strongroom_core::mutants::{Mutant as Fault, MutantSwitch};
use strongroom_env::Env;
use strongroom_format::superblock::SuperblockError;
use strongroom_io::Device;
use strongroom_meta::Timing;
use strongroom_types::{ClusterId, DriveId, NodeId, SlabId, SlabRecord, ZoneId};

const CLUSTER: ClusterId = ClusterId::new(0x5151);
const GROUPS: u16 = 2;
const EXTENT_LEN_BYTES: u32 = 256 * 1024;
const DRIVE_LEN_BYTES: u64 = 96 << 20;
/// A slab, half of another one, and what is cold of some.
const DRIVE_LEN_BYTES_CRAMPED: u64 = 16 << 20;
const ACCESS_KEY: &str = "AKIDSIMULATED";
const SECRET_KEY: &str = "simulated-secret";

/// Everything happens within a run: slabs fill, age, are sealed, become cold and are given back.
const POLICY: SlabPolicy = SlabPolicy {
    len_bytes_max: 8 << 20,
    age_max: Duration::from_secs(4),
    convert_after: Duration::from_secs(4),
    free_after: Duration::from_secs(2),
};

const DURABLE: &str = "durable: ";
const NOT_ABSENT: &str = "I8";
/// What is acknowledged is there for no reader, long after the faults.
const UNREADABLE: &str = "live: not everything is readable";
const DEAD: &str = "I5: no version points into a dead slab";

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "ack-in-one-zone",
        what: "a row counts as durable once any one holder has it",
        scenario: Some("harsh-network"),
        seen_by: &[DURABLE],
    },
    Mutant {
        name: "skip-flush",
        what: "a holder answers an append before it flushed",
        scenario: None,
        seen_by: &[DURABLE, "I3: what a holder has only grows"],
    },
    Mutant {
        name: "commit-before-durable",
        what: "the writer gives out locators when it sends a row",
        scenario: None,
        seen_by: &[DURABLE, UNREADABLE, DEAD],
    },
    Mutant {
        name: "lose-committed-upto",
        what: "rows say that nothing is committed, and a seal forgets where the locators end and waits for whoever is silent",
        scenario: Some("rot-of-all-copies"),
        seen_by: &["what the story asks for", NOT_ABSENT],
    },
    Mutant {
        name: "eio-is-not-found",
        what: "a drive's read error is taken for an absent fragment",
        scenario: Some("drives-die-one-by-one"),
        seen_by: &["I8: error is not absent"],
    },
    Mutant {
        name: "seal-with-too-few",
        what: "a seal is decided from any k answers, whoever is silent, and does not wait where rows are lost",
        scenario: Some("holders-swap-silence"),
        seen_by: &[DURABLE, UNREADABLE, DEAD],
    },
    Mutant {
        name: "truncate-on-bad-crc",
        what: "a row whose bytes do not match ends what a holder says it has, and what it has",
        scenario: Some("rot-of-all-copies"),
        seen_by: &["what the story asks for", NOT_ABSENT],
    },
    Mutant {
        name: "reuse-raft-id",
        what: "a voter that lost its store goes on under the id that it had",
        scenario: Some("voter-forgets"),
        seen_by: &[NOT_ABSENT, "I7: ids are never used again", "linearizable per key"],
    },
    Mutant {
        name: "free-before-commit",
        what: "a fragment is freed before the layout that supersedes it is committed",
        scenario: Some("slow-zone-dies"),
        seen_by: &["I6: what the slab table names is not freed"],
    },
];

/// Strongroom itself.
#[derive(Default)]
pub struct Strongroom {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Drives whose formatting was begun and may not be whole.
    formatting: Mutex<BTreeSet<(NodeId, usize)>>,
    /// Whether a bucket was acknowledged as made: from then on it is there.
    made: [AtomicBool; client::BUCKETS.len()],
    /// Every key that a client ever named: what a deleted one still has is found by its name alone.
    keys: Mutex<BTreeSet<String>>,
}

impl Shared {
    fn keys(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl System for Strongroom {
    fn shape(&self) -> Shape {
        Shape {
            zones: 3,
            nodes_per_zone: 2,
            drives_per_node: 1,
            drive_len_bytes: DRIVE_LEN_BYTES,
            drive_len_bytes_cramped: DRIVE_LEN_BYTES_CRAMPED,
            survives_media_faults: true,
            survives_state_faults: true,
            conditions: true,
            value_len_bytes_max: 6 << 20,
        }
    }

    fn mutants(&self) -> &'static [Mutant] {
        MUTANTS
    }

    fn start(&self, parts: NodeParts) -> BoxFuture<'static, anyhow::Result<Arc<dyn Door>>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(start(shared, parts))
    }
}

async fn start(shared: Arc<Shared>, parts: NodeParts) -> anyhow::Result<Arc<dyn Door>> {
    let NodeParts { env, node, nodes, drives, kv, clock, mutant, .. } = parts;
    let mut known = Vec::new();
    for (index, device) in drives.iter().enumerate() {
        let drive = DriveId::new(u128::from(env.rng.u64()) << 64 | u128::from(env.rng.u64()));
        let id = format_if_new(&shared, node, index, device.as_ref(), drive).await?;
        known.extend(id.map(|id| (index, id)));
    }
    let real = RealParts {
        env: env.clone(),
        cluster: CLUSTER,
        node,
        members: nodes.iter().map(|(node, zone)| member(*node, *zone)).collect(),
        groups: GROUPS,
        drives,
        kv,
        credentials: Credentials { access_key: ACCESS_KEY.to_owned(), secret_key: SECRET_KEY.to_owned() },
        policy: POLICY,
        timing: Timing::default(),
        mutants: switch(mutant)?,
    };
    let running = Node::start(real).await.context("node")?;
    let client = Client::new(Arc::clone(&running), Arc::clone(&shared), &env, clock);
    Ok(Arc::new(Entrance { node: running, client, shared, env, zones: nodes, drives: known }))
}

/// The address is never used: peers are called through the simulated network.
fn member(node: NodeId, zone: ZoneId) -> Member {
    Member { node, zone, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)) }
}

fn switch(mutant: Option<&'static str>) -> anyhow::Result<MutantSwitch> {
    Ok(MutantSwitch::only(match mutant {
        None => return Ok(MutantSwitch::NONE),
        Some("ack-in-one-zone") => Fault::AckInOneZone,
        Some("skip-flush") => Fault::SkipFlush,
        Some("commit-before-durable") => Fault::CommitBeforeDurable,
        Some("lose-committed-upto") => Fault::LoseCommittedUpto,
        Some("eio-is-not-found") => Fault::EioIsNotFound,
        Some("seal-with-too-few") => Fault::SealWithTooFew,
        Some("truncate-on-bad-crc") => Fault::TruncateOnBadCrc,
        Some("reuse-raft-id") => Fault::ReuseRaftId,
        Some("free-before-commit") => Fault::FreeBeforeCommit,
        Some(other) => anyhow::bail!("no mutant {other:?}"),
    }))
}

/// What an operator does with a new drive, and with one whose formatting was interrupted; gives its id. One that cannot be read is left to the
/// node.
async fn format_if_new(
    shared: &Shared,
    node: NodeId,
    index: usize,
    device: &dyn Device,
    drive: DriveId,
) -> anyhow::Result<Option<DriveId>> {
    let begun = || shared.formatting.lock().unwrap_or_else(PoisonError::into_inner);
    let interrupted = begun().contains(&(node, index));
    let found = strongroom::drive::inspect(device).await;
    let blank = matches!(found, Err(OpenError::Superblock(SuperblockError::Blank)));
    if !blank && !interrupted {
        return Ok(found.ok().map(|superblock| superblock.drive));
    }
    begun().insert((node, index));
    let spec = FormatSpec { cluster: CLUSTER, drive, extent_len_bytes: EXTENT_LEN_BYTES, force: interrupted };
    strongroom::drive::format(device, &spec).await.context("formatting a drive")?;
    begun().remove(&(node, index));
    Ok(Some(drive))
}

struct Entrance {
    node: Arc<Node>,
    client: Client,
    shared: Arc<Shared>,
    env: Env,
    zones: BTreeMap<NodeId, ZoneId>,
    /// Its drives that could be read when it started.
    drives: Vec<(usize, DriveId)>,
}

impl Door for Entrance {
    fn perform(
        &self,
        operation: super::operation::Operation,
    ) -> BoxFuture<'static, super::operation::Outcome> {
        Box::pin(self.client.clone().perform(operation))
    }

    fn unsettled(&self) -> BoxFuture<'static, Vec<String>> {
        let (node, env, zones) = (Arc::clone(&self.node), self.env.clone(), self.zones.clone());
        Box::pin(async move {
            let left = facts::unsettled(&node, &env, zones).await;
            left.unwrap_or_else(|error| vec![format!("no answer: {error:#}")])
        })
    }

    fn alarms(&self) -> Vec<String> {
        self.node.status().alarms
    }

    fn probe(&self) -> BoxFuture<'static, Vec<String>> {
        let node = Arc::clone(&self.node);
        Box::pin(async move { facts::probe(&node).await })
    }

    fn facts(&self) -> BoxFuture<'static, anyhow::Result<Option<super::checkers::layout::Facts>>> {
        let (node, env, zones) = (Arc::clone(&self.node), self.env.clone(), self.zones.clone());
        let keys = self.shared.keys().clone();
        Box::pin(async move { facts::gather(&node, &env, zones, keys).await.map(Some) })
    }

    fn contents(
        &self,
    ) -> BoxFuture<'static, Vec<(super::checkers::layout::Place, super::checkers::content::Content)>> {
        let (node, env) = (Arc::clone(&self.node), self.env.clone());
        Box::pin(async move { facts::contents(&node, &env).await })
    }

    fn table(&self) -> BoxFuture<'static, Option<BTreeMap<SlabId, SlabRecord>>> {
        let (node, env) = (Arc::clone(&self.node), self.env.clone());
        Box::pin(async move { facts::table(&node, &env).await.ok() })
    }

    fn glimpse(&self) -> super::checkers::watch::Glimpse {
        facts::glimpse(&self.node, &self.drives)
    }
}

#[cfg(test)]
mod tests;
