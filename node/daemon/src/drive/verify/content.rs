//! What each block of a fragment should be, from what is known of it in memory.

use crate::drive::fragment::{Body, Fragment, Rows, SliceState};
use strongroom_format::checksum::{FragmentKey, fragment_block};
use strongroom_format::cold::{self, ChecksumTable, ColdMark, TableBlock};
use strongroom_format::extent::{self, ExtentState, FragmentGeometry, MarkSlot};
use strongroom_format::row::{self, ROW_HEADER_LEN_BYTES, RowHeader};
use strongroom_format::seal_mark::SealMark;
use strongroom_format::wire::message::FragmentAddress;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{DriveId, RowSequence};

/// What a block of an extent is.
pub(super) enum Block {
    /// The extent's header.
    Header,
    /// A mark slot of the fragment.
    Mark(MarkSlot),
    /// Data of the fragment.
    Data { position_bytes: u64 },
}

/// What the block at `offset_bytes` of the fragment's extent `ordinal` is.
pub(super) fn block_at(geometry: &FragmentGeometry, ordinal: u32, offset_bytes: u32) -> Block {
    let data_offset_bytes = geometry.data_offset_bytes(ordinal);
    if offset_bytes == 0 {
        Block::Header
    } else if let Some(into) = offset_bytes.checked_sub(data_offset_bytes) {
        Block::Data { position_bytes: geometry.data_capacity_of(ordinal) + u64::from(into) }
    } else if offset_bytes == MarkSlot::First.offset_bytes() {
        Block::Mark(MarkSlot::First)
    } else {
        Block::Mark(MarkSlot::Second)
    }
}

/// Whether it is the header of this extent of the fragment.
pub(super) fn is_header(
    bytes: &[u8],
    drive: DriveId,
    extent: u32,
    address: &FragmentAddress,
    ordinal: u32,
) -> bool {
    match extent::decode(bytes, drive, extent) {
        Ok(ExtentState::Used(header)) => {
            header.ordinal == ordinal && header.key() == crate::drive::state::key_of(address)
        }
        Ok(ExtentState::Free | ExtentState::Retired) | Err(_) => false,
    }
}

/// What a fragment should hold.
pub(super) enum Content {
    /// Rows that were durable when it was begun.
    Hot(Box<HotContent>),
    /// A slice with its table.
    Cold(ColdContent),
}

pub(super) struct HotContent {
    key: FragmentKey,
    /// End of each row in the image, in blocks.
    ends_blocks: Vec<u32>,
    /// Chain checksum at each row.
    chains: Vec<u32>,
    /// The header of the row that is being looked at, where it is right.
    header: Option<RowHeader>,
}

pub(super) struct ColdContent {
    key: FragmentKey,
    slice_len_bytes: u32,
    table_crc32c: u32,
    /// `None` where the table is not what was written.
    table: Option<ChecksumTable>,
}

impl Content {
    /// `None` where nothing of the fragment is durable, or where it is known to be damaged.
    pub(super) fn of(key: FragmentKey, fragment: &Fragment) -> Option<Self> {
        match &fragment.body {
            Body::Hot(rows) => {
                let durable = rows.durable as usize;
                (durable > 0).then(|| {
                    Self::Hot(Box::new(HotContent {
                        key,
                        ends_blocks: rows.ends_blocks[..durable].to_vec(),
                        chains: rows.chains[..durable].to_vec(),
                        header: None,
                    }))
                })
            }
            Body::Cold(slice) => match slice.state {
                SliceState::Finished { table_crc32c } => Some(Self::Cold(ColdContent {
                    key,
                    slice_len_bytes: slice.len_bytes,
                    table_crc32c,
                    table: None,
                })),
                SliceState::Building(_) | SliceState::Unfinished { .. } | SliceState::Incomplete => None,
            },
        }
    }

    /// Where its data ends.
    pub(super) fn data_end_bytes(&self) -> u64 {
        match self {
            Self::Hot(hot) => {
                let blocks = hot.ends_blocks.last().map_or(0, |end| u64::from(*end));
                (blocks + hot.ends_blocks.len() as u64) * u64::from(BLOCK_LEN_BYTES)
            }
            Self::Cold(slice) => cold::data_len(slice.slice_len_bytes),
        }
    }

    /// Where its checksum table is, and how long.
    pub(super) fn table_range(&self) -> Option<(u64, u64)> {
        match self {
            Self::Hot(_) => None,
            Self::Cold(slice) => {
                let start = u64::from(slice.slice_len_bytes);
                Some((start, cold::data_len(slice.slice_len_bytes) - start))
            }
        }
    }

    /// Takes the table that was read, if it is the right one.
    pub(super) fn set_table(&mut self, bytes: &[u8]) {
        if let Self::Cold(cold) = self {
            let table = ChecksumTable::decode(cold.key, cold.slice_len_bytes, bytes).ok();
            cold.table = table.filter(|table| table.table_crc32c() == cold.table_crc32c);
        }
    }

    /// Whether what was looked at still is there.
    pub(super) fn is_part_of(&self, body: &Body) -> bool {
        match (self, body) {
            (Self::Hot(hot), Body::Hot(rows)) => {
                rows.durable as usize >= hot.chains.len() && rows.chains.starts_with(&hot.chains)
            }
            (Self::Cold(cold), Body::Cold(slice)) => {
                matches!(slice.state, SliceState::Finished { table_crc32c } if table_crc32c == cold.table_crc32c)
                    && slice.len_bytes == cold.slice_len_bytes
            }
            (Self::Hot(_), Body::Cold(_)) | (Self::Cold(_), Body::Hot(_)) => false,
        }
    }

    /// Whether a mark slot of `fragment` is in order: of a cold fragment both hold its mark; of a hot one the slot that was written last holds the mark that
    /// is in force, and the other one may hold anything that a fragment before this one left.
    pub(super) fn is_mark(&self, slot: MarkSlot, bytes: &[u8], fragment: &Fragment) -> bool {
        match (self, &fragment.body) {
            (Self::Cold(cold), Body::Cold(slice)) => ColdMark::decode(bytes, cold.key).is_ok_and(|mark| {
                mark.table_crc32c == cold.table_crc32c && mark.image_len_bytes == slice.image_len_bytes
            }),
            (Self::Hot(hot), Body::Hot(rows)) => {
                let in_force = rows.mark.filter(|_| is_written(rows) && rows.next_mark == Some(slot.other()));
                in_force.is_none_or(|mark| SealMark::decode(bytes, hot.key) == Ok(mark))
            }
            // It was made again meanwhile, which is found out at the end.
            (Self::Hot(_), Body::Cold(_)) | (Self::Cold(_), Body::Hot(_)) => true,
        }
    }

    /// Whether a block of the data is what was written. To be asked in the order of the positions; a row's payload says nothing where its header is bad.
    pub(super) fn is_data(&mut self, position_bytes: u64, bytes: &[u8]) -> bool {
        match self {
            Self::Hot(hot) => hot.is_data(position_bytes, bytes),
            Self::Cold(cold) => cold.is_data(position_bytes, bytes),
        }
    }
}

/// Whether the mark that is in force is on media.
fn is_written(rows: &Rows) -> bool {
    !rows.mark_failed && !rows.mark_under_way
}

impl HotContent {
    fn is_data(&mut self, position_bytes: u64, bytes: &[u8]) -> bool {
        let Ok(block) = u32::try_from(position_bytes / u64::from(BLOCK_LEN_BYTES)) else { return true };
        // Each row has its header before it, so row i ends i + 1 blocks further on than in the image.
        let row = partition_by_end(&self.ends_blocks, block);
        if row == self.ends_blocks.len() {
            return true;
        }
        let start_blocks = row.checked_sub(1).map_or(0, |before| self.ends_blocks[before]);
        let sequence = u32::try_from(row).expect("rows per slab are bounded");
        let into = block - start_blocks - sequence;
        if into == 0 {
            let header =
                row::decode_expected(bytes, self.key.slab, self.key.fragment, RowSequence::new(sequence));
            let start_bytes = start_blocks * BLOCK_LEN_BYTES;
            self.header = header
                .ok()
                .filter(|header| header.chain == self.chains[row] && header.offset_bytes == start_bytes);
            return self.header.is_some();
        }
        match &self.header {
            Some(header) if header.sequence.get() == sequence => {
                header.verify_blocks(into - 1, bytes).is_ok()
            }
            Some(_) | None => true,
        }
    }
}

/// The first row that ends behind this block of the data.
fn partition_by_end(ends_blocks: &[u32], block: u32) -> usize {
    let (mut low, mut high) = (0, ends_blocks.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let end = u64::from(ends_blocks[middle]) + middle as u64 + 1;
        if end <= u64::from(block) { low = middle + 1 } else { high = middle }
    }
    low
}

impl ColdContent {
    fn is_data(&self, position_bytes: u64, bytes: &[u8]) -> bool {
        let Some(into_table) = position_bytes.checked_sub(u64::from(self.slice_len_bytes)) else {
            let Ok(position_bytes) = u32::try_from(position_bytes) else { return true };
            // Without the table nothing can be said of the slice; that the table is bad is found out behind it.
            let Some(table) = &self.table else { return true };
            let expected = table.entries().get((position_bytes / BLOCK_LEN_BYTES) as usize);
            return expected == Some(&fragment_block(self.key, position_bytes, bytes));
        };
        let index = into_table / u64::from(BLOCK_LEN_BYTES);
        let index = u32::try_from(index).expect("a table is short");
        let Ok(block) = TableBlock::decode(self.key, self.slice_len_bytes, index, bytes) else {
            return false;
        };
        let Some(table) = &self.table else { return false };
        let first = (index * strongroom_format::cold::table::ENTRIES_PER_BLOCK) as usize;
        table.entries().get(first..first + block.entries().len()) == Some(block.entries())
    }
}

const _: () = assert!(ROW_HEADER_LEN_BYTES == BLOCK_LEN_BYTES);
