//! What told stories have in common: objects that were acknowledged, looking for them, and where their bytes stand.

use crate::sim::draws::Draws;
use crate::sim::faults::Event;
use crate::sim::operation::{Operation, Outcome, Value};
use crate::sim::workload::Clients;
use crate::sim::world::{End, World};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{NodeId, ZoneId};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than it takes until everyone sees that a zone is away, so that new slabs are placed without it.
const SEEN_AWAY: Duration = Duration::from_secs(16);
const BREATH: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 8;

/// The objects that a story has stored, by key.
pub(super) type Stored = BTreeMap<String, Value>;

/// The nodes of a zone.
pub(super) fn nodes_of(world: &World, zone: ZoneId) -> Vec<NodeId> {
    world.nodes().into_iter().filter(|(_, of)| *of == zone).map(|(node, _)| node).collect()
}

/// All zones, that of the first node first: clients of stories write through it.
pub(super) fn zones(world: &World) -> Vec<ZoneId> {
    let mut zones = Vec::new();
    for (_, zone) in world.nodes() {
        if !zones.contains(&zone) {
            zones.push(zone);
        }
    }
    zones
}

/// Waits until the cluster takes objects: buckets are made by the first who need them.
pub(super) async fn serves(clients: &Clients) {
    for key in clients.history.keys().iter().take(2) {
        while clients.write_one(key).await.is_none() {
            tokio::time::sleep(BREATH).await;
        }
    }
}

/// Stores an object under each of these keys, one after the other, each a row of its own.
pub(super) async fn store(clients: &Clients, keys: &[String]) -> Result<Stored, String> {
    let mut stored = Stored::new();
    for key in keys {
        let mut value = None;
        // A slab that is rolled under it may cost an attempt. One without an answer may have been done, and is then overwritten.
        for _ in 0..ATTEMPTS {
            value = clients.write_one(key).await;
            if value.is_some() {
                break;
            }
            tokio::time::sleep(BREATH).await;
        }
        let value = value.ok_or_else(|| format!("live: {key} is not stored, and two zones are there"))?;
        stored.insert(key.clone(), value);
    }
    Ok(stored)
}

/// Has everything on all drives read again, and waits until no node has anything left to do.
pub(super) async fn at_rest(clients: &Clients, limit: Duration) -> Result<(), String> {
    let until = tokio::time::Instant::now() + limit;
    clients.cluster.ask_each(|door| door.verify()).await;
    loop {
        let answers = clients.cluster.ask_each(|door| door.unsettled()).await;
        let left = answers.values().find_map(|left| {
            left.as_ref().map_or(Some(String::from("no answer")), |left| left.first().cloned())
        });
        match left {
            None => return Ok(()),
            Some(left) if tokio::time::Instant::now() >= until => {
                return Err(format!("I13: not at rest within {limit:?}: {left}"));
            }
            Some(_) => tokio::time::sleep(BREATH).await,
        }
    }
}

/// The last zone is cut off, and everyone has seen it.
pub(super) async fn without_last_zone(clients: &Clients) {
    let world = clients.cluster.world();
    let last = *zones(world).last().expect("a world has zones");
    clients.cluster.happen(Event::CutZone(last));
    tokio::time::sleep(SEEN_AWAY).await;
}

/// All nodes end and start again; what happens to them in between is the story's.
pub(super) fn restart_all(clients: &Clients, end: End, between: impl FnOnce()) {
    let nodes = clients.cluster.world().nodes();
    for (node, _) in &nodes {
        clients.cluster.kill(*node, end);
    }
    between();
    for (node, _) in &nodes {
        clients.cluster.boot(*node);
    }
}

/// What a look at stored objects gave.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Keys that some node could not give.
    pub(super) errors: Vec<String>,
    /// Answers that must not be.
    pub(super) violations: Vec<String>,
}

/// Reads every object through every one of these nodes. An error is no violation; other bytes are, and so is that there is nothing.
pub(super) async fn look(clients: &Clients, nodes: &[NodeId], stored: &Stored) -> Look {
    let mut look = Look::default();
    for (key, value) in stored {
        let mut failed = false;
        for node in nodes {
            let get = Operation::Get { key: key.clone() };
            match clients.cluster.ask(*node, get, PATIENCE, true, Duration::ZERO).await {
                Outcome::Found(bytes) if bytes == value.bytes() => {}
                Outcome::Unknown(_) | Outcome::Refused(_) => failed = true,
                Outcome::Found(bytes) => look.violations.push(format!(
                    "I9: {key} by {node} is {:?}, and {value} was acknowledged",
                    Value::of(&bytes)
                )),
                other => look.violations.push(format!("I8: acknowledged {key} {value} by {node}: {other}")),
            }
        }
        if failed {
            look.errors.push(key.clone());
        }
    }
    let trace = clients.cluster.world().trace();
    trace.line(format_args!("story {} of {} keys cannot be read", look.errors.len(), stored.len()));
    look
}

/// The alarms up to some moment: what is raised after it tells of what came after it.
pub(super) struct Before(BTreeSet<String>);

/// Takes down the alarms of this moment.
pub(super) fn before(clients: &Clients) -> Before {
    Before(clients.cluster.all_found().alarms)
}

/// Waits for a new alarm of this kind; whether one came.
pub(super) async fn alarm_within(
    clients: &Clients,
    before: &Before,
    limit: Duration,
    is_it: impl Fn(&str) -> bool,
) -> bool {
    let until = tokio::time::Instant::now() + limit;
    loop {
        if clients.cluster.all_found().alarms.difference(&before.0).any(|alarm| is_it(alarm)) {
            return true;
        }
        if tokio::time::Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// Each drive of these zones, as events name them.
pub(super) fn drives(world: &World, zones: &[ZoneId]) -> Vec<(NodeId, usize)> {
    let nodes = zones.iter().flat_map(|zone| nodes_of(world, *zone));
    nodes.flat_map(|node| (0..world.drives(node).len()).map(move |drive| (node, drive))).collect()
}

/// How the bytes of a value are searched for on media.
const SEARCH_LEN_BYTES: usize = 4 << 20;

/// Flips a bit wherever these bytes stand on any drive; says in how many places.
pub(super) fn rot_all(world: &World, needle: &[u8]) -> usize {
    let mut copies = 0;
    for drive in world.nodes().iter().flat_map(|(node, _)| world.drives(*node)) {
        let mut at = 0;
        while at < drive.media.len_bytes() {
            let len =
                SEARCH_LEN_BYTES.min(usize::try_from(drive.media.len_bytes() - at).expect("a small drive"));
            let window = drive.media.peek(at, len);
            for found in all_places(&window, needle) {
                drive.media.rot(at + found as u64, 0x10);
                copies += 1;
            }
            // Overlapping, so that no place is cut in two.
            at += (len - if len == SEARCH_LEN_BYTES { BLOCK_LEN_BYTES as usize } else { 0 }) as u64;
        }
    }
    copies
}

/// Harms so many blocks of a drive that are not all zero, behind its superblocks; the same block may be hit twice. A third of them each: a bit flips, the second half
/// is another block's (a torn write), all of it is (a misdirected one).
pub(super) fn harm_some(world: &World, (node, drive): (NodeId, usize), count: usize, draws: &mut Draws) {
    let media = &world.drives(node)[drive].media;
    let block_len = BLOCK_LEN_BYTES as usize;
    let blocks = (HEAD_LEN_BYTES..media.len_bytes() - HEAD_LEN_BYTES).step_by(block_len);
    let is_used = |at: &u64| media.peek(*at, block_len).iter().any(|byte| *byte != 0);
    let used: Vec<u64> = blocks.filter(is_used).collect();
    let draw =
        |draws: &mut Draws| used[usize::try_from(draws.below(used.len() as u64)).expect("below a length")];
    for number in 0..if used.is_empty() { 0 } else { count } {
        let block = draw(draws);
        let kept = match number % 3 {
            0 => {
                media.rot(block + draws.below(u64::from(BLOCK_LEN_BYTES)), 1 << draws.below(8));
                continue;
            }
            1 => block_len / 2,
            _ => 0,
        };
        let (before, other) = (media.peek(block, block_len), media.peek(draw(draws), block_len));
        for (at, (before, other)) in (block..).zip(before.iter().zip(&other)).skip(kept) {
            if before != other {
                media.rot(at, before ^ other);
            }
        }
    }
}

/// Where extents begin, and as much at the end of a drive.
const HEAD_LEN_BYTES: u64 = strongroom_format::superblock::RESERVE_LEN_BYTES;

fn all_places<'a>(hay: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = needle[0];
    hay.iter()
        .enumerate()
        .filter(move |(at, byte)| **byte == first && hay[*at..].starts_with(needle))
        .map(|(at, _)| at)
}
