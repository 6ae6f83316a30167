//! What a run found out, as a table and as JSON. README.md says what each figure means.

use super::client::Body;
use super::load::{Operation, PhaseDone};
use super::{Arguments, ClientKind, PayloadSignature};
use crate::machine::Machine;
use serde::Serialize;
use std::fmt;

/// A whole run.
#[derive(Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// What.
    pub workload: Workload,
    /// Results.
    pub rows: Vec<Row>,
}

/// What was written and how.
#[derive(Serialize)]
pub struct Workload {
    endpoints: Vec<String>,
    client: ClientKind,
    payload: PayloadSignature,
    threads: usize,
    /// `None` for real mail.
    seed: Option<u64>,
    bodies: usize,
    len_bytes_p50: usize,
    len_bytes_mean: usize,
    len_bytes_max: usize,
}

impl Workload {
    /// What `bodies`, of which there is at least one, look like.
    pub fn of(arguments: &Arguments, bodies: &[Body]) -> Self {
        let mut lens: Vec<usize> = bodies.iter().map(|body| body.bytes.len()).collect();
        lens.sort_unstable();
        Self {
            endpoints: arguments.server.endpoint.clone(),
            client: arguments.server.client,
            payload: arguments.server.payload,
            threads: arguments.threads,
            seed: arguments.mail.is_none().then_some(arguments.seed),
            bodies: lens.len(),
            len_bytes_p50: lens[lens.len() / 2],
            len_bytes_mean: lens.iter().sum::<usize>() / lens.len(),
            len_bytes_max: lens[lens.len() - 1],
        }
    }
}

/// What a phase cost.
pub struct Cost {
    /// CPU seconds of the server's processes.
    pub server_cpu_seconds: f64,
    /// CPU seconds of this one.
    pub client_cpu_seconds: f64,
    /// Peak memory of the server's processes since they started.
    pub server_memory_len_bytes: u64,
    /// Whether the server's processes were named.
    pub server_is_measured: bool,
    /// By how much the drives' used bytes grew.
    pub drive_len_bytes: Option<u64>,
}

/// One operation at one concurrency.
#[derive(Serialize)]
pub struct Row {
    operation: Operation,
    concurrency: usize,
    count: u64,
    len_bytes: u64,
    seconds: f64,
    per_second: f64,
    mb_per_second: f64,
    latency_ms_p50: f64,
    latency_ms_p99: f64,
    latency_ms_max: f64,
    server_cpu_seconds_per_gb: Option<f64>,
    server_cpu_us_per_request: Option<f64>,
    server_memory_len_bytes_peak: Option<u64>,
    client_cpu_seconds_per_gb: Option<f64>,
    client_cpu_us_per_request: f64,
    drive_bytes_per_byte: Option<f64>,
    busy_count: u64,
    /// Requests that failed for good.
    pub failed_count: u64,
    failures: Vec<String>,
}

impl Row {
    /// From what a phase did and cost.
    pub fn new(operation: Operation, concurrency: usize, done: &PhaseDone, cost: &Cost) -> Self {
        let count = done.latency_us.len();
        let seconds = done.duration.as_secs_f64();
        let gb = done.len_bytes as f64 / 1e9;
        // Nothing moves when objects are deleted.
        let by_gb = |cpu_seconds: f64| (operation != Operation::Delete && gb > 0.0).then(|| cpu_seconds / gb);
        let by_request = |cpu_seconds: f64| cpu_seconds * 1e6 / count.max(1) as f64;
        let measured = cost.server_is_measured.then_some(cost.server_cpu_seconds);
        let ms = |us: u64| us as f64 / 1e3;
        Self {
            operation,
            concurrency,
            count,
            len_bytes: done.len_bytes,
            seconds,
            per_second: count as f64 / seconds,
            mb_per_second: if operation == Operation::Delete { 0.0 } else { gb * 1e3 / seconds },
            latency_ms_p50: ms(done.latency_us.value_at_quantile(0.50)),
            latency_ms_p99: ms(done.latency_us.value_at_quantile(0.99)),
            latency_ms_max: ms(done.latency_us.max()),
            server_cpu_seconds_per_gb: measured.and_then(by_gb),
            server_cpu_us_per_request: measured.map(by_request),
            server_memory_len_bytes_peak: cost.server_is_measured.then_some(cost.server_memory_len_bytes),
            client_cpu_seconds_per_gb: by_gb(cost.client_cpu_seconds),
            client_cpu_us_per_request: by_request(cost.client_cpu_seconds),
            drive_bytes_per_byte: cost
                .drive_len_bytes
                .filter(|_| done.len_bytes > 0)
                .map(|len_bytes| len_bytes as f64 / done.len_bytes as f64),
            busy_count: done.busy_count,
            failed_count: done.failed_count,
            failures: done.failures.clone(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = &self.workload;
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "{} bodies: p50 {:.1} KiB, mean {:.1} KiB, longest {:.1} MiB; client {:?}, {} threads, payload {:?}",
            load.bodies,
            load.len_bytes_p50 as f64 / 1024.0,
            load.len_bytes_mean as f64 / 1024.0,
            load.len_bytes_max as f64 / (1024.0 * 1024.0),
            load.client,
            load.threads,
            load.payload
        )?;
        writeln!(
            f,
            "{:<7}{:>6}{:>9}{:>10}{:>9}{:>9}{:>9}{:>12}{:>12}{:>12}{:>12}{:>10}{:>9}{:>6}{:>7}",
            "",
            "in",
            "",
            "",
            "",
            "p50",
            "p99",
            "server CPU",
            "server CPU",
            "client CPU",
            "client CPU",
            "server",
            "on drive",
            "",
            ""
        )?;
        writeln!(
            f,
            "{:<7}{:>6}{:>9}{:>10}{:>9}{:>9}{:>9}{:>12}{:>12}{:>12}{:>12}{:>10}{:>9}{:>6}{:>7}",
            "",
            "flight",
            "requests",
            "per s",
            "MB/s",
            "ms",
            "ms",
            "s/GB",
            "us/request",
            "s/GB",
            "us/request",
            "peak MiB",
            "per byte",
            "503",
            "failed"
        )?;
        for row in &self.rows {
            let name = match row.operation {
                Operation::Put => "PUT",
                Operation::Get => "GET",
                Operation::Delete => "DELETE",
            };
            writeln!(
                f,
                "{name:<7}{:>6}{:>9}{:>10.1}{:>9}{:>9.2}{:>9.2}{:>12}{:>12}{:>12}{:>12.0}{:>10}{:>9}{:>6}{:>7}",
                row.concurrency,
                row.count,
                row.per_second,
                optional((row.operation != Operation::Delete).then_some(row.mb_per_second), 1),
                row.latency_ms_p50,
                row.latency_ms_p99,
                optional(row.server_cpu_seconds_per_gb, 2),
                optional(row.server_cpu_us_per_request, 0),
                optional(row.client_cpu_seconds_per_gb, 2),
                row.client_cpu_us_per_request,
                optional(
                    row.server_memory_len_bytes_peak.map(|len_bytes| len_bytes as f64 / (1 << 20) as f64),
                    0
                ),
                optional(row.drive_bytes_per_byte, 2),
                row.busy_count,
                row.failed_count
            )?;
        }
        for failure in self.rows.iter().flat_map(|row| &row.failures) {
            writeln!(f, "failed: {failure}")?;
        }
        Ok(())
    }
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}
