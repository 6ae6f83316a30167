//! Stories within the promise: everything must come back after them.

use super::stage::{look, nodes_of, serves, store, without_last_zone, zones};
use crate::sim::faults::Event;
use crate::sim::workload::Clients;
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
