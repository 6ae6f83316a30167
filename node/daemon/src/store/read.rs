//! One version of an object, being read.
//!
//! A needle may be copied elsewhere while it is read, and its slab killed. Then the version is looked up again, and the rest is read from where it is now. Nobody
//! needs that but for a body that takes longer than dead slabs are kept ([`crate::sweeper`]).

use super::{Parts, not_fetched, unavailable};
use crate::fetch::FetchError;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use strongroom_gateway::store::{ObjectInfo, ObjectReader, StoreError};
use strongroom_meta::control::BucketRecord;
use strongroom_meta::group::{Content, GroupAnswer, GroupQuery, VersionRecord};
use strongroom_types::{BucketId, Locator, ObjectKey};

/// Needles that are fetched at once; with the one that is being sent, a response holds three of at most 3 MiB.
const NEEDLES_AHEAD: usize = 2;
/// Times that a needle is looked up again: each time it was moved in between, which takes longer than reading it.
const LOOKUPS_MAX: usize = 4;

pub(super) struct Reader {
    parts: Arc<Parts>,
    bucket: BucketId,
    key: ObjectKey,
    info: ObjectInfo,
    content: Content,
}

impl Reader {
    pub(super) fn new(
        parts: Arc<Parts>,
        bucket: &BucketRecord,
        key: ObjectKey,
        record: VersionRecord,
    ) -> Self {
        let class = bucket.class;
        let VersionRecord { version, len_bytes, etag, modified, attributes, content } = record;
        let info = ObjectInfo { class, version, len_bytes, etag, modified, attributes };
        Self { parts, bucket: bucket.bucket, key, info, content }
    }
}

impl ObjectReader for Reader {
    fn info(&self) -> &ObjectInfo {
        &self.info
    }

    fn read(self: Box<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let Self { parts, bucket, key, info, content } = *self;
        let end = range.end.min(info.len_bytes);
        let range = range.start.min(end)..end;
        match content {
            Content::Inline(bytes) => {
                // An inline value is far below 4 GiB, and the range within it.
                let bytes = bytes.slice(range.start as usize..range.end as usize);
                stream::iter([Ok(bytes)]).boxed()
            }
            Content::Needles(locators) => {
                let pieces = parts_of(&locators, &range);
                let needles = Arc::new(Needles { parts, bucket, key, info, present: Mutex::new(locators) });
                stream::iter(pieces)
                    .map(move |(piece, plain)| {
                        let needles = needles.clone();
                        async move { needles.fetch(piece, plain).await }
                    })
                    .buffered(NEEDLES_AHEAD)
                    .boxed()
            }
        }
    }
}

/// The needles of one version.
struct Needles {
    parts: Arc<Parts>,
    bucket: BucketId,
    key: ObjectKey,
    info: ObjectInfo,
    /// Where they were when they were last looked up.
    present: Mutex<Vec<Locator>>,
}

impl Needles {
    async fn fetch(&self, piece: usize, plain: Range<u32>) -> Result<Bytes, StoreError> {
        let mut locator = self.at(piece);
        for _ in 0..LOOKUPS_MAX {
            let gone = match self.parts.fetcher.needle(&locator, plain.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(gone @ FetchError::Gone { .. }) => gone,
                Err(error) => return Err(not_fetched(&error)),
            };
            // Another needle's reader may have looked it up since.
            let mut moved = self.at(piece);
            if moved == locator {
                self.look_up().await?;
                moved = self.at(piece);
            }
            if moved == locator {
                return Err(self.dangling(&gone));
            }
            locator = moved;
        }
        let reason = String::from("the object was moved again and again while it was read, try again");
        Err(StoreError::Unavailable { reason })
    }

    fn at(&self, piece: usize) -> Locator {
        self.lock()[piece]
    }

    /// Looks up where the needles of this version are now.
    async fn look_up(&self) -> Result<(), StoreError> {
        tracing::debug!(bucket = %self.bucket, key = %self.key, "a slab died while an object in it was read: it is looked up again");
        let group = self.parts.meta.group_of(self.bucket, &self.key);
        let version = Some(self.info.version);
        let query = GroupQuery::Version { bucket: self.bucket, key: self.key.clone(), version };
        let answer = self.parts.meta.read(group, query, self.parts.deadline()).await;
        let found = match answer.map_err(|error| unavailable(&error))? {
            GroupAnswer::Version(Some(VersionRecord { content: Content::Needles(found), .. })) => found,
            _ => Vec::new(),
        };
        let mut present = self.lock();
        if found.len() != present.len() {
            let reason = String::from("the object was replaced or removed while it was read");
            return Err(StoreError::Unavailable { reason });
        }
        *present = found;
        Ok(())
    }

    /// The version has its needle in a slab that is dead: that must not be.
    fn dangling(&self, gone: &FetchError) -> StoreError {
        let reason = format!("{gone}, and the object has bytes in it");
        self.parts.alarms.damage(&reason);
        StoreError::Damaged { reason }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Locator>> {
        self.present.lock().expect("no code panics while it holds this lock")
    }
}

/// Which bytes of which needles make `range` of the object.
fn parts_of(locators: &[Locator], range: &Range<u64>) -> Vec<(usize, Range<u32>)> {
    let mut parts = Vec::new();
    let mut start = 0u64;
    for (piece, locator) in locators.iter().enumerate() {
        let end = start + u64::from(locator.plain_len_bytes);
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            let within = |at: u64| u32::try_from(at - start).expect("within one needle");
            parts.push((piece, within(from)..within(to)));
        }
        start = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use strongroom_types::SlabId;

    #[test]
    fn parts_cover_a_range_over_needles() {
        let locator = |plain_len_bytes| Locator {
            slab: SlabId::from_bits(1),
            offset_bytes: 0,
            len_bytes: plain_len_bytes + 64,
            header_crc32c: 0,
            plain_len_bytes,
        };
        let locators = [locator(10), locator(5)];
        let ranges = |range: Range<u64>| -> Vec<(usize, u32, u32)> {
            let parts = parts_of(&locators, &range).into_iter();
            parts.map(|(piece, range)| (piece, range.start, range.end)).collect()
        };
        assert_eq!(ranges(0..15), [(0, 0, 10), (1, 0, 5)]);
        assert_eq!(ranges(9..11), [(0, 9, 10), (1, 0, 1)]);
        assert_eq!(ranges(10..11), [(1, 0, 1)]);
        assert_eq!(ranges(4..4), []);
    }
}
