//! A short soak with everything: networks, deaths that are measured, faults of all kinds.

use std::time::Duration;
use strongroom_tests::faultfs::mount::{may_skip, skips};
use strongroom_tests::soak::nodes::Shape;
use strongroom_tests::soak::program::shipped;
use strongroom_tests::soak::run::{self, Options, SLAB_SECTION};

#[test]
fn what_cannot_be_done_here_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    // Any program: it is not started.
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--minutes", "1", "--no-namespaces", "--only", "isolate-zone,kill-node", "--program"])
        .arg(&program)
        .arg("--dir")
        .arg(dir.path().join("soak"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("cannot be done on this machine: isolate-zone"), "{said}");
}

#[test]
fn a_short_soak_holds() {
    if skips() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        seed: 20_261_122,
        program: shipped().unwrap(),
        dir: dir.path().join("soak"),
        time: Duration::from_secs(120),
        trials: 1,
        shape: Shape {
            zones: 3,
            nodes_per_zone: 2,
            drives_per_node: 2,
            drive_len_bytes: 128 << 20,
            groups: 4,
            slab_section: SLAB_SECTION.to_owned(),
        },
        namespaces: true,
        only: Vec::new(),
        state_damage: false,
        clients: 8,
        hold_max: Duration::from_secs(5),
        read_back_patience: Duration::from_secs(60),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(run::run(&options)).unwrap();
    if !report.holds() {
        eprintln!("the logs are kept in {}", dir.keep().display());
    }
    println!("{report}");
    assert!(report.holds());
    assert!(report.namespaces || may_skip(), "zones shared the loopback and were not cut");
    assert!(report.gaps.iter().all(|gap| gap.trials == 1) && report.gaps.len() >= 3);
    assert!(report.keys > 100 && report.judged > 200, "{} keys, {} answers", report.keys, report.judged);
    assert!(report.faults.len() > 3, "{:?}", report.faults.keys());
}
