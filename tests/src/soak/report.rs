//! What a soak tried and what held: as text for people, as JSON for machines.

use super::clients::Tally;
use super::gaps::Spread;
use super::oracle::Violation;
use crate::faultfs::weather::Counts;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// One kind of fault.
#[derive(Clone, Debug, Serialize)]
pub struct FaultReport {
    /// How long the cluster took to be whole again. Its count is how often it happened and recovered.
    pub whole_again: Spread,
    /// What was missing where it was not whole in time.
    pub late: Vec<String>,
}

/// Availability while something dies.
#[derive(Clone, Debug, Serialize)]
pub struct GapReport {
    /// What dies.
    pub what: &'static str,
    /// How often it did.
    pub trials: usize,
    /// The longest gap at each gateway that is not part of what died, over all trials.
    pub each_gateway: Spread,
    /// The longest gap of a client that may use any of those gateways: one for each trial.
    pub any_gateway: Spread,
    /// The longest gap at those gateways in the seconds before: what the machine does by itself.
    pub before: Spread,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whence it followed.
    pub seed: u64,
    /// What was run.
    pub program: String,
    /// What it says it is.
    pub version: String,
    /// Zones and nodes in each.
    pub shape: [u8; 2],
    /// Whether zones had networks of their own.
    pub namespaces: bool,
    /// Whether packets could be disturbed by chance.
    pub netem: bool,
    /// The zone whose media were damaged.
    pub damage_zone: u8,
    /// How long load ran.
    pub seconds: u64,
    /// Requests by kind.
    pub requests: BTreeMap<&'static str, Tally>,
    /// Bytes of objects sent.
    pub written_bytes: u64,
    /// Keys that were ever written, each read back at the end.
    pub keys: usize,
    /// Answers that the oracle judged.
    pub judged: u64,
    /// Faults by kind.
    pub faults: BTreeMap<String, FaultReport>,
    /// What the fault device did.
    pub device: Counts,
    /// Faults that were asked for by name, and for which no time was left.
    pub not_tried: Vec<String>,
    /// Availability.
    pub gaps: Vec<GapReport>,
    /// Nodes that ended without being told to.
    pub ended_by_themselves: Vec<String>,
    /// Alarms in the nodes' logs, each once.
    pub alarms: Vec<String>,
    /// Those among them that say bytes are lost, and panics.
    pub loss_alarms: Vec<String>,
    /// What was missing at the end, after all faults were over.
    pub not_whole_at_end: Option<String>,
    /// Lost or wrong: how many, and the first of them in words.
    pub violation_count: u64,
    /// See above.
    pub violations: Vec<Violation>,
    /// Where the logs are.
    pub dir: String,
}

impl Report {
    /// Whether everything that must hold did: nothing lost or wrong, whole in time after each fault and at the end, and no node ended by itself.
    pub fn holds(&self) -> bool {
        self.violation_count == 0
            && self.loss_alarms.is_empty()
            && self.not_whole_at_end.is_none()
            && self.ended_by_themselves.is_empty()
            && self.faults.values().all(|fault| fault.late.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [zones, nodes] = self.shape;
        writeln!(
            f,
            "soak: {} s, {zones} zones of {nodes} nodes, seed {}, {}",
            self.seconds, self.seed, self.version
        )?;
        writeln!(f, "\nrequests            answered   refused   unknown")?;
        for (kind, tally) in &self.requests {
            writeln!(f, "  {kind:16} {:10} {:9} {:9}", tally.answered, tally.refused, tally.unknown)?;
        }
        writeln!(
            f,
            "  {} bytes sent, {} keys, {} answers judged",
            self.written_bytes, self.keys, self.judged
        )?;
        writeln!(f, "\nfaults               times   whole again after: median, worst")?;
        for (name, fault) in &self.faults {
            let Spread { count, median_ms, worst_ms } = fault.whole_again;
            writeln!(
                f,
                "  {name:16} {:8}   {:9.1} s {:9.1} s",
                count + fault.late.len(),
                secs(median_ms),
                secs(worst_ms)
            )?;
            for late in &fault.late {
                writeln!(f, "    NOT WHOLE IN TIME: {late}")?;
            }
        }
        let device = &self.device;
        writeln!(
            f,
            "  media (zone {}): {} power cuts dropped {} sectors and {} changes of folders; {} read, {} write, {} flush errors; {} lies; {} lost, \
             {} misdirected; {} bits rotten, {} blocks unreadable; {} full; {} slow; {} blank, {} old",
            self.damage_zone,
            device.power_cuts,
            device.sectors_dropped,
            device.changes_dropped,
            device.read_errors + device.unreadable_reads,
            device.write_errors,
            device.flush_errors,
            device.flush_lies,
            device.lost_writes,
            device.misdirected_writes,
            device.rotten_bits,
            device.unreadable_blocks,
            device.full_writes,
            device.slow_operations,
            device.blanks,
            device.rollbacks
        )?;
        if !self.not_tried.is_empty() {
            writeln!(f, "  NOT TRIED, no time was left: {}", self.not_tried.join(", "))?;
        }
        writeln!(f, "\nlongest time without an acknowledged write, in ms (median, worst)")?;
        writeln!(f, "  while               trials   at each other gateway   at any of them   before")?;
        for gap in &self.gaps {
            writeln!(
                f,
                "  {:20} {:4}   {:10} {:10} {:9} {:7}  {:4} {:4}",
                gap.what,
                gap.trials,
                gap.each_gateway.median_ms,
                gap.each_gateway.worst_ms,
                gap.any_gateway.median_ms,
                gap.any_gateway.worst_ms,
                gap.before.median_ms,
                gap.before.worst_ms
            )?;
        }
        for ended in &self.ended_by_themselves {
            writeln!(f, "ENDED BY ITSELF: {ended}")?;
        }
        for alarm in &self.alarms {
            writeln!(f, "alarm: {alarm}")?;
        }
        for alarm in &self.loss_alarms {
            writeln!(f, "LOSS OR PANIC: {alarm}")?;
        }
        if let Some(missing) = &self.not_whole_at_end {
            writeln!(f, "NOT WHOLE AT THE END: {missing}")?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATION {}: {}", violation.kind, violation.words)?;
        }
        match self.holds() {
            true => writeln!(f, "\nheld: no acknowledged byte lost, no wrong byte returned"),
            false => writeln!(
                f,
                "\nDID NOT HOLD: {} violations, {} times not whole in time, {} nodes ended by themselves; logs in {}",
                self.violation_count,
                self.faults.values().map(|fault| fault.late.len()).sum::<usize>(),
                self.ended_by_themselves.len(),
                self.dir
            ),
        }
    }
}

fn secs(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::{FaultReport, Report, Spread};
    use std::collections::BTreeMap;

    fn clean() -> Report {
        Report {
            seed: 1,
            program: String::new(),
            version: String::new(),
            shape: [3, 2],
            namespaces: true,
            netem: true,
            damage_zone: 1,
            seconds: 60,
            requests: BTreeMap::new(),
            written_bytes: 1,
            keys: 1,
            judged: 1,
            faults: BTreeMap::from([(
                String::from("kill-node"),
                FaultReport { whole_again: Spread::of(&[]), late: Vec::new() },
            )]),
            device: Default::default(),
            not_tried: Vec::new(),
            gaps: Vec::new(),
            ended_by_themselves: Vec::new(),
            alarms: vec![String::from("a seal waits")],
            loss_alarms: Vec::new(),
            not_whole_at_end: None,
            violation_count: 0,
            violations: Vec::new(),
            dir: String::new(),
        }
    }

    #[test]
    fn each_thing_that_must_not_be_makes_it_not_hold() {
        assert!(clean().holds());
        let word = || String::from("word");
        let wrongs: [fn(&mut Report, String); 5] = [
            |report, _| report.violation_count = 1,
            |report, word| report.loss_alarms.push(word),
            |report, word| report.not_whole_at_end = Some(word),
            |report, word| report.ended_by_themselves.push(word),
            |report, word| report.faults.values_mut().for_each(|fault| fault.late.push(word.clone())),
        ];
        for wrong in wrongs {
            let mut report = clean();
            wrong(&mut report, word());
            assert!(!report.holds() && report.to_string().contains("DID NOT HOLD"), "{report}");
        }
    }
}
