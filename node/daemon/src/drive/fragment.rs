//! What a drive knows in memory of one fragment. Rebuilt from the extent headers and row headers at every start.

use super::extent_list::ExtentList;
use strongroom_format::cold::ChecksumTable;
use strongroom_format::extent::{FragmentGeometry, MarkSlot};
use strongroom_format::seal_mark::SealMark;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{Epoch, Profile, RowSequence};

/// One fragment on this drive.
#[derive(Debug)]
pub struct Fragment {
    /// The slab's profile in this layout.
    pub profile: Profile,
    /// Appends below this are refused.
    pub epoch: Epoch,
    /// Its extents, in order.
    pub extents: ExtentList,
    /// A write or flush failed: nothing more is appended, what is durable stays readable.
    pub failed: bool,
    /// What it holds.
    pub body: Body,
}

impl Fragment {
    /// The next row it would take; the first where it takes none.
    pub fn next_sequence(&self) -> RowSequence {
        match &self.body {
            Body::Hot(rows) => rows.next_sequence(),
            Body::Cold(_) => RowSequence::FIRST,
        }
    }

    /// How many of its extents the agreed length needs; `None` where none is agreed on for certain, or where it is not known how far it reaches.
    pub fn extents_agreed(&self, geometry: &FragmentGeometry) -> Option<usize> {
        let Body::Hot(rows) = &self.body else { return None };
        let agreed = rows.mark.filter(|mark| mark.settled && !rows.mark_failed)?;
        let known = !rows.unreadable && (agreed.rows, agreed.rows) == (rows.durable, rows.count());
        known.then(|| geometry.extents_for(rows.data_end_bytes()) as usize)
    }

    /// Its extents behind the agreed length: nothing that is read lies in them.
    pub fn extents_cut(&self, geometry: &FragmentGeometry) -> impl Iterator<Item = u32> {
        let kept = self.extents_agreed(geometry).unwrap_or(usize::MAX);
        self.extents.iter().skip(kept)
    }
}

/// What a fragment holds.
#[derive(Debug)]
pub enum Body {
    /// A copy of the image, row by row.
    Hot(Box<Rows>),
    /// A slice of the image or of its parity.
    Cold(Slice),
}

/// The rows of a hot fragment. Row `i`'s header is `i` blocks further into the fragment than its payload is in the image,
/// because each row before it has one header block.
#[derive(Debug)]
pub struct Rows {
    /// End of each row in the image, in blocks.
    pub ends_blocks: Vec<u32>,
    /// Chain checksum at each row.
    pub chains: Vec<u32>,
    /// Rows that were planned for writing; those below `durable` are on media.
    pub durable: u32,
    /// Rows below this were found at start, not written by this run: their payload was not looked at yet.
    pub found: u32,
    /// The highest committed row count that the writer told.
    pub committed_upto: RowSequence,
    /// The last seal mark written or found.
    pub mark: Option<SealMark>,
    /// Where the next mark goes: never over the newest one.
    pub next_mark: Option<MarkSlot>,
    /// The last mark could not be written: it is in force here in memory, and nothing is promised of it.
    pub mark_failed: bool,
    /// The last mark is on its way to media.
    pub mark_under_way: bool,
    /// Headers could not be read or do not check at start: there are or may be more rows than are known, so nothing is said of this
    /// fragment at a seal, and what is beyond the known rows is not called absent.
    pub unreadable: bool,
    /// The first extent's header is on media: without it nothing else of the fragment is found again.
    pub header_durable: bool,
    /// No appends: found at start, so its last run ended without a word about what was in flight.
    pub closed: bool,
    /// A block could not be read, or did not match its checksum, in this run.
    pub bad: bool,
}

/// A cold fragment.
#[derive(Debug)]
pub struct Slice {
    /// Bytes of the slice.
    pub len_bytes: u32,
    /// Bytes of the image that the layout holds.
    pub image_len_bytes: u32,
    /// Where it is in its making.
    pub state: SliceState,
    /// A block could not be read, or did not match its checksum, in this run.
    pub bad: bool,
}

impl Slice {
    /// Of which nothing is there yet.
    pub fn new(len_bytes: u32, state: SliceState) -> Self {
        Self { len_bytes, image_len_bytes: 0, state, bad: false }
    }

    /// Whether it was finished, and nothing bad was found of it since.
    pub fn is_whole(&self) -> bool {
        matches!(self.state, SliceState::Finished { .. }) && !self.bad
    }

    /// Whether it is known not to be whole though it was finished once, for all that can be told.
    pub fn is_damaged(&self) -> bool {
        self.bad
            || match self.state {
                SliceState::Incomplete | SliceState::Unfinished { damaged: true } => true,
                SliceState::Building(_)
                | SliceState::Finished { .. }
                | SliceState::Unfinished { damaged: false } => false,
            }
    }
}

/// Where a cold fragment is in its making.
#[derive(Debug)]
pub enum SliceState {
    /// Pieces arrive; the checksums of the blocks so far.
    Building(Box<ChecksumTable>),
    /// Written whole, durable, with its checksum table.
    Finished {
        /// CRC32C of the table.
        table_crc32c: u32,
    },
    /// Found at start without a valid mark: its making was cut short, or its marks are damaged. Not readable; kept until it is begun
    /// again or the slab table says what it is.
    Unfinished {
        /// Something is in a mark slot: a cut finish, or a mark that rotted.
        damaged: bool,
    },
    /// Found at start with a mark, but not all extents that it needs are known. Not readable, and not begun again: the other
    /// extents may come back.
    Incomplete,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            ends_blocks: Vec::new(),
            chains: Vec::new(),
            durable: 0,
            found: 0,
            committed_upto: RowSequence::FIRST,
            mark: None,
            next_mark: None,
            mark_failed: false,
            mark_under_way: false,
            unreadable: false,
            header_durable: false,
            closed: false,
            bad: false,
        }
    }
}

impl Rows {
    /// Forgets the rows from `rows` on.
    pub fn truncate(&mut self, rows: u32) {
        assert!(rows <= self.durable, "only what is durable can be agreed on");
        self.ends_blocks.truncate(rows as usize);
        self.chains.truncate(rows as usize);
        self.durable = rows;
        self.found = self.found.min(rows);
    }

    /// Rows planned or written.
    pub fn count(&self) -> u32 {
        u32::try_from(self.ends_blocks.len()).expect("rows per slab are bounded")
    }

    /// The next row this fragment would take.
    pub fn next_sequence(&self) -> RowSequence {
        RowSequence::new(self.count())
    }

    /// End of the image as planned.
    pub fn end_bytes(&self) -> u32 {
        self.ends_blocks.last().copied().unwrap_or(0) * BLOCK_LEN_BYTES
    }

    /// End of the image as durable.
    pub fn durable_end_bytes(&self) -> u32 {
        match self.durable.checked_sub(1) {
            Some(last) => self.ends_blocks[last as usize] * BLOCK_LEN_BYTES,
            None => 0,
        }
    }

    /// Chain checksum at the last row planned.
    pub fn last_chain(&self) -> u32 {
        self.chain_at(self.count())
    }

    /// Chain checksum at the end of the first `rows` rows.
    pub fn chain_at(&self, rows: u32) -> u32 {
        rows.checked_sub(1).map_or(0, |last| self.chains[last as usize])
    }

    /// First block of row `row` in the image.
    pub fn start_blocks(&self, row: u32) -> u32 {
        match row.checked_sub(1) {
            Some(before) => self.ends_blocks[before as usize],
            None => 0,
        }
    }

    /// The durable row that holds this image byte.
    pub fn row_at(&self, offset_bytes: u32) -> Option<u32> {
        let block = offset_bytes / BLOCK_LEN_BYTES;
        let row = self.ends_blocks.partition_point(|end| *end <= block);
        let row = u32::try_from(row).expect("rows per slab are bounded");
        (row < self.durable).then_some(row)
    }

    /// Where row `row`'s header is in the fragment's data.
    pub fn header_position_bytes(&self, row: u32) -> u64 {
        (u64::from(self.start_blocks(row)) + u64::from(row)) * u64::from(BLOCK_LEN_BYTES)
    }

    /// End of the fragment's data as planned: payloads and headers.
    pub fn data_end_bytes(&self) -> u64 {
        u64::from(self.end_bytes()) + u64::from(self.count()) * u64::from(BLOCK_LEN_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::Fragment;
    use strongroom_format::checksum::FragmentKey;

    /// A drive of a terabyte has a hundred thousand cold fragments, each in a tree that is about full: 128 bytes each is what there is for one.
    #[test]
    fn a_fragment_is_small() {
        assert!(size_of::<(FragmentKey, Fragment)>() <= 80, "{}", size_of::<(FragmentKey, Fragment)>());
    }
}
