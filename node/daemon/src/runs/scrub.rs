//! A scrub of this node's drives, or one, at full speed: it ends when a tour of each is over that began after it was asked for, and the slab table knows of
//! everything that these found.
//!
//! The tours are the scrubber's own ([`crate::scrub`]); whoever pauses, paces or cancels the run does so to them. What they found becomes part of the
//! report only with their end. So a repair that is asked for afterwards makes all of it again.

use super::{LOOK_EVERY, RunParts, Unfinished};
use crate::drive::Drive;
use crate::jobs::{Cancelled, DriveName, Estimate, Job, JobSpec, Report, ScrubReport, rfc3339};
use crate::scrub::{Asked, AskedTour, Findings, TourFindings};
use crate::sweeper::Told;
use std::collections::BTreeMap;
use std::sync::Arc;
use strongroom_format::wire::message::FragmentAddress;
use strongroom_types::DriveId;

pub(super) async fn run(
    parts: &RunParts,
    job: &Arc<Job>,
    drive: Option<DriveName>,
) -> Result<(), Unfinished> {
    let begun = parts.env.clock.now();
    let ids = drives(parts, drive).map(|drive| drive.id());
    let asked: Vec<Asked> =
        ids.filter_map(|drive| parts.scrubber.begin_now(drive, Some(job.clone()))).collect();
    let called_off = CallOff { parts, asked: &asked };
    let mut report = ScrubReport { began: rfc3339(parts.env.clock.wall()), ..ScrubReport::default() };
    let mut ended = BTreeMap::new();
    let gone = loop {
        let gone = look(parts, job, &asked, &mut ended);
        if ended.len() + gone.len() == asked.len() {
            break gone;
        }
        job.rest(LOOK_EVERY).await?;
    };
    drop(called_off);
    report.drives = ended.len() as u64;
    report.drives_gone = gone.len() as u64;
    report.found(&ended);
    tell_all(parts, job, &ended, &mut report).await?;
    report.seconds = parts.env.clock.now().since(begun).as_secs_f64();
    report.ended = rfc3339(parts.env.clock.wall());
    job.set_report(Report::Scrub(report));
    if gone.is_empty() { Ok(()) } else { Err(Unfinished::DrivesGone { drives: gone }) }
}

pub(super) fn estimate(parts: &RunParts, spec: JobSpec, drive: Option<DriveName>) -> Estimate {
    let mut estimate = Estimate::none(spec);
    for drive in drives(parts, drive) {
        estimate.fragments += drive.space().fragments;
        estimate.bytes += drive.tour_progress().bytes_total;
    }
    estimate
}

fn drives(parts: &RunParts, only: Option<DriveName>) -> impl Iterator<Item = &Arc<Drive>> {
    parts.holder.drives().filter(move |drive| only.is_none_or(|only| only.get() == drive.id()))
}

/// Looks how far the tours are. Gives the drives that are gone.
fn look(
    parts: &RunParts,
    job: &Job,
    asked: &[Asked],
    ended: &mut BTreeMap<DriveId, TourFindings>,
) -> Vec<DriveName> {
    let (mut gone, mut done_bytes, mut total_bytes, mut waits) = (Vec::new(), 0, 0, None);
    for asked in asked {
        let Ok(drive) = parts.holder.drive(asked.drive) else { continue };
        let (name, progress) = (DriveName::new(asked.drive), drive.tour_progress());
        total_bytes += progress.bytes_total;
        match parts.scrubber.how_far(*asked) {
            AskedTour::Over(found) => {
                ended.insert(asked.drive, found);
                done_bytes += progress.bytes_total;
            }
            AskedTour::UnderWay => done_bytes += progress.bytes_total.saturating_sub(progress.bytes_left),
            AskedTour::Waits => waits = Some(name),
            // Only this run calls its tours off, and then looks no more.
            AskedTour::DriveGone | AskedTour::CalledOff => gone.push(name),
        }
    }
    job.set_progress(done_bytes, total_bytes);
    match waits {
        Some(drive) => job.wait_for(format!(
            "the tour of drive {drive} to begin: where its standing job is paused, resume that"
        )),
        None => job.go_on(),
    }
    gone
}

/// Has the slab table know of every damaged fragment, and waits until it does.
async fn tell_all(
    parts: &RunParts,
    job: &Job,
    ended: &BTreeMap<DriveId, TourFindings>,
    report: &mut ScrubReport,
) -> Result<(), Cancelled> {
    let all = ended.iter().flat_map(|(drive, found)| found.bad.iter().map(|key| (*drive, *key)));
    let mut left: Vec<FragmentAddress> = all
        .map(|(drive, key)| FragmentAddress {
            drive,
            slab: key.slab,
            fragment: key.fragment,
            generation: key.generation,
        })
        .collect();
    loop {
        let mut not_yet = Vec::new();
        for address in left {
            job.checkpoint().await?;
            match parts.sweeper.tell(&address).await {
                Told::Known => report.fragments_told += 1,
                Told::AtSeal => report.fragments_told_at_seal += 1,
                Told::Whole => report.fragments_whole_again += 1,
                Told::NotYet => not_yet.push(address),
            }
        }
        left = not_yet;
        job.set_report(Report::Scrub(report.clone()));
        if left.is_empty() {
            return Ok(());
        }
        job.wait_for(format!("the slab table to know of {} damaged fragments", left.len()));
        job.rest(LOOK_EVERY).await?;
    }
}

/// Whatever ends the run, tours that it asked for and that are not over go on at their usual pace.
struct CallOff<'a> {
    parts: &'a RunParts,
    asked: &'a [Asked],
}

impl Drop for CallOff<'_> {
    fn drop(&mut self) {
        self.asked.iter().for_each(|asked| self.parts.scrubber.call_off(*asked));
    }
}

impl ScrubReport {
    fn found(&mut self, ended: &BTreeMap<DriveId, TourFindings>) {
        let mut all = Findings::default();
        ended.values().for_each(|tour| all += tour.findings);
        self.bytes = all.bytes_verified;
        self.fragments = all.fragments_verified;
        self.fragments_bad = all.fragments_bad;
        self.blocks_corrupt = all.blocks_corrupt;
        self.blocks_unreadable = all.blocks_unreadable;
        self.fragments_passed_over = all.fragments_passed_over;
    }
}
