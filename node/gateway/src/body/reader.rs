//! Reads a body to its verified end. Until [`BodyReader::next`] has answered `None`, nothing of what it gave may become
//! visible.

use crate::auth::signature::equal;
use crate::auth::{ChunkSigner, Payload};
use crate::body::chunked::{ChunkDecoder, Mark};
use crate::body::declared::{Declared, Expected, invalid_value};
use crate::body::incoming::{Incoming, incomplete};
use crate::checksum::{Algorithm, Checksum};
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::limits::BODY_PIECE_LEN_BYTES_MAX;
use crate::percent;
use crate::tags::Tags;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use strongroom_erasure::md5::Md5;
use subtle::ConstantTimeEq as _;

/// What is known of a body once its end was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Bytes of the object.
    pub len_bytes: u64,
    /// MD5 in hexadecimal: the ETag.
    pub md5_hex: String,
    /// The additional checksum that was verified, base64.
    pub checksum: Option<(Algorithm, String)>,
}

/// A body on its way in.
pub struct BodyReader<'a> {
    incoming: &'a mut Incoming,
    tags: &'a Tags,
    declared: Declared,
    len_bytes_max: u64,
    /// Bytes from the connection that were not looked at yet.
    buffer: Bytes,
    wire_len_bytes: u64,
    len_bytes: u64,
    /// Of all that came; `None` while a piece is being added.
    md5: Option<Md5>,
    sha256: Option<Sha256>,
    checksum: Option<Checksum>,
    chunked: Option<Chunked>,
    verified: Option<Verified>,
}

const WHOLE: &str = "no call of `next` was dropped before it answered";

/// The state of an aws-chunked body.
struct Chunked {
    decoder: ChunkDecoder,
    signer: Option<ChunkSigner>,
    sha256: Option<Sha256>,
    signature: Option<[u8; 32]>,
    /// The value of the one trailer that was announced.
    trailer: Option<String>,
}

impl<'a> BodyReader<'a> {
    /// A reader of `incoming`, which must be as `declared`. `signer` where the chunks are signed. An object above
    /// `len_bytes_max` is refused, before the first byte if its length is known.
    ///
    /// # Errors
    /// `EntityTooLarge`.
    pub fn new(
        incoming: &'a mut Incoming,
        tags: &'a Tags,
        declared: Declared,
        signer: Option<ChunkSigner>,
        len_bytes_max: u64,
    ) -> DoorResult<Self> {
        if declared.len_bytes.is_some_and(|len| len > len_bytes_max) {
            return Err(too_large(declared.len_bytes.unwrap_or(u64::MAX), len_bytes_max));
        }
        let signed = matches!(declared.payload, Payload::SignedChunks | Payload::SignedChunksTrailer);
        assert_eq!(signed, signer.is_some(), "signed chunks come with the chain that verifies them");
        let checksum = declared.checksum.as_ref().map(|expected| match expected {
            Expected::Header(algorithm, _) | Expected::Trailer(algorithm) => Checksum::new(*algorithm),
        });
        let sha256 = matches!(declared.payload, Payload::Sha256(_)).then(Sha256::new);
        let chunked = declared.payload.is_chunked().then(|| Chunked {
            decoder: ChunkDecoder::default(),
            sha256: signer.is_some().then(Sha256::new),
            signer,
            signature: None,
            trailer: None,
        });
        Ok(Self {
            incoming,
            tags,
            declared,
            len_bytes_max,
            buffer: Bytes::new(),
            wire_len_bytes: 0,
            len_bytes: 0,
            md5: Some(Md5::default()),
            sha256,
            checksum,
            chunked,
            verified: None,
        })
    }

    /// The next bytes of the object, at most `BODY_PIECE_LEN_BYTES_MAX`; `None` once the end is reached and all that the
    /// client said of the body was found true.
    ///
    /// # Errors
    /// `IncompleteBody`, `BadDigest`, `XAmzContentSHA256Mismatch`, `SignatureDoesNotMatch`, `EntityTooLarge`,
    /// `MalformedTrailerError`, `InvalidRequest`, `RequestTimeout`. After one, the reader must be dropped.
    ///
    /// # Panics
    /// If an earlier call was dropped before it answered: what it had taken is gone.
    pub async fn next(&mut self) -> DoorResult<Option<Bytes>> {
        if self.verified.is_some() {
            return Ok(None);
        }
        loop {
            if self.buffer.is_empty() {
                match self.incoming.next().await? {
                    Some(data) => {
                        self.wire_len_bytes += data.len() as u64;
                        if self.declared.wire_len_bytes.is_some_and(|len| self.wire_len_bytes > len) {
                            return Err(incomplete());
                        }
                        self.buffer = data;
                    }
                    None => {
                        self.finish()?;
                        return Ok(None);
                    }
                }
            }
            let piece = match &mut self.chunked {
                None => {
                    let take = self.buffer.len().min(BODY_PIECE_LEN_BYTES_MAX);
                    Some(self.buffer.split_to(take))
                }
                Some(chunked) => {
                    let room = self.declared.len_bytes.unwrap_or(self.len_bytes_max) - self.len_bytes;
                    chunked.next(&mut self.buffer, &self.declared, room)?
                }
            };
            if let Some(piece) = piece {
                self.len_bytes += piece.len() as u64;
                if self.len_bytes > self.len_bytes_max {
                    return Err(too_large(self.len_bytes, self.len_bytes_max));
                }
                let md5 = self.md5.take().expect(WHOLE);
                self.md5 = Some(self.tags.update(md5, piece.clone()).await);
                if let Some(sha256) = &mut self.sha256 {
                    sha256.update(&piece);
                }
                if let Some(checksum) = &mut self.checksum {
                    checksum.update(&piece);
                }
                return Ok(Some(piece));
            }
        }
    }

    /// What was verified; `None` before the end.
    pub fn verified(&self) -> Option<&Verified> {
        self.verified.as_ref()
    }

    /// All bytes came: is all true that was said of them?
    fn finish(&mut self) -> DoorResult<()> {
        if let Some(chunked) = &mut self.chunked
            && let Some(Mark::End(trailers)) = chunked.decoder.finish()
        {
            chunked.take_trailers(trailers, &self.declared)?;
        }
        let short = self.declared.wire_len_bytes.is_some_and(|len| self.wire_len_bytes != len)
            || self.declared.len_bytes.is_some_and(|len| self.len_bytes != len)
            || self.chunked.as_ref().is_some_and(|chunked| !chunked.decoder.is_complete());
        if short {
            return Err(incomplete());
        }
        if let (Payload::Sha256(expected), Some(sha256)) = (self.declared.payload, self.sha256.take()) {
            let computed: [u8; 32] = sha256.finalize().into();
            if !equal(&computed, &expected) {
                return Err(DoorError::new(
                    ErrorCode::XAmzContentSHA256Mismatch,
                    "The provided 'x-amz-content-sha256' header does not match what was computed.",
                )
                .with("ClientComputedContentSHA256", percent::hex(&expected))
                .with("S3ComputedContentSHA256", percent::hex(&computed)));
            }
        }
        let md5 = self.md5.take().expect(WHOLE).finish();
        if self.declared.md5.is_some_and(|expected| !bool::from(expected.ct_eq(&md5))) {
            return Err(DoorError::new(
                ErrorCode::BadDigest,
                "The Content-MD5 you specified did not match what we received.",
            ));
        }
        let checksum = match (&self.declared.checksum, self.checksum.take()) {
            (Some(Expected::Header(algorithm, expected)), Some(checksum)) => {
                Some(compare(*algorithm, expected, checksum)?)
            }
            (Some(Expected::Trailer(algorithm)), Some(checksum)) => {
                let expected = self.chunked.as_ref().and_then(|chunked| chunked.trailer.as_deref());
                let expected = expected.ok_or_else(malformed_trailer)?;
                if !algorithm.is_wellformed(expected) {
                    return Err(invalid_value(*algorithm));
                }
                Some(compare(*algorithm, expected, checksum)?)
            }
            _ => None,
        };
        self.verified = Some(Verified { len_bytes: self.len_bytes, md5_hex: percent::hex(&md5), checksum });
        Ok(())
    }
}

impl Chunked {
    /// Takes from `buffer`; gives data once there is some, `None` once all of `buffer` was taken. `room_bytes` is what the
    /// announced length leaves.
    fn next(
        &mut self,
        buffer: &mut Bytes,
        declared: &Declared,
        room_bytes: u64,
    ) -> DoorResult<Option<Bytes>> {
        loop {
            let mark = self.decoder.next(buffer, BODY_PIECE_LEN_BYTES_MAX).map_err(|error| {
                DoorError::new(
                    ErrorCode::InvalidRequest,
                    format!("The aws-chunked body is malformed: {error}."),
                )
            })?;
            match mark {
                None => return Ok(None),
                Some(Mark::ChunkStart { size, signature }) => {
                    if size > room_bytes {
                        return Err(DoorError::new(
                            ErrorCode::IncompleteBody,
                            "The body holds more bytes than x-amz-decoded-content-length says.",
                        ));
                    }
                    self.signature = signature;
                    if size == 0 {
                        self.check_chunk()?;
                    }
                }
                Some(Mark::Data(data)) => {
                    if let Some(sha256) = &mut self.sha256 {
                        sha256.update(&data);
                    }
                    return Ok(Some(data));
                }
                Some(Mark::ChunkEnd) => self.check_chunk()?,
                Some(Mark::End(trailers)) => self.take_trailers(trailers, declared)?,
            }
        }
    }

    /// The chunk's data has come: is its signature right?
    fn check_chunk(&mut self) -> DoorResult<()> {
        let signature = self.signature.take();
        let Some(signer) = &mut self.signer else { return Ok(()) };
        let sha256 = self.sha256.replace(Sha256::new()).unwrap_or_default();
        let computed = signer.chunk(&sha256.finalize().into());
        match signature {
            Some(signature) if equal(&signature, &computed) => Ok(()),
            Some(_) | None => Err(chunk_signature("chunk")),
        }
    }

    /// The trailers must be the one that was announced and, where they are signed, their signature.
    fn take_trailers(&mut self, trailers: Vec<(String, String)>, declared: &Declared) -> DoorResult<()> {
        let announced = match &declared.checksum {
            Some(Expected::Trailer(algorithm)) => Some(algorithm.header()),
            Some(Expected::Header(..)) | None => None,
        };
        let mut signature = None;
        let mut signed = Sha256::new();
        for (name, value) in trailers {
            if name == "x-amz-trailer-signature" && declared.payload == Payload::SignedChunksTrailer {
                if signature.replace(value).is_some() {
                    return Err(malformed_trailer());
                }
                continue;
            }
            if announced != Some(name.as_str()) || self.trailer.is_some() {
                return Err(malformed_trailer());
            }
            signed.update(format!("{name}:{value}\n"));
            self.trailer = Some(value);
        }
        if announced.is_some() && self.trailer.is_none() {
            return Err(malformed_trailer());
        }
        if let (Payload::SignedChunksTrailer, Some(signer)) = (declared.payload, &mut self.signer) {
            let computed = signer.trailers(&signed.finalize().into());
            let given = signature.as_deref().and_then(percent::hex_32);
            if !given.is_some_and(|given| equal(&given, &computed)) {
                return Err(chunk_signature("trailer"));
            }
        }
        Ok(())
    }
}

fn compare(algorithm: Algorithm, expected: &str, checksum: Checksum) -> DoorResult<(Algorithm, String)> {
    let computed = checksum.finish();
    if computed != expected {
        return Err(DoorError::new(
            ErrorCode::BadDigest,
            format!(
                "The {} you specified did not match the calculated checksum.",
                algorithm.name().to_uppercase()
            ),
        ));
    }
    Ok((algorithm, computed))
}

fn too_large(len_bytes: u64, len_bytes_max: u64) -> DoorError {
    DoorError::new(ErrorCode::EntityTooLarge, "Your proposed upload exceeds the maximum allowed size")
        .with("ProposedSize", len_bytes.to_string())
        .with("MaxSizeAllowed", len_bytes_max.to_string())
}

fn malformed_trailer() -> DoorError {
    DoorError::new(
        ErrorCode::MalformedTrailerError,
        "The request contained trailing data that was not well-formed or did not conform to our published schema.",
    )
}

fn chunk_signature(what: &str) -> DoorError {
    DoorError::new(
        ErrorCode::SignatureDoesNotMatch,
        format!("The {what} signature we calculated does not match the signature you provided."),
    )
}
