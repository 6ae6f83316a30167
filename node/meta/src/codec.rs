//! How records lie in the store: a CRC32C over key and record, a version byte, then postcard. And where: the keys. The checksum is there
//! although fjall has its own: a vote with a flipped bit would be another vote, and who reads it must know.
//!
//! ```text
//! value = CRC32C of key and rest (u32 BE), rest; log entries have their own form, see `log`
//!
//! 0xfffe 'j'                            the node's standing, see `standing`
//! 0xfffe 'o'                            how often its store was opened, see `meta::openings`
//! 0xfffe 's' node (u64 BE)              the last opening that was seen of another node
//! group (u16 BE; 0 control, g+1 data group g)
//!   'l' index (u64 BE)                 log entry: version, CRC32C (of index and body), body
//!   'm' 'v' | 'c' | 'p'                vote, committed, purged
//!   'h'                                head of the state machine: generation, applied, membership
//!   's' generation (u32 BE) table ...  state; one generation is current, others are remains of an install
//! ```

use crate::kv::{Batch, KvError, OrderedKv};
use crate::limits::CLEAR_KEYS;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_types::{GroupId, NodeId};

/// The version that records are written with.
const RECORD_VERSION: u8 = 1;
const SEAL_LEN_BYTES: usize = 4;

/// Where the node's standing lies: beside the groups, whose tags are lower, and below the store's own keys.
pub(crate) const STANDING: [u8; 3] = [0xff, 0xfe, b'j'];

/// Where the number of the store's last opening lies.
pub(crate) const OPENING: [u8; 3] = [0xff, 0xfe, b'o'];

/// Where the last opening lies that was seen of `node`.
pub(crate) fn seen_key(node: NodeId) -> Vec<u8> {
    [&[0xff, 0xfe, b's'], &node.get().to_be_bytes()[..]].concat()
}

/// A record that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} does not decode")]
pub struct CorruptRecord {
    /// Which kind of record.
    pub what: &'static str,
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
pub(crate) fn unseal(what: &'static str, key: &[u8], sealed: &Bytes) -> Result<Bytes, CorruptRecord> {
    let corrupt = CorruptRecord { what };
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
) -> Result<R, CorruptRecord> {
    decode(what, &unseal(what, key, value)?)
}

/// Decodes a record.
pub(crate) fn decode<R: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<R, CorruptRecord> {
    let corrupt = CorruptRecord { what };
    let (&version, body) = bytes.split_first().ok_or(corrupt.clone())?;
    if version != RECORD_VERSION {
        return Err(corrupt);
    }
    match postcard::take_from_bytes(body) {
        Ok((record, [])) => Ok(record),
        Ok(_) | Err(_) => Err(corrupt),
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
    use super::{decode, encode, seal, successor, unseal};

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
    fn records_of_another_version_or_with_a_tail_are_refused() {
        let good = encode(&7u64);
        assert_eq!(decode::<u64>("number", &good), Ok(7));
        assert!(decode::<u64>("number", &[]).is_err());
        assert!(decode::<u64>("number", &[2, 7]).is_err());
        assert!(decode::<u64>("number", &[1, 7, 0]).is_err());
        assert!(decode::<u64>("number", &[1]).is_err());
    }
}
