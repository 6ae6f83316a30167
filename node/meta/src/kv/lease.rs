//! The right of one life of the node's groups to use the store.
//!
//! Groups that were stopped may still have work under way on the store. Before its content is set aside their lease is taken
//! back: what they do afterwards fails, so that nothing of the old content can get into what comes in its place.
//!
//! All that a life writes goes through here, so here it is seen that the store failed.

use super::{Batch, Failure, Integrity, KvError, KvErrorKind, KvSnapshot, OrderedKv};
use bytes::Bytes;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// The store, until the lease is taken back.
pub(crate) struct Lease {
    kv: Arc<dyn OrderedKv>,
    given: RwLock<bool>,
    failure: Failure,
}

#[derive(Debug, thiserror::Error)]
#[error("the content was set aside")]
struct TakenBack;

impl Lease {
    pub(crate) fn new(kv: Arc<dyn OrderedKv>, failure: Failure) -> Arc<Self> {
        Arc::new(Self { kv, given: RwLock::new(true), failure })
    }

    /// From when this returns nothing is done under the lease any more.
    pub(crate) fn take_back(&self) {
        *self.given.write().unwrap_or_else(PoisonError::into_inner) = false;
    }

    fn hold(&self, context: &'static str) -> Result<RwLockReadGuard<'_, bool>, KvError> {
        let given = self.given.read().unwrap_or_else(PoisonError::into_inner);
        if *given {
            return Ok(given);
        }
        Err(taken_back(context))
    }

    /// Whatever it was: nothing works any more.
    fn written(&self, result: Result<(), KvError>) -> Result<(), KvError> {
        result.inspect_err(|error| self.failure.note(error))
    }
}

fn taken_back(context: &'static str) -> KvError {
    KvError { context, kind: KvErrorKind::Ended, source: Box::new(TakenBack) }
}

impl OrderedKv for Lease {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let _held = self.hold("get")?;
        self.kv.get(key)
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        let _held = self.hold("range")?;
        self.kv.range(start, end, limit)
    }

    fn range_back(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        let _held = self.hold("range")?;
        self.kv.range_back(start, end, limit)
    }

    fn apply(&self, batch: Batch) -> Result<(), KvError> {
        let _held = self.hold("apply")?;
        self.written(self.kv.apply(batch))
    }

    fn sync(&self) -> Result<(), KvError> {
        let _held = self.hold("sync")?;
        self.written(self.kv.sync())
    }

    fn snapshot(&self) -> Arc<dyn KvSnapshot> {
        match self.hold("snapshot") {
            Ok(_held) => self.kv.snapshot(),
            Err(_) => Arc::new(Nothing),
        }
    }

    fn integrity(&self) -> Integrity {
        self.kv.integrity()
    }

    fn condemn(&self, reason: &str) -> Result<(), KvError> {
        let _held = self.hold("condemning")?;
        self.kv.condemn(reason)
    }

    fn set_aside(&self, reason: &str) -> Result<(), KvError> {
        let _held = self.hold("setting aside")?;
        self.kv.set_aside(reason)
    }
}

/// A view after the end.
struct Nothing;

impl KvSnapshot for Nothing {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, KvError> {
        Err(taken_back("get"))
    }

    fn range(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        Err(taken_back("range"))
    }
}
