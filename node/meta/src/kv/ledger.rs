//! The ledger: a small file beside the store that says how much of it was ever reported as synced, and has a copy of what the last sync
//! added.
//!
//! ```text
//! file = slot 0, slot 1: written in turn; the readable one with the higher sequence counts
//! slot = 512 bytes, then the copy; 4096 bytes + 256 KiB are kept for each. Integers little endian
//!   0  8  magic "SRLEDGER"
//!   8  2  version 1
//!  10  2  flags: 1 = the store was found damaged
//!  12  4  CRC32C of the 512 bytes with this field zero, and of the copy
//!  16  8  sequence: counts the writes of this file
//!  24 16  the store's id, drawn when it was made; also in the store and in its directory's name
//!  40  8  batches that are synced with this sync
//!  48  8  batches that were synced before it: the copy has those in between, in order
//!  56  4  bytes of the copy
//!  60  2  bytes of what was found damaged, at most 256
//!  62  .  what was found, UTF-8; zeros to 512
//! Every version keeps the magic, the version, the checksum, the sequence and the length of the copy where they are: so that a slot of
//! another version is told from a torn one, and is left as it is.
//! copy = batches, each: count of changes u32, then each: key length u32, key, value length u32 (0xffffffff: removed), value
//! ```
//!
//! **One flush, not two.** The store's journal and the ledger are flushed at the same time, and a sync is reported when both are done. So power
//! may fail with either of them on the media. The journal alone: it has more than the ledger asks for, which is well. The ledger alone:
//! it asks for what the journal has not, and has it itself; it is put into the store again. It does not matter that this was never
//! reported: what was under way may survive. (Written one after the other, as a mere number, the ledger would need no copy; that measured
//! twice the time for each sync.) A sync whose copy would be too long writes the ledger after the journal, without one.
//!
//! **Why two slots.** A write that power cuts short harms the slot it went to only, and its sync was not reported yet; the other slot is
//! true. Where the newer slot rots, the older one is one sync behind. Only rot of that slot *and* a loss of just the last sync's batches,
//! both between two starts, go unseen.
//!
//! **Why not in the store.** What is cut from the end of the journal takes its own proof with it.

use super::Batch;
use super::media::reading_file;
use bytes::{BufMut, Bytes};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"SRLEDGER";
pub(super) const VERSION: u16 = 1;
const CONDEMNED: u16 = 1;
const CRC: std::ops::Range<usize> = 12..16;
const REASON: usize = 62;
/// Bytes of a slot without its copy. Nothing is expected of the drive: a slot of which any part is missing does not match its checksum.
const ENTRY_LEN_BYTES: usize = 512;
/// Bytes of a copy at most: many commits; a sync with more takes its time anyway.
pub(super) const COPY_LEN_BYTES_MAX: usize = 256 << 10;
/// From one slot to the next: whole blocks of a file system, so that no write touches both.
const SLOT_LEN_BYTES: u64 = 4096 + COPY_LEN_BYTES_MAX as u64;
const REMOVED: u32 = u32::MAX;
const REASON_LEN_BYTES_MAX: usize = 256;
const _: () = assert!(REASON + REASON_LEN_BYTES_MAX <= ENTRY_LEN_BYTES);
const _: () = assert!(ENTRY_LEN_BYTES + COPY_LEN_BYTES_MAX <= SLOT_LEN_BYTES as usize);

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The store.
    pub(super) store: u128,
    /// Batches of it that are synced.
    pub(super) synced: u64,
    /// Batches that were before; the copy has the others.
    pub(super) before: u64,
    /// See the module.
    pub(super) copy: Vec<u8>,
    /// What was found damaged.
    pub(super) condemned: Option<String>,
}

/// The open ledger.
pub(super) struct Ledger {
    file: File,
    sequence: u64,
    entry: Entry,
}

/// Adds a batch to a copy.
pub(super) fn push(copy: &mut Vec<u8>, changes: &[(Vec<u8>, Option<Bytes>)]) {
    let len = |len: usize| u32::try_from(len).expect("batches are far below 4 GiB");
    copy.put_u32_le(len(changes.len()));
    for (key, value) in changes {
        copy.put_u32_le(len(key.len()));
        copy.put_slice(key);
        match value {
            Some(value) => {
                copy.put_u32_le(len(value.len()));
                copy.put_slice(value);
            }
            None => copy.put_u32_le(REMOVED),
        }
    }
}

/// The batches of a copy; `None` where it is not one.
pub(super) fn batches(copy: &[u8]) -> Option<Vec<Batch>> {
    fn number(copy: &mut &[u8]) -> Option<u32> {
        let (number, rest) = copy.split_first_chunk()?;
        *copy = rest;
        Some(u32::from_le_bytes(*number))
    }
    fn bytes<'copy>(copy: &mut &'copy [u8], len: u32) -> Option<&'copy [u8]> {
        let (bytes, rest) = copy.split_at_checked(usize::try_from(len).ok()?)?;
        *copy = rest;
        Some(bytes)
    }
    let (mut copy, mut found) = (copy, Vec::new());
    while !copy.is_empty() {
        let mut batch = Batch::default();
        for _ in 0..number(&mut copy)? {
            let len = number(&mut copy)?;
            let key = bytes(&mut copy, len)?.to_vec();
            match number(&mut copy)? {
                REMOVED => batch.remove(key),
                len => batch.put(key, Bytes::copy_from_slice(bytes(&mut copy, len)?)),
            }
        }
        found.push(batch);
    }
    Some(found)
}

fn encode(sequence: u64, entry: &Entry) -> Vec<u8> {
    let mut bytes = vec![0; ENTRY_LEN_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    bytes[24..40].copy_from_slice(&entry.store.to_le_bytes());
    bytes[40..48].copy_from_slice(&entry.synced.to_le_bytes());
    bytes[48..56].copy_from_slice(&entry.before.to_le_bytes());
    let copy_len = u32::try_from(entry.copy.len()).expect("bounded by COPY_LEN_BYTES_MAX");
    bytes[56..60].copy_from_slice(&copy_len.to_le_bytes());
    if let Some(reason) = &entry.condemned {
        let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_LEN_BYTES_MAX)];
        bytes[10..12].copy_from_slice(&CONDEMNED.to_le_bytes());
        let len = u16::try_from(reason.len()).expect("bounded above");
        bytes[60..REASON].copy_from_slice(&len.to_le_bytes());
        bytes[REASON..REASON + reason.len()].copy_from_slice(reason);
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &entry.copy);
    bytes[CRC].copy_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&entry.copy);
    bytes
}

fn field<const LEN: usize>(bytes: &[u8; ENTRY_LEN_BYTES], at: usize) -> [u8; LEN] {
    std::array::from_fn(|index| bytes[at + index])
}

/// Bytes of the copy that a slot which begins like this has.
fn copy_len_bytes(bytes: &[u8; ENTRY_LEN_BYTES]) -> usize {
    let len = u32::from_le_bytes(field(bytes, 56));
    usize::try_from(len).unwrap_or(usize::MAX).min(COPY_LEN_BYTES_MAX)
}

/// Why a ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LedgerError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("version {found}")]
    OtherVersion { found: u16 },
}

/// What a slot says; `None` where it is not whole.
fn decode(bytes: &[u8; ENTRY_LEN_BYTES], copy: Vec<u8>) -> Result<Option<(u64, Entry)>, LedgerError> {
    let mut zeroed = *bytes;
    zeroed[CRC].fill(0);
    let whole = crc32c::crc32c_append(crc32c::crc32c(&zeroed), &copy).to_le_bytes() == bytes[CRC];
    if !whole || bytes[..8] != *MAGIC {
        return Ok(None);
    }
    let found = u16::from_le_bytes(field(bytes, 8));
    if found != VERSION {
        return Err(LedgerError::OtherVersion { found });
    }
    let condemned = match u16::from_le_bytes(field(bytes, 10)) {
        0 => None,
        _ => {
            let len = usize::from(u16::from_le_bytes(field(bytes, 60))).min(REASON_LEN_BYTES_MAX);
            Some(String::from_utf8_lossy(&bytes[REASON..REASON + len]).into_owned())
        }
    };
    let entry = Entry {
        store: u128::from_le_bytes(field(bytes, 24)),
        synced: u64::from_le_bytes(field(bytes, 40)),
        before: u64::from_le_bytes(field(bytes, 48)),
        copy,
        condemned,
    };
    Ok(Some((u64::from_le_bytes(field(bytes, 16)), entry)))
}

fn read_slot(file: &File, slot: u64) -> Result<Option<(u64, Entry)>, LedgerError> {
    let mut bytes = [0; ENTRY_LEN_BYTES];
    let mut copy = Vec::new();
    let read = reading_file(|| {
        file.read_exact_at(&mut bytes, slot * SLOT_LEN_BYTES)?;
        copy.resize(copy_len_bytes(&bytes), 0);
        file.read_exact_at(&mut copy, slot * SLOT_LEN_BYTES + ENTRY_LEN_BYTES as u64)
    });
    match read {
        Ok(()) => decode(&bytes, copy),
        // It ends early, or the media does not give it back: the other one may be whole.
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes what was done to the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join("ledger")
}

impl Ledger {
    /// Opens the ledger in `directory`; `None` where there is none with a slot that can be read. Whoever opens it has locked the
    /// directory.
    pub(super) fn open(directory: &Path) -> Result<Option<Self>, LedgerError> {
        let file = match File::options().read(true).write(true).open(path_in(directory)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let newest =
            [read_slot(&file, 0)?, read_slot(&file, 1)?].into_iter().flatten().max_by_key(|slot| slot.0);
        let Some((sequence, entry)) = newest else { return Ok(None) };
        Ok(Some(Self { file, sequence, entry }))
    }

    /// Makes a ledger for a store that is yet to be made, in place of any that is there. It is there whole or not at all.
    pub(super) fn create(directory: &Path, store: u128) -> io::Result<Self> {
        let new = directory.join("ledger.new");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&new)?;
        let entry = Entry { store, synced: 0, before: 0, copy: Vec::new(), condemned: None };
        // Written once over its whole length, so that no later write changes anything but data.
        file.write_all_at(&vec![0; 2 * SLOT_LEN_BYTES as usize], 0)?;
        file.write_all_at(&encode(1, &entry), SLOT_LEN_BYTES)?;
        file.sync_all()?;
        std::fs::rename(&new, path_in(directory))?;
        sync_directory(directory)?;
        Ok(Self { file, sequence: 1, entry })
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The store has all that was synced, and more up to this: both slots say so. At a start one of them may be unreadable.
    pub(super) fn refresh(&mut self, synced: u64) -> io::Result<()> {
        for _ in 0..2 {
            let (store, condemned) = (self.entry.store, self.entry.condemned.clone());
            self.write(Entry { store, synced, before: synced, copy: Vec::new(), condemned })?;
        }
        Ok(())
    }

    /// Notes in both slots that the store was found damaged: were it in one of them, and that one rotted, the other would make the store
    /// whole again.
    pub(super) fn condemn(&mut self, reason: &str) -> io::Result<()> {
        for _ in 0..2 {
            let (store, synced) = (self.entry.store, self.entry.synced);
            let condemned = Some(reason.to_owned());
            self.write(Entry { store, synced, before: synced, copy: Vec::new(), condemned })?;
        }
        Ok(())
    }

    /// From now on, every write fails as on a full device.
    #[cfg(test)]
    pub(super) fn fill(&mut self) {
        self.file = File::options().write(true).open("/dev/full").expect("every Linux has it");
    }

    /// From now on, and after any power cut, the ledger says this.
    pub(super) fn write(&mut self, entry: Entry) -> io::Result<()> {
        let sequence = self.sequence + 1;
        self.file.write_all_at(&encode(sequence, &entry), sequence % 2 * SLOT_LEN_BYTES)?;
        self.file.sync_data()?;
        (self.sequence, self.entry) = (sequence, entry);
        Ok(())
    }
}

/// Makes a slot of a ledger file one of another version.
#[cfg(test)]
pub(super) fn set_version(path: &Path, slot: u64, version: u16) {
    let file = File::options().read(true).write(true).open(path).expect("a ledger");
    let mut bytes = [0; ENTRY_LEN_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_LEN_BYTES).expect("a slot");
    let mut copy = vec![0; copy_len_bytes(&bytes)];
    file.read_exact_at(&mut copy, slot * SLOT_LEN_BYTES + ENTRY_LEN_BYTES as u64).expect("a slot");
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    bytes[CRC].fill(0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &copy);
    bytes[CRC].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&bytes, slot * SLOT_LEN_BYTES).expect("a slot");
}

#[cfg(test)]
mod tests {
    use super::{
        Batch, COPY_LEN_BYTES_MAX, ENTRY_LEN_BYTES, Entry, Ledger, LedgerError, SLOT_LEN_BYTES, batches,
        copy_len_bytes, encode, push,
    };
    use bytes::Bytes;
    use std::os::unix::fs::FileExt;

    fn entry(synced: u64, condemned: Option<&str>) -> Entry {
        Entry {
            store: 7,
            synced,
            before: synced / 2,
            copy: vec![3; 50],
            condemned: condemned.map(str::to_owned),
        }
    }

    fn decode(bytes: &[u8]) -> Option<(u64, Entry)> {
        let head: [u8; ENTRY_LEN_BYTES] = bytes[..ENTRY_LEN_BYTES].try_into().unwrap();
        let mut copy = bytes[ENTRY_LEN_BYTES..].to_vec();
        copy.resize(copy_len_bytes(&head), 0);
        super::decode(&head, copy).unwrap()
    }

    #[test]
    fn a_slot_of_another_version_is_told_from_a_torn_one() {
        let mut bytes = encode(9, &entry(3, None));
        bytes[8..10].copy_from_slice(&7u16.to_le_bytes());
        let (head, copy) = bytes.split_at(ENTRY_LEN_BYTES);
        let torn = super::decode(head.try_into().unwrap(), copy.to_vec());
        assert!(matches!(torn, Ok(None)), "its checksum is that of this version");
        bytes[super::CRC].fill(0);
        let crc = crc32c::crc32c(&bytes);
        bytes[super::CRC].copy_from_slice(&crc.to_le_bytes());
        let (head, copy) = bytes.split_at(ENTRY_LEN_BYTES);
        let other = super::decode(head.try_into().unwrap(), copy.to_vec());
        assert!(matches!(other, Err(LedgerError::OtherVersion { found: 7 })), "{other:?}");
    }

    #[test]
    fn what_is_condemned_stays_so_whichever_slot_rots() {
        for harmed in [0, 1] {
            for writes in 1..=2 {
                let directory = tempfile::tempdir().unwrap();
                let mut ledger = Ledger::create(directory.path(), 7).unwrap();
                (1..=writes).for_each(|synced| ledger.write(entry(synced, None)).unwrap());
                ledger.condemn("rotten").unwrap();
                ledger.file.write_all_at(&[1], harmed * SLOT_LEN_BYTES + 100).unwrap();
                drop(ledger);
                let ledger = Ledger::open(directory.path()).unwrap().unwrap();
                assert_eq!(ledger.entry().condemned.as_deref(), Some("rotten"), "slot {harmed}");
            }
        }
    }

    #[test]
    fn copies_come_back_and_no_bytes_make_one_panic() {
        let mut first = Batch::default();
        first.put(b"a".to_vec(), Bytes::from_static(b"1"));
        first.remove(b"b".to_vec());
        let all = [first, Batch::default()];
        let mut copy = Vec::new();
        all.iter().for_each(|batch| push(&mut copy, &batch.changes));
        let found = batches(&copy).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().zip(&all).all(|(found, batch)| found.changes == batch.changes));
        for cut in 1..copy.len() - 4 {
            assert!(batches(&copy[..cut]).is_none(), "cut at {cut}");
        }
        assert!(batches(&[0xff; 64]).is_none());
    }

    #[test]
    fn an_entry_comes_back_and_any_flipped_bit_is_noticed() {
        let long = "é".repeat(300);
        for entry in [entry(0, None), entry(u64::MAX, Some("log entry 3 of group-1 is corrupt"))] {
            let bytes = encode(9, &entry);
            assert_eq!(decode(&bytes), Some((9, entry)));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&flipped), None, "bit {bit}");
            }
        }
        let long_copy = Entry { copy: vec![9; COPY_LEN_BYTES_MAX], ..entry(1, None) };
        assert_eq!(decode(&encode(2, &long_copy)), Some((2, long_copy)));
        let (_, cut) = decode(&encode(1, &entry(1, Some(&long)))).unwrap();
        assert_eq!(cut.condemned.unwrap(), "é".repeat(128));
    }

    #[test]
    fn one_unreadable_slot_leaves_the_other_and_two_leave_nothing() {
        for harmed in [0, 1] {
            let directory = tempfile::tempdir().unwrap();
            let mut ledger = Ledger::create(directory.path(), 7).unwrap();
            for synced in 1..=4 {
                ledger.write(entry(synced, None)).unwrap();
            }
            ledger.file.write_all_at(&[1], harmed * SLOT_LEN_BYTES + 100).unwrap();
            drop(ledger);
            let mut ledger = Ledger::open(directory.path()).unwrap().unwrap();
            let left = ledger.entry().synced;
            assert!(left == 4 || left == 3, "{left}");
            ledger.refresh(left).unwrap();
            ledger.file.write_all_at(&[1], (1 - harmed) * SLOT_LEN_BYTES + 100).unwrap();
            drop(ledger);
            let ledger = Ledger::open(directory.path()).unwrap().unwrap();
            assert_eq!(ledger.entry().synced, left, "the slot that was harmed first was mended");
            ledger.file.write_all_at(&[0; 2], 0).unwrap();
            ledger.file.write_all_at(&[0; 2], SLOT_LEN_BYTES).unwrap();
            drop(ledger);
            assert!(Ledger::open(directory.path()).unwrap().is_none());
        }
    }

    #[test]
    fn a_file_of_any_length_is_read_without_a_panic() {
        let directory = tempfile::tempdir().unwrap();
        for len in [0, 1, 511, 512, 4096, 300_000, 600_000] {
            std::fs::write(directory.path().join("ledger"), vec![0xff; len]).unwrap();
            assert!(Ledger::open(directory.path()).unwrap().is_none());
        }
    }
}
