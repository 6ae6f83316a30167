//! The seam below the door: typed operations on buckets and objects. The gateway calls it; the node implements it.
//!
//! Names are checked, signatures verified and conditions parsed before anything here is called, and nothing is committed
//! before length, digest and checksums of the body were verified.

use bytes::Bytes;
use futures::stream::BoxStream;
use std::ops::Range;
use strongroom_types::{
    Attributes, BucketClass, BucketName, Condition, ETag, ObjectKey, VersionId, WallTime,
};

/// Why an operation was refused, by what the caller can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No bucket of this name.
    #[error("bucket {0} does not exist")]
    NoSuchBucket(BucketName),
    /// No current version of this key (or no such version).
    #[error("key does not exist")]
    NoSuchKey,
    /// A bucket of this name exists already with the same class.
    #[error("bucket {0} exists already")]
    BucketExists(BucketName),
    /// A bucket of this name exists with another class.
    #[error("bucket {0} exists already with another class")]
    BucketClassDiffers(BucketName),
    /// The bucket still holds objects.
    #[error("bucket {0} is not empty")]
    BucketNotEmpty(BucketName),
    /// The condition of the request does not hold.
    #[error("the condition of the request does not hold")]
    PreconditionFailed,
    /// The object is longer than allowed here.
    #[error("object of more than {len_bytes_max} bytes")]
    TooLarge {
        /// The bound.
        len_bytes_max: u64,
    },
    /// A bound on work in flight was reached: try again later.
    #[error("too much work in flight, try again")]
    Busy,
    /// Not enough peers or drives answer now to keep the promise; nothing was acknowledged.
    #[error("not available now: {reason}")]
    Unavailable {
        /// In words, for the operator.
        reason: String,
    },
    /// The bytes could not be read back as they were written; alarm was raised.
    #[error("object damaged: {reason}")]
    Damaged {
        /// In words, for the operator.
        reason: String,
    },
    /// No room for more.
    #[error("cluster is full")]
    Full,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its name.
    pub name: BucketName,
    /// Its class.
    pub class: BucketClass,
    /// When it was made.
    pub created: WallTime,
}

/// One version of an object, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The class of its bucket: versions are told to clients for config only.
    pub class: BucketClass,
    /// Which version.
    pub version: VersionId,
    /// Bytes of the object.
    pub len_bytes: u64,
    /// Its tag.
    pub etag: ETag,
    /// When it was committed.
    pub modified: WallTime,
    /// What the client said of it.
    pub attributes: Attributes,
}

/// What a PUT is about, before its bytes.
#[derive(Clone, Debug)]
pub struct PutRequest {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: ObjectKey,
    /// Bytes to come, where the client said so.
    pub len_bytes: Option<u64>,
    /// Checked early if that is cheap, decided at the commit.
    pub condition: Condition,
}

/// An object on its way in. Dropping it aborts: nothing becomes visible. A dropped `commit` may have happened or not,
/// as after a crash; nobody was told.
#[async_trait::async_trait]
pub trait PutSession: Send {
    /// Takes the next bytes; waits while too many are in flight.
    async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError>;

    /// Makes the object durable in more than one zone, then visible. The caller has verified all that was written.
    async fn commit(self: Box<Self>, etag: ETag, attributes: Attributes) -> Result<ObjectInfo, StoreError>;
}

/// One version of an object, opened.
pub trait ObjectReader: Send {
    /// What it is.
    fn info(&self) -> &ObjectInfo;

    /// The bytes of `range`, which lies within the object, each checked against its checksum before it is passed on.
    fn read(self: Box<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, StoreError>>;
}

/// What to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// The bucket.
    pub bucket: BucketName,
    /// Only keys that begin with this.
    pub prefix: String,
    /// Fold keys with the same beginning up to this, after the prefix, into one common prefix.
    pub delimiter: Option<String>,
    /// Only entries after this in the order of their bytes. Keys are folded first: a common prefix at or before it is
    /// left out together with every key in it, also those after it.
    pub after: Option<String>,
    /// Entries at most, at most 1000.
    pub limit: u32,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListEntry {
    /// An object.
    Object {
        /// Its key.
        key: ObjectKey,
        /// Its bytes.
        len_bytes: u64,
        /// Its tag.
        etag: ETag,
        /// When it was committed.
        modified: WallTime,
    },
    /// All keys that begin with this, folded.
    CommonPrefix(String),
}

/// A page of a list, in the order of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The entries.
    pub entries: Vec<ListEntry>,
    /// Whether there are more after the last of them.
    pub truncated: bool,
}

/// Buckets and objects.
#[async_trait::async_trait]
pub trait ObjectStore: Send + Sync {
    /// Makes a bucket.
    async fn create_bucket(&self, name: BucketName, class: BucketClass) -> Result<BucketInfo, StoreError>;
    /// Removes an empty bucket.
    async fn delete_bucket(&self, name: &BucketName) -> Result<(), StoreError>;
    /// One bucket.
    async fn bucket(&self, name: &BucketName) -> Result<BucketInfo, StoreError>;
    /// All buckets, by name.
    async fn buckets(&self) -> Result<Vec<BucketInfo>, StoreError>;
    /// Begins to store an object.
    async fn put(&self, request: PutRequest) -> Result<Box<dyn PutSession>, StoreError>;
    /// Opens the current version of a key, or the version named.
    async fn open(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version: Option<VersionId>,
    ) -> Result<Box<dyn ObjectReader>, StoreError>;
    /// Removes the current version of a key; `Ok` also where there was none, unless the condition asks for one.
    async fn delete(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        condition: Condition,
    ) -> Result<(), StoreError>;
    /// A page of keys.
    async fn list(&self, request: ListRequest) -> Result<ListPage, StoreError>;
}
