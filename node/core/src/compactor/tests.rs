use super::{Alive, Candidate, Need, Rank, Space, copy_len_bytes, crowd, rank};
use crate::limits::{COMPACT_BATCH_NEEDLES_MAX, COMPACT_BATCH_ROWS, CROWD_PARTS, CROWD_TIGHT_PARTS};
use proptest::prelude::*;
use strongroom_format::extent::FragmentGeometry;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{ClusterView, DriveId, DriveView, Health, NodeId, NodeView, Profile, ZoneId};

const MIB: u32 = 1 << 20;

fn copies() -> Profile {
    Profile::copies(3).unwrap()
}

fn candidate(len_bytes: u32, bytes: u64, needles: u64) -> Candidate {
    Candidate { len_bytes, profile: copies(), alive: Alive { bytes, needles }, is_cool: true }
}

#[test]
fn a_slab_without_anything_alive_goes_first_and_at_once() {
    for need in [Need::Usual, Need::Tight, Need::Now] {
        let warm = Candidate { is_cool: false, ..candidate(4096, 0, 0) };
        assert_eq!(rank(&warm, need), Some(Rank::NOTHING_ALIVE));
        let little = rank(&candidate(100 * MIB, 100, 1), need).unwrap();
        assert!(little > Rank::NOTHING_ALIVE, "one needle is something, however small");
    }
}

#[test]
fn half_of_a_cool_slab_must_be_garbage_where_there_is_room() {
    let needle = 50 * MIB as u64 - u64::from(BLOCK_LEN_BYTES);
    let just_inside = candidate(100 * MIB, needle, 1);
    assert!(rank(&just_inside, Need::Usual).is_some());
    assert_eq!(rank(&Candidate { is_cool: false, ..just_inside }, Need::Usual), None);
    assert_eq!(rank(&candidate(100 * MIB, needle + 1, 1), Need::Usual), None);
}

#[test]
fn where_room_is_scarce_less_is_worth_it_but_nothing_that_takes_more_than_it_gives() {
    let warm = |profile, part: u64| Candidate {
        profile,
        is_cool: false,
        ..candidate(100 * MIB, u64::from(MIB) * part, 1)
    };
    let cold = Profile::new(4, 2).unwrap();
    assert!(rank(&warm(copies(), 75), Need::Tight).is_some());
    assert_eq!(rank(&warm(copies(), 85), Need::Tight), None);
    assert!(rank(&warm(cold, 45), Need::Tight).is_some());
    assert_eq!(rank(&warm(cold, 55), Need::Tight), None, "three copies of half of it are one and a half");
}

#[test]
fn the_least_alive_goes_first() {
    let ranks: Vec<Rank> = [0, 1, 10, 30, 49]
        .map(|part| rank(&candidate(100 * MIB, u64::from(MIB) * part, part), Need::Usual).unwrap())
        .into();
    assert!(ranks.is_sorted() && ranks[0] < ranks[1], "{ranks:?}");
}

#[test]
fn needles_that_stand_alone_in_their_rows_are_not_copied_into_such_rows_again() {
    let few = COMPACT_BATCH_ROWS;
    let len_bytes = BLOCK_LEN_BYTES * u32::try_from(few).unwrap();
    assert_eq!(rank(&candidate(len_bytes, few * 500, few), Need::Now), None);
    // Of many, most share rows once they are copied together.
    let many = COMPACT_BATCH_NEEDLES_MAX as u64;
    let len_bytes = BLOCK_LEN_BYTES * u32::try_from(many).unwrap();
    assert!(rank(&candidate(len_bytes, many * 500, many), Need::Usual).is_some());
}

fn view(zones: &[(u32, u32)]) -> ClusterView {
    let node = |(place, (total, free)): (u8, &(u32, u32))| NodeView {
        node: NodeId::new(u64::from(place) + 1),
        zone: ZoneId::new(place),
        health: Health::Up,
        may_hold_data: true,
        given_up: false,
        leaving: false,
        drives: vec![DriveView {
            drive: DriveId::new(u128::from(place)),
            extents_total: *total,
            extents_free: *free,
            extent_len_bytes: MIB,
            writable: true,
            leaving: false,
        }],
    };
    ClusterView { nodes: (0..).zip(zones).map(node).collect(), ..ClusterView::default() }
}

#[test]
fn copies_need_room_in_two_zones_beyond_what_is_kept_free() {
    let takes = |zones: &[(u32, u32)], mib: u64| Space::of(&view(zones)).takes(mib * u64::from(MIB));
    let half = &[(100, 50), (100, 50), (100, 0)];
    assert!(takes(half, 45) && !takes(half, 46));
    assert!(!takes(&[(100, 100), (100, 5), (100, 0)], 1));
    assert!(!takes(&[], 0));
    let mut away = view(half);
    away.nodes[0].health = Health::Down;
    assert!(!Space::of(&away).takes(1));
    away.nodes[0].health = Health::Up;
    away.nodes[1].drives[0].writable = false;
    assert!(!Space::of(&away).takes(1));
}

#[test]
fn one_zone_that_fills_makes_room_scarce() {
    let is_tight = |zones: &[(u32, u32)]| Space::of(&view(zones)).is_tight();
    assert!(!is_tight(&[(100, 21), (100, 50)]));
    assert!(is_tight(&[(100, 20), (100, 50)]));
    assert!(!is_tight(&[]));
}

fn geometry() -> FragmentGeometry {
    FragmentGeometry::for_extent_len(MIB).unwrap()
}

/// A cool slab in which all of `needles` small ones are alive, each in a row of its own.
fn small(profile: Profile, needles: u64) -> Candidate {
    let len_bytes = BLOCK_LEN_BYTES * u32::try_from(needles).unwrap();
    Candidate { profile, ..candidate(len_bytes, needles * 500, needles) }
}

#[test]
fn slabs_of_a_few_mails_are_copied_together_once_there_are_some() {
    let (one, cold) = (small(copies(), 3), small(Profile::new(3, 3).unwrap(), 3));
    let of = |candidates: &[Candidate], need| {
        let candidates: Vec<(usize, Candidate)> = candidates.iter().copied().enumerate().collect();
        crowd(&candidates, need, &geometry())
    };
    assert_eq!(of(&[], Need::Usual), []);
    assert_eq!(of(&[one; 3], Need::Usual), [], "three extents for one");
    assert_eq!(of(&[one; 4], Need::Usual), [0, 1, 2, 3]);
    assert_eq!(of(&[one; 2], Need::Tight), [0, 1]);
    assert_eq!(of(&[one; 1], Need::Now), []);
    let warm = Candidate { is_cool: false, ..one };
    assert_eq!(of(&[one, one, one, warm], Need::Usual), []);
    assert_eq!(of(&[warm; 2], Need::Now), [0, 1]);
    let empty = Candidate { alive: Alive::default(), ..one };
    assert_eq!(of(&[one, one, one, empty], Need::Usual), [], "that one goes without being copied");
    let full = candidate(900 << 10, 800 << 10, 20);
    assert_eq!(of(&[full, full, full, full], Need::Usual), [], "little air is in them");
    assert_eq!(of(&[full, cold, cold, cold, cold], Need::Usual), [1, 2, 3, 4]);
}

fn alive() -> impl Strategy<Value = Alive> {
    (1u64..200_000, 100u64..4_000_000).prop_map(|(needles, each)| Alive { bytes: needles * each, needles })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn what_a_compaction_wrote_is_not_worth_another_one(alive in alive(), part in 1u32..100) {
        let copy = u32::try_from(copy_len_bytes(alive)).unwrap_or(u32::MAX);
        let len_bytes = u32::try_from(u64::from(copy) * 100 / u64::from(part)).unwrap_or(u32::MAX);
        let before = Candidate { len_bytes, profile: copies(), alive, is_cool: true };
        let after = Candidate { len_bytes: copy, ..before };
        for need in [Need::Usual, Need::Tight, Need::Now] {
            prop_assert_eq!(rank(&after, need), None);
            if rank(&before, need).is_some() {
                prop_assert!(copy < len_bytes, "it became shorter");
            }
        }
    }

    #[test]
    fn what_is_worth_it_where_there_is_room_is_so_where_there_is_less(alive in alive(), len_bytes in 4096u32..) {
        let candidate = Candidate { len_bytes, profile: copies(), alive, is_cool: true };
        let (usual, tight, now) =
            (rank(&candidate, Need::Usual), rank(&candidate, Need::Tight), rank(&candidate, Need::Now));
        prop_assert!(usual.is_none() || (tight == usual && now == usual));
        prop_assert!(tight.is_none() || now == tight);
    }

    #[test]
    fn a_crowd_takes_few_of_its_extents_in_the_end(needles in prop::collection::vec(1u64..400, 0..40), tight: bool) {
        let need = if tight { Need::Tight } else { Need::Usual };
        let slabs: Vec<(usize, Candidate)> =
            needles.iter().map(|needles| small(copies(), *needles)).enumerate().collect();
        let crowded = crowd(&slabs, need, &geometry());
        prop_assume!(!crowded.is_empty());
        prop_assert!(crowded.len() > 1, "one slab is no crowd");
        let extents = |len_bytes| u64::from(geometry().extents_for(len_bytes));
        // No batch is shared by two slabs, so rows are as many as in the worst case.
        let copied: u64 = crowded.iter().map(|place| copy_len_bytes(slabs[*place].1.alive)).sum();
        let before: u64 = crowded.iter().map(|place| extents(slabs[*place].1.len_bytes.into())).sum();
        let parts = if tight { CROWD_TIGHT_PARTS } else { CROWD_PARTS };
        prop_assert!(extents(copied) * parts <= before);
    }
}
