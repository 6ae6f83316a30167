use super::model::{config, opened};
use super::{Action, Actions, Event, Needle, RollReason, SlabWriter, Ticket, WriteFailure, WriterConfig};
use crate::limits::{
    ACK_PATIENCE_MIN, NEEDLE_WAIT_MAX, OPEN_PAUSE_MIN, RETIRING_PATIENCE_MIN, ROWS_TRACKED_MAX,
};
use bytes::Bytes;
use std::time::Duration;
use strongroom_types::limits::ROWS_IN_FLIGHT_MAX;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{
    FragmentIndex, GroupId, Instant, Locator, NodeId, RowSequence, SessionId, SlabId, SlabRecord, SlabState,
};

/// A writer and its clock.
struct Bench {
    writer: SlabWriter,
    actions: Actions,
    now: Instant,
    tickets: u64,
}

impl Bench {
    fn new(config: WriterConfig) -> Self {
        Self {
            writer: SlabWriter::new(config),
            actions: Actions::default(),
            now: Instant::ORIGIN,
            tickets: 0,
        }
    }

    /// With slab 0 open and slab 1 as a spare, both in these zones.
    fn opened(zones: &[u8]) -> Self {
        Self::opened_with(config(), zones)
    }

    fn opened_with(config: WriterConfig, zones: &[u8]) -> Self {
        let mut bench = Self::new(config);
        bench.open(0, zones);
        assert_eq!(bench.open(1, zones), []);
        bench
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        self.writer.handle(self.now, event, &mut self.actions);
        std::iter::from_fn(|| self.actions.pop()).collect()
    }

    fn needle(&mut self, len_bytes: usize) -> Vec<Action> {
        let ticket = Ticket::new(self.tickets);
        self.tickets += 1;
        let bytes = Bytes::from(vec![0xee; len_bytes]);
        let plain_len_bytes = len_bytes as u32;
        self.event(Event::Needle(Needle { ticket, bytes, header_crc32c: 9, plain_len_bytes }))
    }

    fn open(&mut self, count: u64, zones: &[u8]) -> Vec<Action> {
        let (record, spread) = opened(count, zones);
        self.event(Event::Opened { record: Box::new(record), spread: Box::new(spread) })
    }

    fn ack(&mut self, slab: u64, fragment: u8, row: u32) -> Vec<Action> {
        let sequence = RowSequence::new(row);
        self.event(Event::Acked { slab: id(slab), fragment: FragmentIndex::new(fragment), sequence })
    }

    fn fail(&mut self, slab: u64, fragment: u8, fenced: bool) -> Vec<Action> {
        self.event(Event::HolderFailed { slab: id(slab), fragment: FragmentIndex::new(fragment), fenced })
    }

    fn wait(&mut self, duration: Duration) -> Vec<Action> {
        self.now = self.now.after(duration);
        self.event(Event::Tick)
    }
}

fn id(count: u64) -> SlabId {
    SlabId::new(GroupId::new(1), count).unwrap()
}

/// Slab and row of each send to copy 0, with the row's bytes and what it says is committed.
fn sends(actions: &[Action]) -> Vec<(SlabId, u32, usize, u32)> {
    let first = |action: &Action| match action {
        Action::Send { slab, fragment, append, payload, .. } if fragment.get() == 0 => {
            Some((*slab, append.sequence.get(), payload.len(), append.committed_upto.get()))
        }
        _ => None,
    };
    actions.iter().filter_map(first).collect()
}

fn durable(actions: &[Action]) -> Vec<(u64, Locator)> {
    let durable = |action: &Action| match action {
        Action::Durable { ticket, locator, .. } => Some((ticket.get(), *locator)),
        _ => None,
    };
    actions.iter().filter_map(durable).collect()
}

fn rolls(actions: &[Action]) -> Vec<(SlabId, RollReason)> {
    let roll = |action: &Action| match action {
        Action::Roll { slab, reason, .. } => Some((*slab, *reason)),
        _ => None,
    };
    actions.iter().filter_map(roll).collect()
}

fn avoided(actions: &[Action]) -> Option<Vec<u64>> {
    actions.iter().find_map(|action| match action {
        Action::Open { avoid } => Some(avoid.iter().map(|node| node.get()).collect()),
        _ => None,
    })
}

const BLOCK: usize = BLOCK_LEN_BYTES as usize;
const MILLI: Duration = Duration::from_millis(1);

#[test]
fn asks_for_a_slab_and_a_spare_one_after_the_other() {
    let mut bench = Bench::new(config());
    assert_eq!(bench.writer.next_wakeup(), Some(Instant::ORIGIN));
    assert_eq!(avoided(&bench.event(Event::Tick)), Some(vec![]));
    assert_eq!(bench.event(Event::Tick), [], "asked once");
    assert_eq!(avoided(&bench.open(0, &[1, 2, 3])), Some(vec![]));
    assert_eq!(bench.open(1, &[1, 2, 3]), []);
    assert_eq!(bench.writer.next_wakeup(), None);
}

#[test]
fn rows_go_at_once_until_enough_are_in_flight_and_then_gather() {
    let mut bench = Bench::opened(&[1, 2, 3]);
    for row in 0..ROWS_IN_FLIGHT_MAX as u32 {
        let actions = bench.needle(100);
        assert_eq!(sends(&actions), [(id(0), row, BLOCK, 0)]);
        assert_eq!(actions.len(), 3, "one for each holder");
    }
    for _ in 0..3 {
        assert_eq!(bench.needle(100), []);
    }
    assert_eq!(bench.writer.waiting_len_bytes(), 3 * 104);
    assert_eq!(bench.ack(0, 0, 0), [], "one zone is not enough");
    let actions = bench.ack(0, 1, 0);
    assert_eq!(durable(&actions).len(), 1);
    assert_eq!(
        sends(&actions),
        [(id(0), 4, BLOCK, 1)],
        "what waited goes in one row, which says what is committed"
    );
}

#[test]
fn needles_lie_at_multiples_of_eight_and_rows_end_in_zeros() {
    let mut bench = Bench::new(config());
    for _ in 0..3 {
        bench.needle(13);
    }
    let actions = bench.open(0, &[1, 2]);
    let Some(Action::Send { payload, append, .. }) = actions.first() else { panic!("a row goes out") };
    assert_eq!((payload.len(), append.offset_bytes), (BLOCK, 0));
    for (index, byte) in payload.iter().enumerate() {
        let in_needle = index < 48 && index % 16 < 13;
        assert_eq!(*byte, if in_needle { 0xee } else { 0 }, "byte {index}");
    }
    bench.ack(0, 0, 0);
    let locators = durable(&bench.ack(0, 1, 0));
    let places: Vec<_> =
        locators.iter().map(|(ticket, at)| (*ticket, at.offset_bytes, at.len_bytes)).collect();
    assert_eq!(places, [(0, 0, 13), (1, 16, 13), (2, 32, 13)]);
    assert_eq!((locators[0].1.header_crc32c, locators[0].1.plain_len_bytes), (9, 13));
}

#[test]
fn a_row_waits_for_the_rows_before_it() {
    let mut bench = Bench::opened(&[1, 2, 3]);
    bench.needle(10);
    bench.needle(10);
    assert_eq!(bench.ack(0, 0, 1), []);
    assert_eq!(bench.ack(0, 1, 1), []);
    assert_eq!(bench.ack(0, 0, 0), []);
    assert_eq!(bench.ack(0, 0, 0), [], "twice is once");
    let tickets: Vec<u64> = durable(&bench.ack(0, 1, 0)).iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [0, 1]);
}

#[test]
fn acknowledgements_that_make_no_sense_change_nothing() {
    let mut bench = Bench::opened(&[1, 2]);
    bench.needle(10);
    for (slab, fragment, row) in [(0, 0, 1), (0, 7, 0), (0, 255, 0), (1, 0, 0), (99, 0, 0), (0, 0, u32::MAX)]
    {
        assert_eq!(bench.ack(slab, fragment, row), []);
    }
    assert_eq!(bench.fail(99, 0, false), []);
    assert_eq!(bench.fail(0, 200, true), []);
    assert_eq!(bench.ack(0, 0, 0), []);
    assert_eq!(durable(&bench.ack(0, 1, 0)).len(), 1);
}

#[test]
fn a_late_holder_rolls_the_slab_and_the_spare_goes_on() {
    let mut bench = Bench::opened(&[1, 2, 3]);
    bench.needle(10);
    bench.ack(0, 0, 0);
    assert_eq!(durable(&bench.ack(0, 1, 0)).len(), 1);
    assert_eq!(bench.writer.next_wakeup(), Some(Instant::ORIGIN.after(ACK_PATIENCE_MIN)));
    assert_eq!(bench.wait(ACK_PATIENCE_MIN - MILLI), []);
    assert_eq!(avoided(&bench.wait(MILLI)), Some(vec![32]), "rolled; a new spare without the late node");
    assert_eq!(sends(&bench.needle(10)), [(id(1), 0, BLOCK, 0)]);
    // The seal waits for the late one, so that it leaves nothing to repair.
    assert_eq!(rolls(&bench.ack(0, 2, 0)), [(id(0), RollReason::HolderLate)]);
}

#[test]
fn a_late_holder_is_not_waited_for_without_end() {
    let mut bench = Bench::opened(&[1, 2, 3]);
    bench.needle(10);
    bench.ack(0, 0, 0);
    bench.ack(0, 1, 0);
    bench.wait(ACK_PATIENCE_MIN);
    assert_eq!(rolls(&bench.wait(RETIRING_PATIENCE_MIN - MILLI)), []);
    assert_eq!(rolls(&bench.wait(MILLI)), [(id(0), RollReason::HolderLate)]);
    assert_eq!(bench.ack(0, 2, 0), [], "too late");
}

#[test]
fn rows_that_cannot_become_durable_go_to_the_next_slab() {
    let mut bench = Bench::opened(&[1, 2]);
    bench.needle(10);
    bench.needle(20);
    bench.ack(0, 0, 0);
    let actions = bench.fail(0, 1, false);
    // The spare has a holder on the same node: it would fail too.
    assert_eq!(rolls(&actions), [(id(1), RollReason::HolderFailed), (id(0), RollReason::HolderFailed)]);
    assert!(sends(&actions).is_empty());
    assert_eq!(bench.writer.waiting_len_bytes(), 16 + 24);
    bench.wait(OPEN_PAUSE_MIN);
    assert_eq!(sends(&bench.open(2, &[1, 3])), [(id(2), 0, BLOCK, 0)], "in one row, in their order");
    assert_eq!(bench.ack(0, 1, 0), [], "the old slab is out of the game");
    bench.ack(2, 0, 0);
    let moved = durable(&bench.ack(2, 1, 0));
    let places: Vec<_> = moved.iter().map(|(ticket, at)| (*ticket, at.slab, at.offset_bytes)).collect();
    assert_eq!(places, [(0, id(2), 0), (1, id(2), 16)]);
}

#[test]
fn a_needle_is_tried_a_few_times_only() {
    let mut bench = Bench::new(config());
    bench.needle(10);
    for slab in 0..u64::from(config().tries_max) {
        let actions = bench.open(slab, &[1, 2]);
        assert_eq!(sends(&actions).len(), 1);
        let actions = bench.fail(slab, 0, false);
        let failed = actions.iter().any(|action| matches!(action, Action::Failed { .. }));
        assert_eq!(failed, slab + 1 == u64::from(config().tries_max));
        bench.wait(Duration::from_millis(200));
    }
    assert_eq!(bench.writer.waiting_len_bytes(), 0);
}

#[test]
fn what_a_failed_holder_acknowledged_no_longer_counts() {
    let mut bench = Bench::opened(&[1, 2, 3]);
    bench.needle(10);
    bench.ack(0, 0, 0);
    bench.fail(0, 0, false);
    assert_eq!(durable(&bench.ack(0, 1, 0)), [], "copy 0 is gone with its drive");
    assert_eq!(durable(&bench.ack(0, 2, 0)).len(), 1);
}

#[test]
fn what_a_fenced_holder_acknowledged_counts() {
    let mut bench = Bench::opened(&[1, 2, 3]);
    bench.needle(10);
    bench.ack(0, 0, 0);
    assert_eq!(bench.fail(0, 0, true).len(), 1, "a new spare is asked for");
    assert_eq!(sends(&bench.needle(10)), [(id(1), 0, BLOCK, 0)], "nothing more goes to a fenced slab");
    assert_eq!(durable(&bench.ack(0, 1, 0)).len(), 1);
    assert_eq!(rolls(&bench.ack(0, 2, 0)), [(id(0), RollReason::Fenced)]);
}

#[test]
fn slabs_of_a_session_that_is_over_are_rolled_and_others_stay() {
    let mut bench = Bench::opened(&[1, 2, 3]);
    bench.needle(100);
    bench.ack(0, 0, 0);
    assert_eq!(durable(&bench.ack(0, 1, 0)).len(), 1);
    let session = SessionId::new(1);
    assert_eq!(bench.event(Event::SessionOver { session: SessionId::new(77) }), [], "not this one's");
    let actions = bench.event(Event::SessionOver { session });
    assert_eq!(rolls(&actions), [(id(1), RollReason::Fenced)], "the spare, which has no row");
    assert_eq!(avoided(&actions), Some(vec![]), "its holders did nothing wrong");
    // The slab with a row waits for the copy that is still under way; then it says how far its locators reach.
    let actions = bench.ack(0, 2, 0);
    let said = actions.iter().find_map(|action| match action {
        Action::Roll { slab, given_out, .. } if *slab == id(0) => Some(given_out.get()),
        _ => None,
    });
    assert_eq!(said, Some(1));
}

#[test]
fn a_stopped_holder_that_lacks_a_forgotten_row_does_not_count_for_later_ones() {
    let mut bench = Bench::opened(&[1, 2, 3]);
    bench.needle(10);
    bench.needle(10);
    bench.fail(0, 0, true);
    bench.ack(0, 1, 0);
    assert_eq!(durable(&bench.ack(0, 2, 0)).len(), 1, "row 0 is whole but for copy 0, and forgotten");
    bench.ack(0, 0, 1);
    assert_eq!(durable(&bench.ack(0, 1, 1)), [], "copy 0 holds row 1, but no prefix up to it");
    assert_eq!(durable(&bench.ack(0, 2, 1)).len(), 1);
}

#[test]
fn a_full_slab_is_rolled_at_its_last_block() {
    let mut bench = Bench::opened(&[1, 2]);
    let rows = config().slab_len_bytes_max / BLOCK_LEN_BYTES;
    for row in 0..rows {
        assert_eq!(sends(&bench.needle(BLOCK)), [(id(0), row, BLOCK, row)]);
        bench.ack(0, 0, row);
        bench.ack(0, 1, row);
    }
    let actions = bench.needle(1);
    assert_eq!(rolls(&actions), [(id(0), RollReason::Full)]);
    assert_eq!(sends(&actions), [(id(1), 0, BLOCK, 0)]);
    assert!(avoided(&actions).is_some());
}

#[test]
fn slabs_with_copies_on_drives_that_leave_are_rolled_and_others_not() {
    let mut bench = Bench::opened(&[1, 2]);
    bench.needle(10);
    bench.ack(0, 0, 0);
    bench.ack(0, 1, 0);
    let drives = |slab: u64| {
        let (record, _) = opened(slab, &[1, 2]);
        std::sync::Arc::new([record.holders[1].drive].into())
    };
    let other = std::sync::Arc::new([strongroom_types::DriveId::new(0xffff)].into());
    assert_eq!(bench.event(Event::DrivesLeave { drives: other }), []);
    let actions = bench.event(Event::DrivesLeave { drives: drives(0) });
    let mut rolled = rolls(&actions);
    rolled.sort_unstable_by_key(|(slab, _)| *slab);
    // Whether the spare has a copy there too, the drives of the model say.
    let shared = opened(1, &[1, 2]).0.holders[1].drive == opened(0, &[1, 2]).0.holders[1].drive;
    let expected: Vec<_> = (0..=u64::from(shared)).map(|slab| (id(slab), RollReason::DriveLeaves)).collect();
    assert_eq!(rolled, expected);
    assert!(avoided(&actions).is_some(), "another is asked for, and no node is avoided for it");
}

#[test]
fn age_and_command_roll_slabs_with_content_only() {
    let mut bench = Bench::opened(&[1, 2]);
    assert_eq!(bench.wait(config().slab_age_max * 2), []);
    assert_eq!(bench.event(Event::SealAll), []);
    bench.needle(10);
    bench.ack(0, 0, 0);
    bench.ack(0, 1, 0);
    assert_eq!(bench.wait(config().slab_age_max - MILLI), []);
    assert_eq!(rolls(&bench.wait(MILLI)), [(id(0), RollReason::Aged)]);
    bench.needle(10);
    assert_eq!(rolls(&bench.event(Event::SealAll)), [], "the row in flight is waited for");
    bench.ack(1, 0, 0);
    let actions = bench.ack(1, 1, 0);
    assert_eq!((durable(&actions).len(), rolls(&actions)), (1, vec![(id(1), RollReason::Commanded)]));
}

#[test]
fn the_queue_is_bounded_and_hands_the_needle_back() {
    let mut bench = Bench::new(config());
    bench.event(Event::Tick);
    for _ in 0..config().waiting_len_bytes_max / BLOCK as u64 {
        assert_eq!(bench.needle(BLOCK), []);
    }
    let [Action::Busy(needle)] = &bench.needle(1)[..] else { panic!("one byte too many") };
    assert_eq!((needle.ticket.get(), needle.bytes.len()), (12, 1));
}

#[test]
fn needles_that_fit_into_no_row_fail_at_once() {
    let mut bench = Bench::opened(&[1, 2]);
    let row_len_bytes = config().row_len_bytes_max as usize;
    for len_bytes in [0, row_len_bytes + 1] {
        let actions = bench.needle(len_bytes);
        assert!(matches!(
            actions[..],
            [Action::Failed { reason: WriteFailure::Length { len_bytes: found }, .. }] if found == len_bytes
        ));
    }
    assert_eq!(sends(&bench.needle(row_len_bytes)), [(id(0), 0, row_len_bytes, 0)]);
}

#[test]
fn without_a_slab_needles_wait_and_then_fail() {
    let mut bench = Bench::new(config());
    assert_eq!(avoided(&bench.needle(10)), Some(vec![]));
    assert_eq!(bench.event(Event::OpenFailed), []);
    assert_eq!(bench.writer.next_wakeup(), Some(Instant::ORIGIN.after(OPEN_PAUSE_MIN)));
    assert!(avoided(&bench.wait(OPEN_PAUSE_MIN)).is_some());
    assert_eq!(bench.event(Event::OpenFailed), []);
    assert_eq!(bench.wait(OPEN_PAUSE_MIN), [], "the second pause is longer");
    assert!(avoided(&bench.wait(OPEN_PAUSE_MIN)).is_some());
    let actions = bench.wait(NEEDLE_WAIT_MAX);
    assert!(matches!(actions[..], [Action::Failed { reason: WriteFailure::NoSlab, .. }]));
    assert_eq!(bench.writer.waiting_len_bytes(), 0);
}

#[test]
fn a_slab_that_could_acknowledge_nothing_is_sealed_unused() {
    let mut bench = Bench::new(config());
    bench.event(Event::Tick);
    assert_eq!(rolls(&bench.open(0, &[1, 1])), [(id(0), RollReason::Unfit)]);
    bench.wait(OPEN_PAUSE_MIN);
    let (record, spread) = opened(1, &[1, 2]);
    let record = Box::new(SlabRecord { state: SlabState::Sealing, ..record });
    assert_eq!(
        rolls(&bench.event(Event::Opened { record, spread: Box::new(spread) })),
        [(id(1), RollReason::Unfit)]
    );
    bench.wait(Duration::from_secs(1));
    assert_eq!(rolls(&bench.open(2, &[1, 2])), []);
}

#[test]
fn a_lagging_holder_holds_the_writer_up_at_the_bound_only() {
    let slab_len_bytes_max = 200 * BLOCK_LEN_BYTES;
    let mut bench = Bench::opened_with(WriterConfig { slab_len_bytes_max, ..config() }, &[1, 2, 3]);
    for row in 0..ROWS_TRACKED_MAX as u32 {
        assert_eq!(sends(&bench.needle(10)).len(), 1, "row {row}");
        bench.ack(0, 0, row);
        assert_eq!(durable(&bench.ack(0, 1, row)).len(), 1);
    }
    assert_eq!(bench.needle(10), [], "the third copy is a whole window behind");
    assert_eq!(
        sends(&bench.ack(0, 2, 0)),
        [(id(0), ROWS_TRACKED_MAX as u32, BLOCK, ROWS_TRACKED_MAX as u32)]
    );
}

#[test]
fn avoided_nodes_are_forgotten_after_a_while() {
    let mut bench = Bench::opened(&[1, 2, 3]);
    bench.needle(10);
    bench.ack(0, 1, 0);
    bench.ack(0, 2, 0);
    let actions = bench.fail(0, 0, false);
    assert_eq!(avoided(&actions), Some(vec![10]));
    assert_eq!(bench.open(2, &[2, 3]).len(), 1, "open again, and a spare is asked for");
    bench.wait(Duration::from_secs(6));
    bench.open(3, &[2, 3]);
    bench.needle(10);
    bench.ack(2, 0, 0);
    bench.ack(2, 1, 0);
    assert_eq!(avoided(&bench.event(Event::SealAll)), Some(vec![]));
    assert!(!bench.writer.patience().is_zero() && NodeId::new(10).get() == 10);
}
