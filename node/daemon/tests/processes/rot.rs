//! Drives that give back something else than was written.

use super::storm::Storm;
use super::support::{World, put};
use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{RngCore, SeedableRng};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use strongroom::demo::watch;

/// Blocks that are overwritten.
const ROTTEN: usize = 200;
const BLOCK_LEN_BYTES: usize = 4096;
/// The superblocks' reserves at both ends of a drive; extents lie between.
const RESERVE_LEN_BYTES: u64 = 1 << 20;

/// Overwrites `count` random blocks with garbage, among those of the extents' area that hold something: others would show nothing.
pub fn rot(drive: &Path, seed: u64, count: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let file = File::options().read(true).write(true).open(drive).unwrap();
    let end = file.metadata().unwrap().len() - RESERVE_LEN_BYTES;
    let mut block = [0; BLOCK_LEN_BYTES];
    let mut held = Vec::new();
    for offset in (RESERVE_LEN_BYTES..end).step_by(BLOCK_LEN_BYTES) {
        file.read_exact_at(&mut block, offset).unwrap();
        if block != [0; BLOCK_LEN_BYTES] {
            held.push(offset);
        }
    }
    assert!(held.len() >= 2 * count, "{} blocks hold something: too few to rot {count}", held.len());
    for index in sample(&mut rng, held.len(), count) {
        rng.fill_bytes(&mut block);
        file.write_all_at(&block, held[index]).unwrap();
    }
    file.sync_all().unwrap();
    println!("{count} of {} blocks that hold something are garbage now", held.len());
}

/// The node that holds the most: whether some node of a zone was chosen for a slab at all is chance.
pub async fn fullest(world: &World) -> u64 {
    let mut held = Vec::new();
    for node in world.nodes() {
        let used: u64 = world.status(node).await.drives.iter().map(|drive| drive.bytes_used).sum();
        held.push((used, node));
    }
    held.into_iter().max().expect("there are nodes").1
}

#[tokio::test]
async fn every_read_is_right_while_blocks_of_a_drive_turn_to_garbage_and_after_it_was_started_again() {
    let mut world = World::start().await;
    let storm = Storm::begin(&world, "first", 8);
    storm.goes_on_for(400, "before the rot").await;
    let stored = storm.end().await;

    let node = fullest(&world).await;
    let drive = world.cluster.processes.drive_path(node);
    let rotting = tokio::task::spawn_blocking(move || rot(&drive, 1, ROTTEN));
    while !rotting.is_finished() {
        stored.compare(&world.client_at(node)).await;
    }
    rotting.await.unwrap();
    // Through every node: each reads its own drive first where it has a copy.
    for other in world.nodes() {
        stored.compare(&world.client_at(other)).await;
    }
    // A start that finds damaged headers tells less, never something else.
    world.kill(&[node]);
    world.revive(node).await;
    world.caught_up().await;
    stored.compare(&world.client_at(node)).await;
    put(&world.client_at(node), "after", "the node still takes writes").await.unwrap();
}

#[tokio::test]
async fn every_read_is_right_while_blocks_of_an_erasure_coded_drive_turn_to_garbage() {
    let world = World::start().await;
    let storm = Storm::begin(&world, "first", 8);
    storm.goes_on_for(600, "before the rot").await;
    let stored = storm.end().await;
    watch::make_cold(&world.cluster, 1 << 20).await.unwrap();
    rot(&world.cluster.processes.drive_path(fullest(&world).await), 2, ROTTEN);
    for node in world.nodes() {
        stored.compare(&world.client_at(node)).await;
    }
}

#[tokio::test]
async fn a_node_whose_drive_lost_its_superblocks_runs_without_it_says_so_and_leaves_it_alone() {
    let mut world = World::start().await;
    let storm = Storm::begin(&world, "first", 8);
    storm.goes_on_for(100, "before the loss").await;
    let stored = storm.end().await;
    let node = fullest(&world).await;
    world.kill(&[node]);
    let path = world.cluster.processes.drive_path(node);
    let drive = File::options().write(true).open(&path).unwrap();
    let len = drive.metadata().unwrap().len();
    let half = RESERVE_LEN_BYTES / 2;
    // Three of the four copies: one alone is not believed.
    for offset in [0, half, len - half] {
        drive.write_all_at(&[0xA5; BLOCK_LEN_BYTES], offset).unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    world.revive(node).await;
    let status = world.status(node).await;
    assert!(status.drives.is_empty());
    assert_eq!(status.drives_failed.len(), 1);
    assert!(status.drives_failed[0].contains("superblock damaged: 1 of 4"), "{:?}", status.drives_failed);
    stored.compare(&world.client_at(node)).await;
    put(&world.client_at(node), "after", "through the node, onto others").await.unwrap();
    assert!(std::fs::read(&path).unwrap() == before, "the drive was changed");
}
