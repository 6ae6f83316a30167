//! Whether slab table, namespace and drives agree, once a run is quiet.

use super::Violation;
use super::content::Content;
use super::harm::Harm;
use std::collections::{BTreeMap, BTreeSet};
use strongroom_core::durable::{AckRule, Spread, survives};
use strongroom_core::fragment_set::FragmentSet;
use strongroom_core::limits::DRIVE_FULL_PERCENT_MAX;
use strongroom_core::planner::cold_profile;
use strongroom_format::cold;
use strongroom_format::extent::FragmentGeometry;
use strongroom_format::wire::message::{DriveState, FragmentAddress, FragmentReport};
use strongroom_types::{
    ClusterView, DrainSubject, DriveId, Epoch, FragmentIndex, Generation, Health, Holder, Locator, NodeId,
    NodeView, Profile, SessionId, SlabId, SlabRecord, SlabState, VersionId, ZoneId,
};

/// A fragment of a layout, on a drive of a node.
pub type Place = (NodeId, DriveId, SlabId, FragmentIndex, Generation);

/// What a cluster says of itself when nothing is under way.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The zone of each node.
    pub zones: BTreeMap<NodeId, ZoneId>,
    /// All slabs of all groups.
    pub slabs: BTreeMap<SlabId, SlabRecord>,
    /// The needles of every kept version, under a name for people (bucket and key).
    pub versions: Vec<(String, VersionId, Vec<Locator>)>,
    /// How many of these are of keys that are deleted.
    pub deleted_versions: u64,
    /// What each drive holds.
    pub fragments: Vec<(NodeId, DriveId, Vec<FragmentReport>)>,
    /// Every drive as its node tells it.
    pub drives: Vec<(NodeId, DriveState)>,
    /// What is to be emptied.
    pub drains: BTreeSet<DrainSubject>,
    /// How many drives each node could not open.
    pub drives_failed: BTreeMap<NodeId, u16>,
    /// The present session of each node.
    pub sessions: BTreeMap<NodeId, SessionId>,
    /// What can be read of the fragments that drives hold, where they were read.
    pub contents: BTreeMap<Place, Content>,
    /// Slabs whose record changed while contents were read: nothing is said of their bytes. There must be none once all is at rest.
    pub unsteady: BTreeSet<SlabId>,
    /// A drive took or gave back extents while it was looked at: what it says of them and of its fragments are of two moments.
    pub drives_moved: bool,
    /// A number of the seed's, by which it is chosen what is gone through where not all can be.
    pub salt: u64,
    /// What was done to drives in the run.
    pub harm: Harm,
    /// What groups say that versions have in slabs, where they were asked.
    pub backwards: Option<super::reclaim::Backwards>,
}

impl Facts {
    /// Whether this drive is to be emptied.
    pub fn is_leaving(&self, node: NodeId, drive: DriveId) -> bool {
        self.drains.iter().any(|subject| subject.covers(Holder { node, drive }))
    }
}

/// Checks invariants 1, 2, 3 and 10 and the accounting of space, as far as they can be seen from outside.
///
/// Not checked: bytes (the reads of the run do that), the past (whether a row was durable at the very moment of its
/// acknowledgement; killing nodes at any moment and reading afterwards does that), slabs that are still open, since their
/// holders may differ by the rows in flight, slabs without rows, and Raft's own state. Of layouts that were there when drives were harmed a fragment
/// may be short on these; enough of the others must be there all the same. What is known to be lost is made
/// again before a run settles, and what rotted is known by then: everything was read since the faults ended.
pub fn check(facts: &Facts) -> Vec<Violation> {
    let mut violations = Vec::new();
    check_versions(facts, &mut violations);
    check_slabs(facts, &mut violations);
    check_fragments(facts, &mut violations);
    check_drives(facts, &mut violations);
    check_rot(facts, &mut violations);
    for slab in &facts.unsteady {
        let words = format!("{slab} changed while it was looked at: {:?}", facts.slabs.get(slab));
        found(&mut violations, "I13: nothing changes once all is at rest", words);
    }
    violations
}

/// Whether the run was furnished with drives of which some are so small that they get full.
pub fn has_small_drives(drives: &[(NodeId, DriveState)]) -> bool {
    let lens =
        || drives.iter().map(|(_, state)| u64::from(state.extents_total) * u64::from(state.extent_len_bytes));
    lens().min().unwrap_or(0) < lens().max().unwrap_or(0) / 2
}

/// Whether a slab may stay copies, and what attempts to make it cold have left be kept for the next one: it is sealed, some drives are small or
/// some node has none in use (which [`check`] allows of harmed ones alone, and of those that are to be emptied), and its cold layout has no room: it has as many
/// fragments in each zone, on distinct nodes.
pub fn may_stay_hot(facts: &Facts, record: &SlabRecord) -> bool {
    let Some(sealed) = record.sealed().filter(|sealed| record.profile.is_copies() && sealed.rows > 0) else {
        return false;
    };
    let is_out = |node: &NodeId| {
        !facts
            .drives
            .iter()
            .any(|(of, state)| of == node && state.writable && !facts.is_leaving(*of, state.drive))
    };
    if !has_small_drives(&facts.drives) && !facts.zones.keys().any(is_out) {
        return false;
    }
    let Some(profile) = cold_profile(&view(facts)) else { return true };
    let data_len_bytes = cold::data_len(cold::slice_len(sealed.len_bytes, profile.data_count()));
    let takes = |node: &NodeId| {
        let mut own = facts.drives.iter().filter(|(of, _)| of == node);
        own.any(|(of, state)| has_room(facts, record, *of, state, data_len_bytes))
    };
    let zones: BTreeSet<ZoneId> = facts.zones.values().copied().collect();
    let wanted = usize::from(profile.fragment_count()).div_ceil(zones.len());
    zones.iter().any(|zone| {
        let nodes = facts.zones.iter().filter(|(_, of)| *of == zone).map(|(node, _)| node);
        nodes.filter(|node| takes(node)).count() < wanted
    })
}

/// Slabs that are copies and for which there is room to become cold. None is there when a cluster settles; but where drives are small room may be made after
/// that, by a slab that became cold, or gave its next layout up.
pub fn are_to_become_cold(facts: &Facts) -> usize {
    sealed_copies(facts).filter(|record| !may_stay_hot(facts, record)).count()
}

/// Sealed slabs with rows that are copies.
pub fn copies(facts: &Facts) -> usize {
    sealed_copies(facts).count()
}

fn sealed_copies(facts: &Facts) -> impl Iterator<Item = &SlabRecord> {
    let records = facts.slabs.values().filter(|record| record.profile.is_copies());
    records.filter(|record| record.sealed().is_some_and(|sealed| sealed.rows > 0))
}

/// Whether a drive could take a fragment of the next layout of a slab, what it has of it already included.
pub(super) fn has_room(
    facts: &Facts,
    record: &SlabRecord,
    node: NodeId,
    state: &DriveState,
    data_len_bytes: u64,
) -> bool {
    if facts.is_leaving(node, state.drive) {
        return false;
    }
    let Ok(geometry) = FragmentGeometry::for_extent_len(state.extent_len_bytes) else { return false };
    let reports = facts.fragments.iter().filter(|(_, drive, _)| *drive == state.drive);
    // Of layouts that were given up too: that is given back.
    let of_next = reports
        .flat_map(|(_, _, reports)| reports)
        .filter(|report| report.address.slab == record.slab && report.address.generation > record.generation);
    let taken: u32 = of_next.map(|report| report.extents).sum();
    let needed = geometry.extents_for(data_len_bytes);
    // Placement asks for this even of a drive that has all of it already.
    state.writable && is_chosen(state) && state.extents_free + taken >= needed
}

/// The cluster as a caretaker would see it with every node up.
fn view(facts: &Facts) -> ClusterView {
    let nodes = facts.zones.iter().map(|(node, zone)| NodeView {
        node: *node,
        zone: *zone,
        health: Health::Up,
        may_hold_data: true,
        given_up: false,
        leaving: {
            let mut own = facts.drives.iter().filter(|(of, _)| of == node).peekable();
            own.peek().is_some() && own.all(|(of, state)| facts.is_leaving(*of, state.drive))
        },
        drives: Vec::new(),
    });
    ClusterView { nodes: nodes.collect(), ..ClusterView::default() }
}

/// Whether a fragment has all rows of a sealed slab of copies and its holder is not counted, though such a one is asked again: nobody may find
/// work at rest with it.
pub fn is_uncounted(record: &SlabRecord, report: &FragmentReport) -> bool {
    let address = &report.address;
    let place = usize::from(address.fragment.get());
    address.is_of(record)
        && record.profile.is_copies()
        && record.sealed().is_some_and(|sealed| {
            sealed.missing >> place & 1 == 1 && sealed.rows > 0 && report.len_bytes >= sealed.len_bytes
        })
}

/// The first fragment of a cold slab that `node` is to hold and that is known to be lost, though a drive of the node could take it: the table has it as
/// missing, or its drive is not the node's (any more). Whether one that counts is there and whole is not asked here.
pub fn not_made_again(facts: &Facts, record: &SlabRecord, node: NodeId) -> Option<FragmentIndex> {
    let sealed = record.sealed().filter(|_| !record.profile.is_copies())?;
    let own = || facts.drives.iter().filter(|(of, _)| *of == node).map(|(_, state)| state);
    let data_len_bytes = cold::data_len(cold::slice_len(sealed.len_bytes, record.profile.data_count()));
    // One on which another fragment of the slab is takes none.
    let could = |lost: FragmentIndex| {
        let others =
            || (0..).map(FragmentIndex::new).zip(&record.holders).filter(|(other, _)| *other != lost);
        own().any(|state| {
            has_room(facts, record, node, state, data_len_bytes)
                && others().all(|(_, holder)| holder.drive != state.drive)
        })
    };
    let lost = FragmentAddress::all_of(record).filter(|(of, _)| *of == node).filter(|(_, address)| {
        let known = own().any(|state| state.drive == address.drive && !state.gone);
        sealed.missing >> address.fragment.get() & 1 == 1 || !known
    });
    lost.map(|(_, address)| address.fragment).find(|fragment| could(*fragment))
}

/// Whether placement takes a drive as full as this at all.
pub(super) fn is_chosen(state: &DriveState) -> bool {
    let least = u64::from(100 - DRIVE_FULL_PERCENT_MAX);
    state.extents_free > 0 && u64::from(state.extents_free) * 100 >= u64::from(state.extents_total) * least
}

/// Whether the slab table names this fragment, which `node` has.
pub fn is_named(record: &SlabRecord, node: NodeId, report: &FragmentReport) -> bool {
    let address = &report.address;
    let holder = record.holders.get(usize::from(address.fragment.get()));
    record.state != SlabState::Dead
        && address.is_of(record)
        && holder.is_some_and(|holder| holder.node == node)
}

/// Fragments of slabs that are dead, have got another layout, or have given this one up, all of which are given back after a while. None is there when a cluster
/// settles; but where drives are small a slab may become cold after that, once something else made room.
pub fn superseded(facts: &Facts) -> usize {
    let is_superseded = |report: &&FragmentReport| {
        let address = &report.address;
        facts.slabs.get(&address.slab).is_some_and(|record| {
            record.state == SlabState::Dead
                || (address.generation < record.next_generation && !address.is_of(record))
        })
    };
    facts.fragments.iter().flat_map(|(_, _, reports)| reports).filter(is_superseded).count()
}

/// Slabs of which a node has two fragments, since there were too few nodes when they were laid out.
pub fn doubled(facts: &Facts) -> usize {
    let is_doubled = |record: &&SlabRecord| {
        let nodes: BTreeSet<NodeId> = record.holders.iter().map(|holder| holder.node).collect();
        record.state != SlabState::Dead && nodes.len() != record.holders.len()
    };
    facts.slabs.values().filter(is_doubled).count()
}

fn found(violations: &mut Vec<Violation>, rule: &'static str, found: String) {
    violations.push(Violation { rule, found });
}

fn check_versions(facts: &Facts, violations: &mut Vec<Violation>) {
    let mut owners: BTreeMap<(SlabId, u32), VersionId> = BTreeMap::new();
    for (name, version, locators) in &facts.versions {
        for locator in locators {
            if let Some(other) = owners.insert((locator.slab, locator.offset_bytes), *version)
                && other != *version
            {
                found(
                    violations,
                    "I2: a locator is in at most one version",
                    format!("{name}: {locator:?} is also in {other}"),
                );
            }
            match facts.slabs.get(&locator.slab).map(|slab| &slab.state) {
                None | Some(SlabState::Dead) => {
                    found(
                        violations,
                        "I5: no version points into a dead slab",
                        format!("{name}: {locator:?}"),
                    );
                }
                Some(SlabState::Sealed(sealed)) if locator.end_bytes() > u64::from(sealed.len_bytes) => {
                    let len = sealed.len_bytes;
                    found(
                        violations,
                        "I1: rows of versions are durable",
                        format!("{name}: {locator:?} is beyond the sealed {len} B"),
                    );
                }
                Some(SlabState::Open | SlabState::Sealing | SlabState::Sealed(_)) => {}
            }
        }
    }
    // Two needles never overlap.
    let mut ends: BTreeMap<SlabId, BTreeMap<u32, u64>> = BTreeMap::new();
    for locator in facts.versions.iter().flat_map(|(_, _, locators)| locators) {
        ends.entry(locator.slab).or_default().insert(locator.offset_bytes, locator.end_bytes());
    }
    for (slab, needles) in ends {
        for ((start, end), (next, _)) in needles.iter().zip(needles.iter().skip(1)) {
            if *end > u64::from(*next) {
                found(
                    violations,
                    "I2: needles do not overlap",
                    format!("{slab}: needle at {start} ends at {end}, next at {next}"),
                );
            }
        }
    }
}

fn check_slabs(facts: &Facts, violations: &mut Vec<Violation>) {
    for (slab, record) in &facts.slabs {
        if record.state == SlabState::Dead {
            continue;
        }
        // Distinct nodes, where there were enough when it was laid out: that cannot be seen afterwards, so it is counted and not judged.
        let drives: BTreeSet<DriveId> = record.holders.iter().map(|holder| holder.drive).collect();
        if drives.len() != record.holders.len() {
            found(violations, "I10: fragments on distinct drives", format!("{slab}: {:?}", record.holders));
        }
        let places = record.holders.iter().map(|holder| Some((*facts.zones.get(&holder.node)?, holder.node)));
        let spread =
            places.collect::<Option<Vec<_>>>().and_then(|all| Spread::from_places(record.profile, &all));
        if !spread.as_ref().is_some_and(|spread| survives(spread, spread.all(), AckRule::Zone)) {
            found(
                violations,
                "I10, I11: fragments are spread so that any zone may go",
                format!("{slab}: {} on {:?}", record.profile, record.holders),
            );
        }
        let Some(sealed) = record.sealed().filter(|sealed| sealed.rows > 0) else { continue };
        // Those that were harmed were whole before.
        let (mut whole, mut once_whole) = (FragmentSet::EMPTY, FragmentSet::EMPTY);
        for (index, holder) in record.holders.iter().enumerate() {
            let fragment = FragmentIndex::new(u8::try_from(index).expect("a profile has few fragments"));
            let reports = facts
                .fragments
                .iter()
                .filter(|(node, drive, _)| (*node, *drive) == (holder.node, holder.drive));
            let report = reports
                .flat_map(|(_, _, reports)| reports)
                .find(|report| report.address.fragment == fragment && report.address.is_of(record));
            let harmed = facts.harm.excuses(holder, *slab, record.made_under[index]);
            if sealed.missing >> index & 1 == 1 {
                // It is for the harm that it was not whole.
                if harmed {
                    once_whole.insert(fragment);
                } else if let Some(report) = report.filter(|report| is_uncounted(record, report)) {
                    found(
                        violations,
                        "seal: a holder that was silent counts once it shows every row",
                        format!("{report:?}: {record:?}"),
                    );
                }
                continue;
            }
            match report {
                Some(report) if is_whole(report, record.profile, sealed.len_bytes, record.epoch) => {
                    whole.insert(fragment);
                    once_whole.insert(fragment);
                }
                _ if harmed => once_whole.insert(fragment),
                Some(report) => {
                    found(
                        violations,
                        "I3: holders hold the sealed image",
                        format!("{slab} fragment {index}: {report:?}, sealed {sealed:?}"),
                    );
                }
                None => {
                    found(
                        violations,
                        "I3: holders hold the sealed image",
                        format!("{slab} fragment {index} is not on {holder:?}"),
                    );
                }
            }
        }
        let survived = spread.is_some_and(|spread| survives(&spread, once_whole, AckRule::Zone));
        if whole.len() < u32::from(record.profile.data_count()) || !survived {
            found(
                violations,
                "I1: durable in more than one zone",
                format!("{slab}: {whole:?} are whole, {once_whole:?} were: {record:?}"),
            );
        }
    }
}

fn is_whole(report: &FragmentReport, profile: Profile, len_bytes: u32, epoch: Epoch) -> bool {
    let block = u64::from(strongroom_types::units::BLOCK_LEN_BYTES);
    let slice = u64::from(len_bytes).div_ceil(u64::from(profile.data_count())).next_multiple_of(block);
    let has_all = if profile.is_copies() {
        // One that was not told the agreed length may have more; until it is made cold, or told.
        report.len_bytes >= len_bytes
    } else {
        u64::from(report.len_bytes) == slice
    };
    report.sealed && report.epoch >= epoch && has_all
}

/// Whatever was not harmed is in use: each drive admitted, not suspect, and open. Of a harmed one nothing is said, it may be refused for good.
fn check_drives(facts: &Facts, violations: &mut Vec<Violation>) {
    let rule = "drives: what was not harmed takes fragments";
    let harmed_places = |node: &NodeId| facts.harm.places.iter().filter(|(of, _)| of == node).count();
    for (node, state) in &facts.drives {
        if !state.writable && !facts.harm.drives.contains(&state.drive) {
            found(violations, rule, format!("{node}: {state:?}"));
        }
    }
    for (node, failed) in &facts.drives_failed {
        if usize::from(*failed) > harmed_places(node) {
            found(violations, rule, format!("{node} could not open {failed} drives"));
        }
    }
}

/// Nothing that rotted stays: it was found, and made again or is known to be missing. What a drive cannot read just now is no rot.
fn check_rot(facts: &Facts, violations: &mut Vec<Violation>) {
    for record in facts.slabs.values().filter(|record| !record.profile.is_copies()) {
        let Some(sealed) = record.sealed() else { continue };
        for (node, address) in FragmentAddress::all_of(record) {
            let place = (node, address.drive, address.slab, address.fragment, address.generation);
            let counts = sealed.missing >> address.fragment.get() & 1 == 0;
            let fault = facts.contents.get(&place).filter(|_| counts).and_then(Content::fault);
            if let Some(fault) = fault.filter(|fault| fault.contains(ROT)) {
                let rule = "scrub: nothing that rotted stays";
                found(violations, rule, format!("{node} {address:?}: {fault}"));
            }
        }
    }
}

/// How a holder says it of a block.
const ROT: &str = "do not match their checksum";

/// Space: what no slab accounts for must be given back, if not at once.
fn check_fragments(facts: &Facts, violations: &mut Vec<Violation>) {
    for (node, drive, reports) in &facts.fragments {
        for report in reports {
            let record = facts.slabs.get(&report.address.slab);
            let known = record.is_some_and(|record| is_named(record, *node, report));
            // Of an attempt to make it cold, which is made again where there is room; or of one that was just given up: settling has seen that such are given back.
            let is_attempt = record.is_some_and(|record| {
                record.next_generation <= report.address.generation && may_stay_hot(facts, record)
            });
            if !known && !is_attempt {
                found(
                    violations,
                    "space: no fragment that the slab table does not know",
                    format!("{node} {drive}: {report:?}"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
