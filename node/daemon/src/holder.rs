//! What this node holds: its drives, as peers ask for them.

use crate::drive::Drive;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use strongroom_format::wire::message::{DriveState, Refusal, Request, Response};
use strongroom_types::DriveId;

/// The drives of a node, by id.
#[derive(Clone, Default)]
pub struct Holder {
    drives: Arc<BTreeMap<DriveId, Arc<Drive>>>,
}

impl Holder {
    /// These drives.
    pub fn new(drives: impl IntoIterator<Item = Arc<Drive>>) -> Self {
        Self { drives: Arc::new(drives.into_iter().map(|drive| (drive.id(), drive)).collect()) }
    }

    /// The drives, by id.
    pub fn drives(&self) -> impl Iterator<Item = &Arc<Drive>> {
        self.drives.values()
    }

    /// For pongs.
    pub fn states(&self) -> Vec<DriveState> {
        self.drives.values().map(|drive| drive.drive_state()).collect()
    }

    /// One drive.
    ///
    /// # Errors
    /// `NoSuchDrive`.
    pub fn drive(&self, drive: DriveId) -> Result<&Arc<Drive>, Refusal> {
        self.drives.get(&drive).ok_or(Refusal::NoSuchDrive)
    }

    /// Answers a drive request. Requests that are not about drives are `Invalid` here.
    ///
    /// **Invariant** A row is in its drive's queue before the first await, so that rows keep the order they came in.
    pub async fn serve(&self, request: Request, payload: Bytes) -> (Response, Bytes) {
        let result = match request {
            Request::Read(read) => match self.drive(read.address.drive) {
                Ok(drive) => return bytes_or_refused(drive.read(read).await),
                Err(refusal) => Err(refusal),
            },
            other => self.change(other, payload).await,
        };
        (result.unwrap_or_else(Response::Refused), Bytes::new())
    }

    async fn change(&self, request: Request, payload: Bytes) -> Result<Response, Refusal> {
        match request {
            Request::Append(append) => {
                self.drive(append.address.drive)?.append(append, payload).await.map(|()| Response::Done)
            }
            Request::Seal(seal) => self.drive(seal.address.drive)?.seal(seal).await.map(Response::Sealed),
            Request::Settle(settle) => {
                self.drive(settle.address.drive)?.settle(settle).await.map(|()| Response::Done)
            }
            Request::WriteFragment(write) => {
                self.drive(write.address.drive)?.write_fragment(write, payload).await.map(|()| Response::Done)
            }
            Request::FinishFragment(finish) => {
                let table_crc32c = self.drive(finish.address.drive)?.finish_fragment(finish).await?;
                Ok(Response::Finished { table_crc32c })
            }
            Request::Free(free) => self.drive(free.address.drive)?.free(free).await.map(|()| Response::Done),
            Request::Report(report) => {
                let (fragments, truncated) = self.drive(report.drive)?.report(&report);
                Ok(Response::Fragments { fragments, truncated })
            }
            Request::Read(_)
            | Request::Ping
            | Request::Encode(_)
            | Request::Sum(_)
            | Request::Raft { .. }
            | Request::Meta { .. } => Err(Refusal::Invalid(String::from("not a request to a drive"))),
        }
    }
}

fn bytes_or_refused(result: Result<Bytes, Refusal>) -> (Response, Bytes) {
    match result {
        Ok(bytes) => (Response::Bytes, bytes),
        Err(refusal) => (Response::Refused(refusal), Bytes::new()),
    }
}
