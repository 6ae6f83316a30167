//! Starting and founding the groups.

use super::{Group, Meta, MetaConfig, MetaError, Timing};
use crate::barrier::Barrier;
use crate::control::{ControlCommand, ControlReply};
use crate::kv::OrderedKv;
use crate::limits::{APPEND_ENTRIES_MAX, SNAPSHOT_CHUNK_LEN_BYTES};
use crate::log::{LogError, LogStore};
use crate::machine::{MachineError, StateMachine};
use crate::network::Network;
use crate::proposer::Proposer;
use crate::raft::Raft;
use crate::syncer::Syncer;
use openraft::error::{Fatal, InitializeError, RaftError};
use openraft::{Config, ConfigError, SnapshotPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_env::{Env, Scope};
use strongroom_types::limits::GROUPS_MAX;
use strongroom_types::{Deadline, GroupId, NodeId};

/// Why the groups could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The groups are not described as the cluster needs it.
    #[error("{described} groups are described, {groups} expected, of 1 to {GROUPS_MAX}")]
    Groups {
        /// Voter lists given.
        described: usize,
        /// The group count given.
        groups: u16,
    },
    /// A group without voters, or with one of them named twice.
    #[error("voters of group {group:?}: expected at least one, each once")]
    Voters {
        /// The group; `None` is the control group.
        group: Option<GroupId>,
    },
    /// Timeouts that contradict each other.
    #[error("timing of the groups")]
    Timing(#[from] Box<ConfigError>),
    /// A stored log is damaged or cannot be read.
    #[error("log of group {group:?}")]
    Log {
        /// The group; `None` is the control group.
        group: Option<GroupId>,
        /// What is wrong.
        #[source]
        source: LogError,
    },
    /// A stored state is damaged or cannot be read.
    #[error("state of group {group:?}")]
    State {
        /// The group; `None` is the control group.
        group: Option<GroupId>,
        /// What is wrong.
        #[source]
        source: MachineError,
    },
    /// openraft could not start the group.
    #[error("Raft of group {group:?}")]
    Raft {
        /// The group; `None` is the control group.
        group: Option<GroupId>,
        /// What it said.
        #[source]
        source: Box<Fatal<u64>>,
    },
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn raft_config(config: &MetaConfig) -> Result<Arc<Config>, Box<ConfigError>> {
    let Timing { heartbeat, election_min, election_max, snapshot_piece, snapshot_every, log_keep } =
        config.timing;
    let config = Config {
        cluster_name: config.cluster.to_string(),
        heartbeat_interval: millis(heartbeat),
        election_timeout_min: millis(election_min),
        election_timeout_max: millis(election_max),
        install_snapshot_timeout: millis(snapshot_piece),
        max_payload_entries: APPEND_ENTRIES_MAX,
        replication_lag_threshold: snapshot_every.saturating_mul(2),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
        snapshot_max_chunk_size: SNAPSHOT_CHUNK_LEN_BYTES,
        max_in_snapshot_log_to_keep: log_keep,
        // In larger steps than one entry: each purge is a batch of the store.
        purge_batch_size: (snapshot_every / 16).max(1),
        ..Config::default()
    };
    Ok(Arc::new(config.validate().map_err(Box::new)?))
}

fn check(config: &MetaConfig) -> Result<(), Box<StartError>> {
    let (described, groups) = (config.group_voters.len(), config.groups);
    if groups == 0 || groups > GROUPS_MAX || described != usize::from(groups) {
        return Err(Box::new(StartError::Groups { described, groups }));
    }
    for (group, voters) in described_groups(config) {
        let distinct: BTreeSet<NodeId> = voters.iter().copied().collect();
        if voters.is_empty() || distinct.len() != voters.len() {
            return Err(Box::new(StartError::Voters { group }));
        }
    }
    Ok(())
}

/// Each group with its voters, the control group first.
fn described_groups(config: &MetaConfig) -> impl Iterator<Item = (Option<GroupId>, &[NodeId])> {
    let data = (0..).map(|n| Some(GroupId::new(n))).zip(config.group_voters.iter().map(Vec::as_slice));
    std::iter::once((None, config.control_voters.as_slice())).chain(data)
}

impl Meta {
    /// Starts the groups that this node votes in. All else works on every node, through their leaders.
    ///
    /// A node must never be started with the id of one that lost its store: such a voter has forgotten its votes.
    ///
    /// # Errors
    /// [`MetaError::Start`].
    pub async fn start(env: Env, config: MetaConfig, kv: Arc<dyn OrderedKv>) -> Result<Arc<Self>, MetaError> {
        check(&config)?;
        let raft_config = raft_config(&config).map_err(|source| Box::new(StartError::Timing(source)))?;
        let syncer = Syncer::new(Arc::clone(&kv), &env);
        let mut groups = BTreeMap::new();
        for (id, voters) in described_groups(&config) {
            if voters.contains(&config.node) {
                let group =
                    start_group(&env, config.node, id, Arc::clone(&raft_config), &kv, &syncer).await?;
                groups.insert(id, group);
            }
        }
        Ok(Arc::new(Self { env, config, groups, hints: Mutex::default() }))
    }

    /// Makes the cluster where it is not yet made: the voter with the lowest id of each group gives a pristine group its
    /// voters, and that of the control group then says which cluster it is. Does nothing where all that was done before; to
    /// be called at every start.
    ///
    /// # Errors
    /// `OtherCluster` where the control group is another cluster's; else as [`Self::control`].
    pub async fn bootstrap(&self, deadline: Deadline) -> Result<(), MetaError> {
        for (id, voters) in described_groups(&self.config) {
            let Some(group) = self.groups.get(&id) else { continue };
            if voters.iter().min() != Some(&self.config.node) {
                continue;
            }
            let members: BTreeSet<u64> = voters.iter().map(|node| node.get()).collect();
            match group.raft.initialize(members).await {
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(RaftError::APIError(InitializeError::NotInMembers(_))) => {
                    unreachable!("the lowest voter is one of the voters")
                }
                Err(RaftError::Fatal(source)) => {
                    let source = Box::new(source);
                    return Err(Box::new(StartError::Raft { group: id, source }).into());
                }
            }
        }
        if self.config.control_voters.iter().min() != Some(&self.config.node) {
            return Ok(());
        }
        let found = ControlCommand::Found { cluster: self.config.cluster, groups: self.config.groups };
        match self.control(found, deadline).await? {
            ControlReply::OtherCluster { cluster, groups } => {
                Err(MetaError::OtherCluster { cluster, groups })
            }
            ControlReply::Done
            | ControlReply::Bucket { .. }
            | ControlReply::NoSuchBucket
            | ControlReply::Full => Ok(()),
        }
    }

    /// Stops this node's groups and waits for them. Callers still waiting get `Unavailable` or `Unknown`.
    pub async fn shutdown(&self) {
        for group in self.groups.values() {
            // Its task is gone already where this fails.
            let _ = group.raft.shutdown().await;
        }
    }
}

async fn start_group(
    env: &Env,
    node: NodeId,
    group: Option<GroupId>,
    config: Arc<Config>,
    kv: &Arc<dyn OrderedKv>,
    syncer: &Syncer,
) -> Result<Group, Box<StartError>> {
    let (kv, spawn) = (Arc::clone(kv), Arc::clone(&env.spawn));
    let log = LogStore::open(Arc::clone(&kv), group, syncer.clone(), Arc::clone(&spawn))
        .map_err(|source| Box::new(StartError::Log { group, source }))?;
    let machine = StateMachine::open(kv, group, node, syncer.clone(), Arc::clone(&spawn))
        .map_err(|source| Box::new(StartError::State { group, source }))?;
    let (reader, applied) = (machine.reader(), machine.applied());
    let network = Network::new(env.clone(), node, group);
    let scope = Scope { spawn: Arc::clone(&spawn), rng: Arc::clone(&env.rng) };
    let started = scope.run(async move { Raft::new(node.get(), config, network, log, machine).await }).await;
    let raft = started.map_err(|source| Box::new(StartError::Raft { group, source: Box::new(source) }))?;
    let barrier = Barrier::new(raft.clone(), applied, spawn);
    let proposer = Proposer::new(node, raft.clone(), env.clone());
    Ok(Group { raft, reader, barrier, proposer })
}
