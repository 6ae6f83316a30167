//! Media and a volatile write cache, as bytes and no more: no sessions, no faults by plan.

use crate::limits::{BLOCK_LEN_BYTES, MEMORY_CACHE_LEN_BYTES_MAX, SECTOR_LEN_BYTES};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A block on media, and one past the number of the newest write that put something there: an older one that
/// is still in the cache (because a flush of it failed) must not come out on top of it. The bytes are shared with images.
#[derive(Clone)]
struct Block {
    version: u64,
    bytes: Arc<[u8; BLOCK_LEN_BYTES]>,
}

/// The bytes of a drive as they were at one moment.
pub(super) struct Image {
    len_bytes: u64,
    durable: BTreeMap<u64, Block>,
}

/// A drive's bytes.
pub(super) struct Media {
    len_bytes: u64,
    /// What is on media, by block; a block that is not here is zeros.
    durable: BTreeMap<u64, Block>,
    /// Writes that completed and are not on media, in the order of their completion.
    cache: VecDeque<Write>,
    cache_len_bytes: usize,
    /// Which write in the cache holds the newest bytes of a block.
    newest: BTreeMap<u64, u64>,
    write_next: u64,
    /// What is stored or lost as a whole when power fails.
    sector_len_bytes: usize,
}

struct Write {
    number: u64,
    offset_bytes: u64,
    bytes: Vec<u8>,
    /// A flush that should have covered it has failed.
    forsaken: bool,
    /// It never completed for whoever submitted it.
    in_flight: bool,
}

/// What becomes of a cached write when power fails.
enum Fate {
    Kept,
    Lost,
    /// Each sector for itself.
    Torn,
}

impl Media {
    pub(super) fn new(len_bytes: u64) -> Self {
        assert!(len_bytes > 0, "a drive has at least one block");
        assert!(len_bytes.is_multiple_of(BLOCK_LEN_BYTES as u64), "a drive has whole blocks");
        Self {
            len_bytes,
            durable: BTreeMap::new(),
            cache: VecDeque::new(),
            cache_len_bytes: 0,
            newest: BTreeMap::new(),
            write_next: 0,
            sector_len_bytes: SECTOR_LEN_BYTES,
        }
    }

    pub(super) fn set_sector_len_bytes(&mut self, sector_len_bytes: usize) {
        assert!(
            sector_len_bytes > 0 && BLOCK_LEN_BYTES.is_multiple_of(sector_len_bytes),
            "a block has whole sectors"
        );
        self.sector_len_bytes = sector_len_bytes;
    }

    /// What a read of everything would give now; the blocks are shared until one changes.
    pub(super) fn image(&self) -> Image {
        let mut durable = self.durable.clone();
        for block in self.newest.keys() {
            let bytes = self.block(*block).expect("a block with a newest write has bytes");
            let bytes = Arc::new(bytes.try_into().expect("a block"));
            durable.insert(*block, Block { version: 0, bytes });
        }
        Image { len_bytes: self.len_bytes, durable }
    }

    /// The bytes of the image are on media, and nothing else is.
    pub(super) fn restore(&mut self, image: &Image) {
        assert!(image.len_bytes == self.len_bytes, "an image is restored to a drive of its size");
        self.erase();
        self.durable = image.durable.clone();
        for block in self.durable.values_mut() {
            block.version = 0;
        }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    pub(super) fn unflushed_len_bytes(&self) -> usize {
        self.cache_len_bytes
    }

    /// The number that the next write to complete will get.
    pub(super) fn write_next(&self) -> u64 {
        self.write_next
    }

    pub(super) fn read(&self, offset_bytes: u64, into: &mut [u8]) {
        for (block, piece) in blocks(offset_bytes).zip(into.chunks_exact_mut(BLOCK_LEN_BYTES)) {
            match self.block(block) {
                Some(bytes) => piece.copy_from_slice(bytes),
                None => piece.fill(0),
            }
        }
    }

    /// A write that completes now.
    pub(super) fn write(&mut self, offset_bytes: u64, bytes: &[u8]) {
        self.insert(offset_bytes, bytes, false);
        while self.cache_len_bytes > MEMORY_CACHE_LEN_BYTES_MAX {
            let oldest = self.cache.pop_front().expect("a cache with bytes has a write");
            self.put(oldest);
        }
    }

    /// A write that does not complete, because everything ends now.
    pub(super) fn write_in_flight(&mut self, offset_bytes: u64, bytes: &[u8]) {
        self.insert(offset_bytes, bytes, true);
    }

    fn insert(&mut self, offset_bytes: u64, bytes: &[u8], in_flight: bool) {
        let number = self.write_next;
        self.write_next += 1;
        for (block, _) in blocks(offset_bytes).zip(bytes.chunks_exact(BLOCK_LEN_BYTES)) {
            self.newest.insert(block, number);
        }
        self.cache_len_bytes += bytes.len();
        self.cache.push_back(Write {
            number,
            offset_bytes,
            bytes: bytes.to_vec(),
            forsaken: false,
            in_flight,
        });
    }

    /// Makes the writes below this number durable, but for the forsaken.
    pub(super) fn flush(&mut self, write_next: u64) {
        for write in std::mem::take(&mut self.cache) {
            if write.number < write_next && !write.forsaken {
                self.put(write);
            } else {
                self.cache.push_back(write);
            }
        }
    }

    /// No flush covers the writes below this number any more.
    pub(super) fn forsake(&mut self, write_next: u64) {
        for write in self.cache.iter_mut().filter(|write| write.number < write_next) {
            write.forsaken = true;
        }
    }

    /// Leaves some blocks of the range as they were and empties the others, since nobody may rely on either.
    pub(super) fn discard(&mut self, offset_bytes: u64, len_bytes: u64, seed: u64) {
        let count = len_bytes / BLOCK_LEN_BYTES as u64;
        let first = offset_bytes / BLOCK_LEN_BYTES as u64;
        let present: Vec<u64> = self.durable.range(first..first + count).map(|(block, _)| *block).collect();
        for block in present {
            if mix(seed ^ mix(block)) & 1 == 0 {
                self.durable.remove(&block);
            }
        }
    }

    pub(super) fn rot(&mut self, offset_bytes: u64, mask: u8) {
        assert!(offset_bytes < self.len_bytes, "byte {offset_bytes} is outside the device");
        let block = offset_bytes / BLOCK_LEN_BYTES as u64;
        let at = (offset_bytes % BLOCK_LEN_BYTES as u64) as usize;
        let bytes = &mut self.durable.entry(block).or_default().bytes;
        Arc::make_mut(bytes)[at] ^= mask;
        for write in &mut self.cache {
            let at = offset_bytes.checked_sub(write.offset_bytes).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = at.and_then(|at| write.bytes.get_mut(at)) {
                *byte ^= mask;
            }
        }
    }

    pub(super) fn erase(&mut self) {
        self.durable.clear();
        self.cache.clear();
        self.newest.clear();
        self.cache_len_bytes = 0;
    }

    /// Decides of each write in flight whether it completed unheard.
    pub(super) fn settle_in_flight(&mut self, seed: u64) {
        let mut random = Random(seed);
        for write in std::mem::take(&mut self.cache) {
            if !write.in_flight || random.next() & 1 == 0 {
                self.cache.push_back(Write { in_flight: false, ..write });
            } else {
                self.cache_len_bytes -= write.bytes.len();
            }
        }
        self.newest.clear();
        for write in &self.cache {
            for (block, _) in blocks(write.offset_bytes).zip(write.bytes.chunks_exact(BLOCK_LEN_BYTES)) {
                self.newest.insert(block, write.number);
            }
        }
    }

    /// Decides of each cached write what is left of it. One cut in eight keeps all, one in eight loses all,
    /// so that the extremes are met often.
    pub(super) fn power_cut(&mut self, seed: u64) {
        let mut random = Random(seed);
        let mode = random.next() % 8;
        self.newest.clear();
        self.cache_len_bytes = 0;
        for write in std::mem::take(&mut self.cache) {
            let fate = match (mode, random.next() % 4) {
                (0, _) | (2.., 0) => Fate::Kept,
                (1, _) | (2.., 1) => Fate::Lost,
                (2.., _) => Fate::Torn,
            };
            let sector_len_bytes = self.sector_len_bytes;
            for (index, sector) in write.bytes.chunks_exact(sector_len_bytes).enumerate() {
                let kept = match fate {
                    Fate::Kept => true,
                    Fate::Lost => false,
                    Fate::Torn => random.next() & 1 == 0,
                };
                if kept {
                    let offset_bytes = write.offset_bytes + (index * sector_len_bytes) as u64;
                    let at = (offset_bytes % BLOCK_LEN_BYTES as u64) as usize;
                    let block = self.durable.entry(offset_bytes / BLOCK_LEN_BYTES as u64).or_default();
                    if block.version <= write.number {
                        Arc::make_mut(&mut block.bytes)[at..at + sector_len_bytes].copy_from_slice(sector);
                    }
                }
            }
        }
    }

    /// The newest bytes of a block.
    fn block(&self, block: u64) -> Option<&[u8]> {
        let Some(number) = self.newest.get(&block) else {
            return self.durable.get(&block).map(|found| found.bytes.as_slice());
        };
        let place = self.cache.binary_search_by_key(number, |write| write.number);
        let write = &self.cache[place.expect("the newest write of a block is in the cache")];
        let at = (block * BLOCK_LEN_BYTES as u64 - write.offset_bytes) as usize;
        Some(&write.bytes[at..at + BLOCK_LEN_BYTES])
    }

    /// Moves a write from the cache to media.
    fn put(&mut self, write: Write) {
        self.cache_len_bytes -= write.bytes.len();
        for (block, bytes) in blocks(write.offset_bytes).zip(write.bytes.chunks_exact(BLOCK_LEN_BYTES)) {
            let durable = self.durable.entry(block).or_default();
            if durable.version <= write.number {
                Arc::make_mut(&mut durable.bytes).copy_from_slice(bytes);
                durable.version = write.number + 1;
            }
            if self.newest.get(&block) == Some(&write.number) {
                self.newest.remove(&block);
            }
        }
    }
}

impl Default for Block {
    fn default() -> Self {
        Self { version: 0, bytes: Arc::new([0; BLOCK_LEN_BYTES]) }
    }
}

/// The blocks from this byte on.
fn blocks(offset_bytes: u64) -> impl Iterator<Item = u64> {
    assert!(offset_bytes.is_multiple_of(BLOCK_LEN_BYTES as u64), "operations begin at a block");
    offset_bytes / BLOCK_LEN_BYTES as u64..
}

/// SplitMix64: enough for choices of a test, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}
