use super::{Move, fragment_len_bytes, leaving, plan_move, plan_out};
use crate::converter::tests::cluster;
use crate::durable::{Margin, Spread, margin};
use crate::fragment_set::FragmentSet;
use crate::placement;
use crate::repair::tests::{cold_slab, set};
use crate::repair::{NotNow, RepairPlan, margin_without};
use strongroom_format::wire::message::{Source, Sources};
use strongroom_types::{ClusterView, FragmentIndex, Health, Holder, SlabRecord, SlabState};

fn drain_node_of(view: &mut ClusterView, record: &SlabRecord, fragment: usize) {
    let node = record.holders[fragment].node;
    for node in view.nodes.iter_mut().filter(|view| view.node == node) {
        node.leaving = true;
        node.drives.iter_mut().for_each(|drive| drive.leaving = true);
    }
}

fn after(record: &SlabRecord, plan: &RepairPlan) -> SlabRecord {
    let mut record = record.clone();
    for target in plan.tasks.iter().flat_map(|task| &task.encode.targets) {
        let holder = Holder { node: target.node, drive: target.drive };
        record.holders[usize::from(target.fragment.get())] = holder;
    }
    record
}

fn margin_of(record: &SlabRecord, view: &ClusterView) -> Margin {
    let spread = Spread::of(record, view).unwrap();
    margin(&spread, spread.all())
}

#[test]
fn what_leaves_goes_to_a_node_of_its_zone_and_is_read_from_where_it_is_first() {
    // The first zone has a node that no slab needs.
    for shape in [[3, 2, 2].as_slice(), &[5, 4, 4], &[8, 7, 7]] {
        for seed in 0..30 {
            let mut view = cluster(shape);
            let record = cold_slab(&view);
            let gone = record.holders.iter().position(|holder| holder.node.get() < 200).unwrap();
            assert!(leaving(&record, &view).is_empty());
            drain_node_of(&mut view, &record, gone);
            let fragments = leaving(&record, &view);
            assert_eq!(fragments, set(&[gone as u8]));
            let planned = plan_out(&record, &view, fragments, FragmentSet::EMPTY, seed).unwrap();
            assert_eq!(planned, plan_out(&record, &view, fragments, FragmentSet::EMPTY, seed).unwrap());
            assert_eq!((planned.known, planned.layout), (record.generation, record.next_generation));
            let [task] = &planned.tasks[..] else { panic!("one zone has one task") };
            let [target] = task.encode.targets[..] else { panic!("one fragment") };
            assert_eq!(
                (target.node, view.zone_of(target.node)),
                (task.node, view.zone_of(record.holders[gone].node))
            );
            assert!(record.holders.iter().all(|holder| holder.node != target.node), "a node of its own");
            let Sources::Moved(sources) = &task.encode.sources else { panic!("it is moved") };
            assert_eq!(sources.len(), record.holders.len());
            assert_eq!(usize::from(sources[0].address.fragment.get()), gone, "first where it is");
            let far = |source: &Source| view.zone_of(source.node) != view.zone_of(task.node);
            assert!(sources[1..].iter().map(far).is_sorted(), "then the nearest");
            assert_eq!(margin_of(&after(&record, &planned), &view), margin_of(&record, &view));
        }
    }
}

#[test]
fn nothing_is_moved_where_that_would_lower_what_the_slab_survives() {
    let mut view = cluster(&[2, 2, 2]);
    let record = cold_slab(&view);
    drain_node_of(&mut view, &record, 0);
    let zone = view.zone_of(record.holders[0].node).unwrap();
    let refused = plan_out(&record, &view, set(&[0]), FragmentSet::EMPTY, 1);
    assert_eq!(refused, Err(NotNow::Placement(placement::NotNow::NodesShort { zone })));
    // Nor is it another matter where the nodes that stay have a single drive, which has a fragment.
    view.nodes.iter_mut().for_each(|node| {
        node.drives.retain(|drive| record.holders.iter().any(|holder| holder.drive == drive.drive))
    });
    let refused = plan_out(&record, &view, set(&[0]), FragmentSet::EMPTY, 1);
    assert_eq!(refused, Err(NotNow::Placement(placement::NotNow::NodesShort { zone })));
    // A drive of it alone may go: the other one of its node takes what was on it.
    let mut view = cluster(&[2, 2, 2]);
    let drive = record.holders[0].drive;
    view.nodes
        .iter_mut()
        .flat_map(|node| &mut node.drives)
        .for_each(|view| view.leaving = view.drive == drive);
    let planned = plan_out(&record, &view, set(&[0]), FragmentSet::EMPTY, 1).unwrap();
    let target = planned.tasks[0].encode.targets[0];
    assert!(target.node == record.holders[0].node && target.drive != drive);
    // Not where it is full, and that is another matter.
    for other in
        view.nodes.iter_mut().flat_map(|node| &mut node.drives).filter(|view| view.drive == target.drive)
    {
        other.extents_free = 0;
    }
    let refused = plan_out(&record, &view, set(&[0]), FragmentSet::EMPTY, 1).unwrap_err();
    assert!(
        matches!(refused, NotNow::Placement(placement::NotNow::ZoneShort { full: true, .. })),
        "{refused}"
    );
}

#[test]
fn what_is_lost_is_not_moved_and_what_cannot_be_read_is_made_from_others() {
    let mut view = cluster(&[3, 2, 2]);
    let record = cold_slab(&view);
    let gone = record.holders.iter().position(|holder| holder.node.get() < 200).unwrap();
    drain_node_of(&mut view, &record, gone);
    let fragments = set(&[gone as u8]);
    assert_eq!(plan_out(&record, &view, fragments, fragments, 1), Err(NotNow::Whole));
    assert_eq!(plan_out(&record, &view, FragmentSet::EMPTY, FragmentSet::EMPTY, 1), Err(NotNow::Whole));
    let node = record.holders[gone].node;
    view.nodes.iter_mut().filter(|view| view.node == node).for_each(|node| node.health = Health::Down);
    let planned = plan_out(&record, &view, fragments, FragmentSet::EMPTY, 1).unwrap();
    let sources = planned.tasks[0].encode.sources.all();
    assert!(sources.len() == record.holders.len() - 1 && sources.iter().all(|source| source.node != node));
    for place in (0..record.holders.len()).filter(|place| *place != gone).take(3) {
        let node = record.holders[place].node;
        view.nodes.iter_mut().filter(|view| view.node == node).for_each(|node| node.health = Health::Down);
    }
    let refused = plan_out(&record, &view, fragments, FragmentSet::EMPTY, 1);
    assert_eq!(refused, Err(NotNow::TooFew { have: 2, needed: 3 }));
    let hot = SlabRecord { profile: strongroom_types::Profile::copies(3).unwrap(), ..record.clone() };
    assert_eq!(plan_out(&hot, &view, fragments, FragmentSet::EMPTY, 1), Err(NotNow::NotCold));
    assert_eq!(fragment_len_bytes(&hot), None);
}

#[test]
fn a_move_that_is_not_what_it_was_proposed_as_is_refused() {
    let view = cluster(&[3, 2, 2]);
    let record = cold_slab(&view);
    let place = record.holders.iter().position(|holder| holder.node.get() < 200).unwrap();
    let from = record.holders[place];
    let free = view
        .nodes
        .iter()
        .find(|node| node.zone.get() == 1 && record.holders.iter().all(|holder| holder.node != node.node));
    let free = free.unwrap();
    let to = Holder { node: free.node, drive: free.drives[0].drive };
    let one = Move { slab: record.slab, fragment: FragmentIndex::new(place as u8), from, to };
    let none = FragmentSet::EMPTY;
    let planned = plan_move(&record, &view, one, none).unwrap();
    assert_eq!(after(&record, &planned).holders[place], to);
    assert_eq!(
        plan_move(&record, &view, Move { from: to, ..one }, none),
        Err(NotNow::Whole),
        "it is elsewhere"
    );
    assert_eq!(plan_move(&record, &view, one, set(&[place as u8])), Err(NotNow::Whole), "it is lost");
    let refused = |view: &ClusterView, to: Holder| {
        matches!(plan_move(&record, view, Move { to, ..one }, none), Err(NotNow::Placement(_)))
    };
    let other_zone = record.holders.iter().find(|holder| holder.node.get() >= 200).unwrap();
    assert!(refused(&view, *other_zone), "another zone, and a drive that has one");
    let shared =
        record.holders.iter().find(|holder| holder.node.get() < 200 && holder.node != from.node).unwrap();
    let drives = &view.node(shared.node).unwrap().drives;
    let second = drives.iter().find(|drive| drive.drive != shared.drive).unwrap();
    assert!(refused(&view, Holder { node: shared.node, drive: second.drive }), "a node that has one");
    let mut down = view.clone();
    down.nodes.iter_mut().filter(|node| node.node == to.node).for_each(|node| node.health = Health::Down);
    assert!(refused(&down, to));
    let mut leaves = view.clone();
    leaves.nodes.iter_mut().filter(|node| node.node == to.node).for_each(|node| node.leaving = true);
    assert!(refused(&leaves, to));
    let dead = SlabRecord { state: SlabState::Dead, ..record.clone() };
    assert_eq!(plan_move(&dead, &view, one, none), Err(NotNow::NotCold));
    assert_eq!(margin_without(&record, &view, none), Ok(Margin::ZonePlusOne));
}
