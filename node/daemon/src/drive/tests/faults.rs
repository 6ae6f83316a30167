//! Devices that fail, are slow, or are full of requests.

use super::support::{BLOCK, Maker, World, Writer, address, cold, read, run};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use strongroom_format::wire::message::{Free, Refusal};
use strongroom_io::memory::{Fault, FaultPlan, Intent, Kind, NoFaults};

/// Every operation takes a moment, so that operations pile up.
struct Slow;

impl FaultPlan for Slow {
    fn fault(&self, _: &Intent) -> Fault {
        Fault::None
    }

    fn before(&self, _: &Intent) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Some(Box::pin(tokio::task::yield_now()))
    }
}

fn fail(world: &World, kind: Kind) {
    world.media.set_plan(Arc::new(
        move |intent: &Intent| {
            if intent.kind == kind { Fault::Error } else { Fault::None }
        },
    ));
}

fn mend(world: &World) {
    world.media.set_plan(Arc::new(NoFaults));
}

#[test]
fn a_free_of_more_extents_than_a_device_takes_writes_at_once_succeeds() {
    run(async {
        let world = World::new(600).await;
        let maker = Maker::new(1, 2 * 600 * 60);
        world.media.set_plan(Arc::new(Slow));
        maker.piece(&world.drive, 0, BLOCK).await.unwrap();
        assert!(world.report_of(&maker.address).unwrap().extents > 512);
        assert_eq!(world.drive.free(Free { address: maker.address }).await, Ok(()));
        assert!(world.drive.drive_state().writable);
        let world = world.restart().await;
        world.free_all().await;
    });
}

#[test]
fn a_read_over_more_rows_than_a_device_takes_reads_at_once_succeeds() {
    run(async {
        let world = World::new(20).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[1; 400]).await;
        world.media.set_plan(Arc::new(Slow));
        writer.check(&world.drive).await;
        let world = world.restart().await;
        world.media.set_plan(Arc::new(Slow));
        assert_eq!(writer.seal(&world.drive, 2).await.unwrap().bad_rows, []);
    });
}

#[test]
fn a_failed_write_closes_its_fragment_and_no_other() {
    run(async {
        let world = World::new(8).await;
        let (mut first, mut second) = (Writer::new(1), Writer::new(2));
        first.rows(&world.drive, &[2]).await;
        second.rows(&world.drive, &[2]).await;
        let bad = world.place(&first.address, 3 * u64::from(BLOCK));
        world.media.set_plan(Arc::new(move |intent: &Intent| {
            if intent.kind == Kind::Write && intent.offset_bytes == bad { Fault::Error } else { Fault::None }
        }));
        let (a, b, c) = (first.row(2, 0), second.row(2, 0), first.row(1, 0));
        let append = |(append, payload)| world.drive.append(append, payload);
        let answers = futures::join!(append(a), append(b), append(c));
        assert_eq!(answers, (Err(Refusal::DriveError), Ok(()), Err(Refusal::DriveError)));
        mend(&world);
        assert_eq!(first.append(&world.drive, 1).await, Err(Refusal::DriveError), "never in place");
        assert_eq!(second.append(&world.drive, 1).await, Ok(()));
        assert_eq!(
            Writer::new(3).append(&world.drive, 1).await,
            Err(Refusal::DriveError),
            "the drive is suspect"
        );
        assert_eq!(first.seal(&world.drive, 2).await.unwrap().rows, 1);
        first.ends.truncate(1);
        first.check(&world.drive).await;
        second.check(&world.drive).await;
        world.check_space();
    });
}

#[test]
fn pieces_that_a_failed_flush_left_behind_are_never_finished() {
    run(async {
        let world = World::new(8).await;
        let maker = Maker::new(1, 40);
        let mut writer = Writer::new(2);
        writer.rows(&world.drive, &[1]).await;
        maker.pieces(&world.drive, 10).await.unwrap();
        fail(&world, Kind::Flush);
        assert_eq!(writer.append(&world.drive, 1).await, Err(Refusal::DriveError));
        mend(&world);
        assert_eq!(maker.finish(&world.drive).await, Err(Refusal::DriveError));
        world.media.power_cut(1);
        let world = world.restart().await;
        assert!(world.report_of(&maker.address).is_none_or(|report| !report.sealed));
    });
}

#[test]
fn a_mark_that_failed_is_not_said_durable_when_asked_again() {
    run(async {
        for kind in [Kind::Write, Kind::Flush] {
            let world = World::new(8).await;
            let mut writer = Writer::new(1);
            writer.rows(&world.drive, &[1, 1, 1]).await;
            let report = writer.seal(&world.drive, 2).await.unwrap();
            fail(&world, kind);
            assert_eq!(world.drive.settle(writer.settle_at(2, 3, &report)).await, Err(Refusal::DriveError));
            mend(&world);
            assert_eq!(world.drive.settle(writer.settle_at(2, 3, &report)).await, Err(Refusal::DriveError));
            assert_eq!(writer.seal(&world.drive, 2).await, Err(Refusal::DriveError));
            // A later fence is written where the failed one was; the one that was answered stays until then.
            assert_eq!(writer.seal(&world.drive, 3).await.unwrap().rows, 3);
            assert_eq!(world.drive.settle(writer.settle_at(3, 3, &report)).await, Ok(()));
            let world = world.restart().await;
            assert_eq!(writer.seal(&world.drive, 3).await.unwrap().rows, 3);
        }
    });
}

#[test]
fn a_mark_after_a_failed_one_leaves_the_last_good_one_alone() {
    run(async {
        for slot in [1, 2] {
            let world = World::new(8).await;
            let mut writer = Writer::new(1);
            writer.rows(&world.drive, &[1]).await;
            writer.seal(&world.drive, 2).await.unwrap();
            fail(&world, Kind::Write);
            assert_eq!(writer.seal(&world.drive, 3).await, Err(Refusal::DriveError));
            mend(&world);
            writer.seal(&world.drive, 4).await.unwrap();
            world.media.rot(world.extent_at(&writer.address, 0) + slot * u64::from(BLOCK) + 40, 1);
            let world = world.restart().await;
            let refused = writer.append(&world.drive, 1).await;
            assert!(matches!(refused, Err(Refusal::Fenced { .. })), "slot {slot}: {refused:?}");
        }
    });
}

#[test]
fn a_free_that_failed_is_not_said_done_when_asked_again() {
    run(async {
        for kind in [Kind::Write, Kind::Flush] {
            let world = World::new(8).await;
            let mut writer = Writer::new(1);
            writer.rows(&world.drive, &[100]).await;
            fail(&world, kind);
            assert_eq!(world.drive.free(Free { address: writer.address }).await, Err(Refusal::DriveError));
            mend(&world);
            assert_eq!(world.drive.free(Free { address: writer.address }).await, Err(Refusal::DriveError));
            world.check_space();
            let world = world.restart().await;
            world.check_space();
            world.free_all().await;
        }
    });
}

#[test]
fn a_fragment_made_again_after_a_cut_free_does_not_meet_its_old_extents() {
    run(async {
        let world = World::new(8).await;
        // Free by then, so that the extents are taken otherwise the second time.
        let mut before = Writer::new(9);
        before.rows(&world.drive, &[1]).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[150]).await;
        world.drive.free(Free { address: before.address }).await.unwrap();
        let first = world.extent_at(&writer.address, 0);
        // The first header is overwritten, then power fails.
        let media = Arc::downgrade(&world.media);
        world.media.set_plan(Arc::new(move |intent: &Intent| {
            if intent.kind == Kind::Write && intent.offset_bytes != first {
                media.upgrade().unwrap().power_cut(3);
            }
            Fault::None
        }));
        assert_eq!(world.drive.free(Free { address: writer.address }).await, Err(Refusal::DriveError));
        let world = world.restart().await;
        assert_eq!((world.reports(), world.drive.drive_state().extents_free), (Vec::new(), 8));
        let mut again = Writer::new(1);
        again.rows(&world.drive, &[20, 110]).await;
        let world = world.restart().await;
        again.check(&world.drive).await;
        assert_eq!(world.report_of(&again.address).unwrap().extents, 3);
        world.free_all().await;
    });
}

#[test]
fn a_read_error_is_not_absence_now_or_at_start() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        let maker = Maker::new(2, 20);
        writer.rows(&world.drive, &[5, 70]).await;
        maker.pieces(&world.drive, 10).await.unwrap();
        maker.finish(&world.drive).await.unwrap();
        fail(&world, Kind::Read);
        for address in [writer.address, maker.address] {
            assert_eq!(read(&world.drive, &address, 0, 10).await, Err(Refusal::DriveError));
        }
        assert_eq!(read(&world.drive, &address(3, 0, 1), 0, 1).await, Err(Refusal::NotHere));

        // At start: only the superblocks can be read, or all but the row headers' extents.
        let World { media, .. } = world;
        media.disconnect(1);
        media.set_plan(Arc::new(|intent: &Intent| {
            let superblock = intent.offset_bytes < 1 << 20;
            if intent.kind == Kind::Read && !superblock { Fault::Error } else { Fault::None }
        }));
        let world = World::open(media).await.unwrap();
        mend(&world);
        world.check_space();
        assert_eq!(read(&world.drive, &writer.address, 0, 1).await, Err(Refusal::DriveError));
        assert_eq!(writer.seal(&world.drive, 2).await, Err(Refusal::DriveError));
        assert_eq!(
            Writer::new(9).append(&world.drive, 1).await,
            Err(Refusal::Full),
            "nothing is known to be free"
        );
        // The next start finds all of it.
        let world = world.restart().await;
        writer.check(&world.drive).await;
        maker.check(&world.drive).await;
    });
}

#[test]
fn a_cold_fragment_that_cannot_be_read_is_lacked_for_this_run() {
    run(async {
        let world = World::new(8).await;
        let maker = Maker::new(1, 20);
        maker.pieces(&world.drive, 10).await.unwrap();
        maker.finish(&world.drive).await.unwrap();
        let failed = AtomicBool::new(false);
        world.media.set_plan(Arc::new(move |intent: &Intent| {
            let first = intent.kind == Kind::Read && !failed.swap(true, Ordering::Relaxed);
            if first { Fault::Error } else { Fault::None }
        }));
        maker.check(&world.drive).await;
        assert!(!world.drive.lacks(&maker.address, cold()), "one transfer says nothing of the media");
        fail(&world, Kind::Read);
        assert_eq!(read(&world.drive, &maker.address, 0, 1).await, Err(Refusal::DriveError));
        mend(&world);
        assert!(world.drive.lacks(&maker.address, cold()));
        maker.check(&world.drive).await;
        let world = world.restart().await;
        assert!(!world.drive.lacks(&maker.address, cold()), "nobody has looked in this run");
    });
}

#[test]
fn one_failed_transfer_is_tried_once_more() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[5]).await;
        let failed = AtomicBool::new(false);
        world.media.set_plan(Arc::new(move |intent: &Intent| {
            let first = intent.kind == Kind::Read && !failed.swap(true, Ordering::Relaxed);
            if first { Fault::Error } else { Fault::None }
        }));
        writer.check(&world.drive).await;
    });
}

#[test]
fn a_fragment_that_is_freed_while_it_is_read_is_not_here_and_not_corrupt() {
    run(async {
        let world = World::new(4).await;
        let (mut writer, mut next) = (Writer::new(1), Writer::new(2));
        writer.rows(&world.drive, &[40, 40]).await;
        world.media.set_plan(Arc::new(Slow));
        let reading = read(&world.drive, &writer.address, 0, 80 * BLOCK);
        let freeing = async {
            world.drive.free(Free { address: writer.address }).await.unwrap();
            next.rows(&world.drive, &[60, 60, 60]).await;
        };
        let (found, ()) = futures::join!(reading, freeing);
        match found {
            Ok(bytes) => assert!(bytes == super::support::bytes_of(&writer.address, 0, 80 * BLOCK)),
            Err(refusal) => assert_eq!(refusal, Refusal::NotHere),
        }
    });
}
