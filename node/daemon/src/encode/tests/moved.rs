//! What is moved is read from where it is, and made from others where that does not give it.

use super::drives::{Drives, State, run};
use super::{again, encode, fragments, key, table_of};
use std::collections::BTreeSet;
use strongroom_format::wire::message::{Encode, Refusal, Response, Sources};
use strongroom_types::FragmentIndex;

/// Moves fragments 1 and 4; what was answered, and what the drives saw.
fn moved(change: impl FnOnce(&mut Drives, &mut Encode)) -> (Response, State) {
    let all = fragments();
    let targets =
        [1, 4].map(|fragment| again(fragment, 2, table_of(&all[usize::from(fragment)], key(fragment, 2))));
    let mut asked = encode(3, targets.into());
    let mut sources = asked.sources.all().to_vec();
    sources.sort_by_key(|source| ![1, 4].contains(&source.address.fragment.get()));
    asked.sources = Sources::Moved(sources);
    let mut drives = Drives::holding(all);
    change(&mut drives, &mut asked);
    run(drives, asked)
}

fn expected() -> Response {
    let all = fragments();
    Response::Encoded {
        tables_crc32c: [1, 4].map(|fragment| table_of(&all[usize::from(fragment)], key(fragment, 3))).into(),
    }
}

fn set(fragments: &[u8]) -> BTreeSet<FragmentIndex> {
    fragments.iter().map(|fragment| FragmentIndex::new(*fragment)).collect()
}

#[test]
fn what_can_be_read_where_it_is_costs_one_read_each() {
    let (answer, state) = moved(|_, _| {});
    assert_eq!(answer, expected());
    assert_eq!(state.read, set(&[1, 4]), "nobody else is asked");
    assert_eq!(state.written[&FragmentIndex::new(4)], fragments()[4]);
}

#[test]
fn what_is_damaged_where_it_is_is_made_from_others() {
    let (answer, state) = moved(|drives, _| {
        drives.bad_from.insert(FragmentIndex::new(4), 8192);
    });
    assert_eq!(answer, expected());
    assert!(state.read.is_superset(&set(&[0, 1, 2, 3])), "{:?}", state.read);
}

#[test]
fn what_is_another_thing_where_it_is_is_made_from_others_too() {
    // Its own checksums hold, and it is not what the slab table has.
    let (answer, state) = moved(|drives, _| drives.fragments[1][5000] ^= 1);
    assert_eq!(answer, expected());
    assert_eq!(state.written[&FragmentIndex::new(1)], fragments()[1]);
}

#[test]
fn what_neither_gives_is_not_made() {
    let (answer, _) = moved(|drives, _| {
        drives.bad_from = set(&[0, 2, 3, 4]).into_iter().map(|fragment| (fragment, 0)).collect();
    });
    assert_eq!(answer, Response::Refused(Refusal::PeersMissing));
    let (answer, _) = moved(|_, asked| asked.targets[0].before = again(1, 2, 77).before);
    assert_eq!(
        answer,
        Response::Refused(Refusal::Corrupt { offset_bytes: 0 }),
        "as lost ones are: not taken"
    );
}
