//! The extents behind an agreed length: given back once the mark is durable, never before, and nothing else with them.

use super::support::{BLOCK, EXTENT, EXTENTS_AT, World, Writer, bytes_of, check_agreed, copies, read, run};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use strongroom_format::extent;
use strongroom_format::wire::message::{Refusal, Seal, SealReport};
use strongroom_io::memory::{Fault, FaultPlan, Intent, Kind, NoFaults};
use strongroom_types::Epoch;

const EXTENTS: u64 = 10;
/// Blocks of rows and their headers that the first extent has room for, and each later one.
const FIRST_BLOCKS: u32 = 61;
const OTHER_BLOCKS: u32 = 63;
/// One row of one block, and rows that take two extents more.
const ROWS: [u32; 4] = [1, 70, 100, 1];
/// Extents of these rows, and those behind the first row.
const TAKEN: u32 = 3;
const CUT: u32 = TAKEN - 1;

/// A slab of [`ROWS`], fenced at 2.
async fn fenced() -> (World, Writer, SealReport) {
    let world = World::new(EXTENTS).await;
    let mut writer = Writer::new(1);
    for blocks in ROWS {
        let (append, payload) = writer.row(blocks, 0);
        world.drive.append(append, payload).await.unwrap();
    }
    let report = writer.seal(&world.drive, 2).await.unwrap();
    assert_eq!(world.report_of(&writer.address).unwrap().extents, TAKEN);
    (world, writer, report)
}

fn free(world: &World) -> u32 {
    world.check_space();
    world.drive.drive_state().extents_free
}

/// Settles at the first row, twice: the lane has done all of the first by the time it takes the second.
async fn settle_at_one(world: &World, writer: &Writer, report: &SealReport) {
    for _ in 0..2 {
        world.drive.settle(writer.settle_at(2, 1, report)).await.unwrap();
    }
}

fn plan(world: &World, plan: impl Fn(&Intent) -> Fault + Send + Sync + 'static) {
    world.media.set_plan(Arc::new(plan));
}

fn mend(world: &World) {
    world.media.set_plan(Arc::new(NoFaults));
}

/// Writes of headers of the extents from `ordinal` on fail.
fn fail_headers(world: &World, writer: &Writer, ordinal: usize) {
    let headers: Vec<u64> =
        (ordinal..TAKEN as usize).map(|ordinal| world.extent_at(&writer.address, ordinal)).collect();
    plan(world, move |intent| {
        let hit = intent.kind == Kind::Write && headers.contains(&intent.offset_bytes);
        if hit { Fault::Error } else { Fault::None }
    });
}

#[test]
fn space_comes_back_to_the_block_and_others_use_it() {
    run(async {
        // A row that fills an extent to its end, and one that takes a block of the next.
        for (blocks, extents) in
            [(FIRST_BLOCKS - 1, 1), (FIRST_BLOCKS, 2), (FIRST_BLOCKS + OTHER_BLOCKS - 1, 2)]
        {
            let world = World::new(EXTENTS).await;
            let mut writer = Writer::new(1);
            for blocks in [blocks, 1, OTHER_BLOCKS] {
                let (append, payload) = writer.row(blocks, 0);
                world.drive.append(append, payload).await.unwrap();
            }
            let report = writer.seal(&world.drive, 2).await.unwrap();
            settle_at_one(&world, &writer, &report).await;
            writer.ends.truncate(1);
            assert_eq!(u64::from(free(&world) + extents), EXTENTS);
            assert_eq!(world.report_of(&writer.address).unwrap().extents, extents);
            let beyond = Refusal::Beyond { len_bytes: blocks * BLOCK };
            assert_eq!(read(&world.drive, &writer.address, blocks * BLOCK, 1).await, Err(beyond));

            let mut other = Writer::new(2);
            other.rows(&world.drive, &[300]).await;
            let world = world.restart().await;
            writer.check(&world.drive).await;
            other.check(&world.drive).await;
            assert_eq!(writer.seal(&world.drive, 3).await.unwrap().bad_rows, []);
            check_agreed(&world.drive);
            world.free_all().await;
        }
    });
}

#[test]
fn a_mark_that_failed_leaves_every_extent_and_its_header() {
    run(async {
        for kind in [Kind::Write, Kind::Flush] {
            let (world, writer, report) = fenced().await;
            let before = free(&world);
            // The mark's own, and none after it.
            let failed = AtomicBool::new(false);
            plan(&world, move |intent| {
                let first = intent.kind == kind && !failed.swap(true, Ordering::Relaxed);
                if first { Fault::Error } else { Fault::None }
            });
            assert_eq!(world.drive.settle(writer.settle_at(2, 1, &report)).await, Err(Refusal::DriveError));
            mend(&world);
            assert_eq!(world.drive.settle(writer.settle_at(2, 1, &report)).await, Err(Refusal::DriveError));
            assert_eq!(free(&world), before);
            for ordinal in 0..TAKEN as usize {
                let at = world.extent_at(&writer.address, ordinal);
                let block = world.media.peek(at, BLOCK as usize);
                let index =
                    world.state().fragment(&writer.address).unwrap().extents.get(ordinal as u32).unwrap();
                let found = extent::decode(&block, world.drive.id(), index);
                assert!(matches!(found, Ok(extent::ExtentState::Used(_))), "{found:?}");
            }
            // A later fence carries the agreed length, and with its mark durable the extents go.
            writer.seal(&world.drive, 3).await.unwrap();
            for _ in 0..2 {
                world.drive.settle(writer.settle_at(3, 1, &report)).await.unwrap();
            }
            assert_eq!(free(&world), before + CUT);
        }
    });
}

#[test]
fn extents_whose_headers_could_not_be_overwritten_stay_in_use_until_they_are() {
    run(async {
        for ordinal in 1..TAKEN as usize {
            let (world, writer, report) = fenced().await;
            let before = free(&world);
            fail_headers(&world, &writer, ordinal);
            settle_at_one(&world, &writer, &report).await;
            assert_eq!((free(&world), world.drive.damage().suspect), (before, true));
            assert_eq!(world.drive.damage().extents_unknown, 0, "it is known whose they are");
            mend(&world);
            settle_at_one(&world, &writer, &report).await;
            assert_eq!(free(&world), before + CUT);
            world.free_all().await;
        }
    });
}

#[test]
fn a_start_ends_a_cut_that_was_cut_short_whatever_else_is_unknown() {
    run(async {
        // With the first of them freed, what is behind it has a gap before it.
        for (ordinal, rot) in [(1, false), (2, false), (1, true), (2, true)] {
            let (world, mut writer, report) = fenced().await;
            let mut other = Writer::new(2);
            other.rows(&world.drive, &[1]).await;
            let before = free(&world);
            fail_headers(&world, &writer, ordinal);
            settle_at_one(&world, &writer, &report).await;
            if rot {
                world.media.rot(world.extent_at(&other.address, 0) + 20, 1);
            }
            let world = world.restart().await;
            assert_eq!((free(&world), world.drive.damage().suspect), (before + CUT, false));
            assert_eq!(world.drive.damage().extents_unknown, u32::from(rot));
            assert_eq!(world.drive.damage().fragments_unreadable, 0);
            check_agreed(&world.drive);
            writer.ends.truncate(1);
            writer.check(&world.drive).await;
            let beyond = Refusal::Beyond { len_bytes: BLOCK };
            assert_eq!(read(&world.drive, &writer.address, BLOCK, 1).await, Err(beyond));
            assert_eq!(writer.seal(&world.drive, 3).await.unwrap().row_ends_blocks, writer.ends);
        }
    });
}

#[test]
fn a_start_that_cannot_write_leaves_what_is_behind_the_end_in_use() {
    run(async {
        let (world, mut writer, report) = fenced().await;
        let before = free(&world);
        fail_headers(&world, &writer, 1);
        settle_at_one(&world, &writer, &report).await;
        writer.ends.truncate(1);
        // Superblocks that cannot be written, then headers that cannot.
        for failing in [0..u64::MAX, EXTENTS_AT..EXTENTS_AT + EXTENTS * EXTENT] {
            let media = world.media.clone();
            media.disconnect(1);
            media.set_plan(Arc::new(move |intent: &Intent| {
                let hit = intent.kind == Kind::Write && failing.contains(&intent.offset_bytes);
                if hit { Fault::Error } else { Fault::None }
            }));
            let world = World::open(media).await.unwrap();
            assert_eq!((free(&world), world.drive.damage().suspect), (before, true));
            assert_eq!(world.drive.damage().extents_unknown, 0);
            writer.check(&world.drive).await;
        }
        let world = world.restart().await;
        assert_eq!(free(&world), before + CUT);
    });
}

#[test]
fn a_length_that_is_not_known_to_end_here_frees_nothing() {
    run(async {
        // The mark that says so is rotten, or the header of the last row that it counts and the one that would tell how long that was.
        for (rows, rotten) in [(1, &[(0, 2)][..]), (2, &[(0, 5), (1, 13)])] {
            let (world, writer, report) = fenced().await;
            fail_headers(&world, &writer, 1);
            for _ in 0..2 {
                world.drive.settle(writer.settle_at(2, rows, &report)).await.unwrap();
            }
            for (ordinal, block) in rotten {
                let at = world.extent_at(&writer.address, *ordinal) + block * u64::from(BLOCK);
                world.media.rot(at + 41, 0x33);
            }
            let before = free(&world);
            let world = world.restart().await;
            assert_eq!((free(&world), world.report_of(&writer.address).unwrap().extents), (before, TAKEN));
            if rows == 2 {
                let settle = writer.settle_at(2, rows, &report);
                for _ in 0..2 {
                    assert_eq!(world.drive.settle(settle).await, Ok(()));
                }
                assert_eq!(free(&world), before, "asked again it knows no better");
            }
        }
    });
}

#[test]
fn with_the_only_mark_that_says_the_length_rotten_the_cut_is_damage_and_no_absence() {
    run(async {
        let (world, writer, report) = fenced().await;
        settle_at_one(&world, &writer, &report).await;
        world.media.rot(world.extent_at(&writer.address, 0) + 2 * u64::from(BLOCK) + 41, 0x33);
        let world = world.restart().await;
        assert_eq!(world.drive.damage().fragments_unreadable, 1);
        assert_eq!(writer.seal(&world.drive, 3).await, Err(Refusal::DriveError));
        let first = read(&world.drive, &writer.address, 0, BLOCK).await;
        assert_eq!(first, Ok(bytes_of(&writer.address, 0, BLOCK)));
        let last = writer.end_bytes() - 1;
        assert_eq!(read(&world.drive, &writer.address, last, 1).await, Err(Refusal::DriveError));
    });
}

/// Reads of a place wait for a word; before that, so many of them fail.
struct Gate {
    place: Range<u64>,
    failing: u64,
    reads: AtomicU64,
    open: Arc<AtomicBool>,
}

impl Gate {
    fn concerns(&self, intent: &Intent) -> bool {
        intent.kind == Kind::Read && self.place.contains(&intent.offset_bytes)
    }
}

impl FaultPlan for Gate {
    fn fault(&self, intent: &Intent) -> Fault {
        let fails = self.concerns(intent) && self.reads.fetch_add(1, Ordering::Relaxed) < self.failing;
        if fails { Fault::Error } else { Fault::None }
    }

    fn before(&self, intent: &Intent) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        // Asked after `fault`.
        let waits = self.concerns(intent) && self.reads.load(Ordering::Relaxed) > self.failing;
        let open = self.open.clone();
        let wait = move |context: &mut std::task::Context<'_>| {
            if open.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        };
        waits.then(|| Box::pin(std::future::poll_fn(wait)) as Pin<Box<dyn Future<Output = ()> + Send>>)
    }
}

/// Cuts the slab while `reading` waits at the gate, lets another slab take the extents, then opens the gate.
async fn cut_while<T>(
    world: &World,
    writer: &Writer,
    report: &SealReport,
    reading: impl Future<Output = T>,
    failing: u64,
) -> T {
    let open = Arc::new(AtomicBool::new(false));
    let from_bytes = world.extent_at(&writer.address, 1);
    let place = from_bytes..from_bytes + u64::from(CUT) * EXTENT;
    let gate = Gate { place, failing, reads: AtomicU64::new(0), open: open.clone() };
    world.media.set_plan(Arc::new(gate));
    let cutting = async {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        settle_at_one(world, writer, report).await;
        let mut other = Writer::new(2);
        let all = world.drive.drive_state().extents_free;
        other.rows(&world.drive, &[all * OTHER_BLOCKS - 10]).await;
        assert_eq!(world.drive.drive_state().extents_free, 0, "the extents are another's");
        open.store(true, Ordering::Relaxed);
    };
    let (found, ()) = futures::join!(reading, cutting);
    mend(world);
    found
}

#[test]
fn a_row_that_is_cut_while_it_is_read_is_beyond_the_end_and_not_corrupt() {
    run(async {
        for failing in [0, 1] {
            let (world, writer, report) = fenced().await;
            // The second try of a read was planned before the cut as well.
            let at = writer.ends[1] * BLOCK;
            let reading = read(&world.drive, &writer.address, at, 90 * BLOCK);
            let found = cut_while(&world, &writer, &report, reading, failing).await;
            assert_eq!(found, Err(Refusal::Beyond { len_bytes: BLOCK }), "failing {failing}");
        }
    });
}

#[test]
fn rows_that_are_cut_while_they_are_looked_at_are_not_called_bad() {
    run(async {
        let (world, writer, report) = fenced().await;
        let world = world.restart().await;
        // A fence that is asked for again looks at the rows once more.
        let seal = Seal { address: writer.address, profile: copies(), epoch: Epoch::new(2) };
        let found = cut_while(&world, &writer, &report, world.drive.seal(seal), 0).await;
        assert_eq!(found, Err(Refusal::Busy));
        let again = world.drive.seal(seal).await.unwrap();
        assert_eq!((again.rows, again.bad_rows), (1, Vec::new()));
    });
}
