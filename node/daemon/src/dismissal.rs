//! Dismissing a node for good: what must hold before the control group is told, and being told.
//!
//! | the node | must |
//! |---|---|
//! | is alive: this node or another one has heard it within [`DEAD_AFTER`] | be drained, name no slab and have no seat ([`crate::drain`] leaves it so) |
//! | is dead | hold nothing that cannot be had without it from drives that are here now; the rest is made again elsewhere (`caretaker`), and its seats in groups go to others (`strongroom_meta`) |
//!
//! Every group is asked what it has on the node, linearizably: so each has a majority without one that is dead, and none is lost with it. Whether it is alive is
//! asked after that, which may take long. A drain of the node is over with its dismissal.

use crate::cluster::Monitor;
use crate::cluster::monitor::{Presence, Presences};
use crate::limits::SLABS_PAGE;
use crate::slabs::Slabs;
use std::time::Duration;
use strongroom_core::FragmentSet;
use strongroom_core::repair::{self, Standing};
use strongroom_env::Env;
use strongroom_meta::control::{
    ControlAnswer, ControlCommand, ControlQuery, ControlReply, NodeStanding, Pulse,
};
use strongroom_meta::limits::DEAD_AFTER;
use strongroom_meta::{Meta, MetaError};
use strongroom_types::{
    ClusterView, Deadline, DrainSubject, FragmentIndex, GroupId, Holder, NodeId, SlabRecord,
};

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
    /// It lives, for all that is known, and slab tables name fragments on it.
    #[error("{node} is alive and holds fragments of {slabs} slabs: drain it first, or stop it for good")]
    StillHolds {
        /// Which.
        node: NodeId,
        /// Slabs that name it.
        slabs: u64,
    },
    /// It lives, and is a voter of groups, which would each have one less until another has caught up.
    #[error("{node} is alive and votes in {groups} groups: drain it first, or stop it for good")]
    StillVotes {
        /// Which.
        node: NodeId,
        /// In how many.
        groups: usize,
    },
    /// It lives and holds nothing, and may be given something at any moment.
    #[error("{node} is alive and may be given fragments at any moment: drain it first, or stop it for good")]
    NotDrained {
        /// Which.
        node: NodeId,
    },
    /// It is dead, and what it held could not be made again without it.
    #[error(
        "{slabs} slabs cannot be had without what {node} held from drives that are here now: start it again, or wait until other nodes that have them answer \
         and repair is done; if it never returns, give up what only it had with --lose-data"
    )]
    WouldLose {
        /// Which.
        node: NodeId,
        /// How many slabs.
        slabs: u64,
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
    pub monitor: &'node Monitor,
    /// This node.
    pub own: NodeId,
    /// What becomes of what only the dismissed node has.
    pub last_copies: LastCopies,
}

/// What becomes of what only a dead node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastCopies {
    /// It is kept: the node is not dismissed.
    Keep,
    /// It is given up.
    Lose,
}

/// What slab tables have of a node.
#[derive(Debug, Default)]
struct Held {
    /// Slabs that are not dead and name it.
    slabs: u64,
    /// Those of them that need it.
    only_with_it: u64,
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
        match self.standing(node).await? {
            Some(NodeStanding::Member) => {}
            Some(NodeStanding::Dismissed) => return Ok(()),
            None => return Err(DismissError::NoSuchNode { node }),
        }
        let drained = self.is_drained(node).await?;
        let held = self.held_by(node).await?;
        let pulse = self.pulse(node).await;
        match pulse {
            Pulse::Alive => self.check_empty(node, &held, drained).await?,
            Pulse::Dead if held.only_with_it > 0 && self.last_copies == LastCopies::Keep => {
                return Err(DismissError::WouldLose { node, slabs: held.only_with_it });
            }
            Pulse::Dead => {}
        }
        match self.meta.control(ControlCommand::DismissNode { node, pulse }, self.deadline()).await? {
            ControlReply::Done => {
                tracing::warn!(%node, ?pulse, ?held, "dismissed on command");
                self.meta.look_at_members_now();
                Ok(())
            }
            ControlReply::NoSuchNode => Err(DismissError::NoSuchNode { node }),
            ControlReply::NotDrained => Err(DismissError::NotDrained { node }),
            _ => Err(DismissError::Misfit),
        }
    }

    async fn check_empty(&self, node: NodeId, held: &Held, drained: bool) -> Result<(), DismissError> {
        if held.slabs > 0 {
            return Err(DismissError::StillHolds { node, slabs: held.slabs });
        }
        let groups = self.meta.seats_of(node, self.deadline()).await?.len();
        if groups > 0 {
            return Err(DismissError::StillVotes { node, groups });
        }
        // And still is when it is dismissed: the control group looks again.
        if drained { Ok(()) } else { Err(DismissError::NotDrained { node }) }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.env.clock.now(), PATIENCE)
    }

    async fn standing(&self, node: NodeId) -> Result<Option<NodeStanding>, DismissError> {
        match self.meta.control_query(ControlQuery::Nodes, self.deadline()).await? {
            ControlAnswer::Nodes(table) => Ok(table.get(&node).map(|record| record.standing)),
            _ => Err(DismissError::Misfit),
        }
    }

    async fn is_drained(&self, node: NodeId) -> Result<bool, DismissError> {
        match self.meta.control_query(ControlQuery::Drains, self.deadline()).await? {
            ControlAnswer::Drains(drains) => Ok(drains.contains_key(&DrainSubject::Node(node))),
            _ => Err(DismissError::Misfit),
        }
    }

    /// Alive until the contrary is known: a node that joined a moment ago was not heard of here yet, and who was started just now has heard nobody.
    async fn pulse(&self, node: NodeId) -> Pulse {
        let is_silent = || self.monitor.silence_of(node).is_some_and(|silence| silence >= DEAD_AFTER);
        // Asking takes a while, in which it may have come back.
        match is_silent() && !self.meta.is_heard_by_others(node).await && is_silent() {
            true => Pulse::Dead,
            false => Pulse::Alive,
        }
    }

    async fn held_by(&self, node: NodeId) -> Result<Held, MetaError> {
        let mut held = Held::default();
        for group in (0..self.meta.group_count()).map(GroupId::new) {
            let mut after = None;
            loop {
                let page = self.slabs.page(group, after, SLABS_PAGE).await?;
                let (view, presences) = (self.monitor.view(), self.monitor.presences());
                page.iter().for_each(|record| held.look(node, record, &view, &presences));
                match page.last() {
                    Some(last) if page.len() == SLABS_PAGE as usize => after = Some(last.slab),
                    _ => break,
                }
            }
        }
        Ok(held)
    }
}

impl Held {
    fn look(&mut self, node: NodeId, record: &SlabRecord, view: &ClusterView, presences: &Presences) {
        if repair::on_node(record, node).is_empty() {
            return;
        }
        let those = |wanted: &dyn Fn(Holder) -> bool| -> FragmentSet {
            let holders = (0..).map(FragmentIndex::new).zip(&record.holders);
            holders.filter(|(_, holder)| wanted(**holder)).map(|(fragment, _)| fragment).collect()
        };
        let here = those(&|holder| presences.of(holder) == Presence::Here);
        let for_good = those(&|holder| presences.is_gone_for_good(holder));
        self.slabs += 1;
        self.only_with_it += u64::from(repair::needs(record, view, Standing { here, for_good }, node));
    }
}
