//! Makes a run that fails small: fewer faults, a shorter span, fewer clients and keys, as long as it still fails in the same way.
//!
//! Delta debugging (Zeller and Hildebrandt), over the list of events first by halves, then by ever smaller pieces, around it over the
//! numbers. What is left is small, not smallest: taking out any one event of it makes the run pass, if there was time to find out.

use super::faults::text::Script;
use std::time::Duration;

/// Keys that still are of both buckets.
const KEYS_MIN: usize = 2;
const SPAN_MIN: Duration = Duration::from_secs(1);

/// Makes `script` smaller as long as `fails` says that it still fails in the same way, and `is_over` does not say that time is up.
pub fn shrink(script: Script, mut fails: impl FnMut(&Script) -> bool, is_over: impl Fn() -> bool) -> Script {
    let mut best = script;
    loop {
        let before = best.clone();
        for step in [fewer_events, shorter_span, fewer_clients, fewer_keys] {
            step(&mut best, &mut |candidate: &Script| !is_over() && fails(candidate));
        }
        if best == before || is_over() {
            return best;
        }
    }
}

type Fails<'a> = dyn FnMut(&Script) -> bool + 'a;

fn fewer_events(best: &mut Script, fails: &mut Fails<'_>) {
    let mut piece = best.schedule.events.len();
    while piece > 0 {
        let mut at = 0;
        while at < best.schedule.events.len() {
            let mut candidate = best.clone();
            let end = candidate.schedule.events.len().min(at + piece);
            candidate.schedule.events.drain(at..end);
            if fails(&candidate) {
                *best = candidate;
            } else {
                at = end;
            }
        }
        piece /= 2;
    }
}

/// The clients' time: by halves, and to the last event.
fn shorter_span(best: &mut Script, fails: &mut Fails<'_>) {
    let last = best.schedule.events.last().map_or(Duration::ZERO, |(at, _)| *at);
    let mut candidates = vec![SPAN_MIN, last];
    candidates.extend((1..4).map(|part| best.span * part / 4));
    candidates.sort_unstable();
    for span in candidates {
        // Events behind the end of the span keep the clients going until they come.
        let span = span.max(SPAN_MIN);
        if span < best.span {
            let candidate = Script { span, ..best.clone() };
            if fails(&candidate) {
                *best = candidate;
                return;
            }
        }
    }
}

fn fewer_clients(best: &mut Script, fails: &mut Fails<'_>) {
    for clients in 1..best.clients {
        let candidate = Script { clients, ..best.clone() };
        if fails(&candidate) {
            *best = candidate;
            return;
        }
    }
}

fn fewer_keys(best: &mut Script, fails: &mut Fails<'_>) {
    for keys in [KEYS_MIN, best.keys / 2] {
        if keys >= KEYS_MIN && keys < best.keys {
            let candidate = Script { keys, ..best.clone() };
            if fails(&candidate) {
                *best = candidate;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shrink;
    use crate::sim::faults::text::Script;
    use crate::sim::faults::{Event, Schedule};
    use std::cell::Cell;
    use std::time::Duration;
    use strongroom_types::NodeId;

    fn script() -> Script {
        let events = (0..40).map(|at| (Duration::from_secs(at), Event::Boot(NodeId::new(at)))).collect();
        Script { seed: 1, span: Duration::from_secs(60), clients: 5, keys: 14, schedule: Schedule { events } }
    }

    fn has(script: &Script, node: u64) -> bool {
        script.schedule.events.iter().any(|(_, event)| *event == Event::Boot(NodeId::new(node)))
    }

    #[test]
    fn what_is_needed_is_left_and_nothing_else() {
        let small =
            shrink(script(), |script| has(script, 7) && has(script, 31) && script.clients >= 2, || false);
        assert_eq!(small.schedule.events.len(), 2);
        assert!(has(&small, 7) && has(&small, 31));
        assert_eq!((small.clients, small.keys, small.seed), (2, 2, 1));
        assert!(small.span < Duration::from_secs(32), "{:?}", small.span);
        let nothing = shrink(script(), |_| true, || false);
        assert_eq!((nothing.schedule.events.len(), nothing.clients, nothing.span.as_secs()), (0, 1, 1));
        assert_eq!(shrink(script(), |_| false, || false), script());
    }

    #[test]
    fn it_ends_when_time_is_up() {
        let tries = Cell::new(0);
        let fails = |script: &Script| {
            tries.set(tries.get() + 1);
            has(script, 7)
        };
        let small = shrink(script(), fails, || tries.get() >= 5);
        assert_eq!(tries.get(), 5);
        assert!(has(&small, 7));
    }
}
