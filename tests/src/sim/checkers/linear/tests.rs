use super::check;
use crate::sim::draws::Draws;
use crate::sim::history::{Effect, Event};
use crate::sim::operation::Value;

fn value(number: u64) -> Value {
    Value { number, len_bytes: 8 }
}

fn event(invoked: u64, returned: u64, effect: Effect) -> Event {
    Event { invoked, returned: Some(returned), effect }
}

fn unknown(invoked: u64, effect: Effect) -> Event {
    Event { invoked, returned: None, effect }
}

fn put(number: u64) -> Effect {
    Effect::Put { value: value(number), if_absent: false }
}

fn put_if_absent(number: u64) -> Effect {
    Effect::Put { value: value(number), if_absent: true }
}

fn read(number: u64) -> Effect {
    Effect::Read(Some(value(number)))
}

const NONE: Effect = Effect::Read(None);

#[test]
fn reads_after_writes_see_them() {
    assert_eq!(check(&[event(1, 2, put(1)), event(3, 4, read(1))]), Ok(()));
    assert!(check(&[event(1, 2, put(1)), event(3, 4, NONE)]).is_err(), "an acknowledged write is lost");
    assert!(check(&[event(1, 2, put(1)), event(3, 4, put(2)), event(5, 6, read(1))]).is_err(), "stale");
    assert!(check(&[event(1, 2, put(1)), event(3, 4, read(2))]).is_err(), "never written");
}

#[test]
fn operations_at_once_may_come_in_either_order_but_in_one() {
    let writes = [event(1, 10, put(1)), event(2, 9, put(2))];
    for (first, second, fits) in [(1, 1, true), (2, 2, true), (1, 2, false), (2, 1, false)] {
        let reads = [event(11, 12, read(first)), event(13, 14, read(second))];
        assert_eq!(check(&[writes, reads].concat()).is_ok(), fits, "{first} then {second}");
    }
}

#[test]
fn unknown_outcomes_may_be_never_now_or_much_later_but_only_once() {
    let base = [event(1, 2, put(1)), unknown(3, put(2)), event(5, 6, put(3))];
    let with = |more: &[Event]| check(&[&base[..], more].concat());
    assert_eq!(with(&[event(7, 8, read(3))]), Ok(()));
    assert_eq!(with(&[event(7, 8, read(2))]), Ok(()));
    assert_eq!(with(&[event(7, 8, read(3)), event(9, 10, read(2))]), Ok(()));
    assert!(with(&[event(7, 8, read(2)), event(9, 10, read(3))]).is_err());
    assert!(with(&[event(7, 8, read(1))]).is_err());
    assert!(
        check(&[event(1, 2, NONE), unknown(3, put(2)), event(4, 5, NONE), event(1, 2, read(2))]).is_err()
    );
    assert_eq!(check(&[event(1, 2, put(1)), unknown(3, Effect::Delete), event(4, 5, NONE)]), Ok(()));
}

#[test]
fn conditions_are_checked() {
    assert_eq!(check(&[event(1, 2, put_if_absent(1)), event(3, 4, Effect::Present)]), Ok(()));
    assert!(check(&[event(1, 2, put_if_absent(1)), event(3, 4, put_if_absent(2))]).is_err());
    assert!(check(&[event(1, 2, Effect::Present)]).is_err());
    assert_eq!(
        check(&[event(1, 9, put_if_absent(1)), event(2, 8, Effect::Delete), event(10, 11, NONE)]),
        Ok(())
    );
}

#[test]
fn lists_show_what_is_there() {
    assert_eq!(check(&[event(1, 2, Effect::Listed(false)), event(3, 4, put(1))]), Ok(()));
    assert!(check(&[event(1, 2, put(1)), event(3, 4, Effect::Listed(false))]).is_err());
    assert!(
        check(&[event(1, 2, put(1)), event(3, 4, Effect::Delete), event(5, 6, Effect::Listed(true))])
            .is_err()
    );
}

/// Histories of a register that really is one always pass, with many operations at once and a third of all outcomes unknown.
#[test]
fn histories_of_a_true_register_pass() {
    for seed in 0..200 {
        let mut draws = Draws::new(seed);
        let mut events = Vec::new();
        let mut current = None;
        let mut time = 100;
        for number in 0..120 {
            // The moment of effect, and a call and answer around it.
            time += 10;
            let (invoked, returned) = (time - draws.below(9) * 3 - 1, time + 1 + draws.below(25));
            let is_unknown = draws.chance(200_000);
            let effect = match draws.below(4) {
                0 | 1 => Effect::Read(current),
                2 => put(number),
                _ => Effect::Delete,
            };
            let write = !matches!(effect, Effect::Read(_));
            // Half of the unknown writes never happen.
            if write && !(is_unknown && draws.chance(500_000)) {
                current = match effect {
                    Effect::Put { value, .. } => Some(value),
                    _ => None,
                };
            }
            let unknown = write && is_unknown;
            events.push(Event { invoked, returned: (!unknown).then_some(returned), effect });
        }
        assert_eq!(check(&events), Ok(()), "seed {seed}");
    }
}
