//! The bytes themselves: every structure against its pinned golden file, every corpus file through its fuzz target, and each
//! bit of each golden flipped.
//!
//! `STRONGROOM_BLESS=1 cargo test -p strongroom-format --test bytes` writes golden files that are missing and the corpus
//! that follows from them. It never writes over a golden file: version 1 of a structure is what was written first.

#![allow(clippy::unwrap_used, reason = "all of this is test")]

mod examples;

use examples::{Example, examples};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use strongroom_format::fuzz::{TARGETS, Target};
use strongroom_format::wire::envelope;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn blessing() -> bool {
    std::env::var_os("STRONGROOM_BLESS").is_some()
}

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|(target, _)| *target == name).unwrap()
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

/// The bytes without the zeros at the end of a block structure: fuzz targets add them again.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Everything that peers say has one version.
fn is_wire(target: &str) -> bool {
    matches!(target, "hello" | "envelope" | "request" | "response")
}

#[test]
fn every_structure_is_encoded_as_pinned() {
    let mut known = BTreeSet::new();
    for Example { target, name, bytes } in examples() {
        let version = match target {
            target if is_wire(target) => envelope::VERSION,
            "superblock" | "extent_header" => 2,
            _ => 1,
        };
        let path = folder("golden").join(format!("{target}-{name}-v{version}.hex"));
        known.insert(path.clone());
        if blessing() && !path.exists() {
            fs::create_dir_all(folder("golden")).unwrap();
            fs::write(&path, to_hex(&bytes)).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(to_hex(&bytes), golden, "{target} {name}: the format changed without a new version");
    }
    let files: BTreeSet<PathBuf> =
        fs::read_dir(folder("golden")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files, known, "each golden file has its example");
}

#[test]
fn every_golden_is_accepted_by_its_target() {
    let mut covered = BTreeSet::new();
    for Example { target: name, bytes, .. } in examples() {
        assert!(target(name).1(&bytes), "{name}");
        covered.insert(name);
    }
    assert_eq!(covered.len(), TARGETS.len(), "each target has an example");
}

/// Messages and plaintext carry no checksum of their own: the envelope and the frame table have it.
fn is_summed(target: &str) -> bool {
    !matches!(target, "request" | "response" | "row_payload")
}

#[test]
fn every_target_has_its_fuzz_binary() {
    let manifest = fs::read_to_string(folder("fuzz").join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let main = fs::read_to_string(folder("fuzz/fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(main.contains(&format!("strongroom_format::fuzz::{name}(data)")), "{name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
    assert_eq!(fs::read_dir(folder("fuzz/fuzz_targets")).unwrap().count(), TARGETS.len());
}

/// How much of an example stands under its own checksum: of a needle the header, for its frames are checked apart.
fn summed_len(target: &str, bytes: &[u8]) -> usize {
    if target == "needle" { examples::needle_header_len(bytes) } else { bytes.len() }
}

#[test]
fn every_flipped_bit_is_found() {
    for Example { target: name, bytes, .. } in examples() {
        if !is_summed(name) {
            continue;
        }
        let check = target(name).1;
        let summed = summed_len(name, &bytes);
        let mut flipped = bytes[..summed].to_vec();
        for bit in 0..summed * 8 {
            if name == "checksum_table" && (13..17).contains(&(bit / 8)) {
                // The length of the slice is the target's own; lengths of equally many blocks are equally right.
                continue;
            }
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!check(&flipped), "{name}: bit {bit}");
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(check(&flipped), "{name}: all bits are back");
    }
}

#[test]
fn every_truncation_is_found() {
    for Example { target: name, bytes, .. } in examples() {
        if !is_summed(name) {
            continue;
        }
        let check = target(name).1;
        let summed = summed_len(name, &bytes);
        // Nothing at all is zeros, and an extent of zeros is a free one.
        let least = usize::from(name == "extent_header");
        for len in least..summed {
            assert!(!check(&bytes[..len]), "{name}: {len} of {summed} bytes");
        }
    }
}

/// What a golden is bent into for the corpus. The name of a file says whether it is accepted.
fn bent(target: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("whole".to_owned(), bytes.to_vec()),
        ("empty".to_owned(), Vec::new()),
        ("cut-half".to_owned(), bytes[..bytes.len() / 2].to_vec()),
        ("longer".to_owned(), [bytes, &[1]].concat()),
    ];
    for (name, at) in [("first", 0), ("middle", bytes.len() / 2), ("last", bytes.len() - 1)] {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1;
        files.push((format!("flip-{name}"), flipped));
    }
    // Fields at their highest: behind a checksum that the target mends, these reach the range checks.
    let fields = match target {
        "request" | "response" | "row_payload" => 0,
        "checksum_table" => 36,
        _ => 64,
    };
    for at in (4..bytes.len().min(fields)).step_by(4) {
        let mut changed = bytes.to_vec();
        let end = changed.len().min(at + 4);
        changed[at..end].fill(0xFF);
        files.push((format!("ones-at-{at}"), changed));
    }
    files
}

fn write_corpus() {
    for Example { target: name, name: example, bytes } in examples() {
        let folder = folder("corpus").join(name);
        fs::create_dir_all(&folder).unwrap();
        for (bend, bytes) in bent(name, &bytes) {
            let verdict = if target(name).1(&bytes) { "valid" } else { "bad" };
            fs::write(folder.join(format!("{verdict}-{example}-{bend}")), bytes).unwrap();
        }
    }
}

#[test]
fn the_corpus_is_replayed() {
    if blessing() {
        write_corpus();
    }
    for (name, check) in TARGETS {
        let (mut valid, mut bad) = (0, 0);
        for entry in fs::read_dir(folder("corpus").join(name)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let file = path.file_name().unwrap().to_str().unwrap();
            let accepted = check(&bytes);
            if file.starts_with("valid-") {
                assert!(accepted, "{name}/{file}");
                valid += 1;
            } else if file.starts_with("bad-") {
                assert!(!accepted, "{name}/{file}");
                bad += 1;
            }
            // Files that a fuzzer found and that are kept have other names: they must only not panic.
        }
        assert!(valid >= 1 && bad >= 4, "{name}: {valid} valid and {bad} bad files");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        for (_, check) in TARGETS {
            check(&bytes);
        }
    }

    /// Behind a right magic, with the checksums mended by the target: random fields.
    #[test]
    fn no_fields_panic(
        example in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let examples = examples();
        let Example { target: name, bytes, .. } = &examples[example.index(examples.len())];
        let mut bytes = bytes.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        target(name).1(&bytes);
    }
}
