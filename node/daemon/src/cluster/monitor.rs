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

/// What is known of a writer's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Its node answers with it, or has been silent only for a moment.
    NotKnown,
    /// Its node is silent. It may live, and go on writing.
    Silent,
    /// Its node has answered with another session since: this one is over for good.
    Certain,
}

/// The view and what it is made from.
pub struct Monitor {
    env: Env,
    seen: Mutex<Vec<Seen>>,
}

struct Seen {
    member: Member,
    heard: Option<Instant>,
    /// The session of the last answer, and when its ping was sent: the session was the node's own at some time after that.
    session: Option<(SessionId, Instant)>,
    drives: Vec<DriveView>,
}

impl Monitor {
    /// A monitor of `members`, none of which was heard of yet.
    pub fn new(env: Env, members: &[Member]) -> Arc<Self> {
        let seen = members
            .iter()
            .map(|member| Seen { member: member.clone(), heard: None, session: None, drives: Vec::new() })
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
                    if let Ok((Response::Pong(pong), _)) = answer {
                        monitor.heard(node, pong, sent);
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
        seen.drives.sort_by_key(|drive| drive.drive);
    }

    /// The cluster as seen now.
    pub fn view(&self) -> ClusterView {
        let now = self.env.clock.now();
        let nodes = self.lock().iter().map(|seen| seen.view(now)).collect();
        ClusterView { nodes }
    }

    /// What is known of the end of a session that was this node's at `seen` or before.
    ///
    /// A node has one session at a time and never has one again, so an answer to a ping that was sent after `seen` and names another session is proof. An
    /// older answer is not: it may be from before the session began.
    pub fn session_end(
        &self,
        node: NodeId,
        session: SessionId,
        seen: Instant,
        patience: Duration,
    ) -> SessionEnd {
        let now = self.env.clock.now();
        let all = self.lock();
        let Some(known) = all.iter().find(|known| known.member.node == node) else {
            return SessionEnd::NotKnown;
        };
        match known.session {
            Some((present, sent)) if present != session && sent > seen => SessionEnd::Certain,
            _ if now.since(known.heard.unwrap_or(Instant::ORIGIN)) > patience => SessionEnd::Silent,
            _ => SessionEnd::NotKnown,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().expect("no code panics while it holds this lock")
    }
}

impl Seen {
    fn view(&self, now: Instant) -> NodeView {
        let up = self.heard.is_some_and(|heard| now.since(heard) <= DOWN_AFTER);
        NodeView {
            node: self.member.node,
            zone: self.member.zone,
            health: if up { Health::Up } else { Health::Down },
            drives: self.drives.clone(),
        }
    }
}
