//! What peers say to each other. The head of a frame is one of these, encoded by postcard; bulk bytes travel beside it as the
//! frame's payload and are named in the docs of each message.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strongroom_types::{
    ClusterId, DriveId, Epoch, FragmentIndex, Generation, GroupId, NodeId, Profile, RowSequence, SessionId,
    SlabId, SlabRecord, ZoneId,
};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who are you, and how are your drives? Sent twice a second to every peer.
    Ping,
    /// Append a row. Payload: the row's bytes, whole blocks, without row header.
    Append(Append),
    /// Read from a fragment. The answer's payload: the bytes.
    Read(Read),
    /// Refuse appends below `epoch` from now on, write a seal mark durably, and say what you hold.
    Seal(Seal),
    /// Cut a hot fragment to the sealed length; rows above it are dropped. Answers `Done` once durable.
    Settle(Settle),
    /// Write a piece of a cold fragment. Payload: whole blocks.
    WriteFragment(WriteFragment),
    /// The cold fragment is written: make it durable, with its checksum table.
    FinishFragment(FinishFragment),
    /// Read the image from copies, or what is left of it from fragments, compute these fragments, write them to their holders.
    Encode(Encode),
    /// Give back the space of a fragment of a superseded layout.
    Free(Free),
    /// What fragments does this drive hold?
    Report(Report),
    /// A Raft message of a group; opaque here. `None` is the control group.
    Raft {
        /// The group.
        group: Option<GroupId>,
        /// Encoded by `node/meta`.
        body: Bytes,
    },
    /// A metadata command or query for the leader of a group; opaque here.
    Meta {
        /// The group; `None` is the control group.
        group: Option<GroupId>,
        /// Encoded by `node/meta`.
        body: Bytes,
    },
    /// Add up what fragments near you contribute to others. The answer's payload: a sum for each of these, one behind the other.
    Sum(Sum),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To `Ping`.
    Pong(Pong),
    /// It is done and, where the request changes anything, durable.
    Done,
    /// To `Read` and `Sum`: the payload holds the bytes.
    Bytes,
    /// To `Seal`.
    Sealed(SealReport),
    /// To `FinishFragment`.
    Finished {
        /// CRC32C of the fragment's checksum table.
        table_crc32c: u32,
    },
    /// To `Encode`: one entry for each fragment asked for, in that order.
    Encoded {
        /// CRC32C of each fragment's checksum table.
        tables_crc32c: Vec<u32>,
    },
    /// To `Report`.
    Fragments {
        /// The fragments, by slab.
        fragments: Vec<FragmentReport>,
        /// Whether there are more after the last.
        truncated: bool,
    },
    /// To `Raft` and `Meta`; opaque here.
    Opaque(Bytes),
    /// The request was refused; nothing was done.
    Refused(Refusal),
}

/// Why a request was refused, by what the caller can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// This node has no such drive (any more).
    #[error("no such drive here")]
    NoSuchDrive,
    /// This drive does not hold that fragment. Only said when the drive was read without error.
    #[error("fragment is not here")]
    NotHere,
    /// The fragment is here, but not (yet) that part of it.
    #[error("fragment ends at byte {len_bytes}")]
    Beyond {
        /// Bytes of the image that are here.
        len_bytes: u32,
    },
    /// The bytes are here and do not match their checksum.
    #[error("bytes at {offset_bytes} do not match their checksum")]
    Corrupt {
        /// First bad byte in the fragment.
        offset_bytes: u32,
    },
    /// The drive could not be read or written. Says nothing about what is on it.
    #[error("drive error")]
    DriveError,
    /// The slab was fenced by a later epoch.
    #[error("slab is fenced at {epoch}")]
    Fenced {
        /// The epoch that the holder knows.
        epoch: Epoch,
    },
    /// The row does not follow the last one accepted.
    #[error("expected {expected}")]
    OutOfOrder {
        /// The next row this holder would take.
        expected: RowSequence,
    },
    /// The holder's layout of this slab is of another generation.
    #[error("holder has {generation}")]
    OtherGeneration {
        /// What it has.
        generation: Generation,
    },
    /// No free extent.
    #[error("drive is full")]
    Full,
    /// A bound on work in flight was reached.
    #[error("busy")]
    Busy,
    /// The request makes no sense here (a bug or a foreign peer).
    #[error("request refused: {0}")]
    Invalid(String),
    /// The node could not reach the peers it needed for this.
    #[error("peers needed for this do not answer")]
    PeersMissing,
}

/// Answer to a ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The cluster this node belongs to.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Its zone.
    pub zone: ZoneId,
    /// Its present run.
    pub session: SessionId,
    /// Its drives.
    pub drives: Vec<DriveState>,
    /// How many it was to have besides, and could not open.
    pub drives_failed: u16,
}

/// A drive in a pong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveState {
    /// The drive.
    pub drive: DriveId,
    /// Extents in all.
    pub extents_total: u32,
    /// Extents that hold nothing.
    pub extents_free: u32,
    /// Bytes of an extent.
    pub extent_len_bytes: u32,
    /// Whether it takes new fragments.
    pub writable: bool,
    /// What it held is gone for good: it came back as an old image of itself, or another device is in its place.
    pub gone: bool,
}

/// Which fragment, where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FragmentAddress {
    /// The drive.
    pub drive: DriveId,
    /// The slab.
    pub slab: SlabId,
    /// The fragment.
    pub fragment: FragmentIndex,
    /// The layout it belongs to.
    pub generation: Generation,
}

impl FragmentAddress {
    /// Where `record` says that this fragment is; `None` where its layout has no such fragment.
    pub fn of(record: &SlabRecord, fragment: FragmentIndex) -> Option<Self> {
        let (holder, generation) = record.place(fragment)?;
        Some(Self { drive: holder.drive, slab: record.slab, fragment, generation })
    }

    /// Where `record` says that its fragments are, in their order, each with the drive's node.
    pub fn all_of(record: &SlabRecord) -> impl Iterator<Item = (NodeId, Self)> + '_ {
        (0u8..).map(FragmentIndex::new).zip(&record.holders).filter_map(|(fragment, holder)| {
            let address = Self::of(record, fragment)?;
            Some((holder.node, address))
        })
    }

    /// Whether it is where `record` says that this fragment is.
    pub fn is_of(&self, record: &SlabRecord) -> bool {
        Self::of(record, self.fragment) == Some(*self)
    }
}

/// A row to append. The first row (sequence 0) makes the fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The fragment.
    pub address: FragmentAddress,
    /// The slab's profile (copies).
    pub profile: Profile,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// Place of the row, without gaps.
    pub sequence: RowSequence,
    /// First byte of the row's payload in the slab image: the end of the row before.
    pub offset_bytes: u32,
    /// Rows below this are durable in more than one zone.
    pub committed_upto: RowSequence,
}

/// A range to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The fragment.
    pub address: FragmentAddress,
    /// First byte: in the image for a copy, in the fragment's slice for a cold fragment. Need not be aligned.
    pub offset_bytes: u32,
    /// How many bytes; at most the wire's payload bound.
    pub len_bytes: u32,
    /// Whether a user waits for it.
    pub foreground: bool,
}

/// A slab to fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The fragment.
    pub address: FragmentAddress,
    /// The slab's profile.
    pub profile: Profile,
    /// The new epoch: appends below it are refused from now on.
    pub epoch: Epoch,
}

/// What a holder has of a slab that it just fenced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealReport {
    /// The epoch now in force here.
    pub epoch: Epoch,
    /// Rows present from the first on, also where their payload is corrupt.
    pub rows: u32,
    /// For each row that is present but does not match its checksums: its sequence, ascending.
    pub bad_rows: Vec<RowSequence>,
    /// End of each present row in the image, in blocks, ascending: so that any row count can become the length.
    pub row_ends_blocks: Vec<u32>,
    /// Checksum of each present row's header chain, so that any row count can be compared across holders.
    pub row_chain_crc32c: Vec<u32>,
    /// The highest `committed_upto` that this holder was ever told.
    pub committed_upto: RowSequence,
}

/// The agreed length of a sealed slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// The fragment.
    pub address: FragmentAddress,
    /// The epoch that sealed it.
    pub epoch: Epoch,
    /// Rows in the image.
    pub rows: u32,
    /// Chain checksum at that row.
    pub root_crc32c: u32,
}

/// A piece of a cold fragment. Pieces come in order from offset 0 without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteFragment {
    /// The fragment; its generation is the one that the layout will have once committed.
    pub address: FragmentAddress,
    /// The layout's profile.
    pub profile: Profile,
    /// Bytes of a whole fragment (S).
    pub slice_len_bytes: u32,
    /// First byte of this piece in the fragment.
    pub offset_bytes: u32,
}

/// End of a cold fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishFragment {
    /// The fragment.
    pub address: FragmentAddress,
    /// Bytes of the slab image.
    pub image_len_bytes: u32,
    /// The slab's epoch at its seal.
    pub epoch: Epoch,
    /// Rows of the sealed image.
    pub rows: u32,
    /// Root of the sealed image.
    pub root_crc32c: u32,
}

/// Work for a zone's encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encode {
    /// The slab.
    pub slab: SlabId,
    /// What to read.
    pub sources: Sources,
    /// What the fragments are made under.
    pub generation: Generation,
    /// The profile that they are of.
    pub profile: Profile,
    /// Bytes of the image.
    pub image_len_bytes: u32,
    /// Rows of the image.
    pub rows: u32,
    /// Root of the image.
    pub root_crc32c: u32,
    /// The slab's epoch at its seal.
    pub epoch: Epoch,
    /// The fragments to make and who is to hold them.
    pub targets: Vec<Target>,
}

/// A fragment to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Which.
    pub fragment: FragmentIndex,
    /// The node that is to have it.
    pub node: NodeId,
    /// On which drive.
    pub drive: DriveId,
    /// What it was when it was made before, if it was: it must come out the same.
    pub before: Option<MadeBefore>,
}

/// A fragment that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBefore {
    /// What it was made under.
    pub generation: Generation,
    /// CRC32C of its checksum table, as the slab table has it.
    pub table_crc32c: u32,
}

/// What an encoder reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sources {
    /// Whole copies of the image, the nearest first: any one will do.
    Copies(Vec<Source>),
    /// Fragments of the profile that is made, the nearest first: any k will do.
    Fragments(Vec<Source>),
    /// The same; but each fragment that is made is read from where it is now, as long as that gives it, and from k others only for what it does not.
    Moved(Vec<Source>),
}

impl Sources {
    /// Them, of whatever kind.
    pub fn all(&self) -> &[Source] {
        match self {
            Self::Copies(all) | Self::Fragments(all) | Self::Moved(all) => all,
        }
    }
}

/// A fragment to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The node that has it.
    pub node: NodeId,
    /// Which.
    pub address: FragmentAddress,
}

/// A zone's part of the same bytes of fragments that are made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// The profile that they are of.
    pub profile: Profile,
    /// The k fragments that they are made from, by bits: what each is multiplied by depends on all of them.
    pub present: u32,
    /// The fragments that are made.
    pub wanted: Vec<FragmentIndex>,
    /// Those of `present` that are read and added up here.
    pub sources: Vec<Source>,
    /// First byte in each fragment's data: whole blocks.
    pub offset_bytes: u32,
    /// How many bytes: whole blocks.
    pub len_bytes: u32,
}

/// A fragment to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Free {
    /// The fragment; only this generation is freed.
    pub address: FragmentAddress,
}

/// Fragments of a drive, page by page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The drive.
    pub drive: DriveId,
    /// Only slabs after this one.
    pub after: Option<SlabId>,
    /// Fragments at most.
    pub limit: u32,
}

/// A fragment that a drive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FragmentReport {
    /// Which, in which layout.
    pub address: FragmentAddress,
    /// Its profile.
    pub profile: Profile,
    /// The epoch it knows.
    pub epoch: Epoch,
    /// Bytes of image or slice that it holds.
    pub len_bytes: u32,
    /// Extents that it takes.
    pub extents: u32,
    /// Whether a seal mark is on it.
    pub sealed: bool,
}
