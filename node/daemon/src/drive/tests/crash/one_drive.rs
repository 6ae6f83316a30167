//! One drive: a workload that does everything once, cut at every point; the opening after it cut again; killed without a cut and cut later.

use super::super::support::{self, DRIVE, EXTENT, EXTENTS_AT, Maker, run};
use super::disk::{BLOCK, Disk, Recorded, Trigger};
use super::images::{Cut, cuts};
use super::told::{Cold, Deed, Told, ask_again, check};
use super::{open, seeds};
use crate::drive::{Drive, FormatSpec, format};
use std::collections::{BTreeMap, BTreeSet};
use strongroom_format::superblock::{self, Layout};
use strongroom_format::wire::message::{Free, SealReport};
use strongroom_types::DriveId;

const EXTENTS: u64 = 12;
/// One image in so many has its opening cut as well, where that writes nothing but superblocks.
const OPENINGS_CUT_ONE_IN: u64 = 10;

/// What was told, and after how many changes to the disk.
struct Tale {
    recorded: Recorded,
    told: Told,
    history: Vec<(usize, Told)>,
}

impl Tale {
    fn new(recorded: &Recorded) -> Self {
        Self { recorded: recorded.clone(), told: Told::default(), history: vec![(0, Told::default())] }
    }

    fn note(&mut self) {
        self.history.push((self.recorded.position(), self.told.clone()));
    }

    /// What holds when power fails after so many changes, and its place in the history.
    fn at(&self, position: usize) -> (usize, &Told) {
        let place = self.history.partition_point(|(noted, _)| *noted <= position) - 1;
        (place, &self.history[place].1)
    }

    async fn format(&mut self, drive: DriveId) -> Option<()> {
        self.told.drive_before = self.told.drive.done;
        self.told.drive.asked = Some(drive);
        self.note();
        let spec = FormatSpec { drive, force: self.told.drive_before.is_some(), ..support::spec() };
        format(self.recorded.device().as_ref(), &spec).await.ok()?;
        self.told = Told { drive: Deed { asked: Some(drive), done: Some(drive) }, ..Told::default() };
        self.note();
        Some(())
    }

    async fn open(&mut self) -> Option<Drive> {
        let (drive, _) = open(&self.recorded).await.ok()?;
        if !drive.drive_state().writable {
            return None;
        }
        self.told.incarnation = drive.incarnation();
        self.note();
        Some(drive)
    }

    /// Rows in flight at once.
    async fn rows(&mut self, drive: &Drive, slab: u64, blocks: &[u32]) -> Option<()> {
        let hot = self.told.hot(slab, DRIVE);
        let acked = hot.acked;
        let rows: Vec<_> = blocks.iter().map(|blocks| hot.writer.row(*blocks, acked)).collect();
        self.note();
        let mut sent: futures::stream::FuturesOrdered<_> =
            rows.into_iter().map(|(append, payload)| drive.append(append, payload)).collect();
        while let Some(answer) = futures::StreamExt::next(&mut sent).await {
            answer.ok()?;
            self.told.hot(slab, DRIVE).acked += 1;
            self.note();
        }
        Some(())
    }

    async fn seal(&mut self, drive: &Drive, slab: u64, epoch: u32) -> Option<SealReport> {
        self.told.hot(slab, DRIVE).fence.asked = Some(epoch);
        self.note();
        let writer = self.told.hot[&slab].writer.clone();
        let report = writer.seal(drive, epoch).await.ok()?;
        let hot = self.told.hot(slab, DRIVE);
        hot.fence.done = Some(epoch);
        hot.acked = report.rows;
        self.note();
        Some(report)
    }

    async fn settle(&mut self, drive: &Drive, slab: u64, report: &SealReport, rows: u32) -> Option<()> {
        self.told.hot(slab, DRIVE).settled.asked = Some(rows);
        self.note();
        let settle = self.told.hot[&slab].writer.settle_at(report.epoch.get(), rows, report);
        drive.settle(settle).await.ok()?;
        self.told.hot(slab, DRIVE).settled.done = Some(rows);
        self.note();
        Some(())
    }

    async fn free_hot(&mut self, drive: &Drive, slab: u64) -> Option<()> {
        self.told.hot(slab, DRIVE).freed.asked = Some(());
        self.note();
        let address = self.told.hot[&slab].writer.address;
        drive.free(Free { address }).await.ok()?;
        self.told.hot(slab, DRIVE).freed.done = Some(());
        self.note();
        Some(())
    }

    async fn pieces(&mut self, drive: &Drive, slab: u64, image_blocks: u32, piece_blocks: u32) -> Option<()> {
        let fresh =
            Cold { maker: Maker::new(slab, image_blocks), finished: Deed::default(), freed: Deed::default() };
        let maker = self.told.cold.entry(slab).or_insert(fresh).maker.clone();
        self.note();
        maker.pieces(drive, piece_blocks).await.ok()
    }

    async fn finish(&mut self, drive: &Drive, slab: u64) -> Option<()> {
        self.told.cold.get_mut(&slab).unwrap().finished.asked = Some(());
        self.note();
        let maker = self.told.cold[&slab].maker.clone();
        maker.finish(drive).await.ok()?;
        self.told.cold.get_mut(&slab).unwrap().finished.done = Some(());
        self.note();
        Some(())
    }

    async fn free_cold(&mut self, drive: &Drive, slab: u64) -> Option<()> {
        self.told.cold.get_mut(&slab).unwrap().freed.asked = Some(());
        self.note();
        let address = self.told.cold[&slab].maker.address;
        drive.free(Free { address }).await.ok()?;
        self.told.cold.get_mut(&slab).unwrap().freed.done = Some(());
        self.note();
        Some(())
    }

    /// Everything once; stops where the power does.
    async fn play(&mut self) -> Option<()> {
        self.format(DRIVE).await?;
        let drive = &self.open().await?;
        // Alone, then three in one batch, the second into the next extent, the third behind it.
        self.rows(drive, 1, &[1]).await?;
        self.rows(drive, 1, &[2, 66, 1]).await?;
        self.rows(drive, 2, &[1]).await?;
        let report = self.seal(drive, 1, 2).await?;
        self.settle(drive, 1, &report, report.rows - 1).await?;
        // A cut over the ends of three extents, which others take later.
        self.rows(drive, 7, &[1, 70, 130]).await?;
        let report = self.seal(drive, 7, 2).await?;
        self.settle(drive, 7, &report, 1).await?;
        // A fence where nothing is, then a later one.
        self.seal(drive, 3, 2).await?;
        self.seal(drive, 3, 3).await?;
        self.free_hot(drive, 2).await?;
        self.pieces(drive, 11, 12, 2).await?;
        self.finish(drive, 11).await?;
        self.free_hot(drive, 1).await?;
        // Over three extents at once, whose headers are freed in two steps.
        self.rows(drive, 4, &[130]).await?;
        self.free_hot(drive, 4).await?;
        // Left behind, begun again by another attempt, beside a row that is flushed meanwhile.
        self.pieces(drive, 12, 150, 30).await?;
        self.rows(drive, 5, &[1, 1]).await?;
        self.pieces(drive, 12, 150, 40).await?;
        self.finish(drive, 12).await?;
        self.free_cold(drive, 11).await?;

        let drive = &self.open().await?;
        self.rows(drive, 6, &[1, 62]).await?;
        self.seal(drive, 5, 2).await?;
        self.seal(drive, 6, 2).await?;
        self.free_cold(drive, 12).await?;
        self.format(DriveId::new(10)).await?;
        self.open().await.map(drop)
    }
}

fn blank() -> Disk {
    Disk::new(2 * EXTENTS_AT + EXTENTS * EXTENT)
}

/// Says which image it was if its check fails.
struct Naming<'a>(&'a Cut, usize, &'static str);

impl Drop for Naming<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: cut after {} changes, image {}", self.2, self.0.position, self.1);
        }
    }
}

#[test]
fn whatever_a_cut_leaves_of_one_drive_keeps_its_word_and_so_does_a_second_cut() {
    run(async {
        let recorded = Recorded::new(blank());
        let mut tale = Tale::new(&recorded);
        tale.play().await.expect("nothing fails");
        let log = recorded.log();
        let (mut seen, mut images, mut second) = (BTreeSet::new(), 0u64, 0u64);
        for seed in seeds() {
            for cut in cuts(&blank(), &log) {
                let (place, told) = tale.at(cut.position);
                for (index, image) in cut.images(seed).into_iter().enumerate() {
                    if !seen.insert((place, image.hash())) {
                        continue;
                    }
                    let _naming = Naming(&cut, index, "first cut");
                    images += 1;
                    check(&Recorded::new(image.clone()), told).await;
                    second += cut_opening(&cut, seed, image, told).await;
                }
            }
        }
        println!("one drive: {} changes, {images} images, {second} of cut openings", log.len());
        assert!(log.len() > 100 && images > 1000 && second > 500, "the workload has become too small");
    });
}

/// Opens what a cut left, and cuts that too.
async fn cut_opening(first: &Cut, seed: u64, image: Disk, told: &Told) -> u64 {
    let recorded = Recorded::new(image.clone());
    if open(&recorded).await.is_err() {
        return 0;
    }
    let log = recorded.log();
    let only_superblocks = log.len() <= 2 * superblock::COPIES;
    if only_superblocks && !image.hash().is_multiple_of(OPENINGS_CUT_ONE_IN) {
        return 0;
    }
    let (mut seen, mut tried) = (BTreeSet::new(), 0);
    for cut in cuts(&image, &log) {
        for (index, image) in cut.images(seed).into_iter().enumerate() {
            if seen.insert(image.hash()) {
                let _naming = (Naming(first, 0, "of"), Naming(&cut, index, "second cut"));
                tried += 1;
                check(&Recorded::new(image), told).await;
            }
        }
    }
    tried
}

#[test]
fn what_a_killed_run_left_in_the_cache_is_not_told_durable_before_it_is() {
    run(async {
        let mut tried = 0u64;
        let mut kills = 0;
        for at in 0.. {
            let recorded = Recorded::new(blank());
            let mut tale = Tale::new(&recorded);
            let trigger = Trigger::at(at);
            recorded.arm(&trigger, true);
            let ended = tale.play().await.is_some();
            if ended {
                break;
            }
            kills += 1;
            // The process is gone, the cache is not.
            recorded.arm(&Trigger::never(), false);
            let killed_at = recorded.position();
            let Ok((drive, _)) = open(&recorded).await else { continue };
            if Some(drive.id()) != tale.told.drive.done || tale.told.drive.asked != tale.told.drive.done {
                continue;
            }
            let mut told = tale.told.clone();
            let mut history = Vec::new();
            ask_again(&drive, &mut told, &mut |told| history.push((recorded.position(), told.clone()))).await;
            drop(drive);
            tale.history.extend(history);
            let mut seen = BTreeSet::new();
            for cut in cuts(&blank(), &recorded.log()).into_iter().filter(|cut| cut.position >= killed_at) {
                let (place, told) = tale.at(cut.position);
                for (index, image) in cut.few_images(at).into_iter().enumerate() {
                    if seen.insert((place, image.hash())) {
                        let _naming = Naming(&cut, index, "after a kill");
                        tried += 1;
                        check(&Recorded::new(image), told).await;
                    }
                }
            }
        }
        println!("one drive: {kills} kills, {tried} images of cuts after them");
        assert!(kills > 100 && tried > 1000, "the workload has become too small");
    });
}

#[test]
fn the_opening_of_a_drive_that_lost_half_its_superblocks_may_be_cut_too() {
    run(async {
        let recorded = Recorded::new(blank());
        let mut tale = Tale::new(&recorded);
        tale.format(DRIVE).await.unwrap();
        let drive = tale.open().await.unwrap();
        tale.rows(&drive, 1, &[1, 2]).await.unwrap();
        let offsets = Layout::superblock_offsets_bytes(2 * EXTENTS_AT + EXTENTS * EXTENT).unwrap();
        let mut tried = 0u64;
        for lost in [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]] {
            let mut start = recorded.disk();
            lost.into_iter().for_each(|copy: usize| start.write(offsets[copy], &[0xEE; BLOCK]));
            let opened = Recorded::new(start.clone());
            open(&opened).await.unwrap();
            for cut in cuts(&start, &opened.log()) {
                for image in cut.images(0) {
                    tried += 1;
                    check(&Recorded::new(image), &tale.told).await;
                }
            }
        }
        assert!(tried > 50, "{tried}");
    });
}

/// Openings cut one after the other, before one that finds a copy lost.
const OPENINGS_CUT_BEFORE: usize = 3;
/// Of what they leave, so much is gone on with.
const OPENINGS_LEFT_MAX: usize = 8;

#[test]
fn openings_that_were_cut_leave_a_drive_that_may_lose_a_copy_and_be_cut_again() {
    run(async {
        let recorded = Recorded::new(blank());
        let mut tale = Tale::new(&recorded);
        tale.format(DRIVE).await.unwrap();
        let drive = tale.open().await.unwrap();
        tale.rows(&drive, 1, &[1, 2]).await.unwrap();
        let offsets = Layout::superblock_offsets_bytes(2 * EXTENTS_AT + EXTENTS * EXTENT).unwrap();
        let (mut tried, mut left) = (0u64, vec![recorded.disk()]);
        for _ in 0..OPENINGS_CUT_BEFORE {
            let mut next = BTreeMap::new();
            for start in &left {
                let opened = Recorded::new(start.clone());
                open(&opened).await.unwrap();
                let images = cuts(start, &opened.log()).into_iter().flat_map(|cut| cut.images(0));
                next.extend(images.map(|image| (image.hash(), image)));
            }
            let step = next.len().div_ceil(OPENINGS_LEFT_MAX);
            left = next.into_values().step_by(step).collect();
            for start in &left {
                for offset in offsets {
                    let mut start = start.clone();
                    start.write(offset, &[0xEE; BLOCK]);
                    let opened = Recorded::new(start.clone());
                    check(&opened, &tale.told).await;
                    for cut in cuts(&start, &opened.log()[..2 * superblock::COPIES]) {
                        for image in cut.few_images(tried) {
                            tried += 1;
                            check(&Recorded::new(image), &tale.told).await;
                        }
                    }
                }
            }
        }
        assert!(tried > 500, "{tried}");
    });
}
