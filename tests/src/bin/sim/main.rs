//! Runs seeds of the simulator, each in a process of its own, compares two runs of each, and makes small what fails.

mod many;
mod process;
mod shrinking;

use anyhow::{Context, bail};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use strongroom_tests::sim::faults::text::Script;
use strongroom_tests::sim::report::Line;
use strongroom_tests::sim::run::{self, CLIENTS, KEYS, Options};
use strongroom_tests::sim::scenarios;
use strongroom_tests::sim::strongroom::Strongroom;
use strongroom_tests::sim::system::{Mutant, System};
use strongroom_tests::sim::toy::Toy;
use strongroom_tests::sim::trace::{Filter, Sink};

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
    /// Print only lines that hold any of these words; a word that begins with - leaves lines out. Separated by commas.
    #[arg(long, value_name = "WORDS", value_delimiter = ',', allow_hyphen_values = true)]
    trace_filter: Vec<String>,
    /// Build this fault into the code; `list` names them. With a mutant, success is that a rule is broken that sees it.
    #[arg(long)]
    mutant: Option<String>,
    /// Play this story instead of faults drawn from the seed; `list` names them.
    #[arg(long)]
    scenario: Option<String>,
    /// Play the faults in this file instead of those drawn from the seed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "scenario"])]
    schedule: Option<PathBuf>,
    /// Print the faults that the seed draws, as such a file, and run nothing.
    #[arg(long)]
    print_schedule: bool,
    /// What to simulate: strongroom, or the toy that the simulator is tried on.
    #[arg(long, default_value = "strongroom")]
    system: String,
    /// Simulated seconds of faults in each run.
    #[arg(long, default_value_t = 60)]
    span_s: u64,
    /// Clients of each run.
    #[arg(long, default_value_t = CLIENTS)]
    clients: usize,
    /// Keys of each run.
    #[arg(long, default_value_t = KEYS)]
    keys: usize,
    /// Runs at once; as many as there are processors by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
    /// Make a seed that fails small, also where a mutant is built in.
    #[arg(long, conflicts_with = "no_shrink")]
    shrink: bool,
    /// Leave a seed that fails as it is.
    #[arg(long)]
    no_shrink: bool,
    /// For how long to make it smaller.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    shrink_s: u64,
    /// Print the hash of each seed's trace and nothing else, to compare machines by.
    #[arg(long)]
    hashes: bool,
    /// Print the sum of all runs as JSON and nothing else.
    #[arg(long, conflicts_with = "hashes")]
    json: bool,
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
    let done = if args.child {
        child(&args)
    } else if args.print_schedule {
        print_schedule(&args)
    } else {
        many::run(&args)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The file that `--schedule` names.
fn read_script(args: &Args) -> anyhow::Result<Option<Script>> {
    let Some(path) = &args.schedule else { return Ok(None) };
    let name = || format!("schedule {}", path.display());
    let text = std::fs::read_to_string(path).with_context(name)?;
    let script: Script = text.parse().with_context(name)?;
    match args.seed {
        Some(seed) if seed != script.seed => bail!("{} is of seed {}, not of {seed}", name(), script.seed),
        _ => Ok(Some(script)),
    }
}

/// The mutant that is asked for.
fn mutant(args: &Args, system: &dyn System) -> anyhow::Result<Option<&'static Mutant>> {
    let Some(name) = &args.mutant else { return Ok(None) };
    let found = system.mutants().iter().find(|mutant| mutant.name == *name);
    found.with_context(|| format!("no mutant {name:?}; --mutant list names them")).map(Some)
}

/// What a run in this process is to do.
fn options(args: &Args, system: &dyn System) -> anyhow::Result<Options> {
    let mutant = mutant(args, system)?;
    let scenario = match args.scenario.as_deref().or(mutant.and_then(|mutant| mutant.scenario)) {
        None => None,
        Some(name) => {
            let found = scenarios::ALL.iter().find(|scenario| scenario.name == name);
            Some(found.with_context(|| format!("no scenario {name:?}; --scenario list names them"))?)
        }
    };
    if args.clients == 0 || args.keys == 0 {
        bail!("a run has clients and keys");
    }
    let sink = match &args.trace_to {
        Some(path) => Sink::file(path).with_context(|| format!("trace file {}", path.display()))?,
        None if args.trace => Sink::Terminal(Filter::new(&args.trace_filter)),
        None => Sink::None,
    };
    let mut options = Options {
        seed: args.seed.unwrap_or(0),
        sink,
        mutant: mutant.map(|mutant| mutant.name),
        span: Duration::from_secs(args.span_s),
        clients: args.clients,
        keys: args.keys,
        scenario,
        schedule: None,
    };
    if let Some(Script { seed, span, clients, keys, schedule }) = read_script(args)? {
        options = Options { seed, span, clients, keys, schedule: Some(schedule), scenario: None, ..options };
    }
    Ok(options)
}

/// One run, in this process.
fn child(args: &Args) -> anyhow::Result<bool> {
    let system = system(&args.system)?;
    let options = options(args, &*system)?;
    let line = Line::from(run::run(system, options));
    println!("{}", serde_json::to_string(&line)?);
    Ok(line.violations.is_empty())
}

fn print_schedule(args: &Args) -> anyhow::Result<bool> {
    let system = system(&args.system)?;
    let options = options(args, &*system)?;
    let script =
        run::script(&*system, &options).context("this story is told step by step: it has no schedule")?;
    print!("{script}");
    Ok(true)
}
