//! Bucket names and ids, and the making and removing of buckets over all data groups.
//!
//! A bucket is made by naming it in the control group, having every data group admit its id, then opening it; it is removed in the opposite order.
//! A crash in between leaves it `Making` or `Removing`; the same request again goes on from there. Each attempt is a round of its own, and what is
//! late of an earlier round changes nothing: so no bucket is forgotten that an attempt at the same time has opened again. Data groups refuse ids they did not admit,
//! so an id that was learned long ago can be tried: if the bucket is gone, the group says so.

use super::{Found, META_PATIENCE, misfit, unavailable};
use crate::limits::BUCKETS_CACHED_MAX;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use strongroom_env::Env;
use strongroom_gateway::store::StoreError;
use strongroom_meta::Meta;
use strongroom_meta::control::{
    BucketRecord, BucketState, ControlAnswer, ControlCommand, ControlQuery, ControlReply,
};
use strongroom_meta::group::{GroupAnswer, GroupCommand, GroupQuery, GroupReply};
use strongroom_types::{BucketClass, BucketId, BucketName, Deadline, GroupId};

pub(super) struct Buckets {
    env: Env,
    meta: Arc<Meta>,
    groups: u16,
    found: Found,
    known: Mutex<BTreeMap<BucketName, BucketRecord>>,
}

impl Buckets {
    pub(super) fn new(env: Env, meta: Arc<Meta>, found: Found) -> Self {
        let groups = meta.group_count();
        Self { env, meta, groups, found, known: Mutex::new(BTreeMap::new()) }
    }

    /// The open bucket of this name: as last learned, or, where `fresh` is asked for or it was not learned yet, as it is now.
    pub(super) async fn resolve(&self, name: &BucketName, fresh: bool) -> Result<BucketRecord, StoreError> {
        if !fresh && let Some(record) = self.lock().get(name) {
            return Ok(record.clone());
        }
        match self.ask(name).await? {
            Some(record) if record.state == BucketState::Open => {
                let mut known = self.lock();
                if known.len() >= BUCKETS_CACHED_MAX {
                    known.pop_first();
                }
                known.insert(name.clone(), record.clone());
                Ok(record)
            }
            _ => {
                self.forget(name);
                Err(StoreError::NoSuchBucket(name.clone()))
            }
        }
    }

    pub(super) fn group_count(&self) -> u16 {
        self.groups
    }

    pub(super) fn forget(&self, name: &BucketName) {
        self.lock().remove(name);
    }

    pub(super) async fn all(&self) -> Result<Vec<BucketRecord>, StoreError> {
        match self.query(ControlQuery::Buckets).await? {
            ControlAnswer::Buckets(mut records) => {
                records.retain(|record| record.state == BucketState::Open);
                Ok(records)
            }
            other @ (ControlAnswer::Bucket(_)
            | ControlAnswer::Enrolments(_)
            | ControlAnswer::Drive(_)
            | ControlAnswer::Drains(_)
            | ControlAnswer::Nodes(_)) => Err(misfit(&other)),
        }
    }

    pub(super) async fn create(
        &self,
        name: BucketName,
        class: BucketClass,
    ) -> Result<BucketRecord, StoreError> {
        let at = self.env.clock.wall();
        let command = ControlCommand::CreateBucket { name: name.clone(), class, at };
        let (record, made) = match self.control(command).await? {
            ControlReply::Bucket { record, made } => (record, made),
            ControlReply::Full => return Err(StoreError::Full),
            other => return Err(misfit(&other)),
        };
        if record.class != class {
            return Err(StoreError::BucketClassDiffers(name));
        }
        match record.state {
            BucketState::Open if !made => Err(StoreError::BucketExists(name)),
            BucketState::Removing => {
                let reason =
                    format!("bucket {name} is being removed; if that was cut short, remove it again");
                Err(StoreError::Unavailable { reason })
            }
            BucketState::Open | BucketState::Making => self.open(record).await,
        }
    }

    /// Has every data group admit the bucket, then opens it.
    async fn open(&self, record: BucketRecord) -> Result<BucketRecord, StoreError> {
        let BucketRecord { bucket, class, round, .. } = record;
        for reply in self.all_groups(|| GroupCommand::AdmitBucket { bucket, class, round }).await {
            match reply? {
                GroupReply::Done => {}
                GroupReply::Outdated => return Err(overtaken(&record.name)),
                other => return Err(misfit(&other)),
            }
        }
        match self.control(ControlCommand::OpenBucket { bucket, round }).await? {
            ControlReply::Bucket { record: opened, .. } if opened.state == BucketState::Open => {
                self.lock().insert(opened.name.clone(), opened.clone());
                Ok(opened)
            }
            ControlReply::Bucket { .. } | ControlReply::NoSuchBucket => Err(overtaken(&record.name)),
            other => Err(misfit(&other)),
        }
    }

    /// Begins a round in which a bucket that is not empty is admitted again.
    async fn reopen(&self, name: &BucketName, bucket: BucketId) -> Result<(), StoreError> {
        match self.control(ControlCommand::ReopenBucket { bucket }).await? {
            ControlReply::Bucket { record, .. } if record.state == BucketState::Open => Ok(()),
            ControlReply::Bucket { record, .. } => self.open(record).await.map(|_| ()),
            ControlReply::NoSuchBucket => Err(StoreError::NoSuchBucket(name.clone())),
            other => Err(misfit(&other)),
        }
    }

    pub(super) async fn remove(&self, name: &BucketName) -> Result<(), StoreError> {
        self.forget(name);
        let Some(record) = self.ask(name).await? else { return Err(StoreError::NoSuchBucket(name.clone())) };
        let bucket = record.bucket;
        if !self.is_empty(bucket).await? {
            if record.state != BucketState::Open {
                // An earlier attempt was cut short.
                self.reopen(name, bucket).await?;
            }
            return Err(StoreError::BucketNotEmpty(name.clone()));
        }
        let (class, round) = match self.control(ControlCommand::BeginRemoveBucket { bucket }).await? {
            ControlReply::Bucket { record, .. } => (record.class, record.round),
            ControlReply::NoSuchBucket => return Err(StoreError::NoSuchBucket(name.clone())),
            other => return Err(misfit(&other)),
        };
        let mut empty = true;
        for reply in self.all_groups(|| GroupCommand::CloseBucket { bucket, class, round }).await {
            match reply? {
                GroupReply::Done => {}
                GroupReply::NotEmpty => empty = false,
                GroupReply::Outdated => return Err(overtaken(name)),
                other => return Err(misfit(&other)),
            }
        }
        if !empty {
            self.reopen(name, bucket).await?;
            return Err(StoreError::BucketNotEmpty(name.clone()));
        }
        match self.control(ControlCommand::RemoveBucket { bucket, round }).await? {
            ControlReply::Done | ControlReply::NoSuchBucket => Ok(()),
            ControlReply::Bucket { .. } => Err(overtaken(name)),
            other => Err(misfit(&other)),
        }
    }

    /// Whether no group has an object of the bucket. Asked before anything is changed: a bucket that is being removed is not served, and a
    /// request to remove a full one must not take it from its readers, not even until every group answers again.
    async fn is_empty(&self, bucket: BucketId) -> Result<bool, StoreError> {
        let reads = (0..self.groups).map(GroupId::new).map(|group| {
            let query =
                GroupQuery::List { bucket, prefix: String::new(), delimiter: None, after: None, limit: 1 };
            self.meta.read(group, query, self.deadline())
        });
        let mut empty = true;
        for answer in join_all(reads).await {
            match answer.map_err(|error| unavailable(&error))? {
                GroupAnswer::List(page) => empty &= page.entries.is_empty(),
                // Closed by an earlier attempt, which found nothing.
                GroupAnswer::NoSuchBucket => {}
                other => return Err(misfit(&other)),
            }
        }
        Ok(empty)
    }

    async fn ask(&self, name: &BucketName) -> Result<Option<BucketRecord>, StoreError> {
        match self.query(ControlQuery::Bucket(name.clone())).await? {
            ControlAnswer::Bucket(record) => Ok(record),
            other @ (ControlAnswer::Buckets(_)
            | ControlAnswer::Enrolments(_)
            | ControlAnswer::Drive(_)
            | ControlAnswer::Drains(_)
            | ControlAnswer::Nodes(_)) => Err(misfit(&other)),
        }
    }

    async fn query(&self, query: ControlQuery) -> Result<ControlAnswer, StoreError> {
        self.check_found()?;
        self.meta.control_query(query, self.deadline()).await.map_err(|error| unavailable(&error))
    }

    async fn control(&self, command: ControlCommand) -> Result<ControlReply, StoreError> {
        self.check_found()?;
        self.meta.control(command, self.deadline()).await.map_err(|error| unavailable(&error))
    }

    /// Every operation resolves its bucket, so what is refused here is refused everywhere.
    fn check_found(&self) -> Result<(), StoreError> {
        if self.found.is_set() {
            return Ok(());
        }
        let reason = String::from(
            "this node has not found yet that the cluster is the one that its node.toml describes",
        );
        Err(StoreError::Unavailable { reason })
    }

    async fn all_groups(&self, command: impl Fn() -> GroupCommand) -> Vec<Result<GroupReply, StoreError>> {
        let writes = (0..self.groups).map(GroupId::new).map(|group| {
            let write = self.meta.write(group, command(), self.deadline());
            async move { write.await.map_err(|error| unavailable(&error)) }
        });
        join_all(writes).await
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.env.clock.now(), META_PATIENCE)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<BucketName, BucketRecord>> {
        self.known.lock().expect("no code panics while it holds this lock")
    }
}

/// Another attempt to make, remove or reopen the bucket began after this one; it decides.
fn overtaken(name: &BucketName) -> StoreError {
    let reason = format!("another request makes or removes bucket {name} at the same time; try again");
    StoreError::Unavailable { reason }
}
