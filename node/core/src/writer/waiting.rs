//! Needles that wait for a row, and how a row is made of them.

use super::event::{Needle, Ticket};
use crate::limits::NEEDLE_ALIGN_BYTES;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use strongroom_types::Instant;
use strongroom_types::units::round_up_to_block;

/// A needle that waits, perhaps not for the first time.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) needle: Needle,
    /// Rows that it was in already.
    pub(super) tries: u8,
    /// When the writer took it.
    pub(super) since: Instant,
}

/// A needle's place in a row.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) ticket: Ticket,
    /// From the row's first byte.
    pub(super) offset_bytes: u32,
    pub(super) len_bytes: u32,
    pub(super) header_crc32c: u32,
    pub(super) plain_len_bytes: u32,
    /// Rows that it was in, this one included.
    pub(super) tries: u8,
    pub(super) since: Instant,
}

impl Part {
    /// The needle again, out of its row's bytes.
    pub(super) fn into_waiting(self, payload: &Bytes) -> Waiting {
        let first = self.offset_bytes as usize;
        let needle = Needle {
            ticket: self.ticket,
            bytes: payload.slice(first..first + self.len_bytes as usize),
            header_crc32c: self.header_crc32c,
            plain_len_bytes: self.plain_len_bytes,
        };
        Waiting { needle, tries: self.tries, since: self.since }
    }
}

/// The queue. Its bound is its owner's: needles that come back from a failed row are above it, new ones are not.
#[derive(Debug, Default)]
pub(super) struct WaitingQueue {
    queue: VecDeque<Waiting>,
    len_bytes: u64,
}

/// Bytes that a needle of `len_bytes` takes in a row. Lengths were checked against a row's before.
pub(super) fn padded(len_bytes: usize) -> u32 {
    u32::try_from(len_bytes.next_multiple_of(NEEDLE_ALIGN_BYTES as usize)).expect("a needle fits into a row")
}

impl WaitingQueue {
    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    pub(super) fn front(&self) -> Option<&Waiting> {
        self.queue.front()
    }

    pub(super) fn push_back(&mut self, waiting: Waiting) {
        self.len_bytes += u64::from(padded(waiting.needle.bytes.len()));
        self.queue.push_back(waiting);
    }

    pub(super) fn push_front(&mut self, waiting: Waiting) {
        self.len_bytes += u64::from(padded(waiting.needle.bytes.len()));
        self.queue.push_front(waiting);
    }

    pub(super) fn pop_front(&mut self) -> Option<Waiting> {
        let waiting = self.queue.pop_front()?;
        self.len_bytes -= u64::from(padded(waiting.needle.bytes.len()));
        Some(waiting)
    }

    /// Bytes of the first needle in a row.
    pub(super) fn front_padded_len_bytes(&self) -> Option<u32> {
        self.front().map(|waiting| padded(waiting.needle.bytes.len()))
    }

    /// A row of at most `len_bytes_max` bytes (whole blocks) out of the first needles, zero-padded to whole blocks. The first one
    /// is known to fit.
    pub(super) fn take_row(&mut self, len_bytes_max: u32) -> (Bytes, Vec<Part>) {
        let (count, len_bytes) = self.measure(len_bytes_max);
        assert!(count > 0, "the first needle fits");
        let row_len_bytes = round_up_to_block(len_bytes) as usize;
        let mut payload = BytesMut::with_capacity(row_len_bytes);
        let mut parts = Vec::with_capacity(count);
        for _ in 0..count {
            let Waiting { needle, tries, since } = self.pop_front().expect("measured");
            let offset_bytes = u32::try_from(payload.len()).expect("a row is below 4 GiB");
            let len_bytes = u32::try_from(needle.bytes.len()).expect("a needle fits into a row");
            payload.extend_from_slice(&needle.bytes);
            payload.resize(offset_bytes as usize + padded(needle.bytes.len()) as usize, 0);
            parts.push(Part {
                ticket: needle.ticket,
                offset_bytes,
                len_bytes,
                header_crc32c: needle.header_crc32c,
                plain_len_bytes: needle.plain_len_bytes,
                tries: tries.saturating_add(1),
                since,
            });
        }
        payload.resize(row_len_bytes, 0);
        (payload.freeze(), parts)
    }

    fn measure(&self, len_bytes_max: u32) -> (usize, u32) {
        let mut len_bytes = 0_u32;
        let mut count = 0;
        for waiting in &self.queue {
            let padded = padded(waiting.needle.bytes.len());
            if padded > len_bytes_max - len_bytes {
                break;
            }
            len_bytes += padded;
            count += 1;
        }
        (count, len_bytes)
    }
}
