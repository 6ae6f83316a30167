//! Gives back fragments of layouts that the slab table has superseded or given up.
//!
//! Each node looks after its own drives: it asks the table, linearizably, about the slabs that it has fragments of, and frees a fragment once the
//! table has had a newer generation, has given this one up, or called the slab dead, for the grace time. So a fragment is never freed before the
//! superseding record was committed, whoever committed it, and a node that was away frees what it missed. A slab that the table does not know is left alone.

use crate::config::SlabPolicy;
use crate::holder::Holder;
use crate::limits::SWEEP_SLABS_MAX;
use crate::slabs::Slabs;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_core::mutants::{Mutant, MutantSwitch};
use strongroom_env::Env;
use strongroom_format::wire::message::{FragmentAddress, Free, Report};
use strongroom_types::{Instant, SlabId, SlabRecord, SlabState};

/// Between two sweeps at least.
const SWEEP_EVERY_MIN: Duration = Duration::from_secs(1);
/// Fragments of one page of a drive's report.
const REPORT_PAGE: u32 = 1024;

/// Frees superseded fragments of this node.
pub struct Sweeper {
    env: Env,
    holder: Holder,
    slabs: Arc<Slabs>,
    policy: SlabPolicy,
    /// Superseded fragments and when they were first seen to be.
    superseded: Mutex<BTreeMap<(SlabId, FragmentAddressKey), Instant>>,
    waiting: AtomicU64,
    mutants: MutantSwitch,
}

type FragmentAddressKey =
    (strongroom_types::DriveId, strongroom_types::FragmentIndex, strongroom_types::Generation);

impl Sweeper {
    /// Starts sweeping. `mutants` are deliberate faults; none outside of tests.
    pub fn start(
        env: Env,
        holder: Holder,
        slabs: Arc<Slabs>,
        policy: SlabPolicy,
        mutants: MutantSwitch,
    ) -> Arc<Self> {
        let sweeper = Arc::new(Self {
            env,
            holder,
            slabs,
            policy,
            superseded: Mutex::new(BTreeMap::new()),
            waiting: AtomicU64::new(0),
            mutants,
        });
        let sweeping = sweeper.clone();
        let task = async move {
            let pause = SWEEP_EVERY_MIN.max(sweeping.policy.free_after / 2);
            let mut after = None;
            loop {
                sweeping.env.clock.sleep(pause).await;
                after = sweeping.sweep(after).await;
            }
        };
        sweeper.env.spawn.spawn("sweeper", Box::pin(task));
        sweeper
    }

    /// Superseded fragments that wait for the grace time.
    pub fn waiting_count(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Looks at the next slabs after `after`; gives where to go on, `None` from the beginning.
    async fn sweep(&self, after: Option<SlabId>) -> Option<SlabId> {
        let (by_slab, more) = self.fragments_after(after);
        for (slab, fragments) in &by_slab {
            let Ok(Some(record)) = self.slabs.refresh(*slab).await else { continue };
            let early = self.mutants.has(Mutant::FreeBeforeCommit)
                && fragments.iter().any(|address| address.generation > record.generation);
            for address in fragments {
                let of_this = early && address.generation == record.generation;
                if of_this || is_superseded(&record, address) {
                    self.free_after_grace(address).await;
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
        for drive in self.holder.drives() {
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

    async fn free_after_grace(&self, address: &FragmentAddress) {
        let now = self.env.clock.now();
        let key = key_of(address);
        let since = *self.lock().entry(key).or_insert(now);
        if now.since(since) < self.policy.free_after {
            return;
        }
        let Ok(drive) = self.holder.drive(address.drive) else { return };
        match drive.free(Free { address: *address }).await {
            Ok(()) => {
                self.lock().remove(&key);
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

/// Of a dead slab, of an older layout, of one that was given up, or of this layout but left by an attempt that placed it elsewhere in the end. The
/// next layout is a conversion under way.
fn is_superseded(record: &SlabRecord, address: &FragmentAddress) -> bool {
    let elsewhere = || {
        let holder = record.holders.get(usize::from(address.fragment.get()));
        holder.is_none_or(|holder| holder.drive != address.drive)
    };
    record.state == SlabState::Dead
        || (address.generation < record.next_generation && address.generation != record.generation)
        || (address.generation == record.generation && elsewhere())
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
            writer: NodeId::new(1),
            session: SessionId::new(1),
            given_out: None,
        };
        let is_freed = |record: &SlabRecord, generation, fragment, drive| {
            let (fragment, generation) = (FragmentIndex::new(fragment), Generation::new(generation));
            is_superseded(record, &FragmentAddress { drive: DriveId::new(drive), slab, fragment, generation })
        };
        for (generation, fragment, drive, freed) in [
            (2, 0, 7, true),
            (3, 0, 7, false),
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
