//! What came of a run, as one line of JSON between processes, and of many.

use super::checkers::Violation;
use super::history::Counts;
use super::trace::Summary;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
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
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// What checkers went through.
    pub checked: BTreeMap<String, u64>,
    /// What must not be.
    pub violations: Vec<Found>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Which rule it breaks.
    pub rule: String,
    /// What it is.
    pub what: String,
}

/// What a line on standard error begins with that says what was found by a run that may not come to its end.
const SAID: &str = "FOUND ";

impl Found {
    /// Says it at once on standard error, for who reads that of a run which dies before its report.
    pub fn say(&self) {
        let json = serde_json::to_string(self).expect("two strings");
        // Where nobody listens it is in the report.
        let _closed = writeln!(std::io::stderr(), "{SAID}{json}");
    }

    /// What a run said that did not come to its end.
    pub fn all_said(stderr: &str) -> Vec<Self> {
        let json = stderr.lines().filter_map(|line| line.strip_prefix(SAID));
        json.filter_map(|json| serde_json::from_str(json).ok()).collect()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl From<Violation> for Found {
    fn from(violation: Violation) -> Self {
        Self { rule: violation.rule.to_owned(), what: violation.found }
    }
}

/// A longer beginning is no name of a rule.
const RULE_LEN_MAX: usize = 48;

impl Found {
    /// What a story says, in words: up to an early colon it is the rule.
    pub fn told(words: &str) -> Self {
        let split = words.split_once(": ").filter(|(rule, _)| rule.len() <= RULE_LEN_MAX);
        let (rule, what) = split.unwrap_or(("what the story asks for", words));
        Self { rule: rule.to_owned(), what: what.to_owned() }
    }
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
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// What checkers went through.
    pub checked: BTreeMap<String, u64>,
    /// What must not be.
    pub violations: Vec<Found>,
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
            faults: report.faults,
            checked: report.checked,
            violations: report.violations,
        }
    }
}

/// What came of many runs, to be quoted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Runs, each of another seed.
    pub seeds: u64,
    /// Of these, how many were run twice and wrote the same trace.
    pub same_twice: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// PUTs and DELETEs acknowledged.
    pub acknowledged: u64,
    /// GETs, HEADs and LISTs answered.
    pub answered: u64,
    /// Operations refused.
    pub refused: u64,
    /// Operations of unknown outcome.
    pub unknown: u64,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// What checkers went through.
    pub checked: BTreeMap<String, u64>,
    /// Runs that broke a rule, by rule; a run that died is one that broke the rule `died`.
    pub violations: BTreeMap<String, u64>,
    /// The seeds of those runs.
    pub failed: Vec<u64>,
}

impl Total {
    /// Adds a run.
    pub fn add(&mut self, line: &Line) {
        self.simulated_ms += line.simulated_ms;
        let [acknowledged, answered, refused, unknown] = line.operations;
        self.acknowledged += acknowledged;
        self.answered += answered;
        self.refused += refused;
        self.unknown += unknown;
        for (sums, counts) in [(&mut self.faults, &line.faults), (&mut self.checked, &line.checked)] {
            for (name, count) in counts {
                *sums.entry(name.clone()).or_default() += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Line, Total};
    use std::collections::BTreeMap;

    #[test]
    fn runs_add_up() {
        let line = Line {
            seed: 1,
            hash: "0".to_owned(),
            polls: 10,
            simulated_ms: 1500,
            operations: [1, 2, 3, 4],
            faults: BTreeMap::from([("cut".to_owned(), 2)]),
            checked: BTreeMap::from([("locators".to_owned(), 7)]),
            violations: vec![Found::told("live: it does not end: never")],
        };
        assert_eq!(
            (line.violations[0].rule.as_str(), line.violations[0].what.as_str()),
            ("live", "it does not end: never")
        );
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        let mut total = Total::default();
        total.add(&line);
        total.add(&line);
        assert_eq!((total.simulated_ms, total.acknowledged, total.unknown), (3000, 2, 8));
        assert_eq!((total.faults["cut"], total.checked["locators"]), (4, 14));
    }
}
