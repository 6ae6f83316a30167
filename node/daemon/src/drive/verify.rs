//! Reading a fragment again, all of it, to see whether it still is what was written: extent headers, marks, rows or slice, checksum tables.
//!
//! In the order in which a fragment lies on the device, a few reads ahead. What cannot be read is read block by block, each of them twice; a
//! block that does not match is read once more alone. Only what is known in memory decides what should be there ([`content`]), and before anything is
//! said it is looked up once more: what was freed, cut or made again meanwhile says nothing.
//!
//! Nothing is mended here. A fragment with a bad block is noted as such, and is told to the slab table by [`crate::sweeper`]; extents with blocks that cannot
//! be read are retired once the fragment is given back.

mod content;

use self::content::{Block, Content};
use super::Shared;
use super::extent_list::ExtentList;
use super::fragment::{Body, Fragment, SliceState};
use super::open::read_again;
use super::read::read_into;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_core::mutants::Mutant;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::wire::message::FragmentAddress;
use strongroom_io::{AlignedBuffer, Class, DeviceError};
use strongroom_types::units::BLOCK_LEN_BYTES;

/// Bytes of one read.
const PIECE_LEN_BYTES: u32 = 1 << 20;

/// Memory for reads, used again and again: a fresh megabyte for each costs as much as checking it, since the kernel gives it page by page. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct PieceBuffers {
    spare: Arc<Mutex<Vec<AlignedBuffer>>>,
}

impl PieceBuffers {
    fn take(&self, len_bytes: u32) -> AlignedBuffer {
        let len_bytes = len_bytes as usize;
        let mut spare = self.lock();
        match spare.iter().position(|buffer| buffer.len() == len_bytes) {
            Some(place) => spare.swap_remove(place),
            None => AlignedBuffer::zeroed(len_bytes),
        }
    }

    /// Whole pieces are kept, of which there are as many as reads were under way at once.
    fn give_back(&self, buffer: AlignedBuffer) {
        if buffer.len() == PIECE_LEN_BYTES as usize {
            self.lock().push(buffer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AlignedBuffer>> {
        self.spare.lock().expect("no code panics while it holds this lock")
    }
}

/// What came of verifying a fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Bytes that were read.
    pub bytes: u64,
    /// Blocks that do not match.
    pub blocks_corrupt: u64,
    /// Blocks that cannot be read.
    pub blocks_unreadable: u64,
    /// Where the first of them is on the device.
    pub first_bad_bytes: Option<u64>,
}

impl Verdict {
    /// Whether nothing bad was found.
    pub fn is_whole(&self) -> bool {
        self.blocks_corrupt == 0 && self.blocks_unreadable == 0
    }
}

/// Why a fragment was not verified to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// It was given back, cut, or made again meanwhile, or is being made.
    #[error("the fragment is not what it was any more")]
    Changed,
    /// The device has no place for the read now.
    #[error("the device is busy")]
    Busy,
    /// The device is closed, or is not this drive any more.
    #[error("the drive is gone")]
    Gone,
}

/// A stretch of one extent.
#[derive(Clone, Copy)]
struct Stretch {
    ordinal: u32,
    extent: u32,
    offset_bytes: u32,
    len_bytes: u32,
}

type Reading = BoxFuture<'static, (Stretch, Result<AlignedBuffer, DeviceError>)>;

/// A fragment that is being verified.
pub struct Verification {
    shared: Arc<Shared>,
    address: FragmentAddress,
    extents: ExtentList,
    content: Content,
    /// Not begun yet, in reverse.
    ahead: Vec<Stretch>,
    under_way: FuturesOrdered<Reading>,
    /// Reads under way at once.
    depth: usize,
    buffers: PieceBuffers,
    verdict: Verdict,
    extents_bad: BTreeSet<u32>,
}

impl Verification {
    /// Begins with the fragment `key`; `None` where there is nothing of it to verify: it is not here, is being made, or is known to be damaged.
    pub(super) async fn begin(
        shared: Arc<Shared>,
        key: FragmentKey,
        depth: usize,
        buffers: PieceBuffers,
    ) -> Result<Option<Self>, NotVerified> {
        let (extents, content) = {
            let state = shared.state();
            let Some(fragment) = state.fragments.get(&key) else { return Ok(None) };
            let Some(content) = Content::of(key, fragment) else { return Ok(None) };
            (fragment.extents.clone(), content)
        };
        let address = FragmentAddress {
            drive: shared.id,
            slab: key.slab,
            fragment: key.fragment,
            generation: key.generation,
        };
        let ahead = stretches(&shared, &extents, content.data_end_bytes());
        let mut verification = Self {
            shared,
            address,
            extents,
            content,
            ahead,
            under_way: FuturesOrdered::new(),
            depth,
            buffers,
            verdict: Verdict::default(),
            extents_bad: BTreeSet::new(),
        };
        verification.read_table().await?;
        Ok(Some(verification))
    }

    /// Looks at the next piece; gives its bytes, `None` at the end.
    ///
    /// # Errors
    /// It cannot go on.
    pub async fn next(&mut self) -> Result<Option<u64>, NotVerified> {
        while self.under_way.len() < self.depth
            && let Some(stretch) = self.ahead.pop()
        {
            let (shared, buffer) = (self.shared.clone(), self.buffers.take(stretch.len_bytes));
            self.under_way.push_back(Box::pin(async move {
                let offset_bytes = shared.device_offset_bytes(stretch.extent, stretch.offset_bytes);
                let read = read_into(shared.device.as_ref(), offset_bytes, buffer, Class::Scrub).await;
                (stretch, read)
            }));
        }
        let Some((stretch, read)) = self.under_way.next().await else { return Ok(None) };
        match read {
            Ok(bytes) => {
                self.check(stretch, &bytes).await?;
                self.buffers.give_back(bytes);
            }
            Err(error) if error.is_media() => self.check_by_blocks(stretch).await?,
            Err(error) => return Err(not_now(&error)),
        }
        self.verdict.bytes += u64::from(stretch.len_bytes);
        Ok(Some(u64::from(stretch.len_bytes)))
    }

    /// What came of it; a fragment that is not whole is noted as bad.
    ///
    /// # Errors
    /// It is not what it was when it was begun.
    pub async fn end(self) -> Result<Verdict, NotVerified> {
        let Self { shared, address, extents, content, mut verdict, extents_bad, .. } = self;
        if shared.mutants.has(Mutant::ScrubSeesNothing) {
            verdict = Verdict { bytes: verdict.bytes, ..Verdict::default() };
        }
        if !verdict.is_whole() {
            // What is there is not what was written: perhaps another drive.
            shared.check_identity().await;
        }
        let mut state = shared.state();
        if state.standing.refusal(super::standing::Ask::Read).is_some() {
            return Err(NotVerified::Gone);
        }
        let key = super::state::key_of(&address);
        let is_same = |fragment: &Fragment| {
            fragment.extents.iter().take(extents.len()).eq(extents.iter())
                && content.is_part_of(&fragment.body)
        };
        if !state.fragments.get(&key).is_some_and(is_same) {
            return Err(NotVerified::Changed);
        }
        if !verdict.is_whole() {
            state.note_bad(&address);
            state.bad_extents.extend(extents_bad);
        }
        Ok(verdict)
    }

    /// The checksum table of a cold fragment, before the slice that it is of.
    async fn read_table(&mut self) -> Result<(), NotVerified> {
        let Some((position_bytes, len_bytes)) = self.content.table_range() else { return Ok(()) };
        let mut table = Vec::with_capacity(usize::try_from(len_bytes).unwrap_or_default());
        for piece in self.shared.geometry.split(position_bytes, len_bytes) {
            let Some(extent) = self.extents.get(piece.ordinal) else { return Ok(()) };
            let offset_bytes = self.shared.device_offset_bytes(extent, piece.offset_bytes);
            let len_bytes = piece.len_bytes as usize;
            match read_again(self.shared.device.as_ref(), offset_bytes, len_bytes, Class::Scrub).await {
                Ok(bytes) => table.extend_from_slice(&bytes),
                // Its bad blocks are found in their turn.
                Err(error) if error.is_media() => return Ok(()),
                Err(error) => return Err(not_now(&error)),
            }
        }
        self.content.set_table(&table);
        Ok(())
    }

    async fn check(&mut self, stretch: Stretch, bytes: &[u8]) -> Result<(), NotVerified> {
        let block = BLOCK_LEN_BYTES as usize;
        for (offset_bytes, bytes) in (stretch.offset_bytes..).step_by(block).zip(bytes.chunks_exact(block)) {
            if !self.is_right(stretch, offset_bytes, bytes) {
                self.look_again(stretch, offset_bytes).await?;
            }
        }
        Ok(())
    }

    /// After a read that failed: which of its blocks can be read.
    async fn check_by_blocks(&mut self, stretch: Stretch) -> Result<(), NotVerified> {
        let end_bytes = stretch.offset_bytes + stretch.len_bytes;
        for offset_bytes in (stretch.offset_bytes..end_bytes).step_by(BLOCK_LEN_BYTES as usize) {
            match read_block(&self.shared, stretch, offset_bytes).await? {
                Some(bytes) if self.is_right(stretch, offset_bytes, &bytes) => {}
                Some(_) => self.look_again(stretch, offset_bytes).await?,
                None => self.note(stretch, offset_bytes, true),
            }
        }
        Ok(())
    }

    /// A block that does not match, alone and once more.
    async fn look_again(&mut self, stretch: Stretch, offset_bytes: u32) -> Result<(), NotVerified> {
        match read_block(&self.shared, stretch, offset_bytes).await? {
            Some(bytes) if self.is_right(stretch, offset_bytes, &bytes) => {}
            Some(_) => self.note(stretch, offset_bytes, false),
            None => self.note(stretch, offset_bytes, true),
        }
        Ok(())
    }

    fn is_right(&mut self, stretch: Stretch, offset_bytes: u32, bytes: &[u8]) -> bool {
        let (ordinal, extent) = (stretch.ordinal, stretch.extent);
        match content::block_at(&self.shared.geometry, ordinal, offset_bytes) {
            Block::Header => content::is_header(bytes, self.shared.id, extent, &self.address, ordinal),
            Block::Mark(slot) => {
                let state = self.shared.state();
                let fragment = state.fragments.get(&super::state::key_of(&self.address));
                // One that is gone is found out at the end.
                fragment.is_none_or(|fragment| self.content.is_mark(slot, bytes, fragment))
            }
            Block::Data { position_bytes } => self.content.is_data(position_bytes, bytes),
        }
    }

    fn note(&mut self, stretch: Stretch, offset_bytes: u32, unreadable: bool) {
        if unreadable {
            self.verdict.blocks_unreadable += 1;
            self.extents_bad.insert(stretch.extent);
        } else {
            self.verdict.blocks_corrupt += 1;
        }
        let place = self.shared.device_offset_bytes(stretch.extent, offset_bytes);
        self.verdict.first_bad_bytes.get_or_insert(place);
    }
}

/// One block; `None` where it cannot be read, nor once more.
async fn read_block(
    shared: &Shared,
    stretch: Stretch,
    offset_bytes: u32,
) -> Result<Option<AlignedBuffer>, NotVerified> {
    let offset_bytes = shared.device_offset_bytes(stretch.extent, offset_bytes);
    let device = shared.device.as_ref();
    match read_again(device, offset_bytes, BLOCK_LEN_BYTES as usize, Class::Scrub).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_media() => Ok(None),
        Err(error) => Err(not_now(&error)),
    }
}

fn not_now(error: &DeviceError) -> NotVerified {
    if matches!(error, DeviceError::Busy { .. }) { NotVerified::Busy } else { NotVerified::Gone }
}

/// The extents up to the end of the data, headers and marks included, in pieces, in reverse.
fn stretches(shared: &Shared, extents: &ExtentList, data_end_bytes: u64) -> Vec<Stretch> {
    let geometry = &shared.geometry;
    let mut all = Vec::new();
    for (ordinal, extent) in (0..geometry.extents_for(data_end_bytes)).zip(extents.iter()) {
        let data = data_end_bytes.saturating_sub(geometry.data_capacity_of(ordinal));
        let data = u32::try_from(data).unwrap_or(u32::MAX).min(geometry.data_capacity(ordinal));
        let end_bytes = geometry.data_offset_bytes(ordinal) + data;
        for offset_bytes in (0..end_bytes).step_by(PIECE_LEN_BYTES as usize) {
            let len_bytes = PIECE_LEN_BYTES.min(end_bytes - offset_bytes);
            all.push(Stretch { ordinal, extent, offset_bytes, len_bytes });
        }
    }
    all.reverse();
    all
}

/// Bytes that verifying the fragment reads.
pub(super) fn verified_bytes(fragment: &Fragment) -> u64 {
    let has_anything = match &fragment.body {
        Body::Hot(rows) => rows.durable > 0,
        Body::Cold(slice) => matches!(slice.state, SliceState::Finished { .. }),
    };
    if has_anything { super::state::used_bytes(fragment) } else { 0 }
}
