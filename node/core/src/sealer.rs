//! What length a fenced slab gets, from what its holders answer and from how far its locators reach.
//!
//! An acknowledged row is on `W` with `|W \ F| >= k` for every failure `F` of the ack rule. If those who are silent fit inside one
//! such `F`, at least `k` of `W` have answered, and each of them still shows the row: so the last row that `k` answers show is
//! at or behind every acknowledged row. (The fencing of Azure's stream layer and of BookKeeper, for erasure codes.) A row that is
//! there but does not match its checksums counts as there: it may have been acknowledged and rotted since; to cut it off would
//! make a loss invisible.
//!
//! Answers alone cannot tell a row that was acknowledged and has lost copies from one that never reached more than one holder. But nothing
//! points to the second: [`GivenOut`] says where the locators end, and what lies behind is cut off, so that it neither keeps whole holders from
//! counting as whole nor stays as garbage. Where answers show less than that, something acknowledged is missing, whatever they say of themselves: it is
//! waited for while anybody is silent, and where all have answered the slab stays as it is, for people to look at. A slab that nothing
//! points to needs nobody's word.
//!
//! Asking the holders, committing the decision and settling them is the shell's business.

use crate::durable::{AckRule, Spread};
use crate::fragment_set::FragmentSet;
use crate::mutants::{Mutant, MutantSwitch};
use strongroom_format::wire::message::SealReport;
use strongroom_types::limits::{FRAGMENTS_MAX, ROWS_PER_SLAB_MAX, SLAB_LEN_BYTES_MAX};
use strongroom_types::slab::Sealed;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{Epoch, FragmentIndex, RowSequence};

/// What one holder answered; the place in the list is the fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It fenced the slab and says what it has.
    Report(SealReport),
    /// No answer, or one that says nothing about what is there (drive error, no such drive).
    Silent,
}

/// How far the locators into a slab reach, now and for good: nobody can commit another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenOut {
    /// Rows, as a writer that was done with the slab said.
    Rows(RowSequence),
    /// Bytes of the image, as the namespace has it once the writer's session was fenced in every group.
    Bytes(u32),
}

impl GivenOut {
    /// Rows that are pointed to, where row `i` ends at block `ends[i]`; one more than there are if it reaches behind all of them.
    fn rows(self, ends: &[u32]) -> u32 {
        match self {
            Self::Rows(upto) => upto.get(),
            Self::Bytes(0) => 0,
            Self::Bytes(upto) => {
                let before = ends.partition_point(|end| end.saturating_mul(BLOCK_LEN_BYTES) < upto);
                u32::try_from(before).expect("rows are bounded") + 1
            }
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Too many are silent, or rows are missing that locators point to: ask again, later; raise the alarm if it lasts. Nothing is cut, nothing is freed.
    Wait {
        /// Holders that gave no usable answer; if there are none, the rows are gone.
        silent: FragmentSet,
        /// What too few of those who answered have clean, where those who are silent fit inside one tolerated failure: it should not be so.
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

/// What is asked of [`decide`].
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Where the fragments are.
    pub spread: &'a Spread,
    /// The one the slab was written by; where that is not known, `AckRule::Zone` is safe: it asks for the more answers.
    pub rule: AckRule,
    /// What the holders were fenced at.
    pub epoch: Epoch,
    /// Where the locators end.
    pub given_out: GivenOut,
    /// Deliberate faults, for the simulator.
    pub mutants: MutantSwitch,
}

/// Decides from `answers`, one for each fragment of the spread, all to the attempt at its epoch. A report of another epoch, or one that
/// contradicts itself, counts as silence, and so does an answer that is missing.
pub fn decide(attempt: Attempt<'_>, answers: &[Answer]) -> Decision {
    let Attempt { spread, rule, epoch, given_out, mutants } = attempt;
    let reports = Reports::usable(spread, epoch, answers);
    let silent = spread.all().without(reports.responders());
    let needed = usize::from(spread.profile().data_count());
    let tolerated = spread.tolerates(rule, silent) || mutants.has(Mutant::SealWithTooFew);
    let forgets = mutants.has(Mutant::LoseCommittedUpto);
    if forgets && !tolerated {
        return Decision::Wait { silent, alarm: None };
    }
    let given_out = if forgets { None } else { Some(given_out) };
    let Agreed { chain, pointed_to } = reports.agree(needed, given_out);
    if !tolerated && pointed_to > 0 {
        // What is there may be enough; but whoever is silent would count as missing for good, and what has answered may be lost next.
        return Decision::Wait { silent, alarm: None };
    }
    let rows = chain.rows();
    let views: Vec<View> =
        reports.iter().map(|(fragment, report)| View::of(fragment, report, chain)).collect();
    if let Some(sequence) = contested(&views, rows) {
        return if tolerated {
            Decision::Contested { sequence, silent }
        } else {
            Decision::Wait { silent, alarm: None }
        };
    }

    let is_lost = |row: &u32| views.iter().filter(|view| view.has_clean(*row)).count() < needed;
    let lost: Vec<RowSequence> = (0..pointed_to).filter(is_lost).map(RowSequence::new).collect();
    // Shown by too few: a seal would cut it off.
    let cut = lost.last().is_some_and(|last| last.get() >= rows);
    let alarm = (!lost.is_empty()).then_some(DataLoss { rows: lost });
    if alarm.is_some() && (cut || !silent.is_empty()) && !mutants.has(Mutant::SealWithTooFew) {
        // A silent holder may have what is lost here; once a seal is committed its fragment would be rebuilt from the others.
        return Decision::Wait { silent, alarm: alarm.filter(|_| tolerated) };
    }

    let settle: FragmentSet =
        views.iter().filter(|view| view.agrees_upto >= rows).map(|view| view.fragment).collect();
    let clean: FragmentSet =
        views.iter().filter(|view| view.is_clean_upto(rows)).map(|view| view.fragment).collect();
    let (root_crc32c, end_blocks) = chain.last().unwrap_or((0, 0));
    let sealed = Sealed {
        rows,
        len_bytes: end_blocks * BLOCK_LEN_BYTES,
        root_crc32c,
        table_crc32c: heapless::Vec::new(),
        missing: spread.all().without(clean).mask(),
    };
    assert!(clean.is_subset_of(settle), "a clean fragment holds all rows");
    assert!(sealed.len_bytes <= SLAB_LEN_BYTES_MAX, "reports were checked");
    Decision::Seal(Seal { sealed, settle, alarm })
}

/// Whether a holder that was silent or short at the seal shows now, at the epoch that the slab was sealed at, every row of it clean: then it
/// counts from now on. One that was short never grows; but who was silent may have had all of it.
pub fn is_whole(sealed: &Sealed, epoch: Epoch, report: &SealReport) -> bool {
    if report.epoch != epoch || !is_consistent(report) || report.rows < sealed.rows {
        return false;
    }
    let count = sealed.rows as usize;
    let chain =
        Chain { crc32c: &report.row_chain_crc32c[..count], end_blocks: &report.row_ends_blocks[..count] };
    let (root_crc32c, end_blocks) = chain.last().unwrap_or((0, 0));
    let is_clean = report.bad_rows.first().is_none_or(|first| first.get() >= sealed.rows);
    is_clean && root_crc32c == sealed.root_crc32c && end_blocks * BLOCK_LEN_BYTES == sealed.len_bytes
}

/// The first agreed row that not more holders have than contradict. Rows of one slab come from one writer at one epoch, so that
/// holders cannot differ unless one of them is damaged in a way that its own checksums do not show: then the most are believed, and
/// where there is no most, nobody is.
fn contested(views: &[View], rows: u32) -> Option<RowSequence> {
    let disputed = views.iter().filter_map(View::first_disputed).filter(|row| *row < rows);
    let lost = disputed.filter(|row| {
        let with = views.iter().filter(|view| view.agrees_upto > *row).count();
        let against =
            views.iter().filter(|view| view.first_disputed().is_some_and(|first| first <= *row)).count();
        with <= against
    });
    lost.min().map(RowSequence::new)
}

/// The usable reports.
struct Reports<'a> {
    by_fragment: heapless::Vec<(FragmentIndex, &'a SealReport), FRAGMENTS_MAX>,
}

impl<'a> Reports<'a> {
    fn usable(spread: &Spread, epoch: Epoch, answers: &'a [Answer]) -> Self {
        let fragments = (0..spread.profile().fragment_count()).map(FragmentIndex::new);
        let reports = fragments.zip(answers).filter_map(|(fragment, answer)| match answer {
            Answer::Report(report) if report.epoch == epoch && is_consistent(report) => {
                Some((fragment, report))
            }
            Answer::Report(_) | Answer::Silent => None,
        });
        Self { by_fragment: reports.collect() }
    }

    fn iter(&self) -> impl Iterator<Item = (FragmentIndex, &'a SealReport)> + '_ {
        self.by_fragment.iter().copied()
    }

    fn responders(&self) -> FragmentSet {
        self.iter().map(|(fragment, _)| fragment).collect()
    }

    /// The most rows that at least `needed` holders show, sound or not.
    fn rows_shown_by(&self, needed: usize) -> u32 {
        let mut rows: heapless::Vec<u32, FRAGMENTS_MAX> =
            self.iter().map(|(_, report)| report.rows).collect();
        rows.sort_unstable_by(|a, b| b.cmp(a));
        needed.checked_sub(1).and_then(|index| rows.get(index)).copied().unwrap_or(0)
    }

    /// The chain of `rows` rows that most of those who have that many agree on.
    fn chain(&self, rows: u32) -> Chain<'a> {
        let count = rows as usize;
        let chains = self.iter().filter(|(_, report)| report.rows >= rows).map(|(_, report)| Chain {
            crc32c: &report.row_chain_crc32c[..count],
            end_blocks: &report.row_ends_blocks[..count],
        });
        let chains: heapless::Vec<Chain, FRAGMENTS_MAX> = chains.collect();
        let supporters = |chain: &Chain| chains.iter().filter(|other| other.last() == chain.last()).count();
        chains.iter().max_by_key(|chain| supporters(chain)).copied().unwrap_or_default()
    }

    /// The rows that the slab keeps: those that `needed` holders show, but none that nothing points to. Below a `committed_upto` that
    /// any holder knows nothing is cut all the same: two witnesses must be wrong before a row is lost. `given_out` is `None` for a mutant.
    fn agree(&self, needed: usize, given_out: Option<GivenOut>) -> Agreed<'a> {
        let mut rows = self.rows_shown_by(needed);
        loop {
            // Of fewer rows more holders have all: these may be agreed on where the tail is not.
            let chain = self.chain(rows);
            let Some(given_out) = given_out else { return Agreed { chain, pointed_to: 0 } };
            let pointed_to = given_out.rows(chain.end_blocks);
            let kept = pointed_to.max(self.committed_upto());
            if kept >= rows {
                return Agreed { chain, pointed_to };
            }
            rows = kept;
        }
    }

    fn committed_upto(&self) -> u32 {
        self.iter().map(|(_, report)| report.committed_upto.get()).max().unwrap_or(0)
    }
}

/// What a slab keeps.
struct Agreed<'a> {
    chain: Chain<'a>,
    /// Rows below this have locators, there or not.
    pointed_to: u32,
}

/// Whether a report makes sense in itself; it comes from outside.
fn is_consistent(report: &SealReport) -> bool {
    let rows = report.rows as usize;
    report.rows <= ROWS_PER_SLAB_MAX
        && report.committed_upto.get() <= ROWS_PER_SLAB_MAX
        && report.row_ends_blocks.len() == rows
        && report.row_chain_crc32c.len() == rows
        && report.row_ends_blocks.first().is_none_or(|first| *first > 0)
        && report.row_ends_blocks.is_sorted_by(|a, b| a < b)
        && report.row_ends_blocks.last().is_none_or(|last| *last <= SLAB_LEN_BYTES_MAX / BLOCK_LEN_BYTES)
        && report.bad_rows.is_sorted_by(|a, b| a < b)
        && report.bad_rows.last().is_none_or(|last| last.get() < report.rows)
}

/// Rows as one holder has them: checksum of the header chain and end in blocks, for each.
#[derive(Clone, Copy, Default)]
struct Chain<'a> {
    crc32c: &'a [u32],
    end_blocks: &'a [u32],
}

impl Chain<'_> {
    fn rows(&self) -> u32 {
        u32::try_from(self.end_blocks.len()).expect("rows are bounded")
    }

    fn last(&self) -> Option<(u32, u32)> {
        self.crc32c.last().copied().zip(self.end_blocks.last().copied())
    }
}

/// What one holder has of the agreed rows.
struct View<'a> {
    fragment: FragmentIndex,
    /// Its rows below this are the agreed ones.
    agrees_upto: u32,
    /// Whether it has another row there.
    disputes: bool,
    bad_rows: &'a [RowSequence],
}

impl<'a> View<'a> {
    fn of(fragment: FragmentIndex, report: &'a SealReport, chain: Chain) -> Self {
        let own = report.row_chain_crc32c.iter().zip(&report.row_ends_blocks);
        let agreed = chain.crc32c.iter().zip(chain.end_blocks);
        let agreeing = own.zip(agreed).take_while(|(own, agreed)| own == agreed).count();
        let common = report.row_chain_crc32c.len().min(chain.crc32c.len());
        Self {
            fragment,
            agrees_upto: u32::try_from(agreeing).expect("rows are bounded"),
            disputes: agreeing < common,
            bad_rows: &report.bad_rows,
        }
    }

    fn first_disputed(&self) -> Option<u32> {
        self.disputes.then_some(self.agrees_upto)
    }

    fn has_clean(&self, row: u32) -> bool {
        row < self.agrees_upto && self.bad_rows.binary_search(&RowSequence::new(row)).is_err()
    }

    fn is_clean_upto(&self, rows: u32) -> bool {
        self.agrees_upto >= rows && self.bad_rows.first().is_none_or(|first| first.get() >= rows)
    }
}

#[cfg(test)]
mod tests;
