use super::{Backwards, check, left};
use crate::sim::checkers::layout::Facts;
use std::collections::BTreeMap;
use strongroom_core::compactor::Alive;
use strongroom_meta::group::{Pointer, Usage};
use strongroom_types::slab::Sealed;
use strongroom_types::{
    BucketId, Epoch, Generation, GroupId, Locator, NodeId, ObjectKey, Profile, SessionId, SlabId, SlabRecord,
    SlabState, VersionId,
};

const GROUP: GroupId = GroupId::new(0);

fn slab() -> SlabId {
    SlabId::new(GROUP, 1).unwrap()
}

fn locator(offset_bytes: u32) -> Locator {
    Locator { slab: slab(), offset_bytes, len_bytes: 3000, header_crc32c: 1, plain_len_bytes: 2900 }
}

/// A sealed slab of two blocks, with a version of one needle in each.
fn sound() -> Facts {
    let mut facts = Facts::default();
    let sealed =
        Sealed { rows: 2, len_bytes: 8192, root_crc32c: 7, table_crc32c: heapless::Vec::new(), missing: 0 };
    let record = SlabRecord {
        slab: slab(),
        state: SlabState::Sealed(sealed),
        epoch: Epoch::new(2),
        generation: Generation::FIRST,
        next_generation: Generation::FIRST.next(),
        profile: Profile::copies(3).unwrap(),
        made_under: heapless::Vec::new(),
        holders: heapless::Vec::new(),
        writer: NodeId::new(1),
        session: SessionId::new(1),
        given_out: None,
        writer_done: true,
    };
    facts.slabs.insert(slab(), record);
    let mut backwards = Backwards::default();
    for number in 0..2_u32 {
        let (key, version, locator) =
            (format!("k/{number}"), VersionId::new(number.into()), locator(number * 4096));
        facts.versions.push((format!("letters/{key}"), version, vec![locator]));
        let (bucket, key) = (BucketId::new(1), ObjectKey::new(key).unwrap());
        backwards.pointers.push((GROUP, Pointer { bucket, key, version, piece: 0, locator }));
    }
    let usage = Usage { reach_bytes: 7096, alive_bytes: 6000, needles: 2 };
    backwards.usages.insert((GROUP, slab()), usage);
    facts.backwards = Some(backwards);
    facts
}

/// The rules that `change` breaks.
fn broken(change: impl FnOnce(&mut Facts, &mut Backwards)) -> Vec<&'static str> {
    let mut facts = sound();
    let mut backwards = facts.backwards.take().unwrap();
    change(&mut facts, &mut backwards);
    facts.backwards = Some(backwards);
    check(&facts).into_iter().map(|violation| violation.rule).collect()
}

#[test]
fn each_break_is_seen() {
    use super::{FORGOTTEN, POINTERS, PROPORTION, SUMS};
    assert_eq!(broken(|_, _| {}), Vec::<&str>::new());
    assert_eq!(broken(|_, backwards| drop(backwards.pointers.pop())), [POINTERS, SUMS]);
    assert_eq!(broken(|facts, _| drop(facts.versions.pop())), [POINTERS]);
    assert_eq!(broken(|facts, _| facts.versions[0].1 = VersionId::new(9)), [POINTERS]);
    assert_eq!(broken(|facts, _| facts.versions[0].0 = "letters/other".to_owned()), [POINTERS]);
    assert_eq!(broken(|_, backwards| backwards.pointers[0].1.piece = 1), [POINTERS]);
    assert_eq!(broken(|_, backwards| backwards.pointers[0].1.locator.len_bytes = 3001), [POINTERS, SUMS]);
    let twice = broken(|_, backwards| {
        let again = backwards.pointers[0].clone();
        backwards.pointers.push(again);
    });
    assert_eq!(twice, [POINTERS, SUMS]);
    let less = |_: &mut Facts, backwards: &mut Backwards| {
        backwards.usages.first_entry().unwrap().get_mut().alive_bytes -= 1;
    };
    assert_eq!(broken(less), [SUMS]);
    assert_eq!(broken(|_, backwards| backwards.usages.clear()), [SUMS, PROPORTION]);
    let dead = broken(|facts, _| facts.slabs.first_entry().unwrap().get_mut().state = SlabState::Dead);
    assert_eq!(dead, [FORGOTTEN]);
}

#[test]
fn a_slab_is_left_only_while_something_is_to_be_done_with_it() {
    let facts = sound();
    let (record, alive) =
        (facts.slabs.values().next().unwrap().clone(), facts.backwards.as_ref().unwrap().alive());
    let left_in = |state: SlabState, alive: &BTreeMap<SlabId, Alive>| {
        let record = SlabRecord { state, ..record.clone() };
        left(&facts, &BTreeMap::from([(record.slab, record)]), alive).len()
    };
    assert_eq!(left_in(record.state.clone(), &alive), 0);
    assert_eq!(left_in(record.state.clone(), &BTreeMap::new()), 1, "nothing is alive in it");
    assert_eq!(left_in(SlabState::Dead, &alive), 1);
    assert_eq!(left_in(SlabState::Open, &BTreeMap::new()), 0);
}
