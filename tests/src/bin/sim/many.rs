//! Many seeds, a few at once, and what came of them all.

use crate::process::{DIFFER, Done, run_seed};
use crate::{Args, mutant, read_script, shrinking, system};
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;
use strongroom_tests::sim::report::Total;
use strongroom_tests::sim::scenarios;
use strongroom_tests::sim::system::Mutant;

/// What came of all runs.
#[derive(Default)]
struct Sum {
    total: Total,
    hashes: BTreeMap<u64, (String, u64)>,
    failed: Vec<Done>,
}

/// Runs what is asked for; `true` is success.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    let system = system(&args.system)?;
    if args.mutant.as_deref() == Some("list") {
        for mutant in system.mutants() {
            println!("{:20} {}; seen by: {}", mutant.name, mutant.what, mutant.seen_by.join(", "));
        }
        return Ok(true);
    }
    if args.scenario.as_deref() == Some("list") {
        for scenario in scenarios::ALL {
            println!("{:24} {}", scenario.name, scenario.what);
        }
        return Ok(true);
    }
    let mutant = mutant(args, &*system)?;
    let (from, to) = match (read_script(args)?, args.seed, args.seeds) {
        (Some(script), ..) => (script.seed, script.seed + 1),
        (None, Some(seed), _) => (seed, seed + 1),
        (None, None, Some(seeds)) => seeds,
        (None, None, None) => (0, 20),
    };
    let directory = tempfile::tempdir().context("a directory for traces")?;
    let begin = Instant::now();
    let sum = run_seeds(args, mutant, from, to, directory.path())?;
    let seconds = begin.elapsed().as_secs_f64();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&sum.total)?);
    } else if args.hashes {
        for (seed, (hash, polls)) in &sum.hashes {
            println!("{seed:>8} {hash} {polls:>10}");
        }
    } else {
        print_sum(args, &sum.total, seconds);
    }
    let wants = args.shrink || (!args.no_shrink && args.mutant.is_none() && !args.json && !args.hashes);
    if let Some(failed) = sum.failed.iter().find(|done| done.rule(mutant).is_some())
        && wants
    {
        shrinking::shrink(args, failed, directory.path())?;
    }
    match mutant {
        None => Ok(sum.failed.is_empty()),
        Some(mutant) => Ok(print_mutant(args, mutant, &sum)),
    }
}

fn run_seeds(
    args: &Args,
    mutant: Option<&Mutant>,
    from: u64,
    to: u64,
    directory: &Path,
) -> anyhow::Result<Sum> {
    let jobs =
        args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let mut sum = Sum::default();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let (sender, done) = mpsc::channel();
        for _ in 0..jobs {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to || sender.send(run_seed(args, seed, directory)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for done in done {
            let done = done?;
            sum.total.seeds += 1;
            if let Some(line) = &done.line {
                sum.total.add(line);
                sum.hashes.insert(done.seed, (line.hash.clone(), line.polls));
            }
            if !args.once && !done.failures.iter().any(|found| found.rule == DIFFER) {
                sum.total.same_twice += 1;
            }
            if !done.failures.is_empty() {
                print_failure(args, &done);
                let mut rules: Vec<&String> = done.failures.iter().map(|found| &found.rule).collect();
                rules.dedup();
                for rule in rules {
                    *sum.total.violations.entry(rule.clone()).or_default() += 1;
                }
                sum.total.failed.push(done.seed);
                // Of a mutant a failure that does not show it ends nothing.
                if !args.keep_going && done.rule(mutant).is_some() {
                    stop.store(true, Ordering::Relaxed);
                }
                sum.failed.push(done);
            }
        }
        Ok(())
    })?;
    sum.total.failed.sort_unstable();
    sum.failed.sort_unstable_by_key(|done| done.seed);
    Ok(sum)
}

fn print_sum(args: &Args, total: &Total, seconds: f64) {
    println!(
        "{} seeds{} in {seconds:.1} s ({:.2} seeds/s), {:.2} h simulated; \
         operations: {} acknowledged, {} answered, {} refused, {} unknown; {} failed",
        total.seeds,
        if args.once { "" } else { ", each twice," },
        total.seeds as f64 / seconds,
        total.simulated_ms as f64 / 3_600_000.0,
        total.acknowledged,
        total.answered,
        total.refused,
        total.unknown,
        total.failed.len()
    );
    for (what, counts) in [("faults", &total.faults), ("checked", &total.checked)] {
        let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        if !counts.is_empty() {
            println!("{what}: {}", counts.join(", "));
        }
    }
}

/// Whether the mutant was found, and by what. Where standard output is for machines, people are told elsewhere.
fn print_mutant(args: &Args, mutant: &Mutant, sum: &Sum) -> bool {
    let name = mutant.name;
    let found =
        sum.failed.iter().find_map(|done| done.rule(Some(mutant)).map(|rule| (done.seed, rule.to_owned())));
    let others = sum.failed.iter().filter(|done| done.rule(Some(mutant)).is_none()).count();
    let text = match &found {
        Some((seed, rule)) => format!("mutant {name} was found by seed {seed}, by the rule: {rule}"),
        None => format!(
            "mutant {name} was NOT found by {} seeds; {others} of them failed by rules that do not count: {:?}",
            sum.total.seeds, sum.total.violations
        ),
    };
    if args.json || args.hashes {
        eprintln!("{text}")
    } else {
        println!("{text}")
    }
    found.is_some()
}

/// Where people look: on standard output, unless that is for machines.
fn print_failure(args: &Args, done: &Done) {
    let mut text = format!("seed {} FAILED\n", done.seed);
    for failure in &done.failures {
        text.push_str(&format!("  {failure}\n"));
    }
    text.push_str(&format!("  again: {} --once --trace\n", again(args, done.seed)));
    if args.json || args.hashes { eprint!("{text}") } else { print!("{text}") }
}

/// The command that runs a seed again.
pub fn again(args: &Args, seed: u64) -> String {
    let mutant = args.mutant.as_ref().map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default();
    let what = match (&args.schedule, &args.scenario) {
        (Some(path), _) => format!(" --schedule {}", path.display()),
        (None, Some(scenario)) => format!(" --scenario {scenario} --span-s {}", args.span_s),
        (None, None) => format!(" --span-s {}", args.span_s),
    };
    format!("sim --system {} --seed {seed}{what}{mutant}", args.system)
}
