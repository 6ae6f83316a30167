//! Pages against a map of keys, and how many keys a fold reads.

use super::{Listing, list};
use crate::group::{Change, Content, Entry, Page, PageEntry, VersionRecord};
use crate::kv::{KvError, MemoryKv, MemoryMedia, OrderedKv};
use crate::machine::MachineError;
use crate::machine::group_state;
use crate::machine::namespace::Position;
use crate::machine::view::{Changes, View};
use bytes::Bytes;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeSet;
use strongroom_types::{
    Attributes, BucketClass, BucketId, Condition, ETag, ObjectKey, SessionId, VersionId, WallTime,
};

const SESSION: SessionId = SessionId::new(5);
const BUCKET: BucketId = BucketId::new(5);

fn put(key: &str) -> Entry {
    let record = VersionRecord {
        version: VersionId::new(1),
        len_bytes: key.len() as u64,
        etag: ETag::new(key),
        modified: WallTime::from_unix_millis(3),
        attributes: Attributes::default(),
        content: Content::Needles(Vec::new()),
    };
    let key = ObjectKey::new(key).unwrap();
    Entry {
        bucket: BUCKET,
        key,
        condition: Condition::None,
        change: Change::Put(record),
        session: Some(SESSION),
    }
}

fn filled(keys: &BTreeSet<String>) -> MemoryKv {
    let kv = MemoryKv::on(&MemoryMedia::new());
    let mut changes = Changes::new(&kv, b"p".to_vec());
    let group = strongroom_types::GroupId::new(0);
    for bucket in [4, 5, 6] {
        let (bucket, class) = (BucketId::new(bucket), BucketClass::Mail);
        let admit = crate::group::GroupCommand::AdmitBucket { bucket, class, round: 1 };
        group_state::apply(&mut changes, group, 1, admit).unwrap();
        for key in keys {
            // Neighbours' keys must not show.
            let key = if bucket == BUCKET { key.clone() } else { format!("{key}!") };
            let entry = Entry { bucket, ..put(&key) };
            group_state::commit(&mut changes, Position { log_index: 2, entry_index: 0 }, entry).unwrap();
        }
    }
    let batch = changes.into_batch();
    kv.apply(batch).unwrap();
    kv
}

/// The definition: filter, fold, leave out what is not after, cut.
fn model(keys: &BTreeSet<String>, listing: &Listing) -> (Vec<String>, bool) {
    let Listing { prefix, delimiter, after, limit, .. } = listing;
    if *limit == 0 {
        return (Vec::new(), false);
    }
    let delimiter = delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let fold = |key: &str| -> Option<String> {
        let rest = key.strip_prefix(prefix.as_str())?;
        let at = rest.find(delimiter?)?;
        Some(format!("{prefix}{}", &rest[..at + delimiter?.len()]))
    };
    let mut elements: Vec<String> = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix.as_str())) {
        let element = fold(key).map_or(key.clone(), |common| format!("{common}*"));
        let hidden = after.as_ref().is_some_and(|after| {
            let folded_after = fold(after);
            match (fold(key), folded_after) {
                (Some(common), Some(seen)) if common == seen => true,
                _ => key <= after,
            }
        });
        if !hidden && elements.last() != Some(&element) {
            elements.push(element);
        }
    }
    let truncated = elements.len() > *limit as usize;
    elements.truncate(*limit as usize);
    (elements, truncated)
}

fn shown(page: &Page) -> (Vec<String>, bool) {
    let show = |entry: &PageEntry| match entry {
        PageEntry::Object { key, len_bytes, etag, modified } => {
            assert_eq!((*len_bytes, etag.as_str()), (key.as_str().len() as u64, key.as_str()));
            assert_eq!(modified.as_unix_millis(), 3);
            key.as_str().to_owned()
        }
        PageEntry::CommonPrefix(common) => format!("{common}*"),
    };
    (page.entries.iter().map(show).collect(), page.truncated)
}

fn text(len: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!['a', 'b', '/', '\u{0}', 'é', '\u{10ffff}']), len)
        .prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn pages_agree_with_the_definition(
        keys in prop::collection::btree_set(text(1..7), 0..60),
        prefix in text(0..3), delimiter in prop::option::of(text(0..3)), after in prop::option::of(text(0..5)),
        limit in 0u32..12,
    ) {
        let kv = filled(&keys);
        let listing = Listing { bucket: BUCKET, prefix, delimiter, after, limit };
        let page = list(&Changes::new(&kv, b"p".to_vec()), &listing).unwrap();
        prop_assert_eq!(shown(&page), model(&keys, &listing));
    }

    #[test]
    fn page_after_page_shows_every_element_once(
        keys in prop::collection::btree_set(text(1..7), 0..60),
        delimiter in prop::option::of(Just("/".to_owned())), limit in 1u32..5,
    ) {
        let kv = filled(&keys);
        let view = Changes::new(&kv, b"p".to_vec());
        let all = Listing { bucket: BUCKET, prefix: String::new(), delimiter, after: None, limit: 1000 };
        let (expected, _) = model(&keys, &all);
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = list(&view, &Listing { after, limit, delimiter: all.delimiter.clone(), prefix: String::new(), ..all }).unwrap();
            found.extend(shown(&page).0);
            after = page.entries.last().map(|entry| match entry {
                PageEntry::Object { key, .. } => key.as_str().to_owned(),
                PageEntry::CommonPrefix(common) => common.clone(),
            });
            if !page.truncated {
                break;
            }
        }
        prop_assert_eq!(found, expected);
    }
}

struct Counting<'view> {
    view: Changes<'view>,
    read: Cell<usize>,
}

impl View for Counting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MachineError> {
        self.view.get(key)
    }
    fn range(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, MachineError> {
        let found = self.view.range(start, end, limit)?;
        self.read.set(self.read.get() + found.len());
        Ok(found)
    }
}

#[test]
fn a_common_prefix_is_sought_past_not_walked_through() -> Result<(), KvError> {
    let keys: BTreeSet<String> = (0..5000).map(|n| format!("{}/{n:05}", n / 2500)).collect();
    let kv = filled(&keys);
    let view = Counting { view: Changes::new(&kv, b"p".to_vec()), read: Cell::new(0) };
    let delimiter = Some("/".to_owned());
    let listing = Listing { bucket: BUCKET, prefix: String::new(), delimiter, after: None, limit: 1000 };
    let page = list(&view, &listing).unwrap();
    assert_eq!(shown(&page), (vec!["0/*".to_owned(), "1/*".to_owned()], false));
    assert!(view.read.get() < 50, "{} keys read", view.read.get());
    Ok(())
}

#[test]
fn pages_are_bounded() {
    let keys: BTreeSet<String> = (0..1200).map(|n| format!("{n:05}")).collect();
    let kv = filled(&keys);
    let listing =
        Listing { bucket: BUCKET, prefix: String::new(), delimiter: None, after: None, limit: u32::MAX };
    let page = list(&Changes::new(&kv, b"p".to_vec()), &listing).unwrap();
    assert_eq!((page.entries.len(), page.truncated), (1000, true));
}
