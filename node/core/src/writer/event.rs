//! What goes into a writer and what comes out.

use crate::durable::Spread;
use crate::limits::AVOIDED_NODES_MAX;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use strongroom_format::wire::message::Append;
use strongroom_types::{
    DriveId, Epoch, FragmentIndex, Holder, Locator, NodeId, RowSequence, SessionId, SlabId, SlabRecord,
};

/// The shell's name for one needle that it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// The ticket with this number; the shell never uses one twice.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// An encoded needle on its way into a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needle {
    /// Whom to tell.
    pub ticket: Ticket,
    /// Header and frames, not padded.
    pub bytes: Bytes,
    /// CRC32C of its header, for the locator.
    pub header_crc32c: u32,
    /// Bytes of the object that it carries, for the locator.
    pub plain_len_bytes: u32,
}

/// What happens to a writer.
#[derive(Clone, Debug)]
pub enum Event {
    /// A needle to store. Answered, in the end, by `Durable`, `Failed` or `Busy` for its ticket.
    Needle(Needle),
    /// A slab asked for is open.
    Opened {
        /// As the slab table has it: open, of this writer.
        record: Box<SlabRecord>,
        /// Where its copies are.
        spread: Box<Spread>,
    },
    /// A slab asked for could not be opened.
    OpenFailed,
    /// A holder has a row on media.
    Acked {
        /// The slab.
        slab: SlabId,
        /// Which copy.
        fragment: FragmentIndex,
        /// The row.
        sequence: RowSequence,
    },
    /// A holder refused a row, or did not answer at all. It gets no more rows of this slab.
    HolderFailed {
        /// The slab.
        slab: SlabId,
        /// Which copy.
        fragment: FragmentIndex,
        /// Whether it refused because the slab was fenced: then what it acknowledged still counts.
        fenced: bool,
    },
    /// Roll the slab that has content; later needles go to the next.
    SealAll,
    /// These drives are to be emptied, and there are others: slabs that have a copy on one of them are rolled.
    DrivesLeave {
        /// Them.
        drives: Arc<BTreeSet<DriveId>>,
    },
    /// This session is fenced: what is in its slabs cannot be committed any more, so they are rolled.
    SessionOver {
        /// The session.
        session: SessionId,
    },
    /// Time has passed.
    Tick,
}

/// What a writer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a new slab, if possible without these nodes.
    Open {
        /// Nodes whose holders lately failed or were late.
        avoid: heapless::Vec<NodeId, AVOIDED_NODES_MAX>,
    },
    /// Append a row to a holder.
    Send {
        /// The slab.
        slab: SlabId,
        /// Which copy.
        fragment: FragmentIndex,
        /// Who holds it.
        holder: Holder,
        /// The message.
        append: Append,
        /// The row, shared among its holders.
        payload: Bytes,
    },
    /// A needle is durable.
    Durable {
        /// Whose.
        ticket: Ticket,
        /// Where it is.
        locator: Locator,
        /// The session that the slab belongs to: a commit of the locator names it.
        session: SessionId,
    },
    /// A needle was given up; it may be garbage in some slab, nothing points to it.
    Failed {
        /// Whose.
        ticket: Ticket,
        /// Why.
        reason: WriteFailure,
    },
    /// The bound on waiting bytes is reached; here is the needle back.
    Busy(Needle),
    /// This slab gets no more rows and no answer is waited for any more: have it sealed.
    Roll {
        /// The slab.
        slab: SlabId,
        /// The epoch it was written at, for `BeginSeal`.
        epoch: Epoch,
        /// Rows below this have given out locators; none at or above ever will.
        given_out: RowSequence,
        /// Why it was rolled.
        reason: RollReason,
    },
}

/// Why a needle was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteFailure {
    /// It is empty or does not fit into a row.
    #[error("needle of {len_bytes} bytes does not fit into a row")]
    Length {
        /// Its length.
        len_bytes: usize,
    },
    /// Each slab it was put into failed before its row was durable.
    #[error("row did not become durable in {tries} tries")]
    TriesSpent {
        /// How many.
        tries: u8,
    },
    /// No slab could be opened in time.
    #[error("no slab could be opened in time")]
    NoSlab,
}

/// Why a slab was rolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollReason {
    /// It reached its length.
    Full,
    /// It reached its age.
    Aged,
    /// A holder failed.
    HolderFailed,
    /// A holder was late.
    HolderLate,
    /// A holder said that the slab is fenced.
    Fenced,
    /// The shell asked for it.
    Commanded,
    /// A drive that has a copy of it is to be emptied.
    DriveLeaves,
    /// Not even all its copies together would make a row durable; no row was sent.
    Unfit,
}

/// Actions, in the order in which they are to be done. Kept by the shell and used again, so that nothing is allocated for each event.
#[derive(Debug, Default)]
pub struct Actions {
    queue: VecDeque<Action>,
}

impl Actions {
    /// The next action.
    pub fn pop(&mut self) -> Option<Action> {
        self.queue.pop_front()
    }

    pub(super) fn push(&mut self, action: Action) {
        self.queue.push_back(action);
    }
}
