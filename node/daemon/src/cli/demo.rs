//! `strongroom demo`.

use super::dev::{EXTENT_LEN_BYTES, GROUPS, ZONES, starting_bar};
use super::{client_runtime, human_bytes};
use crate::demo::clients::Progress;
use crate::demo::objects::Origin;
use crate::demo::{Count, Demo, Report, Show};
use crate::dev::Cluster;
use crate::dev::layout::Shape;
use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use strongroom_env::real::OsRng;

/// Bring up a cluster, store mail in it, kill a zone twice, wipe a node's drives, corrupt another's, and compare every byte each time.
///
/// Exit code 0 only if every byte of every message was equal at every comparison, and the scrub found every corrupted block.
#[derive(Args)]
pub struct DemoCommand {
    /// A folder of messages, a Maildir or an mbox; without it, mail is made up
    mail: Option<PathBuf>,
    /// How many messages are made up
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// The seed that they are made up from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Clients at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// The cluster's folder; it must not be there yet and is removed at the end
    #[arg(long, default_value = "strongroom-demo")]
    dir: PathBuf,
    /// Leave the folder there at the end
    #[arg(long)]
    keep: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Bytes of a demo node's drive at least.
const DRIVE_LEN_BYTES_MIN: u64 = 256 << 20;
/// Slabs of 32 MiB, sealed and converted when the demo says so.
const SLAB_SECTION: &str =
    "len_bytes_max = 33554432\nage_ms_max = 600000\nconvert_after_ms = 600000\nfree_after_ms = 1000";
/// Messages of the second batch, stored while a zone is gone, at most.
const SECOND_COUNT_MAX: u64 = 300;
/// A folder that a demo made has this file in it, and only such a folder is removed.
const MARKER: &str = "made-by-demo";

pub(super) fn run(command: DemoCommand) -> anyhow::Result<()> {
    let report = client_runtime()?.block_on(demo(&command))?;
    if command.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        table(&report);
    }
    if !report.differences.is_empty() {
        bail!("{} comparisons failed", report.differences.len());
    }
    Ok(())
}

async fn demo(command: &DemoCommand) -> anyhow::Result<Report> {
    let origin = match &command.mail {
        Some(path) => Origin::At(path.clone()),
        None => Origin::Generated { seed: command.seed, count: command.count },
    };
    let first = origin.mails("first")?;
    let second = origin.mails("second")?.take(SECOND_COUNT_MAX);
    make_folder(&command.dir)?;
    // Copies of everything and the erasure-coded form beside each other for a moment, in open slabs of every node, and room to breathe.
    let drive_len_bytes = (first.len_bytes() * 3).next_multiple_of(1 << 20).max(DRIVE_LEN_BYTES_MIN);
    let shape = Shape {
        zones: ZONES,
        nodes_per_zone: 2,
        drive_len_bytes,
        extent_len_bytes: EXTENT_LEN_BYTES,
        groups: GROUPS,
        base_port: 0,
        slab_section: SLAB_SECTION.into(),
    };
    let (bar, told) = starting_bar(u64::from(ZONES) * 2, command.json);
    let folder = command.dir.join("cluster");
    let cluster = Cluster::start(std::env::current_exe()?, &folder, &shape, &OsRng, told).await?;
    bar.finish_and_clear();
    let mut bars = Bars { quiet: command.json };
    let demo = Demo::begin(cluster, usize::from(command.clients), &mut bars).await?;
    let (report, cluster) = demo.run(first, second).await?;
    cluster.stop().await;
    if !command.keep {
        std::fs::remove_dir_all(&command.dir).with_context(|| command.dir.display().to_string())?;
    }
    Ok(report)
}

/// Makes the demo's folder, in the place of what an earlier demo may have left.
fn make_folder(dir: &Path) -> anyhow::Result<()> {
    if dir.join(MARKER).exists() {
        std::fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
    } else if dir.exists() {
        bail!(
            "{}: is there already and was not made by a demo; name another folder with --dir",
            dir.display()
        );
    }
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    std::fs::write(dir.join(MARKER), "").with_context(|| dir.display().to_string())
}

struct Bars {
    quiet: bool,
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn item(&self, _len_bytes: u64) {
        self.0.inc(1);
    }

    fn end(&self) {
        self.0.finish();
    }
}

impl Show for Bars {
    fn begin(&mut self, what: &str, items: Option<u64>) -> Box<dyn Progress> {
        if self.quiet || !std::io::stderr().is_terminal() {
            return Box::new(Bar(ProgressBar::hidden()));
        }
        let bar = match items {
            Some(items) => ProgressBar::new(items).with_style(
                ProgressStyle::with_template("{prefix:52} {bar:24} {pos}/{len} {per_sec} {eta}")
                    .expect("a constant template"),
            ),
            None => ProgressBar::new_spinner().with_style(
                ProgressStyle::with_template("{prefix:52} {spinner} {elapsed}").expect("a constant template"),
            ),
        };
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Box::new(Bar(bar))
    }
}

fn table(report: &Report) {
    println!("{:55} {:>9} {:>11} {:>9} {:>12}", "step", "messages", "bytes", "seconds", "rate");
    for step in &report.steps {
        let rate = match step.messages {
            0 => String::new(),
            _ => format!("{}/s", human_bytes((step.bytes as f64 / step.seconds.max(1e-9)) as u64)),
        };
        let bytes = human_bytes(step.bytes);
        println!("{:55} {:>9} {bytes:>11} {:>9.2} {rate:>12}", step.what, step.messages, step.seconds);
        let counts: Vec<String> =
            step.counts.iter().map(|Count { what, count }| format!("{count} {what}")).collect();
        if !counts.is_empty() {
            println!("    {}", counts.join(", "));
        }
    }
    println!("\n{} messages, {} stored", report.messages, human_bytes(report.bytes));
    println!(
        "bytes on drives per byte stored: {:.2} as copies, {:.2} erasure-coded",
        report.hot_bytes_per_byte, report.cold_bytes_per_byte
    );
    match report.differences.as_slice() {
        [] => println!("every byte of every message was equal, each time"),
        differences => {
            println!("DIFFERENCES:");
            for words in differences {
                println!("  {words}");
            }
        }
    }
}
