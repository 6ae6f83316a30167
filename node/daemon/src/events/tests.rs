use super::{Event, Events};
use crate::limits::EVENTS_KEPT_MAX;
use crate::testing::StillClock;
use futures::FutureExt;
use std::sync::Arc;
use strongroom_types::{DriveId, GroupId, NodeId, Profile, SlabId};

fn up(node: u64) -> Event {
    Event::NodeUp { node: NodeId::new(node) }
}

fn numbers(events: &Events, seen: u64) -> (u64, Vec<u64>) {
    let unseen = events.after(seen);
    (unseen.lost, unseen.told.iter().map(|told| told.sequence).collect())
}

#[test]
fn a_reader_gets_what_it_has_not_seen_in_order_and_is_told_what_it_missed() {
    let events = Events::new(Arc::new(StillClock::default()));
    assert_eq!(numbers(&events, 0), (0, vec![]));
    events.tell(up(1));
    events.tell(up(2));
    assert_eq!(numbers(&events, 0), (0, vec![1, 2]));
    assert_eq!(numbers(&events, 1), (0, vec![2]));
    assert_eq!(numbers(&events, 2), (0, vec![]));
    assert_eq!(numbers(&events, 99), (0, vec![1, 2]), "a number that was never given");
    assert_eq!(events.after(1).told[0].event, up(2));

    for node in 0..EVENTS_KEPT_MAX as u64 {
        events.tell(up(node));
    }
    let (lost, kept) = numbers(&events, 1);
    assert_eq!((lost, kept.len(), kept[0]), (1, EVENTS_KEPT_MAX, 3), "number 2 is not kept any more");
    assert_eq!(numbers(&events, 2).0, 0);
    assert_eq!(numbers(&events, 0).0, 2);
}

#[test]
fn who_waits_is_woken_by_the_next_event_only() {
    let events = Events::new(Arc::new(StillClock::default()));
    events.tell(up(1));
    assert_eq!(events.wait_beyond(0).now_or_never(), Some(()));
    let mut waiting = Box::pin(events.wait_beyond(1));
    assert_eq!((&mut waiting).now_or_never(), None);
    events.tell(up(2));
    assert_eq!(waiting.now_or_never(), Some(()));
}

#[test]
fn events_name_their_kind_and_spell_ids_as_people_do() {
    let slab = SlabId::new(GroupId::new(2), 7).unwrap();
    let cold = Event::SlabCold { slab, profile: Profile::new(3, 3).unwrap() };
    let json = serde_json::to_value(&cold).unwrap();
    assert_eq!(json, serde_json::json!({"event": "slab_cold", "slab": "slab-2.7", "profile": "RS(3,3)"}));
    let drive = Event::DriveSuspect { node: NodeId::new(3), drive: DriveId::new(0xab) };
    let json = serde_json::to_value(&drive).unwrap();
    assert_eq!(json["drive"], "000000000000000000000000000000ab");
    assert_eq!(json["node"], 3);
    let all = [
        Event::AlarmRaised { alarm: String::from("x") },
        Event::AlarmOver { alarm: String::from("x") },
        Event::SlabSealed { slab, rows: 1 },
        cold,
        Event::SlabRepaired { slab, fragments: 2 },
        Event::FragmentLacking { slab, fragment: strongroom_types::FragmentIndex::new(1) },
        Event::DriveRefused { node: NodeId::new(3), drive: DriveId::new(1) },
        drive,
        Event::DriveInUse { node: NodeId::new(3), drive: DriveId::new(1) },
        Event::DriveGone { node: NodeId::new(3), drive: DriveId::new(1) },
        up(1),
        Event::NodeDown { node: NodeId::new(1) },
        Event::NodeGivenUp { node: NodeId::new(1) },
        Event::JobBegan { job: 1, kind: "seal" },
        Event::JobEnded { job: 1, kind: "seal", how: "done" },
    ];
    for event in all {
        assert_eq!(serde_json::to_value(&event).unwrap()["event"], event.name());
        assert!(!event.to_string().is_empty());
    }
}
