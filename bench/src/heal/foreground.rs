//! How long readers wait while everything is scrubbed at full speed and a wiped node is made whole, with the pacing and without.
//!
//! In each round reads go on twice for as long: with nothing beside them, and with tours of all drives that follow each other and the repair of a node whose drive
//! was wiped just before. The wiped node serves by then, so in the second half some reads are made from other slices too: that is part of what readers feel.

use super::filled::{self, Stored};
use super::median;
use crate::s3::load::{Operation, PhaseDone, PhaseEnd};
use anyhow::{bail, ensure};
use futures::future::{Either, select, select_all};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use strongroom::demo::{harm, watch};
use strongroom::dev::Cluster;
use strongroom::jobs::{Kind, Report};

/// What was measured.
#[derive(Debug, Deserialize, Serialize)]
pub struct Foreground {
    /// As nodes are configured by themselves: background work yields to readers.
    pub paced: Side,
    /// With `yield_to_foreground = false`.
    pub unpaced: Side,
}

/// With the pacing, or without. Times are milliseconds.
#[derive(Debug, Deserialize, Serialize)]
pub struct Side {
    /// Of each round: p99 with nothing beside, p99 beside scrub and repair.
    pub rounds: Vec<[f64; 2]>,
    /// Medians of the rounds.
    pub quiet_p99_ms: f64,
    /// See above.
    pub busy_p99_ms: f64,
    /// Median of the rounds' ratios of busy to quiet.
    pub ratio: f64,
    /// Reads a second, medians.
    pub quiet_per_s: f64,
    /// See above.
    pub busy_per_s: f64,
    /// Bytes that tours verified beside the reads, 10^6 a second: median.
    pub scrub_mb_per_s: f64,
    /// Bytes that repairs made again in all rounds, in 10^6.
    pub repaired_mb: f64,
}

/// Reads in flight: a mail server's few, so that the reader does not take the machine for itself.
const READERS: usize = 4;
/// How long each half of a round reads.
const READ_FOR: Duration = Duration::from_secs(8);

/// Fills two clusters below `folder`, one after the other, with `mib` each, and measures.
pub async fn measure(program: &Path, folder: &Path, mib: u64, rounds: u32) -> anyhow::Result<Foreground> {
    let paced = side(program, &folder.join("paced"), mib, rounds, "").await?;
    let pacing_off = "[background]\nyield_to_foreground = false";
    let unpaced = side(program, &folder.join("unpaced"), mib, rounds, pacing_off).await?;
    Ok(Foreground { paced, unpaced })
}

async fn side(program: &Path, folder: &Path, mib: u64, rounds: u32, more: &str) -> anyhow::Result<Side> {
    let mut cluster = filled::start(program, folder, mib, more).await?;
    let stored = Stored::fill(&cluster, mib).await?;
    let (mut quiet, mut busy, mut scrubbed, mut repaired) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        quiet.push(read(&stored).await?);
        watch::order_standing(&cluster, Kind::Repair, "pause").await?;
        let node = cluster.nodes_of(3)[0];
        harm::wipe(&mut cluster, node).await?;
        watch::order_standing(&cluster, Kind::Repair, "resume").await?;
        let before = verified(&cluster).await?;
        let reading = pin!(read(&stored));
        let done = match select(reading, pin!(scrub_ever(&cluster))).await {
            Either::Left((done, _)) => done?,
            Either::Right((Err(error), _)) => return Err(error),
        };
        let bytes = verified(&cluster).await?.saturating_sub(before);
        scrubbed.push(bytes as f64 / 1e6 / done.duration.as_secs_f64());
        busy.push(done);
        repaired += repair(&cluster, node).await?;
    }
    cluster.stop().await;
    std::fs::remove_dir_all(folder)?;
    let p99 = |done: &PhaseDone| done.latency_us.value_at_quantile(0.99) as f64 / 1e3;
    let per_s = |done: &PhaseDone| done.latency_us.len() as f64 / done.duration.as_secs_f64();
    let rounds: Vec<[f64; 2]> =
        quiet.iter().zip(&busy).map(|(quiet, busy)| [p99(quiet), p99(busy)]).collect();
    Ok(Side {
        quiet_p99_ms: median(rounds.iter().map(|[quiet, _]| *quiet)),
        busy_p99_ms: median(rounds.iter().map(|[_, busy]| *busy)),
        ratio: median(rounds.iter().map(|[quiet, busy]| busy / quiet)),
        quiet_per_s: median(quiet.iter().map(per_s)),
        busy_per_s: median(busy.iter().map(per_s)),
        scrub_mb_per_s: median(scrubbed.into_iter()),
        repaired_mb: repaired as f64 / 1e6,
        rounds,
    })
}

async fn read(stored: &Stored) -> anyhow::Result<PhaseDone> {
    let end = PhaseEnd { count: u64::MAX, after: Some(READ_FOR) };
    stored.phase(Operation::Get, READERS, end).await
}

/// Has every node verify its drives, one tour after the other, until it is dropped.
async fn scrub_ever(cluster: &Cluster) -> anyhow::Result<std::convert::Infallible> {
    let tours = cluster.processes.plan().nodes.iter().map(|node| async move {
        loop {
            if let Err(error) = watch::run(cluster, node.id, Kind::Scrub).await {
                return anyhow::Error::from(error);
            }
        }
    });
    let (error, ..) = select_all(tours.map(Box::pin)).await;
    Err(error)
}

/// Bytes that all nodes have verified since they were started.
async fn verified(cluster: &Cluster) -> anyhow::Result<u64> {
    let all = watch::statuses(cluster).await?;
    Ok(all.iter().flat_map(|status| &status.drives).map(|drive| drive.scrub.bytes_verified).sum())
}

/// Waits until nothing is below its full margin; gives the bytes on the drive that was blank.
async fn repair(cluster: &Cluster, node: u64) -> anyhow::Result<u64> {
    match watch::run(cluster, node, Kind::Repair).await? {
        Some(Report::Repair(report)) => {
            ensure!(report.slabs_below_last == 0, "a repair left something: {report:?}")
        }
        other => bail!("a repair gave {other:?}"),
    }
    let status = cluster.processes.control(node).status().await?;
    Ok(status.drives.iter().map(|drive| drive.bytes_used).sum())
}
