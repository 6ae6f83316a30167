//! `heal`: what scrub and repair take, beside what the machine allows.
//!
//! Each part runs in a process of its own, so that memory that one left behind is not counted for another. Drives are files in a folder that is made for the
//! run and removed after it; where the file system has no O_DIRECT it is refused, since the page cache would be measured.

mod filled;
mod foreground;
mod lab;
mod rebuild;
mod scrub;
mod start;

use self::lab::Filling;
use crate::machine::Machine;
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use strongroom::process::run_local;
use strongroom_types::units::MIB;

/// Scrub at full speed beside a raw read, the start of a drive with many fragments, a rebuild beside raw streams, and readers beside both.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where drives are made: a folder on the file system that is to be measured.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// MiB on the drive that is scrubbed.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u64).range(64..=1 << 24))]
    mib: u64,
    /// MiB of mail in the clusters of real processes.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=1 << 24))]
    cluster_mib: u64,
    /// Fragments on the drive that is started.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=4_000_000))]
    fragments: u32,
    /// Rounds; each does both sides once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The program that nodes are run from, built as it is shipped; as a default the one beside this program.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Only these.
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// One step of a part, in a process of its own.
    #[arg(long, hide = true, value_enum)]
    step: Option<Step>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A tour at full speed beside a raw sequential read of the same bytes.
    Scrub,
    /// Time and memory that a drive with many fragments takes to be opened.
    Start,
    /// A wiped node made whole again by a cluster, beside raw streams of what that reads and writes.
    Rebuild,
    /// Readers of a cluster beside tours and a rebuild, with the pacing and without.
    Foreground,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    MakeScrub,
    MeasureScrub,
    MakeStart,
    MeasureStart,
    MeasureRebuild,
    MeasureForeground,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    scrub: Option<scrub::Scrub>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<start::Start>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuild: Option<rebuild::Rebuild>,
    #[serde(skip_serializing_if = "Option::is_none")]
    foreground: Option<foreground::Foreground>,
}

/// Runs and prints it.
///
/// # Errors
/// A drive cannot be made or opened, or has damage that nobody made.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(step) = arguments.step {
        run_step(step, arguments)?;
        return Ok(ExitCode::SUCCESS);
    }
    let machine = Machine::here();
    let folder = tempfile::Builder::new()
        .prefix("strongroom-bench-")
        .tempdir_in(&arguments.dir)
        .with_context(|| format!("{}: no folder can be made there", arguments.dir.display()))?;
    let wanted = |part| arguments.part.is_empty() || arguments.part.contains(&part);
    let scrub =
        wanted(Part::Scrub).then(|| part(arguments, folder.path(), Step::MakeScrub, Step::MeasureScrub));
    let start =
        wanted(Part::Start).then(|| part(arguments, folder.path(), Step::MakeStart, Step::MeasureStart));
    let rebuild = wanted(Part::Rebuild).then(|| on_cluster(arguments, folder.path(), Step::MeasureRebuild));
    let foreground =
        wanted(Part::Foreground).then(|| on_cluster(arguments, folder.path(), Step::MeasureForeground));
    let report = Report {
        machine,
        scrub: scrub.transpose()?,
        start: start.transpose()?,
        rebuild: rebuild.transpose()?,
        foreground: foreground.transpose()?,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).context("a report as JSON")?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a drive, measures it, and removes it.
fn part<T: for<'de> Deserialize<'de>>(
    arguments: &Arguments,
    folder: &Path,
    make: Step,
    measure: Step,
) -> anyhow::Result<T> {
    child(arguments, folder, make)?;
    let figures = child(arguments, folder, measure)?;
    std::fs::remove_file(drive_path(folder))?;
    serde_json::from_slice(&figures).context("the figures of a step")
}

/// Measures on a cluster of its own.
fn on_cluster<T: for<'de> Deserialize<'de>>(
    arguments: &Arguments,
    folder: &Path,
    measure: Step,
) -> anyhow::Result<T> {
    let figures = child(arguments, folder, measure)?;
    serde_json::from_slice(&figures).context("the figures of a step")
}

fn child(arguments: &Arguments, folder: &Path, step: Step) -> anyhow::Result<Vec<u8>> {
    let step = step.to_possible_value().context("every step has a name")?;
    eprintln!("{} ..", step.get_name());
    let done = Command::new(std::env::current_exe()?)
        .args(["heal", "--step", step.get_name()])
        .args(["--mib", &arguments.mib.to_string()])
        .args(["--cluster-mib", &arguments.cluster_mib.to_string()])
        .args(["--fragments", &arguments.fragments.to_string()])
        .args(["--rounds", &arguments.rounds.to_string()])
        .args(arguments.program.iter().flat_map(|program| [OsStr::new("--program"), program.as_os_str()]))
        .arg("--dir")
        .arg(folder)
        .stderr(Stdio::inherit())
        .output()?;
    if !done.status.success() {
        bail!("{}: {}", step.get_name(), done.status);
    }
    Ok(done.stdout)
}

/// The program of the nodes: named, or beside this one.
fn program(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("strongroom");
    let program = arguments.program.clone().unwrap_or(beside);
    ensure!(
        program.is_file(),
        "{}: there is no such program; build it with cargo build --release -p strongroom, or name it with --program",
        program.display()
    );
    Ok(program)
}

fn drive_path(folder: &Path) -> PathBuf {
    folder.join("drive.img")
}

fn run_step(step: Step, arguments: &Arguments) -> anyhow::Result<()> {
    let path = drive_path(&arguments.dir);
    let make = |filling: Filling| {
        let path = path.clone();
        run_local(move || async move { lab::make(&path, filling).await })?
    };
    match step {
        Step::MakeScrub => make(scrub::filling(arguments.mib * MIB)),
        Step::MakeStart => make(start::filling(arguments.fragments)),
        Step::MeasureScrub => {
            let rounds = arguments.rounds;
            say(&run_local(move || async move { scrub::measure(&path, rounds).await })??)
        }
        Step::MeasureStart => say(&run_local(move || async move { start::measure(&path).await })??),
        Step::MeasureRebuild => {
            let (folder, program) = (arguments.dir.join("cluster"), program(arguments)?);
            let (mib, rounds) = (arguments.cluster_mib, arguments.rounds);
            say(&run_local(move || async move { rebuild::measure(&program, &folder, mib, rounds).await })??)
        }
        Step::MeasureForeground => {
            let (folder, program) = (arguments.dir.join("cluster"), program(arguments)?);
            let (mib, rounds) = (arguments.cluster_mib, arguments.rounds);
            say(&run_local(
                move || async move { foreground::measure(&program, &folder, mib, rounds).await },
            )??)
        }
    }
}

fn say(figures: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(figures)?);
    Ok(())
}

fn print(report: &Report) {
    println!("{}", report.machine);
    if let Some(scrub) = &report.scrub {
        println!(
            "scrub    {:.0} MB/s, {:.0} % of a raw sequential read ({:.0} MB/s); {:.3} CPU s/GB; {:.1} GB a tour",
            scrub.scrub_mb_per_s,
            scrub.ratio * 100.0,
            scrub.raw_mb_per_s,
            scrub.cpu_seconds_per_gb,
            scrub.bytes as f64 / 1e9
        );
    }
    if let Some(start) = &report.start {
        println!(
            "start    {} fragments in {:.2} s; {:.0} bytes of memory each, {:.0} at the most while it starts",
            start.fragments,
            start.seconds,
            start.memory_per_fragment_bytes,
            start.peak_memory_per_fragment_bytes
        );
    }
    if let Some(rebuild) = &report.rebuild {
        println!(
            "rebuild  {:.0} MB/s, {:.0} % of raw reads of its sources and raw writes at once ({:.0} MB/s), {:.0} % of the slower alone (reads {:.0} MB/s, writes {:.0} MB/s); {:.2} CPU s/GB",
            rebuild.repair_mb_per_s,
            rebuild.ratio_of_both * 100.0,
            rebuild.both_mb_per_s,
            rebuild.ratio * 100.0,
            rebuild.source_mb_per_s,
            rebuild.target_mb_per_s,
            rebuild.cpu_seconds_per_gb
        );
    }
    let sides =
        report.foreground.iter().flat_map(|both| [("paced", &both.paced), ("unpaced", &both.unpaced)]);
    for (name, side) in sides {
        println!(
            "readers  {name}: p99 {:.1} ms beside scrub and repair, {:.1} ms without ({:.2} times); {:.0} and {:.0} reads/s; {:.0} MB/s verified, {:.0} MB made again",
            side.busy_p99_ms,
            side.quiet_p99_ms,
            side.ratio,
            side.busy_per_s,
            side.quiet_per_s,
            side.scrub_mb_per_s,
            side.repaired_mb
        );
    }
}

/// The middle one, of which there is at least one.
fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
