//! How a body is sent and what vouches for it: `x-amz-content-sha256`.

use crate::error::{DoorError, DoorResult};
use crate::percent;

/// What `x-amz-content-sha256` says of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Plain, with this SHA-256.
    Sha256([u8; 32]),
    /// Plain, not covered by the signature.
    Unsigned,
    /// aws-chunked, each chunk signed.
    SignedChunks,
    /// aws-chunked, each chunk and the trailers signed.
    SignedChunksTrailer,
    /// aws-chunked, unsigned, with trailers.
    UnsignedChunksTrailer,
}

impl Payload {
    /// Reads the header's value.
    ///
    /// # Errors
    /// `InvalidArgument` for anything that S3 does not define; `NotImplemented` for the ECDSA forms.
    pub fn parse(value: &str) -> DoorResult<Self> {
        match value {
            "UNSIGNED-PAYLOAD" => Ok(Self::Unsigned),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Ok(Self::SignedChunks),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Ok(Self::SignedChunksTrailer),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Ok(Self::UnsignedChunksTrailer),
            ecdsa if ecdsa.starts_with("STREAMING-AWS4-ECDSA") => {
                Err(DoorError::not_implemented("SigV4A (ECDSA) payloads"))
            }
            other => percent::hex_32(other).map(Self::Sha256).ok_or_else(|| {
                DoorError::invalid_argument(
                    "x-amz-content-sha256",
                    other,
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                     STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
                )
            }),
        }
    }

    /// Whether the body is in the aws-chunked form.
    pub const fn is_chunked(self) -> bool {
        matches!(self, Self::SignedChunks | Self::SignedChunksTrailer | Self::UnsignedChunksTrailer)
    }
}
