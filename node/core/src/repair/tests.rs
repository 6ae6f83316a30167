use super::{NotNow, Rest, Standing, lost, margin_without, needs, on_node, plan};
use crate::converter;
use crate::converter::tests::{cluster, sealed_slab};
use crate::durable::Margin;
use crate::encoding::{Cost, Encoded};
use crate::fragment_set::FragmentSet;
use crate::placement;
use std::collections::BTreeSet;
use strongroom_format::cold;
use strongroom_format::wire::message::{Source, Sources};
use strongroom_types::{ClusterView, FragmentIndex, Health, Holder, SlabRecord, SlabState};

/// As a conversion makes it, fragment 1 made again since.
pub(crate) fn cold_slab(view: &ClusterView) -> SlabRecord {
    let hot = sealed_slab(view, 0);
    let planned = converter::plan(&hot, view, 3).unwrap();
    let mut sealed = hot.sealed().unwrap().clone();
    sealed.table_crc32c = (1000..).take(planned.holders.len()).collect();
    let mut made_under: heapless::Vec<_, 32> = planned.holders.iter().map(|_| planned.generation).collect();
    made_under[1] = planned.generation.next();
    SlabRecord {
        state: SlabState::Sealed(sealed),
        generation: planned.generation.next(),
        next_generation: planned.generation.next().next(),
        profile: planned.profile,
        holders: planned.holders,
        made_under,
        ..hot
    }
}

pub(crate) fn set(fragments: &[u8]) -> FragmentSet {
    fragments.iter().map(|fragment| FragmentIndex::new(*fragment)).collect()
}

fn down(view: &mut ClusterView, record: &SlabRecord, fragments: &[usize]) {
    for fragment in fragments {
        let node = record.holders[*fragment].node;
        view.nodes.iter_mut().filter(|view| view.node == node).for_each(|node| node.health = Health::Down);
    }
}

#[test]
fn what_is_missing_and_what_is_gone_is_lost() {
    let view = cluster(&[4, 4, 4]);
    let mut record = cold_slab(&view);
    assert!(lost(&record, |_| false).is_empty());
    let SlabState::Sealed(sealed) = &mut record.state else { panic!("sealed") };
    sealed.missing = 0b101;
    let gone = record.holders[4];
    assert_eq!(lost(&record, |holder| *holder == gone), set(&[0, 2, 4]));
    assert_eq!(margin_without(&record, &view, FragmentSet::EMPTY), Ok(Margin::ZonePlusOne));
    let most = FragmentSet::first(record.profile.parity_count());
    assert!(margin_without(&record, &view, most).unwrap() < Margin::Node);
    let more = FragmentSet::first(record.profile.parity_count() + 1);
    assert_eq!(margin_without(&record, &view, more), Ok(Margin::Lost));
}

#[test]
fn a_dead_node_is_needed_where_what_is_here_without_it_is_too_little() {
    let view = cluster(&[4, 4, 4]);
    let hot = sealed_slab(&view, 0);
    let (own, all) = (hot.holders[0].node, FragmentSet::first(hot.profile.fragment_count()));
    assert_eq!(on_node(&hot, own), set(&[0]));
    let standing = |here: &[u8], for_good: &[u8]| Standing { here: set(here), for_good: set(for_good) };
    assert!(!needs(&hot, &view, standing(&[1], &[]), own), "there is another copy");
    // It is itself never here, however long it is dead.
    for here in [&[][..], &[0]] {
        assert!(needs(&hot, &view, standing(here, &[]), own), "others are only away");
        assert!(needs(&hot, &view, standing(here, &[1, 2]), own), "the last copy");
    }
    let stranger = view.nodes.iter().map(|node| node.node).find(|node| on_node(&hot, *node).is_empty());
    assert!(!needs(&hot, &view, standing(&[], &[]), stranger.unwrap()));
    let mut missing = hot.clone();
    let SlabState::Sealed(sealed) = &mut missing.state else { panic!("sealed") };
    sealed.missing = all.mask() & !0b1;
    assert!(needs(&missing, &view, standing(&[0, 1, 2], &[]), own), "what others have does not count");
    let SlabState::Sealed(sealed) = &mut missing.state else { panic!("sealed") };
    sealed.missing = 0b1;
    assert!(!needs(&missing, &view, standing(&[1], &[]), own), "what it has itself does not count");

    let cold = cold_slab(&view);
    let (own, k) = (cold.holders[0].node, cold.profile.data_count());
    let here =
        |first: u8, count: u8| -> FragmentSet { (first..first + count).map(FragmentIndex::new).collect() };
    let standing = |here| Standing { here, for_good: FragmentSet::EMPTY };
    assert!(!needs(&cold, &view, standing(here(1, k)), own));
    assert!(needs(&cold, &view, standing(here(0, k)), own), "it is one of the k");
    let all = FragmentSet::first(cold.profile.fragment_count());
    let beyond = Standing { here: here(1, k - 2), for_good: all.without(here(0, k - 1)) };
    assert!(!needs(&cold, &view, beyond, own), "not even with it");
    let just = Standing { here: here(1, k - 1), for_good: all.without(here(0, k)) };
    assert!(needs(&cold, &view, just, own));

    let mut unknown = view.clone();
    unknown.nodes.retain(|node| node.node != cold.holders[1].node);
    assert!(needs(&cold, &unknown, standing(all), own), "of a holder nothing is known");
}

#[test]
fn a_dead_node_is_needed_where_a_slab_that_is_not_sealed_could_not_be_without_it() {
    let view = cluster(&[4, 4, 4]);
    let hot = sealed_slab(&view, 0);
    let own = hot.holders[0].node;
    for state in [SlabState::Open, SlabState::Sealing] {
        let slab = SlabRecord { state, ..hot.clone() };
        let needed = |here: &[u8]| {
            needs(&slab, &view, Standing { here: set(here), for_good: FragmentSet::EMPTY }, own)
        };
        assert!(!needed(&[1, 2]), "the others tell");
        assert!(
            needed(&[1]) && needed(&[2]) && needed(&[]),
            "a row may be on it and on one that is not here"
        );
    }
    let dead = SlabRecord { state: SlabState::Dead, ..hot.clone() };
    let nothing = Standing { here: FragmentSet::EMPTY, for_good: FragmentSet::EMPTY };
    assert!(!needs(&dead, &view, nothing, own));
}

#[test]
fn lost_fragments_are_made_in_their_zones_from_the_nearest() {
    for shape in [[4, 4, 4].as_slice(), &[5, 6, 5], &[2, 2, 2], &[7, 7, 7]] {
        let view = cluster(shape);
        let record = cold_slab(&view);
        for seed in 0..50 {
            let gone = [(seed % 3) as u8, 3 + (seed % 2) as u8];
            let planned = plan(&record, &view, set(&gone), seed).unwrap();
            assert_eq!((planned.known, planned.layout), (record.generation, record.next_generation));
            let mut holders = record.holders.clone();
            let targets = || planned.tasks.iter().flat_map(|task| &task.encode.targets);
            for target in targets() {
                let place = usize::from(target.fragment.get());
                assert_eq!(view.zone_of(target.node), view.zone_of(record.holders[place].node));
                holders[place] = Holder { node: target.node, drive: target.drive };
                let before = target.before.unwrap();
                assert_eq!(before.generation, record.made_under[place]);
                assert_eq!(before.table_crc32c, 1000 + u32::from(target.fragment.get()));
            }
            let made: BTreeSet<u8> = targets().map(|target| target.fragment.get()).collect();
            assert_eq!((made, targets().count()), (BTreeSet::from(gone), 2));
            let drives: BTreeSet<_> = holders.iter().map(|holder| holder.drive).collect();
            assert_eq!(drives.len(), holders.len(), "each on a drive of its own");
            let nodes: BTreeSet<_> = holders.iter().map(|holder| holder.node).collect();
            assert_eq!(nodes.len(), holders.len(), "and of a node of its own: there are enough");

            for task in &planned.tasks {
                let zone = view.zone_of(task.node);
                let Sources::Fragments(sources) = &task.encode.sources else { panic!("of fragments") };
                assert_eq!(sources.len(), holders.len());
                assert!(sources.iter().all(|source| source.address.is_of(&record)));
                let far = |source: &Source| view.zone_of(source.node) != zone;
                let is_lost = |source: &Source| gone.contains(&source.address.fragment.get());
                assert!(
                    sources
                        .iter()
                        .map(|source| (is_lost(source), far(source)))
                        .take(holders.len() - 2)
                        .is_sorted(),
                    "the nearest first"
                );
                assert!(sources.iter().rev().take(2).all(is_lost), "and last what may be left of the lost");
                let whole = &sources[..holders.len() - 2];
                let zones: Vec<_> = whole.iter().map(|source| view.zone_of(source.node)).collect();
                let distinct: BTreeSet<_> = zones.iter().collect();
                assert_eq!(zones.chunk_by(|one, next| one == next).count(), distinct.len(), "zone by zone");
                assert!(task.encode.targets.iter().any(|target| target.node == task.node));
                assert!(task.encode.targets.iter().all(|target| view.zone_of(target.node) == zone));
                assert_eq!(task.encode.generation, record.next_generation);
            }
        }
    }
}

#[test]
fn where_a_zone_has_no_other_node_another_drive_of_one_does() {
    let mut view = cluster(&[2, 2, 2]);
    let record = cold_slab(&view);
    down(&mut view, &record, &[0]);
    let planned = plan(&record, &view, set(&[0]), 1).unwrap();
    let target = planned.tasks[0].encode.targets[0];
    let sharing = record.holders.iter().find(|other| other.node == target.node).unwrap();
    assert_ne!(sharing.drive, target.drive);
    // Nor that: it waits, and holds up no other.
    view.nodes.iter_mut().for_each(|node| node.drives.retain(|drive| drive.drive != target.drive));
    let others = plan(&record, &view, set(&[0, 1]), 1).unwrap();
    let made: Vec<u8> = others
        .tasks
        .iter()
        .flat_map(|task| &task.encode.targets)
        .map(|target| target.fragment.get())
        .collect();
    assert_eq!(made, [1]);
    let short = plan(&record, &view, set(&[0]), 1);
    assert!(
        matches!(short, Err(NotNow::Placement(placement::NotNow::ZoneShort { full: false, .. }))),
        "{short:?}"
    );
}

#[test]
fn refuses_what_cannot_be_repaired_now() {
    let view = cluster(&[4, 4, 4]);
    let record = cold_slab(&view);
    assert_eq!(plan(&sealed_slab(&view, 1), &view, set(&[0]), 1), Err(NotNow::NotCold));
    for state in [SlabState::Open, SlabState::Sealing, SlabState::Dead] {
        assert_eq!(plan(&SlabRecord { state, ..record.clone() }, &view, set(&[0]), 1), Err(NotNow::NotCold));
    }
    assert_eq!(plan(&record, &view, FragmentSet::EMPTY, 1), Err(NotNow::Whole));
    let needed = usize::from(record.profile.data_count());
    let parity = usize::from(record.profile.parity_count());
    let mut short = view.clone();
    down(&mut short, &record, &(1..parity).collect::<Vec<_>>());
    assert!(plan(&record, &short, set(&[0]), 1).is_ok(), "k are left");
    down(&mut short, &record, &[parity]);
    assert!(plan(&record, &short, set(&[0]), 1).is_ok(), "k - 1, and what may be left of the lost one");
    down(&mut short, &record, &[0]);
    assert_eq!(plan(&record, &short, set(&[0]), 1), Err(NotNow::TooFew { have: needed - 1, needed }));
    let mut without = record.clone();
    let SlabState::Sealed(sealed) = &mut without.state else { panic!("sealed") };
    sealed.table_crc32c.truncate(2);
    let found = plan(&without, &view, set(&[2]), 1);
    assert_eq!(found, Err(NotNow::NoChecksum { fragment: FragmentIndex::new(2) }));
    assert_eq!(
        plan(&record, &view, FragmentSet::from_mask(1 << 31), 1),
        Err(NotNow::Whole),
        "there is none such"
    );
}

#[test]
fn what_a_node_held_that_was_taken_out_goes_where_the_fewest_are() {
    let view = cluster(&[4, 4, 4]);
    let mut record = cold_slab(&view);
    let zone = view.zone_of(record.holders[0].node);
    record.holders[0].node = strongroom_types::NodeId::new(9999);
    let planned = plan(&record, &view, set(&[0]), 1).unwrap();
    assert_eq!(view.zone_of(planned.tasks[0].encode.targets[0].node), zone);
}

#[test]
fn zones_do_not_wait_for_each_other() {
    let view = cluster(&[4, 4, 4]);
    let record = cold_slab(&view);
    let planned = plan(&record, &view, set(&[0, 1, 3]), 1).unwrap();
    assert_eq!(planned.tasks.len(), 2, "0 and 3 are in one zone");
    let done = |task: usize| Encoded::Done {
        tables_crc32c: planned.tasks[task]
            .encode
            .targets
            .iter()
            .map(|target| u32::from(target.fragment.get()))
            .collect(),
    };
    let both = planned.outcome(&[done(0), done(1)]);
    assert_eq!((both.made.len(), both.rest), (3, Rest::None));
    for made in &both.made {
        assert_eq!(made.table_crc32c, u32::from(made.fragment.get()));
    }
    let short = Encoded::Done { tables_crc32c: vec![1; 9] };
    for (other, rest) in [
        (Encoded::Failed, Rest::Failed),
        (short, Rest::Failed),
        (Encoded::Refused, Rest::Refused),
        (Encoded::Differs, Rest::Differs),
    ] {
        let one = planned.outcome(&[done(0), other.clone()]);
        assert_eq!((one.made.len(), one.rest), (planned.tasks[0].encode.targets.len(), rest), "{other:?}");
    }
    assert_eq!(planned.outcome(&[done(0)]).rest, Rest::Failed, "not all have answered");
}

#[test]
fn what_a_repair_takes_is_known_before() {
    let view = cluster(&[2, 2, 2]);
    let record = cold_slab(&view);
    assert_eq!((record.profile.data_count(), record.profile.fragment_count()), (3, 6));
    let slice_len = cold::slice_len(record.sealed().unwrap().len_bytes, 3);
    let cost = |lost: &[u8]| {
        let planned = plan(&record, &view, set(lost), 1).unwrap();
        assert_eq!(planned.tasks.len(), 1, "all in one zone");
        planned.tasks[0].cost(&view, slice_len.div_ceil(2))
    };
    let zone = |fragment: u8| view.zone_of(record.holders[usize::from(fragment)].node);
    let neighbour = (1..6).find(|fragment| zone(*fragment) == zone(0)).unwrap();
    // One near, two of one zone that sends their sum.
    let sum = Cost { operations: 2 * (3 + 1), far_bytes: u64::from(slice_len) };
    assert_eq!(cost(&[0]), sum);
    // Two are made of three from elsewhere: no sum is shorter than what it is of.
    let each = Cost { operations: 2 * (3 + 2), far_bytes: 3 * u64::from(slice_len) };
    assert_eq!(cost(&[0, neighbour]), each);
}

#[test]
fn what_a_dismissed_node_had_is_made_again_in_the_zone_that_it_was_in() {
    let mut view = cluster(&[4, 4, 4]);
    let record = cold_slab(&view);
    for fragment in 0..record.holders.len() {
        let (node, zone) = (record.holders[fragment].node, view.zone_of(record.holders[fragment].node));
        let gone = view.nodes.iter().position(|view| view.node == node).unwrap();
        let gone = view.nodes.remove(gone);
        let lost = set(&[u8::try_from(fragment).unwrap()]);
        assert!(margin_without(&record, &view, lost).is_err(), "nothing is known of it");
        view.dismissed.insert(node, gone.zone);
        assert!(margin_without(&record, &view, lost).unwrap() > Margin::Nothing);
        for seed in 0..20 {
            let planned = plan(&record, &view, lost, seed).unwrap();
            let targets = planned.tasks.iter().flat_map(|task| &task.encode.targets);
            assert!(targets.into_iter().all(|target| view.zone_of(target.node) == zone));
        }
        view.dismissed.clear();
        view.nodes.push(gone);
    }
}
