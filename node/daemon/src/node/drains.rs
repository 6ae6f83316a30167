//! Drains, as the control socket asks for them.

use super::Node;
use crate::drain::DrainError;
use std::collections::BTreeMap;
use strongroom_core::drain::Progress;
use strongroom_types::{DrainSubject, WallTime};

impl Node {
    /// Has a node or a drive emptied from now on, by whichever nodes lead: durable over restarts of all of them, until [`Self::end_drain`]. Asking again changes
    /// nothing.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub async fn begin_drain(&self, subject: DrainSubject) -> Result<(), DrainError> {
        self.workers.drains.begin(subject).await
    }

    /// Has it used again, whether it was empty by then or not. Asking again changes nothing.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub async fn end_drain(&self, subject: DrainSubject) -> Result<(), DrainError> {
        self.workers.drains.end(subject).await
    }

    /// How far a drain is, by a linearizable look at all slab tables; what stands in its way, and how fast it goes since this node looked first.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub async fn drain_progress(&self, subject: DrainSubject) -> Result<Progress, DrainError> {
        self.workers.drains.progress(subject).await
    }

    /// All drains, also those that are over, and since when.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub async fn drains(&self) -> Result<BTreeMap<DrainSubject, WallTime>, DrainError> {
        self.workers.drains.all().await
    }
}
