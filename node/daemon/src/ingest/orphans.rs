//! Slabs that were opened for this node's writer, and of which it never heard: the answer was lost.
//!
//! Nobody writes them and, as long as the session lives, nobody else fences them: they would keep the drives of their holders from ever being empty. So after an
//! attempt to open one that ended in doubt the group's table is asked: what is open there in the present session, and was never given to the writer, is
//! rolled without a row.
//!
//! **Invariant** A slab that the writer was given is not an orphan, until the table knows that it was rolled. Opening takes turns with looking, so that no slab is on its
//! way to the writer while it is looked who has which.

use super::{IngestParts, tell_table};
use crate::limits::SLABS_PAGE;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use strongroom_meta::MetaError;
use strongroom_meta::group::{GroupAnswer, GroupCommand, GroupQuery};
use strongroom_types::{Deadline, GroupId, Instant, RowSequence, SessionId, SlabId, SlabRecord, SlabState};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the slab table may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// A command that nobody answered may still take effect for so long.
const DOUBTFUL_FOR: Duration = Duration::from_secs(30);

/// What is known of slabs that were asked for.
#[derive(Default)]
pub(super) struct Orphans {
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Given to the writer, and not known to the table as rolled.
    in_use: BTreeSet<SlabId>,
    /// Groups in which a slab may have been opened, and until when: as many as there are groups at most.
    doubtful: BTreeMap<GroupId, Instant>,
}

impl Orphans {
    /// Waits until nobody looks, and keeps others from it.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// A slab is about to be given to the writer; to be said in one's turn.
    pub(super) fn given(&self, slab: SlabId) {
        self.lock().in_use.insert(slab);
    }

    /// The table knows that it was rolled.
    pub(super) fn rolled(&self, slab: SlabId) {
        self.lock().in_use.remove(&slab);
    }

    /// A slab may have been opened there.
    pub(super) fn doubt(&self, group: GroupId, now: Instant) {
        self.lock().doubtful.insert(group, now.after(DOUBTFUL_FOR));
    }

    /// Looks from time to time, until the node ends.
    pub(super) async fn watch(self: Arc<Self>, parts: Arc<IngestParts>) {
        loop {
            parts.env.clock.sleep(LOOK_EVERY).await;
            let now = parts.env.clock.now();
            let groups: Vec<GroupId> = self.lock().doubtful.keys().copied().collect();
            for group in groups {
                match self.look(&parts, group).await {
                    Ok(orphans) => {
                        for record in orphans {
                            roll(&parts, &record).await;
                        }
                        self.lock().doubtful.retain(|known, until| *known != group || *until > now);
                    }
                    Err(error) => {
                        tracing::debug!(%group, %error, "slabs that were opened in doubt cannot be looked for")
                    }
                }
            }
        }
    }

    /// The slabs of a group that are open in the present session, and that the writer was never given.
    async fn look(&self, parts: &IngestParts, group: GroupId) -> Result<Vec<SlabRecord>, MetaError> {
        let _turn = self.turn().await;
        let session = parts.session.present();
        let (mut orphans, mut after) = (Vec::new(), None);
        loop {
            let query = GroupQuery::Slabs { after, limit: SLABS_PAGE, live_only: true };
            let deadline = Deadline::after(parts.env.clock.now(), PATIENCE);
            // The answer may be a peer's: another kind is its fault, and no reason to fall.
            let GroupAnswer::Slabs(page) = parts.meta.read(group, query, deadline).await? else {
                return Err(MetaError::Failed);
            };
            let full = page.len() == SLABS_PAGE as usize;
            after = page.last().map(|record| record.slab);
            let state = self.lock();
            orphans.extend(
                page.into_iter()
                    .filter(|record| is_own(record, parts, session) && !state.in_use.contains(&record.slab)),
            );
            if !full {
                return Ok(orphans);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

fn is_own(record: &SlabRecord, parts: &IngestParts, session: SessionId) -> bool {
    record.state == SlabState::Open && record.writer == parts.node && record.session == session
}

/// No row was ever sent, so none has given out a locator.
async fn roll(parts: &IngestParts, record: &SlabRecord) {
    let SlabRecord { slab, epoch, .. } = *record;
    tracing::info!(%slab, "slab that was opened without anybody's hearing of it is rolled");
    tell_table(parts, slab, GroupCommand::BeginSeal { slab, epoch, given_out: Some(RowSequence::FIRST) })
        .await;
    tell_table(parts, slab, GroupCommand::WriterDone { slab }).await;
}
