//! The state machine of one group over the key-value store: what a committed command does, and how the state is read, sent
//! and replaced.
//!
//! The changes of one apply call, its log position and the membership go into one batch, so that the store never holds half a
//! step. That batch is not synced: the log replays it. A snapshot is a view of the store, synced before it counts.

mod control_state;
mod group_state;
mod list;
mod namespace;
mod pointers;
mod session;
mod slab;
mod state;
mod storage;
mod stream;
mod view;
mod window;

pub(crate) use slab::malformed;
pub(crate) use state::{Applied, Reader};
pub(crate) use storage::StateMachine;
pub use stream::SnapshotStream;

use crate::codec::RecordError;
use crate::damage::{Judged, Verdict};
use crate::kv::KvError;

/// Why the state could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The store failed.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A version's inline bytes are not beside it.
    #[error("inline bytes of a version are missing")]
    ContentMissing,
}

impl MachineError {
    /// Whether it means that the store's bytes are not what was written.
    pub(crate) fn is_damage(&self) -> bool {
        self.verdict() == Verdict::Damaged
    }
}

impl Judged for MachineError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Kv(error) => error.verdict(),
            Self::Record(error) => error.verdict(),
            Self::ContentMissing => Verdict::Faulty,
        }
    }
}
