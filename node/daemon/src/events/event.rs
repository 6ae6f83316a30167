//! The kinds of events, as words and as JSON.

use serde::Serialize;
use std::fmt;
use strongroom_types::{DriveId, FragmentIndex, NodeId, Profile, SlabId};
use utoipa::ToSchema;

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An alarm was raised.
    AlarmRaised {
        /// What it says.
        alarm: String,
    },
    /// What an alarm was about is over.
    AlarmOver {
        /// What it said.
        alarm: String,
    },
    /// A slab has its final length.
    SlabSealed {
        /// Which.
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String, example = "slab-0.15")]
        slab: SlabId,
        /// Rows in it.
        rows: u32,
    },
    /// A slab is erasure-coded.
    SlabCold {
        /// Which.
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String, example = "slab-0.15")]
        slab: SlabId,
        /// How.
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String, example = "RS(3,3)")]
        profile: Profile,
    },
    /// What was alive in a slab was copied elsewhere; what it took comes back.
    SlabCompacted {
        /// Which.
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String, example = "slab-0.15")]
        slab: SlabId,
        /// Needles that were copied.
        needles: u64,
        /// Bytes of them.
        bytes: u64,
    },
    /// Lost fragments of a slab were made again.
    SlabRepaired {
        /// Which.
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String, example = "slab-0.15")]
        slab: SlabId,
        /// How many fragments.
        fragments: u64,
    },
    /// A fragment on a drive of this node is not whole: it is to be made again.
    FragmentLacking {
        /// Of which slab.
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String, example = "slab-0.15")]
        slab: SlabId,
        /// Which.
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String, example = "f4")]
        fragment: FragmentIndex,
    },
    /// The scrub of a drive of this node has found a fragment that is not what was written.
    FragmentDamaged {
        /// The drive.
        #[serde(serialize_with = "as_hex")]
        #[schema(value_type = String)]
        drive: DriveId,
        /// Of which slab.
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String, example = "slab-0.15")]
        slab: SlabId,
        /// Which.
        #[serde(serialize_with = "as_text")]
        #[schema(value_type = String, example = "f4")]
        fragment: FragmentIndex,
        /// Blocks that do not match their checksums.
        blocks_corrupt: u64,
        /// Blocks that cannot be read.
        blocks_unreadable: u64,
    },
    /// A tour over a drive of this node is over: everything on it was looked at.
    DriveVerified {
        /// The drive.
        #[serde(serialize_with = "as_hex")]
        #[schema(value_type = String)]
        drive: DriveId,
        /// Bytes that it read in this run of the node.
        bytes: u64,
        /// Fragments that it found not to be whole in this run of the node.
        fragments_bad: u64,
    },
    /// What a drive held is gone for good: another device is in its place, or it came back as it was earlier.
    DriveRefused {
        /// The drive's node.
        #[schema(value_type = u64)]
        node: NodeId,
        /// The drive.
        #[serde(serialize_with = "as_hex")]
        #[schema(value_type = String)]
        drive: DriveId,
    },
    /// A drive takes no new fragments any more: a write or flush of it failed.
    DriveSuspect {
        /// The drive's node.
        #[schema(value_type = u64)]
        node: NodeId,
        /// The drive.
        #[serde(serialize_with = "as_hex")]
        #[schema(value_type = String)]
        drive: DriveId,
    },
    /// A drive takes new fragments.
    DriveInUse {
        /// The drive's node.
        #[schema(value_type = u64)]
        node: NodeId,
        /// The drive.
        #[serde(serialize_with = "as_hex")]
        #[schema(value_type = String)]
        drive: DriveId,
    },
    /// A node does not have a drive any more that it had: it started without it.
    DriveGone {
        /// The node.
        #[schema(value_type = u64)]
        node: NodeId,
        /// The drive.
        #[serde(serialize_with = "as_hex")]
        #[schema(value_type = String)]
        drive: DriveId,
    },
    /// A node answers.
    NodeUp {
        /// Which.
        #[schema(value_type = u64)]
        node: NodeId,
    },
    /// A node does not answer any more.
    NodeDown {
        /// Which.
        #[schema(value_type = u64)]
        node: NodeId,
    },
    /// A node has been silent for so long that what it holds is made again elsewhere.
    NodeGivenUp {
        /// Which.
        #[schema(value_type = u64)]
        node: NodeId,
    },
    /// A run of a job began.
    JobBegan {
        /// Its id.
        job: u64,
        /// Its kind.
        kind: &'static str,
    },
    /// A run of a job ended.
    JobEnded {
        /// Its id.
        job: u64,
        /// Its kind.
        kind: &'static str,
        /// `done`, `cancelled` or `failed`.
        how: &'static str,
    },
}

impl Event {
    /// The name of its kind, as in its JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AlarmRaised { .. } => "alarm_raised",
            Self::AlarmOver { .. } => "alarm_over",
            Self::SlabSealed { .. } => "slab_sealed",
            Self::SlabCold { .. } => "slab_cold",
            Self::SlabCompacted { .. } => "slab_compacted",
            Self::SlabRepaired { .. } => "slab_repaired",
            Self::FragmentLacking { .. } => "fragment_lacking",
            Self::FragmentDamaged { .. } => "fragment_damaged",
            Self::DriveVerified { .. } => "drive_verified",
            Self::DriveRefused { .. } => "drive_refused",
            Self::DriveSuspect { .. } => "drive_suspect",
            Self::DriveInUse { .. } => "drive_in_use",
            Self::DriveGone { .. } => "drive_gone",
            Self::NodeUp { .. } => "node_up",
            Self::NodeDown { .. } => "node_down",
            Self::NodeGivenUp { .. } => "node_given_up",
            Self::JobBegan { .. } => "job_began",
            Self::JobEnded { .. } => "job_ended",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlarmRaised { alarm } => write!(f, "ALARM {alarm}"),
            Self::AlarmOver { alarm } => write!(f, "over: {alarm}"),
            Self::SlabSealed { slab, rows } => write!(f, "{slab} is sealed, {rows} rows"),
            Self::SlabCold { slab, profile } => write!(f, "{slab} is erasure-coded, {profile}"),
            Self::SlabCompacted { slab, needles, bytes } => {
                write!(f, "{slab} is compacted and dead: {needles} needles copied, {bytes} bytes")
            }
            Self::SlabRepaired { slab, fragments } => {
                write!(f, "{slab}: fragments made again: {fragments}")
            }
            Self::FragmentLacking { slab, fragment } => {
                write!(f, "{slab}: {fragment} is not whole here; it is to be made again")
            }
            Self::FragmentDamaged { drive, slab, fragment, blocks_corrupt, blocks_unreadable } => write!(
                f,
                "{drive}: {fragment} of {slab} is damaged: {blocks_corrupt} corrupt and {blocks_unreadable} unreadable blocks"
            ),
            Self::DriveVerified { drive, bytes, fragments_bad } => {
                write!(f, "{drive} was verified: {bytes} bytes read, {fragments_bad} damaged fragments")
            }
            Self::DriveRefused { node, drive } => {
                write!(f, "{node}: what {drive} held is gone for good; it is made again elsewhere")
            }
            Self::DriveSuspect { node, drive } => write!(f, "{node}: {drive} takes no new fragments"),
            Self::DriveInUse { node, drive } => write!(f, "{node}: {drive} takes new fragments"),
            Self::DriveGone { node, drive } => write!(f, "{node} does not have {drive} any more"),
            Self::NodeUp { node } => write!(f, "{node} answers"),
            Self::NodeDown { node } => write!(f, "{node} does not answer"),
            Self::NodeGivenUp { node } => {
                write!(f, "{node} has been silent for too long: what it holds is made again elsewhere")
            }
            Self::JobBegan { job, kind } => write!(f, "job {job} began: {kind}"),
            Self::JobEnded { job, kind, how } => write!(f, "job {job} ended: {kind} {how}"),
        }
    }
}

fn as_text<T: fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_hex<S: serde::Serializer>(drive: &DriveId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:032x}", drive.get()))
}
