use super::*;
use crate::wire::message::Request;
use bytes::Bytes;

fn frame() -> Frame {
    Frame::request(&Request::Ping, Bytes::from_static(b"payload"))
}

fn header() -> EnvelopeHeader {
    EnvelopeHeader::for_frame(FrameKind::Request, 0x0102_0304_0506_0708, 250, &frame()).unwrap()
}

#[test]
fn a_header_fits_its_frame_only() {
    let header = EnvelopeHeader::decode(&header().encode()).unwrap();
    assert_eq!(header.check(&frame()), Ok(()));
    let rotten = Frame { payload: Bytes::from_static(b"pAyload"), ..frame() };
    assert!(matches!(
        header.check(&rotten),
        Err(FormatError::Checksum { structure: Structure::FramePayload, .. })
    ));
    let short = Frame { payload: Bytes::from_static(b"payloa"), ..frame() };
    assert!(matches!(
        header.check(&short),
        Err(FormatError::Length { structure: Structure::FramePayload, .. })
    ));
    let other = Frame { head: Bytes::from_static(&[1]), ..frame() };
    assert!(matches!(
        header.check(&other),
        Err(FormatError::Checksum { structure: Structure::FrameHead, .. })
    ));
}

#[test]
fn lengths_above_the_bounds_are_refused_before_anyone_allocates() {
    let accepted = |head_len_bytes, payload_len_bytes| {
        EnvelopeHeader::decode(&EnvelopeHeader { head_len_bytes, payload_len_bytes, ..header() }.encode())
            .is_ok()
    };
    assert!(accepted(WIRE_HEAD_LEN_BYTES_MAX, WIRE_PAYLOAD_LEN_BYTES_MAX));
    assert!(!accepted(WIRE_HEAD_LEN_BYTES_MAX + 1, 0));
    assert!(!accepted(0, WIRE_PAYLOAD_LEN_BYTES_MAX + 1));
    assert!(!accepted(u32::MAX, u32::MAX));
    let long =
        Frame { head: Bytes::new(), payload: Bytes::from(vec![0; WIRE_PAYLOAD_LEN_BYTES_MAX as usize + 1]) };
    assert!(EnvelopeHeader::for_frame(FrameKind::Response, 1, 0, &long).is_err());
}

#[test]
fn another_version_or_kind_is_refused() {
    let with = |at: usize, value: u8| {
        let mut bytes = header().encode();
        bytes[at] = value;
        let crc = crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        EnvelopeHeader::decode(&bytes)
    };
    assert!(with(4, 2).is_ok());
    for other in [1, 3] {
        let found = u16::from(other);
        let refused = FormatError::Version { structure: STRUCTURE, found, known: 2 };
        assert_eq!(with(4, other), Err(refused));
    }
    assert!(with(6, 2).is_ok());
    assert!(matches!(with(6, 0), Err(FormatError::Field { field: "kind", .. })));
    assert!(matches!(with(6, 3), Err(FormatError::Field { field: "kind", .. })));
    assert!(matches!(with(7, 1), Err(FormatError::Field { .. })));
    assert!(matches!(with(0, b'X'), Err(FormatError::NotThis { .. })));
}
