//! The drives of a zone that fragments may go to, and drawing among them.

use crate::limits::{DRIVE_FULL_PERCENT_MAX, DRIVE_FULL_PREFERRED_PERCENT_MAX};
use strongroom_types::limits::ZONES_MAX;
use strongroom_types::{ClusterView, DriveView, Health, Holder, Holders, NodeId, NodeView, ZoneId};

/// Whether drives are to be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staying {
    /// They are not.
    Stays,
    /// They are.
    Leaves,
}

/// The drives of one zone that may be chosen.
pub(super) struct Pool {
    pub(super) zone: ZoneId,
    pub(super) staying: Staying,
    /// Each with the weight of its free bytes.
    pub(super) drives: Vec<(Holder, u64)>,
}

impl Pool {
    /// Some of them.
    pub(super) fn only(&self, wanted: impl Fn(&Holder) -> bool) -> Self {
        let drives = self.drives.iter().copied().filter(|(holder, _)| wanted(holder)).collect();
        Self { zone: self.zone, staying: self.staying, drives }
    }
}

/// The zones in which drives may be chosen that are not to be emptied, by id; zones without any are left out.
pub(super) fn pools(view: &ClusterView, avoid: &[NodeId]) -> heapless::Vec<Pool, ZONES_MAX> {
    let zones = view.zones().into_iter().take(ZONES_MAX);
    let pools = zones.map(|zone| best_pool(view, zone, avoid, Staying::Stays));
    pools.filter(|pool| !pool.drives.is_empty()).collect()
}

/// Drives that are to be emptied, of the zones that have no others, whoever is to be avoided.
pub(super) fn pools_leaving(view: &ClusterView, avoid: &[NodeId]) -> heapless::Vec<Pool, ZONES_MAX> {
    let has_none = |zone: &ZoneId| best_pool(view, *zone, &[], Staying::Stays).drives.is_empty();
    let zones = view.zones().into_iter().take(ZONES_MAX).filter(has_none);
    let pools = zones.map(|zone| best_pool(view, zone, avoid, Staying::Leaves));
    pools.filter(|pool| !pool.drives.is_empty()).collect()
}

fn best_pool(view: &ClusterView, zone: ZoneId, avoid: &[NodeId], staying: Staying) -> Pool {
    let pool = |full_percent_max: u32| pool_of(view, zone, avoid, full_percent_max, staying);
    let preferred = pool(DRIVE_FULL_PREFERRED_PERCENT_MAX);
    if preferred.drives.is_empty() { pool(DRIVE_FULL_PERCENT_MAX) } else { preferred }
}

pub(super) fn pool_of(
    view: &ClusterView,
    zone: ZoneId,
    avoid: &[NodeId],
    full_percent_max: u32,
    staying: Staying,
) -> Pool {
    let nodes = view.nodes.iter().filter(|node| node.zone == zone && node.health == Health::Up);
    let nodes = nodes.filter(|node| !avoid.contains(&node.node));
    let is_wanted = |holder: &Holder| view.is_leaving(*holder) == (staying == Staying::Leaves);
    let drives =
        nodes.flat_map(|node| usable(node, full_percent_max)).filter(|(holder, _)| is_wanted(holder));
    Pool { zone, staying, drives: drives.collect() }
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

/// Holders chosen so far.
#[derive(Default)]
pub(super) struct Choosing {
    pub(super) holders: Holders,
    /// Some node holds two of them.
    pub(super) nodes_shared: bool,
}

impl Choosing {
    /// Draws a drive of a node that holds nothing yet; says whether there was one.
    pub(super) fn take_distinct_node(&mut self, pool: &Pool, draw: &mut Draw) -> bool {
        let taken = |holder: &Holder| self.holders.iter().any(|other| other.node == holder.node);
        let Some(holder) = draw.drive(pool, |holder| !taken(holder)) else { return false };
        self.holders.push(holder).is_ok()
    }

    /// Draws a drive that holds nothing yet; says whether there was one.
    pub(super) fn take_distinct_drive(&mut self, pool: &Pool, draw: &mut Draw) -> bool {
        let Some(holder) = draw.drive(pool, |holder| !self.holders.contains(holder)) else { return false };
        self.nodes_shared |= self.holders.iter().any(|other| other.node == holder.node);
        self.holders.push(holder).is_ok()
    }
}

/// Numbers from a seed (SplitMix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
pub(super) struct Draw {
    pub(super) state: u64,
}

impl Draw {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Puts them in another order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
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
