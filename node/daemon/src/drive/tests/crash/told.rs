//! What was asked of a drive and what it acknowledged, and whether a drive found later keeps its word.

use super::super::support::{self, BLOCK, Maker, Writer, bytes_of, read};
use super::disk::Recorded;
use super::open;
use crate::drive::{Drive, OpenError};
use std::collections::BTreeMap;
use strongroom_format::superblock::SuperblockError;
use strongroom_format::wire::message::{FragmentAddress, Free, Refusal, SealReport};
use strongroom_types::{DriveId, Epoch};

/// Something asked, and perhaps acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deed<T> {
    pub(super) asked: Option<T>,
    pub(super) done: Option<T>,
}

impl<T> Default for Deed<T> {
    fn default() -> Self {
        Self { asked: None, done: None }
    }
}

#[derive(Clone)]
pub(super) struct Hot {
    /// All rows that were sent.
    pub(super) writer: Writer,
    /// Rows acknowledged.
    pub(super) acked: u32,
    pub(super) fence: Deed<u32>,
    pub(super) settled: Deed<u32>,
    pub(super) freed: Deed<()>,
}

#[derive(Clone)]
pub(super) struct Cold {
    pub(super) maker: Maker,
    pub(super) finished: Deed<()>,
    pub(super) freed: Deed<()>,
}

/// What was told at a moment.
#[derive(Clone, Default)]
pub(super) struct Told {
    /// The drive that was to be made of the device, the last one last.
    pub(super) drive: Deed<DriveId>,
    pub(super) drive_before: Option<DriveId>,
    pub(super) incarnation: u32,
    pub(super) hot: BTreeMap<u64, Hot>,
    pub(super) cold: BTreeMap<u64, Cold>,
}

impl Told {
    pub(super) fn hot(&mut self, slab: u64, drive: DriveId) -> &mut Hot {
        self.hot.entry(slab).or_insert_with(|| {
            let mut writer = Writer::new(slab);
            writer.address.drive = drive;
            let (fence, settled, freed) = Default::default();
            Hot { writer, acked: 0, fence, settled, freed }
        })
    }
}

/// Opens what is there and checks all of it; gives how often the drive was opened by then.
pub(super) async fn check(recorded: &Recorded, told: &Told) {
    let drive = match open(recorded).await {
        Ok((drive, _)) => drive,
        Err(error) => return check_unopened(recorded, told, &error).await,
    };
    if Some(drive.id()) == told.drive.done {
        assert!(drive.incarnation() > told.incarnation, "an opening that was told of is outdone");
    }
    support::check_space(&drive);
    support::check_agreed(&drive);
    assert_eq!(drive.damage().extents_unknown, 0, "a header is one sector: it is never torn");
    if Some(drive.id()) == told.drive.asked && told.drive_before.is_some_and(|before| before != drive.id()) {
        assert_eq!(support::reports(&drive), [], "newly formatted");
    } else {
        assert!(told.drive.done.is_none() || told.drive.done == Some(drive.id()));
        check_fragments(&drive, told).await;
    }
    support::check_space(&drive);
    support::check_agreed(&drive);
    support::free_all(&drive).await;
    let id = drive.id();
    drop(drive);
    let (drive, _) = open(recorded).await.unwrap();
    assert_eq!((drive.id(), support::reports(&drive)), (id, Vec::new()), "what was freed stays so");
    support::check_space(&drive);
}

/// Only a format may leave a device that does not open, and another one makes it good.
async fn check_unopened(recorded: &Recorded, told: &Told, error: &OpenError) {
    assert!(told.drive.done.is_none() || told.drive.asked != told.drive.done, "{error}");
    let cut =
        matches!(error, OpenError::Superblock(SuperblockError::Blank | SuperblockError::Damaged { .. }));
    assert!(cut, "{error}");
    let spec = crate::drive::FormatSpec { drive: DriveId::new(77), force: true, ..support::spec() };
    crate::drive::format(recorded.device().as_ref(), &spec).await.unwrap();
    let (drive, _) = open(recorded).await.unwrap();
    assert_eq!((drive.id(), support::reports(&drive)), (DriveId::new(77), Vec::new()));
    support::check_space(&drive);
}

async fn check_fragments(drive: &Drive, told: &Told) {
    for report in support::reports(drive) {
        let known = told.hot.values().any(|hot| hot.writer.address == report.address)
            || told.cold.values().any(|cold| cold.maker.address == report.address);
        assert!(known, "nobody asked for {:?}", report.address);
    }
    for hot in told.hot.values() {
        check_hot(drive, hot).await;
    }
    for cold in told.cold.values() {
        check_cold(drive, cold).await;
    }
}

fn is_here(drive: &Drive, address: &FragmentAddress) -> Option<bool> {
    support::reports(drive).iter().find(|report| report.address == *address).map(|report| report.sealed)
}

async fn check_hot(drive: &Drive, hot: &Hot) {
    let writer = &hot.writer;
    let here = is_here(drive, &writer.address);
    if hot.freed.done.is_some() {
        assert_eq!(here, None, "freed and acknowledged");
        let found = read(drive, &writer.address, 0, 1).await;
        assert_eq!(found, Err(Refusal::NotHere));
        return;
    }
    let promised = hot.acked > 0 || hot.fence.done.is_some();
    assert!(here.is_some() || !promised || hot.freed.asked.is_some(), "acknowledged and gone");
    if here.is_none() {
        return;
    }
    // No writer of before goes on, fenced or not.
    for row in [hot.acked, u32::try_from(writer.ends.len()).unwrap()] {
        let mut next = writer.clone();
        next.ends.truncate(row as usize);
        let refused = next.append(drive, 1).await;
        assert!(
            matches!(refused, Err(Refusal::Fenced { .. } | Refusal::DriveError)),
            "row {row}: {refused:?}"
        );
        // The write that frees a header empties the mark slots behind it, and may have got no further than those.
        if let Some(epoch) = hot.fence.done.filter(|_| hot.freed.asked.is_none()) {
            let fenced =
                matches!(refused, Err(Refusal::Fenced { epoch: found }) if found >= Epoch::new(epoch));
            assert!(fenced, "a fence that was answered at {epoch} is there: {refused:?}");
        }
    }
    if let Some(epoch) = hot.fence.done.filter(|_| hot.freed.asked.is_none()) {
        let lower = writer.seal(drive, epoch - 1).await;
        assert!(matches!(lower, Err(Refusal::Fenced { .. })), "{lower:?}");
    }
    let report = writer.seal(drive, 90).await.unwrap();
    check_report(drive, hot, &report).await;
    // The answer to a fence is the same as long as nothing was agreed.
    assert_eq!(writer.seal(drive, 91).await.unwrap().row_chain_crc32c, report.row_chain_crc32c);
}

async fn check_report(drive: &Drive, hot: &Hot, report: &SealReport) {
    let (writer, rows) = (&hot.writer, report.rows);
    match hot.settled {
        _ if hot.freed.asked.is_some() => {}
        Deed { done: Some(agreed), .. } => assert_eq!(rows, agreed, "settled and acknowledged"),
        Deed { asked: Some(agreed), .. } => assert!(rows == agreed || rows >= hot.acked),
        Deed { .. } => assert!(rows >= hot.acked, "{rows} rows of {} acknowledged", hot.acked),
    }
    assert_eq!(report.row_ends_blocks[..], writer.ends[..rows as usize], "nothing that was not sent");
    assert!(report.committed_upto.get() <= rows.max(hot.acked));
    for row in 0..rows {
        let bad = report.bad_rows.iter().any(|bad| bad.get() == row);
        assert!(!bad || row >= hot.acked, "row {row} of {} acknowledged ones is bad", hot.acked);
        let start = row.checked_sub(1).map_or(0, |before| writer.ends[before as usize]) * BLOCK;
        let end = writer.ends[row as usize] * BLOCK;
        match read(drive, &writer.address, start, end - start).await {
            Ok(bytes) => {
                assert!(bytes == bytes_of(&writer.address, start, end - start), "wrong bytes in row {row}")
            }
            Err(refusal) => assert!(bad, "row {row} is clean and cannot be read: {refusal}"),
        }
    }
}

async fn check_cold(drive: &Drive, cold: &Cold) {
    let maker = &cold.maker;
    let here = is_here(drive, &maker.address);
    if cold.freed.done.is_some() {
        return assert_eq!(here, None, "freed and acknowledged");
    }
    assert!(
        here == Some(true) || cold.finished.done.is_none() || cold.freed.asked.is_some(),
        "finished and gone"
    );
    match here {
        Some(true) => {
            assert!(cold.finished.asked.is_some(), "nobody ended it");
            maker.check(drive).await;
            // A retry of the conversion.
            maker.pieces(drive, 5).await.unwrap();
            maker.finish(drive).await.unwrap();
        }
        Some(false) => {
            let found = read(drive, &maker.address, 0, 1).await;
            assert!(matches!(found, Err(Refusal::Beyond { .. } | Refusal::Corrupt { .. })), "{found:?}");
            assert_eq!(maker.finish(drive).await, Err(Refusal::Beyond { len_bytes: 0 }));
            maker.pieces(drive, 5).await.unwrap();
            maker.finish(drive).await.unwrap();
        }
        None => return,
    }
    maker.check(drive).await;
}

/// Asks again for all that was asked, as callers do who heard nothing: what is acknowledged now counts as what was then.
pub(super) async fn ask_again(drive: &Drive, told: &mut Told, note: &mut dyn FnMut(&Told)) {
    told.incarnation = drive.incarnation();
    note(told);
    for slab in told.hot.keys().copied().collect::<Vec<_>>() {
        let hot = told.hot[&slab].clone();
        if hot.freed.asked.is_some() {
            drive.free(Free { address: hot.writer.address }).await.unwrap();
            told.hot.get_mut(&slab).unwrap().freed.done = Some(());
        } else if let Some(epoch) = hot.fence.asked {
            told.hot.get_mut(&slab).unwrap().fence.asked = Some(epoch);
            let Ok(report) = hot.writer.seal(drive, epoch).await else { continue };
            let told = told.hot.get_mut(&slab).unwrap();
            told.fence.done = Some(epoch);
            // From here on they are what a sealer may count on.
            if hot.settled.asked.is_none() && report.bad_rows.is_empty() {
                told.acked = told.acked.max(report.rows);
            }
            if let Some(rows) = hot.settled.asked.filter(|rows| report.rows >= *rows) {
                drive.settle(hot.writer.settle_at(epoch, rows, &report)).await.unwrap();
                told.settled.done = Some(rows);
            }
        }
        note(told);
    }
    for slab in told.cold.keys().copied().collect::<Vec<_>>() {
        let cold = told.cold[&slab].clone();
        if cold.freed.asked.is_some() {
            drive.free(Free { address: cold.maker.address }).await.unwrap();
            told.cold.get_mut(&slab).unwrap().freed.done = Some(());
        } else if cold.finished.asked.is_some() {
            let finished = cold.maker.finish(drive).await.is_ok();
            told.cold.get_mut(&slab).unwrap().finished.done = finished.then_some(());
        }
        note(told);
    }
}
