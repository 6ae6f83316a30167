//! What an operator must know: damage that the node cannot mend by itself.

use crate::limits::ALARMS_MAX;
use std::collections::VecDeque;
use std::sync::Mutex;

/// Alarms since the node's start, the newest last.
#[derive(Default)]
pub struct Alarms {
    raised: Mutex<VecDeque<String>>,
}

impl Alarms {
    /// Raises an alarm, once: the same words again only keep it in the list.
    pub fn raise(&self, words: String) {
        let mut raised = self.raised.lock().expect("no code panics while it holds this lock");
        if raised.contains(&words) {
            return;
        }
        tracing::error!("ALARM {words}");
        if raised.len() == ALARMS_MAX {
            raised.pop_front();
        }
        raised.push_back(words);
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.raised.lock().expect("no code panics while it holds this lock").iter().cloned().collect()
    }
}
