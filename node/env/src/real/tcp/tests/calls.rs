//! Between nodes that mean well.

use super::world::{CLUSTER, Gate, LONG, TestNode, Turn, frame, id, on_both, pair};
use crate::NetError;
use crate::real::tcp::TcpLimits;
use futures::future::{join, join_all};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use strongroom_types::limits::{WIRE_HEAD_LEN_BYTES_MAX, WIRE_PAYLOAD_LEN_BYTES_MAX};

#[test]
fn many_calls_at_once_in_both_directions_get_their_own_answers() {
    on_both(|| async {
        let (one, two) = pair(Arc::new(Turn::default()), Arc::new(Turn::default())).await;
        for round in 0..10_u32 {
            let talk = |from: &'static str, asker: &TestNode, to: u64| {
                let calls: Vec<_> = (0..200_u32)
                    .map(|number| {
                        let request = frame(
                            format!("{from} {round} {number}").as_bytes(),
                            &vec![number as u8; (number as usize * 37) % 9000],
                        );
                        let expected = Turn::answer(asker.id, &request);
                        let call = asker.net_call(id(to), request);
                        async move { assert_eq!(call.await, Ok(expected)) }
                    })
                    .collect();
                join_all(calls)
            };
            join(talk("one", &one, 2), talk("two", &two, 1)).await;
        }
        one.spawn.shutdown().await;
        two.spawn.shutdown().await;
    });
}

#[test]
fn the_greatest_frames_pass_and_greater_ones_are_refused() {
    on_both(|| async {
        let (one, two) = pair(Arc::new(Turn::default()), Arc::new(Turn::default())).await;
        let head = vec![1; WIRE_HEAD_LEN_BYTES_MAX as usize - 8];
        let payload: Vec<u8> = (0..WIRE_PAYLOAD_LEN_BYTES_MAX).map(|byte| (byte % 251) as u8).collect();
        let request = frame(&head, &payload);
        // Several at once, so that writes and reads are cut at every kind of place.
        let calls = (0..5).map(|_| one.call(id(2), request.clone(), LONG));
        for answer in join_all(calls).await {
            assert_eq!(answer, Ok(Turn::answer(id(1), &request)));
        }

        let long_head = frame(&vec![1; WIRE_HEAD_LEN_BYTES_MAX as usize + 1], &[]);
        let refused = one.call(id(2), long_head.clone(), LONG).await;
        assert!(matches!(refused, Err(NetError::TooLarge { .. })), "{refused:?}");
        let refused = one.call(id(1), long_head, LONG).await;
        assert!(matches!(refused, Err(NetError::TooLarge { .. })), "{refused:?}");
        let long_payload = frame(&[], &vec![1; WIRE_PAYLOAD_LEN_BYTES_MAX as usize + 1]);
        let refused = one.call(id(2), long_payload, LONG).await;
        assert!(matches!(refused, Err(NetError::TooLarge { .. })), "{refused:?}");
        one.spawn.shutdown().await;
        two.spawn.shutdown().await;
    });
}

#[test]
fn an_answer_above_the_bound_is_dropped_and_the_connection_stays() {
    on_both(|| async {
        let (one, two) = pair(Arc::new(Turn::default()), Arc::new(Turn::default())).await;
        // The answer's head is eight bytes longer than the request's.
        let request = frame(&vec![1; WIRE_HEAD_LEN_BYTES_MAX as usize], &[]);
        let dropped = one.call(id(2), request, Duration::from_millis(500)).await;
        assert_eq!(dropped, Err(NetError::TimedOut { to: id(2) }));
        let request = frame(b"next", &[]);
        assert_eq!(one.call(id(2), request.clone(), LONG).await, Ok(Turn::answer(id(1), &request)));
        one.spawn.shutdown().await;
        two.spawn.shutdown().await;
    });
}

#[test]
fn a_peer_that_dies_loses_the_calls_it_had_and_no_later_ones_wait() {
    on_both(|| async {
        let gate = Gate::new();
        let (one, two) = pair(Arc::new(Turn::default()), gate.clone()).await;
        let calls: Vec<_> =
            (0..20).map(|_| tokio::spawn(one.net_call(id(2), frame(b"stay", b"a while")))).collect();
        gate.arrived(20).await;
        two.spawn.shutdown().await;
        drop(two);
        for call in calls {
            assert_eq!(call.await.unwrap(), Err(NetError::Lost { to: id(2) }));
        }
        assert_eq!(one.call(id(2), frame(b"", b""), LONG).await, Err(NetError::Unreachable { to: id(2) }));
        one.spawn.shutdown().await;
    });
}

#[test]
fn a_deadline_ends_the_wait_gives_the_credit_back_and_drops_the_late_answer() {
    on_both(|| async {
        let gate = Gate::new();
        let two = TestNode::start(2, gate.clone()).await;
        let limits = TcpLimits { calls_max: 1, ..TcpLimits::default() };
        let at = "127.0.0.1:0".parse().unwrap();
        let one = TestNode::start_with(1, CLUSTER, at, limits, Arc::new(Turn::default())).await;
        one.knows(&two);
        two.knows(&one);
        for _ in 0..5 {
            let late = one.call(id(2), frame(b"late", b""), Duration::from_millis(20)).await;
            assert_eq!(late, Err(NetError::TimedOut { to: id(2) }));
        }
        let passed = one.call(id(2), frame(b"passed", b""), Duration::ZERO).await;
        assert_eq!(passed, Err(NetError::TimedOut { to: id(2) }));
        gate.arrived(5).await;
        gate.leave.add_permits(100);
        // An answer to one of the late calls would be taken for this one's if ids were mixed up.
        assert_eq!(one.call(id(2), frame(b"in time", b""), LONG).await, Ok(frame(b"in time", b"")));
        assert_eq!(gate.inside.load(Ordering::SeqCst), 0);
        one.spawn.shutdown().await;
        two.spawn.shutdown().await;
    });
}

#[test]
fn calls_above_the_credits_are_refused_and_the_others_are_not_harmed() {
    on_both(|| async {
        let gate = Gate::new();
        let two = TestNode::start(2, gate.clone()).await;
        let limits = TcpLimits { calls_max: 4, ..TcpLimits::default() };
        let at = "127.0.0.1:0".parse().unwrap();
        let one = TestNode::start_with(1, CLUSTER, at, limits, Arc::new(Turn::default())).await;
        one.knows(&two);
        two.knows(&one);
        let mut calls: Vec<_> =
            (0..4).map(|_| tokio::spawn(one.net_call(id(2), frame(b"in", b"")))).collect();
        gate.arrived(4).await;
        let busy = Err(NetError::Busy { to: id(2), credits: 4 });
        assert_eq!(one.call(id(2), frame(b"above", b""), LONG).await, busy);
        // One that is given up makes room for one.
        calls.pop().unwrap().abort();
        tokio::task::yield_now().await;
        let fifth = tokio::spawn(one.net_call(id(2), frame(b"in", b"")));
        gate.arrived(1).await;
        assert_eq!(one.call(id(2), frame(b"above", b""), LONG).await, busy);
        gate.leave.add_permits(100);
        for call in calls.into_iter().chain([fifth]) {
            assert_eq!(call.await.unwrap(), Ok(frame(b"in", b"")));
        }
        one.spawn.shutdown().await;
        two.spawn.shutdown().await;
    });
}

#[test]
fn bytes_that_wait_to_be_sent_are_bounded() {
    on_both(|| async {
        // It takes the connection and never says who it is, so that everything waits.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limits = TcpLimits { send_queue_len_bytes_max: 1000, ..TcpLimits::default() };
        let at = "127.0.0.1:0".parse().unwrap();
        let one = TestNode::start_with(1, CLUSTER, at, limits, Arc::new(Turn::default())).await;
        one.net.set_peer(id(2), silent.local_addr().unwrap().to_string());
        let first = tokio::spawn(one.net_call(id(2), frame(&[1; 500], &[2; 500])));
        tokio::task::yield_now().await;
        let busy = one.call(id(2), frame(b"1", b""), LONG).await;
        assert!(matches!(busy, Err(NetError::Busy { .. })), "{busy:?}");
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let waits = one.call(id(2), frame(&[1; 1000], b""), Duration::from_millis(5)).await;
        assert_eq!(waits, Err(NetError::TimedOut { to: id(2) }));
        one.spawn.shutdown().await;
    });
}

#[test]
fn a_peer_that_restarts_is_found_again() {
    on_both(|| async {
        let (one, mut two) = pair(Arc::new(Turn::default()), Arc::new(Turn::default())).await;
        let at = two.net.local_addr();
        for _ in 0..3 {
            let request = frame(b"are you there", b"");
            let expected = Turn::answer(id(1), &request);
            assert_eq!(one.call(id(2), request.clone(), LONG).await, Ok(expected.clone()));
            two.spawn.shutdown().await;
            drop(two);
            let gone = one.call(id(2), request.clone(), LONG).await;
            assert!(matches!(gone, Err(NetError::Unreachable { .. } | NetError::Lost { .. })), "{gone:?}");

            two = TestNode::start_with(2, CLUSTER, at, TcpLimits::default(), Arc::new(Turn::default())).await;
            two.knows(&one);
            // Nothing tells when the pause between dials is over.
            while one.call(id(2), request.clone(), LONG).await != Ok(expected.clone()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let request = frame(b"and you", b"");
            assert_eq!(two.call(id(1), request.clone(), LONG).await, Ok(Turn::answer(id(2), &request)));
        }
        one.spawn.shutdown().await;
        two.spawn.shutdown().await;
    });
}

#[test]
fn a_call_to_oneself_is_a_request_like_any_other() {
    on_both(|| async {
        let gate = Gate::new();
        let limits = TcpLimits { calls_max: 2, ..TcpLimits::default() };
        let at = "127.0.0.1:0".parse().unwrap();
        let one = TestNode::start_with(1, CLUSTER, at, limits, gate.clone()).await;
        let late = one.call(id(1), frame(b"late", b""), Duration::from_millis(5)).await;
        assert_eq!(late, Err(NetError::TimedOut { to: id(1) }));
        // It goes on, as a peer's would.
        gate.arrived(1).await;
        assert_eq!(gate.inside.load(Ordering::SeqCst), 1);
        let second = tokio::spawn(one.net_call(id(1), frame(b"second", b"")));
        gate.arrived(1).await;
        let busy = one.call(id(1), frame(b"third", b""), LONG).await;
        assert_eq!(busy, Err(NetError::Busy { to: id(1), credits: 2 }));
        gate.leave.add_permits(2);
        assert_eq!(second.await.unwrap(), Ok(frame(b"second", b"")));
        one.spawn.shutdown().await;
    });
}
