use super::check;
use crate::sim::history::{Effect, Event, OnlyIf, Seen, VersionRead};
use crate::sim::operation::Value;
use strongroom_types::VersionId;
use strongroom_types::limits::CONFIG_VERSIONS_MAX;

fn value(number: u64) -> Value {
    Value { number, len_bytes: 8 }
}

/// A key that was put `count` times, and one read of the first version afterwards.
fn seen(count: u64, found: Option<Value>) -> Seen {
    let mut seen = Seen::default();
    let put = |number: u64| Event {
        invoked: 10 * number,
        returned: Some(10 * number + 1),
        over: None,
        effect: Effect::Put { value: value(number), only_if: OnlyIf::Any },
    };
    seen.events.insert("key".to_owned(), (1..=count).map(put).collect());
    let read = VersionRead { during: (9000, 9001), version: VersionId::new(1), expected: value(1), found };
    seen.versions.insert("key".to_owned(), vec![read]);
    seen
}

#[test]
fn a_version_is_what_was_acknowledged_until_enough_others_came() {
    let kept = CONFIG_VERSIONS_MAX as u64;
    assert_eq!(check(&seen(1, Some(value(1)))), []);
    assert_eq!(check(&seen(kept + 1, Some(value(1)))), [], "kept longer than promised");
    assert_eq!(check(&seen(kept + 1, None)), []);
    assert_eq!(check(&seen(kept, None)).len(), 1, "one too early");
    assert_eq!(check(&seen(1, Some(value(2)))).len(), 1);
}

#[test]
fn an_id_belongs_to_one_key() {
    let mut seen = seen(1, Some(value(1)));
    let mut other = seen.clone();
    seen.versions.insert("other".to_owned(), other.versions.remove("key").unwrap());
    assert!(check(&seen).iter().any(|violation| violation.rule.starts_with("I7")));
}
