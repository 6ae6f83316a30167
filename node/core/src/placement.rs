//! Which drives a slab's fragments go to.
//!
//! Chooses only; it may spread worse than wished (and says so), but never so that a zone's loss would lose an acknowledged row.
//! The choice depends on view and seed alone.

use crate::durable::{AckRule, Spread, survives};
use crate::limits::{DRIVE_FULL_PERCENT_MAX, DRIVE_FULL_PREFERRED_PERCENT_MAX};
use crate::planner::Shape;
use strongroom_format::extent::FragmentGeometry;
use strongroom_types::limits::ZONES_MAX;
use strongroom_types::{ClusterView, DriveView, Health, Holder, Holders, NodeId, NodeView, Profile, ZoneId};

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

/// What is to be placed of a slab that becomes cold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdFragments {
    /// How many, and of what use.
    pub profile: Profile,
    /// Bytes that each takes on its drive, extent headers not included.
    pub len_bytes: u64,
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
    #[error("{zone} has {drives} usable drives for {fragments} fragments{}", if *full { ": others are full" } else { "" })]
    ZoneShort {
        /// The zone.
        zone: ZoneId,
        /// Usable drives in it.
        drives: usize,
        /// Fragments that it should hold.
        fragments: usize,
        /// It would have enough, were none of those that answer full.
        full: bool,
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

/// Zones that a new slab has a copy in where there are as many.
const HOT_ZONES: usize = 3;
/// Copies in each zone where there are only two zones with data nodes.
const HOT_COPIES_IN_TWO_ZONES: usize = 2;

/// Holders for a new slab: over three or more zones one copy in each of three, over two zones two in each. With a zone down, the
/// zones left, never fewer than two: one copy in each and, if possible, one more on another node. Nodes in `avoid` (lately late
/// or failed) are used only where two zones cannot be had without them. Drives are drawn by `seed`, weighted by their free space.
///
/// # Errors
/// Fewer than two zones can take a copy.
pub fn place_hot(view: &ClusterView, avoid: &[NodeId], seed: u64) -> Result<HotPlacement, PlacementError> {
    let mut draw = Draw { state: seed };
    let data_zones = Shape::of(view).zones().len();
    let mut pools = pools(view, avoid);
    if pools.len() < 2 {
        pools = self::pools(view, &[]);
    }
    if pools.len() < 2 {
        return Err(too_few(view, pools.len()));
    }
    draw.shuffle(&mut pools);

    let mut choice = Choosing::default();
    if pools.len() >= HOT_ZONES {
        for pool in &pools[..HOT_ZONES] {
            choice.take_distinct_node(pool, &mut draw);
        }
    } else if data_zones == 2 {
        for pool in &pools {
            for _ in 0..HOT_COPIES_IN_TWO_ZONES {
                let _ =
                    choice.take_distinct_node(pool, &mut draw) || choice.take_distinct_drive(pool, &mut draw);
            }
        }
    } else {
        for pool in &pools {
            choice.take_distinct_node(pool, &mut draw);
        }
        let rest: Pool =
            Pool { zone: pools[0].zone, drives: pools.iter().flat_map(|pool| pool.drives.clone()).collect() };
        choice.take_distinct_node(&rest, &mut draw);
    }

    let holders = choice.holders;
    let wished = if data_zones == 2 { 2 * HOT_COPIES_IN_TWO_ZONES } else { HOT_ZONES };
    let deficit = pools.len() < data_zones.min(HOT_ZONES) || holders.len() < wished || choice.nodes_shared;
    let count = u8::try_from(holders.len()).expect("at most four copies");
    let profile = Profile::copies(count).expect("one copy in each of two zones at least");
    Ok(HotPlacement { profile, holders, deficit })
}

/// Holders for a cold layout: even counts over all zones, distinct nodes; distinct drives only in a zone that has too few nodes,
/// not in one where some are away now. A node that holds one of `current` (the copies) takes one of its zone's fragments where it can: that one stays off the network.
/// Drives without room for a fragment are used only where no other will do: it may be room that an earlier attempt's fragment takes.
///
/// # Errors
/// A zone that is needed is down or full, or the cluster's zones are too few for the profile.
pub fn place_cold(
    view: &ClusterView,
    cold: ColdFragments,
    current: &Holders,
    seed: u64,
) -> Result<ColdPlacement, NotNow> {
    let profile = cold.profile;
    let mut draw = Draw { state: seed };
    let mut zones: heapless::Vec<ZoneId, ZONES_MAX> =
        Shape::of(view).zones().iter().map(|(zone, _)| *zone).collect();
    draw.shuffle(&mut zones);
    // Fragment i is in zone i modulo their count: as even as can be.
    let zone_at = |index: usize| zones[index % zones.len()];
    let fragments = usize::from(profile.fragment_count());
    if zones.is_empty() || !survives_zone(profile, (0..fragments).map(zone_at)) {
        return Err(NotNow::Unsafe { profile, zones: zones.len() });
    }

    let has_room = |holder: &Holder| has_room(view, holder, cold.len_bytes);
    let pools = pools(view, &[]);
    let mut by_zone: heapless::Vec<std::vec::IntoIter<Holder>, ZONES_MAX> = heapless::Vec::new();
    let mut nodes_shared = false;
    for (place, zone) in zones.iter().enumerate() {
        let wanted = (place..fragments).step_by(zones.len()).count();
        let pool = pools.iter().find(|pool| pool.zone == *zone);
        let drives = pool.map_or(0, |pool| pool.drives.len());
        let full = would_do(view, *zone, wanted);
        let short = NotNow::ZoneShort { zone: *zone, drives, fragments: wanted, full };
        let mut choice = Choosing::default();
        if wanted > 0 {
            let pool = pool.ok_or(short)?;
            // Fuller ones before two on one node.
            let wide = pool_of(view, *zone, &[], DRIVE_FULL_PERCENT_MAX);
            let away =
                |node: &&NodeView| node.zone == *zone && node.health == Health::Down && node.may_hold_data;
            let nodes_away = view.nodes.iter().filter(away).count();
            let roomy = pool.only(has_room);
            let tiers = [&roomy, &wide.only(has_room), pool, &wide];
            let at_copies = roomy.only(|place| current.iter().any(|holder| holder.node == place.node));
            choice.take_distinct_node(&at_copies, &mut draw);
            while choice.holders.len() < wanted {
                if tiers.iter().any(|tier| choice.take_distinct_node(tier, &mut draw)) {
                    continue;
                }
                // Two on one node for good, because another is away for a while: better wait, the copies are safe.
                let waits = choice.holders.len() + nodes_away >= wanted;
                let taken =
                    !waits && [&roomy, pool].iter().any(|tier| choice.take_distinct_drive(tier, &mut draw));
                if !taken {
                    return Err(short);
                }
            }
        }
        nodes_shared |= choice.nodes_shared;
        let holders: Vec<Holder> = choice.holders.iter().copied().collect();
        by_zone.push(holders.into_iter()).expect("one for each zone");
    }
    let holders: Holders = (0..fragments).filter_map(|index| by_zone[index % zones.len()].next()).collect();
    assert_eq!(holders.len(), fragments, "each zone gave as many as were wanted of it");
    Ok(ColdPlacement { holders, nodes_shared })
}

/// Whether the zone's drives that answer could take so many fragments, had they room.
fn would_do(view: &ClusterView, zone: ZoneId, wanted: usize) -> bool {
    let of_zone = || view.nodes.iter().filter(|node| node.zone == zone);
    let writable = |node: &NodeView| node.drives.iter().filter(|drive| drive.writable).count();
    let up: Vec<usize> = of_zone().filter(|node| node.health == Health::Up).map(writable).collect();
    let nodes = up.iter().filter(|drives| **drives > 0).count();
    let away = of_zone().filter(|node| node.health == Health::Down && node.may_hold_data).count();
    nodes >= wanted || (nodes + away < wanted && up.iter().sum::<usize>() >= wanted)
}

/// Whether fragments in these zones, in their order, survive the loss of any one of them.
fn survives_zone(profile: Profile, zones: impl Iterator<Item = ZoneId>) -> bool {
    let places: Vec<(ZoneId, NodeId)> =
        zones.map(|zone| (zone, NodeId::new(u64::from(zone.get())))).collect();
    Spread::from_places(profile, &places).is_some_and(|spread| survives(&spread, spread.all(), AckRule::Zone))
}

/// The drives of one zone that may be chosen.
struct Pool {
    zone: ZoneId,
    drives: Vec<(Holder, u64)>,
}

impl Pool {
    /// Some of them.
    fn only(&self, wanted: impl Fn(&Holder) -> bool) -> Self {
        let drives = self.drives.iter().copied().filter(|(holder, _)| wanted(holder)).collect();
        Self { zone: self.zone, drives }
    }
}

/// The zones in which drives may be chosen, by id; zones without any are left out.
fn pools(view: &ClusterView, avoid: &[NodeId]) -> heapless::Vec<Pool, ZONES_MAX> {
    let pool = |zone: ZoneId, full_percent_max: u32| pool_of(view, zone, avoid, full_percent_max);
    let zones = view.zones().into_iter().take(ZONES_MAX);
    let pools = zones.map(|zone| {
        let preferred = pool(zone, DRIVE_FULL_PREFERRED_PERCENT_MAX);
        if preferred.drives.is_empty() { pool(zone, DRIVE_FULL_PERCENT_MAX) } else { preferred }
    });
    pools.filter(|pool| !pool.drives.is_empty()).collect()
}

fn pool_of(view: &ClusterView, zone: ZoneId, avoid: &[NodeId], full_percent_max: u32) -> Pool {
    let nodes = view.nodes.iter().filter(|node| node.zone == zone && node.health == Health::Up);
    let nodes = nodes.filter(|node| !avoid.contains(&node.node));
    let drives = nodes.flat_map(|node| usable(node, full_percent_max)).collect();
    Pool { zone, drives }
}

fn usable(node: &NodeView, full_percent_max: u32) -> impl Iterator<Item = (Holder, u64)> + '_ {
    let has_room = move |drive: &&DriveView| {
        let free = u64::from(drive.extents_free);
        free > 0 && free * 100 >= u64::from(drive.extents_total) * u64::from(100 - full_percent_max)
    };
    node.drives.iter().filter(|drive| drive.writable).filter(has_room).map(|drive| {
        let free_bytes = u64::from(drive.extents_free) * u64::from(drive.extent_len_bytes);
        (Holder { node: node.node, drive: drive.drive }, free_bytes)
    })
}

/// Whether a cold fragment of this length fits on the drive now.
fn has_room(view: &ClusterView, holder: &Holder, len_bytes: u64) -> bool {
    let of_node =
        view.node(holder.node).and_then(|node| node.drives.iter().find(|drive| drive.drive == holder.drive));
    of_node.is_some_and(|drive| {
        let geometry = FragmentGeometry::for_extent_len(drive.extent_len_bytes);
        geometry.is_ok_and(|geometry| geometry.extents_for(len_bytes) <= drive.extents_free)
    })
}

fn too_few(view: &ClusterView, zones_free: usize) -> PlacementError {
    let up = |node: &&NodeView| node.health == Health::Up && node.drives.iter().any(|drive| drive.writable);
    let mut zones: Vec<ZoneId> = view.nodes.iter().filter(up).map(|node| node.zone).collect();
    zones.sort_unstable();
    zones.dedup();
    match zones.len() {
        zones_up @ 0..2 => PlacementError::TooFewZones { zones_up },
        _ => PlacementError::Full { zones_free },
    }
}

/// Holders chosen so far.
#[derive(Default)]
struct Choosing {
    holders: Holders,
    nodes_shared: bool,
}

impl Choosing {
    /// Draws a drive of a node that holds nothing yet; says whether there was one.
    fn take_distinct_node(&mut self, pool: &Pool, draw: &mut Draw) -> bool {
        let taken = |holder: &Holder| self.holders.iter().any(|other| other.node == holder.node);
        let Some(holder) = draw.drive(pool, |holder| !taken(holder)) else { return false };
        self.holders.push(holder).is_ok()
    }

    /// Draws a drive that holds nothing yet; says whether there was one.
    fn take_distinct_drive(&mut self, pool: &Pool, draw: &mut Draw) -> bool {
        let Some(holder) = draw.drive(pool, |holder| !self.holders.contains(holder)) else { return false };
        self.nodes_shared |= self.holders.iter().any(|other| other.node == holder.node);
        self.holders.push(holder).is_ok()
    }
}

/// Numbers from a seed (SplitMix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
struct Draw {
    state: u64,
}

impl Draw {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.next() % (last as u64 + 1);
            items.swap(last, other as usize);
        }
    }

    /// One of the drives that `wanted` admits, each with the weight of its free bytes.
    fn drive(&mut self, pool: &Pool, wanted: impl Fn(&Holder) -> bool) -> Option<Holder> {
        let candidates = || pool.drives.iter().filter(|(holder, _)| wanted(holder));
        let total: u64 = candidates().map(|(_, weight)| weight).sum();
        let mut left = self.next().checked_rem(total)?;
        candidates().find_map(|(holder, weight)| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                None
            }
            None => Some(*holder),
        })
    }
}

#[cfg(test)]
mod tests;
