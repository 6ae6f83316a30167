//! One run: everything starts, faults and clients go on for a while, faults end, everything must come back, and what
//! happened is checked.

use super::checkers::{check_history, layout};
use super::draws::Draws;
use super::drives::DriveWeather;
use super::faults::{self, Event, Targets};
use super::history::History;
use super::net::Weather;
use super::report::Report;
use super::scenarios::{self, Scenario, Story};
use super::system::System;
use super::trace::Sink;
use super::workload::{Clients, Cluster};
use super::world::{self, End, World};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

const CLIENTS: usize = 5;
const KEYS: usize = 14;
/// How long a fresh cluster may take to serve.
const START: Duration = Duration::from_secs(60);
/// How long everything may take to be readable once the faults are over, and background work to end.
const RECOVERY: Duration = Duration::from_secs(600);
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
    /// The story to play; one of faults drawn from the seed if `None`.
    pub scenario: Option<&'static Scenario>,
}

/// Runs a seed.
pub fn run(system: Arc<dyn System>, options: Options) -> Report {
    let Options { seed, sink, mutant, span, scenario } = options;
    let ((violations, counts, simulated), trace) = world::run(seed, sink, move |world| {
        Box::pin(async move {
            let history =
                Arc::new(History::new((0..KEYS).map(|number| format!("key/{number:02}")).collect()));
            let cluster = Cluster::new(world.clone(), Arc::clone(&system), mutant);
            let body = play(&world, cluster, &*system, Arc::clone(&history), span, scenario);
            let mut violations = match tokio::time::timeout(WHOLE, body).await {
                Ok(violations) => violations,
                Err(_) => vec![format!("live: the run did not end within {WHOLE:?}")],
            };
            let checked = check_history(&history).into_iter();
            violations.extend(checked.map(|violation| format!("{}: {}", violation.rule, violation.found)));
            for violation in &violations {
                world.trace().line(format_args!("WRONG {violation}"));
            }
            (violations, history.counts(), world.elapsed())
        })
    });
    Report { seed, trace, simulated, counts, violations }
}

async fn play(
    world: &World,
    cluster: Cluster,
    system: &dyn System,
    history: Arc<History>,
    span: Duration,
    scenario: Option<&'static Scenario>,
) -> Vec<String> {
    let shape = system.shape();
    for number in 0..shape.zones * shape.nodes_per_zone {
        let (node, zone) = (NodeId::new(u64::from(number) + 1), ZoneId::new(number % shape.zones + 1));
        world.add(node, zone, &vec![shape.drive_len_bytes; shape.drives_per_node]);
    }
    let nodes = world.nodes();
    for (node, _) in &nodes {
        cluster.boot(*node);
    }
    let clients = Clients::new(cluster.clone(), history);
    if let Err(what) = clients.read_all(START).await {
        return vec![format!("live: a fresh cluster does not serve: {what}")];
    }

    let schedule = match scenario.map(|scenario| &scenario.story) {
        Some(Story::RotOfAllCopies) => return scenarios::rot_of_all_copies(&clients).await,
        Some(Story::Faults(schedule)) => Some(schedule(&nodes)),
        None => None,
    };
    world.trace().line(format_args!("phase safety"));
    let (drives_per_node, media) = (shape.drives_per_node, shape.survives_media_faults);
    let targets = Targets { nodes: nodes.clone(), drives_per_node, media };
    let mut draws: Draws = world.draws("faults");
    let schedule = schedule.unwrap_or_else(|| faults::draw(&mut draws, &targets, span));
    let running: Vec<_> =
        (0..CLIENTS).map(|number| Arc::clone(&clients).one(format!("client-{number}"))).collect();
    let running = futures::future::join_all(running);
    let faults = async {
        let begin = tokio::time::Instant::now();
        let mut last = Duration::ZERO;
        for (at, event) in schedule.events {
            tokio::time::sleep_until(begin + at).await;
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

    world.trace().line(format_args!("phase liveness"));
    cluster.happen(Event::Mend);
    cluster.happen(Event::Weather(Weather::FAIR));
    for (node, _) in &nodes {
        for drive in 0..shape.drives_per_node {
            cluster.happen(Event::DriveWeather(*node, drive, DriveWeather::FAIR));
        }
        cluster.happen(Event::Skew(*node, 0));
        // A drive that failed takes no more fragments until its node starts again: here an operator has it do so.
        if cluster.all_found().harmed.contains(node) {
            cluster.kill(*node, End::Crash);
        }
        cluster.boot(*node);
    }
    let mut violations = Vec::new();
    if let Err(what) = clients.read_all(RECOVERY).await {
        violations.push(format!("live: not everything is readable: {what}"));
        return violations;
    }
    if let Err(what) = clients.write_all(RECOVERY).await {
        violations.push(format!("live: not every node takes objects: {what}"));
        return violations;
    }
    settle(&cluster, nodes.len(), &mut violations).await;
    // Once more: repair and clean-up must not have changed anything.
    if let Err(what) = clients.read_all(RECOVERY).await {
        violations.push(format!("live: not everything is readable: {what}"));
    }
    let found = cluster.all_found();
    violations.extend(found.wrong);
    let losses = found.alarms.into_iter().filter(|alarm| scenarios::is_loss(alarm));
    violations.extend(losses.map(|alarm| format!("alarm, though all was within the promise: {alarm}")));
    violations
}

/// Waits until no node has background work left, then compares what they hold.
async fn settle(cluster: &Cluster, nodes: usize, violations: &mut Vec<String>) {
    let until = tokio::time::Instant::now() + RECOVERY;
    let harmed = cluster.all_found().harmed;
    loop {
        let answers = cluster.ask_each(|door| door.unsettled(harmed.clone())).await;
        if answers.len() == nodes && answers.values().all(|left| left.as_ref().is_some_and(Vec::is_empty)) {
            break;
        }
        if tokio::time::Instant::now() > until {
            let left = answers.values().flatten().flatten().next();
            violations.push(format!("I13: background work does not end: {left:?}, {} nodes", answers.len()));
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let facts = cluster.ask_each(|door| door.facts()).await;
    match facts.into_iter().next() {
        Some((_, Some(Ok(Some(mut facts))))) => {
            facts.harmed = harmed;
            let found = layout::check(&facts).into_iter();
            violations.extend(found.map(|violation| format!("{}: {}", violation.rule, violation.found)));
        }
        Some((_, Some(Ok(None)))) => {}
        other => violations.push(format!("live: no facts from a settled cluster: {other:?}")),
    }
}
