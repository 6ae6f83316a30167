//! State directories that are gone or damaged when their node starts again.

use super::storm::Storm;
use super::support::{World, put};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Acknowledgements that make a stretch of service.
const STRETCH: u64 = 60;

fn store_of(world: &World, node: u64) -> PathBuf {
    let state = world.cluster.processes.node_dir(node).join("state");
    let mut entries = std::fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("store-")).unwrap()
}

/// Flips a bit in the middle of what a journal holds.
fn rot(store: &Path) {
    let mut entries = std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    let journal = entries.find(|path| path.extension().is_some_and(|end| end == "jnl")).unwrap();
    let bytes = std::fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    assert!(used > 10_000, "the journal holds {used} bytes: too few to rot in the middle");
    let file = File::options().write(true).open(&journal).unwrap();
    file.write_all_at(&[bytes[used / 2] ^ 1], used as u64 / 2).unwrap();
    file.sync_all().unwrap();
}

/// The node, the first of its zone, loses its state by `harm` while it is down. It comes back by itself, and then the first node of each other
/// zone, which vote in the same groups, can be killed in turn: those groups need the node's new voice.
async fn comes_back(harm: impl Fn(&World, u64)) -> World {
    let mut world = World::start().await;
    let storm = Storm::begin(&world, "first", 8);
    storm.goes_on_for(200, "before the loss").await;
    // The founder, and the lowest voter of the control group.
    let node = world.cluster.nodes_of(1)[0];
    world.kill(&[node]);
    harm(&world, node);
    storm.goes_on_for(STRETCH, "while the node is down").await;
    world.revive(node).await;
    world.caught_up().await;
    for zone in [2, 3] {
        let other = world.cluster.nodes_of(zone)[0];
        world.kill(&[other]);
        storm.goes_on_for(STRETCH, &format!("with the new voter and without node {other}")).await;
        world.revive(other).await;
        world.caught_up().await;
    }
    let stored = storm.end().await;
    for node in world.nodes() {
        stored.compare(&world.client_at(node)).await;
    }
    put(&world.client_at(node), "after", "through the node itself").await.unwrap();
    world
}

#[tokio::test]
async fn a_node_whose_state_directory_is_gone_comes_back_and_its_voice_counts() {
    let world = comes_back(|world, node| {
        std::fs::remove_dir_all(world.cluster.processes.node_dir(node).join("state")).unwrap();
    })
    .await;
    for node in world.nodes() {
        assert_eq!(world.status(node).await.alarms, [""; 0], "node {node}");
    }
}

#[tokio::test]
async fn a_node_whose_journal_rotted_says_so_sets_it_aside_and_its_voice_counts() {
    let world = comes_back(|world, node| rot(&store_of(world, node))).await;
    let node = world.cluster.nodes_of(1)[0];
    let alarms = world.status(node).await.alarms;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert!(alarms[0].starts_with("state directory: damaged or incomplete"), "{alarms:?}");
    let aside = world.cluster.processes.node_dir(node).join("state/damaged-1/why.txt");
    assert!(!std::fs::read_to_string(aside).unwrap().is_empty());
}
