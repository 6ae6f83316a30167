//! What clients do and what comes of it.

use super::draws::Draws;
use bytes::Bytes;
use std::fmt;

/// The bytes of one PUT: they follow from its number and length, so that no two PUTs of a run write the same and what is
/// read back says which one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    /// Counts the PUTs of a run.
    pub number: u64,
    /// How many bytes, at least [`Value::LEN_BYTES_MIN`].
    pub len_bytes: usize,
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
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {} of {} B", self.number, self.len_bytes)
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
        /// Only if there is none (`If-None-Match: *`).
        if_absent: bool,
    },
    /// Read an object.
    Get {
        /// The key.
        key: String,
    },
    /// Remove an object.
    Delete {
        /// The key.
        key: String,
    },
    /// All keys, in order.
    List,
}

/// What came of it, as far as the client can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To a PUT: acknowledged.
    Stored,
    /// To a GET.
    Found(Bytes),
    /// To a GET: there is no such object.
    Missing,
    /// To a DELETE: acknowledged.
    Deleted,
    /// To a conditional PUT: there is one; nothing was done.
    ConditionFailed,
    /// To a LIST.
    Listed(Vec<String>),
    /// Refused before anything was done: sure to have no effect.
    Refused(String),
    /// An error, or no answer: it may have been done, be done later, or never.
    Unknown(String),
    /// An answer that must never be given, whatever fails.
    Wrong(String),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value, if_absent: false } => write!(f, "put {key} {value}"),
            Self::Put { key, value, if_absent: true } => write!(f, "put {key} {value} if absent"),
            Self::Get { key } => write!(f, "get {key}"),
            Self::Delete { key } => write!(f, "delete {key}"),
            Self::List => write!(f, "list"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored => f.write_str("stored"),
            Self::Found(bytes) => match Value::of(bytes) {
                Some(value) => write!(f, "found {value}"),
                None => write!(f, "found {} B that nobody wrote", bytes.len()),
            },
            Self::Missing => f.write_str("missing"),
            Self::Deleted => f.write_str("deleted"),
            Self::ConditionFailed => f.write_str("condition failed"),
            Self::Listed(keys) => write!(f, "listed {} keys", keys.len()),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Unknown(reason) => write!(f, "unknown: {reason}"),
            Self::Wrong(what) => write!(f, "wrong: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Value;

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
}
