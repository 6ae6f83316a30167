//! Power cuts at every point of small workloads, with everything that a cut may leave of the writes that no flush covered: one drive by itself,
//! a seal over several holders, a conversion.
//!
//! Exhaustive as far as said in `images`; `STRONGROOM_CRASH_SEEDS=n` repeats what is drawn by seed n times. Not tried here: errors and rot together
//! with a cut (`faults`, `power`, `restart`), a drive that says it flushed and did not.

mod convert;
mod disk;
mod images;
mod one_drive;
mod seal;
mod told;

use self::disk::Recorded;
use super::support::{self, CLUSTER, TestClock};
use crate::drive::{Drive, OpenError};
use std::sync::Arc;
use strongroom_core::mutants::MutantSwitch;

async fn open(recorded: &Recorded) -> Result<(Drive, Arc<TestClock>), OpenError> {
    let (clock, env) = support::env();
    Ok((Drive::open(recorded.device(), CLUSTER, &env, MutantSwitch::NONE).await?, clock))
}

/// What is drawn by seed is drawn so often.
fn seeds() -> std::ops::Range<u64> {
    0..std::env::var("STRONGROOM_CRASH_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1)
}
