//! Frames and hellos on a stream of bytes.

use crate::limits::{WRITE_BATCH_LEN_BYTES, WRITE_SLICES_MAX};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use strongroom_format::FormatError;
use strongroom_format::wire::{EnvelopeHeader, Frame, FrameKind, Hello};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The socket said so; an end of the stream included.
    #[error("connection")]
    Io(#[from] io::Error),
    /// The peer sent what is no frame.
    #[error("peer sent garbage")]
    Format(#[from] FormatError),
    /// The peer asked where it should answer, or answered where it should ask.
    #[error("peer sent a {0:?} in the wrong direction")]
    WrongKind(FrameKind),
}

/// Reads a header and checks that it is of `kind`.
pub(super) async fn read_header(
    reader: &mut (impl AsyncRead + Unpin),
    kind: FrameKind,
) -> Result<EnvelopeHeader, StreamError> {
    let mut bytes = [0; EnvelopeHeader::LEN_BYTES];
    reader.read_exact(&mut bytes).await?;
    let header = EnvelopeHeader::decode(&bytes)?;
    if header.kind == kind { Ok(header) } else { Err(StreamError::WrongKind(header.kind)) }
}

/// Reads what belongs to `header` and checks it.
pub(super) async fn read_body(
    reader: &mut (impl AsyncRead + Unpin),
    header: &EnvelopeHeader,
) -> Result<Frame, StreamError> {
    let head = read_bytes(reader, header.head_len_bytes as usize).await?;
    let payload = read_bytes(reader, header.payload_len_bytes as usize).await?;
    let frame = Frame { head, payload };
    header.check(&frame)?;
    Ok(frame)
}

/// Reads `len` bytes, which was checked against the wire's bounds, without filling the memory with zeros first.
async fn read_bytes(reader: &mut (impl AsyncRead + Unpin), len: usize) -> io::Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(len);
    while bytes.len() < len {
        let missing = len - bytes.len();
        if reader.read_buf(&mut (&mut bytes).limit(missing)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes.freeze())
}

/// Says who is here and hears who is there.
pub(super) async fn exchange_hello(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    own: Hello,
) -> Result<Hello, StreamError> {
    writer.write_all(&own.encode()).await?;
    writer.flush().await?;
    let mut bytes = [0; Hello::LEN_BYTES];
    reader.read_exact(&mut bytes).await?;
    Ok(Hello::decode(&bytes)?)
}

/// Frames gathered for one write. Heads and payloads are handed to the socket where they lie.
#[derive(Default)]
pub(super) struct Batch {
    chunks: VecDeque<Bytes>,
    len_bytes: usize,
}

impl Batch {
    /// Adds a frame. `Err` gives the reason why it is none; the batch is as before.
    pub(super) fn push(
        &mut self,
        kind: FrameKind,
        request_id: u64,
        deadline_ms: u32,
        frame: Frame,
    ) -> Result<(), FormatError> {
        let header = EnvelopeHeader::for_frame(kind, request_id, deadline_ms, &frame)?;
        for chunk in [Bytes::copy_from_slice(&header.encode()), frame.head, frame.payload] {
            self.len_bytes += chunk.len();
            if !chunk.is_empty() {
                self.chunks.push_back(chunk);
            }
        }
        Ok(())
    }

    /// Whether it is worth a write of its own by now.
    pub(super) fn is_full(&self) -> bool {
        self.len_bytes >= WRITE_BATCH_LEN_BYTES
    }

    /// Writes everything and is empty then.
    pub(super) async fn write_to(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while !self.chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            let written = writer.write_vectored(&slices[..count]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.consume(written);
        }
        writer.flush().await
    }

    fn consume(&mut self, mut written: usize) {
        self.len_bytes -= written;
        while written > 0 {
            let front = self.chunks.front_mut().expect("no more is written than was given");
            if front.len() > written {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.chunks.pop_front();
        }
    }
}
