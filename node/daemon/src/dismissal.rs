//! Dismissing a node for good: what must hold before the control group is told, and being told.
//!
//! A node that is dead may be dismissed whatever it held: that is made again elsewhere (`caretaker`), and its seats in groups go to others
//! (`strongroom_meta`). One that lives has to be empty first, and to have no seat: a drain of it
//! ([`crate::drain`]) leaves it so. Its drain is over with that.

use crate::limits::SLABS_PAGE;
use crate::slabs::Slabs;
use std::time::Duration;
use strongroom_env::Env;
use strongroom_meta::control::{ControlCommand, ControlReply};
use strongroom_meta::{Meta, MetaError};
use strongroom_types::{ClusterView, Deadline, GroupId, Health, NodeId, SlabRecord, SlabState};

/// How long the control group may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a node was not dismissed.
#[derive(Debug, thiserror::Error)]
pub enum DismissError {
    /// No node was ever admitted under this id.
    #[error("no {node} was ever in this cluster")]
    NoSuchNode {
        /// Which was asked for.
        node: NodeId,
    },
    /// It would end itself.
    #[error("{node} cannot dismiss itself: ask another node to")]
    Itself {
        /// This node.
        node: NodeId,
    },
    /// It answers, and slab tables name fragments on it.
    #[error("{node} is alive and holds fragments of {slabs} slabs: drain it first, or stop it for good")]
    StillHolds {
        /// Which.
        node: NodeId,
        /// Slabs that name it.
        slabs: u64,
    },
    /// It answers, and is a voter of groups, which would each have one less until another has caught up.
    #[error("{node} is alive and votes in {groups} groups: drain it first, or stop it for good")]
    StillVotes {
        /// Which.
        node: NodeId,
        /// In how many.
        groups: usize,
    },
    /// The groups did not answer. Dismissing it again is safe.
    #[error("the groups did not answer: {0}")]
    Meta(#[from] MetaError),
    /// The control group gave an answer that does not fit: a bug, or a node of another version.
    #[error("the control group gave an answer that does not fit")]
    Misfit,
}

/// What a dismissal works with.
pub struct Dismissal<'node> {
    /// The world.
    pub env: &'node Env,
    /// The groups.
    pub meta: &'node Meta,
    /// The slab tables.
    pub slabs: &'node Slabs,
    /// Who answers now.
    pub view: &'node ClusterView,
    /// This node.
    pub own: NodeId,
}

impl Dismissal<'_> {
    /// Has `node` take part never again. Its id is never used again.
    ///
    /// # Errors
    /// See [`DismissError`]; nothing was changed, but by `Meta` perhaps.
    pub async fn dismiss(&self, node: NodeId) -> Result<(), DismissError> {
        if node == self.own {
            return Err(DismissError::Itself { node });
        }
        let is_up = self.view.node(node).is_some_and(|view| view.health == Health::Up);
        if is_up {
            let slabs = self.slabs_on(node).await?;
            if slabs > 0 {
                return Err(DismissError::StillHolds { node, slabs });
            }
            let groups = self.meta.seats_of(node, self.deadline()).await?.len();
            if groups > 0 {
                return Err(DismissError::StillVotes { node, groups });
            }
        }
        match self.meta.control(ControlCommand::DismissNode { node }, self.deadline()).await? {
            ControlReply::Done => {
                self.meta.look_at_members_now();
                Ok(())
            }
            ControlReply::NoSuchNode => Err(DismissError::NoSuchNode { node }),
            _ => Err(DismissError::Misfit),
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.env.clock.now(), PATIENCE)
    }

    /// How many slabs that are not dead name it as a holder.
    async fn slabs_on(&self, node: NodeId) -> Result<u64, MetaError> {
        let names = |record: &SlabRecord| {
            record.state != SlabState::Dead && record.holders.iter().any(|holder| holder.node == node)
        };
        let mut count = 0;
        for group in (0..self.meta.group_count()).map(GroupId::new) {
            let mut after = None;
            loop {
                let page = self.slabs.page(group, after, SLABS_PAGE).await?;
                count += page.iter().filter(|record| names(record)).count() as u64;
                match page.last() {
                    Some(last) if page.len() == SLABS_PAGE as usize => after = Some(last.slab),
                    _ => break,
                }
            }
        }
        Ok(count)
    }
}
