//! Whether versions that are read by their ids are what was acknowledged under these ids.
//!
//! In buckets that keep versions, a PUT is answered with its version's id. From then on that id gives the same bytes, or, once
//! the key has had [`CONFIG_VERSIONS_MAX`] more changes, nothing. Not checked: the order in which versions are listed (the door has
//! no list of versions), ids of PUTs that were not answered, and versions of deleted keys beyond that they can be read.

use super::Violation;
use crate::sim::history::{Effect, Event, Seen, VersionRead};
use std::collections::BTreeMap;
use strongroom_types::VersionId;
use strongroom_types::limits::CONFIG_VERSIONS_MAX;

const RULE: &str = "versions: an id is one version for good";

/// Checks every read of a version.
pub fn check(seen: &Seen) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut known: BTreeMap<VersionId, (&String, &VersionRead)> = BTreeMap::new();
    for (key, reads) in &seen.versions {
        let events = seen.events.get(key).map_or(&[][..], Vec::as_slice);
        for read in reads {
            if let Err(found) = check_read(events, read) {
                violations.push(Violation { rule: RULE, found: format!("{key} {}: {found}", read.version) });
            }
            if let Some((other_key, other)) = known.insert(read.version, (key, read))
                && (other_key, other.expected) != (key, read.expected)
            {
                let found = format!("{} is a version of {other_key} and of {key}", read.version);
                violations.push(Violation { rule: "I7: version ids are not used again", found });
            }
        }
    }
    violations
}

fn check_read(events: &[Event], read: &VersionRead) -> Result<(), String> {
    let (expected, (_, answered)) = (read.expected, read.during);
    match read.found {
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(format!("is {found}, acknowledged for {expected}")),
        None => {
            let written = events
                .iter()
                .find(|event| matches!(event.effect, Effect::Put { value, .. } if value == expected));
            let since = written.map_or(0, |event| event.invoked);
            let later = events.iter().filter(|event| {
                event.effect.writes()
                    && written.is_none_or(|written| written != *event)
                    && event.returned.is_none_or(|returned| returned > since)
                    && event.invoked < answered
            });
            let later = later.count();
            if later >= CONFIG_VERSIONS_MAX {
                return Ok(());
            }
            Err(format!("{expected} is gone after at most {later} more changes of the key"))
        }
    }
}

#[cfg(test)]
mod tests;
