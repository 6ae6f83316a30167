//! Runs seeds of the simulator, each in a process of its own, and compares two runs of each.

use anyhow::{Context, bail};
use clap::Parser;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use strongroom_tests::sim::report::Line;
use strongroom_tests::sim::run::{self, Options};
use strongroom_tests::sim::scenarios;
use strongroom_tests::sim::strongroom::Strongroom;
use strongroom_tests::sim::system::System;
use strongroom_tests::sim::toy::Toy;
use strongroom_tests::sim::trace::Sink;

/// Simulates whole clusters from seeds.
#[derive(Clone, Debug, Parser)]
#[command(name = "sim")]
struct Args {
    /// One seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds from A up to, not including, B.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<(u64, u64)>,
    /// Run each seed once only, instead of twice with the traces compared.
    #[arg(long)]
    once: bool,
    /// Print what happens.
    #[arg(long)]
    trace: bool,
    /// Build this fault into the code; `list` names them. With a mutant, finding a violation is success.
    #[arg(long)]
    mutant: Option<String>,
    /// Play this story instead of faults drawn from the seed; `list` names them.
    #[arg(long)]
    scenario: Option<String>,
    /// What to simulate: strongroom, or the toy that the simulator is tried on.
    #[arg(long, default_value = "strongroom")]
    system: String,
    /// Simulated seconds of faults in each run.
    #[arg(long, default_value_t = 60)]
    span_s: u64,
    /// Runs at once; as many as there are processors by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
    /// Runs the one seed here and prints its line of JSON. Used between processes.
    #[arg(long, hide = true)]
    child: bool,
    /// Where a child writes its trace.
    #[arg(long, hide = true)]
    trace_to: Option<PathBuf>,
}

fn parse_seeds(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("expected A..B")?;
    let parse = |number: &str| number.parse::<u64>().map_err(|error| format!("{number:?}: {error}"));
    let (from, to) = (parse(from)?, parse(to)?);
    if from < to { Ok((from, to)) } else { Err(format!("{from}..{to} holds no seed")) }
}

fn system(name: &str) -> anyhow::Result<Arc<dyn System>> {
    match name {
        "strongroom" => Ok(Arc::new(Strongroom::default())),
        "toy" => Ok(Arc::new(Toy)),
        other => bail!("no system is called {other:?}; there are: strongroom, toy"),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = if args.child { child(&args) } else { parent(&args) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// One run, in this process.
fn child(args: &Args) -> anyhow::Result<bool> {
    let system = system(&args.system)?;
    let mutant = match &args.mutant {
        None => None,
        Some(name) => {
            let found = system.mutants().iter().find(|mutant| mutant.name == *name);
            Some(found.with_context(|| format!("no mutant {name:?}; --mutant list names them"))?)
        }
    };
    let scenario = match args.scenario.as_deref().or(mutant.and_then(|mutant| mutant.scenario)) {
        None => None,
        Some(name) => {
            let found = scenarios::ALL.iter().find(|scenario| scenario.name == name);
            Some(found.with_context(|| format!("no scenario {name:?}; --scenario list names them"))?)
        }
    };
    let mutant = mutant.map(|mutant| mutant.name);
    let sink = match &args.trace_to {
        Some(path) => Sink::file(path).with_context(|| format!("trace file {}", path.display()))?,
        None if args.trace => Sink::Terminal,
        None => Sink::None,
    };
    let seed = args.seed.context("a child runs one seed")?;
    let span = Duration::from_secs(args.span_s);
    let line = Line::from(run::run(system, Options { seed, sink, mutant, span, scenario }));
    println!("{}", serde_json::to_string(&line)?);
    Ok(line.violations.is_empty())
}

/// What came of a seed.
struct Done {
    seed: u64,
    line: Option<Line>,
    failures: Vec<String>,
}

fn parent(args: &Args) -> anyhow::Result<bool> {
    let system = system(&args.system)?;
    if args.mutant.as_deref() == Some("list") {
        for mutant in system.mutants() {
            println!("{:20} {}", mutant.name, mutant.what);
        }
        return Ok(true);
    }
    if args.scenario.as_deref() == Some("list") {
        for scenario in scenarios::ALL {
            println!("{:24} {}", scenario.name, scenario.what);
        }
        return Ok(true);
    }
    let (from, to) = match (args.seed, args.seeds) {
        (Some(seed), _) => (seed, seed + 1),
        (None, Some(seeds)) => seeds,
        (None, None) => (0, 20),
    };
    let directory = tempfile::tempdir().context("a directory for traces")?;
    let jobs =
        args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let begin = Instant::now();
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let (mut seeds, mut simulated_ms, mut operations, mut failed) = (0_u64, 0_u64, [0_u64; 4], Vec::new());
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let (sender, done) = mpsc::channel();
        for _ in 0..jobs {
            let (sender, next, stop, directory) = (sender.clone(), &next, &stop, directory.path());
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
            seeds += 1;
            if let Some(line) = &done.line {
                simulated_ms += line.simulated_ms;
                for (sum, count) in operations.iter_mut().zip(line.operations) {
                    *sum += count;
                }
            }
            if !done.failures.is_empty() {
                report_failure(args, &done);
                failed.push(done.seed);
                if !args.keep_going {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let [acknowledged, answered, refused, unknown] = operations;
    println!(
        "{seeds} seeds{} in {seconds:.1} s ({:.2} seeds/s), {:.2} h simulated; \
         operations: {acknowledged} acknowledged, {answered} answered, {refused} refused, {unknown} unknown; {} failed",
        if args.once { "" } else { ", each twice," },
        seeds as f64 / seconds,
        simulated_ms as f64 / 3_600_000.0,
        failed.len()
    );
    match &args.mutant {
        None => Ok(failed.is_empty()),
        Some(mutant) if failed.is_empty() => {
            println!("mutant {mutant} was NOT found");
            Ok(false)
        }
        Some(mutant) => {
            println!("mutant {mutant} was found by seed {}", failed[0]);
            Ok(true)
        }
    }
}

fn report_failure(args: &Args, done: &Done) {
    println!("seed {} FAILED", done.seed);
    for failure in &done.failures {
        println!("  {failure}");
    }
    let mutant = args.mutant.as_ref().map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default();
    let scenario =
        args.scenario.as_ref().map(|scenario| format!(" --scenario {scenario}")).unwrap_or_default();
    println!(
        "  again: sim --system {} --seed {} --span-s {}{scenario}{mutant} --once --trace",
        args.system, done.seed, args.span_s
    );
}

fn run_seed(args: &Args, seed: u64, directory: &Path) -> anyhow::Result<Done> {
    if args.once {
        return run_child(args, seed, None);
    }
    let paths = [directory.join(format!("{seed}.first")), directory.join(format!("{seed}.second"))];
    let mut first = run_child(args, seed, Some(&paths[0]))?;
    let second = run_child(args, seed, Some(&paths[1]))?;
    if first.line != second.line {
        first.failures.push("two runs of this seed differ:".to_owned());
        first.failures.extend(difference(&paths)?);
    }
    for path in &paths {
        // A run that died before its first line has no trace.
        let _absent = std::fs::remove_file(path);
    }
    Ok(first)
}

fn run_child(args: &Args, seed: u64, trace_to: Option<&Path>) -> anyhow::Result<Done> {
    let mut command = Command::new(std::env::current_exe().context("this program")?);
    command.args(["--child", "--system", &args.system]);
    command.args(["--seed", &seed.to_string(), "--span-s", &args.span_s.to_string()]);
    command.args(args.scenario.iter().flat_map(|scenario| ["--scenario", scenario]));
    command.args(args.mutant.iter().flat_map(|mutant| ["--mutant", mutant]));
    if args.trace {
        command.arg("--trace");
    }
    if let Some(path) = trace_to {
        command.arg("--trace-to").arg(path);
    }
    let stderr = if args.trace { Stdio::inherit() } else { Stdio::piped() };
    let output =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).output().context("child")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line: Option<Line> = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let failures = match &line {
        Some(line) => line.violations.clone(),
        None => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).take(12).collect();
            vec![format!("the run died ({}): {}", output.status, said.join(" | "))]
        }
    };
    Ok(Done { seed, line, failures })
}

/// The first line that differs, and a few that came before it.
fn difference(paths: &[PathBuf; 2]) -> anyhow::Result<Vec<String>> {
    let open = |path: &PathBuf| File::open(path).map(|file| BufReader::new(file).lines());
    let (mut first, mut second) = (open(&paths[0])?, open(&paths[1])?);
    let mut before = std::collections::VecDeque::new();
    loop {
        let (one, two) = (first.next().transpose()?, second.next().transpose()?);
        if one != two {
            let mut lines: Vec<String> =
                before.into_iter().map(|line| format!("    both   {line}")).collect();
            lines.push(format!("    first  {}", one.as_deref().unwrap_or("(end)")));
            lines.push(format!("    second {}", two.as_deref().unwrap_or("(end)")));
            return Ok(lines);
        }
        let Some(line) = one else {
            return Ok(vec!["    only in how it ended: all lines are equal".to_owned()]);
        };
        before.push_back(line);
        if before.len() > 5 {
            before.pop_front();
        }
    }
}
