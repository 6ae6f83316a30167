//! The state of the control group.
//!
//! ```text
//! 'c'          the cluster and its group count
//! 'x'          the next bucket's id
//! 'i' bucket   bucket record
//! 'n' name     bucket id; ordered by name
//! 'e' node     incarnations given to a node
//! 'd' drive    what was last seen of a drive
//! 'r' subject  since when a node or drive is to be emptied
//! 'm' node     a node that was admitted
//! ```

use super::MachineError;
use super::view::{Changes, View};
use crate::codec::{RecordError, decode};
use crate::control::{
    BucketRecord, BucketState, ControlAnswer, ControlCommand, ControlQuery, ControlReply, NodeRecord,
    NodeStanding, Pulse, SeenDrive,
};
use crate::limits::{DRAINS_MAX, DRIVES_SEEN_MAX, ENROLMENT_NONCES_MAX, NODES_SEEN_MAX, SCAN_KEYS};
use crate::raft_id::RaftId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use strongroom_types::limits::{BUCKETS_MAX, NODES_MAX};
use strongroom_types::{BucketId, BucketName, ClusterId, DrainSubject, DriveId, Member, NodeId, WallTime};

const CLUSTER: &[u8] = b"c";
const NEXT: &[u8] = b"x";
const NAMES: u8 = b'n';
const ENROLMENTS: u8 = b'e';
const DRIVES: u8 = b'd';
const DRAINS: u8 = b'r';
const NODES: u8 = b'm';

fn record_key(bucket: BucketId) -> Vec<u8> {
    [&b"i"[..], &bucket.get().to_be_bytes()].concat()
}

fn name_key(name: &BucketName) -> Vec<u8> {
    [&[NAMES], name.as_str().as_bytes()].concat()
}

fn by_id(view: &impl View, bucket: BucketId) -> Result<Option<BucketRecord>, MachineError> {
    view.record("bucket", &record_key(bucket))
}

fn by_name(view: &impl View, name: &BucketName) -> Result<Option<BucketRecord>, MachineError> {
    match view.record::<BucketId>("bucket name", &name_key(name))? {
        Some(bucket) => by_id(view, bucket),
        None => Ok(None),
    }
}

fn all(view: &impl View) -> Result<Vec<BucketRecord>, MachineError> {
    let mut records = Vec::new();
    let mut start = vec![NAMES];
    loop {
        let page = view.range(&start, &[NAMES + 1], SCAN_KEYS)?;
        let Some((last, _)) = page.last() else { return Ok(records) };
        start = [&last[..], &[0]].concat();
        for (_, value) in page {
            records.extend(by_id(view, decode("bucket name", &value)?)?);
        }
    }
}

/// What a node was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    last: u32,
    /// The latest nonces with their incarnations, so that a request that comes twice gets what it got before.
    nonces: Vec<(u64, u32)>,
}

fn enrolment_key(node: NodeId) -> Vec<u8> {
    [&[ENROLMENTS], &node.get().to_be_bytes()[..]].concat()
}

fn enrolments(view: &impl View) -> Result<BTreeMap<NodeId, u32>, MachineError> {
    let mut found = BTreeMap::new();
    for (key, value) in view.range(&[ENROLMENTS], &[ENROLMENTS + 1], NODES_MAX)? {
        let given: Given = decode("enrolment", &value)?;
        found.insert(node_in("key of an enrolment", &key)?, given.last);
    }
    Ok(found)
}

/// The node in a key that is a table's letter and the node.
fn node_in(what: &'static str, key: &[u8]) -> Result<NodeId, RecordError> {
    let node = key[1..].try_into().map_err(|_| RecordError::Undecodable { what })?;
    Ok(NodeId::new(u64::from_be_bytes(node)))
}

fn node_key(node: NodeId) -> Vec<u8> {
    [&[NODES], &node.get().to_be_bytes()[..]].concat()
}

fn nodes(view: &impl View) -> Result<BTreeMap<NodeId, NodeRecord>, MachineError> {
    let mut found = BTreeMap::new();
    for (key, value) in view.range(&[NODES], &[NODES + 1], NODES_SEEN_MAX)? {
        found.insert(node_in("key of a node", &key)?, decode("node", &value)?);
    }
    Ok(found)
}

fn is_dismissed(view: &impl View, node: NodeId) -> Result<bool, MachineError> {
    let record: Option<NodeRecord> = view.record("node", &node_key(node))?;
    Ok(record.is_some_and(|record| record.standing == NodeStanding::Dismissed))
}

fn admit_node(changes: &mut Changes<'_>, member: Member) -> Result<ControlReply, MachineError> {
    let Member { node, zone, address } = member;
    match changes.record::<NodeRecord>("node", &node_key(node))? {
        Some(record) if record.standing == NodeStanding::Dismissed => return Ok(ControlReply::Dismissed),
        Some(record) if record.zone != zone => return Ok(ControlReply::OtherZone { zone: record.zone }),
        Some(record) if record.address == address => return Ok(ControlReply::Done),
        Some(_) => {}
        None => {
            let known = nodes(changes)?;
            let members = known.values().filter(|record| record.standing == NodeStanding::Member).count();
            if members >= NODES_MAX || known.len() >= NODES_SEEN_MAX {
                return Ok(ControlReply::Full);
            }
        }
    }
    changes.put(node_key(node), &NodeRecord { zone, address, standing: NodeStanding::Member });
    Ok(ControlReply::Done)
}

/// What it was given as a voter goes, and its drain: its record is what keeps its id from being used again.
fn dismiss_node(changes: &mut Changes<'_>, node: NodeId, pulse: Pulse) -> Result<ControlReply, MachineError> {
    let Some(record) = changes.record::<NodeRecord>("node", &node_key(node))? else {
        return Ok(ControlReply::NoSuchNode);
    };
    if record.standing == NodeStanding::Member {
        let drain: Option<(DrainSubject, WallTime)> =
            changes.record("drain", &drain_key(DrainSubject::Node(node)))?;
        if pulse == Pulse::Alive && drain.is_none() {
            return Ok(ControlReply::NotDrained);
        }
        changes.put(node_key(node), &NodeRecord { standing: NodeStanding::Dismissed, ..record });
        changes.remove(enrolment_key(node));
        changes.remove(drain_key(DrainSubject::Node(node)));
    }
    Ok(ControlReply::Done)
}

fn enrol(
    changes: &mut Changes<'_>,
    node: NodeId,
    nonce: u64,
    after: u32,
) -> Result<ControlReply, MachineError> {
    if is_dismissed(changes, node)? {
        return Ok(ControlReply::Dismissed);
    }
    let found: Option<Given> = changes.record("enrolment", &enrolment_key(node))?;
    if found.is_none() && enrolments(changes)?.len() >= NODES_MAX {
        return Ok(ControlReply::Full);
    }
    let mut given = found.unwrap_or_default();
    if let Some((_, incarnation)) = given.nonces.iter().find(|(known, _)| *known == nonce) {
        return Ok(ControlReply::Enrolled { incarnation: *incarnation });
    }
    if given.last != after {
        return Ok(ControlReply::Outdated);
    }
    let incarnation = given.last + 1;
    if RaftId::new(node, incarnation).is_none() {
        return Ok(ControlReply::Full);
    }
    given.last = incarnation;
    given.nonces.push((nonce, incarnation));
    let excess = given.nonces.len().saturating_sub(ENROLMENT_NONCES_MAX);
    given.nonces.drain(..excess);
    changes.put(enrolment_key(node), &given);
    Ok(ControlReply::Enrolled { incarnation })
}

fn drive_key(drive: DriveId) -> Vec<u8> {
    [&[DRIVES], &drive.get().to_be_bytes()[..]].concat()
}

fn admit_drive(
    changes: &mut Changes<'_>,
    drive: DriveId,
    present: SeenDrive,
    after: Option<SeenDrive>,
) -> Result<ControlReply, MachineError> {
    let key = drive_key(drive);
    let seen = changes.record::<SeenDrive>("drive", &key)?;
    match seen {
        Some(seen) if seen == present => {}
        Some(seen) if seen.stale => return Ok(ControlReply::DriveStale { seen: seen.incarnation }),
        _ if seen != after => return Ok(ControlReply::Outdated),
        None if drives_are_full(changes)? => return Ok(ControlReply::Full),
        None => changes.put(key, &present),
        Some(seen) if present.incarnation > seen.incarnation => changes.put(key, &present),
        Some(seen) => {
            changes.put(key, &SeenDrive { stale: true, ..seen });
            return Ok(ControlReply::DriveStale { seen: seen.incarnation });
        }
    }
    Ok(ControlReply::Done)
}

/// Drives that are gone for good stay: there is room for a few times as many as a cluster can have.
fn drives_are_full(view: &impl View) -> Result<bool, MachineError> {
    Ok(view.range(&[DRIVES], &[DRIVES + 1], DRIVES_SEEN_MAX)?.len() >= DRIVES_SEEN_MAX)
}

fn drain_key(subject: DrainSubject) -> Vec<u8> {
    match subject {
        DrainSubject::Node(node) => [&[DRAINS, b'n'], &node.get().to_be_bytes()[..]].concat(),
        DrainSubject::Drive(drive) => [&[DRAINS, b'd'], &drive.get().to_be_bytes()[..]].concat(),
    }
}

/// A subject and since when: the key is not taken apart again.
type Drain = (DrainSubject, WallTime);

fn drains(view: &impl View) -> Result<BTreeMap<DrainSubject, WallTime>, MachineError> {
    let found = view.range(&[DRAINS], &[DRAINS + 1], DRAINS_MAX)?;
    found.iter().map(|(_, value)| Ok(decode::<Drain>("drain", value)?)).collect()
}

fn begin_drain(
    changes: &mut Changes<'_>,
    subject: DrainSubject,
    at: WallTime,
) -> Result<ControlReply, MachineError> {
    if let DrainSubject::Drive(drive) = subject
        && changes.get(&drive_key(drive))?.is_none()
    {
        return Ok(ControlReply::NoSuchDrive);
    }
    if let DrainSubject::Node(node) = subject
        && is_dismissed(changes, node)?
    {
        return Ok(ControlReply::Dismissed);
    }
    let key = drain_key(subject);
    if changes.get(&key)?.is_none() {
        if drains(changes)?.len() >= DRAINS_MAX {
            return Ok(ControlReply::Full);
        }
        changes.put(key, &(subject, at));
    }
    Ok(ControlReply::Done)
}

pub(crate) fn query(view: &impl View, query: &ControlQuery) -> Result<ControlAnswer, MachineError> {
    Ok(match query {
        ControlQuery::Bucket(name) => ControlAnswer::Bucket(by_name(view, name)?),
        ControlQuery::Buckets => ControlAnswer::Buckets(all(view)?),
        ControlQuery::Enrolments => ControlAnswer::Enrolments(enrolments(view)?),
        ControlQuery::Drive(drive) => ControlAnswer::Drive(view.record("drive", &drive_key(*drive))?),
        ControlQuery::Drains => ControlAnswer::Drains(drains(view)?),
        ControlQuery::Nodes => ControlAnswer::Nodes(nodes(view)?),
    })
}

/// Changes a bucket's record where it is there and `change` says how; gives it as it is afterwards.
fn change(
    changes: &mut Changes<'_>,
    bucket: BucketId,
    change: impl FnOnce(&BucketRecord) -> Option<BucketRecord>,
) -> Result<ControlReply, MachineError> {
    let Some(found) = by_id(changes, bucket)? else { return Ok(ControlReply::NoSuchBucket) };
    let record = match change(&found) {
        Some(changed) => {
            changes.put(record_key(bucket), &changed);
            changed
        }
        None => found,
    };
    Ok(ControlReply::Bucket { record, made: false })
}

/// The record in its next round.
fn next_round(record: &BucketRecord, state: BucketState) -> BucketRecord {
    BucketRecord { state, round: record.round + 1, ..record.clone() }
}

pub(crate) fn apply(
    changes: &mut Changes<'_>,
    command: ControlCommand,
    bucket_count_max: usize,
) -> Result<ControlReply, MachineError> {
    match command {
        ControlCommand::Found { cluster, groups } => {
            match changes.record::<(ClusterId, u16)>("cluster", CLUSTER)? {
                None => changes.put(CLUSTER.to_vec(), &(cluster, groups)),
                Some(found) if found == (cluster, groups) => {}
                Some((cluster, groups)) => return Ok(ControlReply::OtherCluster { cluster, groups }),
            }
            Ok(ControlReply::Done)
        }
        ControlCommand::CreateBucket { name, class, at } => {
            if let Some(record) = by_name(changes, &name)? {
                return Ok(ControlReply::Bucket { record, made: false });
            }
            if all(changes)?.len() >= bucket_count_max {
                return Ok(ControlReply::Full);
            }
            let next: u64 = changes.record("next bucket id", NEXT)?.unwrap_or(1);
            let bucket = BucketId::new(next);
            let record =
                BucketRecord { bucket, name, class, created: at, state: BucketState::Making, round: 1 };
            changes.put(NEXT.to_vec(), &(next + 1));
            changes.put(name_key(&record.name), &bucket);
            changes.put(record_key(bucket), &record);
            Ok(ControlReply::Bucket { record, made: true })
        }
        ControlCommand::OpenBucket { bucket, round } => {
            change(changes, bucket, |record| match record.state {
                BucketState::Making if record.round == round => {
                    Some(BucketRecord { state: BucketState::Open, ..record.clone() })
                }
                BucketState::Making | BucketState::Open | BucketState::Removing => None,
            })
        }
        ControlCommand::BeginRemoveBucket { bucket } => {
            change(changes, bucket, |record| Some(next_round(record, BucketState::Removing)))
        }
        ControlCommand::ReopenBucket { bucket } => change(changes, bucket, |record| match record.state {
            BucketState::Making | BucketState::Removing => Some(next_round(record, BucketState::Making)),
            BucketState::Open => None,
        }),
        ControlCommand::Enrol { node, nonce, after } => enrol(changes, node, nonce, after),
        ControlCommand::AdmitDrive { drive, incarnation, run, after } => {
            admit_drive(changes, drive, SeenDrive { incarnation, run, stale: false }, after)
        }
        ControlCommand::BeginDrain { subject, at } => begin_drain(changes, subject, at),
        ControlCommand::EndDrain { subject } => {
            changes.remove(drain_key(subject));
            Ok(ControlReply::Done)
        }
        ControlCommand::AdmitNode { member } => admit_node(changes, member),
        ControlCommand::DismissNode { node, pulse } => dismiss_node(changes, node, pulse),
        ControlCommand::RemoveBucket { bucket, round } => {
            let Some(record) = by_id(changes, bucket)? else { return Ok(ControlReply::NoSuchBucket) };
            match record.state {
                BucketState::Removing if record.round == round => {
                    changes.remove(name_key(&record.name));
                    changes.remove(record_key(bucket));
                    Ok(ControlReply::Done)
                }
                BucketState::Making | BucketState::Open | BucketState::Removing => {
                    Ok(ControlReply::Bucket { record, made: false })
                }
            }
        }
    }
}

/// Buckets of a cluster at most.
pub(crate) const BUCKET_COUNT_MAX: usize = BUCKETS_MAX;

#[cfg(test)]
mod tests;
