//! `strongroom compact`.

use super::follow::begun;
use super::target::Target;
use super::{client_runtime, human_bytes};
use crate::control::client::Started;
use crate::control::jobs::StartJob;
use crate::jobs::{Estimate, Kind};
use clap::Args;

/// Have the space of deleted objects come back now.
///
/// Slabs that are mostly garbage are compacted without this command, once they are `slab.compact_after_ms` old: what is alive in them is copied elsewhere, and they
/// are freed. This has all slabs compacted that have any garbage worth the name, in the groups that the node leads; ask each node of the cluster for all of it.
/// Slabs that are still written are left alone.
#[derive(Args)]
pub struct CompactCommand {
    #[command(flatten)]
    target: Target,
    /// Only tell what would be compacted
    #[arg(long)]
    dry_run: bool,
    /// Follow it to its end; breaking off leaves it under way. Exit code 0 only if it is done
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

pub(super) fn run(command: &CompactCommand) -> anyhow::Result<()> {
    client_runtime()?.block_on(compact(command))
}

async fn compact(command: &CompactCommand) -> anyhow::Result<()> {
    let (target, client) = (&command.target, command.target.client());
    let asked = StartJob { kind: Kind::Compact, dry_run: command.dry_run, drive: None };
    match client.start(&asked).await? {
        Started::Would(estimate) => target.print(&estimate, show_estimate),
        Started::Begun(job) => begun(&client, target, &job, command.wait).await,
    }
}

fn show_estimate(estimate: &Estimate) {
    println!(
        "{} slabs would be compacted; {} in them would be copied",
        estimate.slabs,
        human_bytes(estimate.bytes)
    );
}
