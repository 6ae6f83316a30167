//! What callers hear of a device that errs, fills up, is erased, or comes back as it was before; and that nothing is lost by it.

use super::support::{BLOCK, Maker, World, Writer, address, read, run};
use crate::drive::OpenError;
use crate::drive::read::truncate_at_bad;
use crate::drive::standing::Standing;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use strongroom_format::superblock::SuperblockError;
use strongroom_format::wire::message::{Free, Refusal};
use strongroom_io::memory::{Fault, FaultPlan, Intent, Kind, NoFaults};
use strongroom_io::{AlignedBuffer, Class, Device, Operation};
use strongroom_types::{Epoch, RowSequence};

fn plan(world: &World, fault: impl Fn(&Intent) -> Fault + Send + Sync + 'static) {
    world.media.set_plan(Arc::new(fault));
}

fn mend(world: &World) {
    world.media.set_plan(Arc::new(NoFaults));
}

fn all(kind: Kind, fault: Fault) -> impl Fn(&Intent) -> Fault {
    move |intent| if intent.kind == kind { fault } else { Fault::None }
}

async fn after_power_cut(world: World, seed: u64) -> World {
    mend(&world);
    world.media.power_cut(seed);
    world.restart().await
}

#[test]
fn a_fence_on_a_fragment_whose_making_failed_is_there_after_a_restart() {
    run(async {
        for (kind, with_row) in
            [(Kind::Write, true), (Kind::Write, false), (Kind::Flush, true), (Kind::Flush, false)]
        {
            for seed in 0..8 {
                let world = World::new(4).await;
                let mut writer = Writer::new(1);
                plan(&world, all(kind, Fault::Error));
                let failed = if with_row {
                    writer.append(&world.drive, 1).await
                } else {
                    writer.seal(&world.drive, 2).await.map(|_| ())
                };
                assert_eq!(failed, Err(Refusal::DriveError));
                mend(&world);
                assert_eq!(writer.seal(&world.drive, 3).await.unwrap().rows, 0);
                let world = after_power_cut(world, seed).await;
                let refused = writer.append(&world.drive, 1).await;
                assert_eq!(refused, Err(Refusal::Fenced { epoch: Epoch::new(3) }), "{kind:?}");
                world.check_space();
                world.free_all().await;
            }
        }
    });
}

#[test]
fn a_cold_fragment_with_a_failed_piece_has_no_end_even_if_that_was_asked_for_at_once() {
    run(async {
        let world = World::new(4).await;
        let maker = Maker::new(1, 8);
        maker.piece(&world.drive, 0, 2 * BLOCK).await.unwrap();
        let bad = world.place(&maker.address, 2 * u64::from(BLOCK));
        plan(&world, move |intent| if intent.offset_bytes == bad { Fault::Error } else { Fault::None });
        let answers =
            futures::join!(maker.piece(&world.drive, 2 * BLOCK, 2 * BLOCK), maker.finish(&world.drive));
        assert_eq!(answers, (Err(Refusal::DriveError), Err(Refusal::DriveError)));
        let world = after_power_cut(world, 1).await;
        assert!(world.report_of(&maker.address).is_none_or(|report| !report.sealed));
    });
}

#[test]
fn a_short_transfer_is_tried_again_to_read_and_fails_its_fragment_to_write() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[5]).await;
        let short = Fault::Short { done_blocks: 1 };
        let count = AtomicU64::new(0);
        plan(&world, move |intent| {
            let first = intent.kind == Kind::Read && count.fetch_add(1, Ordering::Relaxed) == 0;
            if first { short } else { Fault::None }
        });
        writer.check(&world.drive).await;
        plan(&world, all(Kind::Read, short));
        assert_eq!(read(&world.drive, &writer.address, 0, 1).await, Err(Refusal::DriveError));
        plan(&world, all(Kind::Write, short));
        assert_eq!(writer.append(&world.drive, 3).await, Err(Refusal::DriveError));
        mend(&world);
        assert_eq!(writer.append(&world.drive, 3).await, Err(Refusal::DriveError), "never in place");
        assert!(!world.drive.drive_state().writable && world.drive.damage().suspect);
        assert_eq!(writer.seal(&world.drive, 2).await.unwrap().rows, 1);
        let world = after_power_cut(world, 3).await;
        writer.check(&world.drive).await;
        let report = writer.seal(&world.drive, 3).await.unwrap();
        assert!(report.bad_rows.iter().all(|row| row.get() >= 1), "the torn row was never acknowledged");
    });
}

#[test]
fn one_failed_transfer_at_start_takes_no_extent_away() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[5, 70]).await;
        writer.seal(&world.drive, 2).await.unwrap();
        let World { media, .. } = world;
        media.disconnect(1);
        // Each place fails the first time it is read.
        let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
        media.set_plan(Arc::new(move |intent: &Intent| {
            let first = intent.kind == Kind::Read && seen.lock().unwrap().insert(intent.offset_bytes);
            if first { Fault::Error } else { Fault::None }
        }));
        let world = World::open(media).await.unwrap();
        assert_eq!(world.drive.damage().extents_unknown, 0);
        assert_eq!(writer.append(&world.drive, 1).await, Err(Refusal::Fenced { epoch: Epoch::new(2) }));
        assert_eq!(writer.seal(&world.drive, 3).await.unwrap().rows, 2);
        writer.check(&world.drive).await;
    });
}

#[test]
fn rows_of_a_failed_flush_are_refused_for_good_and_those_before_it_are_kept() {
    run(async {
        for seed in 0..16 {
            let world = World::new(8).await;
            let (mut writer, mut other) = (Writer::new(1), Writer::new(2));
            writer.rows(&world.drive, &[2, 2]).await;
            other.rows(&world.drive, &[1]).await;
            plan(&world, all(Kind::Flush, Fault::Error));
            assert_eq!(writer.append(&world.drive, 2).await, Err(Refusal::DriveError));
            mend(&world);
            // A flush that works now says nothing about what the failed one left behind.
            assert_eq!(other.append(&world.drive, 1).await, Ok(()));
            assert_eq!(writer.append(&world.drive, 2).await, Err(Refusal::DriveError));
            assert_eq!(Writer::new(3).append(&world.drive, 1).await, Err(Refusal::DriveError));
            assert_eq!(writer.seal(&world.drive, 2).await.unwrap().rows, 2);
            let world = after_power_cut(world, seed).await;
            writer.check(&world.drive).await;
            other.check(&world.drive).await;
            let report = writer.seal(&world.drive, 3).await.unwrap();
            assert!(report.rows >= 2 && report.bad_rows.iter().all(|row| row.get() >= 2));
        }
    });
}

#[test]
fn a_drive_at_95_percent_takes_no_new_fragment_grows_and_keeps_extents_for_fences() {
    run(async {
        let world = World::new(200).await;
        let mut writers: Vec<_> = (1..).map(Writer::new).take(200).collect();
        let mut taken = 0;
        while writers[taken].append(&world.drive, 1).await.is_ok() {
            taken += 1;
        }
        // With ten free, a twentieth, the next is taken; with nine it is not.
        assert_eq!((taken, world.drive.drive_state().extents_free), (191, 9));
        assert_eq!(writers[taken].append(&world.drive, 1).await, Err(Refusal::Full));
        assert_eq!(Maker::new(900, 4).piece(&world.drive, 0, BLOCK).await, Err(Refusal::Full));
        for _ in 0..7 {
            assert_eq!(writers[0].append(&world.drive, 62).await, Ok(()), "what is here grows");
        }
        assert_eq!(writers[0].append(&world.drive, 62).await, Err(Refusal::Full));
        for slab in [901, 902] {
            assert_eq!(Writer::new(slab).seal(&world.drive, 2).await.map(|report| report.rows), Ok(0));
        }
        assert_eq!(Writer::new(903).seal(&world.drive, 2).await, Err(Refusal::Full));
        assert_eq!(
            writers[0].seal(&world.drive, 2).await.unwrap().rows,
            8,
            "a fence of what is here takes nothing"
        );
        writers[0].check(&world.drive).await;
        for writer in &writers[1..11] {
            world.drive.free(Free { address: writer.address }).await.unwrap();
        }
        assert_eq!(writers[taken].append(&world.drive, 1).await, Ok(()), "space came back");
        world.check_space();
    });
}

#[test]
fn a_drive_that_was_erased_in_use_vouches_for_nothing_and_is_not_opened_again() {
    run(async {
        // Found out by a read, or by a fence, which reads nothing of what this run wrote.
        for by_read in [true, false] {
            let world = World::new(8).await;
            let mut writer = Writer::new(1);
            writer.rows(&world.drive, &[5]).await;
            world.media.erase();
            if by_read {
                assert_eq!(read(&world.drive, &writer.address, 0, 1).await, Err(Refusal::DriveError));
            } else {
                assert_eq!(writer.seal(&world.drive, 2).await, Err(Refusal::DriveError));
            }
            assert_eq!(world.drive.standing(), Standing::Replaced);
            assert!(!world.drive.drive_state().writable);
            assert_eq!(
                read(&world.drive, &address(7, 0, 1), 0, 1).await,
                Err(Refusal::DriveError),
                "not: absent"
            );
            assert_eq!(Writer::new(2).append(&world.drive, 1).await, Err(Refusal::DriveError));
            assert_eq!(Writer::new(2).seal(&world.drive, 2).await, Err(Refusal::DriveError));
            world.drive.admit();
            assert_eq!(world.drive.standing(), Standing::Replaced, "nobody can take that back");
            let World { media, .. } = world;
            media.disconnect(1);
            let found = World::open(media).await.err();
            assert!(matches!(found, Some(OpenError::Superblock(SuperblockError::Blank)) | None), "{found:?}");
        }
    });
}

#[test]
fn rot_alone_does_not_make_another_drive_of_it() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[5]).await;
        world.media.rot(world.place(&writer.address, u64::from(BLOCK)), 1);
        for copy in [0, 1 << 19] {
            world.media.rot(copy + 30, 1);
        }
        assert_eq!(
            read(&world.drive, &writer.address, 0, 1).await,
            Err(Refusal::Corrupt { offset_bytes: 0 })
        );
        assert_eq!(world.drive.check_identity().await, Standing::Admitted);
        plan(&world, all(Kind::Read, Fault::Error));
        assert_eq!(
            world.drive.check_identity().await,
            Standing::Admitted,
            "what cannot be read says nothing"
        );
    });
}

#[test]
fn an_old_image_is_told_by_its_incarnation_and_then_neither_fences_nor_lacks_anything() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[5, 1]).await;
        let image = world.media.image();
        writer.rows(&world.drive, &[1]).await;
        let seen = world.drive.incarnation();
        let world = world.restart().await;
        assert!(world.drive.incarnation() > seen, "the drive as it was is admitted");
        let seen = world.drive.incarnation();
        Writer::new(2).rows(&world.drive, &[1]).await;

        let World { media, .. } = world;
        media.disconnect(1);
        media.restore(&image);
        let world = World::open(media).await.unwrap();
        assert!(world.drive.incarnation() <= seen, "it comes back from before");
        world.drive.await_admission();
        assert_eq!(writer.seal(&world.drive, 2).await, Err(Refusal::Busy));
        assert_eq!(
            read(&world.drive, &Writer::new(2).address, 0, 1).await,
            Err(Refusal::Busy),
            "not: absent"
        );
        assert!(!world.drive.drive_state().writable);
        let mut kept = writer.clone();
        kept.ends.truncate(2);
        kept.check(&world.drive).await;

        world.drive.refuse_as_stale();
        assert_eq!(
            writer.seal(&world.drive, 2).await,
            Err(Refusal::DriveError),
            "it has fewer rows than it acknowledged"
        );
        assert_eq!(read(&world.drive, &Writer::new(2).address, 0, 1).await, Err(Refusal::DriveError));
        assert_eq!(Writer::new(3).append(&world.drive, 1).await, Err(Refusal::DriveError));
        kept.check(&world.drive).await;
        assert_eq!(world.drive.free(Free { address: writer.address }).await, Ok(()));
    });
}

#[test]
fn a_drive_that_is_admitted_late_answers_from_then_on() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[5]).await;
        world.drive.await_admission();
        assert_eq!(writer.seal(&world.drive, 2).await, Err(Refusal::Busy));
        writer.rows(&world.drive, &[1]).await;
        world.drive.admit();
        assert_eq!(writer.seal(&world.drive, 2).await.unwrap().rows, 2);
        assert!(world.drive.drive_state().writable);
    });
}

#[test]
fn an_incarnation_raised_in_between_tells_younger_images_too_and_harms_nothing() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[5]).await;
        let image = world.media.image();
        let before = world.drive.incarnation();
        assert_eq!(world.drive.raise_incarnation().await, Ok(before + 1));
        assert_eq!(world.drive.check_identity().await, Standing::Admitted);
        plan(&world, all(Kind::Write, Fault::Error));
        assert_eq!(world.drive.raise_incarnation().await, Err(Refusal::DriveError));
        mend(&world);
        assert_eq!((world.drive.incarnation(), world.drive.damage().suspect), (before + 1, true));
        assert_eq!(world.drive.check_identity().await, Standing::Admitted);
        writer.check(&world.drive).await;
        // Under its feet, this time.
        world.media.restore(&image);
        assert_eq!(world.drive.check_identity().await, Standing::Replaced);
    });
}

#[test]
fn a_drive_whose_superblock_cannot_be_written_is_opened_to_be_read() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[5]).await;
        let incarnation = world.drive.incarnation();
        for kind in [Kind::Write, Kind::Flush] {
            let media = world.media.clone();
            media.disconnect(1);
            media.set_plan(Arc::new(all(kind, Fault::Error)));
            let world = World::open(media).await.unwrap();
            assert_eq!(world.drive.incarnation(), incarnation, "so the cluster will not admit it");
            assert!(!world.drive.drive_state().writable);
            writer.check(&world.drive).await;
            assert_eq!(Writer::new(2).append(&world.drive, 1).await, Err(Refusal::DriveError));
            mend(&world);
            assert_eq!(
                world.drive.check_identity().await,
                Standing::Admitted,
                "{kind:?}: it is still this drive"
            );
            assert_eq!(writer.seal(&world.drive, 2).await.unwrap().rows, 1);
        }
    });
}

/// Reads for the scrubber never end, other reads take a moment.
struct Stuck;

impl FaultPlan for Stuck {
    fn fault(&self, _: &Intent) -> Fault {
        Fault::None
    }

    fn before(&self, intent: &Intent) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        match (intent.kind, intent.class) {
            (Kind::Read, Class::Scrub) => Some(Box::pin(std::future::pending())),
            (Kind::Read, _) => Some(Box::pin(tokio::task::yield_now())),
            _ => None,
        }
    }
}

#[test]
fn a_row_that_could_not_be_looked_at_for_want_of_places_is_not_called_bad() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[1; 20]).await;
        let world = world.restart().await;
        world.media.set_plan(Arc::new(Stuck));
        let device = world.drive.shared.device.clone();
        let in_flight: Vec<_> = (1..strongroom_io::limits::OPERATIONS_PER_DEVICE_MAX)
            .map(|_| {
                let buffer = AlignedBuffer::zeroed(BLOCK as usize);
                device.submit(Operation::Read { offset_bytes: 0, buffer }, Class::Scrub)
            })
            .collect();
        assert_eq!(writer.seal(&world.drive, 2).await, Err(Refusal::Busy));
        drop(in_flight);
        assert_eq!(writer.seal(&world.drive, 2).await.unwrap().bad_rows, []);
    });
}

#[test]
fn the_mutant_takes_a_bad_row_for_the_end() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[1, 2, 3]).await;
        world.media.rot(world.place(&writer.address, 3 * u64::from(BLOCK)), 1);
        let world = world.restart().await;
        let report = writer.seal(&world.drive, 2).await.unwrap();
        assert_eq!((report.rows, &report.bad_rows[..]), (3, &[RowSequence::new(1)][..]));
        let mut cut = report.clone();
        truncate_at_bad(&mut cut);
        assert_eq!((cut.rows, cut.row_ends_blocks, cut.bad_rows), (1, vec![1], vec![]));
        assert_eq!(cut.committed_upto, RowSequence::new(1));
    });
}
