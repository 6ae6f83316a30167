//! Which extents of a drive are free.

use std::collections::BTreeSet;

/// The free extents of one drive. An extent is in here, or in exactly one fragment, or being freed.
#[derive(Debug)]
pub struct Extents {
    free: BTreeSet<u32>,
    total: u32,
    /// Where the next search begins, so that extents are used in turn and wear is even.
    next: u32,
}

impl Extents {
    /// A drive of `total` extents, all in use.
    pub fn none_free(total: u32) -> Self {
        Self { free: BTreeSet::new(), total, next: 0 }
    }

    /// Extents in all.
    pub fn total_count(&self) -> u32 {
        self.total
    }

    /// Free ones.
    pub fn free_count(&self) -> u32 {
        u32::try_from(self.free.len()).expect("at most total")
    }

    /// Takes one, or `None` where none is free.
    pub fn take(&mut self) -> Option<u32> {
        let index = self.free.range(self.next..).next().or_else(|| self.free.first()).copied()?;
        assert!(self.free.remove(&index), "it was just found there");
        self.next = index + 1;
        Some(index)
    }

    /// Gives one back.
    pub fn give_back(&mut self, index: u32) {
        assert!(index < self.total, "an extent of this drive");
        assert!(self.free.insert(index), "an extent is given back once");
    }
}

#[cfg(test)]
mod tests {
    use super::Extents;

    #[test]
    fn takes_each_once_in_turn_and_refuses_beyond() {
        let mut extents = Extents::none_free(3);
        assert_eq!(extents.take(), None);
        for index in 0..3 {
            extents.give_back(index);
        }
        assert_eq!((extents.take(), extents.take()), (Some(0), Some(1)));
        extents.give_back(0);
        assert_eq!((extents.take(), extents.take(), extents.take()), (Some(2), Some(0), None));
    }

    #[test]
    #[should_panic(expected = "given back once")]
    fn giving_back_twice_is_a_broken_invariant() {
        let mut extents = Extents::none_free(1);
        extents.give_back(0);
        extents.give_back(0);
    }
}
