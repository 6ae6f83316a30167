use super::*;
use proptest::prelude::*;

/// The data, the sizes of the chunks, and the trailers once the end was reached.
type Decoded = (Vec<u8>, Vec<u64>, Option<Vec<(String, String)>>);

/// Feeds `input` in pieces of `step` bytes; gives the data, the chunk sizes and the trailers.
fn decode(input: &[u8], step: usize) -> Result<Decoded, ChunkError> {
    let mut decoder = ChunkDecoder::default();
    let (mut data, mut sizes, mut trailers) = (Vec::new(), Vec::new(), None);
    for piece in input.chunks(step) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(mark) = decoder.next(&mut piece, 7)? {
            match mark {
                Mark::ChunkStart { size, .. } => sizes.push(size),
                Mark::Data(bytes) => {
                    assert!(bytes.len() <= 7);
                    data.extend_from_slice(&bytes);
                }
                Mark::ChunkEnd => {}
                Mark::End(found) => trailers = Some(found),
            }
        }
        assert!(piece.is_empty());
        // Bounded, whatever comes.
        assert!(decoder.line.len() <= CHUNK_HEAD_LEN_BYTES_MAX.max(TRAILERS_LEN_BYTES_MAX) + 2);
    }
    if let Some(Mark::End(found)) = decoder.finish() {
        assert_eq!(trailers.replace(found), None);
    }
    assert_eq!(decoder.is_complete(), trailers.is_some());
    Ok((data, sizes, trailers))
}

proptest! {
    #[test]
    fn any_chunking_cut_anywhere_gives_the_data_back(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
        step in 1_usize..50,
        signed in any::<bool>(),
        trailer in any::<bool>(),
    ) {
        let mut wire = Vec::new();
        let extension = if signed { format!(";chunk-signature={}", "ab".repeat(32)) } else { String::new() };
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(format!("0{extension}\r\n").as_bytes());
        if trailer {
            wire.extend_from_slice(b"X-Amz-Checksum-CRC32: AAAA\r\n");
        }
        wire.extend_from_slice(b"\r\n");
        let (data, sizes, trailers) = decode(&wire, step).unwrap();
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(sizes.len(), chunks.len() + 1);
        let expected = if trailer { vec![("x-amz-checksum-crc32".to_owned(), "AAAA".to_owned())] } else { vec![] };
        prop_assert_eq!(trailers, Some(expected));
        // Cut short anywhere, the end is never reported.
        for len in 0..wire.len() {
            let cut = decode(&wire[..len], step).unwrap();
            prop_assert!(cut.2.is_none());
        }
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic(input in proptest::collection::vec(any::<u8>(), 1..300), step in 1_usize..9) {
        let _ = decode(&input, step);
    }
}

#[test]
fn what_is_not_aws_chunked_is_refused() {
    for (wire, error) in [
        ("\r\n", ChunkError::Head),
        ("+1\r\na\r\n", ChunkError::Head),
        ("g\r\n", ChunkError::Head),
        ("1;chunk-signature=ab\r\n", ChunkError::Head),
        ("1;other=1\r\n", ChunkError::Head),
        ("11111111111111111\r\n", ChunkError::Head),
        ("1\na\r\n", ChunkError::Head),
        ("1\r\nab\r\n", ChunkError::DataEnd),
        ("1\r\na\n", ChunkError::DataEnd),
        ("0\r\nname\r\n\r\n", ChunkError::Trailer),
        ("0\r\n:v\r\n\r\n", ChunkError::Trailer),
        ("0\r\n\r\nx", ChunkError::AfterEnd),
    ] {
        for step in [1, 3, 100] {
            assert_eq!(decode(wire.as_bytes(), step), Err(error), "{wire:?} by {step}");
        }
    }
}

#[test]
fn trailers_as_minio_go_ends_them() {
    let expected = |names: &[&str]| {
        Some(names.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect::<Vec<_>>())
    };
    for (wire, names) in [
        ("0\r\na:v\n\r\n\r\n", &["a"][..]),
        ("0\r\na:v\n\r\n", &["a"]),
        ("0\r\na:v\n\r\nb:v\r\n\r\n", &["a", "b"]),
        ("0\r\na:v\nb:v\n\r\n\r\n", &["a", "b"]),
    ] {
        for step in [1, 2, 100] {
            assert_eq!(decode(wire.as_bytes(), step).unwrap().2, expected(names), "{wire:?}");
        }
    }
    assert_eq!(decode(b"0\r\na:v\n", 100).unwrap().2, None);
    assert_eq!(decode(b"0\r\n\n", 100), Err(ChunkError::Trailer));
}

#[test]
fn lines_and_trailers_are_bounded() {
    // Fed without any line end, the decoder gives up as soon as the bound is passed.
    let held = |prefix: &str, len: usize| decode(format!("{prefix}{}", "1".repeat(len)).as_bytes(), 1);
    assert!(held("", CHUNK_HEAD_LEN_BYTES_MAX + 1).is_ok());
    assert_eq!(held("", CHUNK_HEAD_LEN_BYTES_MAX + 2), Err(ChunkError::Head));
    let trailer = |len: usize| format!("0\r\na:{}\r\n\r\n", "b".repeat(len - 2));
    assert!(decode(trailer(TRAILERS_LEN_BYTES_MAX).as_bytes(), 5).is_ok());
    assert_eq!(decode(trailer(TRAILERS_LEN_BYTES_MAX + 1).as_bytes(), 5), Err(ChunkError::Trailer));
    let trailers = |count: usize| format!("0\r\n{}\r\n", "a:b\r\n".repeat(count));
    assert!(decode(trailers(TRAILERS_MAX).as_bytes(), 5).is_ok());
    assert_eq!(decode(trailers(TRAILERS_MAX + 1).as_bytes(), 5), Err(ChunkError::Trailer));
}
