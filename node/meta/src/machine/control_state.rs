//! The state of the control group.
//!
//! ```text
//! 'c'          the cluster and its group count
//! 'x'          the next bucket's id
//! 'i' bucket   bucket record
//! 'n' name     bucket id; ordered by name
//! 'e' node     incarnations given to a node
//! 'd' drive    what was last seen of a drive
//! ```

use super::MachineError;
use super::view::{Changes, View};
use crate::codec::{RecordError, decode};
use crate::control::{
    BucketRecord, BucketState, ControlAnswer, ControlCommand, ControlQuery, ControlReply, SeenDrive,
};
use crate::limits::{DRIVES_SEEN_MAX, ENROLMENT_NONCES_MAX, SCAN_KEYS};
use crate::raft_id::RaftId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use strongroom_types::limits::{BUCKETS_MAX, NODES_MAX};
use strongroom_types::{BucketId, BucketName, ClusterId, DriveId, NodeId};

const CLUSTER: &[u8] = b"c";
const NEXT: &[u8] = b"x";
const NAMES: u8 = b'n';
const ENROLMENTS: u8 = b'e';
const DRIVES: u8 = b'd';

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
        let odd = RecordError::Undecodable { what: "key of an enrolment" };
        let node = key[1..].try_into().map_err(|_| odd)?;
        found.insert(NodeId::new(u64::from_be_bytes(node)), given.last);
    }
    Ok(found)
}

fn enrol(
    changes: &mut Changes<'_>,
    node: NodeId,
    nonce: u64,
    after: u32,
) -> Result<ControlReply, MachineError> {
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

pub(crate) fn query(view: &impl View, query: &ControlQuery) -> Result<ControlAnswer, MachineError> {
    Ok(match query {
        ControlQuery::Bucket(name) => ControlAnswer::Bucket(by_name(view, name)?),
        ControlQuery::Buckets => ControlAnswer::Buckets(all(view)?),
        ControlQuery::Enrolments => ControlAnswer::Enrolments(enrolments(view)?),
        ControlQuery::Drive(drive) => ControlAnswer::Drive(view.record("drive", &drive_key(*drive))?),
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
