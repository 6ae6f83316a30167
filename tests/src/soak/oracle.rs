//! What each key may hold.
//!
//! A version that was acknowledged holds until another one that began after that acknowledgement is acknowledged. A version of which
//! nobody knows (no answer, or an error that is no refusal) may hold from when it was asked for, until one that began so much later that it
//! must have had its effect by then ([`UNKNOWN_UNTIL`]) is acknowledged. What a read may see follows from when it began and ended. This
//! needs no order among writers. It is less than linearizability: each read is judged alone.

use super::limits::{FORGET_AFTER, UNKNOWN_UNTIL, VIOLATIONS_MAX};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// A bucket and a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The bucket.
    pub bucket: &'static str,
    /// The key.
    pub key: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

/// What a version is, without its bytes: they can be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// No object.
    Absent,
    /// The bytes that follow from this number.
    Bytes {
        /// The number.
        id: u64,
        /// How many.
        len_bytes: u64,
    },
}

impl Value {
    /// Bytes of the object; `None` where there is none.
    pub fn len_bytes(self) -> Option<u64> {
        match self {
            Self::Absent => None,
            Self::Bytes { len_bytes, .. } => Some(len_bytes),
        }
    }
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Acknowledged, with the entity tag where there is one.
    Acknowledged(Option<String>),
    /// Refused: it has no effect, now or later.
    Refused,
    /// Nobody knows.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Acknowledged(Instant),
    Unknown,
}

#[derive(Clone, Debug)]
struct Version {
    number: u64,
    value: Value,
    begun: Instant,
    state: State,
    etag: Option<String>,
}

/// A write that was begun.
#[derive(Debug)]
#[must_use = "a write that is never ended stays unknown"]
pub struct Begun {
    name: Name,
    number: u64,
}

/// When something was asked for and answered.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Asked.
    pub begun: Instant,
    /// Answered.
    pub ended: Instant,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// In a word: `lost`, `wrong`, `list`, `condition`, `unreadable`.
    pub kind: &'static str,
    /// In a line.
    pub words: String,
}

/// See the module.
pub struct Oracle {
    begun: Instant,
    next: u64,
    keys: BTreeMap<Name, Vec<Version>>,
    violations: Vec<Violation>,
    violation_count: u64,
    checked_count: u64,
}

impl Oracle {
    /// Of a cluster that holds nothing.
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            next: 1,
            keys: BTreeMap::new(),
            violations: Vec::new(),
            violation_count: 0,
            checked_count: 0,
        }
    }

    /// A number for a new version.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// A write begins. Its number is from [`Self::number`].
    pub fn begin(&mut self, name: &Name, number: u64, value: Value) -> Begun {
        self.begin_at(name, number, value, Instant::now())
    }

    fn begin_at(&mut self, name: &Name, number: u64, value: Value, begun: Instant) -> Begun {
        let first = Version {
            number: 0,
            value: Value::Absent,
            begun: self.begun,
            state: State::Acknowledged(self.begun),
            etag: None,
        };
        let versions = self.keys.entry(name.clone()).or_insert_with(|| vec![first]);
        versions.push(Version { number, value, begun, state: State::Unknown, etag: None });
        Begun { name: name.clone(), number }
    }

    /// A write ended.
    pub fn end(&mut self, begun: Begun, ending: Ending) {
        self.end_at(begun, ending, Instant::now());
    }

    fn end_at(&mut self, begun: Begun, ending: Ending, now: Instant) {
        let Some(versions) = self.keys.get_mut(&begun.name) else { return };
        let Some(place) = versions.iter().position(|version| version.number == begun.number) else { return };
        match ending {
            Ending::Acknowledged(etag) => {
                versions[place].state = State::Acknowledged(now);
                versions[place].etag = etag;
            }
            Ending::Refused => {
                versions.remove(place);
            }
            Ending::Unknown => {}
        }
        if let Some(long_ago) = now.checked_sub(FORGET_AFTER) {
            let replaced: Vec<u64> = versions
                .iter()
                .filter(|version| is_replaced(version, versions, long_ago))
                .map(|version| version.number)
                .collect();
            versions.retain(|version| !replaced.contains(&version.number));
        }
    }

    fn possible(&self, name: &Name, span: Span) -> Vec<&Version> {
        let Some(versions) = self.keys.get(name) else { return Vec::new() };
        versions
            .iter()
            .filter(|version| version.begun <= span.ended && !is_replaced(version, versions, span.begun))
            .collect()
    }

    /// What a read of this key in this time may see. Empty means: never written, so nothing.
    pub fn allowed(&self, name: &Name, span: Span) -> Vec<Value> {
        let values: Vec<Value> = self.possible(name, span).iter().map(|version| version.value).collect();
        if values.is_empty() { vec![Value::Absent] } else { values }
    }

    /// The entity tag of the version that the key surely holds now.
    pub fn certain_etag(&self, name: &Name) -> Option<String> {
        let now = Instant::now();
        match self.possible(name, Span { begun: now, ended: now }).as_slice() {
            [one] => one.etag.clone(),
            _ => None,
        }
    }

    /// Whether a write on condition of this tag could have been done, and whether it could have been refused, in this time.
    pub fn tag_could(&self, name: &Name, etag: &str, span: Span, own: &Begun) -> (bool, bool) {
        let possible: Vec<_> =
            self.possible(name, span).into_iter().filter(|version| version.number != own.number).collect();
        let is_it = |version: &&Version| version.etag.as_deref() == Some(etag);
        // Versions that nobody knows have no tag here, and may be anything.
        (
            possible.iter().any(|version| is_it(version) || version.state == State::Unknown),
            possible.iter().any(|version| !is_it(version)),
        )
    }

    /// Whether in this time the key could have been absent, and could have been there, other than by this write.
    pub fn could_be(&self, name: &Name, span: Span, own: &Begun) -> (bool, bool) {
        let possible: Vec<_> =
            self.possible(name, span).into_iter().filter(|version| version.number != own.number).collect();
        (
            possible.is_empty() || possible.iter().any(|version| version.value == Value::Absent),
            possible.iter().any(|version| version.value != Value::Absent),
        )
    }

    /// All keys of a bucket that begin with this.
    pub fn names(&self, bucket: &'static str, prefix: &str) -> Vec<Name> {
        let from = Name { bucket, key: prefix.to_owned() };
        let names = self.keys.range(from..).map(|(name, _)| name);
        names.take_while(|name| name.bucket == bucket && name.key.starts_with(prefix)).cloned().collect()
    }

    /// Keys that were ever written.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// One answer was judged.
    pub fn checked(&mut self) {
        self.checked_count += 1;
    }

    /// How many answers were judged.
    pub fn checked_count(&self) -> u64 {
        self.checked_count
    }

    /// Something went wrong.
    pub fn violate(&mut self, kind: &'static str, words: String) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { kind, words });
        }
    }

    /// What went wrong, and how often.
    pub fn violations(&self) -> (&[Violation], u64) {
        (&self.violations, self.violation_count)
    }

    /// The history of a key, for people.
    pub fn history(&self, name: &Name) -> String {
        let since = |at: Instant| format!("{:.3}", (at - self.begun).as_secs_f64());
        let of = |version: &Version| {
            let value = match version.value {
                Value::Absent => String::from("absent"),
                Value::Bytes { id, len_bytes } => format!("#{id} of {len_bytes} bytes"),
            };
            match version.state {
                State::Acknowledged(at) => format!("{value} [{} to {}]", since(version.begun), since(at)),
                State::Unknown => format!("{value} [{} unknown]", since(version.begun)),
            }
        };
        let versions = self.keys.get(name).map(|versions| versions.iter().map(of).collect::<Vec<_>>());
        versions.unwrap_or_default().join(", ")
    }

    /// Seconds of the run at which something happened.
    pub fn second(&self, at: Instant) -> f64 {
        (at - self.begun).as_secs_f64()
    }
}

impl Default for Oracle {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether another version had surely taken its place before `at`.
fn is_replaced(version: &Version, versions: &[Version], at: Instant) -> bool {
    let done = match version.state {
        State::Acknowledged(acknowledged) => acknowledged,
        State::Unknown => version.begun + UNKNOWN_UNTIL,
    };
    versions.iter().any(|later| match later.state {
        State::Acknowledged(then) => later.begun > done && then < at,
        State::Unknown => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::limits::UNKNOWN_UNTIL;
    use super::{Ending, Name, Oracle, Span, Value};
    use std::time::{Duration, Instant};

    struct Story {
        oracle: Oracle,
        begun: Instant,
    }

    fn value(id: u64) -> Value {
        Value::Bytes { id, len_bytes: 1 }
    }

    fn name() -> Name {
        Name { bucket: "mail", key: String::from("key") }
    }

    impl Story {
        fn new() -> Self {
            let oracle = Oracle::new();
            let begun = oracle.begun;
            Self { oracle, begun }
        }

        fn at(&self, second: u64) -> Instant {
            self.begun + Duration::from_secs(second)
        }

        fn write(&mut self, id: u64, from: u64, to: u64, ending: Ending) {
            let begun = self.oracle.begin_at(&name(), id, value(id), self.at(from));
            self.oracle.end_at(begun, ending, self.at(to));
        }

        fn allowed(&self, from: u64, to: u64) -> Vec<Value> {
            self.oracle.allowed(&name(), Span { begun: self.at(from), ended: self.at(to) })
        }
    }

    const ACKNOWLEDGED: Ending = Ending::Acknowledged(None);

    #[test]
    fn what_was_acknowledged_is_all_that_may_be_read_afterwards() {
        let mut story = Story::new();
        assert_eq!(story.allowed(0, 1), [Value::Absent]);
        story.write(1, 1, 3, ACKNOWLEDGED);
        assert_eq!(story.allowed(2, 2), [Value::Absent, value(1)]);
        assert_eq!(story.allowed(4, 5), [value(1)]);
        story.write(2, 5, 7, ACKNOWLEDGED);
        assert_eq!(story.allowed(6, 6), [value(1), value(2)]);
        assert_eq!(story.allowed(8, 9), [value(2)]);
    }

    #[test]
    fn what_nobody_knows_may_hold_and_what_was_refused_never() {
        let mut story = Story::new();
        story.write(1, 1, 2, ACKNOWLEDGED);
        story.write(2, 3, 4, Ending::Unknown);
        story.write(3, 5, 6, Ending::Refused);
        assert_eq!(story.allowed(7, 8), [value(1), value(2)]);
        story.write(4, 9, 10, ACKNOWLEDGED);
        assert_eq!(story.allowed(11, 12), [value(2), value(4)], "it may still come");
    }

    #[test]
    fn what_nobody_knows_is_replaced_by_what_began_when_it_was_surely_over() {
        let over = UNKNOWN_UNTIL.as_secs();
        for (begun, may_hold) in [(over, true), (over + 1, false)] {
            let mut story = Story::new();
            story.write(1, 0, 15, Ending::Unknown);
            assert_eq!(story.allowed(1_000, 1_000), [Value::Absent, value(1)], "without another for ever");
            story.write(2, begun, begun + 1, ACKNOWLEDGED);
            let allowed = if may_hold { vec![value(1), value(2)] } else { vec![value(2)] };
            assert_eq!(story.allowed(begun + 2, begun + 3), allowed, "{begun}");
        }
        // A DELETE of unknown outcome too: what was acknowledged long after is there, or lost.
        let mut story = Story::new();
        let begun = story.oracle.begin_at(&name(), 1, Value::Absent, story.at(1));
        story.oracle.end_at(begun, Ending::Unknown, story.at(16));
        story.write(2, 2 * over, 2 * over + 1, ACKNOWLEDGED);
        assert_eq!(story.allowed(2 * over + 2, 2 * over + 2), [value(2)]);
    }

    #[test]
    fn of_two_writes_at_once_either_may_be_the_last() {
        let mut story = Story::new();
        story.write(1, 1, 4, ACKNOWLEDGED);
        story.write(2, 2, 3, ACKNOWLEDGED);
        assert_eq!(story.allowed(5, 6), [value(1), value(2)]);
    }

    #[test]
    fn what_was_replaced_long_ago_is_forgotten_and_nothing_else() {
        let mut story = Story::new();
        story.write(1, 1, 2, ACKNOWLEDGED);
        story.write(2, 3, 4, Ending::Unknown);
        story.write(3, 5, 6, ACKNOWLEDGED);
        story.write(4, 500, 501, ACKNOWLEDGED);
        assert_eq!(story.allowed(502, 503), [value(4)]);
        assert_eq!(story.oracle.keys[&name()].len(), 3, "2 and 3 were replaced a moment ago only");
    }

    #[test]
    fn conditions_are_judged_by_what_could_be() {
        let mut story = Story::new();
        story.write(1, 1, 2, Ending::Acknowledged(Some(String::from("tag"))));
        let own = story.oracle.begin_at(&name(), 2, value(2), story.at(3));
        let span = Span { begun: story.at(3), ended: story.at(4) };
        assert_eq!(story.oracle.could_be(&name(), span, &own), (false, true));
        assert_eq!(story.oracle.tag_could(&name(), "tag", span, &own), (true, false));
        assert_eq!(story.oracle.tag_could(&name(), "other", span, &own), (false, true));
        story.oracle.end_at(own, Ending::Unknown, story.at(4));
        let own = story.oracle.begin_at(&name(), 3, value(3), story.at(5));
        let span = Span { begun: story.at(5), ended: story.at(6) };
        assert_eq!(story.oracle.tag_could(&name(), "tag", span, &own), (true, true));
    }
}
