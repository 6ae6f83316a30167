//! A data group: one shard of the namespace and one of the slab table.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strongroom_types::slab::{MadeAgain, Sealed};
use strongroom_types::{
    Attributes, BucketClass, BucketId, Condition, ETag, Epoch, Generation, GroupId, Holders, Locator, NodeId,
    ObjectKey, Profile, RowSequence, SessionId, SlabId, SlabRecord, VersionId, WallTime,
};

/// A change of a data group. Their order is that of their bytes in the log (see `golden`): a new one goes to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupCommand {
    /// From now on objects of this bucket may be committed here.
    AdmitBucket {
        /// The bucket.
        bucket: BucketId,
        /// Its class.
        class: BucketClass,
        /// The attempt that this is part of; `Outdated` below the last one seen here.
        round: u32,
    },
    /// From now on none may, if there is none; else `NotEmpty`.
    CloseBucket {
        /// The bucket.
        bucket: BucketId,
        /// Its class.
        class: BucketClass,
        /// The attempt that this is part of; `Outdated` below the last one seen here.
        round: u32,
    },
    /// Changes of the namespace, each on its own: one that is refused does not hold up the others.
    Commit {
        /// At most `COMMIT_BATCH_ENTRIES_MAX`.
        entries: Vec<Entry>,
    },
    /// Opens a new slab for a writer.
    OpenSlab {
        /// The node that will write it.
        writer: NodeId,
        /// Its session.
        session: SessionId,
        /// Copies.
        profile: Profile,
        /// Who will hold them.
        holders: Holders,
    },
    /// Fences a slab: raises its epoch if it still is `epoch`. Open or Sealing becomes Sealing.
    BeginSeal {
        /// The slab.
        slab: SlabId,
        /// The epoch that the proposer knows.
        epoch: Epoch,
        /// From its writer, which is done with it: rows below this have locators, none at or above ever will. From others `None`.
        given_out: Option<RowSequence>,
    },
    /// Gives a slab that is Sealing at `epoch` its length.
    CommitSeal {
        /// The slab.
        slab: SlabId,
        /// The epoch of the attempt.
        epoch: Epoch,
        /// What was decided.
        sealed: Sealed,
    },
    /// Gives a sealed slab a new layout, if its generation still is `generation` and `layout` was not given up.
    Relayout {
        /// The slab.
        slab: SlabId,
        /// The generation that the proposer knows.
        generation: Generation,
        /// What the new layout was made under.
        layout: Generation,
        /// The new profile.
        profile: Profile,
        /// The new holders.
        holders: Holders,
        /// Checksums of the new fragments' tables.
        table_crc32c: heapless::Vec<u32, 32>,
        /// Fragments of the new layout that are not there yet.
        missing: u32,
    },
    /// Ends a slab that was sealed without a row: nothing can point into it.
    KillEmpty {
        /// The slab.
        slab: SlabId,
    },
    /// From now on no locator into a slab of this session is committed here, and no slab is opened for it. Doing it again is no change.
    FenceSession {
        /// The session.
        session: SessionId,
    },
    /// Holders of copies that were silent at the seal have shown since that they have every row: they count, if the generation still is `generation`.
    CountWhole {
        /// The slab.
        slab: SlabId,
        /// The generation that the proposer knows.
        generation: Generation,
        /// Bit i set: fragment i is whole.
        whole: u32,
    },
    /// Gives up the layout of a sealed slab that is being made under `layout`: what was made of it stands in the way of making it.
    AbandonLayout {
        /// The slab.
        slab: SlabId,
        /// What it was made under.
        layout: Generation,
    },
    /// Fragments of a cold slab that were made again under `layout` take the place of those that were lost, if the generation still is `generation` and
    /// `layout` was not given up.
    SetHolders {
        /// The slab.
        slab: SlabId,
        /// The generation that the proposer knows.
        generation: Generation,
        /// What they were made under.
        layout: Generation,
        /// Them.
        made: Vec<MadeAgain>,
    },
    /// Fragments of a cold slab are not whole at their holders, if the generation still is `generation`. Readers pass over them until they were made again.
    CountMissing {
        /// The slab.
        slab: SlabId,
        /// The generation that the proposer knows.
        generation: Generation,
        /// Bit i set: fragment i is not whole.
        missing: u32,
    },
    /// From the writer of a slab that is not open any more: nothing on its way there points into it.
    WriterDone {
        /// The slab.
        slab: SlabId,
    },
    /// From now on no locator into this slab (of any group) is committed here, whoever comes with it. Doing it again is no change.
    CloseSlab {
        /// The slab.
        slab: SlabId,
    },
    /// Needles that were copied: each version that still has one at `from` has it at `to` from now on, and is the same in all else.
    Relocate {
        /// The session that wrote the copies.
        session: SessionId,
        /// At most `RELOCATE_MOVES_MAX`.
        moves: Vec<Move>,
    },
    /// Ends a sealed slab into which no version points and none ever will, if its generation still is `generation`. The table cannot tell whether that is so:
    /// the proposer has asked every data group, each after the slab was closed there.
    KillSlab {
        /// The slab.
        slab: SlabId,
        /// The generation that the proposer knows.
        generation: Generation,
    },
    /// A slab (of any group) is dead: what is kept of it here besides goes. `NotEmpty` where something here points into it.
    ReleaseSlab {
        /// The slab.
        slab: SlabId,
        /// The session that wrote it: once that is fenced here, nobody needs to know any more that the slab is closed.
        session: SessionId,
    },
    /// Takes a dead slab out of the table. Its id stays used.
    ForgetSlab {
        /// The slab.
        slab: SlabId,
    },
}

/// A needle of a version that was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: ObjectKey,
    /// The version.
    pub version: VersionId,
    /// Which of its needles, from 0.
    pub piece: u32,
    /// Where it must still be.
    pub from: Locator,
    /// Where the copy is.
    pub to: Locator,
}

/// What came of one move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MoveOutcome {
    /// The version has its needle there. The place that it was at becomes garbage.
    Moved,
    /// The version is gone, or has its needle elsewhere: the copy is garbage.
    Differs,
    /// The copy's place is not to be pointed to: its slab is closed here, or it is another needle's.
    PlaceRefused,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: ObjectKey,
    /// What must hold of the current version.
    pub condition: Condition,
    /// The change.
    pub change: Change,
    /// The session that wrote the slabs into which the change points; `None` where it points into none.
    pub session: Option<SessionId>,
}

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "holders lie inside; these values are few and short-lived")]
pub enum Change {
    /// This becomes the current version.
    Put(VersionRecord),
    /// The current version goes; in config buckets it is kept as an older one.
    Delete,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Its id, also in its needles.
    pub version: VersionId,
    /// Bytes of the object.
    pub len_bytes: u64,
    /// Its tag.
    pub etag: ETag,
    /// The proposer's wall clock. For people; orders nothing.
    pub modified: WallTime,
    /// What the client said of it.
    pub attributes: Attributes,
    /// Its bytes.
    pub content: Content,
}

/// Where the bytes of a version are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Here.
    Inline(Bytes),
    /// In these needles, in order.
    Needles(Vec<Locator>),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupReply {
    /// Done.
    Done,
    /// To `Commit`: one for each entry, in order.
    Committed(Vec<EntryOutcome>),
    /// The slab as it is now: changed as asked.
    Slab(SlabRecord),
    /// The slab as it is now: not what the proposer knew; nothing was changed.
    SlabDiffers(SlabRecord),
    /// No such slab.
    NoSuchSlab,
    /// The bucket still has objects here.
    NotEmpty,
    /// A later attempt to make, remove or reopen the bucket was here already; nothing changed.
    Outdated,
    /// The writer's session is fenced here; nothing changed.
    SessionFenced,
    /// To `Relocate`: one for each move, in order.
    Relocated(Vec<MoveOutcome>),
}

/// What came of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryOutcome {
    /// Applied. The locators it superseded become garbage.
    Applied,
    /// The condition does not hold; nothing changed.
    ConditionFailed,
    /// `If-Match` on a key without a current version; nothing changed.
    NoSuchKey,
    /// The bucket is not admitted here; nothing changed.
    NoSuchBucket,
    /// The session that wrote the needles is fenced here; nothing changed.
    SessionFenced,
    /// A needle's place is not to be pointed to: its slab is closed here, or it is another version's. Nothing changed.
    PlaceRefused,
}

/// A question to a data group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupQuery {
    /// A version of a key: the current one, or the one named.
    Version {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: ObjectKey,
        /// Which; `None` is the current one.
        version: Option<VersionId>,
    },
    /// All kept versions of a key, newest first.
    Versions {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: ObjectKey,
    },
    /// A page of keys.
    List {
        /// The bucket.
        bucket: BucketId,
        /// Only keys that begin with this.
        prefix: String,
        /// Fold by this.
        delimiter: Option<String>,
        /// Only keys and common prefixes after this.
        after: Option<String>,
        /// Entries at most.
        limit: u32,
    },
    /// One slab.
    Slab(SlabId),
    /// How far into a slab (of any group) locators that were committed here reach, those of versions that are gone since included.
    UsedUpto(SlabId),
    /// Slabs by id, page by page.
    Slabs {
        /// Only those after this.
        after: Option<SlabId>,
        /// How many at most.
        limit: u32,
        /// Leave out dead ones.
        live_only: bool,
    },
    /// What versions here have in one slab (of any group), by offset, page by page.
    Pointers {
        /// The slab.
        slab: SlabId,
        /// Only those behind this offset.
        after: Option<u32>,
        /// How many at most.
        limit: u32,
    },
    /// How much versions here have in the slabs of one group, by slab, page by page.
    Usages {
        /// The group in whose table the slabs are.
        of: GroupId,
        /// Only those after this.
        after: Option<SlabId>,
        /// How many at most.
        limit: u32,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "holders lie inside; these values are few and short-lived")]
pub enum GroupAnswer {
    /// To `Version`.
    Version(Option<VersionRecord>),
    /// To `Versions`.
    Versions(Vec<VersionRecord>),
    /// To `List`.
    List(Page),
    /// To `Slab`.
    Slab(Option<SlabRecord>),
    /// To `Slabs`.
    Slabs(Vec<SlabRecord>),
    /// To `UsedUpto`: bytes of the slab's image, 0 where none was committed.
    UsedUpto(u32),
    /// The bucket is not admitted here.
    NoSuchBucket,
    /// To `Slab`: it was dead, and is forgotten.
    SlabForgotten,
    /// To `Pointers`.
    Pointers {
        /// Whether the slab is closed here: then there will never be more.
        closed: bool,
        /// Them.
        pointers: Vec<Pointer>,
    },
    /// To `Usages`.
    Usages(Vec<(SlabId, Usage)>),
}

/// A needle that a version has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: ObjectKey,
    /// The version.
    pub version: VersionId,
    /// Which of its needles, from 0.
    pub piece: u32,
    /// Where it is.
    pub locator: Locator,
}

/// How much of a slab versions of one group have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of the slab's image below which every locator lies that was ever committed here; it only grows.
    pub reach_bytes: u32,
    /// Bytes of the needles that versions have now.
    pub alive_bytes: u64,
    /// How many these are.
    pub needles: u32,
}

/// A page of keys, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The entries.
    pub entries: Vec<PageEntry>,
    /// Whether there are more after the last.
    pub truncated: bool,
}

/// An entry of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PageEntry {
    /// A key with its current version, without content.
    Object {
        /// The key.
        key: ObjectKey,
        /// Bytes of the object.
        len_bytes: u64,
        /// Its tag.
        etag: ETag,
        /// When it was committed.
        modified: WallTime,
    },
    /// Keys folded to this.
    CommonPrefix(String),
}
