//! One seed is one trace, wherever it runs: other environments, other memory layouts, other processors.
//!
//! On demand also another build, or an emulated processor: `STRONGROOM_SIM_OTHER` is then a command that runs `sim`, for example
//! `target/release/sim`, or `qemu-x86_64-static -cpu Nehalem target/debug/sim`, of the same sources.

use std::collections::BTreeMap;
use std::process::Command;

const SIM: &str = env!("CARGO_BIN_EXE_sim");

/// The hashes that this command prints for a few seeds, of the toy and of the node.
fn hashes(command: &[&str], change: impl Fn(&mut Command)) -> BTreeMap<&'static str, String> {
    let runs = [("toy", "0..4", "20"), ("strongroom", "3..5", "8")];
    runs.into_iter()
        .map(|(system, seeds, span)| {
            let mut run = Command::new(command[0]);
            run.args(&command[1..]).args(["--system", system, "--seeds", seeds, "--span-s", span]);
            run.args(["--once", "--hashes", "--no-shrink", "--keep-going"]);
            change(&mut run);
            let output = run.output().expect("the program is there");
            // A seed that fails has a hash all the same.
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(!text.is_empty(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            (system, text)
        })
        .collect()
}

/// Whether a program that changes the surroundings can be used here.
fn works(command: &[&str]) -> bool {
    let output = Command::new(command[0]).args(&command[1..]).arg("true").output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn a_seed_is_one_trace_in_other_surroundings() {
    let expected = hashes(&[SIM], |_| {});
    let lines: usize = expected.values().map(|text| text.lines().count()).sum();
    assert_eq!(lines, 6, "{expected:?}");

    let bare = hashes(&[SIM], |run| {
        run.env_clear().env("HOME", "/nowhere").env("TZ", "Pacific/Kiritimati").env("LANG", "tr_TR.UTF-8");
        run.env("MALLOC_PERTURB_", "165").env("MALLOC_ARENA_MAX", "1").env("RUST_LOG", "trace");
        run.current_dir("/").arg("--jobs=3");
    });
    assert_eq!(expected, bare, "another environment");
    for surroundings in [
        &["setarch", "-R"][..],
        &["taskset", "-c", "0"][..],
        &["nice", "-n", "5"][..],
        &["unshare", "-Urn", "--uts", "sh", "-c", "hostname elsewhere; exec \"$0\" \"$@\""][..],
    ] {
        if works(surroundings) {
            let command = [surroundings, &[SIM]].concat();
            assert_eq!(expected, hashes(&command, |_| {}), "{surroundings:?}");
        } else {
            eprintln!("not tried here: {surroundings:?}");
        }
    }
    if let Ok(other) = std::env::var("STRONGROOM_SIM_OTHER") {
        let command: Vec<&str> = other.split_whitespace().collect();
        assert_eq!(expected, hashes(&command, |_| {}), "{other}");
    }
}
