//! What the checkers look at, from inside: slab tables, versions, what drives hold.

use super::client::{BUCKETS, bucket_of};
use crate::sim::checkers::content::Content as Readable;
use crate::sim::checkers::layout::{self, Facts, Place};
use crate::sim::checkers::places;
use crate::sim::checkers::reclaim::{self, Backwards};
use crate::sim::checkers::watch::{Glimpse, GroupGlimpse};
use anyhow::{Context, bail};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use strongroom::cluster::Peers;
use strongroom::node::Node;
use strongroom_env::Env;
use strongroom_format::wire::message::{
    FragmentAddress, FragmentReport, Read, Refusal, Report, Request, Response,
};
use strongroom_meta::control::{ControlAnswer, ControlQuery};
use strongroom_meta::group::{Content, GroupAnswer, GroupQuery, PageEntry, Pointer};
use strongroom_types::{
    BucketId, BucketName, Deadline, DriveId, GroupId, Locator, NodeId, ObjectKey, SlabId, SlabRecord,
    SlabState, VersionId, ZoneId,
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

/// What is left to do as far as this node can see, until each slab is open for a writer that is there, dead, or cold, the node serves, its drives are verified, and they hold nothing that
/// the table has superseded. A slab may stay copies where its cold layout has no room ([`layout::may_stay_hot`]), but then with every holder
/// counted that has all of it.
pub(super) async fn unsettled(
    node: &Node,
    env: &Env,
    zones: BTreeMap<NodeId, ZoneId>,
) -> anyhow::Result<Vec<String>> {
    let status = node.status();
    let mut left = status.not_ready_because;
    if status.slabs.to_free > 0 {
        left.push(format!("{} fragments are to be freed", status.slabs.to_free));
    }
    if status.slabs.balancing > 0 {
        left.push("fragments are moved for the sake of balance".to_owned());
    }
    let awaited = status.drives.iter().filter(|drive| drive.standing == "awaited");
    left.extend(awaited.map(|drive| format!("a drive is not admitted yet: {}", drive.drive)));
    let under_way = node.holder().drives().filter(|drive| node.scrubber().is_under_way(drive));
    left.extend(under_way.map(|drive| format!("a drive is not verified yet: {}", drive.id())));
    let slabs = slabs(node, env).await?;
    let hot = |record: &SlabRecord| {
        record.profile.is_copies() && record.sealed().is_some_and(|sealed| sealed.rows > 0)
    };
    // Asked for only where it matters.
    let mut facts = Facts { zones, ..Facts::default() };
    drives(env, &mut facts).await?;
    facts.drains = node.drains().await?.into_keys().collect();
    if slabs.values().any(hot) && layout::has_small_drives(&facts.drives) || !facts.drains.is_empty() {
        fragments(env, &mut facts).await?;
    }
    let may_stay_hot = |record: &SlabRecord| hot(record) && layout::may_stay_hot(&facts, record);
    let own = NodeId::new(status.node);
    let fragments = own_fragments(node);
    let mut backwards = Backwards::default();
    usages(node, env, &mut backwards).await?;
    let alive = backwards.alive();
    left.extend(
        reclaim::left(&facts, &slabs, &alive)
            .into_iter()
            .map(|(slab, why)| format!("{why}: {:?}, {:?}", alive.get(&slab), slabs.get(&slab))),
    );
    for record in slabs.values() {
        let at_rest = match &record.state {
            // One with rows is sealed when it is old enough, and one whose writer is gone when that was noticed.
            SlabState::Open => {
                facts.sessions.get(&record.writer) == Some(&record.session)
                    && !fragments
                        .iter()
                        .any(|(_, report)| report.address.slab == record.slab && report.len_bytes > 0)
            }
            // Said above.
            SlabState::Dead => true,
            SlabState::Sealing => false,
            // One without rows is killed, and then given back.
            SlabState::Sealed(sealed) => sealed.rows > 0 && (!hot(record) || may_stay_hot(record)),
        };
        if !at_rest {
            left.push(format!("a slab is not cold: {record:?}"));
        }
    }
    left.extend(slabs.values().filter_map(|record| {
        let short = layout::not_made_again(&facts, record, own)?;
        Some(format!("a fragment is not made again: {short}, {record:?}"))
    }));
    left.extend(
        slabs
            .values()
            .filter_map(|record| Some(format!("{}: {record:?}", places::misplaced(&facts, record)?))),
    );
    left.extend(places::unbalanced(&facts, &slabs));
    for (_, report) in fragments {
        let accounted = slabs.get(&report.address.slab).is_some_and(|record| {
            if record.next_generation == report.address.generation && may_stay_hot(record) {
                return true;
            }
            layout::is_named(record, own, &report)
        });
        if !accounted {
            let record = slabs.get(&report.address.slab);
            left.push(format!("a fragment is not given back: {report:?}, {record:?}"));
        }
        if let Some(record) = slabs.get(&report.address.slab)
            && is_untold(node, own, record, &report)
        {
            left.push(format!("a fragment is not whole, and that is not told: {report:?}, {record:?}"));
        }
        if let Some(record) = slabs.get(&report.address.slab)
            && layout::is_uncounted(record, &report)
            && !lacks(node, record, &report)
        {
            left.push(format!("a holder has every row and is not counted: {report:?}, {record:?}"));
        }
    }
    Ok(left)
}

/// Whether a fragment counts that its own drive knows not to be whole.
fn is_untold(node: &Node, own: NodeId, record: &SlabRecord, report: &FragmentReport) -> bool {
    let place = usize::from(report.address.fragment.get());
    let counts = record.sealed().is_some_and(|sealed| sealed.rows > 0 && sealed.missing >> place & 1 == 0);
    counts && layout::is_named(record, own, report) && lacks(node, record, report)
}

/// Whether a fragment's own drive knows that bytes of it are not there: copies that count no more stay until their slab can be made cold.
fn lacks(node: &Node, record: &SlabRecord, report: &FragmentReport) -> bool {
    let address = &report.address;
    node.holder().drive(address.drive).is_ok_and(|drive| drive.lacks(address, record.profile))
}

/// Every drive, as its node tells it.
async fn drives(env: &Env, facts: &mut Facts) -> anyhow::Result<()> {
    let peers = Peers::new(env.clone());
    for node in facts.zones.keys() {
        let (answer, _) = peers.ask(*node, &Request::Ping, Bytes::new(), PATIENCE).await?;
        let Response::Pong(pong) = answer else { bail!("not an answer in kind") };
        facts.sessions.insert(*node, pong.session);
        facts.drives_failed.insert(*node, pong.drives_failed);
        facts.drives.extend(pong.drives.into_iter().map(|state| (*node, state)));
    }
    Ok(())
}

/// What these drives hold.
async fn fragments(env: &Env, facts: &mut Facts) -> anyhow::Result<()> {
    let peers = Peers::new(env.clone());
    for (node, state) in &facts.drives {
        let report = Request::Report(Report { drive: state.drive, after: None, limit: REPORT_PAGE });
        let (answer, _) = peers.ask(*node, &report, Bytes::new(), PATIENCE).await?;
        let Response::Fragments { fragments, truncated: false } = answer else {
            bail!("not an answer in kind")
        };
        facts.fragments.push((*node, state.drive, fragments));
    }
    Ok(())
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

/// Everything but contents, of all nodes, by one node's asking. Versions are those of every key that a list shows and of every one of `named`: a
/// deleted key is in no list, and where versions are kept its bytes are promised all the same.
pub(super) async fn gather(
    node: &Node,
    env: &Env,
    zones: BTreeMap<NodeId, ZoneId>,
    named: BTreeSet<String>,
) -> anyhow::Result<Facts> {
    let mut facts = Facts { zones, ..Facts::default() };
    for (index, (name, _)) in BUCKETS.into_iter().enumerate() {
        let query = ControlQuery::Bucket(BucketName::new(name)?);
        let ControlAnswer::Bucket(record) = node.meta().control_query(query, deadline(env)).await? else {
            bail!("not an answer in kind")
        };
        let bucket = record.with_context(|| format!("bucket {name} is gone"))?.bucket;
        let mut keys = BTreeMap::new();
        for name in named.iter().filter(|name| bucket_of(name) == index) {
            let key = ObjectKey::new(name)?;
            keys.insert(key.clone(), (node.meta().group_of(bucket, &key), false));
        }
        for group in (0..node.meta().group_count()).map(GroupId::new) {
            let listed = listed(node, env, group, bucket).await?;
            keys.extend(listed.into_iter().map(|key| (key, (group, true))));
        }
        for (key, (group, is_listed)) in keys {
            let found = versions(node, env, group, bucket, &key).await?;
            if !is_listed {
                facts.deleted_versions += found.len() as u64;
            }
            let name = format!("{name}/{}", key.as_str());
            facts
                .versions
                .extend(found.into_iter().map(|(version, locators)| (name.clone(), version, locators)));
        }
    }
    let mut backwards = Backwards::default();
    usages(node, env, &mut backwards).await?;
    // After the versions: a slab is in the table before anything points into it.
    facts.slabs = slabs(node, env).await?;
    pointers(node, env, facts.slabs.keys(), &mut backwards).await?;
    facts.backwards = Some(backwards);
    drives(env, &mut facts).await?;
    facts.drains = node.drains().await?.into_keys().collect();
    fragments(env, &mut facts).await?;
    let mut after = Facts { zones: facts.zones.clone(), ..Facts::default() };
    drives(env, &mut after).await?;
    facts.drives_moved = facts.drives != after.drives;
    Ok(facts)
}

/// The slab tables, as they are now.
pub(super) async fn table(node: &Node, env: &Env) -> anyhow::Result<BTreeMap<SlabId, SlabRecord>> {
    slabs(node, env).await
}

/// What can be seen of a node at once, without asking anybody.
pub(super) fn glimpse(node: &Node, drives: &[(usize, DriveId)]) -> Glimpse {
    let status = node.status();
    let groups = node.meta().status().into_iter().map(|group| GroupGlimpse {
        group: group.group.map_or_else(|| "control".to_owned(), |group| group.to_string()),
        id: group.id,
        leads: group.leads,
        term: group.term,
        applied: group.applied.unwrap_or(0),
        applied_under: group.applied_under,
        stopped: group.stopped,
    });
    Glimpse {
        groups: groups.collect(),
        drives: drives.to_vec(),
        fragments: own_fragments(node).into_iter().map(|(_, report)| report).collect(),
        alarms: status.alarms,
    }
}

/// How much versions of each group have in slabs.
async fn usages(node: &Node, env: &Env, backwards: &mut Backwards) -> anyhow::Result<()> {
    let groups = || (0..node.meta().group_count()).map(GroupId::new);
    for (group, of) in groups().flat_map(|group| groups().map(move |of| (group, of))) {
        let mut after = None;
        loop {
            let query = GroupQuery::Usages { of, after, limit: PAGE };
            let GroupAnswer::Usages(page) = node.meta().read(group, query, deadline(env)).await? else {
                bail!("not an answer in kind")
            };
            let full = page.len() == PAGE as usize;
            after = page.last().map(|(slab, _)| *slab);
            backwards.usages.extend(page.into_iter().map(|(slab, usage)| ((group, slab), usage)));
            if !full {
                break;
            }
        }
    }
    Ok(())
}

/// What versions of each group have in these slabs.
async fn pointers(
    node: &Node,
    env: &Env,
    slabs: impl Iterator<Item = &SlabId>,
    backwards: &mut Backwards,
) -> anyhow::Result<()> {
    for slab in slabs {
        for group in (0..node.meta().group_count()).map(GroupId::new) {
            let mut after = None;
            loop {
                let query = GroupQuery::Pointers { slab: *slab, after, limit: PAGE };
                let answer = node.meta().read(group, query, deadline(env)).await?;
                let GroupAnswer::Pointers { pointers, .. } = answer else { bail!("not an answer in kind") };
                let full = pointers.len() == PAGE as usize;
                after = pointers.last().map(|pointer: &Pointer| pointer.locator.offset_bytes);
                backwards.pointers.extend(pointers.into_iter().map(|pointer| (group, pointer)));
                if !full {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// What versions have in one slab, in words.
pub(super) async fn pointers_into(node: &Node, env: &Env, slab: SlabId) -> anyhow::Result<Vec<String>> {
    let mut backwards = Backwards::default();
    pointers(node, env, std::iter::once(&slab), &mut backwards).await?;
    Ok(backwards.pointers.into_iter().map(|(group, pointer)| format!("{group} {pointer:?}")).collect())
}

/// The needles of all kept versions of a key.
async fn versions(
    node: &Node,
    env: &Env,
    group: GroupId,
    bucket: BucketId,
    key: &ObjectKey,
) -> anyhow::Result<Vec<(VersionId, Vec<Locator>)>> {
    let query = GroupQuery::Versions { bucket, key: key.clone() };
    let GroupAnswer::Versions(versions) = node.meta().read(group, query, deadline(env)).await? else {
        bail!("not an answer in kind")
    };
    let needles = versions.into_iter().filter_map(|version| match version.content {
        Content::Needles(locators) => Some((version.version, locators)),
        Content::Inline(_) => None,
    });
    Ok(needles.collect())
}

/// The keys of a group that have a current version.
async fn listed(node: &Node, env: &Env, group: GroupId, bucket: BucketId) -> anyhow::Result<Vec<ObjectKey>> {
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
