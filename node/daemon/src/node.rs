//! A node, joined from its parts: the same in production and in the simulator, which differ in [`NodeParts`] alone.

use crate::admission::{self, AdmissionParts};
use crate::alarms::Alarms;
use crate::caretaker::{Caretaker, CaretakerParts};
use crate::cluster::{Monitor, Peers};
use crate::config::{Credentials as KeyPair, Member, SlabPolicy};
use crate::drive::{Drive, OpenError};
use crate::encode::Encoder;
use crate::fetch::{Codecs, Fetcher, ImageReader};
use crate::holder::Holder;
use crate::ingest::{Ingest, IngestParts};
use crate::session::Session;
use crate::slabs::Slabs;
use crate::status::{DriveStatus, GroupStatus, NodeStatus, PeerStatus};
use crate::store::{Found, Store};
use crate::sweeper::Sweeper;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use strongroom_core::mutants::{Mutant, MutantSwitch};
use strongroom_core::placement;
use strongroom_core::writer::WriterConfig;
use strongroom_env::{Env, Handler};
use strongroom_format::superblock::SuperblockError;
use strongroom_format::wire::Frame;
use strongroom_format::wire::message::{Pong, Refusal, Request, Response};
use strongroom_gateway::{Caller, Credential, Credentials, Door, DoorConfig, DoorParts, Secret};
use strongroom_io::Device;
use strongroom_meta::control::{ControlCommand, ControlReply};
use strongroom_meta::kv::OrderedKv;
use strongroom_meta::{Meta, MetaConfig, MetaError, MetaFault, MetaFaults, Timing};
use strongroom_types::{ClusterId, Deadline, Health, NodeId, ZoneId};

/// What a node is made of.
pub struct NodeParts {
    /// Time, randomness, tasks, peers.
    pub env: Env,
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// All nodes, this one included, by id.
    pub members: Vec<Member>,
    /// Data groups of the cluster.
    pub groups: u16,
    /// The drives, formatted.
    pub drives: Vec<Arc<dyn Device>>,
    /// Raft logs and state machines.
    pub kv: Arc<dyn OrderedKv>,
    /// The S3 key pair.
    pub credentials: KeyPair,
    /// When slabs are sealed and become cold.
    pub policy: SlabPolicy,
    /// Timeouts of Raft.
    pub timing: Timing,
    /// Deliberate faults; none outside of tests.
    pub mutants: MutantSwitch,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A drive is not one that this node can use, for another reason than that it has died; it was not touched.
    #[error("drive {index}: {source}")]
    Drive {
        /// Its place in the configuration, from 0.
        index: usize,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// Two entries of the configuration are one drive.
    #[error("drive {index}: is the same drive as an earlier one (a copy of its image?)")]
    Twice {
        /// Its place in the configuration, from 0.
        index: usize,
    },
    /// The groups could not be started.
    #[error("metadata: {0}")]
    Meta(#[from] MetaError),
}

/// How long the first leader of a new cluster may take.
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts to found the cluster.
const BOOTSTRAP_RETRY: Duration = Duration::from_secs(1);

/// A running node. Its tasks end with its [`Env`]'s `Spawn`.
pub struct Node {
    parts: Identity,
    monitor: Arc<Monitor>,
    holder: Holder,
    meta: Arc<Meta>,
    ingest: Ingest,
    caretaker: Arc<Caretaker>,
    sweeper: Arc<Sweeper>,
    alarms: Arc<Alarms>,
    found: Found,
    store: Store,
    door: Arc<Door>,
    drives_failed: Vec<String>,
}

struct Identity {
    cluster: ClusterId,
    node: NodeId,
    zone: ZoneId,
}

impl Node {
    /// Opens the drives, starts the groups and takes requests of peers. Serves once the peers it needs answer.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn start(parts: NodeParts) -> Result<Arc<Self>, NodeError> {
        let env = parts.env.clone();
        let session = Session::begin(env.rng.clone());
        let own =
            parts.members.iter().find(|member| member.node == parts.node).expect("a member of its cluster");
        let identity = Identity { cluster: parts.cluster, node: parts.node, zone: own.zone };
        let (holder, drives_failed) = open_drives(&parts).await?;

        // Peers may call as soon as the groups run, so the dispatcher stands first and says Busy until all is there.
        let peers = Peers::new(env.clone());
        let codecs = Arc::new(Codecs::default());
        let dispatcher = Arc::new(Dispatcher {
            pong: Pong {
                cluster: parts.cluster,
                node: parts.node,
                zone: own.zone,
                session: session.present(),
                drives: Vec::new(),
                drives_failed: u16::try_from(drives_failed.len()).expect("a node has at most 32 drives"),
            },
            session: session.clone(),
            holder: holder.clone(),
            encoder: Arc::new(Encoder::new(peers.clone(), codecs.clone())),
            meta: OnceLock::new(),
        });
        env.net.serve(dispatcher.clone());
        let meta = Meta::start(env.clone(), meta_config(&parts), parts.kv.clone()).await?;
        assert!(dispatcher.meta.set(meta.clone()).is_ok(), "set once, here");

        let monitor = Monitor::new(env.clone(), &parts.members);
        monitor.start(&peers);
        let alarms = Arc::new(Alarms::default());
        let found = Found::default();
        bootstrap(&env, &parts, &meta, &alarms, &found);
        let slabs = Arc::new(Slabs::new(env.clone(), meta.clone()));
        let ingest = Ingest::start(IngestParts {
            env: env.clone(),
            node: parts.node,
            session,
            peers: peers.clone(),
            monitor: monitor.clone(),
            meta: meta.clone(),
            groups: parts.groups,
            config: WriterConfig {
                slab_len_bytes_max: parts.policy.len_bytes_max,
                slab_age_max: parts.policy.age_max,
                mutants: parts.mutants,
                ..WriterConfig::default()
            },
        });
        let caretaker = Caretaker::start(CaretakerParts {
            env: env.clone(),
            meta: meta.clone(),
            peers: peers.clone(),
            monitor: monitor.clone(),
            alarms: alarms.clone(),
            groups: parts.groups,
            policy: parts.policy,
            mutants: parts.mutants,
            found: found.clone(),
        });
        admission::start(&AdmissionParts {
            env: env.clone(),
            meta: meta.clone(),
            holder: holder.clone(),
            alarms: alarms.clone(),
        });
        let sweeper = Sweeper::start(env.clone(), holder.clone(), slabs.clone(), parts.policy, parts.mutants);
        let image = ImageReader::new(parts.node, peers, monitor.clone(), slabs, codecs, alarms.clone());
        let fetcher = Fetcher::new(image);
        let store = Store::new(env.clone(), meta.clone(), ingest.clone(), fetcher, found.clone());
        let door = Arc::new(Door::new(DoorParts {
            store: Arc::new(store.clone()),
            credentials: Arc::new(OneKey(parts.credentials)),
            observer: None,
            clock: env.clock.clone(),
            rng: env.rng.clone(),
            config: DoorConfig::default(),
        }));
        Ok(Arc::new(Self {
            parts: identity,
            monitor,
            holder,
            meta,
            ingest,
            caretaker,
            sweeper,
            alarms,
            found,
            store,
            door,
            drives_failed,
        }))
    }

    /// The S3 door.
    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Buckets and objects below the door.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The groups.
    pub fn meta(&self) -> &Arc<Meta> {
        &self.meta
    }

    /// The drives.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Rolls the slab that this node writes, so that it is sealed.
    pub async fn seal_now(&self) {
        self.ingest.seal_all().await;
    }

    /// Makes sealed slabs cold whatever their age, from now on.
    pub fn convert_now(&self) {
        self.caretaker.convert_now();
    }

    /// Rolls what is being written and stops the groups; the drives are the caller's to close.
    pub async fn stop(&self) {
        self.ingest.seal_all().await;
        self.meta.shutdown().await;
    }

    /// What this node is, has and sees.
    pub fn status(&self) -> NodeStatus {
        let view = self.monitor.view();
        let not_ready_because = self.not_ready_because(&view);
        let mut slabs = self.caretaker.counts();
        slabs.to_free = self.sweeper.waiting_count();
        NodeStatus {
            node: self.parts.node.get(),
            zone: self.parts.zone.get(),
            cluster: format!("{:032x}", self.parts.cluster.get()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: not_ready_because.is_empty(),
            not_ready_because,
            drives: self.holder.drives().map(|drive| drive_status(drive)).collect(),
            drives_failed: self.drives_failed.clone(),
            peers: view
                .nodes
                .iter()
                .filter(|node| node.node != self.parts.node)
                .map(|node| PeerStatus {
                    node: node.node.get(),
                    zone: node.zone.get(),
                    up: node.health == Health::Up,
                })
                .collect(),
            groups: self.meta.status().iter().map(group_status).collect(),
            slabs,
            alarms: self.alarms.all().into_iter().chain(self.meta.alarms()).collect(),
        }
    }

    fn not_ready_because(&self, view: &strongroom_types::ClusterView) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.found.is_set() {
            reasons.push(String::from(
                "it is not known yet whether the cluster is the one that node.toml describes",
            ));
        }
        reasons.extend(self.meta.not_ready_because());
        for group in self.meta.status() {
            if let Some(reason) = &group.stopped {
                reasons.push(format!("{} is stopped here: {reason}", group_name(group.group)));
            } else if group.leader.is_none() {
                reasons.push(format!("{} has no leader yet", group_name(group.group)));
            }
        }
        if let Err(error) = placement::place_hot(view, &[], 0) {
            reasons.push(format!("nothing can be stored: {error}"));
        }
        reasons
    }
}

/// Opens the drives. One that has died takes itself out and not the node; one that is not what the configuration says is the operator's to look
/// at before anything starts. The second list names those that are out.
async fn open_drives(parts: &NodeParts) -> Result<(Holder, Vec<String>), NodeError> {
    let mut drives: BTreeMap<_, Arc<Drive>> = BTreeMap::new();
    let mut failed = Vec::new();
    // Before any is opened: opening one leaves a mark on it.
    let mut known = BTreeSet::new();
    for (index, device) in parts.drives.iter().enumerate() {
        if let Ok(superblock) = crate::drive::inspect(device.as_ref()).await
            && !known.insert(superblock.drive)
        {
            return Err(NodeError::Twice { index });
        }
    }
    for (index, device) in parts.drives.iter().enumerate() {
        let opened = Drive::open(device.clone(), parts.cluster, &parts.env, parts.mutants).await;
        let drive = match opened {
            Ok(drive) => {
                drive.await_admission();
                drive
            }
            Err(error) if has_died(&error) => {
                tracing::error!(index, %error, "drive cannot be opened: the node runs without it");
                failed.push(format!("drive {index}: {error}"));
                continue;
            }
            Err(source) => return Err(NodeError::Drive { index, source }),
        };
        if drives.insert(drive.id(), Arc::new(drive)).is_some() {
            return Err(NodeError::Twice { index });
        }
    }
    Ok((Holder::new(drives.into_values()), failed))
}

/// Whether the drive is the right one as far as can be told, and broken.
fn has_died(error: &OpenError) -> bool {
    match error {
        OpenError::Device(_)
        | OpenError::Superblock(SuperblockError::Damaged { .. } | SuperblockError::Unreadable { .. }) => true,
        OpenError::Superblock(
            SuperblockError::Blank | SuperblockError::Foreign | SuperblockError::Version { .. },
        )
        | OpenError::OtherCluster { .. }
        | OpenError::Shrunk { .. }
        | OpenError::Layout(_)
        | OpenError::Ours { .. }
        | OpenError::Foreign => false,
    }
}

/// Founds the cluster at its first start; at later ones finds that it is there. Tried until it worked or it is another cluster; then nothing is
/// served, since with another count of groups keys would be looked for, and stored, where nobody else does.
fn bootstrap(env: &Env, parts: &NodeParts, meta: &Arc<Meta>, alarms: &Arc<Alarms>, found: &Found) {
    let (world, meta, alarms, found) = (env.clone(), meta.clone(), alarms.clone(), found.clone());
    let (cluster, groups) = (parts.cluster, parts.groups);
    let task = async move {
        loop {
            let deadline = Deadline::after(world.clock.now(), BOOTSTRAP_PATIENCE);
            match found_or_compare(&meta, cluster, groups, deadline).await {
                Ok(()) => return found.set(),
                Err(error @ MetaError::OtherCluster { .. }) => {
                    return alarms.raise(format!(
                        "{error}: check cluster.id, cluster.groups and state_dir in node.toml"
                    ));
                }
                Err(error) => tracing::debug!(%error, "cluster is not founded yet"),
            }
            world.clock.sleep(BOOTSTRAP_RETRY).await;
        }
    };
    env.spawn.spawn("bootstrap", Box::pin(task));
}

/// Every node compares, not the founder alone: each has a configuration of its own.
async fn found_or_compare(
    meta: &Meta,
    cluster: ClusterId,
    groups: u16,
    deadline: Deadline,
) -> Result<(), MetaError> {
    meta.bootstrap(deadline).await?;
    match meta.control(ControlCommand::Found { cluster, groups }, deadline).await? {
        ControlReply::Done => Ok(()),
        ControlReply::OtherCluster { cluster, groups } => Err(MetaError::OtherCluster { cluster, groups }),
        ControlReply::Bucket { .. }
        | ControlReply::NoSuchBucket
        | ControlReply::Full
        | ControlReply::Enrolled { .. }
        | ControlReply::DriveStale { .. }
        | ControlReply::Outdated => Err(MetaError::Failed),
    }
}

/// One voter a zone, three zones a group: nodes take turns, so that groups spread over the nodes of a zone.
fn meta_config(parts: &NodeParts) -> MetaConfig {
    let mut zones: BTreeMap<ZoneId, Vec<NodeId>> = BTreeMap::new();
    for member in &parts.members {
        zones.entry(member.zone).or_default().push(member.node);
    }
    let voters = |turn: usize| -> Vec<NodeId> {
        zones.values().take(VOTERS).map(|nodes| nodes[turn % nodes.len()]).collect()
    };
    MetaConfig {
        node: parts.node,
        cluster: parts.cluster,
        groups: parts.groups,
        control_voters: voters(0),
        group_voters: (0..usize::from(parts.groups)).map(voters).collect(),
        timing: parts.timing,
        faults: MetaFaults::only_if(parts.mutants.has(Mutant::ReuseRaftId), MetaFault::ReuseRaftId),
    }
}

/// Voters of a group.
const VOTERS: usize = 3;

fn drive_status(drive: &Drive) -> DriveStatus {
    let (space, state, damage) = (drive.space(), drive.drive_state(), drive.damage());
    DriveStatus {
        drive: format!("{:032x}", drive.id().get()),
        bytes_total: space.bytes_total,
        bytes_allocated: space.bytes_allocated,
        bytes_used: space.bytes_used,
        fragments: space.fragments,
        writable: state.writable,
        incarnation: drive.incarnation(),
        standing: format!("{:?}", damage.standing).to_lowercase(),
        suspect: damage.suspect,
        extents_unknown: damage.extents_unknown,
        fragments_failed: damage.fragments_failed,
        fragments_unreadable: damage.fragments_unreadable,
    }
}

fn group_name(group: Option<strongroom_types::GroupId>) -> String {
    group.map_or_else(|| String::from("control"), |group| group.to_string())
}

fn group_status(group: &strongroom_meta::GroupStatus) -> GroupStatus {
    GroupStatus {
        group: group_name(group.group),
        leads: group.leads,
        leader: group.leader.map(NodeId::get),
        term: group.term,
        last_log: group.last_log.unwrap_or(0),
        applied: group.applied.unwrap_or(0),
        snapshot: group.snapshot.unwrap_or(0),
    }
}

/// The one key pair of the configuration.
struct OneKey(KeyPair);

impl Credentials for OneKey {
    fn find(&self, access_key: &str) -> Option<Credential> {
        (access_key == self.0.access_key).then(|| Credential {
            secret: Secret::new(self.0.secret_key.clone()),
            caller: Caller { access_key: access_key.to_owned(), name: String::from("root") },
        })
    }
}

/// Answers peers.
struct Dispatcher {
    pong: Pong,
    session: Session,
    holder: Holder,
    encoder: Arc<Encoder>,
    meta: OnceLock<Arc<Meta>>,
}

impl Handler for Dispatcher {
    fn handle(&self, from: NodeId, request: Frame) -> BoxFuture<'static, Frame> {
        let decoded = match request.decode_request() {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::warn!(%from, %error, "request cannot be read");
                let refusal = Refusal::Invalid(error.to_string());
                let answer = Frame::response(&Response::Refused(refusal), Bytes::new());
                return Box::pin(futures::future::ready(answer));
            }
        };
        let payload = request.payload;
        let meta = self.meta.get().cloned();
        match decoded {
            Request::Ping => {
                let (session, drives) = (self.session.present(), self.holder.states());
                let pong = Pong { session, drives, ..self.pong.clone() };
                Box::pin(futures::future::ready(Frame::response(&Response::Pong(pong), Bytes::new())))
            }
            Request::Raft { group, body } => Box::pin(ask_meta(meta, from, group, body, true)),
            Request::Meta { group, body } => Box::pin(ask_meta(meta, from, group, body, false)),
            Request::Encode(encode) => {
                let encoder = self.encoder.clone();
                Box::pin(async move { Frame::response(&encoder.serve(encode).await, Bytes::new()) })
            }
            drive_request => {
                let holder = self.holder.clone();
                Box::pin(async move {
                    let (response, payload) = holder.serve(drive_request, payload).await;
                    Frame::response(&response, payload)
                })
            }
        }
    }
}

async fn ask_meta(
    meta: Option<Arc<Meta>>,
    from: NodeId,
    group: Option<strongroom_types::GroupId>,
    body: Bytes,
    raft: bool,
) -> Frame {
    let response = match meta {
        Some(meta) => Response::Opaque(meta.handle(from, group, body, raft).await),
        None => Response::Refused(Refusal::Busy),
    };
    Frame::response(&response, Bytes::new())
}
