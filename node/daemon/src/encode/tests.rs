mod drives;
mod moved;
mod places;
mod sums;

use super::again::fragments_again;
use super::made::Made;
use super::{EncodeError, Making, check};
use crate::cluster::CallError;
use bytes::Bytes;
use strongroom_erasure::{Codec, MatrixId};
use strongroom_format::checksum::FragmentKey;
use strongroom_format::cold::ChecksumTable;
use strongroom_format::wire::message::{
    Encode, FragmentAddress, MadeBefore, Refusal, Source, Sources, Target,
};
use strongroom_types::{DriveId, Epoch, FragmentIndex, Generation, GroupId, NodeId, Profile, SlabId};

#[test]
fn who_asked_is_told_whether_a_holder_would_not_or_could_not() {
    let from = NodeId::new(1);
    let target = |refusal| EncodeError::Target(CallError::Refused { from, refusal });
    for refusal in [Refusal::DriveError, Refusal::Full, Refusal::Invalid("slice".into())] {
        assert_eq!(target(refusal.clone()).refusal(), refusal);
    }
    for refusal in [Refusal::Busy, Refusal::NoSuchDrive, Refusal::Beyond { len_bytes: 0 }] {
        assert_eq!(target(refusal).refusal(), Refusal::PeersMissing);
    }
    assert_eq!(EncodeError::Target(CallError::Misfit { from }).refusal(), Refusal::PeersMissing);
    let source = EncodeError::Source { offset_bytes: 0, end_bytes: 1 };
    assert_eq!(source.refusal(), Refusal::PeersMissing);
    let differs = EncodeError::Differs { node: from, fragment: FragmentIndex::new(0), expected: 1, found: 2 };
    assert_eq!(differs.refusal(), Refusal::DriveError, "what is finished is not made again");
    assert!(matches!(EncodeError::Request("twice").refusal(), Refusal::Invalid(_)));
}

const WINDOW: usize = 3 * 4096;

fn key(fragment: u8, generation: u32) -> FragmentKey {
    let slab = SlabId::new(GroupId::new(1), 7).unwrap();
    FragmentKey { slab, fragment: FragmentIndex::new(fragment), generation: Generation::new(generation) }
}

/// All fragments of an image of five windows in RS(3,3).
fn fragments() -> Vec<Vec<u8>> {
    let codec = Codec::new(3, 3, MatrixId::NormalisedCauchy).unwrap();
    let slice =
        |index: usize| (0..5 * WINDOW).map(|at| (at * 7 + at / 4096 * 13 + index * 101) as u8).collect();
    let mut all: Vec<Vec<u8>> = (0..3).map(slice).collect();
    let mut parity = vec![vec![0; 5 * WINDOW]; 3];
    let inputs: Vec<&[u8]> = all.iter().map(|slice| &slice[..]).collect();
    let mut wanted: Vec<(usize, &mut [u8])> =
        parity.iter_mut().enumerate().map(|(index, bytes)| (3 + index, &mut bytes[..])).collect();
    codec.encode_some(&inputs, &mut wanted).unwrap();
    all.extend(parity);
    all
}

fn table_of(bytes: &[u8], key: FragmentKey) -> u32 {
    let mut table = ChecksumTable::new(key);
    table.push_blocks(bytes).unwrap();
    table.table_crc32c()
}

fn again(fragment: u8, before: u32, table_crc32c: u32) -> Target {
    let before = MadeBefore { generation: Generation::new(before), table_crc32c };
    let (node, drive) = (NodeId::new(1), DriveId::new(1));
    Target { fragment: FragmentIndex::new(fragment), node, drive, before: Some(before) }
}

fn encode(generation: u32, targets: Vec<Target>) -> Encode {
    let source = |fragment, generation| {
        let FragmentKey { slab, fragment, generation } = key(fragment, generation);
        let address = FragmentAddress { drive: DriveId::new(9), slab, fragment, generation };
        Source { node: NodeId::new(10 + u64::from(address.fragment.get())), address }
    };
    Encode {
        slab: key(0, 1).slab,
        sources: Sources::Fragments((0..6).map(|fragment| source(fragment, 2)).collect()),
        generation: Generation::new(generation),
        profile: Profile::new(3, 3).unwrap(),
        image_len_bytes: 3 * 5 * WINDOW as u32,
        rows: 1,
        root_crc32c: 5,
        epoch: Epoch::new(2),
        targets,
    }
}

/// Makes the targets from these fragments, window by window; the checksums of what came out.
fn make(encode: &Encode, present: &[(usize, &[u8])]) -> Result<Vec<u32>, EncodeError> {
    let codec = Codec::new(3, 3, MatrixId::NormalisedCauchy).unwrap();
    let mut all: Vec<Making> = encode.targets.iter().map(|target| Making::begin(encode, target)).collect();
    for window in 0..5 {
        let range = window * WINDOW..(window + 1) * WINDOW;
        let present: Vec<(usize, Bytes)> = present
            .iter()
            .map(|(index, bytes)| (*index, Bytes::copy_from_slice(&bytes[range.clone()])))
            .collect();
        let outputs = fragments_again(&codec, &present, &encode.targets, WINDOW);
        for (making, output) in all.iter_mut().zip(outputs) {
            making.push(&Made::of(output))?;
        }
    }
    all.iter().try_for_each(Making::check_as_before)?;
    Ok(all.iter().map(|making| making.table.table_crc32c()).collect())
}

#[test]
fn what_is_made_again_is_what_was_lost_and_can_be_lost_again() {
    let all = fragments();
    let lost = [1_u8, 4];
    let mut tables: Vec<u32> =
        lost.iter().map(|fragment| table_of(&all[usize::from(*fragment)], key(*fragment, 2))).collect();
    for (round, generation) in [3, 4, 9].into_iter().enumerate() {
        let before = [2, 3, 4][round];
        let targets = lost.iter().zip(&tables).map(|(fragment, table)| again(*fragment, before, *table));
        let encode = encode(generation, targets.collect());
        check(&encode).unwrap();
        let present: Vec<(usize, &[u8])> = [5, 0, 2].map(|index| (index, &all[index][..])).into();
        let made = make(&encode, &present).unwrap();
        for ((fragment, made), before) in lost.iter().zip(&made).zip(&tables) {
            assert_eq!(*made, table_of(&all[usize::from(*fragment)], key(*fragment, generation)));
            assert_ne!(made, before, "each generation has checksums of its own");
        }
        tables = made;
    }
}

#[test]
fn what_comes_out_otherwise_is_told_before_it_is_finished() {
    let all = fragments();
    let table = table_of(&all[1], key(1, 2));
    let encode = encode(3, vec![again(1, 2, table)]);
    let mut wrong = all[5].clone();
    wrong[4 * WINDOW + 11] ^= 1;
    let error = make(&encode, &[(5, &wrong), (0, &all[0]), (2, &all[2])]).unwrap_err();
    assert!(matches!(error, EncodeError::NotAsBefore { .. }), "{error}");
    assert_eq!(error.refusal(), Refusal::Corrupt { offset_bytes: 0 });
}

#[test]
fn requests_that_contradict_themselves_are_refused() {
    let sound = || encode(3, vec![again(1, 2, 5)]);
    assert!(check(&sound()).is_ok());
    let refused = |change: &dyn Fn(&mut Encode)| {
        let mut encode = sound();
        change(&mut encode);
        matches!(check(&encode), Err(EncodeError::Request(_)))
    };
    let source = |encode: &mut Encode, change: &dyn Fn(&mut Source)| {
        let Sources::Fragments(all) = &mut encode.sources else { panic!("of fragments") };
        change(&mut all[3]);
    };
    assert!(refused(&|encode| encode.targets.clear()));
    assert!(refused(&|encode| encode.targets.push(encode.targets[0])));
    assert!(refused(&|encode| encode.targets[0].fragment = FragmentIndex::new(6)));
    assert!(refused(&|encode| encode.targets[0].before = again(1, 3, 5).before));
    assert!(refused(&|encode| encode.image_len_bytes = 0));
    assert!(refused(&|encode| encode.generation = Generation::new(2)));
    assert!(refused(&|encode| source(encode, &|source| source.address.fragment = FragmentIndex::new(2))));
    assert!(refused(&|encode| source(encode, &|source| source.address.fragment = FragmentIndex::new(6))));
    let other = SlabId::new(GroupId::new(1), 8).unwrap();
    assert!(refused(&|encode| source(encode, &|source| source.address.slab = other)));
}
