//! Stories of nodes and drives that are emptied, and of those that come back empty, within the promise.

use super::Furniture;
use super::stage::{Stored, at_rest, look, nodes_of, serves, zones};
use crate::sim::checkers::layout::Facts;
use crate::sim::drives::DriveWeather;
use crate::sim::faults::Event;
use crate::sim::net::Weather;
use crate::sim::workload::Clients;
use crate::sim::world::End;
use std::collections::BTreeSet;
use std::time::Duration;
use strongroom_types::{DrainSubject, Holder, NodeId, SlabState};

/// The first zone has a node more than slabs need.
pub(super) const WITH_SPARE: Furniture =
    Furniture { spare_node: true, drives_per_node: 1, drive_len_bytes: 96 << 20 };
/// What is on a drive fits on the other one of its node.
pub(super) const TWO_DRIVES: Furniture =
    Furniture { spare_node: false, drives_per_node: 2, drive_len_bytes: 48 << 20 };
/// As with a spare node, and so small that what is stored fills them by a good part.
pub(super) const SMALL_WITH_SPARE: Furniture =
    Furniture { spare_node: true, drives_per_node: 1, drive_len_bytes: 40 << 20 };
/// So small as well, and nobody to spare.
pub(super) const SMALL: Furniture = Furniture { spare_node: false, ..SMALL_WITH_SPARE };

/// How long a drain may take, with all the faults beside it.
const DRAINED: Duration = Duration::from_secs(120);
const RESTED: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(20);
const BREATH: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 8;
/// What is stored under each key.
const VALUE_LEN_BYTES: usize = 300_000;
const MIDDLE_LEN_BYTES: usize = 1_500_000;
/// Some of these fill small drives by a good part.
pub(super) const LARGE_LEN_BYTES: usize = 4_000_000;

/// A node of the first zone is emptied, and all nodes start anew in the middle of it. Then it ends for good with all it has, and nobody misses anything; a blank one
/// comes in its place, which is used once the drain is ended.
pub(super) async fn drained_node(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let mut violations = Vec::new();
    let stored = fill(clients, VALUE_LEN_BYTES, 0..8, &mut violations).await;
    violations.extend(at_rest(clients, RESTED).await.err());
    let drained = nodes_of(world, zones(world)[0])[1];
    let subject = DrainSubject::Node(drained);
    cluster.happen(Event::BeginDrain(drained, None));
    // What is written meanwhile is not to end there either.
    let more = fill(clients, VALUE_LEN_BYTES, 8..12, &mut violations).await;
    tokio::time::sleep(BREATH * 2).await;
    for (node, _) in world.nodes() {
        cluster.kill(node, End::PowerCut);
    }
    world.nodes().iter().for_each(|(node, _)| cluster.boot(*node));
    violations.extend(emptied(clients, subject).await.err());
    violations.extend(at_rest(clients, RESTED).await.err());
    let before = layouts(clients).await;
    cluster.kill(drained, End::PowerCut);
    for drive in 0..world.drives(drained).len() {
        cluster.happen(Event::Erase(drained, drive));
    }
    // Longer than it takes to notice that a node is gone, and than it is waited for.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let others: Vec<NodeId> =
        world.nodes().into_iter().map(|(node, _)| node).filter(|node| *node != drained).collect();
    for batch in [&stored, &more] {
        let seen = look(clients, &others, batch).await;
        violations.extend(seen.violations);
        if !seen.errors.is_empty() {
            violations
                .push(format!("live: {:?} cannot be read without a node that was emptied", seen.errors));
        }
    }
    let after = layouts(clients).await;
    if before.is_none() || before != after {
        violations.push(format!("drain: slabs changed when an empty node went: {before:?}, then {after:?}"));
    }
    cluster.boot(drained);
    cluster.happen(Event::EndDrain(drained, None));
    violations.extend(at_rest(clients, RESTED).await.err());
    violations
}

/// Times that something happens to a node while drives are emptied.
const FALLS: usize = 14;
/// Times that the operator has the one or the other drive emptied before it stays with one.
const CHANGES_OF_MIND: usize = 24;
/// So slow that a move takes a while.
const SLOW: Weather = Weather { lost: 0, duplicated: 0, slow: 150_000, damaged: 0 };
const SLOW_DRIVE: DriveWeather = DriveWeather { slow: 400_000, ..DriveWeather::FAIR };

/// The drives of a node are emptied in turn, as the operator changes its mind, and one of them in the end for good, while that node and others end, stand still
/// or are cut off, one at a time. So a slab's fragments move to and fro, and whoever leads and stands still in the middle of a move goes on when it is long outdated.
pub(super) async fn drained_drive(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let mut violations = Vec::new();
    let stored = fill(clients, MIDDLE_LEN_BYTES, 0..12, &mut violations).await;
    violations.extend(at_rest(clients, RESTED).await.err());
    let nodes: Vec<NodeId> = world.nodes().into_iter().map(|(node, _)| node).collect();
    let drained = *world.draws("drained").pick(&nodes);
    let Some(subject) = cluster.subject(drained, Some(0)) else {
        return vec!["the story: nobody says which drive it is".to_owned()];
    };
    let weather = |network, drive| {
        cluster.happen(Event::Weather(network));
        (0..2).for_each(|place| cluster.happen(Event::DriveWeather(drained, place, drive)));
    };
    weather(SLOW, SLOW_DRIVE);
    futures::future::join(change_mind(clients, drained), fall(clients, &nodes)).await;
    weather(Weather::FAIR, DriveWeather::FAIR);
    cluster.happen(Event::BeginDrain(drained, Some(0)));
    // Orders to use a drive again may not have reached anybody, and those that nobody waits for any more may have been on their way and come late.
    violations.extend(cluster.compare_drains(DRAINED).await.err());
    tokio::time::sleep(PATIENCE).await;
    violations.extend(cluster.compare_drains(DRAINED).await.err());
    violations.extend(emptied(clients, subject).await.err());
    violations.extend(at_rest(clients, RESTED).await.err());
    let seen = look(clients, &nodes, &stored).await;
    violations.extend(seen.violations);
    if !seen.errors.is_empty() {
        violations.push(format!("live: {:?} cannot be read after a drive was emptied", seen.errors));
    }
    // The drain goes on: what was emptied stays so until the end of the run.
    violations
}

/// Has now this drive and now that of a node emptied.
async fn change_mind(clients: &Clients, node: NodeId) {
    let mut draws = clients.cluster.world().draws("mind");
    for change in 0..CHANGES_OF_MIND {
        let drive = Some(change % 2);
        clients.cluster.happen(Event::BeginDrain(node, drive));
        tokio::time::sleep(draws.duration(Duration::from_secs(4)..Duration::from_secs(7))).await;
        clients.cluster.happen(Event::EndDrain(node, drive));
    }
}

/// One node after the other ends, stands still or is not heard.
async fn fall(clients: &Clients, nodes: &[NodeId]) {
    let cluster = &clients.cluster;
    let mut draws = cluster.world().draws("falls");
    for _ in 0..FALLS {
        tokio::time::sleep(draws.duration(Duration::from_millis(100)..Duration::from_secs(2))).await;
        let leaders: Vec<NodeId> = cluster
            .glimpses()
            .into_iter()
            .filter(|(_, _, glimpse)| {
                glimpse.groups.iter().any(|group| group.leads && group.group != "control")
            })
            .map(|(node, ..)| node)
            .collect();
        let any = if leaders.is_empty() || draws.below(4) == 0 { nodes } else { &leaders[..] };
        let node = *draws.pick(any);
        let lasts = draws.duration(Duration::from_secs(4)..Duration::from_secs(24));
        match draws.below(6) {
            0 => {
                cluster.happen(Event::Kill(node, End::PowerCut));
                tokio::time::sleep(lasts / 4).await;
            }
            1 => {
                for other in nodes.iter().filter(|other| **other != node) {
                    cluster.happen(Event::Cut(node, *other));
                }
                tokio::time::sleep(lasts / 4).await;
                cluster.happen(Event::Mend);
            }
            _ => {
                cluster.happen(Event::Pause(node));
                tokio::time::sleep(lasts).await;
                cluster.happen(Event::Resume(node));
            }
        }
        cluster.happen(Event::Boot(node));
    }
}

/// How much emptier than its zone a drive may be in the end, in percent: what rebalancing bears, and a fragment.
const APART_PERCENT_MAX: f64 = 20.0;

/// A node of the first zone is emptied and its drives come back blank. Once its drain is ended it gets its share.
pub(super) async fn rebalanced(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let mut violations = Vec::new();
    let stored = fill(clients, LARGE_LEN_BYTES, 0..12, &mut violations).await;
    violations.extend(at_rest(clients, RESTED).await.err());
    let zone = nodes_of(world, zones(world)[0]);
    let joining = zone[1];
    cluster.happen(Event::BeginDrain(joining, None));
    violations.extend(emptied(clients, DrainSubject::Node(joining)).await.err());
    cluster.kill(joining, End::PowerCut);
    for drive in 0..world.drives(joining).len() {
        cluster.happen(Event::Erase(joining, drive));
    }
    cluster.boot(joining);
    cluster.happen(Event::EndDrain(joining, None));
    violations.extend(at_rest(clients, RESTED).await.err());
    violations.extend(filled_alike(clients, &zone).await.err());
    let seen = look(clients, &zone, &stored).await;
    violations.extend(seen.violations);
    if !seen.errors.is_empty() {
        violations.push(format!("live: {:?} cannot be read after fragments were moved", seen.errors));
    }
    violations
}

/// Whether no drive of these nodes, all of a zone, is much emptier than the others.
pub(super) async fn filled_alike(clients: &Clients, zone: &[NodeId]) -> Result<(), String> {
    let Some(facts) = facts(clients).await else { return Err("live: nobody says what is where".to_owned()) };
    let fills: Vec<(NodeId, f64)> = facts
        .drives
        .iter()
        .filter(|(node, _)| zone.contains(node))
        .map(|(node, state)| {
            let used = state.extents_total - state.extents_free;
            (*node, 100.0 * f64::from(used) / f64::from(state.extents_total))
        })
        .collect();
    clients.cluster.world().trace().line(format_args!("story drives are filled by {fills:?}"));
    let mean = fills.iter().map(|(_, fill)| fill).sum::<f64>() / fills.len() as f64;
    match fills.iter().find(|(_, fill)| mean - fill > APART_PERCENT_MAX) {
        None => Ok(()),
        Some((node, fill)) => {
            Err(format!("rebalance: {node} is filled by {fill:.1} %, its zone by {mean:.1} %: {fills:?}"))
        }
    }
}

/// Stores objects of this length under some keys, through one node after the other.
pub(super) async fn fill(
    clients: &Clients,
    len_bytes: usize,
    keys: std::ops::Range<usize>,
    violations: &mut Vec<String>,
) -> Stored {
    let nodes = clients.cluster.world().nodes();
    let mut stored = Stored::new();
    for (key, (node, _)) in clients.history.keys()[2..][keys].iter().zip(nodes.iter().cycle()) {
        let mut value = None;
        for _ in 0..ATTEMPTS {
            value = clients.write_sized(*node, key, len_bytes).await;
            if value.is_some() {
                break;
            }
            tokio::time::sleep(BREATH).await;
        }
        match value {
            Some(value) => {
                stored.insert(key.clone(), value);
            }
            None => violations.push(format!("live: {key} is not stored")),
        }
    }
    stored
}

/// Waits until no slab that is not dead names the subject.
pub(super) async fn emptied(clients: &Clients, subject: DrainSubject) -> Result<(), String> {
    let until = tokio::time::Instant::now() + DRAINED;
    loop {
        let table = clients.cluster.ask_any(PATIENCE, |door| door.table()).await.flatten();
        let left = table.as_ref().and_then(|table| {
            let names = |holder: &Holder| subject.covers(*holder);
            table.values().find(|record| record.state != SlabState::Dead && record.holders.iter().any(names))
        });
        if table.is_some() && left.is_none() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= until {
            return Err(format!("drain: {subject:?} is not empty within {DRAINED:?}: {left:?}"));
        }
        tokio::time::sleep(BREATH).await;
    }
}

pub(super) async fn facts(clients: &Clients) -> Option<Facts> {
    clients.cluster.ask_any(PATIENCE, |door| door.facts()).await?.ok()?
}

/// Where every fragment of every cold slab is.
pub(super) async fn layouts(clients: &Clients) -> Option<BTreeSet<String>> {
    let table = clients.cluster.ask_any(PATIENCE, |door| door.table()).await??;
    let cold = table.values().filter(|record| !record.profile.is_copies());
    Some(cold.map(|record| format!("{} {:?}", record.slab, record.holders)).collect())
}
