//! Time as a value. Nothing here reads a clock; `node/env` does.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A point on the monotonic clock of one process: nanoseconds since that clock's own origin. Orders and
/// measures; says nothing about the calendar, and never leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant {
    nanos: u64,
}

impl Instant {
    /// The clock's origin.
    pub const ORIGIN: Self = Self { nanos: 0 };

    /// The point `nanos` after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self { nanos }
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.nanos
    }

    /// The point `duration` later; stays at the end of time rather than wrapping.
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self { nanos: self.nanos.saturating_add(nanos) }
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }
}

/// Calendar time: milliseconds since 1970-01-01T00:00:00Z. For people, headers and signatures. Orders nothing:
/// wall clocks jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct WallTime {
    millis: u64,
}

impl WallTime {
    /// The point `millis` milliseconds after the Unix epoch.
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_unix_millis(self) -> u64 {
        self.millis
    }
}

/// The instant after which nobody waits for an answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// The deadline `patience` after `now`.
    pub fn after(now: Instant, patience: Duration) -> Self {
        Self { at: now.after(patience) }
    }

    /// When it passes.
    pub const fn at(self) -> Instant {
        self.at
    }

    /// What is left of it at `now`; zero once it has passed.
    pub fn remaining(self, now: Instant) -> Duration {
        self.at.since(now)
    }
}

#[cfg(test)]
mod tests;
