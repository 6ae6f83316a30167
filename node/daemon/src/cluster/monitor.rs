//! Pings every node twice a second and keeps the view that placement chooses from.
//!
//! The view is an opinion. It decides where new fragments go and whom to ask first; it never decides whether something is durable
//! and never weakens an ack rule.

use super::changes;
use super::rpc::Peers;
use crate::config::Member;
use crate::events::Events;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_env::Env;
use strongroom_format::wire::message::{Pong, Request, Response};
use strongroom_meta::Watch;
use strongroom_types::{
    ClusterView, DrainSubject, DriveId, DriveView, Health, Holder, Instant, NodeId, NodeView, SessionId,
    ZoneId,
};

/// Between two pings of a peer.
pub const PING_EVERY: Duration = Duration::from_millis(500);
/// How long an answer may take.
const PING_PATIENCE: Duration = Duration::from_millis(1000);
/// Silence after which a peer counts as down.
pub const DOWN_AFTER: Duration = Duration::from_millis(2500);

/// Whether a drive is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its node has it.
    Here,
    /// It may come back: its node is silent, or could not open all of its drives, and not for long.
    Away,
    /// Its node has all the drives that it is to have, and this is none of them, or not what it was; or it has been away for too long.
    Gone,
}

/// Which drives are there, at one moment.
pub struct Presences {
    by_node: BTreeMap<NodeId, NodePresence>,
    dismissed: BTreeMap<NodeId, ZoneId>,
}

struct NodePresence {
    up: bool,
    drives: BTreeSet<DriveId>,
    gone: BTreeSet<DriveId>,
    /// What becomes of those that are not seen.
    others: Presence,
}

impl Presences {
    /// Whether this one is. A node that was dismissed is not waited for; of one that was not heard of yet somebody else may know.
    pub fn of(&self, holder: Holder) -> Presence {
        let Some(node) = self.by_node.get(&holder.node) else {
            return if self.dismissed.contains_key(&holder.node) { Presence::Gone } else { Presence::Away };
        };
        match node.drives.contains(&holder.drive) {
            true if node.gone.contains(&holder.drive) => Presence::Gone,
            true => Presence::Here,
            false => node.others,
        }
    }
}

impl Presences {
    /// Whether this drive never comes back with what it had: its node was dismissed, or is there and says that it has all its drives and not this one.
    pub fn is_gone_for_good(&self, holder: Holder) -> bool {
        let answers = self.by_node.get(&holder.node).is_none_or(|node| node.up);
        answers && self.of(holder) == Presence::Gone
    }
}

/// The view and what it is made from.
pub struct Monitor {
    env: Env,
    given_up_after: Duration,
    events: Arc<Events>,
    /// By id.
    seen: Mutex<Vec<Seen>>,
    /// Those that take part never again, with their zones.
    dismissed: Mutex<BTreeMap<NodeId, ZoneId>>,
    /// What is to be emptied, as the control group said last.
    drains: Mutex<Arc<BTreeSet<DrainSubject>>>,
}

struct Seen {
    member: Member,
    heard: Option<Instant>,
    /// When the last ping was sent that had no answer.
    missed: Option<Instant>,
    /// The session of the last answer, and when its ping was sent: the session was the node's own at some time after that.
    session: Option<(SessionId, Instant)>,
    drives: Vec<DriveView>,
    /// Those of them that are not what they were.
    drives_gone: Vec<DriveId>,
    /// Drives that it could not open,
    drives_failed: u16,
    /// and since when it says that there are any.
    short_since: Option<Instant>,
    /// When this node began to ask.
    begun: Instant,
    /// What was told of it as events.
    told: changes::Told,
}

impl Monitor {
    /// A monitor of `members`, none of which was heard of yet. Who is silent for `given_up_after` is not waited for any longer.
    pub fn new(env: Env, members: &[Member], given_up_after: Duration, events: Arc<Events>) -> Arc<Self> {
        let begun = env.clock.now();
        let seen = members.iter().map(|member| Seen::nothing_of(*member, begun)).collect();
        Arc::new(Self {
            env,
            given_up_after,
            events,
            seen: Mutex::new(seen),
            dismissed: Mutex::default(),
            drains: Mutex::default(),
        })
    }

    /// Pings all until the node ends, or they do not belong to the cluster any more.
    pub fn start(self: &Arc<Self>, peers: &Peers) {
        let nodes: Vec<NodeId> = self.lock().iter().map(|seen| seen.member.node).collect();
        for node in nodes {
            self.ping(peers, node);
        }
    }

    /// From now on these are the cluster's nodes, and `dismissed`, with their zones, never again.
    pub fn set_members(
        self: &Arc<Self>,
        peers: &Peers,
        members: &BTreeMap<NodeId, Member>,
        dismissed: BTreeMap<NodeId, ZoneId>,
    ) {
        // Before they are no members any more: nobody is to find them in neither place.
        *self.dismissed.lock().expect("no code panics while it holds this lock") = dismissed;
        let begun = self.env.clock.now();
        let new: Vec<NodeId> = {
            let mut all = self.lock();
            all.retain(|seen| members.contains_key(&seen.member.node));
            for seen in all.iter_mut() {
                seen.member = members[&seen.member.node];
            }
            let known: BTreeSet<NodeId> = all.iter().map(|seen| seen.member.node).collect();
            let new = members.values().filter(|member| !known.contains(&member.node));
            all.extend(new.clone().map(|member| Seen::nothing_of(*member, begun)));
            all.sort_by_key(|seen| seen.member.node);
            new.map(|member| member.node).collect()
        };
        for node in new {
            self.ping(peers, node);
        }
    }

    fn ping(self: &Arc<Self>, peers: &Peers, node: NodeId) {
        let (monitor, peers) = (self.clone(), peers.clone());
        let task = async move {
            while monitor.has(node) {
                let sent = monitor.env.clock.now();
                let answer = peers.ask(node, &Request::Ping, Bytes::new(), PING_PATIENCE).await;
                match answer {
                    Ok((Response::Pong(pong), _)) => monitor.heard(node, pong, sent),
                    Ok(_) | Err(_) => monitor.missed(node, sent),
                }
                monitor.env.clock.sleep(PING_EVERY).await;
            }
        };
        self.env.spawn.spawn("ping", Box::pin(task));
    }

    fn has(&self, node: NodeId) -> bool {
        self.lock().iter().any(|seen| seen.member.node == node)
    }

    fn heard(&self, node: NodeId, pong: Pong, sent: Instant) {
        let now = self.env.clock.now();
        let mut all = self.lock();
        let Some(seen) = all.iter_mut().find(|seen| seen.member.node == node) else { return };
        if pong.node != node || pong.zone != seen.member.zone {
            tracing::error!(expected = %node, found = %pong.node, zone = %pong.zone, "peer is not who it should be: check its node.toml");
            return;
        }
        seen.heard = Some(now);
        seen.session = Some((pong.session, sent));
        seen.drives = pong
            .drives
            .iter()
            .map(|drive| DriveView {
                drive: drive.drive,
                extents_total: drive.extents_total,
                extents_free: drive.extents_free,
                extent_len_bytes: drive.extent_len_bytes,
                writable: drive.writable,
                leaving: false,
            })
            .collect();
        seen.drives_gone = pong.drives.iter().filter(|drive| drive.gone).map(|drive| drive.drive).collect();
        seen.drives_failed = pong.drives_failed;
        seen.short_since = seen.short_since.or(Some(now)).filter(|_| pong.drives_failed > 0);
        seen.drives.sort_by_key(|drive| drive.drive);
        seen.told.heard(node, &pong.drives, &self.events);
    }

    fn missed(&self, node: NodeId, sent: Instant) {
        let now = self.env.clock.now();
        if let Some(seen) = self.lock().iter_mut().find(|seen| seen.member.node == node) {
            seen.missed = Some(sent);
            if !seen.is_up(now) {
                let given_up = seen.is_given_up(now, self.given_up_after);
                seen.told.missed(node, given_up, &self.events);
            }
        }
    }

    /// Nodes that have not answered a ping that was sent at `since` or later: what is thought of them may be older than that.
    pub fn unheard_since(&self, since: Instant) -> Vec<NodeId> {
        let all = self.lock();
        let unheard = all.iter().filter(|seen| seen.session.is_none_or(|(_, sent)| sent < since));
        unheard.map(|seen| seen.member.node).collect()
    }

    /// The cluster as seen now.
    pub fn view(&self) -> ClusterView {
        let now = self.env.clock.now();
        let drains = self.drains();
        let mut nodes: Vec<NodeView> =
            self.lock().iter().map(|seen| seen.view(now, self.given_up_after)).collect();
        nodes.iter_mut().for_each(|node| mark_leaving(node, &drains));
        ClusterView { nodes, dismissed: self.dismissed() }
    }

    /// For how long a node has been asked in vain; `None` where it answers, or was never asked.
    pub fn silence_of(&self, node: NodeId) -> Option<Duration> {
        let now = self.env.clock.now();
        let all = self.lock();
        let seen = all.iter().find(|seen| seen.member.node == node)?;
        (!seen.is_up(now)).then(|| seen.silence())
    }

    /// What is to be emptied, as far as this node knows.
    pub fn drains(&self) -> Arc<BTreeSet<DrainSubject>> {
        self.drains.lock().expect("no code panics while it holds this lock").clone()
    }

    /// The control group has said what is to be emptied.
    pub fn set_drains(&self, drains: BTreeSet<DrainSubject>) {
        let mut known = self.drains.lock().expect("no code panics while it holds this lock");
        if **known != drains {
            tracing::info!(?drains, "what is to be emptied");
            *known = Arc::new(drains);
        }
    }

    /// Whether a session, of which its node gave a sign of life at `seen`, is to be taken for over: for certain, since the node has answered with
    /// another one since (a node has one at a time and never one again), or was dismissed, or as an opinion, since its node has been silent for `patience`.
    ///
    /// An answer to a ping that was sent before `seen` proves nothing: it may be from before the session began. Silence is measured up to the last
    /// ping that had no answer, not up to now: who slept itself has not been waiting.
    pub fn session_is_over(
        &self,
        node: NodeId,
        session: SessionId,
        seen: Instant,
        patience: Duration,
    ) -> bool {
        let all = self.lock();
        match all.iter().find(|known| known.member.node == node) {
            Some(known) => known.is_over(session, seen, patience),
            None => self.dismissed().contains_key(&node),
        }
    }

    /// Which drives are there. An opinion, as all of the view is.
    pub fn presences(&self) -> Presences {
        let now = self.env.clock.now();
        let presence = |seen: &Seen| (seen.member.node, seen.presence(now, self.given_up_after));
        let by_node = self.lock().iter().map(presence).collect();
        Presences { by_node, dismissed: self.dismissed() }
    }

    fn dismissed(&self) -> BTreeMap<NodeId, ZoneId> {
        self.dismissed.lock().expect("no code panics while it holds this lock").clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().expect("no code panics while it holds this lock")
    }
}

impl Watch for Monitor {
    fn is_up(&self, node: NodeId) -> bool {
        let now = self.env.clock.now();
        self.lock().iter().any(|seen| seen.member.node == node && seen.is_up(now))
    }

    fn was_heard_within(&self, node: NodeId, patience: Duration) -> bool {
        let now = self.env.clock.now();
        let all = self.lock();
        let seen = all.iter().find(|seen| seen.member.node == node);
        seen.is_some_and(|seen| seen.heard.is_some() && (seen.is_up(now) || seen.silence() < patience))
    }

    fn is_given_up(&self, node: NodeId) -> bool {
        let now = self.env.clock.now();
        let is_it = |seen: &&Seen| seen.member.node == node;
        self.lock().iter().find(is_it).is_some_and(|seen| seen.is_given_up(now, self.given_up_after))
    }

    fn is_leaving(&self, node: NodeId) -> bool {
        self.drains().contains(&DrainSubject::Node(node))
    }
}

/// Says of a node and its drives whether they are to be emptied.
fn mark_leaving(node: &mut NodeView, drains: &BTreeSet<DrainSubject>) {
    node.leaving = drains.contains(&DrainSubject::Node(node.node));
    for drive in &mut node.drives {
        drive.leaving = node.leaving || drains.contains(&DrainSubject::Drive(drive.drive));
    }
}

impl Seen {
    /// Not heard of yet.
    fn nothing_of(member: Member, begun: Instant) -> Self {
        Self {
            member,
            heard: None,
            missed: None,
            session: None,
            drives: Vec::new(),
            drives_gone: Vec::new(),
            drives_failed: 0,
            short_since: None,
            begun,
            told: changes::Told::default(),
        }
    }

    fn is_over(&self, session: SessionId, seen: Instant, patience: Duration) -> bool {
        if self.session.is_some_and(|(present, sent)| present != session && sent > seen) {
            return true;
        }
        let sign_of_life = self.heard.map_or(seen, |heard| heard.max(seen));
        self.missed.is_some_and(|missed| missed > sign_of_life && missed.since(sign_of_life) > patience)
    }

    fn is_up(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) <= DOWN_AFTER)
    }

    /// How long it has been silent, up to the last ping in vain, not up to now: who slept itself has not been waiting.
    fn silence(&self) -> Duration {
        let since = self.heard.unwrap_or(self.begun);
        self.missed.filter(|missed| *missed > since).map_or(Duration::ZERO, |missed| missed.since(since))
    }

    fn is_given_up(&self, now: Instant, patience: Duration) -> bool {
        !self.is_up(now) && self.silence() >= patience
    }

    fn presence(&self, now: Instant, patience: Duration) -> NodePresence {
        let up = self.is_up(now);
        let away = match self.short_since {
            _ if !up => Some(self.silence()),
            since => since.map(|since| now.since(since)),
        };
        let drives = self.drives.iter().filter(|_| up).map(|drive| drive.drive).collect();
        let gone = self.drives_gone.iter().copied().collect();
        let others = if away.is_some_and(|away| away < patience) { Presence::Away } else { Presence::Gone };
        NodePresence { up, drives, gone, others }
    }

    fn view(&self, now: Instant, given_up_after: Duration) -> NodeView {
        let up = self.is_up(now);
        NodeView {
            node: self.member.node,
            zone: self.member.zone,
            health: if up { Health::Up } else { Health::Down },
            may_hold_data: self.heard.is_none() || self.drives_failed > 0 || !self.drives.is_empty(),
            given_up: self.is_given_up(now, given_up_after),
            leaving: false,
            drives: self.drives.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Presence, Presences, Seen, mark_leaving};
    use crate::config::Member;
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::time::Duration;
    use strongroom_types::{
        ClusterView, DrainSubject, DriveId, DriveView, Holder, Instant, NodeId, SessionId, ZoneId,
    };

    const PATIENCE: Duration = Duration::from_secs(10);
    const SESSION: SessionId = SessionId::new(1);

    fn at(s: u64) -> Instant {
        Instant::ORIGIN.after(Duration::from_secs(s))
    }

    fn seen(heard: Option<u64>, missed: Option<u64>, session: Option<(u64, u64)>) -> Seen {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Seen {
            heard: heard.map(at),
            missed: missed.map(at),
            session: session.map(|(id, sent)| (SessionId::new(id), at(sent))),
            ..Seen::nothing_of(Member { node: NodeId::new(1), zone: ZoneId::new(1), address }, at(0))
        }
    }

    #[test]
    fn a_drive_is_gone_only_where_its_node_has_all_it_is_to_have() {
        let drive = |number: u128| DriveView {
            drive: DriveId::new(number),
            extents_total: 1,
            extents_free: 1,
            extent_len_bytes: 1,
            writable: true,
            leaving: false,
        };
        let full = || Seen { drives: vec![drive(1), drive(2)], ..seen(Some(100), None, None) };
        let presence = |seen: Seen, number| {
            let (node, drive) = (seen.member.node, DriveId::new(number));
            let by_node = [(node, seen.presence(at(100), PATIENCE))].into();
            let presences = Presences { by_node, dismissed: BTreeMap::new() };
            presences.of(Holder { node, drive })
        };
        assert_eq!(presence(full(), 1), Presence::Here);
        assert_eq!(presence(full(), 3), Presence::Gone);
        assert_eq!(presence(Seen { drives_gone: vec![DriveId::new(2)], ..full() }, 2), Presence::Gone);
        let short = |since| Seen { drives_failed: 1, short_since: Some(at(since)), ..full() };
        assert_eq!((presence(short(91), 3), presence(short(91), 1)), (Presence::Away, Presence::Here));
        assert_eq!((presence(short(90), 3), presence(short(90), 1)), (Presence::Gone, Presence::Here));
        let silent = |heard, missed| Seen { heard: Some(at(heard)), missed, ..full() };
        assert_eq!(presence(silent(50, Some(at(59))), 1), Presence::Away, "this node slept from then on");
        assert_eq!(presence(silent(50, Some(at(60))), 1), Presence::Gone);
        assert_eq!(presence(silent(50, None), 1), Presence::Away);
        assert_eq!(presence(seen(None, None, None), 1), Presence::Away);
        let begun = |second| Seen { begun: at(second), ..seen(None, Some(90), None) };
        assert_eq!((presence(begun(81), 1), presence(begun(80), 1)), (Presence::Away, Presence::Gone));
        assert!(silent(50, Some(at(60))).view(at(100), PATIENCE).given_up);
        assert!(!silent(50, Some(at(59))).view(at(100), PATIENCE).given_up);
        assert!(!full().view(at(100), PATIENCE).given_up);
        let nobody =
            Presences { by_node: BTreeMap::new(), dismissed: [(NodeId::new(9), ZoneId::new(1))].into() };
        let holder = |node| Holder { node: NodeId::new(node), drive: DriveId::new(1) };
        assert_eq!(nobody.of(holder(9)), Presence::Gone, "dismissed");
        let for_good = |seen: Seen, number| {
            let (node, drive) = (seen.member.node, DriveId::new(number));
            let by_node = [(node, seen.presence(at(100), PATIENCE))].into();
            Presences { by_node, dismissed: BTreeMap::new() }.is_gone_for_good(Holder { node, drive })
        };
        assert_eq!((for_good(full(), 1), for_good(full(), 3)), (false, true));
        assert!(!for_good(silent(50, Some(at(60))), 1), "given up is not for good");
        assert!(nobody.is_gone_for_good(holder(9)) && !nobody.is_gone_for_good(holder(8)));
        assert_eq!(nobody.of(holder(8)), Presence::Away, "it joined, and was not heard of here yet");
    }

    #[test]
    fn what_is_to_be_emptied_is_in_the_view() {
        let drive = |number: u128| DriveView {
            drive: DriveId::new(number),
            extents_total: 1,
            extents_free: 1,
            extent_len_bytes: 1,
            writable: true,
            leaving: false,
        };
        let seen = Seen { drives: vec![drive(1), drive(2)], ..seen(Some(100), None, None) };
        let leaving = |drains: &[DrainSubject]| {
            let mut node = seen.view(at(100), PATIENCE);
            mark_leaving(&mut node, &drains.iter().copied().collect());
            let view = ClusterView { nodes: vec![node], ..ClusterView::default() };
            let of = |number| view.is_leaving(Holder { node: NodeId::new(1), drive: DriveId::new(number) });
            (of(1), of(2), view.nodes[0].is_leaving())
        };
        let (first, second) = (DrainSubject::Drive(DriveId::new(1)), DrainSubject::Drive(DriveId::new(2)));
        assert_eq!(leaving(&[]), (false, false, false));
        assert_eq!(leaving(&[first]), (true, false, false));
        assert_eq!(leaving(&[first, second]), (true, true, true));
        assert_eq!(leaving(&[DrainSubject::Node(NodeId::new(1))]), (true, true, true));
        assert_eq!(leaving(&[DrainSubject::Node(NodeId::new(2))]), (false, false, false));
    }

    #[test]
    fn only_who_named_no_drives_at_all_is_a_witness() {
        let may_hold_data = |seen: Seen| seen.view(at(100), PATIENCE).may_hold_data;
        assert!(may_hold_data(seen(None, Some(90), None)), "never heard");
        assert!(!may_hold_data(seen(Some(100), None, None)));
        assert!(!may_hold_data(seen(Some(10), Some(90), None)), "a witness that is down");
        assert!(may_hold_data(Seen { drives_failed: 1, ..seen(Some(100), None, None) }));
    }

    #[test]
    fn another_session_is_proof_only_if_it_was_asked_for_later() {
        assert!(seen(Some(21), None, Some((2, 20))).is_over(SESSION, at(19), PATIENCE));
        assert!(!seen(Some(21), None, Some((2, 20))).is_over(SESSION, at(20), PATIENCE));
        assert!(!seen(Some(21), None, Some((1, 20))).is_over(SESSION, at(0), PATIENCE));
    }

    #[test]
    fn silence_counts_from_the_last_sign_of_life_to_the_last_ping_in_vain() {
        assert!(seen(Some(10), Some(21), None).is_over(SESSION, at(0), PATIENCE));
        assert!(!seen(Some(10), Some(20), None).is_over(SESSION, at(0), PATIENCE));
        // Its slab was seen to be opened since: it lived then, whatever pings say.
        assert!(!seen(Some(10), Some(40), None).is_over(SESSION, at(30), PATIENCE));
        assert!(seen(Some(10), Some(41), None).is_over(SESSION, at(30), PATIENCE));
        // Who asks has slept: its last ping in vain was sent before.
        assert!(!seen(Some(10), Some(11), None).is_over(SESSION, at(0), PATIENCE));
        assert!(!seen(Some(10), None, None).is_over(SESSION, at(0), PATIENCE));
        assert!(seen(None, Some(11), None).is_over(SESSION, at(0), PATIENCE), "one that was never heard");
    }
}
