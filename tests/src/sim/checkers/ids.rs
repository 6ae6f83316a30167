//! **I7** Whether an id means one thing over a whole run.
//!
//! A slab is one writer's in one session; a version is of one key; a session and a drive are of one node. Looked at whenever slab
//! tables and facts are gathered: at least twice in a run. The id of a voter is of one node and one life of its state directory, from one
//! erasure to the next; looked at several times a simulated second. Not checked: ids that came and went in between, a voter whose state was
//! rolled back or rotted (it may go on, or be given another id), and whether ids are hard to guess.

use super::Violation;
use super::layout::Facts;
use std::collections::BTreeMap;
use std::fmt::Debug;
use strongroom_types::{DriveId, NodeId, SessionId, SlabId, SlabRecord, VersionId};

const RULE: &str = "I7: ids are never used again";

/// What each id meant when it was first seen.
#[derive(Default)]
pub struct Ids {
    slabs: BTreeMap<SlabId, (NodeId, SessionId)>,
    versions: BTreeMap<VersionId, String>,
    sessions: BTreeMap<SessionId, NodeId>,
    drives: BTreeMap<DriveId, NodeId>,
    raft: BTreeMap<(String, u64), (NodeId, u64)>,
    violations: Vec<Violation>,
}

fn note<K: Ord + Debug, V: PartialEq + Debug>(
    known: &mut BTreeMap<K, V>,
    violations: &mut Vec<Violation>,
    id: K,
    meaning: V,
) {
    match known.get(&id) {
        Some(before) if *before != meaning => {
            let found = format!("{id:?} was {before:?}, and is {meaning:?}");
            // Seen at each look from now on.
            if !violations.iter().any(|known| known.found == found) {
                violations.push(Violation { rule: RULE, found });
            }
        }
        Some(_) => {}
        None => {
            known.insert(id, meaning);
        }
    }
}

impl Ids {
    /// Looks at slab tables.
    pub fn look_at_table(&mut self, table: &BTreeMap<SlabId, SlabRecord>) {
        for (slab, record) in table {
            note(&mut self.slabs, &mut self.violations, *slab, (record.writer, record.session));
            note(&mut self.sessions, &mut self.violations, record.session, record.writer);
        }
    }

    /// Looks at everything.
    pub fn look(&mut self, facts: &Facts) {
        self.look_at_table(&facts.slabs);
        for (name, version, _) in &facts.versions {
            note(&mut self.versions, &mut self.violations, *version, name.clone());
        }
        for (node, session) in &facts.sessions {
            note(&mut self.sessions, &mut self.violations, *session, *node);
        }
        for (node, state) in &facts.drives {
            note(&mut self.drives, &mut self.violations, state.drive, *node);
        }
    }

    /// Notes whose an id of a Raft group's voter is: of a node, whose state directory was erased so often. Gives what is wrong about it.
    pub fn note_raft(&mut self, group: &str, id: u64, node: NodeId, erased: u64) -> Option<Violation> {
        let before = self.violations.len();
        note(&mut self.raft, &mut self.violations, (group.to_owned(), id), (node, erased));
        self.violations.get(before).cloned()
    }

    /// What was found.
    pub fn result(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::Ids;
    use crate::sim::checkers::layout::Facts;
    use strongroom_types::{NodeId, SessionId, VersionId};

    #[test]
    fn an_id_that_means_something_else_is_seen() {
        let facts = |key: &str, node: u64| {
            let mut facts = Facts::default();
            facts.versions.push((key.to_owned(), VersionId::new(1), Vec::new()));
            facts.sessions.insert(NodeId::new(node), SessionId::new(5));
            facts
        };
        let found = |second: &Facts| {
            let mut ids = Ids::default();
            ids.look(&facts("one", 1));
            ids.look(second);
            ids.result().len()
        };
        assert_eq!(found(&facts("one", 1)), 0);
        assert_eq!(found(&facts("two", 1)), 1);
        assert_eq!(found(&facts("one", 2)), 1);
        let mut ids = Ids::default();
        assert_eq!(ids.note_raft("group-0", 1, NodeId::new(1), 0), None);
        assert_eq!(ids.note_raft("group-1", 1, NodeId::new(2), 0), None);
        assert_eq!(ids.note_raft("group-0", 2, NodeId::new(1), 1), None, "erased, and another voter");
        assert!(ids.note_raft("group-0", 1, NodeId::new(1), 1).is_some(), "erased, and the same");
        assert_eq!(ids.note_raft("group-0", 1, NodeId::new(1), 1), None, "said once");
        assert_eq!(ids.result().len(), 1);
    }
}
