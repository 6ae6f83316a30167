//! A run in a process of its own, and two of them side by side.

use crate::Args;
use anyhow::Context;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use strongroom_tests::sim::report::{Found, Line};
use strongroom_tests::sim::system::Mutant;

/// What is said of a run that ended without a word.
pub const DIED: &str = "died";
/// What is said of a seed whose two runs are not the same.
pub const DIFFER: &str = "two runs of this seed differ";

/// What came of a seed.
pub struct Done {
    pub seed: u64,
    pub line: Option<Line>,
    pub failures: Vec<Found>,
}

impl Done {
    /// The first rule that was broken and says what is looked for: any, or of a mutant those that see it, and never that the run died.
    pub fn rule(&self, mutant: Option<&Mutant>) -> Option<&str> {
        let counts = |found: &&Found| {
            mutant.is_none_or(|mutant| found.rule != DIED && mutant.is_seen_by(&found.to_string()))
        };
        self.failures.iter().find(counts).map(|found| found.rule.as_str())
    }
}

/// Runs a seed, twice unless once is asked for, with its traces in `directory`.
pub fn run_seed(args: &Args, seed: u64, directory: &Path) -> anyhow::Result<Done> {
    if args.once {
        return run_child(args, seed, None, args.schedule.as_deref());
    }
    let paths = [directory.join(format!("{seed}.first")), directory.join(format!("{seed}.second"))];
    let mut first = run_child(args, seed, Some(&paths[0]), args.schedule.as_deref())?;
    let second = run_child(args, seed, Some(&paths[1]), args.schedule.as_deref())?;
    if first.line != second.line {
        let lines = difference(&paths)?.join("\n    ");
        first.failures.push(Found { rule: DIFFER.to_owned(), what: format!("\n    {lines}") });
    }
    for path in &paths {
        // A run that died before its first line has no trace.
        let _absent = std::fs::remove_file(path);
    }
    Ok(first)
}

/// Runs a seed once, with the schedule in this file if there is one.
pub fn run_child(
    args: &Args,
    seed: u64,
    trace_to: Option<&Path>,
    schedule: Option<&Path>,
) -> anyhow::Result<Done> {
    let mut command = Command::new(std::env::current_exe().context("this program")?);
    command.args(["--child", "--system", &args.system]);
    match schedule {
        Some(path) => {
            command.arg("--schedule").arg(path);
        }
        None => {
            command.args(["--seed", &seed.to_string(), "--span-s", &args.span_s.to_string()]);
            command.args(["--clients", &args.clients.to_string(), "--keys", &args.keys.to_string()]);
            command.args(args.scenario.iter().flat_map(|scenario| ["--scenario", scenario]));
        }
    }
    command.args(args.mutant.iter().flat_map(|mutant| ["--mutant", mutant]));
    let shows = args.trace && trace_to.is_none();
    if shows {
        command.arg("--trace");
        if !args.trace_filter.is_empty() {
            command.arg(format!("--trace-filter={}", args.trace_filter.join(",")));
        }
    }
    if let Some(path) = trace_to {
        command.arg("--trace-to").arg(path);
    }
    let stderr = if shows { Stdio::inherit() } else { Stdio::piped() };
    let output =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).output().context("child")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line: Option<Line> = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let failures = match &line {
        Some(line) => line.violations.clone(),
        None => {
            let said = String::from_utf8_lossy(&output.stderr);
            let mut failures = Found::all_said(&said);
            let said: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).take(12).collect();
            failures.push(Found {
                rule: DIED.to_owned(),
                what: format!("{}: {}", output.status, said.join(" | ")),
            });
            failures
        }
    };
    Ok(Done { seed, line, failures })
}

/// The first line that differs, and a few that came before it.
fn difference(paths: &[PathBuf; 2]) -> anyhow::Result<Vec<String>> {
    let open = |path: &PathBuf| File::open(path).map(|file| BufReader::new(file).lines());
    let (mut first, mut second) = (open(&paths[0])?, open(&paths[1])?);
    let mut before = VecDeque::new();
    loop {
        let (one, two) = (first.next().transpose()?, second.next().transpose()?);
        if one != two {
            let mut lines: Vec<String> = before.into_iter().map(|line| format!("both   {line}")).collect();
            lines.push(format!("first  {}", one.as_deref().unwrap_or("(end)")));
            lines.push(format!("second {}", two.as_deref().unwrap_or("(end)")));
            return Ok(lines);
        }
        let Some(line) = one else {
            return Ok(vec!["only in how it ended: all lines are equal".to_owned()]);
        };
        before.push_back(line);
        if before.len() > 5 {
            before.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DIED, Done};
    use strongroom_tests::sim::report::Found;
    use strongroom_tests::sim::system::Mutant;

    #[test]
    fn a_mutant_is_found_by_the_rules_that_see_it_and_never_by_a_death() {
        let failed = |rules: &[&str]| {
            let failures =
                rules.iter().map(|rule| Found { rule: (*rule).to_owned(), what: "why".to_owned() }).collect();
            Done { seed: 1, line: None, failures }
        };
        let mutant =
            Mutant { name: "m", what: "w", scenario: None, seen_by: &["durable: ", "live: why", DIED] };
        assert_eq!(failed(&[DIED, "I13"]).rule(Some(&mutant)), None);
        assert_eq!(failed(&["I13", "live"]).rule(Some(&mutant)), Some("live"));
        assert_eq!(failed(&["I13", "durable: any"]).rule(Some(&mutant)), Some("durable: any"));
        assert_eq!(failed(&[DIED]).rule(None), Some(DIED));
        assert_eq!(failed(&[]).rule(None), None);
    }
}
