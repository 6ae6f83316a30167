use super::{Conversion, NotNow, Progress, free_list, plan};
use crate::encoding::Encoded;
use crate::placement::{self, place_hot};
use std::collections::BTreeSet;
use strongroom_types::slab::Sealed;
use strongroom_types::{
    ClusterView, DriveId, DriveView, Epoch, FragmentIndex, Generation, Health, NodeId, NodeView, Profile,
    SessionId, SlabId, SlabRecord, SlabState, ZoneId,
};

pub(crate) fn cluster(nodes_per_zone: &[u64]) -> ClusterView {
    let nodes = (1_u8..).zip(nodes_per_zone).flat_map(|(zone, count)| {
        (0..*count).map(move |index| {
            let number = u64::from(zone) * 100 + index;
            let drives = (0..2).map(|place| DriveView {
                drive: DriveId::new(u128::from(number) * 10 + place),
                extents_total: 100,
                extents_free: 90,
                extent_len_bytes: 1 << 24,
                writable: true,
                leaving: false,
            });
            NodeView {
                node: NodeId::new(number),
                zone: ZoneId::new(zone),
                health: Health::Up,
                may_hold_data: true,
                given_up: false,
                leaving: false,
                drives: drives.collect(),
            }
        })
    });
    ClusterView { nodes: nodes.collect(), ..ClusterView::default() }
}

pub(crate) fn sealed_slab(view: &ClusterView, missing: u32) -> SlabRecord {
    let placed = place_hot(view, &[], 5).unwrap();
    let (rows, len_bytes, root_crc32c) = (9, 40960, 77);
    SlabRecord {
        slab: SlabId::from_bits(3),
        state: SlabState::Sealed(Sealed {
            rows,
            len_bytes,
            root_crc32c,
            table_crc32c: heapless::Vec::new(),
            missing,
        }),
        epoch: Epoch::new(2),
        generation: Generation::new(4),
        next_generation: Generation::new(6),
        given_out: None,
        writer_done: false,
        profile: placed.profile,
        made_under: placed.holders.iter().map(|_| Generation::new(4)).collect(),
        holders: placed.holders,
        writer: NodeId::new(100),
        session: SessionId::new(1),
    }
}

#[test]
fn with_a_copy_in_each_zone_nothing_crosses_zones() {
    for shape in [[4, 4, 4].as_slice(), &[5, 6, 5], &[2, 2, 2], &[1, 1, 1], &[7, 7]] {
        let view = cluster(shape);
        let record = sealed_slab(&view, 0);
        let plan = plan(&record, &view, 11).unwrap();
        assert_eq!(plan.tasks.len(), shape.len());
        assert_eq!((plan.source_generation, plan.generation), (Generation::new(4), Generation::new(6)));
        let mut computed = BTreeSet::new();
        for task in &plan.tasks {
            let zone = view.zone_of(task.node).unwrap();
            let encode = &task.encode;
            assert_eq!(encode.sources.all()[0].node, task.node, "the encoder reads its own copy");
            assert_eq!(
                encode.sources.all().len(),
                record.holders.len(),
                "and has the others to fall back on"
            );
            assert_eq!((encode.image_len_bytes, encode.rows, encode.root_crc32c), (40960, 9, 77));
            assert_eq!((encode.profile, encode.epoch), (plan.profile, Epoch::new(2)));
            for target in &encode.targets {
                assert_eq!(view.zone_of(target.node), Some(zone), "it sends within its zone");
                let holder = plan.holders[usize::from(target.fragment.get())];
                assert_eq!((holder.node, holder.drive, None), (target.node, target.drive, target.before));
                assert!(computed.insert(target.fragment));
            }
        }
        assert_eq!(computed.len(), usize::from(plan.profile.fragment_count()));
    }
}

#[test]
fn a_zone_without_a_whole_copy_reads_from_another_and_from_what_is_left_of_its_own_last() {
    let view = cluster(&[4, 4, 4]);
    let record = sealed_slab(&view, 0b001);
    let without = view.zone_of(record.holders[0].node).unwrap();
    let plan = plan(&record, &view, 11).unwrap();
    for task in &plan.tasks {
        let sources = task.encode.sources.all();
        assert_eq!(sources.len(), 3);
        assert_eq!(sources[2].address.fragment, FragmentIndex::new(0));
        if view.zone_of(task.node) == Some(without) {
            assert!(task.encode.targets.iter().any(|target| target.node == task.node), "it keeps one itself");
        } else {
            assert_eq!(sources[0].node, task.node);
        }
    }
}

#[test]
fn refuses_what_cannot_be_converted_now() {
    let view = cluster(&[4, 4, 4]);
    let sound = sealed_slab(&view, 0);
    let refusal = |change: &dyn Fn(&mut SlabRecord)| {
        let mut record = sound.clone();
        change(&mut record);
        plan(&record, &view, 1).unwrap_err()
    };
    for state in [SlabState::Open, SlabState::Sealing, SlabState::Dead] {
        assert_eq!(refusal(&|record| record.state = state.clone()), NotNow::NotSealed);
    }
    assert_eq!(refusal(&|record| record.profile = Profile::new(2, 1).unwrap()), NotNow::AlreadyCold);
    let empty = |record: &mut SlabRecord| {
        let SlabState::Sealed(sealed) = &mut record.state else { panic!("sealed") };
        sealed.rows = 0;
    };
    assert_eq!(refusal(&empty), NotNow::Empty);
    let mut dead = view.clone();
    dead.nodes.iter_mut().for_each(|node| node.health = Health::Down);
    assert_eq!(plan(&sound, &dead, 1), Err(NotNow::NoSource));
    let narrow = cluster(&[1, 1]);
    assert_eq!(plan(&sealed_slab(&narrow, 0), &narrow, 1), Err(NotNow::NoProfile));
    let mut down = view.clone();
    down.nodes.iter_mut().filter(|node| node.zone.get() == 2).for_each(|node| node.health = Health::Down);
    assert!(matches!(plan(&sound, &down, 1), Err(NotNow::Placement(placement::NotNow::ZoneShort { .. }))));
}

fn done(conversion: &Conversion, task: usize) -> Encoded {
    let targets = &conversion.plan().tasks[task].encode.targets;
    Encoded::Done {
        tables_crc32c: targets.iter().map(|target| 1000 + u32::from(target.fragment.get())).collect(),
    }
}

#[test]
fn the_new_layout_is_proposed_once_every_fragment_is_there() {
    let view = cluster(&[4, 4, 4]);
    let record = sealed_slab(&view, 0);
    let mut conversion = Conversion::new(plan(&record, &view, 1).unwrap());
    for task in [2, 0] {
        let answer = done(&conversion, task);
        assert_eq!(conversion.answer(task, answer), Progress::Pending);
    }
    assert_eq!(conversion.answer(0, Encoded::Failed), Progress::Pending, "a second answer changes nothing");
    assert_eq!(conversion.answer(9, Encoded::Failed), Progress::Pending);
    let answer = done(&conversion, 1);
    let Progress::Relayout(relayout) = conversion.answer(1, answer) else { panic!("all are there") };
    assert_eq!((relayout.slab, relayout.known, relayout.missing), (record.slab, record.generation, 0));
    assert_eq!(relayout.layout, record.next_generation);
    assert!(relayout.table_crc32c.iter().copied().eq(1000..1012));
    assert_eq!(relayout.holders, conversion.plan().holders);
    assert_eq!(conversion.answer(1, Encoded::Failed), Progress::Relayout(relayout));
}

#[test]
fn one_failed_encoder_fails_it_once_all_have_answered() {
    let view = cluster(&[4, 4, 4]);
    let planned = plan(&sealed_slab(&view, 0), &view, 1).unwrap();
    let short = Encoded::Done { tables_crc32c: vec![1] };
    for (bad, expected) in [
        (Encoded::Failed, Progress::Failed),
        (short, Progress::Failed),
        (Encoded::Refused, Progress::Refused),
    ] {
        let mut conversion = Conversion::new(planned.clone());
        assert_eq!(conversion.answer(0, bad), Progress::Pending);
        let answer = done(&conversion, 1);
        assert_eq!(conversion.answer(1, answer), Progress::Pending);
        let answer = done(&conversion, 2);
        assert_eq!(conversion.answer(2, answer), expected);
    }
    assert_eq!(planned, plan(&sealed_slab(&view, 0), &view, 1).unwrap(), "a retry goes to the same places");
}

#[test]
fn what_is_freed_is_the_old_layout_alone() {
    let view = cluster(&[4, 4, 4]);
    let record = sealed_slab(&view, 0);
    let freed: Vec<_> = free_list(&record).collect();
    assert_eq!(freed.len(), 3);
    for (index, (node, free)) in freed.into_iter().enumerate() {
        let holder = record.holders[index];
        assert_eq!((node, free.address.drive), (holder.node, holder.drive));
        assert_eq!(free.address.fragment, FragmentIndex::new(index as u8));
        assert_eq!(free.address.generation, Generation::new(4));
    }
}
