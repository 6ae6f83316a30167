//! What jobs there are, what they are done with, and which go together.

use serde::{Deserialize, Serialize};
use std::fmt;
use strongroom_types::DriveId;
use utoipa::ToSchema;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Slabs get their final length.
    Seal,
    /// Sealed copies are erasure-coded.
    Convert,
    /// What was lost is made again.
    Repair,
    /// Slab tables are compared with this node's drives.
    Reconcile,
    /// Fragments of superseded layouts are given back.
    Sweep,
    /// Checksums of everything on the drives are verified.
    Scrub,
    /// Space of deleted objects is taken back.
    Compact,
    /// A drive or node is emptied.
    Drain,
    /// Slices and parity of samples are compared.
    Parity,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Seal,
        Self::Convert,
        Self::Repair,
        Self::Reconcile,
        Self::Sweep,
        Self::Scrub,
        Self::Compact,
        Self::Drain,
        Self::Parity,
    ];

    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Convert => "convert",
            Self::Repair => "repair",
            Self::Reconcile => "reconcile",
            Self::Sweep => "sweep",
            Self::Scrub => "scrub",
            Self::Compact => "compact",
            Self::Drain => "drain",
            Self::Parity => "parity",
        }
    }

    /// Whether its worker moves bytes, so that the pace of its standing job can be limited.
    pub const fn worker_has_pace(self) -> bool {
        match self {
            Self::Convert | Self::Repair | Self::Scrub | Self::Compact | Self::Drain => true,
            Self::Seal | Self::Reconcile | Self::Sweep | Self::Parity => false,
        }
    }

    /// Whether a run of it moves bytes of its own. Other runs only have the workers hurry, of this node and of others.
    pub const fn run_has_pace(self) -> bool {
        match self {
            Self::Scrub => true,
            Self::Convert
            | Self::Repair
            | Self::Compact
            | Self::Drain
            | Self::Seal
            | Self::Reconcile
            | Self::Sweep
            | Self::Parity => false,
        }
    }

    /// Whether runs of the two must not be under way at once, whatever they are done with. Of one kind, runs with the same subject never are.
    pub const fn excludes(self, other: Self) -> bool {
        // Each counts on room elsewhere that the other may take.
        matches!((self, other), (Self::Drain, Self::Compact) | (Self::Compact, Self::Drain))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a job is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// All of the cluster.
    Cluster,
    /// This node, with all that it leads and holds.
    ThisNode,
    /// A node.
    Node(u64),
    /// A drive.
    Drive(DriveName),
}

/// A drive, written as the 32 hexadecimal digits of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(into = "String", try_from = "String")]
#[schema(value_type = String, example = "0f8fad5bd9cb469fa16570867728950e")]
pub struct DriveName(DriveId);

/// A text that is no drive's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no drive: expected 32 hexadecimal digits")]
pub struct DriveNameError {
    /// As written.
    pub found: String,
}

impl DriveName {
    /// The name of this drive.
    pub fn new(drive: DriveId) -> Self {
        Self(drive)
    }

    /// The drive.
    pub fn get(self) -> DriveId {
        self.0
    }
}

impl TryFrom<String> for DriveName {
    type Error = DriveNameError;
    fn try_from(text: String) -> Result<Self, DriveNameError> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(&text, 16) {
            Ok(number) if is_hex => Ok(Self(DriveId::new(number))),
            _ => Err(DriveNameError { found: text }),
        }
    }
}

impl From<DriveName> for String {
    fn from(name: DriveName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for DriveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0.get())
    }
}

impl Subject {
    /// Whether one may be part of the other.
    pub fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Node(one), Self::Node(two)) => one == two,
            (Self::Drive(one), Self::Drive(two)) => one == two,
            // Which node a drive is in is not known here.
            (Self::Cluster | Self::ThisNode, _)
            | (_, Self::Cluster | Self::ThisNode)
            | (Self::Node(_), Self::Drive(_))
            | (Self::Drive(_), Self::Node(_)) => true,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::ThisNode => f.write_str("this node"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Drive(drive) => write!(f, "drive {drive}"),
        }
    }
}

/// What a job's progress is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Slabs.
    Slabs,
    /// Fragments of slabs.
    Fragments,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Slabs => "slabs",
            Self::Fragments => "fragments",
        })
    }
}
