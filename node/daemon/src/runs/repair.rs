//! A repair of all that is lost: it ends when a linearizable look at the slab tables of all groups finds no slab that lacks a fragment.
//!
//! What counts as lacking: fragments of sealed slabs that the table has as missing, those on drives that are gone, and those of nodes that are silent, which
//! may come back; and open slabs with something in them of which a holder is not there, since what was written is only whole again once they are cold.
//! A node's silence is noticed after a moment; so every node that holds something must have answered since the run began, before it is done.
//! Leaders' caretakers do the work. This node's own hurry; those of other nodes come to it in their own time.

use super::{Looks, RunParts};
use crate::caretaker::Hurried;
use crate::jobs::{Cancelled, Estimate, Job, JobSpec, RepairReport, Report};
use crate::limits::{RUN_FRAGMENTS_MAX, RUN_OPEN_SLABS_MAX};
use crate::status::SlabSurvey;
use crate::survey::{Condition, SurveyError, fragment_len_bytes};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use strongroom_core::FragmentSet;
use strongroom_types::{FragmentIndex, Generation, NodeId, SlabId, SlabRecord, SlabState};

/// Fragments that are lacking, and what each was made under.
type Lacking = BTreeMap<(SlabId, FragmentIndex), Generation>;

/// What one look has seen.
#[derive(Default)]
struct Seen {
    lacking: Lacking,
    /// What became of fragments that were lacking at the look before.
    resolved: BTreeMap<(SlabId, FragmentIndex), Resolved>,
    /// Nodes that the tables name as holders.
    holders: BTreeSet<NodeId>,
    /// Nodes that fragments are away with.
    away: BTreeSet<NodeId>,
    /// Open slabs of which a holder is not there.
    open_short: Vec<SlabRecord>,
    /// How many there are in all.
    open_short_count: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Resolved {
    MadeAgain { bytes: u64 },
    Back,
}

pub(super) async fn run(parts: &RunParts, job: &Arc<Job>) -> Result<(), Cancelled> {
    let begun = parts.env.clock.now();
    let _hurry = parts.caretaker.hurry(Hurried::Short, job);
    parts.caretaker.retry_repairs();
    // Once: a slab that lacks a holder is rolled by its writer at the next row, and there may be none.
    parts.ingest.seal_all().await;
    let (mut looks, mut ledger) = (Looks::of(parts, job), Ledger::default());
    loop {
        let before = &ledger.lacking;
        let look = looks.next(|seen: &mut Seen, record, condition| seen.add(record, condition, before));
        let (survey, seen) = look.await?;
        let (holders, away) = (seen.holders.clone(), seen.away.clone());
        let (open_short, unasked) = (seen.open_short.clone(), seen.open_short_count > RUN_OPEN_SLABS_MAX);
        ledger.note(&survey, seen);
        job.set_progress(ledger.done, ledger.done + ledger.lacking.len() as u64);
        job.set_report(Report::Repair(ledger.report.clone()));
        let unheard: Vec<NodeId> = parts.surveyor.monitor().unheard_since(begun);
        let unheard: Vec<NodeId> = unheard.into_iter().filter(|node| holders.contains(node)).collect();
        match open_with_content(parts, &open_short).await {
            Ok(filled) => {
                let is_whole = survey.counts.deficit == 0;
                if is_whole && filled.is_empty() && !unasked && unheard.is_empty() {
                    return Ok(());
                }
                say_what_for(job, &survey, &filled, &away, &unheard);
            }
            Err(error) => job.wait_for(error.to_string()),
        }
    }
}

pub(super) async fn estimate(parts: &RunParts, spec: JobSpec) -> Result<Estimate, SurveyError> {
    let mut estimate = Estimate::none(spec);
    let look = parts.surveyor.look(|record, condition| {
        if record.sealed().is_none_or(|sealed| sealed.rows == 0) || condition.is_whole() {
            return;
        }
        let lost = u64::from(condition.lost.len());
        estimate.slabs += 1;
        estimate.fragments += lost;
        estimate.bytes += lost * fragment_len_bytes(record);
        estimate.fragments_away += u64::from(condition.away.len());
    });
    look.await?;
    Ok(estimate)
}

/// Where something is lost it is being worked on; else the run waits.
fn say_what_for(
    job: &Job,
    survey: &SlabSurvey,
    filled: &[SlabId],
    away: &BTreeSet<NodeId>,
    unheard: &[NodeId],
) {
    if survey.fragments_lost > 0 {
        job.go_on();
    } else if survey.fragments_away > 0 {
        let nodes = words(away.iter());
        job.wait_for(format!(
            "{} fragments are away with {nodes}: they count again when it is back, and are made again once it was silent for slab.repair_after_ms",
            survey.fragments_away
        ));
    } else if let Some(slab) = filled.first() {
        job.wait_for(format!(
            "{slab}, which lacks a holder, is still open: it is sealed at slab.age_ms_max at the latest, or by a run of kind seal at its writer"
        ));
    } else {
        job.wait_for(format!("an answer of {}", words(unheard.iter())));
    }
}

fn words<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> String {
    nodes.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

async fn open_with_content(parts: &RunParts, open: &[SlabRecord]) -> Result<Vec<SlabId>, SurveyError> {
    let mut filled = Vec::new();
    for record in open {
        // One that is being sealed is waited for, whatever is in it.
        if record.state == SlabState::Sealing || parts.surveyor.has_content(record).await? {
            filled.push(record.slab);
        }
    }
    Ok(filled)
}

impl Seen {
    fn add(&mut self, record: &SlabRecord, condition: &Condition, before: &Lacking) {
        let lacking = condition.lost.union(condition.away);
        match &record.state {
            SlabState::Dead => return,
            SlabState::Open | SlabState::Sealing => {
                if !lacking.is_empty() {
                    self.open_short_count += 1;
                    if self.open_short.len() < RUN_OPEN_SLABS_MAX {
                        self.open_short.push(record.clone());
                    }
                }
                return;
            }
            SlabState::Sealed(sealed) if sealed.rows == 0 => return,
            SlabState::Sealed(_) => {}
        }
        self.holders.extend(record.holders.iter().map(|holder| holder.node));
        for fragment in condition.away.iter() {
            self.away.extend(record.place(fragment).map(|(holder, _)| holder.node));
        }
        self.resolve(record, lacking, before);
        for fragment in lacking.iter() {
            if let Some((_, made_under)) = record.place(fragment)
                && self.lacking.len() < RUN_FRAGMENTS_MAX
            {
                self.lacking.insert((record.slab, fragment), made_under);
            }
        }
    }

    /// What became of those of the slab's fragments that were lacking before.
    fn resolve(&mut self, record: &SlabRecord, lacking: FragmentSet, before: &Lacking) {
        let first = (record.slab, FragmentIndex::new(u8::MIN));
        let last = (record.slab, FragmentIndex::new(u8::MAX));
        for (place, made_under) in before.range(first..=last) {
            let present = record.place(place.1).map(|(_, generation)| generation);
            if present != Some(*made_under) {
                let bytes = fragment_len_bytes(record);
                self.resolved.insert(*place, Resolved::MadeAgain { bytes });
            } else if !lacking.contains(place.1) {
                self.resolved.insert(*place, Resolved::Back);
            }
        }
    }
}

/// What is known of a run's fragments over all of its looks.
#[derive(Default)]
struct Ledger {
    lacking: Lacking,
    /// Fragments that are not lacking any more.
    done: u64,
    report: RepairReport,
}

impl Ledger {
    fn note(&mut self, survey: &SlabSurvey, seen: Seen) {
        let report = &mut self.report;
        if report.looks == 0 {
            report.first_look.clone_from(&survey.at);
            report.slabs_below_first = survey.counts.deficit;
            report.margins_first = survey.counts.margins;
        }
        report.looks += 1;
        report.last_look.clone_from(&survey.at);
        let counts = &survey.counts;
        report.slabs = counts.open + counts.sealing + counts.empty + counts.hot + counts.cold;
        report.slabs_below_last = counts.deficit;
        report.margins_last = counts.margins;
        for resolved in seen.resolved.values() {
            match resolved {
                Resolved::MadeAgain { bytes } => {
                    report.fragments_made_again += 1;
                    report.bytes_made_again += bytes;
                }
                Resolved::Back => report.fragments_back += 1,
            }
        }
        // What is neither lacking any more nor resolved was of a slab that is dead now.
        let is_over = |place: &(SlabId, FragmentIndex), made_under: &Generation| {
            seen.resolved.contains_key(place) || seen.lacking.get(place) != Some(made_under)
        };
        self.done +=
            self.lacking.iter().filter(|(place, made_under)| is_over(place, made_under)).count() as u64;
        self.lacking = seen.lacking;
    }
}

#[cfg(test)]
mod tests;
