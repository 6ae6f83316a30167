//! What the S3 door did, counted without a lock: requests by operation and status, and how long they took.
//!
//! Owns these numbers only: those of drives are theirs ([`crate::drive::Drive::meter`]), all others are read where they are. What they are called
//! outside is `control::metrics`'s.

use std::sync::atomic::{AtomicU64, Ordering};
use strongroom_gateway::{Observer, Record};
use strongroom_io::meter::{Latency, LatencyCounts};

/// Names of operations that are counted, as in S3's API. What was not understood, or is new, is counted under the last.
pub const OPERATIONS: [&str; 19] = [
    "GetObject",
    "PutObject",
    "HeadObject",
    "DeleteObject",
    "CopyObject",
    "GetObjectAcl",
    "ListObjects",
    "ListObjectsV2",
    "DeleteObjects",
    "ListBuckets",
    "CreateBucket",
    "HeadBucket",
    "DeleteBucket",
    "GetBucketLocation",
    "GetBucketVersioning",
    "GetBucketAcl",
    "GetBucketConfiguration",
    "GetBucketRequestPayment",
    "Unknown",
];

/// Classes of status, by the first digit from 1 on.
pub const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

#[derive(Default)]
struct Cell {
    latency: Latency,
    by_status: [AtomicU64; STATUSES.len()],
}

/// One operation, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationCounts {
    /// Its name.
    pub operation: &'static str,
    /// From the head of a request to the beginning of its answer.
    pub latency: LatencyCounts,
    /// Requests by [`STATUSES`].
    pub by_status: [u64; STATUSES.len()],
}

/// What the door did.
#[derive(Default)]
pub struct DoorMeter {
    cells: [Cell; OPERATIONS.len()],
}

impl DoorMeter {
    /// Every operation that was asked for.
    pub fn read(&self) -> Vec<OperationCounts> {
        let counts = OPERATIONS.iter().zip(&self.cells).map(|(operation, cell)| OperationCounts {
            operation,
            latency: cell.latency.read(),
            by_status: std::array::from_fn(|class| cell.by_status[class].load(Ordering::Relaxed)),
        });
        counts.filter(|counts| counts.latency.count() > 0).collect()
    }
}

impl Observer for DoorMeter {
    fn answered(&self, record: &Record) {
        let known = OPERATIONS.iter().position(|name| record.operation == Some(*name));
        let cell = &self.cells[known.unwrap_or(OPERATIONS.len() - 1)];
        cell.latency.note(record.duration);
        let class = usize::from(record.status.as_u16() / 100).clamp(1, STATUSES.len()) - 1;
        cell.by_status[class].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::DoorMeter;
    use http::StatusCode;
    use std::time::Duration;
    use strongroom_gateway::{Observer, Record};

    fn answered(meter: &DoorMeter, operation: Option<&'static str>, status: StatusCode) {
        let duration = Duration::from_millis(3);
        let request_id = String::from("1");
        meter.answered(&Record { request_id, operation, caller: None, status, code: None, duration });
    }

    #[test]
    fn requests_are_counted_by_operation_and_status_and_what_is_not_known_by_itself() {
        let meter = DoorMeter::default();
        assert_eq!(meter.read(), []);
        answered(&meter, Some("GetObject"), StatusCode::OK);
        answered(&meter, Some("GetObject"), StatusCode::PARTIAL_CONTENT);
        answered(&meter, Some("GetObject"), StatusCode::NOT_FOUND);
        answered(&meter, Some("SomethingNew"), StatusCode::OK);
        answered(&meter, None, StatusCode::SERVICE_UNAVAILABLE);
        let counts: Vec<_> = meter
            .read()
            .iter()
            .map(|counts| (counts.operation, counts.latency.count(), counts.by_status))
            .collect();
        assert_eq!(counts, [("GetObject", 3, [0, 2, 0, 1, 0]), ("Unknown", 2, [0, 1, 0, 0, 1])]);
    }
}
