//! What the node says of itself.

use super::Node;
use crate::drive::Drive;
use crate::scrub::Scrubber;
use crate::status::{DriveStatus, GroupStatus, NodeStatus, PeerStatus, ScrubStatus};
use std::collections::BTreeMap;
use strongroom_core::placement;
use strongroom_types::{ClusterView, GroupId, Health, NodeId, WallTime};

impl Node {
    /// What this node is, has and sees.
    pub fn status(&self) -> NodeStatus {
        let view = self.base.monitor.view();
        let not_ready_because = self.not_ready_because(&view);
        let mut slabs = self.workers.caretaker.counts();
        slabs.to_free = self.workers.sweeper.waiting_count();
        let mut jobs = BTreeMap::new();
        for job in self.base.jobs.all() {
            *jobs.entry(job.state).or_default() += 1;
        }
        NodeStatus {
            node: self.base.node.get(),
            zone: self.base.zone.get(),
            cluster: format!("{:032x}", self.base.cluster.get()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: not_ready_because.is_empty(),
            not_ready_because,
            drives: self
                .base
                .holder
                .drives()
                .map(|drive| drive_status(drive, &self.workers.scrubber))
                .collect(),
            drives_failed: self.base.drives_failed.clone(),
            peers: view
                .nodes
                .iter()
                .filter(|node| node.node != self.base.node)
                .map(|node| PeerStatus {
                    node: node.node.get(),
                    zone: node.zone.get(),
                    up: node.health == Health::Up,
                })
                .collect(),
            groups: self.base.meta.status().iter().map(group_status).collect(),
            slabs,
            jobs,
            alarms: self.base.alarms.all().into_iter().chain(self.base.meta.alarms()).collect(),
        }
    }

    fn not_ready_because(&self, view: &ClusterView) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.base.found.is_set() {
            reasons.push(String::from(
                "it is not known yet whether the cluster is the one that node.toml describes",
            ));
        }
        reasons.extend(self.base.meta.not_ready_because());
        for group in self.base.meta.status() {
            if let Some(reason) = &group.stopped {
                reasons.push(format!("{} is stopped here: {reason}", group_name(group.group)));
            } else if group.leader.is_none() {
                reasons.push(format!("{} has no leader yet", group_name(group.group)));
            }
        }
        if let Err(error) = placement::place_hot(view, &[], 0) {
            reasons.push(format!("nothing can be stored: {error}"));
        }
        reasons
    }
}

fn scrub_status(drive: &Drive, scrubber: &Scrubber) -> ScrubStatus {
    let (progress, findings) = (drive.tour_progress(), scrubber.findings(drive.id()));
    ScrubStatus {
        verified_since_unix_ms: progress.verified.since.map(WallTime::as_unix_millis),
        tour_began_unix_ms: progress.verified.tour.map(|tour| tour.began.as_unix_millis()),
        bytes_total: progress.bytes_total,
        bytes_left: progress.bytes_left,
        tours_ended: progress.tours_ended,
        bytes_verified: findings.bytes_verified,
        fragments_bad: findings.fragments_bad,
        blocks_corrupt: findings.blocks_corrupt,
        blocks_unreadable: findings.blocks_unreadable,
        fragments_passed_over: findings.fragments_passed_over,
    }
}

fn drive_status(drive: &Drive, scrubber: &Scrubber) -> DriveStatus {
    let (space, state, damage) = (drive.space(), drive.drive_state(), drive.damage());
    DriveStatus {
        drive: format!("{:032x}", drive.id().get()),
        bytes_total: space.bytes_total,
        bytes_allocated: space.bytes_allocated,
        bytes_used: space.bytes_used,
        fragments: space.fragments,
        writable: state.writable,
        incarnation: drive.incarnation(),
        standing: format!("{:?}", damage.standing).to_lowercase(),
        suspect: damage.suspect,
        extents_unknown: damage.extents_unknown,
        extents_retired: damage.extents_retired,
        scrub: scrub_status(drive, scrubber),
        fragments_failed: damage.fragments_failed,
        fragments_unreadable: damage.fragments_unreadable,
    }
}

pub(super) fn group_name(group: Option<GroupId>) -> String {
    group.map_or_else(|| String::from("control"), |group| group.to_string())
}

fn group_status(group: &strongroom_meta::GroupStatus) -> GroupStatus {
    GroupStatus {
        group: group_name(group.group),
        voters: group.voters.iter().map(|node| node.get()).collect(),
        leads: group.leads,
        leader: group.leader.map(NodeId::get),
        term: group.term,
        last_log: group.last_log.unwrap_or(0),
        applied: group.applied.unwrap_or(0),
        snapshot: group.snapshot.unwrap_or(0),
    }
}
