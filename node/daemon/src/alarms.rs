//! What an operator must know: damage that the node cannot mend by itself, and trouble for as long as it lasts.

use crate::events::{Event, Events};
use crate::limits::ALARMS_MAX;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

const DAMAGE: &str = "damage: ";

/// Whether an alarm says that acknowledged bytes are lost or in doubt.
pub fn is_damage(words: &str) -> bool {
    words.starts_with(DAMAGE)
}

/// Alarms of this node.
pub struct Alarms {
    events: Arc<Events>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since the node's start, the newest last.
    raised: VecDeque<String>,
    /// By what they are about; gone when it is over.
    lasting: BTreeMap<String, String>,
}

impl Alarms {
    /// None yet; each is told as an event as well.
    pub fn new(events: Arc<Events>) -> Self {
        Self { events, state: Mutex::default() }
    }

    /// Raises an alarm that stays until the node ends, once: the same words again only keep it in the list.
    pub fn raise(&self, words: String) {
        let mut state = self.lock();
        if state.raised.contains(&words) {
            return;
        }
        tracing::error!("ALARM {words}");
        self.events.tell(Event::AlarmRaised { alarm: words.clone() });
        if state.raised.len() == ALARMS_MAX {
            state.raised.pop_front();
        }
        state.raised.push_back(words);
    }

    /// Raises an alarm that acknowledged bytes are lost or in doubt. See [`is_damage`].
    pub fn damage(&self, words: &str) {
        self.raise(format!("{DAMAGE}{words}"));
    }

    /// Raises an alarm about `topic`, in place of an earlier one about it, until [`Self::over`]. Where too many last it is only logged.
    pub fn lasting(&self, topic: String, words: String) {
        let mut state = self.lock();
        if state.lasting.get(&topic) == Some(&words) {
            return;
        }
        tracing::error!("ALARM {words}");
        if state.lasting.len() < ALARMS_MAX || state.lasting.contains_key(&topic) {
            self.events.tell(Event::AlarmRaised { alarm: words.clone() });
            state.lasting.insert(topic, words);
        }
    }

    /// What `topic` was about is over.
    pub fn over(&self, topic: &str) {
        if let Some(words) = self.lock().lasting.remove(topic) {
            tracing::info!("over: {words}");
            self.events.tell(Event::AlarmOver { alarm: words });
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        let state = self.lock();
        state.raised.iter().chain(state.lasting.values()).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::{Alarms, is_damage};
    use crate::events::Events;
    use crate::testing::StillClock;
    use std::sync::Arc;

    #[test]
    fn what_lasts_goes_and_what_is_raised_stays() {
        let events = Events::new(Arc::new(StillClock::default()));
        let alarms = Alarms::new(events.clone());
        alarms.damage("a row is gone");
        alarms.damage("a row is gone");
        alarms.lasting("slab".to_owned(), "it waits".to_owned());
        alarms.lasting("slab".to_owned(), "it waits for two".to_owned());
        assert_eq!(alarms.all(), ["damage: a row is gone", "it waits for two"]);
        assert!(is_damage(&alarms.all()[0]) && !is_damage(&alarms.all()[1]));
        alarms.over("slab");
        alarms.over("slab");
        assert_eq!(alarms.all(), ["damage: a row is gone"]);
        let told: Vec<_> = events.after(0).told.iter().map(|told| told.event.to_string()).collect();
        assert_eq!(
            told,
            [
                "ALARM damage: a row is gone",
                "ALARM it waits",
                "ALARM it waits for two",
                "over: it waits for two"
            ]
        );
    }
}
