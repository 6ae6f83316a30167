//! Whether the operations on one key could have happened one after the other, each between its call and its answer.
//!
//! The search of Wing and Gong with the memory of Lowe: linearize any operation that was called before the earliest answer
//! still outstanding, and never look at a set of linearized operations with the same state twice. An operation without an
//! answer may take effect at any later time or never.
//!
//! Not checked: more than one key at once (no promise spans keys), and more than
//! [`OPERATIONS_PER_KEY_MAX`] operations, which the workload does not make.

use crate::sim::history::{Effect, Event};
use crate::sim::limits::{CHECKER_STATES_MAX, OPERATIONS_PER_KEY_MAX};
use crate::sim::operation::Value;
use std::collections::BTreeSet;

const WORDS: usize = OPERATIONS_PER_KEY_MAX / 64;
const _: () = assert!(OPERATIONS_PER_KEY_MAX.is_multiple_of(64));

type Set = [u64; WORDS];

fn has(set: &Set, index: usize) -> bool {
    set[index / 64] >> (index % 64) & 1 == 1
}

fn with(mut set: Set, index: usize) -> Set {
    set[index / 64] |= 1 << (index % 64);
    set
}

/// The value after `event`, or `None` where it cannot have happened at `value`.
fn step(value: Option<Value>, event: &Event) -> Option<Option<Value>> {
    match event.effect {
        Effect::Put { value: new, if_absent } => (!if_absent || value.is_none()).then_some(Some(new)),
        Effect::Present => value.is_some().then_some(value),
        Effect::Listed(listed) => (value.is_some() == listed).then_some(value),
        Effect::Read(read) => (read == value).then_some(value),
        Effect::Delete => Some(None),
    }
}

/// Checks the events of one key, which had no value before the first.
///
/// # Errors
/// There is no such order, in words.
pub fn check(events: &[Event]) -> Result<(), String> {
    if events.len() > OPERATIONS_PER_KEY_MAX {
        return Err(format!("{} operations are too many to check", events.len()));
    }
    let returned: Vec<usize> = (0..events.len()).filter(|index| events[*index].returned.is_some()).collect();
    let mut seen: BTreeSet<(Set, Option<Value>)> = BTreeSet::new();
    let mut stack: Vec<(Set, Option<Value>)> = vec![([0; WORDS], None)];
    // The furthest that any order came, to show where it sticks.
    let mut best: (usize, Set, Option<Value>) = (0, [0; WORDS], None);
    while let Some((done, value)) = stack.pop() {
        if !seen.insert((done, value)) {
            continue;
        }
        if seen.len() > CHECKER_STATES_MAX {
            return Err(format!("more than {CHECKER_STATES_MAX} states: too many unknown outcomes to check"));
        }
        let mut count = 0;
        let mut earliest = u64::MAX;
        for index in &returned {
            if has(&done, *index) {
                count += 1;
            } else {
                earliest = earliest.min(events[*index].returned.unwrap_or(u64::MAX));
            }
        }
        if count == returned.len() {
            return Ok(());
        }
        if count >= best.0 {
            best = (count, done, value);
        }
        for (index, event) in events.iter().enumerate() {
            if !has(&done, index)
                && event.invoked < earliest
                && let Some(after) = step(value, event)
            {
                stack.push((with(done, index), after));
            }
        }
    }
    let (_, done, value) = best;
    let stuck: Vec<String> = events
        .iter()
        .enumerate()
        .filter(|(index, event)| !has(&done, *index) && event.returned.is_some())
        .take(3)
        .map(|(_, event)| format!("{event:?}"))
        .collect();
    let recent: Vec<String> = events.iter().rev().take(6).rev().map(|event| format!("{event:?}")).collect();
    Err(format!(
        "no order explains the answers; at best the value was {value:?}, then none of these fit: {}; the last events: {}",
        stuck.join(", "),
        recent.join(", ")
    ))
}

#[cfg(test)]
mod tests;
