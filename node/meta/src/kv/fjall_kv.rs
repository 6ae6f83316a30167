//! The store on fjall, with its ledger.
//!
//! ```text
//! state_dir/ledger          see `ledger`
//! state_dir/store-<id>/     fjall; the id is the ledger's
//! state_dir/damaged-<n>/    content that was set aside, the latest few, each with a file that says why
//! ```
//!
//! **What the ledger is compared with.** Each batch carries a key of its own with its number, counted from 1. fjall keeps its
//! journal in several files, and ends the reading of each at the first batch that does not parse, also of one that is followed by
//! others: so the last number alone would not do. At open all numbers from the floor on must be there without a gap, up to at
//! least what the ledger says. Numbers are removed, and the floor raised, once the journals that held them are gone, since then
//! their batches are in tables, whose blocks have checksums.
//!
//! **Order of writes.** `sync` flushes journal and ledger side by side and returns when both are done; what the ledger asks for beyond
//! the journal, it has itself (see there). So nobody was promised more than it asks for. A new store: ledger (0 batches), then
//! the store, then the store's id as batch 1. While the ledger says 0, the store may be thrown away and made again.
//!
//! **What it does not see.** The whole directory, ledger and all, replaced by an older copy of itself: no witness on the same
//! medium can. A state directory must never be restored from a copy; the cluster makes a new one.

mod error;
mod journal;
mod store;

use super::ledger::{self, Entry, Ledger, LedgerError, sync_directory};
use super::media::reading_file;
use super::{Batch, Integrity, KvError, KvErrorKind, KvSnapshot, Loss, OrderedKv, other_version};
use bytes::Bytes;
use error::{failed, kind_of_io, reading};
use fjall::{Keyspace, PersistMode, Readable, Snapshot};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use store::{Copied, Store, collect};
use strongroom_env::Rng;

/// The store's own keys begin with this.
const OWN: [u8; 2] = [0xff, 0xff];
/// Numbers that one batch removes at most; more than it adds, so that they do not pile up.
const FORGET_EACH: u64 = 4;
/// Batches between two looks at which journals are left.
const LOOK_EVERY: u64 = 1024;
/// Numbers that are read at once at open.
const NUMBERS_PAGE: usize = 4096;
/// What fjall's file `version` has: this, then a byte.
const FORMAT_MAGIC: &[u8] = b"FJL";
/// fjall's format, which `journal` reads too.
const FORMAT_VERSION: u8 = 3;
/// Bytes of a torn end that are kept.
const TORN_KEPT_LEN_BYTES: usize = 1 << 20;
/// Directories that were set aside and are kept.
const DAMAGED_KEPT: usize = 3;

fn own_key(name: u8) -> Vec<u8> {
    vec![OWN[0], OWN[1], name]
}

fn number_key(number: u64) -> Vec<u8> {
    let mut key = own_key(b'n');
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn number_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(3..)?.try_into().ok()?))
}

/// Why a state directory cannot be used at all. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("locked: another Strongroom process holds this state directory")]
    Locked,
    /// It was made before there was a ledger: whether it is whole cannot be told.
    #[error("made by a version of Strongroom that kept no ledger: what it holds cannot be taken over")]
    Older,
    /// Another version of Strongroom wrote it.
    #[error("{what} has version {found}, this strongroom reads {expected}: {}", other_version(*found, *expected))]
    OtherVersion {
        /// Which part of it.
        what: &'static str,
        /// Its version.
        found: u16,
        /// The one that is read here.
        expected: u16,
    },
    /// It could not be read or written.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store could not be made or opened, for another reason than damage.
    #[error(transparent)]
    Kv(#[from] KvError),
}

fn io_error(context: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { context, source }
}

/// A store in a directory: one fjall database with one keyspace. Two keyspaces would break the promise of a prefix: each has
/// its own memtable, and one may reach the disk as a table while the journal that holds the other's batches is still unsynced.
pub struct FjallKv {
    directory: PathBuf,
    rng: Arc<dyn Rng>,
    integrity: Mutex<Integrity>,
    /// `None` where it could not be opened.
    store: RwLock<Option<Arc<Store>>>,
    ledger: Mutex<Option<Ledger>>,
    failed: AtomicBool,
    /// Holds the directory's lock.
    _lock: File,
}

/// A write or a sync failed before; the process must end and read back what is there.
#[derive(Debug, thiserror::Error)]
#[error("an earlier write or sync failed")]
struct Failed;

/// A journal that was whole when the next one was made is not any more.
#[derive(Debug, thiserror::Error)]
#[error("{path} does not parse at byte {at}, and another journal follows it")]
struct Rotten {
    path: PathBuf,
    at: u64,
}

/// There is no store: it could not be opened, and was not set aside yet.
#[derive(Debug, thiserror::Error)]
#[error("the store is not open")]
struct NotOpen;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is in a state directory.
#[derive(Default)]
struct Contents {
    stores: Vec<PathBuf>,
    damaged: Vec<(u64, PathBuf)>,
    older: bool,
}

fn contents(directory: &Path) -> io::Result<Contents> {
    let mut contents = Contents::default();
    for found in std::fs::read_dir(directory)? {
        let found = found?;
        let name = found.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("store-") {
            contents.stores.push(found.path());
        } else if let Some(number) = name.strip_prefix("damaged-").and_then(|number| number.parse().ok()) {
            contents.damaged.push((number, found.path()));
        }
        contents.older |= name == "keyspaces";
    }
    contents.stores.sort();
    contents.damaged.sort();
    Ok(contents)
}

fn store_path(directory: &Path, store: u128) -> PathBuf {
    directory.join(format!("store-{store:032x}"))
}

impl FjallKv {
    /// Opens the store in `directory`, or makes it. Where its content is damaged or gone it opens all the same, and
    /// [`OrderedKv::integrity`] says so.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(directory: &Path, rng: Arc<dyn Rng>) -> Result<Self, OpenError> {
        std::fs::create_dir_all(directory).map_err(io_error("making the state directory"))?;
        let held = File::open(directory).map_err(io_error("opening the state directory"))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::Locked),
            Err(std::fs::TryLockError::Error(source)) => {
                return Err(OpenError::Io { context: "locking the state directory", source });
            }
        }
        let found = contents(directory).map_err(io_error("reading the state directory"))?;
        if found.older {
            return Err(OpenError::Older);
        }
        let ledger = Ledger::open(directory).map_err(|error| match error {
            LedgerError::Io(source) => OpenError::Io { context: "reading the ledger", source },
            LedgerError::OtherVersion { found } => {
                OpenError::OtherVersion { what: "the ledger", found, expected: ledger::VERSION }
            }
        })?;
        let entry = ledger.as_ref().map(|ledger| ledger.entry().clone());
        let this = Self {
            directory: directory.to_owned(),
            rng,
            integrity: Mutex::new(Integrity::Whole),
            store: RwLock::new(None),
            ledger: Mutex::new(ledger),
            failed: AtomicBool::new(false),
            _lock: held,
        };
        let begun = entry.as_ref().is_none_or(|entry| entry.synced == 0 && entry.condemned.is_none());
        if begun && (entry.is_some() || found.stores.is_empty()) {
            // Nothing was ever promised by it.
            this.make().map_err(|error| match error {
                Remake::Io(source) => OpenError::Io { context: "making the store", source },
                Remake::Kv(error) => OpenError::Kv(error),
            })?;
            return Ok(this);
        }
        let integrity = match entry {
            None => Integrity::Lost(Loss::NoLedger),
            Some(entry) => this.open_and_compare(&entry)?,
        };
        *lock(&this.integrity) = integrity;
        Ok(this)
    }

    fn open_and_compare(&self, entry: &Entry) -> Result<Integrity, OpenError> {
        if let Some(reason) = &entry.condemned {
            return Ok(Integrity::Lost(Loss::Condemned { reason: reason.clone() }));
        }
        let path = store_path(&self.directory, entry.store);
        // Before the journal is looked at, whose end would be cut off where it is of another format.
        match reading_file(|| std::fs::read(path.join("version"))) {
            Ok(marker) => match marker.strip_prefix(FORMAT_MAGIC) {
                Some(&[FORMAT_VERSION]) => {}
                Some(&[found]) => {
                    let (found, expected) = (found.into(), FORMAT_VERSION.into());
                    return Err(OpenError::OtherVersion { what: "the store", found, expected });
                }
                Some(_) | None => {
                    let reason = String::from("its version marker is none");
                    return Ok(Integrity::Lost(Loss::Unreadable { reason }));
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Integrity::Lost(Loss::OtherStore));
            }
            Err(error) if kind_of_io(&error) == KvErrorKind::Damaged => {
                return Ok(Integrity::Lost(Loss::Unreadable { reason: error.to_string() }));
            }
            Err(source) => return Err(OpenError::Io { context: "reading the state directory", source }),
        }
        let store = match Store::open_again(&path) {
            Ok(store) => store,
            Err(error) if error.kind == KvErrorKind::Damaged => {
                let reason = error.source.to_string();
                return Ok(Integrity::Lost(Loss::Unreadable { reason }));
            }
            Err(error) => return Err(error.into()),
        };
        let integrity = match store.compare(entry) {
            Ok(integrity) => integrity,
            Err(error) if error.kind == KvErrorKind::Damaged => {
                Integrity::Lost(Loss::Unreadable { reason: error.source.to_string() })
            }
            Err(error) => return Err(error.into()),
        };
        if integrity == Integrity::Whole {
            // What is there beyond the ledger, or comes from it, is there for good before anybody reads it.
            store.database.persist(PersistMode::SyncAll).map_err(|source| failed("sync", source))?;
            let mut numbers = lock(&store.numbers);
            numbers.copied = Copied::default();
            if let Some(ledger) = lock(&self.ledger).as_mut() {
                ledger.refresh(numbers.last).map_err(io_error("writing the ledger"))?;
            }
        }
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(store));
        Ok(integrity)
    }

    /// Makes an empty store with a new ledger.
    fn make(&self) -> Result<(), Remake> {
        for stray in contents(&self.directory)?.stores {
            std::fs::remove_dir_all(stray)?;
        }
        let id = self.rng.u128();
        let ledger = Ledger::create(&self.directory, id)?;
        let store = Store::open(&store_path(&self.directory, id))?;
        sync_directory(&self.directory)?;
        let mut batch = Batch::default();
        batch.put(own_key(b'i'), Bytes::copy_from_slice(&id.to_be_bytes()));
        *lock(&self.ledger) = Some(ledger);
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(store));
        self.apply(batch)?;
        self.sync()?;
        *lock(&self.integrity) = Integrity::Whole;
        Ok(())
    }

    /// Moves all stores out of the way.
    fn move_aside(&self, reason: &str) -> io::Result<()> {
        let found = contents(&self.directory)?;
        let mut number = found.damaged.last().map_or(1, |(number, _)| number + 1);
        let kept_before = DAMAGED_KEPT.saturating_sub(found.stores.len());
        let excess = found.damaged.len().saturating_sub(kept_before);
        for (_, path) in &found.damaged[..excess] {
            tracing::warn!(path = %path.display(), "removing the oldest damaged state");
            std::fs::remove_dir_all(path)?;
        }
        for path in found.stores {
            let to = self.directory.join(format!("damaged-{number}"));
            tracing::warn!(from = %path.display(), to = %to.display(), reason, "state is set aside");
            // For people; that it could not be written changes nothing.
            let _ = std::fs::write(path.join("why.txt"), reason);
            std::fs::rename(&path, &to)?;
            number += 1;
        }
        sync_directory(&self.directory)
    }

    fn store(&self, context: &'static str) -> Result<Arc<Store>, KvError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(failed(context, Failed));
        }
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner).clone();
        store.ok_or_else(|| failed(context, NotOpen))
    }

    fn sync_store(&self, store: &Store) -> Result<(), KvError> {
        let mut ledger = lock(&self.ledger);
        let ledger = ledger.as_mut().ok_or_else(|| failed("sync", NotOpen))?;
        let before = ledger.entry().synced;
        let (last, copied) = {
            let mut numbers = lock(&store.numbers);
            (numbers.last, std::mem::take(&mut numbers.copied))
        };
        if before >= last {
            return Ok(());
        }
        let (id, condemned) = (ledger.entry().store, ledger.entry().condemned.clone());
        let persist =
            || store.database.persist(PersistMode::SyncAll).map_err(|source| failed("sync", source));
        let written = |source| failed("writing the ledger", source);
        if copied.too_long {
            persist()?;
            let entry = Entry { store: id, synced: last, before: last, copy: Vec::new(), condemned };
            ledger.write(entry).map_err(written)?;
        } else {
            let entry = Entry { store: id, synced: last, before, copy: copied.bytes, condemned };
            std::thread::scope(|scope| {
                let beside = scope.spawn(|| ledger.write(entry));
                let persisted = persist();
                let ledger = beside.join().expect("writing a file does not panic");
                persisted?;
                ledger.map_err(written)
            })?;
        }
        if let Err(error) = store.look_at_journals(last) {
            // Housekeeping: all is on the media, and numbers that are kept longer cost some bytes each.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the journals cannot be looked at this time"
            );
        }
        Ok(())
    }
}

/// Why an empty store could not be made.
enum Remake {
    Io(io::Error),
    Kv(KvError),
}

impl From<io::Error> for Remake {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<KvError> for Remake {
    fn from(error: KvError) -> Self {
        Self::Kv(error)
    }
}

impl OrderedKv for FjallKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let store = self.store("get")?;
        let value = reading("get", || store.keyspace.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        let store = self.store("range")?;
        if start >= end {
            return Ok(Vec::new());
        }
        reading("range", || collect(store.keyspace.range(start..end), limit))
    }

    fn range_back(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        let store = self.store("range")?;
        if start >= end {
            return Ok(Vec::new());
        }
        reading("range", || collect(store.keyspace.range(start..end).rev(), limit))
    }

    fn apply(&self, batch: Batch) -> Result<(), KvError> {
        let store = self.store("apply")?;
        // A part of it may be in the journal, and what followed it there would be cut off with it.
        store.apply(batch).inspect_err(|_| self.failed.store(true, Ordering::Release))
    }

    fn sync(&self) -> Result<(), KvError> {
        let store = self.store("sync")?;
        self.sync_store(&store).inspect_err(|_| self.failed.store(true, Ordering::Release))
    }

    fn snapshot(&self) -> Arc<dyn KvSnapshot> {
        match self.store("snapshot") {
            Ok(store) => Arc::new(FjallSnapshot {
                snapshot: store.database.snapshot(),
                keyspace: store.keyspace.clone(),
            }),
            Err(_) => Arc::new(NoSnapshot),
        }
    }

    fn integrity(&self) -> Integrity {
        lock(&self.integrity).clone()
    }

    fn condemn(&self, reason: &str) -> Result<(), KvError> {
        let mut ledger = lock(&self.ledger);
        let Some(ledger) = ledger.as_mut() else { return Ok(()) };
        ledger.condemn(reason).map_err(|source| failed("writing the ledger", source))
    }

    fn set_aside(&self, reason: &str) -> Result<(), KvError> {
        // First of all: what a thread of the old store still writes must not find its directory again.
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = None;
        let moved = self.move_aside(reason).map_err(Remake::Io).and_then(|()| {
            self.failed.store(false, Ordering::Release);
            self.make()
        });
        moved.map_err(|error| {
            self.failed.store(true, Ordering::Release);
            match error {
                Remake::Io(source) => failed("setting the state aside", source),
                Remake::Kv(error) => error,
            }
        })
    }
}

struct FjallSnapshot {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl KvSnapshot for FjallSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let value = reading("get from a snapshot", || self.snapshot.get(&self.keyspace, key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        if start >= end {
            return Ok(Vec::new());
        }
        reading("range of a snapshot", || collect(self.snapshot.range(&self.keyspace, start..end), limit))
    }
}

/// A view of a store that is not open.
struct NoSnapshot;

impl KvSnapshot for NoSnapshot {
    fn get(&self, _: &[u8]) -> Result<Option<Bytes>, KvError> {
        Err(failed("get from a snapshot", NotOpen))
    }

    fn range(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        Err(failed("range of a snapshot", NotOpen))
    }
}

#[cfg(test)]
mod tests;
