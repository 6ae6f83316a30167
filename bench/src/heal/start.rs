//! How long a drive takes to be opened, and how much memory each of its fragments takes from then on.

use super::lab::{self, Filling};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;
use strongroom::drive::Drive;
use strongroom_core::mutants::MutantSwitch;

/// What was measured.
#[derive(Debug, Deserialize, Serialize)]
pub struct Start {
    /// Cold fragments on the drive.
    pub fragments: u64,
    /// From the open device to a drive that answers.
    pub seconds: f64,
    /// Fragments in a second.
    pub fragments_per_second: f64,
    /// Bytes of memory that this process had more than before, by fragment, once the drive answered.
    pub memory_per_fragment_bytes: f64,
    /// The same at the most while it was opened.
    pub peak_memory_per_fragment_bytes: f64,
}

/// Bytes of a slice: what is long in a fragment is not read at a start.
const SLICE_LEN_BYTES: u32 = 8192;
/// The shortest extents there are: as many fragments as can be on as little of a drive as can be.
const EXTENT_LEN_BYTES: u32 = 262_144;

/// What the drive of [`measure`] holds.
pub fn filling(fragments: u32) -> Filling {
    Filling { fragments, slice_len_bytes: SLICE_LEN_BYTES, extent_len_bytes: EXTENT_LEN_BYTES }
}

/// Opens the drive at `path`, in a process that has done nothing else.
pub async fn measure(path: &Path) -> anyhow::Result<Start> {
    let (env, device) = (lab::env().await?, lab::device(path, None).await?);
    let before = memory("VmRSS")?;
    let begun = Instant::now();
    let drive = Drive::open(device, lab::CLUSTER, &env, MutantSwitch::default()).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let fragments = drive.space().fragments;
    let each = |bytes: u64| bytes.saturating_sub(before) as f64 / fragments as f64;
    Ok(Start {
        fragments,
        seconds,
        fragments_per_second: fragments as f64 / seconds,
        memory_per_fragment_bytes: each(memory("VmRSS")?),
        peak_memory_per_fragment_bytes: each(memory("VmHWM")?),
    })
}

fn memory(field: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let value = crate::machine::field(&status, field).context("a line of /proc/self/status")?;
    let kib = value.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    Ok(kib.context("a number of kB")? * 1024)
}
