//! One address for a `dev` cluster: TCP connections are passed on to a node that takes them, in turn, so that clients need no
//! other endpoint when nodes die. A real installation has a load balancer or DNS here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections that the front carries at once at most.
const CONNECTIONS_MAX: usize = 1024;
/// How long a node may take to accept.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// Accepts on `listener` and passes on to `nodes` until dropped.
pub async fn run(listener: TcpListener, nodes: Vec<SocketAddr>) {
    let nodes: Arc<[SocketAddr]> = nodes.into();
    let turn = Arc::new(AtomicUsize::new(0));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(%error, "front: accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let nodes = nodes.clone();
        let turn = turn.clone();
        tokio::spawn(async move {
            pass_on(client, &nodes, &turn).await;
            drop(place);
        });
    }
}

async fn pass_on(mut client: TcpStream, nodes: &[SocketAddr], turn: &AtomicUsize) {
    for _ in 0..nodes.len() {
        let node = nodes[turn.fetch_add(1, Ordering::Relaxed) % nodes.len()];
        let connected = tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(node)).await;
        if let Ok(Ok(mut server)) = connected {
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            // A broken connection is the client's to see; there is nobody else to tell.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
