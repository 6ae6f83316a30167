//! What both sides say first on a connection.

use super::envelope;
use crate::block::{Reader, Writer};
use crate::checksum::crc32c;
use crate::error::{FormatError, Structure};
use strongroom_types::{ClusterId, NodeId};

const MAGIC: [u8; 8] = *b"SR-HELLO";
const STRUCTURE: Structure = Structure::Hello;
const CRC_AT: usize = Hello::LEN_BYTES - 4;

/// Who is at this end. Each side sends one at once and takes nothing else before the other's; whether the identity is
/// true is for TLS to prove, this only finds mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster: another one is refused.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

impl Hello {
    /// Bytes of an encoded hello.
    pub const LEN_BYTES: usize = 40;

    /// The bytes of this hello.
    pub fn encode(&self) -> [u8; Self::LEN_BYTES] {
        let mut out = [0; Self::LEN_BYTES];
        let mut writer = Writer::new(&mut out);
        writer.bytes(&MAGIC);
        writer.u16(envelope::VERSION);
        writer.skip(2);
        writer.u128(self.cluster.get());
        writer.u64(self.node.get());
        let crc = crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The hello in `bytes`.
    ///
    /// # Errors
    /// `NotThis` from something that is no peer, `Version` from a peer that speaks another version.
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
        if version != envelope::VERSION {
            return Err(FormatError::Version {
                structure: STRUCTURE,
                found: version,
                known: envelope::VERSION,
            });
        }
        reader.zero(2)?;
        Ok(Self { cluster: ClusterId::new(reader.u128()?), node: NodeId::new(reader.u64()?) })
    }
}

#[cfg(test)]
mod tests;
