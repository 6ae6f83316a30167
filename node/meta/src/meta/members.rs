//! Which nodes there are, as this node knows it.
//!
//! The control group has the table: a node asks to be in it itself, once its state is a member's (`meta::join`), and whenever its address is
//! another one. Every node reads the table every few seconds, and at once when somebody comes that it does not know. So nobody
//! has to be told of a newcomer by its operator, and what a configuration says of other nodes is only where to begin.
//!
//! **The table is remembered in the state directory.** After some replacements the voters of the control group may be nodes that no configuration
//! names. Were all nodes to start at once with what configurations say, these could not find each other, and there would be nobody to read the
//! table from. Who lost its state directory asks those that it is told of whom they know (`JoinAsk::Members`); that is hearsay, good for finding
//! the control group.
//!
//! **One node to an id.** Whoever comes under an id that has another address in the table asks around whether its namesake still
//! answers there. While it does, the newcomer takes no new incarnation, since that would end the other's voice; after some seconds it is refused. So is a
//! node that was dismissed, or comes in another zone than the one that it was admitted in: its process ends, with words on what to do.

use super::Meta;
use super::life::Life;
use crate::client::{JoinAnswer, JoinAsk};
use crate::codec::{self, NODES_KNOWN};
use crate::control::{ControlAnswer, ControlCommand, ControlQuery, ControlReply, NodeRecord, NodeStanding};
use crate::kv::{Batch, FirstWords, OrderedKv};
use crate::limits::{
    DEAD_AFTER, JOIN_PATIENCE, JOIN_PAUSE_MAX, MEMBERS_LOOK_EVERY, MEMBERS_LOOK_PAUSE, NAMESAKE_PATIENCE,
};
use crate::machine::MachineError;
use futures::future::{join_all, select};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use strongroom_types::limits::NODES_MAX;
use strongroom_types::{Deadline, Instant, Member, NodeId, ZoneId};
use tokio::sync::Notify;

/// Whom this node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// From the configuration, and by hearsay.
    told: BTreeMap<NodeId, Member>,
    /// As the control group had it last.
    table: BTreeMap<NodeId, NodeRecord>,
}

impl Known {
    fn of(members: &[Member]) -> Self {
        Self { told: members.iter().map(|member| (member.node, *member)).collect(), table: BTreeMap::new() }
    }

    /// Every node that takes part, or may for all that is known, by id.
    pub fn members(&self) -> BTreeMap<NodeId, Member> {
        let told = self.told.values().copied();
        let table = self.table.iter().map(|(node, record)| Member {
            node: *node,
            zone: record.zone,
            address: record.address,
        });
        let all = told.chain(table).filter(|member| !self.is_dismissed(member.node));
        all.map(|member| (member.node, member)).collect()
    }

    /// Whether it takes part, or may for all that is known.
    pub fn has(&self, node: NodeId) -> bool {
        (self.told.contains_key(&node) || self.table.contains_key(&node)) && !self.is_dismissed(node)
    }

    /// Whether the control group has admitted it, and has not dismissed it.
    pub fn is_admitted(&self, node: NodeId) -> bool {
        self.table.get(&node).is_some_and(|record| record.standing == NodeStanding::Member)
    }

    /// Whether it takes part never again.
    pub fn is_dismissed(&self, node: NodeId) -> bool {
        self.table.get(&node).is_some_and(|record| record.standing == NodeStanding::Dismissed)
    }

    /// Those that were dismissed, with the zones that they were in.
    pub fn dismissed(&self) -> impl Iterator<Item = (NodeId, ZoneId)> + '_ {
        let dismissed = self.table.iter().filter(|(_, record)| record.standing == NodeStanding::Dismissed);
        dismissed.map(|(node, record)| (*node, record.zone))
    }

    /// Its zone, also of one that was dismissed.
    pub(super) fn zone(&self, node: NodeId) -> Option<ZoneId> {
        let told = || self.told.get(&node).map(|member| member.zone);
        self.table.get(&node).map(|record| record.zone).or_else(told)
    }
}

/// Why the cluster does not take this node, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Its id was given up.
    #[error(
        "{node} was dismissed, and its id is never used again: to bring this machine back give it a node.id that no node ever had, an empty state_dir \
         and newly formatted drives"
    )]
    Dismissed {
        /// This node.
        node: NodeId,
    },
    /// Another machine has its id, and goes on to answer.
    #[error(
        "another machine answers as {node} at {address}: two must never have one id. Give one of them a node.id that no node ever had, or stop the other \
         and start this one again"
    )]
    Namesake {
        /// This node.
        node: NodeId,
        /// Where the other is.
        address: SocketAddr,
    },
    /// It stands elsewhere.
    #[error(
        "{node} was admitted in {admitted}, and its node.toml says {configured}: set its zone back, or give this machine a node.id that no node ever had"
    )]
    OtherZone {
        /// This node.
        node: NodeId,
        /// Where it was admitted.
        admitted: ZoneId,
        /// What it says itself.
        configured: ZoneId,
    },
}

/// What a node knows of all, and what they know of it.
pub(super) struct Members {
    known: Mutex<Arc<Known>>,
    changed: Notify,
    /// Somebody came that is not known: look now.
    look: Notify,
    /// Whoever reads the table.
    reading: tokio::sync::Mutex<()>,
    /// The control group has this node, as it is.
    is_admitted: AtomicBool,
    /// Why it never will.
    refused: FirstWords,
    /// Where another machine answers under this id, and since when this node hears of it.
    namesake: Mutex<Option<(SocketAddr, Instant)>>,
}

impl Members {
    pub(super) fn new(configured: &[Member]) -> Self {
        Self {
            known: Mutex::new(Arc::new(Known::of(configured))),
            changed: Notify::new(),
            look: Notify::new(),
            reading: tokio::sync::Mutex::default(),
            is_admitted: AtomicBool::new(false),
            refused: FirstWords::default(),
            namesake: Mutex::default(),
        }
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether that changed anything.
    fn change(&self, change: impl FnOnce(&mut Known)) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Known::clone(&known);
        change(&mut next);
        if next == **known {
            return false;
        }
        *known = Arc::new(next);
        drop(known);
        self.changed.notify_waiters();
        true
    }

    fn namesake(&self) -> Option<(SocketAddr, Instant)> {
        *self.namesake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meta {
    /// Whom this node knows now.
    pub fn known(&self) -> Arc<Known> {
        self.members.known()
    }

    /// Whom it knows, once that is not `before` any more.
    pub async fn known_after(&self, before: &Known) -> Arc<Known> {
        loop {
            let mut changed = std::pin::pin!(self.members.changed.notified());
            changed.as_mut().enable();
            let known = self.members.known();
            if *known != *before {
                return known;
            }
            changed.await;
        }
    }

    /// Completes where the cluster takes this node never (again); then its process is to end, with these words.
    pub async fn refused(&self) -> String {
        self.members.refused.any().await
    }

    /// Somebody came that is not known: the table is to be read soon.
    pub fn look_at_members_now(&self) {
        self.members.look.notify_one();
    }

    /// Reads the table now, linearizably; whether that could be done. What was dismissed or admitted before is known then.
    pub async fn read_members(&self) -> bool {
        self.read_and_take(&self.life()).await
    }

    /// All other nodes, by id.
    pub(super) fn others(&self) -> Vec<NodeId> {
        self.members.known().members().into_keys().filter(|node| *node != self.config.node).collect()
    }

    pub(super) fn own_member(&self) -> Member {
        let own = self.config.members.iter().find(|member| member.node == self.config.node);
        *own.expect("checked when the groups were started")
    }

    /// What this node lacks to be one of the cluster's.
    pub(super) fn not_admitted_because(&self) -> Option<String> {
        if let Some((address, _)) = self.members.namesake() {
            return Some(format!("another machine answers under this node's id, at {address}"));
        }
        let is_admitted = self.members.is_admitted.load(Ordering::Acquire);
        (!is_admitted).then(|| String::from("the control group has not admitted this node yet"))
    }

    /// Begins with what was remembered.
    pub(super) fn recall_members(&self, life: &Life) -> Result<(), MachineError> {
        let Some(value) = life.lease.get(&NODES_KNOWN)? else { return Ok(()) };
        let table: BTreeMap<NodeId, NodeRecord> = codec::open("nodes known", &NODES_KNOWN, &value)?;
        *life.remembered.lock().unwrap_or_else(PoisonError::into_inner) = table.clone();
        self.take_table(table);
        Ok(())
    }

    /// Looks for ever.
    pub(super) async fn tend_members(self: Arc<Self>) {
        loop {
            self.look_at_members().await;
            self.env.clock.sleep(MEMBERS_LOOK_PAUSE).await;
            let is_admitted = self.members.is_admitted.load(Ordering::Acquire);
            let pause = if is_admitted { MEMBERS_LOOK_EVERY } else { JOIN_PAUSE_MAX };
            select(Box::pin(self.members.look.notified()), self.env.clock.sleep(pause)).await;
        }
    }

    async fn look_at_members(&self) {
        let life = self.life();
        if self.reads_and_may_take_part(&life).await && life.id().is_some() && !self.is_in_table() {
            self.admit_self().await;
        }
    }

    /// Reads the table; whether this node may be one of the cluster by it.
    pub(super) async fn reads_and_may_take_part(&self, life: &Life) -> bool {
        if !self.read_and_take(life).await {
            self.hear_of_members().await;
            return false;
        }
        self.may_take_part().await
    }

    /// One at a time, or an older table could come after a newer one.
    async fn read_and_take(&self, life: &Life) -> bool {
        let _turn = self.members.reading.lock().await;
        let Some(table) = self.read_table().await else { return false };
        self.remember(life, &table).await;
        self.take_table(table);
        true
    }

    fn is_in_table(&self) -> bool {
        let (known, own) = (self.members.known(), self.own_member());
        let is_in = known.table.get(&own.node).is_some_and(|record| record.address == own.address);
        self.members.is_admitted.store(is_in, Ordering::Release);
        is_in
    }

    async fn read_table(&self) -> Option<BTreeMap<NodeId, NodeRecord>> {
        let deadline = Deadline::after(self.env.clock.now(), JOIN_PATIENCE);
        match self.control_query(ControlQuery::Nodes, deadline).await {
            Ok(ControlAnswer::Nodes(table)) => Some(table),
            Ok(_) | Err(_) => None,
        }
    }

    fn take_table(&self, table: BTreeMap<NodeId, NodeRecord>) {
        let before = self.members.known().members();
        if !self.members.change(|known| known.table = table) {
            return;
        }
        let known = self.members.known();
        for (node, member) in known.members() {
            if before.get(&node) != Some(&member) && node != self.config.node {
                tracing::info!(%node, zone = %member.zone, address = %member.address, "a node of the cluster");
                self.env.net.introduce(node, member.address);
            }
        }
        for node in before.keys().filter(|node| known.is_dismissed(**node)) {
            tracing::warn!(%node, "dismissed: this node hears nothing of it any more");
        }
    }

    /// So that all can start again at once. One that cannot be stored is stored at the next look, or the store failed.
    async fn remember(&self, life: &Life, table: &BTreeMap<NodeId, NodeRecord>) {
        if life.remembered.lock().unwrap_or_else(PoisonError::into_inner).eq(table) {
            return;
        }
        let mut batch = Batch::default();
        codec::put(&mut batch, NODES_KNOWN.to_vec(), table);
        if life.lease.apply(batch).is_ok() && life.syncer.sync().await.is_ok() {
            *life.remembered.lock().unwrap_or_else(PoisonError::into_inner) = table.clone();
        }
    }

    /// Asks those that are known whom they know.
    async fn hear_of_members(&self) {
        for members in self.ask_all(&JoinAsk::Members).await.into_iter().flatten() {
            let JoinAnswer::Members(members) = members else { continue };
            for member in members {
                let is_new = self.members.change(|known| {
                    if known.told.len() < NODES_MAX && !known.table.contains_key(&member.node) {
                        known.told.entry(member.node).or_insert(member);
                    }
                });
                if is_new && member.node != self.config.node {
                    tracing::info!(node = %member.node, address = %member.address, "heard of a node");
                    self.env.net.introduce(member.node, member.address);
                }
            }
        }
    }

    /// Whether this node, by the table as it is known, may be one of the cluster under its id. Says so where it may not.
    async fn may_take_part(&self) -> bool {
        let (known, own) = (self.members.known(), self.own_member());
        let node = own.node;
        let Some(record) = known.table.get(&node) else { return true };
        if record.standing == NodeStanding::Dismissed {
            self.refuse(Refused::Dismissed { node });
            return false;
        }
        if record.zone != own.zone {
            self.refuse(Refused::OtherZone { node, admitted: record.zone, configured: own.zone });
            return false;
        }
        let heard = match record.address == own.address {
            true => None,
            false => self.namesake_at(record.address).await,
        };
        self.note_namesake(node, heard);
        heard.is_none()
    }

    /// A node that has moved is heard where it was for some seconds. One that is heard for longer is another one, and has the better right.
    fn note_namesake(&self, node: NodeId, heard: Option<SocketAddr>) {
        let now = self.env.clock.now();
        let since = {
            let mut namesake = self.members.namesake.lock().unwrap_or_else(PoisonError::into_inner);
            let since =
                namesake.filter(|(address, _)| Some(*address) == heard).map_or(now, |(_, since)| since);
            *namesake = heard.map(|address| (address, since));
            since
        };
        match heard {
            Some(address) if now.since(since) > NAMESAKE_PATIENCE => {
                self.refuse(Refused::Namesake { node, address });
            }
            Some(address) => {
                tracing::warn!(%node, %address, "another machine answers under this id: waiting")
            }
            None => {}
        }
    }

    fn refuse(&self, refused: Refused) {
        let words = refused.to_string();
        if self.members.refused.say(&words) {
            self.alarms.raise_membership(&words);
        }
    }

    /// Where others hear this node's id, if that is not where it is itself.
    async fn namesake_at(&self, address: SocketAddr) -> Option<SocketAddr> {
        let answers = self.ask_all(&JoinAsk::Namesake { address }).await;
        answers.contains(&Some(JoinAnswer::Heard)).then_some(address)
    }

    /// Answers whether the node with this id is heard at this address.
    pub(super) fn serve_namesake(&self, node: NodeId, address: SocketAddr) -> JoinAnswer {
        let at = self.members.known().members().get(&node).map(|member| member.address);
        match at == Some(address) && self.watch.is_up(node) {
            true => JoinAnswer::Heard,
            false => JoinAnswer::Noted,
        }
    }

    /// Whether any other node that answers has heard this one within [`DEAD_AFTER`].
    pub async fn is_heard_by_others(&self, node: NodeId) -> bool {
        self.ask_all(&JoinAsk::Hears { node }).await.contains(&Some(JoinAnswer::Heard))
    }

    pub(super) fn serve_hears(&self, node: NodeId) -> JoinAnswer {
        match node == self.config.node || self.watch.was_heard_within(node, DEAD_AFTER) {
            true => JoinAnswer::Heard,
            false => JoinAnswer::Noted,
        }
    }

    async fn admit_self(&self) {
        let member = self.own_member();
        let deadline = Deadline::after(self.env.clock.now(), JOIN_PATIENCE);
        match self.control(ControlCommand::AdmitNode { member }, deadline).await {
            Ok(ControlReply::Done) => {
                tracing::info!(node = %member.node, address = %member.address, "admitted");
                self.members.look.notify_one();
            }
            Ok(ControlReply::Dismissed) => self.refuse(Refused::Dismissed { node: member.node }),
            Ok(ControlReply::OtherZone { zone }) => {
                self.refuse(Refused::OtherZone { node: member.node, admitted: zone, configured: member.zone })
            }
            Ok(other) => self.alarms.raise_membership(&format!("this node is not admitted: {other:?}")),
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "not admitted yet"),
        }
    }

    /// Asks all other nodes that are known; `None` for those that gave no answer.
    pub(super) async fn ask_all(&self, ask: &JoinAsk) -> Vec<Option<JoinAnswer>> {
        let asked = self.others().into_iter().map(|peer| self.ask_peer(peer, ask.clone(), JOIN_PATIENCE));
        join_all(asked).await
    }
}
