//! A compaction of all that has any garbage worth the name, in the groups that this node leads: it ends when a look at them that began after it was asked
//! for finds no such slab.
//!
//! Garbage that is made meanwhile is compacted as well. What is still written, and what a writer may still commit into, is not waited for.

use super::{EstimateError, LOOK_EVERY, RunParts};
use crate::caretaker::{Hurried, Reclaimed};
use crate::jobs::{Cancelled, CompactReport, Estimate, Job, JobSpec, Report};
use std::sync::Arc;

/// The first walk that begins after now is this many after the last one: one may be under way.
const WALKS_LATER: u64 = 2;

pub(super) async fn run(parts: &RunParts, job: &Arc<Job>) -> Result<(), Cancelled> {
    let before = parts.caretaker.reclaimed();
    let _hurry = parts.caretaker.hurry(Hurried::Garbage, job);
    loop {
        job.checkpoint().await?;
        let Reclaimed { slabs, needles, bytes, look, .. } = parts.caretaker.reclaimed();
        let report = CompactReport {
            slabs: slabs - before.slabs,
            needles: needles - before.needles,
            bytes: bytes - before.bytes,
        };
        job.set_report(Report::Compact(report));
        let look = look.filter(|look| look.walk >= before.walks + WALKS_LATER);
        match look {
            Some(look) if look.worth == 0 && look.groups_unseen == 0 => {
                job.set_progress(report.slabs, report.slabs);
                return Ok(());
            }
            Some(look) => {
                job.set_progress(report.slabs, report.slabs + look.worth);
                match look.groups_unseen {
                    0 if parts.caretaker.may_compact() => job.go_on(),
                    0 => job.wait_for("the standing job compact, which is paused or ahead of its pace"),
                    groups => job.wait_for(format!("{groups} groups to say how much is alive")),
                }
            }
            None => job.wait_for("the first look at what is alive"),
        }
        job.rest(LOOK_EVERY).await?;
    }
}

pub(super) async fn estimate(parts: &RunParts, spec: JobSpec) -> Result<Estimate, EstimateError> {
    let reclaimable = parts.caretaker.reclaimable().await;
    match reclaimable.unseen {
        Some(group) => Err(EstimateError::Unseen { group }),
        None => {
            let (slabs, bytes) = (reclaimable.slabs, reclaimable.alive_bytes);
            Ok(Estimate { slabs, bytes, ..Estimate::none(spec) })
        }
    }
}
