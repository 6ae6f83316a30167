//! What an error of the store, or of what it holds, comes to; and what an operator must know.
//!
//! | the error says | then |
//! |---|---|
//! | the bytes are not what was written | *damage*: this node has forgotten something, and nobody can say what |
//! | the store failed | nothing can be promised any more, and a group that met it stands still: the process must end |
//! | a record is as it was written, and makes no sense | *a fault* of the program, most likely the same on all replicas: an alarm |
//!
//! **Damage.** What is damaged must not vote, acknowledge or answer. The finding is noted durably, so that no later start uses the content,
//! and whoever runs the groups is woken to stop them and to begin again under another id. Until they have stopped (that takes
//! moments) they run on what they had read before; a group that met the damage itself does not, since it was given the error instead.
//!
//! **A fault is not damage.** Were it taken for that, the replica that leads would set its whole store aside because of one key, and
//! the next one that leads would do the same: a read, tried again by its client, would go through all of them.

use crate::codec::RecordError;
use crate::kv::{Failure, FirstWords, KvError, KvErrorKind, OrderedKv, in_words};
use crate::limits::ALARMS_MAX;
use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};

/// What alarms of this crate about the store begin with. None of them says that an acknowledged object is lost: the peers have it.
pub const ALARM_PREFIX: &str = "state directory: ";
/// What those begin with about who belongs to the cluster.
const MEMBERSHIP_PREFIX: &str = "membership: ";

/// Alarms since the node's start, the newest last. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Alarms {
    raised: Arc<Mutex<VecDeque<String>>>,
    failure: Failure,
}

impl Alarms {
    /// Raises an alarm; the same words again change nothing.
    pub(crate) fn raise(&self, words: &str) {
        self.keep(format!("{ALARM_PREFIX}{words}"));
    }

    /// Raises one about who belongs to the cluster.
    pub(crate) fn raise_membership(&self, words: &str) {
        self.keep(format!("{MEMBERSHIP_PREFIX}{words}"));
    }

    fn keep(&self, words: String) {
        let mut raised = self.lock();
        if raised.contains(&words) {
            return;
        }
        tracing::error!("ALARM {words}");
        if raised.len() == ALARMS_MAX {
            raised.pop_front();
        }
        raised.push_back(words);
    }

    pub(crate) fn all(&self) -> Vec<String> {
        let failed = self.failure.reason().map(|reason| {
            format!(
                "{ALARM_PREFIX}its device failed or is full ({reason}); nothing is acknowledged here any more, and this process must end"
            )
        });
        self.lock().iter().cloned().chain(failed).collect()
    }

    /// Whether the store failed, for good.
    pub(crate) fn failure(&self) -> &Failure {
        &self.failure
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.raised.lock().expect("no holder of this lock panics")
    }
}

/// What an error comes to; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The bytes are not what was written.
    Damaged,
    /// The store failed.
    Failed,
    /// The record is as it was written.
    Faulty,
    /// Whoever met it has no business with the store any more.
    Ended,
}

/// An error of the store, or of what it holds.
pub(crate) trait Judged: Error {
    fn verdict(&self) -> Verdict;
}

impl Judged for KvError {
    fn verdict(&self) -> Verdict {
        match self.kind {
            KvErrorKind::Failed => Verdict::Failed,
            KvErrorKind::Damaged => Verdict::Damaged,
            KvErrorKind::OtherVersion => Verdict::Faulty,
            KvErrorKind::Ended => Verdict::Ended,
        }
    }
}

impl Judged for RecordError {
    fn verdict(&self) -> Verdict {
        if self.is_damage() { Verdict::Damaged } else { Verdict::Faulty }
    }
}

/// Where errors are reported, by all groups of one life. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Damage {
    inner: Arc<Inner>,
}

struct Inner {
    kv: Arc<dyn OrderedKv>,
    damaged: FirstWords,
    alarms: Alarms,
}

impl Damage {
    pub(crate) fn new(kv: Arc<dyn OrderedKv>, alarms: Alarms) -> Self {
        Self { inner: Arc::new(Inner { kv, damaged: FirstWords::default(), alarms }) }
    }

    /// Something is damaged. The first finding counts. Writes durably: rare enough to be done wherever it is found.
    pub(crate) fn found(&self, error: &dyn Error) {
        let words = in_words(error);
        if self.inner.damaged.said().is_some() {
            return;
        }
        tracing::error!(words, "damage found in the store");
        if let Err(error) = self.inner.kv.condemn(&words) {
            // The content is set aside all the same, unless the process ends first; then it is found again.
            tracing::error!(error = &error as &dyn Error, "damage could not be noted");
        }
        self.inner.damaged.say(&words);
    }

    /// A read ended with `error`; whether that is damage.
    pub(crate) fn met(&self, error: &impl Judged) -> bool {
        match error.verdict() {
            Verdict::Damaged => {
                self.found(error);
                return true;
            }
            Verdict::Faulty => {
                let words = in_words(error);
                self.inner.alarms.raise(&format!(
                    "not damaged, and yet something in it cannot be read ({words}); what needs it is answered with an error"
                ));
            }
            Verdict::Failed | Verdict::Ended => {}
        }
        false
    }

    /// A group stops here, for good, because of `error`: where its bytes are not at fault, the next process may have more luck.
    pub(crate) fn stops(&self, error: &impl Judged) {
        self.met(error);
        if error.verdict() == Verdict::Failed {
            self.inner.alarms.failure().note(error);
        }
    }

    /// What was found, if anything was.
    pub(crate) fn reason(&self) -> Option<String> {
        self.inner.damaged.said()
    }

    /// Completes once something was found.
    pub(crate) async fn any(&self) -> String {
        self.inner.damaged.any().await
    }
}

#[cfg(test)]
mod tests;
