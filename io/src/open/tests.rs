//! What is opened, what is refused, and how a flush is chosen.

use super::{Direct, FlushMode, Kind, OpenError, OpenMode, open_drive, open_drive_with_progress};
use crate::block::WriteCache;
use crate::limits::CREATE_CHUNK_LEN_BYTES;
use std::fs;
use std::path::Path;

fn creating(len_bytes: u64) -> OpenMode {
    OpenMode { create_len_bytes: Some(len_bytes), direct: Direct::IfPossible, ..OpenMode::default() }
}

#[test]
fn a_created_file_is_whole_and_keeps_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let len_bytes = CREATE_CHUNK_LEN_BYTES as u64 + 8192;
    let mut heard = Vec::new();
    let drive =
        open_drive_with_progress(&path, creating(len_bytes), &mut |done, all| heard.push((done, all)))
            .unwrap();
    assert_eq!(heard, [(0, len_bytes), (CREATE_CHUNK_LEN_BYTES as u64, len_bytes), (len_bytes, len_bytes)]);
    assert_eq!(drive.shape().len_bytes, len_bytes);
    assert_eq!(drive.flush_mode(), FlushMode::File);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the draft is gone");
    drop(drive);

    // It is there: opened as it is, and never emptied.
    fs::write(&path, vec![7; len_bytes as usize]).unwrap();
    drop(open_drive(&path, creating(len_bytes)).unwrap());
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 7));
    let differs = open_drive(&path, creating(len_bytes + 4096)).unwrap_err();
    assert!(matches!(differs, OpenError::LenDiffers { found_bytes, .. } if found_bytes == len_bytes));
}

#[test]
fn what_a_crash_left_of_a_creation_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    fs::write(folder.path().join("drive.creating"), vec![1; 100_000]).unwrap();
    drop(open_drive(&path, creating(8192)).unwrap());
    assert_eq!(fs::read(&path).unwrap(), vec![0; 8192]);
}

#[test]
fn a_creation_under_way_is_not_disturbed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let draft = fs::File::create(folder.path().join("drive.creating")).unwrap();
    draft.try_lock().unwrap();
    assert!(matches!(open_drive(&path, creating(8192)), Err(OpenError::Locked { .. })));
    draft.unlock().unwrap();
    assert!(open_drive(&path, creating(8192)).is_ok());
}

#[test]
fn a_second_open_is_refused_until_the_first_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let drive = open_drive(&path, creating(8192)).unwrap();
    let refused = open_drive(&path, creating(8192)).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }));
    assert!(refused.to_string().contains("another Strongroom process"));
    drop(drive);
    assert!(open_drive(&path, creating(8192)).is_ok());
}

#[test]
fn lengths_to_create_are_whole_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    for refused in [0, 4095, 4097, !4095] {
        assert!(matches!(open_drive(&path, creating(refused)), Err(OpenError::CreateLen { .. })));
        assert!(!path.exists());
    }
    assert!(open_drive(&path, creating(4096)).is_ok());
}

#[test]
fn what_is_no_drive_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    let mode = OpenMode { direct: Direct::IfPossible, ..OpenMode::default() };
    assert!(matches!(open_drive(&path, mode), Err(OpenError::Io { deed: "looked at", .. })));
    fs::write(&path, [0; 4095]).unwrap();
    assert!(matches!(open_drive(&path, mode), Err(OpenError::TooSmall { found_bytes: 4095, .. })));
    fs::write(&path, [0; 4097]).unwrap();
    assert_eq!(open_drive(&path, mode).unwrap().shape().len_bytes, 4096);
    assert!(matches!(open_drive(folder.path(), mode), Err(OpenError::NotADrive { .. })));
    assert!(matches!(open_drive(Path::new("/dev/null"), mode), Err(OpenError::NotADrive { .. })));
}

#[test]
fn only_a_raw_write_through_device_goes_without_a_flush() {
    let write_through = Some(WriteCache::WriteThrough);
    assert_eq!(FlushMode::choose(Kind::BlockDevice, true, write_through), FlushMode::WriteThrough);
    assert_eq!(FlushMode::choose(Kind::BlockDevice, false, write_through), FlushMode::BlockDevice);
    assert_eq!(FlushMode::choose(Kind::BlockDevice, true, None), FlushMode::BlockDevice);
    assert_eq!(
        FlushMode::choose(Kind::BlockDevice, true, Some(WriteCache::WriteBack)),
        FlushMode::BlockDevice
    );
    assert_eq!(FlushMode::choose(Kind::File, true, write_through), FlushMode::File);
}
