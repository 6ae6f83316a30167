//! One compaction: what is alive in a sealed slab is copied elsewhere, the versions are given the copies, and the slab is killed.
//!
//! 1. The slab is *closed* in every data group: no locator into it is committed there any more. A seal does not say that: the writer may still commit what it gave
//!    out before. From here on the versions that point into it only become fewer.
//! 2. Each needle that some version has is read, checked like any other read, and written through this node's own writer into the slab that is open now. Once it
//!    is durable in two zones, its version is given the copy's place by compare-and-set. Where the version went or moved meanwhile the copy is garbage.
//! 3. Every group is asked again, linearizably. Only if each has closed the slab and has nothing in it, it is killed. Its holders free it ([`crate::sweeper`]).
//!
//! A crash anywhere leaves garbage: copies that nothing points to, and a slab that is closed and will be compacted again. Two at once do no harm: of two copies
//! of a needle one is taken. How much is in memory is one batch: what `COMPACT_BATCH_LEN_BYTES` says, and one needle more.

use super::queue::Outcome;
use super::{CaretakerParts, META_PATIENCE};
use crate::events::Event;
use crate::fetch::FetchError;
use crate::ingest::{Encoded, IngestError, Stored};
use crate::limits::{COMPACT_READS_MAX, KILLS_MAX};
use futures::future::{join_all, try_join_all};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use strongroom_core::limits::{COMPACT_BATCH_LEN_BYTES, COMPACT_BATCH_NEEDLES_MAX};
use strongroom_core::mutants::Mutant;
use strongroom_meta::MetaError;
use strongroom_meta::group::{GroupAnswer, GroupCommand, GroupQuery, GroupReply, Move, MoveOutcome, Pointer};
use strongroom_types::{Deadline, Generation, GroupId, SessionId, SlabId, SlabRecord};

/// Pointers asked for at once.
const POINTERS_PAGE: u32 = 256;

/// Why a compaction did not come to its end. It is tried again.
#[derive(Debug, thiserror::Error)]
enum CompactError {
    /// A group does not answer.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A needle cannot be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A copy was not stored.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// This node was taken for gone while it wrote copies.
    #[error("the session that wrote the copies is fenced")]
    SessionFenced,
    /// A group does not have the slab closed, or has versions in it still.
    #[error("{group} still has versions in it")]
    StillAlive {
        /// The group.
        group: GroupId,
    },
    /// The slab got another layout, or is not sealed any more.
    #[error("the slab is not what it was")]
    Differs,
    /// The answer is of another kind than was asked for.
    #[error("a group gave an answer that does not fit")]
    Misfit,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Needles that were copied.
    pub(super) needles: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Compacts a sealed slab and kills it. What was copied was so whatever comes of it.
pub(super) async fn compact(parts: &CaretakerParts, record: &SlabRecord) -> (Outcome, Work) {
    let (slab, mut work) = (record.slab, Work::default());
    let outcome = match empty_and_kill(parts, record, &mut work).await {
        Ok(()) => {
            let Work { needles, bytes } = work;
            parts.events.tell(Event::SlabCompacted { slab, needles, bytes });
            tracing::info!(%slab, needles = work.needles, bytes = work.bytes, "slab is compacted and dead");
            Outcome::Over
        }
        Err(error) => {
            tracing::debug!(%slab, %error, "slab is not compacted yet");
            Outcome::Failed
        }
    };
    (outcome, work)
}

async fn empty_and_kill(
    parts: &CaretakerParts,
    record: &SlabRecord,
    work: &mut Work,
) -> Result<(), CompactError> {
    let slab = record.slab;
    if !parts.mutants.has(Mutant::CompactUnfenced) {
        close(parts, slab).await?;
    }
    let mut batch = Batch::default();
    for group in groups(parts) {
        let mut after = None;
        loop {
            let (_, page) = pointers(parts, group, slab, after, POINTERS_PAGE).await?;
            let full = page.len() == POINTERS_PAGE as usize;
            after = page.last().map(|pointer| pointer.locator.offset_bytes);
            for pointer in page {
                batch.push(group, pointer);
                if batch.is_full() {
                    move_batch(parts, record, std::mem::take(&mut batch), work).await?;
                }
            }
            if !full {
                break;
            }
        }
    }
    move_batch(parts, record, batch, work).await?;
    if !parts.mutants.has(Mutant::KillBeforeRelocated) {
        check_empty(parts, slab).await?;
    }
    kill(parts, slab, record.generation).await
}

/// Has every group refuse locators into the slab.
async fn close(parts: &CaretakerParts, slab: SlabId) -> Result<(), CompactError> {
    let closed = groups(parts).map(|group| async move {
        match parts.meta.write(group, GroupCommand::CloseSlab { slab }, deadline(parts)).await? {
            GroupReply::Done => Ok(()),
            _ => Err(CompactError::Misfit),
        }
    });
    try_join_all(closed).await.map(|_| ())
}

/// What versions of a group have in the slab, page by page; and whether there will never be more.
async fn pointers(
    parts: &CaretakerParts,
    group: GroupId,
    slab: SlabId,
    after: Option<u32>,
    limit: u32,
) -> Result<(bool, Vec<Pointer>), CompactError> {
    let query = GroupQuery::Pointers { slab, after, limit };
    match parts.meta.read(group, query, deadline(parts)).await? {
        GroupAnswer::Pointers { closed, pointers } => Ok((closed, pointers)),
        // The answer may be a peer's: another kind is its fault, and no reason to fall.
        _ => Err(CompactError::Misfit),
    }
}

/// Needles that are moved together, each with the group of its key.
#[derive(Default)]
struct Batch {
    needles: Vec<(GroupId, Pointer)>,
    len_bytes: u64,
}

impl Batch {
    fn push(&mut self, group: GroupId, pointer: Pointer) {
        self.len_bytes += u64::from(pointer.locator.len_bytes);
        self.needles.push((group, pointer));
    }

    fn is_full(&self) -> bool {
        self.needles.len() >= COMPACT_BATCH_NEEDLES_MAX || self.len_bytes >= COMPACT_BATCH_LEN_BYTES
    }
}

async fn move_batch(
    parts: &CaretakerParts,
    record: &SlabRecord,
    batch: Batch,
    work: &mut Work,
) -> Result<(), CompactError> {
    if batch.needles.is_empty() {
        return Ok(());
    }
    // With nothing in memory.
    parts.jobs.compact.wait_while_held().await;
    let read = batch.needles.into_iter().map(|(group, pointer)| async move {
        let bytes = parts.fetcher.whole(&pointer.locator).await?;
        Ok::<_, CompactError>((group, pointer, bytes))
    });
    let read: Vec<_> = stream::iter(read).buffered(COMPACT_READS_MAX).try_collect().await?;
    // All at once: so that they share rows.
    let stored = read.into_iter().map(|(group, pointer, bytes)| async move {
        let Pointer { locator, .. } = pointer;
        let (header_crc32c, plain_len_bytes) = (locator.header_crc32c, locator.plain_len_bytes);
        let stored = parts.ingest.store(Encoded { bytes, header_crc32c, plain_len_bytes }).await?;
        Ok::<_, CompactError>((group, pointer, stored))
    });
    let stored = try_join_all(stored).await?;
    let bytes = stored.iter().map(|(_, _, stored)| u64::from(stored.locator.len_bytes)).sum::<u64>();
    work.needles += stored.len() as u64;
    work.bytes += bytes;
    parts.jobs.compact.spend(bytes);
    parts.jobs.compact.advance(bytes);
    if parts.mutants.has(Mutant::KillBeforeRelocated) {
        let _ = kill(parts, record.slab, record.generation).await;
    }
    relocate(parts, stored).await
}

/// Gives the versions their copies. Their slab stays pinned until that is decided.
async fn relocate(
    parts: &CaretakerParts,
    stored: Vec<(GroupId, Pointer, Stored)>,
) -> Result<(), CompactError> {
    let mut pinned = Vec::with_capacity(stored.len());
    let mut moves: BTreeMap<(GroupId, SessionId), Vec<Move>> = BTreeMap::new();
    for (group, pointer, Stored { locator: to, session, pinned: pin }) in stored {
        let Pointer { bucket, key, version, piece, locator: from } = pointer;
        pinned.push(pin);
        moves.entry((group, session)).or_default().push(Move { bucket, key, version, piece, from, to });
    }
    let asked = moves.into_iter().map(|((group, session), moves)| async move {
        let command = GroupCommand::Relocate { session, moves };
        match parts.meta.write(group, command, deadline(parts)).await? {
            GroupReply::Relocated(outcomes) => {
                let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
                let (gone, refused) = (count(MoveOutcome::Differs), count(MoveOutcome::PlaceRefused));
                tracing::debug!(%group, moved = count(MoveOutcome::Moved), gone, refused, "needles are relocated");
                Ok(())
            }
            GroupReply::SessionFenced => {
                parts.ingest.session_over(session).await;
                Err(CompactError::SessionFenced)
            }
            _ => Err(CompactError::Misfit),
        }
    });
    let outcome = join_all(asked).await.into_iter().collect();
    drop(pinned);
    outcome
}

/// Whether nothing points into the slab and nothing ever will, by each group's own word.
async fn check_empty(parts: &CaretakerParts, slab: SlabId) -> Result<(), CompactError> {
    let asked = groups(parts).map(|group| async move {
        let (closed, pointers) = pointers(parts, group, slab, None, 1).await?;
        let closed = closed || parts.mutants.has(Mutant::CompactUnfenced);
        if closed && pointers.is_empty() { Ok(()) } else { Err(CompactError::StillAlive { group }) }
    });
    try_join_all(asked).await.map(|_| ())
}

/// Kills a slab into which nothing points. That stays so whatever layout the slab gets, but who makes one must learn that the slab is dead.
async fn kill(parts: &CaretakerParts, slab: SlabId, mut generation: Generation) -> Result<(), CompactError> {
    for _ in 0..KILLS_MAX {
        let command = GroupCommand::KillSlab { slab, generation };
        match parts.meta.write(slab.group(), command, deadline(parts)).await? {
            // Forgotten since: another one killed it.
            GroupReply::Slab(_) | GroupReply::NoSuchSlab => {
                tracing::debug!(%slab, "slab is killed");
                return Ok(());
            }
            GroupReply::SlabDiffers(present) => generation = present.generation,
            _ => return Err(CompactError::Misfit),
        }
    }
    Err(CompactError::Differs)
}

fn groups(parts: &CaretakerParts) -> impl Iterator<Item = GroupId> {
    (0..parts.groups).map(GroupId::new)
}

fn deadline(parts: &CaretakerParts) -> Deadline {
    Deadline::after(parts.env.clock.now(), META_PATIENCE)
}
