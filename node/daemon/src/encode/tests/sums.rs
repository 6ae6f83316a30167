//! What is far is added up where it is.

use super::drives::{Drives, State, run, sum};
use super::{WINDOW, again, encode, fragments, key, table_of};
use std::collections::BTreeSet;
use strongroom_format::wire::message::{Encode, Refusal, Response, Source, Sources, Sum};
use strongroom_types::{FragmentIndex, Profile, ZoneId};

const SLICE_LEN_BYTES: u64 = 5 * WINDOW as u64;

/// Makes these fragments of zone 1 again from what is left.
fn made_again(lost: &[u8], change: impl FnOnce(&mut Drives, &mut Encode)) -> State {
    let all = fragments();
    let tables: Vec<u32> =
        lost.iter().map(|fragment| table_of(&all[usize::from(*fragment)], key(*fragment, 2))).collect();
    let targets = lost.iter().zip(&tables).map(|(fragment, table)| again(*fragment, 2, *table));
    let mut asked = encode(3, targets.collect());
    let mut sources = asked.sources.all().to_vec();
    sources.retain(|source| !lost.contains(&source.address.fragment.get()));
    asked.sources = Sources::Fragments(sources);
    let mut drives = Drives::holding(all.clone());
    change(&mut drives, &mut asked);
    let (answer, state) = run(drives, asked);
    let expected =
        lost.iter().map(|fragment| table_of(&all[usize::from(*fragment)], key(*fragment, 3))).collect();
    assert_eq!(answer, Response::Encoded { tables_crc32c: expected });
    for fragment in lost {
        assert_eq!(state.written[&FragmentIndex::new(*fragment)], all[usize::from(*fragment)]);
    }
    state
}

fn set(fragments: &[u8]) -> BTreeSet<FragmentIndex> {
    fragments.iter().map(|fragment| FragmentIndex::new(*fragment)).collect()
}

#[test]
fn between_zones_goes_what_is_made_and_no_more() {
    let state = made_again(&[0], |_, _| {});
    assert_eq!(state.read, set(&[1, 2, 3]));
    assert_eq!((state.sums > 0, state.sent_far_bytes), (true, SLICE_LEN_BYTES), "not one for each of two");
}

#[test]
fn what_would_be_no_shorter_is_read_one_by_one() {
    // Two are made from two of zone 2 and one of zone 3: sums would be as long.
    let state = made_again(&[0, 1], |_, _| {});
    assert_eq!((state.sums, state.sent_far_bytes), (0, 3 * SLICE_LEN_BYTES));
}

#[test]
fn where_no_sum_comes_fragments_are_read_one_by_one() {
    let state = made_again(&[0], |drives, _| drives.no_sums = [ZoneId::new(2)].into());
    assert_eq!((state.sums, state.sent_far_bytes), (0, 2 * SLICE_LEN_BYTES));
    // Damage is come upon in the middle: what is there is added up as far as it goes.
    let state = made_again(&[0], |drives, _| {
        drives.bad_from.insert(FragmentIndex::new(3), 8192);
    });
    assert!(state.sums > 0 && state.read.is_superset(&set(&[1, 2, 4])), "{:?}", state.read);
}

#[test]
fn sums_that_contradict_themselves_are_refused() {
    let sources = encode(3, Vec::new()).sources.all().to_vec();
    let sound = || Sum {
        profile: Profile::new(3, 3).unwrap(),
        present: 0b1110,
        wanted: vec![FragmentIndex::new(0)],
        sources: sources[2..4].to_vec(),
        offset_bytes: 4096,
        len_bytes: 8192,
    };
    let answer = |change: &dyn Fn(&mut Sum)| {
        let mut asked = sound();
        change(&mut asked);
        sum(Drives::holding(fragments()), &asked)
    };
    let (response, bytes) = answer(&|_| {});
    assert_eq!((response, bytes.len()), (Response::Bytes, 8192));
    let refused = |change: &dyn Fn(&mut Sum)| {
        let (response, bytes) = answer(change);
        assert!(
            matches!(response, Response::Refused(Refusal::Invalid(_))) && bytes.is_empty(),
            "{response:?}"
        );
    };
    refused(&|sum| sum.present = 0b110);
    refused(&|sum| sum.present = 0b100_0110);
    refused(&|sum| sum.wanted.clear());
    refused(&|sum| sum.wanted.push(FragmentIndex::new(0)));
    refused(&|sum| sum.wanted[0] = FragmentIndex::new(6));
    refused(&|sum| sum.sources.clear());
    refused(&|sum| sum.sources.push(sum.sources[0]));
    refused(&|sum: &mut Sum| sum.sources[0] = Source { ..sources[5] });
    refused(&|sum| sum.len_bytes = 0);
    refused(&|sum| sum.len_bytes = 4095);
    refused(&|sum| sum.offset_bytes = 1);
    refused(&|sum| sum.len_bytes = (1 << 20) + 4096);
    refused(&|sum| sum.offset_bytes = u32::MAX - 4095);
}
