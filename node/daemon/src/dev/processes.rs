//! The nodes of a `dev` cluster as real processes: started, watched, killed.

use super::DevError;
use super::layout::{Plan, PlannedNode};
use crate::control::client::{ControlClient, ControlError};
use crate::process::EXIT_REFUSED;
use crate::status::NodeStatus;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use strongroom_env::Rng;

/// Why a node could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started.
    #[error("node {id}: could not start {program}: {source}")]
    Start {
        /// The node.
        id: u64,
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Formatting its drive failed.
    #[error("node {id}: formatting its drive failed: {message}")]
    Format {
        /// The node.
        id: u64,
        /// What the formatter said.
        message: String,
    },
    /// It ended by itself.
    #[error("node {id} ended by itself ({status}); the last lines of its log:\n{tail}")]
    Ended {
        /// The node.
        id: u64,
        /// How.
        status: String,
        /// The end of its log.
        tail: String,
    },
    /// It runs and does not become ready.
    #[error("node {id} is not ready after {seconds} s: {reason}; see {log}")]
    NotReady {
        /// The node.
        id: u64,
        /// How long was waited.
        seconds: u64,
        /// What it lacks.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
}

/// Lines of a log that are shown when a node ends by itself.
const LOG_TAIL_LINES: usize = 12;
/// How long a node may take to become ready.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a node that is not ready yet.
const READY_POLL: Duration = Duration::from_millis(100);
/// How long a node may take to stop when asked.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// The processes of a cluster. Dropping it stops them.
pub struct Processes {
    program: PathBuf,
    dir: PathBuf,
    plan: Plan,
    running: Vec<(u64, Child)>,
}

impl Processes {
    /// Nothing started yet. `program` is the `strongroom` binary.
    pub fn new(program: PathBuf, dir: &Path, plan: Plan) -> Self {
        Self { program, dir: dir.to_owned(), plan, running: Vec::new() }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Adds a node with a blank drive to the cluster, and starts it. Nobody else is told.
    ///
    /// # Errors
    /// Its folder cannot be made, its drive not formatted, or the program not started.
    pub fn add_node(&mut self, zone: u8, rng: &dyn Rng) -> Result<PlannedNode, DevError> {
        let node = self.plan.add_node(&self.dir, zone, rng)?;
        self.format_if_new(&node)?;
        self.start(node.id)?;
        Ok(node)
    }

    /// The folder of a node.
    pub fn node_dir(&self, id: u64) -> PathBuf {
        self.plan.node_dir(&self.dir, id)
    }

    /// The path of a node's drive.
    pub fn drive_path(&self, id: u64) -> PathBuf {
        self.node_dir(id).join("drive-0.img")
    }

    /// Formats the drive of a node that has none yet.
    ///
    /// # Errors
    /// The formatter's words.
    pub fn format_if_new(&self, node: &PlannedNode) -> Result<(), ProcessError> {
        let drive = self.drive_path(node.id);
        if drive.exists() {
            return Ok(());
        }
        // Made under another name first: a drive that exists is a drive that was formatted to its end.
        let partial = drive.with_extension("partial");
        let output = Command::new(&self.program)
            .args(["drive", "format", "--quiet", "--force"])
            .args(["--cluster", &self.plan.cluster])
            .args(["--create-len", &self.plan.drive_len_bytes.to_string()])
            .args(["--extent-len", &self.plan.extent_len_bytes.to_string()])
            .arg(&partial)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| self.start_error(node.id, source))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ProcessError::Format { id: node.id, message });
        }
        std::fs::rename(&partial, &drive).map_err(|source| self.start_error(node.id, source))
    }

    /// Starts a node that is not running.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&mut self, id: u64) -> Result<(), ProcessError> {
        if self.is_running(id) {
            return Ok(());
        }
        // One that has ended by itself would else stand for the new one.
        self.running.retain(|(node, _)| *node != id);
        let folder = self.node_dir(id);
        let log = File::options()
            .append(true)
            .create(true)
            .open(folder.join("log"))
            .map_err(|source| self.start_error(id, source))?;
        let errors = log.try_clone().map_err(|source| self.start_error(id, source))?;
        let child = Command::new(&self.program)
            .arg("node")
            .arg("--config")
            .arg(folder.join("node.toml"))
            // The pipe ends with this process, however it ends; then the node stops too.
            .arg("--stop-at-stdin-end")
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| self.start_error(id, source))?;
        self.running.push((id, child));
        Ok(())
    }

    /// The process id of a running node.
    pub fn pid(&self, id: u64) -> Option<u32> {
        self.running.iter().find(|(node, _)| *node == id).map(|(_, child)| child.id())
    }

    /// Whether the process of this node is there.
    pub fn is_running(&mut self, id: u64) -> bool {
        self.running
            .iter_mut()
            .find(|(node, _)| *node == id)
            .is_some_and(|(_, child)| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether the process of this node has ended since its cluster does not take it.
    pub fn is_refused(&mut self, id: u64) -> bool {
        let child = self.running.iter_mut().find(|(node, _)| *node == id);
        let ended = child.and_then(|(_, child)| child.try_wait().ok().flatten());
        ended.is_some_and(|status| status.code() == Some(EXIT_REFUSED.into()))
    }

    /// SIGKILL: the process gets no chance to do anything.
    pub fn kill(&mut self, id: u64) {
        if let Some(place) = self.running.iter().position(|(node, _)| *node == id) {
            let (_, mut child) = self.running.swap_remove(place);
            // It may have ended by itself already; either way it is gone afterwards.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A client of a node's control socket.
    pub fn control(&self, id: u64) -> ControlClient {
        ControlClient::new(self.node_dir(id).join("control.sock"))
    }

    /// Waits until a node serves.
    ///
    /// # Errors
    /// It ended by itself, or is not ready in time.
    pub async fn wait_ready(&mut self, id: u64) -> Result<NodeStatus, ProcessError> {
        let polls = READY_PATIENCE.as_millis() / READY_POLL.as_millis();
        let mut reason = String::from("its control socket does not answer");
        for _ in 0..polls {
            if let Some((_, child)) = self.running.iter_mut().find(|(node, _)| *node == id)
                && let Ok(Some(status)) = child.try_wait()
            {
                return Err(ProcessError::Ended { id, status: status.to_string(), tail: self.log_tail(id) });
            }
            match self.control(id).status().await {
                Ok(status) if status.ready => return Ok(status),
                Ok(status) => reason = status.not_ready_because.join("; "),
                Err(ControlError::Unreachable { .. }) => {}
                Err(error) => reason = error.to_string(),
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Err(ProcessError::NotReady {
            id,
            seconds: READY_PATIENCE.as_secs(),
            reason,
            log: self.node_dir(id).join("log"),
        })
    }

    /// Asks all nodes to stop, then waits; what does not stop in time is killed.
    pub async fn stop_all(&mut self) {
        for (_, child) in &mut self.running {
            drop(child.stdin.take());
        }
        let polls = STOP_PATIENCE.as_millis() / READY_POLL.as_millis();
        for _ in 0..polls {
            self.running.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
            if self.running.is_empty() {
                return;
            }
            tokio::time::sleep(READY_POLL).await;
        }
        self.kill_all();
    }

    fn kill_all(&mut self) {
        let ids: Vec<u64> = self.running.iter().map(|(id, _)| *id).collect();
        for id in ids {
            self.kill(id);
        }
    }

    fn log_tail(&self, id: u64) -> String {
        let text = std::fs::read_to_string(self.node_dir(id).join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    fn start_error(&self, id: u64, source: std::io::Error) -> ProcessError {
        ProcessError::Start { id, program: self.program.clone(), source }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.kill_all();
    }
}
