//! Compares what this node's drives have with the slab table: gives back fragments of layouts that were superseded or given up, and tells of those that
//! are not whole.
//!
//! Each node looks after its own drives: it asks the table, linearizably, about the slabs that it has fragments of, and frees a fragment once the
//! table has had a newer generation, has given this one up, or called the slab dead, for the grace time. So a fragment is never freed before the
//! superseding record was committed, whoever committed it, and a node that was away frees what it missed. A slab leaves the table only once it is dead, so one that
//! was there and is no more was dead; its fragments are kept as long as a round of the reconciler takes, all the same. One that the table never had is left alone.
//! Of a fragment that is damaged the table learns that it is missing, once for all readers. Where it is cold it is made again, where it is a copy the slab
//! becomes cold ([`crate::caretaker`]); what is left of it is superseded then.

use crate::config::SlabPolicy;
use crate::events::{Event, Events};
use crate::holder::Holder;
use crate::jobs::Job;
use crate::limits::SWEEP_SLABS_MAX;
use crate::slabs::{Known, Slabs};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_core::mutants::{Mutant, MutantSwitch};
use strongroom_env::Env;
use strongroom_format::wire::message::{FragmentAddress, Free, Report};
use strongroom_types::slab::Sealed;
use strongroom_types::{Instant, SlabId, SlabRecord, SlabState};

/// Between two sweeps at least.
const SWEEP_EVERY_MIN: Duration = Duration::from_secs(1);
/// Fragments of one page of a drive's report.
const REPORT_PAGE: u32 = 1024;

/// What the sweeper works with.
pub struct SweeperParts {
    /// The world.
    pub env: Env,
    /// The drives.
    pub holder: Holder,
    /// The slab table.
    pub slabs: Arc<Slabs>,
    /// How long what is superseded is kept.
    pub policy: SlabPolicy,
    /// Where damage is told.
    pub events: Arc<Events>,
    /// What an operator pauses it by.
    pub job: Arc<Job>,
    /// Deliberate faults; none outside of tests.
    pub mutants: MutantSwitch,
}

/// Frees superseded fragments of this node.
pub struct Sweeper {
    parts: SweeperParts,
    /// Superseded fragments and when they were first seen to be.
    superseded: Mutex<BTreeMap<(SlabId, FragmentAddressKey), Instant>>,
    waiting: AtomicU64,
}

/// What became of the word that a fragment of this node is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The slab table does not count on the fragment.
    Known,
    /// Its slab is not sealed: the sealer asks every holder.
    AtSeal,
    /// The fragment is whole as far as its drive knows.
    Whole,
    /// The table does not answer.
    NotYet,
}

type FragmentAddressKey =
    (strongroom_types::DriveId, strongroom_types::FragmentIndex, strongroom_types::Generation);

impl Sweeper {
    /// Starts sweeping.
    pub fn start(parts: SweeperParts) -> Arc<Self> {
        let sweeper =
            Arc::new(Self { parts, superseded: Mutex::new(BTreeMap::new()), waiting: AtomicU64::new(0) });
        let sweeping = sweeper.clone();
        let task = async move {
            let parts = &sweeping.parts;
            let pause = SWEEP_EVERY_MIN.max(parts.policy.free_after / 2);
            let mut after = None;
            loop {
                parts.env.clock.sleep(pause).await;
                after = sweeping.sweep(after).await;
            }
        };
        sweeper.parts.env.spawn.spawn("sweeper", Box::pin(task));
        sweeper
    }

    /// Superseded fragments that wait for the grace time.
    pub fn waiting_count(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Has the slab table know of a damaged fragment of this node now, rather than when its turn comes.
    pub async fn tell(&self, address: &FragmentAddress) -> Told {
        let Ok(record) = self.parts.slabs.refresh(address.slab).await else { return Told::NotYet };
        let Some(record) = record.filter(|record| record.state != SlabState::Dead) else {
            return Told::Known;
        };
        let Some(sealed) = record.sealed() else { return Told::AtSeal };
        if !address.is_of(&record) || sealed.missing >> address.fragment.get() & 1 == 1 {
            return Told::Known;
        }
        if !self.is_lacking(&record, address) {
            return Told::Whole;
        }
        self.tell_damage(&record, address).await;
        // Whether that came about the next look shows.
        Told::NotYet
    }

    /// Looks at the next slabs after `after`; gives where to go on, `None` from the beginning.
    async fn sweep(&self, after: Option<SlabId>) -> Option<SlabId> {
        let (by_slab, more) = self.fragments_after(after);
        for (slab, fragments) in &by_slab {
            self.parts.job.wait_while_held().await;
            let policy = &self.parts.policy;
            let record = match self.parts.slabs.look_up(*slab).await {
                Ok(Known::Record(record)) => record,
                Ok(Known::Forgotten) => {
                    for address in fragments {
                        self.free_after(address, policy.reconcile_every).await;
                    }
                    continue;
                }
                Ok(Known::Never) | Err(_) => continue,
            };
            let early = self.parts.mutants.has(Mutant::FreeBeforeCommit)
                && fragments.iter().any(|address| address.generation > record.generation);
            for address in fragments {
                let of_this = early && address.is_of(&record);
                if of_this || is_superseded(&record, address) {
                    self.free_after(address, policy.free_after).await;
                } else if is_left_over(&record, address) {
                    self.give_up_after_long(&record, address).await;
                } else if self.is_lacking(&record, address) {
                    self.tell_damage(&record, address).await;
                } else {
                    // What was noted of it before it came into its place does not count later.
                    self.lock().remove(&key_of(address));
                }
            }
        }
        let upto = more.then(|| by_slab.last_key_value().map(|(slab, _)| *slab)).flatten();
        let mut superseded = self.lock();
        // What was noted of a fragment that is not here any more is not waited for.
        superseded.retain(|key, _| {
            let looked_at = after.is_none_or(|after| key.0 > after) && upto.is_none_or(|upto| key.0 <= upto);
            let present =
                by_slab.get(&key.0).is_some_and(|all| all.iter().any(|address| key_of(address) == *key));
            present || !looked_at
        });
        self.waiting.store(superseded.len() as u64, Ordering::Relaxed);
        upto
    }

    /// The next slabs that this node has fragments of, and whether there are more behind them.
    fn fragments_after(&self, after: Option<SlabId>) -> (BTreeMap<SlabId, Vec<FragmentAddress>>, bool) {
        let mut by_slab: BTreeMap<SlabId, Vec<FragmentAddress>> = BTreeMap::new();
        let mut more = false;
        // Where a drive has more than a page, nothing is known of what it has behind that page.
        let mut known_upto = None::<SlabId>;
        for drive in self.parts.holder.drives() {
            let (page, truncated) = drive.report(&Report { drive: drive.id(), after, limit: REPORT_PAGE });
            if truncated && let Some(last) = page.last() {
                more = true;
                known_upto = Some(known_upto.map_or(last.address.slab, |upto| upto.min(last.address.slab)));
            }
            for fragment in page {
                by_slab.entry(fragment.address.slab).or_default().push(fragment.address);
            }
        }
        if let Some(upto) = known_upto {
            by_slab.retain(|slab, _| *slab <= upto);
        }
        while by_slab.len() > SWEEP_SLABS_MAX {
            by_slab.pop_last();
            more = true;
        }
        (by_slab, more)
    }

    /// Whether it is a fragment of a sealed slab that the table names, does not know to be missing yet, and that is not whole here.
    fn is_lacking(&self, record: &SlabRecord, address: &FragmentAddress) -> bool {
        let counts = |sealed: &Sealed| sealed.missing >> address.fragment.get() & 1 == 0;
        record.sealed().is_some_and(counts)
            && address.is_of(record)
            && self.parts.holder.drive(address.drive).is_ok_and(|drive| drive.lacks(address, record.profile))
    }

    async fn tell_damage(&self, record: &SlabRecord, address: &FragmentAddress) {
        match self.parts.slabs.count_missing(record, 1 << address.fragment.get()).await {
            Ok(()) => {
                let (slab, fragment) = (address.slab, address.fragment);
                tracing::warn!(%slab, %fragment, "damaged fragment is to be made again");
                self.parts.events.tell(Event::FragmentLacking { slab, fragment });
            }
            Err(error) => tracing::debug!(slab = %address.slab, %error, "damage is not told yet"),
        }
    }

    /// A repair that was begun and is not needed any more, since what was lost came back, has nobody who ends it. One that is still under way is begun again.
    async fn give_up_after_long(&self, record: &SlabRecord, address: &FragmentAddress) {
        let now = self.parts.env.clock.now();
        let since = *self.lock().entry(key_of(address)).or_insert(now);
        if now.since(since) < self.parts.policy.repair_after {
            return;
        }
        match self.parts.slabs.abandon_layout(record).await {
            Ok(()) => {
                self.lock().remove(&key_of(address));
                tracing::info!(slab = %address.slab, layout = %address.generation, "repair that nobody ends: its layout is given up");
            }
            Err(error) => tracing::debug!(slab = %address.slab, %error, "layout is not given up yet"),
        }
    }

    /// Frees what may be freed, once it has been seen to be so for long enough.
    async fn free_after(&self, address: &FragmentAddress, grace: Duration) {
        let now = self.parts.env.clock.now();
        let key = key_of(address);
        let since = *self.lock().entry(key).or_insert(now);
        if now.since(since) < grace {
            return;
        }
        let Ok(drive) = self.parts.holder.drive(address.drive) else { return };
        match drive.free(Free { address: *address }).await {
            Ok(()) => {
                self.lock().remove(&key);
                self.parts.job.advance(1);
                tracing::debug!(slab = %address.slab, fragment = %address.fragment, generation = %address.generation, "superseded fragment freed");
            }
            Err(refusal) => {
                tracing::warn!(slab = %address.slab, %refusal, "superseded fragment could not be freed")
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(SlabId, FragmentAddressKey), Instant>> {
        self.superseded.lock().expect("no code panics while it holds this lock")
    }
}

fn key_of(address: &FragmentAddress) -> (SlabId, FragmentAddressKey) {
    (address.slab, (address.drive, address.fragment, address.generation))
}

/// Of a dead slab, of an older layout, of one that was given up, made again since, or left by an attempt that placed it elsewhere in the end. What
/// is made under the next generation is a conversion or a repair under way.
fn is_superseded(record: &SlabRecord, address: &FragmentAddress) -> bool {
    record.state == SlabState::Dead || (address.generation < record.next_generation && !address.is_of(record))
}

/// Made again for a cold slab, and not in its place yet.
fn is_left_over(record: &SlabRecord, address: &FragmentAddress) -> bool {
    let is_cold = record.sealed().is_some() && !record.profile.is_copies();
    is_cold && address.generation >= record.next_generation
}

#[cfg(test)]
mod tests {
    use super::is_superseded;
    use strongroom_format::wire::message::FragmentAddress;
    use strongroom_types::slab::Sealed;
    use strongroom_types::{
        DriveId, Epoch, FragmentIndex, Generation, GroupId, Holder, NodeId, Profile, SessionId, SlabId,
        SlabRecord, SlabState,
    };

    #[test]
    fn what_is_or_may_become_the_layout_is_kept_and_all_else_given_back() {
        let slab = SlabId::new(GroupId::new(0), 1).unwrap();
        let holder = |drive| Holder { node: NodeId::new(1), drive: DriveId::new(drive) };
        let sealed =
            Sealed { rows: 1, len_bytes: 4096, root_crc32c: 0, table_crc32c: Default::default(), missing: 0 };
        let record = SlabRecord {
            slab,
            state: SlabState::Sealed(sealed),
            epoch: Epoch::FIRST,
            generation: Generation::new(3),
            next_generation: Generation::new(6),
            profile: Profile::copies(2).unwrap(),
            holders: [holder(7), holder(8)].into_iter().collect(),
            made_under: [Generation::new(2), Generation::new(3)].into_iter().collect(),
            writer: NodeId::new(1),
            session: SessionId::new(1),
            given_out: None,
            writer_done: false,
        };
        let is_freed = |record: &SlabRecord, generation, fragment, drive| {
            let (fragment, generation) = (FragmentIndex::new(fragment), Generation::new(generation));
            is_superseded(record, &FragmentAddress { drive: DriveId::new(drive), slab, fragment, generation })
        };
        for (generation, fragment, drive, freed) in [
            (1, 0, 7, true),
            (2, 0, 7, false),
            (3, 0, 7, true),
            (2, 1, 8, true),
            (3, 1, 8, false),
            (3, 1, 7, true),
            (3, 2, 7, true),
            (4, 0, 7, true),
            (5, 0, 9, true),
            (6, 0, 9, false),
            (7, 0, 9, false),
        ] {
            let found = is_freed(&record, generation, fragment, drive);
            assert_eq!(found, freed, "fragment {fragment} of {generation} on {drive}");
            let dead = SlabRecord { state: SlabState::Dead, ..record.clone() };
            assert!(is_freed(&dead, generation, fragment, drive));
        }
    }
}
