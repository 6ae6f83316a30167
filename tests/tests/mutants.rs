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
    assert_eq!(names.len(), 9);
    for name in names {
        // Of these the first seeds show nothing: others may, once faults are drawn otherwise.
        let seeds = match name.as_str() {
            "seal-with-too-few" => "24..80",
            "reuse-raft-id" => "8..20",
            _ => "0..40",
        };
        let (found, text) = sim(&["--mutant", &name, "--seeds", seeds, "--once"]);
        if name == "reuse-raft-id" && cfg!(debug_assertions) {
            // openraft's own assertions end each run here before a checker can speak: it is found, by I8, in builds without them only.
            assert!(!found && text.contains("NOT found") && text.contains("\"died\""), "{text}");
            continue;
        }
        // By a rule that it names: `sim` counts no other, and never that a run died.
        assert!(found && text.contains(&format!("mutant {name} was found by seed")), "{text}");
    }
}
