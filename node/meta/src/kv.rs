//! The ordered key-value store below the Raft log and the state machine: fjall in production, a map in simulation.
//!
//! One store per node, shared by all its groups under key prefixes: so the batches of all groups have one order and one
//! journal, and what survives a power cut is a prefix of that order. The Raft log leans on this: a purge can never be
//! durable without the applied state that it follows.
//!
//! **Lost is told from torn.** A store that opens well may still be older than it was: a journal whose end rotted looks like one
//! whose end was never written. So a second, tiny file, the ledger, keeps how many batches were ever reported as synced, written
//! after the store's own flush and before the report. At open the store must have that many without a gap. If it has, whatever
//! else is missing was never promised to anyone (torn). If it has not, acknowledged content is gone (lost), and
//! [`OrderedKv::integrity`] says so: nothing in such a store may be used, since nobody can tell what it misses.

mod failure;
mod fjall_kv;
mod lease;
mod ledger;
mod media;
mod memory;

pub(crate) use failure::{Failure, FirstWords, in_words};
pub use fjall_kv::{FjallKv, OpenError};
pub(crate) use lease::Lease;
pub use memory::{MemoryKv, MemoryMedia};

use bytes::Bytes;
use std::sync::Arc;

/// What kind of failure it was, by what may be concluded of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvErrorKind {
    /// The store could not do it now; its content may be well.
    Failed,
    /// What it read is not what was written, or cannot be read.
    Damaged,
    /// It is well, as far as can be told, and of a format that this version does not know: it must stay as it is.
    OtherVersion,
    /// Whoever asks has no right to the content any more.
    Ended,
}

/// What to do with a store of another version; said wherever one is found.
pub(crate) fn other_version(found: u16, expected: u16) -> &'static str {
    if found > expected {
        "written by a newer version of strongroom: start that one; nothing was changed"
    } else {
        "written by an older version of strongroom, and this one does not take it over: start that one; nothing was changed"
    }
}

/// Why the store failed. Whatever was not synced before may or may not be there.
#[derive(Debug, thiserror::Error)]
#[error("key-value store: {context}")]
pub struct KvError {
    /// What was being done.
    pub context: &'static str,
    /// What may be concluded.
    pub kind: KvErrorKind,
    /// What the store said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why a store is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// It ends before what was reported as synced.
    #[error("{recorded} batches were synced, {found} are there")]
    Behind {
        /// By the ledger.
        recorded: u64,
        /// In the store.
        found: u64,
    },
    /// A batch in its middle is not there.
    #[error("batch {batch} is missing, later ones are there")]
    Gap {
        /// The first one.
        batch: u64,
    },
    /// There is content and no readable ledger beside it.
    #[error("the ledger is missing or unreadable")]
    NoLedger,
    /// The ledger's store is not there, or is another one.
    #[error("the ledger's store is missing, or another one is in its place")]
    OtherStore,
    /// It was found damaged before.
    #[error("found damaged before: {reason}")]
    Condemned {
        /// What was found.
        reason: String,
    },
    /// It cannot be opened.
    #[error("cannot be opened: {reason}")]
    Unreadable {
        /// What it said.
        reason: String,
    },
}

/// Whether everything that was ever reported as synced is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// It is.
    Whole,
    /// It is not, or nobody can tell.
    Lost(Loss),
}

/// Changes that are made together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In order; a later change of a key wins.
    pub changes: Vec<(Vec<u8>, Option<Bytes>)>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: Vec<u8>, value: Bytes) {
        self.changes.push((key, Some(value)));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }
}

/// An ordered map of bytes. After a power cut it holds a prefix of the batches in the order they were applied, at least up to
/// the last `sync` that returned. After an `apply` or a `sync` that failed every later call fails: nobody knows what is on the
/// media, and asking again would be told a lie (the kernel drops dirty pages once it has reported them). The process must end;
/// the next one reads back what is there.
///
/// Keys that begin with two bytes 0xff are the store's own.
pub trait OrderedKv: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError>;
    /// At most `limit` pairs with `start <= key < end`, ascending.
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError>;
    /// Like `range`, descending.
    fn range_back(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError>;
    /// Makes the changes, all or none; visible at once, durable at the next `sync`.
    fn apply(&self, batch: Batch) -> Result<(), KvError>;
    /// Makes everything that was applied so far durable. May block for milliseconds.
    fn sync(&self) -> Result<(), KvError>;
    /// A view that later changes do not touch.
    fn snapshot(&self) -> Arc<dyn KvSnapshot>;
    /// What was found when the store was opened.
    fn integrity(&self) -> Integrity;
    /// Notes durably that the content is damaged: from the next open on it is `Lost`, unless it is set aside before. May block.
    fn condemn(&self, reason: &str) -> Result<(), KvError>;
    /// Puts the content out of the way, for people to look at, and goes on empty. Nothing else may use the store meanwhile.
    /// May block.
    fn set_aside(&self, reason: &str) -> Result<(), KvError>;
}

/// The store as it was at one moment.
pub trait KvSnapshot: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError>;
    /// At most `limit` pairs with `start <= key < end`, ascending.
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError>;
}

#[cfg(test)]
mod tests;
