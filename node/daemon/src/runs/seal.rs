//! A seal of what this node writes: it ends when every slab of the node that was open with something in it has its final length.

use super::{Looks, RunParts};
use crate::jobs::{Cancelled, Estimate, Job, JobSpec};
use crate::limits::RUN_OPEN_SLABS_MAX;
use crate::survey::SurveyError;
use std::collections::BTreeSet;
use strongroom_types::{NodeId, SlabId, SlabRecord, SlabState};

pub(super) async fn run(parts: &RunParts, job: &Job) -> Result<(), Cancelled> {
    let node = parts.node;
    let mut looks = Looks::of(parts, job);
    let targets: BTreeSet<SlabId> = loop {
        let (_, open) = looks.next(|open, record, _| note(open, record, node)).await?;
        match with_content(parts, open).await {
            Ok(filled) => break filled.iter().map(|record| record.slab).collect(),
            Err(error) => job.wait_for(error.to_string()),
        }
    };
    let total = targets.len() as u64;
    job.set_progress(0, total);
    parts.ingest.seal_all().await;
    let mut left = total;
    while left > 0 {
        let look = looks.next(|left: &mut u64, record, _| {
            let sealed = record.sealed().is_some();
            *left += u64::from(!sealed && targets.contains(&record.slab));
        });
        (_, left) = look.await?;
        job.set_progress(total - left, total);
    }
    Ok(())
}

pub(super) async fn estimate(parts: &RunParts, spec: JobSpec) -> Result<Estimate, SurveyError> {
    let mut open = Vec::new();
    parts.surveyor.look(|record, _| note(&mut open, record, parts.node)).await?;
    let slabs = with_content(parts, open).await?.len() as u64;
    Ok(Estimate { slabs, ..Estimate::none(spec) })
}

/// Notes an open slab that this node writes.
fn note(open: &mut Vec<SlabRecord>, record: &SlabRecord, node: NodeId) {
    let is_open = record.state == SlabState::Open && record.writer == node;
    if is_open && open.len() < RUN_OPEN_SLABS_MAX {
        open.push(record.clone());
    }
}

async fn with_content(parts: &RunParts, open: Vec<SlabRecord>) -> Result<Vec<SlabRecord>, SurveyError> {
    let mut filled = Vec::new();
    for record in open {
        if parts.surveyor.has_content(&record).await? {
            filled.push(record);
        }
    }
    Ok(filled)
}
