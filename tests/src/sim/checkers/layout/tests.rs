use super::{Facts, check, may_stay_hot};
use strongroom_format::wire::message::DriveState;
use strongroom_format::wire::{FragmentAddress, FragmentReport};
use strongroom_types::slab::Sealed;
use strongroom_types::{
    DrainSubject, DriveId, Epoch, FragmentIndex, Generation, GroupId, Holder, Holders, Locator, NodeId,
    Profile, SessionId, SlabId, SlabRecord, SlabState, VersionId, ZoneId,
};

/// Three nodes in three zones that hold one sealed slab of two blocks with two versions in it.
fn sound() -> Facts {
    let slab = SlabId::new(GroupId::new(0), 1).unwrap();
    let profile = Profile::copies(3).unwrap();
    let mut facts = Facts::default();
    let mut holders = Holders::new();
    for number in 1..=3_u8 {
        let (node, drive) = (NodeId::new(number.into()), DriveId::new(number.into()));
        facts.zones.insert(node, ZoneId::new(number));
        holders.push(Holder { node, drive }).unwrap();
        let fragment = FragmentIndex::new(number - 1);
        let address = FragmentAddress { drive, slab, fragment, generation: Generation::FIRST };
        let report = FragmentReport {
            address,
            profile,
            epoch: Epoch::new(2),
            len_bytes: 8192,
            extents: 1,
            sealed: true,
        };
        facts.fragments.push((node, drive, vec![report]));
        facts.drives.push(self::drive(number, 64, 63));
    }
    let sealed =
        Sealed { rows: 2, len_bytes: 8192, root_crc32c: 7, table_crc32c: heapless::Vec::new(), missing: 0 };
    let record = SlabRecord {
        slab,
        state: SlabState::Sealed(sealed),
        epoch: Epoch::new(2),
        generation: Generation::FIRST,
        next_generation: Generation::FIRST.next(),
        profile,
        made_under: holders.iter().map(|_| Generation::FIRST).collect(),
        holders,
        writer: NodeId::new(1),
        session: SessionId::new(1),
        given_out: None,
        writer_done: false,
    };
    facts.slabs.insert(slab, record);
    for number in 0..2_u32 {
        let locator = Locator {
            slab,
            offset_bytes: number * 4096,
            len_bytes: 3000,
            header_crc32c: 1,
            plain_len_bytes: 2900,
        };
        facts.versions.push((format!("key-{number}"), VersionId::new(number.into()), vec![locator]));
    }
    facts
}

fn record(facts: &mut Facts) -> &mut SlabRecord {
    facts.slabs.first_entry().unwrap().into_mut()
}

fn sealed(facts: &mut Facts) -> &mut Sealed {
    match &mut record(facts).state {
        SlabState::Sealed(sealed) => sealed,
        _ => unreachable!(),
    }
}

/// The rules that `change` breaks.
fn broken(change: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
    let mut facts = sound();
    change(&mut facts);
    check(&facts).into_iter().map(|violation| &violation.rule[..violation.rule.find(':').unwrap()]).collect()
}

#[test]
fn a_sound_cluster_breaks_no_rule() {
    assert_eq!(broken(|_| {}), Vec::<&str>::new());
    // A holder that is known to be short breaks none either, as long as the others are in two zones.
    let short = broken(|facts| {
        sealed(facts).missing = 0b100;
        facts.fragments[2].2.clear();
    });
    assert_eq!(short, Vec::<&str>::new());
}

#[test]
fn each_break_is_seen() {
    assert_eq!(broken(|facts| facts.versions[1].2 = facts.versions[0].2.clone()), ["I2"]);
    assert_eq!(broken(|facts| facts.versions[0].2[0].len_bytes = 4097), ["I2"]);
    assert_eq!(broken(|facts| facts.versions[1].2[0].len_bytes = 4097), ["I1"]);
    assert_eq!(broken(|facts| facts.fragments[1].2[0].len_bytes = 4096), ["I3"]);
    assert_eq!(broken(|facts| facts.fragments[1].2[0].sealed = false), ["I3"]);
    assert_eq!(broken(|facts| facts.fragments[1].2[0].epoch = Epoch::FIRST), ["I3"]);
    assert_eq!(broken(|facts| facts.fragments[1].2.clear()), ["I3"]);
    let two_missing = |facts: &mut Facts| {
        sealed(facts).missing = 0b110;
        facts.fragments[1].2.clear();
        facts.fragments[2].2.clear();
    };
    assert_eq!(broken(two_missing), ["I1"]);
    // One that was silent and has all rows must have been asked again, unless what it has may be damaged.
    assert_eq!(broken(|facts| sealed(facts).missing = 0b100), ["seal"]);
    let harmed = broken(|facts| {
        sealed(facts).missing = 0b100;
        facts.harm.drives.insert(DriveId::new(3));
    });
    assert_eq!(harmed, Vec::<&str>::new());
    assert_eq!(
        broken(|facts| record(facts).state = SlabState::Dead),
        ["I5", "I5", "space", "space", "space"]
    );
    let same_drive = broken(|facts| {
        let first = record(facts).holders[0];
        record(facts).holders[1] = first;
    });
    assert!(same_drive.contains(&"I10"), "{same_drive:?}");
    let one_zone =
        broken(|facts| facts.zones.extend((2..=3).map(|node| (NodeId::new(node), ZoneId::new(1)))));
    assert!(one_zone.contains(&"I10, I11"), "{one_zone:?}");
    let unknown = broken(|facts| {
        let mut report = facts.fragments[0].2[0];
        report.address.generation = Generation::new(9);
        facts.fragments[0].2.push(report);
    });
    assert_eq!(unknown, ["space"]);
    let unsteady = |facts: &mut Facts| facts.unsteady.extend(facts.slabs.keys().copied());
    assert_eq!(broken(unsteady), ["I13"]);
}

#[test]
fn harm_excuses_a_drive_for_what_it_had_and_nothing_else() {
    let lost = |excused: &[u128], before: bool| {
        broken(|facts| {
            facts.fragments[1].2.clear();
            facts.harm.drives = excused.iter().copied().map(DriveId::new).collect();
            let slab = *facts.slabs.first_key_value().unwrap().0;
            facts.harm.before = Some(before.then_some((slab, Generation::FIRST)).into_iter().collect());
        })
    };
    assert_eq!(lost(&[2], true), Vec::<&str>::new());
    assert_eq!(lost(&[2], false), ["I3"], "it was made when all was fair");
    assert_eq!(lost(&[1, 3], true), ["I3"], "another drive");
}

const EXTENT: u32 = 256 << 10;

fn drive(number: u8, extents_total: u32, extents_free: u32) -> (NodeId, DriveState) {
    let drive = DriveId::new(number.into());
    let state = DriveState {
        drive,
        extents_total,
        extents_free,
        extent_len_bytes: EXTENT,
        writable: true,
        gone: false,
    };
    (NodeId::new(number.into()), state)
}

#[test]
fn a_drive_that_nobody_harmed_is_in_use() {
    let used = |writable, harmed: &[u128]| {
        broken(|facts| {
            facts.drives[0].1.writable = writable;
            facts.harm.drives = harmed.iter().copied().map(DriveId::new).collect();
        })
    };
    assert_eq!(used(true, &[]), Vec::<&str>::new());
    assert_eq!(used(false, &[2]), ["drives"]);
    assert_eq!(used(false, &[1]), Vec::<&str>::new());
    let failed = |places: &[(u64, usize)]| {
        broken(|facts| {
            facts.drives_failed.insert(NodeId::new(1), 1);
            facts.harm.places = places.iter().map(|(node, index)| (NodeId::new(*node), *index)).collect();
        })
    };
    assert_eq!(failed(&[(1, 0)]), Vec::<&str>::new());
    assert_eq!(failed(&[(2, 0)]), ["drives"]);
}

/// Six nodes in three zones with a drive each, those of the third zone small and with so many extents free.
fn furnished(free: [u32; 2]) -> Facts {
    let mut facts = sound();
    facts.drives.clear();
    for number in 1..=6_u8 {
        facts.zones.insert(NodeId::new(number.into()), ZoneId::new((number - 1) % 3 + 1));
        facts.drives.push(match number {
            3 => drive(3, 64, free[0]),
            6 => drive(6, 64, free[1]),
            _ => drive(number, 384, 384),
        });
    }
    facts
}

#[test]
fn a_slab_stays_hot_only_where_its_cold_layout_has_no_room() {
    let may_stay = |free, change: fn(&mut Facts)| {
        let mut facts = furnished(free);
        change(&mut facts);
        may_stay_hot(&facts, facts.slabs.first_key_value().unwrap().1)
    };
    assert!(!may_stay([64, 64], |_| {}), "all is empty");
    assert!(may_stay([64, 0], |_| {}), "one is full");
    assert!(may_stay([64, 3], |_| {}), "more than 95 % full");
    assert!(!may_stay([64, 4], |_| {}));
    // A slab of 8 MiB has slices of 11 extents.
    assert!(may_stay([64, 10], |facts| sealed(facts).len_bytes = 8 << 20));
    assert!(!may_stay([64, 11], |facts| sealed(facts).len_bytes = 8 << 20));
    // All drives are of one size: nobody furnished it so that it gets full.
    let alike = |facts: &mut Facts| {
        facts.drives.iter_mut().for_each(|(_, state)| (state.extents_total, state.extents_free) = (64, 0));
    };
    assert!(!may_stay([0, 0], alike));
    // One node's only drive could not be opened, or is refused: that it was harmed is asked elsewhere.
    let full_size = |facts: &mut Facts| {
        facts.drives.iter_mut().for_each(|(_, state)| (state.extents_total, state.extents_free) = (64, 64));
    };
    assert!(!may_stay([0, 0], full_size));
    let out = |facts: &mut Facts| {
        facts.drives.iter_mut().for_each(|(_, state)| (state.extents_total, state.extents_free) = (64, 64));
        facts.drives.remove(4);
    };
    assert!(may_stay([0, 0], out));
    // What is to be emptied takes none either.
    let drained = |facts: &mut Facts| {
        facts.drives.iter_mut().for_each(|(_, state)| (state.extents_total, state.extents_free) = (64, 64));
        facts.drains.insert(DrainSubject::Drive(DriveId::new(5)));
    };
    assert!(may_stay([0, 0], drained));
    // But a zone with a node more has another.
    let spare = |facts: &mut Facts| {
        facts.drives.iter_mut().for_each(|(_, state)| (state.extents_total, state.extents_free) = (64, 64));
        facts.drains.insert(DrainSubject::Node(NodeId::new(5)));
        facts.zones.insert(NodeId::new(8), ZoneId::new(2));
        facts.drives.push(drive(8, 64, 64));
    };
    assert!(!may_stay([0, 0], spare));
    let refused = |facts: &mut Facts| {
        facts.drives.iter_mut().for_each(|(_, state)| (state.extents_total, state.extents_free) = (64, 64));
        facts.drives[4].1.writable = false;
    };
    assert!(may_stay([0, 0], refused));
    for state in [SlabState::Open, SlabState::Sealing, SlabState::Dead] {
        let mut facts = furnished([0, 0]);
        record(&mut facts).state = state;
        assert!(!may_stay_hot(&facts, facts.slabs.first_key_value().unwrap().1));
    }
}

#[test]
fn what_will_be_given_back_is_told_from_what_is_kept() {
    let superseded = |change: &dyn Fn(&mut SlabRecord)| {
        let mut facts = sound();
        change(record(&mut facts));
        super::superseded(&facts)
    };
    let all = sound().fragments.iter().map(|(_, _, reports)| reports.len()).sum::<usize>();
    assert!(all > 0);
    assert_eq!(superseded(&|_| {}), 0);
    assert_eq!(superseded(&|record| record.state = SlabState::Dead), all);
    let next = |record: &mut SlabRecord| {
        record.generation = record.generation.next();
        record.next_generation = record.generation.next();
        record.made_under.iter_mut().for_each(|made_under| *made_under = record.generation);
    };
    assert_eq!(superseded(&next), all);
    assert_eq!(superseded(&|record| record.next_generation = record.generation.next().next()), 0);
}

#[test]
fn what_an_attempt_has_left_is_kept_only_while_there_is_no_room_for_the_rest() {
    let left = |free| {
        let mut facts = furnished(free);
        let mut left = facts.fragments[2].2[0];
        left.address.generation = Generation::FIRST.next();
        facts.fragments[2].2.push(left);
        check(&facts).len()
    };
    assert_eq!(left([0, 0]), 0, "the other node of the zone is full");
    assert_eq!(left([4, 64]), 1, "all have room");
}
