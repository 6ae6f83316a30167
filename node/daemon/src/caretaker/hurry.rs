//! Whose hand is on the caretaker: its standing jobs, and runs that have it hurry.

use super::{Caretaker, lock};
use crate::jobs::Job;
use std::sync::Arc;

/// The caretaker's standing jobs. A paused one begins nothing more; what is under way goes on.
pub struct CaretakerJobs {
    /// Fencing and sealing. Bounded by its slabs in count.
    pub seal: Arc<Job>,
    /// Making sealed copies cold; its pace is in bytes of images.
    pub convert: Arc<Job>,
    /// Making lost fragments again; its pace is in bytes of fragments.
    pub repair: Arc<Job>,
    /// Moving whole fragments off drives that are to be emptied, and onto emptier ones; its pace is in bytes of fragments.
    pub moves: Arc<Job>,
    /// Copying what is alive out of slabs that are mostly garbage; its pace is in bytes of copies.
    pub compact: Arc<Job>,
}

/// What is hurried as long as this is held: see [`Caretaker::hurry`].
pub struct Hurry<'a> {
    caretaker: &'a Caretaker,
    run: u64,
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        lock(&self.caretaker.hurried).remove(&self.run);
    }
}

/// What is done before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hurried {
    /// All that are sealed become cold.
    Sealed,
    /// Those that lack a copy become cold: copies are not made again, so they are whole again once they are cold.
    Short,
    /// Those that have any garbage worth the name are compacted.
    Garbage,
}

impl Caretaker {
    /// As long as the answer is held and the run is not paused, this is done to slabs of the groups that this node leads whatever their age.
    pub fn hurry(&self, hurried: Hurried, run: &Arc<Job>) -> Hurry<'_> {
        lock(&self.hurried).insert(run.id(), (hurried, run.clone()));
        self.reclaim.wake();
        Hurry { caretaker: self, run: run.id() }
    }

    /// Whether the next compaction may be begun now.
    pub fn may_compact(&self) -> bool {
        self.parts.jobs.compact.may_begin()
    }

    /// Whether some run that is not paused hurries these.
    pub(super) fn is_hurried(&self, hurried: Hurried) -> bool {
        lock(&self.hurried).values().any(|(wanted, run)| *wanted == hurried && run.may_begin())
    }
}

/// Says whether a worker has something to do.
pub(super) fn tell_work(job: &Job, under_way: usize, otherwise: &'static str) {
    match under_way {
        0 => job.wait_for(otherwise),
        _ => job.go_on(),
    }
}
