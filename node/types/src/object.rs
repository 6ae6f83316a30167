//! Names that users choose, checked once at the edge.

use crate::limits::OBJECT_KEY_LEN_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a bucket is for; fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BucketClass {
    /// Immutable objects, 1 KB to 5 GB, in slabs.
    Mail,
    /// Small values that change: versions kept, up to 64 KiB inline in consensus.
    Config,
}

impl fmt::Display for BucketClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mail => "mail",
            Self::Config => "config",
        })
    }
}

/// A bucket's name by S3's rules: 3 to 63 of `a-z 0-9 - .`, beginning and ending with a letter or digit, no
/// two dots in a row, not formed like an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName(String);

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a bucket name.
    #[error(
        "bucket name {0:?}: expected 3 to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit, without '..' and not like an IP address"
    )]
    Bucket(String),
    /// An empty key.
    #[error("object key: expected at least one byte")]
    KeyEmpty,
    /// A key above the limit.
    #[error("object key of {len_bytes} bytes: expected at most {OBJECT_KEY_LEN_BYTES_MAX}")]
    KeyTooLong {
        /// Its length.
        len_bytes: usize,
    },
}

impl BucketName {
    /// Checks `name`.
    ///
    /// # Errors
    /// `NameError::Bucket` where it breaks S3's rules.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let bytes = name.as_bytes();
        let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let valid = (3..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| edge(byte) || matches!(byte, b'-' | b'.'))
            && bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && !name.contains("..")
            && name.parse::<std::net::Ipv4Addr>().is_err();
        if valid { Ok(Self(name)) } else { Err(NameError::Bucket(name)) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BucketName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl From<BucketName> for String {
    fn from(name: BucketName) -> Self {
        name.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An object's key: 1 to 1024 bytes of UTF-8. Keys order by their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Checks `key`.
    ///
    /// # Errors
    /// Empty, or above 1024 bytes.
    pub fn new(key: impl Into<String>) -> Result<Self, NameError> {
        let key = key.into();
        if key.is_empty() {
            return Err(NameError::KeyEmpty);
        }
        if key.len() > OBJECT_KEY_LEN_BYTES_MAX {
            return Err(NameError::KeyTooLong { len_bytes: key.len() });
        }
        Ok(Self(key))
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectKey {
    type Error = NameError;
    fn try_from(key: String) -> Result<Self, NameError> {
        Self::new(key)
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client says of an object besides its bytes; kept as given and returned as given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`, as the client wrote it.
    pub expires: Option<String>,
    /// User metadata: names in lower case without the `x-amz-meta-` prefix, in the order given.
    pub user: Vec<(String, String)>,
    /// Additional checksums that were verified when the object was stored, by algorithm name as in the header
    /// (`crc32c`, `crc64nvme`, ...), base64.
    pub checksums: Vec<(String, String)>,
}

/// An entity tag without its quotes: for a single PUT the MD5 of the bytes in hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// A tag from text that holds no quotes; quotes around it are taken off.
    pub fn new(tag: impl AsRef<str>) -> Self {
        Self(tag.as_ref().trim_matches('"').to_owned())
    }

    /// The tag, unquoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What must hold of the key's current version for a change to be made; decided where the change is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// `If-None-Match: *`: there is no current version.
    Absent,
    /// `If-Match: "tag"`: the current version has this tag.
    Matches(ETag),
    /// `If-Match: *`: there is a current version.
    Present,
}

#[cfg(test)]
mod tests;
