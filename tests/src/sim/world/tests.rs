use super::{Boot, End, World, run};
use crate::sim::tasks::Owner;
use crate::sim::trace::Sink;
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_env::{Spawn, scope};
use strongroom_io::{AlignedBuffer, Class, Operation};
use strongroom_types::{Instant, NodeId, ZoneId};

const NODE: NodeId = NodeId::new(1);

fn simulate<T: Send + 'static>(
    seed: u64,
    body: impl FnOnce(World) -> BoxFuture<'static, T> + Send + 'static,
) -> T {
    run(seed, Sink::None, body).0
}

fn one(world: &World) -> Boot {
    world.add(NODE, ZoneId::new(1), &[1 << 20]);
    world.boot(NODE)
}

/// Tells its number when it is dropped, and starts another task then.
struct Dropped {
    number: u64,
    order: Arc<Mutex<Vec<u64>>>,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.order.lock().unwrap().push(self.number);
        let scope = scope::current().expect("futures are dropped inside their scope");
        scope.spawn.spawn("from a destructor", Box::pin(std::future::pending()));
    }
}

#[test]
fn killing_a_node_drops_all_its_futures_at_once_and_in_order_and_nobody_elses() {
    simulate(1, |world| {
        Box::pin(async move {
            let boot = one(&world);
            world.add(NodeId::new(2), ZoneId::new(2), &[]);
            let other = world.boot(NodeId::new(2));
            let order = Arc::new(Mutex::new(Vec::new()));
            for number in 0..50 {
                let dropped = Dropped { number, order: Arc::clone(&order) };
                let task = async move {
                    let _dropped = dropped;
                    std::future::pending::<()>().await;
                };
                boot.spawn.spawn("waits", Box::pin(task));
            }
            other.spawn.spawn("waits", Box::pin(std::future::pending()));
            // Some have been polled, others not.
            tokio::task::yield_now().await;
            assert_eq!(world.task_count(NODE), 50);
            world.kill(NODE, End::Crash);
            assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
            assert_eq!(world.task_count(NODE), 0);
            assert_eq!(world.task_count(NodeId::new(2)), 1);
            boot.spawn.spawn("of a life that is over", Box::pin(async { panic!("polled") }));
            assert_eq!(world.task_count(NODE), 0);
            world.boot(NODE);
        })
    });
}

#[test]
fn a_node_may_be_killed_by_its_own_task() {
    simulate(1, |world| {
        Box::pin(async move {
            let boot = one(&world);
            let inner = world.clone();
            let after = Arc::new(AtomicU64::new(0));
            let seen = Arc::clone(&after);
            let task = async move {
                inner.kill(NODE, End::Crash);
                tokio::task::yield_now().await;
                seen.store(1, Ordering::Relaxed);
            };
            boot.spawn.spawn("kills", Box::pin(task));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(after.load(Ordering::Relaxed), 0);
            assert_eq!(world.task_count(NODE), 0);
        })
    });
}

#[test]
fn a_node_ends_between_two_polls_that_are_counted() {
    for polls in [1, 2, 7, 100] {
        let seen = simulate(polls, move |world| {
            Box::pin(async move {
                let boot = one(&world);
                let seen = Arc::new(AtomicU64::new(0));
                let counts = Arc::clone(&seen);
                let task = async move {
                    loop {
                        counts.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                };
                let ends = world.clone();
                world.arm(NODE, polls, move || assert!(ends.kill(NODE, End::PowerCut)));
                boot.spawn.spawn("counts", Box::pin(task));
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(!world.is_up(NODE));
                // Armed once, not for every life; and what is disarmed does not happen.
                let boot = world.boot(NODE);
                let ends = world.clone();
                world.arm(NODE, 1, move || assert!(ends.kill(NODE, End::Crash)));
                world.disarm(NODE);
                boot.spawn.spawn("nothing", Box::pin(async {}));
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(world.is_up(NODE));
                seen.load(Ordering::Relaxed)
            })
        });
        assert_eq!(seen, polls);
    }
}

#[test]
fn a_process_that_stands_still_sees_time_jump_when_it_goes_on() {
    simulate(1, |world| {
        Box::pin(async move {
            let boot = one(&world);
            let ticks: Arc<Mutex<Vec<u64>>> = Arc::default();
            let (noted, clock) = (Arc::clone(&ticks), Arc::clone(&boot.env.clock));
            let task = async move {
                loop {
                    clock.sleep(Duration::from_secs(1)).await;
                    noted.lock().unwrap().push(clock.now().since(Instant::ORIGIN).as_secs());
                }
            };
            boot.spawn.spawn("ticks", Box::pin(task));
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            world.pause(NODE);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(*ticks.lock().unwrap(), [1, 2]);
            world.resume(NODE);
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            assert_eq!(*ticks.lock().unwrap(), [1, 2, 62, 63]);
            // The end of a process is the end of its pause.
            world.pause(NODE);
            world.kill(NODE, End::Crash);
            let again = world.boot(NODE);
            let (sender, ran) = tokio::sync::oneshot::channel();
            again.spawn.spawn("runs", Box::pin(async move { sender.send(()).unwrap() }));
            ran.await.unwrap();
        })
    });
}

#[test]
fn clocks_of_nodes_drift_apart() {
    simulate(1, |world| {
        Box::pin(async move {
            let boot = one(&world);
            world.set_drift(NODE, 50_000);
            let before = world.elapsed();
            boot.env.clock.sleep(Duration::from_secs(105)).await;
            let took = world.elapsed() - before;
            assert!(took >= Duration::from_secs(100) && took < Duration::from_millis(100_010), "{took:?}");
            let shown = boot.env.clock.now();
            world.set_drift(NODE, -50_000);
            assert!(boot.env.clock.now() >= shown, "a clock never goes back");
            tokio::time::sleep(Duration::from_secs(100)).await;
            assert_eq!(boot.env.clock.now().since(shown).as_secs(), 95);
        })
    });
}

#[test]
fn time_jumps_over_what_is_waited_for() {
    let host = std::time::Instant::now();
    let elapsed = simulate(1, |world| {
        Box::pin(async move {
            let boot = one(&world);
            let before = boot.env.clock.now();
            boot.env.clock.sleep(Duration::from_secs(86_400)).await;
            let wall = boot.env.clock.wall().as_unix_millis();
            world.set_skew_ms(NODE, -5_000);
            assert_eq!(boot.env.clock.wall().as_unix_millis(), wall - 5_000);
            boot.env.clock.now().since(before)
        })
    });
    assert_eq!(elapsed, Duration::from_secs(86_400));
    assert!(host.elapsed() < Duration::from_secs(3600), "a day was not waited for");
}

#[test]
fn tasks_that_are_ready_at_once_run_in_an_order_of_the_seed() {
    let order = |seed| {
        simulate(seed, |world| {
            Box::pin(async move {
                let order = Arc::new(Mutex::new(Vec::new()));
                for number in 0..6 {
                    let order = Arc::clone(&order);
                    world.spawn("notes", Box::pin(async move { order.lock().unwrap().push(number) }));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                order.lock().unwrap().clone()
            })
        })
    };
    let orders: BTreeSet<Vec<i32>> = (0..50).map(order).collect();
    assert!(orders.len() > 25, "{} orders of 50 seeds", orders.len());
    assert_eq!(order(3), order(3));
}

#[test]
fn power_cuts_take_what_was_not_flushed_and_leave_what_was() {
    let mut lost = 0;
    for seed in 0..40 {
        lost += simulate(seed, |world| {
            Box::pin(async move {
                let boot = one(&world);
                let drive = &boot.drives[0];
                let write = |offset_bytes, byte| {
                    let buffer = AlignedBuffer::copy_of(&[byte; 4096]).unwrap();
                    drive.submit(Operation::Write { offset_bytes, buffer }, Class::Append)
                };
                write(0, 1).await.result.unwrap();
                drive.submit(Operation::Flush, Class::Append).await.result.unwrap();
                write(4096, 2).await.result.unwrap();
                assert!(world.elapsed() > Duration::ZERO, "drives take time");
                world.kill(NODE, End::PowerCut);
                let media = &world.drives(NODE)[0].media;
                assert_eq!(media.peek(0, 4096), vec![1; 4096]);
                u32::from(media.peek(4096, 4096) != vec![2; 4096])
            })
        });
    }
    assert!((10..40).contains(&lost), "{lost} of 40 unflushed writes were lost or torn");
}

#[test]
#[should_panic(expected = "livelock")]
fn a_livelock_ends_the_run() {
    simulate(1, |world| {
        Box::pin(async move {
            let busy = async {
                loop {
                    tokio::task::coop::unconstrained(futures::future::poll_fn(|context| {
                        context.waker().wake_by_ref();
                        std::task::Poll::<()>::Pending
                    }))
                    .await;
                }
            };
            world.spawn("busy", Box::pin(busy));
            std::future::pending::<()>().await;
        })
    });
}

#[test]
fn what_is_left_when_a_run_ends_is_dropped() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    simulate(1, |world| {
        Box::pin(async move {
            let boot = one(&world);
            let (of_node, of_world) = (Arc::clone(&held), held);
            let forever = |held: Arc<()>| async move {
                let _held = held;
                std::future::pending::<()>().await;
            };
            boot.spawn.spawn("forever", Box::pin(forever(of_node)));
            world.spawn("forever", Box::pin(forever(of_world)));
            assert_ne!(Owner::World, Owner::Node(NODE));
        })
    });
    assert_eq!(Arc::strong_count(&alive), 1);
}
