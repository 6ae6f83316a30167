//! A node, joined from its parts: the same in production and in the simulator, which differ in [`NodeParts`] alone.

mod drives;
mod founding;
mod dispatch;
mod base;
mod workers;
mod status;
mod cluster;
mod drains;
mod members;

use self::base::Base;
use self::workers::Workers;
use crate::config::{BackgroundPolicy, Credentials as KeyPair, Member, SlabPolicy};
use crate::drive::OpenError;
use crate::events::Events;
use crate::holder::Holder;
use crate::jobs::Jobs;
use crate::metrics::DoorMeter;
use crate::runs::Runs;
use crate::scrub::Scrubber;
use crate::store::Store;
use std::sync::Arc;
use strongroom_core::mutants::MutantSwitch;
use strongroom_env::Env;
use strongroom_gateway::{Caller, Credential, Credentials, Door, DoorConfig, DoorParts, Secret};
use strongroom_io::Device;
use strongroom_meta::kv::OrderedKv;
use strongroom_meta::{Meta, MetaError, Timing};
use strongroom_types::{ClusterId, NodeId};

/// What a node is made of.
pub struct NodeParts {
    /// Time, randomness, tasks, peers.
    pub env: Env,
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// The nodes that it is told of, this one included, by id.
    pub members: Vec<Member>,
    /// The cluster exists, and this node joins it.
    pub joins: bool,
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
    /// How fast background work goes.
    pub background: BackgroundPolicy,
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

/// A running node. Its tasks end with its [`Env`]'s `Spawn`.
pub struct Node {
    base: Base,
    workers: Workers,
    store: Store,
    door: Arc<Door>,
    door_meter: Arc<DoorMeter>,
}

impl Node {
    /// Opens the drives, starts the groups and takes requests of peers. Serves once the peers it needs answer.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn start(parts: NodeParts) -> Result<Arc<Self>, NodeError> {
        let base = Base::start(&parts).await?;
        let workers = Workers::start(&base, &parts);
        let (env, found) = (parts.env.clone(), base.found.clone());
        let store = Store::new(
            env.clone(),
            base.meta.clone(),
            workers.ingest.clone(),
            Arc::new(base.fetcher.clone()),
            base.alarms.clone(),
            found,
        );
        let door_meter = Arc::new(DoorMeter::default());
        let door = Arc::new(Door::new(DoorParts {
            store: Arc::new(store.clone()),
            credentials: Arc::new(OneKey(parts.credentials)),
            observer: Some(door_meter.clone()),
            clock: env.clock,
            rng: env.rng,
            config: DoorConfig::default(),
        }));
        Ok(Arc::new(Self { base, workers, store, door, door_meter }))
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
        &self.base.meta
    }

    /// The drives.
    pub fn holder(&self) -> &Holder {
        &self.base.holder
    }

    /// What happened.
    pub fn events(&self) -> &Arc<Events> {
        &self.base.events
    }

    /// What it works at.
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.base.jobs
    }

    /// Begins what an operator asks for.
    pub fn runs(&self) -> &Runs {
        &self.workers.runs
    }

    /// What the door did.
    pub fn door_meter(&self) -> &DoorMeter {
        &self.door_meter
    }

    /// Cold slabs of the groups that it leads which wait to be made whole again.
    pub fn repairs_waiting(&self) -> usize {
        self.workers.caretaker.repairs_waiting()
    }

    /// The scrub of its drives.
    pub fn scrubber(&self) -> &Arc<Scrubber> {
        &self.workers.scrubber
    }

    /// Rolls what is being written and stops the groups; the drives are the caller's to close.
    pub async fn stop(&self) {
        self.workers.ingest.seal_all().await;
        self.base.meta.shutdown().await;
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
