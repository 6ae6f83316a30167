//! Stories of nodes that join, of one that never returns, and of those that are dismissed.

use super::drains::{LARGE_LEN_BYTES, emptied, fill, filled_alike, layouts};
use super::stage::{Stored, alarm_within, at_rest, before, look, nodes_of, serves, store, zones};
use crate::sim::faults::Event;
use crate::sim::net::Weather;
use crate::sim::workload::Clients;
use crate::sim::world::End;
use std::time::Duration;
use strongroom_types::{DrainSubject, NodeId, ZoneId};

/// How long it may take until a node that joins takes objects, once nothing hinders it.
const LET_IN: Duration = Duration::from_secs(60);
/// How long it may take until slabs are placed on it: the one writer opens one every four seconds, and a third of them at least go to it, by chance.
const PLACED_ON: Duration = Duration::from_secs(180);
/// Longer than a node is waited for, and than its seats take to go to others.
const SEATS_MOVED: Duration = Duration::from_secs(45);
/// Longer than an election, and than a voter waits before it tries again.
const ELECTIONS: Duration = Duration::from_secs(12);
const AT_REST: Duration = Duration::from_secs(120);
const BREATH: Duration = Duration::from_millis(500);

/// A blank node is started, and killed again and again on its way in, and once without what it had stored; messages are lost and late, and zones are cut off
/// meanwhile. When that is over it takes objects, and fragments of new slabs.
pub(super) async fn a_node_joins(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let mut draws = world.draws("joins");
    let zones = zones(world);
    let newcomer = world.add_to(*draws.pick(&zones));
    cluster.happen(Event::Weather(Weather::FOUL));
    for round in 0..6_u64 {
        let polls = 1 + draws.below(1 << (2 * (round + 2)));
        let end = if draws.chance(500_000) { End::PowerCut } else { End::Crash };
        cluster.happen(Event::KillAtPoll(newcomer, polls, end));
        cluster.boot(newcomer);
        let cut = draws.chance(500_000).then(|| *draws.pick(&zones));
        if let Some(zone) = cut {
            cluster.happen(Event::CutZone(zone));
        }
        tokio::time::sleep(BREATH + draws.duration(Duration::ZERO..4 * BREATH)).await;
        cluster.happen(Event::Mend);
        cluster.happen(Event::Disarm(newcomer));
        if round == 3 {
            cluster.kill(newcomer, End::PowerCut);
            cluster.happen(Event::EraseState(newcomer));
        }
    }
    cluster.happen(Event::Weather(Weather::FAIR));
    cluster.boot(newcomer);
    let mut violations = Vec::new();
    violations.extend(takes_objects(clients, newcomer).await.err());
    violations.extend(is_placed_on(clients, newcomer).await.err());
    violations
}

/// It answers a PUT.
async fn takes_objects(clients: &Clients, node: NodeId) -> Result<(), String> {
    let until = tokio::time::Instant::now() + LET_IN;
    let key = &clients.history.keys()[0];
    while clients.write_through(node, key).await.is_none() {
        if tokio::time::Instant::now() > until {
            return Err(format!("live: {node} does not take objects {LET_IN:?} after it was let alone"));
        }
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// It holds fragments of slabs, while others store objects.
async fn is_placed_on(clients: &Clients, node: NodeId) -> Result<(), String> {
    let until = tokio::time::Instant::now() + PLACED_ON;
    // The first is of a mail bucket: what is in a config bucket lies in the groups.
    let key = &clients.history.keys()[0];
    loop {
        // Stored or not: the next one is.
        let _ = clients.write_one(key).await;
        let glimpses = clients.cluster.glimpses();
        let holds = glimpses.iter().any(|(of, _, glimpse)| *of == node && !glimpse.fragments.is_empty());
        if holds {
            return Ok(());
        }
        if tokio::time::Instant::now() > until {
            return Err(format!("live: nothing is placed on {node} within {PLACED_ON:?}"));
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// Both voters of a zone, or one of them, are gone for good, and in some runs a node that joined is there to take over. Once their seats have moved one more
/// node may fall, and writes go on. They come back at the end, and have no seat to depose anybody from.
pub(super) async fn a_voter_never_returns(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let mut draws = world.draws("never returns");
    let mut all_zones = zones(world);
    let lost = all_zones.remove(draws.index(all_zones.len()));
    if draws.chance(500_000) {
        let newcomer = world.add_to(lost);
        cluster.boot(newcomer);
        if let Err(what) = takes_objects(clients, newcomer).await {
            return vec![what];
        }
    }
    let founders: Vec<NodeId> = nodes_of(world, lost).into_iter().take(2).collect();
    let gone = if draws.chance(500_000) { founders } else { vec![*draws.pick(&founders)] };
    for node in &gone {
        cluster.kill(*node, End::PowerCut);
    }
    let awake = |gone: &[NodeId]| -> Vec<NodeId> {
        let nodes = world.nodes().into_iter().map(|(node, _)| node);
        nodes.filter(|node| !gone.contains(node)).collect()
    };
    tokio::time::sleep(SEATS_MOVED).await;
    let (mut violations, mut stored) = (Vec::new(), Vec::new());
    // One more node at a time, of any other zone.
    for zone in &all_zones {
        let another = *draws.pick(&nodes_of(world, *zone));
        cluster.kill(another, End::PowerCut);
        tokio::time::sleep(ELECTIONS).await;
        let gone = [&gone[..], &[another]].concat();
        match store_through(clients, awake(&gone)[0], *zone).await {
            Ok(batch) => stored.push((batch, gone)),
            Err(what) => violations.push(what),
        }
        if let Some((batch, gone)) = stored.last() {
            violations.extend(look(clients, &awake(gone), batch).await.violations);
        }
        cluster.boot(another);
        tokio::time::sleep(ELECTIONS).await;
    }
    for node in &gone {
        cluster.boot(*node);
    }
    violations.extend(at_rest(clients, AT_REST).await.err());
    for (batch, _) in &stored {
        let seen = look(clients, &awake(&[]), batch).await;
        violations.extend(seen.violations);
        if !seen.errors.is_empty() {
            violations.push(format!("live: {:?} cannot be read after all is back", seen.errors));
        }
    }
    violations
}

/// What a node's alarm says that was dismissed and was started again.
const DISMISSED: &str = "was dismissed";

/// A node that lives and holds fragments is not dismissed. Dead, it is: its seats go to others long before it would be given up, so that another node may
/// fall; and when it is started again it is told that its id is gone. Its drives held what was acknowledged, and it is all there.
pub(super) async fn a_node_is_dismissed(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let zones = zones(world);
    let (asked, gone) = (nodes_of(world, zones[0])[0], nodes_of(world, zones[1])[0]);
    let mut violations = Vec::new();
    violations.extend(is_placed_on(clients, gone).await.err());
    // Asks the first that runs.
    let dismiss = async |node| match cluster.ask_any(LET_IN, move |door| door.dismiss(node)).await {
        Some(answer) => answer,
        None => Err("no answer".to_owned()),
    };
    match dismiss(gone).await {
        Err(why) if why.contains("holds fragments") => {}
        other => violations.push(format!("I5: a node that holds fragments is dismissed: {other:?}")),
    }
    let stored = match store_through(clients, asked, zones[0]).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    cluster.kill(gone, End::PowerCut);
    tokio::time::sleep(SEEN_DOWN).await;
    // It may be one that is only started again.
    match dismiss(gone).await {
        Err(why) if why.contains("is alive") => {}
        other => violations.push(format!("I5: a node is dismissed that was silent for a moment: {other:?}")),
    }
    tokio::time::sleep(SEEN_DEAD).await;
    violations
        .extend(dismiss(gone).await.err().map(|why| format!("live: a dead node is not dismissed: {why}")));
    tokio::time::sleep(ELECTIONS).await;
    let another = nodes_of(world, zones[2])[0];
    cluster.kill(another, End::PowerCut);
    tokio::time::sleep(ELECTIONS).await;
    violations.extend(store_through(clients, asked, zones[1]).await.err());
    cluster.boot(another);
    let before = before(clients);
    cluster.boot(gone);
    if !alarm_within(clients, &before, LET_IN, |alarm| alarm.contains(DISMISSED)).await {
        violations.push("I7: a node that was dismissed is not told".to_owned());
    }
    violations.extend(takes_objects(clients, another).await.err());
    let left: Vec<NodeId> =
        world.nodes().into_iter().map(|(node, _)| node).filter(|node| *node != gone).collect();
    let seen = look(clients, &left, &stored).await;
    violations.extend(seen.violations);
    if !seen.errors.is_empty() {
        violations.push(format!("live: {:?} cannot be read, and one node is gone", seen.errors));
    }
    violations
}

/// Of a cold slab as many fragments are left on drives that are there as it takes to read it, less what is on a node that is down: others lost theirs, which is
/// beyond the promise. That node is not dismissed, neither when it is silent for a moment nor when nobody waits for it any more. It comes back, and all is whole.
pub(super) async fn what_only_a_dead_node_has(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let (mut draws, mut violations) = (world.draws("only a dead node"), Vec::new());
    let stored = match store(clients, &clients.history.keys()[2..8]).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    tokio::time::sleep(COLD).await;
    violations.extend(at_rest(clients, AT_REST).await.err());
    let mut others: Vec<NodeId> = world.nodes().into_iter().map(|(node, _)| node).collect();
    let dead = others.remove(draws.index(others.len()));
    // Of six nodes that have a sixth of each slab each, which takes a half of it.
    while others.len() > 2 {
        let blank = others.remove(draws.index(others.len()));
        cluster.kill(blank, End::PowerCut);
        for drive in 0..world.drives(blank).len() {
            cluster.happen(Event::Erase(blank, drive));
        }
        if others.len() == 2 {
            cluster.kill(dead, End::PowerCut);
        }
        cluster.boot(blank);
    }
    // Asks the first that runs.
    let dismiss = async |node| match cluster.ask_any(LET_IN, move |door| door.dismiss(node)).await {
        Some(answer) => answer,
        None => Err("no answer".to_owned()),
    };
    for silent in [SEEN_DOWN + SEEN_DEAD, GIVEN_UP] {
        tokio::time::sleep(silent).await;
        match dismiss(dead).await {
            Err(why) if why.contains("cannot be had without") => {}
            other => violations
                .push(format!("I5: {dead}, which has what nobody else has, is dismissed: {other:?}")),
        }
    }
    cluster.boot(dead);
    violations.extend(at_rest(clients, AT_REST).await.err());
    let nodes: Vec<NodeId> = world.nodes().into_iter().map(|(node, _)| node).collect();
    let seen = look(clients, &nodes, &stored).await;
    violations.extend(seen.violations);
    if !seen.errors.is_empty() {
        violations.push(format!("I5: {:?} cannot be read, and all that has it is back", seen.errors));
    }
    violations
}

/// How long it may take until an empty node is dismissed: until its seats have gone to others.
const DISMISSED_WITHIN: Duration = Duration::from_secs(60);

/// A blank node joins and gets its share. Then one of its zone that was there from the beginning is emptied while objects are stored, dismissed while it lives, and taken
/// away: nothing changes by that, and of each other zone one more node may fall.
pub(super) async fn joined_drained_dismissed(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let (mut draws, mut violations) = (world.draws("joined and dismissed"), Vec::new());
    let stored = fill(clients, LARGE_LEN_BYTES, 0..8, &mut violations).await;
    violations.extend(at_rest(clients, AT_REST).await.err());
    let zones = zones(world);
    let zone = *draws.pick(&zones);
    let founders = nodes_of(world, zone);
    let leaves = *draws.pick(&founders);
    let newcomer = world.add_to(zone);
    cluster.boot(newcomer);
    violations.extend(takes_objects(clients, newcomer).await.err());
    violations.extend(at_rest(clients, AT_REST).await.err());
    violations.extend(filled_alike(clients, &nodes_of(world, zone)).await.err());

    match cluster.dismiss(leaves).await {
        Err(why) if why.contains("holds fragments") => {}
        other => return vec![format!("I5: a node that holds fragments is dismissed: {other:?}")],
    }
    cluster.happen(Event::BeginDrain(leaves, None));
    let more = fill(clients, LARGE_LEN_BYTES, 8..10, &mut violations).await;
    violations.extend(emptied(clients, DrainSubject::Node(leaves)).await.err());
    violations.extend(at_rest(clients, AT_REST).await.err());
    let before = layouts(clients).await;
    let until = tokio::time::Instant::now() + DISMISSED_WITHIN;
    while let Err(why) = cluster.dismiss(leaves).await {
        if tokio::time::Instant::now() > until {
            return vec![format!("live: {leaves} is not dismissed within {DISMISSED_WITHIN:?}: {why}")];
        }
        tokio::time::sleep(BREATH).await;
    }
    violations.extend(at_rest(clients, AT_REST).await.err());
    let after = layouts(clients).await;
    if before.is_none() || before != after {
        violations.push(format!(
            "drain: slabs changed when an empty node was dismissed: {before:?}, then {after:?}"
        ));
    }
    match cluster.ask_any(LET_IN, |door| door.drains()).await.flatten() {
        Some(drains) if drains.is_empty() => {}
        other => violations.push(format!("drain: one of a node that was dismissed is left: {other:?}")),
    }
    let left: Vec<NodeId> = world.nodes().into_iter().map(|(node, _)| node).collect();
    for batch in [&stored, &more] {
        let seen = look(clients, &left, batch).await;
        violations.extend(seen.violations);
        if !seen.errors.is_empty() {
            violations
                .push(format!("live: {:?} cannot be read without a node that was emptied", seen.errors));
        }
    }
    for other in zones.iter().filter(|other| **other != zone) {
        let another = *draws.pick(&nodes_of(world, *other));
        cluster.kill(another, End::PowerCut);
        tokio::time::sleep(ELECTIONS).await;
        violations.extend(store_through(clients, newcomer, *other).await.err());
        cluster.boot(another);
        tokio::time::sleep(ELECTIONS).await;
    }
    violations
}

/// Until a node that is off counts as down.
const SEEN_DOWN: Duration = Duration::from_secs(5);
/// After that a silent node is taken for dead by who is asked to dismiss it.
const SEEN_DEAD: Duration = Duration::from_secs(10);
/// Longer than anybody waits for a silent node (`repair_after`).
const GIVEN_UP: Duration = Duration::from_secs(30);
/// Longer than it takes until a sealed slab is cold and its copies are given back.
const COLD: Duration = Duration::from_secs(25);

/// Stores some objects through a node that runs, under keys that no other zone's turn uses.
async fn store_through(clients: &Clients, node: NodeId, turn: ZoneId) -> Result<Stored, String> {
    let first = 2 + 3 * usize::from(turn.get() - 1);
    let mut stored = Stored::new();
    for key in &clients.history.keys()[first..first + 3] {
        let until = tokio::time::Instant::now() + LET_IN;
        let value = loop {
            match clients.write_through(node, key).await {
                Some(value) => break value,
                None if tokio::time::Instant::now() > until => {
                    return Err(format!(
                        "live: {key} is not stored through {node}, and all groups have two voters"
                    ));
                }
                None => tokio::time::sleep(BREATH).await,
            }
        };
        stored.insert(key.clone(), value);
    }
    Ok(stored)
}
