//! The folder of a `dev` cluster: what is in it, and how it is made.
//!
//! ```text
//! DIR/cluster.json          ids, ports, keys: read by every later start, and rewritten only when a node is added
//! DIR/node-N/node.toml      as a node anywhere would have it
//! DIR/node-N/drive-0.img    its drive
//! DIR/node-N/state/         Raft log and state machine
//! DIR/node-N/control.sock   its control socket
//! DIR/node-N/log            what it said
//! ```

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use strongroom_env::Rng;

/// How a new cluster is to be.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Zones.
    pub zones: u8,
    /// Nodes in each zone.
    pub nodes_per_zone: u8,
    /// Bytes of each node's drive.
    pub drive_len_bytes: u64,
    /// Bytes of an extent.
    pub extent_len_bytes: u32,
    /// Data groups.
    pub groups: u16,
    /// First port; 0 picks free ones.
    pub base_port: u16,
    /// Lines of the `[slab]` section.
    pub slab_section: String,
}

/// A cluster's folder, as `cluster.json` has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// 32 hexadecimal digits.
    pub cluster: String,
    /// Where the front listens.
    pub front: SocketAddr,
    /// S3 key pair.
    pub access_key: String,
    /// S3 key pair.
    pub secret_key: String,
    /// Data groups.
    pub groups: u16,
    /// Bytes of each drive.
    pub drive_len_bytes: u64,
    /// Bytes of an extent.
    pub extent_len_bytes: u32,
    /// Lines of the `[slab]` section.
    pub slab_section: String,
    /// The nodes.
    pub nodes: Vec<PlannedNode>,
}

/// A node of the plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedNode {
    /// Its id.
    pub id: u64,
    /// Its zone.
    pub zone: u8,
    /// Where peers reach it.
    pub peers: SocketAddr,
    /// Where S3 clients reach it.
    pub s3: SocketAddr,
    /// It was added later: it joins, and found nothing.
    #[serde(default)]
    pub joins: bool,
}

/// Why a folder could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file or folder could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `cluster.json` is not what this program wrote.
    #[error("{path}: {source}; remove the folder to start afresh")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The folder holds something, but no cluster.
    #[error("{path}: not empty and no cluster in it; name another folder")]
    NotEmpty {
        /// Which.
        path: PathBuf,
    },
    /// No free port.
    #[error("port {port} on 127.0.0.1 cannot be used: {source}; choose others with --base-port")]
    Port {
        /// Which.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Offset of the peers' ports from the base port; the S3 ports are base + node id, the front is the base.
const PEER_PORT_OFFSET: u16 = 100;

impl Plan {
    /// Opens the cluster in `dir`, or makes a new one there.
    ///
    /// # Errors
    /// See [`LayoutError`]. An existing cluster is never changed.
    pub fn open_or_create(dir: &Path, shape: &Shape, rng: &dyn Rng) -> Result<Self, LayoutError> {
        match Self::open(dir) {
            Err(LayoutError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            found => return found,
        }
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| LayoutError::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        if std::fs::read_dir(dir).map_err(io(dir))?.next().is_some() {
            return Err(LayoutError::NotEmpty { path: dir.to_owned() });
        }
        let plan = Self::draw(shape, rng)?;
        for node in &plan.nodes {
            plan.furnish(dir, node)?;
        }
        plan.write(dir)?;
        Ok(plan)
    }

    /// Opens the cluster in `dir`.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn open(dir: &Path) -> Result<Self, LayoutError> {
        let path = dir.join("cluster.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|source| LayoutError::Damaged { path, source }),
            Err(source) => Err(LayoutError::Io { path, source }),
        }
    }

    /// Makes the folder of one more node, which joins the others whether they run or not: they are told nothing. Its ports are picked.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn add_node(&mut self, dir: &Path, zone: u8, rng: &dyn Rng) -> Result<PlannedNode, LayoutError> {
        let id = self.nodes.iter().map(|node| node.id).max().unwrap_or(0) + 1;
        let mut ports = Ports::new(0, id, rng)?;
        let node = PlannedNode { id, zone, s3: ports.next(0)?, peers: ports.next(0)?, joins: true };
        self.nodes.push(node.clone());
        self.furnish(dir, &node)?;
        self.write(dir)?;
        Ok(node)
    }

    fn furnish(&self, dir: &Path, node: &PlannedNode) -> Result<(), LayoutError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| LayoutError::Io { path, source }
        };
        let folder = self.node_dir(dir, node.id);
        std::fs::create_dir_all(folder.join("state")).map_err(io(&folder))?;
        let config = folder.join("node.toml");
        std::fs::write(&config, self.node_toml(node)).map_err(io(&config))
    }

    /// Last, and by rename: a folder without it was not finished.
    fn write(&self, dir: &Path) -> Result<(), LayoutError> {
        let path = dir.join("cluster.json");
        let io = |source| LayoutError::Io { path: path.clone(), source };
        let text = serde_json::to_string_pretty(self).expect("a plan is plain data");
        let partial = dir.join("cluster.json.partial");
        std::fs::write(&partial, text).map_err(io)?;
        std::fs::rename(&partial, &path).map_err(io)
    }

    fn draw(shape: &Shape, rng: &dyn Rng) -> Result<Self, LayoutError> {
        let count = u64::from(shape.zones) * u64::from(shape.nodes_per_zone);
        let mut ports = Ports::new(shape.base_port, count, rng)?;
        let front = ports.next(0)?;
        let mut nodes = Vec::new();
        for id in 1..=count {
            // Interleaved, so that neighbouring ids are in different zones.
            let zone = u8::try_from((id - 1) % u64::from(shape.zones) + 1).expect("zones are u8");
            let offset = u16::try_from(id).expect("a dev cluster is small");
            nodes.push(PlannedNode {
                id,
                zone,
                s3: ports.next(offset)?,
                peers: ports.next(PEER_PORT_OFFSET + offset)?,
                joins: false,
            });
        }
        Ok(Self {
            cluster: format!("{:032x}", rng.u128()),
            front,
            access_key: format!("SR{:018X}", u128::from(rng.u64())),
            secret_key: format!("{:032x}", rng.u128()),
            groups: shape.groups,
            drive_len_bytes: shape.drive_len_bytes,
            extent_len_bytes: shape.extent_len_bytes,
            slab_section: shape.slab_section.clone(),
            nodes,
        })
    }

    /// The folder of a node.
    pub fn node_dir(&self, dir: &Path, id: u64) -> PathBuf {
        dir.join(format!("node-{id}"))
    }

    fn node_toml(&self, node: &PlannedNode) -> String {
        let mut text = format!(
            "[cluster]\nid = \"{}\"\ngroups = {}\n\n\
             [node]\nid = {}\n{}state_dir = \"state\"\ndrives = [\"drive-0.img\"]\ns3_listen = \"{}\"\n\
             control_socket = \"control.sock\"\n\n\
             [credentials]\naccess_key = \"{}\"\nsecret_key = \"{}\"\n\n[slab]\n{}\n",
            self.cluster,
            self.groups,
            node.id,
            if node.joins { "joins = true\n" } else { "" },
            node.s3,
            self.access_key,
            self.secret_key,
            self.slab_section
        );
        for member in &self.nodes {
            write!(
                text,
                "\n[[member]]\nid = {}\nzone = {}\naddress = \"{}\"\n",
                member.id, member.zone, member.peers
            )
            .expect("writing to a string");
        }
        text
    }
}

/// Ports that are picked from where none is named: below those that Linux gives to outgoing connections, or one of these could take
/// the port of a node while it is down.
const PICKED_PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Ports that are tried before it is given up.
const PICKS_MAX: u32 = 1_000;

/// Ports that this process has picked: that one is free now may only mean that its node is down. At most as many as there are to pick from.
static PICKED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Hands out ports, each checked to be free now.
struct Ports<'a> {
    base: u16,
    rng: &'a dyn Rng,
    /// Listeners of picked ports, held until all are picked, so that none is picked twice.
    held: Vec<TcpListener>,
}

impl<'a> Ports<'a> {
    fn new(base: u16, count: u64, rng: &'a dyn Rng) -> Result<Self, LayoutError> {
        let last = u64::from(base) + u64::from(PEER_PORT_OFFSET) + count;
        if base != 0 && last > u64::from(u16::MAX) {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidInput);
            return Err(LayoutError::Port { port: base, source });
        }
        Ok(Self { base, rng, held: Vec::new() })
    }

    /// A free port, or the last one tried.
    fn pick(&self) -> (u16, std::io::Result<TcpListener>) {
        let mut tries = 0;
        loop {
            let drawn = self.rng.u64() % PICKED_PORTS.len() as u64;
            let port = PICKED_PORTS.start + u16::try_from(drawn).expect("below the count of ports");
            tries += 1;
            let is_new = PICKED.lock().expect("no code panics while it holds this lock").insert(port);
            if !is_new && tries < PICKS_MAX {
                continue;
            }
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            if bound.is_ok() || tries == PICKS_MAX {
                return (port, bound);
            }
        }
    }

    fn next(&mut self, offset: u16) -> Result<SocketAddr, LayoutError> {
        let (port, bound) = match self.base {
            0 => self.pick(),
            base => (base + offset, TcpListener::bind((Ipv4Addr::LOCALHOST, base + offset))),
        };
        let error = |source| LayoutError::Port { port, source };
        let listener = bound.map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        self.held.push(listener);
        Ok(address)
    }
}
