//! `strongroom scrub`.

use super::follow::begun;
use super::status::verified;
use super::target::Target;
use super::{client_runtime, human_bytes};
use crate::control::client::Started;
use crate::control::jobs::StartJob;
use crate::jobs::{DriveName, Estimate, Kind};
use crate::status::DriveStatus;
use clap::Args;

/// Show how far a node's drives are verified, or verify them now.
///
/// Every drive is read from end to end and compared with its checksums without this command, once in `background.scrub_period_ms`. With `--now` a new
/// tour of each begins at once and goes as fast as the drive does, while users have their way. It ends once everything was read that was there when it was
/// asked for, and the slab table knows of everything that is damaged; that is made again then, and `strongroom repair --wait` tells when.
#[derive(Args)]
pub struct ScrubCommand {
    #[command(flatten)]
    target: Target,
    /// Verify everything now, at full speed
    #[arg(long)]
    now: bool,
    /// Only this drive of the node: its id as `strongroom status` shows it
    #[arg(long, value_name = "ID", value_parser = parse_drive)]
    drive: Option<DriveName>,
    /// Only tell what would be read
    #[arg(long, requires = "now", conflicts_with = "wait")]
    dry_run: bool,
    /// Follow it to its end; breaking off leaves it under way. Exit code 0 only if it is done
    #[arg(long, requires = "now")]
    wait: bool,
}

fn parse_drive(text: &str) -> Result<DriveName, String> {
    DriveName::try_from(text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn run(command: &ScrubCommand) -> anyhow::Result<()> {
    client_runtime()?.block_on(scrub(command))
}

async fn scrub(command: &ScrubCommand) -> anyhow::Result<()> {
    let (target, client) = (&command.target, command.target.client());
    if !command.now {
        let drives = match command.drive {
            None => client.get("/v1/drives").await?,
            Some(drive) => vec![client.get::<DriveStatus>(&format!("/v1/drives/{drive}")).await?],
        };
        return target.print(&drives, |drives| drives.iter().for_each(show));
    }
    let asked = StartJob { kind: Kind::Scrub, dry_run: command.dry_run, drive: command.drive };
    match client.start(&asked).await? {
        Started::Would(estimate) => target.print(&estimate, show_estimate),
        Started::Begun(job) => begun(&client, target, &job, command.wait).await,
    }
}

fn show(drive: &DriveStatus) {
    println!("drive {}  {}", drive.drive, verified(&drive.scrub));
}

fn show_estimate(estimate: &Estimate) {
    println!("{} fragments ({}) would be read", estimate.fragments, human_bytes(estimate.bytes));
}
