//! How fast a tour goes at full speed, beside a raw sequential read of the same bytes of the same device.

use super::lab::{self, EXTENT_LEN_BYTES, Filling};
use super::median;
use anyhow::{Context, ensure};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use strongroom::drive::Drive;
use strongroom::events::Events;
use strongroom::holder::Holder;
use strongroom::jobs::Jobs;
use strongroom::scrub::{Scrubber, ScrubberParts};
use strongroom_core::mutants::MutantSwitch;
use strongroom_io::{AlignedBuffer, Class, Device, Operation};
use strongroom_types::units::MIB;

/// What was measured. Rates are 10^6 bytes a second.
#[derive(Debug, Deserialize, Serialize)]
pub struct Scrub {
    /// Bytes that a tour reads.
    pub bytes: u64,
    /// Of each round: raw, scrub.
    pub rounds: Vec<[f64; 2]>,
    /// Median of a raw sequential read: 1 MiB each, sixteen under way.
    pub raw_mb_per_s: f64,
    /// Median of a tour.
    pub scrub_mb_per_s: f64,
    /// Median of the rounds' ratios of scrub to raw.
    pub ratio: f64,
    /// CPU seconds of this process for 10^9 bytes verified, by the median round.
    pub cpu_seconds_per_gb: f64,
}

/// Bytes of a slice: an eighth of a usual slab and a bit.
const SLICE_LEN_BYTES: u32 = 9 * MIB as u32;
/// Of a raw read.
const RAW_LEN_BYTES: u64 = MIB;
/// Raw reads under way: more make none of our devices faster.
const RAW_UNDER_WAY: u64 = 16;
/// The tour at the usual pace that goes on beside: so slow that it reads nothing.
const PERIOD: Duration = Duration::from_secs(365 * 86_400);
/// Between two looks at whether a tour is over.
const POLL: Duration = Duration::from_millis(2);

/// What the drive of [`measure`] holds.
pub fn filling(len_bytes: u64) -> Filling {
    let fragments = len_bytes.div_ceil(u64::from(SLICE_LEN_BYTES)).max(1);
    Filling {
        fragments: u32::try_from(fragments).unwrap_or(u32::MAX),
        slice_len_bytes: SLICE_LEN_BYTES,
        extent_len_bytes: EXTENT_LEN_BYTES,
    }
}

/// Reads and verifies the drive at `path`, in turn.
pub async fn measure(path: &Path, rounds: u32) -> anyhow::Result<Scrub> {
    let (env, device) = (lab::env().await?, lab::device(path, None).await?);
    let drive = Arc::new(Drive::open(device.clone(), lab::CLUSTER, &env, MutantSwitch::default()).await?);
    let space = drive.space();
    let holder = Holder::new([drive.clone()]);
    let events = Events::new(env.clock.clone());
    let jobs = Jobs::new(env.clock.clone(), events.clone());
    let scrubber = Scrubber::start(ScrubberParts { env, holder, period: PERIOD, jobs, events });
    let (mut figures, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let raw = raw(device.clone(), space.bytes_allocated).await?;
        let (cpu_before, before) = (crate::process::own_cpu_seconds(), scrubber.findings(drive.id()));
        let begun = Instant::now();
        scrubber.begin_now(drive.id(), None).context("its own drive")?;
        while scrubber.is_under_way(&drive) {
            tokio::time::sleep(POLL).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let after = scrubber.findings(drive.id());
        ensure!(after.fragments_bad == 0, "the drive has damage that nobody made: {after:?}");
        let verified = after.bytes_verified - before.bytes_verified;
        cpu.push((crate::process::own_cpu_seconds() - cpu_before) * 1e9 / verified as f64);
        figures.push([raw, verified as f64 / 1e6 / seconds]);
    }
    Ok(Scrub {
        bytes: space.bytes_used,
        raw_mb_per_s: median(figures.iter().map(|[raw, _]| *raw)),
        scrub_mb_per_s: median(figures.iter().map(|[_, scrub]| *scrub)),
        ratio: median(figures.iter().map(|[raw, scrub]| scrub / raw)),
        cpu_seconds_per_gb: median(cpu.into_iter()),
        rounds: figures,
    })
}

/// Reads the first `len_bytes` of the device in order; 10^6 bytes a second.
async fn raw(device: Arc<dyn Device>, len_bytes: u64) -> anyhow::Result<f64> {
    let (device, reads) = (&device, len_bytes / RAW_LEN_BYTES);
    let begun = Instant::now();
    let reader = |first: u64| async move {
        let mut buffer = AlignedBuffer::zeroed(RAW_LEN_BYTES as usize);
        for place in (first..reads).step_by(RAW_UNDER_WAY as usize) {
            let read = Operation::Read { offset_bytes: place * RAW_LEN_BYTES, buffer };
            let completion = device.submit(read, Class::Scrub).await;
            completion.result?;
            buffer = completion.buffer.context("the device gives buffers back")?;
        }
        anyhow::Ok(())
    };
    try_join_all((0..RAW_UNDER_WAY).map(reader)).await?;
    Ok((reads * RAW_LEN_BYTES) as f64 / 1e6 / begun.elapsed().as_secs_f64())
}
