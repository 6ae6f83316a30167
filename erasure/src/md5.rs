//! MD5 (RFC 1321) of several messages side by side, for the tags that S3 wants of objects.
//!
//! One message cannot be made faster: each step waits for the one before. But steps of sixteen messages fit the lanes of one vector, and take about as long as those of one.
//! Whoever has bodies of several objects at hand gives them to [`update_all`] together.
//!
//! MD5 is not a checksum to trust. It is what clients compare.

#[cfg(target_arch = "x86_64")]
mod lanes16;
#[cfg(target_arch = "x86_64")]
mod lanes8;
mod rounds;
#[cfg(test)]
mod tests;

use crate::off::is_off;
#[cfg(target_arch = "x86_64")]
use crate::off::{MD5_LANES8, MD5_LANES16};
use std::sync::OnceLock;

/// Bytes of a block.
const BLOCK_LEN_BYTES: usize = 64;
/// Bytes of a digest.
pub const DIGEST_LEN_BYTES: usize = 16;
/// Messages that are hashed side by side at most.
pub const LANES_MAX: usize = 16;

/// A block of a message.
type Block = [u8; BLOCK_LEN_BYTES];
/// Four words that a message has become so far.
type State = [u32; 4];

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Md5 {
    state: State,
    len_bytes: u64,
    /// What does not fill a block yet: the first `len_bytes % BLOCK_LEN_BYTES`.
    rest: Block,
}

/// More of one message.
#[derive(Debug)]
pub struct Update<'a> {
    /// The message.
    pub message: &'a mut Md5,
    /// What follows.
    pub bytes: &'a [u8],
}

impl Default for Md5 {
    fn default() -> Self {
        Self { state: rounds::BEGIN, len_bytes: 0, rest: [0; BLOCK_LEN_BYTES] }
    }
}

impl Md5 {
    /// More of the message.
    pub fn update(&mut self, bytes: &[u8]) {
        let blocks = self.take(bytes);
        compress(&mut self.state, blocks);
    }

    /// The digest of all that came.
    pub fn finish(mut self) -> [u8; DIGEST_LEN_BYTES] {
        let len_bits = self.len_bytes.wrapping_mul(8);
        let behind = (self.len_bytes % BLOCK_LEN_BYTES as u64) as usize;
        // A one, zeros, and the length in the last eight bytes of a block.
        let mut padding = [0; 2 * BLOCK_LEN_BYTES];
        padding[0] = 0x80;
        let end = if behind < BLOCK_LEN_BYTES - 8 { BLOCK_LEN_BYTES } else { 2 * BLOCK_LEN_BYTES } - behind;
        padding[end - 8..end].copy_from_slice(&len_bits.to_le_bytes());
        self.update(&padding[..end]);
        let mut digest = [0; DIGEST_LEN_BYTES];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_le_bytes();
        }
        digest
    }

    /// Hashes what fills the block that was begun and keeps what begins another; gives the whole blocks between.
    fn take<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [Block] {
        let behind = (self.len_bytes % BLOCK_LEN_BYTES as u64) as usize;
        self.len_bytes = self.len_bytes.wrapping_add(bytes.len() as u64);
        if behind > 0 {
            let (front, back) = bytes.split_at(bytes.len().min(BLOCK_LEN_BYTES - behind));
            self.rest[behind..behind + front.len()].copy_from_slice(front);
            if behind + front.len() < BLOCK_LEN_BYTES {
                return &[];
            }
            let block = self.rest;
            compress(&mut self.state, &[block]);
            bytes = back;
        }
        let (blocks, rest) = bytes.as_chunks();
        self.rest[..rest.len()].copy_from_slice(rest);
        blocks
    }
}

fn compress(state: &mut State, blocks: &[Block]) {
    let constants = rounds::constants();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        let words = std::array::from_fn(|index| u32::from_le_bytes(words[index]));
        *state = rounds::block(*state, &words, constants);
    }
}

/// One way to hash blocks of several messages at once: lane `i` of `states` goes on with `blocks[i]`, all of which are equally many.
trait Side: Sync {
    /// Messages at once, at most [`LANES_MAX`].
    fn lanes(&self) -> usize;
    /// As many states and lists of blocks as there are lanes.
    fn compress(&self, states: &mut [State], blocks: &[&[Block]]);
}

/// How many messages this machine hashes side by side, in less than one and a half times what one takes: 1 where there is nothing to gain from more.
pub fn lanes() -> usize {
    side().map_or(1, |side| side.lanes())
}

/// More of several messages. What [`Md5::update`] does for each of them, faster.
pub fn update_all(updates: &mut [Update<'_>]) {
    match side() {
        Some(side) if updates.len() > 1 => side_by_side(side, updates),
        _ => updates.iter_mut().for_each(|update| update.message.update(update.bytes)),
    }
}

/// The widest way that this machine has and that is not [off](crate::off).
fn side() -> Option<&'static dyn Side> {
    static DETECTED: OnceLock<Option<&'static dyn Side>> = OnceLock::new();
    *DETECTED.get_or_init(|| sides().find(|(name, _)| !is_off(name)).map(|(_, side)| side))
}

/// Ways that this machine has, the widest first, with their names.
#[cfg(target_arch = "x86_64")]
fn sides() -> impl Iterator<Item = (&'static str, &'static dyn Side)> {
    let wide = lanes16::Lanes16::detect().map(|side| (MD5_LANES16, side as &dyn Side));
    let narrow = lanes8::Lanes8::detect().map(|side| (MD5_LANES8, side as &dyn Side));
    wide.into_iter().chain(narrow)
}

/// Ways that this machine has: none are known.
#[cfg(not(target_arch = "x86_64"))]
fn sides() -> impl Iterator<Item = (&'static str, &'static dyn Side)> {
    std::iter::empty()
}

/// Fills lanes with messages, the next one where one has ended, as long as there are several.
fn side_by_side(side: &dyn Side, updates: &mut [Update<'_>]) {
    let lane_count = side.lanes();
    assert!(lane_count <= LANES_MAX);
    let left: Vec<&[Block]> = updates.iter_mut().map(|update| update.message.take(update.bytes)).collect();
    // The longest first, so that no long one is left alone at the end.
    let mut order: Vec<usize> = (0..left.len()).filter(|&index| !left[index].is_empty()).collect();
    order.sort_by_key(|&index| left[index].len());
    let mut lanes: Vec<(usize, &[Block])> = Vec::with_capacity(lane_count);
    loop {
        while lanes.len() < lane_count
            && let Some(index) = order.pop()
        {
            lanes.push((index, left[index]));
        }
        let Some(count) = lanes.iter().map(|(_, blocks)| blocks.len()).min() else { return };
        if let [(index, blocks)] = lanes[..] {
            compress(&mut updates[index].message.state, blocks);
            return;
        }
        let mut states = [rounds::BEGIN; LANES_MAX];
        // A lane without a message goes along with the first one's blocks; nobody looks at it.
        let mut blocks = [&lanes[0].1[..count]; LANES_MAX];
        for (place, (index, of_lane)) in lanes.iter_mut().enumerate() {
            states[place] = updates[*index].message.state;
            blocks[place] = of_lane.split_off(..count).expect("no lane has fewer blocks");
        }
        side.compress(&mut states[..lane_count], &blocks[..lane_count]);
        for ((index, _), state) in lanes.iter().zip(states) {
            updates[*index].message.state = state;
        }
        lanes.retain(|(_, blocks)| !blocks.is_empty());
    }
}
