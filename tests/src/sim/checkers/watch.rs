//! What must hold while a run goes on, and can be seen from outside without asking anybody: several times a simulated second, and at
//! once where a node says that it freed something.
//!
//! - Raft: what one node has applied at an index of a group's log no other has applied otherwise; within a life of a node its term and what it has
//!   applied never go back. (A term may have more than one leader: openraft orders leaderships by term and voter, and a later one takes over.)
//! - **I3** What a holder has of a copy only grows until a seal mark is on it, also over restarts and power cuts; within a life its epoch
//!   never goes back, and a seal mark that is there stays; unless the slab table does not name it any more. Over lives a mark that was not
//!   answered yet may go; but where it went, the slab is not sealed with this holder counted until it has one again.
//! - **I6** A fragment that is gone was superseded: the slab table, asked at that moment, does not name it any more. A finished one of the next
//!   layout goes only once that layout is given up.
//! - **I12** The tasks of a node and its alarms are bounded.
//!
//! Nothing is said of fragments that harm excuses, nor of what goes back on nodes whose state was harmed. Not checked: what
//! happens and is undone between two looks, and rows as such (a report has their bytes, not their checksums; seals compare those).

use super::Violation;
use super::harm::Harm;
use crate::sim::limits::{TASKS_OF_PAUSED_MAX, TASKS_PER_NODE_MAX};
use std::collections::{BTreeMap, BTreeSet};
use strongroom_format::wire::message::{FragmentAddress, FragmentReport};
use strongroom_types::{DriveId, Holder, NodeId, SlabId, SlabRecord, SlabState};

const APPLIED: &str = "Raft: what is applied is the same everywhere";
const BACK: &str = "Raft: term and state never go back in a life";
const GROWS: &str = "I3: what a holder has only grows";
const FREED: &str = "I6: what the slab table names is not freed";
const MARK: &str = "I3: a holder that counts in a seal keeps its mark";
const BOUNDED: &str = "I12: tasks are bounded";

/// What can be seen of a node at once.
#[derive(Clone, Debug, Default)]
pub struct Glimpse {
    /// The groups that it votes in.
    pub groups: Vec<GroupGlimpse>,
    /// Which of its drives is which, as far as they could be read when it started.
    pub drives: Vec<(usize, DriveId)>,
    /// What its drives hold.
    pub fragments: Vec<FragmentReport>,
    /// Its alarms.
    pub alarms: Vec<String>,
}

/// A group as one voter sees it.
#[derive(Clone, Debug)]
pub struct GroupGlimpse {
    /// Its name.
    pub group: String,
    /// As which voter it takes part.
    pub id: u64,
    /// Whether this node leads it.
    pub leads: bool,
    /// Raft's term.
    pub term: u64,
    /// The last entry applied.
    pub applied: u64,
    /// Under whom that was appended: term and voter.
    pub applied_under: Option<(u64, u64)>,
    /// Why it is stopped here, where it is.
    pub stopped: Option<String>,
}

/// Which node is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The node.
    pub node: NodeId,
    /// In which of its lives.
    pub life: u64,
    /// How many tasks it has.
    pub tasks: usize,
    /// Whether its process stood still lately: then requests are waiting.
    pub paused: bool,
    /// Whether its state directory was harmed: where a group finds that out, it begins anew in the middle of a life, under another id.
    pub state_harmed: bool,
}

/// A fragment that is gone, or has less than it had: right only if the slab table does not name it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receded {
    /// As it was.
    pub before: FragmentReport,
    /// As it is, where there is one in its place: whoever was fenced and does not know it yet may begin it anew after it was freed.
    pub now: Option<(FragmentReport, &'static str)>,
    /// Whether it is a mark of an earlier life that is not there now: right unless the table counts the holder.
    pub unmarked: bool,
}

/// Something to tell in the trace.
pub type Told = (&'static str, String);

/// What was seen until now.
#[derive(Default)]
pub struct Watch {
    leaders: BTreeSet<(String, u64, NodeId)>,
    /// By group and index.
    applied: BTreeMap<(String, u64), (NodeId, (u64, u64))>,
    terms: BTreeMap<(NodeId, String), (u64, u64, u64)>,
    fragments: BTreeMap<NodeId, (u64, BTreeMap<FragmentKey, FragmentReport>)>,
    /// Copies that had a mark in an earlier life and have none since, as they were.
    unmarked: BTreeMap<(NodeId, FragmentKey), FragmentReport>,
    /// Of these, those that the table counts, in words: it is wrong if the next look finds no mark either.
    counted: BTreeMap<(NodeId, FragmentKey), String>,
    alarms: BTreeSet<(NodeId, String)>,
    violations: Vec<Violation>,
    looks: u64,
    /// The most tasks that a node had at once that did not stand still.
    tasks_most: usize,
}

type FragmentKey = (u128, u64, u8, u32);

fn key_of(address: &FragmentAddress) -> FragmentKey {
    (address.drive.get(), address.slab.to_bits(), address.fragment.get(), address.generation.get())
}

/// Whether a fragment has something that was promised to be kept.
fn is_kept(report: &FragmentReport) -> bool {
    // A cold one has its length before its bytes.
    if report.profile.is_copies() { report.len_bytes > 0 } else { report.sealed }
}

impl Watch {
    /// Looks at a node; gives what to tell, and the fragments that are gone or have less since the last look.
    pub fn look(&mut self, looked: Looked, harm: &Harm, glimpse: &Glimpse) -> (Vec<Told>, Vec<Receded>) {
        let Looked { node, life, tasks, paused, state_harmed } = looked;
        self.looks += 1;
        let mut told = Vec::new();
        self.look_at_groups(node, life, state_harmed, &glimpse.groups, &mut told);
        for alarm in &glimpse.alarms {
            if self.alarms.insert((node, alarm.clone())) {
                told.push(("alarm", format!("{node}: {alarm}")));
            }
        }
        if !paused {
            self.tasks_most = self.tasks_most.max(tasks);
        }
        if tasks > if paused { TASKS_OF_PAUSED_MAX } else { TASKS_PER_NODE_MAX } {
            self.found(BOUNDED, format!("{node} has {tasks} tasks"));
        }
        let gone = self.look_at_fragments(node, life, harm, &glimpse.fragments, &mut told);
        (told, gone)
    }

    /// Judges fragments that are gone from `node`, or have less there, by the slab table as it is now.
    pub fn judge_gone(&mut self, node: NodeId, gone: &[Receded], table: &BTreeMap<SlabId, SlabRecord>) {
        for Receded { before, now, unmarked } in gone {
            let address = &before.address;
            let Some(record) = table.get(&address.slab) else { continue };
            let holder = record.holders.get(usize::from(address.fragment.get()));
            let named = record.state != SlabState::Dead
                && address.is_of(record)
                && holder.is_some_and(|holder| holder.node == node);
            // What a conversion has finished is there for it, until the layout is taken or given up.
            let next = record.state != SlabState::Dead
                && record.next_generation == address.generation
                && before.sealed
                && !before.profile.is_copies();
            match now {
                _ if next => {
                    self.found(FREED, format!("{node}: {address:?} was finished, the table has {record:?}"));
                }
                _ if !named => {}
                Some((now, _)) if *unmarked => {
                    let place = usize::from(address.fragment.get());
                    let counts = record.sealed().is_some_and(|sealed| sealed.missing >> place & 1 == 0);
                    if counts && (!now.sealed || now.epoch < record.epoch) {
                        let words = format!("{node}: {before:?}, then {now:?}; the table has {record:?}");
                        self.counted.insert((node, key_of(address)), words);
                    }
                }
                None => self.found(FREED, format!("{node}: {address:?}, the table has {record:?}")),
                Some((now, wrong)) => self.found(
                    GROWS,
                    format!("{node}: {wrong}: {before:?}, then {now:?}; the table has {record:?}"),
                ),
            }
        }
    }

    /// How often it looked, and what it found, once.
    pub fn result(&mut self) -> (u64, Vec<Violation>) {
        (self.looks, std::mem::take(&mut self.violations))
    }

    /// The most tasks that a node had at once that did not stand still.
    pub fn tasks_most(&self) -> usize {
        self.tasks_most
    }

    fn found(&mut self, rule: &'static str, found: String) {
        let violation = Violation { rule, found };
        // One of a kind says it; a broken rule may be seen at every look.
        if !self.violations.iter().any(|other| other.rule == rule) {
            self.violations.push(violation);
        }
    }

    fn look_at_groups(
        &mut self,
        node: NodeId,
        life: u64,
        state_harmed: bool,
        groups: &[GroupGlimpse],
        told: &mut Vec<Told>,
    ) {
        for GroupGlimpse { group, leads, term, applied, applied_under, stopped, .. } in groups {
            if *leads && self.leaders.insert((group.clone(), *term, node)) {
                told.push(("raft", format!("{node} leads {group} in term {term}")));
            }
            if let Some(under) = applied_under {
                let first = *self.applied.entry((group.clone(), *applied)).or_insert((node, *under));
                if first.1 != *under {
                    let words =
                        format!("{group} {applied}: {node} under {under:?}, {} under {:?}", first.0, first.1);
                    self.found(APPLIED, words);
                }
            }
            if let Some(why) = stopped
                && self.alarms.insert((node, format!("{group} stopped: {why}")))
            {
                told.push(("raft", format!("{node} has stopped in {group}: {why}")));
            }
            let before = self.terms.insert((node, group.clone()), (life, *term, *applied));
            if let Some((before_life, before_term, before_applied)) = before
                && before_life == life
                && !state_harmed
                && (before_term > *term || before_applied > *applied)
            {
                self.found(
                    BACK,
                    format!(
                        "{node} {group}: term {before_term}, applied {before_applied}; then {term}, {applied}"
                    ),
                );
            }
        }
    }

    /// Those that have no mark any more, to be judged by the table; and those that it counted, and that have none still.
    fn look_at_unmarked(
        &mut self,
        node: NodeId,
        now: &BTreeMap<FragmentKey, FragmentReport>,
    ) -> Vec<Receded> {
        let mut receded = Vec::new();
        for ((of, key), before) in std::mem::take(&mut self.unmarked) {
            if of != node {
                self.unmarked.insert((of, key), before);
                continue;
            }
            let counted = self.counted.remove(&(of, key));
            let Some(report) = now.get(&key).filter(|report| !has_mark_of(report, &before)) else { continue };
            match counted {
                Some(words) => self.found(MARK, words),
                None => {
                    let now = Some((*report, "its seal mark is gone over a restart"));
                    receded.push(Receded { before, now, unmarked: true });
                    self.unmarked.insert((of, key), before);
                }
            }
        }
        receded
    }

    fn look_at_fragments(
        &mut self,
        node: NodeId,
        life: u64,
        harm: &Harm,
        reports: &[FragmentReport],
        told: &mut Vec<Told>,
    ) -> Vec<Receded> {
        let now: BTreeMap<FragmentKey, FragmentReport> =
            reports.iter().map(|report| (key_of(&report.address), *report)).collect();
        let (before_life, before) = self.fragments.insert(node, (life, now.clone())).unwrap_or_default();
        let mut gone = Vec::new();
        let is_harmed = |address: &FragmentAddress| {
            harm.excuses(&Holder { node, drive: address.drive }, address.slab, address.generation)
        };
        for (key, report) in &now {
            let FragmentReport { address, profile, .. } = report;
            let harmed = is_harmed(address);
            let place = format!("{} {} {} on {node}", address.slab, address.fragment, address.generation);
            match before.get(key) {
                None => told.push(("slab", format!("{place}: {profile}, {} B", report.len_bytes))),
                Some(old) => {
                    if report.sealed && !old.sealed {
                        let what = if profile.is_copies() { "fenced at" } else { "finished with" };
                        told.push((
                            "slab",
                            format!("{place}: {what} {} B, {}", report.len_bytes, report.epoch),
                        ));
                    }
                    if !harmed && before_life != life && has_mark(old) && !has_mark_of(report, old) {
                        self.unmarked.insert((node, *key), *old);
                    }
                    if !harmed && let Some(wrong) = shrunk(old, report, before_life == life) {
                        gone.push(Receded { before: *old, now: Some((*report, wrong)), unmarked: false });
                    }
                }
            }
        }
        gone.extend(self.look_at_unmarked(node, &now));
        for (key, old) in &before {
            if !now.contains_key(key) {
                let FragmentAddress { slab, fragment, generation, .. } = &old.address;
                told.push(("slab", format!("{slab} {fragment} {generation} on {node}: gone")));
                if !is_harmed(&old.address) && is_kept(old) {
                    gone.push(Receded { before: *old, now: None, unmarked: false });
                }
            }
        }
        gone
    }
}

/// Whether a copy has a seal mark.
fn has_mark(report: &FragmentReport) -> bool {
    report.profile.is_copies() && report.sealed
}

/// Whether it has the mark that it had, or a later one.
fn has_mark_of(report: &FragmentReport, before: &FragmentReport) -> bool {
    report.sealed && report.epoch >= before.epoch
}

/// What went back between two reports of a fragment, if anything.
fn shrunk(old: &FragmentReport, new: &FragmentReport, same_life: bool) -> Option<&'static str> {
    if !old.profile.is_copies() {
        // One that is not finished may be begun again.
        return (old.sealed && (!new.sealed || new.epoch < old.epoch))
            .then_some("it is not finished any more");
    }
    // A mark is in force before it is on media; it is answered after. So one that a kill took may not have been answered.
    if same_life && new.epoch < old.epoch {
        return Some("its epoch went back");
    }
    if same_life && old.sealed && !new.sealed {
        return Some("its seal mark is gone");
    }
    // A seal cuts it to the agreed length.
    (!old.sealed && !new.sealed && new.len_bytes < old.len_bytes).then_some("rows are gone")
}

#[cfg(test)]
mod tests;
