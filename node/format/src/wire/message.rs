//! What peers say to each other. The head of a frame is one of these, encoded by postcard; bulk bytes travel beside it as the
//! frame's payload and are named in the docs of each message.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strongroom_types::{
    ClusterId, DriveId, Epoch, FragmentIndex, Generation, GroupId, NodeId, Profile, RowSequence, SessionId,
    SlabId, ZoneId,
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
    /// Read the image from your own copy, or from peers, compute these fragments, write them to their holders.
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
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To `Ping`.
    Pong(Pong),
    /// It is done and, where the request changes anything, durable.
    Done,
    /// To `Read`: the payload holds the bytes.
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
    /// The layout to read from (copies).
    pub source_generation: Generation,
    /// Where whole copies are: node, drive, fragment; the nearest first.
    pub sources: Vec<(NodeId, DriveId, FragmentIndex)>,
    /// The layout to make.
    pub generation: Generation,
    /// Its profile.
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
    pub targets: Vec<(FragmentIndex, NodeId, DriveId)>,
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
