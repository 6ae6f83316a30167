//! Sealing, counting again and converting, for the slabs of the groups that this node leads.
//!
//! The slab table says what is to be done, so a new leader goes on where the old one stopped: an open slab whose writer is gone is fenced, a
//! fenced one is sealed, an empty one is killed, a sealed one becomes cold once it is old enough. Every step ends in one command that the
//! table takes only if the slab still is what was seen (epoch or generation), so two caretakers at once do no harm.

mod conversions;
mod convert;
mod pause;
mod recount;
mod seal;
mod waits;

use crate::alarms::Alarms;
use crate::cluster::{Monitor, Peers};
use crate::config::SlabPolicy;
use crate::limits::{RECOUNTS_MAX, SEALS_MAX, SLABS_PAGE};
use crate::status::SlabCounts;
use crate::store::Found;
use conversions::Conversions;
use futures::future::select;
use futures::stream::{self, FuturesUnordered, StreamExt};
use recount::Recounts;
use seal::Seals;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use strongroom_core::mutants::MutantSwitch;
use strongroom_env::Env;
use strongroom_meta::group::{GroupAnswer, GroupCommand, GroupQuery};
use strongroom_meta::{Meta, MetaError};
use strongroom_types::{Deadline, GroupId, Instant, SlabId, SlabRecord, SlabState};

/// Between two walks over the slab tables.
const WALK_EVERY: Duration = Duration::from_millis(500);
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
    /// Where damage is told.
    pub alarms: Arc<Alarms>,
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
    cool: BTreeSet<SlabId>,
    /// Sealed copies of which holders are missing.
    short: Vec<SlabId>,
}

/// Seals and converts.
pub struct Caretaker {
    parts: CaretakerParts,
    /// Ages are measured from when this node first saw a slab so, since clocks of other nodes mean nothing here.
    first_seen: Mutex<Ages>,
    conversions: Mutex<Conversions>,
    /// Slabs that the last walk found short of holders.
    short: Mutex<Vec<SlabId>>,
    counts: Mutex<SlabCounts>,
    convert_now: AtomicBool,
    seals: Seals,
}

impl Caretaker {
    /// Starts walking.
    pub fn start(parts: CaretakerParts) -> Arc<Self> {
        let caretaker = Arc::new(Self {
            parts,
            first_seen: Mutex::new(BTreeMap::new()),
            conversions: Mutex::new(Conversions::default()),
            short: Mutex::new(Vec::new()),
            counts: Mutex::new(SlabCounts::default()),
            convert_now: AtomicBool::new(false),
            seals: Seals::default(),
        });
        let walker = caretaker.clone();
        let task = async move {
            loop {
                walker.walk().await;
                walker.parts.env.clock.sleep(WALK_EVERY).await;
            }
        };
        caretaker.parts.env.spawn.spawn("caretaker", Box::pin(task));
        // On its own: a conversion takes as long as reading and writing a slab does, and no slab may wait for its seal that long.
        let converter = caretaker.clone();
        let task = async move {
            converter.convert_ever().await;
        };
        caretaker.parts.env.spawn.spawn("converter", Box::pin(task));
        let counter = caretaker.clone();
        let task = async move {
            let mut recounts = Recounts::default();
            loop {
                counter.recount_due(&mut recounts).await;
                counter.parts.env.clock.sleep(WALK_EVERY).await;
            }
        };
        caretaker.parts.env.spawn.spawn("recount", Box::pin(task));
        caretaker
    }

    /// From now on sealed slabs become cold whatever their age, until the node ends.
    pub fn convert_now(&self) {
        self.convert_now.store(true, Ordering::Relaxed);
    }

    /// Slabs of the groups that this node led at the last walk.
    pub fn counts(&self) -> SlabCounts {
        *lock(&self.counts)
    }

    async fn walk(&self) {
        if !self.parts.found.is_set() {
            return;
        }
        self.seals.begin_walk();
        let mut walk = Walk::default();
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
        *lock(&self.first_seen) = walk.seen;
        lock(&self.conversions).found(walk.cool, |slab| !unseen.contains(&slab.group()));
        *lock(&self.counts) = walk.counts;
        *lock(&self.short) = walk.short;
    }

    /// A place that one is done with goes to the next at once: an encoder that does not answer may hold up its own for minutes.
    async fn convert_ever(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            while let Some(slab) = self.take_conversion() {
                under_way.push(self.convert(slab));
            }
            let pause = self.parts.env.clock.sleep(WALK_EVERY);
            if under_way.is_empty() {
                pause.await;
            } else {
                select(under_way.next(), pause).await;
            }
        }
    }

    fn take_conversion(&self) -> Option<SlabId> {
        lock(&self.conversions).take(self.parts.env.clock.now())
    }

    async fn convert(&self, slab: SlabId) {
        let Some(record) = self.present(slab).await else {
            return lock(&self.conversions).end_unseen(slab);
        };
        let outcome = convert::convert(&self.parts, &record).await;
        let (layout, now) = (record.next_generation, self.parts.env.clock.now());
        let hopeless = lock(&self.conversions).end(slab, layout, outcome, now);
        if hopeless {
            convert::give_up(&self.parts, &record).await;
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
            let query = GroupQuery::Slabs { after, limit: SLABS_PAGE, live_only: true };
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
        let mut to_seal = Vec::new();
        for record in records {
            count(&mut walk.counts, &record);
            match &record.state {
                SlabState::Open => {
                    let since = self.note(&mut walk.seen, &record, Seen::Open, now);
                    let monitor = &self.parts.monitor;
                    if monitor.session_is_over(record.writer, record.session, since, WRITER_PATIENCE) {
                        self.fence(&record).await;
                    }
                }
                SlabState::Sealing => to_seal.push(record),
                SlabState::Sealed(sealed) if sealed.rows == 0 => self.kill_empty(&record).await,
                SlabState::Sealed(sealed) if record.profile.is_copies() => {
                    if sealed.missing != 0 {
                        walk.short.push(record.slab);
                    }
                    let since = self.note(&mut walk.seen, &record, Seen::Hot, now);
                    let cool = now.since(since) >= self.parts.policy.convert_after;
                    if cool || self.convert_now.load(Ordering::Relaxed) {
                        walk.cool.insert(record.slab);
                    }
                }
                SlabState::Sealed(_) | SlabState::Dead => {}
            }
        }
        walk.sealing.extend(to_seal.iter().map(|record| record.slab));
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

fn count(counts: &mut SlabCounts, record: &SlabRecord) {
    match &record.state {
        SlabState::Open => counts.open += 1,
        SlabState::Sealing => counts.sealing += 1,
        SlabState::Dead => {}
        SlabState::Sealed(sealed) => {
            if sealed.rows == 0 {
                counts.empty += 1;
            } else if record.profile.is_copies() {
                counts.hot += 1;
                counts.hot_image_bytes += u64::from(sealed.len_bytes);
            } else {
                counts.cold += 1;
                counts.cold_image_bytes += u64::from(sealed.len_bytes);
            }
            // Of an empty slab nothing can be missing.
            if sealed.missing != 0 && sealed.rows != 0 {
                counts.deficit += 1;
            }
        }
    }
}
