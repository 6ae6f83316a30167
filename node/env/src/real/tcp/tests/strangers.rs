//! From whoever can reach the port.

use super::world::{ByHand, CLUSTER, Gate, LONG, TestNode, Turn, frame, id, on_both};
use crate::limits::GUESTS_MAX;
use crate::real::tcp::TcpLimits;
use crate::{Net, NetError};
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
fn other_clusters_are_refused_by_both_sides_and_unknown_nodes_are_not_called() {
    on_both(|| async {
        let (two, handler) = target().await;
        let (mut foreign, _) = ByHand::greet(&two, ClusterId::new(8), 1).await;
        assert_eq!(foreign.closed().await, 0);

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
fn a_few_unknown_nodes_are_served_as_who_they_say_and_give_way_to_others() {
    on_both(|| async {
        let (two, handler) = target().await;
        let mut guests = Vec::new();
        for number in 0..GUESTS_MAX as u64 {
            let (mut guest, _) = ByHand::greet(&two, CLUSTER, 100 + number).await;
            guest.send(&ByHand::request(number, &frame(b"let me in", b""))).await;
            assert_eq!(guest.answer().await, number);
            guests.push(guest);
        }
        assert_eq!(handler.handled.load(Ordering::SeqCst), GUESTS_MAX);
        let (mut late, _) = ByHand::greet(&two, CLUSTER, 999).await;
        assert_eq!(late.closed().await, 0, "there is room for no more");
        // A peer has room of its own, and so has one that comes to be known; its connection begins again.
        let (mut peer, _) = ByHand::greet(&two, CLUSTER, 1).await;
        peer.send(&ByHand::request(1, &frame(b"mine", b""))).await;
        assert_eq!(peer.answer().await, 1);
        two.net.introduce(id(100), "127.0.0.1:9".parse().unwrap());
        assert_eq!(guests[0].closed().await, 0);
        let (mut known, _) = ByHand::greet(&two, CLUSTER, 100).await;
        known.send(&ByHand::request(7, &frame(b"known now", b""))).await;
        assert_eq!(known.answer().await, 7);
        let (mut late, _) = ByHand::greet(&two, CLUSTER, 999).await;
        late.send(&ByHand::request(8, &frame(b"let me in", b""))).await;
        assert_eq!(late.answer().await, 8, "one of them is no guest any more");
        two.spawn.shutdown().await;
    });
}

#[test]
fn a_peer_that_moved_is_found_and_so_is_one_that_came_back_to_where_it_was() {
    on_both(|| async {
        let (two, _) = target().await;
        let handler = Arc::new(Turn::default());
        let three = TestNode::start(3, handler.clone()).await;
        let (here, to) = (three.net.local_addr(), id(3));
        two.net.introduce(to, "127.0.0.1:9".parse().unwrap());
        assert_eq!(two.call(to, frame(b"", b""), LONG).await, Err(NetError::Unreachable { to }));
        two.net.introduce(to, here);
        let reached = async |node: &TestNode| loop {
            match node.call(to, frame(b"", b""), LONG).await {
                Ok(_) => return,
                Err(error) => assert_eq!(error, NetError::Unreachable { to }),
            }
            // A call that fails at once yields to nobody, and who dials is of this thread.
            tokio::task::yield_now().await;
        };
        reached(&two).await;
        // What was told last is wrong, and what was told before is tried in turn.
        let four = TestNode::start(4, Arc::new(Turn::default())).await;
        four.net.introduce(to, here);
        four.net.introduce(to, "127.0.0.1:9".parse().unwrap());
        reached(&four).await;
        for node in [two, three, four] {
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
