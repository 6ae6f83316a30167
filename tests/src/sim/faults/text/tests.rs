use super::{Event, Script, kind};
use crate::sim::drives::DriveWeather;
use crate::sim::faults::Schedule;
use crate::sim::net::Weather;
use crate::sim::world::End;
use std::collections::BTreeSet;
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

fn one_of_each() -> Vec<Event> {
    let (node, other, zone) = (NodeId::new(1), NodeId::new(2), ZoneId::new(3));
    let sick = DriveWeather { read_error: 1, hangs: 2, burst_count_max: 3, ..DriveWeather::default() };
    vec![
        Event::Kill(node, End::Crash),
        Event::Kill(node, End::PowerCut),
        Event::KillAtPoll(node, 1234, End::Crash),
        Event::Disarm(node),
        Event::Boot(node),
        Event::Pause(node),
        Event::Resume(node),
        Event::CutZone(zone),
        Event::Cut(node, other),
        Event::SlowZone(zone, Duration::from_micros(1_250_001)),
        Event::Mute(node),
        Event::Mend,
        Event::Weather(Weather::default()),
        Event::Weather(Weather::FOUL),
        Event::DriveWeather(node, 0, sick),
        Event::DriveWeather(node, 1, DriveWeather { dead: true, ..DriveWeather::FAIR }),
        Event::Erase(node, 1),
        Event::Remember(node, 0),
        Event::Revert(node, 0),
        Event::Rot(node, 0, 12, u64::MAX),
        Event::EraseState(node),
        Event::RollBackState(node, 3),
        Event::BeginDrain(node, None),
        Event::BeginDrain(node, Some(1)),
        Event::EndDrain(node, None),
        Event::EndDrain(node, Some(0)),
        Event::Skew(node, -3_600_000),
        Event::Drift(node, -300),
    ]
}

fn script() -> Script {
    let events = one_of_each().into_iter().enumerate();
    let schedule = Schedule {
        events: events.map(|(place, event)| (Duration::from_micros(place as u64 * 999_999), event)).collect(),
    };
    Script { seed: 7, span: Duration::from_millis(60_500), clients: 5, keys: 14, schedule }
}

#[test]
fn every_event_is_read_as_it_was_written() {
    let kinds: BTreeSet<&str> = one_of_each().iter().map(kind).collect();
    assert_eq!(kinds.len(), 23, "one of each kind");
    for event in one_of_each() {
        let text = event.to_string();
        assert_eq!(text.parse(), Ok(event), "{text}");
    }
    let script = script();
    let text = script.to_string();
    assert_eq!(text.parse(), Ok(script.clone()), "{text}");
    assert_eq!(format!("# for people\n\n{text}").parse(), Ok(script));
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let head = "seed 1\nspan-s 60\nclients 5\nkeys 14\n";
    for (line, why) in [
        ("at x mend", "expected seconds"),
        ("at 1.0000001 mend", "at most six decimals"),
        ("at +1 mend", "expected seconds"),
        ("at 1 explode", "no event is called \"explode\""),
        ("at 1 mend now", "nothing expected after"),
        ("at 1 kill node-1", "expected crash or power-cut"),
        ("at 1 kill 1 crash", "expected node-N"),
        ("at 1 kill node-x crash", "expected node-N"),
        ("at 1 weather lots=3", "no field is called \"lots\""),
        ("at 1 weather lost=many", "expected lost=N"),
        ("at 1 weather dead", "expected name=N"),
        ("at 1 drive-weather node-1 0 ill", "expected name=N or dead"),
        ("at 1 rot node-1 0 12", "expected a seed"),
        ("clients 0", "above 0"),
        ("seeds 4", "expected seed, span-s"),
        ("seed 4 5", "nothing expected after"),
    ] {
        let error = format!("{head}{line}\n").parse::<Script>().unwrap_err().to_string();
        assert!(error.contains(why) && error.starts_with("line 5:"), "{line}: {error}");
    }
    let error = format!("{head}at 2 mend\nat 1 mend\n").parse::<Script>().unwrap_err().to_string();
    assert!(error.starts_with("line 6: earlier"), "{error}");
    for absent in ["seed", "span-s", "clients", "keys"] {
        let text: String =
            head.lines().filter(|line| !line.starts_with(absent)).map(|line| format!("{line}\n")).collect();
        let error = text.parse::<Script>().unwrap_err().to_string();
        assert!(error.contains(&format!("no line {absent}")), "{error}");
    }
}
