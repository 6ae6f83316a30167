//! SIGSTOP: a node that is taken for gone while it lives.

use super::storm::Storm;
use super::support::{World, get, once, put, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const WRITERS: u64 = 10;
const STRETCH: u64 = 60;

/// What the node says when it finds that its session was fenced.
const RENEWED: &str = "it writes on under a new session";

#[tokio::test]
async fn a_node_that_was_taken_for_gone_wakes_and_writes_on_under_a_new_session() {
    let mut world = World::start().await;
    let storm = Storm::begin(&world, "before", WRITERS);
    storm.goes_on_for(STRETCH, "before the pause").await;
    let stored = storm.end().await;

    // It has a slab that it writes, and a spare.
    let sleeper = world.nodes()[0];
    let direct = once(&world.client_at(sleeper));
    put(&direct, "own/before", "a").await.unwrap();
    let pid = Pid::from_raw(world.cluster.processes.pid(sleeper).unwrap().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    // The others fence its session in every group, seal its slabs, and go on.
    let mut fenced = false;
    until("its session is fenced", async || {
        for node in world.nodes().into_iter().filter(|node| *node != sleeper) {
            fenced |= world.log(node).contains("session is fenced in every data group");
        }
        if fenced { Ok(()) } else { Err(String::from("no node says so")) }
    })
    .await;
    let storm = Storm::begin(&world, "meanwhile", WRITERS);
    storm.goes_on_for(STRETCH, "while it sleeps").await;
    let meanwhile = storm.end().await;

    kill(pid, Signal::SIGCONT).unwrap();
    // What it begins to write under the old session is refused, told as an error that can be tried again, and never half there.
    let mut tries = 0;
    until("it takes objects", async || {
        tries += 1;
        put(&direct, &format!("own/after-{tries}"), "b").await.map_err(|refused| {
            assert!(refused.status.is_none_or(|status| status == 503), "{refused:?}");
            refused.words
        })
    })
    .await;
    assert!(world.log(sleeper).contains(RENEWED), "it did not find out");
    assert!(world.log(sleeper).matches(RENEWED).count() == 1, "once is enough");
    let client = world.client();
    assert_eq!(get(&client, "own/before").await.unwrap().unwrap(), "a");
    assert_eq!(get(&client, &format!("own/after-{tries}")).await.unwrap().unwrap(), "b");
    for refused in 1..tries {
        assert_eq!(get(&client, &format!("own/after-{refused}")).await.unwrap(), None);
    }
    stored.compare(&client).await;
    meanwhile.compare(&client).await;
    world.revive(sleeper).await;
}
