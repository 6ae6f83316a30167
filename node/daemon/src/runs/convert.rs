//! A conversion of all that is sealed: it ends when every slab that was sealed or being sealed when it began is cold, or dead.

use super::{Looks, RunParts};
use crate::caretaker::Hurried;
use crate::jobs::{Cancelled, Estimate, Job, JobSpec};
use crate::limits::RUN_SLABS_MAX;
use crate::survey::SurveyError;
use std::collections::BTreeSet;
use std::sync::Arc;
use strongroom_types::{SlabId, SlabRecord, SlabState};

pub(super) async fn run(parts: &RunParts, job: &Arc<Job>) -> Result<(), Cancelled> {
    let _hurry = parts.caretaker.hurry(Hurried::Sealed, job);
    let (mut looks, mut done) = (Looks::of(parts, job), 0);
    loop {
        let look = looks.next(|targets: &mut BTreeSet<SlabId>, record, _| {
            if is_to_become_cold(record) && targets.len() < RUN_SLABS_MAX {
                targets.insert(record.slab);
            }
        });
        let (_, targets) = look.await?;
        let count = targets.len() as u64;
        job.set_progress(done, done + count);
        wait_until_cold(&mut looks, done, targets).await?;
        done += count;
        // Slabs that are sealed meanwhile are not waited for: there may be more and more of them.
        if count < RUN_SLABS_MAX as u64 {
            return Ok(());
        }
    }
}

async fn wait_until_cold(
    looks: &mut Looks<'_>,
    done: u64,
    targets: BTreeSet<SlabId>,
) -> Result<(), Cancelled> {
    let mut left = targets.len() as u64;
    let total = done + left;
    while left > 0 {
        let look = looks.next(|left: &mut u64, record, _| {
            *left += u64::from(is_to_become_cold(record) && targets.contains(&record.slab));
        });
        (_, left) = look.await?;
        looks.job.set_progress(total - left, total);
    }
    Ok(())
}

pub(super) async fn estimate(parts: &RunParts, spec: JobSpec) -> Result<Estimate, SurveyError> {
    let mut estimate = Estimate::none(spec);
    let look = parts.surveyor.look(|record, _| {
        if is_to_become_cold(record) {
            estimate.slabs += 1;
            estimate.bytes += record.sealed().map_or(0, |sealed| u64::from(sealed.len_bytes));
        }
    });
    look.await?;
    Ok(estimate)
}

/// Of one that is being sealed it is not known yet whether there is anything in it.
fn is_to_become_cold(record: &SlabRecord) -> bool {
    match &record.state {
        SlabState::Sealing => true,
        SlabState::Sealed(sealed) => sealed.rows > 0 && record.profile.is_copies(),
        SlabState::Open | SlabState::Dead => false,
    }
}
