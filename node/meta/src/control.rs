//! The control group: what the cluster is, which nodes belong to it, which buckets there are, and which life of each node's state is the
//! present one.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use strongroom_types::{
    BucketClass, BucketId, BucketName, ClusterId, DrainSubject, DriveId, Member, NodeId, WallTime, ZoneId,
};

/// A change of the control group. Their order is that of their bytes in the log (see `golden`): a new one goes to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlCommand {
    /// Says what the cluster is; the first one counts, an equal later one is `Done`, another one is refused.
    Found {
        /// The cluster.
        cluster: ClusterId,
        /// How many data groups it has.
        groups: u16,
    },
    /// Makes a bucket. A bucket left `Making` by a crash is found again by its name and goes on.
    CreateBucket {
        /// Its name.
        name: BucketName,
        /// Its class.
        class: BucketClass,
        /// The proposer's wall clock; becomes the creation time.
        at: WallTime,
    },
    /// All data groups admit the bucket: it exists from now on. Only in the round it was admitted in.
    OpenBucket {
        /// The bucket.
        bucket: BucketId,
        /// As the proposer knows it.
        round: u32,
    },
    /// The bucket is about to be removed: no new objects once the data groups have closed it. Begins a round.
    BeginRemoveBucket {
        /// The bucket.
        bucket: BucketId,
    },
    /// No data group admits the bucket any more: forget it. Only in the round it was closed in.
    RemoveBucket {
        /// The bucket.
        bucket: BucketId,
        /// As the proposer knows it.
        round: u32,
    },
    /// The bucket was found not empty while it was being removed: it is to be admitted again. Begins a round.
    ReopenBucket {
        /// The bucket.
        bucket: BucketId,
    },
    /// A node lost its state, or cannot trust it: give it the next incarnation. The same nonce always gets the same one; none is given twice.
    Enrol {
        /// The node.
        node: NodeId,
        /// Drawn by the node for this life of its state.
        nonce: u64,
        /// The last incarnation that the node was given, as it knows: a request of an earlier life that comes late changes nothing.
        after: u32,
    },
    /// A drive was opened, or its incarnation raised: is it the one that it was? The same incarnation again is, of the same run.
    AdmitDrive {
        /// The drive.
        drive: DriveId,
        /// As it stands on the drive now.
        incarnation: u32,
        /// Drawn by the node at its start.
        run: u64,
        /// What was seen of it last, as the node knows: a request of an earlier run that comes late changes nothing.
        after: Option<SeenDrive>,
    },
    /// This is to be emptied from now on, until `EndDrain`; also once it is empty, so that it stays so. Saying it again is no change. A drive must have been
    /// seen; a node may be one that is yet to come, and not one that was dismissed.
    BeginDrain {
        /// What.
        subject: DrainSubject,
        /// The proposer's wall clock.
        at: WallTime,
    },
    /// It may be used again. Saying it again is no change.
    EndDrain {
        /// What.
        subject: DrainSubject,
    },
    /// A node takes part, in this zone and at this address. It asks for that itself, once its state is a member's; said again with another address,
    /// it has moved. `Dismissed` and `OtherZone` are for good.
    AdmitNode {
        /// It.
        member: Member,
    },
    /// A node is to take part never again, and nobody under its id. Its drain is over with that; those of its drives are not, since they may come to another
    /// node. Doing it again is no change.
    DismissNode {
        /// It.
        node: NodeId,
        /// As it was found. `NotDrained` where one that is alive is not to be emptied: what found it empty could be overtaken by something new on it.
        pulse: Pulse,
    },
}

/// How a node was found that is to be dismissed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pulse {
    /// It takes part, for all that is known.
    Alive,
    /// Nobody hears it any more.
    Dead,
}

/// How a node stands that was ever admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeStanding {
    /// It takes part, whether it runs now or not.
    Member,
    /// It never will again.
    Dismissed,
}

/// A node as the control group has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its zone.
    pub zone: ZoneId,
    /// Where its peers reach it, by its own last word.
    pub address: SocketAddr,
    /// How it stands.
    pub standing: NodeStanding,
}

/// What the control group saw of a drive last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenDrive {
    /// Its incarnation.
    pub incarnation: u32,
    /// The run of its node.
    pub run: u64,
    /// It came back old once. Each opening raises its incarnation, so that the number alone would in time be right again.
    pub stale: bool,
}

/// Where a bucket is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BucketState {
    /// Named, not yet admitted everywhere.
    Making,
    /// There.
    Open,
    /// Being removed; goes back by `ReopenBucket` and `OpenBucket` where a data group found it not empty.
    Removing,
}

/// A bucket as the control group has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRecord {
    /// Never reused.
    pub bucket: BucketId,
    /// Its name.
    pub name: BucketName,
    /// Its class.
    pub class: BucketClass,
    /// When it was made.
    pub created: WallTime,
    /// Where it is in its life.
    pub state: BucketState,
    /// Counts the attempts to make, remove and reopen it. Data groups ignore what comes of an earlier one, so that two attempts at once
    /// never admit and close each other's.
    pub round: u32,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlReply {
    /// Done.
    Done,
    /// The bucket as it is now: made by this command, or found.
    Bucket {
        /// The bucket.
        record: BucketRecord,
        /// Whether this command made it.
        made: bool,
    },
    /// No such bucket.
    NoSuchBucket,
    /// A bound was reached (buckets of a cluster, nodes that enrolled or were admitted, incarnations of one).
    Full,
    /// The cluster was founded as another one.
    OtherCluster {
        /// What it is.
        cluster: ClusterId,
        /// How many groups it has.
        groups: u16,
    },
    /// The node's incarnation for this nonce.
    Enrolled {
        /// See `RaftId`.
        incarnation: u32,
    },
    /// The drive came back as it was before the cluster saw it last; it stays refused, whatever its incarnation becomes.
    DriveStale {
        /// The incarnation that was seen last.
        seen: u32,
    },
    /// What the proposer knows is not so any more; nothing was changed.
    Outdated,
    /// No drive with this id was ever seen.
    NoSuchDrive,
    /// The node was dismissed: nobody takes part under its id any more.
    Dismissed,
    /// The node was admitted in this zone, and that is where it stays.
    OtherZone {
        /// Which.
        zone: ZoneId,
    },
    /// No node was ever admitted under this id.
    NoSuchNode,
    /// The node lives, and nobody asked for it to be emptied.
    NotDrained,
}

/// A question to the control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlQuery {
    /// One bucket.
    Bucket(BucketName),
    /// All buckets, by name.
    Buckets,
    /// Which nodes came back without what they had.
    Enrolments,
    /// What was seen of a drive.
    Drive(DriveId),
    /// What is to be emptied, or was and is to stay so.
    Drains,
    /// Every node that was ever admitted.
    Nodes,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlAnswer {
    /// To `Bucket`.
    Bucket(Option<BucketRecord>),
    /// To `Buckets`.
    Buckets(Vec<BucketRecord>),
    /// To `Enrolments`: the last incarnation given to each node that has one above 0.
    Enrolments(BTreeMap<NodeId, u32>),
    /// To `Drive`.
    Drive(Option<SeenDrive>),
    /// To `Drains`: since when, by the wall clock of whoever asked for it.
    Drains(BTreeMap<DrainSubject, WallTime>),
    /// To `Nodes`: those that were dismissed included.
    Nodes(BTreeMap<NodeId, NodeRecord>),
}
