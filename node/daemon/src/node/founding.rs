//! What a node makes of its configuration at its start: which voters a new cluster is founded with, and whether the one that is there is the one that
//! is meant. How it is founded or joined is `strongroom_meta`'s.

use super::NodeParts;
use crate::alarms::Alarms;
use crate::store::Found;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use strongroom_core::mutants::{Mutant, MutantSwitch};
use strongroom_env::Env;
use strongroom_meta::control::{ControlCommand, ControlReply};
use strongroom_meta::{Founding, Meta, MetaConfig, MetaError, MetaFault, MetaFaults};
use strongroom_types::{ClusterId, Deadline, NodeId, ZoneId};

/// How long the first leader of a new cluster may take.
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts to found the cluster.
const BOOTSTRAP_RETRY: Duration = Duration::from_secs(1);

/// Voters of a group.
const VOTERS: usize = 3;

/// Founds the cluster at its first start; at later ones finds that it is there. Tried until it worked or it is another cluster; then nothing is
/// served, since with another count of groups keys would be looked for, and stored, where nobody else does.
pub(super) fn bootstrap(env: &Env, parts: &NodeParts, meta: &Arc<Meta>, alarms: &Arc<Alarms>, found: &Found) {
    let (world, meta, alarms, found) = (env.clone(), meta.clone(), alarms.clone(), found.clone());
    let (cluster, groups) = (parts.cluster, parts.groups);
    let task = async move {
        loop {
            let deadline = Deadline::after(world.clock.now(), BOOTSTRAP_PATIENCE);
            match found_or_compare(&meta, cluster, groups, deadline).await {
                Ok(()) => return found.set(),
                Err(error @ MetaError::OtherCluster { .. }) => {
                    return alarms.raise(format!(
                        "{error}: check cluster.id, cluster.groups and state_dir in node.toml"
                    ));
                }
                Err(error) => tracing::debug!(%error, "cluster is not founded yet"),
            }
            world.clock.sleep(BOOTSTRAP_RETRY).await;
        }
    };
    env.spawn.spawn("bootstrap", Box::pin(task));
}

/// Every node compares, not the founder alone: each has a configuration of its own.
async fn found_or_compare(
    meta: &Meta,
    cluster: ClusterId,
    groups: u16,
    deadline: Deadline,
) -> Result<(), MetaError> {
    meta.bootstrap(deadline).await?;
    match meta.control(ControlCommand::Found { cluster, groups }, deadline).await? {
        ControlReply::Done => Ok(()),
        ControlReply::OtherCluster { cluster, groups } => Err(MetaError::OtherCluster { cluster, groups }),
        ControlReply::Bucket { .. }
        | ControlReply::NoSuchBucket
        | ControlReply::Full
        | ControlReply::Enrolled { .. }
        | ControlReply::DriveStale { .. }
        | ControlReply::NoSuchDrive
        | ControlReply::Dismissed
        | ControlReply::OtherZone { .. }
        | ControlReply::NoSuchNode
        | ControlReply::NotDrained
        | ControlReply::Outdated => Err(MetaError::Failed),
    }
}

/// One voter a zone, three zones a group: nodes take turns, so that groups spread over the nodes of a zone.
pub(super) fn meta_config(parts: &NodeParts) -> MetaConfig {
    let mut zones: BTreeMap<ZoneId, Vec<NodeId>> = BTreeMap::new();
    for member in &parts.members {
        zones.entry(member.zone).or_default().push(member.node);
    }
    let voters = |turn: usize| -> Vec<NodeId> {
        zones.values().take(VOTERS).map(|nodes| nodes[turn % nodes.len()]).collect()
    };
    let founding = (!parts.joins).then(|| Founding {
        control: voters(0),
        groups: (0..usize::from(parts.groups)).map(voters).collect(),
    });
    MetaConfig {
        node: parts.node,
        cluster: parts.cluster,
        groups: parts.groups,
        members: parts.members.clone(),
        founding,
        timing: parts.timing,
        faults: meta_faults(parts.mutants),
    }
}

fn meta_faults(mutants: MutantSwitch) -> MetaFaults {
    if mutants.has(Mutant::RepairIgnoresGeneration) {
        return MetaFaults::only_if(true, MetaFault::TakeOutdatedFragments);
    }
    MetaFaults::only_if(mutants.has(Mutant::ReuseRaftId), MetaFault::ReuseRaftId)
}
