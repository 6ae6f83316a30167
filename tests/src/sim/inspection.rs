//! Looks at the cluster from inside, while a run goes on and when it is quiet, and has the checkers judge what it sees.

use super::checkers::ids::Ids;
use super::checkers::layout::Facts;
use super::checkers::watch::{Harm, Watch};
use super::checkers::{Violation, durable, layout, space};
use super::report::Found;
use super::workload::Cluster;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at all nodes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a node may take to give what is asked of it.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);

/// What is seen of a run.
pub struct Inspection {
    cluster: Cluster,
    watch: Mutex<Watch>,
    ids: Mutex<Ids>,
    checked: Mutex<BTreeMap<String, u64>>,
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
        inspection
    }

    async fn look(&self) {
        let world = self.cluster.world();
        let (harmed, state_harmed) = (self.cluster.harmed(), self.cluster.state_harmed());
        let mut all_gone = Vec::new();
        for (node, life, glimpse) in self.cluster.glimpses() {
            let harm = Harm { media: harmed.contains(&node), state: state_harmed.contains(&node) };
            let (told, gone) = lock(&self.watch).look(node, life, world.task_count(node), harm, &glimpse);
            for (subsystem, words) in told {
                world.trace().line(format_args!("{subsystem} {words}"));
            }
            if !gone.is_empty() {
                all_gone.push((node, gone));
            }
        }
        if all_gone.is_empty() {
            return;
        }
        // Where nobody can be asked now, a later answer would prove nothing.
        if let Some(table) = self.cluster.ask_any(PATIENCE, |door| door.table()).await.flatten() {
            lock(&self.ids).look_at_table(&table);
            for (node, gone) in all_gone {
                lock(&self.watch).judge_gone(node, &gone, &table);
                self.count("freed fragments judged", gone.len() as u64);
            }
        }
    }

    fn count(&self, what: &str, count: u64) {
        *lock(&self.checked).entry(what.to_owned()).or_default() += count;
    }

    /// Everything of a cluster whose faults are over; `None` where the system has no slabs.
    async fn gather(&self) -> Result<Option<Facts>, Found> {
        let mut last = "nobody answers".to_owned();
        let until = Instant::now() + 6 * PATIENCE;
        while Instant::now() < until {
            match self.cluster.ask_any(PATIENCE, |door| door.facts()).await {
                Some(Ok(None)) => return Ok(None),
                Some(Ok(Some(mut facts))) => {
                    let contents = self.cluster.ask_each(|door| door.contents()).await;
                    facts.contents = contents.into_values().flatten().flatten().collect();
                    let table = self.cluster.ask_any(PATIENCE, |door| door.table()).await.flatten();
                    if let Some(table) = table {
                        let differs = |slab: &&_| table.get(*slab) != facts.slabs.get(*slab);
                        facts.unsteady = facts.slabs.keys().filter(differs).copied().collect();
                        facts.harmed = self.cluster.harmed();
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
        let facts = match self.gather().await {
            Ok(Some(facts)) => facts,
            Ok(None) => return Vec::new(),
            Err(found) => return vec![found],
        };
        let mut found: Vec<Found> = layout::check(&facts).into_iter().map(Found::from).collect();
        self.verdict("layout", facts.slabs.len() as u64, "slabs", found.len());
        self.count("slabs with two fragments on a node", layout::doubled(&facts) as u64);
        let (tally, violations) = space::check(&facts);
        self.count("drives accounted", facts.drives.len() as u64);
        self.count("bytes allocated", tally.allocated);
        self.count("bytes of images", tally.images);
        self.count("bytes alive", tally.alive);
        self.verdict("space", facts.drives.len() as u64, "drives", violations.len());
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
        self.count("slabs unsteady", facts.unsteady.len() as u64);
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
        let (looks, mut violations) = lock(&self.watch).result();
        self.count("looks at nodes", looks);
        violations.extend(lock(&self.ids).result());
        let found: Vec<Found> = violations.into_iter().map(|violation: Violation| violation.into()).collect();
        (found, std::mem::take(&mut *lock(&self.checked)))
    }
}
