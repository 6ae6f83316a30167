//! How fast a wiped node is whole again, beside raw streams of what that reads and writes.
//!
//! A cluster of real processes is filled and made cold. In each round one node is stopped and given a blank drive, and a repair run is begun as soon as it serves.
//! What the run made is known from the drive afterwards; k times as much was read from the drives of others. The raw side reads and writes as many bytes of the
//! same files, in turn with it, one after the other and at once. Where sources and target are drives of their own the slower of the two is what the machine
//! allows; where all lie on one disk, as here, they share it, and what both at once come to is.

use super::filled::{self, Stored};
use super::{lab, median};
use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use strongroom::demo::{harm, watch};
use strongroom::dev::Cluster;
use strongroom::jobs::{Kind, Report};
use strongroom_io::{AlignedBuffer, Class, Device, Operation};
use strongroom_types::units::MIB;

/// What was measured. Rates are 10^6 bytes a second of what was made again.
#[derive(Debug, Deserialize, Serialize)]
pub struct Rebuild {
    /// Bytes that were made again, by the median round.
    pub bytes: u64,
    /// Of each round: what raw reads allow, what raw writes allow, what both at once allow, the repair.
    pub rounds: Vec<[f64; 4]>,
    /// Medians of these.
    pub source_mb_per_s: f64,
    /// See above.
    pub target_mb_per_s: f64,
    /// See above.
    pub both_mb_per_s: f64,
    /// See above.
    pub repair_mb_per_s: f64,
    /// Median of the rounds' ratios of the repair to the slower of the two.
    pub ratio: f64,
    /// Median of the rounds' ratios of the repair to both at once.
    pub ratio_of_both: f64,
    /// CPU seconds of all nodes for 10^9 bytes made again.
    pub cpu_seconds_per_gb: f64,
}

/// Slices that a fragment is made from, in three zones of two nodes.
const DATA_COUNT: usize = 3;
/// Of a raw operation.
const RAW_LEN_BYTES: u64 = MIB;
/// Raw operations under way on each file.
const RAW_UNDER_WAY: u64 = 8;
/// Fills a cluster below `folder` with `mib` and measures.
pub async fn measure(program: &Path, folder: &Path, mib: u64, rounds: u32) -> anyhow::Result<Rebuild> {
    let mut cluster = filled::start(program, folder, mib, "").await?;
    Stored::fill(&cluster, mib).await?;
    let (mut figures, mut bytes, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    let node = cluster.nodes_of(3)[0];
    for _ in 0..rounds {
        let (made, seconds, cpu_seconds) = repair(&mut cluster, node).await?;
        let sources: Vec<PathBuf> = [cluster.nodes_of(1)[0], cluster.nodes_of(2)[0], cluster.nodes_of(3)[1]]
            .map(|source| cluster.processes.drive_path(source))
            .into();
        ensure!(sources.len() == DATA_COUNT, "as many sources as slices");
        let scratch = folder.join("raw.img");
        let rate = |seconds: f64| made as f64 / 1e6 / seconds;
        let (alone, written) = (read(&sources, made)?, write(&scratch, made).await?);
        let both = read_and_write(&sources, &scratch, made).await?;
        figures.push([alone, written, both, seconds].map(rate));
        bytes.push(made as f64);
        cpu.push(cpu_seconds * 1e9 / made as f64);
    }
    cluster.stop().await;
    let of = |place: usize| median(figures.iter().map(|figures| figures[place]));
    Ok(Rebuild {
        bytes: median(bytes.into_iter()) as u64,
        source_mb_per_s: of(0),
        target_mb_per_s: of(1),
        both_mb_per_s: of(2),
        repair_mb_per_s: of(3),
        ratio: median(figures.iter().map(|[source, target, _, repair]| repair / source.min(*target))),
        ratio_of_both: median(figures.iter().map(|[_, _, both, repair]| repair / both)),
        cpu_seconds_per_gb: median(cpu.into_iter()),
        rounds: figures,
    })
}

/// Wipes the node and has it repaired; gives bytes made, seconds since it served, CPU seconds of all nodes.
async fn repair(cluster: &mut Cluster, node: u64) -> anyhow::Result<(u64, f64, f64)> {
    // Nothing is made again before the clock runs.
    watch::order_standing(cluster, Kind::Repair, "pause").await?;
    harm::wipe(cluster, node).await?;
    let pids = filled::pids(cluster);
    let (begun, cpu) = (Instant::now(), crate::process::cpu_seconds(&pids)?);
    watch::order_standing(cluster, Kind::Repair, "resume").await?;
    let report = watch::run(cluster, node, Kind::Repair).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = crate::process::cpu_seconds(&pids)? - cpu;
    match report {
        Some(Report::Repair(report)) => {
            ensure!(report.slabs_below_last == 0, "a repair that left something is no rebuild: {report:?}")
        }
        other => bail!("a repair gave {other:?}"),
    }
    let status = cluster.processes.control(node).status().await?;
    Ok((status.drives.iter().map(|drive| drive.bytes_used).sum(), seconds, cpu))
}

/// Reads as many bytes of each of the files, side by side; gives seconds. The nodes have the files locked as drives, so this reads them as files, past the page
/// cache.
fn read(paths: &[PathBuf], bytes: u64) -> anyhow::Result<f64> {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let lanes = paths.iter().flat_map(|path| (0..RAW_UNDER_WAY).map(move |first| (path, first)));
        let lanes: Vec<_> =
            lanes.map(|(path, first)| scope.spawn(move || read_lane(path, first, bytes))).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().expect("a lane does not panic"))
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

fn read_lane(path: &Path, first: u64, bytes: u64) -> anyhow::Result<()> {
    let file = File::options().read(true).custom_flags(OFlag::O_DIRECT.bits()).open(path)?;
    let mut buffer = AlignedBuffer::zeroed(usize::try_from(RAW_LEN_BYTES)?);
    for place in (first..bytes / RAW_LEN_BYTES).step_by(usize::try_from(RAW_UNDER_WAY)?) {
        file.read_exact_at(&mut buffer, place * RAW_LEN_BYTES)?;
    }
    Ok(())
}

/// Reads and writes side by side; gives the seconds until both are done.
async fn read_and_write(sources: &[PathBuf], scratch: &Path, bytes: u64) -> anyhow::Result<f64> {
    let file = Scratch::make(scratch, bytes).await?;
    let begun = Instant::now();
    let reader = std::thread::spawn({
        let sources = sources.to_vec();
        move || read(&sources, bytes)
    });
    file.fill(bytes).await?;
    reader.join().expect("a reader does not panic")?;
    let seconds = begun.elapsed().as_secs_f64();
    file.remove()?;
    Ok(seconds)
}

/// Writes as many bytes to a new file, flushed at the end; gives seconds.
async fn write(scratch: &Path, bytes: u64) -> anyhow::Result<f64> {
    let file = Scratch::make(scratch, bytes).await?;
    let begun = Instant::now();
    file.fill(bytes).await?;
    let seconds = begun.elapsed().as_secs_f64();
    file.remove()?;
    Ok(seconds)
}

/// A file that is written raw, once it is there: making it writes all of it already, as a drive is made.
struct Scratch {
    path: PathBuf,
    device: Arc<dyn Device>,
}

impl Scratch {
    async fn make(path: &Path, bytes: u64) -> anyhow::Result<Self> {
        let device = lab::device(path, Some(bytes.next_multiple_of(RAW_LEN_BYTES))).await?;
        Ok(Self { path: path.to_owned(), device })
    }

    async fn fill(&self, bytes: u64) -> anyhow::Result<()> {
        write_all(&self.device, bytes).await?;
        self.device.submit(Operation::Flush, Class::Repair).await.result?;
        Ok(())
    }

    fn remove(self) -> anyhow::Result<()> {
        drop(self.device);
        std::fs::remove_file(&self.path).context("the file that was written raw")
    }
}

async fn write_all(device: &Arc<dyn Device>, bytes: u64) -> anyhow::Result<()> {
    let count = bytes.div_ceil(RAW_LEN_BYTES);
    let lane = |first: u64| async move {
        let mut buffer = AlignedBuffer::zeroed(usize::try_from(RAW_LEN_BYTES)?);
        for place in (first..count).step_by(usize::try_from(RAW_UNDER_WAY)?) {
            let write = Operation::Write { offset_bytes: place * RAW_LEN_BYTES, buffer };
            let completion = device.submit(write, Class::Repair).await;
            completion.result?;
            buffer = completion.buffer.context("the device gives buffers back")?;
        }
        anyhow::Ok(())
    };
    try_join_all((0..RAW_UNDER_WAY).map(lane)).await.map(drop)
}
