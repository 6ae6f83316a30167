//! What is found damaged in the store, and what an operator must know.
//!
//! A record that is not what was written means that this node has forgotten something, and nobody can say what. From then on it
//! must not vote, acknowledge or answer from that store: the finding is noted durably, so that no later start uses the content
//! either, and whoever runs the groups is woken to stop them and to begin again under another id.

use crate::kv::OrderedKv;
use crate::limits::ALARMS_MAX;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// What every alarm of this crate begins with. None of them says that an acknowledged object is lost: the peers have it.
pub const ALARM_PREFIX: &str = "state directory: ";

/// Alarms since the node's start, the newest last.
#[derive(Clone, Default)]
pub(crate) struct Alarms {
    raised: Arc<Mutex<VecDeque<String>>>,
}

impl Alarms {
    /// Raises an alarm; the same words again change nothing.
    pub(crate) fn raise(&self, words: &str) {
        let words = format!("{ALARM_PREFIX}{words}");
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
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.raised.lock().expect("no holder of this lock panics")
    }
}

/// Where damage is reported, by all groups of one life. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Damage {
    inner: Arc<Inner>,
}

struct Inner {
    kv: Arc<dyn OrderedKv>,
    reason: Mutex<Option<String>>,
    woken: Notify,
}

impl Damage {
    pub(crate) fn new(kv: Arc<dyn OrderedKv>) -> Self {
        Self { inner: Arc::new(Inner { kv, reason: Mutex::new(None), woken: Notify::new() }) }
    }

    /// Something is damaged. The first finding counts. Writes durably: rare enough to be done wherever it is found.
    pub(crate) fn found(&self, error: &dyn std::error::Error) {
        let mut words = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            words = format!("{words}: {error}");
            source = error.source();
        }
        {
            let mut reason = self.inner.reason.lock().expect("no holder of this lock panics");
            if reason.is_some() {
                return;
            }
            *reason = Some(words.clone());
        }
        tracing::error!(words, "damage found in the store");
        if let Err(error) = self.inner.kv.condemn(&words) {
            // The content is set aside all the same, unless the process ends first; then it is found again.
            tracing::error!(error = &error as &dyn std::error::Error, "damage could not be noted");
        }
        self.inner.woken.notify_one();
    }

    /// What was found, if anything was.
    pub(crate) fn reason(&self) -> Option<String> {
        self.inner.reason.lock().expect("no holder of this lock panics").clone()
    }

    /// Completes once something was found.
    pub(crate) async fn any(&self) -> String {
        loop {
            let woken = self.inner.woken.notified();
            if let Some(reason) = self.reason() {
                return reason;
            }
            woken.await;
        }
    }
}
