//! One run: everything starts, faults and clients go on for a while, faults end, everything must come back, and what
//! happened is checked.

use super::checkers::check_history;
use super::faults::text::Script;
use super::faults::{self, Event, Schedule, Targets};
use super::history::History;
use super::inspection::Inspection;
use super::report::{Found, Report};
use super::scenarios::{self, Scenario, Story};
use super::system::System;
use super::trace::Sink;
use super::workload::{Clients, Cluster};
use super::world::{self, World};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Clients of a run that says nothing else.
pub const CLIENTS: usize = 5;
/// Keys of a run that says nothing else.
pub const KEYS: usize = 14;
/// How long a fresh cluster may take to serve.
const START: Duration = Duration::from_secs(60);
/// How long each step back may take once the faults are over: until everything is readable through every node; until every node takes an
/// object; until no node has background work left.
///
/// What is waited for, at the longest: an operation of a drive that hangs (60 s), or the restart of a node that did not start (1 s a try); then
/// an election (1.9 s), the silence after which a writer's slabs are fenced (10 s), a slab's age (4 s) before it is rolled, its seal (two walks
/// of the caretaker and the late rows of its holders: 2 s), the time before it becomes cold (4 s), its conversion (each attempt some seconds, two
/// at once), and the grace time before what it replaces is freed (2 s, and two sweeps).
pub const RECOVERY: Duration = Duration::from_secs(120);
/// A run that takes longer than this has stopped making progress.
const WHOLE: Duration = Duration::from_secs(4 * 3600);

/// What to run.
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Where the trace goes.
    pub sink: Sink,
    /// A fault in the code.
    pub mutant: Option<&'static str>,
    /// How long faults go on.
    pub span: Duration,
    /// Clients.
    pub clients: usize,
    /// Keys.
    pub keys: usize,
    /// The story to play; one of faults drawn from the seed if `None`.
    pub scenario: Option<&'static Scenario>,
    /// The faults to play instead of those of the story or the seed.
    pub schedule: Option<Schedule>,
}

/// Runs a seed.
pub fn run(system: Arc<dyn System>, options: Options) -> Report {
    let Options { seed, sink, mutant, span, clients, keys, scenario, schedule } = options;
    let plot = Plot { span, clients, scenario, schedule };
    let ((played, counts, simulated), trace) = world::run(seed, sink, move |world| {
        Box::pin(async move {
            let history =
                Arc::new(History::new((0..keys).map(|number| format!("key/{number:02}")).collect()));
            let cluster = Cluster::new(world.clone(), Arc::clone(&system), mutant);
            let body = play(&world, cluster, &*system, Arc::clone(&history), plot);
            let mut played = tokio::time::timeout(WHOLE, body).await.unwrap_or_else(|_| {
                Played::of(vec![Found::told(&format!("live: the run did not end within {WHOLE:?}"))])
            });
            played.checked.insert("keys".to_owned(), history.keys().len() as u64);
            played.found.extend(check_history(&history).into_iter().map(Found::from));
            played.found = some_of_each(played.found);
            for found in &played.found {
                world.trace().line(format_args!("WRONG {found}"));
            }
            (played, history.counts(), world.elapsed())
        })
    });
    let Played { found, faults, checked } = played;
    Report { seed, trace, simulated, counts, faults, checked, violations: found }
}

/// What a seed draws where nothing else is said: the schedule of its faults, or that of a story that is one.
pub fn script(system: &dyn System, options: &Options) -> Option<Script> {
    let Options { seed, span, clients, keys, scenario, .. } = options;
    let (shape, seed, span, story) = (system.shape(), *seed, *span, scenario.map(|scenario| &scenario.story));
    let drawn = match story {
        Some(Story::Within(_) | Story::Beyond(_)) => return None,
        Some(Story::Faults(schedule)) => Some(*schedule),
        None => None,
    };
    let (schedule, _) = world::run(seed, Sink::None, move |world| {
        Box::pin(async move {
            world.furnish(&shape);
            match drawn {
                Some(schedule) => schedule(&world.nodes(), &mut world.draws("story")),
                None => faults::draw(&mut world.draws("faults"), &Targets::of_world(&world, &shape), span),
            }
        })
    });
    Some(Script { seed, span, clients: *clients, keys: *keys, schedule })
}

/// Of what breaks one rule this much is told: the rest is of the same cause.
const TOLD_OF_A_RULE_MAX: usize = 4;

fn some_of_each(found: Vec<Found>) -> Vec<Found> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut told = found;
    told.retain(|found| {
        let count = counts.entry(found.rule.clone()).or_default();
        *count += 1;
        *count <= TOLD_OF_A_RULE_MAX
    });
    for (rule, count) in counts.into_iter().filter(|(_, count)| *count > TOLD_OF_A_RULE_MAX) {
        told.push(Found { rule, what: format!("{} more like these", count - TOLD_OF_A_RULE_MAX) });
    }
    told
}

/// How a run goes.
struct Plot {
    span: Duration,
    clients: usize,
    scenario: Option<&'static Scenario>,
    schedule: Option<Schedule>,
}

/// What came of it.
struct Played {
    found: Vec<Found>,
    faults: BTreeMap<String, u64>,
    checked: BTreeMap<String, u64>,
}

impl Played {
    fn of(found: Vec<Found>) -> Self {
        Self { found, faults: BTreeMap::new(), checked: BTreeMap::new() }
    }
}

async fn play(
    world: &World,
    cluster: Cluster,
    system: &dyn System,
    history: Arc<History>,
    plot: Plot,
) -> Played {
    let shape = system.shape();
    world.furnish(&shape);
    let nodes = world.nodes();
    for (node, _) in &nodes {
        cluster.boot(*node);
    }
    let clients = Clients::new(cluster.clone(), history);
    if let Err(what) = clients.read_all(START).await {
        return Played::of(vec![Found::told(&format!("live: a fresh cluster does not serve: {what}"))]);
    }
    let inspection = Inspection::begin(&cluster);
    world.trace().line(format_args!("phase safety"));
    let beyond = matches!(plot.scenario.map(|scenario| &scenario.story), Some(Story::Beyond(_)));
    let mut found = harm(world, &cluster, system, &clients, plot).await;
    let faults = cluster.all_found().tried.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    if !beyond && found.is_empty() {
        found = recover(world, &cluster, &clients, &inspection).await;
    }
    let (seen, checked) = inspection.end();
    // Beyond the promise nothing is asked for but what the story asks for.
    if !beyond {
        found.extend(seen);
    }
    Played { found, faults, checked }
}

/// Faults go on. Gives what a story says is wrong.
async fn harm(
    world: &World,
    cluster: &Cluster,
    system: &dyn System,
    clients: &Arc<Clients>,
    plot: Plot,
) -> Vec<Found> {
    let Plot { span, clients: count, scenario, schedule } = plot;
    let schedule = match (schedule, scenario.map(|scenario| &scenario.story)) {
        (Some(schedule), _) => schedule,
        (None, Some(Story::Beyond(story) | Story::Within(story))) => {
            return story(clients).await.iter().map(|words| Found::told(words)).collect();
        }
        (None, Some(Story::Faults(schedule))) => schedule(&world.nodes(), &mut world.draws("story")),
        (None, None) => {
            let targets = Targets::of_world(world, &system.shape());
            faults::draw(&mut world.draws("faults"), &targets, span)
        }
    };
    suffer(cluster, clients, count, schedule, span).await;
    Vec::new()
}

/// Faults end, and everything must come back. Gives what is wrong.
async fn recover(
    world: &World,
    cluster: &Cluster,
    clients: &Arc<Clients>,
    inspection: &Inspection,
) -> Vec<Found> {
    world.trace().line(format_args!("phase liveness"));
    cluster.end_faults();
    let mut found = Vec::new();
    let live = |what: &str, why: String| Found::told(&format!("live: {what}: {why}"));
    if let Err(why) = clients.read_all(RECOVERY).await {
        return vec![live("not everything is readable", why)];
    }
    if let Err(why) = clients.write_all(RECOVERY).await {
        return vec![live("not every node takes objects", why)];
    }
    found.extend(inspection.after_faults().await);
    match settle(cluster, world.nodes().len()).await {
        Ok(()) => found.extend(inspection.when_settled().await),
        Err(why) => found.push(why),
    }
    // Once more: clean-up must not have changed anything, on any node.
    if let Err(why) = clients.read_all(RECOVERY).await {
        found.push(live("not everything is readable at the end", why));
    }
    let all = cluster.all_found();
    let rule = "I8: error is not absent".to_owned();
    found.extend(all.wrong.into_iter().map(|what| Found { rule: rule.clone(), what }));
    let losses = all.alarms.into_iter().filter(|alarm| scenarios::is_loss(alarm));
    found.extend(
        losses.map(|alarm| Found::told(&format!("alarm, though all was within the promise: {alarm}"))),
    );
    found
}

/// Faults and clients go on for the span.
async fn suffer(cluster: &Cluster, clients: &Arc<Clients>, count: usize, schedule: Schedule, span: Duration) {
    let running: Vec<_> =
        (0..count).map(|number| Arc::clone(clients).one(format!("client-{number}"))).collect();
    let running = futures::future::join_all(running);
    let faults = async {
        let begin = tokio::time::Instant::now();
        let mut last = Duration::ZERO;
        for (at, event) in schedule.events {
            tokio::time::sleep_until(begin + at).await;
            cluster.world().trace().line(format_args!("fault {event}"));
            cluster.happen(event);
            if matches!(event, Event::DriveWeather(..)) {
                cluster.probe().await;
            }
            last = at;
        }
        tokio::time::sleep_until(begin + span.max(last)).await;
        clients.stop.store(true, Ordering::Relaxed);
    };
    futures::future::join(running, faults).await;
}

/// Waits until no node has background work left: each serves, every slab is open and empty, dead, or cold, and nothing superseded is left on
/// any drive.
///
/// # Errors
/// What is left then.
async fn settle(cluster: &Cluster, nodes: usize) -> Result<(), Found> {
    let begin = tokio::time::Instant::now();
    loop {
        let answers = cluster.ask_each(|door| door.unsettled()).await;
        if answers.len() == nodes && answers.values().all(|left| left.as_ref().is_some_and(Vec::is_empty)) {
            cluster.world().trace().line(format_args!("phase settled in {:?}", begin.elapsed()));
            return Ok(());
        }
        if begin.elapsed() > RECOVERY {
            let left = answers.values().flatten().flatten().next();
            return Err(Found::told(&format!(
                "I13: background work does not end within {RECOVERY:?}: {left:?}, {} nodes",
                answers.len()
            )));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
