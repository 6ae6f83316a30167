//! Waiters share a sync, and a failure is for ever.

use super::Syncer;
use crate::kv::{Batch, Integrity, KvError, KvSnapshot, MemoryKv, MemoryMedia, OrderedKv};
use crate::testing::env_alone;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting {
    kv: MemoryKv,
    syncs: AtomicUsize,
}

impl OrderedKv for Counting {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.kv.get(key)
    }
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.kv.range(start, end, limit)
    }
    fn range_back(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.kv.range_back(start, end, limit)
    }
    fn apply(&self, batch: Batch) -> Result<(), KvError> {
        self.kv.apply(batch)
    }
    fn sync(&self) -> Result<(), KvError> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.kv.sync()
    }
    fn snapshot(&self) -> Arc<dyn KvSnapshot> {
        self.kv.snapshot()
    }
    fn integrity(&self) -> Integrity {
        self.kv.integrity()
    }
    fn condemn(&self, reason: &str) -> Result<(), KvError> {
        self.kv.condemn(reason)
    }
    fn set_aside(&self, reason: &str) -> Result<(), KvError> {
        self.kv.set_aside(reason)
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_that_came_before_a_sync_share_it() {
    let kv = Arc::new(Counting { kv: MemoryKv::on(&MemoryMedia::new()), syncs: AtomicUsize::new(0) });
    let syncer = Syncer::new(kv.clone(), &env_alone(1));
    let waiters: Vec<_> = (0..100).map(|_| syncer.sync()).collect();
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(kv.syncs.load(Ordering::Relaxed), 1);
    syncer.sync().await.unwrap();
    assert_eq!(kv.syncs.load(Ordering::Relaxed), 2, "who comes after needs another one");
}

#[tokio::test(start_paused = true)]
async fn a_sync_goes_on_without_its_waiter() {
    let media = MemoryMedia::new();
    let kv = Arc::new(MemoryKv::on(&media));
    kv.apply(Batch::default()).unwrap();
    let syncer = Syncer::new(kv, &env_alone(1));
    drop(syncer.sync());
    tokio::task::yield_now().await;
    assert_eq!(media.unsynced_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_never_tried_again() {
    let media = MemoryMedia::new();
    let kv = Arc::new(Counting { kv: MemoryKv::on(&media), syncs: AtomicUsize::new(0) });
    let syncer = Syncer::new(kv.clone(), &env_alone(1));
    media.fail_next_sync();
    let (first, second) = (syncer.sync(), syncer.sync());
    assert!(first.await.is_err() && second.await.is_err());
    assert!(syncer.sync().await.is_err());
    assert_eq!(kv.syncs.load(Ordering::Relaxed), 1);
}
