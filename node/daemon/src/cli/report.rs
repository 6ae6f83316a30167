//! What jobs leave behind, in words.

use super::human_bytes;
use super::status::margin_words;
use crate::jobs::{JobView, RepairReport, Report, ScrubReport};

/// Shows what a job has met and leaves behind.
pub(super) fn show_report(job: &JobView) {
    for (name, count) in &job.counts {
        println!("{name}: {count}");
    }
    match &job.report {
        None => {}
        Some(Report::Repair(report)) => repair(report),
        Some(Report::Scrub(report)) => scrub(report),
        Some(Report::Compact(report)) => println!(
            "slabs compacted {}: {} needles copied ({}); what the slabs took comes back once they have been dead for slab.free_after_ms",
            report.slabs,
            report.needles,
            human_bytes(report.bytes)
        ),
    }
}

fn repair(report: &RepairReport) {
    println!("looked at the slab tables of all groups {} times", report.looks);
    println!("  first look {}, last look {}", report.first_look, report.last_look);
    println!(
        "slabs {}, below their full margin {} at first, {} at last",
        report.slabs, report.slabs_below_first, report.slabs_below_last
    );
    println!(
        "fragments made again {} ({}), back as they were {}",
        report.fragments_made_again,
        human_bytes(report.bytes_made_again),
        report.fragments_back
    );
    println!("survive now             at first    at last");
    let margins = report.margins_first.by_name().into_iter().zip(report.margins_last.by_name());
    for ((margin, first), (_, last)) in margins {
        println!("  {:<20} {first:>8}   {last:>8}", margin_words(margin));
    }
}

fn scrub(report: &ScrubReport) {
    let rate = if report.seconds > 0.0 { (report.bytes as f64 / report.seconds) as u64 } else { 0 };
    println!(
        "verified {} on {} drives: {} fragments in {:.1} s, {}/s",
        human_bytes(report.bytes),
        report.drives,
        report.fragments,
        report.seconds,
        human_bytes(rate)
    );
    println!(
        "damaged fragments {}: {} corrupt and {} unreadable blocks",
        report.fragments_bad, report.blocks_corrupt, report.blocks_unreadable
    );
    if report.fragments_bad > 0 {
        println!(
            "  told to the slab table {}, to be told at a seal {}, whole again already {}; `strongroom repair --wait` waits until all are made again",
            report.fragments_told, report.fragments_told_at_seal, report.fragments_whole_again
        );
    }
    if report.fragments_passed_over > 0 {
        println!("NOT VERIFIED, since they could not be read or changed: {}", report.fragments_passed_over);
    }
    if report.drives_gone > 0 {
        println!("drives that are not there any more: {}", report.drives_gone);
    }
}
