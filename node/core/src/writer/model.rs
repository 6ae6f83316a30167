//! The writer against a model of its world: holders that keep what they accepted, a slab table that opens slabs, a shell that
//! reports in any order. Checks every action; in the end faults stop and everything must come to an end.
//!
//! Does not check: when a row is sent (the unit tests do), or that few slabs are used.

use super::{Action, Actions, Event, Needle, RollReason, SlabWriter, Ticket, WriterConfig};
use crate::durable::{AckRule, Spread};
use crate::limits::{RETIRING_SLABS_MAX, ROWS_TRACKED_LEN_BYTES_MAX, ROWS_TRACKED_MAX};
use crate::mutants::MutantSwitch;
use bytes::Bytes;
use proptest::prelude::{ProptestConfig, Strategy, any, proptest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use strongroom_format::wire::message::Append;
use strongroom_types::limits::ROWS_IN_FLIGHT_MAX;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{
    DriveId, Epoch, FragmentIndex, Generation, GroupId, Holder, Instant, NodeId, Profile, RowSequence,
    SessionId, SlabId, SlabRecord, SlabState, ZoneId,
};

const ROW_LEN_BYTES: u32 = 2 * BLOCK_LEN_BYTES;
const SLAB_LEN_BYTES: u32 = 10 * BLOCK_LEN_BYTES;
const WAITING_LEN_BYTES: u64 = 12 * BLOCK_LEN_BYTES as u64;

pub(super) fn config() -> WriterConfig {
    WriterConfig {
        slab_len_bytes_max: SLAB_LEN_BYTES,
        row_len_bytes_max: ROW_LEN_BYTES,
        waiting_len_bytes_max: WAITING_LEN_BYTES,
        slab_age_max: Duration::from_secs(3),
        ..WriterConfig::default()
    }
}

/// An open slab number `count` with copies in these zones, each on a node of its own: node = 10 x zone + place.
pub(super) fn opened(count: u64, zones: &[u8]) -> (SlabRecord, Spread) {
    let profile = Profile::copies(u8::try_from(zones.len()).unwrap()).unwrap();
    let places: Vec<(ZoneId, NodeId)> = (0_u64..)
        .zip(zones)
        .map(|(place, zone)| (ZoneId::new(*zone), NodeId::new(u64::from(*zone) * 10 + place)))
        .collect();
    let holders = places
        .iter()
        .map(|(_, node)| Holder { node: *node, drive: DriveId::new(u128::from(node.get())) })
        .collect();
    let record = SlabRecord {
        slab: SlabId::new(GroupId::new(1), count).unwrap(),
        state: SlabState::Open,
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        next_generation: Generation::FIRST.next(),
        profile,
        made_under: places.iter().map(|_| Generation::FIRST).collect(),
        holders,
        writer: NodeId::new(1),
        session: SessionId::new(1),
        given_out: None,
        writer_done: false,
    };
    (record, Spread::from_places(profile, &places).unwrap())
}

/// One holder's fragment.
#[derive(Default)]
struct Fragment {
    queue: VecDeque<(Append, Bytes)>,
    sent_rows: u32,
    sent_upto_bytes: u32,
    /// Rows on media.
    rows: u32,
    answers: Vec<RowSequence>,
    fenced: bool,
    failed: bool,
}

struct Slab {
    zones: Vec<u8>,
    fragments: Vec<Fragment>,
    row_lens: Vec<u32>,
    image: BTreeMap<u32, Bytes>,
    /// Rows that the writer called durable by handing out a locator in them or behind them.
    durable_rows: u32,
    taken: BTreeMap<u32, u32>,
    rolled: bool,
}

pub(super) struct World {
    writer: SlabWriter,
    actions: Actions,
    now: Instant,
    slabs: BTreeMap<SlabId, Slab>,
    opens: usize,
    slab_count: u64,
    ticket_count: u64,
    pending: BTreeMap<Ticket, Bytes>,
    outcomes: BTreeSet<Ticket>,
    durable: usize,
}

impl World {
    pub(super) fn new(mutants: MutantSwitch) -> Self {
        let mut world = Self {
            writer: SlabWriter::new(WriterConfig { mutants, ..config() }),
            actions: Actions::default(),
            now: Instant::ORIGIN,
            slabs: BTreeMap::new(),
            opens: 0,
            slab_count: 0,
            ticket_count: 0,
            pending: BTreeMap::new(),
            outcomes: BTreeSet::new(),
            durable: 0,
        };
        world.event(Event::Tick);
        world
    }

    fn event(&mut self, event: Event) {
        self.writer.handle(self.now, event, &mut self.actions);
        while let Some(action) = self.actions.pop() {
            self.check(action);
        }
        // Needles that came back from a failed slab may stand above the bound: at most all rows in flight.
        let in_flight = u64::from(ROW_LEN_BYTES) * ROWS_IN_FLIGHT_MAX as u64 * 5;
        assert!(self.writer.waiting_len_bytes() <= WAITING_LEN_BYTES + in_flight);
        let unrolled = self.slabs.values().filter(|slab| !slab.rolled).count();
        assert!(unrolled <= RETIRING_SLABS_MAX + 2, "an open slab, a spare, and a few that wait for answers");
        if let Some(at) = self.writer.next_wakeup() {
            assert!(at > self.now, "what is due now is done now");
        }
    }

    fn check(&mut self, action: Action) {
        match action {
            Action::Open { avoid: _ } => {
                self.opens += 1;
                assert_eq!(self.opens, 1, "one request at a time");
            }
            Action::Send { slab, fragment, holder, append, payload } => {
                self.check_send(slab, fragment, holder, append, payload);
            }
            Action::Durable { ticket, locator, session: _ } => {
                let bytes = self.pending.remove(&ticket).expect("a ticket has one outcome");
                assert!(self.outcomes.insert(ticket));
                let slab = self.slabs.get_mut(&locator.slab).unwrap();
                assert!(!slab.rolled, "no locator is given out after the roll");
                let (row_offset, row) = slab.image.range(..=locator.offset_bytes).next_back().unwrap();
                let first = (locator.offset_bytes - row_offset) as usize;
                assert_eq!(
                    &row[first..first + locator.len_bytes as usize],
                    &bytes[..],
                    "the locator's bytes"
                );
                assert_eq!(locator.plain_len_bytes as usize, bytes.len());
                assert!(locator.offset_bytes.is_multiple_of(8));
                let row_index = slab.image.range(..=locator.offset_bytes).count() as u32 - 1;
                let having: BTreeSet<u8> = (0..slab.zones.len())
                    .filter(|index| slab.fragments[*index].rows > row_index)
                    .map(|index| slab.zones[index])
                    .collect();
                assert!(having.len() >= 2, "durable in {} zones only", having.len());
                slab.durable_rows = slab.durable_rows.max(row_index + 1);
                let before = slab.taken.range(..=locator.offset_bytes).next_back();
                assert!(before.is_none_or(|(_, end)| *end <= locator.offset_bytes), "locators overlap");
                let after = slab.taken.range(locator.offset_bytes..).next();
                assert!(after.is_none_or(|(first, _)| u64::from(*first) >= locator.end_bytes()));
                slab.taken.insert(locator.offset_bytes, locator.end_bytes() as u32);
                self.durable += 1;
            }
            Action::Failed { ticket, reason: _ } | Action::Busy(Needle { ticket, .. }) => {
                assert!(self.pending.remove(&ticket).is_some(), "a ticket has one outcome");
                assert!(self.outcomes.insert(ticket));
            }
            Action::Roll { slab, epoch, given_out, reason } => {
                let slab = self.slabs.get_mut(&slab).unwrap();
                assert!(!slab.rolled, "rolled once");
                assert_eq!(epoch, Epoch::FIRST);
                assert_eq!(given_out.get(), slab.durable_rows, "the writer says how far its locators reach");
                slab.rolled = true;
                let unfit = slab.zones.iter().collect::<BTreeSet<_>>().len() < 2;
                assert_eq!(reason == RollReason::Unfit, unfit);
            }
        }
    }

    fn check_send(
        &mut self,
        id: SlabId,
        fragment: FragmentIndex,
        holder: Holder,
        append: Append,
        payload: Bytes,
    ) {
        let slab = self.slabs.get_mut(&id).unwrap();
        assert!(!slab.rolled, "nothing is sent after the roll");
        let index = usize::from(fragment.get());
        assert_eq!(
            (append.address.slab, append.address.fragment, append.address.drive),
            (id, fragment, holder.drive)
        );
        assert!(!payload.is_empty() && payload.len() <= ROW_LEN_BYTES as usize);
        assert!(payload.len().is_multiple_of(BLOCK_LEN_BYTES as usize));
        let len_bytes = payload.len() as u32;
        if index == 0 {
            slab.image.insert(append.offset_bytes, payload.clone());
            slab.row_lens.push(len_bytes);
            let in_flight = slab.row_lens.len() - append.committed_upto.get() as usize;
            assert!(in_flight <= ROWS_IN_FLIGHT_MAX, "rows in flight");
        }
        assert_eq!(slab.image[&append.offset_bytes], payload, "all holders get the same row");
        let target = &mut slab.fragments[index];
        assert!(!target.failed && !target.fenced, "nothing is sent to a failed holder");
        assert_eq!((append.sequence.get(), append.offset_bytes), (target.sent_rows, target.sent_upto_bytes));
        target.sent_rows += 1;
        target.sent_upto_bytes += len_bytes;
        assert!(target.sent_upto_bytes <= SLAB_LEN_BYTES);
        target.queue.push_back((append, payload));
        let unanswered: usize = target.queue.iter().map(|(_, row)| row.len()).sum();
        assert!(target.queue.len() <= ROWS_TRACKED_MAX && unanswered as u64 <= ROWS_TRACKED_LEN_BYTES_MAX);
        // Every row holds a needle, so that the locators show which rows the writer took for durable.
        assert!(append.committed_upto.get() <= slab.durable_rows, "committed_upto names durable rows");
        if slab.durable_rows > 0 {
            assert!(append.committed_upto.get() > 0, "committed_upto follows");
        }
    }

    fn needle(&mut self, len_bytes: usize) {
        let ticket = Ticket::new(self.ticket_count);
        self.ticket_count += 1;
        let bytes: Bytes = (0..len_bytes).map(|index| (index as u64 ^ ticket.get() ^ 0x5a) as u8).collect();
        self.pending.insert(ticket, bytes.clone());
        let (header_crc32c, plain_len_bytes) = (7, len_bytes as u32);
        self.event(Event::Needle(Needle { ticket, bytes, header_crc32c, plain_len_bytes }));
    }

    fn answer_open(&mut self, zones: Option<&[u8]>) {
        if self.opens == 0 {
            return;
        }
        self.opens = 0;
        let Some(zones) = zones else { return self.event(Event::OpenFailed) };
        let (record, spread) = opened(self.slab_count, zones);
        self.slab_count += 1;
        let slab = Slab {
            zones: zones.to_vec(),
            fragments: zones.iter().map(|_| Fragment::default()).collect(),
            row_lens: Vec::new(),
            image: BTreeMap::new(),
            durable_rows: 0,
            taken: BTreeMap::new(),
            rolled: false,
        };
        self.slabs.insert(record.slab, slab);
        self.event(Event::Opened { record: Box::new(record), spread: Box::new(spread) });
    }

    /// All fragments for which `want` holds.
    fn fragments(&self, want: impl Fn(&Fragment) -> bool) -> Vec<(SlabId, usize)> {
        let all =
            self.slabs.iter().flat_map(|(id, slab)| (0..slab.fragments.len()).map(|index| (*id, index)));
        all.filter(|(id, index)| want(&self.slabs[id].fragments[*index])).collect()
    }

    fn fragment(&mut self, (slab, index): (SlabId, usize)) -> &mut Fragment {
        &mut self.slabs.get_mut(&slab).unwrap().fragments[index]
    }

    /// A holder writes the next row.
    fn write(&mut self, choice: usize) {
        let candidates =
            self.fragments(|fragment| !fragment.queue.is_empty() && !fragment.fenced && !fragment.failed);
        let Some(at) = pick(&candidates, choice) else { return };
        let fragment = self.fragment(at);
        let (append, _) = fragment.queue.pop_front().unwrap();
        assert_eq!(append.sequence.get(), fragment.rows);
        fragment.rows += 1;
        fragment.answers.push(append.sequence);
    }

    /// An answer arrives, not always in order.
    fn answer(&mut self, choice: usize) {
        let candidates = self.fragments(|fragment| !fragment.answers.is_empty());
        let Some(at) = pick(&candidates, choice) else { return };
        let fragment = self.fragment(at);
        let sequence = fragment.answers.swap_remove((choice >> 4) % fragment.answers.len());
        self.event(Event::Acked { slab: at.0, fragment: FragmentIndex::new(at.1 as u8), sequence });
    }

    fn fail(&mut self, choice: usize, fenced: bool) {
        let candidates = self.fragments(|fragment| {
            !fragment.failed && !fragment.fenced && (fragment.sent_rows > 0 || choice.is_multiple_of(7))
        });
        let Some(at) = pick(&candidates, choice) else { return };
        let fragment = self.fragment(at);
        fragment.fenced = fenced;
        fragment.failed = !fenced;
        if !fenced {
            // Its drive is gone with all that it held.
            fragment.rows = 0;
        }
        fragment.queue.clear();
        self.event(Event::HolderFailed { slab: at.0, fragment: FragmentIndex::new(at.1 as u8), fenced });
    }

    fn wait(&mut self, millis: u64) {
        let until = self.now.after(Duration::from_millis(millis));
        while let Some(at) = self.writer.next_wakeup()
            && at <= until
        {
            self.now = self.now.max(at);
            self.event(Event::Tick);
        }
        self.now = until;
        self.event(Event::Tick);
    }

    pub(super) fn step(&mut self, (kind, choice): (u8, u16)) {
        let choice = usize::from(choice);
        match kind {
            0..=29 => self.needle(1 + choice * 31 % 8192),
            30..=34 => self.needle(choice % 64),
            35..=79 => self.write(choice),
            80..=124 => self.answer(choice),
            125..=127 => self.fail(choice, false),
            128..=130 => self.fail(choice, true),
            131..=140 => self.wait(choice as u64 % 80),
            141 => self.wait(choice as u64 % 4000),
            142 => self.event(Event::SealAll),
            143..=145 => self.answer_open(None),
            146 => self.answer_open(Some(&[1, 1])),
            147..=150 => self.answer_open(Some(&[1, 2])),
            151..=154 => self.answer_open(Some(&[1, 1, 2, 2])),
            _ => self.answer_open(Some(&[1, 2, 3])),
        }
    }

    /// Faults stop: all that is pending must end, and soon.
    pub(super) fn finish(&mut self) {
        for round in 0_usize.. {
            assert!(round < 10_000, "everything comes to an end");
            if self.pending.is_empty()
                && self.fragments(|f| !f.answers.is_empty() || !f.queue.is_empty()).is_empty()
            {
                break;
            }
            self.answer_open(Some(&[1, 2, 3]));
            // The queues of slabs that were given up drain too.
            self.write(0);
            self.answer(0);
            if round.is_multiple_of(50) {
                self.wait(20);
            }
        }
        self.event(Event::SealAll);
        self.wait(10_000);
        assert_eq!(self.outcomes.len() as u64, self.ticket_count);
        assert_eq!(self.writer.waiting_len_bytes(), 0);
        let (open, used) = (self.slabs.values().filter(|slab| !slab.rolled), self.slab_count);
        assert!(open.count() <= 2, "of {used} slabs all but the open one and the spare are rolled");
    }

    pub(super) fn durable_count(&self) -> usize {
        self.durable
    }
}

fn pick(candidates: &[(SlabId, usize)], choice: usize) -> Option<(SlabId, usize)> {
    (!candidates.is_empty()).then(|| candidates[choice % candidates.len()])
}

pub(super) fn steps() -> impl Strategy<Value = Vec<(u8, u16)>> {
    proptest::collection::vec((0_u8..170, any::<u16>()), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_interleaving_keeps_the_promises(steps in steps()) {
        let mut world = World::new(MutantSwitch::NONE);
        for step in steps {
            world.step(step);
        }
        world.finish();
    }

    #[test]
    fn without_faults_every_needle_becomes_durable(lens in proptest::collection::vec(1_usize..8192, 1..60)) {
        let mut world = World::new(MutantSwitch::NONE);
        let mut sent = 0;
        for len_bytes in lens {
            world.answer_open(Some(&[1, 2, 3]));
            if world.writer.waiting_len_bytes() + 8192 <= WAITING_LEN_BYTES {
                world.needle(len_bytes);
                sent += 1;
            }
            world.write(len_bytes);
            world.answer(len_bytes);
        }
        world.finish();
        assert_eq!(world.durable_count(), sent);
    }
}

/// The checks above must see what the mutants do, else they prove nothing.
#[cfg(feature = "mutants")]
#[test]
fn mutants_are_caught() {
    use crate::mutants::Mutant;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    for mutant in [Mutant::AckInOneZone, Mutant::CommitBeforeDurable, Mutant::LoseCommittedUpto] {
        let mut runner = TestRunner::deterministic();
        let caught = (0..100).any(|_| {
            let steps = steps().new_tree(&mut runner).unwrap().current();
            catch_unwind(AssertUnwindSafe(|| {
                let mut world = World::new(MutantSwitch::only(mutant));
                steps.into_iter().for_each(|step| world.step(step));
                world.finish();
            }))
            .is_err()
        });
        assert!(caught, "{mutant:?} passes every check");
    }
}

#[test]
fn the_rule_zone_plus_one_waits_for_more() {
    let mut writer = SlabWriter::new(WriterConfig { rule: AckRule::ZonePlusOne, ..config() });
    let mut actions = Actions::default();
    let (record, spread) = opened(0, &[1, 2, 3]);
    let slab = record.slab;
    let opened = Event::Opened { record: Box::new(record), spread: Box::new(spread) };
    writer.handle(Instant::ORIGIN, opened, &mut actions);
    let needle = Needle {
        ticket: Ticket::new(1),
        bytes: Bytes::from_static(b"n"),
        header_crc32c: 0,
        plain_len_bytes: 1,
    };
    writer.handle(Instant::ORIGIN, Event::Needle(needle), &mut actions);
    let mut durable = Vec::new();
    for fragment in 0..3 {
        let fragment = FragmentIndex::new(fragment);
        let event = Event::Acked { slab, fragment, sequence: RowSequence::FIRST };
        writer.handle(Instant::ORIGIN, event, &mut actions);
        let mut seen = false;
        while let Some(action) = actions.pop() {
            seen |= matches!(action, Action::Durable { .. });
        }
        durable.push(seen);
    }
    assert_eq!(durable, [false, false, true]);
}
