//! One fjall database: its batches are numbered, and compared with the ledger when it is opened.

use super::error::{error, failed, kind_of_io, reading};
use super::journal;
use super::{
    FORGET_EACH, LOOK_EVERY, NUMBERS_PAGE, Rotten, TORN_KEPT_LEN_BYTES, lock, number_key, number_of, own_key,
};
use crate::kv::ledger::{self, Entry};
use crate::kv::media::reading_file;
use crate::kv::{Batch, Integrity, KvError, KvErrorKind, Loss};
use bytes::Bytes;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// One fjall database whose batches are numbered.
pub(super) struct Store {
    pub(super) database: Database,
    pub(super) keyspace: Keyspace,
    path: PathBuf,
    pub(super) numbers: Mutex<Numbers>,
}

/// The numbers of batches.
pub(super) struct Numbers {
    pub(super) copied: Copied,
    /// The last one given.
    pub(super) last: u64,
    /// Up to this one they were removed.
    pub(super) floor: u64,
    /// Up to this one they may be: their batches are in tables.
    pub(super) in_tables: u64,
    /// Batches up to the first were in journals up to the second.
    pub(super) mark: Option<(u64, u64)>,
    /// When to look at the journals again.
    pub(super) look_at: u64,
}

/// What was applied since the last sync, for the ledger.
#[derive(Default)]
pub(super) struct Copied {
    pub(super) bytes: Vec<u8>,
    /// Whether it would be too long, and so is not whole.
    pub(super) too_long: bool,
}

impl Copied {
    fn push(&mut self, changes: &[(Vec<u8>, Option<Bytes>)]) {
        let len_bytes: usize =
            changes.iter().map(|(key, value)| 8 + key.len() + value.as_ref().map_or(0, Bytes::len)).sum();
        self.too_long |= self.bytes.len() + 4 + len_bytes > ledger::COPY_LEN_BYTES_MAX;
        if self.too_long {
            self.bytes.clear();
        } else {
            ledger::push(&mut self.bytes, changes);
        }
    }
}

impl Store {
    const KEYSPACE: &'static str = "meta";

    /// What the media refuses here is not tried again: it may have been a flush.
    pub(super) fn open(path: &Path) -> Result<Self, KvError> {
        // Batches stay in fjall's buffer until `sync`: a write to the kernel before that would promise nothing.
        let database = Database::builder(path)
            .manual_journal_persist(true)
            .journal_compression(CompressionType::None)
            .open()
            .map_err(error("opening"))?;
        let keyspace = database
            .keyspace(Self::KEYSPACE, KeyspaceCreateOptions::default)
            .map_err(error("opening the keyspace"))?;
        let copied = Copied::default();
        let numbers = Numbers { copied, last: 0, floor: 0, in_tables: 0, mark: None, look_at: 0 };
        Ok(Self { database, keyspace, path: path.to_owned(), numbers: Mutex::new(numbers) })
    }

    /// Opens what is there; see `journal`.
    pub(super) fn open_again(path: &Path) -> Result<Self, KvError> {
        let looked = |source: io::Error| {
            let (context, kind) = ("reading the journal", kind_of_io(&source));
            KvError { context, kind, source: Box::new(source) }
        };
        let mut found = reading_file(|| journals(path)).map_err(looked)?;
        let active = found.pop();
        let mut sequence = None;
        for (_, sealed) in found {
            let whole = inspect(&sealed, &mut sequence).map_err(looked)?;
            if !whole.blank_after {
                let source = Box::new(Rotten { path: sealed, at: whole.len_bytes });
                return Err(KvError { context: "opening", kind: KvErrorKind::Damaged, source });
            }
        }
        if let Some((_, active)) = active {
            let whole = inspect(&active, &mut sequence).map_err(looked)?;
            if !whole.blank_after {
                cut(&active, whole.len_bytes).map_err(|source| failed("cutting the journal", source))?;
            }
        }
        Self::open(path)
    }

    /// Compares what is there with what the ledger says, and goes on counting from there.
    pub(super) fn compare(&self, entry: &Entry) -> Result<Integrity, KvError> {
        let id = reading("reading the store's id", || self.keyspace.get(own_key(b'i')))?;
        let floor = reading("reading the floor", || self.keyspace.get(own_key(b'f')))?;
        let floor = match floor.as_deref().map(<[u8; 8]>::try_from) {
            None => 0,
            Some(Ok(bytes)) => u64::from_be_bytes(bytes),
            Some(Err(_)) => return Ok(Integrity::Lost(Loss::OtherStore)),
        };
        let mut last = floor;
        let (mut start, end) = (number_key(floor + 1), own_key(b'n' + 1));
        loop {
            let numbers = || collect(self.keyspace.range(start.clone()..end.clone()), NUMBERS_PAGE);
            let page = reading("reading numbers", numbers)?;
            for (key, _) in &page {
                if number_of(key) != Some(last + 1) {
                    return Ok(Integrity::Lost(Loss::Gap { batch: last + 1 }));
                }
                last += 1;
            }
            if page.len() < NUMBERS_PAGE {
                break;
            }
            start = number_key(last + 1);
        }
        *lock(&self.numbers) =
            Numbers { copied: Copied::default(), last, floor, in_tables: floor, mark: None, look_at: last };
        if last < entry.synced {
            let behind = Integrity::Lost(Loss::Behind { recorded: entry.synced, found: last });
            if last < entry.before {
                return Ok(behind);
            }
            let Some(copied) = ledger::batches(&entry.copy) else { return Ok(behind) };
            if copied.len() as u64 != entry.synced - entry.before {
                return Ok(behind);
            }
            tracing::warn!(last, synced = entry.synced, "the journal's end comes from the ledger");
            let known = usize::try_from(last - entry.before).expect("no more than were counted");
            for batch in copied.into_iter().skip(known) {
                self.apply(batch)?;
            }
        }
        let id = match id {
            Some(id) => Some(id),
            None => reading("reading the store's id", || self.keyspace.get(own_key(b'i')))?,
        };
        if id.as_deref() != Some(&entry.store.to_be_bytes()[..]) {
            return Ok(Integrity::Lost(Loss::OtherStore));
        }
        Ok(Integrity::Whole)
    }

    /// Finds out, now and then, which batches are in tables for certain. `synced` are on the media.
    pub(super) fn look_at_journals(&self, synced: u64) -> io::Result<()> {
        {
            let mut numbers = lock(&self.numbers);
            if numbers.look_at > synced {
                return Ok(());
            }
            numbers.look_at = synced + LOOK_EVERY;
        }
        let found = journals(&self.path)?;
        let mut numbers = lock(&self.numbers);
        let (Some((lowest, _)), Some((highest, _))) = (found.first(), found.last()) else { return Ok(()) };
        match numbers.mark {
            // A journal is removed only when all that it held is in tables.
            Some((upto, journal)) if *lowest > journal => {
                numbers.in_tables = upto;
                numbers.mark = Some((synced, *highest));
            }
            Some(_) => {}
            None => numbers.mark = Some((synced, *highest)),
        }
        Ok(())
    }

    pub(super) fn apply(&self, batch: Batch) -> Result<(), KvError> {
        // fjall gives all changes of a batch one sequence number, so two changes of one key would be undefined.
        let mut last: std::collections::BTreeMap<Vec<u8>, Option<Bytes>> = std::collections::BTreeMap::new();
        last.extend(batch.changes);
        let changes: Vec<(Vec<u8>, Option<Bytes>)> = last.into_iter().collect();
        let mut write = self.database.batch();
        for (key, value) in &changes {
            match value {
                Some(value) => write.insert(&self.keyspace, &key[..], &value[..]),
                None => write.remove(&self.keyspace, &key[..]),
            }
        }
        // Held until it is in the journal, so that numbers lie there in order.
        let mut numbers = lock(&self.numbers);
        let number = numbers.last + 1;
        write.insert(&self.keyspace, number_key(number), []);
        let floor = numbers.in_tables.min(numbers.floor + FORGET_EACH);
        if floor > numbers.floor {
            for gone in numbers.floor + 1..=floor {
                write.remove(&self.keyspace, number_key(gone));
            }
            write.insert(&self.keyspace, own_key(b'f'), floor.to_be_bytes());
        }
        write.commit().map_err(|source| failed("apply", source))?;
        (numbers.last, numbers.floor) = (number, floor);
        numbers.copied.push(&changes);
        Ok(())
    }
}

/// See `journal`. Read a second time where the media refuses.
fn inspect(path: &Path, before: &mut Option<u64>) -> io::Result<journal::Whole> {
    let known = *before;
    reading_file(|| {
        *before = known;
        journal::inspect(path, before)
    })
}

/// Cuts the end of a journal off, and keeps a part of it for people: it may be all that is left to look at.
fn cut(journal: &Path, len_bytes: u64) -> io::Result<()> {
    tracing::warn!(path = %journal.display(), len_bytes, "the journal's end is not whole, and is cut off");
    let file = File::options().read(true).write(true).open(journal)?;
    let mut end = vec![0; TORN_KEPT_LEN_BYTES];
    let got = file.read_at(&mut end, len_bytes)?;
    std::fs::write(journal.with_extension("torn"), &end[..got])?;
    file.set_len(len_bytes)?;
    file.sync_all()
}

/// The journals of a fjall database by their numbers, ascending; the last one is written.
pub(super) fn journals(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jnl"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn collect(
    pairs: impl Iterator<Item = fjall::Guard>,
    limit: usize,
) -> fjall::Result<Vec<(Bytes, Bytes)>> {
    pairs
        .take(limit)
        .map(|pair| {
            let (key, value) = pair.into_inner()?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        })
        .collect()
}
