//! A set of fragments of one slab.

use std::fmt;
use strongroom_types::FragmentIndex;
use strongroom_types::limits::FRAGMENTS_MAX;

/// Fragments of one slab; bit i stands for fragment i.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FragmentSet(u32);

impl FragmentSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// The fragments whose bits are set.
    pub const fn from_mask(mask: u32) -> Self {
        Self(mask)
    }

    /// Bit i set for fragment i.
    pub const fn mask(self) -> u32 {
        self.0
    }

    /// Fragments `0..count`; at most 32 of them.
    pub const fn first(count: u8) -> Self {
        assert!(count as usize <= FRAGMENTS_MAX, "a slab has at most 32 fragments");
        Self(if count == 32 { u32::MAX } else { (1 << count) - 1 })
    }

    /// Puts `fragment` in. One outside `0..32` is a broken invariant.
    pub fn insert(&mut self, fragment: FragmentIndex) {
        self.0 |= Self::bit(fragment).expect("fragment index below 32");
    }

    /// Takes `fragment` out; nothing happens where it is not in.
    pub fn remove(&mut self, fragment: FragmentIndex) {
        self.0 &= !Self::bit(fragment).unwrap_or(0);
    }

    /// Whether `fragment` is in.
    pub fn contains(self, fragment: FragmentIndex) -> bool {
        Self::bit(fragment).is_some_and(|bit| self.0 & bit != 0)
    }

    /// How many there are.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in this one and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of them are in `other`.
    pub const fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The fragments, ascending.
    pub fn iter(self) -> impl Iterator<Item = FragmentIndex> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            (index < u32::BITS).then(|| FragmentIndex::new(index as u8))
        })
    }

    const fn bit(fragment: FragmentIndex) -> Option<u32> {
        1_u32.checked_shl(fragment.get() as u32)
    }
}

impl FromIterator<FragmentIndex> for FragmentSet {
    fn from_iter<I: IntoIterator<Item = FragmentIndex>>(fragments: I) -> Self {
        let mut set = Self::EMPTY;
        for fragment in fragments {
            set.insert(fragment);
        }
        set
    }
}

impl fmt::Debug for FragmentSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
