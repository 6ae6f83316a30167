//! What can be read of a fragment: its bytes as far as their holder vouches for them.

use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// The readable bytes of one fragment, in pieces without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    offset_bytes: u32,
    len_bytes: u32,
    /// `Err` says in words why it cannot be read.
    bytes: Result<Bytes, String>,
}

impl Content {
    /// Adds what came of reading the next `len_bytes`.
    pub fn push(&mut self, len_bytes: u32, bytes: Result<Bytes, String>) {
        assert!(bytes.as_ref().is_ok_and(|bytes| bytes.len() == len_bytes as usize) || bytes.is_err());
        self.pieces.push(Piece { offset_bytes: self.len_bytes(), len_bytes, bytes });
    }

    /// Bytes in all.
    pub fn len_bytes(&self) -> u32 {
        self.pieces.last().map_or(0, |piece| piece.offset_bytes + piece.len_bytes)
    }

    /// The bytes of `range`; `None` where any of them cannot be read.
    pub fn range(&self, range: Range<u32>) -> Option<Bytes> {
        if range.end > self.len_bytes() || range.start > range.end {
            return None;
        }
        let mut parts: Vec<Bytes> = Vec::new();
        for piece in &self.pieces {
            let (start, end) = (piece.offset_bytes, piece.offset_bytes + piece.len_bytes);
            if end <= range.start || start >= range.end {
                continue;
            }
            let from = range.start.max(start) - start;
            let to = range.end.min(end) - start;
            parts.push(piece.bytes.as_ref().ok()?.slice(from as usize..to as usize));
        }
        Some(match parts.len() {
            1 => parts.remove(0),
            _ => parts
                .into_iter()
                .fold(BytesMut::new(), |mut all, part| {
                    all.extend_from_slice(&part);
                    all
                })
                .freeze(),
        })
    }

    /// Whether all of it can be read.
    pub fn is_clean(&self) -> bool {
        self.pieces.iter().all(|piece| piece.bytes.is_ok())
    }

    /// What is wrong with it first.
    pub fn fault(&self) -> Option<String> {
        self.pieces.iter().find_map(|piece| {
            piece.bytes.as_ref().err().map(|why| format!("byte {}: {why}", piece.offset_bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Content;
    use bytes::Bytes;

    #[test]
    fn ranges_are_whole_or_not_there() {
        let mut content = Content::default();
        content.push(4, Ok(Bytes::from_static(b"abcd")));
        content.push(4, Ok(Bytes::from_static(b"efgh")));
        assert!(content.is_clean());
        content.push(4, Err("rotten".to_owned()));
        assert_eq!(content.range(1..3).unwrap(), "bc");
        assert_eq!(content.range(2..8).unwrap(), "cdefgh");
        assert_eq!(content.range(7..9), None);
        assert_eq!(content.range(8..13), None);
        assert_eq!(content.range(3..3).unwrap(), "");
        assert_eq!((content.is_clean(), content.fault().unwrap().as_str()), (false, "byte 8: rotten"));
    }
}
