//! Real nodes on the device, through the whole kernel path: O_DIRECT and io_uring for drives, a file system for state.
//!
//! Power is cut at random moments under load, one zone's drives rot, fail, lie and hang, and an oracle judges each answer. For hours the same
//! runs as `soak`.

use std::path::Path;
use std::time::Duration;
use strongroom_tests::faultfs::mount::skips;
use strongroom_tests::soak::faults::Fault;
use strongroom_tests::soak::nodes::Shape;
use strongroom_tests::soak::program::shipped;
use strongroom_tests::soak::report::Report;
use strongroom_tests::soak::run::{self, Options, SLAB_SECTION};

fn options(dir: &Path, seed: u64, seconds: u64, only: &[Fault]) -> Options {
    Options {
        seed,
        program: shipped().unwrap(),
        dir: dir.to_owned(),
        time: Duration::from_secs(seconds),
        trials: 0,
        shape: Shape {
            zones: 3,
            nodes_per_zone: 2,
            drives_per_node: 1,
            drive_len_bytes: 256 << 20,
            groups: 4,
            slab_section: SLAB_SECTION.to_owned(),
        },
        namespaces: false,
        only: only.to_vec(),
        state_damage: false,
        clients: 8,
        hold_max: Duration::from_secs(3),
        read_back_patience: Duration::from_secs(60),
    }
}

/// `None`, loudly, where there is no fault device.
fn run(seed: u64, seconds: u64, only: &[Fault], change: impl FnOnce(&mut Options)) -> Option<Report> {
    if skips() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&dir.path().join("soak"), seed, seconds, only);
    change(&mut options);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(run::run(&options)).unwrap();
    if !report.holds() {
        // Logs are evidence.
        eprintln!("the logs are kept in {}", dir.keep().display());
    }
    println!("{report}");
    Some(report)
}

#[test]
fn power_cuts_at_any_moment_cost_no_acknowledged_mail() {
    let only = [Fault::PowerNode, Fault::PowerZone, Fault::PowerAll];
    let Some(report) = run(1, 40, &only, |_| {}) else { return };
    assert!(report.holds());
    assert!(report.device.power_cuts >= 6, "{:?}", report.device);
    assert!(report.device.sectors_dropped > 0, "no power cut was felt");
    assert!(report.keys > 100 && report.judged > 200, "{} keys, {} answers", report.keys, report.judged);
}

#[test]
fn a_zone_of_bad_drives_costs_no_acknowledged_mail_and_returns_no_wrong_byte() {
    let only = [
        Fault::DriveErrors,
        Fault::DriveUnreadable,
        Fault::DriveRot,
        Fault::DriveLies,
        Fault::DriveMisdirects,
        Fault::DriveHangs,
        Fault::DriveFull,
        Fault::DriveBlank,
        Fault::DriveOld,
        Fault::PowerNode,
    ];
    let Some(report) = run(2, 60, &only, |_| {}) else { return };
    assert!(report.holds());
    assert!(report.not_tried.is_empty(), "{:?}", report.not_tried);
    // Tried is not felt: each must have met an operation.
    let device = &report.device;
    let felt = [
        ("power cuts", device.power_cuts),
        ("read errors", device.read_errors + device.unreadable_reads),
        // The first of either takes the drive out, before it feels the other.
        ("write or flush errors", device.write_errors + device.flush_errors),
        ("lies", device.flush_lies),
        ("lost writes", device.lost_writes),
        ("misdirected writes", device.misdirected_writes),
        ("rotten bits", device.rotten_bits),
        ("unreadable blocks", device.unreadable_blocks),
        ("full writes", device.full_writes),
        ("blanks", device.blanks),
        ("old drives", device.rollbacks),
    ];
    let unfelt: Vec<_> = felt.into_iter().filter(|(_, count)| *count == 0).collect();
    assert!(unfelt.is_empty(), "{unfelt:?} of {device:?}");
    assert!(report.keys > 100 && report.judged > 200, "{} keys, {} answers", report.keys, report.judged);
}

#[test]
fn all_drives_blank_is_seen_as_the_loss_it_is() {
    let change = |options: &mut Options| options.read_back_patience = Duration::from_secs(5);
    let Some(report) = run(3, 10, &[Fault::BeyondBlank], change) else { return };
    assert!(!report.holds(), "everything was erased, and the oracle missed nothing");
    assert!(report.violations.iter().all(|violation| violation.kind != "wrong"), "lost, but never wrong");
}
