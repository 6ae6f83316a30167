//! Files cut, rotted, swapped and lost under the store: after opening it again either all that was synced is there, or it says that it is lost.

use super::store::journals;
use super::{Contents, FjallKv, OpenError, contents};
use crate::kv::{Batch, Integrity, Loss, OrderedKv};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

mod failures;

fn open(directory: &Path) -> FjallKv {
    FjallKv::open(directory, Arc::new(crate::testing::TestRng::new(7))).unwrap()
}

fn put(kv: &FjallKv, number: u32) {
    let mut batch = Batch::default();
    batch.put(format!("k{number:04}").into_bytes(), Bytes::from(number.to_string().repeat(9)));
    batch.put(b"last".to_vec(), Bytes::copy_from_slice(&number.to_be_bytes()));
    kv.apply(batch).unwrap();
}

/// A directory after `synced` batches that were synced, two at a time, and `more` that were handed over and not.
fn written(synced: u32, more: u32) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    for number in 1..=synced {
        put(&kv, number);
        if number % 2 == 0 || number == synced {
            kv.sync().unwrap();
        }
    }
    for number in synced + 1..=synced + more {
        put(&kv, number);
    }
    let store = kv.store("test").unwrap();
    // To the kernel, as a full buffer would; no ledger says so.
    store.database.persist(fjall::PersistMode::Buffer).unwrap();
    directory
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            // Journals are long and blank for the most part.
            let (from, to) = (File::open(entry.path()).unwrap(), File::create(to).unwrap());
            let len = from.metadata().unwrap().len();
            let mut bytes = vec![0; len.min(1 << 20) as usize];
            from.read_exact_at(&mut bytes, 0).unwrap();
            to.write_all_at(&bytes, 0).unwrap();
            to.set_len(len).unwrap();
        }
    }
}

fn the_store(directory: &Path) -> PathBuf {
    let Contents { stores, .. } = contents(directory).unwrap();
    assert_eq!(stores.len(), 1);
    stores[0].clone()
}

fn active_journal(directory: &Path) -> PathBuf {
    journals(&the_store(directory)).unwrap().pop().unwrap().1
}

/// Bytes of the journal that hold batches.
fn used(journal: &Path) -> u64 {
    super::journal::inspect(journal, &mut None).unwrap().len_bytes
}

/// Opens it: all of `synced` is there as a prefix of what was applied, or it is lost. Which of the two.
fn whole_or_lost(directory: &Path, synced: u32, what: &str) -> bool {
    let kv = open(directory);
    if kv.integrity() != Integrity::Whole {
        return false;
    }
    let last = kv.get(b"last").unwrap().map_or(0, |value| u32::from_be_bytes(value[..].try_into().unwrap()));
    assert!(last >= synced, "{what}: rolled back to {last} of {synced} and nobody noticed");
    for number in 1..=last {
        let found = kv.get(format!("k{number:04}").as_bytes()).unwrap();
        assert_eq!(found, Some(Bytes::from(number.to_string().repeat(9))), "{what}: {number} of {last}");
    }
    assert!(kv.range(b"k", b"l", 1000).unwrap().len() == last as usize, "{what}");
    put(&kv, last + 1);
    kv.sync().unwrap();
    true
}

#[test]
fn a_journal_cut_anywhere_keeps_what_was_synced_or_says_that_it_is_lost() {
    let (synced, more) = (6, 2);
    let origin = written(synced, more);
    let end = used(&active_journal(origin.path()));
    let scratch = tempfile::tempdir().unwrap();
    let (mut whole, mut lost) = (0, 0);
    // Every length of the last batches, every seventh before.
    let lengths = (0..end - 260).step_by(61).chain(end - 260..=end);
    for len in lengths {
        let directory = scratch.path().join(len.to_string());
        copy(origin.path(), &directory);
        let journal = active_journal(&directory);
        File::options().write(true).open(journal).unwrap().set_len(len).unwrap();
        match whole_or_lost(&directory, synced, &format!("cut at {len} of {end}")) {
            true => whole += 1,
            false => lost += 1,
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
    assert!(whole > 100 && lost > 5, "{whole} whole, {lost} lost: the cuts did not reach both");
}

#[test]
fn what_the_last_sync_added_is_taken_from_the_ledger() {
    // The ledger reached the media and the journal did not: not even the end of the sync before.
    for (synced, lost) in [(4, 2), (4, 1), (5, 1)] {
        let directory = written(synced, 0);
        let journal = active_journal(directory.path());
        let keep = used(&active_journal(written(synced - lost, 0).path()));
        File::options().write(true).open(&journal).unwrap().set_len(keep).unwrap();
        assert!(whole_or_lost(directory.path(), synced, "taken from the ledger"), "{lost} of {synced}");
        assert!(whole_or_lost(directory.path(), synced + 1, "and again"));
    }
    // More than one sync's worth is lost.
    let directory = written(6, 0);
    let keep = used(&active_journal(written(3, 0).path()));
    File::options().write(true).open(active_journal(directory.path())).unwrap().set_len(keep).unwrap();
    assert_eq!(open(directory.path()).integrity(), Integrity::Lost(Loss::Behind { recorded: 7, found: 4 }));
}

#[test]
fn a_sync_too_long_for_a_copy_is_durable_and_compared_as_well() {
    let directory = tempfile::tempdir().unwrap();
    {
        let kv = open(directory.path());
        put(&kv, 1);
        kv.sync().unwrap();
        let mut batch = Batch::default();
        batch.put(b"long".to_vec(), Bytes::from(vec![5; crate::kv::ledger::COPY_LEN_BYTES_MAX]));
        kv.apply(batch).unwrap();
        kv.sync().unwrap();
    }
    let journal = active_journal(directory.path());
    let end = used(&journal);
    {
        let kv = open(directory.path());
        assert_eq!(kv.integrity(), Integrity::Whole);
        assert_eq!(kv.get(b"long").unwrap().unwrap().len(), crate::kv::ledger::COPY_LEN_BYTES_MAX);
    }
    File::options().write(true).open(&journal).unwrap().set_len(end - 1).unwrap();
    assert!(matches!(open(directory.path()).integrity(), Integrity::Lost(Loss::Behind { .. })));
}

#[test]
fn pages_of_the_unsynced_end_that_were_never_written_cost_nothing() {
    let (synced, more) = (6, 4);
    let origin = written(synced, more);
    let journal = active_journal(origin.path());
    let bytes = std::fs::read(&journal).unwrap()[..64 << 10].to_vec();
    // The end of what was synced: where the journal of a directory without the rest ends.
    let synced_end = used(&active_journal(written(synced, 0).path()));
    let end = used(&journal);
    assert!(synced_end < end);
    let scratch = tempfile::tempdir().unwrap();
    for hole in (synced_end..end).step_by(29) {
        let directory = scratch.path().join(hole.to_string());
        copy(origin.path(), &directory);
        let mut torn = bytes.clone();
        let upto = (hole + 40).min(end) as usize;
        torn[hole as usize..upto].fill(0);
        std::fs::write(active_journal(&directory), torn).unwrap();
        assert!(
            whole_or_lost(&directory, synced, "hole"),
            "torn at {hole}, after {synced_end}, was taken for lost"
        );
        std::fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn a_flipped_bit_in_the_journal_never_rolls_back_unnoticed() {
    let (synced, more) = (5, 1);
    let origin = written(synced, more);
    let end = used(&active_journal(origin.path()));
    let scratch = tempfile::tempdir().unwrap();
    let (mut whole, mut lost) = (0, 0);
    for at in (0..end).step_by(11) {
        let directory = scratch.path().join(at.to_string());
        copy(origin.path(), &directory);
        let file = File::options().read(true).write(true).open(active_journal(&directory)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 1 << (at % 8);
        file.write_all_at(&byte, at).unwrap();
        match whole_or_lost(&directory, synced, &format!("bit at {at} of {end}")) {
            true => whole += 1,
            false => lost += 1,
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
    assert!(whole > 5 && lost > 50, "{whole} whole, {lost} lost");
}

#[test]
fn a_journal_that_is_followed_by_another_is_compared_too() {
    let directory = tempfile::tempdir().unwrap();
    {
        let kv = open(directory.path());
        for number in 1..=4 {
            put(&kv, number);
            kv.sync().unwrap();
        }
    }
    let store = the_store(directory.path());
    let (number, first) = journals(&store).unwrap().pop().unwrap();
    let whole = std::fs::read(&first).unwrap();
    let middle = used(&first);
    assert!(whole.len() > 1 << 20, "as fjall allocates it");
    {
        let kv = open(directory.path());
        for number in 5..=8 {
            put(&kv, number);
            kv.sync().unwrap();
        }
    }
    // As after a rotation: what came first in one file, what came then in the next.
    let all = std::fs::read(&first).unwrap();
    std::fs::write(&first, &whole[..middle as usize]).unwrap();
    std::fs::write(store.join(format!("{}.jnl", number + 1)), &all[middle as usize..]).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let unharmed = scratch.path().join("unharmed");
    copy(directory.path(), &unharmed);
    assert!(whole_or_lost(&unharmed, 8, "two journals"));
    // The end of the first one rots: fjall says nothing.
    let rotten = scratch.path().join("rotten");
    copy(directory.path(), &rotten);
    let file = File::options().write(true).open(journals(&the_store(&rotten)).unwrap()[0].1.clone()).unwrap();
    file.set_len(middle - 20).unwrap();
    let kv = open(&rotten);
    assert!(matches!(kv.integrity(), Integrity::Lost(Loss::Unreadable { .. })), "{:?}", kv.integrity());
    // Also where it ends with a batch, so that only the numbers tell.
    let at_a_batch = scratch.path().join("at-a-batch");
    copy(directory.path(), &at_a_batch);
    let path = journals(&the_store(&at_a_batch)).unwrap()[0].1.clone();
    File::options().write(true).open(&path).unwrap().set_len(middle - 20).unwrap();
    let len = used(&path);
    File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
    let kv = open(&at_a_batch);
    assert!(matches!(kv.integrity(), Integrity::Lost(Loss::Gap { .. })), "{:?}", kv.integrity());
    // And the file is gone.
    let gone = scratch.path().join("gone");
    copy(directory.path(), &gone);
    std::fs::remove_file(journals(&the_store(&gone)).unwrap()[0].1.clone()).unwrap();
    assert!(!whole_or_lost(&gone, 8, "the first journal is gone"));
}

#[test]
fn swapped_lost_and_older_files_are_noticed() {
    let origin = written(6, 0);
    // Two syncs older: the last one's batches the ledger has itself.
    let older = written(2, 0);
    let scratch = tempfile::tempdir().unwrap();
    let try_with = |name: &str, harm: &dyn Fn(&Path)| {
        let directory = scratch.path().join(name);
        copy(origin.path(), &directory);
        harm(&directory);
        open(&directory).integrity()
    };
    assert_eq!(try_with("none", &|_| ()), Integrity::Whole);
    let no_ledger =
        try_with("no-ledger", &|directory| std::fs::remove_file(directory.join("ledger")).unwrap());
    assert_eq!(no_ledger, Integrity::Lost(Loss::NoLedger));
    let rotten = try_with("rotten-ledger", &|directory| {
        let file = File::options().write(true).open(directory.join("ledger")).unwrap();
        file.write_all_at(&[9], 30).unwrap();
        file.write_all_at(&[9], file.metadata().unwrap().len() / 2 + 30).unwrap();
    });
    assert_eq!(rotten, Integrity::Lost(Loss::NoLedger));
    let no_store = try_with("no-store", &|directory| std::fs::remove_dir_all(the_store(directory)).unwrap());
    assert_eq!(no_store, Integrity::Lost(Loss::OtherStore));
    // Both were drawn from one seed, so the older one has the name of this one: its number of batches gives it away.
    let an_older_copy = try_with("older", &|directory| {
        let store = the_store(directory);
        std::fs::remove_dir_all(&store).unwrap();
        copy(&the_store(older.path()), &store);
    });
    assert!(matches!(an_older_copy, Integrity::Lost(Loss::Behind { .. })), "{an_older_copy:?}");
    let another = tempfile::tempdir().unwrap();
    {
        let kv = FjallKv::open(another.path(), Arc::new(crate::testing::TestRng::new(8))).unwrap();
        (1..=20).for_each(|number| put(&kv, number));
        kv.sync().unwrap();
    }
    let another_store = try_with("another", &|directory| {
        let store = the_store(directory);
        std::fs::remove_dir_all(&store).unwrap();
        copy(&the_store(another.path()), &store);
    });
    assert_eq!(another_store, Integrity::Lost(Loss::OtherStore));
}

#[test]
fn tables_that_rot_are_damage_and_not_absence() {
    let directory = tempfile::tempdir().unwrap();
    {
        let kv = open(directory.path());
        for number in 1..=200 {
            put(&kv, number);
        }
        kv.sync().unwrap();
        kv.store("test").unwrap().keyspace.rotate_memtable_and_wait().unwrap();
    }
    let mut tables = Vec::new();
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.components().any(|part| part.as_os_str() == "tables") {
                found.push(path);
            }
        }
    }
    walk(&the_store(directory.path()), &mut tables);
    let table = tables.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let bytes = std::fs::read(&table).unwrap();
    assert!(bytes.len() > 1000, "the batches are in a table");
    let mut seen = BTreeSet::new();
    for at in (0..bytes.len()).step_by(bytes.len() / 60) {
        let mut rotten = bytes.clone();
        rotten[at] ^= 0x10;
        std::fs::write(&table, rotten).unwrap();
        // The journal would fill in for it.
        let kv = open(directory.path());
        if kv.integrity() != Integrity::Whole {
            seen.insert("lost");
            std::fs::write(&table, &bytes).unwrap();
            continue;
        }
        for number in 1..=200u32 {
            match kv.get(format!("k{number:04}").as_bytes()) {
                Ok(Some(value)) => assert_eq!(value, number.to_string().repeat(9)),
                Ok(None) => panic!("byte {at}: {number} is not there, and no error said why"),
                Err(error) => {
                    assert_eq!(error.kind, crate::kv::KvErrorKind::Damaged, "{error:?}");
                    seen.insert("damaged");
                }
            }
        }
    }
    assert!(!seen.is_empty(), "no flipped bit reached anything");
}

#[test]
fn a_start_that_was_cut_short_begins_again() {
    let finished = tempfile::tempdir().unwrap();
    drop(open(finished.path()));
    // With the ledger alone; with a store that has nothing; with strays of an earlier try.
    for stage in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        drop(super::Ledger::create(directory.path(), 5).unwrap());
        if stage > 0 {
            std::fs::create_dir(directory.path().join(format!("store-{:032x}", 5))).unwrap();
        }
        if stage > 1 {
            std::fs::write(directory.path().join("ledger.new"), b"half").unwrap();
        }
        let kv = open(directory.path());
        assert_eq!(kv.integrity(), Integrity::Whole);
        put(&kv, 1);
        kv.sync().unwrap();
        drop(kv);
        assert!(whole_or_lost(directory.path(), 1, "made again"));
    }
}

#[test]
fn content_that_is_set_aside_is_kept_for_people_the_latest_few() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=5u32 {
        let kv = open(directory.path());
        put(&kv, round);
        kv.sync().unwrap();
        kv.condemn("log entry 3 of group-1 is corrupt").unwrap();
        drop(kv);
        let kv = open(directory.path());
        let reason = String::from("log entry 3 of group-1 is corrupt");
        assert_eq!(kv.integrity(), Integrity::Lost(Loss::Condemned { reason }));
        kv.set_aside("why").unwrap();
        assert_eq!(kv.get(b"last").unwrap(), None);
        put(&kv, 1);
        kv.sync().unwrap();
        drop(kv);
        assert!(whole_or_lost(directory.path(), 1, "after it was set aside"));
    }
    let damaged: Vec<u64> =
        contents(directory.path()).unwrap().damaged.into_iter().map(|found| found.0).collect();
    assert_eq!(damaged, [3, 4, 5]);
    assert_eq!(std::fs::read(directory.path().join("damaged-5/why.txt")).unwrap(), b"why");
}

#[test]
fn one_process_at_a_time_and_no_directory_of_an_earlier_version() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    let rng = || Arc::new(crate::testing::TestRng::new(7));
    let second = FjallKv::open(directory.path(), rng()).err().unwrap();
    assert!(matches!(second, OpenError::Locked), "{second}");
    drop(kv);
    let older = tempfile::tempdir().unwrap();
    drop(fjall::Database::builder(older.path()).open().unwrap());
    let refused = FjallKv::open(older.path(), rng()).err().unwrap();
    assert!(matches!(refused, OpenError::Older), "{refused}");
}

#[test]
fn numbers_are_forgotten_once_their_journal_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    let store = kv.store("test").unwrap();
    (1..=10).for_each(|number| put(&kv, number));
    kv.sync().unwrap();
    {
        let numbers = super::lock(&store.numbers);
        assert_eq!(
            (numbers.last, numbers.floor, numbers.mark),
            (11, 0, Some((1, 0))),
            "the first sync looked"
        );
    }
    // What a rotation and a flush leave, as the next look sees it.
    {
        let mut numbers = super::lock(&store.numbers);
        (numbers.in_tables, numbers.look_at) = (9, 0);
    }
    for number in 11..=12 {
        put(&kv, number);
    }
    kv.sync().unwrap();
    let left = store.keyspace.range(super::number_key(0)..super::own_key(b'n' + 1)).count();
    assert_eq!((super::lock(&store.numbers).floor, left), (8, 13 - 8));
    drop(store);
    drop(kv);
    assert!(whole_or_lost(directory.path(), 12, "with a floor"));
}

/// `cargo test -p strongroom-meta what_the_ledger_costs -- --ignored --nocapture`, in a directory on the medium to be measured (`TMPDIR`).
#[test]
#[ignore = "a measurement, for people"]
fn what_the_ledger_costs() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    let store = kv.store("test").unwrap();
    let value = Bytes::from(vec![7; 300]);
    let mut number = 0u64;
    let mut one = |batches: u32, ledger: bool| {
        for _ in 0..batches {
            number += 1;
            let mut batch = Batch::default();
            batch.put(number.to_be_bytes().to_vec(), value.clone());
            kv.apply(batch).unwrap();
        }
        let begun = std::time::Instant::now();
        match ledger {
            true => kv.sync().unwrap(),
            false => store.database.persist(fjall::PersistMode::SyncAll).unwrap(),
        }
        begun.elapsed()
    };
    for batches in [1, 8, 64] {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for round in 0..400 {
            for ledger in [round % 2 == 0, round % 2 == 1] {
                let took = one(batches, ledger);
                if ledger { with.push(took) } else { without.push(took) }
            }
        }
        for (name, mut times) in [("without", without), ("with", with)] {
            times.sort();
            let (median, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
            let rate = f64::from(batches) / median.as_secs_f64();
            println!(
                "{batches:3} batches a sync, {name:7} the ledger: median {median:?}, p99 {late:?}, {rate:.0} batches/s"
            );
        }
    }
}
