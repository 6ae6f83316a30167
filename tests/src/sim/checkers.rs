//! What must hold of a run. Each checker says what it does not check.

pub mod linear;
pub mod versions;
pub mod content;
pub mod layout;
pub mod durable;
pub mod space;
pub mod watch;
pub mod ids;

use super::history::History;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// What was found, with ids.
    pub found: String,
}

/// Checks what clients saw: no byte that nobody wrote, each key linearizable, and versions by their ids.
///
/// Since the run reads every key through every node after the faults, this is also the check that every acknowledged version
/// is readable byte for byte, as far as it is still the current one, and that nothing that was replaced or removed comes back. Not
/// checked: metadata of objects, answers of operations that were refused, and whether an error was justified.
pub fn check_history(history: &History) -> Vec<Violation> {
    let mut seen = history.seen();
    let wrong = std::mem::take(&mut seen.wrong);
    let mut violations: Vec<Violation> =
        wrong.into_iter().map(|found| Violation { rule: "bytes as written", found }).collect();
    for (key, events) in &seen.events {
        if let Err(found) = linear::check(events) {
            violations.push(Violation { rule: "linearizable per key", found: format!("{key}: {found}") });
        }
    }
    violations.extend(versions::check(&seen));
    violations
}
