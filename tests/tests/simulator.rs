//! The simulator itself: that two runs of a seed are the same, and that it finds what it must.

use std::process::{Command, Output};

fn sim(args: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("the binary is built");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, text)
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
    for args in [["--system", "none"], ["--seeds", "5..5"], ["--seeds", "5"], ["--seed", "x"]] {
        assert_eq!(sim(&args).0.status.code(), Some(2), "{args:?}");
    }
}
