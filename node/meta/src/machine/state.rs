//! The state of one group: applying committed entries to it, reading it, replacing it.

use super::view::{Changes, SnapshotView};
use super::window::{Outcome, Window};
use super::{MachineError, control_state, group_state, namespace::Position};
use crate::codec::{self, GroupKeys, clear};
use crate::control::{ControlAnswer, ControlQuery};
use crate::fault::{MetaFault, MetaFaults};
use crate::group::{GroupAnswer, GroupCommand, GroupQuery, GroupReply};
use crate::kv::{Batch, KvSnapshot, OrderedKv};
use crate::raft::{Command, LogEntry, LogId, Reply, StoredMembership, Ticket, next_index};
use openraft::EntryPayload;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use strongroom_types::GroupId;
use tokio::sync::Notify;

/// Where the state is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Which generation of the state is current.
    pub(crate) generation: u32,
    /// The last log entry in it.
    pub(crate) applied: Option<LogId>,
    /// The last membership in it.
    pub(crate) membership: StoredMembership,
}

/// How far the state is, for readers that wait for an index.
#[derive(Default)]
pub(crate) struct Applied {
    next: AtomicU64,
    changed: Notify,
}

impl Applied {
    fn advance(&self, applied: Option<&LogId>) {
        self.next.fetch_max(next_index(applied), Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Completes once the entry at `index` is in the state.
    pub(crate) async fn reached(&self, index: u64) {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if self.next.load(Ordering::Acquire) > index {
                return;
            }
            changed.await;
        }
    }
}

/// Reads a group's state as it is in the store now.
#[derive(Clone)]
pub(crate) struct Reader {
    kv: Arc<dyn OrderedKv>,
    keys: GroupKeys,
}

impl Reader {
    /// Head and state at one moment.
    fn view(&self) -> Result<(Head, SnapshotView), MachineError> {
        let snapshot = self.kv.snapshot();
        let head_key = self.keys.head();
        let head = match snapshot.get(&head_key)? {
            Some(value) => codec::open("head of the state", &head_key, &value)?,
            None => Head::default(),
        };
        let prefix = self.keys.state(head.generation);
        Ok((head, SnapshotView { snapshot, prefix }))
    }

    pub(crate) fn control(&self, query: &ControlQuery) -> Result<ControlAnswer, MachineError> {
        control_state::query(&self.view()?.1, query)
    }

    pub(crate) fn group(&self, query: GroupQuery) -> Result<GroupAnswer, MachineError> {
        group_state::query(&self.view()?.1, query)
    }
}

/// The state of one group, with the right to change it.
pub(crate) struct State {
    kv: Arc<dyn OrderedKv>,
    keys: GroupKeys,
    group: Option<GroupId>,
    head: Head,
    window: Window,
    applied: Arc<Applied>,
    /// The generation that was last given to an install.
    staged: u32,
    /// Deliberate faults; none outside of tests.
    pub(crate) faults: MetaFaults,
}

impl State {
    /// Opens the state; removes what a crash left of an install.
    pub(crate) fn open(kv: Arc<dyn OrderedKv>, group: Option<GroupId>) -> Result<Self, MachineError> {
        let keys = GroupKeys::new(group);
        let reader = Reader { kv: Arc::clone(&kv), keys };
        let (head, view) = reader.view()?;
        let window = Window::load(&view)?;
        let applied = Arc::new(Applied::default());
        applied.advance(head.applied.as_ref());
        let staged = head.generation;
        let faults = MetaFaults::NONE;
        let state = Self { kv, keys, group, head, window, applied, staged, faults };
        state.clear_others()?;
        Ok(state)
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader { kv: Arc::clone(&self.kv), keys: self.keys }
    }

    pub(crate) fn applied(&self) -> Arc<Applied> {
        Arc::clone(&self.applied)
    }

    /// A view of the state as it is now.
    pub(crate) fn view(&self) -> SnapshotView {
        let snapshot: Arc<dyn KvSnapshot> = self.kv.snapshot();
        SnapshotView { snapshot, prefix: self.keys.state(self.head.generation) }
    }

    /// Applies committed entries, in order, as one step of the store; one reply each.
    pub(crate) fn apply(&mut self, entries: Vec<LogEntry>) -> Result<Vec<Reply>, MachineError> {
        let kv = Arc::clone(&self.kv);
        let mut changes = Changes::new(&*kv, self.keys.state(self.head.generation));
        let mut head = self.head.clone();
        let mut replies = Vec::with_capacity(entries.len());
        for entry in entries {
            head.applied = Some(entry.log_id);
            replies.push(match entry.payload {
                EntryPayload::Blank => Reply::Nothing,
                EntryPayload::Membership(membership) => {
                    head.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Reply::Nothing
                }
                EntryPayload::Normal(command) => {
                    self.apply_command(&mut changes, entry.log_id.index, command)?
                }
            });
        }
        let mut batch = changes.into_batch();
        codec::put(&mut batch, self.keys.head(), &head);
        self.kv.apply(batch)?;
        self.head = head;
        self.applied.advance(self.head.applied.as_ref());
        Ok(replies)
    }

    fn apply_command(
        &mut self,
        changes: &mut Changes<'_>,
        log_index: u64,
        command: Command,
    ) -> Result<Reply, MachineError> {
        match (self.group, command) {
            (None, Command::Control { ticket, command }) => {
                self.once(changes, log_index, ticket, |changes| {
                    let reply = control_state::apply(changes, command, control_state::BUCKET_COUNT_MAX)?;
                    Ok(Reply::Control(reply))
                })
            }
            (
                Some(_),
                Command::Group { ticket, command: GroupCommand::SetHolders { slab, layout, made, .. } },
            ) if self.faults.has(MetaFault::TakeOutdatedFragments) => {
                self.once(changes, log_index, ticket, |changes| {
                    Ok(Reply::Group(group_state::set_holders_blindly(changes, slab, layout, &made)?))
                })
            }
            (Some(group), Command::Group { ticket, command }) => {
                self.once(changes, log_index, ticket, |changes| {
                    Ok(Reply::Group(group_state::apply(changes, group, log_index, command)?))
                })
            }
            (Some(_), Command::Commit { entries }) => {
                let mut outcomes = Vec::with_capacity(entries.len());
                let mut remember: Vec<(Ticket, Outcome)> = Vec::with_capacity(entries.len());
                for (entry_index, (ticket, entry)) in (0..).zip(entries) {
                    // The same ticket twice in one batch: its first try was queued twice.
                    let before = remember.iter().find(|(remembered, _)| *remembered == ticket);
                    let known = before.map(|(_, outcome)| outcome).or_else(|| self.window.get(ticket));
                    if let Some(Outcome::Entry(outcome)) = known {
                        outcomes.push(outcome.clone());
                        continue;
                    }
                    let position = Position { log_index, entry_index };
                    let outcome = group_state::commit(changes, position, entry)?;
                    remember.push((ticket, Outcome::Entry(outcome.clone())));
                    outcomes.push(outcome);
                }
                self.window.remember(changes, log_index, remember);
                Ok(Reply::Group(GroupReply::Committed(outcomes)))
            }
            (None, Command::Group { .. } | Command::Commit { .. }) | (Some(_), Command::Control { .. }) => {
                Ok(Reply::Nothing)
            }
        }
    }

    fn once(
        &mut self,
        changes: &mut Changes<'_>,
        log_index: u64,
        ticket: Ticket,
        apply: impl FnOnce(&mut Changes<'_>) -> Result<Reply, MachineError>,
    ) -> Result<Reply, MachineError> {
        if let Some(Outcome::Reply(reply)) = self.window.get(ticket) {
            return Ok((**reply).clone());
        }
        let reply = apply(changes)?;
        let outcome = Outcome::Reply(Box::new(reply.clone()));
        self.window.remember(changes, log_index, vec![(ticket, outcome)]);
        Ok(reply)
    }

    /// A generation that is not in use, for a state that is being received; remains of earlier ones are removed.
    pub(crate) fn stage(&mut self) -> Result<(u32, Vec<u8>), MachineError> {
        self.clear_others()?;
        self.staged = self.staged.max(self.head.generation) + 1;
        Ok((self.staged, self.keys.state(self.staged)))
    }

    /// Makes a staged generation the current one, in one step of the store. The caller syncs before it tells anyone.
    pub(crate) fn install(
        &mut self,
        generation: u32,
        applied: Option<LogId>,
        membership: StoredMembership,
    ) -> Result<(), MachineError> {
        let head = Head { generation, applied, membership };
        let mut batch = Batch::default();
        codec::put(&mut batch, self.keys.head(), &head);
        self.kv.apply(batch)?;
        self.head = head;
        self.window = Window::load(&self.view())?;
        self.applied.advance(self.head.applied.as_ref());
        self.clear_others()
    }

    /// Removes every generation but the current one.
    fn clear_others(&self) -> Result<(), MachineError> {
        let (start, end) = self.keys.states();
        let current = self.keys.state(self.head.generation);
        clear(&*self.kv, &start, &current)?;
        let after = crate::codec::successor(&current).expect("the group's tag has a successor");
        Ok(clear(&*self.kv, &after, &end)?)
    }
}
