//! Every story with a name ends as it must.

use std::process::Command;

fn sim(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("the binary is built");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[test]
fn every_story_ends_as_it_must() {
    let (listed, names) = sim(&["--scenario", "list"]);
    assert!(listed, "{names}");
    let names: Vec<&str> = names.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() >= 25, "{names:?}");
    for name in names {
        let (ended, text) = sim(&["--scenario", name, "--seeds", "1..3", "--once"]);
        assert!(ended, "{name}: {text}");
    }
}
