//! A node as a process: opens what the configuration names, runs the node, stops it in order.
//!
//! One thread a core, each with one tokio-uring runtime. Thread 0 runs the node; the others carry drives (drive i belongs to thread i modulo the
//! count) and S3 connections. Where io_uring is forbidden a plain runtime takes its place, and the drives' blocking backend says so.

mod threads;

use crate::config::{Config, ConfigError};
use crate::control::server::{self, SocketError};
use crate::node::{Node, NodeError, NodeParts};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use strongroom_core::mutants::MutantSwitch;
use strongroom_env::real::{OsRng, PlainTcp, RealClock, RealSpawn, TcpConfig, TcpNet, TcpParts};
use strongroom_env::{Clock, Env, Rng};
use strongroom_erasure::{Engine, crc32c, md5, off};
use strongroom_gateway::{ServeParts, serve};
use strongroom_io::Device;
use strongroom_io::backend::BackendError;
use strongroom_meta::Timing;
use strongroom_meta::kv::{FjallKv, OpenError as StateError, OrderedKv};
use threads::Threads;
use tokio::sync::watch;

pub use threads::{listen_shared, run_local};

/// Threads for blocking work (syncs of the Raft log).
const BLOCKING_MAX: usize = 4;
/// How long connections and tasks may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// When the process stops by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopRule {
    /// At SIGTERM and SIGINT.
    Signals,
    /// Also when standard input ends: whoever started it is gone.
    SignalsOrStdinEnd,
}

/// Why a node's process ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A drive could not be opened.
    #[error("{source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: strongroom_io::open::OpenError,
    },
    /// A drive could not be put to work.
    #[error("{path}: {source}")]
    Backend {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// The state folder.
    #[error("{path}: {source}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: StateError,
    },
    /// The state folder's device failed while the node ran.
    #[error(
        "{path}: the state directory's device failed or is full: {reason}. Nothing was acknowledged since. Make room on it, or replace it, and \
         start the node again: it goes on with what is there, and takes from its peers what is not"
    )]
    StateFailed {
        /// Which.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// The cluster does not take the node, for good.
    #[error("{reason}")]
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// An address cannot be listened on.
    #[error("{what} {address}: {source}")]
    Listen {
        /// For what.
        what: &'static str,
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A drive is not what it should be.
    #[error("{path}: {source}")]
    Drive {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: NodeError,
    },
    /// The node.
    #[error(transparent)]
    Node(NodeError),
    /// A thread could not be started, or ended by itself.
    #[error("runtime thread: {0}")]
    Thread(#[source] io::Error),
}

impl ProcessError {
    /// What the process ends with. A supervisor may start the node again after any of them; after [`EXIT_STATE_FAILED`] somebody
    /// should look at the device first, and after [`EXIT_REFUSED`] it ends again until its configuration is another one.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::StateFailed { .. } => EXIT_STATE_FAILED,
            Self::Refused { .. } => EXIT_REFUSED,
            Self::Config(_)
            | Self::Open { .. }
            | Self::Backend { .. }
            | Self::State { .. }
            | Self::Listen { .. }
            | Self::Socket(_)
            | Self::Drive { .. }
            | Self::Node(_)
            | Self::Thread(_) => 1,
        }
    }
}

/// The exit code after the state folder's device failed: what `sysexits.h` calls EX_IOERR.
pub const EXIT_STATE_FAILED: u8 = 74;
/// The exit code of a node that its cluster refuses: what `sysexits.h` calls EX_CONFIG.
pub const EXIT_REFUSED: u8 = 78;

/// Runs the node of `config` until it is told to stop, or cannot go on.
///
/// # Errors
/// See [`ProcessError`]; nothing was formatted or repaired on the way.
pub fn run(config: Config, stop: StopRule) -> Result<(), ProcessError> {
    run_local(move || async move {
        let threads = Threads::start(config.threads, &config.drives).await?;
        let result = node(&config, stop, &threads).await;
        // Whatever happened: no thread leaves while the kernel still writes into its buffers.
        threads.stop().await;
        result
    })
    .map_err(ProcessError::Thread)?
}

async fn node(config: &Config, stop: StopRule, threads: &Threads) -> Result<(), ProcessError> {
    let rng: Arc<dyn Rng> = Arc::new(OsRng);
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let spawn = RealSpawn::new(tokio::runtime::Handle::current(), rng.clone(), BLOCKING_MAX);
    let peers_address = config.own().address;
    let peers: BTreeMap<_, _> =
        config.members.iter().map(|member| (member.node, member.address.to_string())).collect();
    let net = TcpNet::bind(
        peers_address,
        TcpConfig { cluster: config.cluster, node: config.node, peers, limits: Default::default() },
        TcpParts {
            clock: clock.clone(),
            rng: rng.clone(),
            spawn: spawn.clone(),
            transport: Arc::new(PlainTcp),
        },
    )
    .await
    .map_err(|source| ProcessError::Listen { what: "peers", address: peers_address, source })?;
    let env = Env { clock: clock.clone(), rng: rng.clone(), spawn: spawn.clone(), net };

    let kv: Arc<dyn OrderedKv> = Arc::new(
        FjallKv::open(&config.state_dir, rng)
            .map_err(|source| ProcessError::State { path: config.state_dir.clone(), source })?,
    );
    let node = Node::start(NodeParts {
        env,
        cluster: config.cluster,
        node: config.node,
        members: config.members.clone(),
        joins: config.joins,
        groups: config.groups,
        drives: threads.devices().to_vec(),
        kv,
        credentials: config.credentials.clone(),
        policy: config.slab,
        background: config.background,
        timing: Timing::default(),
        mutants: MutantSwitch::NONE,
    })
    .await
    .map_err(|error| name_drive(error, &config.drives))?;

    let (ending, ended) = watch::channel(false);
    let serve_parts = ServeParts { clock, spawn: spawn.clone() };
    let mut listeners = Vec::new();
    for _ in 0..config.threads {
        let address = config.s3_listen;
        let listener =
            listen_shared(address).map_err(|source| ProcessError::Listen { what: "s3", address, source })?;
        listeners.push(listener);
    }
    let own_listener = listeners.pop().expect("at least one thread");
    let own_listener = tokio::net::TcpListener::from_std(own_listener)
        .map_err(|source| ProcessError::Listen { what: "s3", address: config.s3_listen, source })?;
    let servers = threads.serve(listeners, node.door().clone(), serve_parts.clone(), ended.clone());
    let control = server::bind(&config.control_socket)?;
    tokio::task::spawn_local(server::serve(control, node.clone()));
    if let Some(address) = config.metrics_listen {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener =
            listener.map_err(|source| ProcessError::Listen { what: "metrics", address, source })?;
        tokio::task::spawn_local(server::serve_metrics(listener, node.clone()));
    }
    say_instructions();
    tracing::info!(node = %config.node, zone = %config.own().zone, s3 = %config.s3_listen, peers = %peers_address, "node is up");

    let own_server =
        tokio::task::spawn_local(serve(own_listener, node.door().clone(), serve_parts, wait_true(ended)));
    let end = first_end(wait_for_stop(stop), node.meta().failed(), node.meta().refused()).await;
    match &end {
        End::Told => {
            tracing::info!("stopping: requests under way are answered, the slab being written is rolled")
        }
        End::Failed(reason) => {
            tracing::error!(reason, "stopping: the state directory's device failed or is full");
        }
        End::Refused(reason) => tracing::error!(reason, "stopping: the cluster does not take this node"),
    }
    // Whoever has stopped listening already is told nothing.
    let _ = ending.send(true);
    let ends = async {
        let _ = own_server.await;
        servers.await;
        node.stop().await;
    };
    // A store that failed answers every call at once, with an error: what the peers still can do they do.
    if tokio::time::timeout(STOP_PATIENCE, ends).await.is_err() {
        tracing::warn!("something was still under way at the end of the patience");
    }
    spawn.shutdown().await;
    match end {
        End::Told => Ok(()),
        End::Failed(reason) => Err(ProcessError::StateFailed { path: config.state_dir.clone(), reason }),
        End::Refused(reason) => Err(ProcessError::Refused { reason }),
    }
}

/// Why a node's process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// It was told to.
    Told,
    /// The state directory's store failed, in words.
    Failed(String),
    /// The cluster does not take the node, in words.
    Refused(String),
}

async fn first_end(
    stopped: impl Future<Output = ()>,
    failed: impl Future<Output = String>,
    refused: impl Future<Output = String>,
) -> End {
    tokio::select! {
        // Both at once: what failed is not to be kept quiet.
        biased;
        reason = failed => End::Failed(reason),
        reason = refused => End::Refused(reason),
        () = stopped => End::Told,
    }
}

/// A node knows its drives by their places; whoever reads the message knows them by their paths.
fn name_drive(source: NodeError, drives: &[PathBuf]) -> ProcessError {
    match source {
        NodeError::Drive { index, .. } | NodeError::Twice { index } => {
            ProcessError::Drive { path: drives[index].clone(), source }
        }
        NodeError::Meta(_) => ProcessError::Node(source),
    }
}

/// Completes once the value is true, or nobody can set it any more.
pub(crate) async fn wait_true(mut ended: watch::Receiver<bool>) {
    let _ = ended.wait_for(|ended| *ended).await;
}

async fn wait_for_stop(rule: StopRule) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler can be set at start");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler can be set at start");
    let stdin_end = async {
        match rule {
            StopRule::Signals => std::future::pending().await,
            StopRule::SignalsOrStdinEnd => stdin_ended().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stdin_end => {}
    }
}

/// Completes when standard input ends. A thread of its own waits there: a read of a pipe cannot be given up.
async fn stdin_ended() {
    let (told, tell) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut sink = io::sink();
        // An error is an end too.
        let _ = io::copy(&mut io::stdin(), &mut sink);
        let _ = told.send(());
    });
    let _ = tell.await;
}

/// The devices of a node, for the threads module.
type Devices = Vec<Arc<dyn Device>>;

/// Which of the machine's instructions are used.
fn say_instructions() {
    let (codec, sums, md5_lanes) = (Engine::detect().name(), crc32c::way(), md5::lanes());
    tracing::info!(codec, sums, md5_lanes, "instructions that are used");
    let unknown = off::unknown();
    if !unknown.is_empty() {
        tracing::warn!(?unknown, known = ?off::NAMES, "{} names what there is not: it switches nothing off", off::VARIABLE);
    }
}

#[cfg(test)]
mod tests {
    use super::{EXIT_REFUSED, EXIT_STATE_FAILED, End, ProcessError, first_end};
    use std::future::{pending, ready};
    use std::path::PathBuf;

    #[tokio::test]
    async fn a_store_that_fails_ends_the_process_with_a_code_and_words_of_its_own() {
        let words = || String::from("writing the ledger: No space left on device");
        assert_eq!(first_end(ready(()), pending(), pending()).await, End::Told);
        assert_eq!(first_end(pending(), ready(words()), ready(words())).await, End::Failed(words()));
        assert_eq!(first_end(ready(()), ready(words()), pending()).await, End::Failed(words()));
        assert_eq!(first_end(ready(()), pending(), ready(words())).await, End::Refused(words()));
        assert_eq!(ProcessError::Refused { reason: words() }.exit_code(), EXIT_REFUSED);
        let error = ProcessError::StateFailed { path: PathBuf::from("state"), reason: words() };
        assert_eq!(error.exit_code(), EXIT_STATE_FAILED);
        let told = error.to_string();
        assert!(
            told.contains("state: the state directory's device failed or is full") && told.contains(&words()),
            "{told}"
        );
        assert_ne!(ProcessError::Thread(std::io::Error::other("x")).exit_code(), EXIT_STATE_FAILED);
    }
}
