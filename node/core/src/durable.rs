//! When is a row durable, and what does a slab still survive.
//!
//! One definition serves both: with `W` the fragments that are there, the slab survives a rule if for every failure `F` of the
//! rule `|W \ F| >= k`. A row is acknowledged by it, and margins are measured by it. Placement is decided elsewhere.

use crate::fragment_set::FragmentSet;
use strongroom_types::limits::FRAGMENTS_MAX;
use strongroom_types::{ClusterView, FragmentIndex, Holder, NodeId, Profile, SlabId, SlabRecord, ZoneId};

/// Which failures a row must survive before it is acknowledged. Never changes for a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckRule {
    /// Any one zone.
    Zone,
    /// Any one zone and any one node outside of it.
    ZonePlusOne,
}

/// Where the fragments of a slab are, by failure unit. Built from static configuration: it does not depend on who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    profile: Profile,
    zones: heapless::Vec<ZoneId, FRAGMENTS_MAX>,
    nodes: heapless::Vec<NodeId, FRAGMENTS_MAX>,
}

/// Why a slab's spread is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpreadError {
    /// A holder's node is not in the cluster's configuration: its zone is not known, so nothing can be called durable.
    #[error("{slab}: {node} is not in the configuration, so its zone is not known")]
    NodeUnknown {
        /// The slab.
        slab: SlabId,
        /// The node.
        node: NodeId,
    },
    /// The record names more or fewer holders than its profile has fragments.
    #[error("{slab}: {holders} holders for {fragments} fragments")]
    HolderCount {
        /// The slab.
        slab: SlabId,
        /// As named.
        holders: usize,
        /// As the profile has it.
        fragments: usize,
    },
}

impl Spread {
    /// The spread of `record`'s present layout.
    ///
    /// # Errors
    /// A holder's node that is not in `view`, or holders that do not fit the profile.
    pub fn of(record: &SlabRecord, view: &ClusterView) -> Result<Self, SpreadError> {
        Self::of_holders(record.slab, record.profile, &record.holders, view)
    }

    /// The spread of `holders`, in the order of the fragments, for `profile`; `slab` names it in errors.
    ///
    /// # Errors
    /// As for [`Spread::of`].
    pub fn of_holders(
        slab: SlabId,
        profile: Profile,
        holders: &[Holder],
        view: &ClusterView,
    ) -> Result<Self, SpreadError> {
        let fragments = usize::from(profile.fragment_count());
        if holders.len() != fragments {
            return Err(SpreadError::HolderCount { slab, holders: holders.len(), fragments });
        }
        let mut spread = Self { profile, zones: heapless::Vec::new(), nodes: heapless::Vec::new() };
        for holder in holders {
            let zone =
                view.zone_of(holder.node).ok_or(SpreadError::NodeUnknown { slab, node: holder.node })?;
            spread.push(zone, holder.node);
        }
        Ok(spread)
    }

    /// A spread from zone and node of each fragment; `None` where their count is not the profile's.
    pub fn from_places(profile: Profile, places: &[(ZoneId, NodeId)]) -> Option<Self> {
        if places.len() != usize::from(profile.fragment_count()) {
            return None;
        }
        let mut spread = Self { profile, zones: heapless::Vec::new(), nodes: heapless::Vec::new() };
        for (zone, node) in places {
            spread.push(*zone, *node);
        }
        Some(spread)
    }

    fn push(&mut self, zone: ZoneId, node: NodeId) {
        self.zones.push(zone).expect("a profile has at most FRAGMENTS_MAX fragments");
        self.nodes.push(node).expect("a profile has at most FRAGMENTS_MAX fragments");
    }

    /// How the slab is coded.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Zone of each fragment.
    pub fn zones(&self) -> &[ZoneId] {
        &self.zones
    }

    /// Node of each fragment.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// All fragments.
    pub fn all(&self) -> FragmentSet {
        FragmentSet::first(self.profile.fragment_count())
    }

    /// The fragments in `zone`.
    pub fn in_zone(&self, zone: ZoneId) -> FragmentSet {
        Self::at(&self.zones, zone)
    }

    /// The fragments on `node`.
    pub fn on_node(&self, node: NodeId) -> FragmentSet {
        Self::at(&self.nodes, node)
    }

    fn at<T: PartialEq + Copy>(places: &[T], place: T) -> FragmentSet {
        (0_u8..)
            .zip(places)
            .filter(|(_, candidate)| **candidate == place)
            .map(|(index, _)| FragmentIndex::new(index))
            .collect()
    }

    /// Whether the loss of all of these at once is one that the rule tolerates.
    pub fn tolerates(&self, rule: AckRule, lost: FragmentSet) -> bool {
        self.failures(rule).any(|failure| lost.is_subset_of(failure))
    }

    /// The worst failures of `rule`: each set of fragments that one of them takes away. A lesser failure takes a part of one of
    /// these, so what survives all of these survives every failure of the rule.
    pub fn failures(&self, rule: AckRule) -> impl Iterator<Item = FragmentSet> + '_ {
        let also = match rule {
            AckRule::Zone => None,
            AckRule::ZonePlusOne => Some(self),
        };
        self.zones.iter().flat_map(move |zone| {
            let zone = self.in_zone(*zone);
            let nodes =
                also.into_iter().flat_map(|spread| spread.nodes.iter().map(|node| spread.on_node(*node)));
            std::iter::once(zone).chain(nodes.map(move |node| zone.union(node)))
        })
    }
}

/// Whether the fragments in `written` make a row durable: for every failure of `rule`, `k` of them remain.
pub fn is_durable(spread: &Spread, written: FragmentSet, rule: AckRule) -> bool {
    survives(spread, written, rule)
}

/// Whether a slab of which the fragments in `available` are whole can still be read after any failure of `rule`.
pub fn survives(spread: &Spread, available: FragmentSet, rule: AckRule) -> bool {
    let needed = u32::from(spread.profile.data_count());
    let available = available.intersection(spread.all());
    spread.failures(rule).all(|failure| available.without(failure).len() >= needed)
}

/// What a slab survives now; a lower one is repaired first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Margin {
    /// It cannot be read.
    Lost,
    /// It can be read, and some single node's loss ends that.
    Nothing,
    /// Any one node's loss.
    Node,
    /// Any one zone's loss.
    Zone,
    /// Any one zone's loss and one more node's.
    ZonePlusOne,
}

/// What a slab survives of which the fragments in `available` are whole.
pub fn margin(spread: &Spread, available: FragmentSet) -> Margin {
    let needed = u32::from(spread.profile.data_count());
    let available = available.intersection(spread.all());
    let survives_node =
        || spread.nodes.iter().all(|node| available.without(spread.on_node(*node)).len() >= needed);
    if available.len() < needed {
        Margin::Lost
    } else if survives(spread, available, AckRule::ZonePlusOne) {
        Margin::ZonePlusOne
    } else if survives(spread, available, AckRule::Zone) {
        Margin::Zone
    } else if survives_node() {
        Margin::Node
    } else {
        Margin::Nothing
    }
}

#[cfg(test)]
pub(crate) mod tests;
