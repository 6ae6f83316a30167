//! `strongroom repair`.

use super::follow::begun;
use super::target::Target;
use super::{client_runtime, human_bytes};
use crate::control::client::Started;
use crate::control::jobs::StartJob;
use crate::jobs::{Estimate, Kind};
use clap::Args;

/// Have everything made again that is lost, and be told when nothing is.
///
/// Lost fragments are made again without this command; it has the node it is given to hurry, and ends only when the slab tables of all groups, asked
/// linearizably, show no slab that lacks a fragment. What is away with a node that is down is waited for until it is back, or made again once the node
/// was silent for `slab.repair_after_ms`. The job's report (`--json`, or `strongroom jobs show`) can be kept.
#[derive(Args)]
pub struct RepairCommand {
    #[command(flatten)]
    target: Target,
    /// Only tell what is lost and would be made again
    #[arg(long)]
    dry_run: bool,
    /// Follow it to its end; breaking off leaves it under way. Exit code 0 only if it is done
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

pub(super) fn run(command: &RepairCommand) -> anyhow::Result<()> {
    client_runtime()?.block_on(repair(command))
}

async fn repair(command: &RepairCommand) -> anyhow::Result<()> {
    let (target, client) = (&command.target, command.target.client());
    let asked = StartJob { kind: Kind::Repair, dry_run: command.dry_run, drive: None };
    match client.start(&asked).await? {
        Started::Would(estimate) => target.print(&estimate, show_estimate),
        Started::Begun(job) => begun(&client, target, &job, command.wait).await,
    }
}

fn show_estimate(estimate: &Estimate) {
    println!(
        "{} slabs lack fragments; {} fragments ({}) would be made again; {} more are away and may come back",
        estimate.slabs,
        estimate.fragments,
        human_bytes(estimate.bytes),
        estimate.fragments_away
    );
}
