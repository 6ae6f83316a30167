//! One message between peers, with its bulk bytes beside it.

use super::message::{Request, Response};
use crate::error::{FormatError, Structure};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_types::limits::{WIRE_HEAD_LEN_BYTES_MAX, WIRE_PAYLOAD_LEN_BYTES_MAX};

/// A message as it travels: the encoded head, and bulk bytes that are never copied into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// A [`Request`] or [`Response`], by postcard.
    pub head: Bytes,
    /// Bulk bytes; what they are is said at the message.
    pub payload: Bytes,
}

impl Frame {
    /// A request with its bulk bytes. Lengths are checked where the frame is sent and where it is decoded.
    pub fn request(request: &Request, payload: Bytes) -> Self {
        Self { head: encode(request), payload }
    }

    /// An answer with its bulk bytes. Lengths are checked where the frame is sent and where it is decoded.
    pub fn response(response: &Response, payload: Bytes) -> Self {
        Self { head: encode(response), payload }
    }

    /// The request in this frame.
    ///
    /// # Errors
    /// `Length` above a bound of the wire or with bytes left over, `Message` where it does not parse.
    pub fn decode_request(&self) -> Result<Request, FormatError> {
        self.decode()
    }

    /// The answer in this frame.
    ///
    /// # Errors
    /// As [`Self::decode_request`].
    pub fn decode_response(&self) -> Result<Response, FormatError> {
        self.decode()
    }

    /// Whether head and payload are within the bounds of the wire.
    ///
    /// # Errors
    /// `Length` names the part that is too long and the bound.
    pub fn check_bounds(&self) -> Result<(), FormatError> {
        let bounded = |structure, found: usize, bound: u32| {
            if found as u64 > u64::from(bound) {
                return Err(FormatError::Length {
                    structure,
                    found: found as u64,
                    expected: u64::from(bound),
                });
            }
            Ok(())
        };
        bounded(Structure::FrameHead, self.head.len(), WIRE_HEAD_LEN_BYTES_MAX)?;
        bounded(Structure::FramePayload, self.payload.len(), WIRE_PAYLOAD_LEN_BYTES_MAX)
    }

    fn decode<M: DeserializeOwned>(&self) -> Result<M, FormatError> {
        let structure = Structure::FrameHead;
        self.check_bounds()?;
        // serde takes no more memory ahead than 1 MiB for a length it is told, so a lying length costs little.
        let (message, rest) = postcard::take_from_bytes(&self.head)
            .map_err(|source| FormatError::Message { structure, source })?;
        if !rest.is_empty() {
            let found = self.head.len() as u64;
            return Err(FormatError::Length { structure, found, expected: found - rest.len() as u64 });
        }
        Ok(message)
    }
}

fn encode<M: Serialize>(message: &M) -> Bytes {
    let encoded = postcard::to_stdvec(message).expect("messages hold only types that postcard encodes");
    Bytes::from(encoded)
}

#[cfg(test)]
mod tests;
