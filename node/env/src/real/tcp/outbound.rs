//! The link to a peer: dials when a call waits, sends requests, hands answers to their calls, and dials again.

use super::calls::Calls;
use super::stream::{Batch, StreamError, exchange_hello, read_body, read_header};
use super::transport::{Channel, prepare};
use super::{Shared, within};
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN, DIAL_PATIENCE, READ_BUFFER_LEN_BYTES};
use futures::future::{Either, select};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use strongroom_format::wire::FrameKind;
use strongroom_types::{ClusterId, NodeId};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;

/// Why there is no connection to a peer.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("not within {DIAL_PATIENCE:?}")]
    TimedOut,
    #[error("not reached")]
    Socket(#[from] std::io::Error),
    #[error("no hello")]
    Hello(#[from] StreamError),
    #[error("it belongs to {found}")]
    OtherCluster { found: ClusterId },
    #[error("{found} answers there")]
    OtherNode { found: NodeId },
}

/// Keeps the link to one peer for as long as the node lives. Reading and writing are two futures of this one task: the
/// end of either drops both, so that no half of a dead connection can be left behind.
pub(super) async fn keep(shared: Arc<Shared>, to: NodeId, calls: Arc<Calls>) {
    let mut pause = BACKOFF_MIN;
    let mut warned = false;
    let mut failed = 0_usize;
    loop {
        calls.wanted().await;
        match within(&shared.clock, DIAL_PATIENCE, dial(&shared, to, failed))
            .await
            .unwrap_or(Err(DialError::TimedOut))
        {
            Ok(channel) => {
                warned = false;
                let error = carry(&shared, &calls, channel).await;
                tracing::debug!(%to, error = &error as &dyn std::error::Error, "connection to peer ended");
            }
            Err(error) if warned => {
                failed = failed.wrapping_add(1);
                tracing::debug!(%to, error = &error as &dyn std::error::Error, "peer not reached");
            }
            Err(error) => {
                warned = true;
                failed = failed.wrapping_add(1);
                tracing::warn!(%to, error = &error as &dyn std::error::Error, "peer not reached; trying on");
            }
        }
        if calls.fail_all() {
            pause = BACKOFF_MIN;
        } else {
            shared.clock.sleep(jittered(pause, shared.rng.u64())).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
        calls.reopen();
    }
}

/// Between three quarters and five quarters of `pause`, so that many nodes do not dial a returning one in step.
fn jittered(pause: Duration, random: u64) -> Duration {
    let parts = 768 + u32::try_from(random % 512).expect("below 512");
    pause * parts / 1024
}

/// Each dial in vain is followed by one of the next address, where there are several; the one that answered stays the first to be dialed again.
async fn dial(shared: &Shared, to: NodeId, failed: usize) -> Result<Channel, DialError> {
    let address = shared
        .address(to, failed)
        .ok_or(std::io::ErrorKind::AddrNotAvailable)
        .map_err(std::io::Error::from)?;
    let socket = TcpStream::connect(address).await?;
    prepare(&socket)?;
    let mut channel = shared.transport.connect(to, socket).await?;
    let hello = exchange_hello(&mut channel.reader, &mut channel.writer, shared.hello()).await?;
    if hello.cluster != shared.cluster {
        return Err(DialError::OtherCluster { found: hello.cluster });
    }
    if hello.node != to || channel.proven.is_some_and(|proven| proven != to) {
        return Err(DialError::OtherNode { found: channel.proven.unwrap_or(hello.node) });
    }
    Ok(channel)
}

/// Carries calls over a connection until it ends.
async fn carry(shared: &Shared, calls: &Calls, channel: Channel) -> StreamError {
    let reading = pin!(read_answers(calls, channel.reader));
    let writing = pin!(write_requests(shared, calls, channel.writer));
    let ended = match select(reading, writing).await {
        Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
    };
    match ended {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

async fn read_answers(
    calls: &Calls,
    reader: impl AsyncRead + Unpin,
) -> Result<std::convert::Infallible, StreamError> {
    let mut reader = BufReader::with_capacity(READ_BUFFER_LEN_BYTES, reader);
    loop {
        let header = read_header(&mut reader, FrameKind::Response).await?;
        let answer = read_body(&mut reader, &header).await?;
        calls.answer(header.request_id, Ok(answer));
    }
}

async fn write_requests(
    shared: &Shared,
    calls: &Calls,
    mut writer: impl AsyncWrite + Unpin,
) -> Result<std::convert::Infallible, StreamError> {
    let mut batch = Batch::default();
    loop {
        calls.wanted().await;
        while !batch.is_full()
            && let Some(outgoing) = calls.next_to_send()
        {
            let patience = outgoing.deadline.remaining(shared.clock.now());
            let deadline_ms = u32::try_from(patience.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
            batch.push(FrameKind::Request, outgoing.id, deadline_ms, outgoing.request)?;
        }
        batch.write_to(&mut writer).await?;
    }
}
