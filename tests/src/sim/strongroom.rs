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
use strongroom::config::{BackgroundPolicy, Budget, Credentials, Member, SlabPolicy};
use strongroom::drive::{FormatSpec, OpenError};
use strongroom::node::{Node, NodeParts as RealParts};
use strongroom::runs::Run;
use strongroom_core::mutants::{Mutant as Fault, MutantSwitch};
use strongroom_env::Env;
use strongroom_format::superblock::SuperblockError;
use strongroom_io::Device;
use strongroom_meta::Timing;
use strongroom_types::{ClusterId, DrainSubject, DriveId, NodeId, SlabId, SlabRecord, ZoneId};

const CLUSTER: ClusterId = ClusterId::new(0x5151);
const GROUPS: u16 = 2;
const ZONES: u8 = 3;
const NODES_PER_ZONE: u8 = 2;
/// Of the nodes that found the cluster, this many are told to one that joins.
const TOLD_TO_JOINER: usize = 2;
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
    compact_after: Duration::from_secs(1),
    free_after: Duration::from_secs(2),
    repair_after: Duration::from_secs(20),
    reconcile_every: Duration::from_secs(5),
};

/// Tours are long against the time in which what they found is made again, and short against a run.
const BACKGROUND: BackgroundPolicy = BackgroundPolicy {
    scrub_period: Duration::from_secs(10),
    parity_period: Duration::from_secs(60),
    yields: true,
    repair: Budget { bytes_per_second: None, operations_per_second: None, far_bytes_per_second: None },
};

/// Between two orders to compact, for as long as a story wants it.
const COMPACT_EVERY: Duration = Duration::from_secs(1);

const DURABLE: &str = "durable: ";
const NOT_ABSENT: &str = "I8";
/// What is acknowledged is there for no reader, long after the faults.
const UNREADABLE: &str = "live: not everything is readable";
/// A seal that waits for nobody takes rows for lost that silent holders have.
const LOST_AT_SEAL: &str = "alarm, though all was within the promise: damage: ";
const DEAD: &str = "I5: no version points into a dead slab";
const KILLED: &str = "I5: no version points into a slab that is killed";

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
        seen_by: &[DURABLE, UNREADABLE, DEAD, LOST_AT_SEAL],
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
    Mutant {
        name: "kill-before-relocated",
        what: "a slab is killed before the versions have the copies of what is alive in it, and no group is asked whether they do",
        scenario: Some("killed-while-messages-are-slow"),
        seen_by: &[KILLED, DEAD, DURABLE, UNREADABLE],
    },
    Mutant {
        name: "compact-unfenced",
        what: "a slab is compacted and killed though its writer may still commit locators into it",
        scenario: Some("uploads-take-long"),
        seen_by: &[DEAD, DURABLE, UNREADABLE],
    },
    Mutant {
        name: "repair-ignores-generation",
        what: "fragments that were made again, or moved, are taken whatever layout the slab has by then",
        scenario: Some("drained-drive-while-nodes-fall"),
        seen_by: &["SetHolders: "],
    },
    Mutant {
        name: "scrub-sees-nothing",
        what: "whatever is verified is found whole",
        scenario: Some("rot-and-a-wiped-node"),
        seen_by: &["scrub: "],
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
    /// All nodes that were ever started, with their zones.
    zones: Mutex<BTreeMap<NodeId, ZoneId>>,
    /// Every key that a client ever named: what a deleted one still has is found by its name alone.
    keys: Mutex<BTreeSet<String>>,
}

impl Shared {
    fn zones(&self) -> BTreeMap<NodeId, ZoneId> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keys(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl System for Strongroom {
    fn shape(&self) -> Shape {
        Shape {
            zones: ZONES,
            nodes_per_zone: NODES_PER_ZONE,
            drives_per_node: 1,
            drive_len_bytes: DRIVE_LEN_BYTES,
            drive_len_bytes_cramped: DRIVE_LEN_BYTES_CRAMPED,
            survives_media_faults: true,
            survives_state_faults: true,
            joins: true,
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
        members: told(node, &nodes),
        joins: !is_founder(node),
        groups: GROUPS,
        drives,
        kv,
        credentials: Credentials { access_key: ACCESS_KEY.to_owned(), secret_key: SECRET_KEY.to_owned() },
        policy: POLICY,
        background: BACKGROUND,
        timing: Timing::default(),
        mutants: switch(mutant)?,
    };
    shared.zones.lock().unwrap_or_else(PoisonError::into_inner).extend(nodes.clone());
    let running = Node::start(real).await.context("node")?;
    let client = Client::new(Arc::clone(&running), Arc::clone(&shared), &env, clock);
    Ok(Arc::new(Entrance { node: running, client, shared, env, drives: known }))
}

/// Whether a node is one of those that found the cluster.
fn is_founder(node: NodeId) -> bool {
    node.get() <= u64::from(ZONES) * u64::from(NODES_PER_ZONE)
}

/// What a node's configuration names: of founders all founders, of one that joins itself and a few of these.
fn told(node: NodeId, nodes: &BTreeMap<NodeId, ZoneId>) -> Vec<Member> {
    let founders = nodes.iter().filter(|(node, _)| is_founder(**node));
    let founders: Vec<Member> = founders.map(|(node, zone)| member(*node, *zone)).collect();
    if is_founder(node) {
        return founders;
    }
    let first = usize::try_from(node.get()).expect("few nodes");
    let some = founders.iter().cycle().skip(first).take(TOLD_TO_JOINER.min(founders.len())).copied();
    some.chain([member(node, nodes[&node])]).collect()
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
        Some("kill-before-relocated") => Fault::KillBeforeRelocated,
        Some("compact-unfenced") => Fault::CompactUnfenced,
        Some("repair-ignores-generation") => Fault::RepairIgnoresGeneration,
        Some("scrub-sees-nothing") => Fault::ScrubSeesNothing,
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
        let (node, env, zones) = (Arc::clone(&self.node), self.env.clone(), self.shared.zones());
        Box::pin(async move {
            let left = facts::unsettled(&node, &env, zones).await;
            left.unwrap_or_else(|error| vec![format!("no answer: {error:#}")])
        })
    }

    fn verify(&self) -> BoxFuture<'static, ()> {
        let node = Arc::clone(&self.node);
        Box::pin(async move {
            for drive in node.holder().drives() {
                node.scrubber().begin_now(drive.id(), None);
            }
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
        let (node, env, zones) = (Arc::clone(&self.node), self.env.clone(), self.shared.zones());
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

    fn compact_now(&self) -> BoxFuture<'static, ()> {
        let (node, clock) = (Arc::clone(&self.node), self.env.clock.clone());
        let ever = async move {
            loop {
                // Where one is under way it goes on.
                let _ = node.runs().begin(Run::Compact);
                clock.sleep(COMPACT_EVERY).await;
            }
        };
        self.env.spawn.spawn("compacts", Box::pin(ever));
        Box::pin(async {})
    }

    fn drain(&self, subject: DrainSubject, wanted: bool) -> BoxFuture<'static, anyhow::Result<()>> {
        let node = Arc::clone(&self.node);
        Box::pin(async move {
            let asked = if wanted { node.begin_drain(subject).await } else { node.end_drain(subject).await };
            asked.context("drain")
        })
    }

    fn drains(&self) -> BoxFuture<'static, Option<BTreeSet<DrainSubject>>> {
        let node = Arc::clone(&self.node);
        Box::pin(async move { node.drains().await.ok().map(|drains| drains.into_keys().collect()) })
    }

    fn dismiss(&self, node: NodeId) -> BoxFuture<'static, Result<(), String>> {
        let (asked, shared) = (Arc::clone(&self.node), Arc::clone(&self.shared));
        Box::pin(async move {
            asked
                .dismiss(node, strongroom::dismissal::LastCopies::Keep)
                .await
                .map_err(|error| error.to_string())?;
            // Nobody asks it what it has any more.
            shared.zones.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
            Ok(())
        })
    }

    fn pointers(&self, slab: SlabId) -> BoxFuture<'static, Option<Vec<String>>> {
        let (node, env) = (Arc::clone(&self.node), self.env.clone());
        Box::pin(async move { facts::pointers_into(&node, &env, slab).await.ok() })
    }

    fn glimpse(&self) -> super::checkers::watch::Glimpse {
        facts::glimpse(&self.node, &self.drives)
    }
}

#[cfg(test)]
mod tests;
