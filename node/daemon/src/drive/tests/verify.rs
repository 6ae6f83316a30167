//! What verifying finds, and what it does not: whole fragments, each kind of block that rotted, blocks that cannot be read, changes meanwhile, tours.

use super::support::{BLOCK, DRIVE, Maker, World, Writer, address, cold, copies, read, run};
use crate::drive::state::key_of;
use crate::drive::verify::PieceBuffers;
use crate::drive::verify::{NotVerified, Verdict};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use strongroom_env::real::OsRng;
use strongroom_format::superblock::{TourPlace, Verified};
use strongroom_format::wire::message::{FragmentAddress, Free};
use strongroom_io::memory::{Fault, Intent, Kind};
use strongroom_types::{SlabId, WallTime};

const ROWS: [u32; 6] = [3, 1, 70, 2, 64, 5];

async fn verify(world: &World, address: &FragmentAddress) -> Result<Option<Verdict>, NotVerified> {
    let Some(mut verification) = world.drive.verify(key_of(address), 4, PieceBuffers::default()).await?
    else {
        return Ok(None);
    };
    let mut bytes = 0;
    while let Some(more) = verification.next().await? {
        bytes += more;
    }
    let verdict = verification.end().await?;
    assert_eq!(verdict.bytes, bytes, "what is told on the way is what is told at the end");
    Ok(Some(verdict))
}

async fn filled() -> (World, Writer, Maker) {
    let world = World::new(12).await;
    let (mut writer, maker) = (Writer::new(1), Maker::new(2, 300));
    writer.rows(&world.drive, &ROWS).await;
    maker.pieces(&world.drive, 50).await.unwrap();
    maker.finish(&world.drive).await.unwrap();
    (world, writer, maker)
}

/// Device offsets of all blocks of a fragment that verifying reads: headers, marks, and data up to its end.
fn blocks(world: &World, address: &FragmentAddress, data_len_bytes: u64) -> Vec<u64> {
    let geometry = world.drive.shared.geometry;
    let data = (0..data_len_bytes).step_by(BLOCK as usize).map(|position| world.place(address, position));
    let extents = 0..geometry.extents_for(data_len_bytes) as usize;
    let headers = extents.map(|ordinal| world.extent_at(address, ordinal));
    let marks = (1..3).map(|slot| world.extent_at(address, 0) + slot * u64::from(BLOCK));
    headers.chain(marks).chain(data).collect()
}

fn hot_len() -> u64 {
    u64::from(ROWS.iter().sum::<u32>() + u32::try_from(ROWS.len()).unwrap()) * u64::from(BLOCK)
}

fn cold_len(maker: &Maker) -> u64 {
    strongroom_format::cold::data_len(maker.slice_len())
}

#[test]
fn what_is_whole_is_read_once_and_found_whole() {
    run(async {
        let (world, mut writer, maker) = filled().await;
        for (address, len) in [(writer.address, hot_len()), (maker.address, cold_len(&maker))] {
            let verdict = verify(&world, &address).await.unwrap().unwrap();
            assert!(verdict.is_whole(), "{verdict:?}");
            assert_eq!(verdict.bytes, blocks(&world, &address, len).len() as u64 * u64::from(BLOCK));
        }
        assert_eq!(world.drive.tour_progress().bytes_total, {
            let of = |address, len| blocks(&world, address, len).len() as u64 * u64::from(BLOCK);
            of(&writer.address, hot_len()) + of(&maker.address, cold_len(&maker))
        });
        writer.seal(&world.drive, 2).await.unwrap();
        let world = world.restart().await;
        for address in [writer.address, maker.address] {
            assert!(verify(&world, &address).await.unwrap().unwrap().is_whole());
        }
        assert_eq!(verify(&world, &address(9, 0, 1)).await, Ok(None), "nothing of it is here");
        let unfinished = Maker::new(3, 300);
        unfinished.piece(&world.drive, 0, BLOCK).await.unwrap();
        assert_eq!(verify(&world, &unfinished.address).await, Ok(None), "it is being made");
        writer.ends.clear();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn each_block_that_rots_is_found_and_nothing_else(
        hot: bool, places in proptest::collection::btree_set(0usize..1000, 1..6), byte in 0u64..4096, restart: bool,
    ) {
        run(async {
            let (mut world, writer, maker) = filled().await;
            let (address, len) = if hot { (writer.address, hot_len()) } else { (maker.address, cold_len(&maker)) };
            // Without a seal the mark slots of a hot fragment hold nothing.
            let all: Vec<u64> = blocks(&world, &address, len);
            let skipped = if hot { 1 + (all.len() - (len / u64::from(BLOCK)) as usize - 3) } else { usize::MAX };
            let places: BTreeSet<usize> = places.iter().map(|place| place % all.len()).collect();
            let places: Vec<usize> =
                places.into_iter().filter(|place| !(skipped..skipped.saturating_add(2)).contains(place)).collect();
            prop_assume!(!places.is_empty());
            for place in &places {
                world.media.rot(all[*place] + byte, 0x10);
            }
            // A header that rotted is found by the run that knows what it should be: at a start its fragment is not.
            let data_only = places.iter().all(|place| *place >= all.len() - (len / u64::from(BLOCK)) as usize);
            if restart && data_only && !hot {
                world = world.restart().await;
            }
            let verdict = verify(&world, &address).await.unwrap().unwrap();
            prop_assert!(!verdict.is_whole());
            prop_assert_eq!(verdict.blocks_unreadable, 0);
            // Below a row's header, and beside a table that is not right, nothing can be told of the other blocks.
            prop_assert!(verdict.blocks_corrupt >= 1);
            if places.len() == 1 && (hot || places[0] < all.len() - 1) {
                prop_assert_eq!(verdict.blocks_corrupt, 1);
                prop_assert_eq!(verdict.first_bad_bytes, Some(all[places[0]]));
            }
            let profile = if hot { copies() } else { cold() };
            prop_assert!(world.drive.lacks(&address, profile), "it is to be made again");
            let other = if hot { maker.address } else { writer.address };
            prop_assert!(verify(&world, &other).await.unwrap().unwrap().is_whole());
            Ok(())
        })?;
    }
}

#[test]
fn blocks_that_cannot_be_read_are_counted_and_their_extent_is_not_used_again() {
    run(async {
        let (world, writer, maker) = filled().await;
        let bad = [world.place(&maker.address, 5 * 4096), world.place(&maker.address, 9 * 4096)];
        let extent = world.state().fragment(&maker.address).unwrap().extents.first();
        world.media.set_plan(Arc::new(move |intent: &Intent| {
            let end = intent.offset_bytes + intent.len_bytes;
            let hit = bad.iter().any(|at| (intent.offset_bytes..end).contains(at));
            if intent.kind == Kind::Read && hit { Fault::Error } else { Fault::None }
        }));
        let verdict = verify(&world, &maker.address).await.unwrap().unwrap();
        assert_eq!((verdict.blocks_unreadable, verdict.blocks_corrupt), (2, 0));
        assert_eq!(verdict.first_bad_bytes, Some(bad[0]));
        assert!(verify(&world, &writer.address).await.unwrap().unwrap().is_whole());
        world.drive.free(Free { address: maker.address }).await.unwrap();
        world.drive.free(Free { address: writer.address }).await.unwrap();
        world.check_space();
        assert_eq!(world.drive.damage().extents_retired, 1);
        let world = world.restart().await;
        world.check_space();
        let damage = world.drive.damage();
        assert_eq!((damage.extents_retired, damage.extents_unknown), (1, 0));
        assert_eq!(world.drive.drive_state().extents_free, 11);
        let makers: Vec<Maker> = (10..20).map(|slab| Maker::new(slab, 20)).collect();
        for maker in &makers {
            maker.pieces(&world.drive, 20).await.unwrap();
            assert!(
                !world.state().fragment(&maker.address).unwrap().extents.iter().any(|found| found == extent)
            );
        }
    });
}

#[test]
fn what_changes_meanwhile_says_nothing() {
    run(async {
        let (world, mut writer, maker) = filled().await;
        let mut verification =
            world.drive.verify(key_of(&maker.address), 1, PieceBuffers::default()).await.unwrap().unwrap();
        verification.next().await.unwrap();
        world.drive.free(Free { address: maker.address }).await.unwrap();
        let mut next = Writer::new(7);
        next.rows(&world.drive, &[60, 60, 60]).await;
        while verification.next().await.unwrap().is_some() {}
        assert_eq!(verification.end().await, Err(NotVerified::Changed));
        assert!(world.state().bad_extents.is_empty());

        let mut verification =
            world.drive.verify(key_of(&writer.address), 1, PieceBuffers::default()).await.unwrap().unwrap();
        writer.rows(&world.drive, &[2, 90, 1]).await;
        writer.seal(&world.drive, 2).await.unwrap();
        while verification.next().await.unwrap().is_some() {}
        assert!(verification.end().await.unwrap().is_whole(), "more rows, and a mark, are no harm");
        assert!(verify(&world, &writer.address).await.unwrap().unwrap().is_whole());
    });
}

#[test]
fn a_copy_that_rotted_under_this_run_is_read_at_its_seal() {
    run(async {
        let (world, mut writer, _) = filled().await;
        world.media.rot(world.place(&writer.address, u64::from(BLOCK)) + 100, 1);
        assert_eq!(writer.seal(&world.drive, 2).await.unwrap().bad_rows, [], "this run wrote it");
        assert!(!verify(&world, &writer.address).await.unwrap().unwrap().is_whole());
        assert_eq!(writer.seal(&world.drive, 2).await.unwrap().bad_rows.len(), 1);
        assert!(read(&world.drive, &writer.address, 0, BLOCK).await.is_err());
        writer.ends.clear();
    });
}

fn at(millis: u64) -> WallTime {
    WallTime::from_unix_millis(millis)
}

#[test]
fn a_tour_goes_on_after_a_restart_where_it_was_last_written_down() {
    run(async {
        let world = World::new(12).await;
        world.drive.begin_history(at(50));
        for slab in 1..6 {
            Writer::new(slab).rows(&world.drive, &[1]).await;
        }
        world.drive.begin_history(at(60));
        assert_eq!(world.drive.tour_progress().verified.since, Some(at(50)), "everything was written since");
        world.drive.begin_tour(&OsRng, at(100));
        let mut met = Vec::new();
        let meet = |world: &World, met: &mut Vec<SlabId>| {
            let keys = world.drive.next_of_tour(1);
            assert!(keys.len() <= 1 && keys.iter().all(|key| !met.contains(&key.slab)));
            let slab = keys.first()?.slab;
            world.drive.tour_is_past(slab, at(100));
            met.push(slab);
            Some(slab)
        };
        let second = [meet(&world, &mut met), meet(&world, &mut met)][1];
        world.drive.raise_incarnation().await.unwrap();
        let third = meet(&world, &mut met);
        let world = world.restart().await;
        let TourPlace { began, origin, upto } = world.drive.tour_progress().verified.tour.unwrap();
        assert_eq!((began, Some(origin), upto), (at(100), met.first().copied(), second));
        met.truncate(2);
        assert_eq!(meet(&world, &mut met), third, "what was not written down is done again");
        world.drive.tour_is_past(SlabId::from_bits(0), at(99));
        while meet(&world, &mut met).is_some() {}
        assert_eq!((met.len(), world.drive.tour_progress().bytes_left), (5, 0));
        world.drive.end_tour(at(200));
        assert_eq!(world.drive.tour_progress().verified, Verified { since: Some(at(100)), tour: None });
        world.drive.raise_incarnation().await.unwrap();
        let world = world.restart().await;
        assert_eq!(world.drive.tour_progress().verified.since, Some(at(100)));
        assert_eq!(world.drive.id(), DRIVE);
    });
}

#[test]
fn a_tour_that_left_something_out_promises_nothing_nor_does_it_after_a_restart() {
    run(async {
        let world = World::new(12).await;
        world.drive.begin_history(at(50));
        Writer::new(1).rows(&world.drive, &[1]).await;
        world.drive.begin_tour(&OsRng, at(100));
        world.drive.tour_passes_over();
        world.drive.tour_is_past(world.drive.next_of_tour(1)[0].slab, at(100));
        let told = world.drive.tour_progress().verified;
        assert!(told.tour.is_some_and(|tour| tour.upto.is_some()), "it goes on");
        world.drive.raise_incarnation().await.unwrap();
        let promised = Verified { since: Some(at(50)), tour: None };
        let world = world.restart().await;
        assert_eq!(world.drive.tour_progress().verified, promised, "it is begun again");

        world.drive.begin_tour(&OsRng, at(200));
        world.drive.tour_passes_over();
        world.drive.end_tour(at(300));
        assert_eq!(world.drive.tour_progress().verified, promised);
        // The next one leaves nothing out.
        world.drive.begin_tour(&OsRng, at(400));
        world.drive.end_tour(at(500));
        assert_eq!(world.drive.tour_progress().verified.since, Some(at(400)));
    });
}
