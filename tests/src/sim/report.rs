//! What came of a run, as one line of JSON between processes.

use super::history::Counts;
use super::trace::Summary;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// What is left of its trace.
    pub trace: Summary,
    /// How long it took, in simulated time.
    pub simulated: Duration,
    /// How its operations ended.
    pub counts: Counts,
    /// What must not be.
    pub violations: Vec<String>,
}

/// The same, as it passes from the process of a run to the one that started it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The seed.
    pub seed: u64,
    /// Hash of the trace, in hex.
    pub hash: String,
    /// Polls of tasks.
    pub polls: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Operations acknowledged, answered, refused, unknown.
    pub operations: [u64; 4],
    /// What must not be.
    pub violations: Vec<String>,
}

impl From<Report> for Line {
    fn from(report: Report) -> Self {
        let Counts { acknowledged, answered, refused, unknown } = report.counts;
        Self {
            seed: report.seed,
            hash: format!("{:016x}", report.trace.hash),
            polls: report.trace.polls,
            simulated_ms: u64::try_from(report.simulated.as_millis()).unwrap_or(u64::MAX),
            operations: [acknowledged, answered, refused, unknown],
            violations: report.violations,
        }
    }
}
