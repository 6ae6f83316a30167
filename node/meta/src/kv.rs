//! The ordered key-value store below the Raft log and the state machine: fjall in production, a map in simulation.
//!
//! One store per node, shared by all its groups under key prefixes: so the batches of all groups have one order and one
//! journal, and what survives a power cut is a prefix of that order. The Raft log leans on this: a purge can never be
//! durable without the applied state that it follows.

mod fjall_kv;
mod memory;

pub use fjall_kv::FjallKv;
pub use memory::{MemoryKv, MemoryMedia};

use bytes::Bytes;
use std::sync::Arc;

/// Why the store failed. Whatever was not synced before may or may not be there.
#[derive(Debug, thiserror::Error)]
#[error("key-value store: {context}")]
pub struct KvError {
    /// What was being done.
    pub context: &'static str,
    /// What the store said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
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
/// the last `sync` that returned. After a `sync` that failed every later call fails: nobody knows what is on the media, and
/// asking again would be told a lie (the kernel drops dirty pages once it has reported them).
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
