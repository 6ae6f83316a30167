//! Slabs into which something that is under way on this node may still be committed.
//!
//! A locator is pinned from the moment it is given out until whoever has it is done with it: committed it, or gave it up. The writer tells the slab table once
//! nothing is pinned in a slab that it rolled; before that nobody reclaims the slab, so that an upload that takes hours finds its first needles where it left
//! them. That is a courtesy: what a late commit may still do is decided by the groups, in which a slab is closed before it is killed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_types::SlabId;

/// What is pinned. Clones are the same. As many slabs at most as locators are held: each request holds those of one object.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    by_slab: Arc<Mutex<BTreeMap<SlabId, usize>>>,
}

/// Keeps its slab pinned while it lives.
#[derive(Debug)]
pub struct Pinned {
    pins: Pins,
    slab: SlabId,
}

impl Pins {
    /// Pins a slab once more.
    pub fn pin(&self, slab: SlabId) -> Pinned {
        *self.lock().entry(slab).or_default() += 1;
        Pinned { pins: self.clone(), slab }
    }

    /// Whether something is pinned in it.
    pub fn has(&self, slab: SlabId) -> bool {
        self.lock().contains_key(&slab)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SlabId, usize>> {
        self.by_slab.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut by_slab = self.pins.lock();
        let count = by_slab.get_mut(&self.slab).expect("pinned until the last of its pins goes");
        *count -= 1;
        if *count == 0 {
            by_slab.remove(&self.slab);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pins;
    use strongroom_types::SlabId;

    #[test]
    fn a_slab_is_pinned_until_the_last_pin_goes() {
        let (pins, slab, other) = (Pins::default(), SlabId::from_bits(1), SlabId::from_bits(2));
        let (first, second) = (pins.pin(slab), pins.clone().pin(slab));
        let third = pins.pin(other);
        drop(first);
        assert!(pins.has(slab) && pins.has(other));
        drop(second);
        assert!(!pins.has(slab) && pins.has(other));
        drop(third);
        assert!(pins.lock().is_empty());
    }
}
