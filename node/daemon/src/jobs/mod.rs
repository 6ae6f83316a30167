//! The background work of this node as jobs: what there is, how far it is, and an operator's hand on it.
//!
//! Two sorts. A *standing* job is one worker of the node: it is there as long as the node is, can be paused and paced, never ended. A *run* was asked
//! for and ends by itself, or is cancelled. Workers hold an [`Arc<Job>`] and do no more than count and look ([`Job::checkpoint`]); the registry
//! knows nothing of what they do. Ids are given once in a run of the process. Ended runs are kept for their reports, the oldest of them go first.
//!
//! In memory only: what has to be done is told by the tables and the drives, so nothing is lost with a job.

mod job;
mod kind;
mod pace;
mod report;
mod view;

use crate::events::{Event, Events};
use crate::limits::{JOBS_ENDED_MAX, JOBS_RUNNING_MAX, JOBS_STANDING_MAX};
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_env::Clock;

pub use job::{Cancelled, Job, Outcome, rfc3339};
pub use kind::{DriveName, DriveNameError, Kind, Subject, Unit};
pub use pace::Cost;
pub use report::{CompactReport, MarginCounts, RepairReport, Report, ScrubReport};
pub use view::{Estimate, JobState, JobView, Progress};

/// What a job is.
#[derive(Clone, Copy, Debug)]
pub struct JobSpec {
    /// What is done.
    pub kind: Kind,
    /// With what.
    pub subject: Subject,
    /// What is counted.
    pub unit: Unit,
}

/// Why a run was not begun; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// Another run is in its way.
    #[error(
        "job {other} ({kind}) is under way and does not go together with it: wait for its end, or cancel it"
    )]
    Conflict {
        /// That one.
        other: u64,
        /// What that one is.
        kind: Kind,
    },
    /// There are as many as may be.
    #[error("{running_max} runs are under way, more are not begun: wait for the end of one, or cancel one")]
    TooMany {
        /// The bound.
        running_max: usize,
    },
}

/// Why a job was left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is none with this id: there never was in this run of the node, or it ended so long ago that it is forgotten.
    #[error("no job {id} is known: a node's jobs are those since its start, and `GET /v1/jobs` lists them")]
    NoSuchJob {
        /// As asked.
        id: u64,
    },
    /// It has ended.
    #[error("job {id} has ended")]
    Ended {
        /// Which.
        id: u64,
    },
    /// It is a standing job.
    #[error("job {id} is one of the node's standing jobs, which do not end: pause it instead")]
    Standing {
        /// Which.
        id: u64,
    },
    /// It moves no bytes itself.
    #[error(
        "job {id} ({kind}) moves no bytes itself and has no pace: the standing jobs convert, repair, scrub and compact have, and runs of scrub"
    )]
    NotPaced {
        /// Which.
        id: u64,
        /// What it is.
        kind: Kind,
    },
}

/// What an operator asks of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Begin nothing more until told to go on.
    Pause,
    /// Go on.
    Resume,
    /// End.
    Cancel,
    /// Move at most so many bytes a second; `None` for as many as can be.
    Pace(Option<NonZeroU64>),
}

/// All jobs of a node.
pub struct Jobs {
    clock: Arc<dyn Clock>,
    events: Arc<Events>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    standing: Vec<Arc<Job>>,
    running: Vec<Arc<Job>>,
    /// The oldest first.
    ended: VecDeque<Arc<Job>>,
}

impl Jobs {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>, events: Arc<Events>) -> Arc<Self> {
        Arc::new(Self { clock, events, state: Mutex::default() })
    }

    /// A worker's own job. To be called once for each worker, when the node starts.
    pub fn stand(&self, spec: JobSpec) -> Arc<Job> {
        let mut state = self.lock();
        assert!(
            state.standing.len() < JOBS_STANDING_MAX,
            "workers are made at start, a known number of them"
        );
        let job = Arc::new(Job::new(state.next_id(), spec, true, self.clock.clone()));
        state.standing.push(job.clone());
        job
    }

    /// Begins a run. Whoever does the work ends it with [`Self::end`].
    ///
    /// # Errors
    /// See [`BeginError`].
    pub fn begin(&self, spec: JobSpec) -> Result<Arc<Job>, BeginError> {
        let mut state = self.lock();
        self.check(&state, spec)?;
        let job = Arc::new(Job::new(state.next_id(), spec, false, self.clock.clone()));
        state.running.push(job.clone());
        self.events.tell(Event::JobBegan { job: job.id(), kind: spec.kind.name() });
        Ok(job)
    }

    /// Whether a run could be begun now.
    ///
    /// # Errors
    /// See [`BeginError`].
    pub fn may_begin(&self, spec: JobSpec) -> Result<(), BeginError> {
        self.check(&self.lock(), spec)
    }

    fn check(&self, state: &State, spec: JobSpec) -> Result<(), BeginError> {
        let conflicts = |job: &&Arc<Job>| {
            let other = job.spec();
            spec.kind.excludes(other.kind)
                || (spec.kind == other.kind && spec.subject.overlaps(other.subject))
        };
        if let Some(other) = state.running.iter().find(conflicts) {
            return Err(BeginError::Conflict { other: other.id(), kind: other.spec().kind });
        }
        if state.running.len() >= JOBS_RUNNING_MAX {
            return Err(BeginError::TooMany { running_max: JOBS_RUNNING_MAX });
        }
        Ok(())
    }

    /// A run has ended, so. Doing it again changes nothing.
    pub fn end(&self, job: &Arc<Job>, outcome: Outcome) {
        let mut state = self.lock();
        let Some(place) = state.running.iter().position(|running| running.id() == job.id()) else { return };
        let how = outcome.name();
        job.end(outcome);
        let ended = state.running.swap_remove(place);
        if state.ended.len() == JOBS_ENDED_MAX {
            state.ended.pop_front();
        }
        state.ended.push_back(ended);
        self.events.tell(Event::JobEnded { job: job.id(), kind: job.spec().kind.name(), how });
    }

    /// All that are known, by id.
    pub fn all(&self) -> Vec<JobView> {
        let mut all: Vec<JobView> = self.lock().iter().map(|job| job.view()).collect();
        all.sort_by_key(|job| job.id);
        all
    }

    /// One of them.
    ///
    /// # Errors
    /// `NoSuchJob`.
    pub fn one(&self, id: u64) -> Result<JobView, ControlError> {
        self.find(id).map(|job| job.view())
    }

    /// Does what an operator asks of a job; says how it is then.
    ///
    /// # Errors
    /// See [`ControlError`]; nothing changed.
    pub fn order(&self, id: u64, order: Order) -> Result<JobView, ControlError> {
        let job = self.find(id)?;
        if job.has_ended() {
            return Err(ControlError::Ended { id });
        }
        match order {
            Order::Pause => job.set_paused(true),
            Order::Resume => job.set_paused(false),
            Order::Cancel if job.is_standing() => return Err(ControlError::Standing { id }),
            Order::Cancel => job.cancel(),
            Order::Pace(_) if !job.has_pace() => {
                return Err(ControlError::NotPaced { id, kind: job.spec().kind });
            }
            Order::Pace(bytes_per_second) => job.set_pace(bytes_per_second),
        }
        tracing::info!(job = id, kind = %job.spec().kind, ?order, "job: an operator's order");
        Ok(job.view())
    }

    fn find(&self, id: u64) -> Result<Arc<Job>, ControlError> {
        self.lock().iter().find(|job| job.id() == id).cloned().ok_or(ControlError::NoSuchJob { id })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.standing.iter().chain(&self.running).chain(&self.ended)
    }
}

#[cfg(test)]
mod tests;
