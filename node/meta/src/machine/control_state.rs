//! The state of the control group.
//!
//! ```text
//! 'c'          the cluster and its group count
//! 'x'          the next bucket's id
//! 'i' bucket   bucket record
//! 'n' name     bucket id; ordered by name
//! ```

use super::MachineError;
use super::view::{Changes, View};
use crate::codec::decode;
use crate::control::{BucketRecord, BucketState, ControlAnswer, ControlCommand, ControlQuery, ControlReply};
use crate::limits::SCAN_KEYS;
use strongroom_types::limits::BUCKETS_MAX;
use strongroom_types::{BucketId, BucketName, ClusterId};

const CLUSTER: &[u8] = b"c";
const NEXT: &[u8] = b"x";
const NAMES: u8 = b'n';

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

pub(crate) fn query(view: &impl View, query: &ControlQuery) -> Result<ControlAnswer, MachineError> {
    Ok(match query {
        ControlQuery::Bucket(name) => ControlAnswer::Bucket(by_name(view, name)?),
        ControlQuery::Buckets => ControlAnswer::Buckets(all(view)?),
    })
}

/// What becomes of a bucket's state; `None` leaves it.
#[derive(Clone, Copy)]
enum Move {
    Open,
    BeginRemove,
}

fn moved(state: BucketState, by: Move) -> BucketState {
    match (by, state) {
        (Move::Open, BucketState::Making | BucketState::Open | BucketState::Removing) => BucketState::Open,
        (Move::BeginRemove, BucketState::Making | BucketState::Open | BucketState::Removing) => {
            BucketState::Removing
        }
    }
}

fn set(changes: &mut Changes<'_>, bucket: BucketId, by: Move) -> Result<ControlReply, MachineError> {
    let Some(mut record) = by_id(changes, bucket)? else { return Ok(ControlReply::NoSuchBucket) };
    record.state = moved(record.state, by);
    changes.put(record_key(bucket), &record);
    Ok(ControlReply::Bucket { record, made: false })
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
            let record = BucketRecord { bucket, name, class, created: at, state: BucketState::Making };
            changes.put(NEXT.to_vec(), &(next + 1));
            changes.put(name_key(&record.name), &bucket);
            changes.put(record_key(bucket), &record);
            Ok(ControlReply::Bucket { record, made: true })
        }
        ControlCommand::OpenBucket { bucket } => set(changes, bucket, Move::Open),
        ControlCommand::BeginRemoveBucket { bucket } => set(changes, bucket, Move::BeginRemove),
        ControlCommand::RemoveBucket { bucket } => {
            let Some(record) = by_id(changes, bucket)? else { return Ok(ControlReply::NoSuchBucket) };
            match record.state {
                BucketState::Removing => {
                    changes.remove(name_key(&record.name));
                    changes.remove(record_key(bucket));
                    Ok(ControlReply::Done)
                }
                BucketState::Making | BucketState::Open => Ok(ControlReply::Bucket { record, made: false }),
            }
        }
    }
}

/// Buckets of a cluster at most.
pub(crate) const BUCKET_COUNT_MAX: usize = BUCKETS_MAX;

#[cfg(test)]
mod tests;
