//! `strongroom dev`: a whole cluster of real processes on this machine, for trying things out, for `demo`, and for tests.

pub mod front;
pub mod layout;
pub mod processes;

use self::layout::{LayoutError, Plan, Shape};
use self::processes::{ProcessError, Processes};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use strongroom_env::Rng;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Why a cluster did not come up.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// Its folder.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A node.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The front's address.
    #[error("front {address}: {source}; is this cluster running already?")]
    Front {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What is told while a cluster comes up.
#[derive(Clone, Debug)]
pub enum Step {
    /// A node's drive is there and formatted.
    Formatted(u64),
    /// A node serves.
    Ready(u64),
    /// A node was dismissed, and does not run.
    Dismissed(u64),
}

/// How long an address that is in use is tried again. A process that is just being started holds what its parent listens on for a moment, so a
/// listener that was closed may still be there.
const LISTEN_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries.
const LISTEN_RETRY: Duration = Duration::from_millis(50);

async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && begun.elapsed() < LISTEN_PATIENCE =>
            {
                tokio::time::sleep(LISTEN_RETRY).await;
            }
            bound => return bound,
        }
    }
}

/// A running cluster. Dropping it stops its processes.
pub struct Cluster {
    /// The nodes.
    pub processes: Processes,
    front: JoinHandle<()>,
}

impl Cluster {
    /// Opens the cluster in `dir`, or makes it, and waits until every node serves.
    ///
    /// # Errors
    /// See [`DevError`].
    pub async fn start(
        program: PathBuf,
        dir: &Path,
        shape: &Shape,
        rng: &dyn Rng,
        mut told: impl FnMut(Step),
    ) -> Result<Self, DevError> {
        let plan = Plan::open_or_create(dir, shape, rng)?;
        let front_error = |source| DevError::Front { address: plan.front, source };
        let listener = listen(plan.front).await.map_err(front_error)?;
        let mut processes = Processes::new(program, dir, plan.clone());
        for node in &plan.nodes {
            processes.format_if_new(node)?;
            told(Step::Formatted(node.id));
        }
        for node in &plan.nodes {
            processes.start(node.id)?;
        }
        let (mut serving, mut refused) = (Vec::new(), Vec::new());
        for node in &plan.nodes {
            match processes.wait_ready(node.id).await {
                Ok(_) => {
                    serving.push(node);
                    told(Step::Ready(node.id));
                }
                Err(error) if processes.is_refused(node.id) => refused.push((node.id, error)),
                Err(error) => return Err(error.into()),
            }
        }
        for (id, error) in refused {
            if !is_dismissed(&processes, serving.first().map(|node| node.id), id).await {
                return Err(error.into());
            }
            told(Step::Dismissed(id));
        }
        let nodes = serving.iter().map(|node| node.s3).collect();
        Ok(Self { processes, front: tokio::spawn(front::run(listener, nodes)) })
    }

    /// Where S3 clients go.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.processes.plan().front)
    }

    /// Ids of the nodes of a zone.
    pub fn nodes_of(&self, zone: u8) -> Vec<u64> {
        let nodes = &self.processes.plan().nodes;
        nodes.iter().filter(|node| node.zone == zone).map(|node| node.id).collect()
    }

    /// Stops the nodes in order.
    pub async fn stop(mut self) {
        self.front.abort();
        // Until then its address is taken.
        let _ = (&mut self.front).await;
        self.processes.stop_all().await;
    }
}

/// Whether a node that its cluster refuses is so because it was dismissed, as one that serves sees it: other refusals are the configuration's fault.
async fn is_dismissed(processes: &Processes, asked: Option<u64>, id: u64) -> bool {
    let Some(asked) = asked else { return false };
    let Ok(cluster) = processes.control(asked).cluster().await else { return false };
    cluster.zones.iter().flat_map(|zone| &zone.nodes).all(|node| node.node != id)
}
