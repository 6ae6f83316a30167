//! Which profiles a cluster's shape allows, what each costs and survives, and which one is taken.

use strongroom_types::limits::ZONES_MAX;
use strongroom_types::{ClusterView, Profile, ZoneId};

/// How many data nodes each zone has; zones without any are left out. Says nothing about who answers now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    zones: heapless::Vec<(ZoneId, u8), ZONES_MAX>,
}

/// What the rough nines assume. Failures are independent, arrive at constant rates, and lost fragments are rebuilt in parallel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assumptions {
    /// Chance that a given fragment's drive or node is lost for good within a year.
    pub fragment_loss_per_year: f64,
    /// Chance that a given zone is lost for good within a year.
    pub zone_loss_per_year: f64,
    /// Hours until what was lost is rebuilt.
    pub repair_hours: f64,
}

/// One profile for a shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The profile.
    pub profile: Profile,
    /// Fragments that each zone holds at most.
    pub per_zone: u8,
    /// Bytes on drives for each byte of image.
    pub overhead: f64,
    /// Survives any one zone.
    pub survives_zone: bool,
    /// Survives any one zone and one more node.
    pub survives_zone_plus_one: bool,
    /// Fragments' worth of bytes that cross zones when one lost fragment is rebuilt, by partial sums.
    pub repair_cross_zone_fragments: u8,
    /// Nines of a slab's yearly durability under the assumptions.
    pub nines: f64,
}

impl Default for Assumptions {
    fn default() -> Self {
        todo!()
    }
}

impl Shape {
    /// The shape of `view`.
    pub fn of(view: &ClusterView) -> Self {
        todo!()
    }

    /// The zones with their data nodes, by id.
    pub fn zones(&self) -> &[(ZoneId, u8)] {
        &self.zones
    }
}

/// Every profile with `k >= 2` that spreads evenly over the zones on distinct nodes and survives any one zone: those that also
/// survive one more node first, then by overhead, then the narrower.
pub fn choices(shape: &Shape, assumptions: &Assumptions) -> Vec<Choice> {
    todo!()
}

/// The profile that cold slabs get by themselves: the first of [`choices`] within the default width; `None` where the shape
/// allows none, so that slabs stay copies.
pub fn cold_profile(view: &ClusterView) -> Option<Profile> {
    todo!()
}
