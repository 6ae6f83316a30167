//! The outcomes of the latest commands by their tickets, so that a command which is proposed again, because its first try ended
//! without an answer, takes effect once and gets the same answer.
//!
//! Part of the replicated state (table `w`: log index to the tickets and outcomes of that entry), so that it survives leader
//! changes and snapshots. A copy by ticket is kept in memory.

use super::MachineError;
use super::view::{Changes, View};
use crate::codec::{RecordError, decode};
use crate::group::EntryOutcome;
use crate::limits::{OUTCOMES_REMEMBERED, SCAN_KEYS};
use crate::raft::{Reply, Ticket};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// What a ticket's command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Entry(EntryOutcome),
    Reply(Box<Reply>),
}

#[derive(Default)]
pub(crate) struct Window {
    by_ticket: BTreeMap<Ticket, Outcome>,
    /// Log index and tickets of its entry, oldest first.
    order: VecDeque<(u64, Vec<Ticket>)>,
}

const TABLE: u8 = b'w';

fn key(index: u64) -> Vec<u8> {
    let mut key = vec![TABLE];
    key.extend_from_slice(&index.to_be_bytes());
    key
}

impl Window {
    pub(crate) fn load(view: &impl View) -> Result<Self, MachineError> {
        let mut window = Self::default();
        let mut start = vec![TABLE];
        loop {
            let page = view.range(&start, &[TABLE + 1], SCAN_KEYS)?;
            let Some((last, _)) = page.last() else { return Ok(window) };
            start = [last, &[0][..]].concat();
            for (key, value) in page {
                let odd = RecordError::Undecodable { what: "key of the outcome window" };
                let index: [u8; 8] = key[1..].try_into().map_err(|_| odd)?;
                let outcomes = decode("outcome window", &value)?;
                window.insert(u64::from_be_bytes(index), outcomes);
            }
        }
    }

    pub(crate) fn get(&self, ticket: Ticket) -> Option<&Outcome> {
        self.by_ticket.get(&ticket)
    }

    /// Remembers the outcomes of the entry at `index`, and forgets the oldest entries beyond the bound.
    pub(crate) fn remember(
        &mut self,
        changes: &mut Changes<'_>,
        index: u64,
        outcomes: Vec<(Ticket, Outcome)>,
    ) {
        if outcomes.is_empty() {
            return;
        }
        changes.put(key(index), &outcomes);
        self.insert(index, outcomes);
        while self.by_ticket.len() > OUTCOMES_REMEMBERED {
            let Some((index, tickets)) = self.order.pop_front() else { break };
            for ticket in tickets {
                self.by_ticket.remove(&ticket);
            }
            changes.remove(key(index));
        }
    }

    fn insert(&mut self, index: u64, outcomes: Vec<(Ticket, Outcome)>) {
        let tickets = outcomes.iter().map(|(ticket, _)| *ticket).collect();
        self.order.push_back((index, tickets));
        self.by_ticket.extend(outcomes);
    }
}
