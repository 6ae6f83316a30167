//! Nodes that lose their state, or find it rolled back or damaged: they come back as other voters, and count again.

use super::{GROUP, cluster, put, version_at};
use crate::codec::GroupKeys;
use crate::control::{ControlAnswer, ControlQuery};
use crate::group::EntryOutcome;
use crate::kv::{MemoryKv, OrderedKv};
use crate::meta::{Meta, MetaError};
use crate::raft_id::RaftId;
use crate::testing::{Cluster, node};
use std::sync::Arc;
use std::time::Duration;
use strongroom_types::{Condition, NodeId};

/// Waits until every node's voice counts in every group, as often as it takes.
pub(super) async fn whole(cluster: &Cluster) {
    for _ in 0..600 {
        let waiting = cluster.nodes().into_iter().flat_map(|id| cluster.meta(id).not_ready_because()).count();
        let led = cluster.meta(node(1)).status().iter().all(|group| group.leader.is_some());
        if waiting == 0 && led {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for id in cluster.nodes() {
        let meta = cluster.meta(id);
        println!("{id}: {:?} {:?} {:#?}", meta.not_ready_because(), meta.alarms(), meta.status());
    }
    panic!("not whole within a minute");
}

pub(super) async fn write(cluster: &Cluster, at: NodeId, name: &str, version: u128) {
    let entry = put(name, version, Condition::None);
    let outcome = cluster.meta(at).commit(GROUP, entry, cluster.deadline(20)).await.unwrap();
    assert_eq!(outcome, EntryOutcome::Applied);
}

pub(super) fn id_of(meta: &Arc<Meta>) -> RaftId {
    meta.life().id().unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_deposes_no_leader() {
    let mut cluster = cluster(1, 90).await;
    // It leads at first, and follows from its first return on.
    let lowest = node(1);
    whole(&cluster).await;
    cluster.kill(lowest);
    write(&cluster, node(2), "a", 1).await;
    let terms = |cluster: &Cluster| -> Vec<u64> {
        cluster.meta(node(2)).status().iter().map(|group| group.term).collect()
    };
    for version in 2..5 {
        cluster.start_node(lowest).await;
        whole(&cluster).await;
        let before = terms(&cluster);
        cluster.kill(lowest);
        cluster.start_node(lowest).await;
        whole(&cluster).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        write(&cluster, lowest, "a", version).await;
        assert_eq!(terms(&cluster), before);
        cluster.kill(lowest);
    }
}

/// What happens to a node's state while the node is down.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Erased,
    RolledBack,
    LedgerLost,
    VoteRots,
    EntryRots,
    HeadRots,
    StandingRots,
}

const ALL_HARM: [Harm; 7] = [
    Harm::Erased,
    Harm::RolledBack,
    Harm::LedgerLost,
    Harm::VoteRots,
    Harm::EntryRots,
    Harm::HeadRots,
    Harm::StandingRots,
];

impl Harm {
    fn befall(self, cluster: &Cluster, id: NodeId) {
        let (media, keys) = (cluster.media(id), GroupKeys::new(Some(GROUP)));
        match self {
            Self::Erased => media.erase(),
            Self::RolledBack => {
                // What is in the process only is gone first.
                media.power_cut(0);
                assert_eq!(media.roll_back(1), 1);
            }
            Self::LedgerLost => media.lose_ledger(),
            Self::VoteRots => assert!(media.corrupt(&keys.vote())),
            Self::EntryRots => assert!(media.corrupt(&keys.log(last_log(cluster, id)))),
            Self::HeadRots => assert!(media.corrupt(&keys.head())),
            Self::StandingRots => assert!(media.corrupt(&crate::codec::STANDING)),
        }
    }
}

/// The index of the last entry in a log.
fn last_log(cluster: &Cluster, id: NodeId) -> u64 {
    let (kv, keys) = (MemoryKv::on(cluster.media(id)), GroupKeys::new(Some(GROUP)));
    let last = kv.range_back(&keys.log(0), &keys.log_end(), 1).unwrap();
    GroupKeys::log_index(&last[0].0).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_node_without_its_state_enrols_and_its_voice_counts_again() {
    for (seed, harm) in (200..).zip(ALL_HARM) {
        for harmed in [node(1), node(2)] {
            let mut cluster = cluster(2, seed).await;
            write(&cluster, node(3), "before", 1).await;
            cluster.kill(harmed);
            harm.befall(&cluster, harmed);
            write(&cluster, node(3), "meanwhile", 2).await;
            cluster.start_node(harmed).await;
            whole(&cluster).await;
            let meta = cluster.meta(harmed);
            assert_eq!(id_of(&meta), RaftId::new(harmed, 1).unwrap(), "{harm:?}");
            let told = meta.alarms().len();
            assert_eq!(told, usize::from(!matches!(harm, Harm::Erased)), "{harm:?}: {:?}", meta.alarms());
            // Now it must do without another one.
            cluster.kill(node(3));
            write(&cluster, harmed, "after", 3).await;
            for (name, version) in [("before", 1), ("meanwhile", 2), ("after", 3)] {
                assert_eq!(version_at(&cluster, harmed, name).await.unwrap(), Some(version), "{harm:?}");
            }
            // And a start that finds everything well changes nothing.
            cluster.kill(harmed);
            cluster.start_node(harmed).await;
            cluster.start_node(node(3)).await;
            whole(&cluster).await;
            assert_eq!(id_of(&cluster.meta(harmed)), RaftId::new(harmed, 1).unwrap());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn damage_that_is_found_while_the_node_runs_is_mended_without_a_restart() {
    let cluster = cluster(1, 210).await;
    write(&cluster, node(1), "k", 1).await;
    whole(&cluster).await;
    let leader = cluster.leader(GROUP).await;
    // The record of the key rots under the leader; a read finds it, and is answered by another.
    let contents = [&GroupKeys::new(Some(GROUP)).state(0)[..], b"k"].concat();
    assert!(cluster.media(leader).corrupt(&contents), "the table of keys has another name");
    let other = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
    assert_eq!(version_at(&cluster, other, "k").await.unwrap(), Some(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.media(leader).set_aside_reasons().len(), 1);
    whole(&cluster).await;
    assert_eq!(id_of(&cluster.meta(leader)).incarnation(), 1);
    assert_eq!(version_at(&cluster, leader, "k").await.unwrap(), Some(1));
    write(&cluster, leader, "k", 2).await;
}

#[tokio::test(start_paused = true)]
async fn state_is_lost_again_and_again_on_every_node_in_turn() {
    let mut cluster = cluster(2, 220).await;
    for round in 0..6u64 {
        let harmed = node(1 + round % 3);
        write(&cluster, node(1), &format!("round-{round}"), u128::from(round) + 1).await;
        cluster.kill(harmed);
        cluster.media(harmed).erase();
        cluster.start_node(harmed).await;
        whole(&cluster).await;
        assert_eq!(id_of(&cluster.meta(harmed)).incarnation(), 1 + u32::try_from(round / 3).unwrap());
    }
    for round in 0..6u64 {
        let found = version_at(&cluster, node(1 + round % 3), &format!("round-{round}")).await.unwrap();
        assert_eq!(found, Some(u128::from(round) + 1));
    }
    for group in cluster.meta(cluster.leader(GROUP).await).status() {
        assert_eq!(group.voters, [node(1), node(2), node(3)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_erased_while_it_catches_up_leaves_nothing_behind() {
    let mut cluster = cluster(1, 230).await;
    for n in 0..60u32 {
        write(&cluster, node(1), &format!("k{n}"), u128::from(n) + 1).await;
    }
    for pause_ms in [10u64, 60, 150, 400, 1000, 3000] {
        cluster.kill(node(3));
        cluster.media(node(3)).erase();
        cluster.start_node(node(3)).await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
    whole(&cluster).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let leading = cluster.meta(cluster.leader(GROUP).await).group(Some(GROUP)).unwrap();
    let membership = leading.raft.metrics().borrow().membership_config.membership().clone();
    let members: Vec<u64> = membership.nodes().map(|(id, _)| *id).collect();
    assert_eq!(members.len(), 3, "{members:?}");
    cluster.kill(node(2));
    assert_eq!(version_at(&cluster, node(3), "k59").await.unwrap(), Some(60));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_between_the_steps_of_a_replacement_leaves_it_to_the_next() {
    for pause_ms in (0..400u64).step_by(10) {
        let mut cluster = cluster(1, 240 + pause_ms).await;
        write(&cluster, node(1), "k", 1).await;
        whole(&cluster).await;
        let leader = cluster.leader(GROUP).await;
        let erased = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
        cluster.kill(erased);
        cluster.media(erased).erase();
        cluster.start_node(erased).await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        cluster.kill(leader);
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.start_node(leader).await;
        whole(&cluster).await;
        cluster.kill(leader);
        write(&cluster, erased, "k", 2).await;
        assert_eq!(
            version_at(&cluster, erased, "k").await.unwrap(),
            Some(2),
            "leader killed after {pause_ms} ms"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_copy_of_a_whole_state_directory_is_found_out_by_the_control_group() {
    let mut cluster = cluster(1, 250).await;
    write(&cluster, node(1), "k", 1).await;
    whole(&cluster).await;
    cluster.kill(node(2));
    let copy = cluster.media(node(2)).copied();
    cluster.media(node(2)).erase();
    cluster.start_node(node(2)).await;
    whole(&cluster).await;
    // An operator means well and restores it.
    cluster.kill(node(2));
    cluster.media(node(2)).restore(&copy);
    cluster.start_node(node(2)).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    whole(&cluster).await;
    assert_eq!(id_of(&cluster.meta(node(2))).incarnation(), 2);
    assert!(cluster.meta(node(2)).alarms()[0].contains("older copy"), "{:?}", cluster.meta(node(2)).alarms());
}

#[tokio::test(start_paused = true)]
async fn a_majority_that_is_erased_is_not_made_up_for() {
    let mut cluster = cluster(1, 260).await;
    write(&cluster, node(1), "k", 1).await;
    for erased in [node(1), node(2)] {
        cluster.kill(erased);
        cluster.media(erased).erase();
    }
    for erased in [node(1), node(2)] {
        cluster.start_node(erased).await;
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    for asked in cluster.nodes() {
        let found = version_at(&cluster, asked, "k").await;
        assert!(matches!(found, Err(MetaError::Unavailable)), "{found:?}");
        let entry = put("k", 2, Condition::None);
        let written = cluster.meta(asked).commit(GROUP, entry, cluster.deadline(5)).await;
        assert!(written.is_err(), "{written:?}");
    }
    let alarms = cluster.meta(node(1)).alarms();
    assert!(alarms[0].contains("does not let this node in"), "{alarms:?}");
    assert!(!cluster.meta(node(2)).not_ready_because().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_majority_whose_stores_were_rolled_back_is_refused_too() {
    let mut cluster = cluster(1, 270).await;
    write(&cluster, node(1), "k", 1).await;
    for harmed in [node(1), node(2)] {
        cluster.kill(harmed);
        assert!(cluster.media(harmed).roll_back(3) > 0);
    }
    for harmed in [node(1), node(2)] {
        cluster.start_node(harmed).await;
    }
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert!(version_at(&cluster, node(3), "k").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn enrolments_are_seen_by_all() {
    let mut cluster = cluster(1, 280).await;
    cluster.kill(node(3));
    cluster.media(node(3)).erase();
    cluster.start_node(node(3)).await;
    whole(&cluster).await;
    for id in cluster.nodes() {
        let found =
            cluster.meta(id).control_query(ControlQuery::Enrolments, cluster.deadline(10)).await.unwrap();
        assert_eq!(found, ControlAnswer::Enrolments([(node(3), 1)].into()));
    }
}

/// What the faults do where nothing looks: the reason for all of this.
#[cfg(feature = "mutants")]
#[tokio::test(start_paused = true)]
async fn with_a_fault_an_acknowledged_write_is_lost() {
    use crate::fault::{MetaFault, MetaFaults};
    async fn forgets(faults: MetaFaults, harm: impl Fn(&crate::kv::MemoryMedia)) -> bool {
        let mut cluster = cluster(1, 290).await;
        whole(&cluster).await;
        let leader = cluster.leader(GROUP).await;
        let others: Vec<NodeId> = cluster.nodes().into_iter().filter(|id| *id != leader).collect();
        // One is away; the write is on the leader and on the other, which then forgets it.
        cluster.kill(others[0]);
        write(&cluster, leader, "k", 1).await;
        cluster.kill(leader);
        cluster.kill(others[1]);
        harm(cluster.media(others[1]));
        // Without the leader these two must not come to any conclusion.
        cluster.faults = faults;
        cluster.start_node(others[0]).await;
        cluster.start_node(others[1]).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        !matches!(version_at(&cluster, others[0], "k").await, Err(MetaError::Unavailable))
    }
    let (erase, roll_back) = (
        |media: &crate::kv::MemoryMedia| media.erase(),
        |media: &crate::kv::MemoryMedia| {
            // As far as its standing of the founding, but not farther.
            media.roll_back_to(|kv| kv.get(&GroupKeys::new(Some(GROUP)).log(1)).unwrap().is_none());
        },
    );
    assert!(!forgets(MetaFaults::NONE, erase).await);
    assert!(!forgets(MetaFaults::NONE, roll_back).await);
    assert!(forgets(MetaFaults::only_if(true, MetaFault::ReuseRaftId), erase).await);
    assert!(forgets(MetaFaults::only_if(true, MetaFault::RollBackUnnoticed), roll_back).await);
}
