//! What the checkers look at, from inside: slab tables, versions, what drives hold.

use super::client::BUCKETS;
use crate::sim::checkers::content::Content as Readable;
use crate::sim::checkers::layout::{self, Facts, Place};
use crate::sim::checkers::watch::{Glimpse, GroupGlimpse};
use anyhow::{Context, bail};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use strongroom::cluster::Peers;
use strongroom::node::Node;
use strongroom_env::Env;
use strongroom_format::wire::message::{
    FragmentAddress, FragmentReport, Read, Refusal, Report, Request, Response,
};
use strongroom_meta::control::{ControlAnswer, ControlQuery};
use strongroom_meta::group::{Content, GroupAnswer, GroupQuery, PageEntry};
use strongroom_types::{
    BucketId, BucketName, Deadline, DriveId, GroupId, NodeId, ObjectKey, SlabId, SlabRecord, SlabState,
    ZoneId,
};

const PATIENCE: Duration = Duration::from_secs(5);
const PAGE: u32 = 200;
const REPORT_PAGE: u32 = 1000;

fn deadline(env: &Env) -> Deadline {
    Deadline::after(env.clock.now(), PATIENCE)
}

async fn slabs(node: &Node, env: &Env) -> anyhow::Result<BTreeMap<SlabId, SlabRecord>> {
    let mut all = BTreeMap::new();
    for group in (0..node.meta().group_count()).map(GroupId::new) {
        let mut after = None;
        loop {
            let query = GroupQuery::Slabs { after, limit: PAGE, live_only: false };
            let GroupAnswer::Slabs(page) = node.meta().read(group, query, deadline(env)).await? else {
                bail!("not an answer in kind")
            };
            let full = page.len() == PAGE as usize;
            after = page.last().map(|record| record.slab);
            all.extend(page.into_iter().map(|record| (record.slab, record)));
            if !full {
                break;
            }
        }
    }
    Ok(all)
}

fn own_fragments(node: &Node) -> Vec<(DriveId, FragmentReport)> {
    let drives = node.holder().drives();
    drives
        .flat_map(|drive| {
            let (page, truncated) =
                drive.report(&Report { drive: drive.id(), after: None, limit: REPORT_PAGE });
            assert!(!truncated, "a simulated drive has few fragments");
            page.into_iter().map(|report| (drive.id(), report))
        })
        .collect()
}

/// What is left to do as far as this node can see, until each slab is open, dead, empty, or cold, the node serves, and its drives hold nothing that
/// the table has superseded.
pub(super) async fn unsettled(node: &Node, env: &Env) -> anyhow::Result<Vec<String>> {
    let status = node.status();
    let mut left = status.not_ready_because;
    if status.slabs.to_free > 0 {
        left.push(format!("{} fragments are to be freed", status.slabs.to_free));
    }
    let slabs = slabs(node, env).await?;
    let hot = |record: &SlabRecord| {
        record.profile.is_copies() && record.sealed().is_some_and(|sealed| sealed.rows > 0)
    };
    // Asked for only where it matters.
    let cramped = slabs.values().any(hot) && is_cramped(node, env).await?;
    let own = NodeId::new(status.node);
    let fragments = own_fragments(node);
    for record in slabs.values() {
        let at_rest = match &record.state {
            // One with rows is sealed when it is old enough.
            SlabState::Open => !fragments
                .iter()
                .any(|(_, report)| report.address.slab == record.slab && report.len_bytes > 0),
            SlabState::Dead => true,
            SlabState::Sealing => false,
            SlabState::Sealed(sealed) => sealed.rows == 0 || !hot(record) || cramped,
        };
        if !at_rest {
            left.push(format!("a slab is not cold: {record:?}"));
        }
    }
    for (drive, report) in fragments {
        let accounted = slabs.get(&report.address.slab).is_some_and(|record| {
            if cramped && hot(record) && record.generation < report.address.generation {
                return true;
            }
            let holder = record.holders.get(usize::from(report.address.fragment.get()));
            record.state != SlabState::Dead
                && record.generation == report.address.generation
                && holder.is_some_and(|holder| (holder.node, holder.drive) == (own, drive))
        });
        if !accounted {
            let record = slabs.get(&report.address.slab);
            left.push(format!("a fragment is not given back: {report:?}, {record:?}"));
        }
    }
    Ok(left)
}

/// Whether there is too little room to make slabs cold.
async fn is_cramped(node: &Node, env: &Env) -> anyhow::Result<bool> {
    let peers = Peers::new(env.clone());
    let (mut zones, mut drives) = (BTreeMap::new(), Vec::new());
    let status = node.status();
    let others = status.peers.iter().map(|peer| peer.node).chain([status.node]);
    for node in others.map(NodeId::new) {
        let (answer, _) = peers.ask(node, &Request::Ping, Bytes::new(), PATIENCE).await?;
        let Response::Pong(pong) = answer else { bail!("not an answer in kind") };
        zones.insert(node, pong.zone);
        drives.extend(pong.drives.into_iter().map(|state| (node, state)));
    }
    Ok(layout::is_cramped(&zones, &drives))
}

/// I8: of a fragment that a drive has, it never says that it has it not, whatever its media do.
pub(super) async fn probe(node: &Node) -> Vec<String> {
    let mut wrong = Vec::new();
    for (_, report) in own_fragments(node) {
        if report.len_bytes == 0 {
            continue;
        }
        let read = Read { address: report.address, offset_bytes: 0, len_bytes: 1, foreground: false };
        let (answer, _) = node.holder().serve(Request::Read(read), Bytes::new()).await;
        let still = || own_fragments(node).iter().any(|(_, after)| after.address == report.address);
        if matches!(answer, Response::Refused(Refusal::NotHere | Refusal::NoSuchDrive)) && still() {
            wrong.push(format!(
                "I8: a fragment that is reported is said not to be here: {:?}",
                report.address
            ));
        }
    }
    wrong
}

/// How much of a fragment is read at once, and how much where that fails.
const READ_LEN_BYTES: u32 = 1 << 20;
const BLOCK_LEN_BYTES: u32 = strongroom_types::units::BLOCK_LEN_BYTES;
/// Attempts at a read that the drive has no room for now.
const BUSY_MAX: usize = 10;

/// Everything that this node's drives hold, read as a scrub would: each block checked by the drive, nothing hurried.
pub(super) async fn contents(node: &Node, env: &Env) -> Vec<(Place, Readable)> {
    let mut contents = Vec::new();
    let own = NodeId::new(node.status().node);
    for (drive, report) in own_fragments(node) {
        let FragmentReport { address, len_bytes, .. } = report;
        let mut content = Readable::default();
        let mut at = 0;
        while at < len_bytes {
            let len = READ_LEN_BYTES.min(len_bytes - at);
            match read(node, env, address, at, len).await {
                Ok(bytes) => content.push(len, Ok(bytes)),
                Err(_) => {
                    for block in (at..at + len).step_by(BLOCK_LEN_BYTES as usize) {
                        let len = BLOCK_LEN_BYTES.min(at + len - block);
                        content.push(len, read(node, env, address, block, len).await);
                    }
                }
            }
            at += len;
        }
        contents.push(((own, drive, address.slab, address.fragment, address.generation), content));
    }
    contents
}

async fn read(
    node: &Node,
    env: &Env,
    address: FragmentAddress,
    offset_bytes: u32,
    len_bytes: u32,
) -> Result<Bytes, String> {
    let read = Read { address, offset_bytes, len_bytes, foreground: false };
    for _ in 0..BUSY_MAX {
        return match node.holder().serve(Request::Read(read), Bytes::new()).await {
            (Response::Bytes, bytes) if bytes.len() == len_bytes as usize => Ok(bytes),
            (Response::Refused(Refusal::Busy), _) => {
                env.clock.sleep(Duration::from_millis(5)).await;
                continue;
            }
            (Response::Refused(refusal), _) => Err(refusal.to_string()),
            (other, bytes) => Err(format!("{other:?} with {} bytes", bytes.len())),
        };
    }
    Err("busy for long".to_owned())
}

/// Everything but contents, of all nodes, by one node's asking.
pub(super) async fn gather(node: &Node, env: &Env, zones: BTreeMap<NodeId, ZoneId>) -> anyhow::Result<Facts> {
    let peers = Peers::new(env.clone());
    let mut facts = Facts { zones: zones.clone(), ..Facts::default() };
    for (name, _) in BUCKETS {
        let query = ControlQuery::Bucket(BucketName::new(name)?);
        let ControlAnswer::Bucket(record) = node.meta().control_query(query, deadline(env)).await? else {
            bail!("not an answer in kind")
        };
        let bucket = record.with_context(|| format!("bucket {name} is gone"))?.bucket;
        for group in (0..node.meta().group_count()).map(GroupId::new) {
            versions(node, env, group, bucket, name, &mut facts).await?;
        }
    }
    // After the versions: a slab is in the table before anything points into it.
    facts.slabs = slabs(node, env).await?;
    for node in zones.keys() {
        let (answer, _) = peers.ask(*node, &Request::Ping, Bytes::new(), PATIENCE).await?;
        let Response::Pong(pong) = answer else { bail!("not an answer in kind") };
        facts.sessions.insert(*node, pong.session);
        for state in pong.drives {
            facts.drives.push((*node, state));
            let report = Request::Report(Report { drive: state.drive, after: None, limit: REPORT_PAGE });
            let (answer, _) = peers.ask(*node, &report, Bytes::new(), PATIENCE).await?;
            let Response::Fragments { fragments, truncated: false } = answer else {
                bail!("not an answer in kind")
            };
            facts.fragments.push((*node, state.drive, fragments));
        }
    }
    Ok(facts)
}

/// The slab tables, as they are now.
pub(super) async fn table(node: &Node, env: &Env) -> anyhow::Result<BTreeMap<SlabId, SlabRecord>> {
    slabs(node, env).await
}

/// What can be seen of a node at once, without asking anybody.
pub(super) fn glimpse(node: &Node) -> Glimpse {
    let status = node.status();
    let groups = node.meta().status().into_iter().map(|group| GroupGlimpse {
        group: group.group.map_or_else(|| "control".to_owned(), |group| group.to_string()),
        leads: group.leads,
        term: group.term,
        applied: group.applied.unwrap_or(0),
        stopped: group.stopped,
    });
    Glimpse {
        groups: groups.collect(),
        fragments: own_fragments(node).into_iter().map(|(_, report)| report).collect(),
        alarms: status.alarms,
    }
}

async fn versions(
    node: &Node,
    env: &Env,
    group: GroupId,
    bucket: BucketId,
    name: &str,
    facts: &mut Facts,
) -> anyhow::Result<()> {
    for key in keys(node, env, group, bucket).await? {
        let query = GroupQuery::Versions { bucket, key: key.clone() };
        let GroupAnswer::Versions(versions) = node.meta().read(group, query, deadline(env)).await? else {
            bail!("not an answer in kind")
        };
        for version in versions {
            if let Content::Needles(locators) = version.content {
                facts.versions.push((format!("{name}/{}", key.as_str()), version.version, locators));
            }
        }
    }
    Ok(())
}

/// The keys of a group that have a current version.
async fn keys(node: &Node, env: &Env, group: GroupId, bucket: BucketId) -> anyhow::Result<Vec<ObjectKey>> {
    let query = GroupQuery::List { bucket, prefix: String::new(), delimiter: None, after: None, limit: PAGE };
    let GroupAnswer::List(page) = node.meta().read(group, query, deadline(env)).await? else {
        bail!("not an answer in kind")
    };
    anyhow::ensure!(!page.truncated, "a simulated bucket has few keys");
    Ok(page
        .entries
        .into_iter()
        .filter_map(|entry| match entry {
            PageEntry::Object { key, .. } => Some(key),
            PageEntry::CommonPrefix(_) => None,
        })
        .collect())
}
