//! The nodes of a soak: folders, processes, signals, power.
//!
//! ```text
//! DIR/media/nN-dM/drive.img   a drive, on a volume of its own
//! DIR/media/nN-state/         Raft log and state machine, on a volume of its own
//! DIR/node-N/node.toml        its configuration
//! DIR/node-N/control.sock     its control socket
//! DIR/node-N/log              what it said, over all its starts
//! ```

use super::limits::LATENCY_MS_MAX;
use super::network::{Network, inside};
use crate::faultfs::content::Tear;
use crate::faultfs::control::{self, ControlError as DeviceError, Order};
use crate::faultfs::mount::Mounted;
use crate::faultfs::volumes::{Shared, Volumes};
use crate::faultfs::weather::{Nature, Weather};
use crate::sim::draws::Draws;
use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use strongroom::control::client::ControlClient;
use strongroom::status::NodeStatus;

/// How a cluster is laid out.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Zones.
    pub zones: u8,
    /// Nodes in each.
    pub nodes_per_zone: u8,
    /// Drives of each.
    pub drives_per_node: u8,
    /// Bytes of each.
    pub drive_len_bytes: u64,
    /// Data groups.
    pub groups: u16,
    /// The `[slab]` section.
    pub slab_section: String,
}

/// A node as it was laid out.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its id.
    pub id: u64,
    /// Its zone.
    pub zone: u8,
    /// For peers.
    pub peers: SocketAddr,
    /// For clients.
    pub s3: SocketAddr,
}

/// Key pair of the clients.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Public half.
    pub access_key: String,
    /// Secret half.
    pub secret_key: String,
}

/// Bytes of an extent: small, so that small drives hold many slabs.
const EXTENT_LEN_BYTES: u64 = 1 << 20;
/// Between two looks.
const POLL: Duration = Duration::from_millis(100);
/// Entries that a voter may be behind its leader and still count as caught up: under load it always is by some.
const BEHIND_MAX: u64 = 200;
/// Ports of nodes: below those that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// See the module. Dropping it kills the nodes, then takes the volumes away.
pub struct Nodes {
    program: PathBuf,
    dir: PathBuf,
    shape: Shape,
    planned: Vec<Planned>,
    /// Running or stopped processes.
    children: Vec<(u64, Child)>,
    /// The key pair.
    pub credentials: Credentials,
    /// The network.
    pub network: Network,
    /// The volumes.
    pub volumes: Arc<Volumes>,
    cluster: String,
    // Last: processes end before what they stand on goes.
    mounted: Mounted,
}

impl Nodes {
    /// Lays a cluster out in an empty folder and formats its drives. Nothing runs yet.
    ///
    /// # Errors
    /// The folder, the mount or the formatter.
    pub fn new(
        program: &Path,
        dir: &Path,
        shape: Shape,
        network: Network,
        draws: &mut Draws,
    ) -> anyhow::Result<Self> {
        let mount = dir.join("media");
        fs::create_dir_all(&mount).with_context(|| format!("folder {}", mount.display()))?;
        let volumes = Volumes::new(draws.u64());
        let mounted = Mounted::new(&volumes, &mount, "strongroom-soak")
            .with_context(|| format!("mounting the fault device on {}", mount.display()))?;
        let mut nodes = Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            planned: plan(&shape, &network, draws)?,
            shape,
            children: Vec::new(),
            credentials: Credentials {
                access_key: format!("SR{:018X}", draws.u64()),
                secret_key: format!("{:032x}", draws.u64()),
            },
            network,
            volumes,
            cluster: format!("{:016x}{:016x}", draws.u64(), draws.u64()),
            mounted,
        };
        for node in nodes.planned.clone() {
            nodes.lay_out(&node, draws)?;
        }
        Ok(nodes)
    }

    fn lay_out(&mut self, node: &Planned, draws: &mut Draws) -> anyhow::Result<()> {
        fs::create_dir_all(self.node_dir(node.id))?;
        fs::write(self.node_dir(node.id).join("node.toml"), self.node_toml(node))?;
        for name in self.volumes_of(node.id) {
            let tear = if draws.chance(500_000) { Tear::Sector512 } else { Tear::Block4096 };
            self.volumes.add(&name, Nature { tear, len_bytes_max: 4 * self.shape.drive_len_bytes })?;
            self.weather(&name, Weather::default());
        }
        for drive in self.drives_of(node.id) {
            self.format(&drive)?;
        }
        Ok(())
    }

    fn node_toml(&self, node: &Planned) -> String {
        let drives: Vec<String> =
            self.drives_of(node.id).iter().map(|name| format!("\"../media/{name}/drive.img\"")).collect();
        let mut text = format!(
            "[cluster]\nid = \"{}\"\ngroups = {}\n\n\
             [node]\nid = {}\nstate_dir = \"../media/{}\"\ndrives = [{}]\ns3_listen = \"{}\"\n\
             control_socket = \"control.sock\"\n\n\
             [credentials]\naccess_key = \"{}\"\nsecret_key = \"{}\"\n\n[slab]\n{}\n",
            self.cluster,
            self.shape.groups,
            node.id,
            self.state_of(node.id),
            drives.join(", "),
            node.s3,
            self.credentials.access_key,
            self.credentials.secret_key,
            self.shape.slab_section
        );
        for member in &self.planned {
            let Planned { id, zone, peers, .. } = member;
            write!(text, "\n[[member]]\nid = {id}\nzone = {zone}\naddress = \"{peers}\"\n")
                .expect("writing to a string");
        }
        text
    }

    /// Formats a drive, in place of what was there.
    ///
    /// # Errors
    /// The formatter's words.
    pub fn format(&self, drive: &str) -> anyhow::Result<()> {
        let path = self.mounted.volume_dir(drive).join("drive.img");
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let output = Command::new(&self.program)
            .args(["drive", "format", "--quiet", "--force", "--cluster", &self.cluster])
            .args(["--create-len", &self.shape.drive_len_bytes.to_string()])
            .args(["--extent-len", &EXTENT_LEN_BYTES.to_string()])
            .arg(&path)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("program {}", self.program.display()))?;
        if !output.status.success() {
            bail!("formatting {drive}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// The nodes.
    pub fn planned(&self) -> &[Planned] {
        &self.planned
    }

    /// Their ids.
    pub fn ids(&self) -> Vec<u64> {
        self.planned.iter().map(|node| node.id).collect()
    }

    /// Ids of a zone.
    pub fn of_zone(&self, zone: u8) -> Vec<u64> {
        self.planned.iter().filter(|node| node.zone == zone).map(|node| node.id).collect()
    }

    /// A node's zone.
    pub fn zone_of(&self, id: u64) -> u8 {
        self.planned.iter().find(|node| node.id == id).map_or(0, |node| node.zone)
    }

    /// The layout.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    fn node_dir(&self, id: u64) -> PathBuf {
        self.dir.join(format!("node-{id}"))
    }

    /// A node's log.
    pub fn log(&self, id: u64) -> PathBuf {
        self.node_dir(id).join("log")
    }

    /// Names of the volumes of a node's drives.
    pub fn drives_of(&self, id: u64) -> Vec<String> {
        (0..self.shape.drives_per_node).map(|drive| format!("n{id}-d{drive}")).collect()
    }

    /// The volume of its state directory.
    pub fn state_of(&self, id: u64) -> String {
        format!("n{id}-state")
    }

    fn volumes_of(&self, id: u64) -> Vec<String> {
        let mut names = self.drives_of(id);
        names.push(self.state_of(id));
        names
    }

    /// A volume.
    pub fn volume(&self, name: &str) -> Arc<Shared> {
        self.volumes.get(name).expect("volumes are made with the nodes")
    }

    /// Starts a node that is not running.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&mut self, id: u64) -> anyhow::Result<()> {
        if self.is_running(id) {
            return Ok(());
        }
        self.children.retain(|(other, _)| *other != id);
        let log = File::options().append(true).create(true).open(self.log(id))?;
        let errors = log.try_clone()?;
        let mut command = Command::new(&self.program);
        command
            .arg("node")
            .arg("--config")
            .arg(self.node_dir(id).join("node.toml"))
            // It ends when this process does, however that ends.
            .arg("--stop-at-stdin-end")
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors);
        let namespace = self.network.namespace(self.zone_of(id));
        let child = inside(namespace.as_deref(), move || command.spawn())?
            .with_context(|| format!("program {}", self.program.display()))?;
        self.children.push((id, child));
        Ok(())
    }

    /// Whether its process is there; a stopped one is.
    pub fn is_running(&mut self, id: u64) -> bool {
        let child = self.children.iter_mut().find(|(other, _)| *other == id);
        child.is_some_and(|(_, child)| matches!(child.try_wait(), Ok(None)))
    }

    /// Nodes that ended without being told to, and how.
    pub fn ended_by_themselves(&mut self) -> Vec<(u64, String)> {
        let mut ended = Vec::new();
        self.children.retain_mut(|(id, child)| match child.try_wait() {
            Ok(Some(status)) => {
                ended.push((*id, status.to_string()));
                false
            }
            Ok(None) | Err(_) => true,
        });
        ended
    }

    fn signal(&self, id: u64, signal: Signal) {
        if let Some((_, child)) = self.children.iter().find(|(other, _)| *other == id) {
            let process = i32::try_from(child.id()).expect("process numbers are small");
            // One that has ended meanwhile needs no signal.
            let _ = kill(Pid::from_raw(process), signal);
        }
    }

    /// SIGKILL to all of these, without waiting for their end.
    pub fn strike(&self, ids: &[u64]) {
        ids.iter().for_each(|id| self.signal(*id, Signal::SIGKILL));
    }

    /// SIGKILL to all of these, then waits for each.
    pub fn kill(&mut self, ids: &[u64]) {
        self.strike(ids);
        self.wait(ids);
    }

    fn wait(&mut self, ids: &[u64]) {
        for id in ids {
            if let Some(place) = self.children.iter().position(|(other, _)| other == id) {
                let (_, mut child) = self.children.swap_remove(place);
                let _ = child.wait();
            }
        }
    }

    /// SIGKILL and a power cut of all volumes of these nodes; power is back at once, the nodes are not.
    pub fn cut_power(&mut self, ids: &[u64]) {
        self.strike(ids);
        // Before the processes are gone: what they are doing just now is cut in the middle, and answers that hang are let go.
        let names: Vec<String> = ids.iter().flat_map(|id| self.volumes_of(*id)).collect();
        for name in &names {
            self.volume(name).lock().power_cut();
        }
        self.wait(ids);
        for name in &names {
            self.volume(name).lock().power_on();
        }
    }

    /// SIGTERM, and waits until the process is gone; one that does not end is killed.
    pub async fn stop(&mut self, ids: &[u64], patience: Duration) {
        for id in ids {
            self.signal(*id, Signal::SIGTERM);
        }
        let begun = Instant::now();
        while ids.iter().any(|id| self.is_running(*id)) && begun.elapsed() < patience {
            tokio::time::sleep(POLL).await;
        }
        self.kill(ids);
    }

    /// SIGSTOP.
    pub fn pause(&self, ids: &[u64]) {
        ids.iter().for_each(|id| self.signal(*id, Signal::SIGSTOP));
    }

    /// SIGCONT.
    pub fn go_on(&self, ids: &[u64]) {
        ids.iter().for_each(|id| self.signal(*id, Signal::SIGCONT));
    }

    /// Other weather on a volume; where it says nothing of slowness, operations take as long as on a device.
    pub fn weather(&self, volume: &str, weather: Weather) {
        let weather = match weather.slow_per_million {
            0 => Weather { slow_per_million: 1_000_000, slow_ms_max: LATENCY_MS_MAX, ..weather },
            _ => weather,
        };
        self.volume(volume).lock().set_weather(weather);
    }

    /// Does something with a volume.
    ///
    /// # Errors
    /// There is no such snapshot.
    pub fn order(&self, volume: &str, order: &Order) -> Result<(), DeviceError> {
        control::order(&self.volumes, volume, order)
    }

    /// What a node says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self, id: u64) -> anyhow::Result<NodeStatus> {
        Ok(ControlClient::new(self.node_dir(id).join("control.sock")).status().await?)
    }

    /// What all say.
    ///
    /// # Errors
    /// One does not answer.
    pub async fn statuses(&self) -> anyhow::Result<Vec<NodeStatus>> {
        let asked = self
            .planned
            .iter()
            .map(|node| async { self.status(node.id).await.with_context(|| format!("node {}", node.id)) });
        futures::future::try_join_all(asked).await
    }

    /// A group and the node that leads it, of those that have a leader.
    pub async fn leaders(&self) -> Vec<(String, u64)> {
        let mut leaders = Vec::new();
        for node in &self.planned {
            if let Ok(status) = self.status(node.id).await {
                let led = status.groups.into_iter().filter(|group| group.leads);
                leaders.extend(led.map(|group| (group.group, node.id)));
            }
        }
        leaders
    }

    /// Whether all nodes serve, see each other, and have applied what their leaders have; else what is missing.
    pub async fn is_whole(&mut self) -> Result<(), String> {
        if let Some(id) = self.ids().into_iter().find(|id| !self.is_running(*id)) {
            return Err(format!("node {id} does not run"));
        }
        let all = self.statuses().await.map_err(|error| format!("{error:#}"))?;
        for status in &all {
            if !status.ready {
                return Err(format!("node {}: {}", status.node, status.not_ready_because.join("; ")));
            }
            if let Some(peer) = status.peers.iter().find(|peer| !peer.up) {
                return Err(format!("node {} does not see node {}", status.node, peer.node));
            }
            for group in &status.groups {
                let leader = all
                    .iter()
                    .flat_map(|other| &other.groups)
                    .find(|other| other.group == group.group && other.leads);
                let Some(leader) = leader else { return Err(format!("{} has no leader", group.group)) };
                if group.applied + BEHIND_MAX < leader.applied {
                    return Err(format!(
                        "node {} has applied {} of {} in {}",
                        status.node, group.applied, leader.applied, group.group
                    ));
                }
            }
        }
        Ok(())
    }

    /// Waits until the cluster is whole; says what was missing last if it is not in time. Nodes that end by themselves are started again
    /// and told of.
    ///
    /// # Errors
    /// What is missing.
    pub async fn wait_whole(
        &mut self,
        patience: Duration,
        mut ended: impl FnMut(u64, &str),
    ) -> Result<Duration, String> {
        let begun = Instant::now();
        loop {
            for (id, how) in self.ended_by_themselves() {
                ended(id, &how);
                if let Err(error) = self.start(id) {
                    return Err(format!("node {id}: {error:#}"));
                }
            }
            match self.is_whole().await {
                Ok(()) => return Ok(begun.elapsed()),
                Err(missing) if begun.elapsed() > patience => return Err(missing),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Lines of the logs that hold this.
    pub fn log_lines(&self, what: &str) -> Vec<String> {
        let mut found = Vec::new();
        for node in &self.planned {
            let text = fs::read(self.log(node.id)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines = text.lines().filter(|line| line.contains(what));
            found.extend(lines.map(|line| format!("node {}: {line}", node.id)));
        }
        found
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for shared in self.volumes.all() {
            // Or a process could not end.
            shared.lock().set_weather(Weather::default());
        }
        let ids = self.ids();
        self.kill(&ids);
    }
}

fn plan(shape: &Shape, network: &Network, draws: &mut Draws) -> anyhow::Result<Vec<Planned>> {
    let count = u64::from(shape.zones) * u64::from(shape.nodes_per_zone);
    let mut taken = Vec::new();
    let mut port = |zone: u8| -> anyhow::Result<SocketAddr> {
        for _ in 0..1000 {
            let drawn = draws.below(PORTS.len() as u64);
            let port = PORTS.start + u16::try_from(drawn).expect("below the count of ports");
            let address = SocketAddr::new(network.address(zone), port);
            let is_free = network.can_cut() || std::net::TcpListener::bind(address).is_ok();
            if is_free && !taken.contains(&port) {
                taken.push(port);
                return Ok(address);
            }
        }
        bail!("no free port in {PORTS:?}")
    };
    let mut planned = Vec::new();
    for id in 1..=count {
        let zone = u8::try_from((id - 1) % u64::from(shape.zones) + 1).expect("zones are u8");
        planned.push(Planned { id, zone, peers: port(zone)?, s3: port(zone)? });
    }
    Ok(planned)
}
