//! What a drive without faults answers.

use super::support::{BLOCK, Maker, Reversed, World, Writer, address, bytes_of, copies, read, run, spec};
use std::sync::Arc;
use std::time::Duration;
use strongroom_format::wire::message::{Free, Refusal, Report};
use strongroom_types::limits::{ROW_BLOCKS_MAX, WIRE_PAYLOAD_LEN_BYTES_MAX};
use strongroom_types::{Epoch, FragmentIndex, Profile, RowSequence, SlabId};

#[test]
fn rows_read_back_whole_in_parts_and_across_rows_and_extents() {
    run(async {
        let world = World::new(40).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[1, 60, 1, 63, 64, 2, 130, 1, ROW_BLOCKS_MAX]).await;
        writer.check(&world.drive).await;
        let len = writer.end_bytes();
        for (offset, part) in [
            (0, 1),
            (4095, 2),
            (1, 4096 * 70),
            (60 * BLOCK - 3, 9000),
            (len - 1, 1),
            (len - 700_001, 700_001),
        ] {
            assert_eq!(
                read(&world.drive, &writer.address, offset, part).await,
                Ok(bytes_of(&writer.address, offset, part))
            );
        }
        // Far into a row: header and payload are read apart.
        let deep = (322 + 500) * BLOCK + 5;
        assert_eq!(
            read(&world.drive, &writer.address, deep, 10).await,
            Ok(bytes_of(&writer.address, deep, 10))
        );
        assert_eq!(
            read(&world.drive, &writer.address, len, 1).await,
            Err(Refusal::Beyond { len_bytes: len })
        );
        assert_eq!(
            read(&world.drive, &writer.address, len - 1, 2).await,
            Err(Refusal::Beyond { len_bytes: len })
        );
        let absurd = read(&world.drive, &writer.address, u32::MAX, WIRE_PAYLOAD_LEN_BYTES_MAX).await;
        assert_eq!(absurd, Err(Refusal::Beyond { len_bytes: len }));
        assert!(matches!(read(&world.drive, &writer.address, 0, 0).await, Err(Refusal::Invalid(_))));
        let most = read(&world.drive, &writer.address, 0, WIRE_PAYLOAD_LEN_BYTES_MAX).await;
        assert_eq!(most.unwrap().len(), WIRE_PAYLOAD_LEN_BYTES_MAX as usize);
        let more = read(&world.drive, &writer.address, 0, WIRE_PAYLOAD_LEN_BYTES_MAX + 1).await;
        assert!(matches!(more, Err(Refusal::Invalid(_))));
        world.check_space();
    });
}

#[test]
fn a_row_has_one_to_960_whole_blocks() {
    run(async {
        let world = World::new(40).await;
        for (len, fits) in [(0, false), (4096, true), (4097, false), (960 * 4096, true), (961 * 4096, false)]
        {
            let mut writer = Writer::new(1 + len);
            let (append, _) = writer.row(1, 0);
            let result = world.drive.append(append, vec![1; usize::try_from(len).unwrap()].into()).await;
            assert_eq!(result.is_ok(), fits, "{len}");
        }
    });
}

#[test]
fn fragments_that_the_profile_does_not_have_are_refused_and_harm_nothing() {
    run(async {
        let world = World::new(8).await;
        for (fragment, fits) in [(2, true), (3, false), (31, false), (255, false)] {
            let mut writer = Writer::new(1);
            writer.address = address(1, fragment, 1);
            assert_eq!(writer.append(&world.drive, 1).await.is_ok(), fits);
            writer.address = address(2, fragment, 1);
            assert_eq!(writer.seal(&world.drive, 2).await.is_ok(), fits);
            let mut maker = Maker::new(3, 4);
            maker.address.fragment = FragmentIndex::new(fragment);
            maker.profile = Profile::new(2, 1).unwrap();
            assert_eq!(maker.pieces(&world.drive, 1).await.is_ok(), fits);
        }
        world.check_space();
        world.free_all().await;
    });
}

#[test]
fn rows_out_of_order_twice_fenced_or_of_another_epoch_are_refused() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[1, 2]).await;
        let expected = Refusal::OutOfOrder { expected: RowSequence::new(2) };
        let (row, payload) = writer.clone().row(1, 0);
        for sequence in [0, 1, 6, u32::MAX] {
            let other =
                strongroom_format::wire::message::Append { sequence: RowSequence::new(sequence), ..row };
            assert_eq!(world.drive.append(other, payload.clone()).await, Err(expected.clone()), "{sequence}");
        }
        let later = strongroom_format::wire::message::Append { epoch: Epoch::new(2), ..row };
        assert!(matches!(world.drive.append(later, payload.clone()).await, Err(Refusal::Invalid(_))));
        let elsewhere = strongroom_format::wire::message::Append { offset_bytes: 4 * BLOCK, ..row };
        assert!(matches!(world.drive.append(elsewhere, payload.clone()).await, Err(Refusal::Invalid(_))));
        let over = strongroom_format::wire::message::Append { committed_upto: RowSequence::new(3), ..row };
        assert!(matches!(world.drive.append(over, payload.clone()).await, Err(Refusal::Invalid(_))));
        let other = strongroom_format::wire::message::Append { profile: Profile::copies(4).unwrap(), ..row };
        assert!(matches!(world.drive.append(other, payload.clone()).await, Err(Refusal::Invalid(_))));
        writer.rows(&world.drive, &[1]).await;

        let report = writer.seal(&world.drive, 2).await.unwrap();
        assert_eq!((report.rows, report.row_ends_blocks), (3, vec![1, 3, 4]));
        assert_eq!(writer.append(&world.drive, 1).await, Err(Refusal::Fenced { epoch: Epoch::new(2) }));
        assert_eq!(writer.seal(&world.drive, 1).await, Err(Refusal::Fenced { epoch: Epoch::new(2) }));
        assert!(writer.seal(&world.drive, 2).await.is_ok());
        let unknown = Writer::new(99).row(1, 0);
        let late = strongroom_format::wire::message::Append { sequence: RowSequence::new(7), ..unknown.0 };
        let first = Err(Refusal::OutOfOrder { expected: RowSequence::FIRST });
        assert_eq!(world.drive.append(late, unknown.1).await, first);
    });
}

#[test]
fn an_early_row_waits_for_the_one_it_overtook() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        let rows: Vec<_> = (0..4).map(|_| writer.row(3, 0)).collect();
        let append = |index: usize| world.drive.append(rows[index].0, rows[index].1.clone());
        let (c, b, d, a) = futures::join!(append(2), append(1), append(3), append(0));
        assert_eq!([a, b, c, d], [Ok(()), Ok(()), Ok(()), Ok(())]);
        writer.check(&world.drive).await;
    });
}

#[test]
fn an_early_row_whose_predecessor_never_comes_is_sent_away() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        let rows: Vec<_> = (0..3).map(|_| writer.row(1, 0)).collect();
        let early = world.drive.append(rows[2].0, rows[2].1.clone());
        let pass = async {
            tokio::task::yield_now().await;
            world.drive.append(rows[0].0, rows[0].1.clone()).await.unwrap();
            world.clock.advance(Duration::from_secs(3));
        };
        let (early, ()) = futures::join!(early, pass);
        assert_eq!(early, Err(Refusal::OutOfOrder { expected: RowSequence::new(1) }));

        // A fence tells those who wait that they are fenced.
        let early = world.drive.append(rows[2].0, rows[2].1.clone());
        let (early, sealed) = futures::join!(early, writer.seal(&world.drive, 5));
        assert_eq!((early, sealed.unwrap().rows), (Err(Refusal::Fenced { epoch: Epoch::new(5) }), 1));
    });
}

#[test]
fn a_full_drive_refuses_gives_nothing_away_and_takes_more_once_something_is_freed() {
    run(async {
        let world = World::new(3).await;
        let (mut first, mut second) = (Writer::new(1), Writer::new(2));
        first.rows(&world.drive, &[50]).await;
        second.rows(&world.drive, &[70]).await;
        assert_eq!(world.drive.drive_state().extents_free, 0);
        assert_eq!(first.append(&world.drive, 20).await, Err(Refusal::Full));
        assert_eq!(Writer::new(3).append(&world.drive, 1).await, Err(Refusal::Full));
        assert_eq!(Writer::new(4).seal(&world.drive, 2).await, Err(Refusal::Full));
        assert_eq!(Maker::new(5, 4).piece(&world.drive, 0, BLOCK).await, Err(Refusal::Full));
        // What still fits goes in: 61 blocks hold 50 and 9 with their headers.
        first.rows(&world.drive, &[9]).await;
        world.check_space();
        assert_eq!(world.reports().len(), 2);
        world.drive.free(Free { address: second.address }).await.unwrap();
        first.rows(&world.drive, &[100]).await;
        first.check(&world.drive).await;
        assert_eq!(read(&world.drive, &second.address, 0, 1).await, Err(Refusal::NotHere));
        assert_eq!(world.drive.free(Free { address: second.address }).await, Ok(()));
        world.free_all().await;
    });
}

#[test]
fn a_cold_fragment_reads_back_across_blocks_of_its_table() {
    run(async {
        let world = World::new(24).await;
        let maker = Maker::new(1, 2 * 1100);
        assert_eq!(maker.piece(&world.drive, BLOCK, BLOCK).await, Err(Refusal::Beyond { len_bytes: 0 }));
        maker.pieces(&world.drive, 100).await.unwrap();
        assert_eq!(read(&world.drive, &maker.address, 0, 1).await, Err(Refusal::Beyond { len_bytes: 0 }));
        assert!(!world.report_of(&maker.address).unwrap().sealed);
        let table = maker.finish(&world.drive).await.unwrap();
        assert_eq!(maker.finish(&world.drive).await, Ok(table));
        maker.check(&world.drive).await;
        let at = 1020 * BLOCK - 5;
        assert_eq!(read(&world.drive, &maker.address, at, 10).await, Ok(bytes_of(&maker.address, at, 10)));
        let len = maker.slice_len();
        assert_eq!(
            read(&world.drive, &maker.address, len - 1, 2).await,
            Err(Refusal::Beyond { len_bytes: len })
        );
        // A retry finds it made; another image is refused.
        maker.pieces(&world.drive, 64).await.unwrap();
        let other = Maker { image_len_bytes: maker.image_len_bytes - BLOCK, ..maker.clone() };
        assert!(matches!(other.finish(&world.drive).await, Err(Refusal::Invalid(_))));
        let world = world.restart().await;
        assert_eq!(maker.finish(&world.drive).await, Ok(table));
        maker.check(&world.drive).await;
        world.check_space();
        world.free_all().await;
    });
}

#[test]
fn a_cold_fragment_is_begun_again_by_an_attempt_of_another_profile() {
    run(async {
        let world = World::new(24).await;
        let cut = Maker::new(1, 400);
        cut.piece(&world.drive, 0, 64 * BLOCK).await.unwrap();
        let other = Maker { profile: Profile::new(3, 2).unwrap(), ..cut.clone() };
        other.pieces(&world.drive, 64).await.unwrap();
        assert!(matches!(cut.piece(&world.drive, 64 * BLOCK, BLOCK).await, Err(Refusal::Invalid(_))));
        let world = world.restart().await;
        // After a restart what is unfinished is begun again from its first piece only.
        assert_eq!(other.piece(&world.drive, 64 * BLOCK, BLOCK).await, Err(Refusal::Beyond { len_bytes: 0 }));
        cut.pieces(&world.drive, 64).await.unwrap();
        cut.finish(&world.drive).await.unwrap();
        let world = world.restart().await;
        assert_eq!(world.report_of(&cut.address).unwrap().profile, cut.profile);
        cut.check(&world.drive).await;
        world.check_space();
        world.free_all().await;
    });
}

#[test]
fn two_attempts_in_one_batch_leave_the_later_one() {
    run(async {
        let world = World::new(8).await;
        let first = Maker::new(1, 40);
        let second = Maker { profile: Profile::new(4, 2).unwrap(), ..first.clone() };
        world.media.set_plan(Arc::new(Reversed::default()));
        // All are in the queue before the lane looks.
        let (a, b, c) = futures::join!(
            first.piece(&world.drive, 0, 20 * BLOCK),
            second.piece(&world.drive, 0, 10 * BLOCK),
            second.finish(&world.drive)
        );
        assert_eq!((a, b, c.is_ok()), (Ok(()), Ok(()), true));
        second.check(&world.drive).await;
        let world = world.restart().await;
        assert_eq!(world.report_of(&second.address).unwrap().profile, second.profile);
        second.check(&world.drive).await;
    });
}

#[test]
fn a_settled_slab_keeps_its_length_and_is_settled_once() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        let rows: Vec<_> = (0..5).map(|_| writer.row(2, 0)).collect();
        for (append, payload) in &rows {
            world.drive.append(*append, payload.clone()).await.unwrap();
        }
        let early = writer.settle_at(2, 0, &writer.clone().seal(&world.drive, 2).await.unwrap());
        let report = writer.seal(&world.drive, 3).await.unwrap();
        assert_eq!(world.drive.settle(early).await, Err(Refusal::Fenced { epoch: Epoch::new(3) }));
        let beyond = strongroom_format::wire::message::Settle { rows: 6, ..writer.settle_at(3, 5, &report) };
        assert_eq!(world.drive.settle(beyond).await, Err(Refusal::Beyond { len_bytes: 10 * BLOCK }));
        let wrong =
            strongroom_format::wire::message::Settle { root_crc32c: 1, ..writer.settle_at(3, 4, &report) };
        assert!(matches!(world.drive.settle(wrong).await, Err(Refusal::Corrupt { .. })));
        let settle = writer.settle_at(3, 4, &report);
        assert_eq!(world.drive.settle(settle).await, Ok(()));
        assert_eq!(world.drive.settle(settle).await, Ok(()));
        assert!(matches!(
            world.drive.settle(writer.settle_at(3, 3, &report)).await,
            Err(Refusal::Invalid(_))
        ));
        assert_eq!(
            read(&world.drive, &writer.address, 0, 9 * BLOCK).await,
            Err(Refusal::Beyond { len_bytes: 8 * BLOCK })
        );
        let world = world.restart().await;
        assert_eq!(world.report_of(&writer.address).unwrap().len_bytes, 8 * BLOCK);
        assert_eq!(writer.seal(&world.drive, 3).await.unwrap().rows, 4);
    });
}

#[test]
fn a_later_fence_does_not_bring_back_rows_that_were_cut() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[1, 1, 1]).await;
        let report = writer.seal(&world.drive, 2).await.unwrap();
        world.drive.settle(writer.settle_at(2, 2, &report)).await.unwrap();
        assert_eq!(writer.seal(&world.drive, 3).await.unwrap().rows, 2);
        let world = world.restart().await;
        assert_eq!(writer.seal(&world.drive, 3).await.unwrap().rows, 2);
        assert_eq!(world.drive.settle(writer.settle_at(3, 2, &report)).await, Ok(()));
    });
}

#[test]
fn nothing_is_settled_below_what_was_committed() {
    run(async {
        let world = World::new(8).await;
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[1, 1, 1, 1]).await;
        let report = writer.seal(&world.drive, 2).await.unwrap();
        assert_eq!(report.committed_upto, RowSequence::new(2));
        assert!(matches!(
            world.drive.settle(writer.settle_at(2, 1, &report)).await,
            Err(Refusal::Invalid(_))
        ));
        assert_eq!(world.drive.settle(writer.settle_at(2, 2, &report)).await, Ok(()));
    });
}

#[test]
fn a_fragment_made_and_freed_at_once_is_gone_also_after_a_restart() {
    run(async {
        let world = World::new(4).await;
        let mut writer = Writer::new(1);
        world.media.set_plan(Arc::new(Reversed::default()));
        let (append, payload) = writer.row(1, 0);
        let (_, freed) = futures::join!(
            world.drive.append(append, payload),
            world.drive.free(Free { address: writer.address })
        );
        assert_eq!(freed, Ok(()));
        let world = world.restart().await;
        assert_eq!(world.reports(), []);
        world.free_all().await;
    });
}

#[test]
fn reports_come_in_pages_that_end_with_a_slab() {
    run(async {
        let world = World::new(50).await;
        for slab in 0..45 {
            Writer::new(slab).append(&world.drive, 1).await.unwrap();
        }
        let page = |after: Option<u64>| {
            let after = after.map(SlabId::from_bits);
            world.drive.report(&Report { drive: spec().drive, after, limit: 32 })
        };
        let (first, more) = page(None);
        assert_eq!((first.len(), more), (32, true));
        let (second, more) = page(Some(31));
        assert_eq!((second.len(), more), (13, false));
        assert_eq!(second[0].address.slab.to_bits(), 32);
        assert_eq!(second[0].profile, copies());
        assert_eq!(page(Some(44)), (Vec::new(), false));
    });
}
