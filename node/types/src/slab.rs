//! What the slab table says of a slab.

use crate::ids::{DriveId, Epoch, FragmentIndex, Generation, NodeId, RowSequence, SessionId, SlabId};
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

/// The generation that each fragment of a slab was made under, likewise.
pub type Generations = heapless::Vec<Generation, FRAGMENTS_MAX>;

/// A fragment of a cold slab that was made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeAgain {
    /// Which.
    pub fragment: FragmentIndex,
    /// Who holds it.
    pub holder: Holder,
    /// CRC32C of its checksum table.
    pub table_crc32c: u32,
}

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
    /// Bit i set: fragment i is known not to be whole. Of copies, its holder was silent or short at the seal; of a cold slab, its holder has said so since.
    /// Readers pass over it until it is made again.
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
    /// What each fragment was made under, and is found under at its holder: the generation of the layout, or that of a repair since.
    pub made_under: Generations,
    /// The node that writes or wrote it.
    pub writer: NodeId,
    /// That node's session.
    pub session: SessionId,
    /// Rows below this have locators, or may get them; none at or above ever will. Said by the writer when it was done with the slab;
    /// `None` until then, and for good where it was fenced instead.
    pub given_out: Option<RowSequence>,
    /// Its writer has said that nothing is on its way there any more that would point into it. A word that keeps slabs from being reclaimed under uploads that
    /// take long; that nothing points into it, and nothing ever will, is asked elsewhere.
    pub writer_done: bool,
}

impl SlabRecord {
    /// Who holds this fragment, and the generation that it was made under; `None` where the layout has no such fragment.
    pub fn place(&self, fragment: FragmentIndex) -> Option<(Holder, Generation)> {
        let place = usize::from(fragment.get());
        Some((*self.holders.get(place)?, *self.made_under.get(place)?))
    }

    /// The seal, once there is one.
    pub fn sealed(&self) -> Option<&Sealed> {
        match &self.state {
            SlabState::Sealed(sealed) => Some(sealed),
            SlabState::Open | SlabState::Sealing | SlabState::Dead => None,
        }
    }
}

const _: () = assert!(FRAGMENTS_MAX <= u32::BITS as usize);
