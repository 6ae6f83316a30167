//! Nodes that join, are dismissed, are given up; and the seats that follow.

use super::lives::{id_of, whole, write};
use super::{GROUP, cluster, version_at};
use crate::control::{ControlCommand, ControlReply, Pulse};
use crate::raft_id::RaftId;
use crate::testing::{Cluster, member, node};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use strongroom_types::{Member, NodeId, ZoneId};

/// The voters of a group by what its leader knows, once it has one.
async fn voters(cluster: &Cluster) -> BTreeSet<u64> {
    let leader = cluster.leader(GROUP).await;
    let status = super::status_of(cluster, leader);
    status.voters.into_iter().map(NodeId::get).collect()
}

/// Waits until these vote in every group, and nobody else.
async fn seats_are(cluster: &Cluster, expected: &[u64]) {
    let expected: BTreeSet<u64> = expected.iter().copied().collect();
    let mut found = BTreeMap::new();
    for _ in 0..600 {
        let status = cluster.running().into_iter().flat_map(|meta| meta.status());
        let led = status.filter(|group| group.leads);
        found = led.map(|led| (led.group, led.voters.into_iter().map(NodeId::get).collect())).collect();
        if found.len() == GROUPS_AND_CONTROL
            && found.values().all(|voters: &BTreeSet<u64>| *voters == expected)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{found:?}, expected {expected:?}");
}

const GROUPS_AND_CONTROL: usize = 3;

async fn joined(seed: u64, others: &[u64]) -> Cluster {
    let mut cluster = cluster(2, seed).await;
    whole(&cluster).await;
    for number in others {
        cluster.add_node(node(*number));
        cluster.start_node(node(*number)).await;
    }
    whole(&cluster).await;
    cluster
}

async fn control(cluster: &Cluster, at: u64, command: ControlCommand) -> ControlReply {
    cluster.meta(node(at)).control(command, cluster.deadline(20)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_node_joins_by_way_of_one_that_it_knows_and_all_learn_of_it() {
    let cluster = joined(600, &[4]).await;
    let four = cluster.meta(node(4));
    assert_eq!(id_of(&four), RaftId::new(node(4), 1).unwrap(), "it founded nothing");
    write(&cluster, node(4), "k", 1).await;
    assert_eq!(version_at(&cluster, node(4), "k").await.unwrap(), Some(1));
    tokio::time::sleep(Duration::from_secs(5)).await;
    for id in cluster.nodes() {
        let known = cluster.meta(id).known();
        assert!(cluster.nodes().into_iter().all(|node| known.is_admitted(node)), "{id}: {known:?}");
        assert_eq!(known.members()[&node(4)], member(node(4)));
    }
    seats_are(&cluster, &[1, 2, 3]).await;
    assert!(four.status().is_empty(), "it has no part in any group");
}

#[tokio::test(start_paused = true)]
async fn seats_of_who_is_given_up_go_to_who_joined_and_another_may_fall() {
    for (seed, gone) in [(610, 1), (611, 2), (612, 3)] {
        let mut cluster = joined(seed, &[3 + gone]).await;
        write(&cluster, node(gone), "before", 1).await;
        cluster.kill(node(gone));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(voters(&cluster).await.contains(&gone), "it is waited for");
        cluster.give_up(&[node(gone)]);
        let mut expected: Vec<u64> = (1..=3).filter(|number| *number != gone).chain([3 + gone]).collect();
        seats_are(&cluster, &expected).await;
        write(&cluster, node(3 + gone), "meanwhile", 2).await;
        // The other founders one after the other: what was one cluster has to do without any of them at a time.
        for other in (1..=3).filter(|number| *number != gone) {
            cluster.kill(node(other));
            write(&cluster, node(3 + gone), "alone", u128::from(other) + 10).await;
            cluster.start_node(node(other)).await;
            whole_but(&cluster, &[node(gone)]).await;
        }
        // It comes back, and has no seat any more: nobody elects it, and it says that it is ready.
        cluster.give_up(&[]);
        cluster.start_node(node(gone)).await;
        whole(&cluster).await;
        expected.sort_unstable();
        assert_eq!(voters(&cluster).await.into_iter().collect::<Vec<_>>(), expected);
        for (name, version) in [("before", 1), ("meanwhile", 2)] {
            assert_eq!(version_at(&cluster, node(gone), name).await.unwrap(), Some(version));
        }
        assert!(cluster.meta(node(gone)).status().is_empty(), "{:?}", cluster.meta(node(gone)).status());
    }
}

#[tokio::test(start_paused = true)]
async fn seats_of_who_is_to_be_emptied_go_to_who_joined_and_it_is_dismissed_without_anybody_missing_it() {
    for (seed, leaves) in [(640, 1), (641, 2), (642, 3)] {
        let cluster = joined(seed, &[3 + leaves]).await;
        write(&cluster, node(leaves), "before", 1).await;
        cluster.leave(&[node(leaves)]);
        let stay: Vec<u64> = (1..=3).filter(|number| *number != leaves).collect();
        let expected: Vec<u64> = stay.iter().copied().chain([3 + leaves]).collect();
        seats_are(&cluster, &expected).await;
        for asked in &expected {
            let meta = cluster.meta(node(*asked));
            assert_eq!(meta.seats_of(node(leaves), cluster.deadline(20)).await.unwrap(), []);
            let seats = meta.seats_of(node(3 + leaves), cluster.deadline(20)).await.unwrap();
            assert_eq!(seats.len(), GROUPS_AND_CONTROL);
        }
        // It lives, is ready and serves like any other, until it is dismissed: nobody waits for anything then.
        whole(&cluster).await;
        write(&cluster, node(leaves), "meanwhile", 2).await;
        let dismissed = control(
            &cluster,
            stay[0],
            ControlCommand::DismissNode { node: node(leaves), pulse: Pulse::Dead },
        )
        .await;
        assert_eq!(dismissed, ControlReply::Done);
        cluster.kill(node(leaves));
        write(&cluster, node(3 + leaves), "after", 3).await;
        seats_are(&cluster, &expected).await;
    }
}

async fn whole_but(cluster: &Cluster, gone: &[NodeId]) {
    for _ in 0..600 {
        let there = cluster.nodes().into_iter().filter(|id| !gone.contains(id));
        if there.flat_map(|id| cluster.meta(id).not_ready_because()).count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not whole within a minute");
}

/// None of those that found it is left in the end, and all that are there start at once: nobody's configuration names the others.
#[tokio::test(start_paused = true)]
async fn a_cluster_whose_founders_are_all_replaced_starts_again() {
    let mut cluster = joined(620, &[4, 5, 6]).await;
    write(&cluster, node(1), "k", 1).await;
    for gone in 1..=3 {
        cluster.kill(node(gone));
        cluster.give_up(&(1..=gone).map(node).collect::<Vec<_>>());
        let expected: Vec<u64> = (gone + 1..=3).chain(4..=3 + gone).collect();
        seats_are(&cluster, &expected).await;
    }
    assert_eq!(version_at(&cluster, node(5), "k").await.unwrap(), Some(1));
    cluster.power_cut_all(7);
    for number in 4..=6 {
        cluster.start_node(node(number)).await;
    }
    write(&cluster, node(6), "k", 2).await;
    assert_eq!(version_at(&cluster, node(4), "k").await.unwrap(), Some(2));
    // And so does one of them without its state, which is told of a founder that is gone and remembers nobody.
    cluster.kill(node(4));
    cluster.media(node(4)).erase();
    cluster.start_node(node(3)).await;
    cluster.start_node(node(4)).await;
    whole_but(&cluster, &[node(1), node(2)]).await;
    cluster.kill(node(5));
    write(&cluster, node(4), "k", 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_lost_costs_no_seat_and_gets_it_back() {
    let mut cluster = joined(630, &[4, 5]).await;
    cluster.kill(node(3));
    cluster.give_up(&[node(3)]);
    for _ in 0..600 {
        if !voters(&cluster).await.contains(&3) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = voters(&cluster).await;
    assert!(now.len() == 3 && !now.contains(&3), "{now:?}");
    cluster.give_up(&[]);
    cluster.start_node(node(3)).await;
    for _ in 0..600 {
        if voters(&cluster).await.contains(&3) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let zones: BTreeSet<u64> = voters(&cluster).await.into_iter().map(|number| (number - 1) % 3).collect();
    assert_eq!(zones.len(), 3);
    whole(&cluster).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_dismissed_is_refused_for_good_and_its_seats_go_to_others() {
    let mut cluster = joined(640, &[4, 5]).await;
    write(&cluster, node(1), "k", 1).await;
    let dismiss = |number| ControlCommand::DismissNode { node: node(number), pulse: Pulse::Dead };
    assert_eq!(control(&cluster, 3, dismiss(9)).await, ControlReply::NoSuchNode);
    assert_eq!(control(&cluster, 3, dismiss(2)).await, ControlReply::Done);
    assert_eq!(control(&cluster, 3, dismiss(2)).await, ControlReply::Done);
    // It runs, and is told.
    let told = tokio::time::timeout(Duration::from_secs(60), cluster.meta(node(2)).refused()).await;
    let told = told.expect("it is told");
    assert!(told.contains("node-2 was dismissed") && told.contains("node.id"), "{told}");
    seats_are(&cluster, &[1, 3, 5]).await;
    cluster.kill(node(2));
    // Not with an empty store either: no incarnation is given under this id any more.
    cluster.media(node(2)).erase();
    let two = cluster.start_node(node(2)).await;
    tokio::time::timeout(Duration::from_secs(60), two.refused()).await.expect("it is told again");
    assert!(two.life().id().is_none() && !two.not_ready_because().is_empty());
    let admit = ControlCommand::AdmitNode { member: member(node(2)) };
    assert_eq!(control(&cluster, 1, admit).await, ControlReply::Dismissed);
    let enrol = ControlCommand::Enrol { node: node(2), nonce: 1, after: 0 };
    assert_eq!(control(&cluster, 1, enrol).await, ControlReply::Dismissed);
    // The id of a node is not used again; the machine is.
    cluster.kill(node(2));
    cluster.add_node(node(8));
    cluster.start_node(node(8)).await;
    whole_but(&cluster, &[node(2)]).await;
    cluster.kill(node(5));
    write(&cluster, node(8), "k", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_moved_is_found_where_it_is_and_one_of_another_zone_is_refused() {
    let mut cluster = joined(650, &[4]).await;
    let four = member(node(4));
    let moved = Member { address: "127.0.0.1:999".parse().unwrap(), ..four };
    cluster.kill(node(4));
    cluster.moved.insert(node(4), moved);
    cluster.start_node(node(4)).await;
    whole(&cluster).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.meta(node(1)).known().members()[&node(4)], moved);
    cluster.kill(node(4));
    cluster.moved.insert(node(4), Member { zone: ZoneId::new(2), ..four });
    let meta = cluster.start_node(node(4)).await;
    let told = tokio::time::timeout(Duration::from_secs(60), meta.refused()).await.expect("it is told");
    assert!(told.contains("admitted in zone-1") && told.contains("says zone-2"), "{told}");
}

/// Wherever it is killed on its way in, once or again and again, it comes in at last, and the others are never held up.
#[tokio::test(start_paused = true)]
async fn a_node_is_killed_on_its_way_in() {
    for seed in 660..668 {
        let mut cluster = cluster(2, seed).await;
        whole(&cluster).await;
        cluster.add_node(node(4));
        for kill in 0..6 {
            cluster.start_node(node(4)).await;
            tokio::time::sleep(Duration::from_millis(5 + (seed * 37 + kill * 113) % 700)).await;
            cluster.kill(node(4));
            cluster.media(node(4)).power_cut(seed + kill);
            if kill % 3 == 2 {
                cluster.media(node(4)).erase();
            }
            write(&cluster, node(1), "k", u128::from(kill) + 1).await;
        }
        cluster.start_node(node(4)).await;
        whole(&cluster).await;
        cluster.kill(node(1));
        cluster.give_up(&[node(1)]);
        seats_are(&cluster, &[2, 3, 4]).await;
        cluster.kill(node(2));
        write(&cluster, node(4), "k", 9).await;
    }
}
