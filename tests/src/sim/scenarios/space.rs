//! Stories of space that comes back, within the promise.

use super::stage::{Stored, at_rest, look, serves};
use crate::sim::checkers::layout::Facts;
use crate::sim::operation::{Operation, Outcome, Value};
use crate::sim::workload::Clients;
use futures::future::join_all;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use strongroom_types::{Locator, NodeId};

/// How long it may take until what was deleted is given back, and what is left is cold.
const GIVEN_BACK: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(20);
const BREATH: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 8;

/// Fills of the cluster, and what each stores under each key.
const FILLS: usize = 5;
const FILL_LEN_BYTES: usize = 1_500_000;
/// Extents that a fill may take besides those that the first one took, over all drives: how objects share slabs is chance, and each slab has an extent that
/// is not full on each of six drives.
const EXTENTS_MORE_MAX: u32 = 60;
/// Extents in use where everything was deleted: of slabs that are open.
const EXTENTS_EMPTY_MAX: u32 = 60;

/// A cluster is filled, emptied and filled again, and in the end it takes the space that it took the first time.
pub(super) async fn filled_and_emptied(clients: &Clients) -> Vec<String> {
    serves(clients).await;
    let keys = mail_keys(clients);
    let nodes: Vec<_> = clients.cluster.world().nodes().into_iter().map(|(node, _)| node).collect();
    let (mut violations, mut first) = (Vec::new(), None);
    for fill in 1..=FILLS {
        let mut stored = Stored::new();
        for (key, node) in keys.iter().zip(nodes.iter().cycle()) {
            let mut value = None;
            for _ in 0..ATTEMPTS {
                value = clients.write_sized(*node, key, FILL_LEN_BYTES).await;
                if value.is_some() {
                    break;
                }
                tokio::time::sleep(BREATH).await;
            }
            let Some(value) = value else { return vec![format!("live: {key} is not stored")] };
            stored.insert(key.clone(), value);
        }
        violations.extend(at_rest(clients, GIVEN_BACK).await.err());
        let full = extents_in_use(clients).await;
        let seen = look(clients, &nodes, &stored).await;
        violations.extend(seen.violations);
        if !seen.errors.is_empty() {
            violations.push(format!("live: {:?} cannot be read in fill {fill}", seen.errors));
        }
        for key in &keys {
            let mut removed = false;
            for _ in 0..ATTEMPTS {
                removed = removed || clients.remove(nodes[0], key).await;
            }
            if !removed {
                violations.push(format!("live: {key} is not removed"));
            }
        }
        violations.extend(at_rest(clients, GIVEN_BACK).await.err());
        let empty = extents_in_use(clients).await;
        clients
            .cluster
            .world()
            .trace()
            .line(format_args!("story fill {fill}: {full:?} extents, then {empty:?}"));
        let (Some(full), Some(empty)) = (full, empty) else {
            return vec![String::from("live: nobody says what is in use")];
        };
        if full > *first.get_or_insert(full) + EXTENTS_MORE_MAX {
            violations.push(format!("space: fill {fill} takes {full} extents, the first took {first:?}"));
        }
        if empty > EXTENTS_EMPTY_MAX {
            violations.push(format!("space: {empty} extents are in use after fill {fill} was deleted"));
        }
    }
    violations
}

/// Keys of the bucket that keeps no older versions, but for those that told stories begin with.
fn mail_keys(clients: &Clients) -> Vec<String> {
    let is_mail = |key: &&String| key.bytes().last().is_some_and(|last| last.is_multiple_of(2));
    clients.history.keys().iter().skip(2).filter(is_mail).cloned().collect()
}

async fn extents_in_use(clients: &Clients) -> Option<u32> {
    let facts: Facts = clients.cluster.ask_any(PATIENCE, |door| door.facts()).await?.ok()??;
    Some(facts.drives.iter().map(|(_, state)| state.extents_total - state.extents_free).sum())
}

/// Uploads at once, how often, and their length: two needles and a part, of which the first is stored before the pause.
const UPLOADS: usize = 4;
const ROUNDS: usize = 5;
const UPLOAD_LEN_BYTES: usize = 5_000_000;
/// Small objects that are stored meanwhile, so that slabs are rolled and sealed.
const MEANWHILE: usize = 12;

/// Uploads take so long that the slab of their first needle is sealed before they are committed, and nothing in it is alive until then. None of them is
/// refused, and all can be read.
pub(super) async fn uploads_take_long(clients: &Clients) -> Vec<String> {
    serves(clients).await;
    let nodes: Vec<_> = clients.cluster.world().nodes().into_iter().map(|(node, _)| node).collect();
    let keys = clients.history.keys();
    let (large, small) = keys[2..].split_at(UPLOADS);
    let mut violations = Vec::new();
    for round in 0..ROUNDS {
        let uploads = large.iter().zip(nodes.iter().cycle().skip(round)).map(|(key, node)| async move {
            let stored = clients.write_sized(*node, key, UPLOAD_LEN_BYTES).await;
            stored.is_none().then(|| format!("live: an upload of {key} that took long is refused"))
        });
        let meanwhile = async {
            for (key, node) in small.iter().cycle().zip(nodes.iter().cycle()).take(MEANWHILE) {
                clients.write_through(*node, key).await;
                tokio::time::sleep(BREATH).await;
            }
        };
        let (refused, ()) = futures::future::join(join_all(uploads), meanwhile).await;
        violations.extend(refused.into_iter().flatten());
    }
    violations
}

/// Five needles: more than a node reads ahead.
const READ_LEN_BYTES: usize = (12 << 20) + 200_000;
/// What is written over again and again while they are, and shares slabs with them.
const BESIDE_LEN_BYTES: usize = 450_000;
const BESIDE_EVERY: Duration = Duration::from_millis(150);
/// Which needles share a slab with how much is chance: so often is it tried.
const READS_MAX: usize = 8;
/// Longer than the client takes.
const READ_PATIENCE: Duration = Duration::from_secs(60);

/// An object is read so slowly that slabs of it are compacted, killed and freed in between: the reader goes on where the needles are now.
pub(super) async fn read_while_compacted(clients: &Clients) -> Vec<String> {
    serves(clients).await;
    clients.cluster.ask_each(|door| door.compact_now()).await;
    let node = clients.cluster.world().nodes()[0].0;
    let keys = mail_keys(clients);
    let (key, beside) = (&keys[0], &keys[1]);
    let (mut violations, mut moved) = (Vec::new(), false);
    for _ in 0..READS_MAX {
        let Some(value) = write_among(clients, node, key, beside).await else {
            return vec![format!("live: {key} is not stored")];
        };
        let before = places(clients, key).await;
        let get = Operation::Get { key: key.clone() };
        match clients.cluster.ask(node, get, READ_PATIENCE, true, Duration::ZERO).await {
            Outcome::Found(bytes) if bytes == value.bytes() => {}
            Outcome::Found(bytes) => {
                violations.push(format!("I9: {key} is {:?}, not {value}", Value::of(&bytes)));
            }
            other => {
                violations.push(format!("live: {key} could not be read while slabs of it died: {other}"))
            }
        }
        let after = places(clients, key).await;
        let last = |places: &Option<Vec<Locator>>| places.as_ref().and_then(|places| places.last().copied());
        moved = last(&before).is_some() && last(&before) != last(&after);
        if moved || !violations.is_empty() {
            break;
        }
    }
    if !moved {
        violations.push(format!("the story: the last needle of {key} was never moved"));
    }
    // Those who read everything afterwards do not wait for slow readers.
    while clients.write_one(key).await.is_none() {
        tokio::time::sleep(BREATH).await;
    }
    violations
}

/// Stores an object among others that are garbage soon after; gives it if it was acknowledged.
async fn write_among(clients: &Clients, node: NodeId, key: &str, beside: &str) -> Option<Value> {
    let (written, is_written) = (AtomicBool::new(false), Ordering::Relaxed);
    let upload = async {
        let value = clients.write_sized(node, key, READ_LEN_BYTES).await;
        written.store(true, is_written);
        value
    };
    let garbage = async {
        while !written.load(is_written) {
            clients.write_sized(node, beside, BESIDE_LEN_BYTES).await;
            tokio::time::sleep(BESIDE_EVERY).await;
        }
        for _ in 0..ATTEMPTS {
            clients.write_sized(node, beside, BESIDE_LEN_BYTES).await;
        }
        clients.remove(node, beside).await;
    };
    let (value, ()) = futures::future::join(upload, garbage).await;
    value
}

/// Where the needles of a key's versions are.
async fn places(clients: &Clients, key: &str) -> Option<Vec<Locator>> {
    let facts: Facts = clients.cluster.ask_any(PATIENCE, |door| door.facts()).await?.ok()??;
    let of_key = facts.versions.into_iter().filter(|(name, ..)| name.ends_with(key));
    Some(of_key.flat_map(|(_, _, locators)| locators).collect())
}
