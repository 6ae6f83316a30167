//! The seam to what is simulated: how a node starts and how clients get in. Strongroom's node is one; the toy is another.

use super::checkers::content::Content;
use super::checkers::layout::{Facts, Place};
use super::checkers::watch::Glimpse;
use super::operation::{Operation, Outcome};
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use strongroom_env::{Clock, Env};
use strongroom_io::Device;
use strongroom_meta::kv::OrderedKv;
use strongroom_types::{DrainSubject, NodeId, SlabId, SlabRecord, ZoneId};

/// What a system wants to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Zones.
    pub zones: u8,
    /// Nodes of each zone.
    pub nodes_per_zone: u8,
    /// Drives of each node; twice as many, of half the size, in some runs.
    pub drives_per_node: usize,
    /// Bytes of each drive.
    pub drive_len_bytes: u64,
    /// Bytes of the drives of one zone in some runs: so few that they get full.
    pub drive_len_bytes_cramped: u64,
    /// Whether it keeps what it promises when bytes on media are harmed.
    pub survives_media_faults: bool,
    /// Whether it keeps what it promises when state directories are erased or come back older.
    pub survives_state_faults: bool,
    /// Whether a node may join a cluster that runs.
    pub joins: bool,
    /// Whether PUTs may carry conditions.
    pub conditions: bool,
    /// Bytes of an object that clients store at most.
    pub value_len_bytes_max: usize,
}

/// What a node gets when it starts.
pub struct NodeParts {
    /// The outside, for this life.
    pub env: Env,
    /// Which node it is.
    pub node: NodeId,
    /// All nodes with their zones, by now: those beyond the first, as many as the shape has, joined later.
    pub nodes: BTreeMap<NodeId, ZoneId>,
    /// Its drives.
    pub drives: Vec<Arc<dyn Device>>,
    /// Its state directory.
    pub kv: Arc<dyn OrderedKv>,
    /// Counts its lives from 1.
    pub life: u64,
    /// A clock that goes right, for clients.
    pub clock: Arc<dyn Clock>,
    /// The fault that is built into its code in this run, by name.
    pub mutant: Option<&'static str>,
}

/// A fault that can be built into a system's code, and that the simulator must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
    /// The scenario that shows it, where the usual runs do not.
    pub scenario: Option<&'static str>,
    /// How failures begin that show that it was seen: rules, or a rule and its first words. What else breaks with it, that a run dies, and that the
    /// node itself raises an alarm show no more than that it does harm.
    pub seen_by: &'static [&'static str],
}

impl Mutant {
    /// Whether this failure, its rule and its words, shows that the mutant was seen.
    pub fn is_seen_by(&self, failure: &str) -> bool {
        self.seen_by.iter().any(|name| failure.starts_with(name))
    }
}

/// What is simulated.
pub trait System: Send + Sync {
    /// What it wants to run on.
    fn shape(&self) -> Shape;

    /// Its mutants.
    fn mutants(&self) -> &'static [Mutant];

    /// Starts a node. Runs as a task of the node; what it starts goes through the node's `Spawn`.
    fn start(&self, parts: NodeParts) -> BoxFuture<'static, anyhow::Result<Arc<dyn Door>>>;
}

/// The way into a node.
pub trait Door: Send + Sync {
    /// Does what a client asks. Runs as a task of the node; dropped where the client stops waiting.
    fn perform(&self, operation: Operation) -> BoxFuture<'static, Outcome>;

    /// The background work that is left to do, as far as this node knows.
    fn unsettled(&self) -> BoxFuture<'static, Vec<String>> {
        Box::pin(async { Vec::new() })
    }

    /// Has the node begin to read again everything that its drives hold; [`Self::unsettled`] says when that is over.
    fn verify(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    /// What the node has told its operator of damage that cannot be mended, since its start.
    fn alarms(&self) -> Vec<String> {
        Vec::new()
    }

    /// Looks into the running node for what must not be at any time; gives what it found.
    fn probe(&self) -> BoxFuture<'static, Vec<String>> {
        Box::pin(async { Vec::new() })
    }

    /// What the cluster says of itself; `None` where the system has no slabs. Asked when all have settled.
    fn facts(&self) -> BoxFuture<'static, anyhow::Result<Option<Facts>>> {
        Box::pin(async { Ok(None) })
    }

    /// Everything that the node's drives hold, read and checked block by block.
    fn contents(&self) -> BoxFuture<'static, Vec<(Place, Content)>> {
        Box::pin(async { Vec::new() })
    }

    /// The slab tables, linearizably; `None` where the system has none, or where they cannot be had now.
    fn table(&self) -> BoxFuture<'static, Option<BTreeMap<SlabId, SlabRecord>>> {
        Box::pin(async { None })
    }

    /// Has slabs compacted that have any garbage worth the name, until the node ends.
    fn compact_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    /// Has another node take part never again; gives why not, in words.
    fn dismiss(&self, _node: NodeId) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async { Err("nobody can be dismissed here".to_owned()) })
    }

    /// What versions have in a slab, linearizably, in words; `None` where that cannot be had now.
    fn pointers(&self, _slab: SlabId) -> BoxFuture<'static, Option<Vec<String>>> {
        Box::pin(async { None })
    }

    /// Has a node or drive emptied from now on, or used again; an error where that may not be so.
    fn drain(&self, _subject: DrainSubject, _wanted: bool) -> BoxFuture<'static, anyhow::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    /// What is to be emptied, linearizably; `None` where that cannot be had now.
    fn drains(&self) -> BoxFuture<'static, Option<BTreeSet<DrainSubject>>> {
        Box::pin(async { Some(BTreeSet::new()) })
    }

    /// What can be seen of the node at once.
    fn glimpse(&self) -> Glimpse {
        Glimpse::default()
    }
}
