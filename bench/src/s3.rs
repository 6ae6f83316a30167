//! `s3`: a mail store's load on any S3 server.
//!
//! For each concurrency, objects are written, read back with every byte compared, and deleted. Bodies, their checksums and keys
//! are made before the clock starts.

pub mod client;
mod lean;
pub mod load;
mod report;

#[cfg(test)]
mod tests;

use crate::limits;
use crate::machine::Machine;
use crate::{control, process};
use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use client::{Body, Target};
use load::{Operation, Phase, PhaseEnd};
use report::{Report, Row, Workload};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use strongroom::mail::{MailSource, generate};

/// Which client makes the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientKind {
    /// hyper and aws-sigv4, one connection a request in flight: costs little, so that the server is what is measured.
    Lean,
    /// aws-sdk-s3 as applications use it, with its own checksums.
    Sdk,
}

/// What the signature says about the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadSignature {
    /// Its SHA-256, which the server has to check.
    Sha256,
    /// Nothing.
    Unsigned,
}

/// An S3 server, and how it is talked to.
#[derive(Debug, clap::Args)]
pub struct Server {
    /// Where the server is; several are used in turn.
    #[arg(long, required = true, value_delimiter = ',')]
    pub endpoint: Vec<String>,
    /// The key's id.
    #[arg(long)]
    pub access_key: String,
    /// The key.
    #[arg(long)]
    pub secret_key: String,
    /// The region that requests are signed for.
    #[arg(long, default_value = "us-east-1")]
    pub region: String,
    /// Made if it is not there; left behind.
    #[arg(long, default_value = "strongroom-bench")]
    pub bucket: String,
    /// Which client makes the requests.
    #[arg(long, value_enum, default_value = "lean")]
    pub client: ClientKind,
    /// What the lean client's signature says about the body.
    #[arg(long, value_enum, default_value = "sha256")]
    pub payload: PayloadSignature,
}

/// PUT, GET and DELETE a mail store's objects on any S3 server.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Requests in flight, one round for each.
    #[arg(long, value_delimiter = ',', default_values_t = [1usize, 16, 64])]
    concurrency: Vec<usize>,
    /// Objects in each round. Default 2000, or as many as --seconds allows.
    #[arg(long)]
    count: Option<u64>,
    /// Seconds that writing, and then reading, goes on in each round.
    #[arg(long)]
    seconds: Option<u64>,
    /// What the generated mail comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Distinct bodies; objects beyond them repeat bodies under other keys.
    #[arg(long, default_value_t = limits::BODIES_DEFAULT)]
    bodies: u64,
    /// Leave out mail that is longer.
    #[arg(long)]
    len_bytes_max: Option<usize>,
    /// Real mail instead: a folder, a Maildir or an mbox.
    #[arg(long)]
    mail: Option<PathBuf>,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Processes of the server, on this machine, whose CPU time and memory are counted.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    /// Control sockets of the Strongroom nodes, to count bytes on drives.
    #[arg(long, value_delimiter = ',')]
    control: Vec<PathBuf>,
    /// Do not delete what was written.
    #[arg(long)]
    keep: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs and prints it. The exit code is 1 when a request failed or a byte was wrong.
///
/// # Errors
/// When the arguments cannot be used or the server cannot be reached at all.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    check(arguments)?;
    let machine = Machine::here();
    let target = Arc::new(Target::new(&arguments.server)?);
    let bodies: Arc<[Body]> = bodies(arguments)?.into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    runtime.block_on(client::ensure_bucket(&target)).context("making the bucket")?;
    // Runs do not meet each other's keys, and the name is no secret.
    let run_name = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    let mut rows = Vec::new();
    for &concurrency in &arguments.concurrency {
        let prefix = format!("run-{run_name:x}/{concurrency}");
        let stop = !round(arguments, &target, &bodies, &runtime, &prefix, concurrency, &mut rows)?;
        if stop {
            break;
        }
    }
    let report = Report { machine, workload: Workload::of(arguments, &bodies), rows };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).context("a report as JSON")?);
    } else {
        print!("{report}");
    }
    let failed = report.rows.iter().any(|row| row.failed_count > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Writes, reads and deletes at one concurrency. False when so much failed that going on says nothing.
fn round(
    arguments: &Arguments,
    target: &Arc<Target>,
    bodies: &Arc<[Body]>,
    runtime: &tokio::runtime::Runtime,
    prefix: &str,
    concurrency: usize,
    rows: &mut Vec<Row>,
) -> anyhow::Result<bool> {
    let drives = || {
        let asked = (!arguments.control.is_empty())
            .then(|| runtime.block_on(control::drive_bytes_used(&arguments.control)));
        asked.and_then(|asked| {
            asked.inspect_err(|error| eprintln!("strongroom-bench: {error}; column left out")).ok()
        })
    };
    let put_end = match (arguments.seconds, arguments.count) {
        (None, count) => PhaseEnd { count: count.unwrap_or(limits::BODIES_DEFAULT), after: None },
        (Some(seconds), count) => PhaseEnd {
            count: count.unwrap_or(limits::OBJECTS_MAX),
            after: Some(Duration::from_secs(seconds)),
        },
    };
    let mut stored: Arc<[u64]> = Arc::new([]);
    for operation in [Operation::Put, Operation::Get, Operation::Delete] {
        if operation == Operation::Delete && arguments.keep {
            break;
        }
        let end = match (operation, arguments.seconds) {
            (Operation::Put, _) => put_end,
            // Reading goes round until its time is up; deleting takes what there is.
            (Operation::Get, Some(seconds)) => {
                PhaseEnd { count: limits::OBJECTS_MAX, after: Some(Duration::from_secs(seconds)) }
            }
            (Operation::Get | Operation::Delete, _) => PhaseEnd { count: stored.len() as u64, after: None },
        };
        let phase = Phase {
            operation,
            concurrency,
            threads: arguments.threads.min(concurrency),
            end,
            prefix: prefix.to_owned(),
            target: target.clone(),
            bodies: bodies.clone(),
            stored: stored.clone(),
        };
        let server_cpu = process::cpu_seconds(&arguments.pids)?;
        let own_cpu = process::own_cpu_seconds();
        let drive_bytes = if operation == Operation::Put { drives() } else { None };
        let done = load::run(phase)?;
        let cost = report::Cost {
            server_cpu_seconds: process::cpu_seconds(&arguments.pids)? - server_cpu,
            client_cpu_seconds: process::own_cpu_seconds() - own_cpu,
            server_memory_len_bytes: process::peak_memory_len_bytes(&arguments.pids)?,
            server_is_measured: !arguments.pids.is_empty(),
            drive_len_bytes: drive_bytes.and_then(|before| Some(drives()?.saturating_sub(before))),
        };
        if operation == Operation::Put {
            stored = done.stored.clone().into();
        }
        let given_up = done.failed_count >= limits::FAILURES_MAX;
        rows.push(Row::new(operation, concurrency, &done, &cost));
        if given_up || (operation == Operation::Put && stored.is_empty()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check(arguments: &Arguments) -> anyhow::Result<()> {
    let concurrency_max = limits::CONCURRENCY_MAX;
    ensure!(
        arguments.concurrency.iter().all(|count| (1..=concurrency_max).contains(count)),
        "--concurrency: expected 1 to {concurrency_max}"
    );
    ensure!(
        (1..=limits::THREADS_MAX).contains(&arguments.threads),
        "--threads: expected 1 to {}",
        limits::THREADS_MAX
    );
    let count_max = limits::OBJECTS_MAX;
    ensure!(
        arguments.count.is_none_or(|count| (1..=count_max).contains(&count)),
        "--count: expected 1 to {count_max}"
    );
    ensure!(
        arguments.seconds.is_none_or(|seconds| (1..=86_400).contains(&seconds)),
        "--seconds: expected 1 to 86400"
    );
    ensure!(arguments.bodies >= 1, "--bodies: expected at least 1");
    Ok(())
}

/// What is written, made before the clock starts.
fn bodies(arguments: &Arguments) -> anyhow::Result<Vec<Body>> {
    let wanted =
        arguments.count.unwrap_or(limits::BODIES_DEFAULT.max(arguments.bodies)).min(arguments.bodies);
    let wanted = usize::try_from(wanted).context("--bodies")?;
    let fits =
        |bytes: &Bytes| arguments.len_bytes_max.is_none_or(|len_bytes_max| bytes.len() <= len_bytes_max);
    match &arguments.mail {
        Some(path) => {
            let mails = MailSource::open(path)?.map(|mail| Ok(mail?.bytes));
            kept(mails.filter(|bytes| bytes.as_ref().map_or(true, fits)), wanted)
        }
        None => generated(arguments.seed, wanted, fits),
    }
}

/// So many generated mails that `fits` takes.
///
/// # Errors
/// It takes none, or they do not fit into memory.
pub fn generated(seed: u64, wanted: usize, fits: impl Fn(&Bytes) -> bool) -> anyhow::Result<Vec<Body>> {
    // One mail in a million may be left out by the filter; a filter that leaves out all of them must not go on for ever.
    let mails = generate(seed, wanted as u64 * 100).map(|mail| mail.bytes).filter(fits);
    kept(mails.map(Ok), wanted)
}

fn kept(mails: impl Iterator<Item = anyhow::Result<Bytes>>, wanted: usize) -> anyhow::Result<Vec<Body>> {
    let mut bodies: Vec<Body> = Vec::new();
    let mut total_len_bytes = 0;
    for bytes in mails.take(wanted) {
        let bytes = bytes?;
        total_len_bytes += bytes.len() as u64;
        ensure!(
            total_len_bytes <= limits::BODIES_LEN_BYTES_MAX,
            "the bodies do not fit into memory: lower --bodies"
        );
        bodies.push(Body { sha256: hex(&Sha256::digest(&bytes)), bytes });
    }
    ensure!(!bodies.is_empty(), "no mail is as short as --len-bytes-max asks for");
    Ok(bodies)
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all that is written");
        text
    })
}
