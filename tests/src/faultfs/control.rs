//! Commands to the device: lines of JSON, each answered by one line, over a Unix socket.

use super::content::Tear;
use super::limits::{COMMAND_LEN_BYTES_MAX, VOLUME_LEN_BYTES};
use super::volumes::{Volumes, VolumesError};
use super::weather::{Counts, Nature, Weather};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

/// What to do with each of these volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Their names.
    pub volumes: Vec<String>,
    /// What to do.
    #[serde(flatten)]
    pub order: Order,
}

/// What to do with a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Order {
    /// Make it.
    Add {
        /// How power cuts tear.
        #[serde(default = "default_tear")]
        tear: Tear,
        /// Bytes that fit.
        #[serde(default = "default_len")]
        len_bytes_max: u64,
    },
    /// From now on this goes wrong.
    Weather {
        /// What.
        weather: Weather,
    },
    /// Power fails.
    PowerCut,
    /// Power is back.
    PowerOn,
    /// Bits of what is stored flip.
    Rot {
        /// How many.
        bits: u64,
    },
    /// Blocks of what is stored cannot be read before they are written again.
    Unreadable {
        /// How many.
        blocks: u64,
    },
    /// All blocks can be read again.
    Readable,
    /// Files come back as zeros. With power off.
    Blank,
    /// No file comes back. With power off.
    Erase,
    /// Remember what is on media.
    Snapshot {
        /// Under this name.
        name: String,
    },
    /// Come back as of a snapshot. With power off.
    RollBack {
        /// Its name.
        name: String,
    },
    /// Nothing; counts are answered in any case.
    Counts,
}

fn default_tear() -> Tear {
    Tear::Sector512
}

fn default_len() -> u64 {
    VOLUME_LEN_BYTES
}

/// What came of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done; what was done on the volumes so far.
    Done(BTreeMap<String, Counts>),
    /// Not done, or with the first volumes only.
    Failed(String),
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The volume.
    #[error(transparent)]
    Volume(#[from] VolumesError),
    /// There is no snapshot of that name.
    #[error("volume {volume:?} has no snapshot {name:?}")]
    Snapshot {
        /// Of which volume.
        volume: String,
        /// Its name.
        name: String,
    },
}

/// Does it with one volume.
///
/// # Errors
/// See [`ControlError`].
pub fn order(volumes: &Volumes, name: &str, order: &Order) -> Result<(), ControlError> {
    if let Order::Add { tear, len_bytes_max } = order {
        volumes.add(name, Nature { tear: *tear, len_bytes_max: *len_bytes_max })?;
        return Ok(());
    }
    let shared = volumes.get(name)?;
    let mut volume = shared.lock();
    match order {
        Order::Add { .. } | Order::Counts => {}
        Order::Weather { weather } => volume.set_weather(weather.clone()),
        Order::PowerCut => volume.power_cut(),
        Order::PowerOn => volume.power_on(),
        Order::Rot { bits } => volume.rot(*bits),
        Order::Unreadable { blocks } => volume.make_unreadable(*blocks),
        Order::Readable => volume.make_readable(),
        Order::Blank => volume.blank(),
        Order::Erase => volume.erase(),
        Order::Snapshot { name } => volume.snapshot(name),
        Order::RollBack { name: snapshot } => {
            if !volume.roll_back(snapshot) {
                return Err(ControlError::Snapshot { volume: name.to_owned(), name: snapshot.clone() });
            }
        }
    }
    Ok(())
}

/// Does a command with each of its volumes.
pub fn perform(volumes: &Volumes, command: &Command) -> Reply {
    let mut counts = BTreeMap::new();
    for name in &command.volumes {
        if let Err(error) = order(volumes, name, &command.order) {
            return Reply::Failed(error.to_string());
        }
        if let Ok(shared) = volumes.get(name) {
            counts.insert(name.clone(), shared.lock().counts());
        }
    }
    Reply::Done(counts)
}

/// Serves commands on a socket, for as long as the process lives: one thread for each connection.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(volumes: &Arc<Volumes>, path: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    let volumes = volumes.clone();
    std::thread::Builder::new().name(String::from("faultfs-control")).spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), volumes) = (stream, volumes.clone()) else { continue };
            // A client that goes away ends its thread and nothing else.
            std::thread::spawn(move || converse(&volumes, &stream));
        }
    })?;
    Ok(())
}

fn converse(volumes: &Volumes, stream: &UnixStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if lines.by_ref().take(COMMAND_LEN_BYTES_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_str(&line) {
            Ok(command) => perform(volumes, &command),
            Err(error) => Reply::Failed(error.to_string()),
        };
        let mut text = serde_json::to_string(&reply).expect("a reply is plain data");
        text.push('\n');
        writer.write_all(text.as_bytes())?;
    }
}
