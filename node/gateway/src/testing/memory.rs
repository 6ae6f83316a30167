//! Buckets and objects in memory: what the door expects of a store, in the fewest words.

use crate::store::{
    BucketInfo, ListEntry, ListPage, ListRequest, ObjectInfo, ObjectReader, ObjectStore, PutRequest,
    PutSession, StoreError,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_env::{Clock, Rng};
use strongroom_types::{Attributes, BucketClass, BucketName, Condition, ETag, ObjectKey, VersionId};

/// Bytes of a piece of a read.
const PIECE_LEN_BYTES: usize = 1024 * 1024;

#[derive(Clone)]
struct Version {
    info: ObjectInfo,
    data: Bytes,
}

struct Bucket {
    info: BucketInfo,
    /// Versions, the current one last; a key that was removed ends in `None`.
    keys: BTreeMap<ObjectKey, Vec<Option<Version>>>,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<BucketName, Bucket>,
    fault: Option<StoreError>,
}

/// What the store saw of the bodies that were written to it.
#[derive(Default, Debug)]
pub struct Counts {
    /// Bytes of the largest piece.
    pub piece_len_bytes_max: AtomicUsize,
    /// Bytes in all.
    pub written_bytes: AtomicU64,
    /// Commits.
    pub commits: AtomicU64,
    /// Sessions that ended without a commit.
    pub aborts: AtomicU64,
}

/// Buckets and objects in memory.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    counts: Arc<Counts>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    /// Whether bytes are kept; without, an object reads as zeros.
    keep: bool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self { state: Arc::default(), counts: Arc::default(), clock, rng, keep: true }
    }

    /// The same store, but bytes that are written are counted and forgotten.
    pub fn forgetful(mut self) -> Self {
        self.keep = false;
        self
    }

    /// What it saw.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// From now on every operation fails so; `None` ends it.
    pub fn fail(&self, fault: Option<StoreError>) {
        self.lock().fault = fault;
    }

    /// Adds `amount` to the length that an object claims to have, beyond its bytes.
    pub fn stretch(&self, bucket: &BucketName, key: &ObjectKey, amount: u64) {
        let mut state = self.lock();
        let versions = state.buckets.get_mut(bucket).and_then(|bucket| bucket.keys.get_mut(key));
        if let Some(Some(version)) = versions.and_then(|versions| versions.last_mut()) {
            version.info.len_bytes += amount;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn healthy(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.lock();
        match &state.fault {
            None => Ok(state),
            Some(fault) => Err(fault.clone()),
        }
    }
}

impl State {
    fn bucket(&mut self, name: &BucketName) -> Result<&mut Bucket, StoreError> {
        self.buckets.get_mut(name).ok_or_else(|| StoreError::NoSuchBucket(name.clone()))
    }
}

impl Bucket {
    fn current(&self, key: &ObjectKey) -> Option<&Version> {
        self.keys.get(key)?.last()?.as_ref()
    }

    fn check(&self, key: &ObjectKey, condition: &Condition) -> Result<(), StoreError> {
        let current = self.current(key);
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => current.is_none(),
            Condition::Present => current.is_some(),
            Condition::Matches(etag) => current.is_some_and(|version| version.info.etag == *etag),
        };
        if holds { Ok(()) } else { Err(StoreError::PreconditionFailed) }
    }
}

struct MemorySession {
    store: MemoryStore,
    request: PutRequest,
    data: BytesMut,
    len_bytes: u64,
    committed: bool,
}

#[async_trait::async_trait]
impl PutSession for MemorySession {
    async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        drop(self.store.healthy()?);
        let counts = &self.store.counts;
        counts.piece_len_bytes_max.fetch_max(chunk.len(), Ordering::Relaxed);
        counts.written_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        self.len_bytes += chunk.len() as u64;
        if self.store.keep {
            self.data.extend_from_slice(&chunk);
        }
        Ok(())
    }

    async fn commit(
        mut self: Box<Self>,
        etag: ETag,
        attributes: Attributes,
    ) -> Result<ObjectInfo, StoreError> {
        let store = self.store.clone();
        let mut state = store.healthy()?;
        let (key, len_bytes) = (self.request.key.clone(), self.len_bytes);
        let bucket = state.bucket(&self.request.bucket)?;
        bucket.check(&key, &self.request.condition)?;
        let info = ObjectInfo {
            class: bucket.info.class,
            version: VersionId::new(store.rng.u128()),
            len_bytes,
            etag,
            modified: store.clock.wall(),
            attributes,
        };
        let version = Version { info: info.clone(), data: std::mem::take(&mut self.data).freeze() };
        let versions = bucket.keys.entry(key).or_default();
        if bucket.info.class == BucketClass::Mail {
            versions.clear();
        }
        versions.push(Some(version));
        self.committed = true;
        store.counts.commits.fetch_add(1, Ordering::Relaxed);
        Ok(info)
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        if !self.committed {
            self.store.counts.aborts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct MemoryReader {
    version: Version,
}

impl ObjectReader for MemoryReader {
    fn info(&self) -> &ObjectInfo {
        &self.version.info
    }

    fn read(self: Box<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let data = self.version.data;
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        let data = data.slice(at(range.start)..at(range.end));
        let pieces = (0..data.len()).step_by(PIECE_LEN_BYTES).map(move |start| {
            let end = data.len().min(start + PIECE_LEN_BYTES);
            Ok(data.slice(start..end))
        });
        stream::iter(pieces).boxed()
    }
}

#[async_trait::async_trait]
impl ObjectStore for MemoryStore {
    async fn create_bucket(&self, name: BucketName, class: BucketClass) -> Result<BucketInfo, StoreError> {
        let mut state = self.healthy()?;
        if let Some(bucket) = state.buckets.get(&name) {
            return Err(if bucket.info.class == class {
                StoreError::BucketExists(name)
            } else {
                StoreError::BucketClassDiffers(name)
            });
        }
        let info = BucketInfo { name: name.clone(), class, created: self.clock.wall() };
        state.buckets.insert(name, Bucket { info: info.clone(), keys: BTreeMap::new() });
        Ok(info)
    }

    async fn delete_bucket(&self, name: &BucketName) -> Result<(), StoreError> {
        let mut state = self.healthy()?;
        let bucket = state.bucket(name)?;
        if bucket.keys.keys().any(|key| bucket.current(key).is_some()) {
            return Err(StoreError::BucketNotEmpty(name.clone()));
        }
        state.buckets.remove(name);
        Ok(())
    }

    async fn bucket(&self, name: &BucketName) -> Result<BucketInfo, StoreError> {
        Ok(self.healthy()?.bucket(name)?.info.clone())
    }

    async fn buckets(&self) -> Result<Vec<BucketInfo>, StoreError> {
        Ok(self.healthy()?.buckets.values().map(|bucket| bucket.info.clone()).collect())
    }

    async fn put(&self, request: PutRequest) -> Result<Box<dyn PutSession>, StoreError> {
        self.healthy()?.bucket(&request.bucket)?.check(&request.key, &request.condition)?;
        let store = self.clone();
        Ok(Box::new(MemorySession { store, request, data: BytesMut::new(), len_bytes: 0, committed: false }))
    }

    async fn open(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<VersionId>,
    ) -> Result<Box<dyn ObjectReader>, StoreError> {
        let mut state = self.healthy()?;
        let bucket = state.bucket(bucket)?;
        let found = match version {
            None => bucket.current(key),
            Some(version) => {
                let versions = bucket.keys.get(key).into_iter().flatten().flatten();
                versions.into_iter().find(|candidate| candidate.info.version == version)
            }
        };
        let version = found.ok_or(StoreError::NoSuchKey)?.clone();
        Ok(Box::new(MemoryReader { version }))
    }

    async fn delete(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        condition: Condition,
    ) -> Result<(), StoreError> {
        let mut state = self.healthy()?;
        let bucket = state.bucket(bucket)?;
        bucket.check(key, &condition)?;
        match bucket.info.class {
            BucketClass::Mail => {
                bucket.keys.remove(key);
            }
            BucketClass::Config => {
                if let Some(versions) = bucket.keys.get_mut(key) {
                    versions.push(None);
                }
            }
        }
        Ok(())
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError> {
        let mut state = self.healthy()?;
        let bucket = state.bucket(&request.bucket)?;
        let mut page = ListPage::default();
        let first = ObjectKey::new(request.prefix.as_str());
        let from = match &first {
            Ok(key) => Bound::Included(key),
            Err(_) => Bound::Unbounded,
        };
        let mut folded: Option<String> = None;
        for (key, versions) in bucket.keys.range::<ObjectKey, _>((from, Bound::Unbounded)) {
            let Some(rest) = key.as_str().strip_prefix(request.prefix.as_str()) else { break };
            let Some(version) = versions.last().and_then(Option::as_ref) else { continue };
            let cut = request.delimiter.as_ref().and_then(|delimiter| {
                rest.find(delimiter.as_str()).map(|at| request.prefix.len() + at + delimiter.len())
            });
            let prefix = cut.and_then(|cut| key.as_str().get(..cut));
            let name = prefix.unwrap_or(key.as_str());
            if request.after.as_deref().is_some_and(|after| name <= after)
                || (prefix.is_some() && folded.as_deref() == prefix)
            {
                continue;
            }
            if page.entries.len() == request.limit as usize {
                page.truncated = true;
                break;
            }
            page.entries.push(match prefix {
                Some(prefix) => {
                    folded = Some(prefix.to_owned());
                    ListEntry::CommonPrefix(prefix.to_owned())
                }
                None => ListEntry::Object {
                    key: key.clone(),
                    len_bytes: version.info.len_bytes,
                    etag: version.info.etag.clone(),
                    modified: version.info.modified,
                },
            });
        }
        Ok(page)
    }
}
