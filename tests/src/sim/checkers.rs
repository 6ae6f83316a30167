//! What must hold of a run. Each checker says what it does not check.
//!
//! | invariant of the design | looked at by | when | not seen |
//! |---|---|---|---|
//! | I1 a 200 is durable and applied | [`durable`]: every locator of a kept version from the media, also of deleted keys, in half of the runs after power failed everywhere; [`linear`]: every acknowledged version is read by every node | after the faults, when settled, at the end | the very moment of the 200: kills and power cuts at any moment, and looking afterwards, stand for it |
//! | I2 a locator is in one version, needles do not overlap | [`layout`] | when settled | versions that are kept no more |
//! | I3 prefixes, epochs, marks | [`watch`]: what a holder has only grows, within a life its epoch and mark stay, and over lives once the seal counts it; [`layout`]: holders have the sealed image | five times a second; when settled | rows as such; what comes and goes between two looks |
//! | I4 nothing new into a slab whose writer is done or fenced | [`layout`]: no locator ends beyond the sealed length; [`durable`] | when settled | a locator that was committed late and replaced before the end |
//! | I5 a slab dies only if nothing points to it | [`layout`]: no version points into a dead slab, or one that is forgotten; [`reclaim`]: what groups say that versions have in slabs is what they have; `inspection`: groups are asked as soon as a slab is killed; [`versions`]: every version that was acknowledged with its id is read | when settled; at each kill; at the end | where nobody can be asked in time |
//! | I6 a fragment is freed after the superseding record | [`watch`]: the table, asked when it goes, does not name what is gone, and has given up a next layout whose finished fragment goes; [`durable`] | at every free | where nobody can be asked in time |
//! | I7 ids are never used again | [`ids`], [`versions`]; [`generations`]: a generation of a slab is one layout | at every look at tables; of Raft's several times a second | ids that came and went |
//! | I8 error is not absent, corrupt is not missing | the probe (`system::Door::probe`); [`linear`]: nothing acknowledged is ever said to be missing | when a drive's weather changes; at each answer | other answers of drives |
//! | I9 bytes are checked before they are returned | [`check_history`]: every byte that clients get was written by someone; [`durable`] against locators | at each answer; after the faults, when settled | which checksum it was |
//! | I10 fragments on distinct nodes, zones by profile | [`layout`]: distinct drives, and any zone may go; [`places`]: no two on one node where another could take one, none on a drive that is to be emptied where another could | when settled | |
//! | I11 the ack rule of a slab never changes | [`layout`]: layouts survive any zone; [`durable`]: so do the bytes | after the faults, when settled | |
//! | I12 queues are bounded | [`watch`]: tasks; the network says Busy at production's bounds | five times a second; at rest | the lengths of queues inside the node |
//! | I13 background work ends | `run::settle`; [`layout`]: nothing changes after it, drives that were not harmed are in use, and silent holders that have all rows are counted | after the faults; when settled | how fast, within the bound |

pub mod harm;
pub mod linear;
pub mod versions;
pub mod content;
pub mod layout;
pub mod reclaim;
pub mod places;
pub mod durable;
pub mod space;
pub mod watch;
pub mod ids;
pub mod generations;

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
/// is readable byte for byte, as the current one or by its id, and that nothing that was replaced or removed comes back. Not
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
