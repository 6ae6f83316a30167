use super::*;

#[test]
fn bytes_behind_a_message_are_refused() {
    let frame = Frame::request(&Request::Ping, Bytes::new());
    assert_eq!(frame.decode_request(), Ok(Request::Ping));
    let longer = Frame { head: Bytes::from([&frame.head[..], &[0]].concat()), ..frame };
    assert!(matches!(longer.decode_request(), Err(FormatError::Length { .. })));
}

#[test]
fn a_lying_length_neither_panics_nor_allocates() {
    // `Raft` without a group, with a body that claims 2^63 bytes.
    let ping = Frame::request(&Request::Raft { group: None, body: Bytes::from_static(b"x") }, Bytes::new());
    let mut head = ping.head[..2].to_vec();
    head.extend([0xFF; 9]);
    head.push(0x01);
    let frame = Frame { head: Bytes::from(head), payload: Bytes::new() };
    assert!(matches!(frame.decode_request(), Err(FormatError::Message { .. })));
}

#[test]
fn bounds_in_pairs() {
    let frame = |head: u32, payload: u32| Frame {
        head: Bytes::from(vec![0; head as usize]),
        payload: Bytes::from(vec![0; payload as usize]),
    };
    assert!(frame(WIRE_HEAD_LEN_BYTES_MAX, WIRE_PAYLOAD_LEN_BYTES_MAX).check_bounds().is_ok());
    let head = frame(WIRE_HEAD_LEN_BYTES_MAX + 1, 0);
    assert!(matches!(head.check_bounds(), Err(FormatError::Length { structure: Structure::FrameHead, .. })));
    assert!(head.decode_request().is_err());
    let payload = frame(1, WIRE_PAYLOAD_LEN_BYTES_MAX + 1);
    assert!(matches!(
        payload.check_bounds(),
        Err(FormatError::Length { structure: Structure::FramePayload, .. })
    ));
    assert!(payload.decode_request().is_err());
    assert!(frame(1, 0).decode_request().is_ok(), "one zero byte is a ping");
}
