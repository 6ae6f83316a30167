use super::super::content::Content;
use super::super::layout::Facts;
use super::{check, choose};
use crate::sim::draws::Draws;
use bytes::Bytes;
use std::collections::BTreeSet;
use strongroom::fetch::Codecs;
use strongroom_format::cold;
use strongroom_format::needle::{self, NeedleFlags, NeedleMeta};
use strongroom_types::slab::Sealed;
use strongroom_types::{
    BucketClass, BucketId, DriveId, Epoch, FragmentIndex, Generation, GroupId, Holder, Holders, NodeId,
    ObjectKey, Profile, SessionId, SlabId, SlabRecord, SlabState, VersionId, ZoneId,
};

fn slab() -> SlabId {
    SlabId::new(GroupId::new(0), 1).unwrap()
}

/// A slab of this profile on as many nodes, in three zones by turns, with two versions in it.
fn sound(profile: Profile) -> Facts {
    let mut facts = Facts::default();
    let mut image = Vec::new();
    for number in 0..2_u128 {
        let meta = NeedleMeta {
            class: BucketClass::Mail,
            tenant: 0,
            bucket: BucketId::new(1),
            key: ObjectKey::new("key").unwrap(),
            version: VersionId::new(number),
            piece: 0,
            flags: NeedleFlags::PLAIN,
        };
        let plain: Vec<u8> =
            (0..9000_u32).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ number as u8).collect();
        let mut bytes = Vec::new();
        let encoded = needle::encode(&meta, &plain, &mut bytes).unwrap();
        let locator = encoded.locator(slab(), u32::try_from(image.len()).unwrap());
        facts.versions.push((format!("key-{number}"), VersionId::new(number), vec![locator]));
        image.extend_from_slice(&bytes);
        image.resize(image.len().next_multiple_of(4096), 0);
    }
    let len_bytes = u32::try_from(image.len()).unwrap();
    let mut fragments: Vec<Vec<u8>> = Vec::new();
    if profile.is_copies() {
        fragments.resize(usize::from(profile.fragment_count()), image);
    } else {
        let slice = cold::slice_len(len_bytes, profile.data_count()) as usize;
        image.resize(slice * usize::from(profile.data_count()), 0);
        let data: Vec<&[u8]> = image.chunks_exact(slice).collect();
        let mut parity = vec![vec![0; slice]; usize::from(profile.parity_count())];
        let mut targets: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        Codecs::default().get(profile).encode(&data, &mut targets).unwrap();
        fragments.extend(data.into_iter().map(<[u8]>::to_vec));
        fragments.extend(parity);
    }
    let mut holders = Holders::new();
    for (place, bytes) in fragments.into_iter().enumerate() {
        let (node, drive) = (NodeId::new(place as u64 + 1), DriveId::new(place as u128 + 1));
        facts.zones.insert(node, ZoneId::new(u8::try_from(place % 3 + 1).unwrap()));
        holders.push(Holder { node, drive }).unwrap();
        let fragment = FragmentIndex::new(u8::try_from(place).unwrap());
        let mut content = Content::default();
        content.push(u32::try_from(bytes.len()).unwrap(), Ok(Bytes::from(bytes)));
        facts.contents.insert((node, drive, slab(), fragment, Generation::FIRST), content);
    }
    let sealed =
        Sealed { rows: 2, len_bytes, root_crc32c: 7, table_crc32c: heapless::Vec::new(), missing: 0 };
    let record = SlabRecord {
        slab: slab(),
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
    facts.slabs.insert(slab(), record);
    facts
}

fn copies() -> Profile {
    Profile::copies(3).unwrap()
}

fn cold_profile() -> Profile {
    Profile::new(3, 3).unwrap()
}

/// Makes the fragment at this place unreadable.
fn lose(facts: &mut Facts, place: usize) {
    let content = facts.contents.values_mut().nth(place).unwrap();
    let len_bytes = content.len_bytes();
    *content = Content::default();
    content.push(len_bytes, Err("rotten".to_owned()));
}

/// The drive of this number was harmed.
fn harm(facts: &mut Facts, drive: u128) {
    facts.harm.drives.insert(DriveId::new(drive));
}

fn rules(facts: &Facts) -> Vec<String> {
    let mut rules: Vec<String> =
        check(facts).1.into_iter().map(|violation| violation.rule[9..20].to_owned()).collect();
    rules.sort();
    rules.dedup();
    rules
}

const NOTHING: [&str; 0] = [];

#[test]
fn sound_slabs_pass_and_are_counted() {
    let facts = sound(copies());
    let (tally, violations) = check(&facts);
    assert_eq!(violations, []);
    assert_eq!((tally.locators, tally.fragments, tally.decoded), (2, 3, 0));
    assert_eq!(tally.margins.get("a zone and a node"), Some(&2));
    let (tally, violations) = check(&sound(cold_profile()));
    assert_eq!(violations, []);
    assert_eq!((tally.locators, tally.fragments, tally.decoded), (2, 6, 1));
}

#[test]
fn harm_in_one_zone_explains_what_is_missing_there_and_no_more() {
    for profile in [copies(), cold_profile()] {
        let mut facts = sound(profile);
        lose(&mut facts, 0);
        assert_eq!(rules(&facts), ["a fragment "], "{profile}: nobody harmed it");
        harm(&mut facts, 1);
        assert_eq!(rules(&facts), NOTHING, "{profile}");
        facts.harm.before = Some(BTreeSet::new());
        assert_eq!(rules(&facts), ["a fragment "], "{profile}: it was made when all was fair");
        facts.harm.before = None;
        // Others elsewhere are not explained.
        lose(&mut facts, 1);
        assert_eq!(rules(&facts), ["a fragment "], "{profile}");
    }
    // All of another zone is gone, by nobody's harm: the third may not go any more.
    let mut facts = sound(cold_profile());
    for place in [0, 1, 4] {
        lose(&mut facts, place);
    }
    harm(&mut facts, 1);
    assert_eq!(rules(&facts), ["a fragment ", "any one zon"]);
}

#[test]
fn too_few_is_said_whatever_was_harmed() {
    for profile in [copies(), cold_profile()] {
        let mut facts = sound(profile);
        let spare = usize::from(profile.parity_count());
        for place in 0..spare {
            lose(&mut facts, place);
            harm(&mut facts, place as u128 + 1);
        }
        assert_eq!(rules(&facts), NOTHING, "{profile}");
        lose(&mut facts, spare);
        harm(&mut facts, spare as u128 + 1);
        assert_eq!(rules(&facts), ["enough hold"], "{profile}");
    }
}

#[test]
fn bytes_that_check_and_are_other_bytes_are_seen() {
    let mut facts = sound(copies());
    let content = facts.contents.values_mut().nth(1).unwrap();
    let mut bytes = content.range(0..content.len_bytes()).unwrap().to_vec();
    bytes[5000] ^= 1;
    *content = Content::default();
    content.push(u32::try_from(bytes.len()).unwrap(), Ok(Bytes::from(bytes)));
    assert_eq!(rules(&facts), ["what is the"]);

    // Of a cold slab whichever fragment it is: all others are lost but for those that are needed.
    for wrong in 0..6 {
        let mut facts = sound(cold_profile());
        for place in 0..3 {
            lose(&mut facts, (wrong + 1 + place) % 6);
        }
        (1..=6).for_each(|drive| harm(&mut facts, drive));
        assert_eq!(rules(&facts), NOTHING);
        let content = facts.contents.values_mut().nth(wrong).unwrap();
        let flipped: Vec<u8> =
            content.range(0..content.len_bytes()).unwrap().iter().map(|byte| byte ^ 0x55).collect();
        *content = Content::default();
        content.push(u32::try_from(flipped.len()).unwrap(), Ok(Bytes::from(flipped)));
        assert_eq!(rules(&facts), ["what is the"], "fragment {wrong}");
    }
}

#[test]
fn fragments_that_are_absent_or_short_are_seen_and_unsteady_slabs_are_not_looked_at() {
    let mut facts = sound(copies());
    facts.contents.pop_last();
    assert_eq!(rules(&facts), ["a fragment "]);
    let mut facts = sound(copies());
    let content = facts.contents.values_mut().next().unwrap();
    let part = content.range(0..4096).unwrap();
    *content = Content::default();
    content.push(4096, Ok(part));
    assert_eq!(rules(&facts), ["a fragment "]);
    facts.unsteady.insert(slab());
    assert_eq!(rules(&facts), NOTHING);
    // One that the table does not call whole need not be.
    let mut facts = sound(copies());
    facts.contents.pop_last();
    let SlabState::Sealed(sealed) = &mut facts.slabs.get_mut(&slab()).unwrap().state else { unreachable!() };
    sealed.missing = 0b100;
    assert_eq!(rules(&facts), NOTHING);
}

#[test]
fn each_seed_decodes_from_other_fragments_and_always_from_parity() {
    let chosen: BTreeSet<Vec<usize>> = (0..400_u64)
        .map(|salt| {
            let mut places = vec![0, 1, 2, 3, 4, 5];
            choose(&mut places, 3, &mut Draws::new(salt));
            places.sort_unstable();
            places
        })
        .collect();
    // Three of six, but for the one choice that has no parity.
    assert_eq!(chosen.len(), 19, "{chosen:?}");
    assert!(chosen.iter().all(|places| places[2] >= 3), "{chosen:?}");
    let mut places = vec![0, 2, 4];
    choose(&mut places, 3, &mut Draws::new(1));
    places.sort_unstable();
    assert_eq!(places, [0, 2, 4]);
}

#[test]
fn the_salt_of_a_seed_changes_what_is_decoded_from() {
    // One fragment has other bytes than it should: whether that is seen hangs on which ones are chosen.
    let found: BTreeSet<bool> = (0..40)
        .map(|salt| {
            let mut facts = sound(cold_profile());
            facts.salt = salt;
            let content = facts.contents.values_mut().nth(5).unwrap();
            let len_bytes = content.len_bytes();
            *content = Content::default();
            content.push(len_bytes, Ok(Bytes::from(vec![7; len_bytes as usize])));
            rules(&facts).is_empty()
        })
        .collect();
    assert_eq!(found.len(), 2);
}
