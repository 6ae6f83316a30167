//! SIGKILL to nodes, zones and all.

use super::storm::{Stored, Storm};
use super::support::{World, get, once, put};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::time::Instant;
use strongroom::mail::generate;

/// Writers of a storm.
const WRITERS: u64 = 10;
/// Acknowledgements that make a stretch of service.
const STRETCH: u64 = 60;
/// Requests made at once against a side that must refuse.
const ATTEMPTS: u64 = 16;

/// Of the nodes that were not killed yet, the one that leads the most groups.
async fn next_victim(world: &World, killed: &BTreeSet<u64>) -> Option<(u64, usize)> {
    let mut victim = None;
    for node in world.nodes().into_iter().filter(|node| !killed.contains(node)) {
        let leads = world.status(node).await.groups.iter().filter(|group| group.leads).count();
        if victim.is_none_or(|(_, most)| leads > most) {
            victim = Some((node, leads));
        }
    }
    victim
}

#[tokio::test]
async fn any_one_node_killed_in_a_storm_costs_no_acknowledged_mail_and_service_goes_on() {
    let mut world = World::start().await;
    let storm = Storm::begin(&world, "first", WRITERS);
    storm.goes_on_for(STRETCH, "before any kill").await;
    let mut killed = BTreeSet::new();
    while let Some((node, leads)) = next_victim(&world, &killed).await {
        killed.insert(node);
        let at = Instant::now();
        world.kill(&[node]);
        storm.goes_on_for(STRETCH, &format!("while node {node} is dead")).await;
        println!("node {node}, leader of {leads} groups, killed: longest gap {:?}", storm.longest_gap(at));
        world.revive(node).await;
        storm.goes_on_for(STRETCH / 2, &format!("after node {node} came back")).await;
        world.caught_up().await;
    }
    assert_eq!(killed.len(), world.nodes().len(), "each node was killed once");
    let stored = storm.end().await;
    stored.compare(&world.client()).await;
    stored.compare_list(&world.client()).await;
    let world = world.restarted().await;
    stored.compare(&world.client()).await;
    stored.compare_list(&world.client()).await;
}

#[tokio::test]
async fn all_nodes_killed_at_once_keep_every_acknowledged_mail() {
    let mut world = World::start().await;
    let storm = Storm::begin(&world, "first", WRITERS);
    for round in 1..=2 {
        storm.goes_on_for(2 * STRETCH, &format!("before cut {round}")).await;
        world.kill(&world.nodes());
        for node in world.nodes() {
            world.cluster.processes.start(node).unwrap();
        }
        for node in world.nodes() {
            world.revive(node).await;
        }
        storm.goes_on_for(STRETCH, &format!("after cut {round}")).await;
    }
    let stored = storm.end().await;
    stored.compare(&world.client()).await;
    stored.compare_list(&world.client()).await;
}

#[tokio::test]
async fn a_zone_that_never_returns_is_survived_and_what_is_left_of_a_second_one_acknowledges_nothing_it_loses()
 {
    let mut world = World::start().await;
    let storm = Storm::begin(&world, "first", WRITERS);
    storm.goes_on_for(STRETCH, "with three zones").await;
    let at = Instant::now();
    world.kill(&world.cluster.nodes_of(1));
    storm.goes_on_for(3 * STRETCH, "with two zones").await;
    println!("zone 1 killed: longest gap {:?}", storm.longest_gap(at));
    let mut stored = storm.end().await;
    stored.compare(&world.client()).await;

    // Now one node of a second zone: groups that had two of their voters there stop, the others may go on.
    let second_zone = world.cluster.nodes_of(2);
    world.kill(&second_zone[..1]);
    let acknowledged = attempts(&world, "one-node-less", &mut stored).await;
    println!("one zone and a node gone: {acknowledged} of {ATTEMPTS} acknowledged");

    // Then its other node: one zone alone must not acknowledge anything.
    world.kill(&second_zone[1..]);
    let acknowledged = attempts(&world, "alone", &mut stored).await;
    assert_eq!(acknowledged, 0, "one zone of three acknowledged");

    // The second zone comes back, the first never does.
    for node in &second_zone {
        world.cluster.processes.start(*node).unwrap();
    }
    for node in &second_zone {
        world.revive(*node).await;
    }
    let storm = Storm::begin(&world, "second", WRITERS);
    storm.goes_on_for(STRETCH, "with two zones again").await;
    storm.end().await.compare(&world.client()).await;
    stored.compare(&world.client()).await;
    // What was refused is there whole or not at all: nobody was told either.
    for index in 0..ATTEMPTS {
        let found = get(&world.client(), &format!("alone/{index}")).await.unwrap();
        assert!(found.is_none_or(|bytes| bytes == generate(SEED, 0).mail(index).bytes));
    }
}

/// The seed of what `attempts` stores.
const SEED: u64 = 1 << 32;

/// Requests at once, without retries; those that were acknowledged are added to `stored` and counted.
async fn attempts(world: &World, prefix: &str, stored: &mut Stored) -> u64 {
    let client = once(&world.client());
    let source = generate(SEED, 0);
    let outcomes = join_all((0..ATTEMPTS).map(|index| {
        let (client, mail) = (client.clone(), source.mail(index));
        async move { put(&client, &format!("{prefix}/{index}"), mail.bytes).await }
    }))
    .await;
    let mut acknowledged = 0;
    for (index, outcome) in (0..).zip(outcomes) {
        if outcome.is_ok() {
            acknowledged += 1;
            stored.add(format!("{prefix}/{index}"), SEED, index);
        }
    }
    acknowledged
}
