use super::super::layout::Facts;
use super::check;
use strongroom_format::wire::message::{DriveState, FragmentAddress, FragmentReport};
use strongroom_types::slab::Sealed;
use strongroom_types::{
    DriveId, Epoch, FragmentIndex, Generation, GroupId, Holder, Holders, Locator, NodeId, Profile, SessionId,
    SlabId, SlabRecord, SlabState, VersionId,
};

const EXTENT: u32 = 256 << 10;
const LEN: u32 = 400 << 10;

/// One drive that holds one copy of 100 blocks in 5 rows, which takes two extents.
fn sound() -> Facts {
    let slab = SlabId::new(GroupId::new(0), 1).unwrap();
    let (node, drive, profile) = (NodeId::new(1), DriveId::new(1), Profile::copies(3).unwrap());
    let mut facts = Facts::default();
    let sealed =
        Sealed { rows: 5, len_bytes: LEN, root_crc32c: 7, table_crc32c: heapless::Vec::new(), missing: 0 };
    let mut holders = Holders::new();
    holders.push(Holder { node, drive }).unwrap();
    let record = SlabRecord {
        slab,
        state: SlabState::Sealed(sealed),
        epoch: Epoch::new(2),
        generation: Generation::FIRST,
        next_generation: Generation::FIRST.next(),
        profile,
        made_under: holders.iter().map(|_| Generation::FIRST).collect(),
        holders,
        writer: node,
        session: SessionId::new(1),
        given_out: None,
        writer_done: false,
    };
    facts.slabs.insert(slab, record);
    let address =
        FragmentAddress { drive, slab, fragment: FragmentIndex::new(0), generation: Generation::FIRST };
    let report =
        FragmentReport { address, profile, epoch: Epoch::new(2), len_bytes: LEN, extents: 2, sealed: true };
    facts.fragments.push((node, drive, vec![report]));
    let state = DriveState {
        drive,
        extents_total: 10,
        extents_free: 8,
        extent_len_bytes: EXTENT,
        writable: true,
        gone: false,
    };
    facts.drives.push((node, state));
    let locator = Locator { slab, offset_bytes: 0, len_bytes: 5000, header_crc32c: 1, plain_len_bytes: 4900 };
    facts.versions.push(("key".to_owned(), VersionId::new(1), vec![locator]));
    facts
}

fn broken(change: impl FnOnce(&mut Facts)) -> usize {
    let mut facts = sound();
    change(&mut facts);
    check(&facts).1.len()
}

#[test]
fn what_adds_up_passes_and_what_does_not_is_seen() {
    // 400 KiB, 5 row headers, 3 + 1 blocks of headers and marks: 436 KiB in extents of 256.
    let (tally, violations) = check(&sound());
    assert_eq!(violations, []);
    assert_eq!((tally.allocated, tally.images, tally.alive), (2 * u64::from(EXTENT), LEN.into(), 5000));
    assert_eq!(tally.garbage(), u64::from(LEN) - 5000);
    assert_eq!(broken(|facts| facts.drives[0].1.extents_free = 7), 1, "an extent is lost");
    assert_eq!(broken(|facts| facts.drives[0].1.extents_free = 9), 1, "one is in two places");
    assert_eq!(broken(|facts| facts.drives[0].1.extents_free = 11), 1);
    let more = |facts: &mut Facts| {
        facts.drives[0].1.extents_free = 7;
        facts.fragments[0].2[0].extents = 3;
    };
    assert_eq!(broken(more), 1, "more than it needs");
    let fewer = |facts: &mut Facts| {
        facts.drives[0].1.extents_free = 9;
        facts.fragments[0].2[0].extents = 1;
    };
    assert_eq!(broken(fewer), 1, "fewer than it needs");
    let harmed = |facts: &mut Facts| {
        facts.drives[0].1.extents_free = 7;
        facts.harm.drives.insert(DriveId::new(1));
    };
    assert_eq!(broken(harmed), 0, "kept aside for their damaged headers");
}
