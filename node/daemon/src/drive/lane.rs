//! The lane: everything that changes a drive's media, batch by batch.
//!
//! A batch is planned in memory under the state's lock, written at once, flushed once, and only then answered. While it is under way
//! the next one gathers by itself, so the flush is shared by as many jobs as the drive's own speed brings together; there is no timer.
//!
//! A job that needs one thing on media before another has a second phase: the first is flushed before the second is written.

use super::state::{State, key_of};
use super::{Shared, append, mark, slice};
use crate::limits::{DRIVE_BATCH_JOBS_MAX, DRIVE_BATCH_LEN_BYTES_MAX, DRIVE_EARLY_ROWS_MAX};
use bytes::Bytes;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use strongroom_core::mutants::Mutant;
use strongroom_env::Env;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::wire::message::{Append, FinishFragment, Free, Refusal, Seal, Settle, WriteFragment};
use strongroom_io::{AlignedBuffer, Class, Operation};
use strongroom_types::RowSequence;
use strongroom_types::limits::ROWS_IN_FLIGHT_MAX;
use tokio::sync::{mpsc, oneshot};

/// Where the answer to a job goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// One change, and who waits for it.
pub(super) enum Job {
    /// A row.
    Append {
        /// Which.
        append: Append,
        /// Its payload.
        payload: Bytes,
        /// Told once it is durable.
        reply: Reply<()>,
    },
    /// A fence.
    Seal {
        /// Which.
        seal: Seal,
        /// Told once the mark is durable.
        reply: Reply<()>,
    },
    /// The agreed length.
    Settle {
        /// Which.
        settle: Settle,
        /// Told once the mark is durable.
        reply: Reply<()>,
    },
    /// A piece of a cold fragment.
    Piece {
        /// Which.
        write: WriteFragment,
        /// Its bytes.
        payload: Bytes,
        /// Told once it is written, not flushed.
        reply: Reply<()>,
    },
    /// The end of a cold fragment.
    Finish {
        /// Which.
        finish: FinishFragment,
        /// Told once all of it is durable.
        reply: Reply<u32>,
    },
    /// A fragment to give back.
    Free {
        /// Which.
        free: Free,
        /// Told once it is gone.
        reply: Reply<()>,
    },
}

/// One write of a batch.
pub(super) struct Write {
    /// Where on the device.
    pub(super) offset_bytes: u64,
    /// What.
    pub(super) buffer: AlignedBuffer,
}

/// What is left to do of a job once its writes are through.
enum Rest {
    Append { key: FragmentKey, sequence: RowSequence, reply: Reply<()> },
    Mark { key: FragmentKey, reply: Reply<()> },
    Piece { key: FragmentKey, reply: Reply<()> },
    Finish { key: FragmentKey, table_crc32c: u32, reply: Reply<u32> },
    Free { extents: Vec<u32>, reply: Reply<()> },
}

/// A planned job.
struct Planned {
    rest: Rest,
    /// Its writes of the first phase, as a range of the batch's.
    writes: std::ops::Range<usize>,
}

#[derive(Default)]
struct Batch {
    first: Vec<Write>,
    /// Written after the first phase was flushed; flushed again.
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
}

/// The lane of one drive.
pub(super) struct Lane {
    shared: Arc<Shared>,
    env: Env,
    jobs: mpsc::Receiver<Job>,
    /// Rows that overtook the one they follow.
    early: BTreeMap<(FragmentKey, RowSequence), (Append, Bytes, Reply<()>)>,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, env: Env, jobs: mpsc::Receiver<Job>) -> Self {
        Self { shared, env, jobs, early: BTreeMap::new() }
    }

    pub(super) async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            let mut batch = Batch::default();
            self.plan(job, &mut batch);
            while batch.takes_more()
                && let Ok(job) = self.jobs.try_recv()
            {
                self.plan(job, &mut batch);
            }
            if !batch.planned.is_empty() {
                self.carry_out(batch).await;
            }
        }
    }

    fn plan(&mut self, job: Job, batch: &mut Batch) {
        match job {
            Job::Append { append, payload, reply } => self.plan_append(append, payload, reply, batch),
            Job::Seal { seal, reply } => {
                let key = key_of(&seal.address);
                self.refuse_early(&key);
                let plan = mark::plan_seal(&self.shared, &mut self.shared.state(), &seal);
                push_or_refuse(batch, plan, reply, |reply| Rest::Mark { key, reply });
                batch.closed = true;
            }
            Job::Settle { settle, reply } => {
                let key = key_of(&settle.address);
                let plan = mark::plan_settle(&self.shared, &mut self.shared.state(), &settle);
                push_or_refuse(batch, plan, reply, |reply| Rest::Mark { key, reply });
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
                    Ok(slice::FinishPlan::Already { table_crc32c }) => answer(reply, Ok(table_crc32c)),
                    Ok(slice::FinishPlan::Write { table, marks, table_crc32c }) => {
                        batch.push(Rest::Finish { key, table_crc32c, reply }, table);
                        batch.second.extend(marks);
                        batch.closed = true;
                    }
                }
            }
            Job::Free { free, reply } => {
                let key = key_of(&free.address);
                self.refuse_early(&key);
                match mark::plan_free(&self.shared, &mut self.shared.state(), &key) {
                    None => answer(reply, Ok(())),
                    Some(plan) => {
                        batch.push(Rest::Free { extents: plan.extents, reply }, plan.first);
                        batch.second.extend(plan.rest);
                        batch.closed = true;
                    }
                }
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
                    next = self.early.remove(&(key, sequence.next()));
                }
                Err(Refusal::OutOfOrder { expected }) if self.may_wait(expected, sequence) => {
                    self.early.insert((key, sequence), (append, payload, reply));
                }
                Err(refusal) => answer(reply, Err(refusal)),
            }
        }
    }

    /// Whether a row that came too early is kept until the one before it comes. A writer has few rows in flight, so a row further
    /// ahead is not early but wrong. Who waits has a deadline of its own; a fence or free sends all that waits away.
    fn may_wait(&self, expected: RowSequence, sequence: RowSequence) -> bool {
        let window = u32::try_from(ROWS_IN_FLIGHT_MAX).expect("a small constant");
        let ahead = sequence.get().checked_sub(expected.get());
        ahead.is_some_and(|ahead| ahead > 0 && ahead < window) && self.early.len() < DRIVE_EARLY_ROWS_MAX
    }

    fn refuse_early(&mut self, key: &FragmentKey) {
        let range = (*key, RowSequence::new(0))..=(*key, RowSequence::new(u32::MAX));
        let waiting: Vec<_> = self.early.range(range).map(|(place, _)| *place).collect();
        for place in waiting {
            let (_, _, reply) = self.early.remove(&place).expect("just listed");
            answer(reply, Err(Refusal::OutOfOrder { expected: place.1 }));
        }
    }

    async fn carry_out(&self, batch: Batch) {
        let Batch { first, second, planned, .. } = batch;
        let written = self.write_all(first).await;
        let flush_needed = planned.iter().any(|planned| !matches!(planned.rest, Rest::Piece { .. }));
        let mut flushed = !flush_needed || self.flush().await;
        if !second.is_empty() && flushed && written.iter().all(|done| *done) {
            let second_written = self.write_all(second).await;
            flushed = second_written.iter().all(|done| *done) && self.flush().await;
        } else if !second.is_empty() {
            flushed = false;
        }
        let mut discards = Vec::new();
        {
            let mut state = self.shared.state();
            if !flushed || written.contains(&false) {
                if !state.suspect {
                    tracing::error!(drive = %self.shared.id, "a write or flush failed: no new fragments on this drive");
                }
                state.suspect = true;
            }
            for Planned { rest, writes } in planned {
                let done = flushed && written[writes].iter().all(|done| *done);
                complete(&mut state, rest, done, &mut discards);
            }
        }
        for extent in discards {
            let offset_bytes = self.shared.device_offset_bytes(extent, 0);
            let len_bytes = u64::from(self.shared.layout.extent_len_bytes());
            // A hint: whether it is taken changes nothing.
            let _ =
                self.shared.device.submit(Operation::Discard { offset_bytes, len_bytes }, Class::Scrub).await;
            self.shared.state().extents.give_back(extent);
        }
    }

    async fn write_all(&self, writes: Vec<Write>) -> Vec<bool> {
        let submit = |write: Write| {
            let operation = Operation::Write { offset_bytes: write.offset_bytes, buffer: write.buffer };
            self.shared.device.submit(operation, Class::Append)
        };
        let completions = join_all(writes.into_iter().map(submit)).await;
        completions.into_iter().map(|completion| self.succeeded("write", completion.result)).collect()
    }

    async fn flush(&self) -> bool {
        if self.shared.mutants.has(Mutant::SkipFlush) {
            return true;
        }
        let completion = self.shared.device.submit(Operation::Flush, Class::Append).await;
        self.succeeded("flush", completion.result)
    }

    fn succeeded(&self, what: &str, result: Result<(), strongroom_io::DeviceError>) -> bool {
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

fn complete(state: &mut State, rest: Rest, done: bool, discards: &mut Vec<u32>) {
    match rest {
        Rest::Append { key, sequence, reply } => {
            answer(reply, append::complete(state, &key, sequence, done));
        }
        Rest::Mark { key, reply } => answer(reply, mark::complete(state, &key, done)),
        Rest::Piece { key, reply } => answer(reply, slice::complete_piece(state, &key, done)),
        Rest::Finish { key, table_crc32c, reply } => {
            answer(reply, slice::complete_finish(state, &key, table_crc32c, done).map(|()| table_crc32c));
        }
        Rest::Free { extents, reply } => {
            // Where the headers could not be overwritten the extents stay taken until the next start looks at them.
            if done {
                discards.extend(extents);
            }
            answer(reply, if done { Ok(()) } else { Err(Refusal::DriveError) });
        }
    }
}

/// Whoever asked may have gone; the change stands all the same.
fn answer<T>(reply: Reply<T>, result: Result<T, Refusal>) {
    let _ = reply.send(result);
}
