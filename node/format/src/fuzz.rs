//! One total function for each parser, for fuzzers and for the corpus that plain `cargo test` replays.
//!
//! Each takes any bytes, zero-extends them to the structure's length where that is fixed (so that corpus files stay small),
//! and checks what must hold of every input: no panic, and whatever is accepted encodes to the very bytes it was read from.
//! Each then mends the checksums and tries again, so that inputs reach the checks that stand behind them. The answer says
//! whether the bytes as given were accepted.

use crate::block::{BLOCK_LEN, Block, Reader};
use crate::cold::table::table_blocks;
use crate::cold::{ChecksumTable, ColdMark};
use crate::error::{FormatError, Structure};
use crate::extent::{self, ExtentState};
use crate::needle::{self, NeedleHeader};
use crate::row;
use crate::seal_mark::{SealMark, read_key};
use crate::superblock::{self, Superblock};
use crate::wire::{EnvelopeHeader, Frame, Hello};
use bytes::Bytes;
use strongroom_types::limits::SLAB_LEN_BYTES_MAX;
use strongroom_types::{DriveId, SlabId};

/// A target: its name, which is also its corpus folder, and its function.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets.
pub const TARGETS: [Target; 12] = [
    ("superblock", superblock),
    ("extent_header", extent_header),
    ("row_header", row_header),
    ("needle", needle),
    ("row_payload", row_payload),
    ("seal_mark", seal_mark),
    ("cold_mark", cold_mark),
    ("checksum_table", checksum_table),
    ("request", request),
    ("response", response),
    ("envelope", envelope),
    ("hello", hello),
];

/// Block structures: as given, then with its checksum mended.
fn block_target(data: &[u8], mend: fn(&mut Block), check: fn(&[u8]) -> bool) -> bool {
    if data.len() > BLOCK_LEN {
        assert!(!check(data), "a block structure is one block");
        return false;
    }
    let mut block = [0; BLOCK_LEN];
    block[..data.len()].copy_from_slice(data);
    let accepted = check(&block);
    mend(&mut block);
    check(&block);
    accepted
}

/// [`Superblock::decode`] and what is chosen among copies of it.
pub fn superblock(data: &[u8]) -> bool {
    block_target(data, superblock::mend, |block| {
        let copy = Superblock::decode(block);
        let chosen = superblock::choose(&[copy.clone(), copy.clone(), copy.clone(), copy.clone()]);
        let Ok(superblock) = copy else {
            assert!(chosen.is_err());
            return false;
        };
        assert_eq!(chosen, Ok(superblock));
        assert_eq!(superblock.encode(), Ok(of_version_2(block, superblock::mend)));
        let layout = superblock.layout().expect("decoding checked it");
        let last = layout.extent_count() - 1;
        let last_end =
            layout.extent_offset_bytes(last).map(|start| start + u64::from(layout.extent_len_bytes()));
        assert!(last_end.is_some_and(|end| end + superblock::RESERVE_LEN_BYTES <= layout.device_len_bytes()));
        assert_eq!(layout.extent_offset_bytes(last + 1), None);
        true
    })
}

/// [`extent::decode`], for the very place that the header names.
pub fn extent_header(data: &[u8]) -> bool {
    block_target(data, extent::mend, |block| {
        let Ok((drive, index)) = identity(block, |reader| Ok((DriveId::new(reader.u128()?), reader.u32()?)))
        else {
            return false;
        };
        let decoded = extent::decode(block, drive, index);
        match decoded {
            Ok(ExtentState::Used(header)) => {
                assert_eq!(header.encode(index), Ok(of_version_2(block, extent::mend)));
                let elsewhere = extent::decode(block, drive, index.wrapping_add(1));
                assert!(matches!(elsewhere, Err(FormatError::Misplaced { .. })));
            }
            Ok(ExtentState::Free) => {
                let free = extent::free_block(drive, index);
                assert!(crate::block::is_zero(block) || of_version_2(block, extent::mend) == free);
            }
            Ok(ExtentState::Retired) => {
                assert_eq!(of_version_2(block, extent::mend), extent::retired_block(drive, index));
            }
            Err(_) => {}
        }
        decoded.is_ok()
    })
}

/// The block as it is written since version 2, which only gained what version 1 has zeros for.
fn of_version_2(block: &[u8], mend: fn(&mut Block)) -> Block {
    let mut block: Block = block.try_into().expect("it was decoded, so it is a block");
    block[8..10].copy_from_slice(&2_u16.to_le_bytes());
    mend(&mut block);
    block
}

fn identity<T>(
    block: &[u8],
    read: impl Fn(&mut Reader<'_>) -> Result<T, FormatError>,
) -> Result<T, FormatError> {
    let mut reader = Reader::new(Structure::ExtentHeader, block);
    reader.take(crate::block::BODY_AT)?;
    read(&mut reader)
}

/// [`row::decode_header`].
pub fn row_header(data: &[u8]) -> bool {
    block_target(data, row::mend, |block| {
        let Ok(header) = row::decode_header(block) else {
            return false;
        };
        assert_eq!(header.encode().as_ref().map(|block| &block[..]), Ok(block));
        assert!(header.end_bytes() <= SLAB_LEN_BYTES_MAX);
        assert_eq!(header.block_crc32c.len() as u32, header.block_count());
        assert!(row::decode_expected(block, header.slab, header.fragment, header.sequence).is_ok());
        let other = SlabId::from_bits(!header.slab.to_bits());
        assert!(row::decode_expected(block, other, header.fragment, header.sequence).is_err());
        assert!(header.verify_payload(block).is_err() || header.block_count() == 1);
        true
    })
}

/// [`NeedleHeader::scan`] and the ranges of its frames.
pub fn needle(data: &[u8]) -> bool {
    let accepted = needle_check(data);
    let mut mended = data.to_vec();
    needle::mend(&mut mended);
    needle_check(&mended);
    accepted
}

fn needle_check(data: &[u8]) -> bool {
    let Ok(header) = NeedleHeader::scan(data) else {
        return false;
    };
    let header_bytes = &data[..header.header_len_bytes as usize];
    assert_eq!(header.encode(), header_bytes);
    assert_eq!(NeedleHeader::decode(data, header.header_crc32c).as_ref(), Ok(&header));
    assert!(NeedleHeader::decode(data, !header.header_crc32c).is_err());
    let plain_len = header.plain_len_bytes;
    assert_eq!(header.frames_for(0..0), None);
    assert_eq!(header.frames_for(0..plain_len + 1), None);
    let Some(span) = header.frames_for(0..plain_len) else {
        assert_eq!(plain_len, 0);
        return true;
    };
    assert_eq!(span.needle_bytes, header.header_len_bytes..header.len_bytes());
    if let Some(stored) = data.get(span.needle_bytes.start as usize..span.needle_bytes.end as usize)
        && let Ok(plain) = header.span_plain(&span, stored)
    {
        let mut again = Vec::new();
        let encoded =
            needle::encode(&header.meta, plain, &mut again).expect("the plaintext is within bounds");
        assert_eq!(again, data[..encoded.len_bytes as usize]);
    }
    true
}

/// [`needle::scan_row`]: accepted where every needle up to the padding is whole.
pub fn row_payload(data: &[u8]) -> bool {
    let mut end = 0;
    for needle in needle::scan_row(data) {
        let Ok((offset_bytes, header)) = needle else {
            return false;
        };
        assert_eq!(offset_bytes, end);
        end = offset_bytes + header.len_bytes();
        assert!(end as usize <= data.len());
    }
    assert!(crate::block::is_zero(&data[end as usize..]));
    end > 0
}

/// [`SealMark::decode`], for the very fragment that the mark names.
pub fn seal_mark(data: &[u8]) -> bool {
    block_target(data, crate::seal_mark::mend, |block| {
        let Ok(key) = identity(block, read_key) else {
            return false;
        };
        let Ok(mark) = SealMark::decode(block, key) else {
            return false;
        };
        assert_eq!(mark.encode().as_ref().map(|block| &block[..]), Ok(block));
        let choice = crate::seal_mark::choose(Ok(block), Ok(&[0; BLOCK_LEN]), key);
        assert_eq!(choice.mark, Some(mark));
        true
    })
}

/// [`ColdMark::decode`], for the very fragment that the mark names.
pub fn cold_mark(data: &[u8]) -> bool {
    block_target(data, crate::cold::mark::mend, |block| {
        let Ok(key) = identity(block, read_key) else {
            return false;
        };
        let Ok(mark) = ColdMark::decode(block, key) else {
            return false;
        };
        assert_eq!(mark.encode().as_ref().map(|block| &block[..]), Ok(block));
        assert!(
            u64::from(mark.slice_len_bytes) * u64::from(mark.profile.data_count())
                >= u64::from(mark.image_len_bytes)
        );
        true
    })
}

/// [`ChecksumTable::decode`]: 13 bytes of fragment key, 4 bytes of slice length, then the table, zero-extended.
pub fn checksum_table(data: &[u8]) -> bool {
    let mut reader = Reader::new(Structure::ChecksumTable, data);
    let (Ok(key), Ok(slice_len_bytes)) = (read_key(&mut reader), reader.u32()) else {
        return false;
    };
    let slice_len_bytes = slice_len_bytes % (SLAB_LEN_BYTES_MAX + 1);
    let mut bytes = data[13 + 4..].to_vec();
    bytes.resize(bytes.len().max(table_blocks(slice_len_bytes) as usize * BLOCK_LEN), 0);
    let check = |bytes: &[u8]| {
        let Ok(table) = ChecksumTable::decode(key, slice_len_bytes, bytes) else {
            return false;
        };
        assert_eq!(table.encode(), bytes);
        assert_eq!(table.slice_len_bytes(), slice_len_bytes.next_multiple_of(BLOCK_LEN as u32));
        true
    };
    let accepted = check(&bytes);
    crate::cold::table::mend(key, &mut bytes);
    check(&bytes);
    accepted
}

/// [`Frame::decode_request`].
pub fn request(data: &[u8]) -> bool {
    let frame = Frame { head: Bytes::copy_from_slice(data), payload: Bytes::new() };
    let Ok(request) = frame.decode_request() else {
        return false;
    };
    // Numbers may be written longer than needed, so only the value has to survive.
    assert_eq!(Frame::request(&request, Bytes::new()).decode_request(), Ok(request));
    true
}

/// [`Frame::decode_response`].
pub fn response(data: &[u8]) -> bool {
    let frame = Frame { head: Bytes::copy_from_slice(data), payload: Bytes::new() };
    let Ok(response) = frame.decode_response() else {
        return false;
    };
    assert_eq!(Frame::response(&response, Bytes::new()).decode_response(), Ok(response));
    true
}

/// [`EnvelopeHeader::decode`].
pub fn envelope(data: &[u8]) -> bool {
    fixed_target(data, |bytes| {
        let Ok(header) = EnvelopeHeader::decode(bytes) else {
            return false;
        };
        assert_eq!(header.encode(), *bytes);
        true
    })
}

/// [`Hello::decode`].
pub fn hello(data: &[u8]) -> bool {
    fixed_target(data, |bytes| {
        let Ok(hello) = Hello::decode(bytes) else {
            return false;
        };
        assert_eq!(hello.encode(), *bytes);
        true
    })
}

/// Structures of a fixed length that end with a CRC32C: as given, then with it mended.
fn fixed_target<const LEN: usize>(data: &[u8], check: fn(&[u8; LEN]) -> bool) -> bool {
    let Ok(mut bytes) = <[u8; LEN]>::try_from(data) else {
        return false;
    };
    let accepted = check(&bytes);
    let crc = crate::checksum::crc32c(&bytes[..LEN - 4]);
    bytes[LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    check(&bytes);
    accepted
}
