//! What length a fenced slab gets, from what its holders answer.

use crate::durable::{AckRule, Spread};
use crate::fragment_set::FragmentSet;
use strongroom_format::wire::message::SealReport;
use strongroom_types::slab::Sealed;
use strongroom_types::{Epoch, RowSequence};

/// What one holder answered; the place in the list is the fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It fenced the slab and says what it has.
    Report(SealReport),
    /// No answer, or one that says nothing about what is there (drive error, no such drive).
    Silent,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Too little is known: ask these again, later; raise the alarm if it lasts. Nothing is cut, nothing is freed.
    Wait {
        /// Holders that gave no usable answer.
        silent: FragmentSet,
        /// Committed rows that too few of those who answered have clean; a silent holder may have them.
        alarm: Option<DataLoss>,
    },
    /// Holders that answered contradict each other and none is in the majority: ask again, raise the alarm. Nothing is cut.
    Contested {
        /// The first row they differ on.
        sequence: RowSequence,
        /// Holders that gave no usable answer.
        silent: FragmentSet,
    },
    /// The slab has this length.
    Seal(Seal),
}

/// A decided length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// For `CommitSeal`.
    pub sealed: Sealed,
    /// Fragments that hold all rows (some perhaps corrupt): these get `Settle` once the seal is committed.
    pub settle: FragmentSet,
    /// Rows that nobody who answered has clean, though nobody was told that they were committed: the torn tail of a crash, or worse.
    pub torn_rows: Vec<RowSequence>,
    /// Committed rows that cannot be read any more.
    pub alarm: Option<DataLoss>,
}

impl Seal {
    /// Fragments that hold every row clean.
    pub fn complete(&self) -> FragmentSet {
        self.settle.without(FragmentSet::from_mask(self.sealed.missing))
    }
}

/// Rows that were acknowledged and of which too few clean fragments answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} committed rows have too few clean fragments, the first is {:?}", rows.len(), rows.first())]
pub struct DataLoss {
    /// The rows, ascending.
    pub rows: Vec<RowSequence>,
}

/// Decides from `answers`, one for each fragment of `spread`, all to the attempt at `epoch`; a report of another epoch, or one that
/// contradicts itself, counts as silence.
pub fn decide(spread: &Spread, rule: AckRule, epoch: Epoch, answers: &[Answer]) -> Decision {
    todo!()
}
