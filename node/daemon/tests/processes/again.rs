//! Starting a second time: after a stop, and beside one that still runs.

use super::storm::Storm;
use super::support::{World, get, put, strongroom};
use std::path::Path;

#[tokio::test]
async fn a_cluster_finds_its_data_again_after_an_orderly_stop() {
    let world = World::start().await;
    let storm = Storm::begin(&world, "first", 8);
    storm.goes_on_for(100, "before the stop").await;
    let stored = storm.end().await;
    let endpoint = world.cluster.endpoint();
    let world = world.restarted().await;
    assert_eq!(world.cluster.endpoint(), endpoint, "clients need not be told");
    stored.compare(&world.client()).await;
    stored.compare_list(&world.client()).await;
    put(&world.client(), "after", "more").await.unwrap();
    assert_eq!(get(&world.client(), "after").await.unwrap().as_deref(), Some(&b"more"[..]));
    for node in world.nodes() {
        assert_eq!(world.status(node).await.alarms, [""; 0], "node {node}");
    }
}

#[tokio::test]
async fn a_second_daemon_on_a_drive_or_state_folder_in_use_is_refused_and_the_first_goes_on() {
    let world = World::start().await;
    let client = world.client_at(1);
    put(&client, "before", "kept").await.unwrap();
    let folder = world.cluster.processes.node_dir(1);
    let dir = world.scratch();

    let same = strongroom(&["node", "--config", "node.toml"], &folder);
    same.refused_with(1, &["drive-0.img", "locked: another Strongroom process has this drive"]);

    // Another node of its own in all but the drive.
    let text = elsewhere(&world, &folder);
    let own_state = text.replace("state_dir = \"state\"", "state_dir = \"state-2\"");
    std::fs::write(folder.join("same-drive.toml"), own_state).unwrap();
    let same_drive = strongroom(&["node", "--config", "same-drive.toml"], &folder);
    same_drive.refused_with(1, &["drive-0.img", "locked: another Strongroom process has this drive"]);

    // And in all but the state folder.
    let drive = dir.join("drive-of-its-own.img");
    let cluster = world.cluster.processes.plan().cluster.clone();
    let format =
        ["drive", "format", "--cluster", &cluster, "--create-len", "8388608", "--extent-len", "1048576"];
    strongroom(&[&format[..], &[drive.to_str().unwrap()]].concat(), dir).succeeded();
    let own_drive = text.replace("drive-0.img", drive.to_str().unwrap());
    std::fs::write(folder.join("same-state.toml"), own_drive).unwrap();
    let same_state = strongroom(&["node", "--config", "same-state.toml"], &folder);
    same_state.refused_with(1, &["state", "locked: another Strongroom process holds this state directory"]);

    let status = world.status(1).await;
    assert!(status.ready, "{:?}", status.not_ready_because);
    assert_eq!(get(&client, "before").await.unwrap().as_deref(), Some(&b"kept"[..]));
    put(&client, "after", "taken").await.unwrap();
    assert_eq!(get(&client, "after").await.unwrap().as_deref(), Some(&b"taken"[..]));
}

/// The configuration of node 1 with other addresses and another control socket, so that nothing but its drive or state can clash.
fn elsewhere(world: &World, folder: &Path) -> String {
    let plan = world.cluster.processes.plan();
    let own = plan.nodes.iter().find(|node| node.id == 1).unwrap();
    std::fs::read_to_string(folder.join("node.toml"))
        .unwrap()
        .replace(&own.s3.to_string(), "127.0.0.1:0")
        .replace(&own.peers.to_string(), "127.0.0.1:0")
        .replace("control.sock", "control-2.sock")
}
