//! One version of an object, being read.

use super::not_fetched;
use crate::fetch::Fetcher;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use std::ops::Range;
use std::sync::Arc;
use strongroom_gateway::store::{ObjectInfo, ObjectReader, StoreError};
use strongroom_meta::group::{Content, VersionRecord};
use strongroom_types::{BucketClass, Locator};

/// Needles that are fetched at once; with the one that is being sent, a response holds three of at most 3 MiB.
const NEEDLES_AHEAD: usize = 2;

pub(super) struct Reader {
    fetcher: Arc<Fetcher>,
    info: ObjectInfo,
    content: Content,
}

impl Reader {
    pub(super) fn new(fetcher: Arc<Fetcher>, class: BucketClass, record: VersionRecord) -> Self {
        let VersionRecord { version, len_bytes, etag, modified, attributes, content } = record;
        Self { fetcher, info: ObjectInfo { class, version, len_bytes, etag, modified, attributes }, content }
    }
}

impl ObjectReader for Reader {
    fn info(&self) -> &ObjectInfo {
        &self.info
    }

    fn read(self: Box<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, StoreError>> {
        let end = range.end.min(self.info.len_bytes);
        let range = range.start.min(end)..end;
        match self.content {
            Content::Inline(bytes) => {
                // An inline value is far below 4 GiB, and the range within it.
                let bytes = bytes.slice(range.start as usize..range.end as usize);
                stream::iter([Ok(bytes)]).boxed()
            }
            Content::Needles(locators) => {
                let fetcher = self.fetcher;
                stream::iter(parts_of(&locators, &range))
                    .map(move |(locator, plain)| {
                        let fetcher = fetcher.clone();
                        async move { fetcher.needle(&locator, plain).await.map_err(|error| not_fetched(&error)) }
                    })
                    .buffered(NEEDLES_AHEAD)
                    .boxed()
            }
        }
    }
}

/// Which bytes of which needles make `range` of the object.
fn parts_of(locators: &[Locator], range: &Range<u64>) -> Vec<(Locator, Range<u32>)> {
    let mut parts = Vec::new();
    let mut start = 0u64;
    for locator in locators {
        let end = start + u64::from(locator.plain_len_bytes);
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            let within = |at: u64| u32::try_from(at - start).expect("within one needle");
            parts.push((*locator, within(from)..within(to)));
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
        let ranges = |range: Range<u64>| -> Vec<(u32, u32)> {
            parts_of(&locators, &range).into_iter().map(|(_, range)| (range.start, range.end)).collect()
        };
        assert_eq!(ranges(0..15), [(0, 10), (0, 5)]);
        assert_eq!(ranges(9..11), [(9, 10), (0, 1)]);
        assert_eq!(ranges(10..11), [(0, 1)]);
        assert_eq!(ranges(4..4), []);
    }
}
