use super::Weather;
use crate::sim::trace::Sink;
use crate::sim::world::{Boot, End, World, run};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use strongroom_env::{Handler, NetError};
use strongroom_format::wire::{Frame, Request, Response};
use strongroom_types::{Deadline, NodeId, ZoneId};

#[derive(Default)]
struct Echo {
    handled: AtomicUsize,
}

impl Handler for Echo {
    fn handle(&self, _from: NodeId, request: Frame) -> BoxFuture<'static, Frame> {
        self.handled.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { request })
    }
}

fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

fn three(world: &World) -> Vec<(Boot, Arc<Echo>)> {
    (1..=3_u8)
        .map(|number| {
            world.add(id(number.into()), ZoneId::new(number), &[]);
            let (boot, echo) = (world.boot(id(number.into())), Arc::new(Echo::default()));
            boot.env.net.serve(echo.clone());
            (boot, echo)
        })
        .collect()
}

async fn call(boot: &Boot, to: u64, patience: Duration) -> Result<Frame, NetError> {
    let request = Frame::request(&Request::Ping, Bytes::from_static(b"payload"));
    boot.env.net.call(id(to), request, Deadline::after(boot.env.clock.now(), patience)).await
}

const LONG: Duration = Duration::from_secs(3600);

fn simulate(body: impl FnOnce(World) -> BoxFuture<'static, ()> + Send + 'static) {
    run(7, Sink::None, body);
}

#[test]
fn calls_are_answered_and_take_simulated_time() {
    simulate(|world| {
        Box::pin(async move {
            let nodes = three(&world);
            let request = Frame::request(&Request::Ping, Bytes::from_static(b"payload"));
            assert_eq!(call(&nodes[0].0, 2, LONG).await, Ok(request.clone()));
            assert!(world.elapsed() > Duration::ZERO);
            assert_eq!(call(&nodes[0].0, 1, LONG).await, Ok(request), "to itself");
            assert_eq!(call(&nodes[0].0, 9, LONG).await, Err(NetError::Unreachable { to: id(9) }));
        })
    });
}

#[test]
fn cuts_cut_one_way_and_mend() {
    simulate(|world| {
        Box::pin(async move {
            let nodes = three(&world);
            world.network().cut(id(1), id(2));
            let late = Err(NetError::TimedOut { to: id(2) });
            assert_eq!(call(&nodes[0].0, 2, Duration::from_secs(1)).await, late);
            assert_eq!(nodes[1].1.handled.load(Ordering::Relaxed), 0);
            // The other way the request arrives, but not the answer.
            assert!(call(&nodes[1].0, 1, Duration::from_secs(1)).await.is_err());
            assert_eq!(nodes[0].1.handled.load(Ordering::Relaxed), 1);
            assert!(call(&nodes[0].0, 3, LONG).await.is_ok());
            assert_eq!(
                call(&nodes[0].0, 2, LONG).await,
                Err(NetError::Lost { to: id(2) }),
                "patience ends before"
            );
            world.network().mend();
            assert!(call(&nodes[0].0, 2, LONG).await.is_ok());
            world.network().cut_zone(ZoneId::new(2));
            assert!(call(&nodes[0].0, 2, Duration::from_secs(1)).await.is_err());
            assert!(call(&nodes[1].0, 3, Duration::from_secs(1)).await.is_err());
            assert!(call(&nodes[0].0, 3, LONG).await.is_ok());
        })
    });
}

#[test]
fn the_dead_are_noticed_and_the_dark_are_not() {
    simulate(|world| {
        Box::pin(async move {
            let nodes = three(&world);
            world.kill(id(2), End::Crash);
            assert_eq!(call(&nodes[0].0, 2, LONG).await, Err(NetError::Unreachable { to: id(2) }));
            let before = world.elapsed();
            world.kill(id(3), End::PowerCut);
            let late = Err(NetError::TimedOut { to: id(3) });
            assert_eq!(call(&nodes[0].0, 3, Duration::from_secs(2)).await, late);
            assert!(world.elapsed() - before >= Duration::from_secs(2));
            let again = world.boot(id(2));
            again.env.net.serve(Arc::new(Echo::default()));
            assert!(call(&nodes[0].0, 2, LONG).await.is_ok());
        })
    });
}

#[test]
fn foul_weather_loses_and_doubles() {
    simulate(|world| {
        Box::pin(async move {
            let nodes = three(&world);
            world.network().set_weather(Weather { lost: 200_000, duplicated: 200_000, ..Weather::default() });
            let (mut answered, mut lost) = (0, 0);
            for _ in 0..500 {
                match call(&nodes[0].0, 2, LONG).await {
                    Ok(_) => answered += 1,
                    Err(NetError::Lost { .. }) => lost += 1,
                    other => panic!("{other:?}"),
                }
            }
            // The last duplicate may still be under way.
            tokio::time::sleep(LONG).await;
            let handled = nodes[1].1.handled.load(Ordering::Relaxed);
            // 0.8 x 0.8 of 500 answered; 0.8 of them arrive, of these a quarter... twice at most.
            assert!((250..400).contains(&answered) && answered + lost == 500, "{answered} {lost}");
            assert!(handled > 420 && handled < 560, "{handled}");
        })
    });
}

#[test]
fn damage_is_seen_and_breaks_the_connection() {
    simulate(|world| {
        Box::pin(async move {
            let nodes = three(&world);
            world.network().set_weather(Weather { damaged: 300_000, ..Weather::default() });
            let (mut answered, mut lost) = (0, 0);
            for _ in 0..300 {
                // What else waits on the connection goes with it.
                let (one, other) = futures::join!(call(&nodes[0].0, 2, LONG), call(&nodes[0].0, 2, LONG));
                for called in [one, other] {
                    match called {
                        Ok(_) => answered += 1,
                        Err(NetError::Lost { .. }) => lost += 1,
                        other => panic!("{other:?}"),
                    }
                }
            }
            // Of one pair in four, no message of four is damaged.
            assert!(answered > 100 && lost > 330, "{answered} {lost}");
            world.network().set_weather(Weather::default());
            assert!(call(&nodes[0].0, 2, LONG).await.is_ok());
        })
    });
}

#[test]
fn the_mute_hear_and_say_nothing() {
    simulate(|world| {
        Box::pin(async move {
            let nodes = three(&world);
            world.network().mute(id(2));
            for _ in 0..10 {
                let patience = Duration::from_secs(10);
                let before = world.elapsed();
                let late = Err(NetError::TimedOut { to: id(2) });
                assert_eq!(call(&nodes[0].0, 2, patience).await, late);
                assert!(world.elapsed() - before >= patience, "nobody is told anything");
            }
            assert_eq!(nodes[1].1.handled.load(Ordering::Relaxed), 5, "it acts on every other one");
            assert!(call(&nodes[1].0, 1, LONG).await.is_ok());
            world.network().mend();
            assert!(call(&nodes[0].0, 2, LONG).await.is_ok());
        })
    });
}

#[test]
fn a_slow_zone_is_far_from_the_others() {
    simulate(|world| {
        Box::pin(async move {
            let nodes = three(&world);
            world.network().slow_zone(ZoneId::new(2), Duration::from_millis(500));
            let before = world.elapsed();
            assert!(call(&nodes[0].0, 2, LONG).await.is_ok());
            assert!(world.elapsed() - before >= Duration::from_secs(1), "there and back");
            let before = world.elapsed();
            assert!(call(&nodes[0].0, 3, LONG).await.is_ok());
            assert!(world.elapsed() - before < Duration::from_secs(1));
        })
    });
}

#[test]
fn requests_wait_for_a_process_that_stands_still_up_to_a_bound() {
    simulate(|world| {
        Box::pin(async move {
            let nodes = three(&world);
            world.pause(id(2));
            for _ in 0..5 {
                let patience = Duration::from_secs(2);
                assert_eq!(call(&nodes[0].0, 2, patience).await, Err(NetError::TimedOut { to: id(2) }));
            }
            assert_eq!(nodes[1].1.handled.load(Ordering::Relaxed), 0);
            world.resume(id(2));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(nodes[1].1.handled.load(Ordering::Relaxed), 5, "with stale ideas");
            world.pause(id(2));
            for _ in 0..600 {
                assert!(call(&nodes[0].0, 2, Duration::from_millis(20)).await.is_err());
            }
            world.resume(id(2));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(nodes[1].1.handled.load(Ordering::Relaxed), 5 + super::REQUESTS_PER_PEER_MAX);
        })
    });
}

#[test]
fn names_in_traces_are_those_of_the_messages() {
    let head = |request: Request| Frame::request(&request, Bytes::new()).head;
    assert_eq!(super::request_name(&head(Request::Ping)), "Ping");
    assert_eq!(super::request_name(&head(Request::Raft { group: None, body: Bytes::new() })), "Raft");
    assert_eq!(super::request_name(&head(Request::Meta { group: None, body: Bytes::new() })), "Meta");
    assert_eq!(super::request_name(&Frame::response(&Response::Done, Bytes::new()).head[..0]), "Unknown");
}
