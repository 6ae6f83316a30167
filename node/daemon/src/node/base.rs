//! What all of a node's work stands on: its drives, peers and groups, and where it says what happens.

use super::dispatch::Dispatcher;
use super::{NodeError, NodeParts, drives, founding};
use crate::alarms::Alarms;
use crate::cluster::{Monitor, Peers, membership};
use crate::encode::{Encoder, Zones};
use crate::events::Events;
use crate::fetch::{Codecs, Fetcher, ImageReader};
use crate::holder::Holder;
use crate::jobs::Jobs;
use crate::session::Session;
use crate::slabs::Slabs;
use crate::store::Found;
use std::sync::{Arc, OnceLock};
use strongroom_env::Env;
use strongroom_format::wire::message::Pong;
use strongroom_meta::Meta;
use strongroom_types::{ClusterId, NodeId, ZoneId};

/// See the module.
pub(super) struct Base {
    pub(super) env: Env,
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    pub(super) zone: ZoneId,
    pub(super) session: Session,
    pub(super) holder: Holder,
    /// Drives that could not be opened, and why.
    pub(super) drives_failed: Vec<String>,
    pub(super) peers: Peers,
    pub(super) meta: Arc<Meta>,
    pub(super) events: Arc<Events>,
    pub(super) jobs: Arc<Jobs>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) alarms: Arc<Alarms>,
    pub(super) found: Found,
    pub(super) slabs: Arc<Slabs>,
    pub(super) codecs: Arc<Codecs>,
    pub(super) fetcher: Fetcher,
}

impl Base {
    /// Opens the drives, takes requests of peers and starts the groups.
    pub(super) async fn start(parts: &NodeParts) -> Result<Self, NodeError> {
        let env = parts.env.clone();
        let session = Session::begin(env.rng.clone());
        let own =
            parts.members.iter().find(|member| member.node == parts.node).expect("a member of its cluster");
        let (holder, drives_failed) = drives::open(parts).await?;

        let events = Events::new(env.clock.clone());
        let jobs = Jobs::new(env.clock.clone(), events.clone());
        let monitor = Monitor::new(env.clone(), &parts.members, parts.policy.repair_after, events.clone());
        let seen = monitor.clone();
        let zones = Zones { own: own.zone, of: Arc::new(move |node| seen.view().zone_of(node)) };

        // Peers may call as soon as the groups run, so the dispatcher stands first and says Busy until all is there.
        let peers = Peers::new(env.clone());
        let codecs = Arc::new(Codecs::default());
        let dispatcher = Arc::new(Dispatcher {
            pong: Pong {
                cluster: parts.cluster,
                node: parts.node,
                zone: own.zone,
                session: session.present(),
                drives: Vec::new(),
                drives_failed: u16::try_from(drives_failed.len()).expect("a node has at most 32 drives"),
            },
            session: session.clone(),
            holder: holder.clone(),
            encoder: Arc::new(Encoder::new(env.clock.clone(), peers.clone(), codecs.clone(), zones)),
            meta: OnceLock::new(),
        });
        env.net.serve(dispatcher.clone());
        let config = founding::meta_config(parts);
        let meta = Meta::start(env.clone(), config, parts.kv.clone(), monitor.clone()).await?;
        assert!(dispatcher.meta.set(meta.clone()).is_ok(), "set once, here");

        monitor.start(&peers);
        membership::follow(&env, meta.clone(), monitor.clone(), peers.clone());
        let alarms = Arc::new(Alarms::new(events.clone()));
        let found = Found::default();
        founding::bootstrap(&env, parts, &meta, &alarms, &found);
        crate::cluster::drains::start(&env, &meta, &monitor);
        let slabs = Arc::new(Slabs::new(env.clone(), meta.clone()));
        let image = ImageReader::new(
            parts.node,
            peers.clone(),
            monitor.clone(),
            slabs.clone(),
            codecs.clone(),
            alarms.clone(),
        );
        Ok(Self {
            env,
            cluster: parts.cluster,
            node: parts.node,
            zone: own.zone,
            session,
            holder,
            drives_failed,
            peers,
            meta,
            events,
            jobs,
            monitor,
            alarms,
            found,
            slabs,
            codecs,
            fetcher: Fetcher::new(image),
        })
    }
}
