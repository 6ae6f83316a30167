//! Buckets and objects: what the S3 door asks for, done by ingest, fetch and meta.
//!
//! **Invariant** A version is committed only once every one of its needles is durable in more than one zone (I1, I2); a locator goes into one
//! version only, so a copy is a copy of bytes.

mod buckets;
mod list;
mod put;
mod read;

use crate::alarms::Alarms;
use crate::fetch::{FetchError, Fetcher};
use crate::ingest::{Ingest, IngestError};
use crate::limits::PUT_LEN_BYTES_MAX;
use buckets::Buckets;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_core::credits::Credits;
use strongroom_core::writer::WriteFailure;
use strongroom_env::Env;
use strongroom_gateway::store::{
    BucketInfo, ListPage, ListRequest, ObjectReader, ObjectStore, PutRequest, PutSession, StoreError,
};
use strongroom_meta::control::BucketRecord;
use strongroom_meta::group::{Change, Entry, EntryOutcome, GroupAnswer, GroupQuery, VersionRecord};
use strongroom_meta::{Meta, MetaError};
use strongroom_types::{BucketClass, BucketName, Condition, Deadline, ObjectKey, SessionId, VersionId};

/// How long the namespace may take to answer before the client is told to try again.
const META_PATIENCE: Duration = Duration::from_secs(10);

/// Whether the cluster was found to be the one of the configuration. Until then nothing is read or stored: with another count of groups, keys
/// would be looked for where they are not.
#[derive(Clone, Default)]
pub struct Found(Arc<AtomicBool>);

impl Found {
    /// It is.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets and objects of the cluster, as this node offers them.
#[derive(Clone)]
pub struct Store {
    parts: Arc<Parts>,
}

struct Parts {
    env: Env,
    meta: Arc<Meta>,
    ingest: Ingest,
    fetcher: Arc<Fetcher>,
    alarms: Arc<Alarms>,
    buckets: Buckets,
    /// Bytes of objects on their way in.
    credits: Mutex<Credits>,
}

impl Store {
    /// A store on these parts, which refuses until the cluster was `found`.
    pub fn new(
        env: Env,
        meta: Arc<Meta>,
        ingest: Ingest,
        fetcher: Arc<Fetcher>,
        alarms: Arc<Alarms>,
        found: Found,
    ) -> Self {
        let buckets = Buckets::new(env.clone(), meta.clone(), found);
        let credits = Mutex::new(Credits::new(PUT_LEN_BYTES_MAX));
        Self { parts: Arc::new(Parts { env, meta, ingest, fetcher, alarms, buckets, credits }) }
    }

    async fn version(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<VersionId>,
    ) -> Result<(BucketRecord, VersionRecord), StoreError> {
        let parts = &self.parts;
        // Twice: the bucket may have been removed and made again since its id was learned.
        for fresh in [false, true] {
            let record = parts.buckets.resolve(bucket, fresh).await?;
            let group = parts.meta.group_of(record.bucket, key);
            let query = GroupQuery::Version { bucket: record.bucket, key: key.clone(), version };
            match parts
                .meta
                .read(group, query, parts.deadline())
                .await
                .map_err(|error| unavailable(&error))?
            {
                GroupAnswer::Version(found) => {
                    return found.map(|found| (record, found)).ok_or(StoreError::NoSuchKey);
                }
                GroupAnswer::NoSuchBucket => {}
                other => return Err(misfit(&other)),
            }
        }
        Err(StoreError::NoSuchBucket(bucket.clone()))
    }
}

impl Parts {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.env.clock.now(), META_PATIENCE)
    }

    /// Commits a change of one key; conditions are decided where it is applied.
    async fn commit(
        &self,
        bucket: &BucketRecord,
        key: &ObjectKey,
        condition: Condition,
        change: Change,
        session: Option<SessionId>,
    ) -> Result<(), StoreError> {
        let group = self.meta.group_of(bucket.bucket, key);
        let entry = Entry { bucket: bucket.bucket, key: key.clone(), condition, change, session };
        match self.meta.commit(group, entry, self.deadline()).await.map_err(|error| unavailable(&error))? {
            EntryOutcome::Applied => Ok(()),
            EntryOutcome::ConditionFailed => Err(StoreError::PreconditionFailed),
            EntryOutcome::NoSuchKey => Err(StoreError::NoSuchKey),
            EntryOutcome::NoSuchBucket => {
                self.buckets.forget(&bucket.name);
                Err(StoreError::NoSuchBucket(bucket.name.clone()))
            }
            EntryOutcome::SessionFenced => {
                if let Some(fenced) = session {
                    self.ingest.session_over(fenced).await;
                }
                Err(session_fenced())
            }
            EntryOutcome::PlaceRefused => Err(StoreError::Unavailable {
                reason: String::from("where the object was written is reclaimed already, try again"),
            }),
        }
    }
}

/// What a client is told whose needles were written under a session that is over. Nothing was stored; a retry is written under the next one.
fn session_fenced() -> StoreError {
    StoreError::Unavailable {
        reason: String::from("this node was taken for gone while the object was written, try again"),
    }
}

/// What a client is told where a group gave no answer. After an unknown outcome too: nothing was acknowledged, and a retry is safe.
fn unavailable(error: &MetaError) -> StoreError {
    StoreError::Unavailable { reason: error.to_string() }
}

/// What a client is told where a group answered another question than was asked. The answer is a peer's: no reason to fall.
fn misfit(answer: &dyn std::fmt::Debug) -> StoreError {
    tracing::error!(?answer, "a group gave an answer that does not fit");
    StoreError::Unavailable { reason: String::from("a group gave an answer that does not fit, see the log") }
}

fn not_ingested(error: &IngestError) -> StoreError {
    match error {
        IngestError::Busy => StoreError::Busy,
        IngestError::Failed(WriteFailure::NoSlab) => {
            StoreError::Unavailable { reason: String::from("no slab can be opened in two zones") }
        }
        other => StoreError::Unavailable { reason: other.to_string() },
    }
}

fn not_fetched(error: &FetchError) -> StoreError {
    let reason = error.to_string();
    match error {
        FetchError::Meta(_) | FetchError::Unavailable { .. } | FetchError::Gone { .. } => {
            StoreError::Unavailable { reason }
        }
        FetchError::Damaged { .. } => {
            tracing::error!(%reason, "object damaged");
            StoreError::Damaged { reason }
        }
    }
}

fn bucket_info(record: &BucketRecord) -> BucketInfo {
    BucketInfo { name: record.name.clone(), class: record.class, created: record.created }
}

#[async_trait::async_trait]
impl ObjectStore for Store {
    async fn create_bucket(&self, name: BucketName, class: BucketClass) -> Result<BucketInfo, StoreError> {
        self.parts.buckets.create(name, class).await.map(|record| bucket_info(&record))
    }

    async fn delete_bucket(&self, name: &BucketName) -> Result<(), StoreError> {
        self.parts.buckets.remove(name).await
    }

    async fn bucket(&self, name: &BucketName) -> Result<BucketInfo, StoreError> {
        // Fresh: whoever asks for the bucket itself wants to know whether it is there now.
        self.parts.buckets.resolve(name, true).await.map(|record| bucket_info(&record))
    }

    async fn buckets(&self) -> Result<Vec<BucketInfo>, StoreError> {
        self.parts.buckets.all().await.map(|records| records.iter().map(bucket_info).collect())
    }

    async fn put(&self, request: PutRequest) -> Result<Box<dyn PutSession>, StoreError> {
        put::begin(self, request).await
    }

    async fn open(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<VersionId>,
    ) -> Result<Box<dyn ObjectReader>, StoreError> {
        let (bucket, record) = self.version(bucket, key, version).await?;
        Ok(Box::new(read::Reader::new(self.parts.clone(), &bucket, key.clone(), record)))
    }

    async fn delete(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        condition: Condition,
    ) -> Result<(), StoreError> {
        let record = self.parts.buckets.resolve(bucket, false).await?;
        match self.parts.commit(&record, key, condition.clone(), Change::Delete, None).await {
            Err(StoreError::NoSuchBucket(_)) => {
                let record = self.parts.buckets.resolve(bucket, true).await?;
                self.parts.commit(&record, key, condition, Change::Delete, None).await
            }
            result => result,
        }
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        list::list(&self.parts, request).await
    }
}
