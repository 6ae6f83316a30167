//! Frames as the bytes that travel, through the real envelope.

use bytes::{BufMut, Bytes, BytesMut};
use strongroom_format::FormatError;
use strongroom_format::wire::{EnvelopeHeader, Frame, FrameKind};

pub(super) fn encode(
    kind: FrameKind,
    call: u64,
    deadline_ms: u32,
    frame: &Frame,
) -> Result<Bytes, FormatError> {
    let header = EnvelopeHeader::for_frame(kind, call, deadline_ms, frame)?;
    let mut bytes =
        BytesMut::with_capacity(EnvelopeHeader::LEN_BYTES + frame.head.len() + frame.payload.len());
    bytes.put_slice(&header.encode());
    bytes.put_slice(&frame.head);
    bytes.put_slice(&frame.payload);
    Ok(bytes.freeze())
}

pub(super) fn decode(kind: FrameKind, bytes: &Bytes) -> Result<Frame, FormatError> {
    let mut bytes = bytes.clone();
    let header = bytes.split_to(EnvelopeHeader::LEN_BYTES);
    let header = EnvelopeHeader::decode(header.as_ref().try_into().expect("cut to its length"))?;
    assert_eq!(header.kind, kind, "requests and answers keep apart");
    let head = bytes.split_to(header.head_len_bytes as usize);
    let frame = Frame { head, payload: bytes };
    header.check(&frame)?;
    Ok(frame)
}

/// The name of the request in a frame, by postcard's number of its variant.
pub(super) fn request_name(head: &[u8]) -> &'static str {
    const NAMES: [&str; 12] = [
        "Ping",
        "Append",
        "Read",
        "Seal",
        "Settle",
        "WriteFragment",
        "FinishFragment",
        "Encode",
        "Free",
        "Report",
        "Raft",
        "Meta",
    ];
    head.first().and_then(|number| NAMES.get(usize::from(*number))).copied().unwrap_or("Unknown")
}
