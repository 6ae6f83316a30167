//! What a request's headers say of its body, parsed and checked before a byte of it is read.

use crate::auth::Payload;
use crate::checksum::Algorithm;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::Head;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Where the expected value of the additional checksum is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// In a header: this value, base64.
    Header(Algorithm, String),
    /// In a trailer, after the data.
    Trailer(Algorithm),
}

/// What a request's headers say of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// How it comes.
    pub payload: Payload,
    /// Bytes that come over the wire, where known.
    pub wire_len_bytes: Option<u64>,
    /// Bytes of the object, where known.
    pub len_bytes: Option<u64>,
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// The additional checksum.
    pub checksum: Option<Expected>,
}

impl Declared {
    /// Reads the headers of `head`, whose `x-amz-content-sha256` is `payload`.
    ///
    /// # Errors
    /// `MissingContentLength`, `InvalidDigest`, `InvalidArgument`, `InvalidRequest`, `MalformedTrailerError`.
    pub fn new(head: &Head, payload: Payload) -> DoorResult<Self> {
        let wire_len_bytes = length(head, "content-length")?;
        let len_bytes = if payload.is_chunked() {
            let decoded = length(head, "x-amz-decoded-content-length")?.ok_or_else(|| {
                DoorError::new(
                    ErrorCode::MissingContentLength,
                    "You must provide the x-amz-decoded-content-length HTTP header.",
                )
            })?;
            Some(decoded)
        } else {
            wire_len_bytes
        };
        let md5 = match head.header("content-md5")? {
            None if head.headers.contains_key("content-md5") => return Err(invalid_digest()),
            None => None,
            Some(text) => {
                let bytes = BASE64.decode(text).map_err(|_| invalid_digest())?;
                Some(<[u8; 16]>::try_from(bytes).map_err(|_| invalid_digest())?)
            }
        };
        Ok(Self { payload, wire_len_bytes, len_bytes, md5, checksum: checksum(head, payload)? })
    }

    /// Whether anything vouches for the body besides its length.
    pub fn has_digest(&self) -> bool {
        self.md5.is_some() || self.checksum.is_some()
    }
}

fn invalid_digest() -> DoorError {
    DoorError::new(ErrorCode::InvalidDigest, "The Content-MD5 you specified is not valid.")
}

fn length(head: &Head, name: &str) -> DoorResult<Option<u64>> {
    match head.header(name)? {
        None => Ok(None),
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text
            .parse()
            .map(Some)
            .map_err(|_| DoorError::invalid_argument(name, text, "The length is above 2^64.")),
        Some(text) => Err(DoorError::invalid_argument(name, text, "A length is decimal digits.")),
    }
}

/// The additional checksum that was declared; at most one, as in S3.
fn checksum(head: &Head, payload: Payload) -> DoorResult<Option<Expected>> {
    let mut found: Option<Expected> = None;
    let mut declare = |expected| match found.replace(expected) {
        None => Ok(()),
        Some(_) => Err(DoorError::new(
            ErrorCode::InvalidRequest,
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )),
    };
    for algorithm in Algorithm::ALL {
        if let Some(value) = head.header(algorithm.header())? {
            if !algorithm.is_wellformed(value) {
                return Err(invalid_value(algorithm));
            }
            declare(Expected::Header(algorithm, value.to_owned()))?;
        }
    }
    for name in
        head.header("x-amz-trailer")?.unwrap_or("").split(',').map(str::trim).filter(|name| !name.is_empty())
    {
        let algorithm = Algorithm::from_header(name).ok_or_else(|| {
            DoorError::new(
                ErrorCode::InvalidRequest,
                "The value specified in the x-amz-trailer header is not supported",
            )
        })?;
        if !matches!(payload, Payload::SignedChunksTrailer | Payload::UnsignedChunksTrailer) {
            return Err(DoorError::new(
                ErrorCode::InvalidRequest,
                "x-amz-trailer needs an x-amz-content-sha256 that ends in -TRAILER.",
            ));
        }
        declare(Expected::Trailer(algorithm))?;
    }
    if let Some(name) = head.header("x-amz-sdk-checksum-algorithm")? {
        let algorithm = Algorithm::from_name(name).ok_or_else(|| {
            DoorError::new(
                ErrorCode::InvalidRequest,
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
                 [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
            )
        })?;
        match &found {
            Some(Expected::Header(other, _) | Expected::Trailer(other)) if *other == algorithm => {}
            Some(_) => {
                return Err(DoorError::new(
                    ErrorCode::InvalidRequest,
                    "Value for x-amz-sdk-checksum-algorithm header is invalid.",
                ));
            }
            None => {
                return Err(DoorError::new(
                    ErrorCode::InvalidRequest,
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
                ));
            }
        }
    }
    Ok(found)
}

/// The refusal of a checksum that is no base64 of the right length.
pub(crate) fn invalid_value(algorithm: Algorithm) -> DoorError {
    DoorError::new(ErrorCode::InvalidRequest, format!("Value for {} header is invalid.", algorithm.header()))
}
