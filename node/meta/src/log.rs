//! The Raft log of one group.
//!
//! An entry counts once it is durable: the callback comes after the node's [`Syncer`] has synced. Each entry carries a CRC32C
//! over its index, version and body, and reads check that indexes follow each other without a hole; what does not match is an error that
//! ends this node's life under its Raft id (see `damage`). It is never dropped and never truncated: that would be to forget what
//! was acknowledged. The peers have it, and give it to the node under its next id. An entry of another version is no damage: it
//! stays, and the node does not start (`versions`).
//!
//! **What openraft 0.9.25 does with this** (read in its source; the tests' network checks it at every message):
//! - A former leader would go on in its old term when it starts again with its committed vote (`engine_impl.rs`, `startup`), and read at an index
//!   that lacks what it had committed and does not remember to have (`Leader::new`, `noop_log_id`). So `read_vote` does not say that it won.
//! - Were an entry of a leader's own lost while it leads and a follower had got it, it could put another one in its place under the same log id, and nobody
//!   would see the difference. It cannot be: `RaftCore` awaits the flush of an append (`raft_core.rs`, `append_to_log`) before it runs the
//!   command that replicates it, commands run in order, and the range that replication reads ends at what the engine knew then.
//!   A vote is saved, and awaited, before it is asked for or granted.
//! - `debug_assert`s stop a leader whose follower lost entries that it had acknowledged; in what is shipped they are not there. That a
//!   store which lost anything never comes back under its old id is this crate's to ensure (`kv`, `meta::join`).
//! - `initialize` is refused once a vote was given, so a group whose only initialised voter is lost could never be started. Founding members
//!   therefore write the first entry themselves (`seed`).
//! - `change_membership` goes through a joint membership in two proposals; a leader that ends between them leaves it joint, and the same
//!   call with the last set of voters finishes it (`meta::voters`).

use crate::codec::{self, GroupKeys, RecordError};
use crate::damage::{Damage, Judged, Verdict};
use crate::kv::{Batch, KvError, OrderedKv};
use crate::limits::{APPEND_LEN_BYTES_MAX, CLEAR_KEYS, LOG_READ_ENTRIES};
use crate::raft::{LogEntry, LogId, StorageError, TypeConfig, Vote, next_index};
use crate::raft_id::RaftId;
use crate::syncer::Syncer;
use bytes::{BufMut, Bytes, BytesMut};
use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AnyError, OptionalSend, StorageIOError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_env::Spawn;
use strongroom_types::GroupId;

const ENTRY_VERSION: u8 = 6;
/// Its checksum did not cover the version.
const ENTRY_VERSION_FIRST: u8 = 1;
const ENTRY_HEADER_LEN_BYTES: usize = 1 + 4;

/// What is wrong with the stored log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store failed.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// An entry does not match its checksum.
    #[error("log entry {index} is corrupt")]
    CorruptEntry {
        /// Its index.
        index: u64,
    },
    /// Vote, committed or purged position cannot be read, or an entry that matches its checksum.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An entry that must be there is not.
    #[error("log entry {expected} is missing: found {found:?} in its place")]
    Hole {
        /// The index.
        expected: u64,
        /// What came instead.
        found: Option<u64>,
    },
}

impl LogError {
    /// Whether it means that the store's bytes are not what was written.
    pub(crate) fn is_damage(&self) -> bool {
        self.verdict() == Verdict::Damaged
    }
}

impl Judged for LogError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Kv(error) => error.verdict(),
            Self::Record(error) => error.verdict(),
            Self::CorruptEntry { .. } | Self::Hole { .. } => Verdict::Damaged,
        }
    }
}

pub(crate) fn encode_entry(entry: &LogEntry) -> Bytes {
    let mut value = BytesMut::with_capacity(256);
    value.put_u8(ENTRY_VERSION);
    value.put_u32(0);
    let body = postcard::to_stdvec(entry).expect("log entries hold only types that postcard encodes");
    value.put_slice(&body);
    let crc = entry_crc32c(entry.log_id.index, &[ENTRY_VERSION], &body);
    value[1..ENTRY_HEADER_LEN_BYTES].copy_from_slice(&crc.to_be_bytes());
    value.freeze()
}

fn entry_crc32c(index: u64, version: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&index.to_be_bytes()), version), body)
}

/// The encoded entry, where it matches its checksum and has this version.
fn entry_body(index: u64, value: &[u8]) -> Result<&[u8], LogError> {
    let corrupt = LogError::CorruptEntry { index };
    let Some((header, body)) = value.split_at_checked(ENTRY_HEADER_LEN_BYTES) else { return Err(corrupt) };
    let found = header[0];
    let covered = if found == ENTRY_VERSION_FIRST { &[][..] } else { &header[..1] };
    if header[1..] != entry_crc32c(index, covered, body).to_be_bytes() {
        return Err(corrupt);
    }
    if found != ENTRY_VERSION {
        return Err(RecordError::OtherVersion { what: ENTRY, found, expected: ENTRY_VERSION }.into());
    }
    Ok(body)
}

const ENTRY: &str = "log entry";

fn decode_entry(index: u64, value: &[u8]) -> Result<LogEntry, LogError> {
    let body = entry_body(index, value)?;
    match postcard::from_bytes::<LogEntry>(body) {
        Ok(entry) if entry.log_id.index == index => Ok(entry),
        Ok(_) | Err(_) => Err(RecordError::Undecodable { what: ENTRY }.into()),
    }
}

/// The encoded entry as another version would have written it.
#[cfg(test)]
pub(crate) fn of_version(index: u64, version: u8, value: &[u8]) -> Bytes {
    let body = &value[ENTRY_HEADER_LEN_BYTES..];
    let covered = if version == ENTRY_VERSION_FIRST { &[][..] } else { std::slice::from_ref(&version) };
    [&[version][..], &entry_crc32c(index, covered, body).to_be_bytes(), body].concat().into()
}

/// Whether the entry has the version that is read here. One that is corrupt has none: that is for who reads it.
pub(crate) fn check_version(index: u64, value: &[u8]) -> Result<(), RecordError> {
    match entry_body(index, value) {
        Err(LogError::Record(error)) => Err(error),
        Ok(_) | Err(LogError::Kv(_) | LogError::CorruptEntry { .. } | LogError::Hole { .. }) => Ok(()),
    }
}

/// The Raft log of one group. Clones read and write the same log; openraft holds one to write and some to read.
#[derive(Clone)]
pub struct LogStore {
    id: RaftId,
    kv: Arc<dyn OrderedKv>,
    keys: GroupKeys,
    syncer: Syncer,
    spawn: Arc<dyn Spawn>,
    ends: Arc<Mutex<Ends>>,
    damage: Damage,
}

#[derive(Clone, Copy, Default)]
struct Ends {
    purged: Option<LogId>,
    /// Index of the first entry; that after the purged one, other than in a log that a test begins in the middle.
    first: u64,
    last: Option<LogId>,
}

impl LogStore {
    /// Opens the log of `group`, whose voter here is `id`; removes what a crash left of a purge.
    pub(crate) fn open(
        kv: Arc<dyn OrderedKv>,
        id: RaftId,
        group: Option<GroupId>,
        syncer: Syncer,
        spawn: Arc<dyn Spawn>,
        damage: Damage,
    ) -> Result<Self, LogError> {
        let keys = GroupKeys::new(group);
        let purged: Option<LogId> = record(&*kv, "purged position of the log", &keys.purged())?;
        // Looked at here, so that a damaged one is found before the group runs.
        record::<Vote>(&*kv, "vote", &keys.vote())?;
        record::<Option<LogId>>(&*kv, "committed position of the log", &keys.committed())?;
        let first = next_index(purged.as_ref());
        crate::codec::clear(&*kv, &keys.log(0), &keys.log(first))?;
        if let Some((key, _)) = kv.range(&keys.log(first), &keys.log_end(), 1)?.first() {
            let found = GroupKeys::log_index(key);
            if found != Some(first) {
                return Err(LogError::Hole { expected: first, found });
            }
        }
        let last = match kv.range_back(&keys.log(first), &keys.log_end(), 1)?.first() {
            Some((key, value)) => {
                let index = GroupKeys::log_index(key).ok_or(LogError::CorruptEntry { index: 0 })?;
                Some(decode_entry(index, value)?.log_id)
            }
            None => purged,
        };
        Ok(Self {
            id,
            kv,
            keys,
            syncer,
            spawn,
            ends: Arc::new(Mutex::new(Ends { purged, first, last })),
            damage,
        })
    }

    /// The vote and the last entry that are there now.
    pub(crate) fn kept(&self) -> Result<(Option<Vote>, Option<LogId>), LogError> {
        Ok((record(&*self.kv, "vote", &self.keys.vote())?, self.ends().last))
    }

    /// Puts the first entry into a log that never had any. Durable before anything that this voter says.
    pub(crate) fn seed(&self, first: &LogEntry) -> Result<(), LogError> {
        let mut ends = self.ends();
        if ends.last.is_none() {
            let mut batch = Batch::default();
            batch.put(self.keys.log(first.log_id.index), encode_entry(first));
            self.kv.apply(batch)?;
            (ends.first, ends.last) = (first.log_id.index, Some(first.log_id));
        }
        Ok(())
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().expect("no holder of this lock panics")
    }

    /// The entries in `start..end` that should be there; fewer, but at least one, where they exceed `len_bytes_max`.
    fn read(&self, start: u64, end: u64, len_bytes_max: usize) -> Result<Vec<LogEntry>, LogError> {
        let (first, stop) = {
            let ends = self.ends();
            (start.max(ends.first), end.min(next_index(ends.last.as_ref())))
        };
        let mut entries = Vec::new();
        let mut len_bytes = 0;
        let mut next = first;
        while next < stop {
            let found = self.kv.range(&self.keys.log(next), &self.keys.log(stop), LOG_READ_ENTRIES)?;
            if found.is_empty() {
                return self.gone_or(next, None, entries);
            }
            for (key, value) in found {
                let index = GroupKeys::log_index(&key);
                if index != Some(next) {
                    return self.gone_or(next, index, entries);
                }
                if len_bytes + value.len() > len_bytes_max && !entries.is_empty() {
                    return Ok(entries);
                }
                len_bytes += value.len();
                entries.push(decode_entry(next, &value)?);
                next += 1;
            }
        }
        Ok(entries)
    }

    /// A missing entry is a hole unless it was purged or truncated while we read.
    fn gone_or(
        &self,
        expected: u64,
        found: Option<u64>,
        entries: Vec<LogEntry>,
    ) -> Result<Vec<LogEntry>, LogError> {
        let ends = self.ends();
        let there = ends.first..next_index(ends.last.as_ref());
        if there.contains(&expected) { Err(LogError::Hole { expected, found }) } else { Ok(entries) }
    }

    fn put<R: Serialize>(&self, key: Vec<u8>, record: &R) -> Result<(), KvError> {
        let mut batch = Batch::default();
        codec::put(&mut batch, key, record);
        self.kv.apply(batch)
    }

    fn read_failed(&self, error: LogError) -> StorageError {
        self.damage.stops(&error);
        StorageIOError::read_logs(AnyError::new(&error)).into()
    }

    fn write_failed(&self, error: LogError) -> StorageError {
        self.damage.stops(&error);
        StorageIOError::write_logs(AnyError::new(&error)).into()
    }

    fn purge_to(&self, log_id: LogId) -> Result<(), LogError> {
        let first = {
            let mut ends = self.ends();
            let first = ends.first;
            ends.purged = ends.purged.max(Some(log_id));
            ends.first = first.max(log_id.index + 1);
            ends.last = ends.last.max(Some(log_id));
            first
        };
        // The position first: entries below it that a crash leaves behind are removed at the next open.
        self.put(self.keys.purged(), &log_id)?;
        let mut next = first;
        while next <= log_id.index {
            let stop = (log_id.index + 1).min(next + CLEAR_KEYS as u64);
            let mut batch = Batch::default();
            for index in next..stop {
                batch.remove(self.keys.log(index));
            }
            self.kv.apply(batch)?;
            next = stop;
        }
        Ok(())
    }

    fn truncate_from(&self, log_id: LogId) -> Result<(), LogError> {
        let last = self.ends().last;
        // From the end, so that a crash between batches leaves no hole.
        let mut stop = next_index(last.as_ref());
        while stop > log_id.index {
            let start = log_id.index.max(stop.saturating_sub(CLEAR_KEYS as u64));
            let mut batch = Batch::default();
            for index in start..stop {
                batch.remove(self.keys.log(index));
            }
            self.kv.apply(batch)?;
            stop = start;
        }
        let mut ends = self.ends();
        let before = match log_id.index.checked_sub(1) {
            Some(index) if index >= ends.first => {
                let value = self.kv.get(&self.keys.log(index))?;
                let value = value.ok_or(LogError::Hole { expected: index, found: None })?;
                Some(decode_entry(index, &value)?.log_id)
            }
            _ => ends.purged,
        };
        ends.last = before;
        Ok(())
    }
}

fn range_of(range: impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

fn record<R: DeserializeOwned>(
    kv: &dyn OrderedKv,
    what: &'static str,
    key: &[u8],
) -> Result<Option<R>, LogError> {
    Ok(match kv.get(key)? {
        Some(value) => Some(codec::open(what, key, &value)?),
        None => None,
    })
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, StorageError> {
        let (start, end) = range_of(range);
        self.read(start, end, usize::MAX).map_err(|error| self.read_failed(error))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, StorageError> {
        self.read(start, end, APPEND_LEN_BYTES_MAX).map_err(|error| self.read_failed(error))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let ends = *self.ends();
        Ok(LogState { last_purged_log_id: ends.purged, last_log_id: ends.last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let failed = |error: AnyError| StorageError::from(StorageIOError::write_vote(error));
        self.put(self.keys.vote(), vote).map_err(|error| failed(AnyError::new(&error)))?;
        self.syncer.sync().await.map_err(|error| failed(AnyError::new(&error)))
    }

    /// openraft asks at its start only. Of a vote for this node itself it is told that it was given, and not that it won: it has to be elected again
    /// (the module says why). One for another stays as it is, so that its lease is kept.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote: Option<Vote> = record(&*self.kv, "vote", &self.keys.vote()).map_err(|error| {
            self.damage.stops(&error);
            StorageError::from(StorageIOError::read_vote(AnyError::new(&error)))
        })?;
        Ok(vote.map(|vote| {
            let committed = vote.committed && vote.leader_id.node_id != self.id.to_bits();
            Vote { committed, ..vote }
        }))
    }

    /// Not synced: it only shortens the replay at the next start, and the store's order keeps it behind the entries.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.put(self.keys.committed(), &committed).map_err(|error| self.write_failed(error.into()))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let committed: Option<Option<LogId>> =
            record(&*self.kv, "committed position of the log", &self.keys.committed())
                .map_err(|error| self.read_failed(error))?;
        Ok(committed.flatten())
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = Batch::default();
        let (mut first, mut last) = (None, None);
        for entry in entries {
            first = first.or(Some(entry.log_id.index));
            batch.put(self.keys.log(entry.log_id.index), encode_entry(&entry));
            last = Some(entry.log_id);
        }
        self.kv.apply(batch).map_err(|error| self.write_failed(error.into()))?;
        if let Some(first) = first {
            let mut ends = self.ends();
            if ends.last == ends.purged {
                ends.first = first;
            }
            ends.last = last;
        }
        let synced = self.syncer.sync();
        let complete = async move {
            callback.log_io_completed(synced.await.map_err(std::io::Error::other));
        };
        self.spawn.spawn("meta.log.flushed", Box::pin(complete));
        Ok(())
    }

    /// Not synced: the entries that come in their place are, and until then nothing was promised.
    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.truncate_from(log_id).map_err(|error| self.write_failed(error))
    }

    /// Not synced: the store's order keeps it behind the applied state, which was synced before openraft came here.
    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.purge_to(log_id).map_err(|error| self.write_failed(error))
    }
}

#[cfg(test)]
mod tests;
