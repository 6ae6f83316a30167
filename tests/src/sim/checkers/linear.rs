//! Whether the operations on one key could have happened one after the other, each between its call and its answer.
//!
//! The question is that of Herlihy and Wing; the search is the just-in-time form of Wing and Gong's (Lowe, "Testing for
//! linearizability", 2017): calls and answers are walked through in their order, with the set of all *states* that may be: a
//! value, and which of the operations under way have taken effect. Only when an operation is answered must it have: then every
//! order of the ones under way that lets it is tried, and states where it cannot have are dropped. None left: no order explains
//! the answers. Exact, in both directions, and cheap because three kinds of state are never kept apart from a better one:
//! - A read that fits takes effect at once: it changes nothing, and nothing is gained by putting it off.
//! - Of two states that differ in nothing but that one has used more of the operations whose outcome is not known, the other one
//!   can do all that it can, for those need never happen.
//! - Operations of unknown outcome that do the same are used in the order of their calls.
//!
//! An operation without an answer may take effect at any later time, or never; from when it is known to be *over*, no more. Then every order in
//! which it has taken effect is tried once, and kept beside those in which it has not.
//!
//! Not checked: more than one key at once. No promise spans keys, and a LIST is many reads, each within the call, of each key: what
//! was acknowledged before it began and not removed must be in it with its tag and length, what was removed before must not; but
//! it need not be the picture of one moment.

use crate::sim::history::{Effect, Event};
use crate::sim::limits::{CHECKER_STATES_MAX, OPERATIONS_UNDER_WAY_MAX};
use crate::sim::operation::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const WORDS: usize = OPERATIONS_UNDER_WAY_MAX / 64;
const _: () = assert!(OPERATIONS_UNDER_WAY_MAX.is_multiple_of(64));

/// Slots of operations under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Slots([u64; WORDS]);

impl Slots {
    fn has(&self, slot: usize) -> bool {
        self.0[slot / 64] >> (slot % 64) & 1 == 1
    }

    fn with(mut self, slot: usize) -> Self {
        self.0[slot / 64] |= 1 << (slot % 64);
        self
    }

    fn without(mut self, slot: usize) -> Self {
        self.0[slot / 64] &= !(1 << (slot % 64));
        self
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(one, other)| one & !other == 0)
    }
}

/// How things may stand: the value, and which operations under way have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    value: Option<Value>,
    /// Of those that will be answered.
    done: Slots,
    /// Of those that never are.
    used: Slots,
}

/// An operation under way.
#[derive(Clone, Copy)]
struct UnderWay {
    slot: usize,
    effect: Effect,
    answered: bool,
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Call,
    Answer,
    /// It can take effect no more.
    Over,
}

/// The walk through one key's events.
struct Walk {
    under_way: Vec<UnderWay>,
    states: Vec<State>,
}

/// Checks the events of one key, which had no value before the first.
///
/// # Errors
/// There is no such order, in words; or there is too much to try, which says so.
pub fn check(events: &[Event]) -> Result<(), String> {
    // In their order. No two share a place, but for the keys of one list, whose events are of different keys, and those that are over at once:
    // of these the first call first, since of two that do the same the first is used first.
    let mut moments: Vec<(u64, u64, usize, Moment)> = Vec::with_capacity(2 * events.len());
    for (index, event) in events.iter().enumerate() {
        moments.push((event.invoked, 0, index, Moment::Call));
        match (event.returned, event.over) {
            (Some(returned), _) => moments.push((returned, 0, index, Moment::Answer)),
            (None, Some(over)) if event.effect.writes() => {
                moments.push((over, event.invoked, index, Moment::Over));
            }
            (None, _) => {}
        }
    }
    moments.sort_unstable();
    let start = State { value: None, done: Slots::default(), used: Slots::default() };
    let mut walk = Walk { under_way: Vec::new(), states: vec![start] };
    let mut slots: Vec<Option<usize>> = vec![None; events.len()];
    for (_, _, index, moment) in moments {
        let slot = slots[index];
        match moment {
            Moment::Call => slots[index] = Some(walk.call(&events[index])?),
            Moment::Over => walk.over(slot.expect("asked for before it is over"))?,
            Moment::Answer => {
                let before = walk.states.clone();
                walk.answer(slot.expect("asked for before it is answered"))?;
                if walk.states.is_empty() {
                    return Err(describe(events, index, &before));
                }
            }
        }
    }
    Ok(())
}

impl Walk {
    fn call(&mut self, event: &Event) -> Result<usize, String> {
        let taken: BTreeSet<usize> = self.under_way.iter().map(|one| one.slot).collect();
        let slot = (0..OPERATIONS_UNDER_WAY_MAX).find(|slot| !taken.contains(slot));
        let slot = slot.ok_or("too many operations at once, or of unknown outcome, to check")?;
        let (effect, answered) = (event.effect, event.returned.is_some());
        // A read without an answer says nothing, and what is never answered need not happen.
        if answered || effect.writes() {
            self.under_way.push(UnderWay { slot, effect, answered });
        }
        Ok(slot)
    }

    /// The operation of this slot, which is never answered, can take effect no more: keeps the states in which it has beside those in which it has
    /// not.
    fn over(&mut self, slot: usize) -> Result<(), String> {
        let mut kept = Antichains::default();
        self.states.iter().for_each(|state| {
            kept.add(State { used: state.used.without(slot), ..*state });
        });
        self.settle(slot, kept, |state| {
            state.used.has(slot).then(|| State { used: state.used.without(slot), ..*state })
        })
    }

    /// The operation of this slot is answered: keeps the states in which it has taken effect.
    fn answer(&mut self, slot: usize) -> Result<(), String> {
        self.settle(slot, Antichains::default(), |state| {
            state.done.has(slot).then(|| State { done: state.done.without(slot), ..*state })
        })
    }

    /// Tries every order of what is under way until the operation of this slot has taken effect, which is where `taken` gives the state to keep
    /// beside those `kept`; then the slot is free.
    fn settle(
        &mut self,
        slot: usize,
        mut kept: Antichains,
        taken: impl Fn(&State) -> Option<State>,
    ) -> Result<(), String> {
        let mut tried = Antichains::default();
        // Fewest steps first, so that what another state can stand for is seldom tried before that other.
        let mut queue: VecDeque<State> = self.states.iter().map(|state| self.with_reads(*state)).collect();
        while let Some(state) = queue.pop_front() {
            if !tried.add(state) {
                continue;
            }
            if tried.count > CHECKER_STATES_MAX {
                return Err(format!(
                    "more than {CHECKER_STATES_MAX} states: too many unknown outcomes to check"
                ));
            }
            match taken(&state) {
                Some(after) => {
                    kept.add(after);
                }
                None => queue.extend(self.writes(&state).map(|after| self.with_reads(after))),
            }
        }
        self.under_way.retain(|one| one.slot != slot);
        self.states = kept.states();
        Ok(())
    }

    /// The state after every read under way that fits it.
    fn with_reads(&self, mut state: State) -> State {
        for one in &self.under_way {
            if one.answered && !one.effect.writes() && one.effect.step(state.value).is_some() {
                state.done = state.done.with(one.slot);
            }
        }
        state
    }

    /// The states after each write under way that can take effect next.
    fn writes(&self, state: &State) -> impl Iterator<Item = State> {
        let mut tried: BTreeSet<Effect> = BTreeSet::new();
        self.under_way.iter().filter_map(move |one| {
            let past = if one.answered { state.done.has(one.slot) } else { state.used.has(one.slot) };
            if past || !one.effect.writes() {
                return None;
            }
            // Of those that do the same and are never answered, the first that is left.
            if !one.answered && !tried.insert(one.effect) {
                return None;
            }
            let value = one.effect.step(state.value)?;
            // Changes nothing and need not happen.
            if !one.answered && value == state.value {
                return None;
            }
            let mut after = State { value, ..*state };
            let past = if one.answered { &mut after.done } else { &mut after.used };
            *past = past.with(one.slot);
            Some(after)
        })
    }
}

/// States of which none can stand for another: of those with the same value and the same operations done, the sets of used
/// ones that hold no other such set.
#[derive(Default)]
struct Antichains {
    by_place: BTreeMap<(Option<Value>, Slots), Vec<Slots>>,
    count: usize,
}

impl Antichains {
    /// Adds a state, unless another one can stand for it.
    fn add(&mut self, state: State) -> bool {
        let used = self.by_place.entry((state.value, state.done)).or_default();
        if used.iter().any(|other| other.is_within(&state.used)) {
            return false;
        }
        used.retain(|other| !state.used.is_within(other));
        used.push(state.used);
        self.count += 1;
        true
    }

    fn states(self) -> Vec<State> {
        let each = self.by_place.into_iter();
        each.flat_map(|((value, done), used)| used.into_iter().map(move |used| State { value, done, used }))
            .collect()
    }
}

fn describe(events: &[Event], stuck: usize, before: &[State]) -> String {
    let at = events[stuck].returned.unwrap_or(u64::MAX);
    let values: BTreeSet<String> = before
        .iter()
        .map(|state| state.value.map_or("none".to_owned(), |value| format!("#{}", value.number)))
        .collect();
    let values: Vec<String> = values.into_iter().collect();
    let mut near: Vec<&Event> = events
        .iter()
        .filter(|event| event.invoked < at && event.returned.is_none_or(|returned| returned + 40 >= at))
        .collect();
    near.sort_unstable_by_key(|event| (event.returned.unwrap_or(u64::MAX), event.invoked));
    let near: Vec<String> = near.into_iter().take(12).map(Event::to_string).collect();
    format!(
        "no order explains that {}: the value was {} or what an operation under way made of it; around it: {}",
        events[stuck],
        values.join(" or "),
        near.join(", ")
    )
}

#[cfg(test)]
mod tests;
