//! Every deliberate fault of the node is found by the simulator: a checker that finds none of them sees too little.
//!
//! That the same stories find nothing without a mutant is asked in `stories.rs`. Here a few seeds that are known to find each; `sim --mutant NAME
//! --seeds 0..2000 --once` tries as many as the bound allows.

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
    assert_eq!(names.len(), 13);
    for name in names {
        let (found, text) = sim(&["--mutant", &name, "--seeds", "0..80", "--once"]);
        // By a rule that it names: `sim` counts no other, and never that a run died.
        assert!(found && text.contains(&format!("mutant {name} was found by seed")), "{text}");
    }
}
