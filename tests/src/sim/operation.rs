//! What clients do and what comes of it.

use super::draws::Draws;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use strongroom_types::VersionId;

/// The bytes of one PUT: they follow from its number and length, so that no two PUTs of a run write the same and what is
/// read back says which one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    /// Counts the PUTs of a run.
    pub number: u64,
    /// How many bytes, at least [`Value::LEN_BYTES_MIN`].
    pub len_bytes: usize,
}

thread_local! {
    /// Tags that were asked for before: a run is one thread, and asks for each several times.
    static TAGS: RefCell<BTreeMap<Value, Tag>> = const { RefCell::new(BTreeMap::new()) };
}

impl Value {
    /// Room for the number.
    pub const LEN_BYTES_MIN: usize = 8;

    /// The bytes.
    pub fn bytes(self) -> Bytes {
        assert!(self.len_bytes >= Self::LEN_BYTES_MIN, "a value holds its number");
        let mut bytes = Vec::with_capacity(self.len_bytes + 8);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        // Of the length as well, so that a value cut short is no value.
        let mut draws = Draws::new(self.number ^ (self.len_bytes as u64) << 40);
        while bytes.len() < self.len_bytes {
            bytes.extend_from_slice(&draws.u64().to_le_bytes());
        }
        bytes.truncate(self.len_bytes);
        Bytes::from(bytes)
    }

    /// The value with these bytes; `None` where no PUT ever wrote them.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let number = bytes.first_chunk().map(|number| u64::from_le_bytes(*number))?;
        let value = Self { number, len_bytes: bytes.len() };
        (value.bytes() == bytes).then_some(value)
    }

    /// The tag that S3 gives an object of these bytes.
    pub fn tag(self) -> Tag {
        TAGS.with_borrow_mut(|tags| {
            *tags.entry(self).or_insert_with(|| Tag(Md5::digest(self.bytes()).into()))
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} of {} B", self.number, self.len_bytes)
    }
}

/// An entity tag: the MD5 of an object's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; 16]);

impl Tag {
    /// The tag in a header or a list, with its quotes or without; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim_matches('"');
        if digits.len() != 32 {
            return None;
        }
        u128::from_str_radix(digits, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What must hold of a key's current value for a write to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// There is none (`If-None-Match: *`).
    Absent,
    /// It is this one (`If-Match` with its tag).
    Matches(Value),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Absent => f.write_str(" if absent"),
            Self::Matches(value) => write!(f, " if it is #{}", value.number),
        }
    }
}

/// One thing that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Store an object.
    Put {
        /// The key.
        key: String,
        /// The bytes.
        value: Value,
        /// Only if this holds.
        condition: Condition,
    },
    /// Read an object.
    Get {
        /// The key.
        key: String,
    },
    /// Length and tag of an object.
    Head {
        /// The key.
        key: String,
    },
    /// Read a version that was acknowledged before, where versions are kept.
    GetVersion {
        /// The key.
        key: String,
        /// The version.
        version: VersionId,
        /// What it was acknowledged for.
        value: Value,
    },
    /// Remove an object.
    Delete {
        /// The key.
        key: String,
        /// Only if this holds.
        condition: Condition,
    },
    /// All keys, in order.
    List,
}

impl Operation {
    /// The key that it is about; `None` for a list, which is about all.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Put { key, .. }
            | Self::Get { key }
            | Self::Head { key }
            | Self::GetVersion { key, .. }
            | Self::Delete { key, .. } => Some(key),
            Self::List => None,
        }
    }
}

/// What a client is told of an object without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its tag.
    pub tag: Tag,
    /// Its length.
    pub len_bytes: u64,
}

/// One key of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// What is said of its object; `None` where the system says nothing.
    pub described: Option<Described>,
}

/// What came of it, as far as the client can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To a PUT: acknowledged, with the version's id where clients are told.
    Stored(Option<VersionId>),
    /// To a GET.
    Found(Bytes),
    /// To a HEAD.
    Described(Described),
    /// To a GET, a HEAD, or a write with `If-Match`: there is no such object.
    Missing,
    /// To a DELETE: acknowledged.
    Deleted,
    /// To a conditional write: it does not hold; nothing was done.
    ConditionFailed,
    /// To a LIST.
    Listed(Vec<Listed>),
    /// Refused before anything was done: sure to have no effect.
    Refused(String),
    /// An error, or no answer: it may have been done, be done later, or never.
    Unknown(String),
    /// An answer that must never be given, whatever fails.
    Wrong(String),
}

impl Outcome {
    /// Whether a PUT was acknowledged.
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value, condition } => write!(f, "put {key} {value}{condition}"),
            Self::Get { key } => write!(f, "get {key}"),
            Self::Head { key } => write!(f, "head {key}"),
            Self::GetVersion { key, version, value } => {
                write!(f, "get {key} {version}, which is #{}", value.number)
            }
            Self::Delete { key, condition } => write!(f, "delete {key}{condition}"),
            Self::List => write!(f, "list"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(None) => f.write_str("stored"),
            Self::Stored(Some(version)) => write!(f, "stored as {version}"),
            Self::Found(bytes) => match Value::of(bytes) {
                Some(value) => write!(f, "found {value}"),
                None => write!(f, "found {} B that nobody wrote", bytes.len()),
            },
            Self::Described(Described { tag, len_bytes }) => write!(f, "is {tag} of {len_bytes} B"),
            Self::Missing => f.write_str("missing"),
            Self::Deleted => f.write_str("deleted"),
            Self::ConditionFailed => f.write_str("condition failed"),
            Self::Listed(keys) => {
                write!(f, "listed")?;
                keys.iter().try_for_each(|listed| write!(f, " {}", listed.key))
            }
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Unknown(reason) => write!(f, "unknown: {reason}"),
            Self::Wrong(what) => write!(f, "WRONG: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Tag, Value};

    #[test]
    fn bytes_say_which_value_they_are_and_any_change_shows() {
        for len_bytes in [8, 9, 16, 1000, 70_001] {
            let value = Value { number: 77, len_bytes };
            let mut bytes = value.bytes().to_vec();
            assert_eq!(bytes.len(), len_bytes);
            assert_eq!(Value::of(&bytes), Some(value));
            if len_bytes > 8 {
                bytes[len_bytes - 1] ^= 1;
                assert_eq!(Value::of(&bytes), None);
            }
        }
        let long = Value { number: 77, len_bytes: 1000 }.bytes();
        assert_eq!(Value::of(&long[..999]), None, "cut short");
        assert_eq!(Value::of(&[1, 2, 3]), None);
    }

    #[test]
    fn tags_are_read_with_quotes_and_without() {
        let tag = Value { number: 5, len_bytes: 100 }.tag();
        assert_eq!(Tag::parse(&format!("\"{tag}\"")), Some(tag));
        assert_eq!(Tag::parse(&tag.to_string()), Some(tag));
        for none in ["", "\"\"", "5", "zz7a2f4ca5a8c0c1d2e3f4a5b6c7d8e9"] {
            assert_eq!(Tag::parse(none), None);
        }
    }
}
