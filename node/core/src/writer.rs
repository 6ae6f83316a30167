//! The writer of hot slabs: needles in, rows out, locators once a row is durable.
//!
//! One state machine for one writer. It owns at most one slab that it appends to, one spare that is already open, and a few that
//! were rolled and wait for their last acknowledgements. Sending, and asking the slab table, is the shell's business: events come
//! in, actions go out, time is an argument.
//!
//! What the shell must do:
//! - answer each [`Action::Open`] with one [`Event::Opened`] or [`Event::OpenFailed`];
//! - for each [`Action::Send`], in their order for each holder, call the holder once and report [`Event::Acked`] or
//!   [`Event::HolderFailed`]; a call without an answer is `HolderFailed` too. A row is never sent again;
//! - after each event, and at [`SlabWriter::next_wakeup`], hand in an [`Event::Tick`] if nothing else.
//!
//! After a restart there is nothing to do: slabs of an earlier session are sealed by others.
//!
//! **Invariant** A locator leaves only when its row and all rows before it are durable by the ack rule. Every ticket gets exactly one
//! outcome. A holder sees rows in order, without gaps, and none after it failed.

mod config;
mod event;
mod patience;
mod slab;
mod waiting;

pub use config::WriterConfig;
pub use event::{Action, Actions, Event, Needle, RollReason, Ticket, WriteFailure};

use crate::durable::Spread;
use crate::fragment_set::FragmentSet;
use crate::limits::{
    AVOID_FOR, AVOIDED_NODES_MAX, OPEN_PAUSE_MAX, OPEN_PAUSE_MIN, RETIRING_PATIENCE_FACTOR,
    RETIRING_PATIENCE_MIN, RETIRING_SLABS_MAX,
};
use patience::Patience;
use slab::Slab;
use std::collections::VecDeque;
use std::time::Duration;
use strongroom_types::{FragmentIndex, Instant, NodeId, RowSequence, SlabId, SlabRecord};
use waiting::{Waiting, WaitingQueue, padded};

/// The writer.
#[derive(Debug)]
pub struct SlabWriter {
    config: WriterConfig,
    waiting: WaitingQueue,
    /// Rows go here. None of its holders has failed.
    open: Option<Slab>,
    /// Open too, and empty.
    spare: Option<Slab>,
    /// Get no more rows; the oldest first.
    retiring: VecDeque<Retiring>,
    /// An `Open` has not been answered yet.
    opening: bool,
    open_not_before: Instant,
    /// Slabs in a row that failed, or could not be opened, without a durable row between them.
    failures: u32,
    avoided: heapless::Deque<(NodeId, Instant), AVOIDED_NODES_MAX>,
    patience: Patience,
}

#[derive(Debug)]
struct Retiring {
    slab: Slab,
    reason: RollReason,
    deadline: Instant,
}

impl SlabWriter {
    /// A writer without a slab. The first event makes it ask for one.
    pub fn new(config: WriterConfig) -> Self {
        config.check();
        Self {
            config,
            waiting: WaitingQueue::default(),
            open: None,
            spare: None,
            retiring: VecDeque::with_capacity(RETIRING_SLABS_MAX),
            opening: false,
            open_not_before: Instant::ORIGIN,
            failures: 0,
            avoided: heapless::Deque::new(),
            patience: Patience::new(),
        }
    }

    /// Takes one event.
    pub fn handle(&mut self, now: Instant, event: Event, actions: &mut Actions) {
        match event {
            Event::Needle(needle) => self.accept(now, needle, actions),
            Event::Opened { record, spread } => self.opened(now, *record, *spread, actions),
            Event::OpenFailed => {
                self.opening = false;
                self.pause(now);
            }
            Event::Acked { slab, fragment, sequence } => self.acked(now, slab, fragment, sequence, actions),
            Event::HolderFailed { slab, fragment, fenced } => {
                self.holder_failed(now, slab, fragment, fenced, actions);
            }
            Event::SealAll => {
                if self.open.as_ref().is_some_and(Slab::has_content) {
                    self.roll(now, RollReason::Commanded, actions);
                }
            }
            Event::DrivesLeave { drives } => {
                let reason = RollReason::DriveLeaves;
                let leaves =
                    |slab: &Slab| slab.record.holders.iter().any(|holder| drives.contains(&holder.drive));
                self.drop_spare(leaves, reason, actions);
                if self.open.as_ref().is_some_and(leaves) {
                    self.roll(now, reason, actions);
                }
            }
            Event::SessionOver { session } => {
                let reason = RollReason::Fenced;
                self.drop_spare(|spare| spare.record.session == session, reason, actions);
                if self.open.as_ref().is_some_and(|open| open.record.session == session) {
                    self.roll(now, reason, actions);
                }
            }
            Event::Tick => {}
        }
        // Before the roll, to make room for one more rolled slab; after it, for one that has nothing to wait for.
        self.retire(now, actions);
        self.roll_by_time(now, actions);
        self.retire(now, actions);
        self.fill(now, actions);
        self.expire(now, actions);
        self.request(now, actions);
    }

    /// When a `Tick` is due at the latest; `None` while nothing waits for time.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let open = self.open.as_ref();
        let late = open.and_then(|slab| self.late_at(slab));
        let aged = open.and_then(|slab| self.aged_at(slab));
        let retired = self.retiring.iter().map(|retiring| retiring.deadline).min();
        let request = (!self.opening && self.wants_slab()).then_some(self.open_not_before);
        let expired = if open.is_none() { self.expires_at() } else { None };
        [late, aged, retired, request, expired].into_iter().flatten().min()
    }

    /// Bytes of needles that wait for a row, padded.
    pub fn waiting_len_bytes(&self) -> u64 {
        self.waiting.len_bytes()
    }

    /// How long a holder is waited for now.
    pub fn patience(&self) -> Duration {
        self.patience.get()
    }

    fn accept(&mut self, now: Instant, needle: Needle, actions: &mut Actions) {
        let len_bytes = needle.bytes.len();
        if len_bytes == 0 || len_bytes > self.config.row_len_bytes_max as usize {
            let reason = WriteFailure::Length { len_bytes };
            actions.push(Action::Failed { ticket: needle.ticket, reason });
            return;
        }
        let after = self.waiting.len_bytes() + u64::from(padded(len_bytes));
        if after > self.config.waiting_len_bytes_max {
            actions.push(Action::Busy(needle));
            return;
        }
        self.waiting.push_back(Waiting { needle, tries: 0, since: now });
    }

    fn opened(&mut self, now: Instant, record: SlabRecord, spread: Spread, actions: &mut Actions) {
        self.opening = false;
        let slab = Slab::new(record, spread);
        if !slab.is_fit(self.config.rule) {
            self.pause(now);
            finish(&slab, RollReason::Unfit, actions);
        } else if self.open.is_none() {
            self.open = Some(slab);
        } else if self.spare.is_none() {
            self.spare = Some(slab);
        } else {
            // Not asked for; it must not stay open without a writer.
            finish(&slab, RollReason::Commanded, actions);
        }
    }

    fn acked(
        &mut self,
        now: Instant,
        slab: SlabId,
        fragment: FragmentIndex,
        sequence: RowSequence,
        actions: &mut Actions,
    ) {
        let (rule, mutants) = (self.config.rule, self.config.mutants);
        let Some(slab) = self.find(slab) else { return };
        let Some(latency) = slab.ack(now, fragment, sequence) else { return };
        let durable = slab.advance(rule, mutants, actions);
        self.patience.record(latency);
        if durable {
            self.failures = 0;
        }
    }

    fn holder_failed(
        &mut self,
        now: Instant,
        id: SlabId,
        fragment: FragmentIndex,
        fenced: bool,
        actions: &mut Actions,
    ) {
        let (rule, mutants) = (self.config.rule, self.config.mutants);
        let reason = if fenced { RollReason::Fenced } else { RollReason::HolderFailed };
        let Some(slab) = self.find(id).filter(|slab| slab.spread.all().contains(fragment)) else { return };
        slab.stop(fragment, fenced);
        // Rows that waited for this holder alone are forgotten now.
        slab.advance(rule, mutants, actions);
        let node = slab.record.holders.get(usize::from(fragment.get())).map(|holder| holder.node);
        if let Some(node) = node.filter(|_| !fenced) {
            self.avoid(now, node);
            self.drop_spare(|spare| !spare.spread.on_node(node).is_empty(), reason, actions);
        }
        self.drop_spare(|spare| spare.id() == id, reason, actions);
        if self.open.as_ref().is_some_and(|open| open.id() == id) {
            self.roll(now, reason, actions);
        }
    }

    fn find(&mut self, id: SlabId) -> Option<&mut Slab> {
        let retiring = self.retiring.iter_mut().map(|retiring| &mut retiring.slab);
        self.open.iter_mut().chain(self.spare.iter_mut()).chain(retiring).find(|slab| slab.id() == id)
    }

    fn drop_spare(&mut self, unfit: impl Fn(&Slab) -> bool, reason: RollReason, actions: &mut Actions) {
        if let Some(spare) = self.spare.take_if(|spare| unfit(spare)) {
            finish(&spare, reason, actions);
        }
    }

    fn avoid(&mut self, now: Instant, node: NodeId) {
        self.avoided.retain(|(other, _)| *other != node);
        if self.avoided.is_full() {
            self.avoided.pop_front();
        }
        self.avoided.push_back((node, now.after(AVOID_FOR))).expect("room was made");
    }

    /// Puts the next request for a slab off, longer with each failure in a row: a failure that returns at once must not turn into a
    /// storm on the slab table.
    fn pause(&mut self, now: Instant) {
        let pause = OPEN_PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(OPEN_PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.open_not_before = self.open_not_before.max(now.after(pause));
    }

    fn late_at(&self, slab: &Slab) -> Option<Instant> {
        slab.oldest_outstanding().map(|(sent_at, _)| sent_at.after(self.patience.get()))
    }

    /// When `slab` is rolled for its age; `None` too while there is no room for one more rolled slab: age can wait.
    fn aged_at(&self, slab: &Slab) -> Option<Instant> {
        let room = self.retiring.len() < RETIRING_SLABS_MAX;
        slab.first_row_at.filter(|_| room).map(|first| first.after(self.config.slab_age_max))
    }

    fn expires_at(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.since.after(self.config.needle_wait_max))
    }

    fn wants_slab(&self) -> bool {
        self.open.is_none() || self.spare.is_none()
    }

    fn roll_by_time(&mut self, now: Instant, actions: &mut Actions) {
        let Some(open) = &self.open else { return };
        if self.late_at(open).is_some_and(|at| at <= now) {
            let late = open.oldest_outstanding().map_or(FragmentSet::EMPTY, |(_, outstanding)| outstanding);
            let nodes: heapless::Vec<NodeId, AVOIDED_NODES_MAX> =
                late.iter().map(|fragment| open.spread.nodes()[usize::from(fragment.get())]).collect();
            for node in nodes {
                self.avoid(now, node);
            }
            self.roll(now, RollReason::HolderLate, actions);
        } else if self.aged_at(open).is_some_and(|at| at <= now) {
            self.roll(now, RollReason::Aged, actions);
        }
    }

    /// The open slab gets no more rows. It is sealed only once its last answers are in, or are not waited for any more: a seal at
    /// once would cut off the copies that are a moment behind, and each would have to be repaired.
    fn roll(&mut self, now: Instant, reason: RollReason, actions: &mut Actions) {
        let Some(slab) = self.open.take() else { return };
        let failed = match reason {
            RollReason::HolderFailed | RollReason::HolderLate | RollReason::Fenced | RollReason::Unfit => {
                true
            }
            RollReason::Full | RollReason::Aged | RollReason::Commanded | RollReason::DriveLeaves => false,
        };
        if failed && !slab.has_durable_rows() {
            // The first failure costs no time; those that follow without a durable row between them do.
            match self.failures {
                0 => self.failures = 1,
                _ => self.pause(now),
            }
        }
        while self.retiring.len() >= RETIRING_SLABS_MAX {
            self.give_up_oldest(actions);
        }
        let patience = (self.patience.get() * RETIRING_PATIENCE_FACTOR).max(RETIRING_PATIENCE_MIN);
        self.retiring.push_back(Retiring { slab, reason, deadline: now.after(patience) });
    }

    fn give_up_oldest(&mut self, actions: &mut Actions) {
        let Some(mut retiring) = self.retiring.pop_front() else { return };
        let lost = retiring.slab.take_lost(self.config.rule, true);
        self.put_back(lost, actions);
        finish(&retiring.slab, retiring.reason, actions);
    }

    fn retire(&mut self, now: Instant, actions: &mut Actions) {
        for _ in 0..self.retiring.len() {
            let Some(mut retiring) = self.retiring.pop_front() else { return };
            let over = retiring.deadline <= now;
            let lost = retiring.slab.take_lost(self.config.rule, over);
            self.put_back(lost, actions);
            if over || retiring.slab.is_quiet() {
                finish(&retiring.slab, retiring.reason, actions);
            } else {
                self.retiring.push_back(retiring);
            }
        }
    }

    /// Needles of rows that were lost go to the front of the queue, in their order, or fail if they were tried often enough. No
    /// locator of theirs was given out, so that what is left of them in the old slab is garbage.
    fn put_back(&mut self, lost: Vec<Waiting>, actions: &mut Actions) {
        for waiting in lost.into_iter().rev() {
            if waiting.tries >= self.config.tries_max {
                let reason = WriteFailure::TriesSpent { tries: waiting.tries };
                actions.push(Action::Failed { ticket: waiting.needle.ticket, reason });
            } else {
                self.waiting.push_front(waiting);
            }
        }
    }

    /// Sends rows while the bounds allow. A row takes what waits now: alone when the slab is idle, up to a full row when the
    /// rows in flight are many. There is no timer.
    fn fill(&mut self, now: Instant, actions: &mut Actions) {
        while let Some(front_len_bytes) = self.waiting.front_padded_len_bytes() {
            if self.open.is_none() {
                self.open = self.spare.take();
            }
            let Some(open) = &mut self.open else { return };
            let room_bytes = open.room_bytes(self.config.slab_len_bytes_max, self.config.row_len_bytes_max);
            if front_len_bytes > room_bytes {
                if self.retiring.len() >= RETIRING_SLABS_MAX {
                    return;
                }
                self.roll(now, RollReason::Full, actions);
                self.retire(now, actions);
            } else if open.may_send(self.config.row_len_bytes_max) {
                let row = self.waiting.take_row(room_bytes);
                open.send(now, row, self.config.mutants, actions);
            } else {
                return;
            }
        }
    }

    fn expire(&mut self, now: Instant, actions: &mut Actions) {
        while self.open.is_none()
            && self.expires_at().is_some_and(|at| at <= now)
            && let Some(waiting) = self.waiting.pop_front()
        {
            let reason = WriteFailure::NoSlab;
            actions.push(Action::Failed { ticket: waiting.needle.ticket, reason });
        }
    }

    fn request(&mut self, now: Instant, actions: &mut Actions) {
        if self.open.is_none() {
            self.open = self.spare.take();
        }
        if self.opening || !self.wants_slab() || now < self.open_not_before {
            return;
        }
        self.avoided.retain(|(_, until)| *until > now);
        let avoid = self.avoided.iter().map(|(node, _)| *node).collect();
        self.opening = true;
        actions.push(Action::Open { avoid });
    }
}

/// Nothing more is done with a slab here: it may be sealed.
fn finish(slab: &Slab, reason: RollReason, actions: &mut Actions) {
    let given_out = slab.durable_upto();
    actions.push(Action::Roll { slab: slab.id(), epoch: slab.record.epoch, given_out, reason });
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
