use super::{Effect, Event, History, OnlyIf};
use crate::sim::operation::{Condition, Described, Listed, Operation, Outcome, Value};
use crate::sim::trace::{Sink, Trace};
use strongroom_types::VersionId;

const KEY: &str = "key";

fn value(number: u64) -> Value {
    Value { number, len_bytes: 20 }
}

fn put(number: u64, condition: Condition) -> Operation {
    Operation::Put { key: KEY.to_owned(), value: value(number), condition }
}

fn described(value: Value) -> Described {
    Described { tag: value.tag(), len_bytes: value.len_bytes as u64 }
}

/// What is recorded of these, and what is wrong with them.
async fn record(operations: Vec<(Operation, Outcome)>) -> (Vec<Effect>, Vec<String>) {
    let (history, trace) = (History::new(vec![KEY.to_owned()]), Trace::new(Sink::None));
    for (operation, outcome) in operations {
        let invoked = history.invoke(&trace, "client", operation);
        history.complete(&trace, "client", invoked, &outcome);
    }
    let seen = history.seen();
    let effects = seen.events.get(KEY).into_iter().flatten().map(|event: &Event| event.effect).collect();
    (effects, seen.wrong)
}

#[tokio::test]
async fn answers_say_something_about_the_value_or_are_wrong() {
    let (get, head) = (Operation::Get { key: KEY.to_owned() }, Operation::Head { key: KEY.to_owned() });
    let delete = |condition| Operation::Delete { key: KEY.to_owned(), condition };
    let listed =
        |described| Outcome::Listed(vec![Listed { key: KEY.to_owned(), described: Some(described) }]);
    let matches = Condition::Matches(value(1));
    let (effects, wrong) = record(vec![
        (put(1, Condition::Absent), Outcome::Stored(None)),
        (put(2, Condition::Absent), Outcome::ConditionFailed),
        (put(3, matches), Outcome::ConditionFailed),
        (put(4, matches), Outcome::Missing),
        (get.clone(), Outcome::Found(value(1).bytes())),
        (head.clone(), Outcome::Described(described(value(2)))),
        (Operation::List, listed(described(value(1)))),
        (Operation::List, Outcome::Listed(Vec::new())),
        (delete(matches), Outcome::Deleted),
        (put(5, Condition::None), Outcome::Refused(String::new())),
        (get.clone(), Outcome::Unknown(String::new())),
    ])
    .await;
    assert_eq!(wrong, Vec::<String>::new());
    let expected = [
        Effect::Put { value: value(1), only_if: OnlyIf::Absent },
        Effect::Present,
        Effect::Differs(value(1)),
        Effect::Read(None),
        Effect::Read(Some(value(1))),
        Effect::Read(Some(value(2))),
        Effect::Read(Some(value(1))),
        Effect::Read(None),
        Effect::Delete { only_if: OnlyIf::Is(value(1)) },
    ];
    assert_eq!(effects, expected);

    let longer = Described { len_bytes: 21, ..described(value(1)) };
    let twice = |key: &str| Listed { key: key.to_owned(), described: None };
    for (operation, outcome) in [
        (get.clone(), Outcome::Found(value(1).bytes().slice(..19))),
        (get.clone(), Outcome::Deleted),
        (get, Outcome::Wrong("so the client says".to_owned())),
        (head.clone(), Outcome::Described(longer)),
        (head, Outcome::Described(described(value(9)))),
        (Operation::List, listed(described(value(9)))),
        (Operation::List, Outcome::Listed(vec![twice(KEY), twice(KEY)])),
        (Operation::List, Outcome::Listed(vec![twice("other")])),
        (put(7, Condition::None), Outcome::ConditionFailed),
        (put(7, Condition::Absent), Outcome::Missing),
        (delete(Condition::None), Outcome::Missing),
    ] {
        let text = format!("{operation}: {outcome}");
        let stored = (put(1, Condition::None), Outcome::Stored(None));
        let (_, wrong) = record(vec![stored, (operation, outcome)]).await;
        assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
    }
}

#[tokio::test]
async fn what_has_no_answer_is_over_once_everyone_gave_up() {
    let (history, trace) = (History::new(vec![KEY.to_owned()]), Trace::new(Sink::None));
    let tell = |number, outcome: &Outcome| {
        let invoked = history.invoke(&trace, "client", put(number, Condition::None));
        history.complete(&trace, "client", invoked, outcome);
    };
    let over = || history.seen().events[KEY].iter().map(|event| event.over).collect::<Vec<_>>();
    let unknown = Outcome::Unknown("no answer".to_owned());
    tell(1, &unknown);
    tell(2, &Outcome::Stored(Some(VersionId::new(7))));
    history.give_up();
    tell(3, &unknown);
    assert_eq!(over(), [Some(5), None, None]);
    history.give_up();
    assert_eq!(over(), [Some(5), None, Some(8)]);
    assert_eq!(history.stored(), [(KEY.to_owned(), VersionId::new(7), value(2))]);
}
