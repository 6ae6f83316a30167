//! `strongroom status`.

use super::{client_runtime, human_bytes};
use crate::control::client::ControlClient;
use crate::status::NodeStatus;
use clap::Args;
use std::path::PathBuf;

/// Show what a node is, has and sees, from its control socket
#[derive(Args)]
pub struct StatusCommand {
    /// The node's control socket
    #[arg(long, value_name = "SOCKET", default_value = "control.sock")]
    control: PathBuf,
    /// For machines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &StatusCommand) -> anyhow::Result<()> {
    let client = ControlClient::new(command.control.clone());
    let status = client_runtime()?.block_on(client.status())?;
    if command.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        show(&status);
    }
    Ok(())
}

fn show(status: &NodeStatus) {
    println!(
        "node {} in zone {}, strongroom {}, cluster {}",
        status.node, status.zone, status.version, status.cluster
    );
    match status.ready {
        true => println!("ready"),
        false => println!("NOT READY: {}", status.not_ready_because.join("; ")),
    }
    for alarm in &status.alarms {
        println!("ALARM: {alarm}");
    }
    for drive in &status.drives {
        println!(
            "drive {}  {} used of {} allocated of {}, {} fragments{}",
            drive.drive,
            human_bytes(drive.bytes_used),
            human_bytes(drive.bytes_allocated),
            human_bytes(drive.bytes_total),
            drive.fragments,
            if drive.writable { "" } else { ", TAKES NO NEW FRAGMENTS" }
        );
    }
    for peer in &status.peers {
        println!("peer {} in zone {}: {}", peer.node, peer.zone, if peer.up { "up" } else { "DOWN" });
    }
    for group in &status.groups {
        let leader = group.leader.map_or_else(|| String::from("none"), |leader| format!("node {leader}"));
        println!(
            "{:10} leader {leader}{}, term {}, log {}, applied {}, snapshot {}",
            group.group,
            if group.leads { " (this one)" } else { "" },
            group.term,
            group.last_log,
            group.applied,
            group.snapshot
        );
    }
    let slabs = &status.slabs;
    println!(
        "slabs of the groups led here: {} open, {} sealing, {} hot ({}), {} cold ({}), {} with fragments missing",
        slabs.open,
        slabs.sealing,
        slabs.hot,
        human_bytes(slabs.hot_image_bytes),
        slabs.cold,
        human_bytes(slabs.cold_image_bytes),
        slabs.deficit
    );
}
