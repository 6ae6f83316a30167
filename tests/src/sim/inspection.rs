//! Looks at the cluster from inside, while a run goes on and when it is quiet, and has the checkers judge what it sees.

use super::checkers::generations::Generations;
use super::checkers::harm::Harm;
use super::checkers::ids::Ids;
use super::checkers::layout::Facts;
use super::checkers::watch::{Glimpse, Looked, Watch};
use super::checkers::{Violation, durable, layout, reclaim, space};
use super::faults::Event;
use super::limits::TASKS_AT_REST_MAX;
use super::report::Found;
use super::run::RECOVERY;
use super::workload::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use strongroom_types::{DriveId, Generation, NodeId, SlabId, SlabRecord};
use tokio::time::Instant;

/// Between two looks at all nodes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a node may take to give what is asked of it.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);
/// Looks at a cluster that has settled, since another slab became cold, until no slab's record and no drive changes between the beginning of one and its end: one without rows may
/// still be killed, and where drives are small a conversion may be tried again, succeed that had no room before, or have its layout given up.
const LOOKS_WHEN_SETTLED_MAX: usize = 5;
/// After this long what was superseded is given back: the grace time and a few sweeps.
const GIVEN_BACK: Duration = Duration::from_secs(10);

/// What is seen of a run.
pub struct Inspection {
    cluster: Cluster,
    watch: Mutex<Watch>,
    ids: Mutex<Ids>,
    generations: Mutex<Generations>,
    marks: Mutex<Marks>,
    /// Slabs that were killed while versions pointed into them.
    killed: Mutex<Vec<Violation>>,
    checked: Mutex<BTreeMap<String, u64>>,
}

/// What is known of drives and of what was done to them.
#[derive(Default)]
struct Marks {
    /// Where each drive is.
    places: BTreeMap<DriveId, (NodeId, usize)>,
    /// Drives of which it is known that they were harmed.
    harmed: BTreeSet<(NodeId, usize)>,
    /// Every layout that some drive ever had a fragment of.
    layouts: BTreeSet<(SlabId, Generation)>,
    /// Those layouts that were there when the faults ended.
    before: Option<BTreeSet<(SlabId, Generation)>>,
}

impl Marks {
    fn look(&mut self, node: NodeId, glimpse: &Glimpse) {
        self.places.extend(glimpse.drives.iter().map(|(index, drive)| (*drive, (node, *index))));
        let layouts = glimpse.fragments.iter().map(|report| (report.address.slab, report.address.generation));
        self.layouts.extend(layouts);
    }

    /// The harm, where `nodes` are those that had any: of one of which no harmed drive is known all count.
    fn harm(&self, nodes: &BTreeSet<NodeId>) -> Harm {
        let is_vague = |node: &NodeId| nodes.contains(node) && !self.harmed.iter().any(|(of, _)| of == node);
        let is_harmed = |place: &&(NodeId, usize)| self.harmed.contains(place) || is_vague(&place.0);
        let places: BTreeSet<_> =
            self.places.values().filter(is_harmed).chain(&self.harmed).copied().collect();
        let drives = self.places.iter().filter(|(_, place)| places.contains(place));
        Harm { drives: drives.map(|(drive, _)| *drive).collect(), places, before: self.before.clone() }
    }
}

/// The drive that an event harms.
fn harmed_by(event: &Event) -> Option<(NodeId, usize)> {
    event.harms()?;
    match event {
        Event::DriveWeather(node, drive, _)
        | Event::Erase(node, drive)
        | Event::Revert(node, drive)
        | Event::Rot(node, drive, ..) => Some((*node, *drive)),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inspection {
    /// Begins to look, until the run ends.
    pub fn begin(cluster: &Cluster) -> Arc<Self> {
        let inspection = Arc::new(Self {
            cluster: cluster.clone(),
            watch: Mutex::default(),
            ids: Mutex::default(),
            generations: Mutex::default(),
            marks: Mutex::default(),
            killed: Mutex::default(),
            checked: Mutex::default(),
        });
        let looking = Arc::clone(&inspection);
        let task = async move {
            loop {
                let trace = looking.cluster.world().trace();
                let _which_it_was = tokio::time::timeout(LOOK_EVERY, trace.freed()).await;
                looking.look().await;
            }
        };
        cluster.world().spawn("inspection", Box::pin(task));
        let burying = Arc::clone(&inspection);
        let task = async move {
            let trace = burying.cluster.world().trace();
            loop {
                for slab in trace.killed().await {
                    burying.look_at_killed(slab).await;
                }
            }
        };
        cluster.world().spawn("burials", Box::pin(task));
        let counting = Arc::clone(&inspection);
        let task = async move {
            loop {
                counting.cluster.world().trace().taken().await;
                counting.look_at_taken().await;
            }
        };
        cluster.world().spawn("holders", Box::pin(task));
        inspection
    }

    /// Is told what happens.
    pub fn note(&self, event: &Event) {
        lock(&self.marks).harmed.extend(harmed_by(event));
    }

    /// Nothing is harmed from now on.
    pub fn faults_end(&self) {
        let mut marks = lock(&self.marks);
        for (node, _, glimpse) in self.cluster.glimpses() {
            marks.look(node, &glimpse);
        }
        marks.before = Some(marks.layouts.clone());
    }

    async fn look(&self) {
        let world = self.cluster.world();
        let (harmed, state_harmed) = (self.cluster.harmed(), self.cluster.state_harmed());
        let all_paused = self.cluster.paused();
        let mut all_gone = Vec::new();
        for (node, life, glimpse) in self.cluster.glimpses() {
            let harm = {
                let mut marks = lock(&self.marks);
                marks.look(node, &glimpse);
                marks.harm(&harmed)
            };
            let paused = all_paused.contains(&node);
            let (tasks, state_harmed) = (world.task_count(node), state_harmed.contains(&node));
            let erased = self.cluster.state_erased(node);
            let looked = Looked { node, life, tasks, paused, state_harmed };
            let (told, gone) = lock(&self.watch).look(looked, &harm, &glimpse);
            for (subsystem, words) in told {
                world.trace().line(format_args!("{subsystem} {words}"));
            }
            let mut ids = lock(&self.ids);
            for group in &glimpse.groups {
                // Two voters by one name are the end of what Raft promises, and may be the end of this process: said at once.
                if let Some(wrong) = ids.note_raft(&group.group, group.id, node, erased) {
                    Found::from(wrong).say();
                }
            }
            if !gone.is_empty() {
                all_gone.push((node, gone));
            }
        }
        if all_gone.is_empty() {
            return;
        }
        // Where nobody can be asked now, a later answer would prove nothing.
        if let Some(table) = self.table().await {
            for (node, gone) in all_gone {
                lock(&self.watch).judge_gone(node, &gone, &table);
                self.count("freed fragments judged", gone.len() as u64);
            }
        }
    }

    /// Looks whether what the tables name is there, some of which they have just taken.
    async fn look_at_taken(&self) {
        let asked = Instant::now();
        let Some(table) = self.table().await else { return };
        let glimpses = self.cluster.glimpses();
        let harm = lock(&self.marks).harm(&self.cluster.harmed());
        let now = Instant::now();
        let looked = lock(&self.generations).look_at_holders(&table, &glimpses, &harm, (asked, now));
        self.count("looks at tables that took fragments", 1);
        self.count("fragments looked for as the tables took some", looked);
    }

    /// The slab tables as they are now, looked at.
    async fn table(&self) -> Option<BTreeMap<SlabId, SlabRecord>> {
        let asked = Instant::now();
        let table = self.cluster.ask_any(PATIENCE, |door| door.table()).await.flatten()?;
        lock(&self.ids).look_at_table(&table);
        lock(&self.generations).look(&table, asked, Instant::now());
        Some(table)
    }

    /// Asks whether something points into a slab that a node has just killed. Where nobody can be asked now, a later answer would prove nothing.
    async fn look_at_killed(&self, slab: SlabId) {
        let found = self.cluster.ask_any(PATIENCE, move |door| door.pointers(slab)).await.flatten();
        let Some(pointers) = found else { return };
        self.count("slabs judged as they were killed", 1);
        if !pointers.is_empty() {
            let rule = "I5: no version points into a slab that is killed";
            lock(&self.killed).push(Violation { rule, found: format!("{slab}: {pointers:?}") });
        }
    }

    /// Counts what was gone through.
    pub fn count(&self, what: &str, count: u64) {
        *lock(&self.checked).entry(what.to_owned()).or_default() += count;
    }

    /// Everything of a cluster whose faults are over; `None` where the system has no slabs.
    async fn gather(&self) -> Result<Option<Facts>, Found> {
        let mut last = "nobody answers".to_owned();
        let until = Instant::now() + RECOVERY;
        while Instant::now() < until {
            match self.cluster.ask_any(PATIENCE, |door| door.facts()).await {
                Some(Ok(None)) => return Ok(None),
                Some(Ok(Some(mut facts))) => {
                    let contents = self.cluster.ask_each(|door| door.contents()).await;
                    facts.contents = contents.into_values().flatten().flatten().collect();
                    if let Some(table) = self.table().await {
                        let differs = |slab: &&_| table.get(*slab) != facts.slabs.get(*slab);
                        facts.unsteady = facts.slabs.keys().filter(differs).copied().collect();
                        facts.harm = lock(&self.marks).harm(&self.cluster.harmed());
                        facts.salt = self.cluster.world().draws("durable").u64();
                        lock(&self.ids).look(&facts);
                        return Ok(Some(facts));
                    }
                }
                Some(Err(error)) => last = format!("{error:#}"),
                None => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
        Err(Found::told(&format!("live: the cluster cannot be looked at: {last}")))
    }

    /// Whether everything that was acknowledged is there and would survive: right after the faults, before anything is cleaned up.
    pub async fn after_faults(&self) -> Vec<Found> {
        match self.gather().await {
            Ok(Some(facts)) => self.judge_durable("after the faults", &facts),
            Ok(None) => Vec::new(),
            Err(found) => vec![found],
        }
    }

    /// Whether slab tables, namespace, drives and space agree, once nothing is under way.
    pub async fn when_settled(&self) -> Vec<Found> {
        self.cluster.forget_pauses();
        let world = self.cluster.world();
        let tasks: BTreeMap<NodeId, usize> =
            world.nodes().into_iter().map(|(node, _)| (node, world.task_count(node))).collect();
        let (mut looks, mut copies) = (0, usize::MAX);
        let facts = loop {
            looks += 1;
            let gathered = self.gather().await;
            if let Ok(Some(facts)) = &gathered
                && layout::copies(facts) < copies
            {
                // Where drives are small, one that became cold may have made room for the next.
                (looks, copies) = (1, layout::copies(facts));
            }
            match gathered {
                Ok(Some(facts)) if looks == LOOKS_WHEN_SETTLED_MAX => break facts,
                Ok(Some(facts))
                    if layout::superseded(&facts) > 0 || layout::are_to_become_cold(&facts) > 0 =>
                {
                    self.count("looks at a settled cluster in which a slab got another layout", 1);
                    tokio::time::sleep(GIVEN_BACK).await;
                }
                Ok(Some(facts)) if facts.unsteady.is_empty() && !facts.drives_moved => break facts,
                Ok(Some(_)) => self.count("looks at a settled cluster in which a slab or a drive changed", 1),
                Ok(None) => return Vec::new(),
                Err(found) => return vec![found],
            }
        };
        let mut found: Vec<Found> = layout::check(&facts).into_iter().map(Found::from).collect();
        self.verdict("layout", facts.slabs.len() as u64, "slabs", found.len());
        let violations = reclaim::check(&facts);
        let pointers = facts.backwards.as_ref().map_or(0, |backwards| backwards.pointers.len());
        self.verdict("reclaim", pointers as u64, "pointers", violations.len());
        found.extend(violations.into_iter().map(Found::from));
        let most = tasks.values().max().copied().unwrap_or(0);
        self.verdict("tasks", most as u64, "of a node at rest", usize::from(most > TASKS_AT_REST_MAX));
        if most > TASKS_AT_REST_MAX {
            found.push(Found {
                rule: "I12: tasks are bounded".to_owned(),
                what: format!("at rest: {tasks:?}"),
            });
        }
        self.count("slabs with two fragments on a node", layout::doubled(&facts) as u64);
        let (tally, violations) = space::check(&facts);
        self.count("drives accounted", tally.drives);
        self.count("drives that were harmed, not accounted", facts.drives.len() as u64 - tally.drives);
        self.count("versions of deleted keys", facts.deleted_versions);
        self.count("bytes allocated", tally.allocated);
        self.count("bytes of images", tally.images);
        self.count("bytes alive", tally.alive);
        self.verdict("space", tally.drives, "drives", violations.len());
        found.extend(violations.into_iter().map(Found::from));
        found.extend(self.judge_durable("when settled", &facts));
        found
    }

    fn judge_durable(&self, when: &str, facts: &Facts) -> Vec<Found> {
        let (tally, violations) = durable::check(facts);
        self.count("locators", tally.locators);
        self.count("fragments read", tally.fragments);
        self.count("bytes read", tally.bytes);
        self.count("cold slabs decoded", tally.decoded);
        self.count(&format!("slabs judged by their bytes, {when}"), tally.slabs);
        self.count(&format!("slabs unsteady, {when}"), facts.unsteady.len() as u64);
        for (margin, count) in &tally.margins {
            self.count(&format!("locators that survive {margin}, {when}"), *count);
        }
        self.verdict("durable", tally.locators, "locators", violations.len());
        violations.into_iter().map(Found::from).collect()
    }

    fn verdict(&self, checker: &str, count: u64, of: &str, wrong: usize) {
        let trace = self.cluster.world().trace();
        trace.line(format_args!("check {checker}: {count} {of}, {wrong} wrong"));
    }

    /// What was found on the way, and what was gone through.
    pub fn end(&self) -> (Vec<Found>, BTreeMap<String, u64>) {
        let tasks_most = lock(&self.watch).tasks_most();
        self.cluster.world().trace().line(format_args!("check tasks: at most {tasks_most} of a node"));
        let (looks, mut violations) = lock(&self.watch).result();
        self.count("looks at nodes", looks);
        violations.extend(lock(&self.ids).result());
        violations.extend(lock(&self.generations).result());
        violations.append(&mut lock(&self.killed));
        let found: Vec<Found> = violations.into_iter().map(|violation: Violation| violation.into()).collect();
        (found, std::mem::take(&mut *lock(&self.checked)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Glimpse, Marks, harmed_by};
    use crate::sim::drives::DriveWeather;
    use std::collections::BTreeSet;
    use strongroom_types::{DriveId, NodeId};

    #[test]
    fn harm_is_of_the_drives_that_events_name() {
        let node = NodeId::new(1);
        let sick = DriveWeather { read_error: 1, ..DriveWeather::FAIR };
        assert_eq!(harmed_by(&Event::DriveWeather(node, 1, sick)), Some((node, 1)));
        assert_eq!(harmed_by(&Event::DriveWeather(node, 1, DriveWeather::FAIR)), None);
        assert_eq!(harmed_by(&Event::Erase(node, 0)), Some((node, 0)));
        assert_eq!(harmed_by(&Event::EraseState(node)), None);

        let mut marks = Marks::default();
        let drives = |ids: [u128; 2]| Glimpse {
            drives: (0..).zip(ids.map(DriveId::new)).collect(),
            ..Glimpse::default()
        };
        marks.look(node, &drives([10, 11]));
        marks.look(NodeId::new(2), &drives([20, 21]));
        let harmed = |marks: &Marks, nodes: &[u64]| {
            let nodes: BTreeSet<NodeId> = nodes.iter().copied().map(NodeId::new).collect();
            marks.harm(&nodes).drives.into_iter().map(DriveId::get).collect::<Vec<_>>()
        };
        assert_eq!(harmed(&marks, &[]), [0; 0]);
        assert_eq!(harmed(&marks, &[1]), [10, 11], "nobody said which");
        marks.harmed.insert((node, 1));
        assert_eq!(harmed(&marks, &[1]), [11]);
        // It was replaced: both are in its place.
        marks.look(node, &drives([10, 12]));
        assert_eq!(harmed(&marks, &[1, 2]), [11, 12, 20, 21]);
    }
}
