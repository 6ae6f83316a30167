use super::*;
use proptest::prelude::*;

fn meta() -> NeedleMeta {
    NeedleMeta {
        class: BucketClass::Mail,
        tenant: 4,
        bucket: BucketId::new(5),
        key: ObjectKey::new("user/1/mail/2").unwrap(),
        version: VersionId::new(6),
        piece: 0,
        flags: NeedleFlags::PLAIN,
    }
}

fn plain(len: usize) -> Vec<u8> {
    (0..len).map(|index| (((index * 31) >> 3) + (index >> 16)) as u8).collect()
}

fn needle(len: usize) -> (Encoded, Vec<u8>) {
    let mut out = Vec::new();
    (encode(&meta(), &plain(len), &mut out).unwrap(), out)
}

#[test]
fn ranges_are_read_without_the_rest() {
    let len = 3 * FRAME_LEN_BYTES + 1000;
    let (encoded, bytes) = needle(len as usize);
    let header = NeedleHeader::decode(&bytes[..4096], encoded.header_crc32c).unwrap();
    assert_eq!(header.meta, meta());
    assert_eq!(header.len_bytes(), encoded.len_bytes);
    assert_eq!(u64::from(encoded.len_bytes), encoded_len_bytes(&meta().key, len));
    let frame = FRAME_LEN_BYTES;
    for (range, frames) in [
        (0..1, 0..1),
        (0..frame, 0..1),
        (frame - 1..frame + 1, 0..2),
        (frame..2 * frame, 1..2),
        (len - 1..len, 3..4),
        (0..len, 0..4),
        (frame + 5..3 * frame + 5, 1..4),
    ] {
        let span = header.frames_for(range.clone()).unwrap();
        assert_eq!(span.frames, frames, "{range:?}");
        let stored = &bytes[span.needle_bytes.start as usize..span.needle_bytes.end as usize];
        let found = header.span_plain(&span, stored).unwrap();
        assert_eq!(found, &plain(len as usize)[range.start as usize..range.end as usize]);
    }
    for empty in [0..0, len..len + 1, 0..len + 1, len..len] {
        assert_eq!(header.frames_for(empty), None);
    }
    #[expect(clippy::reversed_empty_ranges)]
    let reversed = 5..4;
    assert_eq!(header.frames_for(reversed), None);
}

#[test]
fn a_rotten_frame_is_refused_and_the_others_are_not() {
    let (encoded, mut bytes) = needle(3 * FRAME_LEN_BYTES as usize);
    let header = NeedleHeader::decode(&bytes, encoded.header_crc32c).unwrap();
    let second = header.frame_bytes(1).unwrap();
    bytes[second.start as usize + 77] ^= 1;
    let stored = |index| {
        let range = header.frame_bytes(index).unwrap();
        &bytes[range.start as usize..range.end as usize]
    };
    assert!(header.frame_plain(0, stored(0)).is_ok());
    assert!(matches!(header.frame_plain(1, stored(1)), Err(FormatError::Checksum { .. })));
    assert!(header.frame_plain(2, stored(2)).is_ok());
    assert!(header.frame_plain(2, stored(0)).is_err(), "another frame of the same length");
    assert!(matches!(header.frame_plain(2, &stored(2)[1..]), Err(FormatError::Length { .. })));
    assert!(matches!(header.frame_plain(3, stored(2)), Err(FormatError::Field { .. })));
    assert_eq!(header.frame_bytes(3), None);
    assert_eq!(header.frame_bytes(u32::MAX), None);
    let span = header.frames_for(0..3 * FRAME_LEN_BYTES).unwrap();
    let all = &bytes[span.needle_bytes.start as usize..];
    assert!(header.span_plain(&span, all).is_err());
    assert!(header.span_plain(&span, &[all, &[0]].concat()).is_err());
}

#[test]
fn another_needle_at_the_place_is_not_taken_for_the_one() {
    let (encoded, _) = needle(100);
    let mut other = Vec::new();
    encode(&NeedleMeta { version: VersionId::new(7), ..meta() }, &plain(100), &mut other).unwrap();
    let found = NeedleHeader::decode(&other, encoded.header_crc32c);
    assert!(matches!(found, Err(FormatError::Misplaced { .. })));
}

#[test]
fn an_empty_object_is_a_header() {
    let (encoded, bytes) = needle(0);
    assert_eq!(encoded.len_bytes, encoded.header_len_bytes);
    let header = NeedleHeader::decode(&bytes, encoded.header_crc32c).unwrap();
    assert_eq!(header.plain_len_bytes, 0);
    assert!(header.frames.is_empty());
}

#[test]
fn the_largest_needle_fits_a_row_and_its_header_a_block() {
    let meta = NeedleMeta { key: ObjectKey::new("k".repeat(OBJECT_KEY_LEN_BYTES_MAX)).unwrap(), ..meta() };
    let mut out = Vec::new();
    let encoded = encode(&meta, &plain(NEEDLE_PLAIN_LEN_BYTES_MAX as usize), &mut out).unwrap();
    assert_eq!(encoded.header_len_bytes as usize, HEADER_LEN_MAX);
    assert!(encoded.len_bytes <= strongroom_types::limits::ROW_LEN_BYTES_MAX);
    let header =
        NeedleHeader::decode(&out[..NEEDLE_HEADER_LEN_BYTES_MAX as usize], encoded.header_crc32c).unwrap();
    assert_eq!(header.frames.len() as u32, NEEDLE_FRAMES_MAX);

    let before = out.len();
    let refused = encode(&meta, &plain(NEEDLE_PLAIN_LEN_BYTES_MAX as usize + 1), &mut out);
    assert!(matches!(refused, Err(FormatError::Length { .. })));
    assert_eq!(out.len(), before, "nothing was appended");
}

#[test]
fn reserved_flags_are_refused() {
    for flag in [NeedleFlags::RESERVED_COMPRESSED, NeedleFlags::RESERVED_ENCRYPTED, 0x80] {
        let (_, mut bytes) = needle(100);
        bytes[7] = flag;
        mend(&mut bytes);
        let found = NeedleHeader::scan(&bytes);
        assert!(matches!(found, Err(FormatError::Field { field: "flags", .. })), "{found:?}");
    }
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    let refused = |at: usize, value: u8, name: &str| {
        let (_, mut bytes) = needle(FRAME_LEN_BYTES as usize + 10);
        bytes[at] = value;
        mend(&mut bytes);
        match NeedleHeader::scan(&bytes) {
            Err(FormatError::Field { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    };
    let table = FIXED_LEN + meta().key.as_str().len();
    refused(6, 3, "class");
    refused(16, 3, "frame_count");
    refused(18, 1, "reserved byte");
    refused(52, 11, "frame plain_len_bytes");
    refused(55, 1, "plain_len_bytes");
    refused(56, 9, "stored_len_bytes");
    refused(64, 0xFF, "key");
    refused(table, 1, "frame stored_len_bytes");
    refused(table + 4, 1, "frame plain_len_bytes");
}

#[test]
fn a_row_is_scanned_up_to_its_padding() {
    let mut payload = Vec::new();
    let mut offsets = Vec::new();
    for len in [0, 1, 100, FRAME_LEN_BYTES as usize + 1] {
        offsets.push(payload.len() as u32);
        encode(&meta(), &plain(len), &mut payload).unwrap();
    }
    let whole = payload.len();
    payload.resize(whole.next_multiple_of(4096), 0);
    let found: Vec<u32> = scan_row(&payload).map(|needle| needle.unwrap().0).collect();
    assert_eq!(found, offsets);

    let cut: Vec<_> = scan_row(&payload[..whole - 1]).collect();
    assert_eq!(cut.len(), 4);
    assert!(matches!(cut[3], Err(FormatError::Length { .. })));
    *payload.last_mut().unwrap() = 1;
    assert!(scan_row(&payload).last().unwrap().is_err(), "padding is zero");
    assert_eq!(scan_row(&[]).count(), 0);
}

proptest! {
    #[test]
    fn a_needle_survives_the_round_trip(
        key in "[a-z/\u{e4}\u{1F4E7}]{1,200}", tenant: u32, bucket: u64, version: u128, piece: u32, config: bool,
        len in 0usize..200_000, before in 0usize..100,
    ) {
        let meta = NeedleMeta {
            class: if config { BucketClass::Config } else { BucketClass::Mail },
            tenant,
            bucket: BucketId::new(bucket),
            key: ObjectKey::new(key).unwrap(),
            version: VersionId::new(version),
            piece,
            flags: NeedleFlags::PLAIN,
        };
        let mut out = vec![9; before];
        let encoded = encode(&meta, &plain(len), &mut out).unwrap();
        let bytes = &out[before..];
        prop_assert_eq!(bytes.len(), encoded.len_bytes as usize);
        let header = NeedleHeader::decode(bytes, encoded.header_crc32c).unwrap();
        prop_assert_eq!(&header.meta, &meta);
        if let Some(span) = header.frames_for(0..header.plain_len_bytes) {
            let stored = &bytes[span.needle_bytes.start as usize..span.needle_bytes.end as usize];
            prop_assert_eq!(header.span_plain(&span, stored).unwrap(), &plain(len)[..]);
        } else {
            prop_assert_eq!(len, 0);
        }
    }
}
