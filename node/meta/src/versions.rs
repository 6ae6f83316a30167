//! Whether a store was last written by this version of strongroom. Looked at before anything in it is changed, so that a node that is
//! started with another version can be started with the right one as if nothing had been.
//!
//! It reads what is written all along: what the node keeps of itself and its peers, and of each group the vote, the position of the log and the
//! head of the state, which every applied entry writes anew, and the last entry of the log. Older records need not be looked at: a
//! version that cannot read what an earlier one wrote is not one that this store can be started with, and finds that out here
//! too, since what is looked at was written by the earlier one until it is written again.
//!
//! What is damaged is passed over here: whoever reads it finds that.

use crate::codec::{self, GroupKeys, RecordError};
use crate::kv::OrderedKv;
use crate::limits::SCAN_KEYS;
use crate::log;
use strongroom_types::GroupId;

/// The node's own records lie from here, and up to the store's own.
const NODE: ([u8; 2], [u8; 2]) = ([0xff, 0xfe], [0xff, 0xff]);

/// # Errors
/// The first record of another version.
pub(crate) fn check(kv: &dyn OrderedKv, groups: u16) -> Result<(), RecordError> {
    check_range(kv, "record of the node", &NODE.0, &NODE.1)?;
    for group in std::iter::once(None).chain((0..groups).map(|group| Some(GroupId::new(group)))) {
        let keys = GroupKeys::new(group);
        let (start, end) = keys.marks();
        check_range(kv, "vote or position of a log", &start, &end)?;
        if let Ok(Some(head)) = kv.get(&keys.head()) {
            codec::check_version("head of the state", &keys.head(), &head)?;
        }
        let last = kv.range_back(&keys.log(0), &keys.log_end(), 1).unwrap_or_default();
        for (key, entry) in last {
            GroupKeys::log_index(&key).map_or(Ok(()), |index| log::check_version(index, &entry))?;
        }
    }
    Ok(())
}

fn check_range(kv: &dyn OrderedKv, what: &'static str, start: &[u8], end: &[u8]) -> Result<(), RecordError> {
    let mut start = start.to_vec();
    // A store that cannot be read is found out by whoever reads it next.
    while let Ok(page) = kv.range(&start, end, SCAN_KEYS) {
        let Some((last, _)) = page.last() else { break };
        start = [&last[..], &[0]].concat();
        for (key, record) in &page {
            codec::check_version(what, key, record)?;
        }
    }
    Ok(())
}
