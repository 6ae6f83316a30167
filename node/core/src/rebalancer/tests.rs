use super::{Kind, Rebalancer, count_on};
use crate::converter::tests::cluster;
use crate::durable::{Margin, Spread, margin};
use crate::fragment_set::FragmentSet;
use crate::limits::{REBALANCE_BEGIN_BASIS_POINTS, REBALANCE_END_BASIS_POINTS};
use crate::mover::Move;
use crate::repair::tests::cold_slab;
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use strongroom_types::{
    ClusterView, DriveId, FragmentIndex, Health, Holder, Instant, NodeId, Profile, SlabId, SlabRecord,
    SlabState,
};

const EXTENTS: u32 = 200;
/// One extent, as drives of these tests have them: each fragment takes one.
const NOTHING: FragmentSet = FragmentSet::EMPTY;

/// A cluster, and slabs in it, whose places are the only thing that takes room beside what each drive has of its own.
#[derive(Clone, Debug)]
struct World {
    view: ClusterView,
    own: BTreeMap<DriveId, u32>,
    slabs: BTreeMap<SlabId, SlabRecord>,
}

impl World {
    /// RS(3,3) over three zones, fragments at places drawn by `picks`, two on a node where they fall so.
    fn new(shape: &[u64], own: &[u32], picks: &[Vec<usize>]) -> Self {
        let mut view = cluster(shape);
        let drives: Vec<DriveId> =
            view.nodes.iter().flat_map(|node| &node.drives).map(|drive| drive.drive).collect();
        let own = drives.iter().zip(own.iter().cycle()).map(|(drive, own)| (*drive, *own)).collect();
        view.nodes
            .iter_mut()
            .flat_map(|node| &mut node.drives)
            .for_each(|drive| drive.extents_total = EXTENTS);
        let model = cold_slab(&cluster(&[2, 2, 2]));
        assert_eq!(model.profile, Profile::new(3, 3).unwrap());
        let slabs = picks.iter().enumerate().map(|(number, picks)| {
            let slab = SlabId::from_bits(number as u64);
            let mut holders = strongroom_types::Holders::new();
            for fragment in 0..6 {
                let of_zone: Vec<Holder> = view
                    .nodes
                    .iter()
                    .filter(|node| usize::from(node.zone.get()) == fragment % 3 + 1)
                    .flat_map(|node| {
                        node.drives.iter().map(|drive| Holder { node: node.node, drive: drive.drive })
                    })
                    .filter(|holder| !holders.contains(holder))
                    .collect();
                holders.push(of_zone[picks[fragment] % of_zone.len()]).unwrap();
            }
            (slab, SlabRecord { slab, holders, ..model.clone() })
        });
        let mut world = Self { own, slabs: slabs.collect(), view: ClusterView::default() };
        world.view = view;
        world.report();
        world
    }

    /// Drives say what they have.
    fn report(&mut self) {
        let mut used = self.own.clone();
        for holder in self.slabs.values().flat_map(|record| &record.holders) {
            *used.get_mut(&holder.drive).unwrap() += 1;
        }
        for drive in self.view.nodes.iter_mut().flat_map(|node| &mut node.drives) {
            drive.extents_free = EXTENTS.saturating_sub(used[&drive.drive]);
        }
    }

    fn propose(&self, rebalancer: &mut Rebalancer) -> Option<Move> {
        let mut look = rebalancer.begin(&self.view, Instant::ORIGIN);
        self.slabs.values().for_each(|record| look.consider(record, NOTHING, &self.view));
        look.end()
    }

    fn lacks(&self, drive: DriveId) -> i64 {
        let node =
            self.view.nodes.iter().find(|node| node.drives.iter().any(|of| of.drive == drive)).unwrap();
        let used = |free: u32| i64::from(EXTENTS - free);
        let of_zone: Vec<_> =
            self.view.nodes.iter().filter(|of| of.zone == node.zone).flat_map(|of| &of.drives).collect();
        let mean = of_zone.iter().map(|drive| used(drive.extents_free)).sum::<i64>() * 10_000
            / (of_zone.len() as i64 * i64::from(EXTENTS));
        let own = node.drives.iter().find(|of| of.drive == drive).unwrap();
        mean - used(own.extents_free) * 10_000 / i64::from(EXTENTS)
    }

    fn margin(&self, slab: SlabId) -> Margin {
        let spread = Spread::of(&self.slabs[&slab], &self.view).unwrap();
        margin(&spread, spread.all())
    }

    fn sharing(&self, slab: SlabId) -> usize {
        let record = &self.slabs[&slab];
        record.holders.iter().filter(|holder| count_on(record, holder.node) > 1).count()
    }

    fn doubled_that_need_not_be(&self) -> bool {
        self.slabs.values().any(|record| {
            record.holders.iter().any(|holder| {
                let zone = self.view.zone_of(holder.node);
                let free = self.view.nodes.iter().filter(|node| {
                    Some(node.zone) == zone
                        && count_on(record, node.node) == 0
                        && node
                            .drives
                            .iter()
                            .any(|drive| (EXTENTS - drive.extents_free + 1) * 10 <= EXTENTS * 9)
                });
                count_on(record, holder.node) > 1 && free.count() > 0
            })
        })
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let shape = proptest::collection::vec(1_u64..5, 3);
    let own = proptest::collection::vec(0_u32..120, 1..9);
    let picks = proptest::collection::vec(proptest::collection::vec(0_usize..64, 6), 0..40);
    (shape, own, picks).prop_map(|(shape, own, picks)| World::new(&shape, &own, &picks))
}

proptest! {
    #[test]
    fn it_comes_to_rest_and_makes_nothing_worse(world in worlds()) {
        let mut world = world;
        let mut rebalancer = Rebalancer::new();
        let fragments = world.slabs.len() * 6;
        let mut moves = 0;
        while let Some(one) = world.propose(&mut rebalancer) {
            // Each slab is put apart at most once a fragment; and no drive takes more than all that there is.
            moves += 1;
            prop_assert!(moves <= 4 * fragments, "it does not end");
            let (before, shared) = (world.margin(one.slab), world.sharing(one.slab));
            let lacked = world.lacks(one.to.drive);
            let place = usize::from(one.fragment.get());
            let record = world.slabs.get_mut(&one.slab).unwrap();
            prop_assert_eq!(record.holders[place], one.from);
            prop_assert!(!record.holders.contains(&one.to), "a drive that has one already");
            record.holders[place] = one.to;
            prop_assert_eq!(world.view.zone_of(one.from.node), world.view.zone_of(one.to.node));
            prop_assert!(world.margin(one.slab) >= before && world.sharing(one.slab) <= shared);
            let apart = world.sharing(one.slab) < shared;
            prop_assert!(apart || lacked > REBALANCE_END_BASIS_POINTS as i64, "a drive that lacks little: {}", lacked);
            let was = (world.lacks(one.from.drive), lacked);
            world.report();
            if !apart {
                prop_assert!(world.lacks(one.from.drive) <= world.lacks(one.to.drive), "it went too far: {:?}", was);
            }
        }
        prop_assert!(!world.doubled_that_need_not_be());
        prop_assert_eq!(world.propose(&mut Rebalancer::new()), None, "nor does one who remembers nothing begin");
    }
}

/// Ten slabs on two of the three nodes of the first zone.
fn uneven() -> World {
    let mut world = World::new(&[3, 2, 2], &[0], &[]);
    let model = cold_slab(&cluster(&[2, 2, 2]));
    let holder = |node: u64| Holder { node: NodeId::new(node), drive: DriveId::new(u128::from(node) * 10) };
    for number in 0..100 {
        let slab = SlabId::from_bits(number);
        let holders = [100, 200, 300, 101, 201, 301].map(holder).into_iter().collect();
        world.slabs.insert(slab, SlabRecord { slab, holders, ..model.clone() });
    }
    for node in &mut world.view.nodes {
        node.drives.truncate(1);
    }
    world.report();
    world
}

#[test]
fn a_blank_node_is_filled_until_it_lacks_little_and_not_further() {
    let mut world = uneven();
    let blank = DriveId::new(1020);
    assert!(world.lacks(blank) > REBALANCE_BEGIN_BASIS_POINTS as i64);
    let (mut rebalancer, mut moves) = (Rebalancer::new(), 0);
    while let Some(one) = world.propose(&mut rebalancer) {
        assert_eq!(one.to.drive, blank);
        world.slabs.get_mut(&one.slab).unwrap().holders[usize::from(one.fragment.get())] = one.to;
        world.report();
        moves += 1;
    }
    // 200 fragments on three drives of 200 extents: 33.3 % on the average, and no more than 5 % less.
    assert_eq!(moves, 57);
    assert!(world.lacks(blank) <= REBALANCE_END_BASIS_POINTS as i64);
    // One who remembers nothing begins only where it lacks twice that.
    for taken in 0..8 {
        let slab = *world
            .slabs
            .keys()
            .find(|slab| world.slabs[slab].holders.iter().any(|of| of.drive == blank))
            .unwrap();
        world.slabs.remove(&slab);
        world.report();
        assert_eq!(world.propose(&mut Rebalancer::new()), None, "{taken}");
    }
}

#[test]
fn what_was_moved_counts_as_gone_while_it_still_takes_room() {
    let world = uneven();
    let mut rebalancer = Rebalancer::new();
    let first = world.propose(&mut rebalancer).unwrap();
    // Its drive would be the fullest again and again, since what it gave is not given back yet.
    let grace = Duration::from_secs(60);
    for _ in 0..5 {
        rebalancer.moved(&first, &world.slabs[&first.slab], &world.view, Instant::ORIGIN, grace);
    }
    let next = world.propose(&mut rebalancer).unwrap();
    assert_ne!(next.from.drive, first.from.drive);
    let mut look = rebalancer.begin(&world.view, Instant::ORIGIN.after(grace));
    world.slabs.values().for_each(|record| look.consider(record, NOTHING, &world.view));
    assert_eq!(
        look.end().unwrap().from.drive,
        first.from.drive,
        "by then it was given back, or never will be"
    );
}

#[test]
fn two_on_a_node_come_first_and_what_is_not_whole_is_left_alone() {
    let mut world = uneven();
    let slab = SlabId::from_bits(50);
    let record = world.slabs.get_mut(&slab).unwrap();
    // Both of the first zone on one node.
    record.holders[3] = Holder { node: NodeId::new(100), drive: DriveId::new(1001) };
    let one = world.propose(&mut Rebalancer::new()).unwrap();
    assert_eq!((one.slab, one.to.node), (slab, NodeId::new(102)), "and to the emptiest");
    assert!(Kind::NodeShared < Kind::Fuller);
    let consider = |view: &ClusterView, record: &SlabRecord, lost: FragmentSet| {
        let mut look = Rebalancer::new().begin(view, Instant::ORIGIN);
        look.consider(record, lost, view);
        look.end().is_some()
    };
    let record = world.slabs[&slab].clone();
    assert!(consider(&world.view, &record, NOTHING));
    let lost: FragmentSet = [FragmentIndex::new(1)].into_iter().collect();
    assert!(!consider(&world.view, &record, lost));
    let mut missing = record.clone();
    let SlabState::Sealed(sealed) = &mut missing.state else { panic!("sealed") };
    sealed.missing = 1;
    assert!(!consider(&world.view, &missing, NOTHING));
    let mut down = world.view.clone();
    down.nodes.iter_mut().filter(|node| node.node.get() == 301).for_each(|node| node.health = Health::Down);
    assert!(!consider(&down, &record, NOTHING), "what is away may come back, or not");
    let mut leaves = world.view.clone();
    leaves
        .nodes
        .iter_mut()
        .filter(|node| [101, 102].contains(&node.node.get()))
        .for_each(|node| node.leaving = true);
    assert!(!consider(&leaves, &record, NOTHING), "nothing goes to what is to be emptied");
    let nodes: BTreeSet<NodeId> = world.view.nodes.iter().map(|node| node.node).collect();
    assert_eq!(nodes.len(), 7);
}
