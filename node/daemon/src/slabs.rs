//! Slab records as this node last saw them: where to ask for fragments. A hint that is refreshed wherever it proves wrong; offsets never
//! change, so an old record can make a reader ask in vain, never read wrong bytes.

use crate::limits::SLAB_RECORDS_CACHED_MAX;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_env::Env;
use strongroom_meta::group::{GroupAnswer, GroupCommand, GroupQuery};
use strongroom_meta::{Meta, MetaError};
use strongroom_types::{Deadline, GroupId, SlabId, SlabRecord};

/// How long the slab table may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the table has of a slab.
#[derive(Clone, Debug)]
pub enum Known {
    /// This.
    Record(Arc<SlabRecord>),
    /// Nothing any more: it was dead.
    Forgotten,
    /// Nothing, and it never had.
    Never,
}

/// Slab records by id.
pub struct Slabs {
    env: Env,
    meta: Arc<Meta>,
    known: Mutex<BTreeMap<SlabId, Arc<SlabRecord>>>,
}

impl Slabs {
    /// Nothing known yet.
    pub fn new(env: Env, meta: Arc<Meta>) -> Self {
        Self { env, meta, known: Mutex::new(BTreeMap::new()) }
    }

    /// The record as last seen, or as the table has it now where it was not seen yet.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn get(&self, slab: SlabId) -> Result<Option<Arc<SlabRecord>>, MetaError> {
        let known = self.lock().get(&slab).cloned();
        match known {
            Some(record) => Ok(Some(record)),
            None => self.refresh(slab).await,
        }
    }

    /// The record as the table has it now.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn refresh(&self, slab: SlabId) -> Result<Option<Arc<SlabRecord>>, MetaError> {
        match self.look_up(slab).await? {
            Known::Record(record) => Ok(Some(record)),
            Known::Forgotten | Known::Never => Ok(None),
        }
    }

    /// Whether the slab was dead, and is not in the table any more.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn is_forgotten(&self, slab: SlabId) -> Result<bool, MetaError> {
        Ok(matches!(self.look_up(slab).await?, Known::Forgotten))
    }

    /// What the table has of the slab now.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn look_up(&self, slab: SlabId) -> Result<Known, MetaError> {
        let deadline = Deadline::after(self.env.clock.now(), PATIENCE);
        let answer = self.meta.read(slab.group(), GroupQuery::Slab(slab), deadline).await?;
        let record = match answer {
            GroupAnswer::Slab(Some(record)) => Arc::new(record),
            GroupAnswer::Slab(None) => {
                self.lock().remove(&slab);
                return Ok(Known::Never);
            }
            GroupAnswer::SlabForgotten => {
                self.lock().remove(&slab);
                return Ok(Known::Forgotten);
            }
            // The answer is a peer's: another kind is its fault, and no reason to fall.
            _ => return Err(MetaError::Failed),
        };
        let mut known = self.lock();
        if known.len() >= SLAB_RECORDS_CACHED_MAX && !known.contains_key(&slab) {
            // Which one goes matters little: it costs one question to have it back. Slabs live about equally long.
            known.pop_first();
        }
        known.insert(slab, record.clone());
        Ok(Known::Record(record))
    }

    /// The slabs of a group behind `after` that are not dead, as the table has them now.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn page(
        &self,
        group: GroupId,
        after: Option<SlabId>,
        limit: u32,
    ) -> Result<Vec<SlabRecord>, MetaError> {
        let deadline = Deadline::after(self.env.clock.now(), PATIENCE);
        let query = GroupQuery::Slabs { after, limit, live_only: true };
        match self.meta.read(group, query, deadline).await? {
            GroupAnswer::Slabs(page) => Ok(page),
            // As above.
            _ => Err(MetaError::Failed),
        }
    }

    /// How far locators of versions in `group` reach into a slab, which may be another group's: bytes of its image, 0 where there are none.
    ///
    /// # Errors
    /// The group does not answer.
    pub async fn used_upto(&self, group: GroupId, slab: SlabId) -> Result<u32, MetaError> {
        let deadline = Deadline::after(self.env.clock.now(), PATIENCE);
        match self.meta.read(group, GroupQuery::UsedUpto(slab), deadline).await? {
            GroupAnswer::UsedUpto(bytes) => Ok(bytes),
            // As above.
            _ => Err(MetaError::Failed),
        }
    }

    /// Has the table know that these fragments of a slab are not whole. Where it got another layout meanwhile nothing changes.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn count_missing(&self, record: &SlabRecord, missing: u32) -> Result<(), MetaError> {
        let (slab, generation) = (record.slab, record.generation);
        let command = GroupCommand::CountMissing { slab, generation, missing };
        let deadline = Deadline::after(self.env.clock.now(), PATIENCE);
        self.meta.write(slab.group(), command, deadline).await.map(|_| ())
    }

    /// Gives up what was made of the slab's next layout. Where it got another one meanwhile nothing changes.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn abandon_layout(&self, record: &SlabRecord) -> Result<(), MetaError> {
        let (slab, layout) = (record.slab, record.next_generation);
        let deadline = Deadline::after(self.env.clock.now(), PATIENCE);
        self.meta
            .write(slab.group(), GroupCommand::AbandonLayout { slab, layout }, deadline)
            .await
            .map(|_| ())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SlabId, Arc<SlabRecord>>> {
        self.known.lock().expect("no code panics while it holds this lock")
    }
}
