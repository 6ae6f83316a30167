//! The store in memory, with a model of durability: for tests and the simulator.

use super::{Batch, Integrity, KvError, KvErrorKind, KvSnapshot, Loss, OrderedKv};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

type Map = BTreeMap<Bytes, Bytes>;
/// The keys of a batch with what they were before.
type Undo = Vec<(Bytes, Option<Bytes>)>;

/// Synced batches that can be rolled back at most: some seconds of a node's work.
const ROLL_BACK_MAX: usize = 1024;

/// What outlives a store: the media. Clones are the same media.
#[derive(Clone, Default)]
pub struct MemoryMedia {
    inner: Arc<Mutex<Media>>,
}

#[derive(Default)]
struct Media {
    /// With all batches, also unsynced ones. Shared with snapshots; copied at the next change where one is alive.
    map: Arc<Map>,
    /// For each batch since the last sync, in order: what its keys were before.
    unsynced: Vec<Undo>,
    /// The same for the latest batches that were synced, as many as [`MemoryMedia::roll_back`] may take.
    synced: VecDeque<Undo>,
    /// Raised by every start and power cut; a store of an earlier session is dead.
    session: u64,
    /// Whether the next sync is to fail.
    fail_sync: bool,
    /// Syncs that still go well before the power fails.
    off_after: Option<u64>,
    /// It failed.
    off: bool,
    /// Batches in the map.
    batches: u64,
    /// What stands for the ledger's file; `None` where there never was one, or it is gone.
    ledger: Option<Ledger>,
    /// Why content was set aside, each time.
    set_aside: Vec<String>,
}

/// See `ledger`.
#[derive(Clone, Default)]
struct Ledger {
    synced: u64,
    condemned: Option<String>,
}

impl MemoryMedia {
    /// Empty media.
    pub fn new() -> Self {
        Self::default()
    }

    /// The power fails: a prefix of the batches since the last sync stays, how long is drawn from `seed`; the rest is gone.
    /// Stores on this media fail from now on.
    pub fn power_cut(&self, seed: u64) {
        let under_way = self.unsynced_count() as u64;
        self.power_cut_keeping((mix(seed) % (under_way + 1)) as usize);
    }

    /// The power fails, and of the batches since the last sync this many stay.
    pub fn power_cut_keeping(&self, keep: usize) {
        let mut media = self.lock();
        let keep = keep.min(media.unsynced.len());
        let lost = media.unsynced.split_off(keep);
        media.undo(lost);
        media.settle();
        media.session += 1;
    }

    /// What was not synced is gone, and with it the last `batches` that were (at most 1024): as where rot cut the journal short. Gives how many
    /// of them went. Stores on this media fail from now on.
    pub fn roll_back(&self, batches: usize) -> usize {
        let mut media = self.lock();
        let lost = std::mem::take(&mut media.unsynced);
        media.undo(lost);
        let keep = media.synced.len().saturating_sub(batches);
        let lost: Vec<Undo> = media.synced.split_off(keep).into();
        let count = lost.len();
        media.undo(lost);
        media.session += 1;
        count
    }

    /// The state directory is gone, with all that was in it. Stores on this media fail from now on.
    pub fn erase(&self) {
        let mut media = self.lock();
        *media = Media { session: media.session + 1, ..Media::default() };
    }

    /// The ledger is gone, the store is not. Stores on this media fail from now on.
    pub fn lose_ledger(&self) {
        let mut media = self.lock();
        media.ledger = None;
        media.session += 1;
    }

    /// Whether this value of this key would be there after a power cut; `None` where the key has another value by now, or none.
    pub fn is_durable(&self, key: &[u8], value: &[u8]) -> Option<bool> {
        let media = self.lock();
        let there = media.map.get(key).is_some_and(|found| found == value);
        there.then(|| !media.unsynced.iter().flatten().any(|(changed, _)| changed == key))
    }

    /// The value that this key would have after a power cut that takes all it can.
    pub fn durable(&self, key: &[u8]) -> Option<Bytes> {
        let media = self.lock();
        let first = media.unsynced.iter().flatten().find(|(changed, _)| changed == key);
        first.map_or_else(|| media.map.get(key).cloned(), |(_, before)| before.clone())
    }

    /// Power fails at the sync after `syncs` more: it and everything after it fails until the media is opened again.
    pub fn power_off_after(&self, syncs: u64) {
        self.lock().off_after = Some(syncs);
    }

    /// It does not fail any more.
    pub fn power_stays_on(&self) {
        self.lock().off_after = None;
    }

    /// Whether that came to pass.
    pub fn is_off(&self) -> bool {
        self.lock().off
    }

    /// Takes synced batches back, one by one, until `enough` says so of what is left (or none can be taken back any more).
    pub fn roll_back_to(&self, enough: impl Fn(&dyn KvSnapshot) -> bool) {
        loop {
            let map = Arc::clone(&self.lock().map);
            if enough(&MemorySnapshot { map }) || self.roll_back(1) == 0 {
                return;
            }
        }
    }

    /// A copy of all that is on the media, ledger included.
    pub fn copied(&self) -> Self {
        let copy = Self::new();
        copy.restore(self);
        copy
    }

    /// A copy of all that is on the media, on its way there, or could be rolled back.
    pub fn copied_with_unsynced(&self) -> Self {
        let media = self.lock();
        let (map, unsynced, synced) = (Arc::clone(&media.map), media.unsynced.clone(), media.synced.clone());
        let (batches, ledger) = (media.batches, media.ledger.clone());
        let copy = Media { map, unsynced, synced, batches, ledger, ..Media::default() };
        Self { inner: Arc::new(Mutex::new(copy)) }
    }

    /// All of this is replaced by what is on `other`, ledger included. Stores on this media fail from now on.
    pub fn restore(&self, other: &Self) {
        let (map, batches, ledger) = {
            let other = other.lock();
            (Arc::clone(&other.map), other.batches, other.ledger.clone())
        };
        let mut media = self.lock();
        *media = Media { session: media.session + 1, map, batches, ledger, ..Media::default() };
    }

    /// Why content was set aside, each time that it was.
    pub fn set_aside_reasons(&self) -> Vec<String> {
        self.lock().set_aside.clone()
    }

    /// Batches that a power cut could take.
    pub fn unsynced_count(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Lets the next sync fail, and with it everything after on that store.
    pub fn fail_next_sync(&self) {
        self.lock().fail_sync = true;
    }

    /// Flips a bit in the first value whose key begins with `prefix`; whether there was one. For tests of checksums.
    pub fn corrupt(&self, prefix: &[u8]) -> bool {
        let mut media = self.lock();
        let map = Arc::make_mut(&mut media.map);
        let found = map.range_mut(Bytes::copy_from_slice(prefix)..).next();
        match found {
            Some((key, value)) if key.starts_with(prefix) && !value.is_empty() => {
                let mut changed = value.to_vec();
                let last = changed.len() - 1;
                changed[last] ^= 1;
                *value = Bytes::from(changed);
                true
            }
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Media> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

impl Media {
    /// Takes batches back, the last first.
    fn undo(&mut self, batches: Vec<Undo>) {
        self.batches -= batches.len() as u64;
        let map = Arc::make_mut(&mut self.map);
        for (key, before) in batches.into_iter().rev().flat_map(|batch| batch.into_iter().rev()) {
            match before {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
    }

    /// What a comparison of store and ledger finds at open.
    fn compare(&self) -> Integrity {
        match &self.ledger {
            None if self.map.is_empty() => Integrity::Whole,
            None => Integrity::Lost(Loss::NoLedger),
            Some(Ledger { condemned: Some(reason), .. }) => {
                Integrity::Lost(Loss::Condemned { reason: reason.clone() })
            }
            Some(ledger) if ledger.synced > self.batches => {
                Integrity::Lost(Loss::Behind { recorded: ledger.synced, found: self.batches })
            }
            Some(_) => Integrity::Whole,
        }
    }

    /// All batches are on the media now.
    fn settle(&mut self) {
        let settled = std::mem::take(&mut self.unsynced);
        self.synced.extend(settled);
        let excess = self.synced.len().saturating_sub(ROLL_BACK_MAX);
        self.synced.drain(..excess);
    }
}

/// Spreads a seed over 64 bits (the finaliser of SplitMix64), so that seeds 0, 1, 2 give unlike cuts.
fn mix(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A store on [`MemoryMedia`]. Deterministic.
pub struct MemoryKv {
    media: MemoryMedia,
    session: u64,
    integrity: Mutex<Integrity>,
}

/// Why a [`MemoryKv`] refused.
#[derive(Debug, thiserror::Error)]
enum MemoryError {
    #[error("the power failed, or another store was opened on this media")]
    Stale,
    #[error("the media failed a sync")]
    SyncFailed,
}

impl MemoryKv {
    /// Opens a store on `media`; an earlier one on it is dead from now on.
    pub fn on(media: &MemoryMedia) -> Self {
        let mut inner = media.lock();
        inner.session += 1;
        if std::mem::take(&mut inner.off) {
            inner.off_after = None;
        }
        let session = inner.session;
        let integrity = inner.compare();
        if integrity == Integrity::Whole {
            // As fjall's does: what is there is there for good before anybody reads it.
            inner.settle();
            let synced = inner.batches;
            inner.ledger.get_or_insert_default().synced = synced;
        }
        drop(inner);
        Self { media: media.clone(), session, integrity: Mutex::new(integrity) }
    }

    /// See [`MemoryMedia::power_cut`].
    pub fn power_cut(&self, seed: u64) {
        self.media.power_cut(seed);
    }

    fn lock(&self, context: &'static str) -> Result<MutexGuard<'_, Media>, KvError> {
        let media = self.media.lock();
        if media.session != self.session {
            return Err(KvError { context, kind: KvErrorKind::Failed, source: Box::new(MemoryError::Stale) });
        }
        Ok(media)
    }
}

fn bounds<'key>(start: &'key [u8], end: &'key [u8]) -> (Bound<&'key [u8]>, Bound<&'key [u8]>) {
    (Bound::Included(start), Bound::Excluded(end))
}

fn pair((key, value): (&Bytes, &Bytes)) -> (Bytes, Bytes) {
    (key.clone(), value.clone())
}

fn range(map: &Map, start: &[u8], end: &[u8], limit: usize) -> Vec<(Bytes, Bytes)> {
    if start >= end {
        return Vec::new();
    }
    map.range::<[u8], _>(bounds(start, end)).take(limit).map(pair).collect()
}

impl OrderedKv for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.lock("get")?.map.get(key).cloned())
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        Ok(range(&self.lock("range")?.map, start, end, limit))
    }

    fn range_back(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        let media = self.lock("range")?;
        if start >= end {
            return Ok(Vec::new());
        }
        Ok(media.map.range::<[u8], _>(bounds(start, end)).rev().take(limit).map(pair).collect())
    }

    fn apply(&self, batch: Batch) -> Result<(), KvError> {
        let mut media = self.lock("apply")?;
        let map = Arc::make_mut(&mut media.map);
        let mut undo = Vec::with_capacity(batch.changes.len());
        for (key, value) in batch.changes {
            let key = Bytes::from(key);
            let before = match value {
                Some(value) => map.insert(key.clone(), value),
                None => map.remove(&key),
            };
            undo.push((key, before));
        }
        media.unsynced.push(undo);
        media.batches += 1;
        Ok(())
    }

    fn sync(&self) -> Result<(), KvError> {
        let mut media = self.lock("sync")?;
        let off = media.off_after == Some(0);
        media.off |= off;
        media.off_after = media.off_after.map(|left| left.saturating_sub(1));
        if media.fail_sync || off {
            media.fail_sync = false;
            media.session += 1;
            let source = Box::new(MemoryError::SyncFailed);
            return Err(KvError { context: "sync", kind: KvErrorKind::Failed, source });
        }
        media.settle();
        let synced = media.batches;
        if let Some(ledger) = &mut media.ledger {
            ledger.synced = ledger.synced.max(synced);
        }
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn KvSnapshot> {
        Arc::new(MemorySnapshot { map: Arc::clone(&self.media.lock().map) })
    }

    fn integrity(&self) -> Integrity {
        self.integrity.lock().expect("no holder of this lock panics").clone()
    }

    fn condemn(&self, reason: &str) -> Result<(), KvError> {
        let mut media = self.lock("condemning")?;
        media.ledger.get_or_insert_default().condemned = Some(reason.to_owned());
        Ok(())
    }

    fn set_aside(&self, reason: &str) -> Result<(), KvError> {
        let mut media = self.lock("setting aside")?;
        let mut set_aside = std::mem::take(&mut media.set_aside);
        set_aside.push(reason.to_owned());
        let (session, ledger) = (media.session, Some(Ledger::default()));
        *media = Media { session, ledger, set_aside, ..Media::default() };
        *self.integrity.lock().expect("no holder of this lock panics") = Integrity::Whole;
        Ok(())
    }
}

struct MemorySnapshot {
    map: Arc<Map>,
}

impl KvSnapshot for MemorySnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.map.get(key).cloned())
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        Ok(range(&self.map, start, end, limit))
    }
}
