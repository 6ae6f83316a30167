//! A workload that does everything once, struck at every operation: by a power cut, by an error, by a lost or misdirected write. What
//! was acknowledged is there afterwards, nothing half-made is called whole, and no byte is wrong.

use super::support::{BLOCK, EXTENT, EXTENTS_AT, Maker, World, Writer, bytes_of, read, run};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use strongroom_format::wire::message::{FragmentAddress, Free, Refusal, SealReport};
use strongroom_io::memory::{Fault, Intent, Kind};
use strongroom_types::Epoch;

const EXTENTS: u64 = 14;

type Hot = (Writer, u32, Option<u32>, Option<(u32, bool)>);

/// What was acknowledged, and what was at least asked for.
#[derive(Default)]
struct Told {
    /// Hot fragments: all rows asked for, how many were acknowledged, the epoch of the last fence acknowledged, rows settled at
    /// and whether that was acknowledged.
    hot: Vec<Hot>,
    /// Cold fragments: whether the end was acknowledged.
    cold: Vec<(Maker, bool)>,
    /// Given back: whether that was acknowledged.
    freed: Vec<(FragmentAddress, bool)>,
}

impl Told {
    fn is_freed(&self, address: &FragmentAddress) -> Option<bool> {
        self.freed.iter().find(|(freed, _)| freed == address).map(|(_, done)| *done)
    }
}

/// Rows in flight at once, as a writer sends them; says whether all were acknowledged.
async fn rows(world: &World, told: &mut Told, at: usize, blocks: &[u32]) -> bool {
    let (writer, acked, ..) = &mut told.hot[at];
    let committed = *acked;
    let rows: Vec<_> = blocks.iter().map(|blocks| writer.row(*blocks, committed)).collect();
    let sent = rows.into_iter().map(|(append, payload)| world.drive.append(append, payload));
    let answers = futures::future::join_all(sent).await;
    let acked = answers.iter().take_while(|answer| answer.is_ok()).count();
    assert!(answers[acked..].iter().all(Result::is_err), "a holder has a prefix");
    told.hot[at].1 += u32::try_from(acked).unwrap();
    acked == blocks.len()
}

async fn seal(world: &World, told: &mut Told, at: usize, epoch: u32) -> Option<SealReport> {
    let report = told.hot[at].0.seal(&world.drive, epoch).await.ok()?;
    assert!(report.rows >= told.hot[at].1);
    told.hot[at].2 = Some(epoch);
    Some(report)
}

async fn free(world: &World, told: &mut Told, address: FragmentAddress) -> bool {
    told.freed.push((address, false));
    let done = world.drive.free(Free { address }).await.is_ok();
    told.freed.last_mut().unwrap().1 = done;
    done
}

/// Does everything once; stops where the power does.
async fn workload(world: &World, told: &mut Told) -> Option<()> {
    let all = |done: bool| done.then_some(());
    told.hot.extend((1..=4).map(|slab| (Writer::new(slab), 0, None, None)));
    told.cold.extend([
        (Maker::new(11, 180), false),
        (Maker::new(12, 60), false),
        (Maker::new(13, 60), false),
    ]);
    // Growth: within an extent, into the next, over two at once; three rows in one batch.
    all(rows(world, told, 0, &[1, 40]).await)?;
    all(rows(world, told, 0, &[30, 2, 130]).await)?;
    all(rows(world, told, 1, &[70]).await)?;
    let first = told.cold[0].0.clone();
    first.piece(&world.drive, 0, 50 * BLOCK).await.ok()?;
    // Into one more extent, which the agreed length gives back.
    all(rows(world, told, 0, &[60]).await)?;
    first.piece(&world.drive, 50 * BLOCK, 40 * BLOCK).await.ok()?;
    first.finish(&world.drive).await.ok()?;
    told.cold[0].1 = true;
    seal(world, told, 0, 2).await?;
    let report = seal(world, told, 0, 3).await?;
    told.hot[0].3 = Some((5, false));
    world.drive.settle(told.hot[0].0.settle_at(3, 5, &report)).await.ok()?;
    told.hot[0].3 = Some((5, true));
    // Once more, so that the extents behind the length are given back by now, or could not be.
    world.drive.settle(told.hot[0].0.settle_at(3, 5, &report)).await.ok()?;
    all(world.drive.drive_state().writable)?;
    // A fence where nothing is.
    seal(world, told, 2, 2).await?;
    all(free(world, told, told.hot[1].0.address).await)?;
    // Extents are used again.
    all(rows(world, told, 3, &[100, 1]).await)?;
    let second = told.cold[1].0.clone();
    second.pieces(&world.drive, 16).await.ok()?;
    // Begun again by another attempt.
    second.pieces(&world.drive, 20).await.ok()?;
    second.finish(&world.drive).await.ok()?;
    told.cold[1].1 = true;
    all(free(world, told, first.address).await)?;
    // Stays unfinished.
    told.cold[2].0.piece(&world.drive, 0, 8 * BLOCK).await.ok()?;
    all(free(world, told, told.hot[0].0.address).await)?;
    all(rows(world, told, 3, &[9, 9, 9]).await)
}

async fn check_hot(world: &World, told: &Told) {
    for (writer, acked, fenced, settled) in &told.hot {
        let present = world.report_of(&writer.address);
        match told.is_freed(&writer.address) {
            Some(true) => {
                assert_eq!(present, None, "freed and acknowledged");
                continue;
            }
            Some(false) if present.is_none() => continue,
            Some(false) => {}
            None if *acked == 0 && fenced.is_none() => continue,
            None => {
                assert!(present.is_some(), "acknowledged");
                let kept = settled.map_or(*acked, |(rows, _)| rows);
                let kept = Writer { ends: writer.ends[..kept as usize].into(), ..writer.clone() };
                kept.check(&world.drive).await;
            }
        }
        // No writer of before goes on, fenced or not.
        let mut next = writer.clone();
        next.ends.truncate(*acked as usize);
        let refused = next.append(&world.drive, 1).await;
        assert!(matches!(refused, Err(Refusal::Fenced { .. } | Refusal::DriveError)), "{refused:?}");
        if let Some(fenced) = fenced {
            let known = matches!(refused, Err(Refusal::Fenced { epoch }) if epoch >= Epoch::new(*fenced));
            assert!(known, "{refused:?}");
            let lower = writer.seal(&world.drive, fenced - 1).await;
            assert!(matches!(lower, Err(Refusal::Fenced { .. })), "{lower:?}");
        }
        if told.is_freed(&writer.address).is_none() {
            let report = writer.seal(&world.drive, 9).await.unwrap();
            assert!(report.rows >= settled.map_or(*acked, |(rows, _)| rows));
            assert!(settled.is_none_or(|(rows, done)| !done || report.rows == rows));
            assert_eq!(report.row_ends_blocks[..], writer.ends[..report.rows as usize]);
            assert!(report.bad_rows.iter().all(|row| row.get() >= *acked), "acknowledged rows are clean");
        }
    }
}

async fn check_cold(world: &World, told: &Told) {
    for (maker, finished) in &told.cold {
        let present = world.report_of(&maker.address);
        let freed = told.is_freed(&maker.address);
        let whole = present.as_ref().is_some_and(|report| report.sealed);
        assert!(freed != Some(true) || present.is_none(), "freed and acknowledged");
        assert!(whole || freed.is_some() || !finished, "finished and acknowledged");
        if whole {
            maker.check(&world.drive).await;
        } else if freed.is_none() && present.is_some() {
            maker.pieces(&world.drive, 32).await.unwrap();
            maker.finish(&world.drive).await.unwrap();
            maker.check(&world.drive).await;
        }
    }
}

/// What happens before an operation.
#[derive(Clone, Copy)]
enum Blow {
    PowerCut,
    Fault(Fault),
}

/// Deals `blow` at the n-th write, flush or discard (power) or the n-th write or flush (faults) from now on; gives whether it fell.
fn aim(world: &World, at: u64, seed: u64, blow: Blow) -> Arc<AtomicU64> {
    let count = AtomicU64::new(0);
    let fell = Arc::new(AtomicU64::new(0));
    let (told, media) = (fell.clone(), Arc::downgrade(&world.media));
    world.media.set_plan(Arc::new(move |intent: &Intent| {
        let counts = match intent.kind {
            Kind::Read => false,
            Kind::Write | Kind::Flush => true,
            Kind::Discard => matches!(blow, Blow::PowerCut),
        };
        if !counts || count.fetch_add(1, Ordering::Relaxed) != at {
            return Fault::None;
        }
        told.store(1, Ordering::Relaxed);
        match blow {
            Blow::PowerCut => {
                media.upgrade().unwrap().power_cut(seed);
                Fault::None
            }
            Blow::Fault(fault) => fault,
        }
    }));
    fell
}

/// The workload up to the blow, then a power cut in any case, and everything that was acknowledged must be there.
async fn strike(at: u64, seed: u64, blow: Blow) -> bool {
    let world = World::new(EXTENTS).await;
    // Sectors of 512 bytes and of a block by turns.
    world.media.set_sector_len_bytes(if seed.is_multiple_of(2) { 512 } else { 4096 });
    let fell = aim(&world, at, seed, blow);
    let mut told = Told::default();
    let ended = workload(&world, &mut told).await.is_some();
    let fell = fell.load(Ordering::Relaxed) == 1;
    assert_eq!(ended, !fell, "without a blow everything is acknowledged");
    if !matches!((blow, fell), (Blow::PowerCut, true)) {
        world.check_space();
        world.media.power_cut(seed);
    }
    let world = world.restart().await;
    assert_eq!(world.state().unknown_extents.len(), 0, "a header is one sector: it is never torn");
    world.check_space();
    check_cold(&world, &told).await;
    check_hot(&world, &told).await;
    world.check_space();
    world.free_all().await;
    // And all of it is free for the next run as well.
    let world = world.restart().await;
    world.check_space();
    world.free_all().await;
    fell
}

fn strike_everywhere(seeds: u64, blow: Blow) {
    for seed in 0..seeds {
        let mut at = 0;
        while run(strike(at, seed.wrapping_mul(0x9E37_79B9) ^ at, blow)) {
            at += 1;
        }
        assert!(at > 50, "the workload has become too small: {at} operations");
    }
}

#[test]
fn power_may_fail_before_and_after_every_write_flush_and_discard() {
    strike_everywhere(5, Blow::PowerCut);
}

#[test]
fn every_write_and_flush_may_fail() {
    strike_everywhere(2, Blow::Fault(Fault::Error));
    strike_everywhere(1, Blow::Fault(Fault::ErrorAfter));
}

/// Reads everything block by block: what is given is right, whatever else is wrong.
async fn check_never_wrong(world: &World, told: &Told) {
    world.check_space();
    let hot = told.hot.iter().map(|(writer, ..)| (writer.address, writer.end_bytes()));
    let cold = told.cold.iter().map(|(maker, _)| (maker.address, maker.slice_len()));
    for (address, len) in hot.chain(cold) {
        for at in (0..len).step_by(BLOCK as usize) {
            if let Ok(found) = read(&world.drive, &address, at, BLOCK).await {
                assert!(found == bytes_of(&address, at, BLOCK), "wrong bytes at {at}");
            }
        }
    }
    for (writer, ..) in &told.hot {
        if let Ok(report) = writer.seal(&world.drive, 20).await {
            assert_eq!(report.row_ends_blocks[..], writer.ends[..report.rows as usize]);
        }
    }
    world.check_space();
}

async fn corrupt_at(at: u64, fault: Fault) -> bool {
    let world = World::new(EXTENTS).await;
    let fell = aim(&world, at, 0, Blow::Fault(fault));
    let mut told = Told::default();
    let _ = workload(&world, &mut told).await;
    check_never_wrong(&world, &told).await;
    let world = world.restart().await;
    check_never_wrong(&world, &told).await;
    fell.load(Ordering::Relaxed) == 1
}

#[test]
fn no_lost_or_misdirected_write_makes_a_wrong_byte() {
    let elsewhere = |extent: u64| EXTENTS_AT + extent * EXTENT;
    for fault in [
        Fault::LostWrite,
        Fault::Misdirected { offset_bytes: elsewhere(0) },
        Fault::Misdirected { offset_bytes: elsewhere(1) + 5 * u64::from(BLOCK) },
        Fault::LyingFlush,
    ] {
        let mut at = 0;
        while run(corrupt_at(at, fault)) {
            at += 1;
        }
        assert!(at > 50);
    }
}
