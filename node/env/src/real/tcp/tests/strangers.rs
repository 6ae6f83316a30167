//! From whoever can reach the port.

use super::world::{ByHand, CLUSTER, Gate, LONG, TestNode, Turn, frame, id, on_both};
use crate::NetError;
use crate::real::tcp::TcpLimits;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use strongroom_format::wire::Hello;
use strongroom_types::ClusterId;

/// Node 2 with node 1 as a peer whom nobody reaches, and what it handled.
async fn target() -> (TestNode, Arc<Turn>) {
    let handler = Arc::new(Turn::default());
    let two = TestNode::start(2, handler.clone()).await;
    two.net.set_peer(id(1), "127.0.0.1:9".to_owned());
    (two, handler)
}

#[test]
fn garbage_at_the_port_closes_its_connection_and_nothing_else() {
    on_both(|| async {
        let (two, handler) = target().await;
        let (mut good, hello) = ByHand::greet(&two, CLUSTER, 1).await;
        assert_eq!(hello, Hello { cluster: CLUSTER, node: id(2) });
        let mut hello_torn = Hello { cluster: CLUSTER, node: id(1) }.encode();
        hello_torn[20] ^= 1;
        for garbage in
            [&b"GET / HTTP/1.1\r\nHost: strongroom\r\nAccept: */*\r\n\r\n"[..], &[0; 4096], &hello_torn]
        {
            let mut stranger = ByHand::connect(&two).await;
            stranger.send(garbage).await;
            assert!(stranger.closed().await <= Hello::LEN_BYTES);
        }
        good.send(&ByHand::request(5, &frame(b"still here", b""))).await;
        assert_eq!(good.answer().await, 5);
        assert_eq!(handler.handled.load(Ordering::SeqCst), 1);
        two.spawn.shutdown().await;
    });
}

#[test]
fn a_frame_with_any_bit_turned_closes_the_connection_unhandled() {
    on_both(|| async {
        let (two, handler) = target().await;
        let request = ByHand::request(1, &frame(b"head", b"payload"));
        for place in 0..request.len() {
            let (mut peer, _) = ByHand::greet(&two, CLUSTER, 1).await;
            let mut turned = request.clone();
            turned[place] ^= 1 << (place % 8);
            peer.send(&turned).await;
            assert_eq!(peer.closed().await, 0, "byte {place}");
        }
        assert_eq!(handler.handled.load(Ordering::SeqCst), 0);
        two.spawn.shutdown().await;
    });
}

#[test]
fn other_clusters_and_unknown_nodes_are_refused_by_both_sides() {
    on_both(|| async {
        let (two, handler) = target().await;
        let (mut foreign, _) = ByHand::greet(&two, ClusterId::new(8), 1).await;
        assert_eq!(foreign.closed().await, 0);
        let (mut unknown, _) = ByHand::greet(&two, CLUSTER, 3).await;
        assert_eq!(unknown.closed().await, 0);

        let at = "127.0.0.1:0".parse().unwrap();
        let foreign_handler = Arc::new(Turn::default());
        let foreign =
            TestNode::start_with(3, ClusterId::new(8), at, TcpLimits::default(), foreign_handler.clone())
                .await;
        two.knows(&foreign);
        foreign.knows(&two);
        let (request, to) = (frame(b"hello", b""), id(3));
        assert_eq!(two.call(to, request.clone(), LONG).await, Err(NetError::Unreachable { to }));
        let to = id(2);
        assert_eq!(foreign.call(to, request.clone(), LONG).await, Err(NetError::Unreachable { to }));

        // Another node than expected answers at the address.
        let other = TestNode::start(5, Arc::new(Turn::default())).await;
        let to = id(4);
        two.net.set_peer(to, other.net.local_addr().to_string());
        assert_eq!(two.call(to, request.clone(), LONG).await, Err(NetError::Unreachable { to }));
        let to = id(6);
        assert_eq!(two.call(to, request, LONG).await, Err(NetError::Unreachable { to }), "never heard of");

        assert_eq!(handler.handled.load(Ordering::SeqCst), 0);
        assert_eq!(foreign_handler.handled.load(Ordering::SeqCst), 0);
        for node in [two, foreign, other] {
            node.spawn.shutdown().await;
        }
    });
}

#[test]
fn a_peer_that_reconnects_leaves_nothing_behind() {
    on_both(|| async {
        let (two, _) = target().await;
        let (mut present, _) = ByHand::greet(&two, CLUSTER, 1).await;
        for number in 0..20 {
            let (mut next, _) = ByHand::greet(&two, CLUSTER, 1).await;
            next.send(&ByHand::request(number, &frame(b"mine", b""))).await;
            assert_eq!(next.answer().await, number);
            // The one before was never closed from this side.
            assert_eq!(present.closed().await, 0);
            present = next;
        }
        assert_eq!(two.spawn.running_count(), 2, "accepting, and one connection");
        two.spawn.shutdown().await;
    });
}

#[test]
fn a_peer_that_asks_too_much_waits_also_when_it_reconnects() {
    on_both(|| async {
        let gate = Gate::new();
        let limits = TcpLimits { requests_max: 2, ..TcpLimits::default() };
        let at = "127.0.0.1:0".parse().unwrap();
        let two = TestNode::start_with(2, CLUSTER, at, limits, gate.clone()).await;
        two.net.set_peer(id(1), "127.0.0.1:9".to_owned());
        let (mut before, _) = ByHand::greet(&two, CLUSTER, 1).await;
        for number in 0..5 {
            before.send(&ByHand::request(number, &frame(b"in", b""))).await;
        }
        gate.arrived(2).await;
        let (mut after, _) = ByHand::greet(&two, CLUSTER, 1).await;
        before.closed().await;
        for number in 10..13 {
            after.send(&ByHand::request(number, &frame(b"in", b""))).await;
        }
        // What the first connection began is still being worked on, and counts.
        assert_eq!(gate.inside.load(Ordering::SeqCst), 2);
        assert_eq!(gate.arrived.available_permits(), 0);
        gate.leave.add_permits(100);
        let mut answered = [after.answer().await, after.answer().await, after.answer().await];
        answered.sort_unstable();
        assert_eq!(answered, [10, 11, 12]);
        gate.arrived(3).await;
        assert_eq!(
            gate.arrived.available_permits(),
            0,
            "requests of the first connection that waited are gone"
        );
        two.spawn.shutdown().await;
    });
}
