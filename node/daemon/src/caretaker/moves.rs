//! Fragments that are whole and are to be elsewhere: off drives that are to be emptied, and then for the sake of balance. After everything that is lost.
//!
//! The slab table and the view say what is to be moved, so a new leader goes on where the old one stopped. What is worth moving for balance is
//! `strongroom_core::rebalancer`'s; that is one fragment at a time for each leader. How a move goes is [`super::repair`]'s.

use super::queue::{Outcome, Queue};
use super::repair::{self, Why};
use super::{Caretaker, CaretakerParts, WALK_EVERY, encoders, lock, lost, tell_work};
use crate::limits::MOVES_MAX;
use crate::survey::fragment_len_bytes;
use futures::future::select;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use strongroom_core::FragmentSet;
use strongroom_core::mover::{self, Move};
use strongroom_core::rebalancer::{Look, Rebalancer};
use strongroom_types::{ClusterView, Instant, SlabId, SlabRecord};

/// After a move for balance nothing is decided before drives have reported what they have now: some pings.
const REPORTED_AFTER: Duration = Duration::from_secs(2);
/// What a sweep may come late, beside the grace time, when a moved fragment is given back.
const SWEEP_LATE: Duration = Duration::from_secs(2);

/// The lowest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Leaving,
    Balance,
}

/// What the last walk found.
#[derive(Default)]
pub(super) struct Walked {
    leaving: BTreeMap<SlabId, Rank>,
    look: Option<Look>,
}

impl Walked {
    /// The walk has come to a cold slab, of which `lost` fragments do not count.
    pub(super) fn cold(&mut self, record: &SlabRecord, lost: FragmentSet, view: &ClusterView) {
        if !mover::leaving(record, view).without(lost).is_empty() {
            self.leaving.insert(record.slab, Rank::Leaving);
        } else if let Some(look) = &mut self.look {
            look.consider(record, lost, view);
        }
    }

    /// Slabs that have fragments on drives that are to be emptied.
    pub(super) fn leaving_count(&self) -> u64 {
        self.leaving.len() as u64
    }
}

/// What is to be moved, and what is under way.
pub(super) struct Moves {
    queue: Mutex<Queue<Rank>>,
    rebalancer: Mutex<Rebalancer>,
    balance: Mutex<Balance>,
}

/// The one move for balance.
#[derive(Default)]
struct Balance {
    proposed: Option<Move>,
    under_way: bool,
    not_before: Instant,
    /// The last look found nothing to move, and nothing was moved since.
    at_rest: bool,
}

impl Moves {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue::new(MOVES_MAX)),
            rebalancer: Mutex::new(Rebalancer::new()),
            balance: Mutex::default(),
        }
    }

    /// A walk begins.
    pub(super) fn begin_walk(&self, view: &ClusterView, now: Instant) -> Walked {
        let may_balance = {
            let balance = lock(&self.balance);
            !balance.under_way && now >= balance.not_before
        };
        let look = may_balance.then(|| lock(&self.rebalancer).begin(view, now));
        Walked { look, ..Walked::default() }
    }

    /// A walk found these; what is known of other slabs is forgotten where `is_seen` says that the walk saw their group.
    pub(super) fn found(&self, walked: Walked, is_seen: impl Fn(SlabId) -> bool) {
        let mut all = walked.leaving;
        let mut balance = lock(&self.balance);
        if let Some(look) = walked.look
            && !balance.under_way
        {
            balance.proposed = look.end();
            balance.at_rest = balance.proposed.is_none();
        }
        if let Some(one) = &balance.proposed {
            all.entry(one.slab).or_insert(Rank::Balance);
        }
        drop(balance);
        lock(&self.queue).found(all, is_seen);
    }

    /// Whether there is anything to move for balance, as far as is known.
    pub(super) fn is_balancing(&self) -> bool {
        !lock(&self.balance).at_rest
    }

    /// The next slab of which something is to be moved, if any.
    pub(super) fn take(&self, now: Instant) -> Option<SlabId> {
        let slab = lock(&self.queue).take(now)?;
        let mut balance = lock(&self.balance);
        let is_proposed = balance.proposed.is_some_and(|one| one.slab == slab);
        balance.under_way |= is_proposed;
        Some(slab)
    }

    /// Moves what is to be moved of a slab that was taken, as it is now. Whether what was made for that is to be given up.
    async fn carry_out(&self, parts: &CaretakerParts, record: &SlabRecord, lost: FragmentSet) -> bool {
        let slab = record.slab;
        let proposed = lock(&self.balance).proposed.filter(|one| one.slab == slab);
        let outcome = self.try_to(parts, record, lost, proposed).await;
        let (layout, now) = (record.next_generation, parts.env.clock.now());
        let hopeless = lock(&self.queue).end(slab, layout, outcome, now);
        self.end_balance(parts, slab);
        // Another move may be better by then: what was made for this one would only take room.
        hopeless || (outcome != Outcome::Over && proposed.is_some())
    }

    /// A slab that was taken is not there any more.
    fn end_unseen(&self, parts: &CaretakerParts, slab: SlabId) {
        lock(&self.queue).end_unseen(slab);
        self.end_balance(parts, slab);
    }

    /// Where it was what was to be moved for balance.
    fn end_balance(&self, parts: &CaretakerParts, slab: SlabId) {
        let mut balance = lock(&self.balance);
        let proposed = balance.proposed.filter(|one| one.slab == slab);
        if proposed.is_some() {
            *balance = Balance {
                proposed: None,
                under_way: false,
                not_before: parts.env.clock.now().after(REPORTED_AFTER),
                at_rest: false,
            };
        }
    }

    async fn try_to(
        &self,
        parts: &CaretakerParts,
        record: &SlabRecord,
        lost: FragmentSet,
        proposed: Option<Move>,
    ) -> Outcome {
        let (slab, view) = (record.slab, parts.monitor.view());
        // The same for every attempt at this layout, so that a retry finds the fragments that an earlier one has finished.
        let seed = slab.to_bits() ^ u64::from(record.next_generation.get());
        let leaving = mover::leaving(record, &view).without(lost);
        let one = proposed.filter(|_| leaving.is_empty());
        let planned = match one {
            Some(one) => mover::plan_move(record, &view, one, lost),
            None => mover::plan_out(record, &view, leaving, lost, seed),
        };
        let plan = match planned {
            Ok(plan) => plan,
            Err(reason) => {
                tracing::debug!(%slab, ?leaving, %reason, "fragments are not moved now");
                return repair::not_planned(parts, Why::Moved, slab, reason);
            }
        };
        let (job, fragment_len_bytes) = (&parts.jobs.moves, fragment_len_bytes(record));
        job.spend_all(repair::cost(parts, &plan, fragment_len_bytes));
        let (outcome, fragments) = repair::carry_out(parts, &plan, Why::Moved).await;
        if outcome == Outcome::Over {
            job.advance(fragments);
            job.count("bytes moved", fragments * fragment_len_bytes);
            tracing::info!(%slab, ?leaving, balance = ?one, "fragments are moved");
            if let Some(one) = &one {
                let grace = 2 * parts.policy.free_after + SWEEP_LATE;
                lock(&self.rebalancer).moved(one, record, &view, parts.env.clock.now(), grace);
            }
        }
        outcome
    }
}

impl Caretaker {
    /// Only while nothing that is lost could be made again, or repairs are paused.
    pub(super) async fn move_ever(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let now = self.parts.env.clock.now();
            let repairs_first = !self.parts.jobs.repair.is_paused() && lock(&self.repairs).is_busy(now);
            while !repairs_first
                && self.parts.jobs.moves.may_begin()
                && let Some(slab) = self.moves.take(now)
            {
                under_way.push(self.move_some(slab));
            }
            let otherwise = match repairs_first {
                true => "what is lost is made again first",
                false => "nothing is to be moved now",
            };
            tell_work(&self.parts.jobs.moves, under_way.len(), otherwise);
            let pause = self.parts.env.clock.sleep(WALK_EVERY);
            if under_way.is_empty() {
                pause.await;
            } else {
                select(under_way.next(), pause).await;
            }
        }
    }

    async fn move_some(&self, slab: SlabId) {
        let Some(record) = self.present(slab).await else { return self.moves.end_unseen(&self.parts, slab) };
        let lost = lost(&record, &self.parts.monitor.presences());
        let give_up = self.moves.carry_out(&self.parts, &record, lost).await;
        // A repair that has begun meanwhile makes its fragments under the same generation.
        if give_up && !lock(&self.repairs).is_under_way(slab) {
            encoders::give_up(&self.parts, &record).await;
        }
    }
}
