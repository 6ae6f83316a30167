//! Both stores against a map, and what a power cut may take.

use super::{Batch, FjallKv, MemoryKv, MemoryMedia, OrderedKv};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn open(directory: &std::path::Path) -> FjallKv {
    FjallKv::open(directory, Arc::new(crate::testing::TestRng::new(1))).unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Apply(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Get(Vec<u8>),
    Range(Vec<u8>, Vec<u8>, usize, bool),
    Snapshot,
    Sync,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', b'b', 0xfe]), 1..4)
}

fn op() -> impl Strategy<Value = Op> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..6));
    prop_oneof![
        4 => prop::collection::vec((key(), value), 0..5).prop_map(Op::Apply),
        2 => key().prop_map(Op::Get),
        3 => (key(), key(), 0usize..6, any::<bool>()).prop_map(|(a, b, limit, back)| Op::Range(a, b, limit, back)),
        1 => Just(Op::Snapshot),
        1 => Just(Op::Sync),
    ]
}

fn model_range(
    model: &BTreeMap<Vec<u8>, Vec<u8>>,
    start: &[u8],
    end: &[u8],
    limit: usize,
    back: bool,
) -> Vec<(Bytes, Bytes)> {
    let mut all: Vec<(Bytes, Bytes)> = model
        .iter()
        .filter(|(key, _)| key.as_slice() >= start && key.as_slice() < end)
        .map(|(key, value)| (Bytes::from(key.clone()), Bytes::from(value.clone())))
        .collect();
    if back {
        all.reverse();
    }
    all.truncate(limit);
    all
}

fn agree(kv: &dyn OrderedKv, ops: &[Op]) {
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut snapshots = Vec::new();
    for op in ops {
        match op {
            Op::Apply(changes) => {
                let mut batch = Batch::default();
                for (key, value) in changes {
                    match value {
                        Some(value) => {
                            batch.put(key.clone(), Bytes::from(value.clone()));
                            model.insert(key.clone(), value.clone());
                        }
                        None => {
                            batch.remove(key.clone());
                            model.remove(key);
                        }
                    }
                }
                kv.apply(batch).unwrap();
            }
            Op::Get(key) => assert_eq!(kv.get(key).unwrap().as_deref(), model.get(key).map(Vec::as_slice)),
            Op::Range(start, end, limit, false) => {
                assert_eq!(
                    kv.range(start, end, *limit).unwrap(),
                    model_range(&model, start, end, *limit, false)
                );
            }
            Op::Range(start, end, limit, true) => {
                assert_eq!(
                    kv.range_back(start, end, *limit).unwrap(),
                    model_range(&model, start, end, *limit, true)
                );
            }
            Op::Snapshot => snapshots.push((kv.snapshot(), model.clone())),
            Op::Sync => kv.sync().unwrap(),
        }
    }
    for (snapshot, model) in snapshots {
        let found = snapshot.range(&[], &[0xff, 0xff], 100).unwrap();
        assert_eq!(found, model_range(&model, &[], &[0xff, 0xff], 100, false));
        for (key, value) in &model {
            assert_eq!(snapshot.get(key).unwrap().as_deref(), Some(value.as_slice()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn memory_agrees_with_a_map(ops in prop::collection::vec(op(), 0..60)) {
        agree(&MemoryKv::on(&MemoryMedia::new()), &ops);
    }

    #[test]
    fn a_power_cut_leaves_a_prefix_not_shorter_than_the_last_sync(
        syncs in prop::collection::vec(any::<bool>(), 0..30), seed in any::<u64>(),
    ) {
        let media = MemoryMedia::new();
        let kv = MemoryKv::on(&media);
        let mut synced = 0;
        for (index, sync) in syncs.iter().enumerate() {
            let mut batch = Batch::default();
            batch.put(b"last".to_vec(), Bytes::from(vec![index as u8 + 1]));
            batch.put(vec![b'n', index as u8], Bytes::new());
            kv.apply(batch).unwrap();
            if *sync {
                kv.sync().unwrap();
                synced = index + 1;
            }
        }
        kv.power_cut(seed);
        prop_assert!(kv.get(b"last").is_err(), "a store from before the cut is dead");
        let after = MemoryKv::on(&media);
        let last = after.get(b"last").unwrap().map_or(0, |value| usize::from(value[0]));
        prop_assert!(last >= synced && last <= syncs.len());
        prop_assert_eq!(after.range(b"n", b"o", 100).unwrap().len(), last, "whole batches, none after a lost one");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn fjall_agrees_with_a_map(ops in prop::collection::vec(op(), 0..60)) {
        let directory = tempfile::tempdir().unwrap();
        agree(&open(directory.path()), &ops);
    }
}

#[test]
fn different_seeds_cut_at_different_places() {
    let kept = |seed| {
        let media = MemoryMedia::new();
        let kv = MemoryKv::on(&media);
        for index in 0..10u8 {
            let mut batch = Batch::default();
            batch.put(vec![index], Bytes::new());
            kv.apply(batch).unwrap();
        }
        media.power_cut(seed);
        MemoryKv::on(&media).range(&[], &[0xff, 0xff], 100).unwrap().len()
    };
    let lengths: std::collections::BTreeSet<usize> = (0..64).map(kept).collect();
    assert!(lengths.contains(&0) && lengths.contains(&10) && lengths.len() == 11, "{lengths:?}");
}

#[test]
fn fjall_keeps_what_was_synced_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    {
        let kv = open(directory.path());
        let mut batch = Batch::default();
        batch.put(b"a".to_vec(), Bytes::from_static(b"1"));
        batch.put(b"a".to_vec(), Bytes::from_static(b"2"));
        kv.apply(batch).unwrap();
        kv.sync().unwrap();
    }
    let kv = open(directory.path());
    assert_eq!(kv.get(b"a").unwrap().as_deref(), Some(&b"2"[..]));
}

#[test]
fn after_a_failed_sync_nothing_works() {
    let media = MemoryMedia::new();
    let kv = MemoryKv::on(&media);
    media.fail_next_sync();
    assert!(kv.sync().is_err());
    assert!(kv.sync().is_err() && kv.get(b"a").is_err());
}
