use super::*;

#[test]
fn a_hello_of_another_version_is_told_from_a_damaged_one() {
    let hello = Hello { cluster: ClusterId::new(1 << 100), node: NodeId::new(7) };
    let mut bytes = hello.encode();
    assert_eq!(Hello::decode(&bytes), Ok(hello));
    bytes[8] = 1;
    assert!(matches!(Hello::decode(&bytes), Err(FormatError::Checksum { .. })));
    let crc = crc32c(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(Hello::decode(&bytes), Err(FormatError::Version { found: 1, known: 2, .. })));
    assert!(matches!(
        Hello::decode(b"GET / HTTP/1.1\r\nHost: strongroom.tst\r\n\r\n"),
        Err(FormatError::NotThis { .. })
    ));
}
