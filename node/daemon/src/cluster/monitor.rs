//! Pings every node twice a second and keeps the view that placement chooses from.
//!
//! The view is an opinion. It decides where new fragments go and whom to ask first; it never decides whether something is durable
//! and never weakens an ack rule.

use super::rpc::Peers;
use crate::config::Member;
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_env::Env;
use strongroom_format::wire::message::{Pong, Request, Response};
use strongroom_types::{ClusterView, DriveView, Health, Instant, NodeId, NodeView, SessionId};

/// Between two pings of a peer.
pub const PING_EVERY: Duration = Duration::from_millis(500);
/// How long an answer may take.
const PING_PATIENCE: Duration = Duration::from_millis(1000);
/// Silence after which a peer counts as down.
pub const DOWN_AFTER: Duration = Duration::from_millis(2500);

/// The view and what it is made from.
pub struct Monitor {
    env: Env,
    seen: Mutex<Vec<Seen>>,
}

struct Seen {
    member: Member,
    heard: Option<Instant>,
    /// When the last ping was sent that had no answer.
    missed: Option<Instant>,
    /// The session of the last answer, and when its ping was sent: the session was the node's own at some time after that.
    session: Option<(SessionId, Instant)>,
    drives: Vec<DriveView>,
    /// Drives that it could not open.
    drives_failed: u16,
}

impl Monitor {
    /// A monitor of `members`, none of which was heard of yet.
    pub fn new(env: Env, members: &[Member]) -> Arc<Self> {
        let seen = members
            .iter()
            .map(|member| Seen {
                member: member.clone(),
                heard: None,
                missed: None,
                session: None,
                drives: Vec::new(),
                drives_failed: 0,
            })
            .collect();
        Arc::new(Self { env, seen: Mutex::new(seen) })
    }

    /// Pings until the node ends.
    pub fn start(self: &Arc<Self>, peers: &Peers) {
        let nodes: Vec<NodeId> = self.lock().iter().map(|seen| seen.member.node).collect();
        for node in nodes {
            let monitor = self.clone();
            let peers = peers.clone();
            let task = async move {
                loop {
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
            })
            .collect();
        seen.drives_failed = pong.drives_failed;
        seen.drives.sort_by_key(|drive| drive.drive);
    }

    fn missed(&self, node: NodeId, sent: Instant) {
        if let Some(seen) = self.lock().iter_mut().find(|seen| seen.member.node == node) {
            seen.missed = Some(sent);
        }
    }

    /// The cluster as seen now.
    pub fn view(&self) -> ClusterView {
        let now = self.env.clock.now();
        let nodes = self.lock().iter().map(|seen| seen.view(now)).collect();
        ClusterView { nodes }
    }

    /// Whether a session, of which its node gave a sign of life at `seen`, is to be taken for over: for certain, since the node has answered with
    /// another one since (a node has one at a time and never one again), or as an opinion, since its node has been silent for `patience`.
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
        let Some(known) = all.iter().find(|known| known.member.node == node) else { return false };
        known.is_over(session, seen, patience)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().expect("no code panics while it holds this lock")
    }
}

impl Seen {
    fn is_over(&self, session: SessionId, seen: Instant, patience: Duration) -> bool {
        if self.session.is_some_and(|(present, sent)| present != session && sent > seen) {
            return true;
        }
        let sign_of_life = self.heard.map_or(seen, |heard| heard.max(seen));
        self.missed.is_some_and(|missed| missed > sign_of_life && missed.since(sign_of_life) > patience)
    }

    fn view(&self, now: Instant) -> NodeView {
        let up = self.heard.is_some_and(|heard| now.since(heard) <= DOWN_AFTER);
        NodeView {
            node: self.member.node,
            zone: self.member.zone,
            health: if up { Health::Up } else { Health::Down },
            may_hold_data: self.heard.is_none() || self.drives_failed > 0 || !self.drives.is_empty(),
            drives: self.drives.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;
    use crate::config::Member;
    use std::net::SocketAddr;
    use std::time::Duration;
    use strongroom_types::{Instant, NodeId, SessionId, ZoneId};

    const PATIENCE: Duration = Duration::from_secs(10);
    const SESSION: SessionId = SessionId::new(1);

    fn at(s: u64) -> Instant {
        Instant::ORIGIN.after(Duration::from_secs(s))
    }

    fn seen(heard: Option<u64>, missed: Option<u64>, session: Option<(u64, u64)>) -> Seen {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Seen {
            member: Member { node: NodeId::new(1), zone: ZoneId::new(1), address },
            heard: heard.map(at),
            missed: missed.map(at),
            session: session.map(|(id, sent)| (SessionId::new(id), at(sent))),
            drives: Vec::new(),
            drives_failed: 0,
        }
    }

    #[test]
    fn only_who_named_no_drives_at_all_is_a_witness() {
        let may_hold_data = |seen: Seen| seen.view(at(100)).may_hold_data;
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
