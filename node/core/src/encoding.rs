//! What encoders are asked, by a conversion as by a repair.

use crate::fragment_set::FragmentSet;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use strongroom_format::cold;
use strongroom_format::wire::message::{Encode, FragmentAddress, Source, Sources};
use strongroom_types::{ClusterView, Health, NodeId, SlabRecord, ZoneId};

/// One zone's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeTask {
    /// Who computes it: a node of the zone.
    pub node: NodeId,
    /// The message.
    pub encode: Encode,
}

/// What an encoder answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// All its fragments are durable; checksums of their tables, in the order of its targets.
    Done {
        /// The checksums.
        tables_crc32c: Vec<u32>,
    },
    /// A holder would not take its fragment as things are.
    Refused,
    /// A fragment did not come out as it was before: what it was made from is wrong, though its checksums held.
    Differs,
    /// It did not answer, or had what it needs not at hand.
    Failed,
}

/// The fragments in `wanted` that are on nodes that answer.
pub(crate) fn sources(record: &SlabRecord, wanted: FragmentSet, view: &ClusterView) -> Vec<Source> {
    let is_up = |node: NodeId| view.node(node).is_some_and(|node| node.health == Health::Up);
    let there = FragmentAddress::all_of(record)
        .filter(|(node, address)| wanted.contains(address.fragment) && is_up(*node));
    there.map(|(node, address)| Source { node, address }).collect()
}

/// The nearest to `node` first: its own, those of its zone, then zone by zone, the one with the most first. So of k that are read as few zones as can be have one,
/// and of each a sum can be asked for. Among equally near ones the order stays.
pub(crate) fn nearest_first(sources: &mut [Source], node: NodeId, view: &ClusterView) {
    let zone_of = |source: &Source| view.zone_of(source.node);
    let mut counts: BTreeMap<Option<ZoneId>, usize> = BTreeMap::new();
    for source in sources.iter() {
        *counts.entry(zone_of(source)).or_default() += 1;
    }
    sources.sort_by_key(|source| {
        let zone = zone_of(source);
        (source.node != node, zone != view.zone_of(node), Reverse(counts.get(&zone).copied()), zone)
    });
}

/// Whether a zone with so many of the fragments that are read sends a sum for each of those that are made: where that is shorter.
pub fn is_summed(read_count: usize, made_count: usize) -> bool {
    read_count > made_count
}

impl EncodeTask {
    /// Reads and writes of drives, each of at most `window_len_bytes`, and bytes between zones, that it takes if all goes well.
    pub fn cost(&self, view: &ClusterView, window_len_bytes: u32) -> Cost {
        let Encode { profile, image_len_bytes, .. } = self.encode;
        let slice_len_bytes = u64::from(cold::slice_len(image_len_bytes, profile.data_count()));
        let made_count = self.encode.targets.len();
        let read_count = match &self.encode.sources {
            Sources::Moved(_) => made_count,
            Sources::Copies(_) | Sources::Fragments(_) => usize::from(profile.data_count()),
        };
        let own = view.zone_of(self.node);
        let mut far: BTreeMap<Option<ZoneId>, usize> = BTreeMap::new();
        if let Sources::Fragments(sources) = &self.encode.sources {
            for zone in sources.iter().take(read_count).map(|source| view.zone_of(source.node)) {
                *far.entry(zone).or_default() += usize::from(zone != own);
            }
        }
        let sent =
            far.into_values().map(|count| if is_summed(count, made_count) { made_count } else { count });
        let windows = slice_len_bytes.div_ceil(u64::from(window_len_bytes));
        Cost {
            operations: windows * (read_count + made_count) as u64,
            far_bytes: slice_len_bytes * sent.sum::<usize>() as u64,
        }
    }
}

/// What an encoding takes of drives and of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Reads and writes.
    pub operations: u64,
    /// Bytes between zones.
    pub far_bytes: u64,
}
