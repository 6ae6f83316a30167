//! `strongroom cluster`.

use super::status::margin_words;
use super::target::Target;
use super::{client_runtime, human_bytes};
use crate::status::{ClusterStatus, NodeView, SlabSurvey};
use clap::Args;

/// Show the whole cluster: zones, nodes, drives, groups, and what its slabs survive.
///
/// Nodes and drives are as the node sees them that is asked; slabs are asked from the slab tables of all groups.
#[derive(Args)]
pub struct ClusterCommand {
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: &ClusterCommand) -> anyhow::Result<()> {
    let cluster = client_runtime()?.block_on(command.target.client().cluster())?;
    command.target.print(&cluster, show)
}

fn show(cluster: &ClusterStatus) {
    println!("cluster {}, seen by node {}", cluster.cluster, cluster.seen_by);
    for zone in &cluster.zones {
        println!("zone {}", zone.zone);
        zone.nodes.iter().for_each(node);
    }
    for group in cluster.groups.iter().filter(|group| group.votes) {
        let leader = group.leader.map_or_else(|| String::from("NONE"), |leader| format!("node {leader}"));
        println!("{:10} leader {leader}", group.group);
    }
    match (&cluster.slabs, &cluster.slabs_unknown_because) {
        (Some(slabs), _) => survey(slabs),
        (None, because) => {
            println!("slabs: NOT KNOWN: {}", because.as_deref().unwrap_or("the node does not say why"));
        }
    }
}

fn node(node: &NodeView) {
    let state = match (node.up, node.given_up) {
        (true, _) => "up",
        (false, false) => "DOWN",
        (false, true) => "DOWN, GIVEN UP: what it holds is made again elsewhere",
    };
    println!("  node {}  {state}", node.node);
    for drive in &node.drives {
        println!(
            "    drive {}  {} allocated of {}{}",
            drive.drive,
            human_bytes(drive.bytes_allocated),
            human_bytes(drive.bytes_total),
            if drive.writable { "" } else { ", TAKES NO NEW FRAGMENTS" }
        );
    }
}

fn survey(slabs: &SlabSurvey) {
    let counts = &slabs.counts;
    println!(
        "slabs at {}: {} open, {} sealing, {} hot ({}), {} cold ({})",
        slabs.at,
        counts.open,
        counts.sealing,
        counts.hot,
        human_bytes(counts.hot_image_bytes),
        counts.cold,
        human_bytes(counts.cold_image_bytes)
    );
    println!(
        "not whole: {} slabs, {} fragments lost, {} away",
        counts.deficit, slabs.fragments_lost, slabs.fragments_away
    );
    for ((margin, count), (_, bytes)) in counts.margins.by_name().into_iter().zip(slabs.image_bytes.by_name())
    {
        if count > 0 {
            println!("  {count:>8} slabs ({}) survive: {}", human_bytes(bytes), margin_words(margin));
        }
    }
}
