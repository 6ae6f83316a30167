//! Who asked for what, when, and what came of it: what the checkers of answers look at.

use super::draws::Draws;
use super::operation::{Condition, Described, Operation, Outcome, Tag, Value};
use super::trace::Trace;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use strongroom_types::VersionId;

/// What one operation says about one key, in the words of the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// This became the value; if `only_if`, that held of the one before.
    Put {
        /// The value.
        value: Value,
        /// Its condition.
        only_if: OnlyIf,
    },
    /// There is no value from then on; if `only_if`, that held of the one before.
    Delete {
        /// Its condition.
        only_if: OnlyIf,
    },
    /// The value was this.
    Read(Option<Value>),
    /// There was a value or not, as a LIST without tags showed.
    Listed(bool),
    /// There was a value, for `If-None-Match: *` failed.
    Present,
    /// There was a value and it was not this one, for `If-Match` failed.
    Differs(Value),
}

/// A condition that held when a write took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnlyIf {
    /// None was asked for.
    #[default]
    Any,
    /// There was no value.
    Absent,
    /// It was this one.
    Is(Value),
}

impl From<Condition> for OnlyIf {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::None => Self::Any,
            Condition::Absent => Self::Absent,
            Condition::Matches(value) => Self::Is(value),
        }
    }
}

impl Effect {
    /// The value after this, or `None` where it cannot have happened at `value`.
    pub fn step(&self, value: Option<Value>) -> Option<Option<Value>> {
        let holds = |only_if: &OnlyIf| match only_if {
            OnlyIf::Any => true,
            OnlyIf::Absent => value.is_none(),
            OnlyIf::Is(expected) => value == Some(*expected),
        };
        match self {
            Self::Put { value: new, only_if } => holds(only_if).then_some(Some(*new)),
            Self::Delete { only_if } => holds(only_if).then_some(None),
            Self::Read(read) => (*read == value).then_some(value),
            Self::Listed(listed) => (value.is_some() == *listed).then_some(value),
            Self::Present => value.is_some().then_some(value),
            Self::Differs(other) => value.is_some_and(|value| value != *other).then_some(value),
        }
    }

    /// Whether it may change the value.
    pub const fn writes(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let only = |only_if: &OnlyIf| match only_if {
            OnlyIf::Any => String::new(),
            OnlyIf::Absent => " where there was none".to_owned(),
            OnlyIf::Is(value) => format!(" in place of #{}", value.number),
        };
        match self {
            Self::Put { value, only_if } => write!(f, "put #{}{}", value.number, only(only_if)),
            Self::Delete { only_if } => write!(f, "deleted{}", only(only_if)),
            Self::Read(Some(value)) => write!(f, "saw #{}", value.number),
            Self::Read(None) => f.write_str("saw none"),
            Self::Listed(true) => f.write_str("saw it listed"),
            Self::Listed(false) => f.write_str("saw it not listed"),
            Self::Present => f.write_str("heard that there is one"),
            Self::Differs(value) => write!(f, "heard that it is another than #{}", value.number),
        }
    }
}

/// One operation on one key. Times are places in the order of all events of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was asked for; traces call the operation by this.
    pub invoked: u64,
    /// When the answer came; `None` where it is not known whether and when it took effect.
    pub returned: Option<u64>,
    /// Where there was no answer: from when on it can take effect no more, if it has not; `None` where it always may.
    pub over: Option<u64>,
    /// What it says.
    pub effect: Effect,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.returned {
            Some(returned) => write!(f, "@{}..{returned} {}", self.invoked, self.effect),
            None => {
                let over = self.over.map_or(String::new(), |over| over.to_string());
                write!(f, "@{}..{over} may have {}", self.invoked, self.effect)
            }
        }
    }
}

/// A read of a version by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRead {
    /// When it was asked for and answered.
    pub during: (u64, u64),
    /// The version.
    pub version: VersionId,
    /// What the version was acknowledged for.
    pub expected: Value,
    /// What came; `None`: no such version.
    pub found: Option<Value>,
}

/// All that clients saw of a run.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The events of each key, in the order they ended.
    pub events: BTreeMap<String, Vec<Event>>,
    /// Reads of versions by their ids, by key.
    pub versions: BTreeMap<String, Vec<VersionRead>>,
    /// What was wrong already when it was recorded.
    pub wrong: Vec<String>,
}

/// The history of a run.
pub struct History {
    keys: Vec<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    time: u64,
    seen: Seen,
    counts: Counts,
    /// Every value that anyone tried to write.
    tags: BTreeMap<Tag, Value>,
    /// The value that each key was last known to have: what conditions are made of.
    latest: BTreeMap<String, Value>,
    /// Acknowledged versions with an id, by key.
    stored: BTreeMap<String, Vec<(VersionId, Value)>>,
}

/// How many operations ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUTs and DELETEs that were acknowledged.
    pub acknowledged: u64,
    /// GETs, HEADs and LISTs that were answered.
    pub answered: u64,
    /// Refused for sure.
    pub refused: u64,
    /// Unknown.
    pub unknown: u64,
}

/// An operation under way.
#[derive(Debug)]
pub struct Invoked {
    at: u64,
    operation: Operation,
}

impl History {
    /// No events yet; all keys that clients will use.
    pub fn new(keys: Vec<String>) -> Self {
        Self { keys, state: Mutex::default() }
    }

    /// The keys.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events a key has.
    pub fn event_count(&self, key: &str) -> usize {
        self.lock().seen.events.get(key).map_or(0, Vec::len)
    }

    /// The value that a key had when it was last written or read, as far as was told: to make a condition of.
    pub fn latest(&self, key: &str) -> Option<Value> {
        self.lock().latest.get(key).copied()
    }

    /// A version of this key that was acknowledged with its id, any of them.
    pub fn version(&self, key: &str, draws: &mut Draws) -> Option<(VersionId, Value)> {
        let state = self.lock();
        state.stored.get(key).filter(|all| !all.is_empty()).map(|all| *draws.pick(all))
    }

    /// Every version that was acknowledged with its id, with its key.
    pub fn stored(&self) -> Vec<(String, VersionId, Value)> {
        let state = self.lock();
        let all = state.stored.iter().flat_map(|(key, all)| all.iter().map(move |one| (key, one)));
        all.map(|(key, (version, value))| (key.clone(), *version, *value)).collect()
    }

    /// Whoever worked on an operation without an answer has given up: what has not taken effect by now never will.
    pub fn give_up(&self) {
        let mut state = self.lock();
        state.time += 1;
        let now = state.time;
        let unknown = state.seen.events.values_mut().flatten().filter(|event| event.returned.is_none());
        unknown.for_each(|event| event.over = event.over.or(Some(now)));
    }

    /// An operation begins.
    pub fn invoke(&self, trace: &Trace, client: &str, operation: Operation) -> Invoked {
        let mut state = self.lock();
        state.time += 1;
        if let Operation::Put { value, .. } = &operation {
            state.tags.insert(value.tag(), *value);
        }
        trace.line(format_args!("call  {client} @{} {operation}", state.time));
        Invoked { at: state.time, operation }
    }

    /// An operation ends.
    pub fn complete(&self, trace: &Trace, client: &str, invoked: Invoked, outcome: &Outcome) {
        let Invoked { at, operation } = invoked;
        let mut state = self.lock();
        state.time += 1;
        let time = state.time;
        trace.line(format_args!("done  {client} @{at} {operation}: {outcome}"));
        state.counts.add(outcome);
        let wrong = state.note(at, time, &operation, outcome).or_else(|| match (&operation, outcome) {
            (Operation::List, Outcome::Listed(_)) => state.note_list(&self.keys, at, time, outcome),
            _ => None,
        });
        if let Some(wrong) = wrong {
            state.seen.wrong.push(format!("{client} @{at} {operation}: {wrong}"));
        }
    }

    /// All that clients saw until now.
    pub fn seen(&self) -> Seen {
        self.lock().seen.clone()
    }

    /// How many operations ended how.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Stored(_) | Outcome::Deleted => self.acknowledged += 1,
            Outcome::Found(_) | Outcome::Described(_) | Outcome::Missing | Outcome::Listed(_) => {
                self.answered += 1;
            }
            Outcome::Refused(_) | Outcome::ConditionFailed => self.refused += 1,
            Outcome::Unknown(_) | Outcome::Wrong(_) => self.unknown += 1,
        }
    }
}

impl State {
    fn add(&mut self, key: &str, invoked: u64, returned: Option<u64>, effect: Effect) {
        match effect {
            Effect::Put { value, .. } | Effect::Read(Some(value)) => {
                self.latest.insert(key.to_owned(), value);
            }
            _ => {}
        }
        self.seen.events.entry(key.to_owned()).or_default().push(Event {
            invoked,
            returned,
            over: None,
            effect,
        });
    }

    /// The value that something was described as; `Err` in words where nobody ever tried to write it.
    fn described(&self, described: &Described) -> Result<Value, String> {
        match self.tags.get(&described.tag) {
            Some(value) if value.len_bytes as u64 == described.len_bytes => Ok(*value),
            Some(value) => Err(format!("tag of {value}, but {} bytes", described.len_bytes)),
            None => Err(format!("tag {} is of bytes that nobody ever wrote", described.tag)),
        }
    }

    /// Records an operation on one key; says what is wrong with its answer whatever else happened.
    fn note(&mut self, at: u64, time: u64, operation: &Operation, outcome: &Outcome) -> Option<String> {
        let now = Some(time);
        match (operation, outcome) {
            (_, Outcome::Wrong(what)) => return Some(what.clone()),
            (_, Outcome::Refused(_)) | (Operation::List, Outcome::Listed(_)) => {}
            (Operation::Put { key, value, condition }, Outcome::Stored(version)) => {
                self.add(key, at, now, Effect::Put { value: *value, only_if: (*condition).into() });
                if let Some(version) = version {
                    self.stored.entry(key.clone()).or_default().push((*version, *value));
                }
            }
            (Operation::Put { key, value, condition }, Outcome::Unknown(_)) => {
                self.add(key, at, None, Effect::Put { value: *value, only_if: (*condition).into() });
            }
            (Operation::Delete { key, condition }, Outcome::Deleted) => {
                self.add(key, at, now, Effect::Delete { only_if: (*condition).into() });
            }
            (Operation::Delete { key, condition }, Outcome::Unknown(_)) => {
                self.add(key, at, None, Effect::Delete { only_if: (*condition).into() });
            }
            (
                Operation::Put { key, condition, .. } | Operation::Delete { key, condition },
                Outcome::ConditionFailed,
            ) => match condition {
                Condition::None => return Some("a condition failed that was not asked for".to_owned()),
                Condition::Absent => self.add(key, at, now, Effect::Present),
                Condition::Matches(value) => self.add(key, at, now, Effect::Differs(*value)),
            },
            (
                Operation::Put { key, condition: Condition::Matches(_), .. }
                | Operation::Delete { key, condition: Condition::Matches(_) }
                | Operation::Get { key }
                | Operation::Head { key },
                Outcome::Missing,
            ) => self.add(key, at, now, Effect::Read(None)),
            (Operation::Get { key }, Outcome::Found(bytes)) => match Value::of(bytes) {
                Some(value) => self.add(key, at, now, Effect::Read(Some(value))),
                None => return Some(format!("{} bytes that nobody ever wrote", bytes.len())),
            },
            (Operation::Head { key }, Outcome::Described(described)) => match self.described(described) {
                Ok(value) => self.add(key, at, now, Effect::Read(Some(value))),
                Err(wrong) => return Some(wrong),
            },
            (Operation::GetVersion { key, version, value }, Outcome::Found(_) | Outcome::Missing) => {
                let found = match outcome {
                    Outcome::Found(bytes) => match Value::of(bytes) {
                        Some(value) => Some(value),
                        None => return Some(format!("{} bytes that nobody ever wrote", bytes.len())),
                    },
                    _ => None,
                };
                let read = VersionRead { during: (at, time), version: *version, expected: *value, found };
                self.seen.versions.entry(key.clone()).or_default().push(read);
            }
            (
                Operation::Get { .. }
                | Operation::Head { .. }
                | Operation::GetVersion { .. }
                | Operation::List,
                Outcome::Unknown(_),
            ) => {}
            (_, outcome) => return Some(format!("an answer to another question: {outcome}")),
        }
        None
    }

    /// A list says of every key whether it is there, and what it is.
    fn note_list(&mut self, keys: &[String], at: u64, time: u64, outcome: &Outcome) -> Option<String> {
        let Outcome::Listed(listed) = outcome else { return None };
        let mut by_key = BTreeMap::new();
        let mut wrong = None;
        for one in listed {
            if by_key.insert(&one.key, one.described).is_some() {
                wrong = Some(format!("{} is listed twice", one.key));
            }
        }
        if !listed.is_sorted_by(|one, next| one.key <= next.key) {
            wrong = Some("the list is out of order".to_owned());
        }
        let known: BTreeSet<&String> = keys.iter().collect();
        if let Some(name) = by_key.keys().find(|name| !known.contains(*name)) {
            wrong = Some(format!("{name} is listed, which nobody ever wrote"));
        }
        for key in keys {
            let effect = match by_key.get(key) {
                None => Effect::Read(None),
                Some(None) => Effect::Listed(true),
                Some(Some(described)) => match self.described(described) {
                    Ok(value) => Effect::Read(Some(value)),
                    Err(why) => {
                        wrong = Some(format!("{key}: {why}"));
                        continue;
                    }
                },
            };
            self.add(key, at, Some(time), effect);
        }
        wrong
    }
}

#[cfg(test)]
mod tests;
