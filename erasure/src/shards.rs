//! A checked list of distinct shard indices, on the stack.

use crate::CodecError;
use crate::limits::SHARD_COUNT_MAX;
use std::ops::Range;

/// 0, 1, 2 …: selects the first rows or columns of a matrix as they stand.
pub(crate) const IN_ORDER: [u8; SHARD_COUNT_MAX] = {
    let mut places = [0; SHARD_COUNT_MAX];
    let mut place = 0;
    while place < SHARD_COUNT_MAX {
        places[place] = place as u8;
        place += 1;
    }
    places
};

const ABSENT: u8 = u8::MAX;

/// Distinct indices of one code, in the order given, with the way back from index to place.
#[derive(Clone, Debug)]
pub(crate) struct ShardList {
    indices: [u8; SHARD_COUNT_MAX],
    places: [u8; SHARD_COUNT_MAX],
    count: usize,
}

impl ShardList {
    /// Checks and keeps `indices`.
    ///
    /// # Errors
    /// One that is not below `shard_count`, or comes twice.
    pub(crate) fn collect(
        indices: impl IntoIterator<Item = usize>,
        shard_count: usize,
    ) -> Result<Self, CodecError> {
        assert!(shard_count <= SHARD_COUNT_MAX);
        let mut list = Self { indices: [0; SHARD_COUNT_MAX], places: [ABSENT; SHARD_COUNT_MAX], count: 0 };
        for index in indices {
            if index >= shard_count {
                return Err(CodecError::IndexUnknown { index, shard_count });
            }
            if list.places[index] != ABSENT {
                return Err(CodecError::IndexRepeated { index });
            }
            // Distinct and below SHARD_COUNT_MAX, so there are never more than fit.
            list.indices[list.count] = index as u8;
            list.places[index] = list.count as u8;
            list.count += 1;
        }
        Ok(list)
    }

    /// Keeps the first `count` alone.
    pub(crate) fn truncate(&mut self, count: usize) {
        while self.count > count {
            self.count -= 1;
            self.places[usize::from(self.indices[self.count])] = ABSENT;
            self.indices[self.count] = 0;
        }
    }

    /// The indices, in the order given.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.indices[..self.count]
    }

    /// The indices and how many there are, as words: for a hash.
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        // What is behind the last index is zero: `truncate` has seen to that.
        let (words, _) = self.indices.as_chunks::<8>();
        words.iter().map(|word| u64::from_le_bytes(*word)).chain([self.count as u64])
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.indices[..self.count].iter().map(|&index| usize::from(index))
    }

    /// Where in the list `index` stands.
    pub(crate) fn place(&self, index: usize) -> Option<u8> {
        self.places.get(index).copied().filter(|&place| place != ABSENT)
    }
}

/// The length that all slices share, or 0 if there are none.
///
/// # Errors
/// The first slice that differs from the first one.
pub(crate) fn common_len(slices: impl IntoIterator<Item = (usize, usize)>) -> Result<usize, CodecError> {
    let mut expected = None;
    for (index, found_bytes) in slices {
        expect_len(index, *expected.get_or_insert(found_bytes), found_bytes)?;
    }
    Ok(expected.unwrap_or(0))
}

/// Refuses positions that are not among those of a slice of this length.
pub(crate) fn expect_range(range: &Range<usize>, len_bytes: usize) -> Result<(), CodecError> {
    if range.start <= range.end && range.end <= len_bytes {
        Ok(())
    } else {
        Err(CodecError::RangeOutside { start: range.start, end: range.end, len_bytes })
    }
}

/// Refuses a slice of another length.
pub(crate) fn expect_len(index: usize, expected_bytes: usize, found_bytes: usize) -> Result<(), CodecError> {
    if expected_bytes == found_bytes {
        Ok(())
    } else {
        Err(CodecError::LengthDiffers { index, expected_bytes, found_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::ShardList;
    use crate::CodecError;

    #[test]
    fn indices_are_checked_in_pairs() {
        assert!(ShardList::collect([4], 5).is_ok());
        assert_eq!(
            ShardList::collect([5], 5).unwrap_err(),
            CodecError::IndexUnknown { index: 5, shard_count: 5 }
        );
        assert!(ShardList::collect(0..32, 32).is_ok());
        assert_eq!(ShardList::collect([3, 1, 3], 5).unwrap_err(), CodecError::IndexRepeated { index: 3 });
        assert_eq!(
            ShardList::collect([usize::MAX], 32).unwrap_err(),
            CodecError::IndexUnknown { index: usize::MAX, shard_count: 32 }
        );
    }

    #[test]
    fn places_follow_the_list() {
        let mut list = ShardList::collect([7, 2, 5], 8).unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), [7, 2, 5]);
        assert_eq!(
            (list.place(7), list.place(5), list.place(0), list.place(99)),
            (Some(0), Some(2), None, None)
        );
        list.truncate(1);
        assert_eq!((list.len(), list.place(7), list.place(2), list.place(5)), (1, Some(0), None, None));
    }
}
