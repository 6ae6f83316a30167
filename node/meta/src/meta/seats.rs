//! Who is to sit where among a group's voters. Decisions only; [`super::voters`] carries them out.
//!
//! | a seat | goes to |
//! |---|---|
//! | whose node came back without its state | the same node, as who it is now |
//! | whose node was dismissed, or is given up | another member: of the zone with the fewest of the group's voters, its own before others |
//! | that shares a zone, while another zone has none of the group's voters and somebody who could be one | somebody there |
//! | whose node is to be emptied | another member that stays, of its zone or of one with no more of the group's voters; it waits where there is none |
//!
//! So voters of a zone that is lost go to nodes of the others, and back when it returns. Each change is of one seat, and only once the new
//! voter has what the leader had when it was asked for; there is no next one before the last is committed. A member that comes back later has no seat
//! any more. Who is to be emptied takes a seat only where nobody else of the zone could.

use crate::raft_id::RaftId;
use std::collections::{BTreeMap, BTreeSet};
use strongroom_types::{GroupId, NodeId, ZoneId};

/// What is to be done with a group's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A change is half done: finish it.
    Finish(BTreeSet<u64>),
    /// This learner is of no use.
    Forget(BTreeSet<u64>),
    /// One of the seconds, as soon as it has caught up, takes the place of its first.
    Replace(Vec<(u64, u64)>),
}

/// A node, as far as seats go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sitter {
    /// Its zone.
    pub(super) zone: ZoneId,
    /// Its seats are to go to others.
    pub(super) is_lost: bool,
    /// It may take one: it is admitted, and answers.
    pub(super) is_fit: bool,
    /// It is to be emptied: its seats are to go to others where the group survives no less then.
    pub(super) is_leaving: bool,
    /// How many it has, as far as known.
    pub(super) seats: usize,
}

/// A group's membership, and who could be in it.
pub(super) struct Table<'look> {
    /// The group.
    pub(super) group: Option<GroupId>,
    /// Voter sets, more than one where the membership is joint.
    pub(super) configs: &'look [BTreeSet<u64>],
    /// All ids in it, learners included.
    pub(super) ids: &'look BTreeSet<u64>,
    /// All nodes.
    pub(super) sitters: &'look BTreeMap<NodeId, Sitter>,
    /// The last incarnation that each node was given, where that is not the first.
    pub(super) enrolments: &'look BTreeMap<NodeId, u32>,
    /// Who looks: the leader moves itself last.
    pub(super) leader: u64,
}

fn node_of(id: u64) -> NodeId {
    RaftId::from_bits(id).node()
}

impl Table<'_> {
    /// The next step, if there is one.
    pub(super) fn next_step(&self) -> Option<Step> {
        let voters = self.configs.last()?;
        if self.configs.len() > 1 {
            return Some(Step::Finish(voters.clone()));
        }
        let mut pairs = self.returned(voters);
        pairs.extend(self.lost(voters));
        if pairs.is_empty() {
            pairs.extend(self.crowded(voters));
        }
        if pairs.is_empty() {
            pairs = self.leaving(voters);
        }
        let is_of_use = |id: &u64| voters.contains(id) || pairs.iter().any(|(_, new)| new == id);
        let useless: BTreeSet<u64> = self.ids.iter().filter(|id| !is_of_use(id)).copied().collect();
        if !useless.is_empty() {
            return Some(Step::Forget(useless));
        }
        (!pairs.is_empty()).then_some(Step::Replace(pairs))
    }

    /// The id of the node's present life. Never back: a membership may know of a later incarnation than an answer that took long.
    fn present(&self, node: NodeId) -> Option<u64> {
        let known = self.ids.iter().filter(|id| node_of(**id) == node);
        let known = known.map(|id| RaftId::from_bits(*id).incarnation());
        let given = self.enrolments.get(&node).copied().unwrap_or(0);
        Some(RaftId::new(node, known.chain([given]).max()?)?.to_bits())
    }

    fn is_lost(&self, id: u64) -> bool {
        self.sitters.get(&node_of(id)).is_some_and(|sitter| sitter.is_lost)
    }

    /// Voters whose node has another id by now, with that.
    fn returned(&self, voters: &BTreeSet<u64>) -> Vec<(u64, u64)> {
        let here = voters.iter().filter(|id| !self.is_lost(**id));
        let pairs = here.filter_map(|old| Some((*old, self.present(node_of(*old))?)));
        pairs.filter(|(old, new)| old != new).collect()
    }

    /// Voters whose node is lost, each with somebody else.
    fn lost(&self, voters: &BTreeSet<u64>) -> Vec<(u64, u64)> {
        let (lost, stays): (Vec<u64>, Vec<u64>) = voters.iter().partition(|id| self.is_lost(**id));
        let mut seated: Vec<u64> = stays;
        let mut pairs = Vec::new();
        for old in lost {
            let own = self.sitters.get(&node_of(old)).map(|sitter| sitter.zone);
            let zones = self.voters_by_zone(&seated);
            let rank = |sitter: &Sitter| {
                Some((zones.get(&sitter.zone).copied().unwrap_or(0), Some(sitter.zone) != own))
            };
            if let Some(new) = self.best(voters, &seated, rank) {
                seated.push(new);
                pairs.push((old, new));
            }
        }
        pairs
    }

    /// A voter that shares its zone, with somebody of a zone that has none.
    fn crowded(&self, voters: &BTreeSet<u64>) -> Option<(u64, u64)> {
        let seated: Vec<u64> = voters.iter().copied().collect();
        let zones = self.voters_by_zone(&seated);
        let zone = |id: &u64| self.sitters.get(&node_of(*id)).map(|sitter| sitter.zone);
        let count = |id: &u64| zone(id).and_then(|zone| zones.get(&zone)).copied().unwrap_or(0);
        let shares = voters.iter().filter(|id| count(id) > 1);
        let old = *shares.max_by_key(|id| (count(id), **id != self.leader, **id))?;
        let empty = |sitter: &Sitter| zones.contains_key(&sitter.zone);
        let new = self.best(voters, &seated, |sitter| Some((usize::from(empty(sitter)), false)))?;
        let is_better = self.sitters.get(&node_of(new)).is_some_and(|sitter| !empty(sitter));
        is_better.then_some((old, new))
    }

    /// Voters whose node is to be emptied, each with somebody who stays and is of no fuller zone. The leader moves itself last.
    fn leaving(&self, voters: &BTreeSet<u64>) -> Vec<(u64, u64)> {
        let sitter = |id: u64| self.sitters.get(&node_of(id));
        let leaves = |id: &u64| sitter(*id).is_some_and(|sitter| sitter.is_leaving);
        let mut leaving: Vec<u64> = voters.iter().copied().filter(leaves).collect();
        leaving.sort_by_key(|id| *id == self.leader);
        let mut seated: Vec<u64> = voters.iter().copied().collect();
        let mut pairs = Vec::new();
        for old in leaving {
            let Some(own) = sitter(old).map(|sitter| sitter.zone) else { continue };
            seated.retain(|id| *id != old);
            let zones = self.voters_by_zone(&seated);
            let count = |zone: ZoneId| zones.get(&zone).copied().unwrap_or(0);
            let rank = |sitter: &Sitter| {
                let is_better = !sitter.is_leaving && count(sitter.zone) <= count(own);
                is_better.then(|| (count(sitter.zone), sitter.zone != own))
            };
            let new = self.best(voters, &seated, rank);
            seated.push(new.unwrap_or(old));
            pairs.extend(new.map(|new| (old, new)));
        }
        pairs
    }

    fn voters_by_zone(&self, voters: &[u64]) -> BTreeMap<ZoneId, usize> {
        let mut zones = BTreeMap::new();
        for sitter in voters.iter().filter_map(|id| self.sitters.get(&node_of(*id))) {
            *zones.entry(sitter.zone).or_default() += 1;
        }
        zones
    }

    /// Who is to sit beside those that are seated, of those that have a rank: of the lowest; of these one that stays; then one that learns already, so that no
    /// look undoes what the last one began; then one with few seats; then each group another one.
    fn best(
        &self,
        voters: &BTreeSet<u64>,
        seated: &[u64],
        rank: impl Fn(&Sitter) -> Option<(usize, bool)>,
    ) -> Option<u64> {
        let is_free = |node: NodeId| voters.iter().chain(seated).all(|id| node_of(*id) != node);
        let turn = self.group.map_or(0, |group| usize::from(group.get()) + 1);
        let count = self.sitters.len();
        let fit = (0..count).zip(self.sitters).filter(|(_, (node, sitter))| sitter.is_fit && is_free(**node));
        let ranked = fit.filter_map(|(place, (node, sitter))| {
            let id = self.present(*node)?;
            let learns_not = !self.ids.contains(&id);
            let place = (place + count - turn % count) % count;
            Some(((rank(sitter)?, sitter.is_leaving, learns_not, sitter.seats, place), id))
        });
        ranked.min().map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests;
