//! The state of one group as tables of keys: read from a snapshot of the store, or from the store with the changes of the
//! present step on top. Keys here are relative: table byte, then what the table says.

use super::MachineError;
use crate::codec::{decode, encode, seal, unseal};
use crate::kv::{Batch, KvSnapshot, OrderedKv};
use crate::limits::SCAN_KEYS;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Reads the state.
pub(crate) trait View {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MachineError>;

    /// At most `limit` pairs with `start <= key < end`, ascending.
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, MachineError>;

    /// The record of a key.
    fn record<R: DeserializeOwned>(&self, what: &'static str, key: &[u8]) -> Result<Option<R>, MachineError>
    where
        Self: Sized,
    {
        Ok(match self.get(key)? {
            Some(value) => Some(decode(what, &value)?),
            None => None,
        })
    }
}

fn absolute(prefix: &[u8], key: &[u8]) -> Vec<u8> {
    let mut absolute = Vec::with_capacity(prefix.len() + key.len());
    absolute.extend_from_slice(prefix);
    absolute.extend_from_slice(key);
    absolute
}

/// Pairs of the store with their checksums checked, keys relative.
fn relative(prefix: &[u8], pairs: Vec<(Bytes, Bytes)>) -> Result<Vec<(Bytes, Bytes)>, MachineError> {
    let pair = |(key, value): (Bytes, Bytes)| {
        let value = unseal(STATE, &key, &value)?;
        Ok((key.slice(prefix.len()..), value))
    };
    pairs.into_iter().map(pair).collect()
}

/// A value of the store with its checksum checked.
fn checked(key: &[u8], value: Option<Bytes>) -> Result<Option<Bytes>, MachineError> {
    value.map(|value| unseal(STATE, key, &value).map_err(Into::into)).transpose()
}

const STATE: &str = "record of the state";

/// The state at one moment.
#[derive(Clone)]
pub(crate) struct SnapshotView {
    pub(crate) snapshot: Arc<dyn KvSnapshot>,
    pub(crate) prefix: Vec<u8>,
}

impl View for SnapshotView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MachineError> {
        let key = absolute(&self.prefix, key);
        checked(&key, self.snapshot.get(&key)?)
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, MachineError> {
        let pairs =
            self.snapshot.range(&absolute(&self.prefix, start), &absolute(&self.prefix, end), limit)?;
        relative(&self.prefix, pairs)
    }
}

/// The state with changes that are not yet in the store.
pub(crate) struct Changes<'kv> {
    kv: &'kv dyn OrderedKv,
    prefix: Vec<u8>,
    changed: BTreeMap<Vec<u8>, Option<Bytes>>,
}

impl<'kv> Changes<'kv> {
    pub(crate) fn new(kv: &'kv dyn OrderedKv, prefix: Vec<u8>) -> Self {
        Self { kv, prefix, changed: BTreeMap::new() }
    }

    pub(crate) fn put<R: Serialize>(&mut self, key: Vec<u8>, record: &R) {
        self.changed.insert(key, Some(encode(record)));
    }

    pub(crate) fn put_bytes(&mut self, key: Vec<u8>, value: Bytes) {
        self.changed.insert(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.changed.insert(key, None);
    }

    /// The changes as one batch, keys absolute, values with their checksums.
    pub(crate) fn into_batch(self) -> Batch {
        let Self { prefix, changed, .. } = self;
        let changes = changed.into_iter().map(|(key, value)| {
            let key = absolute(&prefix, &key);
            let value = value.map(|value| seal(&key, &value));
            (key, value)
        });
        Batch { changes: changes.collect() }
    }
}

impl View for Changes<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MachineError> {
        match self.changed.get(key) {
            Some(value) => Ok(value.clone()),
            None => {
                let key = absolute(&self.prefix, key);
                checked(&key, self.kv.get(&key)?)
            }
        }
    }

    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, MachineError> {
        let mut merged = Vec::new();
        let mut start = start.to_vec();
        while merged.len() < limit && start.as_slice() < end {
            let stored = self.kv.range(
                &absolute(&self.prefix, &start),
                &absolute(&self.prefix, end),
                SCAN_KEYS.min(limit),
            )?;
            let stored = relative(&self.prefix, stored)?;
            // The page of the store speaks for keys up to its last one only, unless it reached the end.
            let full = stored.len() == SCAN_KEYS.min(limit);
            let stop = match stored.last() {
                Some((last, _)) if full => [last, &[0][..]].concat(),
                _ => end.to_vec(),
            };
            let mut page: BTreeMap<Bytes, Bytes> = stored.into_iter().collect();
            let bounds = (Bound::Included(start.as_slice()), Bound::Excluded(stop.as_slice()));
            for (key, value) in self.changed.range::<[u8], _>(bounds) {
                match value {
                    Some(value) => page.insert(Bytes::copy_from_slice(key), value.clone()),
                    None => page.remove(key.as_slice()),
                };
            }
            merged.extend(page);
            start = stop;
        }
        merged.truncate(limit);
        Ok(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::{Changes, View};
    use crate::codec::seal;
    use crate::kv::{Batch, MemoryKv, MemoryMedia, OrderedKv};
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn changes_on_top_of_the_store_read_like_one_map(
            stored in prop::collection::vec(0u8..20, 0..20),
            changed in prop::collection::vec((0u8..20, any::<bool>()), 0..20),
            start in 0u8..21, end in 0u8..21, limit in 0usize..8,
        ) {
            let kv = MemoryKv::on(&MemoryMedia::new());
            let mut model = BTreeMap::new();
            let mut batch = Batch::default();
            for key in stored {
                batch.put(vec![b'p', key], seal(&[b'p', key], b"stored"));
                model.insert(key, Bytes::from_static(b"stored"));
            }
            kv.apply(batch).unwrap();
            let mut changes = Changes::new(&kv, vec![b'p']);
            for (key, put) in changed {
                if put {
                    changes.put_bytes(vec![key], Bytes::from_static(b"new"));
                    model.insert(key, Bytes::from_static(b"new"));
                } else {
                    changes.remove(vec![key]);
                    model.remove(&key);
                }
            }
            let found = changes.range(&[start], &[end], limit).unwrap();
            let expected: Vec<(Bytes, Bytes)> = model.iter()
                .filter(|(key, _)| (start..end).contains(key))
                .take(limit)
                .map(|(key, value)| (Bytes::from(vec![*key]), value.clone()))
                .collect();
            prop_assert_eq!(found, expected);
            for key in 0..20 {
                prop_assert_eq!(changes.get(&[key]).unwrap(), model.get(&key).cloned());
            }
            let batch = changes.into_batch();
            kv.apply(batch).unwrap();
            let after = kv.range(b"p", b"q", 100).unwrap();
            prop_assert_eq!(after.len(), model.len());
        }
    }
}
