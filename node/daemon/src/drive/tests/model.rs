//! Random requests, restarts and power cuts, against what a drive should know.

use super::support::{Maker, World, Writer, bytes_of, check_agreed, read, run};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use strongroom_format::wire::message::{Free, Refusal};
use strongroom_types::Epoch;

#[derive(Clone, Debug)]
enum Step {
    Append { slab: u64, rows: Vec<u32> },
    Seal { slab: u64, higher: u32 },
    Settle { slab: u64, fewer: u32 },
    Pieces { slab: u64, blocks: u32 },
    Finish { slab: u64 },
    FreeHot { slab: u64 },
    FreeCold { slab: u64 },
    Read { slab: u64, offset: u32, len: u32 },
    Restart { power_cut: Option<u64> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slab = 1..4u64;
    let step = prop_oneof![
        5 => (slab.clone(), prop::collection::vec(1..90u32, 1..4)).prop_map(|(slab, rows)| Step::Append { slab, rows }),
        2 => (slab.clone(), 0..3u32).prop_map(|(slab, higher)| Step::Seal { slab, higher }),
        1 => (slab.clone(), 0..3u32).prop_map(|(slab, fewer)| Step::Settle { slab, fewer }),
        2 => (slab.clone(), 1..200u32).prop_map(|(slab, blocks)| Step::Pieces { slab, blocks }),
        2 => slab.clone().prop_map(|slab| Step::Finish { slab }),
        1 => slab.clone().prop_map(|slab| Step::FreeHot { slab }),
        1 => slab.clone().prop_map(|slab| Step::FreeCold { slab }),
        3 => (slab, 0..400_000u32, 1..300_000u32).prop_map(|(slab, offset, len)| Step::Read { slab, offset, len }),
        1 => prop::option::of(any::<u64>()).prop_map(|power_cut| Step::Restart { power_cut }),
    ];
    prop::collection::vec(step, 1..40)
}

/// A hot fragment as it should be.
struct Hot {
    writer: Writer,
    /// The epoch it is fenced at.
    fence: Option<u32>,
    settled: bool,
    closed: bool,
    committed: u32,
}

struct Cold {
    maker: Maker,
    finished: bool,
    /// Its pieces were written in this run.
    building: bool,
}

#[derive(Default)]
struct Model {
    hot: BTreeMap<u64, Hot>,
    cold: BTreeMap<u64, Cold>,
    /// How often a slab in this place was freed: ids are never reused.
    freed: BTreeMap<u64, u64>,
}

impl Model {
    fn writer(&self, slab: u64) -> Writer {
        Writer::new(slab + 16 * self.freed.get(&slab).copied().unwrap_or(0))
    }

    async fn append(&mut self, world: &World, slab: u64, rows: &[u32]) {
        let fresh =
            Hot { writer: self.writer(slab), fence: None, settled: false, closed: false, committed: 0 };
        let hot = self.hot.entry(slab).or_insert(fresh);
        let (fence, acked) = (hot.fence, hot.writer.ends.len());
        let sent: Vec<_> =
            rows.iter().map(|blocks| hot.writer.row(*blocks, u32::try_from(acked).unwrap())).collect();
        let sending = futures::future::join_all(
            sent.into_iter().map(|(append, payload)| world.drive.append(append, payload)),
        );
        // Rows behind one that was refused wait for it until their patience ends.
        let waiting = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            world.clock.advance(Duration::from_secs(3));
        };
        let (answers, ()) = futures::join!(sending, waiting);
        let done = answers.iter().take_while(|answer| answer.is_ok()).count();
        hot.writer.ends.truncate(acked + done);
        if done > 0 {
            hot.committed = u32::try_from(acked).unwrap();
        }
        for answer in &answers[done..] {
            match (fence, hot.closed, answer) {
                (Some(epoch), _, answer) => {
                    assert_eq!(*answer, Err(Refusal::Fenced { epoch: Epoch::new(epoch) }))
                }
                (None, true, answer) => assert_eq!(*answer, Err(Refusal::DriveError)),
                (None, false, Err(Refusal::Full | Refusal::OutOfOrder { .. })) => {}
                (None, false, answer) => panic!("{answer:?}"),
            }
        }
        assert!(done == 0 || (fence.is_none() && !hot.closed));
        if hot.writer.ends.is_empty() && fence.is_none() && !hot.closed {
            self.hot.remove(&slab);
        }
    }

    async fn seal(&mut self, world: &World, slab: u64, higher: u32) {
        let known = self.hot.get(&slab);
        let epoch = known.and_then(|hot| hot.fence).unwrap_or(1) + higher;
        if known.is_none() && epoch == 1 {
            return;
        }
        let mut fresh =
            Hot { writer: self.writer(slab), fence: None, settled: false, closed: false, committed: 0 };
        let writer = known.map_or(&fresh.writer, |hot| &hot.writer);
        match writer.seal(&world.drive, epoch).await {
            Ok(report) => {
                assert_eq!(report.row_ends_blocks, writer.ends);
                assert_eq!((report.bad_rows, report.epoch), (Vec::new(), Epoch::new(epoch)));
                let hot = self.hot.entry(slab).or_insert_with(|| {
                    fresh.fence = Some(epoch);
                    fresh
                });
                hot.fence = Some(epoch);
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Full);
                assert!(known.is_none());
            }
        }
    }

    async fn settle(&mut self, world: &World, slab: u64, fewer: u32) {
        let Some(hot) = self.hot.get_mut(&slab) else { return };
        let Some(epoch) = hot.fence else { return };
        let report = hot.writer.seal(&world.drive, epoch).await.unwrap();
        let rows = report.rows.saturating_sub(fewer);
        let result = world.drive.settle(hot.writer.settle_at(epoch, rows, &report)).await;
        if rows < hot.committed || (hot.settled && rows != report.rows) {
            assert!(matches!(result, Err(Refusal::Invalid(_))), "{result:?}");
        } else {
            assert_eq!(result, Ok(()));
            let settle = hot.writer.settle_at(epoch, rows, &report);
            assert_eq!(world.drive.settle(settle).await, Ok(()), "asked again, once all of it is done");
            hot.writer.ends.truncate(rows as usize);
            hot.settled = true;
        }
    }

    async fn pieces(&mut self, world: &World, slab: u64, blocks: u32) {
        let maker = Maker::new(slab, blocks);
        let result = maker.pieces(&world.drive, 30).await;
        match self.cold.get_mut(&slab) {
            Some(cold) if cold.finished => {
                assert_eq!(result.is_ok(), maker.slice_len() == cold.maker.slice_len());
            }
            _ if result == Err(Refusal::Full) => {}
            _ => {
                assert_eq!(result, Ok(()));
                self.cold.insert(slab, Cold { maker, finished: false, building: true });
            }
        }
    }

    async fn finish(&mut self, world: &World, slab: u64) {
        let Some(cold) = self.cold.get_mut(&slab) else {
            assert_eq!(Maker::new(slab, 4).finish(&world.drive).await, Err(Refusal::NotHere));
            return;
        };
        let result = cold.maker.finish(&world.drive).await;
        if cold.building || cold.finished {
            assert!(result.is_ok(), "{result:?}");
            cold.finished = true;
        } else {
            assert_eq!(result, Err(Refusal::Beyond { len_bytes: 0 }));
        }
    }

    async fn read(&self, world: &World, slab: u64, offset: u32, len: u32) {
        let hot = self.writer(slab).address;
        let cold = Maker::new(slab, 4).address;
        let expected = [
            (hot, self.hot.get(&slab).map(|hot| hot.writer.end_bytes())),
            (cold, self.cold.get(&slab).map(|cold| if cold.finished { cold.maker.slice_len() } else { 0 })),
        ];
        for (address, end) in expected {
            let found = read(&world.drive, &address, offset, len).await;
            match end {
                None => assert_eq!(found, Err(Refusal::NotHere)),
                Some(end) if offset + len > end => assert_eq!(found, Err(Refusal::Beyond { len_bytes: end })),
                Some(_) => assert!(found == Ok(bytes_of(&address, offset, len))),
            }
        }
    }

    async fn restart(&mut self, world: World, power_cut: Option<u64>) -> World {
        if let Some(seed) = power_cut {
            world.media.power_cut(seed);
            // Pieces are not durable before the end, and so neither is that they were begun.
            self.cold.retain(|_, cold| cold.finished);
        }
        let world = world.restart().await;
        for report in world.reports() {
            let slab = report.address.slab.to_bits();
            let is_cold = report.address == Maker::new(slab, 4).address;
            if is_cold && !self.cold.contains_key(&slab) {
                world.drive.free(Free { address: report.address }).await.unwrap();
            }
        }
        self.hot.values_mut().for_each(|hot| hot.closed = true);
        self.cold.values_mut().for_each(|cold| cold.building = false);
        world
    }

    fn check(&self, world: &World) {
        world.check_space();
        check_agreed(&world.drive);
        let mut expected: Vec<_> =
            self.hot.values().map(|hot| (hot.writer.address, hot.fence.is_some())).collect();
        expected.extend(self.cold.values().map(|cold| (cold.maker.address, cold.finished)));
        expected.sort_by_key(|(address, _)| (address.slab, address.fragment));
        // A conversion that found the drive full has begun its fragment or not.
        let found: Vec<_> = world.reports().iter().map(|report| (report.address, report.sealed)).collect();
        assert_eq!(found, expected);
    }
}

async fn play(steps: Vec<Step>) {
    let mut world = World::new(12).await;
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append { slab, rows } => model.append(&world, slab, &rows).await,
            Step::Seal { slab, higher } => model.seal(&world, slab, higher).await,
            Step::Settle { slab, fewer } => model.settle(&world, slab, fewer).await,
            Step::Pieces { slab, blocks } => model.pieces(&world, slab, blocks).await,
            Step::Finish { slab } => model.finish(&world, slab).await,
            Step::FreeHot { slab } => {
                world.drive.free(Free { address: model.writer(slab).address }).await.unwrap();
                model.hot.remove(&slab);
                *model.freed.entry(slab).or_default() += 1;
            }
            Step::FreeCold { slab } => {
                world.drive.free(Free { address: Maker::new(slab, 4).address }).await.unwrap();
                model.cold.remove(&slab);
            }
            Step::Read { slab, offset, len } => model.read(&world, slab, offset, len).await,
            Step::Restart { power_cut } => world = model.restart(world, power_cut).await,
        }
        model.check(&world);
    }
    for hot in model.hot.values() {
        hot.writer.check(&world.drive).await;
    }
    for cold in model.cold.values().filter(|cold| cold.finished) {
        cold.maker.check(&world.drive).await;
    }
    world.free_all().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drive_knows_what_its_model_knows(steps in steps()) {
        run(play(steps));
    }
}
