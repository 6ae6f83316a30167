//! The ledger: a small file beside the store that says how much of it was ever reported as synced.
//!
//! ```text
//! file = slot 0, slot 1: 4096 bytes each, written in turn; the readable one with the higher sequence counts
//! slot, 512 bytes in one write, the rest zero; integers little endian
//!   0  8  magic "SRLEDGER"
//!   8  2  version 1
//!  10  2  flags: 1 = the store was found damaged
//!  12  4  CRC32C of the 512 bytes with this field zero
//!  16  8  sequence: counts the writes of this file
//!  24 16  the store's id, drawn when it was made; also in the store and in its directory's name
//!  40  8  batches that were synced
//!  48  2  bytes of what was found damaged, at most 256
//!  50  .  what was found, UTF-8
//! ```
//!
//! **Why two slots.** A write that power cuts short harms the slot it went to only; its sync was not reported yet, so the other
//! slot is true. Where the newer slot rots, the older one is one sync behind: the store has all that it asks for, and both are
//! written again at once. Only rot of that slot *and* a loss of exactly the last sync's batches, both between two starts, go
//! unseen.
//!
//! **Why not in the store.** What is cut from the end of the journal takes its own proof with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"SRLEDGER";
const VERSION: u16 = 1;
const CONDEMNED: u16 = 1;
const CRC: std::ops::Range<usize> = 12..16;
const REASON: usize = 50;
/// Bytes of one write: what every drive writes whole or not at all.
const ENTRY_LEN_BYTES: usize = 512;
/// From one slot to the next: a file system's block, so that no write touches both.
const SLOT_LEN_BYTES: u64 = 4096;
const REASON_LEN_BYTES_MAX: usize = 256;
const _: () = assert!(REASON + REASON_LEN_BYTES_MAX <= ENTRY_LEN_BYTES);

/// What a slot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The store.
    pub(super) store: u128,
    /// Batches of it that were synced.
    pub(super) synced: u64,
    /// What was found damaged.
    pub(super) condemned: Option<String>,
}

/// The open ledger.
pub(super) struct Ledger {
    file: File,
    sequence: u64,
    entry: Entry,
}

fn encode(sequence: u64, entry: &Entry) -> [u8; ENTRY_LEN_BYTES] {
    let mut bytes = [0; ENTRY_LEN_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    bytes[24..40].copy_from_slice(&entry.store.to_le_bytes());
    bytes[40..48].copy_from_slice(&entry.synced.to_le_bytes());
    if let Some(reason) = &entry.condemned {
        let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_LEN_BYTES_MAX)];
        bytes[10..12].copy_from_slice(&CONDEMNED.to_le_bytes());
        let len = u16::try_from(reason.len()).expect("bounded above");
        bytes[48..REASON].copy_from_slice(&len.to_le_bytes());
        bytes[REASON..REASON + reason.len()].copy_from_slice(reason);
    }
    let crc = crc32c::crc32c(&bytes);
    bytes[CRC].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn field<const LEN: usize>(bytes: &[u8; ENTRY_LEN_BYTES], at: usize) -> [u8; LEN] {
    std::array::from_fn(|index| bytes[at + index])
}

fn decode(bytes: &[u8; ENTRY_LEN_BYTES]) -> Option<(u64, Entry)> {
    let mut zeroed = *bytes;
    zeroed[CRC].fill(0);
    let whole = crc32c::crc32c(&zeroed).to_le_bytes() == bytes[CRC];
    if !whole || bytes[..8] != *MAGIC || u16::from_le_bytes(field(bytes, 8)) != VERSION {
        return None;
    }
    let condemned = match u16::from_le_bytes(field(bytes, 10)) {
        0 => None,
        _ => {
            let len = usize::from(u16::from_le_bytes(field(bytes, 48))).min(REASON_LEN_BYTES_MAX);
            Some(String::from_utf8_lossy(&bytes[REASON..REASON + len]).into_owned())
        }
    };
    let entry = Entry {
        store: u128::from_le_bytes(field(bytes, 24)),
        synced: u64::from_le_bytes(field(bytes, 40)),
        condemned,
    };
    Some((u64::from_le_bytes(field(bytes, 16)), entry))
}

fn read_slot(file: &File, slot: u64) -> io::Result<Option<(u64, Entry)>> {
    let mut bytes = [0; ENTRY_LEN_BYTES];
    match file.read_exact_at(&mut bytes, slot * SLOT_LEN_BYTES) {
        Ok(()) => Ok(decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
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
    pub(super) fn open(directory: &Path) -> io::Result<Option<Self>> {
        let file = match File::options().read(true).write(true).open(path_in(directory)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
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
        let entry = Entry { store, synced: 0, condemned: None };
        // Written once over its whole length, so that no later write changes anything but data.
        file.write_all_at(&[0; 2 * SLOT_LEN_BYTES as usize], 0)?;
        file.write_all_at(&encode(1, &entry), SLOT_LEN_BYTES)?;
        file.sync_all()?;
        std::fs::rename(&new, path_in(directory))?;
        sync_directory(directory)?;
        Ok(Self { file, sequence: 1, entry })
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Writes both slots anew: at a start one of them may be unreadable.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        let entry = self.entry.clone();
        self.write(entry.clone())?;
        self.write(entry)
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

#[cfg(test)]
mod tests {
    use super::{ENTRY_LEN_BYTES, Entry, Ledger, SLOT_LEN_BYTES, decode, encode};
    use std::os::unix::fs::FileExt;

    fn entry(synced: u64, condemned: Option<&str>) -> Entry {
        Entry { store: 7, synced, condemned: condemned.map(str::to_owned) }
    }

    #[test]
    fn an_entry_comes_back_and_any_flipped_bit_is_noticed() {
        let long = "é".repeat(300);
        for entry in [entry(0, None), entry(u64::MAX, Some("log entry 3 of group-1 is corrupt"))] {
            let bytes = encode(9, &entry);
            assert_eq!(decode(&bytes), Some((9, entry)));
            for bit in 0..ENTRY_LEN_BYTES * 8 {
                let mut flipped = bytes;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&flipped), None, "bit {bit}");
            }
        }
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
            ledger.refresh().unwrap();
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
        for len in [0, 1, 511, 512, 4096, 4607, 9000] {
            std::fs::write(directory.path().join("ledger"), vec![0xff; len]).unwrap();
            assert!(Ledger::open(directory.path()).unwrap().is_none());
        }
    }
}
