//! The end of a store: a write or a sync of it failed. Nothing works from then on, so the process must end and be started again; this is
//! how it learns of it.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Words that are said once; later ones do not count.
#[derive(Default)]
pub(crate) struct FirstWords {
    said: Mutex<Option<String>>,
    changed: Notify,
}

impl FirstWords {
    /// Says them; whether they are the first.
    pub(crate) fn say(&self, words: &str) -> bool {
        {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.is_some() {
                return false;
            }
            *said = Some(words.to_owned());
        }
        self.changed.notify_waiters();
        true
    }

    pub(crate) fn said(&self) -> Option<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Completes once something was said.
    pub(crate) async fn any(&self) -> String {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(said) = self.said() {
                return said;
            }
            changed.await;
        }
    }
}

/// An error and its causes, without those that it says already.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
        source = error.source();
    }
    words
}

/// The first failure after which the store cannot be used. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Failure {
    first: Arc<FirstWords>,
}

impl Failure {
    /// The store failed.
    pub(crate) fn note(&self, error: &dyn std::error::Error) {
        let words = in_words(error);
        if self.first.say(&words) {
            tracing::error!(words, "the state directory's store failed: nothing is promised any more");
        }
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.first.said()
    }

    /// Completes once it failed.
    pub(crate) async fn any(&self) -> String {
        self.first.any().await
    }
}
