use super::check;
use crate::sim::draws::Draws;
use crate::sim::history::{Effect, Event, OnlyIf};
use crate::sim::operation::Value;

fn value(number: u64) -> Value {
    Value { number, len_bytes: 8 }
}

fn event(invoked: u64, returned: u64, effect: Effect) -> Event {
    Event { invoked, returned: Some(returned), over: None, effect }
}

fn unknown(invoked: u64, effect: Effect) -> Event {
    Event { invoked, returned: None, over: None, effect }
}

/// Without an answer, and over at that time.
fn over(invoked: u64, over: u64, effect: Effect) -> Event {
    Event { invoked, returned: None, over: Some(over), effect }
}

fn put(number: u64) -> Effect {
    Effect::Put { value: value(number), only_if: OnlyIf::Any }
}

fn put_if_absent(number: u64) -> Effect {
    Effect::Put { value: value(number), only_if: OnlyIf::Absent }
}

fn put_over(number: u64, before: u64) -> Effect {
    Effect::Put { value: value(number), only_if: OnlyIf::Is(value(before)) }
}

fn read(number: u64) -> Effect {
    Effect::Read(Some(value(number)))
}

const NONE: Effect = Effect::Read(None);
const DELETE: Effect = Effect::Delete { only_if: OnlyIf::Any };

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
    assert_eq!(check(&[event(1, 2, put(1)), unknown(3, DELETE), event(4, 5, NONE)]), Ok(()));
}

#[test]
fn what_is_over_takes_effect_no_more() {
    let base = [event(1, 2, put(1)), event(10, 11, read(1))];
    let with = |more: &[Event]| check(&[&base[..], more].concat());
    // An acknowledged object that is lost may be taken for deleted only while the DELETE may still be done.
    assert_eq!(with(&[unknown(3, DELETE), event(20, 21, NONE)]), Ok(()));
    assert_eq!(with(&[over(3, 15, DELETE), event(20, 21, NONE)]), Ok(()), "between 11 and 15");
    assert!(with(&[over(3, 5, DELETE), event(20, 21, NONE)]).is_err());
    assert!(with(&[over(3, 15, DELETE), event(16, 17, read(1)), event(20, 21, NONE)]).is_err());
    // Two that are over at once may both have been done, in either order, and neither need have been.
    let two = [over(3, 15, put(2)), over(4, 15, put(3))];
    for last in [1, 2, 3] {
        assert_eq!(with(&[&two[..], &[event(20, 21, read(last))]].concat()), Ok(()), "{last}");
        let other = 1 + last % 3;
        let changes = [event(20, 21, read(last)), event(22, 23, read(other))];
        assert!(with(&[&two[..], &changes].concat()).is_err(), "{last}, {other}");
    }
    let deletes = [over(3, 30, DELETE), event(12, 13, NONE), event(14, 15, put(4)), over(5, 30, DELETE)];
    assert_eq!(with(&[&deletes[..], &[event(40, 41, NONE)]].concat()), Ok(()));
    assert!(with(&[&deletes[..3], &[event(40, 41, NONE)]].concat()).is_err());
}

#[test]
fn conditions_are_checked() {
    assert_eq!(check(&[event(1, 2, put_if_absent(1)), event(3, 4, Effect::Present)]), Ok(()));
    assert!(check(&[event(1, 2, put_if_absent(1)), event(3, 4, put_if_absent(2))]).is_err());
    assert!(check(&[event(1, 2, Effect::Present)]).is_err());
    assert_eq!(check(&[event(1, 9, put_if_absent(1)), event(2, 8, DELETE), event(10, 11, NONE)]), Ok(()));
    // If-Match: of two over the same value only one is done.
    let first = event(1, 2, put(1));
    assert_eq!(check(&[first, event(3, 4, put_over(2, 1)), event(5, 6, read(2))]), Ok(()));
    assert!(check(&[first, event(3, 9, put_over(2, 1)), event(4, 8, put_over(3, 1))]).is_err());
    assert_eq!(check(&[first, event(3, 9, put_over(2, 1)), event(4, 8, put_over(3, 2))]), Ok(()));
    // A failed one saw another value, and there was one.
    let differs = event(3, 4, Effect::Differs(value(1)));
    assert!(check(&[first, differs]).is_err());
    assert!(check(&[differs]).is_err());
    assert_eq!(check(&[first, unknown(2, put(2)), differs]), Ok(()));
    let deleted = event(3, 4, Effect::Delete { only_if: OnlyIf::Is(value(1)) });
    assert_eq!(check(&[first, deleted, event(5, 6, NONE)]), Ok(()));
    assert!(check(&[first, event(2, 3, put(2)), event(4, 5, deleted.effect)]).is_err());
}

#[test]
fn lists_show_what_is_there() {
    assert_eq!(check(&[event(1, 2, Effect::Listed(false)), event(3, 4, put(1))]), Ok(()));
    assert!(check(&[event(1, 2, put(1)), event(3, 4, Effect::Listed(false))]).is_err());
    assert!(check(&[event(1, 2, put(1)), event(3, 4, DELETE), event(5, 6, Effect::Listed(true))]).is_err());
}

/// What was removed or replaced does not come back: at the end of a run every node is read, so that these are the reads of six nodes.
#[test]
fn nothing_that_was_removed_or_replaced_comes_back() {
    let removed = [event(1, 2, put(1)), event(3, 4, DELETE)];
    let reads = |effects: [Effect; 6]| -> Vec<Event> {
        let each = effects.into_iter().zip((10..).step_by(2));
        each.map(|(effect, at)| event(at, at + 1, effect)).collect()
    };
    assert_eq!(check(&[&removed[..], &reads([NONE; 6])].concat()), Ok(()));
    for node in 0..6 {
        let mut effects = [NONE; 6];
        effects[node] = read(1);
        assert!(check(&[&removed[..], &reads(effects)].concat()).is_err(), "node {node}");
    }
    let replaced = [event(1, 2, put(1)), event(3, 4, put(2))];
    let mut effects = [read(2); 6];
    assert_eq!(check(&[&replaced[..], &reads(effects)].concat()), Ok(()));
    effects[5] = read(1);
    assert!(check(&[&replaced[..], &reads(effects)].concat()).is_err());
    // Not even where another write may or may not have come in between, and not once it was seen to be gone.
    let with_unknown = [event(1, 2, put(1)), unknown(3, put(3)), event(4, 5, DELETE)];
    assert!(check(&[&with_unknown[..], &reads([NONE, NONE, NONE, NONE, NONE, read(1)])].concat()).is_err());
    assert_eq!(
        check(&[&with_unknown[..], &reads([NONE, NONE, NONE, read(3), read(3), read(3)])].concat()),
        Ok(())
    );
    assert!(
        check(&[&with_unknown[..], &reads([NONE, NONE, read(3), NONE, read(3), read(3)])].concat()).is_err()
    );
}

/// Every order of every subset of the operations without an answer, tried one by one: what the checker must agree with.
fn fits_somehow(events: &[Event], done: u32, now: u64, value: Option<Value>) -> bool {
    let left = |index: &usize| done >> index & 1 == 0;
    if (0..events.len()).filter(left).all(|index| events[index].returned.is_none()) {
        return true;
    }
    let answered = (0..events.len()).filter(left).filter_map(|index| events[index].returned);
    let earliest = answered.min().unwrap_or(u64::MAX);
    (0..events.len()).filter(left).any(|index| {
        let Event { invoked, over, effect, .. } = events[index];
        let now = now.max(invoked);
        now < earliest
            && over.is_none_or(|over| now < over)
            && effect.step(value).is_some_and(|after| fits_somehow(events, done | 1 << index, now, after))
    })
}

#[test]
fn agrees_with_trying_every_order_on_small_histories() {
    let mut fitting = 0;
    const HISTORIES: u64 = 30_000;
    for seed in 0..HISTORIES {
        let mut draws = Draws::new(seed);
        let count = 3 + draws.index(6);
        let events: Vec<Event> = (0..count)
            .map(|number| {
                let invoked = 1 + draws.below(12);
                let returned = invoked + 1 + draws.below(6);
                let other = 1 + draws.below(count as u64);
                let effect = match draws.below(12) {
                    0..3 => put(number as u64 + 1),
                    3 => put_if_absent(number as u64 + 1),
                    4 => put_over(number as u64 + 1, other),
                    5 => DELETE,
                    6 => Effect::Delete { only_if: OnlyIf::Is(value(other)) },
                    7 => NONE,
                    8 => Effect::Present,
                    9 => Effect::Differs(value(other)),
                    _ => read(other),
                };
                let known = !effect.writes() || draws.chance(650_000);
                // No two calls or answers at one moment, as in a run.
                let spread = |time: u64, place: u64| time * 100 + 2 * number as u64 + place;
                let over = (!known && draws.chance(500_000)).then_some(spread(returned + draws.below(9), 1));
                let returned = known.then_some(spread(returned, 1));
                Event { invoked: spread(invoked, 0), returned, over, effect }
            })
            .collect();
        let expected = fits_somehow(&events, 0, 0, None);
        let found = check(&events);
        assert_eq!(found.is_ok(), expected, "seed {seed}: {found:?}\n{events:#?}");
        fitting += u64::from(expected);
    }
    assert!(fitting > HISTORIES / 10 && fitting < HISTORIES * 9 / 10, "{fitting} of {HISTORIES} fit");
}

/// Histories of a register that really is one always pass, with many operations at once and a third of all outcomes unknown.
#[test]
fn histories_of_a_true_register_pass_and_fail_when_one_read_is_changed() {
    let mut changed = 0;
    for seed in 0..200 {
        let mut draws = Draws::new(seed);
        let mut events = Vec::new();
        let mut current = None;
        let mut time = 100;
        for number in 0..400 {
            // The moment of effect, and a call and answer around it.
            time += 10;
            let (invoked, returned) = (time - draws.below(9) * 3 - 1, time + 1 + draws.below(25));
            let is_unknown = draws.chance(200_000);
            let effect = match draws.below(6) {
                0..3 => Effect::Read(current),
                3 => put(number + 1),
                4 if current.is_some() => {
                    Effect::Put { value: value(number + 1), only_if: OnlyIf::Is(current.unwrap()) }
                }
                4 => put_if_absent(number + 1),
                _ => DELETE,
            };
            // Half of the unknown writes never happen.
            if effect.writes() && !(is_unknown && draws.chance(500_000)) {
                current = effect.step(current).unwrap();
            }
            let unknown = effect.writes() && is_unknown;
            let over = (unknown && draws.chance(500_000)).then_some(returned);
            events.push(Event { invoked, returned: (!unknown).then_some(returned), over, effect });
        }
        assert_eq!(check(&events), Ok(()), "seed {seed}");
        // A read of a value from long before, at the end.
        let written = events.iter().find_map(|event| match event.effect {
            Effect::Put { value, .. } if event.returned.is_some() => Some(value),
            _ => None,
        });
        if let Some(old) = written {
            events.push(event(time + 100, time + 101, put(9000)));
            events.push(event(time + 200, time + 201, Effect::Read(Some(old))));
            assert!(check(&events).is_err(), "seed {seed}");
            changed += 1;
        }
    }
    assert!(changed > 150, "{changed}");
}
