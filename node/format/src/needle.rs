//! A needle: one object, or one piece of a large one, inside a row.
//!
//! The locator's checksum covers the header, and the header's frame table holds a checksum for each frame. So the whole
//! needle and any range of it are checked against a checksum that is stored elsewhere, in the namespace. The header also
//! names the object, so that a slab alone tells what is in it.

use crate::block::{Reader, Writer, is_zero};
use crate::checksum::{crc32c, extend};
use crate::error::{FormatError, Structure};
use std::ops::Range;
use strongroom_types::limits::{
    FRAME_LEN_BYTES, NEEDLE_FRAMES_MAX, NEEDLE_HEADER_LEN_BYTES_MAX, NEEDLE_PLAIN_LEN_BYTES_MAX,
    OBJECT_KEY_LEN_BYTES_MAX,
};
use strongroom_types::{BucketClass, BucketId, Locator, ObjectKey, SlabId, VersionId};

const STRUCTURE: Structure = Structure::Needle;
const MAGIC: [u8; 4] = *b"SRND";
const VERSION: u16 = 1;
const CRC_AT: usize = 12;
/// Bytes before the key.
const FIXED_LEN: usize = 64;
/// Bytes of an entry of the frame table.
const ENTRY_LEN: usize = 12;
/// Bytes of a header in this version at most.
const HEADER_LEN_MAX: usize = FIXED_LEN + OBJECT_KEY_LEN_BYTES_MAX + NEEDLE_FRAMES_MAX as usize * ENTRY_LEN;

const _: () = assert!(HEADER_LEN_MAX <= NEEDLE_HEADER_LEN_BYTES_MAX as usize);
const _: () = assert!(NEEDLE_FRAMES_MAX * FRAME_LEN_BYTES == NEEDLE_PLAIN_LEN_BYTES_MAX);

/// What a needle carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedleMeta {
    /// Class of the bucket.
    pub class: BucketClass,
    /// The tenant.
    pub tenant: u32,
    /// The bucket.
    pub bucket: BucketId,
    /// The object's key.
    pub key: ObjectKey,
    /// The version.
    pub version: VersionId,
    /// Which piece of the version, from 0.
    pub piece: u32,
    /// How frames are stored.
    pub flags: NeedleFlags,
}

/// How the frames of a needle are stored. This version knows plain frames only; a needle with any flag is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeedleFlags(());

impl NeedleFlags {
    /// Frames hold the plaintext.
    pub const PLAIN: Self = Self(());
    /// Reserved: frames are zstd.
    pub const RESERVED_COMPRESSED: u8 = 1;
    /// Reserved: frames are sealed with AEAD.
    pub const RESERVED_ENCRYPTED: u8 = 2;
}

/// One frame of a needle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameEntry {
    /// Bytes as stored.
    pub stored_len_bytes: u32,
    /// Bytes of plaintext.
    pub plain_len_bytes: u32,
    /// CRC32C of the stored bytes.
    pub crc32c: u32,
}

/// The frame table of a needle.
pub type FrameTable = heapless::Vec<FrameEntry, { NEEDLE_FRAMES_MAX as usize }>;

/// A needle that was just written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes of the needle, header included.
    pub len_bytes: u32,
    /// Bytes of its header.
    pub header_len_bytes: u32,
    /// Checksum of its header, for the locator.
    pub header_crc32c: u32,
    /// Bytes of the object in it.
    pub plain_len_bytes: u32,
}

impl Encoded {
    /// The locator of this needle at byte `offset_bytes` of the image of `slab`.
    pub fn locator(&self, slab: SlabId, offset_bytes: u32) -> Locator {
        Locator {
            slab,
            offset_bytes,
            len_bytes: self.len_bytes,
            header_crc32c: self.header_crc32c,
            plain_len_bytes: self.plain_len_bytes,
        }
    }
}

/// Bytes that a needle with this key and plaintext takes, to decide whether it still fits into a row.
pub fn encoded_len_bytes(key: &ObjectKey, plain_len_bytes: u32) -> u64 {
    let frames = u64::from(plain_len_bytes.div_ceil(FRAME_LEN_BYTES));
    FIXED_LEN as u64 + key.as_str().len() as u64 + frames * ENTRY_LEN as u64 + u64::from(plain_len_bytes)
}

/// Appends a needle with `plain` to `out`.
///
/// # Errors
/// `Length` above the bound of a needle's plaintext; then nothing was appended.
pub fn encode(meta: &NeedleMeta, plain: &[u8], out: &mut Vec<u8>) -> Result<Encoded, FormatError> {
    let plain_len_bytes = match u32::try_from(plain.len()) {
        Ok(len_bytes) if len_bytes <= NEEDLE_PLAIN_LEN_BYTES_MAX => len_bytes,
        _ => {
            let expected = u64::from(NEEDLE_PLAIN_LEN_BYTES_MAX);
            return Err(FormatError::Length { structure: STRUCTURE, found: plain.len() as u64, expected });
        }
    };
    let frames: FrameTable = plain
        .chunks(FRAME_LEN_BYTES as usize)
        .map(|frame| FrameEntry {
            stored_len_bytes: frame.len() as u32,
            plain_len_bytes: frame.len() as u32,
            crc32c: crc32c(frame),
        })
        .collect();
    let start = out.len();
    let header_crc32c = encode_header(meta, plain_len_bytes, &frames, out);
    let header_len_bytes = (out.len() - start) as u32;
    out.extend_from_slice(plain);
    Ok(Encoded {
        len_bytes: header_len_bytes + plain_len_bytes,
        header_len_bytes,
        header_crc32c,
        plain_len_bytes,
    })
}

fn encode_header(meta: &NeedleMeta, plain_len_bytes: u32, frames: &[FrameEntry], out: &mut Vec<u8>) -> u32 {
    let key = meta.key.as_str().as_bytes();
    let header_len = FIXED_LEN + key.len() + frames.len() * ENTRY_LEN;
    assert!(header_len <= HEADER_LEN_MAX, "key and frames are bounded by their types");
    let start = out.len();
    out.resize(start + header_len, 0);
    let header = &mut out[start..];
    let mut writer = Writer::new(header);
    writer.bytes(&MAGIC);
    writer.u16(VERSION);
    writer.u8(class_to_byte(meta.class));
    writer.u8(0);
    writer.u16(header_len as u16);
    writer.u16(key.len() as u16);
    writer.u32(0);
    writer.u16(frames.len() as u16);
    writer.skip(2);
    writer.u32(meta.tenant);
    writer.u64(meta.bucket.get());
    writer.u128(meta.version.get());
    writer.u32(meta.piece);
    writer.u32(plain_len_bytes);
    writer.u32(frames.iter().map(|frame| frame.stored_len_bytes).sum());
    writer.skip(4);
    writer.bytes(key);
    for frame in frames {
        writer.u32(frame.stored_len_bytes);
        writer.u32(frame.plain_len_bytes);
        writer.u32(frame.crc32c);
    }
    let crc = header_crc32c(header);
    header[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

fn header_crc32c(header: &[u8]) -> u32 {
    extend(crc32c(&header[..CRC_AT]), &header[CRC_AT + 4..])
}

fn class_to_byte(class: BucketClass) -> u8 {
    match class {
        BucketClass::Mail => 1,
        BucketClass::Config => 2,
    }
}

/// A needle's header, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedleHeader {
    /// What the needle carries.
    pub meta: NeedleMeta,
    /// Bytes of the header: where the first frame begins in the needle.
    pub header_len_bytes: u32,
    /// Checksum of the header, as a locator has it.
    pub header_crc32c: u32,
    /// Bytes of the object in this needle.
    pub plain_len_bytes: u32,
    /// The frames.
    pub frames: FrameTable,
}

/// Where a range of a needle's plaintext is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameSpan {
    /// The frames that hold it.
    pub frames: Range<u32>,
    /// Their bytes in the needle, to be read.
    pub needle_bytes: Range<u32>,
    /// The wanted bytes within the plaintext of these frames put together.
    pub plain_bytes: Range<u32>,
}

impl NeedleHeader {
    /// The header at the beginning of `bytes`, which must be the one that a locator was made for. The needle's first
    /// 4096 bytes (or all of it, if shorter) are always enough.
    ///
    /// # Errors
    /// `Misplaced` where a whole header stands there that is another's, else what is wrong with it.
    pub fn decode(bytes: &[u8], expected_crc32c: u32) -> Result<Self, FormatError> {
        let header = Self::scan(bytes)?;
        if header.header_crc32c != expected_crc32c {
            return Err(FormatError::Misplaced { structure: STRUCTURE, field: "header checksum" });
        }
        Ok(header)
    }

    /// The header at the beginning of `bytes`, whosever it is: for readers of a slab without locators.
    ///
    /// # Errors
    /// `Zero` where `bytes` is empty or zero, `NotThis` without magic, else what is wrong with it.
    pub fn scan(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(if is_zero(bytes) {
                FormatError::Zero { structure: STRUCTURE }
            } else {
                FormatError::NotThis { structure: STRUCTURE }
            });
        }
        let mut frame = Reader::new(STRUCTURE, bytes);
        frame.take(MAGIC.len())?;
        let version = frame.u16()?;
        frame.take(2)?;
        let header_len = frame.u16()?;
        let key_len = usize::from(frame.u16()?);
        let expected = frame.u32()?;
        let header_len_bounds = FIXED_LEN..=NEEDLE_HEADER_LEN_BYTES_MAX as usize;
        if !header_len_bounds.contains(&usize::from(header_len)) {
            return Err(frame.field("header_len_bytes", u64::from(header_len), "from 64 to 4096"));
        }
        let header = Reader::new(STRUCTURE, bytes).take(usize::from(header_len))?;
        let found = header_crc32c(header);
        if found != expected {
            return Err(FormatError::Checksum { structure: STRUCTURE, expected, found });
        }
        if version != VERSION {
            return Err(FormatError::Version { structure: STRUCTURE, found: version, known: VERSION });
        }
        Self::parse(header, key_len, found)
    }

    fn parse(header: &[u8], key_len: usize, header_crc32c: u32) -> Result<Self, FormatError> {
        let mut reader = Reader::new(STRUCTURE, header);
        reader.take(MAGIC.len() + 2)?;
        let class = match reader.u8()? {
            1 => BucketClass::Mail,
            2 => BucketClass::Config,
            other => return Err(reader.field("class", u64::from(other), "1 (mail) or 2 (config)")),
        };
        let flags = reader.u8()?;
        if flags != 0 {
            return Err(reader.field("flags", u64::from(flags), "0: this version knows plain frames only"));
        }
        reader.take(2 + 2 + 4)?;
        let frame_count = u32::from(reader.u16()?);
        reader.zero(2)?;
        let tenant = reader.u32()?;
        let bucket = BucketId::new(reader.u64()?);
        let version = VersionId::new(reader.u128()?);
        let piece = reader.u32()?;
        let plain_len_bytes = reader.u32()?;
        let stored_len_bytes = reader.u32()?;
        reader.zero(4)?;
        let key = std::str::from_utf8(reader.take(key_len)?).ok().and_then(|key| ObjectKey::new(key).ok());
        let key = key.ok_or_else(|| reader.field("key", key_len as u64, "1 to 1024 bytes of UTF-8"))?;
        if plain_len_bytes > NEEDLE_PLAIN_LEN_BYTES_MAX {
            return Err(reader.field("plain_len_bytes", u64::from(plain_len_bytes), "at most 3 MiB"));
        }
        if frame_count != plain_len_bytes.div_ceil(FRAME_LEN_BYTES) {
            return Err(reader.field(
                "frame_count",
                u64::from(frame_count),
                "one for each 64 KiB of plaintext",
            ));
        }
        let mut frames = FrameTable::new();
        for index in 0..frame_count {
            let entry = FrameEntry {
                stored_len_bytes: reader.u32()?,
                plain_len_bytes: reader.u32()?,
                crc32c: reader.u32()?,
            };
            let wanted = (plain_len_bytes - index * FRAME_LEN_BYTES).min(FRAME_LEN_BYTES);
            if entry.plain_len_bytes != wanted {
                let found = u64::from(entry.plain_len_bytes);
                return Err(reader.field("frame plain_len_bytes", found, "64 KiB, the rest in the last"));
            }
            if entry.stored_len_bytes != entry.plain_len_bytes {
                let found = u64::from(entry.stored_len_bytes);
                return Err(reader.field(
                    "frame stored_len_bytes",
                    found,
                    "the plaintext's length, without flags",
                ));
            }
            frames.push(entry).expect("frame_count is bounded by the plaintext's length");
        }
        if stored_len_bytes != plain_len_bytes {
            return Err(reader.field(
                "stored_len_bytes",
                u64::from(stored_len_bytes),
                "the sum of the frames",
            ));
        }
        reader.end()?;
        let meta = NeedleMeta { class, tenant, bucket, key, version, piece, flags: NeedleFlags::PLAIN };
        let header_len_bytes = header.len() as u32;
        Ok(Self { meta, header_len_bytes, header_crc32c, plain_len_bytes, frames })
    }

    /// The bytes of this header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode_header(&self.meta, self.plain_len_bytes, &self.frames, &mut out);
        out
    }

    /// Bytes of the whole needle.
    pub fn len_bytes(&self) -> u32 {
        self.header_len_bytes + self.frames.iter().map(|frame| frame.stored_len_bytes).sum::<u32>()
    }

    /// Where frame `index` is in the needle; `None` where there is no such frame.
    pub fn frame_bytes(&self, index: u32) -> Option<Range<u32>> {
        let before = self.frames.get(..index as usize)?;
        let start = self.header_len_bytes + before.iter().map(|frame| frame.stored_len_bytes).sum::<u32>();
        Some(start..start + self.frames.get(index as usize)?.stored_len_bytes)
    }

    /// Which frames hold `plain` (a range of this needle's plaintext), and where they are. `None` where the range is
    /// empty or not within the plaintext.
    pub fn frames_for(&self, plain: Range<u32>) -> Option<FrameSpan> {
        if plain.is_empty() || plain.end > self.plain_len_bytes {
            return None;
        }
        let first = plain.start / FRAME_LEN_BYTES;
        let last = (plain.end - 1) / FRAME_LEN_BYTES;
        let needle_bytes = self.frame_bytes(first)?.start..self.frame_bytes(last)?.end;
        let skipped = first * FRAME_LEN_BYTES;
        Some(FrameSpan {
            frames: first..last + 1,
            needle_bytes,
            plain_bytes: plain.start - skipped..plain.end - skipped,
        })
    }

    /// The plaintext of frame `index`, whose stored bytes are `stored`.
    ///
    /// # Errors
    /// `Checksum` or `Length` where these are not the stored bytes, `Field` where there is no such frame.
    pub fn frame_plain<'a>(&self, index: u32, stored: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let structure = Structure::NeedleFrame;
        let Some(frame) = self.frames.get(index as usize) else {
            let expected = "a frame of this needle";
            return Err(FormatError::Field { structure, field: "index", found: u64::from(index), expected });
        };
        if stored.len() as u64 != u64::from(frame.stored_len_bytes) {
            let (found, expected) = (stored.len() as u64, u64::from(frame.stored_len_bytes));
            return Err(FormatError::Length { structure, found, expected });
        }
        let found = crc32c(stored);
        if found != frame.crc32c {
            return Err(FormatError::Checksum { structure, expected: frame.crc32c, found });
        }
        Ok(stored)
    }

    /// The wanted plaintext of `span`, whose bytes in the needle are `stored`; each frame of it is checked.
    ///
    /// # Errors
    /// As [`Self::frame_plain`], for the first frame that fails; `Length` where `stored` is not just the span's bytes.
    pub fn span_plain<'a>(&self, span: &FrameSpan, stored: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let structure = Structure::NeedleFrame;
        let mut reader = Reader::new(structure, stored);
        for index in span.frames.clone() {
            let len_bytes = self.frames.get(index as usize).map_or(0, |frame| frame.stored_len_bytes);
            self.frame_plain(index, reader.take(len_bytes as usize)?)?;
        }
        reader.end()?;
        // Stored bytes are the plaintext in this version, so the range applies to them as it is.
        let wanted = span.plain_bytes.start as usize..span.plain_bytes.end as usize;
        stored.get(wanted).ok_or(FormatError::Length {
            structure,
            found: stored.len() as u64,
            expected: u64::from(span.plain_bytes.end),
        })
    }
}

/// The needles of a row's payload one after the other, with their offsets in the payload; ends at the padding. After an
/// error nothing follows: where the next needle begins is not known.
pub fn scan_row(payload: &[u8]) -> impl Iterator<Item = Result<(u32, NeedleHeader), FormatError>> + '_ {
    let mut at = Some(0);
    std::iter::from_fn(move || {
        let start: usize = at.take()?;
        let rest = payload.get(start..)?;
        let header = match NeedleHeader::scan(rest) {
            Err(FormatError::Zero { .. }) => return None,
            Err(error) => return Some(Err(error)),
            Ok(header) => header,
        };
        let len_bytes = header.len_bytes() as usize;
        if len_bytes > rest.len() {
            let (found, expected) = (rest.len() as u64, len_bytes as u64);
            return Some(Err(FormatError::Length { structure: STRUCTURE, found, expected }));
        }
        at = Some(start + len_bytes);
        Some(u32::try_from(start).map(|start| (start, header)).map_err(|_| FormatError::Length {
            structure: STRUCTURE,
            found: payload.len() as u64,
            expected: u64::from(u32::MAX),
        }))
    })
}

/// For fuzzing: makes the header's checksum right where its length lies within `bytes`.
pub(crate) fn mend(bytes: &mut [u8]) {
    let Some(header_len) = bytes.get(8..10).map(|len| usize::from(u16::from_le_bytes([len[0], len[1]])))
    else {
        return;
    };
    if let Some(header) = bytes.get_mut(..header_len).filter(|header| header.len() >= FIXED_LEN) {
        let crc = header_crc32c(header);
        header[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
