//! What an operator asks for: runs of jobs, from the order to the report.
//!
//! A run does not do the work itself. It has the node's workers hurry, looks at the slab tables of all groups until they show that it is done, and says
//! so. So it is right whoever leads the groups, and a leader that falls costs nothing. What is asked is checked where it comes in (`control`).

mod compact;
mod convert;
mod repair;
mod scrub;
mod seal;

use crate::caretaker::Caretaker;
use crate::holder::Holder;
use crate::ingest::Ingest;
use crate::jobs::{
    BeginError, Cancelled, DriveName, Estimate, Job, JobSpec, JobView, Jobs, Kind, Outcome, Subject, Unit,
};
use crate::scrub::Scrubber;
use crate::status::SlabSurvey;
use crate::survey::{Condition, SurveyError, Surveyor};
use crate::sweeper::Sweeper;
use std::sync::Arc;
use std::time::Duration;
use strongroom_env::Env;
use strongroom_types::{GroupId, NodeId, SlabRecord};

/// Between two looks at this node's own.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looking at all tables takes a tenth of a run's time: what is few is looked at often,
const PAUSES_A_LOOK: u32 = 9;
/// though not more often than this,
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(200);
/// and what is much not less often than this.
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(10);

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Seal what this node writes now.
    Seal,
    /// Make every slab cold that is sealed or being sealed now.
    Convert,
    /// Make everything again that is lost.
    Repair,
    /// Compact every slab of the groups that this node leads that has any garbage worth the name.
    Compact,
    /// Verify every drive of this node, or one of them, as fast as it goes.
    Scrub(Option<DriveName>),
}

impl Run {
    fn spec(self) -> JobSpec {
        match self {
            Self::Seal => JobSpec { kind: Kind::Seal, subject: Subject::ThisNode, unit: Unit::Slabs },
            Self::Convert => JobSpec { kind: Kind::Convert, subject: Subject::Cluster, unit: Unit::Slabs },
            Self::Repair => JobSpec { kind: Kind::Repair, subject: Subject::Cluster, unit: Unit::Fragments },
            Self::Compact => JobSpec { kind: Kind::Compact, subject: Subject::ThisNode, unit: Unit::Slabs },
            Self::Scrub(drive) => JobSpec {
                kind: Kind::Scrub,
                subject: drive.map_or(Subject::ThisNode, Subject::Drive),
                unit: Unit::Bytes,
            },
        }
    }
}

/// Why it is not told what a run would do.
#[derive(Debug, thiserror::Error)]
pub enum EstimateError {
    /// It could not be begun.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The slab tables cannot be asked.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// A group does not say what is alive.
    #[error("{group} does not say what is alive in its slabs")]
    Unseen {
        /// Which.
        group: GroupId,
    },
}

/// Why a run ends before it did what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unfinished {
    /// It was told to.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Drives are not there any more.
    #[error(
        "no more on these drives can be verified, since their devices are others now: {}; what they held is made again elsewhere",
        .drives.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    DrivesGone {
        /// Which.
        drives: Vec<DriveName>,
    },
}

/// What runs work with.
pub struct RunParts {
    /// The world.
    pub env: Env,
    /// This node.
    pub node: NodeId,
    /// The registry.
    pub jobs: Arc<Jobs>,
    /// Looks at the tables.
    pub surveyor: Arc<Surveyor>,
    /// Hurried.
    pub caretaker: Arc<Caretaker>,
    /// The drives.
    pub holder: Holder,
    /// Told to begin tours.
    pub scrubber: Arc<Scrubber>,
    /// Told of what these found.
    pub sweeper: Arc<Sweeper>,
    /// The writer, told to roll its slab.
    pub ingest: Ingest,
}

/// Begins runs.
#[derive(Clone)]
pub struct Runs {
    parts: Arc<RunParts>,
}

impl Runs {
    /// Of these parts.
    pub fn new(parts: RunParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// Begins a run; it goes on by itself.
    ///
    /// # Errors
    /// See [`BeginError`]; nothing changed.
    pub fn begin(&self, run: Run) -> Result<JobView, BeginError> {
        let job = self.parts.jobs.begin(run.spec())?;
        tracing::info!(job = job.id(), ?run, "run begins");
        let (parts, running) = (self.parts.clone(), job.clone());
        let task = async move {
            let result = match run {
                Run::Seal => seal::run(&parts, &running).await.map_err(Unfinished::from),
                Run::Convert => convert::run(&parts, &running).await.map_err(Unfinished::from),
                Run::Repair => repair::run(&parts, &running).await.map_err(Unfinished::from),
                Run::Compact => compact::run(&parts, &running).await.map_err(Unfinished::from),
                Run::Scrub(drive) => scrub::run(&parts, &running, drive).await,
            };
            let outcome = match result {
                Ok(()) => Outcome::Done,
                Err(Unfinished::Cancelled(Cancelled)) => Outcome::Cancelled,
                Err(error @ Unfinished::DrivesGone { .. }) => Outcome::Failed { reason: error.to_string() },
            };
            parts.jobs.end(&running, outcome);
        };
        self.parts.env.spawn.spawn("run", Box::pin(task));
        Ok(job.view())
    }

    /// What a run would do if it were begun now.
    ///
    /// # Errors
    /// See [`EstimateError`].
    pub async fn estimate(&self, run: Run) -> Result<Estimate, EstimateError> {
        let spec = run.spec();
        self.parts.jobs.may_begin(spec)?;
        let parts = &self.parts;
        Ok(match run {
            Run::Seal => seal::estimate(parts, spec).await?,
            Run::Convert => convert::estimate(parts, spec).await?,
            Run::Repair => repair::estimate(parts, spec).await?,
            Run::Compact => compact::estimate(parts, spec).await?,
            Run::Scrub(drive) => scrub::estimate(parts, spec, drive),
        })
    }
}

impl Estimate {
    fn none(spec: JobSpec) -> Self {
        let JobSpec { kind, subject, .. } = spec;
        Self { kind, subject, slabs: 0, fragments: 0, bytes: 0, fragments_away: 0 }
    }
}

/// Looks at all tables, one after the other.
struct Looks<'run> {
    parts: &'run RunParts,
    job: &'run Job,
    /// Before the next one.
    pause: Duration,
}

impl<'run> Looks<'run> {
    fn of(parts: &'run RunParts, job: &'run Job) -> Self {
        Self { parts, job, pause: Duration::ZERO }
    }

    /// The next, from which `fold` makes a `T`, after a pause if it is not the first; tried until all tables answer.
    async fn next<T: Default>(
        &mut self,
        fold: impl Fn(&mut T, &SlabRecord, &Condition),
    ) -> Result<(SlabSurvey, T), Cancelled> {
        let Self { parts, job, pause } = self;
        loop {
            if !pause.is_zero() {
                job.rest(*pause).await?;
            }
            job.checkpoint().await?;
            let (begun, mut folded) = (parts.env.clock.now(), T::default());
            let answer = parts.surveyor.look(|record, condition| fold(&mut folded, record, condition)).await;
            let took = parts.env.clock.now().since(begun);
            *pause = (took * PAUSES_A_LOOK).clamp(LOOK_PAUSE_MIN, LOOK_PAUSE_MAX);
            match answer {
                Ok(survey) => {
                    job.go_on();
                    return Ok((survey, folded));
                }
                Err(error) => job.wait_for(error.to_string()),
            }
        }
    }
}
