//! A short soak with everything: networks, deaths that are measured, faults of all kinds.

use std::time::Duration;
use strongroom_tests::faultfs::mount::missing;
use strongroom_tests::soak::nodes::Shape;
use strongroom_tests::soak::program::shipped;
use strongroom_tests::soak::run::{self, Options, SLAB_SECTION};

#[test]
fn a_short_soak_holds() {
    if let Some(why) = missing() {
        eprintln!("SKIPPED: no fault device on this machine: {why}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        seed: 20_261_122,
        program: shipped().unwrap(),
        dir: dir.path().join("soak"),
        time: Duration::from_secs(90),
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
    assert!(report.gaps.iter().all(|gap| gap.trials == 1) && report.gaps.len() >= 3);
    assert!(report.keys > 100 && report.judged > 200, "{} keys, {} answers", report.keys, report.judged);
    assert!(report.faults.len() > 3, "{:?}", report.faults.keys());
}
