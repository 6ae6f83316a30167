//! Space that comes back: which of the slabs of this node's groups are compacted next, and when dead ones are forgotten.
//!
//! How much is alive in a slab, every data group knows a part of; the sums are asked for from time to time, and choose candidates (`strongroom_core::compactor`).
//! A slab is left alone while its writer may still have locators of it on their way: it says when it has none, or its session is over. That is an opinion, and
//! spares long uploads; what makes a kill safe is [`super::compact`]'s.
//!
//! A dead slab's fragments are freed by their holders. Its record stays long enough for that, then each group forgets what it kept of the slab, and last the table
//! forgets the record: a holder that comes back later learns that the slab was there and is not, which means the same.

use super::compact;
use super::queue::{Outcome, Queue};
use super::{CaretakerParts, META_PATIENCE, WRITER_PATIENCE, lock};
use crate::limits::{COMPACTIONS_BETWEEN_LOOKS_MAX, COMPACTIONS_MAX, FORGETS_MAX, USAGES_PAGE};
use futures::future::{join_all, select};
use futures::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use strongroom_core::compactor::{self, Alive, Candidate, Need, Rank, Space};
use strongroom_core::mutants::Mutant;
use strongroom_meta::MetaError;
use strongroom_meta::group::{GroupAnswer, GroupCommand, GroupQuery, GroupReply};
use strongroom_types::{Deadline, GroupId, Instant, NodeId, Profile, SessionId, SlabId, SlabRecord};
use tokio::sync::Notify;

/// Between two questions how much is alive: a quarter of the time that slabs cool for, but no more often,
const LOOK_EVERY_MIN: Duration = Duration::from_secs(1);
/// and no more seldom than this.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(60);

/// What the last walk found.
#[derive(Default)]
pub(super) struct Found {
    sealed: BTreeMap<SlabId, Sealed>,
    /// Dead slabs, who wrote them, and since when this node has seen them so.
    dead: BTreeMap<SlabId, (SessionId, Instant)>,
}

/// What matters of a sealed slab with rows: some tens of bytes, where a record has a thousand.
#[derive(Clone, Copy)]
struct Sealed {
    len_bytes: u32,
    profile: Profile,
    writer: NodeId,
    session: SessionId,
    /// Its writer has said that it is done with it, or was fenced in every group before the seal.
    is_settled: bool,
    /// When this node saw it sealed first.
    since: Instant,
}

impl Found {
    /// The walk has come to a sealed slab, first seen so at `since`.
    pub(super) fn sealed(&mut self, record: &SlabRecord, since: Instant) {
        let Some(sealed) = record.sealed() else { return };
        let SlabRecord { slab, profile, writer, session, .. } = *record;
        let is_settled = record.writer_done || record.given_out.is_none();
        let len_bytes = sealed.len_bytes;
        self.sealed.insert(slab, Sealed { len_bytes, profile, writer, session, is_settled, since });
    }

    /// The walk has come to a dead slab, first seen so at `since`.
    pub(super) fn dead(&mut self, record: &SlabRecord, since: Instant) {
        self.dead.insert(record.slab, (record.session, since));
    }
}

/// What was reclaimed in this run of the node, and what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Slabs that were compacted and killed.
    pub slabs: u64,
    /// Needles that were copied.
    pub needles: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Walks over the slab tables so far.
    pub walks: u64,
    /// The last look for whatever has any garbage worth the name; none before anybody asked for that.
    pub look: Option<LookNow>,
}

/// A look for whatever has any garbage worth the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookNow {
    /// What it looked at was found by this walk.
    pub walk: u64,
    /// Slabs that were worth compacting.
    pub worth: u64,
    /// Groups of which that was not known.
    pub groups_unseen: u64,
}

/// What compacting everything that has any garbage worth the name would be about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimable {
    /// Slabs.
    pub slabs: u64,
    /// Bytes in them that would be copied.
    pub alive_bytes: u64,
    /// A group of which it is not known.
    pub unseen: Option<GroupId>,
}

/// What a look has found.
#[derive(Default)]
struct Look {
    worth: BTreeMap<SlabId, Rank>,
    /// Bytes that versions have in those.
    worth_alive_bytes: u64,
    /// Bytes that they have in all.
    alive_bytes: u64,
    unseen: BTreeSet<GroupId>,
}

/// What is to be reclaimed, and what is under way.
pub(super) struct Reclaim {
    found: Mutex<Found>,
    compactions: Mutex<Queue<Rank>>,
    under_way: Mutex<BTreeSet<SlabId>>,
    alive_bytes: AtomicU64,
    reclaimed: Mutex<Reclaimed>,
    /// Somebody is in a hurry.
    woken: Notify,
}

impl Reclaim {
    pub(super) fn new() -> Self {
        Self {
            found: Mutex::default(),
            compactions: Mutex::new(Queue::new(COMPACTIONS_MAX)),
            under_way: Mutex::default(),
            alive_bytes: AtomicU64::new(0),
            reclaimed: Mutex::default(),
            woken: Notify::new(),
        }
    }

    /// Has it look now rather than at its time.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    /// A walk found these.
    pub(super) fn found(&self, found: Found) {
        *lock(&self.found) = found;
        lock(&self.reclaimed).walks += 1;
    }

    /// What was reclaimed so far, and what is left.
    pub(super) fn reclaimed(&self) -> Reclaimed {
        *lock(&self.reclaimed)
    }

    /// Whether the slab is being compacted: nobody need make it cold any more.
    pub(super) fn has(&self, slab: SlabId) -> bool {
        lock(&self.under_way).contains(&slab)
    }

    /// Slabs that are being compacted.
    pub(super) fn compacting_count(&self) -> u64 {
        lock(&self.under_way).len() as u64
    }

    /// Bytes that versions had in the slabs of this node's groups at the last look.
    pub(super) fn alive_bytes(&self) -> u64 {
        self.alive_bytes.load(Ordering::Relaxed)
    }

    /// Compacts and forgets until the node ends; one slab at a time.
    pub(super) async fn run(&self, parts: &CaretakerParts, is_hurried: impl Fn() -> bool) {
        let usual = (parts.policy.compact_after / 4).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX);
        let job = &parts.jobs.compact;
        loop {
            job.wait_for("the next look for slabs that are mostly garbage");
            let pause = if is_hurried() { LOOK_EVERY_MIN } else { usual };
            select(parts.env.clock.sleep(pause), pin!(self.woken.notified())).await;
            if !parts.found.is_set() {
                continue;
            }
            let need = if is_hurried() { Some(Need::Now) } else { None };
            self.look(parts, need).await;
            for _ in 0..COMPACTIONS_BETWEEN_LOOKS_MAX {
                if !job.may_begin() {
                    break;
                }
                let Some(slab) = lock(&self.compactions).take(parts.env.clock.now()) else { break };
                job.go_on();
                self.compact(parts, slab).await;
            }
            self.forget_due(parts).await;
        }
    }

    /// Looks how much is alive where, and notes what is worth compacting.
    async fn look(&self, parts: &CaretakerParts, need: Option<Need>) {
        let walk = lock(&self.reclaimed).walks;
        let look = self.worth(parts, need).await;
        self.alive_bytes.store(look.alive_bytes, Ordering::Relaxed);
        if need == Some(Need::Now) {
            let (worth, groups_unseen) = (look.worth.len() as u64, look.unseen.len() as u64);
            lock(&self.reclaimed).look = Some(LookNow { walk, worth, groups_unseen });
        }
        lock(&self.compactions).found(look.worth, |slab| !look.unseen.contains(&slab.group()));
    }

    /// What would be compacted if all that has any garbage worth the name were.
    pub(super) async fn reclaimable(&self, parts: &CaretakerParts) -> Reclaimable {
        let look = self.worth(parts, Some(Need::Now)).await;
        let slabs = look.worth.len() as u64;
        Reclaimable { slabs, alive_bytes: look.worth_alive_bytes, unseen: look.unseen.first().copied() }
    }

    /// Asks every group how much is alive in the slabs that the last walk found, and which of these are worth compacting; `need` is what room is left where
    /// nobody asks for more.
    async fn worth(&self, parts: &CaretakerParts, need: Option<Need>) -> Look {
        let now = parts.env.clock.now();
        let space = Space::of(&parts.monitor.view());
        let need = need.unwrap_or(if space.is_tight() { Need::Tight } else { Need::Usual });
        let sealed = lock(&self.found).sealed.clone();
        let mut look = Look::default();
        let of_groups: BTreeSet<GroupId> = sealed.keys().map(|slab| slab.group()).collect();
        for of in of_groups {
            let alive = match alive_in(parts, of).await {
                Ok(alive) => alive,
                Err(error) => {
                    tracing::debug!(group = %of, %error, "it is not known now what is alive in slabs");
                    look.unseen.insert(of);
                    continue;
                }
            };
            let alive_of = |slab: &SlabId| alive.get(slab).copied().unwrap_or_default();
            let of_group = sealed.iter().filter(|(slab, _)| slab.group() == of);
            look.alive_bytes += of_group.clone().map(|(slab, _)| alive_of(slab).bytes).sum::<u64>();
            let settled = of_group.filter(|(_, sealed)| is_settled(parts, sealed));
            let candidates: Vec<(SlabId, Candidate)> = settled
                .map(|(slab, sealed)| {
                    let is_cool = now.since(sealed.since) >= parts.policy.compact_after;
                    let Sealed { len_bytes, profile, .. } = *sealed;
                    (*slab, Candidate { len_bytes, profile, alive: alive_of(slab), is_cool })
                })
                .collect();
            let worth = worth_compacting(&candidates, need, &space);
            look.worth_alive_bytes += worth.keys().map(|slab| alive_of(slab).bytes).sum::<u64>();
            look.worth.extend(worth);
        }
        look
    }

    async fn compact(&self, parts: &CaretakerParts, slab: SlabId) {
        let Some(record) = present(parts, slab).await else {
            return lock(&self.compactions).end_unseen(slab);
        };
        lock(&self.under_way).insert(slab);
        let (outcome, work) = compact::compact(parts, &record).await;
        lock(&self.under_way).remove(&slab);
        let slabs = u64::from(outcome == Outcome::Over);
        {
            let mut reclaimed = lock(&self.reclaimed);
            reclaimed.slabs += slabs;
            reclaimed.needles += work.needles;
            reclaimed.bytes += work.bytes;
        }
        parts.jobs.compact.count("slabs compacted", slabs);
        parts.jobs.compact.count("needles copied", work.needles);
        let now = parts.env.clock.now();
        lock(&self.compactions).end(slab, record.next_generation, outcome, now);
    }

    /// Forgets dead slabs whose holders have had time to free them.
    async fn forget_due(&self, parts: &CaretakerParts) {
        let (now, grace) = (parts.env.clock.now(), 2 * parts.policy.free_after);
        let due: Vec<(SlabId, SessionId)> = {
            let found = lock(&self.found);
            let due = found.dead.iter().filter(|(_, (_, since))| now.since(*since) >= grace);
            due.map(|(slab, (session, _))| (*slab, *session)).collect()
        };
        let forget = |(slab, session)| forget(parts, slab, session);
        stream::iter(due).for_each_concurrent(FORGETS_MAX, forget).await;
    }
}

/// Which of a group's slabs are worth it, as far as there is room for the copies.
fn worth_compacting(candidates: &[(SlabId, Candidate)], need: Need, space: &Space) -> BTreeMap<SlabId, Rank> {
    let has_room = |alive, rank| rank == Rank::NOTHING_ALIVE || space.takes(compactor::copy_len_bytes(alive));
    let crowd = space.geometry().map(|geometry| compactor::crowd(candidates, need, &geometry));
    let crowd: BTreeSet<SlabId> = crowd.into_iter().flatten().collect();
    let rank = |(slab, candidate): &(SlabId, Candidate)| {
        let crowded = crowd.contains(slab).then_some(Rank::CROWDED);
        let rank = compactor::rank(candidate, need).or(crowded)?;
        has_room(candidate.alive, rank).then_some((*slab, rank))
    };
    candidates.iter().filter_map(rank).collect()
}

/// What versions of all groups have in the slabs of one group's table.
async fn alive_in(parts: &CaretakerParts, of: GroupId) -> Result<BTreeMap<SlabId, Alive>, MetaError> {
    let mut sums: BTreeMap<SlabId, Alive> = BTreeMap::new();
    for group in (0..parts.groups).map(GroupId::new) {
        let mut after = None;
        loop {
            let query = GroupQuery::Usages { of, after, limit: USAGES_PAGE };
            let GroupAnswer::Usages(page) = parts.meta.read(group, query, deadline(parts)).await? else {
                // The answer may be a peer's: another kind is its fault, and no reason to fall.
                return Err(MetaError::Failed);
            };
            let full = page.len() == USAGES_PAGE as usize;
            after = page.last().map(|(slab, _)| *slab);
            for (slab, usage) in page {
                let of_group = Alive { bytes: usage.alive_bytes, needles: u64::from(usage.needles) };
                let sum = sums.entry(slab).or_default();
                *sum = sum.plus(of_group);
            }
            if !full {
                break;
            }
        }
    }
    Ok(sums)
}

/// Whether nobody is likely to commit another locator into the slab: its writer has said so, or is over, or was fenced in every group before the seal.
fn is_settled(parts: &CaretakerParts, sealed: &Sealed) -> bool {
    let Sealed { writer, session, since, .. } = *sealed;
    sealed.is_settled
        || parts.mutants.has(Mutant::CompactUnfenced)
        || parts.monitor.session_is_over(writer, session, since, WRITER_PATIENCE)
}

/// The slab as it is now, if it is this node's to care for and sealed.
async fn present(parts: &CaretakerParts, slab: SlabId) -> Option<SlabRecord> {
    if !parts.meta.leads(slab.group()) {
        return None;
    }
    match parts.meta.read(slab.group(), GroupQuery::Slab(slab), deadline(parts)).await {
        Ok(GroupAnswer::Slab(record)) => record.filter(|record| record.sealed().is_some()),
        Ok(_) | Err(_) => None,
    }
}

/// Has every group let go of a dead slab, and then the table. Where a group does not answer the record stays, and the next round tries again.
async fn forget(parts: &CaretakerParts, slab: SlabId, session: SessionId) {
    let asked = (0..parts.groups)
        .map(GroupId::new)
        .map(|group| parts.meta.write(group, GroupCommand::ReleaseSlab { slab, session }, deadline(parts)));
    let mut released = true;
    for answer in join_all(asked).await {
        match answer {
            Ok(GroupReply::Done) => {}
            Ok(GroupReply::NotEmpty) => {
                parts.alarms.damage(&format!("{slab} is dead, and objects have bytes in it"));
                released = false;
            }
            Ok(_) | Err(_) => released = false,
        }
    }
    if !released {
        return tracing::debug!(%slab, "dead slab is not forgotten yet");
    }
    match parts.meta.write(slab.group(), GroupCommand::ForgetSlab { slab }, deadline(parts)).await {
        Ok(GroupReply::Done | GroupReply::NoSuchSlab) => tracing::debug!(%slab, "dead slab is forgotten"),
        Ok(other) => tracing::error!(%slab, ?other, "dead slab is not what it was"),
        Err(error) => tracing::debug!(%slab, %error, "dead slab is not forgotten yet"),
    }
}

fn deadline(parts: &CaretakerParts) -> Deadline {
    Deadline::after(parts.env.clock.now(), META_PATIENCE)
}
