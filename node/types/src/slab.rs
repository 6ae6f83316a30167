//! What the slab table says of a slab.

use crate::ids::{DriveId, Epoch, Generation, NodeId, RowSequence, SessionId, SlabId};
use crate::limits::FRAGMENTS_MAX;
use crate::profile::Profile;
use serde::{Deserialize, Serialize};

/// One drive that is to hold one fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// The node that the drive is in.
    pub node: NodeId,
    /// The drive.
    pub drive: DriveId,
}

/// The holders of a slab; the place in the list is the fragment index.
pub type Holders = heapless::Vec<Holder, FRAGMENTS_MAX>;

/// Where a slab is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlabState {
    /// One writer appends rows to it.
    Open,
    /// Fenced: `SlabRecord::epoch` was raised, the length is being agreed on.
    Sealing,
    /// The image has its final length.
    Sealed(Sealed),
    /// No version points into it; its fragments may be freed. The id is never used again.
    Dead,
}

/// What a seal decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Rows in the image.
    pub rows: u32,
    /// Bytes of the image, a multiple of a block.
    pub len_bytes: u32,
    /// Checksum over the row headers' chain; every complete holder's must equal it.
    pub root_crc32c: u32,
    /// For each fragment of the present profile: CRC32C of its checksum table; empty for copies.
    pub table_crc32c: heapless::Vec<u32, FRAGMENTS_MAX>,
    /// Bit i set: fragment i is known not to be whole (its holder was silent or short at the seal). Readers
    /// pass over it until it is rebuilt.
    pub missing: u32,
}

/// A slab as its group's slab table has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlabRecord {
    /// The slab.
    pub slab: SlabId,
    /// Where it is in its life.
    pub state: SlabState,
    /// Raised by every sealing attempt.
    pub epoch: Epoch,
    /// Raised by every change of profile or holders.
    pub generation: Generation,
    /// What the next layout is made under. Those between the present one and this were given up: none of them will ever be the present one,
    /// so what was made of them may be freed.
    pub next_generation: Generation,
    /// How it is spread now.
    pub profile: Profile,
    /// Who holds which fragment.
    pub holders: Holders,
    /// The node that writes or wrote it.
    pub writer: NodeId,
    /// That node's session.
    pub session: SessionId,
    /// Rows below this have locators, or may get them; none at or above ever will. Said by the writer when it was done with the slab;
    /// `None` until then, and for good where it was fenced instead.
    pub given_out: Option<RowSequence>,
}

impl SlabRecord {
    /// The seal, once there is one.
    pub fn sealed(&self) -> Option<&Sealed> {
        match &self.state {
            SlabState::Sealed(sealed) => Some(sealed),
            SlabState::Open | SlabState::Sealing | SlabState::Dead => None,
        }
    }
}

const _: () = assert!(FRAGMENTS_MAX <= u32::BITS as usize);
