//! What was done to the drives of a run, and what that excuses.
//!
//! Harm is a drive's, not its node's, and it excuses no more than the layouts that were there when the faults ended: what is made afterwards,
//! on drives in fair weather, must be whole, on a drive that was harmed before as on any other.

use std::collections::BTreeSet;
use strongroom_types::{DriveId, Generation, Holder, NodeId, SlabId};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Harm {
    /// Drives that were harmed, under every id that they had.
    pub drives: BTreeSet<DriveId>,
    /// The places of these: a node, and which of its drives.
    pub places: BTreeSet<(NodeId, usize)>,
    /// The layouts of slabs that were there when the faults ended; `None` while they go on.
    pub before: Option<BTreeSet<(SlabId, Generation)>>,
}

impl Harm {
    /// Whether it may be for the harm that a holder lacks a fragment of this layout, or a part of it.
    pub fn excuses(&self, holder: &Holder, slab: SlabId, generation: Generation) -> bool {
        self.drives.contains(&holder.drive)
            && self.before.as_ref().is_none_or(|before| before.contains(&(slab, generation)))
    }
}

#[cfg(test)]
mod tests {
    use super::Harm;
    use std::collections::BTreeSet;
    use strongroom_types::{DriveId, Generation, GroupId, Holder, NodeId, SlabId};

    #[test]
    fn harm_is_of_a_drive_and_of_what_it_had() {
        let holder = |drive| Holder { node: NodeId::new(1), drive: DriveId::new(drive) };
        let slab = SlabId::new(GroupId::new(0), 1).unwrap();
        let (first, next) = (Generation::FIRST, Generation::FIRST.next());
        let mut harm = Harm { drives: BTreeSet::from([DriveId::new(1)]), ..Harm::default() };
        assert!(harm.excuses(&holder(1), slab, next), "faults go on");
        assert!(!harm.excuses(&holder(2), slab, next), "another drive of the same node");
        harm.before = Some(BTreeSet::from([(slab, first)]));
        assert!(harm.excuses(&holder(1), slab, first));
        assert!(!harm.excuses(&holder(1), slab, next), "made when all was fair");
    }
}
