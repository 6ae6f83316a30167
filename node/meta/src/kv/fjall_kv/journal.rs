//! How much of a fjall journal is whole (format 3). Looked at before fjall sees it.
//!
//! fjall itself ends a journal where a batch is cut short, but refuses the whole database where one is there in full length with
//! other bytes, and believes any length that it reads. At the end of the active journal neither is extraordinary: the file is
//! allocated in advance, and power that fails during a flush may leave any of its pages behind. So that end is cut off here, and
//! the ledger then says whether what is gone was ever promised. A journal that is followed by another was flushed before that one
//! was made; where it is not whole, it rotted.
//!
//! A batch's checksum does not cover its sequence number, by which fjall decides which of two values of a key is the newer one. So
//! numbers that do not rise end a journal too: with a bit flipped up, a batch would hide all that came after it.
//!
//! ```text
//! batch = start, entries, end; integers little endian
//! start  1, count u32, sequence number u64
//! item   2, kind u8, compression u8, keyspace u64, key length u16, length u32, stored length u32, key, stored value
//! clear  4, keyspace u64
//! end    3, XXH3 of the entries u64, "FJL" 3
//! ```

use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

const START_LEN_BYTES: usize = 4 + 8;
const ITEM_HEAD_LEN_BYTES: usize = 1 + 1 + 8 + 2 + 4 + 4;
const CLEAR_LEN_BYTES: usize = 8;
const END_LEN_BYTES: usize = 8 + 4;
/// Bytes asked of the file at once: a node reads its journals whole at each start.
const READ_LEN_BYTES: usize = 1 << 20;
const MAGIC: [u8; 4] = [b'F', b'J', b'L', 3];

/// Reads entries and counts their bytes.
struct Reader<R> {
    inner: R,
    at: u64,
}

impl<R: Read> Reader<R> {
    /// The next bytes; `None` at the end of the file.
    fn take<const LEN: usize>(&mut self) -> io::Result<Option<[u8; LEN]>> {
        let mut bytes = [0; LEN];
        match self.inner.read_exact(&mut bytes) {
            Ok(()) => {
                self.at += LEN as u64;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hashes the next `len` bytes; `false` where there are fewer.
    fn hash(&mut self, len: u64, hash: &mut Xxh3) -> io::Result<bool> {
        let mut left = len;
        let mut piece = [0; 4096];
        while left > 0 {
            let want = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = self.inner.read(&mut piece[..want])?;
            if got == 0 {
                return Ok(false);
            }
            hash.update(&piece[..got]);
            self.at += got as u64;
            left -= got as u64;
        }
        Ok(true)
    }

    /// Reads one batch; whether it is whole and follows `before`, which becomes its sequence number.
    fn batch(&mut self, before: &mut Option<u64>) -> io::Result<bool> {
        let Some([1]) = self.take()? else { return Ok(false) };
        let Some(start) = self.take::<START_LEN_BYTES>()? else { return Ok(false) };
        let sequence = u64::from_le_bytes(std::array::from_fn(|index| start[4 + index]));
        if before.replace(sequence) >= Some(sequence) {
            return Ok(false);
        }
        let count = u32::from_le_bytes([start[0], start[1], start[2], start[3]]);
        let mut hash = Xxh3::default();
        for _ in 0..count {
            match self.take()? {
                Some([2]) => {
                    let Some(head) = self.take::<ITEM_HEAD_LEN_BYTES>()? else { return Ok(false) };
                    let key = u16::from_le_bytes([head[10], head[11]]);
                    let stored = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
                    hash.update(&[2]);
                    hash.update(&head);
                    if !self.hash(u64::from(key) + u64::from(stored), &mut hash)? {
                        return Ok(false);
                    }
                }
                Some([4]) => {
                    let Some(keyspace) = self.take::<CLEAR_LEN_BYTES>()? else { return Ok(false) };
                    hash.update(&[4]);
                    hash.update(&keyspace);
                }
                Some(_) | None => return Ok(false),
            }
        }
        let Some([3]) = self.take()? else { return Ok(false) };
        let Some(end) = self.take::<END_LEN_BYTES>()? else { return Ok(false) };
        Ok(end[..8] == hash.digest().to_le_bytes() && end[8..] == MAGIC)
    }
}

/// What was found of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Bytes up to the end of the last batch before which all are whole.
    pub(super) len_bytes: u64,
    /// Whether nothing but zeros follows: space that was never written.
    pub(super) blank_after: bool,
}

/// Reads a journal. `before` is the sequence number of the last batch before it, and becomes that of its last.
pub(super) fn inspect(path: &Path, before: &mut Option<u64>) -> io::Result<Whole> {
    let file = std::fs::File::open(path)?;
    let mut reader = Reader { inner: BufReader::with_capacity(READ_LEN_BYTES, &file), at: 0 };
    let mut len_bytes = 0;
    while reader.batch(before)? {
        len_bytes = reader.at;
    }
    let mut piece = vec![0; READ_LEN_BYTES];
    let mut at = len_bytes;
    loop {
        match file.read_at(&mut piece, at)? {
            0 => return Ok(Whole { len_bytes, blank_after: true }),
            got if piece[..got].iter().any(|byte| *byte != 0) => {
                return Ok(Whole { len_bytes, blank_after: false });
            }
            got => at += got as u64,
        }
    }
}
