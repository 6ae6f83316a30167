//! Stories beyond the promise. They end in an alarm, an error or a refusal: never in wrong bytes, and never in the answer that something is not
//! there which was acknowledged, as long as the namespace knows it.

use super::is_loss;
use super::stage::{
    Before, Stored, alarm_within, before, drives, look, nodes_of, restart_all, rot_all, serves, store,
    without_last_zone, zones,
};
use crate::sim::drives::DriveWeather;
use crate::sim::faults::Event;
use crate::sim::net::Weather;
use crate::sim::workload::{CAME_BACK_OLD, Clients};
use crate::sim::world::End;
use std::time::Duration;
use strongroom_types::{NodeId, ZoneId};

/// Longer than it takes until a sealed slab is cold and its copies are given back.
const COLD: Duration = Duration::from_secs(25);
const ALARM_WITHIN: Duration = Duration::from_secs(90);
/// What a node without its state says where too few others have theirs.
const NOT_LET_IN: &str = "the control group does not let this node in";
/// Keys that are written through each node: of every group some.
const KEYS_OF_EACH: usize = 6;

fn all_nodes(clients: &Clients) -> Vec<NodeId> {
    clients.cluster.world().nodes().into_iter().map(|(node, _)| node).collect()
}

/// The zones that stay when the last is cut off.
fn first_two(clients: &Clients) -> Vec<ZoneId> {
    let mut zones = zones(clients.cluster.world());
    zones.pop();
    zones
}

/// Objects that only the first two zones have, each in a row of its own.
async fn stored_in_two_zones(clients: &Clients, keys: std::ops::Range<usize>) -> Result<Stored, String> {
    serves(clients).await;
    without_last_zone(clients).await;
    store(clients, &clients.history.keys()[keys]).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Surely,
    Perhaps,
}

/// Whether an alarm says that rows are missing, or of whom they are waited for.
fn is_loss_or_wait(alarm: &str) -> bool {
    is_loss(alarm) || WAITS.iter().any(|words| alarm.contains(words))
}

/// What a node says where too few holders answer, and where only those who are silent may have what is missing.
const WAITS: [&str; 2] =
    ["its seal waits, since too many holders are silent", "only silent holders may have them"];

/// What must be seen once bytes may be lost: right bytes or errors, and where there are errors, an alarm of this kind, raised after the damage.
async fn verdict(
    clients: &Clients,
    stored: &Stored,
    lost: Lost,
    before: &Before,
    is_it: fn(&str) -> bool,
) -> Vec<String> {
    let told = alarm_within(clients, before, ALARM_WITHIN, is_it).await;
    let look = look(clients, &all_nodes(clients), stored).await;
    let mut violations = look.violations;
    if lost == Lost::Surely && look.errors.is_empty() && violations.is_empty() {
        violations.push("the scenario is wrong: nothing is lost".to_owned());
    }
    // Asked again: a read that failed may have raised it.
    if !look.errors.is_empty() && !told && !alarm_within(clients, before, Duration::ZERO, is_it).await {
        let alarms = clients.cluster.all_found().alarms;
        violations.push(format!("{:?} cannot be read, and no alarm says so: {alarms:?}", look.errors));
    }
    violations
}

/// Objects are stored and acknowledged, all nodes are killed before anything is sealed, and each place on any drive where the middle object's bytes
/// stand rots. Its bytes are lost then; that nobody is told must not be. The rows behind it are whole, and must stay.
pub(super) async fn rot_of_all_copies(clients: &Clients) -> Vec<String> {
    let world = clients.cluster.world();
    // A late message would roll the slab, and then the row that rots might be the last of its slab: no row behind it tells that it was committed.
    world.network().set_weather(Weather::default());
    serves(clients).await;
    // One after the other, each a row of its own, so that the rows behind the one that rots know that it is committed.
    let keys: Vec<String> = clients.history.keys().iter().skip(2).cloned().collect();
    let mut stored = match store(clients, &keys).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    let middle = &keys[keys.len() / 2];
    let value = stored.remove(middle).expect("just stored");
    let (mut copies, before) = (0, before(clients));
    // The middle of the object: its beginning is a number that others share parts of.
    restart_all(clients, End::Crash, || copies = rot_all(world, &value.bytes()[4000..4032]));
    world.trace().line(format_args!("{middle} {value} rots in {copies} places"));
    if copies < 2 {
        return vec![format!("the scenario is wrong: {middle} {value} stands in {copies} places")];
    }
    let mut violations = Vec::new();
    if !alarm_within(clients, &before, ALARM_WITHIN, is_loss).await {
        let alarms = clients.cluster.all_found().alarms;
        violations.push(format!(
            "all copies of acknowledged {middle} {value} are damaged, and no alarm says so within {ALARM_WITHIN:?}: {alarms:?}"
        ));
    }
    let damaged = look(clients, &all_nodes(clients), &Stored::from([(middle.clone(), value)])).await;
    violations.extend(damaged.violations);
    if damaged.errors.is_empty() && violations.is_empty() {
        violations.push(format!("I9: damaged {middle} is given out"));
    }
    // Until the slab is cold a holder may still have rows that the seal has cut.
    tokio::time::sleep(COLD).await;
    let others = look(clients, &all_nodes(clients), &stored).await;
    violations.extend(others.violations);
    if !others.errors.is_empty() {
        let lost = others.errors;
        violations.push(format!("I8: {lost:?} are lost with {middle}, though only that one has rotted"));
    }
    violations
}

/// All that the two zones held is gone, and with it all that the third does not have.
pub(super) async fn both_holders_erased(clients: &Clients) -> Vec<String> {
    let stored = match stored_in_two_zones(clients, 2..8).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    let drives = drives(clients.cluster.world(), &first_two(clients));
    let before = before(clients);
    restart_all(clients, End::PowerCut, || {
        clients.cluster.happen(Event::Mend);
        drives.iter().for_each(|(node, drive)| clients.cluster.happen(Event::Erase(*node, *drive)));
    });
    verdict(clients, &stored, Lost::Surely, &before, is_loss).await
}

/// What was stored before the drives were remembered comes back with them; what was stored after is lost. Nobody has opened the drives in between,
/// so nobody can tell by the drives that they are old: only that rows are missing which the namespace points to.
pub(super) async fn both_holders_stale(clients: &Clients) -> Vec<String> {
    drives_come_back(clients, Since::Nothing, is_loss).await
}

/// The same, and all nodes started anew in between: the cluster has seen the drives since, and says that they are old.
pub(super) async fn both_holders_known_to_be_stale(clients: &Clients) -> Vec<String> {
    let mut violations =
        drives_come_back(clients, Since::Restart, |alarm| alarm.contains(CAME_BACK_OLD)).await;
    for zone in first_two(clients) {
        for node in nodes_of(clients.cluster.world(), zone) {
            if !clients.cluster.tells_old_drive(node) {
                violations.push(format!("{node} does not say that its drive came back old"));
            }
        }
    }
    violations
}

/// What happened between the image of a drive and its coming back as it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    Nothing,
    Restart,
}

async fn drives_come_back(clients: &Clients, since: Since, is_it: fn(&str) -> bool) -> Vec<String> {
    let older = match stored_in_two_zones(clients, 2..5).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    let drives = drives(clients.cluster.world(), &first_two(clients));
    drives.iter().for_each(|(node, drive)| clients.cluster.happen(Event::Remember(*node, *drive)));
    if since == Since::Restart {
        restart_all(clients, End::PowerCut, || {});
        tokio::time::sleep(COLD).await;
    }
    let mut stored = match store(clients, &clients.history.keys()[5..11]).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    let before = before(clients);
    restart_all(clients, End::PowerCut, || {
        clients.cluster.happen(Event::Mend);
        drives.iter().for_each(|(node, drive)| clients.cluster.happen(Event::Revert(*node, *drive)));
    });
    stored.extend(older);
    verdict(clients, &stored, Lost::Surely, &before, is_it).await
}

/// Every flush of two zones reports success and does nothing.
pub(super) async fn flushes_lie(clients: &Clients) -> Vec<String> {
    serves(clients).await;
    without_last_zone(clients).await;
    let liar = DriveWeather { lying_flush: 1_000_000, ..DriveWeather::FAIR };
    let drives = drives(clients.cluster.world(), &first_two(clients));
    let all = |weather| {
        for (node, drive) in &drives {
            clients.cluster.happen(Event::DriveWeather(*node, *drive, weather));
        }
    };
    all(liar);
    let stored = match store(clients, &clients.history.keys()[2..11]).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    let before = before(clients);
    restart_all(clients, End::PowerCut, || {
        all(DriveWeather::FAIR);
        clients.cluster.happen(Event::Mend);
    });
    // A power cut may keep everything that was not flushed.
    verdict(clients, &stored, Lost::Perhaps, &before, is_loss_or_wait).await
}

/// Nobody can tell what the two have voted for and stored: so nothing is answered, and nothing is acknowledged.
pub(super) async fn two_voters_forget(clients: &Clients) -> Vec<String> {
    let (cluster, world) = (&clients.cluster, clients.cluster.world());
    serves(clients).await;
    let stored = match store(clients, &clients.history.keys()[2..8]).await {
        Ok(stored) => stored,
        Err(what) => return vec![what],
    };
    let forgetful: Vec<NodeId> =
        first_two(clients).into_iter().flat_map(|zone| nodes_of(world, zone)).collect();
    let before = before(clients);
    restart_all(clients, End::PowerCut, || {
        forgetful.iter().for_each(|node| cluster.happen(Event::EraseState(*node)));
    });
    tokio::time::sleep(ALARM_WITHIN).await;
    let mut violations = Vec::new();
    if !alarm_within(clients, &before, Duration::ZERO, |alarm| alarm.contains(NOT_LET_IN)).await {
        let alarms = clients.cluster.all_found().alarms;
        violations.push(format!("nobody says that a majority has forgotten: {alarms:?}"));
    }
    let look = look(clients, &all_nodes(clients), &stored).await;
    violations.extend(look.violations);
    if look.errors.len() != stored.len() {
        violations.push(format!("only {:?} are refused of {} keys", look.errors, stored.len()));
    }
    // Through those that remember, too: they alone are no majority.
    for node in all_nodes(clients) {
        for key in clients.history.keys().iter().take(KEYS_OF_EACH) {
            if clients.write_through(node, key).await.is_some() {
                let words = "and a majority has forgotten what was before";
                violations.push(format!("{key} is acknowledged by {node}, {words}"));
            }
        }
    }
    violations
}
