//! The aws-chunked form, taken apart as it comes: `hex-size[;chunk-signature=…]\r\n data \r\n … 0[;…]\r\n trailers \r\n`.
//!
//! A pure state machine: bytes in, pieces of data and marks out. It holds at most one head line or the trailers, never
//! data, so a chunk of any size streams through. Verifying signatures is the reader's part.
//!
//! minio-go (restic, among others) ends a trailer with `\n\r\n` in place of `\r\n`; both are taken.

use crate::limits::{CHUNK_HEAD_LEN_BYTES_MAX, TRAILERS_LEN_BYTES_MAX, TRAILERS_MAX};
use bytes::{Buf as _, Bytes};

/// Why a body is not aws-chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A chunk's head line is not `hex-size[;chunk-signature=64 hex]`, or is too long.
    #[error("a chunk's head line is malformed")]
    Head,
    /// A chunk's data is not followed by a line end.
    #[error("a chunk's data is not followed by a line end")]
    DataEnd,
    /// A trailer is not `name:value`, or there are too many.
    #[error("the trailers are malformed or too long")]
    Trailer,
    /// Bytes after the end.
    #[error("bytes after the last chunk")]
    AfterEnd,
}

/// What the decoder found next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A chunk begins; `size` 0 is the last one.
    ChunkStart {
        /// Bytes of its data.
        size: u64,
        /// Its signature as the client gave it.
        signature: Option<[u8; 32]>,
    },
    /// Bytes of its data.
    Data(Bytes),
    /// All of its data has come.
    ChunkEnd,
    /// The trailers, in order, names in lower case; the body is complete.
    End(Vec<(String, String)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Data { remaining: u64 },
    DataEnd,
    Trailers,
    End,
}

/// Takes an aws-chunked body apart.
#[derive(Debug)]
pub struct ChunkDecoder {
    state: State,
    line: Vec<u8>,
    trailers: Vec<(String, String)>,
    trailers_len_bytes: usize,
    /// The last trailer ended in a bare `\n`: an `\r\n` that follows belongs to it.
    bare: Bare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bare {
    No,
    Expected,
    Taken,
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            trailers: Vec::new(),
            trailers_len_bytes: 0,
            bare: Bare::No,
        }
    }
}

impl ChunkDecoder {
    /// Takes from `input` what makes the next mark; `None` once all of `input` is taken. Data is at most
    /// `piece_len_bytes_max` at a time.
    ///
    /// # Errors
    /// `ChunkError`, after which the decoder must not be used again.
    pub fn next(
        &mut self,
        input: &mut Bytes,
        piece_len_bytes_max: usize,
    ) -> Result<Option<Mark>, ChunkError> {
        loop {
            match self.state {
                State::Head => {
                    match self.take_line(input, CHUNK_HEAD_LEN_BYTES_MAX, ChunkError::Head)? {
                        None => return Ok(None),
                        Some(LineEnd::CrLf) => {}
                        Some(LineEnd::Lf) => return Err(ChunkError::Head),
                    }
                    let (size, signature) = parse_head(&self.line)?;
                    self.line.clear();
                    self.state = if size == 0 { State::Trailers } else { State::Data { remaining: size } };
                    return Ok(Some(Mark::ChunkStart { size, signature }));
                }
                State::Data { remaining: 0 } => {
                    self.state = State::DataEnd;
                    return Ok(Some(Mark::ChunkEnd));
                }
                State::Data { remaining } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let bounded = input.len().min(piece_len_bytes_max);
                    let take = usize::try_from(remaining).unwrap_or(bounded).min(bounded);
                    let data = input.split_to(take);
                    self.state = State::Data { remaining: remaining - data.len() as u64 };
                    return Ok(Some(Mark::Data(data)));
                }
                State::DataEnd => {
                    match self.take_line(input, 0, ChunkError::DataEnd)? {
                        None => return Ok(None),
                        Some(LineEnd::CrLf) => {}
                        Some(LineEnd::Lf) => return Err(ChunkError::DataEnd),
                    }
                    self.state = State::Head;
                }
                State::Trailers => {
                    let room = TRAILERS_LEN_BYTES_MAX - self.trailers_len_bytes;
                    let Some(end) = self.take_line(input, room, ChunkError::Trailer)? else {
                        return Ok(None);
                    };
                    if self.line.is_empty() {
                        if end == LineEnd::Lf {
                            return Err(ChunkError::Trailer);
                        }
                        if self.bare == Bare::Expected {
                            self.bare = Bare::Taken;
                            continue;
                        }
                        self.state = State::End;
                        return Ok(Some(Mark::End(std::mem::take(&mut self.trailers))));
                    }
                    if self.trailers.len() == TRAILERS_MAX {
                        return Err(ChunkError::Trailer);
                    }
                    self.trailers_len_bytes += self.line.len();
                    self.trailers.push(parse_trailer(&self.line)?);
                    self.line.clear();
                    self.bare = if end == LineEnd::Lf { Bare::Expected } else { Bare::No };
                }
                State::End if input.is_empty() => return Ok(None),
                State::End => return Err(ChunkError::AfterEnd),
            }
        }
    }

    /// No more input will come: the end mark, where a trailer's `\n\r\n` was meant to be the end as well.
    pub fn finish(&mut self) -> Option<Mark> {
        let ended = self.state == State::Trailers && self.bare == Bare::Taken && self.line.is_empty();
        ended.then(|| {
            self.state = State::End;
            Mark::End(std::mem::take(&mut self.trailers))
        })
    }

    /// Whether the end was reached.
    pub fn is_complete(&self) -> bool {
        self.state == State::End
    }

    /// Takes bytes up to a line end into `line`, at most `len_bytes_max` without the line end. `None` where `input`
    /// ended first.
    fn take_line(
        &mut self,
        input: &mut Bytes,
        len_bytes_max: usize,
        error: ChunkError,
    ) -> Result<Option<LineEnd>, ChunkError> {
        // With the line end that may still be to come.
        let room = (len_bytes_max + 2).saturating_sub(self.line.len());
        let window = &input[..input.len().min(room)];
        match window.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                self.line.extend_from_slice(&window[..at]);
                input.advance(at + 1);
                let end = if self.line.last() == Some(&b'\r') { LineEnd::CrLf } else { LineEnd::Lf };
                if end == LineEnd::CrLf {
                    self.line.pop();
                }
                if self.line.len() > len_bytes_max { Err(error) } else { Ok(Some(end)) }
            }
            None if window.len() == room => Err(error),
            None => {
                self.line.extend_from_slice(window);
                input.clear();
                Ok(None)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    CrLf,
    Lf,
}

fn parse_head(line: &[u8]) -> Result<(u64, Option<[u8; 32]>), ChunkError> {
    let text = std::str::from_utf8(line).map_err(|_| ChunkError::Head)?;
    let (size, extension) = match text.split_once(';') {
        Some((size, extension)) => (size, Some(extension)),
        None => (text, None),
    };
    // `from_str_radix` would take a sign.
    if size.is_empty() || size.len() > 16 || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ChunkError::Head);
    }
    let size = u64::from_str_radix(size, 16).map_err(|_| ChunkError::Head)?;
    let signature = match extension {
        None => None,
        Some(extension) => {
            let digits = extension.strip_prefix("chunk-signature=").ok_or(ChunkError::Head)?;
            Some(crate::percent::hex_32(digits).ok_or(ChunkError::Head)?)
        }
    };
    Ok((size, signature))
}

fn parse_trailer(line: &[u8]) -> Result<(String, String), ChunkError> {
    let text = std::str::from_utf8(line).map_err(|_| ChunkError::Trailer)?;
    let (name, value) = text.split_once(':').ok_or(ChunkError::Trailer)?;
    if name.is_empty() {
        return Err(ChunkError::Trailer);
    }
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests;
