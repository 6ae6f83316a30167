//! What a drive says of what it finds at start.

use super::support::{BLOCK, Maker, World, Writer, address, cold, read, run};
use strongroom_format::wire::message::{Free, Refusal};
use strongroom_types::{Epoch, RowSequence};

const ROWS: [u32; 8] = [3, 1, 70, 2, 2, 64, 1, 5];

/// Data position of a row's header.
fn header_at(writer: &Writer, row: usize) -> u64 {
    let before = row.checked_sub(1).map_or(0, |before| writer.ends[before]);
    (u64::from(before) + row as u64) * u64::from(BLOCK)
}

async fn written() -> (World, Writer) {
    let world = World::new(10).await;
    let mut writer = Writer::new(1);
    writer.rows(&world.drive, &ROWS).await;
    (world, writer)
}

#[test]
fn a_fragment_found_at_start_takes_no_more_rows_and_reports_as_its_twin() {
    run(async {
        let (world, mut writer) = written().await;
        let mut twin = Writer::new(1);
        let twins = World::new(10).await;
        twin.rows(&twins.drive, &ROWS).await;
        let world = world.restart().await;
        writer.check(&world.drive).await;
        assert_eq!(writer.append(&world.drive, 1).await, Err(Refusal::DriveError));
        let (report, expected) =
            (writer.seal(&world.drive, 2).await.unwrap(), twin.seal(&twins.drive, 2).await.unwrap());
        assert_eq!(report, expected);
        assert_eq!((report.rows, report.committed_upto), (8, RowSequence::new(6)));
        world.drive.settle(writer.settle_at(2, 7, &report)).await.unwrap();
        twins.drive.settle(twin.settle_at(2, 7, &report)).await.unwrap();
        let (world, twins) = (world.restart().await, twins.restart().await);
        assert_eq!(writer.append(&world.drive, 1).await, Err(Refusal::Fenced { epoch: Epoch::new(2) }));
        assert_eq!(writer.seal(&world.drive, 2).await, twin.seal(&twins.drive, 2).await);
        assert_eq!(writer.seal(&world.drive, 2).await.unwrap().rows, 7);
    });
}

#[test]
fn a_rotten_payload_block_is_a_bad_row_and_corrupt_to_read() {
    run(async {
        for (row, blocks) in ROWS.into_iter().enumerate() {
            let (world, writer) = written().await;
            let start = header_at(&writer, row) + u64::from(BLOCK);
            world.media.rot(world.place(&writer.address, start) + 17, 0x10);
            let image_at = (writer.ends[row] - blocks) * BLOCK;
            assert_eq!(
                read(&world.drive, &writer.address, image_at, 1).await,
                Err(Refusal::Corrupt { offset_bytes: image_at })
            );
            let world = world.restart().await;
            let report = writer.seal(&world.drive, 2).await.unwrap();
            assert_eq!(
                (report.rows, report.bad_rows),
                (8, vec![RowSequence::new(u32::try_from(row).unwrap())])
            );
        }
    });
}

#[test]
fn rows_with_and_behind_a_rotten_header_are_bad_and_present_and_not_missing() {
    run(async {
        let (clean, twin) = written().await;
        let expected = twin.seal(&clean.drive, 2).await.unwrap();
        for (row, blocks) in ROWS.into_iter().enumerate() {
            for byte in [0, 9, 13, 18, 30, 37, 41, 45, 53, 100, 256, 300, 4095] {
                let (world, writer) = written().await;
                world.media.rot(world.place(&writer.address, header_at(&writer, row)) + byte, 0x04);
                let world = world.restart().await;
                let report = writer.seal(&world.drive, 2).await.unwrap();
                assert_eq!(report.rows, 8, "row {row}, byte {byte}");
                assert_eq!(report.row_ends_blocks, expected.row_ends_blocks);
                assert_eq!(report.row_chain_crc32c, expected.row_chain_crc32c);
                assert_eq!(report.bad_rows, [RowSequence::new(u32::try_from(row).unwrap())]);
                let image_at = (writer.ends[row] - blocks) * BLOCK;
                assert!(matches!(
                    read(&world.drive, &writer.address, image_at, 1).await,
                    Err(Refusal::Corrupt { .. })
                ));
            }
        }
    });
}

#[test]
fn a_row_that_was_lost_whole_is_present_once_a_later_one_says_it_was_committed() {
    run(async {
        let (world, writer) = written().await;
        for byte in 0..8 {
            world.media.rot(world.place(&writer.address, header_at(&writer, 3)) + byte, 0xFF);
        }
        let world = world.restart().await;
        let report = writer.seal(&world.drive, 2).await.unwrap();
        assert_eq!((report.rows, report.bad_rows), (8, vec![RowSequence::new(3)]));

        // Two of them: too little is known of the first to say how long it was.
        let (world, writer) = written().await;
        for (row, byte) in [(3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2)] {
            world.media.rot(world.place(&writer.address, header_at(&writer, row)) + byte, 0xFF);
        }
        let world = world.restart().await;
        assert_eq!(writer.seal(&world.drive, 2).await, Err(Refusal::DriveError));
        assert_eq!(read(&world.drive, &writer.address, 77 * BLOCK, 1).await, Err(Refusal::DriveError));
        assert!(read(&world.drive, &writer.address, 0, 74 * BLOCK).await.is_ok());
    });
}

#[test]
fn what_is_behind_a_rotten_extent_header_is_not_called_absent() {
    run(async {
        for ordinal in 0..3 {
            let (world, writer) = written().await;
            let last = writer.end_bytes() - 1;
            world.media.rot(world.extent_at(&writer.address, ordinal) + 20, 1);
            let world = world.restart().await;
            assert_eq!(world.state().unknown_extents.len(), 3 - ordinal);
            world.check_space();
            let damage = world.drive.damage();
            assert_eq!(damage.extents_unknown as usize, 3 - ordinal);
            assert_eq!(damage.extents_unknown_first.len(), 3 - ordinal);
            assert_eq!(writer.seal(&world.drive, 2).await, Err(Refusal::DriveError), "extent {ordinal}");
            assert_eq!(read(&world.drive, &writer.address, last, 1).await, Err(Refusal::DriveError));
            // Nor is anything else that might be in there; new fragments are welcome.
            assert_eq!(Writer::new(7).seal(&world.drive, 2).await, Err(Refusal::DriveError));
            assert_eq!(read(&world.drive, &address(7, 0, 1), 0, 1).await, Err(Refusal::DriveError));
            assert_eq!(world.drive.free(Free { address: address(7, 0, 1) }).await, Err(Refusal::DriveError));
            Writer::new(8).append(&world.drive, 1).await.unwrap();
        }
    });
}

#[test]
fn a_rotten_settled_row_is_not_beyond_the_end() {
    run(async {
        let (world, writer) = written().await;
        let report = writer.seal(&world.drive, 2).await.unwrap();
        world.drive.settle(writer.settle_at(2, 8, &report)).await.unwrap();
        // More than a bit, so that nothing tells how long the last row was.
        world.media.rot(world.place(&writer.address, header_at(&writer, 7)) + 41, 0x33);
        let world = world.restart().await;
        let last = writer.end_bytes() - 1;
        assert_eq!(read(&world.drive, &writer.address, last, 1).await, Err(Refusal::DriveError));
        assert_eq!(writer.seal(&world.drive, 3).await, Err(Refusal::DriveError));
    });
}

#[test]
fn one_rotten_seal_mark_of_two_holds_the_fence_and_without_any_no_row_is_taken() {
    run(async {
        for slots in [&[1][..], &[2], &[1, 2]] {
            let (world, mut writer) = written().await;
            writer.seal(&world.drive, 2).await.unwrap();
            writer.seal(&world.drive, 3).await.unwrap();
            for slot in slots {
                world.media.rot(world.extent_at(&writer.address, 0) + slot * u64::from(BLOCK) + 40, 1);
            }
            let world = world.restart().await;
            let refused = writer.append(&world.drive, 1).await;
            assert!(matches!(refused, Err(Refusal::Fenced { .. } | Refusal::DriveError)), "{refused:?}");
            assert_eq!(writer.seal(&world.drive, 4).await.unwrap().rows, 8);
            let world = world.restart().await;
            assert_eq!(writer.append(&world.drive, 1).await, Err(Refusal::Fenced { epoch: Epoch::new(4) }));
        }
    });
}

#[test]
fn a_cold_fragment_with_rot_in_slice_table_or_marks_is_corrupt_and_not_missing() {
    run(async {
        let maker = Maker::new(1, 400);
        let slice = u64::from(maker.slice_len());
        for (position, refusal) in [(5 * 4096 + 9, 5 * BLOCK), (slice + 8, 0), (slice + 500, 0)] {
            let world = World::new(8).await;
            maker.pieces(&world.drive, 64).await.unwrap();
            maker.finish(&world.drive).await.unwrap();
            world.media.rot(world.place(&maker.address, position & !4095) + position % 4096, 2);
            assert!(!world.drive.lacks(&maker.address, cold()), "nobody has looked");
            let found = read(&world.drive, &maker.address, 0, maker.slice_len()).await;
            assert_eq!(found, Err(Refusal::Corrupt { offset_bytes: refusal }));
            assert!(world.drive.lacks(&maker.address, cold()));
        }
        for (slots, whole) in [(&[1][..], true), (&[2], true), (&[1, 2], false)] {
            let world = World::new(8).await;
            maker.pieces(&world.drive, 64).await.unwrap();
            let table = maker.finish(&world.drive).await.unwrap();
            for slot in slots {
                world.media.rot(world.extent_at(&maker.address, 0) + slot * u64::from(BLOCK) + 40, 1);
            }
            let world = world.restart().await;
            if whole {
                assert_eq!(maker.finish(&world.drive).await, Ok(table));
                maker.check(&world.drive).await;
                assert!(!world.drive.lacks(&maker.address, cold()));
            } else {
                assert!(world.drive.lacks(&maker.address, cold()));
                let found = read(&world.drive, &maker.address, 0, 1).await;
                assert_eq!(found, Err(Refusal::Corrupt { offset_bytes: 0 }));
            }
        }
    });
}

#[test]
fn a_cold_fragment_that_lacks_an_extent_is_neither_read_nor_begun_again() {
    run(async {
        for ordinal in [1, 2, 3] {
            let maker = Maker::new(1, 400);
            let world = World::new(8).await;
            maker.pieces(&world.drive, 64).await.unwrap();
            maker.finish(&world.drive).await.unwrap();
            world.media.rot(world.extent_at(&maker.address, ordinal) + 30, 1);
            let world = world.restart().await;
            world.check_space();
            assert_eq!(
                read(&world.drive, &maker.address, 0, maker.slice_len()).await,
                Err(Refusal::DriveError)
            );
            assert_eq!(maker.piece(&world.drive, 0, BLOCK).await, Err(Refusal::DriveError));
            assert_eq!(maker.finish(&world.drive).await, Err(Refusal::DriveError));
            assert!(!world.report_of(&maker.address).unwrap().sealed);
            assert!(world.drive.lacks(&maker.address, cold()));

            // Nobody waits for it: the slab table gives this layout up, and the next one is made beside it or in its place.
            let mut next = maker.clone();
            next.address.generation = maker.address.generation.next();
            world.drive.free(Free { address: maker.address }).await.unwrap();
            next.pieces(&world.drive, 64).await.unwrap();
            next.finish(&world.drive).await.unwrap();
            let world = world.restart().await;
            world.check_space();
            next.check(&world.drive).await;
            assert!(world.report_of(&maker.address).is_none());
        }
    });
}

#[test]
fn a_drive_lacks_what_is_not_whole_there_once_its_word_counts() {
    run(async {
        let maker = Maker::new(1, 20);
        let world = World::new(8).await;
        assert!(world.drive.lacks(&maker.address, cold()));
        maker.pieces(&world.drive, 10).await.unwrap();
        assert!(world.drive.lacks(&maker.address, cold()), "not finished");
        maker.finish(&world.drive).await.unwrap();
        assert!(!world.drive.lacks(&maker.address, cold()));
        let mut other = maker.address;
        other.generation = other.generation.next();
        assert!(world.drive.lacks(&other, cold()), "of that generation nothing is here");
        world.drive.await_admission();
        assert!(!world.drive.lacks(&other, cold()));
        world.drive.refuse_as_stale();
        assert!(!world.drive.lacks(&other, cold()));

        // Its first header does not check: it is not found, and not called absent either.
        world.media.rot(world.extent_at(&maker.address, 0) + 30, 1);
        let world = world.restart().await;
        assert_eq!(read(&world.drive, &maker.address, 0, 1).await, Err(Refusal::DriveError));
        assert!(world.drive.lacks(&maker.address, cold()));
    });
}

#[test]
fn a_fragment_made_again_after_a_free_does_not_inherit_a_mark() {
    run(async {
        let maker = Maker::new(1, 20);
        let world = World::new(1).await;
        maker.pieces(&world.drive, 10).await.unwrap();
        maker.finish(&world.drive).await.unwrap();
        world.drive.free(Free { address: maker.address }).await.unwrap();
        maker.piece(&world.drive, 0, BLOCK).await.unwrap();
        let world = world.restart().await;
        assert!(!world.report_of(&maker.address).unwrap().sealed);
    });
}
