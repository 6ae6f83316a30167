//! Waits for a cluster to come to a state, by what its nodes say of themselves.

use super::DemoError;
use crate::control::client::{ControlError, Started};
use crate::control::jobs::StartJob;
use crate::dev::Cluster;
use crate::jobs::{JobState, JobView, Kind, Report};
use crate::status::{NodeStatus, SlabCounts};
use std::time::Duration;

/// Between two looks.
const POLL: Duration = Duration::from_millis(250);
/// How long a state may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Looks between two orders to make what is sealed cold.
const POLLS_PER_CONVERSION: u128 = 8;

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
    let nodes: Vec<u64> = cluster.processes.plan().nodes.iter().map(|node| node.id).collect();
    for node in &nodes {
        if let Some(job) = begin(cluster, *node, Kind::Seal).await? {
            ended(cluster, *node, job).await?;
        }
    }
    let mut seen = String::new();
    for poll in 0..PATIENCE.as_millis() / POLL.as_millis() {
        // Again and again: a run is about what is sealed when it begins, and slabs of writers that died are sealed late.
        if poll.is_multiple_of(POLLS_PER_CONVERSION) {
            for node in &nodes {
                begin(cluster, *node, Kind::Convert).await?;
            }
        }
        match all_cold(&statuses(cluster).await?, bytes) {
            Ok(()) => return Ok(()),
            Err(words) => seen = words,
        }
        tokio::time::sleep(POLL).await;
    }
    Err(DemoError::Late { what: "that everything is erasure-coded", seconds: PATIENCE.as_secs(), seen })
}

fn all_cold(all: &[NodeStatus], bytes: u64) -> Result<(), String> {
    let mut slabs = SlabCounts::default();
    for status in all {
        slabs += status.slabs;
    }
    let waiting = slabs.sealing + slabs.hot + slabs.to_free;
    if waiting == 0 && slabs.deficit == 0 && slabs.cold_image_bytes >= bytes {
        return Ok(());
    }
    Err(format!("{slabs:?}"))
}

/// Begins a run at a node and waits until it has ended well; gives its report.
///
/// # Errors
/// It cannot be begun, fails, or takes too long.
pub async fn run(cluster: &Cluster, node: u64, kind: Kind) -> Result<Option<Report>, DemoError> {
    let job = begin(cluster, node, kind).await?.ok_or_else(|| DemoError::Request {
        what: format!("{kind} at node {node}"),
        reason: String::from("one is under way already"),
    })?;
    let job = ended(cluster, node, job).await?;
    match job.state {
        JobState::Done => Ok(job.report),
        JobState::Running | JobState::Paused | JobState::Waiting | JobState::Cancelled | JobState::Failed => {
            let reason = job.reason.unwrap_or_else(|| format!("{:?}", job.state));
            Err(DemoError::Request { what: format!("{kind} at node {node}"), reason })
        }
    }
}

/// Gives every node's standing job of the kind an order: `pause` or `resume`.
///
/// # Errors
/// A node does not answer.
pub async fn order_standing(cluster: &Cluster, kind: Kind, verb: &str) -> Result<(), DemoError> {
    for node in &cluster.processes.plan().nodes {
        let client = cluster.processes.control(node.id);
        let jobs = client.jobs().await.map_err(|error| failed(node.id, kind, &error))?;
        for job in jobs.iter().filter(|job| job.standing && job.kind == kind) {
            client.order(job.id, verb).await.map_err(|error| failed(node.id, kind, &error))?;
        }
    }
    Ok(())
}

/// Begins a run at a node; `None` where one is under way already.
async fn begin(cluster: &Cluster, node: u64, kind: Kind) -> Result<Option<u64>, DemoError> {
    let asked = StartJob { kind, dry_run: false, drive: None };
    match cluster.processes.control(node).start(&asked).await {
        Ok(Started::Begun(job)) => Ok(Some(job.id)),
        Ok(Started::Would(_)) => Ok(None),
        Err(ControlError::Refused(problem)) if problem.status == 409 => Ok(None),
        Err(error) => Err(failed(node, kind, &error)),
    }
}

/// Waits until a run has ended.
async fn ended(cluster: &Cluster, node: u64, id: u64) -> Result<JobView, DemoError> {
    let mut seen = String::new();
    for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
        let job = cluster.processes.control(node).job(id).await;
        let job = job.map_err(|error| failed(node, Kind::Seal, &error))?;
        if job.has_ended() {
            return Ok(job);
        }
        seen = format!("{job:?}");
        tokio::time::sleep(POLL).await;
    }
    Err(DemoError::Late { what: "that a run has ended", seconds: PATIENCE.as_secs(), seen })
}

fn failed(node: u64, kind: Kind, error: &ControlError) -> DemoError {
    DemoError::Request { what: format!("{kind} at node {node}"), reason: error.to_string() }
}
