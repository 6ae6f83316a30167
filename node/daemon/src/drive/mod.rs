//! The drive engine: fragments on one device.
//!
//! Owns the extents of a drive and the fragments in them, and answers the drive requests of peers: append, read, seal, settle,
//! cold pieces, free, report. Knows nothing of who asks, of the slab table, or of other drives.
//!
//! Everything that changes the media goes through one lane ([`lane`]) a drive: it takes all that waits, writes it at once, flushes
//! once, then answers. That is the group commit, and it makes "each holder has a prefix" plain: a batch is durable whole or its
//! fragments take no more rows. Reads ([`read`]) go beside the lane and check every block.
//!
//! There is no index on the media: `scan` reads the extent headers and row headers at start and rebuilds [`fragment::Fragment`]s. Before that the
//! superblock's incarnation is raised and the device flushed: a run of before that was killed may have left its writes in the device's cache, and
//! what is found is told as durable.
//!
//! **Invariants** An answer that says durable is sent after the flush that makes it so. Once the lane runs, nothing else writes or flushes. An extent
//! is free only if its header said so, whole. A fragment that was found at start takes no more rows (its last run ended without a word about what was in flight).

pub mod standing;
pub mod extents;
pub mod extent_list;
pub mod fragment;
pub mod state;
mod media;
mod load;
pub mod read;
pub mod open;
mod job;
pub mod append;
pub mod mark;
pub mod slice;
pub mod lane;
pub mod verify;
pub mod tour;
mod scan;

use self::job::Job;
use self::lane::Lane;
use self::load::Attended;
use self::standing::Standing;
use self::state::State;
use bytes::Bytes;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_core::mutants::MutantSwitch;
use strongroom_env::Env;
use strongroom_format::extent::FragmentGeometry;
use strongroom_format::superblock::{Layout, SuperblockError};
use strongroom_format::wire::message::{
    Append, DriveState, FinishFragment, FragmentAddress, FragmentReport, Free, Read, Refusal, Report, Seal,
    SealReport, Settle, WriteFragment,
};
use strongroom_io::meter::Meter;
use strongroom_io::{Class, Device};
use strongroom_types::{DriveId, Profile};
use tokio::sync::{mpsc, oneshot};

pub use open::{FormatSpec, OpenError, format, inspect};

/// One drive, open.
pub struct Drive {
    shared: Arc<Shared>,
    lane: mpsc::Sender<Job>,
}

/// What the lane and the readers share.
pub(crate) struct Shared {
    pub(crate) id: DriveId,
    /// The incarnations that the superblocks may say as long as the device is this drive. Locked while they are read or written.
    expected: tokio::sync::Mutex<RangeInclusive<u32>>,
    /// The one that may be told.
    incarnation: AtomicU32,
    pub(crate) device: Arc<Attended>,
    pub(crate) layout: Layout,
    pub(crate) geometry: FragmentGeometry,
    pub(crate) mutants: MutantSwitch,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// Changes the standing. A device that is another drive's stays so.
    fn stand(&self, standing: Standing) {
        let mut state = self.state();
        if state.standing != Standing::Replaced {
            state.standing = standing;
        }
    }

    pub(crate) async fn check_identity(&self) {
        let expected = self.expected.lock().await;
        let own = match open::inspect(self.device.as_ref()).await {
            Ok(found) => found.drive == self.id && expected.contains(&found.incarnation),
            Err(OpenError::Superblock(SuperblockError::Blank | SuperblockError::Foreign)) => false,
            Err(_) => true,
        };
        if !own && self.state().standing != Standing::Replaced {
            tracing::error!(drive = %self.id, "device is not this drive any more: erased, exchanged, or opened elsewhere");
            self.stand(Standing::Replaced);
        }
    }

    /// Device offset of a place in extent `index`.
    pub(crate) fn device_offset_bytes(&self, index: u32, offset_bytes: u32) -> u64 {
        let extent = self.layout.extent_offset_bytes(index).expect("an extent of this drive");
        extent + u64::from(offset_bytes)
    }
}

/// What is wrong with a drive, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Whether its word counts.
    pub standing: Standing,
    /// A write or flush failed in this run: no new fragments.
    pub suspect: bool,
    /// Extents that are neither free nor in a fragment, since their headers cannot be read or do not check. While there are any, a fragment
    /// that is not known here is not said to be absent.
    pub extents_unknown: u32,
    /// Extents that were taken out of use, since blocks of them could not be read.
    pub extents_retired: u32,
    /// The first of those that are not known, at most [`crate::limits::DAMAGE_EXTENTS_TOLD_MAX`].
    pub extents_unknown_first: Vec<u32>,
    /// Fragments that take nothing more because a write or flush of theirs failed in this run.
    pub fragments_failed: u32,
    /// Fragments of which more may be here than could be told from their headers: nothing is said of them at a seal.
    pub fragments_unreadable: u32,
}

/// Space of a drive, for status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of the device.
    pub bytes_total: u64,
    /// Bytes of extents that are in use.
    pub bytes_allocated: u64,
    /// Bytes of headers, rows, slices and tables in them.
    pub bytes_used: u64,
    /// Fragments.
    pub fragments: u64,
}

impl Drive {
    /// Opens a formatted drive: raises its incarnation, reads its headers, then takes requests. A drive that cannot be written is opened for what
    /// can be read of it. Admitted at once: whoever compares incarnations says [`Drive::await_admission`] before anybody can ask.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was written.
    pub async fn open(
        device: Arc<dyn Device>,
        cluster: strongroom_types::ClusterId,
        env: &Env,
        mutants: MutantSwitch,
    ) -> Result<Self, OpenError> {
        let device = Arc::new(Attended::new(device, env.clock.clone()));
        let found = open::check_superblock(device.as_ref(), cluster).await?;
        let superblock = found.superblock;
        let layout = superblock.layout().map_err(OpenError::Layout)?;
        let geometry = FragmentGeometry::new(&layout);
        let incarnation = open::next_incarnation(superblock.incarnation);
        let verified = superblock.verified;
        let raised = open::raise(device.as_ref(), env.clock.as_ref(), &found, incarnation, verified).await;
        if let Some(error) = &raised.failed {
            tracing::error!(drive = %superblock.drive, %error, "superblock cannot be written: no new fragments on this drive");
        }
        let state = scan::scan(device.clone(), superblock.drive, layout, &raised, verified).await;
        let shared = Arc::new(Shared {
            id: superblock.drive,
            incarnation: AtomicU32::new(raised.incarnation),
            expected: tokio::sync::Mutex::new(raised.expected),
            device,
            layout,
            geometry,
            mutants,
            state: Mutex::new(state),
        });
        let (lane, jobs) = mpsc::channel(crate::limits::DRIVE_JOBS_WAITING_MAX);
        env.spawn.spawn("drive", Box::pin(Lane::new(shared.clone(), env.clone(), jobs).run()));
        Ok(Self { shared, lane })
    }

    /// The drive.
    pub fn id(&self) -> DriveId {
        self.shared.id
    }

    /// How often the drive was opened, this time included; higher than all that it ever told, unless its image is an old one. Where the superblock
    /// could not be written it is the one of before.
    pub fn incarnation(&self) -> u32 {
        self.shared.incarnation.load(Ordering::Relaxed)
    }

    /// Whether its word counts.
    pub fn standing(&self) -> Standing {
        self.shared.state().standing
    }

    /// From now on, until the drive is admitted, fences are refused as busy and what is not here is not called absent.
    pub fn await_admission(&self) {
        self.stand(Standing::Awaited);
    }

    /// The incarnation is above the last one that the cluster saw: the drive is the one it was.
    pub fn admit(&self) {
        self.stand(Standing::Admitted);
    }

    /// The incarnation is not above the last one that the cluster saw: an old image. To be remembered by whoever found out, since the next
    /// opening raises it again.
    pub fn refuse_as_stale(&self) {
        tracing::error!(drive = %self.shared.id, incarnation = self.incarnation(), "drive came back with an old image");
        self.stand(Standing::Stale);
    }

    fn stand(&self, standing: Standing) {
        self.shared.stand(standing);
    }

    /// Looks whether the device still is this drive, and takes it out if it is not: erased, exchanged, or opened by another process. Superblocks
    /// that cannot be read or do not check say nothing.
    pub async fn check_identity(&self) -> Standing {
        self.shared.check_identity().await;
        self.standing()
    }

    /// Raises the incarnation again, durably. An image of the drive from before this is told from it once the cluster has seen the new one; images
    /// that are younger are not, so whoever wants to tell those of an hour ago does this every hour.
    ///
    /// # Errors
    /// `DriveError` where it could not be written, or is not this drive any more.
    pub async fn raise_incarnation(&self) -> Result<u32, Refusal> {
        let shared = &self.shared;
        let mut expected = shared.expected.lock().await;
        let found = open::find(shared.device.as_ref()).await.map_err(|_| Refusal::DriveError)?;
        let superblock = &found.superblock;
        if superblock.drive != shared.id || !expected.contains(&superblock.incarnation) {
            shared.stand(Standing::Replaced);
            return Err(Refusal::DriveError);
        }
        // Above all that was tried. It counts as tried from now on, whether the answer is waited for or not.
        let incarnation = open::next_incarnation(*expected.end());
        *expected = *expected.start()..=incarnation;
        let (reply, answer) = oneshot::channel();
        // Unlike a row it waits for a place: who asks does not ask again soon.
        let job = Job::Raise { found: Box::new(found), incarnation, reply };
        self.lane.send(job).await.map_err(|_| Refusal::Busy)?;
        let raised = answer.await.unwrap_or(Err(Refusal::Busy))?;
        if raised.failed.is_some() {
            return Err(Refusal::DriveError);
        }
        *expected = raised.expected;
        shared.incarnation.store(raised.incarnation, Ordering::Relaxed);
        Ok(raised.incarnation)
    }

    /// What its device was asked for since it was opened, and how it did.
    pub fn meter(&self) -> &Meter {
        self.shared.device.meter()
    }

    /// What is wrong with it.
    pub fn damage(&self) -> Damage {
        self.shared.state().damage()
    }

    /// For pongs and placement.
    pub fn drive_state(&self) -> DriveState {
        let state = self.shared.state();
        DriveState {
            drive: self.shared.id,
            extents_total: state.extents.total_count(),
            extents_free: state.extents.free_count(),
            extent_len_bytes: self.shared.layout.extent_len_bytes(),
            writable: !state.suspect && state.standing == Standing::Admitted,
            gone: matches!(state.standing, Standing::Stale | Standing::Replaced),
        }
    }

    /// For status.
    pub fn space(&self) -> Space {
        let state = self.shared.state();
        let in_use = state.extents.total_count() - state.extents.free_count();
        Space {
            bytes_total: self.shared.layout.device_len_bytes(),
            bytes_allocated: u64::from(in_use) * u64::from(self.shared.layout.extent_len_bytes()),
            bytes_used: state.fragments.values().map(state::used_bytes).sum(),
            fragments: state.fragments.len() as u64,
        }
    }

    /// Appends a row; durable when this returns.
    ///
    /// # Errors
    /// The refusal; after `DriveError` the fragment takes no more rows.
    pub async fn append(&self, append: Append, payload: Bytes) -> Result<(), Refusal> {
        self.through_lane(|reply| Job::Append { append, payload, reply }).await
    }

    /// Fences a slab and reports what is here, each row that this run did not write itself read and checked.
    ///
    /// # Errors
    /// The refusal.
    pub async fn seal(&self, seal: Seal) -> Result<SealReport, Refusal> {
        self.through_lane(|reply| Job::Seal { seal, reply }).await?;
        read::seal_report(&self.shared, &seal).await
    }

    /// Cuts a hot fragment to the agreed length; that is durable when this returns. The extents behind it are free soon after.
    ///
    /// # Errors
    /// The refusal: `Beyond` where rows are missing here.
    pub async fn settle(&self, settle: Settle) -> Result<(), Refusal> {
        self.through_lane(|reply| Job::Settle { settle, reply }).await
    }

    /// Writes a piece of a cold fragment; not durable before `finish_fragment`.
    ///
    /// # Errors
    /// The refusal.
    pub async fn write_fragment(&self, write: WriteFragment, payload: Bytes) -> Result<(), Refusal> {
        self.background_turn(Class::Convert).await;
        self.through_lane(|reply| Job::Piece { write, payload, reply }).await
    }

    /// Makes a cold fragment durable with its checksum table; gives the table's CRC32C.
    ///
    /// # Errors
    /// The refusal.
    pub async fn finish_fragment(&self, finish: FinishFragment) -> Result<u32, Refusal> {
        self.through_lane(|reply| Job::Finish { finish, reply }).await
    }

    /// Gives back the extents of a fragment; it is gone from media when this returns. A fragment that is not here is `Ok`.
    ///
    /// # Errors
    /// The refusal.
    pub async fn free(&self, free: Free) -> Result<(), Refusal> {
        self.through_lane(|reply| Job::Free { free, reply }).await
    }

    /// Reads a range, every block checked.
    ///
    /// # Errors
    /// The refusal. `NotHere` and `Beyond` are said only from what is known in memory, never because a read failed.
    pub async fn read(&self, request: Read) -> Result<Bytes, Refusal> {
        read::read(&self.shared, request).await
    }

    /// Whether a fragment of a sealed slab with this profile, that the slab table says is here, is not whole here. Says nothing, that is no, while the
    /// drive's word does not count.
    pub fn lacks(&self, address: &FragmentAddress, profile: Profile) -> bool {
        self.shared.state().lacks(address, profile)
    }

    /// Whether background work starts nothing while users wait for the drive; it does, unless it is told otherwise.
    pub fn set_yields(&self, yields: bool) {
        self.shared.device.set_yields(yields);
    }

    /// Waits until background work of this class may begin an operation on this drive.
    pub async fn background_turn(&self, class: Class) {
        self.shared.device.turn(class).await;
    }

    /// A page of what is here.
    pub fn report(&self, report: &Report) -> (Vec<FragmentReport>, bool) {
        self.shared.state().report(self.shared.id, report)
    }

    async fn through_lane<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Job,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.lane.try_send(job(reply)).map_err(|_| Refusal::Busy)?;
        // The lane ends only with the node.
        answer.await.unwrap_or(Err(Refusal::Busy))
    }
}

#[cfg(test)]
mod tests;
