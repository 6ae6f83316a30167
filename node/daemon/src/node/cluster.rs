//! The cluster as this node sees it: an opinion on nodes and drives, and what the slab tables say.

use super::Node;
use super::status::group_name;
use crate::status::{ClusterStatus, DriveSummary, GroupView, NodeView, ZoneStatus};
use strongroom_types::{ClusterView, GroupId, Health, NodeId, ZoneId};

impl Node {
    /// Zones, nodes and drives as this node sees them, and the cluster's slabs as a look at all tables has found them.
    pub async fn cluster(&self) -> ClusterStatus {
        let (slabs, slabs_unknown_because) = match self.workers.surveyor.recent().await {
            Ok(survey) => (Some(survey), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let view = self.base.monitor.view();
        ClusterStatus {
            cluster: format!("{:032x}", self.base.cluster.get()),
            seen_by: self.base.node.get(),
            zones: view.zones().into_iter().map(|zone| zone_status(&view, zone)).collect(),
            groups: self.group_views(),
            slabs,
            slabs_unknown_because,
        }
    }

    fn group_views(&self) -> Vec<GroupView> {
        let known = self.base.meta.status();
        let data = (0..self.base.meta.group_count()).map(|group| Some(GroupId::new(group)));
        let all = std::iter::once(None).chain(data);
        all.map(|group| {
            let own = known.iter().find(|status| status.group == group);
            GroupView {
                group: group_name(group),
                votes: own.is_some_and(|status| status.voters.contains(&self.base.node)),
                leader: own.and_then(|status| status.leader).map(NodeId::get),
            }
        })
        .collect()
    }
}

fn zone_status(view: &ClusterView, zone: ZoneId) -> ZoneStatus {
    let nodes = view.nodes.iter().filter(|node| node.zone == zone);
    let nodes = nodes.map(|node| NodeView {
        node: node.node.get(),
        up: node.health == Health::Up,
        given_up: node.given_up,
        drives: node.drives.iter().map(drive_summary).collect(),
    });
    ZoneStatus { zone: zone.get(), nodes: nodes.collect() }
}

fn drive_summary(drive: &strongroom_types::DriveView) -> DriveSummary {
    let extent_len_bytes = u64::from(drive.extent_len_bytes);
    DriveSummary {
        drive: format!("{:032x}", drive.drive.get()),
        bytes_total: u64::from(drive.extents_total) * extent_len_bytes,
        bytes_allocated: u64::from(drive.extents_total - drive.extents_free.min(drive.extents_total))
            * extent_len_bytes,
        writable: drive.writable,
    }
}
