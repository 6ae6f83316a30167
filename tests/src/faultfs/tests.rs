//! The model, without a mount.

use super::content::{BLOCK_LEN_BYTES, Content, Tear};
use super::tree::{ROOT, Tree};
use super::volume::{Handle, Held, Volume};
use super::weather::{Nature, Weather};
use crate::sim::draws::Draws;
use std::collections::BTreeSet;
use std::ffi::OsStr;

const BLOCK: usize = BLOCK_LEN_BYTES as usize;

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

fn volume(seed: u64) -> Volume {
    Volume::new(Nature { tear: Tear::Sector512, len_bytes_max: 1 << 30 }, Draws::new(seed))
}

/// A flushed file of `len` bytes of ones, and a handle.
fn flushed(volume: &mut Volume, len: usize) -> (u64, Handle) {
    let file = volume.add(ROOT, name("drive"), false).result.unwrap().number;
    let handle = volume.open(file).result.unwrap();
    volume.write(file, handle, 0, &vec![1; len]).result.unwrap();
    volume.flush(file, handle, false).result.unwrap();
    (file, handle)
}

fn read_again(volume: &mut Volume, file: u64, len: u64) -> Vec<u8> {
    let handle = volume.open(file).result.unwrap();
    volume.read(file, handle, 0, len).result.unwrap()
}

#[test]
fn reads_see_writes_at_any_offset_and_holes_are_zeros() {
    let mut content = Content::default();
    let mut expected = vec![0u8; 5 * BLOCK];
    let mut draws = Draws::new(1);
    for value in 1..=200u8 {
        let from = draws.index(expected.len());
        let to = from + draws.index(expected.len() - from) + 1;
        content.write(from as u64, &expected_fill(&mut expected[from..to], value));
    }
    content.write(7 * BLOCK_LEN_BYTES, &[9]);
    expected.resize(7 * BLOCK, 0);
    expected.push(9);
    assert_eq!(content.read(0, u64::MAX), expected);
    assert_eq!(content.read(3, 100), expected[3..103]);
    assert_eq!(content.len_bytes(), expected.len() as u64);
    assert!(content.read(expected.len() as u64, 10).is_empty());
}

fn expected_fill(range: &mut [u8], value: u8) -> Vec<u8> {
    range.fill(value);
    range.to_vec()
}

#[test]
fn what_was_flushed_survives_every_power_cut() {
    for seed in 0..200 {
        let mut volume = volume(seed);
        let (file, _) = flushed(&mut volume, 3 * BLOCK);
        volume.power_cut();
        volume.power_on();
        assert_eq!(read_again(&mut volume, file, 1 << 20), vec![1; 3 * BLOCK]);
    }
}

#[test]
fn what_was_not_flushed_survives_in_any_part_and_nothing_else_appears() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let mut volume = volume(seed);
        let (file, handle) = flushed(&mut volume, BLOCK);
        volume.write(file, handle, 0, &[2; BLOCK]).result.unwrap();
        volume.write(file, handle, 0, &[3; BLOCK]).result.unwrap();
        volume.power_cut();
        volume.power_on();
        let bytes = read_again(&mut volume, file, 1 << 20);
        let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
        assert!(
            bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])),
            "sectors are whole"
        );
        assert!(sectors.iter().all(|value| (1..=3).contains(value)), "{sectors:?}");
        seen.extend(sectors.iter().copied());
        seen.insert(if sectors.iter().any(|value| *value != sectors[0]) { 10 } else { 11 });
    }
    assert_eq!(seen, BTreeSet::from([1, 2, 3, 10, 11]), "each version and tearing were seen");
}

#[test]
fn a_block_device_that_writes_whole_blocks_tears_none() {
    for seed in 0..100 {
        let mut volume =
            Volume::new(Nature { tear: Tear::Block4096, len_bytes_max: 1 << 20 }, Draws::new(seed));
        let (file, handle) = flushed(&mut volume, BLOCK);
        volume.write(file, handle, 0, &[2; BLOCK]).result.unwrap();
        volume.power_cut();
        volume.power_on();
        let bytes = read_again(&mut volume, file, 1 << 20);
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    }
}

#[test]
fn a_lying_flush_keeps_nothing_and_an_honest_one_later_all() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut volume = volume(seed);
        let (file, handle) = flushed(&mut volume, BLOCK);
        volume.set_weather(Weather { flush_lies: true, ..Weather::default() });
        volume.write(file, handle, 0, &[2; BLOCK]).result.unwrap();
        volume.flush(file, handle, true).result.unwrap();
        if seed % 2 == 0 {
            volume.set_weather(Weather::default());
            volume.flush(file, handle, true).result.unwrap();
        }
        volume.power_cut();
        volume.power_on();
        let bytes = read_again(&mut volume, file, 1 << 20);
        if seed % 2 == 0 {
            assert_eq!(bytes, vec![2; BLOCK]);
        } else {
            lost += usize::from(bytes != vec![2; BLOCK]);
        }
    }
    assert!(lost > 10, "{lost} of 25 lies were felt");
}

#[test]
fn what_a_failed_flush_should_have_covered_is_covered_by_no_later_one() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut volume = volume(seed);
        let (file, handle) = flushed(&mut volume, BLOCK);
        volume.write(file, handle, 0, &[2; BLOCK]).result.unwrap();
        volume.set_weather(Weather { flush_error_per_million: 1_000_000, ..Weather::default() });
        assert_eq!(volume.flush(file, handle, true).result, Err(libc::EIO));
        volume.set_weather(Weather::default());
        if seed % 2 == 0 {
            volume.write(file, handle, 0, &[3; BLOCK]).result.unwrap();
        }
        volume.flush(file, handle, true).result.unwrap();
        volume.power_cut();
        volume.power_on();
        let bytes = read_again(&mut volume, file, 1 << 20);
        if seed % 2 == 0 {
            assert_eq!(bytes, vec![3; BLOCK], "written again and flushed");
        } else {
            lost += usize::from(bytes != vec![2; BLOCK]);
        }
    }
    assert!(lost > 10, "{lost} of 25");
}

#[test]
fn after_a_power_cut_nothing_works_before_power_is_back_and_old_handles_never() {
    let mut volume = volume(1);
    let (file, handle) = flushed(&mut volume, BLOCK);
    volume.power_cut();
    assert_eq!(volume.open(file).result, Err(libc::EIO));
    volume.power_on();
    assert_eq!(volume.write(file, handle, 0, &[5; 512]).result, Err(libc::EIO));
    assert_eq!(volume.flush(file, handle, true).result, Err(libc::EIO));
    assert_eq!(volume.counts().stale_operations, 2);
    assert_eq!(read_again(&mut volume, file, 1 << 20), vec![1; BLOCK]);
}

#[test]
fn changes_of_folders_survive_as_a_first_part_and_all_of_them_once_one_file_was_flushed() {
    let mut lens = BTreeSet::new();
    for seed in 0..100 {
        let mut volume = volume(seed);
        for index in 0..5 {
            volume.add(ROOT, name(&format!("file-{index}")), false).result.unwrap();
        }
        if seed % 2 == 0 {
            let file = volume.find(ROOT, name("file-4")).result.unwrap().number;
            let handle = volume.open(file).result.unwrap();
            volume.flush(file, handle, true).result.unwrap();
        }
        volume.power_cut();
        volume.power_on();
        let names: Vec<_> = volume.entries(ROOT).result.unwrap().into_keys().collect();
        let expected: Vec<_> =
            (0..names.len()).map(|index| std::ffi::OsString::from(format!("file-{index}"))).collect();
        assert_eq!(names, expected, "a first part");
        if seed % 2 == 0 {
            assert_eq!(names.len(), 5);
        } else {
            lens.insert(names.len());
        }
    }
    assert_eq!(lens, (0..=5).collect(), "each length of that part");
}

#[test]
fn a_file_that_was_flushed_and_renamed_over_another_is_one_of_both_and_never_torn() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let mut volume = volume(seed);
        let (_, _) = flushed(&mut volume, BLOCK);
        let new = volume.add(ROOT, name("new"), false).result.unwrap().number;
        let handle = volume.open(new).result.unwrap();
        volume.write(new, handle, 0, &[2; BLOCK]).result.unwrap();
        volume.flush(new, handle, false).result.unwrap();
        volume.rename((ROOT, name("new")), (ROOT, name("drive")), true).result.unwrap();
        volume.power_cut();
        volume.power_on();
        let file = volume.find(ROOT, name("drive")).result.unwrap().number;
        let bytes = read_again(&mut volume, file, 1 << 20);
        assert!(bytes == vec![1; BLOCK] || bytes == vec![2; BLOCK]);
        let is_renamed = bytes[0] == 2;
        assert_eq!(volume.find(ROOT, name("new")).result.is_err(), is_renamed, "one name or the other");
        seen.insert(is_renamed);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_file_that_grew_without_a_flush_has_any_length_and_its_bytes_below_it() {
    let mut lens = BTreeSet::new();
    for seed in 0..100 {
        let mut volume = volume(seed);
        let (file, handle) = flushed(&mut volume, 100);
        volume.write(file, handle, 100, &vec![2; 3 * BLOCK]).result.unwrap();
        volume.power_cut();
        volume.power_on();
        let bytes = read_again(&mut volume, file, 1 << 20);
        assert!(bytes.len() >= 100 && bytes.len() <= 100 + 3 * BLOCK);
        assert!(bytes[..100].iter().all(|byte| *byte == 1));
        assert!(bytes[100..].iter().all(|byte| *byte == 2), "no length without its bytes");
        lens.insert(bytes.len());
    }
    assert!(lens.contains(&100) && lens.contains(&(100 + 3 * BLOCK)) && lens.len() > 10);
}

#[test]
fn a_file_that_was_cut_short_and_written_anew_is_the_old_one_or_part_of_the_new_one() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut volume = volume(seed);
        let (file, handle) = flushed(&mut volume, 2 * BLOCK);
        volume.set_len(file, 0).result.unwrap();
        volume.write(file, handle, 0, &vec![2; BLOCK]).result.unwrap();
        volume.power_cut();
        volume.power_on();
        let bytes = read_again(&mut volume, file, 1 << 20);
        let is_old = bytes == vec![1; 2 * BLOCK];
        assert!(
            is_old || bytes.iter().all(|byte| *byte == 2) && bytes.len() <= BLOCK,
            "{} {:?}",
            bytes.len(),
            bytes.first()
        );
        seen.insert((is_old, bytes.is_empty()));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn a_name_that_was_removed_and_comes_back_has_its_bytes() {
    let mut back = 0;
    for seed in 0..50 {
        let mut volume = volume(seed);
        let (_, _) = flushed(&mut volume, BLOCK);
        volume.remove(ROOT, name("drive"), false).result.unwrap();
        volume.power_cut();
        volume.power_on();
        if let Ok(look) = volume.find(ROOT, name("drive")).result {
            back += 1;
            assert_eq!(read_again(&mut volume, look.number, 1 << 20), vec![1; BLOCK]);
        }
    }
    assert!((5..45).contains(&back), "{back}");
}

#[test]
fn folders_refuse_what_folders_refuse() {
    let mut tree = Tree::default();
    let folder = tree.add(ROOT, name("folder"), true).unwrap();
    let file = tree.add(folder, name("file"), false).unwrap();
    assert_eq!(tree.add(folder, name("file"), false), Err(libc::EEXIST));
    assert_eq!(tree.remove(ROOT, name("folder"), true), Err(libc::ENOTEMPTY));
    assert_eq!(tree.remove(ROOT, name("folder"), false), Err(libc::EISDIR));
    assert_eq!(tree.remove(folder, name("file"), true), Err(libc::ENOTDIR));
    assert_eq!(tree.find(file, name("x")), Err(libc::ENOTDIR));
    assert_eq!(tree.find(99, name("x")), Err(libc::ENOENT));
    assert_eq!(tree.rename(folder, name("file"), ROOT, name("folder"), true), Err(libc::EISDIR));
    assert_eq!(tree.rename(folder, name("file"), ROOT, name("folder"), false), Err(libc::EEXIST));
    tree.rename(folder, name("file"), ROOT, name("moved"), false).unwrap();
    tree.remove(ROOT, name("folder"), true).unwrap();
    assert_eq!(tree.find(ROOT, name("moved")), Ok(file));
}

#[test]
fn errors_lost_and_misdirected_writes_are_as_frequent_as_asked() {
    let mut volume = volume(1);
    let (file, handle) = flushed(&mut volume, 64 * BLOCK);
    volume.set_weather(Weather {
        read_error_per_million: 100_000,
        write_error_per_million: 100_000,
        lost_write_per_million: 100_000,
        misdirected_write_per_million: 100_000,
        ..Weather::default()
    });
    for _ in 0..1000 {
        let _ = volume.write(file, handle, 0, &[2; BLOCK]);
        let _ = volume.read(file, handle, 0, 512);
    }
    let counts = volume.counts();
    for (what, count) in [
        ("read errors", counts.read_errors),
        ("write errors", counts.write_errors),
        ("lost", counts.lost_writes),
        ("misdirected", counts.misdirected_writes),
    ] {
        assert!((50..200).contains(&count), "{what}: {count}");
    }
}

#[test]
fn unreadable_blocks_are_readable_once_written_and_rot_flips_single_bits() {
    let mut volume = volume(1);
    let (file, handle) = flushed(&mut volume, 4 * BLOCK);
    volume.make_unreadable(1);
    assert_eq!(volume.read(file, handle, 0, 1 << 20).result, Err(libc::EIO));
    volume.write(file, handle, 0, &vec![1; 4 * BLOCK]).result.unwrap();
    assert_eq!(volume.read(file, handle, 0, 1 << 20).result, Ok(vec![1; 4 * BLOCK]));
    volume.rot(1);
    let bytes = volume.read(file, handle, 0, 1 << 20).result.unwrap();
    let flipped: u32 = bytes.iter().map(|byte| (byte ^ 1).count_ones()).sum();
    assert_eq!(flipped, 1);
}

#[test]
fn full_dead_slow_and_hanging_are_said_and_blank_and_rolled_back_media_are_so() {
    let mut volume = volume(1);
    let (file, handle) = flushed(&mut volume, BLOCK);
    volume.snapshot("before");
    volume.write(file, handle, 0, &[2; BLOCK]).result.unwrap();
    volume.flush(file, handle, true).result.unwrap();
    volume.set_weather(Weather { full: true, ..Weather::default() });
    assert_eq!(volume.write(file, handle, 0, &[3; BLOCK]).result, Err(libc::ENOSPC));
    volume.set_weather(Weather { dead: true, ..Weather::default() });
    assert_eq!(volume.read(file, handle, 0, 1).result, Err(libc::EIO));
    volume.set_weather(Weather { hangs: true, ..Weather::default() });
    assert_eq!(volume.read(file, handle, 0, 1).held, Held::UntilWeatherChanges);
    volume.set_weather(Weather { slow_per_million: 1_000_000, slow_ms_max: 5, ..Weather::default() });
    assert!(matches!(volume.read(file, handle, 0, 1).held, Held::For(_)));
    volume.set_weather(Weather::default());
    volume.power_cut();
    assert!(!volume.roll_back("never"));
    assert!(volume.roll_back("before"));
    volume.power_on();
    assert_eq!(read_again(&mut volume, file, 1 << 20), vec![1; BLOCK]);
    volume.power_cut();
    volume.blank();
    volume.power_on();
    assert_eq!(read_again(&mut volume, file, 1 << 20), vec![0; BLOCK]);
    volume.power_cut();
    volume.erase();
    volume.power_on();
    assert!(volume.entries(ROOT).result.unwrap().is_empty());
}

#[test]
fn one_seed_and_one_order_of_operations_do_the_same() {
    let run = |seed| {
        let mut volume = volume(seed);
        let (file, handle) = flushed(&mut volume, 16 * BLOCK);
        volume.set_weather(Weather { write_error_per_million: 300_000, ..Weather::default() });
        for value in 0..50 {
            let _ = volume.write(file, handle, u64::from(value % 16) * BLOCK_LEN_BYTES, &[value; BLOCK]);
        }
        volume.power_cut();
        volume.power_on();
        (read_again(&mut volume, file, 1 << 20), volume.counts())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
