//! The words of Strongroom as types: ids, units, limits, time, and the plain records that several
//! crates share. No logic beyond checked construction, no I/O, no clock, no randomness.
//!
//! Modules stand lowest first and import only from those above.

pub mod units;
pub mod limits;
pub mod time;
pub mod ids;
pub mod profile;
pub mod locator;
pub mod slab;
pub mod cluster;
pub mod member;
pub mod object;

pub use cluster::{ClusterView, DrainSubject, DriveView, Health, NodeView};
pub use ids::{
    BucketId, ClusterId, DriveId, Epoch, FragmentIndex, Generation, GroupId, NodeId, RowSequence, SessionId,
    SlabId, VersionId, ZoneId,
};
pub use locator::Locator;
pub use member::Member;
pub use object::{Attributes, BucketClass, BucketName, Condition, ETag, ObjectKey};
pub use profile::Profile;
pub use slab::{Holder, Holders, SlabRecord, SlabState};
pub use time::{Deadline, Instant, WallTime};
