//! The store in memory, with a model of durability: for tests and the simulator.

use super::{Batch, KvError, KvSnapshot, OrderedKv};
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
}

impl MemoryMedia {
    /// Empty media.
    pub fn new() -> Self {
        Self::default()
    }

    /// The power fails: a prefix of the batches since the last sync stays, how long is drawn from `seed`; the rest is gone.
    /// Stores on this media fail from now on.
    pub fn power_cut(&self, seed: u64) {
        let mut media = self.lock();
        let keep = (mix(seed) % (media.unsynced.len() as u64 + 1)) as usize;
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
        let map = Arc::make_mut(&mut self.map);
        for (key, before) in batches.into_iter().rev().flat_map(|batch| batch.into_iter().rev()) {
            match before {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
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
        let session = inner.session;
        drop(inner);
        Self { media: media.clone(), session }
    }

    /// See [`MemoryMedia::power_cut`].
    pub fn power_cut(&self, seed: u64) {
        self.media.power_cut(seed);
    }

    fn lock(&self, context: &'static str) -> Result<MutexGuard<'_, Media>, KvError> {
        let media = self.media.lock();
        if media.session != self.session {
            return Err(KvError { context, source: Box::new(MemoryError::Stale) });
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
        Ok(())
    }

    fn sync(&self) -> Result<(), KvError> {
        let mut media = self.lock("sync")?;
        if media.fail_sync {
            media.fail_sync = false;
            media.session += 1;
            return Err(KvError { context: "sync", source: Box::new(MemoryError::SyncFailed) });
        }
        media.settle();
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn KvSnapshot> {
        Arc::new(MemorySnapshot { map: Arc::clone(&self.media.lock().map) })
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
