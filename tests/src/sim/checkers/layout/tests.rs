use super::{Facts, check};
use strongroom_format::wire::{FragmentAddress, FragmentReport};
use strongroom_types::slab::Sealed;
use strongroom_types::{
    DriveId, Epoch, FragmentIndex, Generation, GroupId, Holder, Holders, Locator, NodeId, Profile, SessionId,
    SlabId, SlabRecord, SlabState, VersionId, ZoneId,
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
    }
    let sealed =
        Sealed { rows: 2, len_bytes: 8192, root_crc32c: 7, table_crc32c: heapless::Vec::new(), missing: 0 };
    let record = SlabRecord {
        slab,
        state: SlabState::Sealed(sealed),
        epoch: Epoch::new(2),
        generation: Generation::FIRST,
        profile,
        holders,
        writer: NodeId::new(1),
        session: SessionId::new(1),
        given_out: None,
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
    // One that was silent and has all rows is as good.
    assert_eq!(broken(|facts| sealed(facts).missing = 0b110), Vec::<&str>::new());
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
}
