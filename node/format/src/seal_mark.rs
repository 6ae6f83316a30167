//! The mark that a holder writes durably before it answers a seal: from then on it takes no append below the mark's epoch.

use crate::block::{BLOCK_LEN, Block, Kind};
use crate::checksum::{FragmentKey, mark_seed};
use crate::error::{FormatError, Structure};
use crate::extent::MarkSlot;
use strongroom_types::limits::ROWS_PER_SLAB_MAX;
use strongroom_types::{Epoch, FragmentIndex, Generation, SlabId};

const KIND: Kind = Kind { structure: Structure::SealMark, magic: *b"SR-SEALM", version: 1 };

/// What a holder promised about a hot fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealMark {
    /// The slab.
    pub slab: SlabId,
    /// The fragment.
    pub fragment: FragmentIndex,
    /// The layout it belongs to.
    pub generation: Generation,
    /// Appends below this epoch are refused.
    pub epoch: Epoch,
    /// Rows: present here when it was fenced, or, once settled, in the image.
    pub rows: u32,
    /// `chain` of the last of these rows; 0 without rows.
    pub root_crc32c: u32,
    /// Whether the length is the agreed one.
    pub settled: bool,
}

impl SealMark {
    /// The fragment that the mark is about.
    pub fn key(&self) -> FragmentKey {
        FragmentKey { slab: self.slab, fragment: self.fragment, generation: self.generation }
    }

    /// The block of this mark, for either slot.
    ///
    /// # Errors
    /// `Field` where rows and root do not fit each other or the limits.
    pub fn encode(&self) -> Result<Block, FormatError> {
        self.check()?;
        let mut block = [0; BLOCK_LEN];
        let mut writer = KIND.begin(&mut block);
        write_key(&mut writer, self.key());
        writer.u8(u8::from(self.settled));
        writer.skip(2);
        writer.u32(self.epoch.get());
        writer.u32(self.rows);
        writer.u32(self.root_crc32c);
        KIND.finish(&mut block, mark_seed(self.key()));
        Ok(block)
    }

    /// The mark of fragment `key` in `block`.
    ///
    /// # Errors
    /// `Zero`, `NotThis` and `Misplaced` where there is none of this fragment, else what is wrong with it.
    pub fn decode(block: &[u8], key: FragmentKey) -> Result<Self, FormatError> {
        let found = read_key(&mut KIND.peek(block)?)?;
        let mut reader = KIND.open(block, mark_seed(found))?;
        check_key(KIND.structure, found, key)?;
        read_key(&mut reader)?;
        let settled = match reader.u8()? {
            0 => false,
            1 => true,
            other => return Err(reader.field("settled", u64::from(other), "0 or 1")),
        };
        reader.zero(2)?;
        let mark = Self {
            slab: key.slab,
            fragment: key.fragment,
            generation: key.generation,
            settled,
            epoch: Epoch::new(reader.u32()?),
            rows: reader.u32()?,
            root_crc32c: reader.u32()?,
        };
        reader.zero_rest()?;
        mark.check()?;
        Ok(mark)
    }

    fn check(&self) -> Result<(), FormatError> {
        let field = |field, found: u32, expected| {
            Err(FormatError::Field { structure: KIND.structure, field, found: u64::from(found), expected })
        };
        if self.rows > ROWS_PER_SLAB_MAX {
            return field("rows", self.rows, "at most 65536");
        }
        if self.rows == 0 && self.root_crc32c != 0 {
            return field("root_crc32c", self.root_crc32c, "0 without rows");
        }
        Ok(())
    }
}

pub(crate) fn write_key(writer: &mut crate::block::Writer<'_>, key: FragmentKey) {
    writer.u64(key.slab.to_bits());
    writer.u32(key.generation.get());
    writer.u8(key.fragment.get());
}

pub(crate) fn read_key(reader: &mut crate::block::Reader<'_>) -> Result<FragmentKey, FormatError> {
    Ok(FragmentKey {
        slab: SlabId::from_bits(reader.u64()?),
        generation: Generation::new(reader.u32()?),
        fragment: FragmentIndex::new(reader.u8()?),
    })
}

pub(crate) fn check_key(
    structure: Structure,
    found: FragmentKey,
    key: FragmentKey,
) -> Result<(), FormatError> {
    let misplaced = |field| Err(FormatError::Misplaced { structure, field });
    if found.slab != key.slab {
        return misplaced("slab");
    }
    if found.fragment != key.fragment {
        return misplaced("fragment");
    }
    if found.generation != key.generation {
        return misplaced("generation");
    }
    Ok(())
}

/// What the two mark slots say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotChoice<M> {
    /// The newest whole mark of this fragment.
    pub mark: Option<M>,
    /// Where the next mark goes: never over the newest one.
    pub next: MarkSlot,
    /// What is wrong with a slot that is neither whole nor positively without a mark of this fragment. A cut rewrite
    /// looks like this, and then `mark` holds, since the new one was never answered; so does a mark that rotted after it
    /// was answered. So whoever would let an older mark weaken a promise asks the other holders first.
    pub damaged: Option<FormatError>,
}

/// Picks by rank among two decoded slots.
pub(crate) fn choose_by<M: Copy, R: Ord>(
    first: Result<M, FormatError>,
    second: Result<M, FormatError>,
    rank: impl Fn(&M) -> R,
) -> SlotChoice<M> {
    let damaged = [&first, &second]
        .into_iter()
        .filter_map(|slot| slot.as_ref().err())
        .find(|error| !error.is_absence())
        .cloned();
    let (mark, next) = match (first, second) {
        (Ok(first), Ok(second)) if rank(&second) > rank(&first) => (Some(second), MarkSlot::First),
        (Ok(first), _) => (Some(first), MarkSlot::Second),
        (Err(_), Ok(second)) => (Some(second), MarkSlot::First),
        // The slot that is damaged may hold a mark that was answered: it is the last to be written over.
        (Err(first), Err(_)) if !first.is_absence() => (None, MarkSlot::Second),
        (Err(_), Err(_)) => (None, MarkSlot::First),
    };
    SlotChoice { mark, next, damaged }
}

/// What the two slots of fragment `key` say: the whole mark with the higher (epoch, settled). A slot that the device did
/// not give is passed as its error (`FormatError::Unreadable`).
pub fn choose(
    first: Result<&[u8], FormatError>,
    second: Result<&[u8], FormatError>,
    key: FragmentKey,
) -> SlotChoice<SealMark> {
    let decode = |slot: Result<&[u8], FormatError>| slot.and_then(|block| SealMark::decode(block, key));
    choose_by(decode(first), decode(second), |mark| (mark.epoch, mark.settled))
}

const _: () = assert!(ROWS_PER_SLAB_MAX == 65536);

/// For fuzzing: makes the checksum of `block` right, whatever is in it.
pub(crate) fn mend(block: &mut Block) {
    if let Ok(key) = KIND.peek(block).and_then(|mut reader| read_key(&mut reader)) {
        KIND.finish(block, mark_seed(key));
    }
}

#[cfg(test)]
mod tests;
