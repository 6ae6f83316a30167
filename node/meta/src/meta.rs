//! The groups of one node, and the client side of all groups.
//!
//! **Retries.** Every change carries a ticket, drawn once and kept over all tries, and the groups remember the outcomes of the
//! latest tickets (`machine::window`): a change that is proposed again takes effect once and gets its first answer. So this
//! client retries any change, also after an unknown outcome, as long as the caller's deadline lasts, but not longer than
//! [`crate::limits::RETRY_UNCERTAIN_MAX`] after the first unknown outcome (the groups' memory is bounded). What is still open
//! then is [`MetaError::Unknown`]. A caller that tries again after that draws a new ticket, and must know what it does:
//! - `Commit` of a put: safe while its version is the current one (it is `Applied` again by its version id); if another version
//!   came in between, it becomes current again, unless a condition forbids it.
//! - `Found`, `CreateBucket`, `OpenBucket`, `AdmitBucket`, `CloseBucket`, `CommitSeal`, `CountWhole`, `KillEmpty`, `FenceSession`, `WriterDone`,
//!   `CloseSlab`, `Relocate`, `KillSlab`, `ReleaseSlab`: idempotent. `ForgetSlab`: `NoSuchSlab` if the first try did it.
//! - `BeginSeal`, `Relayout`, `AbandonLayout`: compare-and-set; the second try answers `SlabDiffers` with the record to go on from.
//! - `AdmitNode`, `DismissNode`: idempotent; who was overtaken by its own later word says it again (`members`).
//! - `Enrol`, `AdmitDrive`: compare-and-set; the second try answers `Outdated` where the first one took effect.
//! - `OpenSlab`: leaves an open slab that nobody writes; it is sealed like that of a writer that is gone.
//! - `RemoveBucket`: `NoSuchBucket` if the first try did it.
//! - `BeginRemoveBucket`, `ReopenBucket`: the second try begins another round.

mod join;
mod life;
mod members;
mod openings;
mod place;
mod route;
mod seats;
mod start;
mod status;
mod voters;

pub use members::Known;
pub(crate) use openings::{Opening, Said};
pub use start::StartError;
pub use status::GroupStatus;

use crate::barrier::Barrier;
use crate::client::Operation;
use crate::control::{ControlAnswer, ControlCommand, ControlQuery, ControlReply};
use crate::damage::{Alarms, Damage};
use crate::fault::MetaFaults;
use crate::group::{Entry, EntryOutcome, GroupAnswer, GroupCommand, GroupQuery, GroupReply};
use crate::kv::OrderedKv;
use crate::machine::Reader;
use crate::proposer::Proposer;
use crate::raft::{Command, Raft, Reply};
use crate::raft_id::RaftId;
use crate::standing::Founding;
use crate::watch::Watch;
use crate::{client::ClientAnswer, limits};
use life::Life;
use members::Members;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;
use strongroom_env::Env;
use strongroom_types::{BucketId, ClusterId, Deadline, GroupId, Member, NodeId, ObjectKey};
use tokio::sync::Notify;

/// What a node must know to take part.
#[derive(Clone, Debug)]
pub struct MetaConfig {
    /// This node. Its Raft id is this and which life of its state it is; see [`crate::RaftId`].
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// How many data groups it has; fixed when the cluster is made.
    pub groups: u16,
    /// This node, and others that it can ask who the rest are.
    pub members: Vec<Member>,
    /// The voters that a new cluster is founded with; the same on all nodes that found it. `None` for a node that joins one that exists.
    pub founding: Option<Founding>,
    /// Timeouts and sizes.
    pub timing: Timing,
    /// Deliberate faults; none outside of tests.
    pub faults: MetaFaults,
}

/// Timeouts and sizes of Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between heartbeats; also how long one message to a voter may take, its sync included.
    pub heartbeat: Duration,
    /// A voter waits at least this, beyond `election_max`, for its leader before it tries to lead.
    pub election_min: Duration,
    /// At most this; also for how long a voter that heard its leader refuses others.
    pub election_max: Duration,
    /// How long one piece of a snapshot may take, the last one with its install.
    pub snapshot_piece: Duration,
    /// Log entries between snapshots.
    pub snapshot_every: u64,
    /// Log entries that are kept below a snapshot, for voters that are a little behind.
    pub log_keep: u64,
}

impl Default for Timing {
    /// A lost leader is replaced within `election_max` + `election_max` + 1.5 heartbeats: 1.9 s.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(800),
            snapshot_piece: Duration::from_secs(30),
            snapshot_every: 20_000,
            log_keep: 5_000,
        }
    }
}

/// Why there is no answer, by what the caller may conclude.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The group does not exist in this cluster.
    #[error("{group} does not exist")]
    NoSuchGroup {
        /// The group asked for.
        group: GroupId,
    },
    /// The command makes no sense; nothing was done.
    #[error("command refused: {reason}")]
    Invalid {
        /// Why.
        reason: &'static str,
    },
    /// The command is longer than allowed; nothing was done.
    #[error("command of {len_bytes} bytes: expected at most {len_bytes_max}")]
    TooLarge {
        /// Its length.
        len_bytes: usize,
        /// The bound.
        len_bytes_max: usize,
    },
    /// A bound on work under way was reached; nothing was done.
    #[error("too much under way")]
    Busy,
    /// No leader answered within the deadline; nothing was done.
    #[error("no leader answered within the deadline; nothing was done")]
    Unavailable,
    /// The command was sent, and no answer came within the deadline: it may be done now, later or never.
    #[error("no answer within the deadline; the command may or may not take effect")]
    Unknown,
    /// The leader could not read its state.
    #[error("the leader could not read its state")]
    Failed,
    /// This node's control group was founded as another cluster.
    #[error("the control group belongs to {cluster} with {groups} groups")]
    OtherCluster {
        /// What it was founded as.
        cluster: ClusterId,
        /// With how many groups.
        groups: u16,
    },
    /// The node's groups could not be started.
    #[error(transparent)]
    Start(#[from] Box<StartError>),
}

/// A group that this node votes in, or is to.
struct Group {
    id: RaftId,
    raft: Raft,
    reader: Reader,
    barrier: Arc<Barrier>,
    proposer: Arc<Proposer>,
    damage: Damage,
    /// This voter had not voted when the group was started: there may never have been a leader.
    is_fresh: bool,
    /// Its leader has said in this run that this node votes in it, and the node has had all that was committed then.
    is_taken_in: AtomicBool,
}

/// The groups of one node, and the way to all others.
pub struct Meta {
    /// For tasks that it starts.
    me: Weak<Meta>,
    env: Env,
    config: MetaConfig,
    raft_config: Arc<openraft::Config>,
    kv: Arc<dyn OrderedKv>,
    /// The present life of this node's state.
    life: RwLock<Arc<Life>>,
    alarms: Alarms,
    /// Opinions about other nodes.
    watch: Arc<dyn Watch>,
    members: Members,
    look_at_voters: Notify,
    /// How often that was asked for.
    looks_wanted: AtomicU64,
    /// Where each group's leader was last seen.
    hints: Mutex<BTreeMap<Option<GroupId>, NodeId>>,
}

impl Meta {
    /// The data group that a key belongs to: CRC32C of the bucket's id (8 bytes, big endian) and the key's bytes, modulo the
    /// group count. This is on-disk meaning: it may never change.
    pub fn group_of(&self, bucket: BucketId, key: &ObjectKey) -> GroupId {
        group_of(self.config.groups, bucket, key)
    }

    /// Data groups of the cluster.
    pub fn group_count(&self) -> u16 {
        self.config.groups
    }

    /// Changes the control group.
    ///
    /// # Errors
    /// `Busy` and `Unavailable`: nothing was done. `Unknown`: see the module.
    pub async fn control(
        &self,
        command: ControlCommand,
        deadline: Deadline,
    ) -> Result<ControlReply, MetaError> {
        let operation = Operation::Propose(Command::Control { ticket: self.env.rng.u64(), command });
        match self.ask(None, operation, deadline).await? {
            ClientAnswer::Reply(Reply::Control(reply)) => Ok(reply),
            _ => Err(MetaError::Unknown),
        }
    }

    /// Reads the control group, linearizably.
    ///
    /// # Errors
    /// `Busy`, `Unavailable`, `Failed`.
    pub async fn control_query(
        &self,
        query: ControlQuery,
        deadline: Deadline,
    ) -> Result<ControlAnswer, MetaError> {
        match self.ask(None, Operation::ReadControl(query), deadline).await? {
            ClientAnswer::Control(answer) => Ok(answer),
            _ => Err(MetaError::Failed),
        }
    }

    /// Changes a data group.
    ///
    /// # Errors
    /// `NoSuchGroup`, `Invalid`, `TooLarge`, `Busy` and `Unavailable`: nothing was done. `Unknown`: see the module.
    pub async fn write(
        &self,
        group: GroupId,
        command: GroupCommand,
        deadline: Deadline,
    ) -> Result<GroupReply, MetaError> {
        let ticket = self.env.rng.u64();
        let command = match command {
            GroupCommand::Commit { entries } => {
                Command::Commit { entries: (0..).map(|n| ticket.wrapping_add(n)).zip(entries).collect() }
            }
            command => Command::Group { ticket, command },
        };
        match self.ask(Some(group), Operation::Propose(command), deadline).await? {
            ClientAnswer::Reply(Reply::Group(reply)) => Ok(reply),
            _ => Err(MetaError::Unknown),
        }
    }

    /// Commits one entry, together with those of other callers.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn commit(
        &self,
        group: GroupId,
        entry: Entry,
        deadline: Deadline,
    ) -> Result<EntryOutcome, MetaError> {
        let operation = Operation::Commit { ticket: self.env.rng.u64(), entry };
        match self.ask(Some(group), operation, deadline).await? {
            ClientAnswer::Outcome(outcome) => Ok(outcome),
            _ => Err(MetaError::Unknown),
        }
    }

    /// Reads a data group, linearizably.
    ///
    /// # Errors
    /// `NoSuchGroup`, `Busy`, `Unavailable`, `Failed`.
    pub async fn read(
        &self,
        group: GroupId,
        query: GroupQuery,
        deadline: Deadline,
    ) -> Result<GroupAnswer, MetaError> {
        match self.ask(Some(group), Operation::ReadGroup(query), deadline).await? {
            ClientAnswer::Group(answer) => Ok(answer),
            _ => Err(MetaError::Failed),
        }
    }

    fn group(&self, group: Option<GroupId>) -> Option<Arc<Group>> {
        self.life().running.read().unwrap_or_else(PoisonError::into_inner).groups.get(&group).cloned()
    }

    /// All groups, the control group first.
    fn all_groups(&self) -> impl Iterator<Item = Option<GroupId>> + use<> {
        std::iter::once(None).chain((0..self.config.groups).map(|group| Some(GroupId::new(group))))
    }
}

/// See [`Meta::group_of`].
pub fn group_of(groups: u16, bucket: BucketId, key: &ObjectKey) -> GroupId {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bucket.get().to_be_bytes()), key.as_str().as_bytes());
    let group = crc % u32::from(groups.max(1));
    GroupId::new(u16::try_from(group).expect("a remainder of a u16 fits a u16"))
}

/// Why `operation` is refused whatever the state, where it is.
fn check(operation: &Operation) -> Result<(), MetaError> {
    let bounded = |len_bytes, len_bytes_max| {
        if len_bytes > len_bytes_max { Err(MetaError::TooLarge { len_bytes, len_bytes_max }) } else { Ok(()) }
    };
    match operation {
        Operation::Propose(command) => {
            match command {
                Command::Group { command: GroupCommand::Commit { .. }, .. } => {
                    return Err(MetaError::Invalid { reason: "commits travel with their tickets" });
                }
                Command::Group { command, .. } => {
                    if let Some(reason) = crate::machine::malformed(command) {
                        return Err(MetaError::Invalid { reason });
                    }
                }
                Command::Commit { entries } => {
                    if entries.len() > strongroom_types::limits::COMMIT_BATCH_ENTRIES_MAX {
                        return Err(MetaError::Invalid { reason: "more entries than a commit may have" });
                    }
                }
                Command::Control { .. } => {}
            }
            bounded(encoded_len_bytes(command), limits::COMMAND_LEN_BYTES_MAX)
        }
        Operation::Commit { entry, .. } => bounded(encoded_len_bytes(entry), limits::ENTRY_LEN_BYTES_MAX),
        Operation::ReadControl(_) | Operation::ReadGroup(_) | Operation::Join(_) | Operation::Place(_) => {
            Ok(())
        }
    }
}

fn encoded_len_bytes<B: serde::Serialize>(body: &B) -> usize {
    postcard::serialize_with_flavor(body, postcard::ser_flavors::Size::default())
        .expect("commands hold only types that postcard encodes")
}

#[cfg(test)]
mod tests;
