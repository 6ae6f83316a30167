//! CRC32C, and the seeds that bind a block to its place.
//!
//! A seeded checksum is the CRC32C of a short identity followed by the block. A block that was written for another place, or
//! for an earlier use of this place, is whole in itself and still fails.

use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{FragmentIndex, Generation, SlabId};

/// Which fragment of which layout: what a block on a drive belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey {
    /// The slab.
    pub slab: SlabId,
    /// The fragment.
    pub fragment: FragmentIndex,
    /// What it was made under.
    pub generation: Generation,
}

/// CRC32C (Castagnoli) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    strongroom_erasure::crc32c::crc32c(bytes)
}

/// CRC32C of the bytes that gave `crc32c`, followed by `bytes`.
pub fn extend(crc32c: u32, bytes: &[u8]) -> u32 {
    strongroom_erasure::crc32c::append(crc32c, bytes)
}

/// What kind of identity a seed holds: the first byte of it, so that no two kinds can be equal.
#[derive(Clone, Copy)]
enum Kind {
    Image = 1,
    Fragment = 2,
    RowHeader = 3,
    RowChain = 4,
    Mark = 5,
    Table = 6,
    TableBlock = 7,
    Extent = 8,
}

fn seed(kind: Kind, parts: &[&[u8]]) -> u32 {
    parts.iter().fold(crc32c(&[kind as u8]), |crc, part| extend(crc, part))
}

fn fragment_seed(kind: Kind, key: FragmentKey, number: u32) -> u32 {
    seed(
        kind,
        &[
            &key.slab.to_bits().to_le_bytes(),
            &[key.fragment.get()],
            &key.generation.get().to_le_bytes(),
            &number.to_le_bytes(),
        ],
    )
}

fn image_seed(slab: SlabId, offset_bytes: u32) -> u32 {
    seed(Kind::Image, &[&slab.to_bits().to_le_bytes(), &offset_bytes.to_le_bytes()])
}

/// Checksum of a block of a slab's image, for rows and copies: bound to the slab and the place in its image.
pub fn image_block(slab: SlabId, offset_bytes: u32, bytes: &[u8]) -> u32 {
    extend(image_seed(slab, offset_bytes), bytes)
}

/// Checksum of a block of a cold fragment: bound to the fragment, its layout and the place in the fragment.
pub fn fragment_block(key: FragmentKey, position_bytes: u32, bytes: &[u8]) -> u32 {
    extend(fragment_seed(Kind::Fragment, key, position_bytes), bytes)
}

/// [`fragment_block`] of a whole block (4096 bytes) whose plain CRC32C is known already, as an encoder that sums while it
/// computes knows it. Costs some 32 XORs instead of another pass over the block.
pub fn fragment_block_from_plain(key: FragmentKey, position_bytes: u32, block_crc32c: u32) -> u32 {
    shift_by_block(fragment_seed(Kind::Fragment, key, position_bytes)) ^ block_crc32c
}

pub(crate) fn row_header_seed(slab: SlabId, fragment: FragmentIndex, sequence: u32) -> u32 {
    seed(Kind::RowHeader, &[&slab.to_bits().to_le_bytes(), &[fragment.get()], &sequence.to_le_bytes()])
}

pub(crate) fn row_chain_seed() -> u32 {
    seed(Kind::RowChain, &[])
}

pub(crate) fn mark_seed(key: FragmentKey) -> u32 {
    fragment_seed(Kind::Mark, key, 0)
}

pub(crate) fn table_seed(key: FragmentKey) -> u32 {
    fragment_seed(Kind::Table, key, 0)
}

pub(crate) fn table_block_seed(key: FragmentKey, index: u32) -> u32 {
    fragment_seed(Kind::TableBlock, key, index)
}

pub(crate) fn extent_seed(drive: u128, index: u32) -> u32 {
    seed(Kind::Extent, &[&drive.to_le_bytes(), &index.to_le_bytes()])
}

/// Castagnoli's polynomial, bits reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// Column i: what bit i of a CRC state becomes once a block of zeros has passed through.
const BLOCK_SHIFT: [u32; 32] = block_shift();

const fn apply(matrix: &[u32; 32], vector: u32) -> u32 {
    let mut sum = 0;
    let mut bit = 0;
    while bit < 32 {
        if vector >> bit & 1 == 1 {
            sum ^= matrix[bit];
        }
        bit += 1;
    }
    sum
}

/// The shift by one bit, squared until it is the shift by a whole block.
const fn block_shift() -> [u32; 32] {
    let mut matrix = [0; 32];
    matrix[0] = POLYNOMIAL;
    let mut bit = 1;
    while bit < 32 {
        matrix[bit] = 1 << (bit - 1);
        bit += 1;
    }
    let mut shifted_bits = 1;
    while shifted_bits < 8 * BLOCK_LEN_BYTES {
        let mut square = [0; 32];
        let mut column = 0;
        while column < 32 {
            square[column] = apply(&matrix, matrix[column]);
            column += 1;
        }
        matrix = square;
        shifted_bits *= 2;
    }
    matrix
}

fn shift_by_block(crc: u32) -> u32 {
    apply(&BLOCK_SHIFT, crc)
}

#[cfg(test)]
mod tests;
