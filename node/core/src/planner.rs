//! Which profiles a cluster's shape allows, what each costs and survives, and which one is taken.

use crate::limits::COLD_FRAGMENTS_DEFAULT_MAX;
use strongroom_types::limits::{FRAGMENTS_MAX, ZONES_MAX};
use strongroom_types::{ClusterView, NodeView, Profile, ZoneId};

/// How many data nodes each zone has; zones without any are left out. Says nothing about who answers now, nor whose drives work: a slab
/// whose profile followed these would be begun with one and finished with another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    zones: heapless::Vec<(ZoneId, u8), ZONES_MAX>,
}

/// What the rough nines assume. Failures are independent, arrive at constant rates, and lost fragments are rebuilt in parallel.
/// They compare profiles; they do not predict: no model of this kind knows of operators, bugs and correlated batches.
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
    /// A tenth of the instances with their drives lost in a year, a zone's drives in a thousand years, rebuilt within an hour.
    fn default() -> Self {
        Self { fragment_loss_per_year: 0.1, zone_loss_per_year: 0.001, repair_hours: 1.0 }
    }
}

impl Shape {
    /// The shape of `view`, nodes that are to be emptied included.
    pub fn of(view: &ClusterView) -> Self {
        Self::of_nodes(view, |_| true)
    }

    /// The shape of `view` without the nodes that are to be emptied.
    pub fn of_staying(view: &ClusterView) -> Self {
        Self::of_nodes(view, |node| !node.is_leaving())
    }

    fn of_nodes(view: &ClusterView, counts: impl Fn(&NodeView) -> bool) -> Self {
        let mut zones: heapless::Vec<(ZoneId, u8), ZONES_MAX> = heapless::Vec::new();
        for node in view.nodes.iter().filter(|node| node.may_hold_data && counts(node)) {
            match zones.iter_mut().find(|(zone, _)| *zone == node.zone) {
                Some((_, nodes)) => *nodes = nodes.saturating_add(1),
                None => zones.push((node.zone, 1)).expect("a cluster has at most ZONES_MAX zones"),
            }
        }
        zones.sort_unstable();
        Self { zones }
    }

    /// The zones with their data nodes, by id.
    pub fn zones(&self) -> &[(ZoneId, u8)] {
        &self.zones
    }

    /// Data nodes of the smallest zone.
    fn nodes_per_zone(&self) -> u8 {
        self.zones.iter().map(|(_, nodes)| *nodes).min().unwrap_or(0)
    }
}

/// Every profile with `k >= 2` that spreads evenly over the zones on distinct nodes and survives any one zone: those that also
/// survive one more node first, then by overhead, then the narrower.
pub fn choices(shape: &Shape, assumptions: &Assumptions) -> Vec<Choice> {
    let zones = u8::try_from(shape.zones.len()).expect("ZONES_MAX is below 256");
    let mut choices = Vec::new();
    for per_zone in 1..=shape.nodes_per_zone() {
        let Some(fragments) =
            zones.checked_mul(per_zone).filter(|count| usize::from(*count) <= FRAGMENTS_MAX)
        else {
            break;
        };
        // With fewer parities than a zone holds fragments, its loss is the slab's.
        for parity in per_zone..=fragments.saturating_sub(2) {
            let profile = Profile::new(fragments - parity, parity).expect("2 <= k, 1 <= m, k + m <= 32");
            choices.push(Choice {
                profile,
                per_zone,
                overhead: f64::from(fragments) / f64::from(profile.data_count()),
                survives_zone: true,
                survives_zone_plus_one: parity > per_zone,
                repair_cross_zone_fragments: repair_cross_zone_fragments(profile, per_zone),
                nines: nines(profile, per_zone, zones, assumptions),
            });
        }
    }
    choices.sort_by(|a, b| {
        let zone_plus_one = b.survives_zone_plus_one.cmp(&a.survives_zone_plus_one);
        let width = |choice: &Choice| choice.profile.fragment_count();
        zone_plus_one.then(a.overhead.total_cmp(&b.overhead)).then(width(a).cmp(&width(b)))
    });
    choices
}

/// The profile that cold slabs get by themselves: the first of [`choices`] within the default width; `None` where the shape
/// allows none, so that slabs stay copies.
///
/// Nodes that are to be emptied do not count, as long as what is left has the same zones and allows a profile that survives as much. Else they do: then slabs
/// stay copies until there is room for the better profile, rather than be given a worse one for good.
pub fn cold_profile(view: &ClusterView) -> Option<Profile> {
    let (all, staying) = (Shape::of(view), Shape::of_staying(view));
    let wished = first_choice(&all);
    let has_all_zones = staying.zones.len() == all.zones.len();
    let narrower = first_choice(&staying).filter(|choice| {
        has_all_zones
            && wished.is_some_and(|wished| choice.survives_zone_plus_one >= wished.survives_zone_plus_one)
    });
    narrower.or(wished).map(|choice| choice.profile)
}

fn first_choice(shape: &Shape) -> Option<Choice> {
    let within = |choice: &Choice| choice.profile.fragment_count() <= COLD_FRAGMENTS_DEFAULT_MAX;
    choices(shape, &Assumptions::default()).into_iter().find(within)
}

/// A zone rebuilds from what it still has, and for the rest each other zone that is needed sends one sum over its fragments.
fn repair_cross_zone_fragments(profile: Profile, per_zone: u8) -> u8 {
    profile.data_count().saturating_sub(per_zone - 1).div_ceil(per_zone)
}

/// First-order rates: a slab is lost when `m` more fragments go while one is being rebuilt, or when a zone goes and then as many as it
/// takes above what the zone held.
fn nines(profile: Profile, per_zone: u8, zones: u8, assumptions: &Assumptions) -> f64 {
    const HOURS_PER_YEAR: f64 = 8766.0;
    let (fragments, parity) = (profile.fragment_count(), profile.parity_count());
    let lost_during_repair = assumptions.fragment_loss_per_year * assumptions.repair_hours / HOURS_PER_YEAR;
    let by_fragments = f64::from(fragments)
        * assumptions.fragment_loss_per_year
        * ways(fragments - 1, parity)
        * lost_during_repair.powi(i32::from(parity));
    let further = parity - per_zone + 1;
    let by_zone = f64::from(zones)
        * assumptions.zone_loss_per_year
        * ways(fragments - per_zone, further)
        * lost_during_repair.powi(i32::from(further));
    -(by_fragments + by_zone).log10()
}

/// Ways to choose `some` out of `all`; 0 where there are fewer.
fn ways(all: u8, some: u8) -> f64 {
    if some > all {
        return 0.0;
    }
    (0..some).map(|index| f64::from(all - index) / f64::from(index + 1)).product()
}

#[cfg(test)]
mod tests;
