//! `strongroom dev`.

use super::client_runtime;
use crate::dev::layout::{Plan, Shape};
use crate::dev::processes::Processes;
use crate::dev::{Cluster, Step};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use strongroom_env::real::OsRng;

/// Bring up a cluster of real processes on this machine and keep it running until Ctrl-C.
///
/// The folder is made at the first start; later starts find its data again. One zone's processes may be killed at any time: reads and writes go on.
#[derive(Args)]
pub struct Dev {
    /// The cluster's folder
    #[arg(long, default_value = "strongroom-dev")]
    dir: PathBuf,
    /// First port on 127.0.0.1: S3 there, each node's S3 behind it, peers from 100 behind it; 0 picks free ones
    #[arg(long, default_value_t = 9000)]
    base_port: u16,
    /// Bytes of each node's drive, for a new cluster
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    drive_len: u64,
    /// Nodes in each of the three zones, for a new cluster
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    nodes_per_zone: u8,
    /// Instead: add a node with a blank drive in this zone (1 to 3) to the cluster in the folder, which runs, and run it until Ctrl-C. The others are told
    /// nothing
    #[arg(long, value_name = "ZONE", value_parser = clap::value_parser!(u8).range(1..=i64::from(ZONES)))]
    add_node: Option<u8>,
    /// Print one line of JSON once it is up
    #[arg(long)]
    json: bool,
}

/// Zones of a cluster on one machine.
pub(super) const ZONES: u8 = 3;
/// Bytes of an extent: small, as the drives are.
pub(super) const EXTENT_LEN_BYTES: u32 = 1 << 20;
/// Data groups.
pub(super) const GROUPS: u16 = 4;
/// Slabs of 64 MiB, sealed after two minutes, cold two minutes later: so that something is to be seen.
const SLAB_SECTION: &str =
    "len_bytes_max = 67108864\nage_ms_max = 120000\nconvert_after_ms = 120000\nfree_after_ms = 10000";

pub(super) fn run(command: Dev) -> anyhow::Result<()> {
    client_runtime()?.block_on(stay(command))
}

/// Shows how far a cluster is on its way up.
pub(super) fn starting_bar(nodes: u64, quiet: bool) -> (ProgressBar, impl FnMut(Step)) {
    let bar = if quiet || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(nodes * 2)
            .with_style(ProgressStyle::with_template("starting {bar:40} {msg}").expect("a constant template"))
    };
    let shown = bar.clone();
    let told = move |step| {
        shown.inc(1);
        shown.set_message(match step {
            Step::Formatted(node) => format!("drive of node {node} is there"),
            Step::Ready(node) => format!("node {node} serves"),
            Step::Dismissed(node) => format!("node {node} was dismissed"),
        });
    };
    (bar, told)
}

/// Adds a node to a cluster that runs, and runs it.
async fn join(command: &Dev, zone: u8) -> anyhow::Result<()> {
    let plan = Plan::open(&command.dir)?;
    let mut processes = Processes::new(std::env::current_exe()?, &command.dir, plan);
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let node = processes.add_node(zone, &OsRng)?;
    processes.wait_ready(node.id).await?;
    let folder = processes.node_dir(node.id);
    if command.json {
        let told = serde_json::json!({
            "node": node.id,
            "zone": node.zone,
            "pid": processes.pid(node.id),
            "dir": folder,
            "control": folder.join("control.sock"),
            "endpoint": format!("http://{}", node.s3),
        });
        println!("{told}");
        std::io::stdout().flush()?;
    } else {
        println!(
            "node {} has joined in zone {}: S3 at http://{}, folder {}",
            node.id,
            node.zone,
            node.s3,
            folder.display()
        );
        println!("Ctrl-C stops it; the next `strongroom dev` starts it with the others.");
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    processes.stop_all().await;
    Ok(())
}

async fn stay(command: Dev) -> anyhow::Result<()> {
    if let Some(zone) = command.add_node {
        return join(&command, zone).await;
    }
    let shape = Shape {
        zones: ZONES,
        nodes_per_zone: command.nodes_per_zone,
        drive_len_bytes: command.drive_len,
        extent_len_bytes: EXTENT_LEN_BYTES,
        groups: GROUPS,
        base_port: command.base_port,
        slab_section: SLAB_SECTION.into(),
    };
    let program = std::env::current_exe()?;
    let nodes = u64::from(ZONES) * u64::from(command.nodes_per_zone);
    let (bar, told) = starting_bar(nodes, command.json);
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let cluster = Cluster::start(program, &command.dir, &shape, &OsRng, told).await?;
    bar.finish_and_clear();
    if command.json {
        println!("{}", serde_json::to_string(&describe(&cluster))?);
        std::io::stdout().flush()?;
    } else {
        show(&cluster, &command);
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if !command.json {
        println!("\nstopping; the data stays in {}", command.dir.display());
    }
    cluster.stop().await;
    Ok(())
}

fn describe(cluster: &Cluster) -> serde_json::Value {
    let plan = cluster.processes.plan();
    let nodes: Vec<serde_json::Value> = plan
        .nodes
        .iter()
        .map(|node| {
            serde_json::json!({
                "node": node.id,
                "zone": node.zone,
                "pid": cluster.processes.pid(node.id),
                "dir": cluster.processes.node_dir(node.id),
                "control": cluster.processes.node_dir(node.id).join("control.sock"),
                "endpoint": format!("http://{}", node.s3),
            })
        })
        .collect();
    serde_json::json!({
        "endpoint": cluster.endpoint(),
        "access_key": plan.access_key,
        "secret_key": plan.secret_key,
        "region": "us-east-1",
        "nodes": nodes,
    })
}

fn show(cluster: &Cluster, command: &Dev) {
    let plan = cluster.processes.plan();
    println!("S3 endpoint  {}", cluster.endpoint());
    println!("access key   {}", plan.access_key);
    println!("secret key   {}", plan.secret_key);
    println!("region       us-east-1\n");
    println!("node  zone      pid  S3                     folder");
    for node in &plan.nodes {
        let pid = cluster.processes.pid(node.id).unwrap_or(0);
        let folder = cluster.processes.node_dir(node.id);
        println!(
            "{:>4}  {:>4}  {pid:>7}  http://{:<15}  {}",
            node.id,
            node.zone,
            node.s3.to_string(),
            folder.display()
        );
    }
    println!("\nTry it:");
    println!("  export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}", plan.access_key, plan.secret_key);
    println!("  aws --endpoint-url {} --region us-east-1 s3 mb s3://mail", cluster.endpoint());
    println!("  strongroom status --control {}/node-1/control.sock", command.dir.display());
    println!("Ctrl-C stops it; the data stays.");
}
