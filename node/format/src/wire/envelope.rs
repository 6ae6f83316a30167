//! How a frame travels over a byte stream: a header of fixed length, then the head, then the payload.

use super::frame::Frame;
use crate::block::{Reader, Writer};
use crate::checksum::crc32c;
use crate::error::{FormatError, Structure};
use strongroom_types::limits::{WIRE_HEAD_LEN_BYTES_MAX, WIRE_PAYLOAD_LEN_BYTES_MAX};

const MAGIC: [u8; 4] = *b"SRWF";
/// Version of the envelope. Peers agree on it in their hello; another one in a frame breaks the connection.
pub const VERSION: u16 = 2;
const STRUCTURE: Structure = Structure::Envelope;
const CRC_AT: usize = EnvelopeHeader::LEN_BYTES - 4;

/// Whether a frame asks or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// It asks.
    Request,
    /// It answers the request of the same id.
    Response,
}

/// The fixed part in front of each frame on a connection. Once it is decoded, its lengths are within the bounds of the
/// wire: memory may be taken by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeHeader {
    /// Asks or answers.
    pub kind: FrameKind,
    /// Chosen by who asks, unique among the calls in flight of a connection.
    pub request_id: u64,
    /// How long the asker will wait, from when it sent; 0 in answers.
    pub deadline_ms: u32,
    /// Bytes of the head.
    pub head_len_bytes: u32,
    /// Bytes of the payload.
    pub payload_len_bytes: u32,
    /// CRC32C of the head.
    pub head_crc32c: u32,
    /// CRC32C of the payload.
    pub payload_crc32c: u32,
}

impl EnvelopeHeader {
    /// Bytes of an encoded header.
    pub const LEN_BYTES: usize = 40;

    /// The header for `frame`.
    ///
    /// # Errors
    /// `Length` where the frame is above a bound of the wire: it must not be sent.
    pub fn for_frame(
        kind: FrameKind,
        request_id: u64,
        deadline_ms: u32,
        frame: &Frame,
    ) -> Result<Self, FormatError> {
        frame.check_bounds()?;
        Ok(Self {
            kind,
            request_id,
            deadline_ms,
            head_len_bytes: u32::try_from(frame.head.len()).expect("within the bound checked above"),
            payload_len_bytes: u32::try_from(frame.payload.len()).expect("within the bound checked above"),
            head_crc32c: crc32c(&frame.head),
            payload_crc32c: crc32c(&frame.payload),
        })
    }

    /// The bytes of this header.
    pub fn encode(&self) -> [u8; Self::LEN_BYTES] {
        let mut out = [0; Self::LEN_BYTES];
        let mut writer = Writer::new(&mut out);
        writer.bytes(&MAGIC);
        writer.u16(VERSION);
        writer.u8(match self.kind {
            FrameKind::Request => 1,
            FrameKind::Response => 2,
        });
        writer.u8(0);
        writer.u64(self.request_id);
        writer.u32(self.deadline_ms);
        writer.u32(self.head_len_bytes);
        writer.u32(self.payload_len_bytes);
        writer.u32(self.head_crc32c);
        writer.u32(self.payload_crc32c);
        let crc = crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in `bytes`.
    ///
    /// # Errors
    /// The stream is out of step or the peer is foreign: drop the connection.
    pub fn decode(bytes: &[u8; Self::LEN_BYTES]) -> Result<Self, FormatError> {
        if bytes[..MAGIC.len()] != MAGIC {
            return Err(FormatError::NotThis { structure: STRUCTURE });
        }
        let expected = Reader::new(STRUCTURE, &bytes[CRC_AT..]).u32()?;
        let found = crc32c(&bytes[..CRC_AT]);
        if found != expected {
            return Err(FormatError::Checksum { structure: STRUCTURE, expected, found });
        }
        let mut reader = Reader::new(STRUCTURE, &bytes[MAGIC.len()..CRC_AT]);
        let version = reader.u16()?;
        if version != VERSION {
            return Err(FormatError::Version { structure: STRUCTURE, found: version, known: VERSION });
        }
        let kind = match reader.u8()? {
            1 => FrameKind::Request,
            2 => FrameKind::Response,
            other => return Err(reader.field("kind", u64::from(other), "1 (request) or 2 (response)")),
        };
        reader.zero(1)?;
        let header = Self {
            kind,
            request_id: reader.u64()?,
            deadline_ms: reader.u32()?,
            head_len_bytes: reader.u32()?,
            payload_len_bytes: reader.u32()?,
            head_crc32c: reader.u32()?,
            payload_crc32c: reader.u32()?,
        };
        if header.head_len_bytes > WIRE_HEAD_LEN_BYTES_MAX {
            return Err(reader.field("head_len_bytes", u64::from(header.head_len_bytes), "at most 8 MiB"));
        }
        if header.payload_len_bytes > WIRE_PAYLOAD_LEN_BYTES_MAX {
            return Err(reader.field(
                "payload_len_bytes",
                u64::from(header.payload_len_bytes),
                "at most 4 MiB",
            ));
        }
        Ok(header)
    }

    /// Whether `frame` is what this header was made for.
    ///
    /// # Errors
    /// `Length` or `Checksum` of the part that is not: drop the connection.
    pub fn check(&self, frame: &Frame) -> Result<(), FormatError> {
        let check = |structure, bytes: &[u8], len_bytes: u32, expected: u32| {
            if bytes.len() as u64 != u64::from(len_bytes) {
                let (found, expected) = (bytes.len() as u64, u64::from(len_bytes));
                return Err(FormatError::Length { structure, found, expected });
            }
            let found = crc32c(bytes);
            if found != expected {
                return Err(FormatError::Checksum { structure, expected, found });
            }
            Ok(())
        };
        check(Structure::FrameHead, &frame.head, self.head_len_bytes, self.head_crc32c)?;
        check(Structure::FramePayload, &frame.payload, self.payload_len_bytes, self.payload_crc32c)
    }
}

// The words in the errors above.
const _: () = assert!(WIRE_HEAD_LEN_BYTES_MAX == 8 << 20 && WIRE_PAYLOAD_LEN_BYTES_MAX == 4 << 20);

#[cfg(test)]
mod tests;
