//! Stories within the promise: everything must come back after them.

use super::stage::{
    alarm_within, at_rest, before, drives, harm_some, look, nodes_of, serves, store, without_last_zone, zones,
};
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

/// How long it may take until all that a zone held is made again.
const MADE_AGAIN: Duration = Duration::from_secs(120);

/// The drives of one zone after the other come back blank, as an instance's do when it was stopped, and what was on them is made again each time. In
/// the end nothing is left of any drive that took part in an acknowledgement.
pub(super) async fn zones_wiped_in_turn(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let stored = match store(clients, &clients.history.keys()[2..8]).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    let all: Vec<_> = world.nodes().into_iter().map(|(node, _)| node).collect();
    let mut violations = Vec::new();
    violations.extend(at_rest(clients, MADE_AGAIN).await.err());
    for zone in zones(world) {
        let nodes = nodes_of(world, zone);
        for node in &nodes {
            cluster.kill(*node, End::PowerCut);
        }
        drives(world, &[zone]).iter().for_each(|(node, drive)| cluster.happen(Event::Erase(*node, *drive)));
        nodes.iter().for_each(|node| cluster.boot(*node));
        violations.extend(at_rest(clients, MADE_AGAIN).await.err());
        let seen = look(clients, &all, &stored).await;
        violations.extend(seen.violations);
        if !seen.errors.is_empty() {
            violations.push(format!("live: {:?} cannot be read after {zone} was wiped", seen.errors));
        }
    }
    violations
}

/// Blocks that are harmed on each drive of a zone.
const ROTTEN_PER_DRIVE: usize = 120;

/// Bits flip, blocks are torn or become others, at random places of what the drives of one zone hold, headers, marks and tables included, and in half of the runs a node of another zone comes back with blank
/// drives at the same time: with three fragments more than are needed no byte is lost. One look at everything finds all of it, and it is made again.
pub(super) async fn rot_and_a_wiped_node(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let (mut stored, mut violations) = (Vec::new(), Vec::new());
    // In slabs of their own: what is read meanwhile is found by who reads it, and the rest by nobody else than the scrub.
    for keys in [2..8, 8..14] {
        match store(clients, &clients.history.keys()[keys]).await {
            Ok(batch) => stored.push(batch),
            Err(what) => return vec![what],
        }
        violations.extend(at_rest(clients, MADE_AGAIN).await.err());
    }
    let all: Vec<_> = world.nodes().into_iter().map(|(node, _)| node).collect();
    let (zones, mut draws) = (zones(world), world.draws("rot"));
    for (node, drive) in drives(world, &zones[..1]) {
        // That it is harmed is known by this event; where, is drawn among what is not empty.
        cluster.happen(Event::Rot(node, drive, 0, 0));
        harm_some(world, (node, drive), ROTTEN_PER_DRIVE, &mut draws);
    }
    // Where nothing else is made again nobody reads what rotted but the scrub.
    if draws.below(2) == 0 {
        let wiped = nodes_of(world, zones[1])[0];
        cluster.kill(wiped, End::PowerCut);
        for drive in 0..world.drives(wiped).len() {
            cluster.happen(Event::Erase(wiped, drive));
        }
        cluster.boot(wiped);
    }
    violations.extend(look(clients, &all, &stored[0]).await.violations);
    violations.extend(at_rest(clients, MADE_AGAIN).await.err());
    let contents = cluster.ask_each(|door| door.contents()).await;
    for (place, content) in contents.into_values().flatten().flatten() {
        violations.extend(content.fault().map(|fault| format!("scrub: {place:?} is not whole: {fault}")));
    }
    for batch in &stored {
        let seen = look(clients, &all, batch).await;
        violations.extend(seen.violations);
        if !seen.errors.is_empty() {
            violations.push(format!("live: {:?} cannot be read after all was made again", seen.errors));
        }
    }
    violations
}
