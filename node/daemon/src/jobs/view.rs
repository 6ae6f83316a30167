//! Jobs as JSON.

use super::{Kind, Report, Subject, Unit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A job as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its id, given once in a run of the node.
    pub id: u64,
    /// What is done.
    pub kind: Kind,
    /// With what.
    pub subject: Subject,
    /// Whether it is a worker of the node, which can be paused and never ends.
    pub standing: bool,
    /// How it is.
    pub state: JobState,
    /// What it waits for, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How far it is.
    pub progress: Progress,
    /// What it has met, by name.
    pub counts: BTreeMap<String, u64>,
    /// Bytes a second at most; none where it goes as fast as it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace_bytes_per_second: Option<u64>,
    /// Reads and writes of drives a second at most, as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_per_second_max: Option<u64>,
    /// Bytes between zones a second at most, as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub far_bytes_per_second_max: Option<u64>,
    /// When it began: RFC 3339, by this node's calendar.
    pub began: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// What it leaves behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

impl JobView {
    /// Whether it has ended, whichever way.
    pub fn has_ended(&self) -> bool {
        match self.state {
            JobState::Done | JobState::Cancelled | JobState::Failed => true,
            JobState::Running | JobState::Paused | JobState::Waiting => false,
        }
    }
}

/// How a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// At work.
    Running,
    /// An operator has paused it: it begins nothing more.
    Paused,
    /// It waits for what `reason` says.
    Waiting,
    /// It has ended, and did what was asked.
    Done,
    /// An operator has ended it.
    Cancelled,
    /// It has ended, and did not; `reason` says why.
    Failed,
}

impl JobState {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// What is counted.
    pub unit: Unit,
    /// So many are done.
    pub done: u64,
    /// Of so many; none where that is not known, or the job never ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// So many a second, over the last half minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<f64>,
    /// How long the rest takes at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_seconds: Option<u64>,
}

/// What a run would do if it were begun now. Nothing was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// What would be done.
    pub kind: Kind,
    /// With what.
    pub subject: Subject,
    /// Slabs that it would change.
    pub slabs: u64,
    /// Fragments that would be made; of a scrub, read.
    pub fragments: u64,
    /// Bytes that would be made, read, or, in a compaction, copied.
    pub bytes: u64,
    /// Fragments that are away and may come back: nothing is made of these now.
    pub fragments_away: u64,
}
