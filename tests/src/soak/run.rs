//! A run from start to end.

use super::clients::Load;
use super::faults::{Chaos, Choice, Fault};
use super::gaps::{Spread, longest};
use super::leftovers::{self, Record};
use super::limits::{FILL_PER_CENT, RECOVERY_PATIENCE};
use super::network::{Cut, Namespaces, Network};
use super::nodes::{Nodes, Shape};
use super::prober::Prober;
use super::report::{FaultReport, GapReport, Report};
use crate::sim::draws::Draws;
use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whence faults and load follow.
    pub seed: u64,
    /// The program.
    pub program: PathBuf,
    /// A folder for nodes' folders and logs; made where there is none, and must be empty.
    pub dir: PathBuf,
    /// How long load runs, measuring included.
    pub time: Duration,
    /// How often each death is measured.
    pub trials: usize,
    /// The cluster.
    pub shape: Shape,
    /// Zones get networks of their own, where this machine can.
    pub namespaces: bool,
    /// Which faults are drawn.
    pub only: Vec<Fault>,
    /// State directories get lost or old too.
    pub state_damage: bool,
    /// Clients.
    pub clients: u64,
    /// Pauses and cuts are no longer than this.
    pub hold_max: Duration,
    /// How long an object may take to be readable at the end.
    pub read_back_patience: Duration,
}

/// The `[slab]` section: slabs are full, sealed, cold and freed within a minute, so that a run sees it many times.
pub const SLAB_SECTION: &str =
    "len_bytes_max = 16777216\nage_ms_max = 20000\nconvert_after_ms = 3000\nfree_after_ms = 1000";

/// Mean pause of a client between two requests.
const PACE: Duration = Duration::from_millis(60);
/// A trial: probers write so long before the death,
const WARM_UP: Duration = Duration::from_secs(2);
/// and at least so long after it,
const WATCH_MIN: Duration = Duration::from_secs(8);
/// and at most so long,
const WATCH_MAX: Duration = Duration::from_secs(45);
/// and until each has written without a gap for so long.
const STEADY: Duration = Duration::from_secs(1);

/// So many times the time is taken, at most, until each fault that was asked for by name has come.
const EXTRA_TIME: u32 = 2;
const _: () = assert!(FILL_PER_CENT * EXTRA_TIME as u64 <= 40);

/// Runs it.
///
/// # Errors
/// The harness failed, a fault that was asked for by name cannot be done on this machine, or nothing was tried or judged. What the cluster did
/// wrong is in the report.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let cleaned = leftovers::clean_up().context("cleaning up after earlier runs")?;
    if cleaned > 0 {
        eprintln!("cleaned up after {cleaned} runs that were killed");
    }
    std::fs::create_dir_all(&options.dir).with_context(|| format!("folder {}", options.dir.display()))?;
    let dir = options.dir.canonicalize()?;
    anyhow::ensure!(std::fs::read_dir(&dir)?.next().is_none(), "{} is not empty", dir.display());
    let _record = Record::write(&dir, &dir.join("media"), options.shape.zones)?;
    let network = network(options);
    let undoable = undoable(&options.only, &network);
    anyhow::ensure!(undoable.is_empty(), "cannot be done on this machine: {}", undoable.join(", "));
    let draws = Draws::new(options.seed);
    let mut layout_draws = draws.split("layout");
    let mut nodes = Nodes::new(&options.program, &dir, options.shape.clone(), network, &mut layout_draws)
        .context("laying the cluster out")?;
    for id in nodes.ids() {
        nodes.start(id)?;
    }
    let mut ended = Vec::new();
    nodes
        .wait_whole(RECOVERY_PATIENCE, |id, how| end(&mut ended, "at the start", id, how))
        .await
        .map_err(anyhow::Error::msg)
        .context("the cluster does not come up")?;
    let local = tokio::task::LocalSet::new();
    local.run_until(soak(options, &dir, nodes, draws, ended)).await
}

/// The faults among these that no network of this kind can do.
fn undoable(only: &[Fault], network: &Network) -> Vec<String> {
    only.iter().filter(|fault| !fault.can_be_done(network)).map(|fault| fault.name()).collect()
}

fn end(ended: &mut Vec<String>, when: &str, id: u64, how: &str) {
    eprintln!("           node {id} ended by itself: {how}");
    ended.push(format!("{when}: node {id}: {how}"));
}

fn network(options: &Options) -> Network {
    if !options.namespaces {
        return Network::Loopback;
    }
    match Namespaces::new(options.shape.zones) {
        Ok(namespaces) => {
            let network = Network::Namespaces(namespaces);
            if !network.can_disturb() {
                eprintln!(
                    "NOTE: this kernel has no netem: packets are not delayed or lost by chance (disturb-zone is left out)"
                );
            }
            network
        }
        Err(error) => {
            eprintln!(
                "NOTE: NO NETWORK NAMESPACES HERE, so zones share the loopback and ARE NOT CUT: {error}"
            );
            Network::Loopback
        }
    }
}

async fn soak(
    options: &Options,
    dir: &Path,
    mut nodes: Nodes,
    draws: Draws,
    mut ended: Vec<String>,
) -> anyhow::Result<Report> {
    let load = Load::new(&nodes, options.seed).await?;
    let version = nodes.status(1).await.map(|status| format!("strongroom {}", status.version))?;
    let begun = Instant::now();
    let shape = &options.shape;
    let zone_bytes =
        u64::from(shape.nodes_per_zone) * u64::from(shape.drives_per_node) * shape.drive_len_bytes;
    let bytes_per_s = zone_bytes * FILL_PER_CENT / 100 / options.time.as_secs().max(1);
    let clients = (0..options.clients).map(|client| {
        let draws = draws.split(&format!("client {client}"));
        tokio::task::spawn_local(load.clone().client(draws, PACE, bytes_per_s))
    });
    let clients: Vec<_> = clients.collect();
    let progress = tokio::task::spawn_local(progress(load.clone(), begun, options.time));

    let mut draws_of_trials = draws.split("trials");
    let gaps = measure(options, &mut nodes, &load, &mut draws_of_trials, &mut ended).await?;

    let mut fault_draws = draws.split("faults");
    let damage_zone = u8::try_from(fault_draws.below(u64::from(shape.zones)) + 1).expect("zones are u8");
    let choice = Choice {
        only: options.only.clone(),
        state_damage: options.state_damage,
        damage_zone,
        hold_max: options.hold_max,
    };
    let mut chaos = Chaos::new(&mut nodes, load.clone(), choice, fault_draws);
    let mut undone: Vec<Fault> = chaos.possible().iter().map(|(fault, _)| *fault).collect();
    // So that there is something to lose.
    tokio::time::sleep(WARM_UP).await;
    // What was asked for by name gets more time, where that is left over for drives to fill.
    let time_is_left = |undone: &[Fault]| {
        let more = if options.only.is_empty() || undone.is_empty() { 1 } else { EXTRA_TIME };
        begun.elapsed() < options.time * more
    };
    while time_is_left(&undone) {
        // Each kind once, in an order that the seed gives, before any comes again.
        let Some(drawn) = chaos.draw() else { break };
        let fault = match undone.iter().position(|fault| *fault == drawn) {
            Some(place) => undone.swap_remove(place),
            None => undone.pop().unwrap_or(drawn),
        };
        chaos.happen(fault).await?;
        if chaos.accounts.values().map(|account| account.late.len()).sum::<usize>() > 1 {
            eprintln!("NOT WHOLE TWICE: no more faults");
            break;
        }
    }
    let accounts = std::mem::take(&mut chaos.accounts);
    ended.append(&mut chaos.ended);

    load.stop();
    for client in clients {
        client.await?;
    }
    let seconds = begun.elapsed().as_secs();
    progress.abort();
    eprintln!(
        "\nfaults are over: waiting for the cluster to be whole, then reading back {} keys",
        load.oracle.borrow().key_count()
    );
    let whole = nodes.wait_whole(RECOVERY_PATIENCE, |id, how| end(&mut ended, "at the end", id, how)).await;
    load.read_back(options.read_back_patience, &mut draws.split("read back")).await;
    anyhow::ensure!(load.oracle.borrow().checked_count() > 0, "no answer was judged");
    anyhow::ensure!(
        !(accounts.is_empty() && gaps.is_empty()),
        "no fault was tried: there was no time for one"
    );
    Ok(report(
        options,
        dir,
        &nodes,
        &load,
        Parts { version, seconds, damage_zone, accounts, gaps, ended, whole },
    ))
}

/// What a report is made of, besides what nodes and load say.
struct Parts {
    version: String,
    seconds: u64,
    damage_zone: u8,
    accounts: BTreeMap<Fault, super::faults::Account>,
    gaps: Vec<GapReport>,
    ended: Vec<String>,
    whole: Result<Duration, String>,
}

fn report(options: &Options, dir: &Path, nodes: &Nodes, load: &Load, parts: Parts) -> Report {
    let oracle = load.oracle.borrow();
    let (violations, violation_count) = oracle.violations();
    let words = |lines: Vec<String>| -> BTreeSet<String> {
        let word = |line: &String| {
            line.split_once("ALARM ").map_or_else(|| line.clone(), |(_, words)| words.to_owned())
        };
        lines.iter().map(word).collect()
    };
    let alarms = words(nodes.log_lines("ALARM "));
    let is_loss = |alarm: &&String| strongroom::alarms::is_damage(alarm);
    let mut loss_alarms: Vec<String> = alarms.iter().filter(is_loss).cloned().collect();
    loss_alarms.extend(words(nodes.log_lines("panicked at")));
    let is_left = |fault: &&Fault| !parts.accounts.contains_key(fault);
    let not_tried = options.only.iter().filter(is_left).map(|fault| fault.name()).collect();
    let faults = parts.accounts.into_iter().map(|(fault, account)| {
        (fault.name(), FaultReport { whole_again: Spread::of(&account.recoveries), late: account.late })
    });
    Report {
        seed: options.seed,
        program: options.program.display().to_string(),
        version: parts.version,
        shape: [options.shape.zones, options.shape.nodes_per_zone],
        namespaces: nodes.network.can_cut(),
        netem: nodes.network.can_disturb(),
        damage_zone: parts.damage_zone,
        seconds: parts.seconds,
        requests: load.tallies.borrow().clone(),
        written_bytes: load.written_bytes(),
        keys: oracle.key_count(),
        judged: oracle.checked_count(),
        faults: faults.collect(),
        not_tried,
        device: nodes.volumes.counts(),
        gaps: parts.gaps,
        ended_by_themselves: parts.ended,
        alarms: alarms.into_iter().collect(),
        loss_alarms,
        not_whole_at_end: parts.whole.err(),
        violation_count,
        violations: violations.to_vec(),
        dir: dir.display().to_string(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    Node,
    Leader,
    Zone,
    ZoneNetwork,
}

impl Death {
    fn name(self) -> &'static str {
        match self {
            Self::Node => "a node dies",
            Self::Leader => "a leader dies",
            Self::Zone => "a zone dies",
            Self::ZoneNetwork => "a zone is cut off",
        }
    }
}

#[derive(Default)]
struct Trials {
    each: Vec<Duration>,
    any: Vec<Duration>,
    before: Vec<Duration>,
}

async fn measure(
    options: &Options,
    nodes: &mut Nodes,
    load: &Rc<Load>,
    draws: &mut Draws,
    ended: &mut Vec<String>,
) -> anyhow::Result<Vec<GapReport>> {
    let mut reports = Vec::new();
    for death in [Death::Node, Death::Leader, Death::Zone, Death::ZoneNetwork] {
        if death == Death::ZoneNetwork && !nodes.network.can_cut() {
            continue;
        }
        let mut trials = Trials::default();
        for _ in 0..options.trials {
            trial(death, nodes, load, draws, &mut trials, ended).await?;
        }
        if options.trials > 0 {
            reports.push(GapReport {
                what: death.name(),
                trials: options.trials,
                each_gateway: Spread::of(&trials.each),
                any_gateway: Spread::of(&trials.any),
                before: Spread::of(&trials.before),
            });
        }
    }
    Ok(reports)
}

async fn trial(
    death: Death,
    nodes: &mut Nodes,
    load: &Rc<Load>,
    draws: &mut Draws,
    trials: &mut Trials,
    ended: &mut Vec<String>,
) -> anyhow::Result<()> {
    let zone = u8::try_from(draws.below(u64::from(nodes.shape().zones)) + 1).expect("zones are u8");
    let leaders = nodes.leaders().await;
    let victims = match death {
        Death::Zone | Death::ZoneNetwork => nodes.of_zone(zone),
        Death::Leader if !leaders.is_empty() => vec![draws.pick(&leaders).1],
        Death::Leader | Death::Node => vec![*draws.pick(&nodes.ids())],
    };
    let unaffected = load.gateway_ids().into_iter().filter(|id| !victims.contains(id));
    let probers: Vec<Prober> = unaffected.map(|id| Prober::begin(load, id)).collect();
    tokio::time::sleep(WARM_UP).await;
    let before = Instant::now();
    tokio::time::sleep(WARM_UP).await;
    let at = Instant::now();
    match death {
        Death::ZoneNetwork => nodes.network.cut(zone, Cut::Isolated)?,
        Death::Node | Death::Leader | Death::Zone => nodes.strike(&victims),
    }
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = Instant::now();
        let steady_from = now.checked_sub(STEADY).unwrap_or(at);
        let is_steady =
            probers.iter().all(|prober| longest(&prober.acknowledged(), steady_from, now) < STEADY / 2);
        if now - at > WATCH_MAX || (now - at > WATCH_MIN && is_steady) {
            break;
        }
    }
    let now = Instant::now();
    let mut all = Vec::new();
    let mut gaps = Vec::new();
    for prober in &probers {
        let acknowledged = prober.acknowledged();
        gaps.push(longest(&acknowledged, at, now));
        trials.before.push(longest(&acknowledged, before, at));
        all.extend(acknowledged);
    }
    let any = longest(&all, at, now);
    eprintln!(
        "{:20} nodes {victims:?}: longest gap {} ms at a gateway, {} ms at any",
        death.name(),
        gaps.iter().max().map_or(0, Duration::as_millis),
        any.as_millis()
    );
    trials.each.extend(gaps);
    trials.any.push(any);
    drop(probers);
    match death {
        Death::ZoneNetwork => nodes.network.mend(zone, Cut::Isolated)?,
        Death::Node | Death::Leader | Death::Zone => {
            nodes.kill(&victims);
            victims.iter().try_for_each(|id| nodes.start(*id))?;
        }
    }
    let when = format!("after {}", death.name());
    let whole = nodes.wait_whole(RECOVERY_PATIENCE, |id, how| end(ended, &when, id, how)).await;
    whole
        .map(|_| ())
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("after {}: the cluster is not whole", death.name()))
}

async fn progress(load: Rc<Load>, begun: Instant, time: Duration) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let answered: u64 = load.tallies.borrow().values().map(|tally| tally.answered).sum();
        let unknown: u64 = load.tallies.borrow().values().map(|tally| tally.unknown).sum();
        let oracle = load.oracle.borrow();
        eprint!(
            "\r{:5} of {} s  {answered} answered, {unknown} unknown, {} keys, {} judged, {} violations ",
            begun.elapsed().as_secs(),
            time.as_secs(),
            oracle.key_count(),
            oracle.checked_count(),
            oracle.violations().1
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Network, undoable};

    #[test]
    fn what_a_machine_cannot_do_is_named() {
        let asked = [Fault::DisturbZone, Fault::KillNode, Fault::IsolateZone];
        assert_eq!(undoable(&asked, &Network::Loopback), ["disturb-zone", "isolate-zone"]);
        assert!(undoable(&[Fault::PowerAll, Fault::BeyondBlank], &Network::Loopback).is_empty());
    }
}
