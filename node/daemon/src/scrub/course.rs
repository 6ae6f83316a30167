//! One drive's scrub as others see it: what is asked of it, how it is held, and what it has found.

use crate::jobs::{Cancelled, Job};
use crate::limits::SCRUB_BAD_FRAGMENTS_MAX;
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_format::checksum::FragmentKey;
use strongroom_types::DriveId;

/// What a scrub found on one drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Bytes that were read.
    pub bytes_verified: u64,
    /// Fragments that were verified.
    pub fragments_verified: u64,
    /// Fragments that were found not to be whole.
    pub fragments_bad: u64,
    /// Blocks that do not match their checksums.
    pub blocks_corrupt: u64,
    /// Blocks that cannot be read.
    pub blocks_unreadable: u64,
    /// Fragments that could not be looked at, or changed each time: not verified by the tour.
    pub fragments_passed_over: u64,
}

impl std::ops::AddAssign for Findings {
    fn add_assign(&mut self, other: Self) {
        self.bytes_verified += other.bytes_verified;
        self.fragments_verified += other.fragments_verified;
        self.fragments_bad += other.fragments_bad;
        self.blocks_corrupt += other.blocks_corrupt;
        self.blocks_unreadable += other.blocks_unreadable;
        self.fragments_passed_over += other.fragments_passed_over;
    }
}

/// What one tour came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TourFindings {
    /// In numbers.
    pub findings: Findings,
    /// Fragments that were found not to be whole; the first [`SCRUB_BAD_FRAGMENTS_MAX`] of them.
    pub bad: Vec<FragmentKey>,
}

/// A tour that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of which drive.
    pub drive: DriveId,
    number: u64,
}

/// How far a tour is that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedTour {
    /// It is not begun yet.
    Waits,
    /// It is under way.
    UnderWay,
    /// It was called off.
    CalledOff,
    /// It is over.
    Over(TourFindings),
    /// The device is not this drive any more: it never will be.
    DriveGone,
}

/// How a drive is to be verified at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orders {
    /// As fast as the drive goes.
    pub(super) full_speed: bool,
    /// Begin anew.
    pub(super) begin: bool,
}

/// One drive's scrub.
pub(super) struct Course {
    drive: DriveId,
    /// The standing job.
    pub(super) job: Arc<Job>,
    state: Mutex<State>,
}

/// Tours that are asked for have numbers; what is asked for while one is under way needs another, which begins after it was asked for.
#[derive(Default)]
struct State {
    asked: u64,
    /// The newest one for which a tour was begun.
    begun: u64,
    /// The newest one that is over or was called off.
    ended: u64,
    called_off: u64,
    /// The run that asked for the newest one.
    run: Option<Arc<Job>>,
    /// In this run of the node.
    all: Findings,
    /// Of the tour under way, as far as it was made in this run of the node.
    tour: TourFindings,
    /// Of the last tour that was asked for and is over.
    last: TourFindings,
    is_gone: bool,
}

impl Course {
    pub(super) fn new(drive: DriveId, job: Arc<Job>) -> Self {
        Self { drive, job, state: Mutex::default() }
    }

    pub(super) fn ask(&self, run: Option<Arc<Job>>) -> Asked {
        let mut state = self.lock();
        state.asked += 1;
        state.run = run;
        Asked { drive: self.drive, number: state.asked }
    }

    /// Ends what was asked for up to there; the tour under way goes on at the usual pace.
    pub(super) fn call_off(&self, asked: Asked) {
        let mut state = self.lock();
        if state.ended < asked.number {
            state.called_off = asked.number;
            state.end(asked.number);
        }
    }

    pub(super) fn how_far(&self, asked: Asked) -> AskedTour {
        let state = self.lock();
        let number = asked.number;
        if state.called_off >= number {
            AskedTour::CalledOff
        } else if state.ended >= number {
            AskedTour::Over(state.last.clone())
        } else if state.is_gone {
            AskedTour::DriveGone
        } else if state.begun >= number {
            AskedTour::UnderWay
        } else {
            AskedTour::Waits
        }
    }

    /// Whether something that was asked for is not over.
    pub(super) fn is_asked(&self) -> bool {
        let state = self.lock();
        !state.is_gone && state.asked > state.ended
    }

    pub(super) fn orders(&self) -> Orders {
        let state = self.lock();
        Orders { full_speed: state.asked > state.ended, begin: state.asked > state.begun }
    }

    /// Waits as long as the standing job is held, or the run that asked for this tour.
    pub(super) async fn hold(&self) {
        self.job.wait_while_held().await;
        let run = self.lock().run.clone();
        if let Some(run) = run {
            // Whoever cancels it calls its tour off.
            let (Ok(()) | Err(Cancelled)) = run.checkpoint().await;
        }
    }

    /// So many bytes were read.
    pub(super) fn spend(&self, bytes: u64) {
        self.job.spend(bytes);
        let run = self.lock().run.clone();
        run.inspect(|run| run.spend(bytes));
    }

    /// A tour begins: the one for all that was asked for so far.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        state.begun = state.asked;
        state.tour = TourFindings::default();
    }

    /// The tour under way has looked at everything; gives what it came to.
    pub(super) fn end(&self) -> Findings {
        let mut state = self.lock();
        let tour = std::mem::take(&mut state.tour);
        let findings = tour.findings;
        if state.ended < state.begun {
            state.last = tour;
            let begun = state.begun;
            state.end(begun);
        }
        findings
    }

    pub(super) fn drive_is_gone(&self) {
        self.lock().is_gone = true;
    }

    pub(super) fn note(&self, findings: Findings, bad: Option<FragmentKey>) {
        let mut state = self.lock();
        state.all += findings;
        state.tour.findings += findings;
        if state.tour.bad.len() < SCRUB_BAD_FRAGMENTS_MAX {
            state.tour.bad.extend(bad);
        }
    }

    pub(super) fn findings(&self) -> Findings {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

impl State {
    fn end(&mut self, number: u64) {
        self.ended = number;
        self.begun = self.begun.max(number);
        if self.asked == number {
            self.run = None;
        }
    }
}

#[cfg(test)]
mod tests;
