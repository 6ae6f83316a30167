//! Where a needle is.

use crate::ids::SlabId;
use serde::{Deserialize, Serialize};

/// Where a needle is and what its header must sum to. Survives convert, repair, rebalance and tier unchanged:
/// offsets in a slab image never change.
///
/// The checksum covers the needle's *header*, and the header holds a checksum for each frame. So a whole
/// needle and any range of it are checked against a checksum that was stored elsewhere, in the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Locator {
    /// The slab.
    pub slab: SlabId,
    /// First byte of the needle in the slab image.
    pub offset_bytes: u32,
    /// Bytes of the needle, header included, padding not.
    pub len_bytes: u32,
    /// CRC32C of the needle's header.
    pub header_crc32c: u32,
    /// Bytes of the object that this needle carries.
    pub plain_len_bytes: u32,
}

impl Locator {
    /// One past the needle's last byte in the slab image.
    pub fn end_bytes(&self) -> u64 {
        u64::from(self.offset_bytes) + u64::from(self.len_bytes)
    }
}
