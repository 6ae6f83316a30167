//! What the program refuses: files, drives and words that are not what they should be. It says why, its exit code is not 0, and nothing
//! was changed.

use super::support::{Ran, shape, strongroom};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use strongroom::dev::layout::Plan;
use strongroom_env::real::OsRng;
use tempfile::TempDir;

/// Exit code of a refusal.
const REFUSED: i32 = 1;
/// Exit code of a command line that cannot be understood.
const USAGE: i32 = 2;
/// Bytes of these drives: two reserves of 1 MiB and six extents.
const DRIVE_LEN_BYTES: u64 = 8 << 20;
const CLUSTER: &str = "00112233445566778899aabbccddeeff";

/// A folder as `dev` makes it, with node 1's drive formatted and nothing running.
struct Folder {
    dir: TempDir,
    plan: Plan,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::open_or_create(&dir.path().join("cluster"), &shape(), &OsRng).unwrap();
        let this = Self { dir, plan };
        format(&this.drive(), &this.plan.cluster, &[]).succeeded();
        this
    }

    fn node_dir(&self) -> PathBuf {
        self.plan.node_dir(&self.dir.path().join("cluster"), 1)
    }

    fn drive(&self) -> PathBuf {
        self.node_dir().join("drive-0.img")
    }

    fn start(&self) -> Ran {
        strongroom(&["node", "--config", "node.toml"], &self.node_dir())
    }

    /// The node refuses to start with these words, and the drive is what it was.
    #[track_caller]
    fn refuses(&self, parts: &[&str]) {
        let before = digest(&self.drive());
        self.start().refused_with(REFUSED, parts);
        assert_eq!(digest(&self.drive()), before, "the drive was changed");
    }
}

fn format(path: &Path, cluster: &str, more: &[&str]) -> Ran {
    let len = DRIVE_LEN_BYTES.to_string();
    let args =
        ["drive", "format", "--cluster", cluster, "--create-len", &len, "--extent-len", "1048576", "--quiet"];
    let args = [&args[..], more, &[path.to_str().unwrap()]].concat();
    strongroom(&args, Path::new("/"))
}

/// `None` where there is no file.
fn digest(path: &Path) -> Option<[u8; 32]> {
    std::fs::read(path).ok().map(|bytes| Sha256::digest(bytes).into())
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// Where the four copies of the superblock are.
const SUPERBLOCKS: [u64; 4] = [0, 512 << 10, DRIVE_LEN_BYTES - (1 << 20), DRIVE_LEN_BYTES - (512 << 10)];

#[test]
fn a_malformed_configuration_is_refused_by_file_line_field_and_what_was_expected() {
    let folder = Folder::new();
    let dir = folder.node_dir();
    let good = std::fs::read_to_string(dir.join("node.toml")).unwrap();
    let line_of = |text: &str| good.lines().position(|line| line.starts_with(text)).unwrap() + 1;
    let cases = [
        ("groups = 4", "groups = 0", line_of("groups"), "cluster.groups", "1 to 1024"),
        ("groups = 4", "groups = 70000", line_of("groups"), "groups", "expected u16"),
        ("groups = 4", "groups = four", line_of("groups"), "groups", ""),
        (
            "state_dir = \"state\"",
            "stat_dir = \"state\"",
            line_of("state_dir"),
            "stat_dir",
            "expected one of",
        ),
        ("state_dir = \"state\"\n", "", line_of("[node]"), "", "missing field `state_dir`"),
        (&folder.plan.cluster[..], "0123", line_of("id = \""), "cluster.id", "32 hexadecimal digits"),
        (&folder.plan.secret_key[..], "short", line_of("secret_key"), "secret_key", "8 or more characters"),
        (
            "len_bytes_max = 16777216",
            "len_bytes_max = 4096",
            line_of("len_bytes_max"),
            "slab.len_bytes_max",
            "8388608",
        ),
        (
            "drives = [\"drive-0.img\"]",
            "drives = \"drive-0.img\"",
            line_of("drives"),
            "drives",
            "expected a sequence",
        ),
    ];
    for (from, to, line, field, expected) in cases {
        assert!(good.contains(from), "{from:?}");
        std::fs::write(dir.join("bad.toml"), good.replacen(from, to, 1)).unwrap();
        for check in [&["--check"][..], &[]] {
            let ran = strongroom(&[&["node", "--config", "bad.toml"], check].concat(), &dir);
            ran.refused_with(REFUSED, &[&format!("bad.toml:{line}: "), field, expected]);
        }
    }
    let ran = strongroom(&["node", "--config", "absent.toml"], &dir);
    ran.refused_with(REFUSED, &["absent.toml", "No such file"]);
    assert_eq!(std::fs::read_dir(dir.join("state")).unwrap().count(), 0, "nothing was begun");
    strongroom(&["node", "--config", "node.toml", "--check"], &dir).succeeded();
}

#[test]
fn words_that_are_no_command_are_refused_with_the_usage() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["stauts"], &["unrecognized subcommand 'stauts'", "status"]),
        (&[], &["Usage"]),
        (&["node", "--confg", "x"], &["unexpected argument '--confg'", "--config"]),
        (&["drive", "format"], &["--cluster", "<PATH>"]),
        (&["drive", "format", "x", "--cluster", "12"], &["--cluster", "expected 32 hexadecimal digits"]),
        (&["bucket", "create", "Not_A_Bucket"], &["Not_A_Bucket", "bucket"]),
        (&["bucket", "create", "ab"], &["ab", "bucket"]),
        (&["bucket", "create", "mail", "--class", "letters"], &["letters", "mail", "config"]),
        (&["dev", "--nodes-per-zone", "0"], &["--nodes-per-zone", "1..=8"]),
    ];
    for (args, parts) in cases {
        strongroom(args, dir.path()).refused_with(USAGE, parts);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn asking_where_no_node_listens_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let absent = strongroom(&["status", "--control", "absent.sock"], dir.path());
    absent.refused_with(REFUSED, &["absent.sock", "is the node running?"]);
    // A file in the socket's place, as a dead node leaves it.
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("dead.sock")).unwrap());
    let dead = strongroom(&["status", "--control", "dead.sock"], dir.path());
    dead.refused_with(REFUSED, &["dead.sock", "is the node running?"]);
    let bucket = strongroom(&["bucket", "create", "letters", "--control", "absent.sock"], dir.path());
    bucket.refused_with(REFUSED, &["absent.sock", "is the node running?"]);
}

#[test]
fn a_drive_with_something_else_on_it_is_refused_and_left_alone() {
    let folder = Folder::new();
    std::fs::write(folder.drive(), vec![0x5A; DRIVE_LEN_BYTES as usize]).unwrap();
    folder.refuses(&["drive holds something else"]);
    // Blank is not ours either: it is formatted by hand, never by a start.
    std::fs::write(folder.drive(), vec![0; DRIVE_LEN_BYTES as usize]).unwrap();
    folder.refuses(&["drive is blank"]);
    std::fs::write(folder.drive(), vec![0; 4096]).unwrap();
    folder.refuses(&["drive-0.img", "4096", "2 MiB"]);
    std::fs::write(folder.drive(), b"short").unwrap();
    folder.refuses(&["drive-0.img", "5 bytes"]);
}

#[test]
fn a_drive_with_one_superblock_left_is_not_believed_and_with_two_it_is_read() {
    let folder = Folder::new();
    for offset in &SUPERBLOCKS[..2] {
        overwrite(&folder.drive(), *offset, &[0xFF; 4096]);
    }
    strongroom(&["drive", "inspect", "drive-0.img"], &folder.node_dir()).succeeded();
    // A single flipped bit is enough to lose a copy.
    let mut copy = [0; 1];
    File::open(folder.drive()).unwrap().read_exact_at(&mut copy, SUPERBLOCKS[2] + 40).unwrap();
    overwrite(&folder.drive(), SUPERBLOCKS[2] + 40, &[copy[0] ^ 1]);
    let inspected = strongroom(&["drive", "inspect", "drive-0.img"], &folder.node_dir());
    inspected.refused_with(REFUSED, &["drive-0.img", "superblock damaged: 1 of 4 copies"]);
}

#[test]
fn a_drive_of_another_cluster_is_refused_and_left_alone() {
    let folder = Folder::new();
    std::fs::remove_file(folder.drive()).unwrap();
    format(&folder.drive(), CLUSTER, &[]).succeeded();
    folder.refuses(&["drive belongs to", "it is not touched"]);
}

#[test]
fn a_drive_that_is_missing_shorter_or_no_drive_is_refused() {
    let folder = Folder::new();
    let file = File::options().write(true).open(folder.drive()).unwrap();
    file.set_len(DRIVE_LEN_BYTES - (1 << 20)).unwrap();
    folder.refuses(&["drive 0"]);
    std::fs::remove_file(folder.drive()).unwrap();
    folder.start().refused_with(REFUSED, &["drive-0.img", "No such file"]);
    assert!(!folder.drive().exists(), "a start makes no drive");
    std::fs::create_dir(folder.drive()).unwrap();
    folder.start().refused_with(REFUSED, &["drive-0.img", "neither a block device nor a regular file"]);
}

#[test]
fn one_drive_twice_is_refused() {
    let folder = Folder::new();
    std::fs::copy(folder.drive(), folder.node_dir().join("copy.img")).unwrap();
    let config = folder.node_dir().join("node.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[\"drive-0.img\"]", "[\"drive-0.img\", \"copy.img\"]")).unwrap();
    folder.refuses(&["drive 1", "same drive as an earlier one"]);
    // One file by two names.
    std::fs::remove_file(folder.node_dir().join("copy.img")).unwrap();
    std::fs::hard_link(folder.drive(), folder.node_dir().join("copy.img")).unwrap();
    folder.refuses(&["copy.img", "locked"]);
}

#[test]
fn formatting_over_anything_needs_force() {
    let dir = tempfile::tempdir().unwrap();
    let refuses = |path: &Path, parts: &[&str]| {
        let before = digest(path);
        format(path, CLUSTER, &[]).refused_with(REFUSED, parts);
        assert_eq!(digest(path), before, "it was changed");
    };
    let ours = dir.path().join("ours.img");
    format(&ours, CLUSTER, &[]).succeeded();
    refuses(&ours, &["ours.img", "is on this device: give --force"]);

    let foreign = dir.path().join("foreign.img");
    std::fs::write(&foreign, vec![7; DRIVE_LEN_BYTES as usize]).unwrap();
    refuses(&foreign, &["foreign.img", "give --force to destroy it"]);

    // One of our superblocks is left: most likely a drive with data that lost the others.
    let damaged = dir.path().join("damaged.img");
    std::fs::copy(&ours, &damaged).unwrap();
    for offset in &SUPERBLOCKS[..3] {
        overwrite(&damaged, *offset, &[0; 4096]);
    }
    refuses(&damaged, &["damaged.img", "1 of 4 copies"]);

    // File systems and RAID keep their own superblocks behind a blank first block: at 4 KiB (md), 64 KiB (btrfs), near the end (md 1.0).
    for (name, offset) in [("md", 4096), ("btrfs", 64 << 10), ("md-end", DRIVE_LEN_BYTES - (8 << 10))] {
        let path = dir.path().join(format!("{name}.img"));
        std::fs::write(&path, vec![0; DRIVE_LEN_BYTES as usize]).unwrap();
        overwrite(&path, offset, b"somebody's superblock");
        refuses(&path, &[name, "give --force to destroy it"]);
    }

    for path in [&ours, &foreign, &damaged] {
        let before = digest(path);
        format(path, CLUSTER, &["--force"]).succeeded();
        assert_ne!(digest(path), before);
        strongroom(&["drive", "inspect", path.to_str().unwrap()], dir.path()).succeeded();
    }
}

#[test]
fn a_drive_is_not_made_with_lengths_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("drive.img");
    let drive = path.to_str().unwrap();
    let make = |create: &str, extent: &str| {
        let args =
            ["drive", "format", "--cluster", CLUSTER, "--create-len", create, "--extent-len", extent, drive];
        strongroom(&args, dir.path())
    };
    make("8388609", "1048576").refused_with(REFUSED, &["8388609", "a multiple of 4096"]);
    make("0", "1048576").refused_with(REFUSED, &["0 bytes", "at least 4096"]);
    assert!(!path.exists());
    make("8388608", "1048577").refused_with(REFUSED, &["1048577", "a power of two from 256 KiB to 64 MiB"]);
    let _ = std::fs::remove_file(&path);
    make("2097152", "1048576").refused_with(REFUSED, &["2097152", "at least one extent"]);
    let _ = std::fs::remove_file(&path);
    let absent = strongroom(&["drive", "format", "--cluster", CLUSTER, "absent.img"], dir.path());
    absent.refused_with(REFUSED, &["absent.img", "No such file"]);
    assert!(!dir.path().join("absent.img").exists());
}
