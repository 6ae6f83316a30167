//! One slab as its writer sees it: which rows were sent, who has acknowledged what, and what follows from that.

use super::event::{Action, Actions};
use super::waiting::{Part, Waiting};
use crate::durable::{AckRule, Spread, is_durable};
use crate::fragment_set::FragmentSet;
use crate::limits::{FRAGMENT_LEN_BYTES_MAX, ROWS_TRACKED_LEN_BYTES_MAX, ROWS_TRACKED_MAX};
use crate::mutants::{Mutant, MutantSwitch};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use strongroom_format::wire::message::{Append, FragmentAddress};
use strongroom_types::limits::ROWS_IN_FLIGHT_MAX;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{FragmentIndex, Holder, Instant, Locator, RowSequence, SlabId, SlabRecord, SlabState};

/// A row that some holder has still to acknowledge.
#[derive(Debug)]
struct Row {
    sequence: RowSequence,
    offset_bytes: u32,
    len_bytes: u32,
    sent_at: Instant,
    acked: FragmentSet,
    durable: bool,
    /// Its bytes, until it is durable: from them its needles can be put into another slab.
    payload: Bytes,
    parts: Vec<Part>,
}

/// A slab.
#[derive(Debug)]
pub(super) struct Slab {
    pub(super) record: SlabRecord,
    pub(super) spread: Spread,
    pub(super) first_row_at: Option<Instant>,
    /// Rows from the first that is not durable, or that a live holder has not acknowledged; in order, without gaps.
    rows: VecDeque<Row>,
    rows_len_bytes: u64,
    next_sequence: RowSequence,
    end_bytes: u32,
    fragment_len_bytes: u64,
    durable_upto: RowSequence,
    /// Holders that are not waited for any more: failed, or said that the slab is fenced.
    stopped: FragmentSet,
    /// Holders whose acknowledgements do not count any more: failed, or known to lack a row.
    uncounted: FragmentSet,
}

impl Slab {
    pub(super) fn new(record: SlabRecord, spread: Spread) -> Self {
        Self {
            record,
            spread,
            first_row_at: None,
            rows: VecDeque::with_capacity(ROWS_TRACKED_MAX),
            rows_len_bytes: 0,
            next_sequence: RowSequence::FIRST,
            end_bytes: 0,
            fragment_len_bytes: 0,
            durable_upto: RowSequence::FIRST,
            stopped: FragmentSet::EMPTY,
            uncounted: FragmentSet::EMPTY,
        }
    }

    pub(super) fn id(&self) -> SlabId {
        self.record.slab
    }

    /// Whether rows in it can become durable at all.
    pub(super) fn is_fit(&self, rule: AckRule) -> bool {
        matches!(self.record.state, SlabState::Open)
            && self.record.profile.is_copies()
            && self.record.profile == self.spread.profile()
            && self.record.holders.len() == usize::from(self.record.profile.fragment_count())
            && is_durable(&self.spread, self.spread.all(), rule)
    }

    /// Whether a row was ever sent.
    pub(super) fn has_content(&self) -> bool {
        self.first_row_at.is_some()
    }

    /// Rows below this have given out locators.
    pub(super) fn durable_upto(&self) -> RowSequence {
        self.durable_upto
    }

    /// Whether some row became durable.
    pub(super) fn has_durable_rows(&self) -> bool {
        self.durable_upto > RowSequence::FIRST
    }

    /// Whether one more row may be sent now.
    pub(super) fn may_send(&self, row_len_bytes_max: u32) -> bool {
        let in_flight = self.next_sequence.get() - self.durable_upto.get();
        (in_flight as usize) < ROWS_IN_FLIGHT_MAX
            && self.rows.len() < ROWS_TRACKED_MAX
            && self.rows_len_bytes + u64::from(row_len_bytes_max) <= ROWS_TRACKED_LEN_BYTES_MAX
    }

    /// Bytes that the next row may have, whole blocks; 0 where the slab is full.
    pub(super) fn room_bytes(&self, slab_len_bytes_max: u32, row_len_bytes_max: u32) -> u32 {
        let image = slab_len_bytes_max - self.end_bytes;
        let header = u64::from(BLOCK_LEN_BYTES);
        let media = FRAGMENT_LEN_BYTES_MAX.saturating_sub(self.fragment_len_bytes + header);
        let room = image.min(u32::try_from(media).unwrap_or(u32::MAX)).min(row_len_bytes_max);
        room - room % BLOCK_LEN_BYTES
    }

    /// Sends a row to every holder.
    pub(super) fn send(
        &mut self,
        now: Instant,
        (payload, parts): (Bytes, Vec<Part>),
        mutants: MutantSwitch,
        actions: &mut Actions,
    ) {
        assert!(self.stopped.is_empty(), "a slab with a failed holder gets no more rows");
        let len_bytes = u32::try_from(payload.len()).expect("a row is below 4 GiB");
        assert!(len_bytes > 0 && len_bytes.is_multiple_of(BLOCK_LEN_BYTES), "rows are whole blocks");
        let committed_upto =
            if mutants.has(Mutant::LoseCommittedUpto) { RowSequence::FIRST } else { self.durable_upto };
        for (node, address) in FragmentAddress::all_of(&self.record) {
            let append = Append {
                address,
                profile: self.record.profile,
                epoch: self.record.epoch,
                sequence: self.next_sequence,
                offset_bytes: self.end_bytes,
                committed_upto,
            };
            actions.push(Action::Send {
                slab: self.record.slab,
                fragment: address.fragment,
                holder: Holder { node, drive: address.drive },
                append,
                payload: payload.clone(),
            });
        }
        let mut row = Row {
            sequence: self.next_sequence,
            offset_bytes: self.end_bytes,
            len_bytes,
            sent_at: now,
            acked: FragmentSet::EMPTY,
            durable: false,
            payload,
            parts,
        };
        if mutants.has(Mutant::CommitBeforeDurable) {
            give_out(&self.record, &mut row, actions);
        }
        self.rows.push_back(row);
        self.rows_len_bytes += u64::from(len_bytes);
        self.fragment_len_bytes += u64::from(len_bytes) + u64::from(BLOCK_LEN_BYTES);
        self.end_bytes += len_bytes;
        self.next_sequence = self.next_sequence.next();
        self.first_row_at.get_or_insert(now);
    }

    /// Holder `fragment` has row `sequence` on media; says how long that took. `None` where it was not waited for.
    pub(super) fn ack(
        &mut self,
        now: Instant,
        fragment: FragmentIndex,
        sequence: RowSequence,
    ) -> Option<Duration> {
        if !self.spread.all().contains(fragment) {
            return None;
        }
        let front = self.rows.front()?.sequence.get();
        let row = self.rows.get_mut(sequence.get().checked_sub(front)? as usize)?;
        if row.acked.contains(fragment) {
            return None;
        }
        row.acked.insert(fragment);
        Some(now.since(row.sent_at))
    }

    /// Holder `fragment` takes no more rows. What a fenced one acknowledged is on its media and stays; one that failed may be gone.
    pub(super) fn stop(&mut self, fragment: FragmentIndex, fenced: bool) {
        assert!(self.spread.all().contains(fragment), "a fragment of this slab");
        self.stopped.insert(fragment);
        if !fenced {
            self.uncounted.insert(fragment);
        }
    }

    /// Gives out the locators of the rows that became durable, in order, and forgets rows that nobody has still to acknowledge.
    /// Says whether a row became durable.
    pub(super) fn advance(&mut self, rule: AckRule, mutants: MutantSwitch, actions: &mut Actions) -> bool {
        let before = self.durable_upto;
        // A holder counts for a row only if it has all rows before it too: seals keep prefixes.
        let mut having = self.spread.all().without(self.uncounted);
        for row in &mut self.rows {
            having = having.intersection(row.acked);
            if row.durable {
                continue;
            }
            let enough = if mutants.has(Mutant::AckInOneZone) {
                having.len() >= u32::from(self.spread.profile().data_count())
            } else {
                is_durable(&self.spread, having, rule)
            };
            if !enough {
                break;
            }
            assert_eq!(row.sequence, self.durable_upto, "rows become durable in order");
            row.durable = true;
            self.durable_upto = row.sequence.next();
            give_out(&self.record, row, actions);
            row.payload = Bytes::new();
        }
        assert!(self.durable_upto <= self.next_sequence, "only rows that were sent are durable");
        self.forget();
        self.durable_upto > before
    }

    fn forget(&mut self) {
        let awaited = self.awaited();
        while let Some(row) = self.rows.front()
            && row.durable
            && awaited.is_subset_of(row.acked)
        {
            // A stopped holder that lacks this row must not count for later ones.
            self.uncounted = self.uncounted.union(self.spread.all().without(row.acked));
            self.rows_len_bytes -= u64::from(row.len_bytes);
            self.rows.pop_front();
        }
    }

    /// Takes out the rows that cannot become durable here any more (`all`: every row that is not durable yet): the needles in
    /// them, in order. To be called once no more rows are sent.
    pub(super) fn take_lost(&mut self, rule: AckRule, all: bool) -> Vec<Waiting> {
        let mut reachable = self.spread.all().without(self.uncounted);
        let awaited = self.awaited();
        let mut keep = 0;
        for row in &self.rows {
            reachable = reachable.intersection(row.acked.union(awaited));
            if !row.durable && (all || !is_durable(&self.spread, reachable, rule)) {
                break;
            }
            keep += 1;
        }
        let mut lost = Vec::new();
        for row in self.rows.drain(keep..) {
            assert!(!row.durable, "rows become durable in order");
            self.rows_len_bytes -= u64::from(row.len_bytes);
            let payload = row.payload;
            lost.extend(row.parts.into_iter().map(|part| part.into_waiting(&payload)));
        }
        lost
    }

    /// Whether no acknowledgement is waited for any more.
    pub(super) fn is_quiet(&self) -> bool {
        self.rows.is_empty()
    }

    /// When the longest outstanding row was sent, and who has still to acknowledge it.
    pub(super) fn oldest_outstanding(&self) -> Option<(Instant, FragmentSet)> {
        let awaited = self.awaited();
        self.rows.iter().find_map(|row| {
            let outstanding = awaited.without(row.acked);
            (!outstanding.is_empty()).then_some((row.sent_at, outstanding))
        })
    }

    fn awaited(&self) -> FragmentSet {
        self.spread.all().without(self.stopped)
    }
}

/// Tells the owners of a row's needles where they are.
fn give_out(record: &SlabRecord, row: &mut Row, actions: &mut Actions) {
    for part in row.parts.drain(..) {
        let locator = Locator {
            slab: record.slab,
            offset_bytes: row.offset_bytes + part.offset_bytes,
            len_bytes: part.len_bytes,
            header_crc32c: part.header_crc32c,
            plain_len_bytes: part.plain_len_bytes,
        };
        actions.push(Action::Durable { ticket: part.ticket, locator, session: record.session });
    }
}
