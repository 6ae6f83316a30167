//! The simulator itself: that two runs of a seed are the same, that it finds what it must, and that what it finds can be played
//! again and made small.

use std::process::{Command, Output};

fn sim(args: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("the binary is built");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, text)
}

fn stdout(args: &[&str]) -> String {
    let (output, text) = sim(args);
    assert!(output.status.success(), "{args:?}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn fifty_seeds_of_the_toy_pass_and_are_the_same_twice() {
    let (output, text) = sim(&["--system", "toy", "--seeds", "0..50", "--span-s", "40"]);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("50 seeds, each twice,") && text.contains("0 failed"), "{text}");
}

#[test]
fn every_mutant_of_the_toy_is_found() {
    let (output, names) = sim(&["--system", "toy", "--mutant", "list"]);
    assert!(output.status.success(), "{names}");
    let names: Vec<&str> = names.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.len(), 5);
    for name in names {
        let (output, text) = sim(&["--system", "toy", "--mutant", name, "--seeds", "0..100"]);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(&format!("mutant {name} was found")), "{text}");
        // This one breaks no promise to clients: only the comparison of two runs can see it.
        assert_eq!(text.contains("two runs of this seed differ"), name == "host-clock", "{text}");
    }
}

#[test]
fn other_seeds_are_other_runs_and_bad_arguments_are_refused() {
    let hash = |seed: &str| {
        let (output, text) = sim(&["--child", "--system", "toy", "--seed", seed, "--span-s", "5"]);
        assert!(output.status.success(), "{text}");
        text
    };
    assert_ne!(hash("1"), hash("2"));
    for args in [
        &["--system", "none"][..],
        &["--seeds", "5..5"],
        &["--seeds", "5"],
        &["--seed", "x"],
        &["--schedule", "/nowhere"],
        &["--schedule", "/nowhere", "--scenario", "calm"],
        &["--json", "--hashes"],
        &["--shrink", "--no-shrink"],
        &["--print-schedule", "--scenario", "rot-of-all-copies"],
    ] {
        assert_eq!(sim(args).0.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_schedule_that_is_printed_plays_as_the_seed_did() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("schedule");
    let path = path.to_str().unwrap();
    let seed = ["--system", "toy", "--seed", "3", "--span-s", "20"];
    std::fs::write(path, stdout(&[&seed[..], &["--print-schedule"]].concat())).unwrap();
    let hashes = |args: &[&str]| stdout(&[args, &["--once", "--hashes"]].concat());
    let drawn = hashes(&seed);
    assert_eq!(hashes(&["--system", "toy", "--schedule", path]), drawn);
    // And what is changed in it changes the run; another seed is not the file's.
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, text.replace("clients 5", "clients 4")).unwrap();
    assert_ne!(hashes(&["--system", "toy", "--schedule", path]), drawn);
    let (output, text) = sim(&["--system", "toy", "--schedule", path, "--seed", "4"]);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("is of seed 3, not of 4"), "{text}");
}

#[test]
fn what_fails_is_made_small_and_still_fails() {
    let args = [
        "--system",
        "toy",
        "--mutant",
        "skip-sync",
        "--seeds",
        "0..100",
        "--once",
        "--shrink",
        "--shrink-s",
        "20",
    ];
    let (output, text) = sim(&args);
    assert!(output.status.success(), "{text}");
    let at = text.find("made smaller by").unwrap_or_else(|| panic!("{text}"));
    let script: Vec<&str> =
        text[at..].lines().skip_while(|line| !line.trim().starts_with("seed ")).map(str::trim).collect();
    let end = script.iter().position(|line| line.starts_with("mutant ")).unwrap_or(script.len());
    let script = script[..end].join("\n");
    // A write that is not on media is lost by one power cut, or by few of them.
    assert!(script.lines().filter(|line| line.starts_with("at ")).count() <= 6, "{text}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("schedule");
    std::fs::write(&path, script).unwrap();
    let path = path.to_str().unwrap();
    let again = ["--system", "toy", "--schedule", path, "--once"];
    assert!(sim(&again).0.status.success(), "without the mutant it passes");
    let (output, text) = sim(&[&again[..], &["--mutant", "skip-sync"]].concat());
    assert!(output.status.success() && text.contains("was found"), "{text}");
}

#[test]
fn sums_are_told_as_json_and_traces_in_columns() {
    let text = stdout(&["--system", "toy", "--seeds", "0..3", "--span-s", "20", "--json"]);
    let total: strongroom_tests::sim::report::Total = serde_json::from_str(&text).unwrap();
    assert_eq!((total.seeds, total.same_twice, total.failed.len()), (3, 3, 0));
    assert!(total.simulated_ms > 60_000 && total.acknowledged > 0 && !total.faults.is_empty(), "{text}");

    let (output, text) = sim(&[
        "--system",
        "toy",
        "--seed",
        "1",
        "--span-s",
        "20",
        "--once",
        "--trace",
        "--trace-filter",
        "fault,phase,call,-get",
    ]);
    assert!(output.status.success(), "{text}");
    let told: Vec<&str> = text.lines().filter(|line| line.starts_with("   ")).collect();
    assert!(told.iter().any(|line| line.contains("phase     safety")), "{text}");
    assert!(told.iter().any(|line| line.contains("call      client-")), "{text}");
    assert!(!told.iter().any(|line| line.contains("-get") || line.contains("get ")), "{text}");
}
