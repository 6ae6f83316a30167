//! Ten thousand blocks that are something else than what was written, within what every slab survives: one tour finds each of them, a repair makes all of it
//! whole, and every read is right all the time; also while a node's drives are wiped.

use super::support::{BUCKET, World, shape};
use std::sync::atomic::{AtomicBool, Ordering};
use strongroom::demo::clients::{Clients, Progress};
use strongroom::demo::objects::{Mails, Stored};
use strongroom::demo::{harm, watch};
use strongroom::dev::layout::Shape;
use strongroom::jobs::{Kind, Report};

/// Blocks that are made something else, over the drives of one zone: half of what they hold.
const PLACES: usize = 10_000;
/// Messages, and their bytes at least: of each byte a zone holds two thirds.
const MESSAGES: u64 = 2_200;
const STORED_BYTES_MIN: u64 = 120 << 20;

struct Silent;

impl Progress for Silent {
    fn item(&self, _len_bytes: u64) {}
    fn end(&self) {}
}

struct Filled {
    world: World,
    clients: Clients,
    stored: Vec<Stored>,
}

impl Filled {
    async fn start(seed: u64) -> Self {
        let world = World::start_with(&Shape { drive_len_bytes: 320 << 20, ..shape() }).await;
        let plan = world.cluster.processes.plan();
        let clients = Clients::new(&world.cluster.endpoint(), &plan.access_key, &plan.secret_key, 8).unwrap();
        let mails = Mails::generated(seed, MESSAGES, "mail");
        let stored = clients.store(BUCKET, mails, &Silent).await.unwrap();
        assert!(stored.iter().map(|stored| stored.len_bytes).sum::<u64>() >= STORED_BYTES_MIN);
        watch::make_cold(&world.cluster, STORED_BYTES_MIN).await.unwrap();
        Self { world, clients, stored }
    }

    /// Every byte of everything, through all nodes in turn.
    async fn compare(&self) {
        let differences = self.clients.compare(BUCKET, &self.stored, &Silent).await;
        assert!(differences.is_empty(), "{differences:?}");
    }

    /// Harms the drives of zone 1; gives how many blocks.
    fn corrupt(&self, seed: u64) -> u64 {
        let nodes = self.world.cluster.nodes_of(1);
        let count = PLACES / nodes.len();
        let corrupt = |(seed, node): (u64, &u64)| {
            let harmed = harm::corrupt(&self.world.cluster.processes.drive_path(*node), seed, count).unwrap();
            assert!(harmed.flipped > 0 && harmed.torn > 0 && harmed.misdirected > 0, "{harmed:?}");
            harmed.blocks()
        };
        (seed..).zip(&nodes).map(corrupt).sum()
    }

    /// A tour of every drive; gives how many blocks of how many fragments it found to be something else.
    async fn scrub(&self) -> (u64, u64) {
        let (mut blocks, mut fragments) = (0, 0);
        for node in self.world.nodes() {
            match watch::run(&self.world.cluster, node, Kind::Scrub).await.unwrap() {
                Some(Report::Scrub(report)) => {
                    assert_eq!(report.fragments_passed_over, 0, "{report:?}");
                    blocks += report.blocks_corrupt;
                    fragments += report.fragments_bad;
                }
                other => panic!("{other:?}"),
            }
        }
        (blocks, fragments)
    }

    /// Has every node's standing repair paused or resumed.
    async fn order_repair(&self, verb: &str) {
        watch::order_standing(&self.world.cluster, Kind::Repair, verb).await.unwrap();
    }

    /// Ends only when nothing is below its full margin.
    async fn repair(&self) {
        match watch::run(&self.world.cluster, self.world.nodes()[0], Kind::Repair).await.unwrap() {
            Some(Report::Repair(report)) => {
                assert!(report.slabs > 0 && report.slabs_below_last == 0, "{report:?}");
                println!("{report:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn one_tour_finds_each_of_ten_thousand_blocks_and_a_repair_makes_all_whole() {
    let filled = Filled::start(1).await;
    // Nobody reads meanwhile, nor does a repair: what a reader comes upon is noted and made again, and not there to be found any more.
    filled.order_repair("pause").await;
    let made = filled.corrupt(1);
    assert_eq!(made, PLACES as u64);
    let (blocks, fragments) = filled.scrub().await;
    assert_eq!(blocks, made, "in {fragments} fragments");
    filled.order_repair("resume").await;
    filled.compare().await;
    filled.repair().await;
    filled.compare().await;
    assert_eq!(filled.scrub().await, (0, 0), "all of it is whole");
}

#[tokio::test]
async fn every_read_is_right_while_blocks_rot_and_a_node_is_wiped_and_all_is_whole_in_the_end() {
    let mut filled = Filled::start(2).await;
    let wiped = filled.world.cluster.nodes_of(2)[0];
    filled.corrupt(2);
    harm::wipe(&mut filled.world.cluster, wiped).await.unwrap();
    let healed = AtomicBool::new(false);
    let heal = async {
        filled.scrub().await;
        filled.repair().await;
        healed.store(true, Ordering::Relaxed);
    };
    let read = async {
        while !healed.load(Ordering::Relaxed) {
            filled.compare().await;
        }
    };
    tokio::join!(heal, read);
    filled.compare().await;
    assert_eq!(filled.scrub().await, (0, 0), "all of it is whole");
}
