//! A node with a blank drive joins a cluster that runs, and takes over what a voter had that never returns, or that is drained and dismissed.

use super::jobs::{command, told};
use super::socket::{ask, send};
use super::storm::Storm;
use super::support::{World, get, put, shape, strongroom, until};
use serde_json::json;
use std::collections::BTreeSet;
use strongroom::dev::layout::Shape;
use strongroom::process::EXIT_REFUSED;
use strongroom_env::real::OsRng;

/// Slabs are short and soon sealed, and who is silent is waited for as shortly as a configuration may say.
fn impatient() -> Shape {
    Shape {
        slab_section: String::from(
            "len_bytes_max = 8388608\nage_ms_max = 1000\nconvert_after_ms = 600000\nfree_after_ms = 500\nrepair_after_ms = 10000",
        ),
        ..shape()
    }
}

/// The node has fragments, and so takes its share of new slabs.
async fn holds_fragments(world: &World, node: u64) -> Result<(), String> {
    let drives = world.status(node).await.drives;
    match drives.iter().map(|drive| drive.fragments).sum::<u64>() {
        0 => Err(format!("node {node} holds nothing: {drives:?}")),
        _ => Ok(()),
    }
}

/// No group has its seat on this node any more, by the word of each group's leader.
async fn has_no_seat(world: &World, asked: &[u64], gone: u64) -> Result<(), String> {
    let mut led = BTreeSet::new();
    for node in asked {
        for group in world.status(*node).await.groups.into_iter().filter(|group| group.leads) {
            if group.voters.contains(&gone) || group.voters.len() != 3 {
                return Err(format!("{} has voters {:?}", group.group, group.voters));
            }
            led.insert(group.group);
        }
    }
    // The control group, and four of data.
    if led.len() == 5 { Ok(()) } else { Err(format!("only {led:?} have leaders")) }
}

#[tokio::test]
async fn a_blank_node_joins_and_takes_over_the_seats_of_one_that_never_returns() {
    let mut world = World::start_with(&impatient()).await;
    let founders = world.nodes();
    let storm = Storm::begin(&world, "first", 8);
    storm.goes_on_for(50, "before the node joins").await;

    let seventh = world.cluster.processes.add_node(1, &OsRng).unwrap().id;
    assert_eq!(seventh, 7);
    let ready = world.cluster.processes.wait_ready(seventh).await;
    ready.unwrap_or_else(|error| panic!("node 7 does not join: {error}"));
    storm.goes_on_for(50, "after the node joined").await;
    let client = world.client_at(seventh);
    put(&client, "by-seven", "taken").await.unwrap();
    assert_eq!(get(&world.client_at(2), "by-seven").await.unwrap().as_deref(), Some(&b"taken"[..]));
    until("new slabs are placed on it", async || holds_fragments(&world, seventh).await).await;
    for node in &founders {
        let status = world.status(*node).await;
        assert!(status.peers.iter().any(|peer| peer.node == seventh && peer.up), "{:?}", status.peers);
    }

    // A voter of zone 1 is gone for good. The configurations of the others are what they were.
    world.kill(&[1]);
    // It may be one that is only started again.
    let hasty = command(&world, 2, &["dismiss", "node-1"]);
    assert!(hasty.code != Some(0) && hasty.err.contains("is alive"), "{hasty:?}");
    storm.goes_on_for(50, "while a voter is gone").await;
    let left: Vec<u64> = founders.iter().copied().filter(|node| *node != 1).chain([seventh]).collect();
    until("its seats go to others", async || has_no_seat(&world, &left, 1).await).await;
    // One more node, of another zone, may fall: of each group two voters are there.
    world.kill(&[2]);
    storm.goes_on_for(50, "while one more is gone").await;
    world.revive(2).await;

    let stored = storm.end().await;
    stored.compare(&world.client_at(seventh)).await;
    // It comes back after all: no voter, ready, and with nothing to say that is not so.
    world.revive(1).await;
    stored.compare(&world.client_at(1)).await;
    until("it has no seat", async || has_no_seat(&world, &world.nodes(), 1).await).await;
}

#[tokio::test]
async fn a_node_is_drained_and_dismissed_by_command_and_ends_and_nobody_misses_it() {
    let mut world = World::start_with(&impatient()).await;
    let storm = Storm::begin(&world, "first", 8);
    storm.goes_on_for(50, "before the node joins").await;
    let seventh = world.cluster.processes.add_node(1, &OsRng).unwrap().id;
    let ready = world.cluster.processes.wait_ready(seventh).await;
    ready.unwrap_or_else(|error| panic!("node 7 does not join: {error}"));

    let refused = |node: u64, args: &[&str], words: &str| {
        let ran = command(&world, node, args);
        assert!(ran.code != Some(0) && ran.err.contains(words), "{words:?}: {ran:?}");
    };
    refused(2, &["dismiss", "node-1"], "drain it first, or stop it for good");
    refused(2, &["dismiss", "node-1", "--lose-data"], "drain it first, or stop it for good");
    refused(1, &["dismiss", "node-1"], "cannot dismiss itself");
    send(&world, 2, "DELETE", "/v1/nodes/node-1", "").problem(409, "node-in-use");
    send(&world, 2, "DELETE", "/v1/nodes/node-99", "").problem(404, "unknown-node");
    send(&world, 2, "DELETE", "/v1/nodes/zone-1", "").problem(400, "bad-input");
    // One that holds nothing may vote still.
    let drained = told(&world, 2, &["drain", "node-1", "--wait"]);
    assert_eq!((&drained["over"], &drained["seats_left"]), (&json!(true), &json!(0)), "{drained}");
    storm.goes_on_for(50, "after the node was emptied").await;
    until("it has no seat", async || has_no_seat(&world, &world.nodes(), 1).await).await;
    let dismissed = told(&world, 2, &["dismiss", "node-1"]);
    assert_eq!(dismissed, json!({ "dismissed": "node-1" }));
    assert_eq!(told(&world, 2, &["dismiss", "node-1"]), dismissed, "asking again changes nothing");
    assert_eq!(told(&world, 2, &["drain"]), json!([]), "its drain is over with that");

    let processes = &mut world.cluster.processes;
    let ends = async || if processes.is_refused(1) { Ok(()) } else { Err(String::from("it runs")) };
    until("its process ends", ends).await;
    assert!(world.log(1).contains("node-1 was dismissed"), "{}", world.log(1));
    let again = command(&world, 2, &["drain", "node-1"]);
    assert!(again.code != Some(0) && again.err.contains("was dismissed"), "{again:?}");
    storm.goes_on_for(50, "without the node").await;
    let stored = storm.end().await;
    stored.compare(&world.client_at(seventh)).await;

    // All others find each other without it, and nothing is lost.
    let world = world.restarted().await;
    stored.compare(&world.client_at(seventh)).await;
    let cluster = ask(&world, 2, "GET", "/v1/cluster").json();
    let zone = cluster["zones"][0]["nodes"].as_array().unwrap().iter().map(|node| node["node"].clone());
    assert_eq!(zone.collect::<Vec<_>>(), [json!(4), json!(7)], "{cluster}");
}

#[tokio::test]
async fn a_node_is_refused_in_words_where_its_id_is_anothers_or_its_zone_is_another() {
    let mut world = World::start_with(&impatient()).await;
    let node = world.cluster.processes.add_node(2, &OsRng).unwrap();
    let ready = world.cluster.processes.wait_ready(node.id).await;
    ready.unwrap_or_else(|error| panic!("node 7 does not join: {error}"));
    let folder = world.cluster.processes.node_dir(node.id);
    let text = std::fs::read_to_string(folder.join("node.toml")).unwrap();

    // Another machine under its id: an empty state directory and a drive of its own.
    let other = world.scratch().join("other");
    std::fs::create_dir_all(other.join("state")).unwrap();
    let cluster = world.cluster.processes.plan().cluster.clone();
    let drive = other.join("drive-0.img");
    let format =
        ["drive", "format", "--cluster", &cluster, "--create-len", "8388608", "--extent-len", "1048576"];
    strongroom(&[&format[..], &[drive.to_str().unwrap()]].concat(), &other).succeeded();
    let elsewhere = text
        .replace(&node.peers.to_string(), &format!("127.0.0.1:{}", free_port()))
        .replace(&node.s3.to_string(), "127.0.0.1:0");
    std::fs::write(other.join("node.toml"), elsewhere).unwrap();
    let namesake = strongroom(&["node", "--config", "node.toml"], &other);
    namesake.refused_with(EXIT_REFUSED.into(), &["another machine answers as node-7", "node.id"]);
    let status = world.status(node.id).await;
    assert!(status.ready, "{:?}", status.not_ready_because);
    put(&world.client_at(node.id), "k", "taken").await.unwrap();

    // Its own machine, in another zone.
    world.kill(&[node.id]);
    let own = format!("id = 7\nzone = {}", node.zone);
    assert!(text.contains(&own), "{text}");
    std::fs::write(folder.join("moved.toml"), text.replace(&own, "id = 7\nzone = 3")).unwrap();
    let moved = strongroom(&["node", "--config", "moved.toml"], &folder);
    moved.refused_with(EXIT_REFUSED.into(), &["node-7 was admitted in zone-2", "says zone-3"]);
    world.revive(node.id).await;
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
