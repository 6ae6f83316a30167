//! Listing keys.
//!
//! Keys come in the order of their bytes. With a delimiter, keys that hold it after the prefix fold into the common prefix up
//! to and with its first occurrence, and the scan seeks past that common prefix instead of walking through it.
//!
//! `after` is exclusive, and means what S3's `marker` (v1), `start-after` and the key inside our continuation token (v2) mean:
//! keys at or before it are left out, and so is the common prefix that it lies in. A common prefix in S3 is an element of the
//! list like a key, and the caller that passes `a/b`, or the `a/` that ended the page before, has seen it.

use super::MachineError;
use super::namespace::{StoredVersion, current_prefix};
use super::view::View;
use crate::codec::{RecordError, decode, successor};
use crate::group::{Page, PageEntry};
use crate::limits::{LIST_ENTRIES_MAX, SCAN_KEYS};
use strongroom_types::{BucketId, ObjectKey};

/// Keys in the first read, and after a seek: one entry may be all that is wanted there.
const READ_KEYS_MIN: usize = 8;

/// What to list.
pub(crate) struct Listing {
    pub(crate) bucket: BucketId,
    pub(crate) prefix: String,
    pub(crate) delimiter: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) limit: u32,
}

/// The common prefix that `key` folds to.
fn folded<'key>(key: &'key str, prefix: &str, delimiter: Option<&str>) -> Option<&'key str> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let rest = key.strip_prefix(prefix)?;
    let end = prefix.len() + rest.find(delimiter)? + delimiter.len();
    Some(&key[..end])
}

fn beyond(prefix: &[u8]) -> Vec<u8> {
    successor(prefix).expect("the table byte has a successor")
}

pub(crate) fn list(view: &impl View, listing: &Listing) -> Result<Page, MachineError> {
    let Listing { bucket, prefix, delimiter, after, limit } = listing;
    let delimiter = delimiter.as_deref();
    let limit = (*limit as usize).min(LIST_ENTRIES_MAX);
    let mut page = Page::default();
    if limit == 0 {
        return Ok(page);
    }
    let table = current_prefix(*bucket);
    let at = |key: &str| [&table[..], key.as_bytes()].concat();
    let mut start = at(prefix);
    let end = beyond(&start);
    if let Some(after) = after {
        let past = match folded(after, prefix, delimiter) {
            Some(common) => beyond(&at(common)),
            None => [&at(after)[..], &[0]].concat(),
        };
        start = start.max(past);
    }
    let mut read = READ_KEYS_MIN;
    loop {
        let found = view.range(&start, &end, read)?;
        let exhausted = found.len() < read;
        let Some((last, _)) = found.last() else { return Ok(page) };
        start = [&last[..], &[0]].concat();
        read = (read * 2).min(SCAN_KEYS);
        let mut sought = false;
        for (stored_key, value) in found {
            let odd = || RecordError::Undecodable { what: "object key" };
            let key = std::str::from_utf8(&stored_key[table.len()..]).map_err(|_| odd())?;
            if page.entries.len() == limit {
                page.truncated = true;
                return Ok(page);
            }
            if let Some(common) = folded(key, prefix, delimiter) {
                start = beyond(&at(common));
                page.entries.push(PageEntry::CommonPrefix(common.to_owned()));
                (read, sought) = (READ_KEYS_MIN, true);
                break;
            }
            let StoredVersion { len_bytes, etag, modified, .. } = decode("current version", &value)?;
            let key = ObjectKey::new(key).map_err(|_| odd())?;
            page.entries.push(PageEntry::Object { key, len_bytes, etag, modified });
        }
        // After a seek there may be more, however short the read was.
        if exhausted && !sought {
            return Ok(page);
        }
    }
}

#[cfg(test)]
mod tests;
