//! Which misfortunes may meet: the promise of Strongroom, as rules that a plan of faults is held to.
//!
//! A plan that keeps them must end with every acknowledged object readable, byte for byte. A run that is to go beyond them is a story of its own
//! (`scenarios`), and must end in an alarm, an error or a refusal, never in wrong bytes.
//!
//! **One zone, once.** The promise is that any one zone may vanish at any time after the 200. What is lost is made again, but rot that nobody has met is not until a tour
//! comes by, so a zone whose media were harmed stays *the harmed zone* until the run ends: no other zone's media are ever harmed ([`Rule::HarmInOneZone`]).
//!
//! **Away is not lost.** A process that is killed, a machine without power, a drive that hangs and a cut network take nothing that was flushed. So
//! nodes of any zones may be away, two zones and all of them at once, any number of times: then nobody is served, and afterwards everything is
//! there. While the harmed zone suffers its own misfortunes the other two must both be there ([`Rule::NotBesideHarm`]), or else power fails for all
//! of them at once: what was acknowledged is then on their media.
//!
//! **Lies cost no more than errors.** A drive that fails, is gone, or gives bytes that do not match their checksums is known to be bad. One that says
//! a row is durable and does not have it later, with headers that fit each other (a lost write, a flush that lied and a power cut, a drive that comes
//! back older), is not; while its slab is not sealed, its word may be one of the only two that count, and the other one may be away when the slab is
//! sealed. But the seal is told by the writer, or by the groups, where the locators end: so it waits for the other, and the liar's zone is all that
//! has failed.
//!
//! **State directories** are like drives: those of the harmed zone alone are lost or come back older. A voter that forgot is no voter until its group
//! has let it in anew, so its group then has two, and waits if another is away.
//!
//! **Drains** take nothing: what is to be emptied counts and is read until its fragments are elsewhere. They may be at any time, one at a time.
//!
//! **Clocks** decide nothing but when to lose patience: they may go wrong at any time, on any node.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

/// What an episode takes from the cluster while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toll {
    /// A node is away, or as good as: dead, still, mute, its drive hangs. What it flushed stays.
    Node(NodeId),
    /// All nodes of a zone are, or cannot be reached.
    Zone(ZoneId),
    /// Power fails everywhere.
    Power,
    /// Messages of all nodes are lost, late, doubled or damaged.
    Disorder,
    /// The clocks of a node are wrong.
    Clock(NodeId),
    /// Bytes on a node's drives are harmed, gone, or not those that were said to be there.
    Media(NodeId),
    /// A node's state directory is lost or comes back older.
    State(NodeId),
    /// Something is to be emptied: takes nothing, since it is read until what it held is elsewhere.
    Drain,
}

impl Toll {
    /// The node that is harmed for good, if any is.
    fn harms(self) -> Option<NodeId> {
        match self {
            Self::Media(node) | Self::State(node) => Some(node),
            Self::Node(_) | Self::Zone(_) | Self::Power | Self::Disorder | Self::Clock(_) | Self::Drain => {
                None
            }
        }
    }
}

/// Why an episode may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Media and state directories are harmed in one zone of a run.
    HarmInOneZone,
    /// While media or state directories of the harmed zone suffer no node of another zone is away, unless power fails everywhere.
    NotBesideHarm,
    /// One misfortune for a node at a time, and one disorder: the end of one would end the other. A power cut everywhere may come in the middle of
    /// harm, whose own end still comes.
    OneForEach,
}

/// The misfortunes that a plan has so far.
#[derive(Clone, Debug)]
pub struct Atlas {
    zones: BTreeMap<NodeId, ZoneId>,
    harmed: ZoneId,
    admitted: Vec<(Toll, Range<Duration>)>,
}

impl Atlas {
    /// No misfortunes yet. Where media are harmed at all, it is those of `harmed`.
    pub fn new(zones: &BTreeMap<NodeId, ZoneId>, harmed: ZoneId) -> Self {
        Self { zones: zones.clone(), harmed, admitted: Vec::new() }
    }

    /// The zone whose media may be harmed.
    pub fn harmed_zone(&self) -> ZoneId {
        self.harmed
    }

    /// Takes a misfortune into the plan, if the promise covers it together with those that are in.
    ///
    /// # Errors
    /// The rule that it would break; nothing has changed.
    pub fn admit(&mut self, toll: Toll, span: Range<Duration>) -> Result<(), Rule> {
        if toll.harms().is_some_and(|node| self.zones.get(&node) != Some(&self.harmed)) {
            return Err(Rule::HarmInOneZone);
        }
        for (other, other_span) in &self.admitted {
            if span.start < other_span.end && other_span.start < span.end {
                self.may_meet(toll, *other)?;
            }
        }
        self.admitted.push((toll, span));
        Ok(())
    }

    /// Whether two misfortunes may be at one time.
    fn may_meet(&self, one: Toll, other: Toll) -> Result<(), Rule> {
        let harm = one.harms().is_some() || other.harms().is_some();
        if harm && (one == Toll::Power || other == Toll::Power) {
            return Ok(());
        }
        if harm && [one, other].into_iter().any(|toll| self.takes_away_elsewhere(toll)) {
            return Err(Rule::NotBesideHarm);
        }
        if self.touches_same(one, other) {
            return Err(Rule::OneForEach);
        }
        Ok(())
    }

    /// Whether nodes of a zone that is not the harmed one are away.
    fn takes_away_elsewhere(&self, toll: Toll) -> bool {
        match toll {
            Toll::Node(node) => self.zones.get(&node) != Some(&self.harmed),
            Toll::Zone(zone) => zone != self.harmed,
            Toll::Power => true,
            Toll::Media(_) | Toll::State(_) | Toll::Disorder | Toll::Clock(_) | Toll::Drain => false,
        }
    }

    fn touches_same(&self, one: Toll, other: Toll) -> bool {
        let nodes = |toll| match toll {
            Toll::Node(node) | Toll::Media(node) | Toll::State(node) => vec![node],
            Toll::Zone(zone) => {
                self.zones.iter().filter(|(_, of)| **of == zone).map(|(node, _)| *node).collect()
            }
            Toll::Power => self.zones.keys().copied().collect(),
            Toll::Disorder | Toll::Clock(_) | Toll::Drain => Vec::new(),
        };
        match (one, other) {
            (Toll::Disorder, Toll::Disorder) | (Toll::Drain, Toll::Drain) => true,
            (Toll::Clock(one), Toll::Clock(other)) => one == other,
            _ => nodes(one).iter().any(|node| nodes(other).contains(node)),
        }
    }
}

#[cfg(test)]
mod tests;
