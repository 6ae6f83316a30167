//! One object on its way in.
//!
//! Bytes are cut into needles of at most 3 MiB; each goes to the writer as soon as it is full, and a few are on their way at once, so a request
//! holds bounded memory whatever its length. A session that is dropped leaves garbage needles at most: nothing points to them.

use super::{Store, not_ingested, session_fenced};
use crate::ingest::{Encoded, IngestError, Stored};
use crate::limits::PUT_NEEDLES_IN_FLIGHT_MAX;
use crate::pins::Pinned;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use strongroom_core::credits::Grant;
use strongroom_format::needle::{self, NeedleFlags, NeedleMeta};
use strongroom_gateway::store::{ObjectInfo, PutRequest, PutSession, StoreError};
use strongroom_meta::control::BucketRecord;
use strongroom_meta::group::{Change, Content, VersionRecord};
use strongroom_types::limits::{
    CONFIG_INLINE_LEN_BYTES_MAX, NEEDLE_HEADER_LEN_BYTES_MAX, NEEDLE_PLAIN_LEN_BYTES_MAX,
    OBJECT_LEN_BYTES_MAX,
};
use strongroom_types::{Attributes, BucketClass, ETag, Locator, ObjectKey, SessionId, VersionId};

/// Tenant of everything, until tenants come.
const TENANT: u32 = 0;

pub(super) async fn begin(store: &Store, request: PutRequest) -> Result<Box<dyn PutSession>, StoreError> {
    let bucket = store.parts.buckets.resolve(&request.bucket, false).await?;
    if request.len_bytes.is_some_and(|len| len > OBJECT_LEN_BYTES_MAX) {
        return Err(StoreError::TooLarge { len_bytes_max: OBJECT_LEN_BYTES_MAX });
    }
    let grant = take_credits(store, request.len_bytes)?;
    let version = VersionId::new(store.parts.env.rng.u128());
    Ok(Box::new(Session {
        bucket,
        request,
        version,
        len_bytes: 0,
        filling: BytesMut::new(),
        pieces: 0,
        in_flight: FuturesOrdered::new(),
        locators: Vec::new(),
        pinned: Vec::new(),
        session: None,
        credits: Credited { store: store.clone(), grant: Some(grant) },
    }))
}

/// Memory that a PUT may take: its length where it is short and known, else what a session holds at most.
fn take_credits(store: &Store, len_bytes: Option<u64>) -> Result<Grant, StoreError> {
    let needle = u64::from(NEEDLE_PLAIN_LEN_BYTES_MAX + NEEDLE_HEADER_LEN_BYTES_MAX);
    let most = needle * (PUT_NEEDLES_IN_FLIGHT_MAX as u64 + 1);
    let wanted = len_bytes.map_or(most, |len| most.min(len + u64::from(NEEDLE_HEADER_LEN_BYTES_MAX)));
    let mut credits = store.parts.credits.lock().expect("no code panics while it holds this lock");
    credits.take(wanted).map_err(|_| StoreError::Busy)
}

/// Credits that go back when the session ends, however it ends.
struct Credited {
    store: Store,
    grant: Option<Grant>,
}

impl Drop for Credited {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            let credits = &self.store.parts.credits;
            credits.lock().expect("no code panics while it holds this lock").give_back(grant);
        }
    }
}

struct Session {
    bucket: BucketRecord,
    request: PutRequest,
    version: VersionId,
    len_bytes: u64,
    filling: BytesMut,
    pieces: u32,
    in_flight: FuturesOrdered<BoxFuture<'static, Result<Stored, IngestError>>>,
    locators: Vec<Locator>,
    /// Their slabs are not reclaimed while this lives: until the commit is over, however it ends.
    pinned: Vec<Pinned>,
    /// That of the slabs in which all needles so far are.
    session: Option<SessionId>,
    /// Last: given back after the buffers above are gone.
    credits: Credited,
}

impl Session {
    fn store(&self) -> &Store {
        &self.credits.store
    }

    /// Sends what has gathered as a needle; waits while too many are on their way.
    async fn send_needle(&mut self) -> Result<(), StoreError> {
        while self.in_flight.len() >= PUT_NEEDLES_IN_FLIGHT_MAX {
            self.await_needle().await?;
        }
        let plain = std::mem::take(&mut self.filling);
        let meta = NeedleMeta {
            class: self.bucket.class,
            tenant: TENANT,
            bucket: self.bucket.bucket,
            key: self.request.key.clone(),
            version: self.version,
            piece: self.pieces,
            flags: NeedleFlags::PLAIN,
        };
        self.pieces += 1;
        let mut bytes = Vec::with_capacity(needle_capacity(&self.request.key, plain.len()));
        let encoded = needle::encode(&meta, &plain, &mut bytes).expect("a needle's length is bounded above");
        drop(plain);
        let encoded = Encoded {
            bytes: Bytes::from(bytes),
            header_crc32c: encoded.header_crc32c,
            plain_len_bytes: encoded.plain_len_bytes,
        };
        let ingest = self.store().parts.ingest.clone();
        self.in_flight.push_back(Box::pin(async move { ingest.store(encoded).await }));
        // Started now, not when it is next waited for.
        futures::future::poll_fn(|context| {
            if let std::task::Poll::Ready(Some(done)) = self.in_flight.poll_next_unpin(context) {
                return std::task::Poll::Ready(Some(done));
            }
            std::task::Poll::Ready(None)
        })
        .await
        .map_or(Ok(()), |done| self.take_locator(done))
    }

    async fn await_needle(&mut self) -> Result<(), StoreError> {
        match self.in_flight.next().await {
            Some(done) => self.take_locator(done),
            None => Ok(()),
        }
    }

    fn take_locator(&mut self, done: Result<Stored, IngestError>) -> Result<(), StoreError> {
        let Stored { locator, session, pinned } = done.map_err(|error| not_ingested(&error))?;
        if *self.session.get_or_insert(session) != session {
            // A version names one session; of two the first is fenced, and the commit would be refused.
            return Err(session_fenced());
        }
        self.locators.push(locator);
        self.pinned.push(pinned);
        Ok(())
    }

    async fn content(&mut self) -> Result<Content, StoreError> {
        let inline = self.bucket.class == BucketClass::Config
            && self.pieces == 0
            && self.filling.len() <= CONFIG_INLINE_LEN_BYTES_MAX as usize;
        if inline || self.len_bytes == 0 {
            return Ok(Content::Inline(std::mem::take(&mut self.filling).freeze()));
        }
        if !self.filling.is_empty() {
            self.send_needle().await?;
        }
        while !self.in_flight.is_empty() {
            self.await_needle().await?;
        }
        Ok(Content::Needles(std::mem::take(&mut self.locators)))
    }
}

fn needle_capacity(key: &ObjectKey, plain_len: usize) -> usize {
    let plain_len = u32::try_from(plain_len).expect("a needle's length is bounded");
    usize::try_from(needle::encoded_len_bytes(key, plain_len)).expect("a needle's length is bounded")
}

#[async_trait::async_trait]
impl PutSession for Session {
    async fn write(&mut self, mut chunk: Bytes) -> Result<(), StoreError> {
        self.len_bytes += chunk.len() as u64;
        if self.len_bytes > OBJECT_LEN_BYTES_MAX {
            return Err(StoreError::TooLarge { len_bytes_max: OBJECT_LEN_BYTES_MAX });
        }
        while !chunk.is_empty() {
            let room = NEEDLE_PLAIN_LEN_BYTES_MAX as usize - self.filling.len();
            let part = chunk.split_to(room.min(chunk.len()));
            if self.filling.capacity() == 0 {
                let wanted = self.request.len_bytes.unwrap_or(0).min(u64::from(NEEDLE_PLAIN_LEN_BYTES_MAX));
                self.filling.reserve(usize::try_from(wanted).expect("at most a needle"));
            }
            self.filling.extend_from_slice(&part);
            if self.filling.len() == NEEDLE_PLAIN_LEN_BYTES_MAX as usize {
                self.send_needle().await?;
            }
        }
        Ok(())
    }

    async fn commit(
        mut self: Box<Self>,
        etag: ETag,
        attributes: Attributes,
    ) -> Result<ObjectInfo, StoreError> {
        let content = self.content().await?;
        let parts = self.store().parts.clone();
        let modified = parts.env.clock.wall();
        let record = VersionRecord {
            version: self.version,
            len_bytes: self.len_bytes,
            etag: etag.clone(),
            modified,
            attributes: attributes.clone(),
            content,
        };
        let condition = self.request.condition.clone();
        let change = Change::Put(record);
        match parts.commit(&self.bucket, &self.request.key, condition, change, self.session).await {
            // What was known of it was old: its needles name the bucket that is gone, so they cannot become the new one's.
            Err(StoreError::NoSuchBucket(name)) if parts.buckets.resolve(&name, true).await.is_ok() => {
                let reason = format!("bucket {name} was removed and made again meanwhile, try again");
                return Err(StoreError::Unavailable { reason });
            }
            result => result?,
        }
        Ok(ObjectInfo {
            class: self.bucket.class,
            version: self.version,
            len_bytes: self.len_bytes,
            etag,
            modified,
            attributes,
        })
    }
}
