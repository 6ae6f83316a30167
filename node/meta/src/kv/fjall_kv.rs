//! The store on fjall.

use super::{Batch, KvError, KvSnapshot, OrderedKv};
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A store in a directory: one fjall database with one keyspace. Two keyspaces would break the promise of a prefix: each has
/// its own memtable, and one may reach the disk as a table while the journal that holds the other's batches is still unsynced.
pub struct FjallKv {
    database: Database,
    keyspace: Keyspace,
    failed: AtomicBool,
}

/// A sync failed before; the process must end and read back what is there.
#[derive(Debug, thiserror::Error)]
#[error("an earlier sync failed")]
struct Failed;

fn error(context: &'static str) -> impl FnOnce(fjall::Error) -> KvError {
    move |source| KvError { context, source: Box::new(source) }
}

impl FjallKv {
    const KEYSPACE: &'static str = "meta";

    /// Opens the store in `directory`, or makes it.
    ///
    /// # Errors
    /// The directory cannot be read or written, is held by another process, or the journal is corrupt.
    pub fn open(directory: &Path) -> Result<Self, KvError> {
        // Batches stay in fjall's buffer until `sync`: a write to the kernel before that would promise nothing.
        let database =
            Database::builder(directory).manual_journal_persist(true).open().map_err(error("opening"))?;
        let keyspace = database
            .keyspace(Self::KEYSPACE, KeyspaceCreateOptions::default)
            .map_err(error("opening the keyspace"))?;
        let this = Self { database, keyspace, failed: AtomicBool::new(false) };
        this.sync()?;
        Ok(this)
    }

    fn check(&self, context: &'static str) -> Result<(), KvError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(KvError { context, source: Box::new(Failed) });
        }
        Ok(())
    }
}

fn collect(
    pairs: impl Iterator<Item = fjall::Guard>,
    limit: usize,
    context: &'static str,
) -> Result<Vec<(Bytes, Bytes)>, KvError> {
    pairs
        .take(limit)
        .map(|pair| {
            let (key, value) = pair.into_inner().map_err(error(context))?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        })
        .collect()
}

impl OrderedKv for FjallKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.check("get")?;
        let value = self.keyspace.get(key).map_err(error("get"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.check("range")?;
        if start >= end {
            return Ok(Vec::new());
        }
        collect(self.keyspace.range(start..end), limit, "range")
    }

    fn range_back(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.check("range")?;
        if start >= end {
            return Ok(Vec::new());
        }
        collect(self.keyspace.range(start..end).rev(), limit, "range")
    }

    fn apply(&self, batch: Batch) -> Result<(), KvError> {
        self.check("apply")?;
        // fjall gives all changes of a batch one sequence number, so two changes of one key would be undefined.
        let mut last: std::collections::BTreeMap<Vec<u8>, Option<Bytes>> = std::collections::BTreeMap::new();
        last.extend(batch.changes);
        let mut write = self.database.batch();
        for (key, value) in last {
            match value {
                Some(value) => write.insert(&self.keyspace, key, &value[..]),
                None => write.remove(&self.keyspace, key),
            }
        }
        write.commit().map_err(error("apply"))
    }

    fn sync(&self) -> Result<(), KvError> {
        self.check("sync")?;
        self.database.persist(PersistMode::SyncAll).map_err(|source| {
            self.failed.store(true, Ordering::Release);
            error("sync")(source)
        })
    }

    fn snapshot(&self) -> Arc<dyn KvSnapshot> {
        Arc::new(FjallSnapshot { snapshot: self.database.snapshot(), keyspace: self.keyspace.clone() })
    }
}

struct FjallSnapshot {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl KvSnapshot for FjallSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let value = self.snapshot.get(&self.keyspace, key).map_err(error("get from a snapshot"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        if start >= end {
            return Ok(Vec::new());
        }
        collect(self.snapshot.range(&self.keyspace, start..end), limit, "range of a snapshot")
    }
}
