//! Every deliberate fault of the node is found by the simulator: a checker that finds none of them sees too little.
//!
//! Here a few seeds that are known to find each; `sim --mutant NAME --seeds 0..2000 --once` tries as many as the bound allows.

use std::process::Command;

fn sim(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("the binary is built");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

fn names() -> Vec<String> {
    let (listed, names) = sim(&["--mutant", "list"]);
    assert!(listed, "{names}");
    names.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn every_mutant_of_the_node_is_found() {
    let names = names();
    assert_eq!(names.len(), 9);
    for name in names {
        let (found, text) = sim(&["--mutant", &name, "--seeds", "0..40", "--once"]);
        assert!(found && text.contains(&format!("mutant {name} was found by seed")), "{text}");
    }
}

#[test]
fn without_a_mutant_the_same_stories_find_nothing() {
    for scenario in [
        "rot-of-all-copies",
        "drives-die-one-by-one",
        "harsh-network",
        "holders-swap-silence",
        "slow-zone-dies",
        "voter-forgets",
    ] {
        let (clean, text) = sim(&["--scenario", scenario, "--seeds", "1..3", "--once"]);
        assert!(clean, "{text}");
    }
}
