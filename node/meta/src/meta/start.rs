//! Starting and founding the groups.

use super::life::Life;
use super::members::Members;
use super::{Group, Meta, MetaConfig, MetaError, Timing};
use crate::barrier::Barrier;
use crate::codec::RecordError;
use crate::control::{ControlCommand, ControlReply};
use crate::damage::{Alarms, Damage};
use crate::fault::MetaFaults;
use crate::kv::{Integrity, KvError, OrderedKv};
use crate::limits::{APPEND_ENTRIES_MAX, SNAPSHOT_CHUNK_LEN_BYTES};
use crate::log::{LogError, LogStore};
use crate::machine::{Applied, MachineError, StateMachine};
use crate::network::Network;
use crate::proposer::Proposer;
use crate::raft::{LogEntry, LogId, Raft, Vote};
use crate::raft_id::RaftId;
use crate::standing::Founding;
use crate::versions;
use crate::watch::Watch;
use openraft::entry::RaftEntry;
use openraft::error::Fatal;
use openraft::{Config, ConfigError, Membership, SnapshotPolicy};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use strongroom_env::{Env, Scope};
use strongroom_types::limits::GROUPS_MAX;
use strongroom_types::{Deadline, GroupId, NodeId};
use tokio::sync::Notify;

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
    /// This node is not among the members that it was given.
    #[error("{node} is not among its members")]
    NotAMember {
        /// The node.
        node: NodeId,
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
    /// The store was last written by another version of strongroom. Nothing in it was changed.
    #[error("the state directory")]
    OtherVersion(#[from] RecordError),
    /// A node id too large to be part of a Raft id.
    #[error("{node}: expected an id below 2^40")]
    NodeId {
        /// The node.
        node: NodeId,
    },
    /// Damaged content could not be put out of the way.
    #[error("damaged content could not be set aside")]
    SetAside {
        /// What the store said.
        #[source]
        source: KvError,
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
    let (node, groups) = (config.node, config.groups);
    let described = config.founding.as_ref().map_or(usize::from(groups), |founding| founding.groups.len());
    if groups == 0 || groups > GROUPS_MAX || described != usize::from(groups) {
        return Err(Box::new(StartError::Groups { described, groups }));
    }
    let nodes = config.members.iter().map(|member| member.node);
    if let Some(node) = nodes.clone().find(|node| RaftId::new(*node, 0).is_none()) {
        return Err(Box::new(StartError::NodeId { node }));
    }
    if !nodes.clone().any(|member| member == node) {
        return Err(Box::new(StartError::NotAMember { node }));
    }
    for (group, voters) in config.founding.iter().flat_map(Founding::described) {
        let distinct: BTreeSet<NodeId> = voters.iter().copied().collect();
        if voters.is_empty() || distinct.len() != voters.len() {
            return Err(Box::new(StartError::Voters { group }));
        }
    }
    Ok(())
}

impl Meta {
    /// Starts the groups that this node has part in, where it is a member of the cluster, and joins it where it is not. All else works on
    /// every node, through the groups' leaders. Where the store's content is damaged or incomplete it is set aside, and the node joins as if it
    /// had none. Content that another version wrote is left as it is, and nothing starts.
    ///
    /// # Errors
    /// [`MetaError::Start`].
    pub async fn start(
        env: Env,
        config: MetaConfig,
        kv: Arc<dyn OrderedKv>,
        watch: Arc<dyn Watch>,
    ) -> Result<Arc<Self>, MetaError> {
        check(&config)?;
        let raft_config = raft_config(&config).map_err(|source| Box::new(StartError::Timing(source)))?;
        if kv.integrity() == Integrity::Whole {
            versions::check(&*kv, config.groups).map_err(|error| Box::new(error.into()))?;
        }
        let (hints, alarms, look_at_voters) = (Mutex::default(), Alarms::default(), Notify::new());
        let life = RwLock::new(Life::begin(&kv, &env, &alarms));
        let (looks_wanted, members) = (AtomicU64::new(0), Members::new(&config.members));
        let this = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            env,
            config,
            raft_config,
            kv,
            life,
            alarms,
            watch,
            members,
            look_at_voters,
            looks_wanted,
            hints,
        });
        this.wake().await?;
        this.env.spawn.spawn("meta.life", Box::pin(Arc::clone(&this).live()));
        this.env.spawn.spawn("meta.members", Box::pin(Arc::clone(&this).tend_members()));
        this.env.spawn.spawn("meta.voters", Box::pin(Arc::clone(&this).tend_voters()));
        Ok(this)
    }

    /// Waits until this node is a member; the first voter of a new control group then says which cluster it is.
    /// Does nothing where all that was done before; to be called at every start.
    ///
    /// # Errors
    /// `OtherCluster` where the control group is another cluster's; else as [`Self::control`].
    pub async fn bootstrap(&self, deadline: Deadline) -> Result<(), MetaError> {
        self.joined(deadline).await?;
        let founding = self.config.founding.as_ref();
        if founding.and_then(|founding| founding.control.iter().min()) != Some(&self.config.node) {
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
            | ControlReply::Enrolled { .. }
            | ControlReply::DriveStale { .. }
            | ControlReply::NoSuchDrive
            | ControlReply::Outdated
            | ControlReply::Dismissed
            | ControlReply::OtherZone { .. }
            | ControlReply::NoSuchNode
            | ControlReply::NotDrained
            | ControlReply::Full => Ok(()),
        }
    }
}

/// What of a group's promises is in a store.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) vote: Option<Vote>,
    pub(super) last: Option<LogId>,
    pub(super) applied: Arc<Applied>,
}

/// What a group is made from.
pub(super) struct OpenGroup {
    pub(super) group: Option<GroupId>,
    log: LogStore,
    machine: StateMachine,
    damage: Damage,
}

impl OpenGroup {
    /// What of its promises is there.
    pub(super) fn kept(&self) -> Result<Kept, LogError> {
        let (vote, last) = self.log.kept()?;
        Ok(Kept { vote, last, applied: self.machine.applied() })
    }
}

/// The entry that every group's log begins with: its voters, as they were at the founding. Each of them writes it itself, so
/// that none depends on another one that may be gone before it could pass it on.
fn first_entry(voters: &[NodeId]) -> LogEntry {
    let ids: BTreeSet<u64> = voters.iter().map(|node| node.get()).collect();
    LogEntry::new_membership(LogId::default(), Membership::new(vec![ids], None))
}

/// Reads the log and the state of a group. `founders` are its voters where it is founded here, which a store does that has nothing of it yet.
pub(super) fn open_group(
    env: &Env,
    id: RaftId,
    (group, founders): (Option<GroupId>, Option<&[NodeId]>),
    life: &Life,
    faults: MetaFaults,
) -> Result<OpenGroup, Box<StartError>> {
    let kv = || -> Arc<dyn OrderedKv> { life.lease.clone() };
    let (syncer, damage) = (&life.syncer, &life.damage);
    let log = LogStore::open(kv(), id, group, syncer.clone(), Arc::clone(&env.spawn), damage.clone())
        .map_err(|source| {
            if source.is_damage() {
                damage.found(&source);
            }
            Box::new(StartError::Log { group, source })
        })?;
    let machine = StateMachine::open(kv(), group, id, syncer.clone(), Arc::clone(&env.spawn), damage.clone())
        .map_err(|source| {
            if source.is_damage() {
                damage.found(&source);
            }
            Box::new(StartError::State { group, source })
        })?
        .with_faults(faults);
    if let Some(voters) = founders {
        log.seed(&first_entry(voters)).map_err(|source| Box::new(StartError::Log { group, source }))?;
    }
    Ok(OpenGroup { group, log, machine, damage: damage.clone() })
}

/// Runs it.
pub(super) async fn start_group(
    env: &Env,
    id: RaftId,
    config: Arc<Config>,
    opened: OpenGroup,
) -> Result<Group, Box<StartError>> {
    let kept = opened.kept();
    let OpenGroup { group, log, machine, damage } = opened;
    let is_fresh = kept.map_err(|source| Box::new(StartError::Log { group, source }))?.vote.is_none();
    let (reader, applied) = (machine.reader(), machine.applied());
    let network = Network::new(env.clone(), id, group);
    let scope = Scope { spawn: Arc::clone(&env.spawn), rng: Arc::clone(&env.rng) };
    let started =
        scope.run(async move { Raft::new(id.to_bits(), config, network, log, machine).await }).await;
    let raft = started.map_err(|source| Box::new(StartError::Raft { group, source: Box::new(source) }))?;
    let barrier = Barrier::new(raft.clone(), applied, Arc::clone(&env.spawn));
    let proposer = Proposer::new(id, raft.clone(), env.clone());
    let is_taken_in = AtomicBool::new(false);
    Ok(Group { id, raft, reader, barrier, proposer, damage, is_fresh, is_taken_in })
}
