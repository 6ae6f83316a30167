//! State that is lost, or put back as it was, again and again: no id is used by two memories, and the node counts again once it is over.

use super::lives::{id_of, whole, write};
use super::{GROUP, cluster, quick, version_at};
use crate::client::{ClientAnswer, ClientRequest, JoinAnswer, JoinAsk, Operation};
use crate::kv::{MemoryKv, MemoryMedia};
use crate::meta::{MetaError, Opening};
use crate::network::{decode_body, encode_body};
use crate::raft_id::RaftId;
use crate::standing::Standing;
use crate::testing::{Cluster, TestRng, node};
use std::collections::BTreeSet;
use std::time::Duration;
use strongroom_env::Rng;
use strongroom_types::{GroupId, NodeId};

fn standing_on(media: &MemoryMedia) -> Option<Standing> {
    Standing::load(&MemoryKv::on(&media.copied())).unwrap()
}

/// The voters of all groups as their leaders know them.
async fn voters(cluster: &Cluster) -> Vec<BTreeSet<RaftId>> {
    let leading = cluster.meta(cluster.leader(GROUP).await);
    let groups = leading.life().running.read().unwrap().groups.clone();
    let voters = |group: &super::super::Group| {
        let membership = group.raft.metrics().borrow().membership_config.membership().clone();
        membership.nodes().map(|(id, _)| RaftId::from_bits(*id)).collect()
    };
    groups.values().map(|group| voters(group)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_older_copy_under_the_present_id_is_told_by_those_who_saw_more() {
    for seed in 400..405 {
        let mut cluster = cluster(1, seed).await;
        write(&cluster, node(1), "before", 1).await;
        whole(&cluster).await;
        let leader = cluster.leader(GROUP).await;
        let older = cluster.nodes().into_iter().find(|id| *id != leader).unwrap();
        cluster.kill(older);
        let copy = cluster.media(older).copied();
        cluster.start_node(older).await;
        write(&cluster, older, "meanwhile", 2).await;
        whole(&cluster).await;
        cluster.kill(older);
        cluster.media(older).restore(&copy);
        cluster.start_node(older).await;
        whole(&cluster).await;
        assert_eq!(id_of(&cluster.meta(older)), RaftId::new(older, 1).unwrap());
        let alarms = cluster.meta(older).alarms();
        assert!(alarms[0].contains("saw a later opening"), "{alarms:?}");
        cluster.kill(leader);
        assert_eq!(version_at(&cluster, older, "meanwhile").await.unwrap(), Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_was_taken_during_the_last_run_is_told_by_leaders() {
    for seed in 405..410 {
        let mut cluster = cluster(1, seed).await;
        whole(&cluster).await;
        let leader = cluster.leader(GROUP).await;
        let others: Vec<NodeId> = cluster.nodes().into_iter().filter(|id| *id != leader).collect();
        let copy = cluster.media(others[0]).copied();
        // On the leader and on the one that forgets it.
        cluster.kill(others[1]);
        write(&cluster, leader, "meanwhile", 2).await;
        cluster.kill(others[0]);
        cluster.media(others[0]).restore(&copy);
        cluster.start_node(others[0]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let alarms = cluster.meta(others[0]).alarms();
        assert!(alarms[0].contains("an older copy: it told"), "{alarms:?}");
        // These two must not come to any conclusion.
        cluster.kill(leader);
        cluster.start_node(others[1]).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let found = version_at(&cluster, others[1], "meanwhile").await;
        assert!(matches!(found, Err(MetaError::Unavailable)), "{found:?}");
        cluster.start_node(leader).await;
        whole(&cluster).await;
        assert_eq!(version_at(&cluster, others[0], "meanwhile").await.unwrap(), Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_copy_that_nobody_could_tell_is_told_once_they_are_back() {
    let mut cluster = cluster(1, 410).await;
    whole(&cluster).await;
    let copy = {
        cluster.kill(node(2));
        cluster.media(node(2)).copied()
    };
    cluster.start_node(node(2)).await;
    whole(&cluster).await;
    for id in cluster.nodes() {
        cluster.kill(id);
    }
    cluster.media(node(2)).restore(&copy);
    cluster.start_node(node(2)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(id_of(&cluster.meta(node(2))).incarnation(), 0, "nobody is there to tell");
    for id in [node(1), node(3)] {
        cluster.start_node(id).await;
    }
    whole(&cluster).await;
    assert_eq!(id_of(&cluster.meta(node(2))).incarnation(), 1);
}

/// A copy from before the node had its id, put back after it voted under it, must not come to that id again.
#[tokio::test(start_paused = true)]
async fn a_store_from_before_its_id_was_given_gets_another_one() {
    // A promise to found.
    let mut copies = Vec::new();
    let mut cluster = Cluster::off(3, 1, 420, quick());
    for id in cluster.nodes() {
        cluster.start_node(id).await;
    }
    for _ in 0..20_000 {
        tokio::time::sleep(Duration::from_micros(100)).await;
        if matches!(standing_on(cluster.media(node(2))), Some(Standing::Promised { .. })) {
            copies.push(cluster.media(node(2)).copied());
            break;
        }
    }
    whole(&cluster).await;
    // And a store that was about to enrol.
    cluster.kill(node(2));
    cluster.media(node(2)).erase();
    cluster.start_node(node(2)).await;
    for _ in 0..20_000 {
        tokio::time::sleep(Duration::from_micros(100)).await;
        if matches!(standing_on(cluster.media(node(2))), Some(Standing::Enrolling { .. })) {
            copies.push(cluster.media(node(2)).copied());
            break;
        }
    }
    assert_eq!(copies.len(), 2, "both were seen");
    let mut last = 0;
    for copy in copies {
        whole(&cluster).await;
        let before = id_of(&cluster.meta(node(2))).incarnation();
        assert!(before > last);
        last = before;
        cluster.kill(node(2));
        cluster.media(node(2)).restore(&copy);
        cluster.start_node(node(2)).await;
        whole(&cluster).await;
        assert!(id_of(&cluster.meta(node(2))).incarnation() > before, "another memory under one id");
    }
}

/// Losses and copies of any age on one node, in quick succession, at any point of its way back; also while leaders change.
async fn again_and_again(seed: u64, leaders_change: bool) {
    let mut cluster = cluster(2, seed).await;
    whole(&cluster).await;
    let harmed = node(1 + seed % 3);
    let other = cluster.nodes().into_iter().find(|id| *id != harmed).unwrap();
    let draws = TestRng::new(seed);
    let mut copies = vec![cluster.media(harmed).copied()];
    for round in 0..21 {
        write(&cluster, other, "k", round + 1).await;
        cluster.kill(harmed);
        copies.push(cluster.media(harmed).copied());
        let (kind, which) = (draws.u64() % 5, draws.u64() as usize % copies.len());
        match kind {
            0..2 => cluster.media(harmed).erase(),
            2 => {}
            _ => cluster.media(harmed).restore(&copies[which]),
        }
        println!(
            "round {round}: kind {kind} copy {which}: {:?} openings {:?}",
            standing_on(cluster.media(harmed)),
            cluster.media(harmed).durable(&crate::codec::OPENING)
        );
        cluster.start_node(harmed).await;
        let pause_us = 100 << (draws.u64() % 16);
        tokio::time::sleep(Duration::from_micros(pause_us)).await;
        println!(
            "  then {pause_us} us: {:?} {:?}",
            cluster.meta(harmed).life().id(),
            cluster.meta(harmed).alarms()
        );
        // What it says must hold by what the leaders say.
        if cluster.meta(harmed).not_ready_because().is_empty() && !leaders_change {
            let own = id_of(&cluster.meta(harmed));
            for voters in voters(&cluster).await {
                assert!(voters.contains(&own), "{own} is ready, of {voters:?}, round {round}");
            }
        }
        if leaders_change && draws.u64().is_multiple_of(4) {
            let leader = cluster.leader(GroupId::new(1)).await;
            if leader != harmed {
                cluster.kill(leader);
                cluster.start_node(leader).await;
            }
        }
    }
    whole(&cluster).await;
    // Learners of earlier lives are forgotten soon.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let ids: BTreeSet<_> = cluster.nodes().into_iter().map(|id| id_of(&cluster.meta(id))).collect();
    for voters in voters(&cluster).await {
        assert_eq!(voters, ids, "seed {seed}");
    }
    // And its voice counts.
    cluster.kill(other);
    write(&cluster, harmed, "after", 1).await;
    assert_eq!(version_at(&cluster, harmed, "k").await.unwrap(), Some(21));
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_state_is_lost_or_older_again_and_again_counts_once_it_is_over() {
    for seed in 430..442 {
        again_and_again(seed, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn so_it_does_while_leaders_change() {
    for seed in 442..454 {
        again_and_again(seed, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_enrolled_and_is_gone_keeps_no_other_one_out() {
    let mut cluster = Cluster::start(5, 1, 460, quick()).await;
    cluster.meta(node(1)).bootstrap(cluster.deadline(20)).await.unwrap();
    whole(&cluster).await;
    for erased in [node(1), node(2)] {
        cluster.kill(erased);
        cluster.media(erased).erase();
    }
    cluster.start_node(node(1)).await;
    // It enrols, and is gone for good before it has caught up anywhere.
    for _ in 0..20_000 {
        tokio::time::sleep(Duration::from_micros(100)).await;
        if matches!(standing_on(cluster.media(node(1))), Some(Standing::Member { .. })) {
            break;
        }
    }
    cluster.kill(node(1));
    cluster.start_node(node(2)).await;
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if cluster.meta(node(2)).not_ready_because().is_empty() {
            break;
        }
    }
    assert_eq!(cluster.meta(node(2)).not_ready_because(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_start_is_ready_only_when_the_leaders_say_so() {
    let mut cluster = cluster(1, 470).await;
    whole(&cluster).await;
    let leader = cluster.leader(GROUP).await;
    let others: Vec<NodeId> = cluster.nodes().into_iter().filter(|id| *id != leader).collect();
    cluster.kill(others[0]);
    cluster.kill(others[1]);
    cluster.kill(leader);
    // Its store knows a leader and believes that it votes.
    cluster.start_node(others[0]).await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!cluster.meta(others[0]).not_ready_because().is_empty());
    }
    cluster.start_node(others[1]).await;
    cluster.start_node(leader).await;
    whole(&cluster).await;
}

#[tokio::test(start_paused = true)]
async fn openings_are_remembered_over_power_cuts_and_never_taken_back() {
    let mut cluster = cluster(1, 480).await;
    whole(&cluster).await;
    let Some(Standing::Member { founding, .. }) = standing_on(cluster.media(node(2))) else {
        panic!("it is a member")
    };
    let opening = |incarnation, number, run| Opening { founding, incarnation, number, run };
    let ask = async |cluster: &Cluster, opening: Opening| {
        let request =
            ClientRequest { patience_ms: 1000, operation: Operation::Join(JoinAsk::Opened(opening)) };
        let answer = cluster.meta(node(2)).handle(node(3), None, encode_body(&request), false).await;
        match decode_body(&answer) {
            Some(ClientAnswer::Join(answer)) => answer,
            other => panic!("{other:?}"),
        }
    };
    let seen = || JoinAnswer::Seen { said: Vec::new() };
    // So that it leads nothing.
    for id in [node(1), node(3)] {
        cluster.kill(id);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(ask(&cluster, opening(0, 5, 1)).await, seen());
    assert_eq!(ask(&cluster, opening(0, 5, 1)).await, seen(), "asked again");
    assert_eq!(ask(&cluster, opening(0, 5, 2)).await, JoinAnswer::Outdated, "the same number in another run");
    assert_eq!(ask(&cluster, opening(0, 4, 3)).await, JoinAnswer::Outdated);
    assert_eq!(ask(&cluster, opening(1, 1, 4)).await, seen());
    cluster.kill(node(2));
    cluster.media(node(2)).power_cut(1);
    cluster.start_node(node(2)).await;
    assert_eq!(ask(&cluster, opening(0, 6, 5)).await, JoinAnswer::Outdated, "an earlier incarnation");
    assert_eq!(ask(&cluster, opening(1, 1, 4)).await, seen());
    let other = Opening { founding: founding ^ 1, ..opening(7, 7, 7) };
    assert_eq!(ask(&cluster, other).await, JoinAnswer::Outdated, "of a founding that was none");
    assert_eq!(ask(&cluster, opening(1, 2, 6)).await, seen());
}
