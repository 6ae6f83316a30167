//! The writer of hot slabs: needles in, rows out, locators once a row is durable.
//!
//! One state machine for one writer. It owns at most one slab that it appends to, one spare that is already open, and a few that
//! were rolled and wait for their last acknowledgements. Sending, and asking the slab table, is the shell's business: events come
//! in, actions go out, time is an argument.
//!
//! What the shell must do:
//! - answer each [`Action::Open`] with one [`Event::Opened`] or [`Event::OpenFailed`];
//! - for each [`Action::Send`], in their order for each holder, call the holder once and report [`Event::Acked`] or
//!   [`Event::HolderFailed`]; a call without an answer is `HolderFailed` too. A row is never sent again;
//! - after each event, and at [`SlabWriter::next_wakeup`], hand in an [`Event::Tick`] if nothing else.
//!
//! After a restart there is nothing to do: slabs of an earlier session are sealed by others.
//!
//! **Invariant** A locator leaves only when its row and all rows before it are durable by the ack rule. Every ticket gets exactly one
//! outcome. A holder sees rows in order, without gaps, and none after it failed.

use crate::durable::{AckRule, Spread};
use crate::limits;
use crate::mutants::MutantSwitch;
use bytes::Bytes;
use std::time::Duration;
use strongroom_format::wire::message::Append;
use strongroom_types::{
    Epoch, FragmentIndex, Holder, Instant, Locator, NodeId, RowSequence, SlabId, SlabRecord,
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

/// How a writer behaves.
#[derive(Clone, Debug)]
pub struct WriterConfig {
    /// When a row is durable.
    pub rule: AckRule,
    /// Bytes of a slab image at most: a multiple of a block, at least a row.
    pub slab_len_bytes_max: u32,
    /// Bytes of a row at most: a multiple of a block, at most `ROW_LEN_BYTES_MAX`.
    pub row_len_bytes_max: u32,
    /// Age at which a slab with content is rolled.
    pub slab_age_max: Duration,
    /// Bytes of needles that wait for a row, padded, at most.
    pub waiting_len_bytes_max: u64,
    /// How long a needle waits for a slab at most.
    pub needle_wait_max: Duration,
    /// Times that a needle is put into a row at most.
    pub tries_max: u8,
    /// Deliberate faults, for the simulator.
    pub mutants: MutantSwitch,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            rule: AckRule::Zone,
            slab_len_bytes_max: strongroom_types::limits::SLAB_LEN_BYTES_MAX,
            row_len_bytes_max: strongroom_types::limits::ROW_LEN_BYTES_MAX,
            slab_age_max: limits::SLAB_AGE_MAX,
            waiting_len_bytes_max: limits::WAITING_LEN_BYTES_MAX,
            needle_wait_max: limits::NEEDLE_WAIT_MAX,
            tries_max: limits::TRIES_MAX,
            mutants: MutantSwitch::NONE,
        }
    }
}

/// What happens to a writer.
#[derive(Clone, Debug)]
pub enum Event {
    /// A needle to store. Answered, in the end, by `Durable`, `Failed` or `Busy` for its ticket.
    Needle(Needle),
    /// A slab asked for is open.
    Opened {
        /// As the slab table has it: open, of this writer.
        record: SlabRecord,
        /// Where its copies are.
        spread: Spread,
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
    /// Time has passed.
    Tick,
}

/// What a writer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a new slab, if possible without these nodes.
    Open {
        /// Nodes whose holders lately failed or were late.
        avoid: heapless::Vec<NodeId, { limits::AVOIDED_NODES_MAX }>,
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
}

/// Actions, in the order in which they are to be done. Kept by the shell and used again, so that nothing is allocated for each event.
#[derive(Debug, Default)]
pub struct Actions {
    queue: std::collections::VecDeque<Action>,
}

impl Actions {
    /// The next action.
    pub fn pop(&mut self) -> Option<Action> {
        self.queue.pop_front()
    }

    fn push(&mut self, action: Action) {
        self.queue.push_back(action);
    }
}

/// The writer.
#[derive(Debug)]
pub struct SlabWriter {
    config: WriterConfig,
}

impl SlabWriter {
    /// A writer without a slab. The first event makes it ask for one.
    pub fn new(config: WriterConfig) -> Self {
        Self { config }
    }

    /// Takes one event.
    pub fn handle(&mut self, now: Instant, event: Event, actions: &mut Actions) {
        todo!()
    }

    /// When a `Tick` is due at the latest; `None` while nothing waits for time.
    pub fn next_wakeup(&self) -> Option<Instant> {
        todo!()
    }

    /// Bytes of needles that wait for a row, padded.
    pub fn waiting_len_bytes(&self) -> u64 {
        todo!()
    }
}
