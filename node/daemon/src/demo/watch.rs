//! Waits for a cluster to come to a state, by what its nodes say of themselves.

use super::DemoError;
use crate::dev::Cluster;
use crate::status::{NodeStatus, SlabCounts};
use std::time::Duration;

/// Between two looks.
const POLL: Duration = Duration::from_millis(250);
/// How long a state may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// What all nodes say of themselves.
///
/// # Errors
/// One does not answer.
pub async fn statuses(cluster: &Cluster) -> Result<Vec<NodeStatus>, DemoError> {
    let mut all = Vec::new();
    for node in &cluster.processes.plan().nodes {
        let status = cluster.processes.control(node.id).status().await;
        all.push(status.map_err(|error| DemoError::Request {
            what: format!("status of node {}", node.id),
            reason: error.to_string(),
        })?);
    }
    Ok(all)
}

/// Bytes on all drives: headers, rows, slices, tables.
///
/// # Errors
/// A node does not answer.
pub async fn bytes_used(cluster: &Cluster) -> Result<u64, DemoError> {
    let all = statuses(cluster).await?;
    Ok(all.iter().flat_map(|status| &status.drives).map(|drive| drive.bytes_used).sum())
}

async fn until(
    what: &'static str,
    cluster: &Cluster,
    reached: impl Fn(&[NodeStatus]) -> Result<(), String>,
) -> Result<(), DemoError> {
    let mut seen = String::new();
    for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
        match reached(&statuses(cluster).await?) {
            Ok(()) => return Ok(()),
            Err(words) => seen = words,
        }
        tokio::time::sleep(POLL).await;
    }
    Err(DemoError::Late { what, seconds: PATIENCE.as_secs(), seen })
}

/// Waits until every voter of every group has applied what the group's leader had, and every node sees every other.
///
/// # Errors
/// It takes too long.
pub async fn caught_up(cluster: &Cluster) -> Result<(), DemoError> {
    until("that all nodes have caught up", cluster, |all| {
        let groups = || all.iter().flat_map(|status| &status.groups);
        for status in all {
            if let Some(peer) = status.peers.iter().find(|peer| !peer.up) {
                return Err(format!("node {} does not see node {}", status.node, peer.node));
            }
            for group in &status.groups {
                let Some(leader) = groups().find(|other| other.group == group.group && other.leads) else {
                    return Err(format!("{} has no leader", group.group));
                };
                if group.applied < leader.applied {
                    return Err(format!(
                        "node {} has applied {} of {} in {}",
                        status.node, group.applied, leader.applied, group.group
                    ));
                }
            }
        }
        Ok(())
    })
    .await
}

/// Has everything sealed and erasure-coded, and waits until at least `bytes` are, and no copies are left on drives.
///
/// # Errors
/// It takes too long.
pub async fn make_cold(cluster: &Cluster, bytes: u64) -> Result<(), DemoError> {
    for job in ["/v1/jobs/seal", "/v1/jobs/convert"] {
        for node in &cluster.processes.plan().nodes {
            cluster.processes.control(node.id).post(job).await.map_err(|error| DemoError::Request {
                what: format!("{job} at node {}", node.id),
                reason: error.to_string(),
            })?;
        }
    }
    until("that everything is erasure-coded", cluster, |all| {
        let mut slabs = SlabCounts::default();
        for status in all {
            slabs += status.slabs;
        }
        let waiting = slabs.sealing + slabs.hot + slabs.to_free;
        if waiting == 0 && slabs.deficit == 0 && slabs.cold_image_bytes >= bytes {
            return Ok(());
        }
        Err(format!("{slabs:?}"))
    })
    .await
}
