//! The seam between a connected socket and a stream of bytes: where TLS goes.

use crate::limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, UNACKNOWLEDGED_PATIENCE};
use futures::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use strongroom_types::NodeId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A stream of bytes to a peer.
pub struct Channel {
    /// What it sends.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What it is sent.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Who it is, where the transport proved that. The peer's hello must say the same.
    pub proven: Option<NodeId>,
}

/// Turns sockets into channels.
pub trait Transport: Send + Sync {
    /// The channel over a socket that was connected to node `to`.
    fn connect(&self, to: NodeId, socket: TcpStream) -> BoxFuture<'static, io::Result<Channel>>;
    /// The channel over a socket that somebody connected.
    fn accept(&self, socket: TcpStream) -> BoxFuture<'static, io::Result<Channel>>;
}

/// Bytes as they are: for networks that only nodes can reach, and for tests. Proves nobody's identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainTcp;

impl Transport for PlainTcp {
    fn connect(&self, _to: NodeId, socket: TcpStream) -> BoxFuture<'static, io::Result<Channel>> {
        Box::pin(async move { plain(socket) })
    }

    fn accept(&self, socket: TcpStream) -> BoxFuture<'static, io::Result<Channel>> {
        Box::pin(async move { plain(socket) })
    }
}

fn plain(socket: TcpStream) -> io::Result<Channel> {
    let (reader, writer) = socket.into_split();
    Ok(Channel { reader: Box::new(reader), writer: Box::new(writer), proven: None })
}

/// Sets what every peer's socket needs: no waiting for fuller packets, and a bound on how long a dead peer goes unnoticed.
pub(super) fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let options = SockRef::from(socket);
    options.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL),
    )?;
    options.set_tcp_user_timeout(Some(UNACKNOWLEDGED_PATIENCE))
}
