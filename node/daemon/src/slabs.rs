//! Slab records as this node last saw them: where to ask for fragments. A hint that is refreshed wherever it proves wrong; offsets never
//! change, so an old record can make a reader ask in vain, never read wrong bytes.

use crate::limits::SLAB_RECORDS_CACHED_MAX;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_env::Env;
use strongroom_meta::group::{GroupAnswer, GroupQuery};
use strongroom_meta::{Meta, MetaError};
use strongroom_types::{Deadline, SlabId, SlabRecord};

/// How long the slab table may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

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
        let deadline = Deadline::after(self.env.clock.now(), PATIENCE);
        let answer = self.meta.read(slab.group(), GroupQuery::Slab(slab), deadline).await?;
        // The answer is a peer's: another kind is its fault, and no reason to fall.
        let GroupAnswer::Slab(record) = answer else { return Err(MetaError::Failed) };
        let mut known = self.lock();
        let Some(record) = record.map(Arc::new) else {
            known.remove(&slab);
            return Ok(None);
        };
        if known.len() >= SLAB_RECORDS_CACHED_MAX && !known.contains_key(&slab) {
            // Which one goes matters little: it costs one question to have it back. Slabs live about equally long.
            known.pop_first();
        }
        known.insert(slab, record.clone());
        Ok(Some(record))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SlabId, Arc<SlabRecord>>> {
        self.known.lock().expect("no code panics while it holds this lock")
    }
}
