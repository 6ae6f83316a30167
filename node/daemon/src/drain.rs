//! Drains as operators ask for them: begun, ended, and how far they are.
//!
//! That something is to be emptied is said to the control group, which remembers it over restarts of every node; each node learns it from there
//! (`cluster::drains`), writers and placement turn away from it, and the leaders of the slabs' groups move what is on it ([`crate::caretaker`]); a node's seats
//! among the voters of groups go to others of its zone (`strongroom_meta`). Nothing has to run here for that. A drain that is over stays: what was emptied gets nothing new until its drain is ended.

use crate::cluster::monitor::Presence;
use crate::cluster::{Monitor, drains};
use crate::limits::SLABS_PAGE;
use crate::slabs::Slabs;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use strongroom_core::drain::{Left, Pace, Progress};
use strongroom_core::repair;
use strongroom_env::Env;
use strongroom_meta::control::{ControlAnswer, ControlCommand, ControlQuery, ControlReply};
use strongroom_meta::{Meta, MetaError};
use strongroom_types::{Deadline, DrainSubject, DriveId, GroupId, NodeId, WallTime};

/// How long the control group may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a drain was not begun, not ended, or cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The control group, or the group of some slabs, does not answer. What was asked for may have been done; asking again does no harm.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The cluster has no such node.
    #[error("the cluster has no {node}")]
    NoSuchNode {
        /// The node.
        node: NodeId,
    },
    /// The node takes part never again: whatever it held is made elsewhere anyway.
    #[error("{node} was dismissed: there is nothing to empty, its id is never used again")]
    Dismissed {
        /// The node.
        node: NodeId,
    },
    /// No node of the cluster ever had such a drive in use.
    #[error("the cluster has never seen {drive}")]
    NoSuchDrive {
        /// The drive.
        drive: DriveId,
    },
    /// The control group remembers as many drains as it can.
    #[error("the cluster remembers as many drains as it can: end those that are not needed any more")]
    Full,
    /// Nobody asked for it to be emptied, or the drain was ended.
    #[error("it is not to be emptied: no drain was begun, or it was ended")]
    NotBegun,
    /// An answer is of another kind than was asked for.
    #[error("a group gave an answer that does not fit")]
    Misfit,
}

/// What drains work with.
pub struct DrainParts {
    /// The world.
    pub env: Env,
    /// The control group.
    pub meta: Arc<Meta>,
    /// The view that is planned with.
    pub monitor: Arc<Monitor>,
    /// The slab tables.
    pub slabs: Arc<Slabs>,
    /// Data groups of the cluster.
    pub groups: u16,
}

/// Begins, ends and looks at drains.
pub struct Drains {
    parts: DrainParts,
    /// One for each drain that was looked at, and that is there still: as many as the control group remembers at most.
    paces: Mutex<BTreeMap<DrainSubject, Pace>>,
}

impl Drains {
    /// Nothing looked at yet.
    pub fn new(parts: DrainParts) -> Self {
        Self { parts, paces: Mutex::default() }
    }

    /// Has `subject` emptied from now on. Asking again changes nothing.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub async fn begin(&self, subject: DrainSubject) -> Result<(), DrainError> {
        if let DrainSubject::Node(node) = subject
            && self.parts.monitor.view().node(node).is_none()
        {
            return Err(match self.parts.meta.known().is_dismissed(node) {
                true => DrainError::Dismissed { node },
                false => DrainError::NoSuchNode { node },
            });
        }
        let at = self.parts.env.clock.wall();
        match self.tell(ControlCommand::BeginDrain { subject, at }).await? {
            ControlReply::Done => Ok(()),
            ControlReply::Full => Err(DrainError::Full),
            reply => Err(match (reply, subject) {
                (ControlReply::NoSuchDrive, DrainSubject::Drive(drive)) => DrainError::NoSuchDrive { drive },
                (ControlReply::Dismissed, DrainSubject::Node(node)) => DrainError::Dismissed { node },
                _ => DrainError::Misfit,
            }),
        }
    }

    /// Has `subject` used again. What was moved stays where it is. Asking again changes nothing.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub async fn end(&self, subject: DrainSubject) -> Result<(), DrainError> {
        self.lock().remove(&subject);
        match self.tell(ControlCommand::EndDrain { subject }).await? {
            ControlReply::Done => Ok(()),
            _ => Err(DrainError::Misfit),
        }
    }

    /// All drains, also those that are over, and since when.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub async fn all(&self) -> Result<BTreeMap<DrainSubject, WallTime>, DrainError> {
        match self.parts.meta.control_query(ControlQuery::Drains, self.deadline()).await? {
            ControlAnswer::Drains(drains) => Ok(drains),
            // The answer may be a peer's: another kind is its fault, and no reason to fall.
            _ => Err(DrainError::Misfit),
        }
    }

    /// How far a drain is: asks the slab tables of all groups, linearizably, page by page, and of a node the groups themselves. It is over where that finds nothing.
    ///
    /// Costs as much as reading all slab tables: to be asked every few seconds, not more often.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub async fn progress(&self, subject: DrainSubject) -> Result<Progress, DrainError> {
        let all = self.all().await?;
        self.lock().retain(|known, _| all.contains_key(known));
        let began = *all.get(&subject).ok_or(DrainError::NotBegun)?;
        let mut left = Left::default();
        for group in (0..self.parts.groups).map(GroupId::new) {
            let mut after = None;
            loop {
                let page = self.parts.slabs.page(group, after, SLABS_PAGE).await?;
                let (view, presences) = (self.parts.monitor.view(), self.parts.monitor.presences());
                for record in &page {
                    let lost = repair::lost(record, |holder| presences.of(*holder) == Presence::Gone);
                    left.look(subject, record, lost, &view);
                }
                match page.last() {
                    Some(last) if page.len() == SLABS_PAGE as usize => after = Some(last.slab),
                    _ => break,
                }
            }
        }
        let seats_left = match subject {
            DrainSubject::Node(node) => self.parts.meta.seats_of(node, self.deadline()).await?.len() as u64,
            DrainSubject::Drive(_) => 0,
        };
        let now = self.parts.env.clock.now();
        let (moved, rate_bytes_per_s) = self.lock().entry(subject).or_default().note(left.all, now);
        Ok(Progress { subject, began, left, seats_left, moved, rate_bytes_per_s })
    }

    /// The nodes learn it by themselves; this one at once.
    async fn tell(&self, command: ControlCommand) -> Result<ControlReply, DrainError> {
        let reply = self.parts.meta.control(command, self.deadline()).await?;
        if let Ok(all) = self.all().await {
            let (env, meta, monitor) = (&self.parts.env, &self.parts.meta, &self.parts.monitor);
            drains::take(env, meta, monitor, all.into_keys().collect()).await;
        }
        Ok(reply)
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.parts.env.clock.now(), PATIENCE)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DrainSubject, Pace>> {
        self.paces.lock().expect("no code panics while it holds this lock")
    }
}
