//! How records lie in the store: a CRC32C over key and record, a version byte, then postcard. And where: the keys. The checksum is there
//! although fjall has its own: a vote with a flipped bit would be another vote, and who reads it must know. It covers the version too: so
//! a record of another version is told from one that rotted, and is left as it is.
//!
//! ```text
//! value = CRC32C of key and rest (u32 BE), rest; log entries have their own form, see `log`
//!
//! 0xfffe 'j'                            the node's standing, see `standing`
//! 0xfffe 'o'                            how often its store was opened, see `meta::openings`
//! 0xfffe 's' node (u64 BE)              the last opening that was seen of another node
//! 0xfffe 'f'                            the voters at the founding, see `standing`
//! 0xfffe 'n'                            which nodes there are, see `meta::members`
//! group (u16 BE; 0 control, g+1 data group g)
//!   'l' index (u64 BE)                 log entry: version, CRC32C (of index, version and body), body
//!   'm' 'v' | 'c' | 'p'                vote, committed, purged
//!   'h'                                head of the state machine: generation, applied, membership
//!   's' generation (u32 BE) table ...  state; one generation is current, others are remains of an install
//! ```

use crate::kv::{Batch, KvError, OrderedKv, other_version};
use crate::limits::CLEAR_KEYS;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_types::{GroupId, NodeId};

/// The version that records are written with.
const RECORD_VERSION: u8 = 5;
const SEAL_LEN_BYTES: usize = 4;

/// Where the node's standing lies: beside the groups, whose tags are lower, and below the store's own keys.
pub(crate) const STANDING: [u8; 3] = [0xff, 0xfe, b'j'];

/// Where the number of the store's last opening lies.
pub(crate) const OPENING: [u8; 3] = [0xff, 0xfe, b'o'];

/// Where the voters lie that the groups were founded with.
pub(crate) const FOUNDED: [u8; 3] = [0xff, 0xfe, b'f'];

/// Where it lies which nodes there are, by the control group's last word.
pub(crate) const NODES_KNOWN: [u8; 3] = [0xff, 0xfe, b'n'];

/// Where the last opening lies that was seen of `node`.
pub(crate) fn seen_key(node: NodeId) -> Vec<u8> {
    [&[0xff, 0xfe, b's'], &node.get().to_be_bytes()[..]].concat()
}

/// Why a record cannot be read. Only the first of these says that the store is not what it was. The others are as they were written, and
/// most likely the same on every replica: were they taken for damage, each node in turn would set its whole store aside because of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is not what was written.
    #[error("{what} does not match its checksum")]
    Corrupt {
        /// Which kind of record.
        what: &'static str,
    },
    /// It matches its checksum and has another version.
    #[error("{what} has version {found}, this strongroom reads {expected}: {}", other_version((*found).into(), (*expected).into()))]
    OtherVersion {
        /// Which kind of record.
        what: &'static str,
        /// Its version.
        found: u8,
        /// The one that is read here.
        expected: u8,
    },
    /// It matches its checksum and has this version, and makes no sense.
    #[error(
        "{what} matches its checksum and does not decode: a fault of strongroom, or of another build of this version; nothing was changed"
    )]
    Undecodable {
        /// Which kind of record.
        what: &'static str,
    },
}

impl RecordError {
    /// Whether it means that the store's bytes are not what was written.
    pub(crate) fn is_damage(self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::OtherVersion { .. } | Self::Undecodable { .. } => false,
        }
    }
}

/// Encodes a record.
pub(crate) fn encode<R: Serialize>(record: &R) -> Bytes {
    let encoded = postcard::to_extend(record, vec![RECORD_VERSION]);
    Bytes::from(encoded.expect("records hold only types that postcard encodes"))
}

/// The value that lies at `key`, with its checksum.
pub(crate) fn seal(key: &[u8], value: &[u8]) -> Bytes {
    let mut sealed = BytesMut::with_capacity(SEAL_LEN_BYTES + value.len());
    sealed.put_u32(crc32c::crc32c_append(crc32c::crc32c(key), value));
    sealed.put_slice(value);
    sealed.freeze()
}

/// What was sealed at `key`.
pub(crate) fn unseal(what: &'static str, key: &[u8], sealed: &Bytes) -> Result<Bytes, RecordError> {
    let corrupt = RecordError::Corrupt { what };
    let Some((crc, value)) = sealed.split_first_chunk::<SEAL_LEN_BYTES>() else { return Err(corrupt) };
    if crc32c::crc32c_append(crc32c::crc32c(key), value).to_be_bytes() != *crc {
        return Err(corrupt);
    }
    Ok(sealed.slice(SEAL_LEN_BYTES..))
}

/// Puts a record, sealed.
pub(crate) fn put<R: Serialize>(batch: &mut Batch, key: Vec<u8>, record: &R) {
    let value = seal(&key, &encode(record));
    batch.put(key, value);
}

/// Decodes the sealed record at `key`.
pub(crate) fn open<R: DeserializeOwned>(
    what: &'static str,
    key: &[u8],
    value: &Bytes,
) -> Result<R, RecordError> {
    decode(what, &unseal(what, key, value)?)
}

/// The part of a record after its version.
fn body<'bytes>(what: &'static str, bytes: &'bytes [u8]) -> Result<&'bytes [u8], RecordError> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, body)) => Ok(body),
        Some((&found, _)) => Err(RecordError::OtherVersion { what, found, expected: RECORD_VERSION }),
        None => Err(RecordError::Undecodable { what }),
    }
}

/// Decodes a record whose checksum was checked.
pub(crate) fn decode<R: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<R, RecordError> {
    match postcard::take_from_bytes(body(what, bytes)?) {
        Ok((record, [])) => Ok(record),
        Ok(_) | Err(_) => Err(RecordError::Undecodable { what }),
    }
}

/// Whether the sealed record at `key` has the version that is read here. One that is corrupt has none: that is for who reads it.
pub(crate) fn check_version(what: &'static str, key: &[u8], sealed: &Bytes) -> Result<(), RecordError> {
    match unseal(what, key, sealed) {
        Ok(record) => body(what, &record).map(drop),
        Err(_) => Ok(()),
    }
}

/// The first key after all keys that begin with `prefix`; `None` where there is none.
pub(crate) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// The keys of one group in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupKeys {
    tag: [u8; 2],
}

impl GroupKeys {
    pub(crate) fn new(group: Option<GroupId>) -> Self {
        let tag =
            group.map_or(0, |group| group.get().checked_add(1).expect("groups are bounded by GROUPS_MAX"));
        Self { tag: tag.to_be_bytes() }
    }

    /// The range of everything that is kept of the group.
    pub(crate) fn all(self) -> (Vec<u8>, Vec<u8>) {
        let end = successor(&self.tag).expect("tags of groups are bounded by GROUPS_MAX");
        (self.tag.to_vec(), end)
    }

    fn area(self, area: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(3 + rest.len());
        key.extend_from_slice(&self.tag);
        key.push(area);
        key.extend_from_slice(rest);
        key
    }

    /// A log entry.
    pub(crate) fn log(self, index: u64) -> Vec<u8> {
        self.area(b'l', &index.to_be_bytes())
    }

    /// One past the last possible log entry.
    pub(crate) fn log_end(self) -> Vec<u8> {
        self.area(b'l' + 1, &[])
    }

    /// The index in a log entry's key.
    pub(crate) fn log_index(key: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(key.get(3..)?.try_into().ok()?))
    }

    pub(crate) fn vote(self) -> Vec<u8> {
        self.area(b'm', b"v")
    }

    pub(crate) fn committed(self) -> Vec<u8> {
        self.area(b'm', b"c")
    }

    pub(crate) fn purged(self) -> Vec<u8> {
        self.area(b'm', b"p")
    }

    /// The range of vote, committed and purged.
    pub(crate) fn marks(self) -> (Vec<u8>, Vec<u8>) {
        (self.area(b'm', &[]), self.area(b'm' + 1, &[]))
    }

    pub(crate) fn head(self) -> Vec<u8> {
        self.area(b'h', &[])
    }

    /// The prefix of one generation of the state.
    pub(crate) fn state(self, generation: u32) -> Vec<u8> {
        self.area(b's', &generation.to_be_bytes())
    }

    /// The range of all generations.
    pub(crate) fn states(self) -> (Vec<u8>, Vec<u8>) {
        (self.area(b's', &[]), self.area(b's' + 1, &[]))
    }
}

/// Removes all keys with `start <= key < end`, in batches of bounded size, ascending.
pub(crate) fn clear(kv: &dyn OrderedKv, start: &[u8], end: &[u8]) -> Result<(), KvError> {
    loop {
        let keys = kv.range(start, end, CLEAR_KEYS)?;
        if keys.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for (key, _) in keys {
            batch.remove(key.to_vec());
        }
        kv.apply(batch)?;
    }
}

#[cfg(test)]
mod tests {
    use super::{RECORD_VERSION, RecordError, check_version, decode, encode, seal, successor, unseal};

    #[test]
    fn a_value_with_a_flipped_bit_or_at_another_key_is_not_believed() {
        let sealed = seal(b"key", b"value");
        assert_eq!(unseal("test", b"key", &sealed).unwrap(), &b"value"[..]);
        assert!(unseal("test", b"kez", &sealed).is_err());
        assert!(unseal("test", b"key", &sealed.slice(..3)).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal("test", b"key", &flipped.into()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn successor_is_the_least_key_beyond_the_prefix() {
        assert_eq!(successor(b"a"), Some(b"b".to_vec()));
        assert_eq!(successor(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(successor(b"\xff\xff"), None);
        assert_eq!(successor(b""), None);
    }

    #[test]
    fn what_was_written_and_cannot_be_read_is_refused_and_is_not_damage() {
        let (what, expected) = ("number", RECORD_VERSION);
        assert_eq!(decode::<u64>(what, &encode(&7u64)), Ok(7));
        for undecodable in [&[][..], &[expected], &[expected, 7, 0]] {
            assert_eq!(decode::<u64>(what, undecodable), Err(RecordError::Undecodable { what }));
        }
        for (found, words) in
            [(expected - 1, "an older version"), (expected + 1, "a newer version"), (255, "a newer version")]
        {
            let error = decode::<u64>(what, &[found, 7]).unwrap_err();
            assert_eq!(error, RecordError::OtherVersion { what, found, expected });
            assert!(!error.is_damage() && error.to_string().contains(words), "{error}");
            let mut sealed = seal(b"k", &[found, 7]).to_vec();
            assert_eq!(check_version(what, b"k", &sealed.clone().into()), Err(error));
            sealed[4] ^= 1;
            assert_eq!(check_version(what, b"k", &sealed.clone().into()), Ok(()), "rot is another matter");
            assert!(unseal(what, b"k", &sealed.into()).unwrap_err().is_damage());
        }
        assert_eq!(check_version(what, b"k", &seal(b"k", &encode(&7u64))), Ok(()));
    }
}
