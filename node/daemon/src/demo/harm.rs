//! Harm that is done on purpose: drives that are wiped, and blocks that are made to be something else than what was written.
//!
//! What is harmed is what matters: slices of fragments that are there, found on the drive by its own headers, so that a scrub has to find each block. (Where a
//! fragment's table of checksums is harmed all of the fragment is found to be bad, and what else is wrong in it is not counted.) Never more of it than what a slab
//! survives: that is the caller's to see to.

use super::DemoError;
use crate::dev::Cluster;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{Rng as _, SeedableRng};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::cold::ColdMark;
use strongroom_format::extent::{self, ExtentKind, ExtentState, FragmentGeometry, MarkSlot};
use strongroom_format::superblock::{Layout, Superblock};
use strongroom_types::units::BLOCK_LEN_BYTES;

/// A block's length.
const BLOCK: usize = BLOCK_LEN_BYTES as usize;

/// How many blocks were made something else, and what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Harmed {
    /// One bit flipped.
    pub flipped: u64,
    /// The second half is another block's, as where a write was torn.
    pub torn: u64,
    /// All of it is another block's, as where a write went to a wrong place.
    pub misdirected: u64,
}

impl Harmed {
    /// All of them.
    pub fn blocks(&self) -> u64 {
        self.flipped + self.torn + self.misdirected
    }
}

/// Makes `count` blocks of erasure-coded fragments on the drive at `path` something else; all of them where there are no more.
///
/// # Errors
/// The drive cannot be read or written, or is none of ours.
pub fn corrupt(path: &Path, seed: u64, count: usize) -> io::Result<Harmed> {
    let mut rng = StdRng::seed_from_u64(seed);
    let file = File::options().read(true).write(true).open(path)?;
    let blocks = blocks_in_use(&file)?;
    let mut harmed = Harmed::default();
    let (mut block, mut other) = ([0; BLOCK], [0; BLOCK]);
    for place in sample(&mut rng, blocks.len(), count.min(blocks.len())) {
        let offset = blocks[place];
        file.read_exact_at(&mut block, offset)?;
        file.read_exact_at(&mut other, blocks[rng.random_range(0..blocks.len())])?;
        // Where the other is the same it would be no harm.
        match rng.random_range(0..3) {
            0 if block != other => {
                block = other;
                harmed.misdirected += 1;
            }
            1 if block[BLOCK / 2..] != other[BLOCK / 2..] => {
                block[BLOCK / 2..].copy_from_slice(&other[BLOCK / 2..]);
                harmed.torn += 1;
            }
            _ => {
                let bit = rng.random_range(0..8 * BLOCK);
                block[bit / 8] ^= 1 << (bit % 8);
                harmed.flipped += 1;
            }
        }
        file.write_all_at(&block, offset)?;
    }
    file.sync_all()?;
    Ok(harmed)
}

/// Where the slices of finished cold fragments are, block by block.
fn blocks_in_use(file: &File) -> io::Result<Vec<u64>> {
    let (superblock, layout) = layout(file)?;
    let geometry = FragmentGeometry::new(&layout);
    let read = |offset| {
        let mut block = vec![0; BLOCK];
        file.read_exact_at(&mut block, offset).map(|()| block)
    };
    let mut extents: BTreeMap<(FragmentKey, u32), u64> = BTreeMap::new();
    for index in 0..layout.extent_count() {
        let offset = layout.extent_offset_bytes(index).expect("below the count");
        if let Ok(ExtentState::Used(header)) = extent::decode(&read(offset)?, superblock.drive, index)
            && header.kind == ExtentKind::Cold
        {
            extents.insert((header.key(), header.ordinal), offset);
        }
    }
    let mut lens: BTreeMap<FragmentKey, u64> = BTreeMap::new();
    for ((key, _), offset) in extents.iter().filter(|((_, ordinal), _)| *ordinal == 0) {
        let mark = read(offset + u64::from(MarkSlot::First.offset_bytes()))?;
        if let Ok(mark) = ColdMark::decode(&mark, *key) {
            lens.insert(*key, u64::from(mark.slice_len_bytes));
        }
    }
    let mut blocks = Vec::new();
    for ((key, ordinal), offset) in extents {
        let len = lens.get(&key).copied().unwrap_or(0).saturating_sub(geometry.data_capacity_of(ordinal));
        let data = offset + u64::from(geometry.data_offset_bytes(ordinal));
        let end = data + len.min(u64::from(geometry.data_capacity(ordinal)));
        blocks.extend((data..end).step_by(BLOCK));
    }
    Ok(blocks)
}

fn layout(file: &File) -> io::Result<(Superblock, Layout)> {
    let other = |error: String| io::Error::other(error);
    let offsets =
        Layout::superblock_offsets_bytes(file.metadata()?.len()).map_err(|error| other(error.to_string()))?;
    let mut block = [0; BLOCK];
    for offset in offsets {
        file.read_exact_at(&mut block, offset)?;
        if let Ok(superblock) = Superblock::decode(&block)
            && let Ok(layout) = superblock.layout()
        {
            return Ok((superblock, layout));
        }
    }
    Err(other(String::from("no superblock of this drive can be read")))
}

/// Takes a node down as a stop of its instance does, and gives it a blank drive in the place of its own. Its state directory stays.
///
/// # Errors
/// The drive cannot be exchanged, or the node does not start.
pub async fn wipe(cluster: &mut Cluster, node: u64) -> Result<(), DemoError> {
    let processes = &mut cluster.processes;
    processes.kill(node);
    let path = processes.drive_path(node);
    let request = |error: io::Error| DemoError::Request {
        what: format!("wiping {}", path.display()),
        reason: error.to_string(),
    };
    std::fs::remove_file(&path).map_err(request)?;
    let planned = processes.plan().nodes.iter().find(|planned| planned.id == node).cloned();
    processes.format_if_new(&planned.expect("a node of the plan"))?;
    processes.start(node)?;
    processes.wait_ready(node).await?;
    Ok(())
}
