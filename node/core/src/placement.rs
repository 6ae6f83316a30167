//! Which drives a slab's fragments go to.
//!
//! Chooses only; it may spread worse than wished (and says so), but never so that a zone's loss would lose an acknowledged row.
//! The choice depends on view and seed alone.

use strongroom_types::{ClusterView, Holders, NodeId, Profile};

/// Where a new slab goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotPlacement {
    /// Copies.
    pub profile: Profile,
    /// Their holders.
    pub holders: Holders,
    /// Fewer zones, copies or nodes than a whole cluster would give; repaired first once it can be.
    pub deficit: bool,
}

/// Where a cold layout goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdPlacement {
    /// The holders, by fragment.
    pub holders: Holders,
    /// Some node holds more than one fragment, on distinct drives: it survives a zone, perhaps not one more node.
    pub nodes_shared: bool,
}

/// Why no slab can be placed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Fewer than two zones have a node that answers with a writable drive. Nothing may be acknowledged.
    #[error("{zones_up} zones answer with writable drives; two are needed")]
    TooFewZones {
        /// How many do.
        zones_up: usize,
    },
    /// Enough zones answer, but the drives are full in all but `zones_free` of them.
    #[error("drives are full in all but {zones_free} zones; two are needed")]
    Full {
        /// Zones with room.
        zones_free: usize,
    },
}

/// Why a cold layout cannot be placed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// A zone that would hold fragments has too few drives that answer and have room.
    #[error("{zone} has {drives} usable drives for {fragments} fragments")]
    ZoneShort {
        /// The zone.
        zone: strongroom_types::ZoneId,
        /// Usable drives in it.
        drives: usize,
        /// Fragments that it should hold.
        fragments: usize,
    },
    /// Spread over this cluster's zones, the profile would not survive the loss of one.
    #[error("{profile} over {zones} zones does not survive the loss of one")]
    Unsafe {
        /// The profile.
        profile: Profile,
        /// Zones with data nodes.
        zones: usize,
    },
}

/// Holders for a new slab: over three or more zones one copy in each of three, over two zones two in each. With a zone down, the
/// zones left, never fewer than two: one copy in each and, if possible, one more on another node. Nodes in `avoid` (lately late
/// or failed) are used only where two zones cannot be had without them.
///
/// # Errors
/// Fewer than two zones can take a copy.
pub fn place_hot(view: &ClusterView, avoid: &[NodeId], seed: u64) -> Result<HotPlacement, PlacementError> {
    todo!()
}

/// Holders for a cold layout of `profile`: even counts over all zones, distinct nodes, where there are too few distinct drives. A
/// node that holds one of `current` (the copies) takes one of its zone's fragments where it can: that one stays off the network.
///
/// # Errors
/// A zone that is needed is down or full.
pub fn place_cold(
    view: &ClusterView,
    profile: Profile,
    current: &Holders,
    seed: u64,
) -> Result<ColdPlacement, NotNow> {
    todo!()
}
