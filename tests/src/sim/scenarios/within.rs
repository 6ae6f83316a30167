//! Stories within the promise: everything must come back after them.

use super::stage::{alarm_within, before, drives, look, nodes_of, serves, store, without_last_zone, zones};
use crate::sim::faults::Event;
use crate::sim::workload::{CAME_BACK_OLD, Clients};
use crate::sim::world::End;
use std::time::Duration;

/// Longer than an election, and than a voter waits before it tries again.
const ELECTIONS: Duration = Duration::from_secs(12);

/// The third zone is cut off while the two others acknowledge. Then the second loses its state directories, the first its power, and the third is
/// back. A voter that forgot, under the id that it had, would help the third to lead, which knows nothing of what was acknowledged. The state
/// directories of one zone are lost and another zone is away for a while: nobody need answer until it is back, and nothing may be lost.
pub(super) async fn voter_forgets(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    without_last_zone(clients).await;
    let stored = match store(clients, &clients.history.keys()[2..8]).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    let zones = zones(world);
    let (first, second, third) =
        (nodes_of(world, zones[0]), nodes_of(world, zones[1]), nodes_of(world, zones[2]));
    for node in first.iter().chain(&second) {
        cluster.kill(*node, End::PowerCut);
    }
    for node in &second {
        cluster.happen(Event::EraseState(*node));
    }
    cluster.happen(Event::Mend);
    for node in &second {
        cluster.boot(*node);
    }
    tokio::time::sleep(ELECTIONS).await;
    let awake: Vec<_> = second.iter().chain(&third).copied().collect();
    let before = look(clients, &awake, &stored).await;
    for node in &first {
        cluster.boot(*node);
    }
    tokio::time::sleep(ELECTIONS).await;
    let all: Vec<_> = world.nodes().into_iter().map(|(node, _)| node).collect();
    let after = look(clients, &all, &stored).await;
    let mut violations: Vec<String> = before.violations.into_iter().chain(after.violations).collect();
    if !after.errors.is_empty() {
        violations.push(format!("live: {:?} cannot be read, and only one zone has forgotten", after.errors));
    }
    violations
}

/// Longer than it takes to open drives, to elect leaders, and to be admitted by them.
const ADMITTED: Duration = Duration::from_secs(15);
const TOLD: Duration = Duration::from_secs(30);

/// The drives of a zone are remembered, their nodes start anew, objects are acknowledged, and the drives come back as they were remembered. Their nodes
/// must say so. Everything is readable: the two other zones have it.
pub(super) async fn drives_come_back_old(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let zone = zones(world)[0];
    let (nodes, drives) = (nodes_of(world, zone), drives(world, &[zone]));
    let older = store(clients, &clients.history.keys()[2..5]).await;
    drives.iter().for_each(|(node, drive)| cluster.happen(Event::Remember(*node, *drive)));
    for node in &nodes {
        cluster.kill(*node, End::Crash);
        cluster.boot(*node);
    }
    tokio::time::sleep(ADMITTED).await;
    let newer = store(clients, &clients.history.keys()[5..9]).await;
    let (older, newer) = match (older, newer) {
        (Ok(older), Ok(newer)) => (older, newer),
        (Err(what), _) | (_, Err(what)) => return vec![what],
    };
    let before = before(clients);
    for node in &nodes {
        cluster.kill(*node, End::PowerCut);
    }
    drives.iter().for_each(|(node, drive)| cluster.happen(Event::Revert(*node, *drive)));
    nodes.iter().for_each(|node| cluster.boot(*node));
    let mut violations = Vec::new();
    let told = alarm_within(clients, &before, TOLD, |alarm| alarm.contains(CAME_BACK_OLD)).await;
    if !told {
        let alarms = cluster.all_found().alarms;
        violations.push(format!("drives of {zone} came back old, and nobody says so: {alarms:?}"));
    }
    tokio::time::sleep(ADMITTED).await;
    for node in nodes.iter().filter(|node| !cluster.tells_old_drive(**node)) {
        violations.push(format!("{node} does not say that its drive came back old"));
    }
    let all: Vec<_> = world.nodes().into_iter().map(|(node, _)| node).collect();
    for stored in [older, newer] {
        let look = look(clients, &all, &stored).await;
        violations.extend(look.violations);
        if !look.errors.is_empty() {
            violations.push(format!("live: {:?} cannot be read, and two zones have them", look.errors));
        }
    }
    violations
}

/// Between two losses: before a node is let in, while its groups take it in, and after.
const BETWEEN_LOSSES: [Duration; 7] = [
    Duration::from_millis(2),
    Duration::from_millis(30),
    Duration::from_millis(200),
    Duration::from_millis(5),
    Duration::from_millis(700),
    Duration::from_millis(80),
    Duration::from_millis(2500),
];
/// Until a node that lost its state for the last time counts again.
const TAKEN_IN: Duration = Duration::from_secs(30);

/// The nodes of the second zone lose their state directories again and again, each time at another point of their way back. Once that is over
/// they count: with the first zone away nothing that was acknowledged is missing.
pub(super) async fn voter_forgets_again_and_again(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let zones = zones(world);
    let (first, second) = (nodes_of(world, zones[0]), nodes_of(world, zones[1]));
    for pause in BETWEEN_LOSSES.into_iter().cycle().take(3 * BETWEEN_LOSSES.len()) {
        for node in &second {
            cluster.kill(*node, End::PowerCut);
            cluster.happen(Event::EraseState(*node));
            cluster.boot(*node);
        }
        tokio::time::sleep(pause).await;
    }
    tokio::time::sleep(TAKEN_IN).await;
    let stored = match store(clients, &clients.history.keys()[2..8]).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    for node in &first {
        cluster.kill(*node, End::PowerCut);
    }
    tokio::time::sleep(ELECTIONS).await;
    let awake: Vec<_> =
        world.nodes().into_iter().map(|(node, _)| node).filter(|node| !first.contains(node)).collect();
    let seen = look(clients, &awake, &stored).await;
    for node in &first {
        cluster.boot(*node);
    }
    let mut violations = seen.violations;
    if !seen.errors.is_empty() {
        violations.push(format!("live: {:?} cannot be read, and one zone is away", seen.errors));
    }
    violations
}
