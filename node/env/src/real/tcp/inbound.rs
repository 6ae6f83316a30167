//! Connections that peers made: reads their requests, has them handled, sends the answers.

use super::stream::{Batch, StreamError, exchange_hello, read_body, read_header};
use super::transport::{Channel, prepare};
use super::{Shared, TcpLimits, within};
use crate::Handler;
use crate::limits::{ACCEPT_PAUSE, HANDSHAKE_PATIENCE, HANDSHAKES_MAX, READ_BUFFER_LEN_BYTES};
use futures::future::{Either, select};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use strongroom_format::wire::{Frame, FrameKind};
use strongroom_types::{ClusterId, Deadline, NodeId};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What is kept of a peer across its connections, so that one who reconnects over and over has no more than one
/// connection and one connection's worth of work here.
pub(super) struct Inbound {
    requests_max: usize,
    requests: Arc<Semaphore>,
    request_bytes: Arc<Semaphore>,
    /// Told when a later connection takes over.
    present: Mutex<Arc<Notify>>,
}

impl Inbound {
    pub(super) fn new(limits: TcpLimits) -> Arc<Self> {
        Arc::new(Self {
            requests_max: limits.requests_max,
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            request_bytes: Arc::new(Semaphore::new(limits.request_len_bytes_max)),
            present: Mutex::default(),
        })
    }

    /// Whether none of its requests is being handled.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.available_permits() == self.requests_max
    }

    /// Ends the connection there was; the returned one is told when it is ended in turn.
    pub(super) fn take_over(&self) -> Arc<Notify> {
        let superseded = Arc::new(Notify::new());
        let before = {
            let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *present, Arc::clone(&superseded))
        };
        before.notify_one();
        superseded
    }
}

/// Why a connection that somebody made was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no hello within {HANDSHAKE_PATIENCE:?}")]
    TimedOut,
    #[error("socket")]
    Socket(#[from] std::io::Error),
    #[error("no hello")]
    Hello(#[from] StreamError),
    #[error("it belongs to {found}")]
    OtherCluster { found: ClusterId },
    #[error("{found} is not known here, and so are too many others that are connected")]
    NotAPeer { found: NodeId },
    #[error("it says to be {said} and is proven to be {proven}")]
    NotWhoItSays { said: NodeId, proven: NodeId },
}

/// Takes connections for as long as the node lives.
pub(super) async fn accept_all(shared: Arc<Shared>, listener: TcpListener, handler: Arc<dyn Handler>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let foreign_seen = Arc::new(AtomicBool::new(false));
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "cannot accept peers' connections; trying on");
                shared.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(handshake) = Arc::clone(&handshakes).try_acquire_owned() else {
            tracing::debug!("connection closed: {HANDSHAKES_MAX} others have not said who they are yet");
            continue;
        };
        let connection =
            serve(Arc::clone(&shared), socket, Arc::clone(&handler), handshake, Arc::clone(&foreign_seen));
        shared.spawn.spawn("peer-connection", Box::pin(connection));
    }
}

async fn serve(
    shared: Arc<Shared>,
    socket: TcpStream,
    handler: Arc<dyn Handler>,
    handshake: OwnedSemaphorePermit,
    foreign_seen: Arc<AtomicBool>,
) {
    let greeted = within(&shared.clock, HANDSHAKE_PATIENCE, greet(&shared, socket)).await;
    drop(handshake);
    match greeted.unwrap_or(Err(Refused::TimedOut)) {
        Ok((from, inbound, channel)) => {
            let error = carry(&shared, from, &inbound, channel, handler).await;
            tracing::debug!(%from, error = error.as_ref().map(tracing::field::display), "connection of peer ended");
        }
        // Said once aloud: a foreign cluster at this address is a mistake in somebody's configuration, which goes on
        // dialing until it is corrected.
        Err(error @ Refused::OtherCluster { .. }) if !foreign_seen.swap(true, Ordering::Relaxed) => {
            tracing::warn!(%error, "connection refused");
        }
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "connection refused");
        }
    }
}

async fn greet(shared: &Shared, socket: TcpStream) -> Result<(NodeId, Arc<Inbound>, Channel), Refused> {
    prepare(&socket)?;
    let mut channel = shared.transport.accept(socket).await?;
    let hello = exchange_hello(&mut channel.reader, &mut channel.writer, shared.hello()).await?;
    if hello.cluster != shared.cluster {
        return Err(Refused::OtherCluster { found: hello.cluster });
    }
    if let Some(proven) = channel.proven
        && proven != hello.node
    {
        return Err(Refused::NotWhoItSays { said: hello.node, proven });
    }
    let inbound = shared.inbound(hello.node).ok_or(Refused::NotAPeer { found: hello.node })?;
    Ok((hello.node, inbound, channel))
}

/// Serves a connection until it ends (`Some`) or a later one of the same peer takes over.
async fn carry(
    shared: &Arc<Shared>,
    from: NodeId,
    inbound: &Inbound,
    channel: Channel,
    handler: Arc<dyn Handler>,
) -> Option<StreamError> {
    let superseded = inbound.take_over();
    let answers = Arc::new(Answers::default());
    let reading = pin!(read_requests(shared, from, inbound, channel.reader, handler, &answers));
    let writing = pin!(write_answers(shared, from, channel.writer, &answers));
    let ended = match select(pin!(superseded.notified()), select(reading, writing)).await {
        Either::Left(_) => None,
        Either::Right((Either::Left((ended, _)) | Either::Right((ended, _)), _)) => match ended {
            Err(error) => Some(error),
            Ok(never) => match never {},
        },
    };
    answers.close();
    ended
}

async fn read_requests(
    shared: &Arc<Shared>,
    from: NodeId,
    inbound: &Inbound,
    reader: impl AsyncRead + Unpin,
    handler: Arc<dyn Handler>,
    answers: &Arc<Answers>,
) -> Result<std::convert::Infallible, StreamError> {
    let mut reader = BufReader::with_capacity(READ_BUFFER_LEN_BYTES, reader);
    loop {
        let header = read_header(&mut reader, FrameKind::Request).await?;
        // Room first, memory then: a peer that sends more than is allowed waits in its own socket.
        let permit = Arc::clone(&inbound.requests).acquire_owned().await.expect("never closed");
        let len_bytes = header.head_len_bytes + header.payload_len_bytes;
        let bytes =
            Arc::clone(&inbound.request_bytes).acquire_many_owned(len_bytes).await.expect("never closed");
        let request = read_body(&mut reader, &header).await?;
        let patience = std::time::Duration::from_millis(u64::from(header.deadline_ms));
        let deadline = Deadline::after(shared.clock.now(), patience);
        let (handler, answers) = (Arc::clone(&handler), Arc::clone(answers));
        // On its own, and to its end also where the connection breaks: a handler may be between two steps that belong
        // together.
        shared.spawn.spawn(
            "peer-request",
            Box::pin(async move {
                let frame = handler.handle(from, request).await;
                drop(bytes);
                answers.push(Answer { id: header.request_id, frame, deadline, _permit: permit });
            }),
        );
    }
}

async fn write_answers(
    shared: &Shared,
    from: NodeId,
    mut writer: impl AsyncWrite + Unpin,
    answers: &Answers,
) -> Result<std::convert::Infallible, StreamError> {
    let mut batch = Batch::default();
    loop {
        answers.wanted().await;
        while !batch.is_full()
            && let Some(answer) = answers.next()
        {
            if answer.deadline.at() < shared.clock.now() {
                continue;
            }
            if let Err(error) = batch.push(FrameKind::Response, answer.id, 0, answer.frame) {
                // A broken rule of this node's own handler; the caller's deadline ends its wait.
                tracing::error!(%from, %error, "answer dropped");
            }
        }
        batch.write_to(&mut writer).await?;
    }
}

/// Answers that wait to be sent over one connection. As many as there are permits at most, since each brings its own.
#[derive(Default)]
struct Answers {
    state: Mutex<AnswersState>,
    wanted: Notify,
}

#[derive(Default)]
struct AnswersState {
    closed: bool,
    to_send: VecDeque<Answer>,
}

struct Answer {
    id: u64,
    frame: Frame,
    deadline: Deadline,
    _permit: OwnedSemaphorePermit,
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, AnswersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, answer: Answer) {
        let mut state = self.lock();
        if !state.closed {
            state.to_send.push_back(answer);
            drop(state);
            self.wanted.notify_one();
        }
    }

    async fn wanted(&self) {
        while self.lock().to_send.is_empty() {
            self.wanted.notified().await;
        }
    }

    fn next(&self) -> Option<Answer> {
        self.lock().to_send.pop_front()
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.to_send.clear();
    }
}
