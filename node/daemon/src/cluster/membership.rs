//! Hands what the groups know of the cluster's nodes to the one who pings them: a newcomer is pinged, and so placed on, as soon as this node has read of
//! it, and a node that was dismissed is not any more.
//!
//! Who belongs to the cluster is not decided here but in the control group, and known by `strongroom_meta`; what is made of it is an opinion.

use super::monitor::Monitor;
use super::rpc::Peers;
use std::sync::Arc;
use strongroom_env::Env;
use strongroom_meta::Meta;

/// Follows what `meta` knows until the node ends.
pub fn follow(env: &Env, meta: Arc<Meta>, monitor: Arc<Monitor>, peers: Peers) {
    let task = async move {
        let mut known = meta.known();
        loop {
            monitor.set_members(&peers, &known.members(), known.dismissed().collect());
            known = meta.known_after(&known).await;
        }
    };
    env.spawn.spawn("membership", Box::pin(task));
}
