//! What is asked of the lane, and who waits for it.

use super::open::{Found, Raised};
use super::standing::Ask;
use bytes::Bytes;
use strongroom_format::wire::message::{Append, FinishFragment, Free, Refusal, Seal, Settle, WriteFragment};
use tokio::sync::oneshot;

/// Where the answer to a job goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// One change, and who waits for it.
pub(super) enum Job {
    /// A row.
    Append {
        /// Which.
        append: Append,
        /// Its payload.
        payload: Bytes,
        /// Told once it is durable.
        reply: Reply<()>,
    },
    /// A fence.
    Seal {
        /// Which.
        seal: Seal,
        /// Told once the mark is durable.
        reply: Reply<()>,
    },
    /// The agreed length.
    Settle {
        /// Which.
        settle: Settle,
        /// Told once the mark is durable.
        reply: Reply<()>,
    },
    /// A piece of a cold fragment.
    Piece {
        /// Which.
        write: WriteFragment,
        /// Its bytes.
        payload: Bytes,
        /// Told once it is written, not flushed.
        reply: Reply<()>,
    },
    /// The end of a cold fragment.
    Finish {
        /// Which.
        finish: FinishFragment,
        /// Told once all of it is durable.
        reply: Reply<u32>,
    },
    /// A fragment to give back.
    Free {
        /// Which.
        free: Free,
        /// Told once it is gone.
        reply: Reply<()>,
    },
    /// Another incarnation.
    Raise {
        /// What the superblocks say.
        found: Box<Found>,
        /// The one to write.
        incarnation: u32,
        /// Told what came of it.
        reply: Reply<Raised>,
    },
}

impl Job {
    pub(super) fn ask(&self) -> Ask {
        match self {
            Self::Append { .. } | Self::Piece { .. } | Self::Finish { .. } => Ask::Write,
            Self::Seal { .. } => Ask::Fence,
            Self::Settle { .. } => Ask::Settle,
            Self::Free { .. } => Ask::Free,
            Self::Raise { .. } => Ask::Raise,
        }
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Append { reply, .. }
            | Self::Seal { reply, .. }
            | Self::Settle { reply, .. }
            | Self::Piece { reply, .. }
            | Self::Free { reply, .. } => answer(reply, Err(refusal)),
            Self::Finish { reply, .. } => answer(reply, Err(refusal)),
            Self::Raise { reply, .. } => answer(reply, Err(refusal)),
        }
    }
}

/// Whoever asked may have gone; the change stands all the same.
pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, Refusal>) {
    let _ = reply.send(result);
}
