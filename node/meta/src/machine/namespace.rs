//! Keys and versions of a data group.
//!
//! ```text
//! 'b' bucket                                        whether objects may be committed, and the class
//! 'k' bucket key                                    current version; ordered by (bucket, key bytes), so LIST is a scan
//! 'o' bucket len(key) key ~(log index) ~(entry)     older versions of config keys, newest first
//! 'i' bucket len(key) key version                   inline bytes above a few hundred, beside their version, so that a
//!                                                   scan of keys does not read them
//! ```
//!
//! **Invariant** A version is kept once. Whatever is kept and has needles is in `pointers`, and nothing else is.

use super::pointers::{self, Owner};
use super::view::{Changes, View};
use super::{MachineError, session};
use crate::group::{Change, Content, Entry, EntryOutcome, Move, MoveOutcome, VersionRecord};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strongroom_types::limits::CONFIG_VERSIONS_MAX;
use strongroom_types::{
    Attributes, BucketClass, BucketId, Condition, ETag, Locator, ObjectKey, VersionId, WallTime,
};

/// Inline bytes up to this stay in the version's record.
const CONTENT_IN_RECORD_LEN_BYTES_MAX: usize = 256;

/// A bucket as a data group knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Admission {
    pub(crate) class: BucketClass,
    /// Whether objects may be committed.
    pub(crate) open: bool,
    /// The last attempt to make, remove or reopen the bucket that was here.
    pub(crate) round: u32,
}

/// A version as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredVersion {
    pub(crate) version: VersionId,
    pub(crate) len_bytes: u64,
    pub(crate) etag: ETag,
    pub(crate) modified: WallTime,
    attributes: Attributes,
    content: StoredContent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum StoredContent {
    Inline(Bytes),
    /// In table 'i'.
    Beside,
    Needles(Vec<Locator>),
}

/// Where in the log an entry is: orders older versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) log_index: u64,
    pub(crate) entry_index: u32,
}

pub(crate) fn bucket_key(bucket: BucketId) -> Vec<u8> {
    table(b'b', bucket)
}

/// The prefix of all current keys of a bucket.
pub(crate) fn current_prefix(bucket: BucketId) -> Vec<u8> {
    table(b'k', bucket)
}

fn table(table: u8, bucket: BucketId) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.push(table);
    key.extend_from_slice(&bucket.get().to_be_bytes());
    key
}

fn current_key(bucket: BucketId, key: &ObjectKey) -> Vec<u8> {
    let mut current = current_prefix(bucket);
    current.extend_from_slice(key.as_str().as_bytes());
    current
}

/// With the length before the key: else the records of "a" would lie among those of "ab".
fn prefixed_key(table_byte: u8, bucket: BucketId, key: &ObjectKey) -> Vec<u8> {
    let mut prefixed = table(table_byte, bucket);
    let len = u16::try_from(key.as_str().len()).expect("object keys are bounded by 1024 bytes");
    prefixed.extend_from_slice(&len.to_be_bytes());
    prefixed.extend_from_slice(key.as_str().as_bytes());
    prefixed
}

fn content_key(bucket: BucketId, key: &ObjectKey, version: VersionId) -> Vec<u8> {
    let mut content = prefixed_key(b'i', bucket, key);
    content.extend_from_slice(&version.get().to_be_bytes());
    content
}

fn older_key(bucket: BucketId, key: &ObjectKey, position: Position) -> Vec<u8> {
    let mut older = prefixed_key(b'o', bucket, key);
    older.extend_from_slice(&(!position.log_index).to_be_bytes());
    older.extend_from_slice(&(!position.entry_index).to_be_bytes());
    older
}

/// Older versions with their keys, newest first.
fn older(
    view: &impl View,
    bucket: BucketId,
    key: &ObjectKey,
) -> Result<Vec<(Bytes, StoredVersion)>, MachineError> {
    let start = prefixed_key(b'o', bucket, key);
    let end = [&start[..], &[0xff; 13]].concat();
    let found = view.range(&start, &end, CONFIG_VERSIONS_MAX + 1)?;
    found.into_iter().map(|(key, value)| Ok((key, crate::codec::decode("older version", &value)?))).collect()
}

pub(crate) fn current(
    view: &impl View,
    bucket: BucketId,
    key: &ObjectKey,
) -> Result<Option<StoredVersion>, MachineError> {
    view.record("current version", &current_key(bucket, key))
}

pub(crate) fn admission(view: &impl View, bucket: BucketId) -> Result<Option<Admission>, MachineError> {
    view.record("bucket admission", &bucket_key(bucket))
}

/// Whether the bucket has a current version of any key here.
pub(crate) fn has_objects(view: &impl View, bucket: BucketId) -> Result<bool, MachineError> {
    let start = current_prefix(bucket);
    let end = crate::codec::successor(&start).expect("the table byte has a successor");
    Ok(!view.range(&start, &end, 1)?.is_empty())
}

/// One version: the current one or the one named.
pub(crate) fn version(
    view: &impl View,
    bucket: BucketId,
    key: &ObjectKey,
    version: Option<VersionId>,
) -> Result<Option<VersionRecord>, MachineError> {
    let current = current(view, bucket, key)?;
    let found = match version {
        None => current,
        Some(wanted) => match current {
            Some(current) if current.version == wanted => Some(current),
            _ => {
                older(view, bucket, key)?.into_iter().map(|(_, stored)| stored).find(|v| v.version == wanted)
            }
        },
    };
    found.map(|stored| load(view, bucket, key, stored)).transpose()
}

/// All kept versions, newest first.
pub(crate) fn versions(
    view: &impl View,
    bucket: BucketId,
    key: &ObjectKey,
) -> Result<Vec<VersionRecord>, MachineError> {
    let current = current(view, bucket, key)?;
    let older = older(view, bucket, key)?;
    let all = current.into_iter().chain(older.into_iter().map(|(_, stored)| stored));
    all.map(|stored| load(view, bucket, key, stored)).collect()
}

fn load(
    view: &impl View,
    bucket: BucketId,
    key: &ObjectKey,
    stored: StoredVersion,
) -> Result<VersionRecord, MachineError> {
    let StoredVersion { version, len_bytes, etag, modified, attributes, content } = stored;
    let content = match content {
        StoredContent::Inline(bytes) => Content::Inline(bytes),
        StoredContent::Needles(locators) => Content::Needles(locators),
        StoredContent::Beside => {
            let bytes = view.get(&content_key(bucket, key, version))?;
            Content::Inline(bytes.ok_or(MachineError::ContentMissing)?)
        }
    };
    Ok(VersionRecord { version, len_bytes, etag, modified, attributes, content })
}

/// Applies one entry: decides its condition against the state as the entries before it left it.
pub(crate) fn commit(
    changes: &mut Changes<'_>,
    position: Position,
    entry: Entry,
) -> Result<EntryOutcome, MachineError> {
    let Entry { bucket, key, condition, change, session } = entry;
    let Some(Admission { class, open: true, .. }) = admission(changes, bucket)? else {
        return Ok(EntryOutcome::NoSuchBucket);
    };
    let before = current(changes, bucket, &key)?;
    if let (Some(before), Change::Put(record)) = (&before, &change)
        && before.version == record.version
    {
        return Ok(EntryOutcome::Applied);
    }
    if let Some(refusal) = refusal(&condition, before.as_ref().map(|before| &before.etag)) {
        return Ok(refusal);
    }
    if let Change::Put(VersionRecord { version, content: Content::Needles(locators), .. }) = &change {
        // A proposer that names no session could not be fenced.
        let Some(session) = session else { return Ok(EntryOutcome::SessionFenced) };
        if session::is_fenced(changes, session)? {
            return Ok(EntryOutcome::SessionFenced);
        }
        if !pointers::may_have(changes, *version, locators)? {
            return Ok(EntryOutcome::PlaceRefused);
        }
    }
    match class {
        BucketClass::Mail => {
            if let Some(before) = before {
                forget(changes, bucket, &key, &before)?;
            }
        }
        BucketClass::Config => {
            if let Some(before) = before {
                changes.put(older_key(bucket, &key, position), &before);
            }
            if let Change::Put(VersionRecord { version, .. }) = &change {
                forget_older(changes, bucket, &key, *version)?;
            }
            // A put becomes one of the versions that are kept.
            let keep = match change {
                Change::Put(_) => CONFIG_VERSIONS_MAX - 1,
                Change::Delete => CONFIG_VERSIONS_MAX,
            };
            for (older_key, stored) in older(changes, bucket, &key)?.into_iter().skip(keep) {
                forget(changes, bucket, &key, &stored)?;
                changes.remove(older_key.to_vec());
            }
        }
    }
    match change {
        Change::Put(record) => store(changes, bucket, &key, record)?,
        Change::Delete => changes.remove(current_key(bucket, &key)),
    }
    Ok(EntryOutcome::Applied)
}

/// One that was proposed long ago comes again: it becomes the current version, and is not an older one beside.
fn forget_older(
    changes: &mut Changes<'_>,
    bucket: BucketId,
    key: &ObjectKey,
    version: VersionId,
) -> Result<(), MachineError> {
    for (older_key, stored) in older(changes, bucket, key)? {
        if stored.version == version {
            forget(changes, bucket, key, &stored)?;
            changes.remove(older_key.to_vec());
        }
    }
    Ok(())
}

/// Gives a version its needle at another place, if it still has it where it was copied from. A second time it is no change and no refusal. Whether the bucket
/// is open does not matter: versions of deleted keys are kept in one that is closed, too.
pub(crate) fn relocate(changes: &mut Changes<'_>, one: &Move) -> Result<MoveOutcome, MachineError> {
    let Move { bucket, key, version, piece, from, to } = one;
    let Some((place, mut stored)) = find(changes, *bucket, key, *version)? else {
        return Ok(MoveOutcome::Differs);
    };
    let StoredContent::Needles(locators) = &mut stored.content else { return Ok(MoveOutcome::Differs) };
    let Some(needle) = locators.get_mut(*piece as usize) else { return Ok(MoveOutcome::Differs) };
    if needle == to {
        return Ok(MoveOutcome::Moved);
    }
    let is_copy = from.len_bytes == to.len_bytes
        && from.header_crc32c == to.header_crc32c
        && from.plain_len_bytes == to.plain_len_bytes;
    if needle != from || !is_copy {
        return Ok(MoveOutcome::Differs);
    }
    if !pointers::is_free(changes, to)? {
        return Ok(MoveOutcome::PlaceRefused);
    }
    *needle = *to;
    pointers::remove(changes, std::slice::from_ref(from))?;
    let owner = Owner { bucket: *bucket, key, version: *version };
    pointers::insert_one(changes, owner, *piece, to)?;
    changes.put(place, &stored);
    Ok(MoveOutcome::Moved)
}

/// A version that is kept, and its place in the store.
fn find(
    view: &impl View,
    bucket: BucketId,
    key: &ObjectKey,
    version: VersionId,
) -> Result<Option<(Vec<u8>, StoredVersion)>, MachineError> {
    if let Some(current) = current(view, bucket, key)?.filter(|current| current.version == version) {
        return Ok(Some((current_key(bucket, key), current)));
    }
    let older = older(view, bucket, key)?;
    let found = older.into_iter().find(|(_, stored)| stored.version == version);
    Ok(found.map(|(place, stored)| (place.to_vec(), stored)))
}

fn refusal(condition: &Condition, current: Option<&ETag>) -> Option<EntryOutcome> {
    match (condition, current) {
        (Condition::None, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => None,
        (Condition::Absent, Some(_)) => Some(EntryOutcome::ConditionFailed),
        (Condition::Matches(tag), Some(current)) => (tag != current).then_some(EntryOutcome::ConditionFailed),
        (Condition::Matches(_) | Condition::Present, None) => Some(EntryOutcome::NoSuchKey),
    }
}

/// Removes what lies beside a version, and what points back to it.
fn forget(
    changes: &mut Changes<'_>,
    bucket: BucketId,
    key: &ObjectKey,
    stored: &StoredVersion,
) -> Result<(), MachineError> {
    match &stored.content {
        StoredContent::Beside => changes.remove(content_key(bucket, key, stored.version)),
        StoredContent::Inline(_) => {}
        StoredContent::Needles(locators) => pointers::remove(changes, locators)?,
    }
    Ok(())
}

fn store(
    changes: &mut Changes<'_>,
    bucket: BucketId,
    key: &ObjectKey,
    record: VersionRecord,
) -> Result<(), MachineError> {
    let VersionRecord { version, len_bytes, etag, modified, attributes, content } = record;
    let content = match content {
        Content::Inline(bytes) if bytes.len() > CONTENT_IN_RECORD_LEN_BYTES_MAX => {
            changes.put_bytes(content_key(bucket, key, version), bytes);
            StoredContent::Beside
        }
        Content::Inline(bytes) => StoredContent::Inline(bytes),
        Content::Needles(locators) => {
            pointers::insert(changes, Owner { bucket, key, version }, &locators)?;
            StoredContent::Needles(locators)
        }
    };
    let stored = StoredVersion { version, len_bytes, etag, modified, attributes, content };
    changes.put(current_key(bucket, key), &stored);
    Ok(())
}
