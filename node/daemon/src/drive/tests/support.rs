//! A drive in memory, its surroundings, and what writers and readers of it look like.

use crate::drive::fragment::Body;
use crate::drive::{Drive, FormatSpec, OpenError, format};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use strongroom_core::mutants::MutantSwitch;
use strongroom_env::real::{OsRng, RealSpawn};
use strongroom_env::{Clock, Env, Handler, Net, NetError};
use strongroom_format::cold;
use strongroom_format::wire::Frame;
use strongroom_format::wire::message::{
    Append, FinishFragment, FragmentAddress, FragmentReport, Free, Read, Refusal, Report, Seal, SealReport,
    Settle, WriteFragment,
};
use strongroom_io::memory::{Fault, FaultPlan, Intent, MemoryDevice, MemoryMedia};
use strongroom_types::limits::EXTENT_LEN_BYTES_MIN;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{
    ClusterId, Deadline, DriveId, Epoch, FragmentIndex, Generation, Instant, NodeId, Profile, RowSequence,
    SlabId, WallTime,
};
use tokio::sync::watch;

pub(super) const CLUSTER: ClusterId = ClusterId::new(7);
pub(super) const DRIVE: DriveId = DriveId::new(9);
pub(super) const EXTENT: u64 = EXTENT_LEN_BYTES_MIN as u64;
pub(super) const BLOCK: u32 = BLOCK_LEN_BYTES;
/// Where extents begin on the device.
pub(super) const EXTENTS_AT: u64 = 1 << 20;

/// Time that passes when a test says so.
pub(super) struct TestClock(watch::Sender<u64>);

impl TestClock {
    pub(super) fn advance(&self, duration: Duration) {
        self.0.send_modify(|nanos| *nanos += u64::try_from(duration.as_nanos()).unwrap());
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(*self.0.borrow())
    }

    fn wall(&self) -> WallTime {
        WallTime::from_unix_millis(0)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let end = self.now().after(duration).as_nanos();
        let mut now = self.0.subscribe();
        Box::pin(async move { drop(now.wait_for(|now| *now >= end).await) })
    }
}

struct Alone;

impl Net for Alone {
    fn call(&self, to: NodeId, _: Frame, _: Deadline) -> BoxFuture<'static, Result<Frame, NetError>> {
        Box::pin(async move { Err(NetError::Unreachable { to }) })
    }

    fn serve(&self, _: Arc<dyn Handler>) {}
}

/// Runs a test.
pub(super) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
}

/// Operations in flight at once are done in the reverse of the order they were submitted in, more or less.
#[derive(Default)]
pub(super) struct Reversed(AtomicU64);

impl FaultPlan for Reversed {
    fn fault(&self, _: &Intent) -> Fault {
        Fault::None
    }

    fn before(&self, _: &Intent) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let turns = 64 - self.0.fetch_add(1, Ordering::Relaxed) % 64;
        Some(Box::pin(async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        }))
    }
}

/// A drive in use.
pub(super) struct World {
    pub(super) media: Arc<MemoryMedia>,
    pub(super) clock: Arc<TestClock>,
    pub(super) drive: Drive,
}

pub(super) fn spec() -> FormatSpec {
    FormatSpec { cluster: CLUSTER, drive: DRIVE, extent_len_bytes: EXTENT_LEN_BYTES_MIN, force: false }
}

pub(super) fn media(extents: u64) -> Arc<MemoryMedia> {
    MemoryMedia::new(2 * EXTENTS_AT + extents * EXTENT)
}

pub(super) fn device(media: &Arc<MemoryMedia>) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::open(media).unwrap())
}

pub(super) fn env() -> (Arc<TestClock>, Env) {
    let clock = Arc::new(TestClock(watch::Sender::new(0)));
    let rng = Arc::new(OsRng);
    let spawn = RealSpawn::new(tokio::runtime::Handle::current(), rng.clone(), 1);
    (clock.clone(), Env { clock, rng, spawn, net: Arc::new(Alone) })
}

impl World {
    /// A newly formatted drive.
    pub(super) async fn new(extents: u64) -> Self {
        let media = media(extents);
        format(device(&media).as_ref(), &spec()).await.unwrap();
        Self::open(media).await.unwrap()
    }

    pub(super) async fn open(media: Arc<MemoryMedia>) -> Result<Self, OpenError> {
        let (clock, env) = env();
        let drive = Drive::open(device(&media), CLUSTER, &env, MutantSwitch::NONE).await?;
        Ok(Self { media, clock, drive })
    }

    /// Ends the process and starts it again, without faults.
    pub(super) async fn restart(self) -> Self {
        let media = self.media.clone();
        media.set_plan(Arc::new(strongroom_io::memory::NoFaults));
        media.disconnect(1);
        drop(self);
        Self::open(media).await.unwrap()
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, crate::drive::state::State> {
        self.drive.shared.state()
    }

    pub(super) fn reports(&self) -> Vec<FragmentReport> {
        reports(&self.drive)
    }

    pub(super) fn report_of(&self, address: &FragmentAddress) -> Option<FragmentReport> {
        self.reports().into_iter().find(|report| report.address == *address)
    }

    /// Each extent is free, unknown, retired, or in exactly one fragment.
    pub(super) fn check_space(&self) {
        check_space(&self.drive);
    }

    /// Frees whatever is here; then all extents are free.
    pub(super) async fn free_all(&self) {
        free_all(&self.drive).await;
    }

    /// Device offset of a byte of a fragment's data.
    pub(super) fn place(&self, address: &FragmentAddress, position_bytes: u64) -> u64 {
        let location = self.drive.shared.geometry.locate(position_bytes);
        let state = self.state();
        let fragment = state.fragment(address).unwrap();
        let extent = fragment.extents.get(location.ordinal).unwrap();
        self.drive.shared.device_offset_bytes(extent, location.offset_bytes)
    }

    /// Device offset of an extent of a fragment.
    pub(super) fn extent_at(&self, address: &FragmentAddress, ordinal: usize) -> u64 {
        let extent = self.state().fragment(address).unwrap().extents.get(ordinal as u32).unwrap();
        self.drive.shared.device_offset_bytes(extent, 0)
    }
}

pub(super) fn reports(drive: &Drive) -> Vec<FragmentReport> {
    let (all, truncated) = drive.report(&Report { drive: drive.id(), after: None, limit: u32::MAX });
    assert!(!truncated);
    all
}

/// Each extent is free, unknown, retired, or in exactly one fragment.
pub(super) fn check_space(drive: &Drive) {
    let state = drive.shared.state();
    let used: Vec<u32> = state.fragments.values().flat_map(|fragment| fragment.extents.iter()).collect();
    let distinct: BTreeSet<u32> = used.iter().copied().collect();
    assert_eq!(used.len(), distinct.len(), "an extent is in two fragments");
    let aside = state.unknown_extents.len() + state.retired_extents.len();
    assert_eq!(
        state.extents.free_count() + u32::try_from(aside + used.len()).unwrap(),
        state.extents.total_count(),
        "free, unknown, retired and used are all there are"
    );
}

/// A fragment of an agreed length has just the extents that it needs.
pub(super) fn check_agreed(drive: &Drive) {
    let state = drive.shared.state();
    for (key, fragment) in &state.fragments {
        let Body::Hot(rows) = &fragment.body else { continue };
        if rows.mark.is_some_and(|mark| mark.settled) {
            let blocks =
                rows.ends_blocks.last().copied().unwrap_or(0) + u32::try_from(rows.chains.len()).unwrap();
            let needed = drive.shared.geometry.extents_for(u64::from(blocks * BLOCK));
            assert_eq!(fragment.extents.len(), needed as usize, "{key:?} with {blocks} blocks");
        }
    }
}

/// Frees whatever is here; then all extents are free.
pub(super) async fn free_all(drive: &Drive) {
    for report in reports(drive) {
        drive.free(Free { address: report.address }).await.unwrap();
    }
    let state = drive.shared.state();
    assert_eq!(state.unknown_extents.len(), 0);
    assert_eq!(state.extents.free_count(), state.extents.total_count());
}

pub(super) fn address(slab: u64, fragment: u8, generation: u32) -> FragmentAddress {
    FragmentAddress {
        drive: DRIVE,
        slab: SlabId::from_bits(slab),
        fragment: FragmentIndex::new(fragment),
        generation: Generation::new(generation),
    }
}

/// The bytes of a slab's image, or of a slice, from anywhere on: no two blocks are equal.
pub(super) fn bytes_of(address: &FragmentAddress, offset_bytes: u32, len_bytes: u32) -> Bytes {
    let salt = address.slab.to_bits() << 8 ^ u64::from(address.fragment.get());
    let byte = |at: u32| {
        let word = (salt ^ u64::from(at / 8) << 20).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (word ^ word >> 29).to_le_bytes()[(at % 8) as usize]
    };
    (offset_bytes..offset_bytes + len_bytes).map(byte).collect()
}

/// A writer of a slab, as one holder sees it, and what it should have.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) address: FragmentAddress,
    pub(super) epoch: Epoch,
    /// End of each row sent, in blocks.
    pub(super) ends: Vec<u32>,
}

pub(super) fn copies() -> Profile {
    Profile::copies(3).unwrap()
}

impl Writer {
    pub(super) fn new(slab: u64) -> Self {
        Self { address: address(slab, 0, 1), epoch: Epoch::FIRST, ends: Vec::new() }
    }

    pub(super) fn end_bytes(&self) -> u32 {
        self.ends.last().copied().unwrap_or(0) * BLOCK
    }

    /// The next row, of so many blocks.
    pub(super) fn row(&mut self, blocks: u32, committed_upto: u32) -> (Append, Bytes) {
        let offset_bytes = self.end_bytes();
        let append = Append {
            address: self.address,
            profile: copies(),
            epoch: self.epoch,
            sequence: RowSequence::new(u32::try_from(self.ends.len()).unwrap()),
            offset_bytes,
            committed_upto: RowSequence::new(committed_upto),
        };
        self.ends.push(offset_bytes / BLOCK + blocks);
        (append, bytes_of(&self.address, offset_bytes, blocks * BLOCK))
    }

    pub(super) async fn append(&mut self, drive: &Drive, blocks: u32) -> Result<(), Refusal> {
        let committed = u32::try_from(self.ends.len()).unwrap().saturating_sub(1);
        let (append, payload) = self.row(blocks, committed);
        let result = drive.append(append, payload).await;
        if result.is_err() {
            self.ends.pop();
        }
        result
    }

    pub(super) async fn rows(&mut self, drive: &Drive, rows: &[u32]) {
        for blocks in rows {
            self.append(drive, *blocks).await.unwrap();
        }
    }

    pub(super) async fn seal(&self, drive: &Drive, epoch: u32) -> Result<SealReport, Refusal> {
        drive.seal(Seal { address: self.address, profile: copies(), epoch: Epoch::new(epoch) }).await
    }

    pub(super) fn settle_at(&self, epoch: u32, rows: u32, report: &SealReport) -> Settle {
        let root = rows.checked_sub(1).map_or(0, |last| report.row_chain_crc32c[last as usize]);
        Settle { address: self.address, epoch: Epoch::new(epoch), rows, root_crc32c: root }
    }

    /// Everything that was sent reads back.
    pub(super) async fn check(&self, drive: &Drive) {
        let len = self.end_bytes();
        let step = 3 << 20;
        for at in (0..len).step_by(step) {
            let part = (len - at).min(u32::try_from(step).unwrap());
            let found = read(drive, &self.address, at, part).await;
            assert!(found == Ok(bytes_of(&self.address, at, part)), "bytes from {at} on: {:?}", found.err());
        }
    }
}

pub(super) async fn read(
    drive: &Drive,
    address: &FragmentAddress,
    offset: u32,
    len: u32,
) -> Result<Bytes, Refusal> {
    drive.read(Read { address: *address, offset_bytes: offset, len_bytes: len, foreground: true }).await
}

/// The profile of what a [`Maker`] makes.
pub(super) fn cold() -> Profile {
    Profile::new(2, 2).unwrap()
}

/// A maker of a cold fragment.
#[derive(Clone)]
pub(super) struct Maker {
    pub(super) address: FragmentAddress,
    pub(super) profile: Profile,
    pub(super) image_len_bytes: u32,
}

impl Maker {
    pub(super) fn new(slab: u64, image_blocks: u32) -> Self {
        Self { address: address(slab, 1, 2), profile: cold(), image_len_bytes: image_blocks * BLOCK }
    }

    pub(super) fn slice_len(&self) -> u32 {
        cold::slice_len(self.image_len_bytes, self.profile.data_count())
    }

    pub(super) async fn piece(&self, drive: &Drive, offset_bytes: u32, len: u32) -> Result<(), Refusal> {
        let write = WriteFragment {
            address: self.address,
            profile: self.profile,
            slice_len_bytes: self.slice_len(),
            offset_bytes,
        };
        drive.write_fragment(write, bytes_of(&self.address, offset_bytes, len)).await
    }

    pub(super) async fn pieces(&self, drive: &Drive, piece_blocks: u32) -> Result<(), Refusal> {
        let len = self.slice_len();
        for at in (0..len).step_by((piece_blocks * BLOCK) as usize) {
            self.piece(drive, at, (len - at).min(piece_blocks * BLOCK)).await?;
        }
        Ok(())
    }

    pub(super) async fn finish(&self, drive: &Drive) -> Result<u32, Refusal> {
        drive
            .finish_fragment(FinishFragment {
                address: self.address,
                image_len_bytes: self.image_len_bytes,
                epoch: Epoch::new(2),
                rows: 1,
                root_crc32c: 77,
            })
            .await
    }

    pub(super) async fn check(&self, drive: &Drive) {
        let step = 2 << 20;
        for at in (0..self.slice_len()).step_by(step) {
            let len = (self.slice_len() - at).min(u32::try_from(step).unwrap());
            let found = read(drive, &self.address, at, len).await;
            assert!(found == Ok(bytes_of(&self.address, at, len)), "bytes from {at} on: {:?}", found.err());
        }
    }
}
