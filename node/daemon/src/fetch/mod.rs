//! Bytes of objects, from wherever they can be had: the nearest whole copy or slice, another one, or the same range of k others.
//!
//! Every needle is checked against the locator's checksum of its header and the header's checksums of its frames before anything is passed
//! on. Bytes that fail are asked for elsewhere; a wrong byte is never returned.

pub mod codecs;
pub mod image;

pub use codecs::Codecs;
pub use image::{ImageError, ImageReader};

use bytes::Bytes;
use std::ops::Range;
use strongroom_format::needle::NeedleHeader;
use strongroom_meta::MetaError;
use strongroom_types::limits::NEEDLE_HEADER_LEN_BYTES_MAX;
use strongroom_types::{Locator, SlabId};

/// Needles up to this length are read whole, also where only a range is wanted: header and frames in one go.
const READ_WHOLE_LEN_BYTES: u32 = 256 * 1024;

/// Why bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The slab table does not answer.
    #[error("slab table: {0}")]
    Meta(#[from] MetaError),
    /// Too few holders answer now.
    #[error("{slab}: too few holders answer: {reason}")]
    Unavailable {
        /// The slab.
        slab: SlabId,
        /// What they said.
        reason: String,
    },
    /// The slab is dead: nothing pointed into it when it was killed, so what did so before is elsewhere or not at all.
    #[error("{slab} is dead")]
    Gone {
        /// The slab.
        slab: SlabId,
    },
    /// All holders answered, and none of them, nor any k of them together, has the bytes as they were written.
    #[error("{slab}: bytes at {offset_bytes} are damaged at too many holders: {reason}")]
    Damaged {
        /// The slab.
        slab: SlabId,
        /// First byte in the image.
        offset_bytes: u32,
        /// What they said.
        reason: String,
    },
}

/// Reads needles.
#[derive(Clone)]
pub struct Fetcher {
    image: ImageReader,
}

impl Fetcher {
    /// Reads through `image`.
    pub fn new(image: ImageReader) -> Self {
        Self { image }
    }

    /// Reads as background work does, from now on.
    pub fn in_background(&self) -> Self {
        Self { image: self.image.in_background() }
    }

    /// The needle at `locator` as it lies in its slab, header and frames, checked.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn whole(&self, locator: &Locator) -> Result<Bytes, FetchError> {
        let end = u32::try_from(locator.end_bytes()).map_err(|_| misfit(locator))?;
        let all = 0..locator.plain_len_bytes;
        let take = |bytes: &Bytes| whole_plain(bytes, locator, &all).map(|_| bytes.clone());
        self.image.read(locator.slab, locator.offset_bytes..end, take).await
    }

    /// The bytes `plain` of the needle at `locator`, checked.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn needle(&self, locator: &Locator, plain: Range<u32>) -> Result<Bytes, FetchError> {
        assert!(!plain.is_empty() && plain.end <= locator.plain_len_bytes, "a range within the needle");
        let end = u32::try_from(locator.end_bytes()).map_err(|_| misfit(locator))?;
        if locator.len_bytes <= READ_WHOLE_LEN_BYTES || plain == (0..locator.plain_len_bytes) {
            let take = |bytes: &Bytes| whole_plain(bytes, locator, &plain);
            return self.image.read(locator.slab, locator.offset_bytes..end, take).await;
        }
        let head_end = locator.offset_bytes + locator.len_bytes.min(NEEDLE_HEADER_LEN_BYTES_MAX);
        let take = |bytes: &Bytes| NeedleHeader::decode(bytes, locator.header_crc32c).ok();
        let header = self.image.read(locator.slab, locator.offset_bytes..head_end, take).await?;
        let Some(span) = header.frames_for(plain.clone()) else { return Err(misfit(locator)) };
        let range =
            locator.offset_bytes + span.needle_bytes.start..locator.offset_bytes + span.needle_bytes.end;
        let take = |bytes: &Bytes| header.span_plain(&span, bytes).ok().map(|plain| bytes.slice_ref(plain));
        self.image.read(locator.slab, range, take).await
    }
}

fn whole_plain(bytes: &Bytes, locator: &Locator, plain: &Range<u32>) -> Option<Bytes> {
    let header = NeedleHeader::decode(bytes, locator.header_crc32c).ok()?;
    let span = header.frames_for(plain.clone())?;
    let stored = bytes.get(span.needle_bytes.start as usize..span.needle_bytes.end as usize)?;
    header.span_plain(&span, stored).ok().map(|plain| bytes.slice_ref(plain))
}

fn misfit(locator: &Locator) -> FetchError {
    FetchError::Damaged {
        slab: locator.slab,
        offset_bytes: locator.offset_bytes,
        reason: String::from("locator and needle header do not fit together"),
    }
}
