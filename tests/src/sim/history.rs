//! Who asked for what, when, and what came of it: what the checkers look at.

use super::operation::{Operation, Outcome, Value};
use super::trace::Trace;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What one operation says about one key, in the words of the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This became the value; if `if_absent`, there was none before.
    Put {
        /// The value.
        value: Value,
        /// Whether it was conditional.
        if_absent: bool,
    },
    /// There was a value, for a conditional PUT failed.
    Present,
    /// There was a value or not, as a LIST showed.
    Listed(bool),
    /// The value was this.
    Read(Option<Value>),
    /// There is no value from then on.
    Delete,
}

/// One operation on one key. Times are places in the order of all events of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was asked for.
    pub invoked: u64,
    /// When the answer came; `None` where it is not known whether and when it took effect.
    pub returned: Option<u64>,
    /// What it says.
    pub effect: Effect,
}

/// The history of a run.
pub struct History {
    keys: Vec<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    time: u64,
    events: BTreeMap<String, Vec<Event>>,
    counts: Counts,
    wrong: Vec<String>,
}

/// How many operations ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUTs and DELETEs that were acknowledged.
    pub acknowledged: u64,
    /// GETs and LISTs that were answered.
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
        self.lock().events.get(key).map_or(0, Vec::len)
    }

    /// An operation begins.
    pub fn invoke(&self, trace: &Trace, client: &str, operation: Operation) -> Invoked {
        let mut state = self.lock();
        state.time += 1;
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
        match outcome {
            Outcome::Stored | Outcome::Deleted => state.counts.acknowledged += 1,
            Outcome::Found(_) | Outcome::Missing | Outcome::Listed(_) => state.counts.answered += 1,
            Outcome::Refused(_) | Outcome::ConditionFailed => state.counts.refused += 1,
            Outcome::Unknown(_) | Outcome::Wrong(_) => state.counts.unknown += 1,
        }
        let mut add = |key: &str, returned, effect| {
            state.events.entry(key.to_owned()).or_default().push(Event { invoked: at, returned, effect });
        };
        match (operation, outcome) {
            (_, Outcome::Refused(_)) => {}
            (operation, Outcome::Wrong(what)) => {
                state.wrong.push(format!("{client} got a wrong answer: {operation}: {what}"));
            }
            (Operation::Put { key, value, if_absent }, Outcome::Stored) => {
                add(&key, Some(time), Effect::Put { value, if_absent });
            }
            (Operation::Put { key, value, if_absent }, Outcome::Unknown(_)) => {
                add(&key, None, Effect::Put { value, if_absent });
            }
            (Operation::Put { key, if_absent: true, .. }, Outcome::ConditionFailed) => {
                add(&key, Some(time), Effect::Present);
            }
            (Operation::Get { key }, Outcome::Missing) => add(&key, Some(time), Effect::Read(None)),
            (Operation::Get { key }, Outcome::Found(bytes)) => match Value::of(bytes) {
                Some(value) => add(&key, Some(time), Effect::Read(Some(value))),
                None => {
                    let wrong =
                        format!("{client} read {} bytes of {key} that nobody ever wrote", bytes.len());
                    state.wrong.push(wrong);
                }
            },
            (Operation::Delete { key }, Outcome::Deleted) => add(&key, Some(time), Effect::Delete),
            (Operation::Delete { key }, Outcome::Unknown(_)) => add(&key, None, Effect::Delete),
            (Operation::Get { .. } | Operation::List, Outcome::Unknown(_)) => {}
            (Operation::List, Outcome::Listed(listed)) => {
                let names: BTreeSet<&String> = listed.iter().collect();
                for key in &self.keys {
                    add(key, Some(time), Effect::Listed(names.contains(key)));
                }
                if !listed.is_sorted() || names.len() != listed.len() {
                    state.wrong.push(format!("{client} got a list out of order or with a key twice"));
                }
                if let Some(name) = names.iter().find(|name| !self.keys.contains(name)) {
                    state.wrong.push(format!("{client} got a list with {name}, which nobody ever wrote"));
                }
            }
            (operation, outcome) => {
                state
                    .wrong
                    .push(format!("{client} got an answer to another question: {operation}: {outcome}"));
            }
        }
    }

    /// The events of each key, in the order they ended, and what was wrong already when it was recorded.
    pub fn events(&self) -> (BTreeMap<String, Vec<Event>>, Vec<String>) {
        let state = self.lock();
        (state.events.clone(), state.wrong.clone())
    }

    /// How many operations ended how.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }
}
