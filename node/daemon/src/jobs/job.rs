//! One job: its worker's side, and how it is seen.

use super::pace::{Cost, Paces, Rate};
use super::{JobSpec, JobState, JobView, Progress, Report};
use crate::config::Budget;
use crate::limits::JOB_COUNTS_MAX;
use futures::future::{Either, select};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use strongroom_env::Clock;
use strongroom_types::{Instant, WallTime};
use tokio::sync::Notify;

/// An operator has cancelled the job: its worker is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// It was told to.
    Cancelled,
    /// It could not do what was asked.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

impl Outcome {
    /// As in events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => JobState::Done.name(),
            Self::Cancelled => JobState::Cancelled.name(),
            Self::Failed { .. } => JobState::Failed.name(),
        }
    }
}

/// A job. Workers share it with whoever looks at it.
pub struct Job {
    id: u64,
    spec: JobSpec,
    standing: bool,
    clock: Arc<dyn Clock>,
    began: WallTime,
    done: AtomicU64,
    state: Mutex<State>,
    /// An operator's order has come.
    ordered: Notify,
}

struct State {
    paused: bool,
    cancelled: bool,
    waits_for: Option<Cow<'static, str>>,
    total: Option<u64>,
    rate: Rate,
    paces: Paces,
    counts: BTreeMap<&'static str, u64>,
    report: Option<Report>,
    ended: Option<(Outcome, WallTime, Instant)>,
}

/// What a worker may do now.
enum May {
    Begin,
    End,
    WaitFor(Option<Duration>),
}

impl State {
    fn may(&self, now: Instant) -> May {
        if self.cancelled {
            return May::End;
        }
        if self.paused {
            return May::WaitFor(None);
        }
        match self.paces.wait(now) {
            Duration::ZERO => May::Begin,
            wait => May::WaitFor(Some(wait)),
        }
    }
}

impl Job {
    pub(super) fn new(id: u64, spec: JobSpec, standing: bool, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            paused: false,
            cancelled: false,
            waits_for: None,
            total: None,
            rate: Rate::from(clock.now()),
            paces: Paces::default(),
            counts: BTreeMap::new(),
            report: None,
            ended: None,
        };
        Self {
            id,
            spec,
            standing,
            began: clock.wall(),
            clock,
            done: AtomicU64::new(0),
            state: Mutex::new(state),
            ordered: Notify::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What it is.
    pub fn spec(&self) -> JobSpec {
        self.spec
    }

    /// Whether it is a worker's own, which never ends.
    pub fn is_standing(&self) -> bool {
        self.standing
    }

    /// Whether how fast it goes can be limited.
    pub(super) fn has_pace(&self) -> bool {
        match self.standing {
            true => self.spec.kind.worker_has_pace(),
            false => self.spec.kind.run_has_pace(),
        }
    }

    /// Where a worker begins its next unit of work: waits while the job is paused, or ahead of its pace.
    ///
    /// # Errors
    /// It was cancelled.
    pub async fn checkpoint(&self) -> Result<(), Cancelled> {
        loop {
            let mut ordered = pin!(self.ordered.notified());
            // From here on no order is missed.
            ordered.as_mut().enable();
            let may = self.lock().may(self.clock.now());
            match may {
                May::Begin => return Ok(()),
                May::End => return Err(Cancelled),
                May::WaitFor(None) => ordered.await,
                May::WaitFor(Some(wait)) => {
                    let (Either::Left(_) | Either::Right(_)) = select(ordered, self.clock.sleep(wait)).await;
                }
            }
        }
    }

    /// As [`Self::checkpoint`], of a standing job, which is never cancelled.
    pub async fn wait_while_held(&self) {
        assert!(self.standing, "a run may be cancelled, and has to look whether it is");
        let _ = self.checkpoint().await;
    }

    /// Waits for `duration`, or until an order comes.
    ///
    /// # Errors
    /// It was cancelled.
    pub async fn rest(&self, duration: Duration) -> Result<(), Cancelled> {
        let mut ordered = pin!(self.ordered.notified());
        ordered.as_mut().enable();
        if !self.lock().cancelled {
            let (Either::Left(_) | Either::Right(_)) = select(ordered, self.clock.sleep(duration)).await;
        }
        if self.lock().cancelled { Err(Cancelled) } else { Ok(()) }
    }

    /// Whether the next unit may be begun now, for workers that look again soon by themselves.
    pub fn may_begin(&self) -> bool {
        matches!(self.lock().may(self.clock.now()), May::Begin)
    }

    /// Whether an operator has paused it.
    pub fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// So many units more are done.
    pub fn advance(&self, units: u64) {
        let done = self.done.fetch_add(units, Ordering::Relaxed) + units;
        let now = self.clock.now();
        self.lock().rate.note(now, done);
    }

    /// So many bytes are moved: what the pace is measured by.
    pub fn spend(&self, bytes: u64) {
        self.spend_all(Cost { bytes, ..Cost::default() });
    }

    /// So much is taken, of whatever there is a budget for.
    pub fn spend_all(&self, cost: Cost) {
        let now = self.clock.now();
        self.lock().paces.spend(cost, now);
    }

    /// What it may take from now on; its pace in bytes may be changed by an operator.
    pub fn limit(&self, budget: Budget) {
        let now = self.clock.now();
        self.lock().paces.set(budget, now);
        self.ordered.notify_waiters();
    }

    /// How many units there are, done ones included; `None` where that is not known.
    pub fn set_total(&self, total: Option<u64>) {
        self.lock().total = total;
    }

    /// So many are done and so many there are, where both are found anew at each look.
    pub fn set_progress(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        let now = self.clock.now();
        let mut state = self.lock();
        state.rate.note(now, done);
        state.total = Some(total);
    }

    /// Adds to a named count, such as `corrupt places found`. There are at most [`JOB_COUNTS_MAX`] names.
    pub fn count(&self, name: &'static str, count: u64) {
        let mut state = self.lock();
        assert!(
            state.counts.contains_key(name) || state.counts.len() < JOB_COUNTS_MAX,
            "a worker counts by a few constant names"
        );
        *state.counts.entry(name).or_default() += count;
    }

    /// The job waits for this: nothing to do, or something that is not there.
    pub fn wait_for(&self, what: impl Into<Cow<'static, str>>) {
        self.lock().waits_for = Some(what.into());
    }

    /// It waits no longer.
    pub fn go_on(&self) {
        self.lock().waits_for = None;
    }

    /// What it leaves behind so far.
    pub fn set_report(&self, report: Report) {
        self.lock().report = Some(report);
    }

    /// How it is.
    pub fn view(&self) -> JobView {
        let (now, state, done) = (self.clock.now(), self.lock(), self.done.load(Ordering::Relaxed));
        let budget = state.paces.budget();
        let until = state.ended.as_ref().map_or(now, |(_, _, at)| *at);
        let (job_state, reason) = match &state.ended {
            Some((Outcome::Done, ..)) => (JobState::Done, None),
            Some((Outcome::Cancelled, ..)) => (JobState::Cancelled, None),
            Some((Outcome::Failed { reason }, ..)) => (JobState::Failed, Some(reason.clone())),
            None if state.paused => (JobState::Paused, None),
            None => match &state.waits_for {
                Some(what) => (JobState::Waiting, Some(what.to_string())),
                None => (JobState::Running, None),
            },
        };
        let rate_per_second = state.rate.per_second(until, done);
        JobView {
            id: self.id,
            kind: self.spec.kind,
            subject: self.spec.subject,
            standing: self.standing,
            state: job_state,
            reason,
            progress: Progress {
                unit: self.spec.unit,
                done,
                total: state.total,
                rate_per_second,
                left_seconds: left_seconds(job_state, state.total, done, rate_per_second),
            },
            counts: state.counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            pace_bytes_per_second: budget.bytes_per_second.map(NonZeroU64::get),
            operations_per_second_max: budget.operations_per_second.map(NonZeroU64::get),
            far_bytes_per_second_max: budget.far_bytes_per_second.map(NonZeroU64::get),
            began: rfc3339(self.began),
            ended: state.ended.as_ref().map(|(_, at, _)| rfc3339(*at)),
            report: state.report.clone(),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.lock().paused = paused;
        self.ordered.notify_waiters();
    }

    pub(super) fn cancel(&self) {
        self.lock().cancelled = true;
        self.ordered.notify_waiters();
    }

    pub(super) fn set_pace(&self, bytes_per_second: Option<NonZeroU64>) {
        let now = self.clock.now();
        self.lock().paces.bytes.set(bytes_per_second, now);
        self.ordered.notify_waiters();
    }

    pub(super) fn end(&self, outcome: Outcome) {
        assert!(!self.standing, "a standing job never ends");
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let mut state = self.lock();
        assert!(state.ended.is_none(), "the registry ends a run once");
        state.ended = Some((outcome, wall, now));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

/// At the present rate; said of a job that is at work only.
fn left_seconds(state: JobState, total: Option<u64>, done: u64, rate: Option<f64>) -> Option<u64> {
    let rate = rate.filter(|rate| *rate > 0.0 && state == JobState::Running)?;
    let left = total?.saturating_sub(done);
    // Rounded up: what is not done takes a moment.
    Some((left as f64 / rate).ceil() as u64)
}

/// A calendar time as people and machines read it.
pub fn rfc3339(at: WallTime) -> String {
    strongroom_gateway::date::xml(at)
}
