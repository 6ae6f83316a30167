//! `strongroom status`.

use super::target::Target;
use super::{client_runtime, human_bytes};
use crate::status::{NodeStatus, ScrubStatus};
use clap::Args;

/// Show what a node is, has and sees, from its control socket
#[derive(Args)]
pub struct StatusCommand {
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: &StatusCommand) -> anyhow::Result<()> {
    let status = client_runtime()?.block_on(command.target.client().status())?;
    command.target.print(&status, show)
}

/// What a margin means, by its name in JSON.
pub(super) fn margin_words(margin: &str) -> &str {
    match margin {
        "lost" => "NOT READABLE NOW",
        "nothing" => "NO LOSS OF A NODE",
        "node" => "any one node",
        "zone" => "any one zone",
        "zone_plus_one" => "any zone and a node",
        other => other,
    }
}

/// How far a drive was verified, in words.
pub(super) fn verified(scrub: &ScrubStatus) -> String {
    let since = match scrub.verified_since_unix_ms.and_then(date) {
        Some(since) => format!("every byte verified since {since}"),
        None => String::from("not verified yet"),
    };
    let tour = match scrub.tour_began_unix_ms.and_then(date) {
        Some(began) => {
            let done = human_bytes(scrub.bytes_total.saturating_sub(scrub.bytes_left));
            format!("; tour since {began}: {done} of {}", human_bytes(scrub.bytes_total))
        }
        None => String::new(),
    };
    let bad = match (scrub.fragments_bad, scrub.blocks_corrupt, scrub.blocks_unreadable) {
        (0, ..) => String::new(),
        (fragments, corrupt, unreadable) => {
            format!(
                "; found in this run: {fragments} damaged fragments, {corrupt} corrupt and {unreadable} unreadable blocks"
            )
        }
    };
    let left_out = match scrub.fragments_passed_over {
        0 => String::new(),
        count => format!("; could not be looked at in this run: {count} fragments"),
    };
    format!("{since}{tour}{bad}{left_out}")
}

fn date(unix_ms: u64) -> Option<String> {
    let seconds = i64::try_from(unix_ms / 1000).ok()?;
    let date = time::OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    date.format(&time::format_description::well_known::Rfc3339).ok()
}

fn show(status: &NodeStatus) {
    println!(
        "node {} in zone {}, strongroom {}, cluster {}",
        status.node, status.zone, status.version, status.cluster
    );
    match status.ready {
        true => println!("ready"),
        false => println!("NOT READY: {}", status.not_ready_because.join("; ")),
    }
    for alarm in &status.alarms {
        println!("ALARM: {alarm}");
    }
    for drive in &status.drives {
        println!(
            "drive {}  {} used of {} allocated of {}, {} fragments{}",
            drive.drive,
            human_bytes(drive.bytes_used),
            human_bytes(drive.bytes_allocated),
            human_bytes(drive.bytes_total),
            drive.fragments,
            if drive.writable { "" } else { ", TAKES NO NEW FRAGMENTS" }
        );
        println!("  {}", verified(&drive.scrub));
    }
    for peer in &status.peers {
        println!("peer {} in zone {}: {}", peer.node, peer.zone, if peer.up { "up" } else { "DOWN" });
    }
    for group in &status.groups {
        let leader = group.leader.map_or_else(|| String::from("none"), |leader| format!("node {leader}"));
        println!(
            "{:10} leader {leader}{}, term {}, log {}, applied {}, snapshot {}",
            group.group,
            if group.leads { " (this one)" } else { "" },
            group.term,
            group.last_log,
            group.applied,
            group.snapshot
        );
    }
    let slabs = &status.slabs;
    println!(
        "slabs of the groups led here: {} open, {} sealing, {} hot ({}), {} cold ({}), {} with fragments missing",
        slabs.open,
        slabs.sealing,
        slabs.hot,
        human_bytes(slabs.hot_image_bytes),
        slabs.cold,
        human_bytes(slabs.cold_image_bytes),
        slabs.deficit
    );
    let margins = slabs.margins.by_name().into_iter().filter(|(_, count)| *count > 0);
    let margins: Vec<String> =
        margins.map(|(margin, count)| format!("{count} survive {}", margin_words(margin))).collect();
    if !margins.is_empty() {
        println!("of those that are sealed: {}", margins.join(", "));
    }
    let jobs: Vec<String> =
        status.jobs.iter().map(|(state, count)| format!("{count} {}", state.name())).collect();
    println!("jobs: {}", jobs.join(", "));
}
