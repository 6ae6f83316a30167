//! A snapshot as a stream of bytes, neither side of which holds it in memory: the sender reads it from a view of the store as
//! it goes, the receiver writes it into a generation of the state that is not yet current.
//!
//! ```text
//! magic "SRSNAP01"
//! record: key length u32 BE, value length u32 BE, CRC32C of all else in the record u32 BE, key, value    (any number)
//! end:    0xffffffff, count of records u64 BE, CRC32C of the records' CRCs in order u32 BE
//! ```
//!
//! openraft's chunked transport seeks: to the end once (for the length), and back by one piece to send it again. Reads here
//! touch the store on the runtime's thread, a piece at a time.

use super::view::{SnapshotView, View};
use crate::codec::seal;
use crate::damage::Damage;
use crate::kv::{Batch, OrderedKv};
use crate::limits::{
    SCAN_KEYS, SNAPSHOT_BATCH_LEN_BYTES, SNAPSHOT_REWIND_LEN_BYTES, STATE_KEY_LEN_BYTES_MAX,
    STATE_VALUE_LEN_BYTES_MAX,
};
use bytes::{Buf, BufMut, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

const MAGIC: &[u8; 8] = b"SRSNAP01";
const RECORD_HEADER_LEN_BYTES: usize = 12;
const END_MARK: u32 = u32::MAX;
const END_LEN_BYTES: usize = 4 + 8 + 4;

/// Why a received snapshot is refused. Nothing of it becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The stream does not begin as a snapshot does.
    #[error("not a snapshot of this version")]
    Magic,
    /// A record is longer than any record may be.
    #[error("snapshot record with a key of {key_len_bytes} and a value of {value_len_bytes} bytes")]
    RecordLength {
        /// Bytes of its key.
        key_len_bytes: u32,
        /// Bytes of its value.
        value_len_bytes: u32,
    },
    /// A record does not match its checksum.
    #[error("snapshot record at byte {offset_bytes} does not match its checksum")]
    Checksum {
        /// Where it begins in the stream.
        offset_bytes: u64,
    },
    /// Count or checksum of all records differ, or bytes follow the end.
    #[error("snapshot does not end as announced")]
    End,
    /// The stream is shorter than the snapshot.
    #[error("snapshot is incomplete")]
    Incomplete,
    /// A piece came before its predecessor.
    #[error("snapshot piece at byte {offset_bytes}, expected at most {expected}")]
    Gap {
        /// Where the piece begins.
        offset_bytes: u64,
        /// What has come so far.
        expected: u64,
    },
    /// The stream is used in the wrong direction.
    #[error("snapshot stream used in the wrong direction")]
    Direction,
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// A snapshot on its way out or in.
pub struct SnapshotStream {
    side: Side,
}

enum Side {
    Out(Box<Outgoing>),
    In(Box<Incoming>),
}

impl SnapshotStream {
    /// Reads the state of `view`.
    pub(crate) fn outgoing(view: SnapshotView, damage: Damage) -> Self {
        Self { side: Side::Out(Box::new(Outgoing::new(view, damage))) }
    }

    /// Writes below `prefix`, the prefix of staged `generation`.
    pub(crate) fn incoming(kv: Arc<dyn OrderedKv>, generation: u32, prefix: Vec<u8>) -> Self {
        Self { side: Side::In(Box::new(Incoming::new(kv, generation, prefix))) }
    }

    /// The staged generation that was received, once it is whole.
    pub(crate) fn received(&mut self) -> Result<u32, io::Error> {
        match &mut self.side {
            Side::In(incoming) => incoming.finish(),
            Side::Out(_) => Err(StreamError::Direction.into()),
        }
    }

    pub(crate) fn is_outgoing(&self) -> bool {
        matches!(self.side, Side::Out(_))
    }

    /// Sends an outgoing stream into an incoming one on the same node.
    pub(crate) fn pump(&mut self, target: &mut Self) -> io::Result<()> {
        let (Side::Out(outgoing), Side::In(incoming)) = (&mut self.side, &mut target.side) else {
            return Err(StreamError::Direction.into());
        };
        outgoing.seek(0);
        loop {
            let mut piece = vec![0; SNAPSHOT_BATCH_LEN_BYTES];
            let len = outgoing.read(&mut piece)?;
            if len == 0 {
                return Ok(());
            }
            incoming.write(&piece[..len])?;
        }
    }
}

struct Outgoing {
    view: SnapshotView,
    damage: Damage,
    /// Encoded bytes from `buffered_from` on.
    buffer: BytesMut,
    buffered_from: u64,
    position: u64,
    /// The next key to encode; `None` once the end is encoded.
    next: Option<Vec<u8>>,
    count: u64,
    crc_of_crcs: u32,
    len: Option<u64>,
}

impl Outgoing {
    fn new(view: SnapshotView, damage: Damage) -> Self {
        let mut this = Self {
            view,
            damage,
            buffer: BytesMut::new(),
            buffered_from: 0,
            position: 0,
            next: None,
            count: 0,
            crc_of_crcs: 0,
            len: None,
        };
        this.restart();
        this
    }

    fn restart(&mut self) {
        self.buffer.clear();
        self.buffer.put_slice(MAGIC);
        self.buffered_from = 0;
        self.next = Some(Vec::new());
        (self.count, self.crc_of_crcs) = (0, 0);
    }

    fn buffered_to(&self) -> u64 {
        self.buffered_from + self.buffer.len() as u64
    }

    /// Encodes the next keys; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(start) = &self.next else { return Ok(false) };
        // Tables are ASCII letters.
        let page = self.view.range(start, &[0xff], SCAN_KEYS).map_err(|error| {
            self.damage.stops(&error);
            io::Error::other(error)
        })?;
        match page.last() {
            Some((last, _)) => self.next = Some([&last[..], &[0]].concat()),
            None => {
                self.buffer.put_u32(END_MARK);
                self.buffer.put_u64(self.count);
                self.buffer.put_u32(self.crc_of_crcs);
                self.next = None;
            }
        }
        for (key, value) in page {
            let crc = record_crc32c(&key, &value);
            self.buffer.put_u32(key.len() as u32);
            self.buffer.put_u32(value.len() as u32);
            self.buffer.put_u32(crc);
            self.buffer.put_slice(&key);
            self.buffer.put_slice(&value);
            self.count += 1;
            self.crc_of_crcs = crc32c::crc32c_append(self.crc_of_crcs, &crc.to_be_bytes());
        }
        Ok(true)
    }

    fn len(&mut self) -> io::Result<u64> {
        if let Some(len) = self.len {
            return Ok(len);
        }
        let mut measure = Self::new(self.view.clone(), self.damage.clone());
        let mut len = 0;
        loop {
            len += measure.buffer.len() as u64;
            measure.buffer.clear();
            if !measure.fill()? {
                self.len = Some(len);
                return Ok(len);
            }
        }
    }

    fn seek(&mut self, position: u64) {
        self.position = position;
        if position < self.buffered_from {
            self.restart();
        }
    }

    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.buffered_to() <= self.position {
            self.drop_behind();
            if !self.fill()? {
                return Ok(0);
            }
        }
        let from = (self.position - self.buffered_from) as usize;
        let available = &self.buffer[from..];
        let len = available.len().min(target.len());
        target[..len].copy_from_slice(&available[..len]);
        self.position += len as u64;
        Ok(len)
    }

    fn drop_behind(&mut self) {
        let behind = self.position.min(self.buffered_to()) - self.buffered_from;
        let excess = (behind as usize).saturating_sub(SNAPSHOT_REWIND_LEN_BYTES);
        self.buffer.advance(excess);
        self.buffered_from += excess as u64;
    }
}

fn record_crc32c(key: &[u8], value: &[u8]) -> u32 {
    let lengths = [(key.len() as u32).to_be_bytes(), (value.len() as u32).to_be_bytes()].concat();
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&lengths), key), value)
}

struct Incoming {
    kv: Arc<dyn OrderedKv>,
    generation: u32,
    prefix: Vec<u8>,
    /// Received and not yet parsed.
    pending: BytesMut,
    /// Bytes of the stream before `pending`.
    parsed: u64,
    /// Where the next write goes.
    position: u64,
    batch: Batch,
    batch_len_bytes: usize,
    count: u64,
    crc_of_crcs: u32,
    ended: bool,
    failed: Option<StreamError>,
}

impl Incoming {
    fn new(kv: Arc<dyn OrderedKv>, generation: u32, prefix: Vec<u8>) -> Self {
        Self {
            kv,
            generation,
            prefix,
            pending: BytesMut::new(),
            parsed: 0,
            position: 0,
            batch: Batch::default(),
            batch_len_bytes: 0,
            count: 0,
            crc_of_crcs: 0,
            ended: false,
            failed: None,
        }
    }

    fn received(&self) -> u64 {
        self.parsed + self.pending.len() as u64
    }

    /// Takes bytes at the present position; those that came before already are passed over.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(failed) = self.failed {
            if self.position != 0 {
                return Err(failed.into());
            }
            // The sender begins again. Records that were good are written once more, with the same bytes.
            *self = Self::new(Arc::clone(&self.kv), self.generation, std::mem::take(&mut self.prefix));
        }
        let expected = self.received();
        if self.position > expected {
            return Err(StreamError::Gap { offset_bytes: self.position, expected }.into());
        }
        let known = usize::try_from(expected - self.position).unwrap_or(usize::MAX).min(bytes.len());
        self.pending.put_slice(&bytes[known..]);
        self.position += bytes.len() as u64;
        match self.parse() {
            Ok(()) if self.batch_len_bytes >= SNAPSHOT_BATCH_LEN_BYTES => self.flush(),
            Ok(()) => Ok(()),
            Err(failed) => {
                self.failed = Some(failed);
                Err(failed.into())
            }
        }
    }

    fn parse(&mut self) -> Result<(), StreamError> {
        if self.parsed == 0 {
            if self.pending.len() < MAGIC.len() {
                return Ok(());
            }
            if self.pending[..MAGIC.len()] != MAGIC[..] {
                return Err(StreamError::Magic);
            }
            self.take(MAGIC.len());
        }
        loop {
            if self.ended {
                return if self.pending.is_empty() { Ok(()) } else { Err(StreamError::End) };
            }
            let mut header = &self.pending[..];
            if header.len() < RECORD_HEADER_LEN_BYTES {
                return Ok(());
            }
            let key_len_bytes = header.get_u32();
            if key_len_bytes == END_MARK {
                if self.pending.len() < END_LEN_BYTES {
                    return Ok(());
                }
                if (header.get_u64(), header.get_u32()) != (self.count, self.crc_of_crcs) {
                    return Err(StreamError::End);
                }
                self.take(END_LEN_BYTES);
                self.ended = true;
                continue;
            }
            let value_len_bytes = header.get_u32();
            let crc = header.get_u32();
            let (key_len, value_len) = (key_len_bytes as usize, value_len_bytes as usize);
            if key_len > STATE_KEY_LEN_BYTES_MAX || value_len > STATE_VALUE_LEN_BYTES_MAX {
                return Err(StreamError::RecordLength { key_len_bytes, value_len_bytes });
            }
            if header.len() < key_len + value_len {
                return Ok(());
            }
            let (key, value) = header[..key_len + value_len].split_at(key_len);
            if record_crc32c(key, value) != crc {
                return Err(StreamError::Checksum { offset_bytes: self.parsed });
            }
            self.batch_len_bytes += key_len + value_len;
            let key = [&self.prefix[..], key].concat();
            let value = seal(&key, value);
            self.batch.put(key, value);
            self.count += 1;
            self.crc_of_crcs = crc32c::crc32c_append(self.crc_of_crcs, &crc.to_be_bytes());
            self.take(RECORD_HEADER_LEN_BYTES + key_len + value_len);
        }
    }

    fn take(&mut self, len_bytes: usize) {
        self.pending.advance(len_bytes);
        self.parsed += len_bytes as u64;
    }

    fn flush(&mut self) -> io::Result<()> {
        self.batch_len_bytes = 0;
        self.kv.apply(std::mem::take(&mut self.batch)).map_err(io::Error::other)
    }

    fn finish(&mut self) -> io::Result<u32> {
        if let Some(failed) = self.failed {
            return Err(failed.into());
        }
        if !self.ended {
            return Err(StreamError::Incomplete.into());
        }
        self.flush()?;
        Ok(self.generation)
    }
}

impl AsyncRead for SnapshotStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Side::Out(outgoing) = &mut self.side else {
            return Poll::Ready(Err(StreamError::Direction.into()));
        };
        Poll::Ready(outgoing.read(target.initialize_unfilled()).map(|len| target.advance(len)))
    }
}

impl AsyncWrite for SnapshotStream {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Side::In(incoming) = &mut self.side else {
            return Poll::Ready(Err(StreamError::Direction.into()));
        };
        Poll::Ready(incoming.write(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for SnapshotStream {
    fn start_seek(mut self: Pin<&mut Self>, to: io::SeekFrom) -> io::Result<()> {
        match (&mut self.side, to) {
            (Side::Out(outgoing), io::SeekFrom::Start(position)) => outgoing.seek(position),
            (Side::Out(outgoing), io::SeekFrom::End(0)) => {
                let len = outgoing.len()?;
                outgoing.position = len;
            }
            (Side::In(incoming), io::SeekFrom::Start(position)) => incoming.position = position,
            (Side::Out(_) | Side::In(_), io::SeekFrom::Current(0)) => {}
            (Side::Out(_) | Side::In(_), _) => return Err(StreamError::Direction.into()),
        }
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(match &self.side {
            Side::Out(outgoing) => outgoing.position,
            Side::In(incoming) => incoming.position,
        }))
    }
}

#[cfg(test)]
mod tests;
