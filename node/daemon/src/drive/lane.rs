//! The lane: everything that changes a drive's media, batch by batch.
//!
//! A batch is planned in memory under the state's lock, written at once, flushed once, and only then answered. While it is under way
//! the next one gathers by itself, so the flush is shared by as many jobs as the drive's own speed brings together; there is no timer.
//!
//! A job that needs one thing on media before another has a second phase: the first is flushed before the second is written. A job
//! that must not be mixed with what came before it (a fence, an agreed length, a free, a fragment begun again) begins a new batch.
//! An agreed length is answered once its mark is durable; the extents behind it are freed by the second phase, and taken by none before that is flushed.
//!
//! The incarnation is raised with nothing else under way: its flushes are not a batch's, and one of them that failed would take the batch's writes with
//! it, of which the batch's own flush says nothing.
//!
//! A job that finds its work done is flushed for all the same before it is answered: who did it may have been told of a failure.

use super::fragment::Fragment;
use super::job::{Job, Reply, answer};
use super::media::{self, Write};
use super::open::{self, Found, Raised};
use super::state::key_of;
use super::{Shared, append, mark, slice};
use crate::limits::{DRIVE_BATCH_JOBS_MAX, DRIVE_BATCH_LEN_BYTES_MAX, DRIVE_EARLY_ROWS_MAX};
use bytes::Bytes;
use futures::future::{Either, select};
use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use strongroom_core::mutants::Mutant;
use strongroom_env::Env;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::wire::message::{Append, Refusal};
use strongroom_io::{Class, Device, DeviceError, Operation};
use strongroom_types::limits::ROWS_IN_FLIGHT_MAX;
use strongroom_types::{Instant, RowSequence};
use tokio::sync::mpsc;

/// Writes of a batch in flight at once: a quarter of what a device takes, so that reads keep their places.
const WRITES_IN_FLIGHT_MAX: usize = strongroom_io::limits::OPERATIONS_PER_DEVICE_MAX / 4;
/// How long a row waits for the one it overtook: long against any reordering, short against the patience of who seals. Without it,
/// rows whose predecessor was lost would hold places here, and with them requests of their peer, until a restart.
const EARLY_PATIENCE: Duration = Duration::from_secs(2);

/// What is left to do of a job once its writes are through.
enum Rest {
    Append { key: FragmentKey, sequence: RowSequence, reply: Reply<()> },
    Mark { key: FragmentKey, reply: Reply<()> },
    Cut { key: FragmentKey },
    Piece { key: FragmentKey, reply: Reply<()> },
    Finish { key: FragmentKey, table_crc32c: u32, reply: Reply<u32> },
    Free { extents: Vec<u32>, retired: Vec<u32>, reply: Reply<()> },
}

/// A planned job.
struct Planned {
    rest: Rest,
    /// Its writes of the first phase, as a range of the batch's.
    writes: std::ops::Range<usize>,
}

/// The only thing of its batch.
struct Raise {
    found: Box<Found>,
    incarnation: u32,
    reply: Reply<Raised>,
}

#[derive(Default)]
struct Batch {
    raise: Option<Raise>,
    first: Vec<Write>,
    /// Of the last job: written after the first phase was flushed; flushed again.
    second: Vec<Write>,
    planned: Vec<Planned>,
    len_bytes: usize,
    /// A job that must be the last of its batch is in.
    closed: bool,
}

impl Batch {
    fn takes_more(&self) -> bool {
        !self.closed
            && self.planned.len() < DRIVE_BATCH_JOBS_MAX
            && self.len_bytes < DRIVE_BATCH_LEN_BYTES_MAX
    }

    fn push(&mut self, rest: Rest, writes: Vec<Write>) {
        let start = self.first.len();
        self.len_bytes += writes.iter().map(|write| write.buffer.len()).sum::<usize>();
        self.first.extend(writes);
        self.planned.push(Planned { rest, writes: start..self.first.len() });
    }

    /// A job with a second phase, which may be empty.
    fn push_last(&mut self, rest: Rest, first: Vec<Write>, second: Vec<Write>) {
        self.push(rest, first);
        self.second = second;
        self.closed = true;
    }
}

/// A row that overtook the one it follows.
struct Early {
    append: Append,
    payload: Bytes,
    reply: Reply<()>,
    since: Instant,
}

/// The lane of one drive.
pub(super) struct Lane {
    shared: Arc<Shared>,
    env: Env,
    jobs: mpsc::Receiver<Job>,
    /// Taken from the queue, and the first of the next batch.
    held: Option<Job>,
    early: BTreeMap<(FragmentKey, RowSequence), Early>,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, env: Env, jobs: mpsc::Receiver<Job>) -> Self {
        Self { shared, env, jobs, held: None, early: BTreeMap::new() }
    }

    pub(super) async fn run(mut self) {
        while let Some(job) = self.next_job().await {
            let mut batch = Batch::default();
            self.plan(job, &mut batch);
            while batch.takes_more()
                && let Ok(job) = self.jobs.try_recv()
            {
                if self.must_lead(&job) {
                    self.held = Some(job);
                    break;
                }
                self.plan(job, &mut batch);
            }
            if let Some(raise) = batch.raise.take() {
                self.raise(raise).await;
            }
            if !batch.planned.is_empty() {
                self.carry_out(batch).await;
            }
            self.refuse_hopeless();
        }
    }

    async fn next_job(&mut self) -> Option<Job> {
        if self.held.is_some() {
            return self.held.take();
        }
        while let Some(oldest) = self.early.values().map(|early| early.since).min() {
            let waited = self.env.clock.now().since(oldest);
            let patience = self.env.clock.sleep(EARLY_PATIENCE.saturating_sub(waited));
            if let Either::Left((job, _)) = select(pin!(self.jobs.recv()), patience).await {
                return job;
            }
            self.refuse_hopeless();
        }
        self.jobs.recv().await
    }

    fn must_lead(&self, job: &Job) -> bool {
        match job {
            Job::Seal { .. } | Job::Settle { .. } | Job::Free { .. } | Job::Raise { .. } => true,
            Job::Piece { write, .. } => slice::begins_again(&self.shared.state(), write),
            Job::Append { .. } | Job::Finish { .. } => false,
        }
    }

    fn plan(&mut self, job: Job, batch: &mut Batch) {
        let refusal = self.shared.state().standing.refusal(job.ask());
        if let Some(refusal) = refusal {
            return job.refuse(refusal);
        }
        match job {
            Job::Append { append, payload, reply } => self.plan_append(append, payload, reply, batch),
            Job::Seal { seal, reply } => {
                let key = key_of(&seal.address);
                let plan = mark::plan_seal(&self.shared, &mut self.shared.state(), &seal);
                if plan.is_ok() {
                    self.refuse_early(&key, &Refusal::Fenced { epoch: seal.epoch });
                }
                push_or_refuse(batch, plan, reply, |reply| Rest::Mark { key, reply });
                batch.closed = true;
            }
            Job::Settle { settle, reply } => {
                let key = key_of(&settle.address);
                match mark::plan_settle(&self.shared, &mut self.shared.state(), &settle) {
                    Err(refusal) => answer(reply, Err(refusal)),
                    Ok(mark::SettlePlan { mark, cut }) => {
                        batch.push(Rest::Mark { key, reply }, mark);
                        batch.push_last(Rest::Cut { key }, Vec::new(), cut);
                    }
                }
                batch.closed = true;
            }
            Job::Piece { write, payload, reply } => {
                let key = key_of(&write.address);
                let plan = slice::plan_piece(&self.shared, &mut self.shared.state(), &write, &payload);
                push_or_refuse(batch, plan, reply, |reply| Rest::Piece { key, reply });
            }
            Job::Finish { finish, reply } => {
                let key = key_of(&finish.address);
                match slice::plan_finish(&self.shared, &mut self.shared.state(), &finish) {
                    Err(refusal) => answer(reply, Err(refusal)),
                    Ok(slice::FinishPlan::Already { table_crc32c }) => {
                        batch.push(Rest::Finish { key, table_crc32c, reply }, Vec::new());
                    }
                    Ok(slice::FinishPlan::Write { table, marks, table_crc32c }) => {
                        batch.push_last(Rest::Finish { key, table_crc32c, reply }, table, marks);
                    }
                }
            }
            Job::Free { free, reply } => {
                let key = key_of(&free.address);
                match mark::plan_free(&self.shared, &mut self.shared.state(), &key) {
                    Err(refusal) => answer(reply, Err(refusal)),
                    Ok(None) => {
                        let (extents, retired) = Default::default();
                        batch.push(Rest::Free { extents, retired, reply }, Vec::new());
                    }
                    Ok(Some(mark::FreePlan { extents, retired, first, rest })) => {
                        batch.push_last(Rest::Free { extents, retired, reply }, first, rest);
                    }
                }
                self.refuse_early(&key, &Refusal::OutOfOrder { expected: RowSequence::FIRST });
            }
            Job::Raise { found, incarnation, reply } => {
                batch.raise = Some(Raise { found, incarnation, reply });
                batch.closed = true;
            }
        }
    }

    fn plan_append(&mut self, append: Append, payload: Bytes, reply: Reply<()>, batch: &mut Batch) {
        let key = key_of(&append.address);
        let mut next = Some((append, payload, reply));
        while let Some((append, payload, reply)) = next.take() {
            let plan = append::plan(&self.shared, &mut self.shared.state(), &append, &payload);
            let sequence = append.sequence;
            match plan {
                Ok(writes) => {
                    batch.push(Rest::Append { key, sequence, reply }, writes);
                    let early = self.early.remove(&(key, sequence.next()));
                    next = early.map(|early| (early.append, early.payload, early.reply));
                }
                Err(Refusal::OutOfOrder { expected }) if self.may_wait(expected, sequence) => {
                    let since = self.env.clock.now();
                    let early = Early { append, payload, reply, since };
                    // The same row twice: who sent it first has given up on it.
                    if let Some(before) = self.early.insert((key, sequence), early) {
                        answer(before.reply, Err(Refusal::Busy));
                    }
                }
                Err(refusal) => answer(reply, Err(refusal)),
            }
        }
    }

    /// Whether a row that came too early is kept until the one before it comes. A writer has few rows in flight, so a row further
    /// ahead is not early but wrong.
    fn may_wait(&self, expected: RowSequence, sequence: RowSequence) -> bool {
        let window = u32::try_from(ROWS_IN_FLIGHT_MAX).expect("a small constant");
        let ahead = sequence.get().checked_sub(expected.get());
        ahead.is_some_and(|ahead| ahead > 0 && ahead < window) && self.early.len() < DRIVE_EARLY_ROWS_MAX
    }

    fn refuse_early(&mut self, key: &FragmentKey, refusal: &Refusal) {
        self.refuse_early_where(|(waiting, _), _| (waiting == key).then(|| refusal.clone()));
    }

    /// Sends away the early rows that have waited long enough, and those whose fragment takes no more rows.
    fn refuse_hopeless(&mut self) {
        if self.early.is_empty() {
            return;
        }
        let now = self.env.clock.now();
        let shared = self.shared.clone();
        self.refuse_early_where(|(key, _), early| {
            let state = shared.state();
            let fragment = state.fragments.get(key);
            if fragment.is_some_and(|fragment| fragment.failed) {
                return Some(Refusal::DriveError);
            }
            let expected = fragment.map_or(RowSequence::FIRST, Fragment::next_sequence);
            (now.since(early.since) >= EARLY_PATIENCE).then_some(Refusal::OutOfOrder { expected })
        });
    }

    fn refuse_early_where(
        &mut self,
        refusal: impl Fn(&(FragmentKey, RowSequence), &Early) -> Option<Refusal>,
    ) {
        for (place, early) in std::mem::take(&mut self.early) {
            match refusal(&place, &early) {
                Some(refusal) => answer(early.reply, Err(refusal)),
                None => drop(self.early.insert(place, early)),
            }
        }
    }

    async fn raise(&self, raise: Raise) {
        let Raise { found, incarnation, reply } = raise;
        let (device, clock) = (self.shared.device.as_ref(), self.env.clock.as_ref());
        let verified = self.shared.state().verified_to_write();
        let raised = open::raise(device, clock, &found, incarnation, verified).await;
        if let Some(error) = &raised.failed {
            tracing::error!(drive = %self.shared.id, %error, "superblock cannot be written");
            // The flush that failed was of pieces too, which wait for no flush of their own.
            self.suspect(false);
        }
        answer(reply, Ok(raised));
    }

    async fn carry_out(&self, batch: Batch) {
        let Batch { first, second, mut planned, .. } = batch;
        let written = self.write_all(first).await;
        let flush_needed = planned.iter().any(|planned| !matches!(planned.rest, Rest::Piece { .. }));
        let flushed = !flush_needed || self.flush().await;
        if !flushed || written.contains(&false) {
            self.suspect(flushed);
        }
        let is_done = |writes: std::ops::Range<usize>| flushed && written[writes].iter().all(|done| *done);
        let last = if second.is_empty() { None } else { planned.pop() };
        for Planned { rest, writes } in planned {
            self.complete(rest, is_done(writes)).await;
        }
        let Some(Planned { rest: last, writes }) = last else { return };
        let mut done = is_done(writes) && !self.has_failed(&last);
        if done {
            let written = !self.write_all(second).await.contains(&false);
            let flushed = written && self.flush().await;
            done = flushed;
            if !done {
                self.suspect(flushed || !written);
            }
        }
        self.complete(last, done).await;
    }

    /// Whether what the last job goes on from failed in the same batch: a piece of the fragment that it ends, or the mark that it cuts by.
    fn has_failed(&self, rest: &Rest) -> bool {
        let (state, geometry) = (self.shared.state(), &self.shared.geometry);
        match rest {
            Rest::Finish { key, .. } => state.fragments.get(key).is_none_or(|fragment| fragment.failed),
            Rest::Cut { key } => state.fragments[key].extents_agreed(geometry).is_none(),
            Rest::Append { .. } | Rest::Mark { .. } | Rest::Piece { .. } | Rest::Free { .. } => false,
        }
    }

    /// A write or flush failed.
    fn suspect(&self, flushed: bool) {
        let mut state = self.shared.state();
        if !state.suspect {
            tracing::error!(drive = %self.shared.id, "a write or flush failed: no new fragments on this drive");
        }
        state.suspect = true;
        if !flushed {
            state.forsake_unflushed();
        }
    }

    async fn complete(&self, rest: Rest, done: bool) {
        let state = || self.shared.state();
        match rest {
            Rest::Append { key, sequence, reply } => {
                answer(reply, append::complete(&mut state(), &key, sequence, done));
            }
            Rest::Mark { key, reply } => answer(reply, mark::complete(&mut state(), &key, done)),
            Rest::Cut { key } if done => {
                let geometry = &self.shared.geometry;
                let extents = state().fragments[&key].extents_cut(geometry).collect::<Vec<_>>();
                self.discard(&extents).await;
                state().give_back_cut(&key, geometry);
            }
            // They stay with the fragment: the length is agreed on, whatever their headers say, and the next start ends this.
            Rest::Cut { .. } => {}
            Rest::Piece { key, reply } => answer(reply, slice::complete_piece(&mut state(), &key, done)),
            Rest::Finish { key, table_crc32c, reply } => {
                let result = slice::complete_finish(&mut state(), &key, table_crc32c, done);
                answer(reply, result.map(|()| table_crc32c));
            }
            Rest::Free { extents, retired, reply } if done => {
                self.discard(&extents).await;
                extents.into_iter().for_each(|extent| state().extents.give_back(extent));
                state().retire(retired);
                answer(reply, Ok(()));
            }
            Rest::Free { extents, retired, reply } => {
                // What their headers say now only the next start can find out.
                state().unknown_extents.extend(extents.into_iter().chain(retired));
                answer(reply, Err(Refusal::DriveError));
            }
        }
    }

    async fn discard(&self, extents: &[u32]) {
        for extent in extents {
            let offset_bytes = self.shared.device_offset_bytes(*extent, 0);
            let len_bytes = u64::from(self.shared.layout.extent_len_bytes());
            // A hint: whether it is taken changes nothing.
            let _ =
                self.shared.device.submit(Operation::Discard { offset_bytes, len_bytes }, Class::Scrub).await;
        }
    }

    /// Whether each was written.
    async fn write_all(&self, writes: Vec<Write>) -> Vec<bool> {
        stream::iter(writes).map(|write| self.write(write)).buffered(WRITES_IN_FLIGHT_MAX).collect().await
    }

    async fn write(&self, write: Write) -> bool {
        let (device, clock) = (self.shared.device.as_ref(), self.env.clock.as_ref());
        self.succeeded("write", media::write(device, clock, write).await)
    }

    async fn flush(&self) -> bool {
        if self.shared.mutants.has(Mutant::SkipFlush) {
            return true;
        }
        let (device, clock) = (self.shared.device.as_ref(), self.env.clock.as_ref());
        self.succeeded("flush", media::flush(device, clock).await)
    }

    fn succeeded(&self, what: &str, result: Result<(), DeviceError>) -> bool {
        if let Err(error) = &result {
            tracing::error!(drive = %self.shared.id, %error, at = ?self.env.clock.now(), "{what} failed");
        }
        result.is_ok()
    }
}

fn push_or_refuse(
    batch: &mut Batch,
    plan: Result<Vec<Write>, Refusal>,
    reply: Reply<()>,
    rest: impl FnOnce(Reply<()>) -> Rest,
) {
    match plan {
        Ok(writes) => batch.push(rest(reply), writes),
        Err(refusal) => answer(reply, Err(refusal)),
    }
}
