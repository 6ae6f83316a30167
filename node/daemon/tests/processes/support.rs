//! A cluster in a folder of its own, clients of it, and looking until something holds.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use strongroom::demo::watch;
use strongroom::dev::Cluster;
use strongroom::dev::layout::Shape;
use strongroom::status::NodeStatus;
use strongroom_env::real::OsRng;
use strongroom_tier::{Endpoint, connect};
use tempfile::TempDir;

/// The bucket of every test.
pub const BUCKET: &str = "mail";
/// How long something that must come true may take.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a request without retries may take: above the ten seconds after which a node says that a group does not answer.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(20);

/// The program under test.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_strongroom"))
}

/// Three zones of two nodes with small drives.
pub fn shape() -> Shape {
    Shape {
        zones: 3,
        nodes_per_zone: 2,
        drive_len_bytes: 128 << 20,
        extent_len_bytes: 1 << 20,
        groups: 4,
        base_port: 0,
        slab_section: String::from(
            "len_bytes_max = 16777216\nage_ms_max = 600000\nconvert_after_ms = 600000\nfree_after_ms = 500",
        ),
    }
}

/// A running cluster with an empty mail bucket. Dropping it kills the nodes, then removes the folder.
pub struct World {
    pub cluster: Cluster,
    dir: TempDir,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(&shape()).await
    }

    pub async fn start_with(shape: &Shape) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self { cluster: Self::cluster(dir.path(), shape).await, dir };
        world.client().create_bucket().bucket(BUCKET).send().await.unwrap();
        world
    }

    async fn cluster(dir: &Path, shape: &Shape) -> Cluster {
        let started = Cluster::start(program(), &dir.join("cluster"), shape, &OsRng, |_| {}).await;
        started.unwrap_or_else(|error| panic!("cluster does not start: {error}"))
    }

    /// Stops all nodes in order and starts them on the same folder.
    pub async fn restarted(self) -> Self {
        let Self { cluster, dir } = self;
        cluster.stop().await;
        Self { cluster: Self::cluster(dir.path(), &shape()).await, dir }
    }

    /// A folder beside the cluster's.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    pub fn nodes(&self) -> Vec<u64> {
        self.cluster.processes.plan().nodes.iter().map(|node| node.id).collect()
    }

    /// A client through the front, with the SDK's retries.
    pub fn client(&self) -> Client {
        self.client_of(&self.cluster.endpoint())
    }

    /// A client of one node.
    pub fn client_at(&self, node: u64) -> Client {
        self.client_of(&format!("http://{}", self.address_of(node)))
    }

    /// The S3 address of one node.
    pub fn address_of(&self, node: u64) -> SocketAddr {
        let plan = self.cluster.processes.plan();
        plan.nodes.iter().find(|planned| planned.id == node).unwrap().s3
    }

    fn client_of(&self, url: &str) -> Client {
        let plan = self.cluster.processes.plan();
        self.client_with(url, &plan.access_key, &plan.secret_key)
    }

    pub fn client_with(&self, url: &str, access_key: &str, secret_key: &str) -> Client {
        connect(&Endpoint {
            url: url.into(),
            region: String::from("us-east-1"),
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            path_style: true,
        })
        .unwrap()
    }

    pub async fn status(&self, node: u64) -> NodeStatus {
        self.cluster.processes.control(node).status().await.unwrap()
    }

    /// What a node has said so far.
    pub fn log(&self, node: u64) -> String {
        std::fs::read_to_string(self.cluster.processes.node_dir(node).join("log")).unwrap()
    }

    /// Starts a killed node and waits until it serves.
    pub async fn revive(&mut self, node: u64) {
        self.cluster.processes.start(node).unwrap();
        let ready = self.cluster.processes.wait_ready(node).await;
        ready.unwrap_or_else(|error| panic!("node {node} does not come back: {error}"));
    }

    /// Waits until all nodes see each other and every voter has what its leader has.
    pub async fn caught_up(&self) {
        watch::caught_up(&self.cluster).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// SIGKILL to these nodes at once, before any of them is waited for.
    pub fn kill(&mut self, nodes: &[u64]) {
        for node in nodes {
            let pid = self.cluster.processes.pid(*node).expect("it runs");
            let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        for node in nodes {
            self.cluster.processes.kill(*node);
        }
    }
}

/// The same client without retries: one request, one outcome.
pub fn once(client: &Client) -> Client {
    let waits =
        TimeoutConfig::builder().operation_timeout(ATTEMPT_PATIENCE).read_timeout(ATTEMPT_PATIENCE).build();
    let config =
        client.config().to_builder().retry_config(RetryConfig::disabled()).timeout_config(waits).build();
    Client::from_conf(config)
}

/// Looks until `reached` says yes.
pub async fn until(what: &str, mut reached: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    let mut seen = String::new();
    while begun.elapsed() < PATIENCE {
        match reached().await {
            Ok(()) => return,
            Err(words) => seen = words,
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("{what}: not within {} s; last seen: {seen}", PATIENCE.as_secs());
}

pub async fn put(client: &Client, key: &str, body: impl Into<Bytes>) -> Result<(), Refused> {
    let body = ByteStream::from(body.into());
    match client.put_object().bucket(BUCKET).key(key).body(body).send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

/// The whole object; `None` where there is none.
pub async fn get(client: &Client, key: &str) -> Result<Option<Bytes>, String> {
    match client.get_object().bucket(BUCKET).key(key).send().await {
        Ok(answer) => match answer.body.collect().await {
            Ok(body) => Ok(Some(body.into_bytes())),
            Err(error) => Err(format!("{key}: {error}")),
        },
        Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => Ok(None),
        Err(error) => Err(format!("{key}: {}", DisplayErrorContext(&error))),
    }
}

/// A request that did not succeed: what came back, if anything did.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: Option<u16>,
    pub code: String,
    pub words: String,
}

pub fn refused<E>(error: SdkError<E>) -> Refused
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    Refused {
        status: error.raw_response().map(|response| response.status().as_u16()),
        code: error.code().unwrap_or_default().to_owned(),
        words: DisplayErrorContext(&error).to_string(),
    }
}

/// What a run of the program came to.
#[derive(Debug)]
pub struct Ran {
    /// `None` where it was killed, here because it did not end by itself.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs the program to its end; one that does not end is killed, and its exit code is `None`.
pub fn strongroom(args: &[&str], dir: &Path) -> Ran {
    run(args, dir, Stdio::piped())
}

/// The same where nobody reads what it prints.
pub fn strongroom_unread(args: &[&str], dir: &Path) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    run(args, dir, writer.into())
}

fn run(args: &[&str], dir: &Path, stdout: Stdio) -> Ran {
    let mut child = Command::new(program())
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    // What is refused says a few lines, far below what a pipe holds, so it can be collected after the end.
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    Ran {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

impl Ran {
    /// It ended by itself with `code`, and said each of `parts` on standard error.
    #[track_caller]
    pub fn refused_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in what it said: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    #[track_caller]
    pub fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }
}
