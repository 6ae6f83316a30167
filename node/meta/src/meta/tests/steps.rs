//! The founding, cut at every durable step, with state lost in between; and what must be durable before it is said.

use super::{GROUP, put, quick};
use crate::client::{ClientAnswer, ClientRequest, JoinAnswer, JoinAsk, Operation};
use crate::group::{EntryOutcome, GroupCommand, GroupReply};
use crate::network::{decode_body, encode_body};
use crate::testing::{Cluster, node};
use std::sync::atomic::Ordering;
use std::time::Duration;
use strongroom_types::{BucketClass, Condition, NodeId};

/// The cluster answers, and every node is a member with a voice.
async fn works(cluster: &Cluster, what: &str) {
    for _ in 0..900 {
        let waiting = cluster.nodes().into_iter().flat_map(|id| cluster.meta(id).not_ready_because()).count();
        if waiting == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut all_wait_for = Vec::new();
    for id in cluster.nodes() {
        let (meta, life) = (cluster.meta(id), cluster.meta(id).life());
        all_wait_for.extend(meta.not_ready_because());
        println!("{id}: {:?} {:?} {:#?}", life.standing.lock().await, meta.alarms(), meta.status());
    }
    assert_eq!(all_wait_for, [""; 0], "{what}");
    let admit = GroupCommand::AdmitBucket { bucket: super::BUCKET, class: BucketClass::Mail, round: 1 };
    let reply = cluster.meta(node(2)).write(GROUP, admit, cluster.deadline(20)).await.unwrap();
    assert_eq!(reply, GroupReply::Done, "{what}");
    let entry = put("k", 1, Condition::None);
    let outcome = cluster.meta(node(3)).commit(GROUP, entry, cluster.deadline(20)).await.unwrap();
    assert_eq!(outcome, EntryOutcome::Applied, "{what}");
}

/// Power fails on `victim` at its next sync after this many; the others go on, and it comes back, perhaps without anything.
async fn cut(victim: NodeId, syncs: u64, erased: bool, seed: u64) -> bool {
    let mut cluster = Cluster::off(3, 1, seed, quick());
    cluster.media(victim).power_off_after(syncs);
    for id in cluster.nodes() {
        cluster.start_node(id).await;
    }
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        if cluster.media(victim).is_off() {
            break;
        }
    }
    let was_cut = cluster.media(victim).is_off();
    cluster.kill(victim);
    cluster.media(victim).power_cut(seed);
    cluster.media(victim).power_stays_on();
    if erased {
        cluster.media(victim).erase();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.start_node(victim).await;
    works(&cluster, &format!("{victim} cut after {syncs} syncs, erased: {erased}, seed {seed}")).await;
    was_cut
}

#[tokio::test(start_paused = true)]
async fn a_founding_that_is_cut_anywhere_is_finished_or_made_up_for() {
    let mut cuts = 0;
    for victim in [node(1), node(2), node(3)] {
        for syncs in 0..12 {
            for erased in [false, true] {
                cuts += u32::from(cut(victim, syncs, erased, 300 + syncs).await);
            }
        }
    }
    assert!(cuts > 40, "{cuts} of 72 runs were cut");
}

#[tokio::test(start_paused = true)]
async fn nodes_that_start_one_after_the_other_found_once_all_are_there() {
    let mut cluster = Cluster::off(3, 2, 320, quick());
    for id in [node(3), node(1)] {
        cluster.start_node(id).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(cluster.meta(id).status().is_empty(), "no group runs before the cluster is founded");
    }
    cluster.start_node(node(2)).await;
    works(&cluster, "one after the other").await;
}

async fn ask(cluster: &Cluster, from: NodeId, to: NodeId, ask: JoinAsk) -> JoinAnswer {
    let request = ClientRequest { patience_ms: 1000, operation: Operation::Join(ask) };
    let answer = cluster.meta(to).handle(from, None, encode_body(&request), false).await;
    match decode_body(&answer) {
        Some(ClientAnswer::Join(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_voter_keeps_its_latest_promise_over_power_cuts_and_only_the_founder_gets_one() {
    let mut cluster = Cluster::off(3, 1, 330, quick());
    cluster.start_node(node(2)).await;
    let promise = |nonce| JoinAsk::Promise { nonce };
    assert_eq!(ask(&cluster, node(3), node(2), promise(5)).await, JoinAnswer::Refused);
    assert_eq!(ask(&cluster, node(1), node(2), promise(5)).await, JoinAnswer::Promised);
    assert_eq!(ask(&cluster, node(1), node(2), promise(5)).await, JoinAnswer::Promised);
    // The founder was erased meanwhile and begins anew; what it asked before comes late.
    assert_eq!(ask(&cluster, node(1), node(2), promise(6)).await, JoinAnswer::Promised);
    assert_eq!(ask(&cluster, node(1), node(2), promise(5)).await, JoinAnswer::Refused);
    cluster.kill(node(2));
    cluster.media(node(2)).power_cut(1);
    cluster.start_node(node(2)).await;
    assert_eq!(ask(&cluster, node(1), node(2), promise(5)).await, JoinAnswer::Refused);
    assert_eq!(ask(&cluster, node(1), node(2), promise(6)).await, JoinAnswer::Promised);
    assert_eq!(ask(&cluster, node(3), node(2), JoinAsk::Standing).await, JoinAnswer::NotFounded);
    // However often the founder is erased, and however many are remembered.
    for nonce in 7..7 + crate::limits::PROMISES_MAX as u64 {
        assert_eq!(ask(&cluster, node(1), node(2), promise(nonce)).await, JoinAnswer::Promised);
    }
}

#[tokio::test(start_paused = true)]
async fn an_erased_founder_does_not_found_again() {
    for groups in [1, 3] {
        let mut cluster = Cluster::start(3, groups, 340, quick()).await;
        works(&cluster, "founded").await;
        cluster.kill(node(1));
        cluster.media(node(1)).erase();
        // With one other that cannot lead alone: it must not make up a cluster.
        cluster.kill(node(3));
        cluster.start_node(node(1)).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(cluster.meta(node(1)).status().is_empty());
        let JoinAnswer::Founded { .. } = ask(&cluster, node(3), node(1), JoinAsk::Standing).await else {
            panic!("it heard of the cluster from node 2")
        };
        cluster.start_node(node(3)).await;
        works(&cluster, "the founder came back").await;
        assert_eq!(cluster.meta(node(1)).life().id().unwrap().incarnation(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn two_foundings_of_one_founder_end_in_one_cluster() {
    for pause in 0..40 {
        let mut cluster = Cluster::off(3, 1, 350 + pause, quick());
        for id in cluster.nodes() {
            cluster.start_node(id).await;
        }
        tokio::time::sleep(Duration::from_micros(pause * 100)).await;
        // It asked some, was erased, and asks again under another nonce.
        cluster.kill(node(1));
        cluster.media(node(1)).erase();
        cluster.start_node(node(1)).await;
        works(&cluster, &format!("founder erased after {} us", pause * 100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_on_the_senders_own_media() {
    for seed in 360..364 {
        let mut cluster = Cluster::start(3, 2, seed, quick()).await;
        works(&cluster, "checked").await;
        for n in 0..60u32 {
            let entry = put(&format!("k{}", n % 7), u128::from(n) + 2, Condition::None);
            let at = node(1 + u64::from(n) % 3);
            let _ = cluster.meta(at).commit(GROUP, entry, cluster.deadline(10)).await;
            if n % 20 == 19 {
                let leader = cluster.leader(GROUP).await;
                cluster.kill(leader);
                cluster.media(leader).power_cut(seed);
                cluster.start_node(leader).await;
            }
        }
        let checked = cluster.world.entries_checked.load(Ordering::Relaxed);
        assert!(checked > 50, "{checked} entries were looked at");
    }
}
