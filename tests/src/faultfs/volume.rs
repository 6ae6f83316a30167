//! A volume: a tree of files on a device of its own, with weather.

use super::content::{BLOCK_LEN_BYTES, Content};
use super::tree::{Entries, Errno, Tree};
use super::weather::{Counts, Nature, Weather};
use crate::sim::draws::Draws;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::time::Duration;

/// Blocks in a volatile cache at most (64 MiB); then the device writes half of a file's by itself.
const VOLATILE_BLOCKS_MAX: usize = 16 << 10;

/// How an operation ended, and how long its answer takes.
#[derive(Debug)]
pub struct Answer<T> {
    /// The end.
    pub result: Result<T, Errno>,
    /// How long to hold the answer back.
    pub held: Held,
}

/// How long an answer is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Not at all.
    No,
    /// So long.
    For(Duration),
    /// Until the weather changes.
    UntilWeatherChanges,
}

/// What a file or folder looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its number.
    pub number: u64,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its length.
    pub len_bytes: u64,
}

/// A handle of an open file: void once power was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(pub u64);

/// See the module. Each operation is whole before the next begins; whoever shares a volume locks it.
pub struct Volume {
    nature: Nature,
    tree: Tree,
    weather: Weather,
    /// Grows with each weather and power cut.
    weather_serial: u64,
    /// Grows with each power cut.
    power_serial: u64,
    is_powered: bool,
    /// Blocks of files that cannot be read before they are written again.
    unreadable: BTreeMap<u64, BTreeSet<u64>>,
    snapshots: BTreeMap<String, Tree>,
    counts: Counts,
    draws: Draws,
}

impl Volume {
    /// An empty volume. What goes wrong follows from the draws and from the order of operations.
    pub fn new(nature: Nature, draws: Draws) -> Self {
        Self {
            nature,
            tree: Tree::default(),
            weather: Weather::default(),
            weather_serial: 0,
            power_serial: 0,
            is_powered: true,
            unreadable: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            counts: Counts::default(),
            draws,
        }
    }

    /// The account.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How it is.
    pub fn nature(&self) -> Nature {
        self.nature
    }

    /// Bytes that are not zeros.
    pub fn used_bytes(&mut self) -> u64 {
        self.tree.files_mut().map(|(_, content)| content.present().len() as u64 * BLOCK_LEN_BYTES).sum()
    }

    /// Grows whenever held answers are to be let go.
    pub fn weather_serial(&self) -> u64 {
        self.weather_serial
    }

    /// What goes wrong now.
    pub fn weather(&self) -> &Weather {
        &self.weather
    }

    /// From now on other things go wrong.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
        self.weather_serial += 1;
    }

    /// Power fails: what was not flushed is lost in part, everything fails until [`Self::power_on`], and what is open stays void.
    pub fn power_cut(&mut self) {
        self.is_powered = false;
        self.weather_serial += 1;
        self.power_serial += 1;
        self.counts.power_cuts += 1;
        let cut = self.tree.cut(self.nature.tear, &mut self.draws);
        self.counts.sectors_kept += cut.sectors.kept_count;
        self.counts.sectors_dropped += cut.sectors.dropped_count;
        self.counts.changes_dropped += cut.changes_dropped_count;
    }

    /// Power is back.
    pub fn power_on(&mut self) {
        self.is_powered = true;
    }

    /// Remembers what is on media now.
    pub fn snapshot(&mut self, name: &str) {
        let durable = self.tree.durable();
        self.snapshots.insert(name.to_owned(), durable);
    }

    /// Media come back as they were at a snapshot; false where there is none. To be done while power is off.
    pub fn roll_back(&mut self, name: &str) -> bool {
        let Some(snapshot) = self.snapshots.get(name).cloned() else { return false };
        self.tree.replace(snapshot);
        self.counts.rollbacks += 1;
        true
    }

    /// Media come back blank: the files of a drive as zeros of the same length. To be done while power is off.
    pub fn blank(&mut self) {
        self.tree.files_mut().for_each(|(_, content)| content.blank());
        self.counts.blanks += 1;
    }

    /// Media come back without any file. To be done while power is off.
    pub fn erase(&mut self) {
        self.tree.replace(Tree::default());
        self.unreadable.clear();
        self.counts.blanks += 1;
    }

    /// Flips bits of blocks that hold something; as many as asked for, or as there are blocks.
    pub fn rot(&mut self, bits_count: u64) {
        for (number, block) in self.pick_blocks(bits_count) {
            let bit = self.draws.index(usize::try_from(BLOCK_LEN_BYTES * 8).expect("a small number"));
            if let Ok(content) = self.tree.file_mut(number) {
                content.flip_bit(block, bit);
                self.counts.rotten_bits += 1;
            }
        }
    }

    /// Makes blocks that hold something unreadable until they are written again.
    pub fn make_unreadable(&mut self, blocks_count: u64) {
        for (number, block) in self.pick_blocks(blocks_count) {
            self.unreadable.entry(number).or_default().insert(block);
            self.counts.unreadable_blocks += 1;
        }
    }

    /// Blocks become readable again.
    pub fn make_readable(&mut self) {
        self.unreadable.clear();
    }

    fn pick_blocks(&mut self, count: u64) -> Vec<(u64, u64)> {
        let draws = &mut self.draws;
        let files: Vec<(u64, &mut Content)> = self.tree.files_mut().collect();
        let mut picked = Vec::new();
        if files.is_empty() {
            return picked;
        }
        for _ in 0..count {
            let (number, content) = &files[draws.index(files.len())];
            picked.extend(content.any_present(draws).map(|block| (*number, block)));
        }
        picked
    }

    fn held(&mut self) -> Held {
        if self.weather.hangs && self.is_powered {
            self.counts.slow_operations += 1;
            return Held::UntilWeatherChanges;
        }
        if !self.draws.chance(self.weather.slow_per_million) {
            return Held::No;
        }
        self.counts.slow_operations += 1;
        Held::For(Duration::from_millis(self.draws.below(u64::from(self.weather.slow_ms_max) + 1)))
    }

    fn answer<T>(&mut self, operation: impl FnOnce(&mut Self) -> Result<T, Errno>) -> Answer<T> {
        let held = self.held();
        let result = match self.is_powered && !self.weather.dead {
            true => operation(self),
            false => Err(libc::EIO),
        };
        Answer { result, held }
    }

    fn check(&mut self, handle: Handle) -> Result<(), Errno> {
        if handle.0 == self.power_serial {
            return Ok(());
        }
        self.counts.stale_operations += 1;
        Err(libc::EIO)
    }

    /// What it looks like.
    pub fn look(&self, number: u64) -> Result<Look, Errno> {
        let is_folder = self.tree.is_folder(number).ok_or(libc::ENOENT)?;
        let len_bytes = self.tree.file(number).map_or(0, Content::len_bytes);
        Ok(Look { number, is_folder, len_bytes })
    }

    /// What is behind a name.
    pub fn find(&mut self, folder: u64, name: &OsStr) -> Answer<Look> {
        self.answer(|volume| volume.look(volume.tree.find(folder, name)?))
    }

    /// What is in a folder.
    pub fn entries(&mut self, folder: u64) -> Answer<Entries> {
        self.answer(|volume| volume.tree.entries(folder).cloned())
    }

    /// A new file or folder.
    pub fn add(&mut self, folder: u64, name: &OsStr, is_folder: bool) -> Answer<Look> {
        self.answer(|volume| {
            volume.refuse_if_full()?;
            volume.counts.changes += 1;
            let number = volume.tree.add(folder, name, is_folder)?;
            volume.look(number)
        })
    }

    /// Removes a name.
    pub fn remove(&mut self, folder: u64, name: &OsStr, is_folder: bool) -> Answer<()> {
        self.answer(|volume| {
            volume.counts.changes += 1;
            volume.tree.remove(folder, name, is_folder)
        })
    }

    /// Gives another name.
    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), replace: bool) -> Answer<()> {
        self.answer(|volume| {
            volume.counts.changes += 1;
            volume.tree.rename(from.0, from.1, to.0, to.1, replace)
        })
    }

    /// Opens a file or folder.
    pub fn open(&mut self, number: u64) -> Answer<Handle> {
        self.answer(|volume| {
            volume.look(number)?;
            volume.tree.opened(number);
            Ok(Handle(volume.power_serial))
        })
    }

    /// Closes what was opened.
    pub fn close(&mut self, number: u64, handle: Handle) {
        if handle.0 == self.power_serial {
            self.tree.closed(number);
        }
    }

    /// Changes a file's length.
    pub fn set_len(&mut self, number: u64, len_bytes: u64) -> Answer<Look> {
        self.answer(|volume| {
            if len_bytes > volume.nature.len_bytes_max {
                return Err(libc::ENOSPC);
            }
            volume.counts.changes += 1;
            volume.tree.set_len(number, len_bytes)?;
            volume.look(number)
        })
    }

    /// Reserves space, and grows the file to hold it.
    pub fn reserve(&mut self, number: u64, handle: Handle, end_bytes: u64) -> Answer<()> {
        self.answer(|volume| {
            volume.check(handle)?;
            volume.refuse_if_full()?;
            if end_bytes > volume.nature.len_bytes_max {
                return Err(libc::ENOSPC);
            }
            match volume.tree.file(number)?.len_bytes() < end_bytes {
                true => volume.tree.set_len(number, end_bytes),
                false => Ok(()),
            }
        })
    }

    /// Zeros in place of a range.
    pub fn zero(&mut self, number: u64, handle: Handle, offset_bytes: u64, len_bytes: u64) -> Answer<()> {
        self.answer(|volume| {
            volume.check(handle)?;
            volume.tree.file_mut(number)?.zero(offset_bytes, len_bytes);
            Ok(())
        })
    }

    fn refuse_if_full(&mut self) -> Result<(), Errno> {
        if !self.weather.full {
            return Ok(());
        }
        self.counts.full_writes += 1;
        Err(libc::ENOSPC)
    }

    /// Reads.
    pub fn read(
        &mut self,
        number: u64,
        handle: Handle,
        offset_bytes: u64,
        len_bytes: u64,
    ) -> Answer<Vec<u8>> {
        self.answer(|volume| {
            volume.check(handle)?;
            volume.counts.reads += 1;
            if volume.draws.chance(volume.weather.read_error_per_million) {
                volume.counts.read_errors += 1;
                return Err(libc::EIO);
            }
            let blocks = blocks_of(offset_bytes, len_bytes);
            let is_unreadable =
                volume.unreadable.get(&number).is_some_and(|bad| bad.range(blocks).next().is_some());
            if is_unreadable {
                volume.counts.unreadable_reads += 1;
                return Err(libc::EIO);
            }
            let mut bytes = volume.tree.file(number)?.read(offset_bytes, len_bytes);
            volume.counts.read_bytes += bytes.len() as u64;
            if !bytes.is_empty() && volume.draws.chance(volume.weather.read_flip_per_million) {
                let bit = volume.draws.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                volume.counts.read_flips += 1;
            }
            Ok(bytes)
        })
    }

    /// Writes, all of it or nothing.
    pub fn write(&mut self, number: u64, handle: Handle, offset_bytes: u64, data: &[u8]) -> Answer<()> {
        self.answer(|volume| {
            volume.check(handle)?;
            volume.refuse_if_full()?;
            volume.counts.writes += 1;
            let len_bytes = data.len() as u64;
            if offset_bytes.saturating_add(len_bytes) > volume.nature.len_bytes_max {
                volume.counts.full_writes += 1;
                return Err(libc::ENOSPC);
            }
            let failed = volume.draws.chance(volume.weather.write_error_per_million);
            if failed && volume.draws.chance(500_000) {
                volume.counts.write_errors += 1;
                return Err(libc::EIO);
            }
            if volume.draws.chance(volume.weather.lost_write_per_million) {
                volume.counts.lost_writes += 1;
            } else {
                let at_bytes = volume.place(number, offset_bytes, len_bytes)?;
                volume.put(number, at_bytes, data)?;
            }
            if failed {
                volume.counts.write_errors += 1;
                return Err(libc::EIO);
            }
            volume.counts.written_bytes += len_bytes;
            Ok(())
        })
    }

    /// Where a write goes: where it should, unless it is misdirected.
    fn place(&mut self, number: u64, offset_bytes: u64, len_bytes: u64) -> Result<u64, Errno> {
        let file_len_bytes = self.tree.file(number)?.len_bytes();
        let Some(last_bytes) = file_len_bytes.checked_sub(len_bytes) else { return Ok(offset_bytes) };
        if !self.draws.chance(self.weather.misdirected_write_per_million) {
            return Ok(offset_bytes);
        }
        self.counts.misdirected_writes += 1;
        Ok(self.draws.below(last_bytes / BLOCK_LEN_BYTES + 1) * BLOCK_LEN_BYTES)
    }

    fn put(&mut self, number: u64, offset_bytes: u64, data: &[u8]) -> Result<(), Errno> {
        if let Some(bad) = self.unreadable.get_mut(&number) {
            for block in blocks_of(offset_bytes, data.len() as u64) {
                bad.remove(&block);
            }
        }
        let content = self.tree.file_mut(number)?;
        content.write(offset_bytes, data);
        if content.volatile_count() > VOLATILE_BLOCKS_MAX {
            content.write_back_half(&mut self.draws);
        }
        Ok(())
    }

    /// Flushes a file.
    pub fn flush(&mut self, number: u64, handle: Handle, data_only: bool) -> Answer<()> {
        self.answer(|volume| {
            volume.check(handle)?;
            volume.counts.flushes += 1;
            if volume.draws.chance(volume.weather.flush_error_per_million) {
                volume.counts.flush_errors += 1;
                volume.tree.file_mut(number)?.strand();
                return Err(libc::EIO);
            }
            if volume.weather.flush_lies {
                volume.counts.flush_lies += 1;
                return Ok(());
            }
            volume.tree.flush(number, data_only)
        })
    }

    /// Flushes a folder.
    pub fn flush_folder(&mut self, handle: Handle) -> Answer<()> {
        self.answer(|volume| {
            volume.check(handle)?;
            volume.counts.flushes += 1;
            if volume.draws.chance(volume.weather.flush_error_per_million) {
                volume.counts.flush_errors += 1;
                return Err(libc::EIO);
            }
            match volume.weather.flush_lies {
                true => volume.counts.flush_lies += 1,
                false => volume.tree.commit(),
            }
            Ok(())
        })
    }
}

fn blocks_of(offset_bytes: u64, len_bytes: u64) -> std::ops::Range<u64> {
    offset_bytes / BLOCK_LEN_BYTES..offset_bytes.saturating_add(len_bytes).div_ceil(BLOCK_LEN_BYTES)
}
