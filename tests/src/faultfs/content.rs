//! The bytes of one file on a device with a volatile cache.
//!
//! Writes change the current bytes at once; for each block that changed since the last flush its former versions are kept, the one on
//! media first. So a read is a plain read, a flush forgets the former versions, and a power cut picks, sector by sector, one of them.
//! Blocks are shared, never changed in place: a snapshot of a drive costs a map, not the drive.

use crate::sim::draws::Draws;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a block.
pub const BLOCK_LEN_BYTES: u64 = 4096;
const BLOCK_LEN: usize = 4096;
/// Former versions of a block that are kept at most: the one on media, and some that never got there.
const VERSIONS_MAX: usize = 4;

/// The unit that a device writes as a whole: what a power cut keeps or drops of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tear {
    /// 512 bytes.
    Sector512,
    /// 4096 bytes.
    Block4096,
}

impl Tear {
    fn len(self) -> usize {
        match self {
            Self::Sector512 => 512,
            Self::Block4096 => BLOCK_LEN,
        }
    }
}

/// A block; `None` is zeros.
type Block = Option<Arc<[u8; BLOCK_LEN]>>;

/// What a power cut did to a file's sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Sectors that kept what was written last.
    pub kept_count: u64,
    /// Sectors that came back as they were before.
    pub dropped_count: u64,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Content {
    len_bytes: u64,
    /// The length that media know.
    durable_len_bytes: u64,
    /// Blocks that are not zeros.
    blocks: BTreeMap<u64, Arc<[u8; BLOCK_LEN]>>,
    /// Former versions of blocks that were written since the last flush, the one on media first.
    former: BTreeMap<u64, Vec<Block>>,
    /// The same of blocks whose flush failed: no later flush covers them, only writing them again does.
    stranded: BTreeMap<u64, Vec<Block>>,
}

impl Content {
    /// Bytes of the file.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Bytes of the file as media know it.
    pub fn durable_len_bytes(&self) -> u64 {
        self.durable_len_bytes
    }

    /// Blocks that a power cut may take back.
    pub fn volatile_count(&self) -> usize {
        self.former.len()
    }

    /// Numbers of blocks that are not zeros.
    pub fn present(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.blocks.keys().copied()
    }

    /// One of the blocks that are not zeros.
    pub fn any_present(&self, draws: &mut Draws) -> Option<u64> {
        let last = *self.blocks.keys().next_back()?;
        // Not evenly among them, and without a walk over all.
        let from = draws.below(last + 1);
        self.blocks.range(from..).next().map(|(number, _)| *number)
    }

    fn block(&self, number: u64) -> Block {
        self.blocks.get(&number).cloned()
    }

    fn put_block(&mut self, number: u64, block: Block) {
        match block.filter(|block| block.iter().any(|byte| *byte != 0)) {
            Some(block) => self.blocks.insert(number, block),
            None => self.blocks.remove(&number),
        };
    }

    /// Keeps what a block holds now as a former version of it.
    fn keep_former(&mut self, number: u64) {
        let block = self.block(number);
        let versions = self.former.entry(number).or_default();
        if versions.len() == VERSIONS_MAX {
            // Never the first: that one is on media.
            versions.remove(1);
        }
        versions.push(block);
    }

    /// The bytes at `offset_bytes`; fewer at the end of the file.
    pub fn read(&self, offset_bytes: u64, len_bytes: u64) -> Vec<u8> {
        let end_bytes = self.len_bytes.min(offset_bytes.saturating_add(len_bytes));
        let mut out = Vec::with_capacity(to_usize(end_bytes.saturating_sub(offset_bytes)));
        let mut at = offset_bytes;
        while at < end_bytes {
            let (number, within) = (at / BLOCK_LEN_BYTES, to_usize(at % BLOCK_LEN_BYTES));
            let take = (BLOCK_LEN - within).min(to_usize(end_bytes - at));
            match self.blocks.get(&number) {
                Some(block) => out.extend_from_slice(&block[within..within + take]),
                None => out.resize(out.len() + take, 0),
            }
            at += take as u64;
        }
        out
    }

    /// Writes, into the cache.
    pub fn write(&mut self, offset_bytes: u64, data: &[u8]) {
        let mut at = offset_bytes;
        let mut left = data;
        while !left.is_empty() {
            let (number, within) = (at / BLOCK_LEN_BYTES, to_usize(at % BLOCK_LEN_BYTES));
            let (now, later) = left.split_at((BLOCK_LEN - within).min(left.len()));
            self.keep_former(number);
            let mut block = self.block(number).map_or([0; BLOCK_LEN], |block| *block);
            block[within..within + now.len()].copy_from_slice(now);
            self.put_block(number, Some(Arc::new(block)));
            at += now.len() as u64;
            left = later;
        }
        self.len_bytes = self.len_bytes.max(at);
    }

    /// Zeros in place of a range, within the length.
    pub fn zero(&mut self, offset_bytes: u64, len_bytes: u64) {
        let end_bytes = self.len_bytes.min(offset_bytes.saturating_add(len_bytes));
        let mut at = offset_bytes;
        while at < end_bytes {
            let take = (BLOCK_LEN_BYTES - at % BLOCK_LEN_BYTES).min(end_bytes - at);
            if self.blocks.contains_key(&(at / BLOCK_LEN_BYTES)) {
                self.write(at, &[0; BLOCK_LEN][..to_usize(take)]);
            }
            at += take;
        }
    }

    /// Changes the length; what is cut off reads as zeros when it comes back.
    pub fn set_len(&mut self, len_bytes: u64) {
        self.zero(len_bytes, u64::MAX);
        self.len_bytes = len_bytes;
    }

    /// Everything written so far is on media.
    pub fn flush(&mut self) {
        for number in self.former.keys() {
            self.stranded.remove(number);
        }
        self.former.clear();
        self.durable_len_bytes = self.len_bytes;
    }

    /// A flush that failed: what it should have covered is covered by no later one either.
    pub fn strand(&mut self) {
        for (number, versions) in std::mem::take(&mut self.former) {
            self.stranded.entry(number).or_insert(versions);
        }
    }

    /// The cache is full: the device writes some of it to media by itself.
    pub fn write_back_half(&mut self, draws: &mut Draws) {
        self.former.retain(|_, _| draws.chance(500_000));
    }

    /// Flips a bit on media and in the cache alike.
    pub fn flip_bit(&mut self, number: u64, bit: usize) {
        let mut block = self.block(number).map_or([0; BLOCK_LEN], |block| *block);
        block[bit / 8 % BLOCK_LEN] ^= 1 << (bit % 8);
        self.put_block(number, Some(Arc::new(block)));
    }

    /// All zeros, with the same length, on media too.
    pub fn blank(&mut self) {
        *self = Self { len_bytes: self.len_bytes, durable_len_bytes: self.len_bytes, ..Self::default() };
    }

    /// Media know this length now; what it cuts off does not come back.
    pub fn len_is_durable(&mut self, len_bytes: u64) {
        self.durable_len_bytes = len_bytes;
        for versions in [&mut self.former, &mut self.stranded] {
            for (_, versions) in versions.range_mut(len_bytes.div_ceil(BLOCK_LEN_BYTES)..) {
                versions[0] = None;
            }
        }
    }

    /// Power fails. `grown` says that each change of the length that was asked for survives, so that writes behind the length that media
    /// know may have arrived: each length up to the current one is possible then, with the bytes below it (data reach media before the
    /// length that covers them). Else the file is as it was on media.
    pub fn cut(&mut self, grown: bool, tear: Tear, draws: &mut Draws) -> Cut {
        let mut cut = Cut::default();
        let base_len_bytes = self.durable_len_bytes;
        let target_len_bytes = match self.len_bytes.checked_sub(base_len_bytes) {
            Some(more_bytes) if grown && more_bytes > 0 => match draws.below(3) {
                0 => base_len_bytes,
                1 => self.len_bytes,
                _ => base_len_bytes + draws.below(more_bytes),
            },
            _ => base_len_bytes,
        };
        // Between nothing and all of it arrived.
        let keep_per_million = u32::try_from(draws.below(5) * 250_000).expect("at most a million");
        let mut versions = std::mem::take(&mut self.stranded);
        for (number, later) in std::mem::take(&mut self.former) {
            versions.entry(number).or_default().extend(later);
        }
        for (number, mut versions) in versions {
            if !grown {
                // What was written behind a cut that did not happen lies elsewhere: the old blocks were not given up.
                self.put_block(number, versions.swap_remove(0));
                cut.dropped_count += (BLOCK_LEN / tear.len()) as u64;
                continue;
            }
            let current = self.block(number).map_or([0; BLOCK_LEN], |block| *block);
            let mut block = current;
            for sector in 0..BLOCK_LEN / tear.len() {
                let range = sector * tear.len()..(sector + 1) * tear.len();
                if draws.chance(keep_per_million) {
                    cut.kept_count += 1;
                    continue;
                }
                cut.dropped_count += 1;
                // Most often the one on media; one in between now and then.
                let place = if draws.chance(750_000) { 0 } else { draws.index(versions.len()) };
                match &versions[place] {
                    Some(version) => block[range.clone()].copy_from_slice(&version[range]),
                    None => block[range].fill(0),
                }
            }
            let begin_bytes = number * BLOCK_LEN_BYTES;
            let covered = to_usize(base_len_bytes.saturating_sub(begin_bytes).min(BLOCK_LEN_BYTES));
            block[covered..].copy_from_slice(&current[covered..]);
            self.put_block(number, Some(Arc::new(block)));
        }
        self.len_bytes = self.len_bytes.max(target_len_bytes);
        self.set_len(target_len_bytes);
        self.former.clear();
        self.durable_len_bytes = self.len_bytes;
        cut
    }

    /// As media have it: what a power cut that keeps nothing would leave.
    pub fn durable(&self) -> Self {
        let mut durable = self.clone();
        let mut versions = std::mem::take(&mut durable.former);
        versions.append(&mut std::mem::take(&mut durable.stranded));
        for (number, mut versions) in versions {
            durable.put_block(number, versions.swap_remove(0));
        }
        durable.len_bytes = durable.len_bytes.max(self.durable_len_bytes);
        durable.set_len(self.durable_len_bytes);
        durable.former.clear();
        durable
    }
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("files of a test fit into memory")
}
