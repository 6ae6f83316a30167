//! Sealing, counting again, converting, repairing and reclaiming, for the slabs of the groups that this node leads.
//!
//! The slab table says what is to be done, so a new leader goes on where the old one stopped: an open slab whose writer is gone is fenced, a
//! fenced one is sealed, an empty one is killed, a sealed one becomes cold once it is old enough, and what a cold one has lost is made again. What a cold
//! one has on drives that are to be emptied, or that are too full beside others, is moved. Of one that is mostly garbage the rest is copied elsewhere, it is
//! killed, and forgotten once its fragments are freed. Every step ends in one command that the table takes only if the slab still is what was seen (epoch or
//! generation), so two caretakers at once do no harm.

mod compact;
mod convert;
mod counts;
mod encoders;
mod hurry;
mod moves;
mod pause;
mod queue;
mod reclaim;
mod recount;
mod repair;
mod seal;
mod waits;

use crate::alarms::Alarms;
use crate::cluster::monitor::{Presence, Presences};
use crate::cluster::{Monitor, Peers};
use crate::config::SlabPolicy;
use crate::events::Events;
use crate::fetch::Fetcher;
use crate::ingest::Ingest;
use crate::jobs::Job;
use crate::limits::{CONVERTS_MAX, RECOUNTS_MAX, REPAIRS_MAX, SEALS_MAX, SLABS_PAGE};
use crate::status::SlabCounts;
use crate::store::Found;
use crate::survey::Condition;
use futures::future::{BoxFuture, select};
use futures::stream::{self, FuturesUnordered, StreamExt};
use hurry::tell_work;
use moves::Moves;
use queue::Queue;
use reclaim::Reclaim;
use recount::Recounts;
use seal::Seals;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use strongroom_core::mutants::MutantSwitch;
use strongroom_core::repair::margin_without;
use strongroom_core::{FragmentSet, Margin};
use strongroom_env::Env;
use strongroom_meta::group::{GroupAnswer, GroupCommand, GroupQuery};
use strongroom_meta::{Meta, MetaError};
use strongroom_types::{Deadline, GroupId, Instant, SlabId, SlabRecord, SlabState};

pub use hurry::{CaretakerJobs, Hurried, Hurry};
pub use reclaim::{Reclaimable, Reclaimed};

/// Between two walks over the slab tables.
const WALK_EVERY: Duration = Duration::from_millis(500);
/// A copy that does not count this long after its slab was sealed, though its node answers, is damaged: recounts have asked it meanwhile.
const RECOUNT_PATIENCE: Duration = Duration::from_secs(15);
/// How long the slab table may take to answer.
const META_PATIENCE: Duration = Duration::from_secs(5);
/// Silence of a writer after which its slabs are fenced. If it lives, what it has under way is refused, and it goes on under a new session.
const WRITER_PATIENCE: Duration = Duration::from_secs(10);

/// What the caretaker works with.
pub struct CaretakerParts {
    /// The world.
    pub env: Env,
    /// Groups and slab table.
    pub meta: Arc<Meta>,
    /// Calls to peers.
    pub peers: Peers,
    /// The view for placement.
    pub monitor: Arc<Monitor>,
    /// Reads what is alive in a slab.
    pub fetcher: Fetcher,
    /// Writes copies of it.
    pub ingest: Ingest,
    /// Where damage is told.
    pub alarms: Arc<Alarms>,
    /// Where what was done is told.
    pub events: Arc<Events>,
    /// What an operator pauses and paces it by.
    pub jobs: CaretakerJobs,
    /// Data groups of the cluster.
    pub groups: u16,
    /// Nothing is done before it is set: with another count of groups some would not be fenced, nor asked where locators end.
    pub found: Found,
    /// When slabs become cold.
    pub policy: SlabPolicy,
    /// Deliberate faults; none outside of tests.
    pub mutants: MutantSwitch,
}

/// Kinds of state whose age matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Open,
    Hot,
    Sealed,
    Dead,
}

/// When slabs were first seen in a kind of state.
type Ages = BTreeMap<(SlabId, Seen), Instant>;

/// What one walk finds.
#[derive(Default)]
struct Walk {
    counts: SlabCounts,
    seen: Ages,
    sealing: BTreeSet<SlabId>,
    /// Sealed copies that are to become cold.
    cool: BTreeMap<SlabId, ()>,
    /// Cold slabs that have lost fragments, and what they survive without.
    lost: BTreeMap<SlabId, Margin>,
    /// Sealed copies of which holders are missing.
    short: Vec<SlabId>,
    /// Cold slabs of which fragments are to be elsewhere.
    moves: moves::Walked,
    /// What may have garbage, and what is all garbage.
    reclaim: reclaim::Found,
}

/// Seals, converts and repairs.
pub struct Caretaker {
    parts: CaretakerParts,
    /// Ages are measured from when this node first saw a slab so, since clocks of other nodes mean nothing here.
    first_seen: Mutex<Ages>,
    conversions: Mutex<Queue<()>>,
    repairs: Mutex<Queue<Margin>>,
    /// Slabs that the last walk found short of holders.
    short: Mutex<Vec<SlabId>>,
    counts: Mutex<SlabCounts>,
    /// Runs that hurry something, by their ids: as many as there may be runs.
    hurried: Mutex<BTreeMap<u64, (Hurried, Arc<Job>)>>,
    seals: Seals,
    moves: Moves,
    reclaim: Reclaim,
}

impl Caretaker {
    /// Starts walking.
    pub fn start(parts: CaretakerParts) -> Arc<Self> {
        let caretaker = Arc::new(Self {
            parts,
            first_seen: Mutex::new(BTreeMap::new()),
            conversions: Mutex::new(Queue::new(CONVERTS_MAX)),
            repairs: Mutex::new(Queue::new(REPAIRS_MAX)),
            short: Mutex::new(Vec::new()),
            counts: Mutex::new(SlabCounts::default()),
            hurried: Mutex::default(),
            seals: Seals::default(),
            moves: Moves::new(),
            reclaim: Reclaim::new(),
        });
        let spawn = |name, task: BoxFuture<'static, ()>| caretaker.parts.env.spawn.spawn(name, task);
        let walker = caretaker.clone();
        let walk = async move {
            loop {
                walker.walk().await;
                walker.parts.env.clock.sleep(WALK_EVERY).await;
            }
        };
        spawn("caretaker", Box::pin(walk));
        // On their own: a conversion takes as long as reading and writing a slab does, and no slab may wait for its seal that long.
        let converter = caretaker.clone();
        spawn("converter", Box::pin(async move { converter.convert_ever().await }));
        let repairer = caretaker.clone();
        spawn("repairer", Box::pin(async move { repairer.repair_ever().await }));
        let mover = caretaker.clone();
        spawn("mover", Box::pin(async move { mover.move_ever().await }));
        let counter = caretaker.clone();
        let recount = async move {
            let mut recounts = Recounts::default();
            loop {
                counter.recount_due(&mut recounts).await;
                counter.parts.env.clock.sleep(WALK_EVERY).await;
            }
        };
        spawn("recount", Box::pin(recount));
        let reclaimer = caretaker.clone();
        let reclaim = async move {
            let is_hurried = || reclaimer.is_hurried(Hurried::Garbage);
            reclaimer.reclaim.run(&reclaimer.parts, is_hurried).await;
        };
        spawn("reclaimer", Box::pin(reclaim));
        caretaker
    }

    /// Repairs that failed and wait for their next try are due now.
    pub fn retry_repairs(&self) {
        lock(&self.repairs).retry_now();
    }

    /// Cold slabs that wait to be made whole again, of the groups that this node led at the last walk.
    pub fn repairs_waiting(&self) -> usize {
        lock(&self.repairs).waiting_count()
    }

    /// What was reclaimed of the slabs of groups that this node leads, and what is left.
    pub fn reclaimed(&self) -> Reclaimed {
        self.reclaim.reclaimed()
    }

    /// What a run that hurries garbage would compact now.
    pub async fn reclaimable(&self) -> Reclaimable {
        self.reclaim.reclaimable(&self.parts).await
    }

    /// Slabs of the groups that this node led at the last walk.
    pub fn counts(&self) -> SlabCounts {
        let (compacting, alive_bytes) = (self.reclaim.compacting_count(), self.reclaim.alive_bytes());
        let balancing = self.moves.is_balancing().into();
        SlabCounts { compacting, alive_bytes, balancing, ..*lock(&self.counts) }
    }

    async fn walk(&self) {
        if !self.parts.found.is_set() {
            return;
        }
        self.seals.begin_walk();
        let moves = self.moves.begin_walk(&self.parts.monitor.view(), self.parts.env.clock.now());
        let mut walk = Walk { moves, ..Walk::default() };
        let mut unseen = BTreeSet::new();
        for group in (0..self.parts.groups).map(GroupId::new) {
            if self.parts.meta.leads(group) {
                match self.slabs_of(group).await {
                    Ok(records) => self.walk_group(records, &mut walk).await,
                    Err(error) => {
                        tracing::debug!(%group, %error, "slab table cannot be walked now");
                        self.keep_seen(group, &mut walk.seen);
                        unseen.insert(group);
                    }
                }
            }
        }
        if unseen.is_empty() {
            self.seals.keep_only(&self.parts, &walk.sealing);
        }
        walk.counts.deficit += walk.lost.len() as u64;
        walk.counts.lost = counts::tell_lost(&self.parts.alarms, &walk.lost, unseen.is_empty());
        walk.counts.leaving = walk.moves.leaving_count();
        *lock(&self.first_seen) = walk.seen;
        let is_seen = |slab: SlabId| !unseen.contains(&slab.group());
        lock(&self.conversions).found(walk.cool, is_seen);
        lock(&self.repairs).found(walk.lost, is_seen);
        self.moves.found(walk.moves, is_seen);
        *lock(&self.counts) = walk.counts;
        *lock(&self.short) = walk.short;
        self.reclaim.found(walk.reclaim);
    }

    /// A place that one is done with goes to the next at once: an encoder that does not answer may hold up its own for minutes.
    async fn convert_ever(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            while let Some(slab) = self.take_conversion() {
                under_way.push(self.convert(slab));
            }
            tell_work(&self.parts.jobs.convert, under_way.len(), "no sealed slab is to become cold yet");
            let pause = self.parts.env.clock.sleep(WALK_EVERY);
            if under_way.is_empty() {
                pause.await;
            } else {
                select(under_way.next(), pause).await;
            }
        }
    }

    async fn repair_ever(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            while let Some(slab) = self.take_repair() {
                under_way.push(self.repair(slab));
            }
            tell_work(&self.parts.jobs.repair, under_way.len(), "nothing is lost that can be made again now");
            let pause = self.parts.env.clock.sleep(WALK_EVERY);
            if under_way.is_empty() {
                pause.await;
            } else {
                select(under_way.next(), pause).await;
            }
        }
    }

    fn take_repair(&self) -> Option<SlabId> {
        let may_begin = self.parts.jobs.repair.may_begin();
        may_begin.then(|| lock(&self.repairs).take(self.parts.env.clock.now())).flatten()
    }

    async fn repair(&self, slab: SlabId) {
        let Some(record) = self.present(slab).await else {
            return lock(&self.repairs).end_unseen(slab);
        };
        let lost = lost(&record, &self.parts.monitor.presences());
        let outcome = repair::repair(&self.parts, &record, lost).await;
        let (layout, now) = (record.next_generation, self.parts.env.clock.now());
        let hopeless = lock(&self.repairs).end(slab, layout, outcome, now);
        if hopeless {
            encoders::give_up(&self.parts, &record).await;
        }
    }

    fn take_conversion(&self) -> Option<SlabId> {
        let may_begin = self.parts.jobs.convert.may_begin();
        may_begin.then(|| lock(&self.conversions).take(self.parts.env.clock.now())).flatten()
    }

    async fn convert(&self, slab: SlabId) {
        let Some(record) = self.present(slab).await else {
            return lock(&self.conversions).end_unseen(slab);
        };
        let outcome = convert::convert(&self.parts, &record).await;
        let (layout, now) = (record.next_generation, self.parts.env.clock.now());
        let hopeless = lock(&self.conversions).end(slab, layout, outcome, now);
        if hopeless {
            encoders::give_up(&self.parts, &record).await;
        }
    }

    async fn recount_due(&self, recounts: &mut Recounts) {
        let short = lock(&self.short).clone();
        let due = recounts.due(short, self.parts.env.clock.now());
        stream::iter(due).for_each_concurrent(RECOUNTS_MAX, |slab| self.recount(slab)).await;
    }

    async fn recount(&self, slab: SlabId) {
        if let Some(record) = self.present(slab).await {
            recount::recount(&self.parts, record).await;
        }
    }

    /// A slab as it is now: since it was found it may have got another layout, or be another node's to care for.
    async fn present(&self, slab: SlabId) -> Option<SlabRecord> {
        if !self.parts.meta.leads(slab.group()) {
            return None;
        }
        match self.parts.meta.read(slab.group(), GroupQuery::Slab(slab), self.deadline()).await {
            Ok(GroupAnswer::Slab(record)) => record,
            Ok(other) => {
                tracing::debug!(%slab, ?other, "slab that something is to be done with is not there");
                None
            }
            Err(error) => {
                tracing::debug!(%slab, %error, "slab that something is to be done with cannot be looked up now");
                None
            }
        }
    }

    async fn slabs_of(&self, group: GroupId) -> Result<Vec<SlabRecord>, MetaError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let query = GroupQuery::Slabs { after, limit: SLABS_PAGE, live_only: false };
            // The answer may be a peer's: another kind is its fault, and no reason to fall.
            let GroupAnswer::Slabs(page) = self.parts.meta.read(group, query, self.deadline()).await? else {
                return Err(MetaError::Failed);
            };
            let full = page.len() == SLABS_PAGE as usize;
            after = page.last().map(|record| record.slab);
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
    }

    async fn walk_group(&self, records: Vec<SlabRecord>, walk: &mut Walk) {
        let now = self.parts.env.clock.now();
        let (view, presences) = (self.parts.monitor.view(), self.parts.monitor.presences());
        let may_seal = self.parts.jobs.seal.may_begin();
        let mut to_seal = Vec::new();
        for record in records {
            let condition = Condition::of(&record, &view, &presences);
            counts::count(&mut walk.counts, &record, &condition);
            if record.sealed().is_some_and(|sealed| sealed.rows > 0) {
                let since = self.note(&mut walk.seen, &record, Seen::Sealed, now);
                walk.reclaim.sealed(&record, since);
            }
            match &record.state {
                SlabState::Open => {
                    let since = self.note(&mut walk.seen, &record, Seen::Open, now);
                    let monitor = &self.parts.monitor;
                    let is_over =
                        monitor.session_is_over(record.writer, record.session, since, WRITER_PATIENCE);
                    if is_over && may_seal {
                        self.fence(&record).await;
                    }
                }
                SlabState::Sealing => to_seal.push(record),
                SlabState::Sealed(sealed) if sealed.rows == 0 => {
                    if may_seal {
                        self.kill_empty(&record).await;
                    }
                }
                SlabState::Sealed(sealed) if record.profile.is_copies() => {
                    if sealed.missing != 0 {
                        walk.short.push(record.slab);
                    }
                    let since = self.note(&mut walk.seen, &record, Seen::Hot, now);
                    // Copies are not made again: what lacks one becomes cold instead.
                    let (age, policy) = (now.since(since), &self.parts.policy);
                    let lacks = is_lacking(&record, sealed.missing, age, &presences);
                    let short = sealed.missing != 0 && self.is_hurried(Hurried::Short);
                    let hurried = short || self.is_hurried(Hurried::Sealed);
                    // And what is to leave a drive leaves it so.
                    let leaves = record.holders.iter().any(|holder| view.is_leaving(*holder));
                    let wanted = age >= policy.convert_after || lacks || leaves || hurried;
                    if wanted && !self.reclaim.has(record.slab) {
                        walk.cool.insert(record.slab, ());
                    }
                }
                SlabState::Sealed(_) => {
                    let lost = condition.lost;
                    if !lost.is_empty() {
                        // Where a holder's node is not known, all the more.
                        let margin = margin_without(&record, &view, lost).unwrap_or(Margin::Nothing);
                        walk.lost.insert(record.slab, margin);
                    }
                    if !self.reclaim.has(record.slab) {
                        walk.moves.cold(&record, lost, &view);
                    }
                }
                SlabState::Dead => {
                    let since = self.note(&mut walk.seen, &record, Seen::Dead, now);
                    walk.reclaim.dead(&record, since);
                }
            }
        }
        walk.sealing.extend(to_seal.iter().map(|record| record.slab));
        if !may_seal {
            return;
        }
        // Those of live writers first: others may wait for a group that does not answer.
        to_seal.sort_by_key(|record| record.given_out.is_none());
        let seal = |record| self.seals.seal(&self.parts, record);
        stream::iter(to_seal).for_each_concurrent(SEALS_MAX, seal).await;
    }

    /// Ages of a group whose table did not answer go on.
    fn keep_seen(&self, group: GroupId, seen: &mut Ages) {
        let before = lock(&self.first_seen);
        let of_group = before.iter().filter(|((slab, _), _)| slab.group() == group);
        seen.extend(of_group.map(|(place, since)| (*place, *since)));
    }

    /// Since when this node has seen the slab so; noted for the next walk.
    fn note(&self, seen: &mut Ages, record: &SlabRecord, kind: Seen, now: Instant) -> Instant {
        let place = (record.slab, kind);
        let before = lock(&self.first_seen);
        let since = before.get(&place).copied().unwrap_or(now);
        seen.insert(place, since);
        since
    }

    async fn fence(&self, record: &SlabRecord) {
        tracing::info!(slab = %record.slab, writer = %record.writer, "writer is gone: slab is fenced");
        let command = GroupCommand::BeginSeal { slab: record.slab, epoch: record.epoch, given_out: None };
        if let Err(error) = self.parts.meta.write(record.slab.group(), command, self.deadline()).await {
            tracing::debug!(slab = %record.slab, %error, "not fenced yet");
        }
    }

    /// No locator points into it or ever will: its writer was done with it, or was fenced in every group, before it was sealed. So its
    /// fences may be given back, and a writer that lives and then puts a first row into it can have none of it committed.
    async fn kill_empty(&self, record: &SlabRecord) {
        let command = GroupCommand::KillEmpty { slab: record.slab };
        if let Err(error) = self.parts.meta.write(record.slab.group(), command, self.deadline()).await {
            tracing::debug!(slab = %record.slab, %error, "empty slab not killed yet");
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.parts.env.clock.now(), META_PATIENCE)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this lock")
}

/// Whether a copy of a slab that was sealed so long ago is gone for good, or is damaged: its node is there and it does not count.
fn is_lacking(record: &SlabRecord, missing: u32, age: Duration, presences: &Presences) -> bool {
    (0..).zip(&record.holders).any(|(index, holder): (u8, _)| match presences.of(*holder) {
        Presence::Gone => true,
        Presence::Here => missing >> index & 1 == 1 && age >= RECOUNT_PATIENCE,
        Presence::Away => false,
    })
}

fn lost(record: &SlabRecord, presences: &Presences) -> FragmentSet {
    strongroom_core::repair::lost(record, |holder| presences.of(*holder) == Presence::Gone)
}
