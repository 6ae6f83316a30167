//! Why bytes were refused. One variant for each decision that a reader makes.

use std::fmt;

/// What the bytes were expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Structure {
    /// A copy of the superblock.
    Superblock,
    /// The header of an extent.
    ExtentHeader,
    /// The header of a row.
    RowHeader,
    /// The seal mark of a hot fragment.
    SealMark,
    /// The mark of a finished cold fragment.
    ColdMark,
    /// A block of a cold fragment's checksum table.
    ChecksumTable,
    /// The header of a needle.
    Needle,
    /// A frame of a needle.
    NeedleFrame,
    /// The header of a frame on a peer's connection.
    Envelope,
    /// The head of a frame on a peer's connection.
    FrameHead,
    /// The payload of a frame on a peer's connection.
    FramePayload,
    /// What peers say first on a connection.
    Hello,
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superblock => "superblock",
            Self::ExtentHeader => "extent header",
            Self::RowHeader => "row header",
            Self::SealMark => "seal mark",
            Self::ColdMark => "cold mark",
            Self::ChecksumTable => "checksum table",
            Self::Needle => "needle header",
            Self::NeedleFrame => "needle frame",
            Self::Envelope => "envelope",
            Self::FrameHead => "frame head",
            Self::FramePayload => "frame payload",
            Self::Hello => "hello",
        })
    }
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Every byte is zero: this was never written, or was discarded.
    #[error("{structure}: all bytes are zero")]
    Zero {
        /// What was looked for.
        structure: Structure,
    },
    /// The magic is absent: these bytes are something else.
    #[error("{structure}: magic is absent")]
    NotThis {
        /// What was looked for.
        structure: Structure,
    },
    /// Whole, but written by software that knows a version this one does not.
    #[error("{structure}: format version {found}, this software knows up to {known}")]
    Version {
        /// What was read.
        structure: Structure,
        /// The version in the bytes.
        found: u16,
        /// The highest version known here.
        known: u16,
    },
    /// Torn, rotten or otherwise changed since it was written.
    #[error("{structure}: crc32c {found:08x}, expected {expected:08x}")]
    Checksum {
        /// What was read.
        structure: Structure,
        /// The checksum that was stored.
        expected: u32,
        /// The checksum of the bytes as they are.
        found: u32,
    },
    /// Whole, but written for another place: a stale block of an earlier use, or a misdirected write.
    #[error("{structure}: valid, but its {field} is another's")]
    Misplaced {
        /// What was read.
        structure: Structure,
        /// The first part of its identity that differs.
        field: &'static str,
    },
    /// A field has a value that this version never writes.
    #[error("{structure}: {field} is {found}, expected {expected}")]
    Field {
        /// What was read, or was to be written.
        structure: Structure,
        /// The field.
        field: &'static str,
        /// Its value; cut to 64 bits.
        found: u64,
        /// What would have been right, in words.
        expected: &'static str,
    },
    /// Too few bytes, or too many where the length is fixed.
    #[error("{structure}: {found} bytes, expected {expected}")]
    Length {
        /// What was read.
        structure: Structure,
        /// Bytes given.
        found: u64,
        /// Bytes needed.
        expected: u64,
    },
    /// The message inside a frame does not parse.
    #[error("{structure}: not a message of this version")]
    Message {
        /// What was read.
        structure: Structure,
        /// What the parser said.
        #[source]
        source: postcard::Error,
    },
    /// The device did not give the bytes. Never made by a parser here: readers of several copies pass it in, so that
    /// "could not be read" is never taken for "is not there".
    #[error("{structure}: could not be read")]
    Unreadable {
        /// What was to be read.
        structure: Structure,
    },
}

impl FormatError {
    /// Whether the bytes positively are not this fragment's structure: never written, something else, or another's.
    /// Everything else (damaged, newer, unreadable) is not absence.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Zero { .. } | Self::NotThis { .. } | Self::Misplaced { .. } => true,
            Self::Version { .. }
            | Self::Checksum { .. }
            | Self::Field { .. }
            | Self::Length { .. }
            | Self::Message { .. }
            | Self::Unreadable { .. } => false,
        }
    }
}
