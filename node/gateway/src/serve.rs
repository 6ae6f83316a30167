//! The door on a socket: bounded connections, timed heads, an orderly end.

use crate::door::Door;
use crate::limits::{
    CONNECTION_BUFFER_LEN_BYTES_MAX, CONNECTIONS_MAX, HEAD_READ_PATIENCE, HEADERS_MAX, SHUTDOWN_PATIENCE,
    WRITE_IDLE_PATIENCE,
};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, select};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use strongroom_env::{Clock, Spawn};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// What serving needs besides the door.
#[derive(Clone)]
pub struct ServeParts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Starts a task for each connection.
    pub spawn: Arc<dyn Spawn>,
}

/// How long after a failed accept the next one is tried: out of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests on `listener` until `shutdown` completes; then lets those in flight end, for a bounded time.
pub async fn serve(
    listener: TcpListener,
    door: Arc<Door>,
    parts: ServeParts,
    shutdown: impl Future<Output = ()> + Send,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (ending, ended) = watch::channel(false);
    let mut shutdown = std::pin::pin!(shutdown.fuse());
    loop {
        let permit = match select(Box::pin(Arc::clone(&permits).acquire_owned()), &mut shutdown).await {
            Either::Left((permit, _)) => permit.expect("the semaphore is never closed"),
            Either::Right(((), _)) => break,
        };
        let stream = match select(Box::pin(listener.accept()), &mut shutdown).await {
            Either::Left((Ok((stream, _)), _)) => stream,
            Either::Left((Err(error), _)) => {
                tracing::warn!(%error, "accept failed");
                parts.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
            Either::Right(((), _)) => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection lost at once");
            continue;
        }
        let connection = connection(stream, Arc::clone(&door), Arc::clone(&parts.clock), ended.clone());
        let task = async move {
            connection.await;
            drop(permit);
        };
        let _task = parts.spawn.spawn("s3 connection", Box::pin(task));
    }
    drop(listener);
    ending.send_replace(true);
    let all = u32::try_from(CONNECTIONS_MAX).expect("the bound fits");
    if let Either::Right(_) =
        select(Box::pin(permits.acquire_many(all)), parts.clock.sleep(SHUTDOWN_PATIENCE)).await
    {
        tracing::warn!("connections were still open at the end of the patience");
    }
}

/// Answers requests on one connection, which may be TLS, until it ends or `ended` turns true and the request in flight
/// was answered.
pub async fn connection<I>(io: I, door: Arc<Door>, clock: Arc<dyn Clock>, mut ended: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.handle(request).await) }
    });
    let io = TokioIo::new(Timed { io, clock, stalled: None });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_READ_PATIENCE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(CONNECTION_BUFFER_LEN_BYTES_MAX)
        .serve_connection(io, service);
    let mut served = std::pin::pin!(served);
    let end = async move {
        // An error means that the sender is gone: nobody will ask for an end any more, which is an end too.
        let _ = ended.wait_for(|ended| *ended).await;
    };
    let result = match select(served.as_mut(), Box::pin(end)).await {
        Either::Left((result, _)) => result,
        Either::Right(((), _)) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

/// A stream whose peer must take bytes within a bounded time.
struct Timed<I> {
    io: I,
    clock: Arc<dyn Clock>,
    stalled: Option<BoxFuture<'static, ()>>,
}

impl<I: Unpin> Timed<I> {
    /// Passes `poll` on; while it is pending the time runs.
    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let clock = &self.clock;
        let stalled = self.stalled.get_or_insert_with(|| clock.sleep(WRITE_IDLE_PATIENCE));
        ready!(stalled.poll_unpin(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Timed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Heads are timed by hyper, bodies by the door.
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Timed<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, poll)
    }
}

#[cfg(test)]
mod tests;
