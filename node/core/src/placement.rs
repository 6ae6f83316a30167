//! Which drives a slab's fragments go to.
//!
//! Chooses only; it may spread worse than wished (and says so), but never so that a zone's loss would lose an acknowledged row.
//! The choice depends on view and seed alone.

mod pool;

use crate::durable::{AckRule, Spread, margin, survives};
use crate::fragment_set::FragmentSet;
use crate::limits::{DRIVE_FULL_PERCENT_MAX, DRIVE_FULL_PREFERRED_PERCENT_MAX};
use crate::planner::Shape;
use pool::{Choosing, Draw, Pool, Staying, pool_of, pools, pools_leaving};
use std::collections::BTreeMap;
use strongroom_format::extent::FragmentGeometry;
use strongroom_types::limits::ZONES_MAX;
use strongroom_types::{
    ClusterView, DriveView, FragmentIndex, Health, Holder, Holders, NodeId, NodeView, Profile, SlabRecord,
    ZoneId,
};

/// Where a new slab goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotPlacement {
    /// Copies.
    pub profile: Profile,
    /// Their holders.
    pub holders: Holders,
    /// Fewer zones, copies or nodes than a whole cluster would give; repaired first once it can be.
    pub deficit: bool,
    /// Some copy goes to a drive that is to be emptied, since its zone has no other.
    pub leaving: bool,
}

/// What is to be placed of a slab that becomes cold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdFragments {
    /// How many, and of what use.
    pub profile: Profile,
    /// Bytes that each takes on its drive, extent headers not included.
    pub len_bytes: u64,
}

/// Fragments of a cold slab that are to be made once more, in place of those that it has, or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SomeFragments {
    /// Which.
    pub fragments: FragmentSet,
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
    /// Every node of a zone that stays has a fragment of the slab already: a second one there would lower what the slab survives.
    #[error("every other node of {zone} has a fragment of the slab")]
    NodesShort {
        /// The zone.
        zone: ZoneId,
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
/// Those that are to be emptied take a copy only where their zone has no other drive that could, and three zones cannot be had without it: better a copy that
/// moves soon than one that is not there.
///
/// # Errors
/// Fewer than two zones can take a copy.
pub fn place_hot(view: &ClusterView, avoid: &[NodeId], seed: u64) -> Result<HotPlacement, PlacementError> {
    let mut draw = Draw { state: seed };
    let data_zones = Shape::of(view).zones().len();
    let with_leaving = |avoid: &[NodeId]| {
        let mut pools = pools(view, avoid);
        if pools.len() < HOT_ZONES {
            let room = pools.capacity() - pools.len();
            pools.extend(pools_leaving(view, avoid).into_iter().take(room));
        }
        pools
    };
    let mut pools = with_leaving(avoid);
    if pools.len() < 2 {
        pools = with_leaving(&[]);
    }
    if pools.len() < 2 {
        return Err(too_few(view, pools.len()));
    }
    draw.shuffle(&mut pools);
    pools.sort_by_key(|pool| pool.staying == Staying::Leaves);

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
        let all = pools.iter().flat_map(|pool| pool.drives.clone()).collect();
        let rest = Pool { drives: all, ..pools[0].only(|_| false) };
        choice.take_distinct_node(&rest, &mut draw);
    }

    let holders = choice.holders;
    let wished = if data_zones == 2 { 2 * HOT_COPIES_IN_TWO_ZONES } else { HOT_ZONES };
    let deficit = pools.len() < data_zones.min(HOT_ZONES) || holders.len() < wished || choice.nodes_shared;
    let count = u8::try_from(holders.len()).expect("at most four copies");
    let profile = Profile::copies(count).expect("one copy in each of two zones at least");
    let leaving = holders.iter().any(|holder| view.is_leaving(*holder));
    Ok(HotPlacement { profile, holders, deficit, leaving })
}

/// Holders for a cold layout: even counts over all zones, distinct nodes; distinct drives only in a zone that has too few nodes,
/// not in one where some are away now. A node that holds one of `current` (the copies) takes one of its zone's fragments where it can: that one stays off the network.
/// Drives without room for a fragment are used only where no other will do: it may be room that an earlier attempt's fragment takes. Those that are to be
/// emptied take none.
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
            let wide = pool_of(view, *zone, &[], DRIVE_FULL_PERCENT_MAX, Staying::Stays);
            let nodes_away = nodes_away(view, *zone);
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

/// Holders for fragments of `record` that are lost, as many as can be placed, each in the zone that it was in: on a node that holds none of the slab where
/// there is one, else on another drive of one that does. The drive that had it may have it again: what is lost may be a few blocks of it. Drives without
/// room for a fragment are used only where no other will do, and so are those that are to be emptied: what is lost is made again first, and moved later. Where nothing is
/// known of the node that had it, its zone is taken to be one of those that hold the fewest.
///
/// # Errors
/// None can be placed; says why for the first.
pub fn place_again(
    view: &ClusterView,
    record: &SlabRecord,
    lost: SomeFragments,
    seed: u64,
) -> Result<Vec<(FragmentIndex, Holder)>, NotNow> {
    let SomeFragments { fragments: lost, len_bytes } = lost;
    let mut draw = Draw { state: seed };
    let has_room = |holder: &Holder| has_room(view, holder, len_bytes);
    let fragments = || (0..).map(FragmentIndex::new).zip(&record.holders);
    let kept = fragments().filter(|(fragment, _)| !lost.contains(*fragment)).map(|(_, holder)| *holder);
    let mut choice = Choosing { holders: kept.collect(), nodes_shared: false };
    let mut by_zone: BTreeMap<ZoneId, usize> = view.zones().into_iter().map(|zone| (zone, 0)).collect();
    for zone in record.holders.iter().filter_map(|holder| view.zone_of(holder.node)) {
        *by_zone.entry(zone).or_default() += 1;
    }
    let (mut placed, mut why) = (Vec::new(), None);
    for (fragment, before) in fragments().filter(|(fragment, _)| lost.contains(*fragment)) {
        let zone = view.zone_of(before.node).or_else(|| {
            let (zone, count) = by_zone.iter_mut().min_by_key(|(_, count)| **count)?;
            *count += 1;
            Some(*zone)
        });
        let Some(zone) = zone else { continue };
        match place_one(view, zone, has_room, &mut choice, &mut draw) {
            Ok(holder) => placed.push((fragment, holder)),
            Err(short) => why = why.or(Some(short)),
        }
    }
    why.filter(|_| placed.is_empty()).map_or(Ok(placed), Err)
}

fn place_one(
    view: &ClusterView,
    zone: ZoneId,
    has_room: impl Fn(&Holder) -> bool,
    choice: &mut Choosing,
    draw: &mut Draw,
) -> Result<Holder, NotNow> {
    let tiers = |staying| tiers(view, zone, &has_room, staying);
    let (staying, leaving) = (tiers(Staying::Stays), tiers(Staying::Leaves));
    let taken = staying.iter().chain(&leaving).any(|tier| choice.take_distinct_node(tier, draw))
        || staying.iter().chain(&leaving).any(|tier| choice.take_distinct_drive(tier, draw));
    let holder = choice.holders.last().copied().filter(|_| taken);
    holder.ok_or_else(|| NotNow::ZoneShort {
        zone,
        drives: staying[WIDE].drives.len() + leaving[WIDE].drives.len(),
        fragments: 1,
        full: writable(view, zone).any(|holder| !choice.holders.contains(&holder)),
    })
}

/// The drives of a zone that a fragment may go to, the better ones first.
fn tiers(
    view: &ClusterView,
    zone: ZoneId,
    has_room: impl Fn(&Holder) -> bool,
    staying: Staying,
) -> [Pool; 4] {
    let preferred = pool_of(view, zone, &[], DRIVE_FULL_PREFERRED_PERCENT_MAX, staying);
    let wide = pool_of(view, zone, &[], DRIVE_FULL_PERCENT_MAX, staying);
    [preferred.only(&has_room), wide.only(&has_room), preferred, wide]
}

/// The place of all drives among [`tiers`].
const WIDE: usize = 3;

/// Holders for fragments of `record` that are to leave the drives that they are on, as many as can be placed without lowering what the slab survives, each in the
/// zone that it is in: on a node that holds no other of the slab, else on another drive where nodes were shared before already. `lost` are those that
/// do not count now.
///
/// # Errors
/// None can be placed; says why for the first.
pub fn place_moved(
    view: &ClusterView,
    record: &SlabRecord,
    moved: SomeFragments,
    lost: FragmentSet,
    seed: u64,
) -> Result<Vec<(FragmentIndex, Holder)>, NotNow> {
    let mut draw = Draw { state: seed };
    let has_room = |holder: &Holder| has_room(view, holder, moved.len_bytes);
    let (mut holders, mut placed, mut why) = (record.holders.clone(), Vec::new(), None);
    for fragment in moved.fragments.iter() {
        let place = usize::from(fragment.get());
        let Some(zone) = holders.get(place).and_then(|holder| view.zone_of(holder.node)) else { continue };
        let others: Holders = holders
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != place)
            .map(|(_, holder)| *holder)
            .collect();
        let mut choice = Choosing { holders: others.clone(), nodes_shared: false };
        let tiers = tiers(view, zone, has_room, Staying::Stays);
        let distinct = tiers.iter().any(|tier| choice.take_distinct_node(tier, &mut draw));
        let taken = distinct || tiers.iter().any(|tier| choice.take_distinct_drive(tier, &mut draw));
        let chosen = choice.holders.last().copied().filter(|_| taken);
        let mut after = holders.clone();
        after[place] = chosen.unwrap_or(after[place]);
        match chosen.filter(|_| distinct || !lowers(view, record, &holders, &after, lost)) {
            Some(holder) => {
                holders = after;
                placed.push((fragment, holder));
            }
            None => why = why.or(Some(why_not_moved(view, zone, &others, taken))),
        }
    }
    why.filter(|_| placed.is_empty()).map_or(Ok(placed), Err)
}

/// Whether the slab survives less with these holders than with those before.
pub(crate) fn lowers(
    view: &ClusterView,
    record: &SlabRecord,
    before: &Holders,
    after: &Holders,
    lost: FragmentSet,
) -> bool {
    let margin_of = |holders: &Holders| {
        let spread = Spread::of_holders(record.slab, record.profile, holders, view).ok()?;
        Some(margin(&spread, spread.all().without(lost)))
    };
    match (margin_of(before), margin_of(after)) {
        (Some(before), Some(after)) => after < before,
        // Of a node that nobody knows nothing can be said.
        _ => true,
    }
}

fn why_not_moved(view: &ClusterView, zone: ZoneId, others: &Holders, shareable: bool) -> NotNow {
    let staying = || writable(view, zone).filter(|holder| !view.is_leaving(*holder));
    let is_free = |holder: &Holder| others.iter().all(|other| other.node != holder.node);
    let node_is_free = staying().any(|holder| is_free(&holder));
    let drive_is_free = staying().any(|holder| !others.contains(&holder));
    let drives = staying().count();
    let only_nodes_lack = shareable || (drives > 0 && !drive_is_free);
    if only_nodes_lack && !node_is_free {
        return NotNow::NodesShort { zone };
    }
    NotNow::ZoneShort { zone, drives, fragments: 1, full: node_is_free || drive_is_free }
}

/// Nodes of the zone that may come back with their drives, and those that are to be emptied: another one may come for them.
fn nodes_away(view: &ClusterView, zone: ZoneId) -> usize {
    let away = |node: &&NodeView| {
        let takes_none = node.health == Health::Down || node.is_leaving();
        node.zone == zone && takes_none && node.may_hold_data && !node.given_up
    };
    view.nodes.iter().filter(away).count()
}

/// Whether the zone's drives that answer could take so many fragments, had they room.
fn would_do(view: &ClusterView, zone: ZoneId, wanted: usize) -> bool {
    let of_zone = || view.nodes.iter().filter(|node| node.zone == zone);
    let takes = |drive: &&DriveView| drive.writable && !drive.leaving;
    let writable = |node: &NodeView| node.drives.iter().filter(takes).count();
    let up: Vec<usize> = of_zone().filter(|node| node.health == Health::Up).map(writable).collect();
    let nodes = up.iter().filter(|drives| **drives > 0).count();
    let away = nodes_away(view, zone);
    nodes >= wanted || (nodes + away < wanted && up.iter().sum::<usize>() >= wanted)
}

/// The drives of the zone that answer and take new fragments, had they room.
fn writable(view: &ClusterView, zone: ZoneId) -> impl Iterator<Item = Holder> + '_ {
    let nodes = view.nodes.iter().filter(move |node| node.zone == zone && node.health == Health::Up);
    nodes.flat_map(|node| {
        let drives = node.drives.iter().filter(|drive| drive.writable);
        drives.map(|drive| Holder { node: node.node, drive: drive.drive })
    })
}

/// Whether fragments in these zones, in their order, survive the loss of any one of them.
fn survives_zone(profile: Profile, zones: impl Iterator<Item = ZoneId>) -> bool {
    let places: Vec<(ZoneId, NodeId)> =
        zones.map(|zone| (zone, NodeId::new(u64::from(zone.get())))).collect();
    Spread::from_places(profile, &places).is_some_and(|spread| survives(&spread, spread.all(), AckRule::Zone))
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

#[cfg(test)]
mod tests;
