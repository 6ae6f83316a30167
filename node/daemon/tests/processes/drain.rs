//! Drains over the socket and by command: begun, remembered, shown with what stands in their way, ended, and refused in words.

use super::jobs::{command, store, told};
use super::socket::{ask, send};
use super::support::World;
use serde_json::{Value, json};
use strongroom::demo::watch;

/// Bytes that are cold for certain: what is stored here is more.
const COLD_BYTES_MIN: u64 = 1 << 20;

#[tokio::test]
async fn a_drain_waits_where_there_is_nowhere_to_go_says_why_and_is_remembered_until_it_is_ended() {
    let mut world = World::start().await;
    // Nothing is stored: it is empty at once.
    let empty = told(&world, 1, &["drain", "node-1", "--wait"]);
    assert_eq!((&empty["subject"], &empty["over"]), (&json!("node-1"), &json!(true)), "{empty}");
    assert_eq!(told(&world, 2, &["drain", "node-1", "--end"]), json!([]), "any node may be asked");

    store(&world).await;
    watch::make_cold(&world.cluster, COLD_BYTES_MIN).await.unwrap();
    // Six fragments on six nodes: each of a zone's two nodes has one, so neither can take another's.
    let begun = ask(&world, 3, "PUT", "/v1/drains/node-1").json();
    assert_eq!(begun["over"], json!(false), "{begun}");
    assert!(begun["fragments_left"].as_u64().unwrap() > 0 && begun["bytes_left"].as_u64().unwrap() > 0);
    let waiting = begun["waiting"].as_array().unwrap();
    let nowhere =
        |one: &&Value| one["reason"].as_str().unwrap().contains("add a node there, or end the drain");
    assert!(waiting.iter().any(|one| nowhere(&one) && one["fragments"].as_u64().unwrap() > 0), "{begun}");
    let held: u64 = waiting.iter().map(|one| one["fragments"].as_u64().unwrap()).sum();
    assert_eq!(begun["fragments_left"], json!(held), "nothing survives less for its sake");
    let again = ask(&world, 3, "PUT", "/v1/drains/node-1").json();
    assert_eq!(again["began"], begun["began"], "asking again changes nothing");

    let nodes = world.nodes();
    world.kill(&nodes);
    for node in &nodes {
        world.cluster.processes.start(*node).unwrap();
    }
    for node in nodes {
        world.revive(node).await;
    }
    world.caught_up().await;
    let remembered = told(&world, 2, &["drain"]);
    assert_eq!(remembered[0]["began"], begun["began"], "{remembered}");
    let shown = command(&world, 5, &["drain"]);
    shown.succeeded();
    assert!(shown.out.contains("node-1: ") && shown.out.contains("wait: "), "{}", shown.out);
    assert_eq!(ask(&world, 4, "DELETE", "/v1/drains/node-1").json(), json!([]));
}

#[tokio::test]
async fn a_drain_of_what_is_not_there_is_refused_and_changes_nothing() {
    let world = World::start().await;
    let refused = |method: &str, path: &str, status: u16, sort: &str| {
        send(&world, 1, method, path, "").problem(status, sort);
    };
    refused("GET", "/v1/drains/node-1", 404, "unknown-drain");
    refused("DELETE", "/v1/drains/node-1", 404, "unknown-drain");
    refused("PUT", "/v1/drains/node-99", 404, "unknown-node");
    refused("PUT", &format!("/v1/drains/{:032x}", 0xbad), 404, "unknown-drive");
    refused("PUT", "/v1/drains/zone-1", 400, "bad-input");
    refused("POST", "/v1/drains/node-1", 405, "wrong-method");
    assert_eq!(ask(&world, 1, "GET", "/v1/drains").json(), json!([]));
    let wrong = command(&world, 1, &["drain", "zone-1"]);
    assert!(wrong.code != Some(0) && wrong.err.contains("neither a node"), "{}", wrong.err);
}
