//! Metrics as OpenMetrics text: what is read anew at each scrape, and what it is called.
//!
//! Names follow Prometheus's conventions: prefix `strongroom_`, base units, `_total` for what only grows. Counters begin again with the process. Of groups
//! and slabs each node tells what it sees or leads, so that sums over all nodes count each once.

mod text;

use crate::jobs::{JobState, Kind};
use crate::metrics::STATUSES;
use crate::node::Node;
use crate::status::{NodeStatus, ScrubStatus};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use strongroom_io::{Class, Kind as IoKind};
use text::{Family, Out};

const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Metrics of this node as OpenMetrics text, which Prometheus reads.
#[utoipa::path(
    get, path = "/v1/metrics", tag = "metrics",
    responses((status = 200, description = "The metrics", body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(State(node): State<Arc<Node>>) -> Response {
    let mut registry = Registry::with_prefix("strongroom");
    registry.register_collector(Box::new(Reading { node }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .expect("writing to a string, and no number is beyond 63 bits");
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

/// Reads a node.
struct Reading {
    node: Arc<Node>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl Collector for Reading {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.node.status();
        let mut out = Out::new(encoder);
        node(&mut out, &status)?;
        slabs(&mut out, &status, self.node.repairs_waiting())?;
        drives(&mut out, &status)?;
        scrub(&mut out, &status)?;
        io(&mut out, &self.node)?;
        groups(&mut out, &status)?;
        jobs(&mut out, &self.node)?;
        door(&mut out, &self.node)
    }
}

/// Whether, as Prometheus has it.
fn flag(value: bool) -> u64 {
    u64::from(value)
}

fn node(out: &mut Out<'_>, status: &NodeStatus) -> fmt::Result {
    out.info(
        Family { name: "node", help: "What this node is", unit: None },
        [
            ("node", status.node.to_string()),
            ("zone", status.zone.to_string()),
            ("cluster", status.cluster.clone()),
            ("version", status.version.clone()),
        ],
    )?;
    out.gauge("ready", "Whether this node serves", flag(status.ready))?;
    out.gauge("alarms", "Alarms that are raised: see the node's status", status.alarms.len() as u64)?;
    let up = status.peers.iter().filter(|peer| peer.up).count() as u64;
    let down = status.peers.len() as u64 - up;
    out.gauges(
        Family { name: "peers", help: "The other nodes, as this one sees them", unit: None },
        [([("state", "up")], up), ([("state", "down")], down)],
    )
}

fn slabs(out: &mut Out<'_>, status: &NodeStatus, repairs_waiting: usize) -> fmt::Result {
    let slabs = &status.slabs;
    let by_state = [
        ([("state", "open")], slabs.open),
        ([("state", "sealing")], slabs.sealing),
        ([("state", "empty")], slabs.empty),
        ([("state", "hot")], slabs.hot),
        ([("state", "cold")], slabs.cold),
    ];
    out.gauges(
        Family { name: "slabs", help: "Slabs of the groups that this node leads", unit: None },
        by_state,
    )?;
    let images = [([("state", "hot")], slabs.hot_image_bytes), ([("state", "cold")], slabs.cold_image_bytes)];
    out.gauges(
        Family { name: "slab_image", help: "Images of those slabs that are sealed", unit: Some(Unit::Bytes) },
        images,
    )?;
    out.gauges(
        Family {
            name: "slabs_by_margin",
            help: "Those that are sealed, by what they survive now",
            unit: None,
        },
        slabs.margins.by_name().map(|(margin, count)| ([("margin", margin)], count)),
    )?;
    out.gauge("slabs_dead", "Those that are dead and not forgotten yet", slabs.dead)?;
    out.gauge("slabs_compacting", "Those that are being compacted", slabs.compacting)?;
    let help = "Bytes of images that versions had when the groups were asked last: the rest is garbage";
    out.gauge("slab_alive_bytes", help, slabs.alive_bytes)?;
    out.gauge("slabs_deficit", "Those that have not all their fragments", slabs.deficit)?;
    out.gauge("slabs_lost", "Those that cannot be read now", slabs.lost)?;
    out.gauge("repairs_waiting", "Cold ones that wait to be made whole again", repairs_waiting as u64)?;
    out.gauge("fragments_to_free", "Superseded fragments on this node's drives", slabs.to_free)
}

fn drives(out: &mut Out<'_>, status: &NodeStatus) -> fmt::Result {
    let drives = &status.drives;
    let name = |drive: &str| ("drive", drive.to_owned());
    let space = drives.iter().flat_map(|drive| {
        let all =
            [("total", drive.bytes_total), ("allocated", drive.bytes_allocated), ("used", drive.bytes_used)];
        all.map(|(state, bytes)| ([name(&drive.drive), ("state", state.to_owned())], bytes))
    });
    let space: Vec<_> = space.collect();
    let help = "Space: in all, in extents that are in use, and in what lies in them";
    out.gauges(Family { name: "drive_space", help, unit: Some(Unit::Bytes) }, space)?;
    let each = |value: fn(&crate::status::DriveStatus) -> u64| {
        drives.iter().map(|drive| ([name(&drive.drive)], value(drive))).collect::<Vec<_>>()
    };
    let family = |name, help| Family { name, help, unit: None };
    out.gauges(family("drive_fragments", "Fragments"), each(|drive| drive.fragments))?;
    out.gauges(
        family("drive_writable", "Whether it takes new fragments"),
        each(|drive| flag(drive.writable)),
    )?;
    out.gauges(
        family("drive_suspect", "Whether a write or flush failed since the node's start"),
        each(|drive| flag(drive.suspect)),
    )?;
    out.gauges(
        family("drive_extents_unknown", "Extents whose headers cannot be read"),
        each(|drive| u64::from(drive.extents_unknown)),
    )?;
    out.gauge("drives_failed", "Drives that could not be opened", status.drives_failed.len() as u64)
}

fn scrub(out: &mut Out<'_>, status: &NodeStatus) -> fmt::Result {
    let each = |value: fn(&ScrubStatus) -> u64| {
        let drives = status.drives.iter();
        drives.map(|drive| ([("drive", drive.drive.clone())], value(&drive.scrub))).collect::<Vec<_>>()
    };
    // In seconds, and none where there is nothing to be said: 0 would be a promise from 1970 on.
    let times = |value: fn(&ScrubStatus) -> Option<u64>| {
        let drives = status.drives.iter();
        let known = drives.filter_map(|drive| Some((drive.drive.clone(), value(&drive.scrub)?)));
        known.map(|(drive, millis)| ([("drive", drive)], millis as f64 / 1000.0)).collect::<Vec<_>>()
    };
    let of = |name, help, unit| Family { name, help, unit };
    let help =
        "Every byte on the drive was written, or read and compared, since then; none where that is not known";
    out.gauges(
        of("scrub_verified_since_timestamp", help, Some(Unit::Seconds)),
        times(|scrub| scrub.verified_since_unix_ms),
    )?;
    let help = "When the tour under way began";
    out.gauges(
        of("scrub_tour_began_timestamp", help, Some(Unit::Seconds)),
        times(|scrub| scrub.tour_began_unix_ms),
    )?;
    let help = "What the tour under way reads in all";
    out.gauges(of("scrub_tour", help, Some(Unit::Bytes)), each(|scrub| scrub.bytes_total))?;
    let help = "Of this, what it has not come to";
    out.gauges(of("scrub_tour_left", help, Some(Unit::Bytes)), each(|scrub| scrub.bytes_left))?;
    out.counters(of("scrub_tours", "Tours that ended", None), each(|scrub| scrub.tours_ended))?;
    let help = "What was read and compared";
    out.counters(of("scrub_verified", help, Some(Unit::Bytes)), each(|scrub| scrub.bytes_verified))?;
    let help = "Fragments that were found not to be what was written";
    out.counters(of("scrub_fragments_damaged", help, None), each(|scrub| scrub.fragments_bad))?;
    let help = "Blocks that do not match their checksums";
    out.counters(of("scrub_blocks_corrupt", help, None), each(|scrub| scrub.blocks_corrupt))?;
    let help = "Blocks that could not be read";
    out.counters(of("scrub_blocks_unreadable", help, None), each(|scrub| scrub.blocks_unreadable))?;
    let help = "Fragments that could not be looked at";
    out.counters(of("scrub_fragments_passed_over", help, None), each(|scrub| scrub.fragments_passed_over))
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::ForegroundRead => "foreground_read",
        Class::Append => "append",
        Class::Repair => "repair",
        Class::Convert => "convert",
        Class::Scrub => "scrub",
    }
}

fn io_name(kind: IoKind) -> &'static str {
    match kind {
        IoKind::Read => "read",
        IoKind::Write => "write",
        IoKind::Flush => "flush",
        IoKind::Discard => "discard",
    }
}

fn io(out: &mut Out<'_>, node: &Node) -> fmt::Result {
    let drives = node.holder().drives();
    let cells: Vec<_> = drives
        .map(|drive| (format!("{:032x}", drive.id().get()), drive.meter().read()))
        .flat_map(|(drive, cells)| cells.into_iter().map(move |cell| (drive.clone(), cell)))
        .map(|(drive, cell)| {
            let class = class_name(cell.class).to_owned();
            ([("drive", drive), ("class", class), ("operation", io_name(cell.kind).to_owned())], cell)
        })
        .collect();
    let help = "How long drives took for operations, by what these were done for; failed ones included";
    out.histograms(
        Family { name: "io_duration", help, unit: Some(Unit::Seconds) },
        cells.iter().map(|(labels, cell)| (labels.clone(), &cell.latency)),
    )?;
    out.counters(
        Family { name: "io", help: "Bytes that drives read and wrote", unit: Some(Unit::Bytes) },
        cells.iter().map(|(labels, cell)| (labels.clone(), cell.bytes)),
    )?;
    out.counters(
        Family { name: "io_errors", help: "Operations that drives failed", unit: None },
        cells.iter().map(|(labels, cell)| (labels.clone(), cell.errors)),
    )
}

fn groups(out: &mut Out<'_>, status: &NodeStatus) -> fmt::Result {
    let each = |value: fn(&crate::status::GroupStatus) -> u64| {
        let groups = status.groups.iter();
        groups.map(|group| ([("group", group.group.clone())], value(group))).collect::<Vec<_>>()
    };
    let family = |name, help| Family { name, help, unit: None };
    out.gauges(
        family("raft_leader_known", "Whether a leader of the group is known"),
        each(|group| flag(group.leader.is_some())),
    )?;
    out.gauges(family("raft_leads", "Whether this node leads the group"), each(|group| flag(group.leads)))?;
    out.gauges(family("raft_term", "Raft's term"), each(|group| group.term))?;
    out.gauges(family("raft_last_log_index", "The last entry in the log"), each(|group| group.last_log))?;
    out.gauges(family("raft_applied_index", "The last entry applied"), each(|group| group.applied))?;
    out.gauges(family("raft_snapshot_index", "The last entry in the snapshot"), each(|group| group.snapshot))
}

fn jobs(out: &mut Out<'_>, node: &Node) -> fmt::Result {
    let all = node.jobs().all();
    let mut by_state: BTreeMap<(Kind, JobState), u64> = BTreeMap::new();
    for job in &all {
        *by_state.entry((job.kind, job.state)).or_default() += 1;
    }
    let by_state = by_state
        .iter()
        .map(|((kind, state), count)| ([("kind", kind.name()), ("state", state.name())], *count));
    out.gauges(Family { name: "jobs", help: "Jobs of this node that are known", unit: None }, by_state)?;
    let standing = || all.iter().filter(|job| job.standing);
    let labels = |job: &crate::jobs::JobView| {
        [("kind", job.kind.to_string()), ("job", job.id.to_string()), ("unit", job.progress.unit.to_string())]
    };
    // Those that go round begin anew each time; what a scrub has done has counters of its own.
    let counted = standing().filter(|job| job.progress.total.is_none() && job.kind != Kind::Scrub);
    out.counters(
        Family { name: "work_done", help: "What the node's standing jobs have done", unit: None },
        counted.map(|job| (labels(job), job.progress.done)),
    )?;
    let paced = standing().filter_map(|job| Some((labels(job), job.pace_bytes_per_second?)));
    let help = "Bytes a second that an operator has limited them to; none where there is no limit";
    out.gauges(Family { name: "work_pace_limit_bytes_per_second", help, unit: None }, paced)
}

fn door(out: &mut Out<'_>, node: &Node) -> fmt::Result {
    let operations = node.door_meter().read();
    let help = "S3 requests, from the head to the beginning of the answer";
    out.histograms(
        Family { name: "s3_request_duration", help, unit: Some(Unit::Seconds) },
        operations.iter().map(|counts| ([("operation", counts.operation)], &counts.latency)),
    )?;
    let by_status = operations.iter().flat_map(|counts| {
        let statuses = STATUSES.iter().zip(counts.by_status).filter(|(_, count)| *count > 0);
        statuses.map(|(status, count)| ([("operation", counts.operation), ("status", *status)], count))
    });
    out.counters(
        Family { name: "s3_requests", help: "S3 requests that were answered", unit: None },
        by_status,
    )
}
