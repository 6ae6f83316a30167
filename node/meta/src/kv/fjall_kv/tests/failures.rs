//! Directories of other versions, media that refuses, devices that are full.

use super::{active_journal, copy, open, put, the_store, used, whole_or_lost, written};
use crate::kv::fjall_kv::error::reading;
use crate::kv::fjall_kv::{FjallKv, OpenError, lock};
use crate::kv::{Batch, Integrity, KvErrorKind, Loss, OrderedKv};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All files, with the first MiB of each.
fn files(directory: &Path) -> BTreeSet<(PathBuf, Vec<u8>)> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert((path, bytes[..bytes.len().min(1 << 20)].to_vec()));
        }
    }
    found
}

#[test]
fn a_directory_of_another_version_is_refused_and_left_as_it_is() {
    let origin = written(6, 2);
    // A journal of another format: this one's reader would cut it off.
    let journal = File::options().write(true).open(active_journal(origin.path())).unwrap();
    journal
        .write_all_at(b"what another format has at its end", used(&active_journal(origin.path())))
        .unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let refused = |name: &str, harm: &dyn Fn(&Path)| {
        let directory = scratch.path().join(name);
        copy(origin.path(), &directory);
        harm(&directory);
        let before = files(&directory);
        let error = FjallKv::open(&directory, Arc::new(crate::testing::TestRng::new(7))).err().unwrap();
        assert!(files(&directory) == before, "{name}: something was changed");
        error
    };
    for (found, words) in
        [(2, "older version"), (4, "newer version of strongroom: start that one"), (9, "newer version")]
    {
        let error = refused(&format!("fjall-{found}"), &|directory| {
            std::fs::write(the_store(directory).join("version"), [b'F', b'J', b'L', found]).unwrap();
        });
        assert!(matches!(error, OpenError::OtherVersion { what: "the store", .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for slot in [0, 1] {
        let error = refused(&format!("ledger-{slot}"), &|directory| {
            crate::kv::ledger::set_version(&directory.join("ledger"), slot, 2);
        });
        assert!(
            matches!(error, OpenError::OtherVersion { what: "the ledger", found: 2, expected: 1 }),
            "{error}"
        );
    }
    // A marker that is none is rot.
    let directory = scratch.path().join("rotten");
    copy(origin.path(), &directory);
    std::fs::write(the_store(&directory).join("version"), b"FJ").unwrap();
    assert!(matches!(open(&directory).integrity(), Integrity::Lost(Loss::Unreadable { .. })));
}

#[test]
fn housekeeping_that_fails_fails_no_sync() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, 1);
    kv.sync().unwrap();
    // Files that are open stay so; only the look into the directory fails.
    let (store, away) = (the_store(directory.path()), directory.path().join("away"));
    let look_now = || lock(&kv.store("test").unwrap().numbers).look_at = 0;
    look_now();
    std::fs::rename(&store, &away).unwrap();
    put(&kv, 2);
    kv.sync().unwrap();
    std::fs::rename(&away, &store).unwrap();
    put(&kv, 3);
    kv.sync().unwrap();
    look_now();
    put(&kv, 4);
    kv.sync().unwrap();
    assert!(lock(&kv.store("test").unwrap().numbers).look_at > 4, "it looked again");
    drop(kv);
    assert!(whole_or_lost(directory.path(), 4, "housekeeping"));
}

#[test]
fn on_a_full_device_the_store_fails_for_good_and_the_next_process_has_what_was_synced() {
    let directory = tempfile::tempdir().unwrap();
    {
        let kv = open(directory.path());
        put(&kv, 1);
        kv.sync().unwrap();
        lock(&kv.ledger).as_mut().unwrap().fill();
        put(&kv, 2);
        let error = kv.sync().unwrap_err();
        assert_eq!(error.kind, KvErrorKind::Failed);
        assert!(crate::kv::in_words(&error).contains("No space left"), "{}", crate::kv::in_words(&error));
        assert!(kv.sync().is_err() && kv.apply(Batch::default()).is_err() && kv.get(b"last").is_err());
    }
    assert!(whole_or_lost(directory.path(), 1, "after a failure"));
}

#[test]
fn a_sector_that_cannot_be_read_is_tried_once_more_and_is_damage() {
    let after = |errors: &[i32]| {
        let (mut left, mut tries) = (errors.iter(), 0);
        let read = reading("test", || {
            tries += 1;
            let error = |number: &i32| Err(fjall::Error::Io(std::io::Error::from_raw_os_error(*number)));
            left.next().map_or(Ok(()), error)
        });
        (read.map_err(|error| error.kind), tries)
    };
    const EIO: i32 = 5;
    const EMFILE: i32 = 24;
    assert_eq!(after(&[]), (Ok(()), 1));
    assert_eq!(after(&[EIO]), (Ok(()), 2));
    assert_eq!(after(&[EIO, EIO, EIO]), (Err(KvErrorKind::Damaged), 2));
    assert_eq!(after(&[EIO, EMFILE]), (Err(KvErrorKind::Failed), 2));
    assert_eq!(after(&[EMFILE]), (Err(KvErrorKind::Failed), 1));
    let of_a_table =
        reading("test", || Err::<(), _>(fjall::LsmError::Io(std::io::Error::from_raw_os_error(EIO)).into()));
    assert_eq!(of_a_table.unwrap_err().kind, KvErrorKind::Damaged);
}
