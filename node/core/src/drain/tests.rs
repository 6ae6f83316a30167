use super::{Amount, Left, Obstacle, Pace, Progress};
use crate::converter::tests::{cluster, sealed_slab};
use crate::fragment_set::FragmentSet;
use crate::limits::DRAIN_SAMPLES_MAX;
use crate::mover::fragment_len_bytes;
use crate::repair::tests::cold_slab;
use std::time::Duration;
use strongroom_types::{
    ClusterView, DrainSubject, Health, Instant, NodeId, SlabRecord, SlabState, WallTime, ZoneId,
};

fn drained(view: &mut ClusterView, subject: DrainSubject) {
    for node in &mut view.nodes {
        node.leaving = subject == DrainSubject::Node(node.node);
        for drive in &mut node.drives {
            drive.leaving = node.leaving || subject == DrainSubject::Drive(drive.drive);
        }
    }
}

fn look(record: &SlabRecord, view: &ClusterView, subject: DrainSubject) -> Left {
    let mut left = Left::default();
    left.look(subject, record, FragmentSet::EMPTY, view);
    left
}

#[test]
fn what_is_left_says_what_keeps_it() {
    let mut view = cluster(&[2, 2, 2]);
    let cold = cold_slab(&view);
    let (node, zone) = (cold.holders[0].node, view.zone_of(cold.holders[0].node).unwrap());
    let subject = DrainSubject::Node(node);
    drained(&mut view, subject);
    let bytes = fragment_len_bytes(&cold).unwrap();
    let one = |bytes| Amount { fragments: 1, bytes };
    let waiting = |why, bytes| Left { all: one(bytes), waiting: [(why, one(bytes))].into() };
    assert_eq!(look(&cold, &view, subject), waiting(Obstacle::NodesShort { zone }, bytes));
    // One of its drives alone can be emptied.
    let subject_drive = DrainSubject::Drive(cold.holders[0].drive);
    drained(&mut view, subject_drive);
    assert_eq!(look(&cold, &view, subject_drive), Left { all: one(bytes), ..Left::default() });
    for drive in view.nodes.iter_mut().filter(|view| view.node == node).flat_map(|node| &mut node.drives) {
        drive.extents_free = 0;
    }
    assert_eq!(look(&cold, &view, subject_drive), waiting(Obstacle::NoRoom { zone }, bytes));
    let elsewhere = DrainSubject::Node(NodeId::new(9));
    assert_eq!(look(&cold, &view, elsewhere), Left::default());
    let dead = SlabRecord { state: SlabState::Dead, ..cold.clone() };
    assert_eq!(look(&dead, &view, subject), Left::default());
    let open = SlabRecord { state: SlabState::Open, ..cold };
    assert_eq!(look(&open, &view, subject), waiting(Obstacle::Writing, 0));
}

#[test]
fn copies_are_left_until_they_can_become_cold() {
    let mut view = cluster(&[2, 2, 2]);
    let hot = sealed_slab(&view, 0);
    let node = hot.holders[0].node;
    let subject = DrainSubject::Node(node);
    drained(&mut view, subject);
    let zone = view.zone_of(node).unwrap();
    let len = u64::from(hot.sealed().unwrap().len_bytes);
    let left = look(&hot, &view, subject);
    assert_eq!(left.all, Amount { fragments: 1, bytes: len });
    assert_eq!(left.waiting.keys().collect::<Vec<_>>(), [&Obstacle::DrivesShort { zone }]);
    // With a node more in each zone there is room.
    let mut view = cluster(&[3, 3, 3]);
    let hot = sealed_slab(&view, 0);
    let subject = DrainSubject::Node(hot.holders[0].node);
    drained(&mut view, subject);
    assert!(look(&hot, &view, subject).waiting.is_empty());
    view.nodes.iter_mut().for_each(|node| node.health = Health::Down);
    let left = look(&hot, &view, subject);
    assert_eq!(left.waiting.keys().collect::<Vec<_>>(), [&Obstacle::TooFewAnswer]);
}

#[test]
fn moved_only_grows_and_the_rate_is_of_late() {
    let at = |second| Instant::ORIGIN.after(Duration::from_secs(second));
    let amount = |fragments, bytes| Amount { fragments, bytes };
    let mut pace = Pace::default();
    assert_eq!(pace.note(amount(10, 1000), at(0)), (amount(0, 0), None));
    assert_eq!(pace.note(amount(8, 800), at(2)), (amount(2, 200), Some(100)));
    assert_eq!(pace.note(amount(9, 900), at(4)), (amount(2, 200), Some(50)), "something came");
    for second in 5..200 {
        pace.note(amount(9, 900), at(second));
    }
    assert_eq!(pace.note(amount(8, 800), at(200)).1, Some(100 / (DRAIN_SAMPLES_MAX as u64 - 1)));
    let left = Left { all: amount(8, 800), ..Left::default() };
    let subject = DrainSubject::Node(NodeId::new(1));
    let progress = |rate_bytes_per_s| {
        let began = WallTime::from_unix_millis(1);
        Progress {
            subject,
            began,
            left: left.clone(),
            seats_left: 0,
            moved: amount(2, 200),
            rate_bytes_per_s,
        }
    };
    assert_eq!(progress(Some(30)).time_left(), Some(Duration::from_secs(27)));
    assert_eq!((progress(Some(0)).time_left(), progress(None).time_left()), (None, None));
    assert!(!progress(None).is_over());
    let empty = Progress { left: Left::default(), ..progress(None) };
    assert!(!Progress { seats_left: 1, ..empty.clone() }.is_over(), "it votes still");
    assert!(empty.is_over());
    let words = Obstacle::NodesShort { zone: ZoneId::new(2) }.to_string();
    assert!(words.contains("zone-2") && words.contains("add a node"), "{words}");
}
