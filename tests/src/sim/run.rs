//! One run: everything starts, faults and clients go on for a while, faults end, everything must come back, and what
//! happened is checked.

use super::checkers::check_history;
use super::faults::text::Script;
use super::faults::{self, Event, Schedule, Targets};
use super::history::History;
use super::inspection::Inspection;
use super::operation::{Operation, Outcome};
use super::report::{Found, Report};
use super::scenarios::{self, Scenario, Story};
use super::system::{Shape, System};
use super::trace::Sink;
use super::workload::{Clients, Cluster};
use super::world::{self, End, World};
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
/// at once; an encoder whose answer was lost 65 s and a pause of 15 s, or refusals until a layout is given up 31 s), and the grace time before what it
/// replaces is freed (2 s, and two sweeps). Were all of that to come one after the other, it would be more than this.
pub const RECOVERY: Duration = Duration::from_secs(120);
/// How long one read of a version is waited for.
const READ_PATIENCE: Duration = Duration::from_secs(15);
/// How often, in a million, power fails everywhere at the end of the faults, and as often once all is at rest.
const POWER_FAILS: u32 = 500_000;
/// How long after the faults an operation may still take effect that its client has given up: a node waits for room, a slab, holders and the group
/// for 5 or 10 s each; and what it gave to a group that had no leader is decided once it has one, which is so when everything was read.
const GIVEN_UP: Duration = Duration::from_secs(40);
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
        Some(Story::Within(_) | Story::Furnished(..) | Story::Beyond(_)) => return None,
        Some(Story::Faults(schedule)) => Some(*schedule),
        None => None,
    };
    let (schedule, _) = world::run(seed, Sink::None, move |world| {
        Box::pin(async move {
            world.furnish(&shape);
            match drawn {
                Some(schedule) => schedule(&world.nodes(), &mut world.draws("story")),
                None => draw(&world, &shape, span),
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
    match plot.scenario.map(|scenario| &scenario.story) {
        Some(Story::Furnished(furniture, _)) => world.furnish_so(&system.shape(), furniture),
        _ => world.furnish(&system.shape()),
    }
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
    let mut found = harm(world, &inspection, system, &clients, plot).await;
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

/// What the seed draws: faults, and in some runs a node that joins as they begin.
fn draw(world: &World, shape: &Shape, span: Duration) -> Schedule {
    let newcomer = world.add_newcomer(shape);
    let mut schedule = faults::draw(&mut world.draws("faults"), &Targets::of_world(world, shape), span);
    schedule.events.splice(..0, newcomer.map(|node| (Duration::ZERO, Event::Boot(node))));
    schedule
}

/// Faults go on. Gives what a story says is wrong.
async fn harm(
    world: &World,
    inspection: &Inspection,
    system: &dyn System,
    clients: &Arc<Clients>,
    plot: Plot,
) -> Vec<Found> {
    let Plot { span, clients: count, scenario, schedule } = plot;
    let schedule = match (schedule, scenario.map(|scenario| &scenario.story)) {
        (Some(schedule), _) => {
            let starts = |(_, event): &(_, Event)| matches!(event, Event::Boot(node) if !world.has(*node));
            if schedule.events.iter().any(starts) {
                world.add_newcomer(&system.shape());
            }
            schedule
        }
        (None, Some(Story::Beyond(story) | Story::Within(story) | Story::Furnished(_, story))) => {
            return story(clients).await.iter().map(|words| Found::told(words)).collect();
        }
        (None, Some(Story::Faults(schedule))) => schedule(&world.nodes(), &mut world.draws("story")),
        (None, None) => draw(world, &system.shape(), span),
    };
    suffer(inspection, clients, count, schedule, span).await;
    Vec::new()
}

/// Faults end, and everything must come back. Gives what is wrong.
///
/// In half of the runs power fails everywhere as the last of the faults, and in half of them once more when all is at rest, before anything is
/// looked at: of what was acknowledged, sealed or made cold nothing may have been in a drive's cache alone.
async fn recover(
    world: &World,
    cluster: &Cluster,
    clients: &Arc<Clients>,
    inspection: &Inspection,
) -> Vec<Found> {
    world.trace().line(format_args!("phase liveness"));
    let mut draws = world.draws("recovery");
    let (fails_first, fails_at_rest) = (draws.chance(POWER_FAILS), draws.chance(POWER_FAILS));
    inspection.faults_end();
    if fails_first {
        power_fails(cluster);
    }
    cluster.end_faults();
    let live = |what: &str, why: String| Found::told(&format!("live: {what}: {why}"));
    if let Err(why) = clients.read_all(RECOVERY).await {
        return vec![live("not everything is readable", why)];
    }
    // Before anything is written: what is replaced is not looked at any more.
    let mut found = inspection.after_faults().await;
    if let Err(why) = clients.write_all(RECOVERY).await {
        found.push(live("not every node takes objects", why));
        return found;
    }
    if let Err(why) = cluster.compare_drains(RECOVERY).await {
        found.push(live("drains are not what the operator wants", why));
        return found;
    }
    let all_fair = tokio::time::Instant::now();
    // From here on what a key has can be told: a later loss is not taken for a removal that nobody knows of.
    tokio::time::sleep(GIVEN_UP).await;
    clients.history.give_up();
    // An order that was on its way may have come late.
    if let Err(why) = cluster.compare_drains(RECOVERY).await {
        found.push(live("drains are not what the operator wants", why));
        return found;
    }
    if let Err(why) = clients.read_all(RECOVERY).await {
        found.push(live("not everything is readable once all is over", why));
        return found;
    }
    let mut settled = settle(cluster, all_fair).await;
    if fails_at_rest && settled.is_ok() {
        let failed = tokio::time::Instant::now();
        power_fails(cluster);
        world.nodes().iter().for_each(|(node, _)| cluster.boot(*node));
        if let Err(why) = clients.read_all(RECOVERY).await {
            found.push(live("not everything is readable after power failed at rest", why));
            return found;
        }
        settled = settle(cluster, failed).await;
    }
    match settled {
        Ok(()) => found.extend(inspection.when_settled().await),
        Err(why) => found.push(why),
    }
    // Once more: clean-up must not have changed anything, on any node.
    if let Err(why) = clients.read_all(RECOVERY).await {
        found.push(live("not everything is readable at the end", why));
    }
    match read_versions(world, clients, RECOVERY).await {
        Ok(count) => inspection.count("versions read by their ids at the end", count),
        Err(why) => found.push(live("not every version is readable at the end", why)),
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

/// Power fails everywhere: of what was not flushed anything may be gone.
fn power_fails(cluster: &Cluster) {
    cluster.world().trace().line(format_args!("fault power fails everywhere"));
    for (node, _) in cluster.world().nodes() {
        cluster.kill(node, End::PowerCut);
    }
}

/// Reads every version that was acknowledged with its id, each through some node, until each answers: what came is judged with the history. Those of
/// deleted keys are among them, which nobody reads otherwise.
///
/// # Errors
/// The one that was not answered.
async fn read_versions(world: &World, clients: &Clients, limit: Duration) -> Result<u64, String> {
    let until = tokio::time::Instant::now() + limit;
    let (nodes, stored) = (world.nodes(), clients.history.stored());
    for ((key, version, value), (node, _)) in stored.iter().zip(nodes.iter().cycle()) {
        let operation = Operation::GetVersion { key: key.clone(), version: *version, value: *value };
        loop {
            let invoked = clients.history.invoke(world.trace(), "reader", operation.clone());
            let asked = clients.cluster.ask(*node, operation.clone(), READ_PATIENCE, true, Duration::ZERO);
            let outcome = asked.await;
            clients.history.complete(world.trace(), "reader", invoked, &outcome);
            if !matches!(outcome, Outcome::Unknown(_) | Outcome::Refused(_)) {
                break;
            }
            if tokio::time::Instant::now() > until {
                return Err(format!("{operation} by {node}: {outcome}"));
            }
            tokio::time::sleep(READ_PATIENCE / 60).await;
        }
    }
    Ok(stored.len() as u64)
}

/// Faults and clients go on for the span.
async fn suffer(
    inspection: &Inspection,
    clients: &Arc<Clients>,
    count: usize,
    schedule: Schedule,
    span: Duration,
) {
    let cluster = &clients.cluster;
    let running: Vec<_> =
        (0..count).map(|number| Arc::clone(clients).one(format!("client-{number}"))).collect();
    let running = futures::future::join_all(running);
    let faults = async {
        let begin = tokio::time::Instant::now();
        let mut last = Duration::ZERO;
        for (at, event) in schedule.events {
            tokio::time::sleep_until(begin + at).await;
            cluster.world().trace().line(format_args!("fault {event}"));
            inspection.note(&event);
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

/// Waits until no node has background work left, `RECOVERY` after `begin` at most: each serves, every slab is open and empty, dead, or cold, and nothing superseded is left on
/// any drive.
///
/// # Errors
/// What is left then.
async fn settle(cluster: &Cluster, begin: tokio::time::Instant) -> Result<(), Found> {
    let nodes = cluster.world().nodes().len();
    cluster.ask_each(|door| door.verify()).await;
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
