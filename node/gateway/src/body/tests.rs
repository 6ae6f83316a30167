//! Bodies against what was said of them, without the rest of the door.

use super::*;
use crate::auth::tests::{ACCESS_KEY, SECRET, example_time, head};
use crate::auth::{Payload, authenticate};
use crate::checksum::Algorithm;
use crate::error::ErrorCode;
use crate::limits::{BODY_IDLE_PATIENCE, BODY_PIECE_LEN_BYTES_MAX, DISCARD_LEN_BYTES_MAX};
use crate::tags::Tags;
use crate::testing::{Keys, ManualClock};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use strongroom_types::WallTime;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(WallTime::default()))
}

fn incoming(wire: &[u8]) -> Incoming {
    Incoming::new(Full::new(Bytes::copy_from_slice(wire)), clock())
}

/// Feeds `wire` in pieces of `step` bytes.
fn incoming_by(wire: &[u8], step: usize) -> Incoming {
    let pieces: Vec<_> = wire
        .chunks(step)
        .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    Incoming::new(StreamBody::new(stream::iter(pieces)), clock())
}

async fn read(mut reader: BodyReader<'_>) -> Result<(Vec<u8>, Verified), ErrorCode> {
    let mut data = Vec::new();
    while let Some(piece) = reader.next().await.map_err(|error| error.code)? {
        assert!(!piece.is_empty() && piece.len() <= BODY_PIECE_LEN_BYTES_MAX);
        assert!(reader.verified().is_none(), "nothing is verified before the end");
        data.extend_from_slice(&piece);
    }
    assert_eq!(reader.next().await, Ok(None), "the end stays the end");
    Ok((data, reader.verified().unwrap().clone()))
}

/// The two published chunked uploads: 65 KiB of `a`, with and without a trailer.
fn published(trailer: bool) -> (crate::head::Head, Vec<u8>) {
    let (signed, seed, kind, signatures) = if trailer {
        (
            "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
            "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            [
                "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
                "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
                "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
            ],
        )
    } else {
        (
            "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            [
                "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
                "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
                "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
            ],
        )
    };
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed},Signature={seed}"
    );
    let mut headers = vec![
        ("host", "s3.amazonaws.com"),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("authorization", authorization.as_str()),
        ("x-amz-content-sha256", kind),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
    ];
    headers.push(if trailer {
        ("x-amz-trailer", "x-amz-checksum-crc32c")
    } else {
        ("content-length", "66824")
    });
    let mut wire = Vec::new();
    for (size, signature) in [(65_536, signatures[0]), (1024, signatures[1]), (0, signatures[2])] {
        wire.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
        if size > 0 {
            wire.extend_from_slice(&vec![b'a'; size]);
            wire.extend_from_slice(b"\r\n");
        }
    }
    if trailer {
        wire.extend_from_slice(b"x-amz-checksum-crc32c:sOO8/Q==\r\n");
        let signature = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
        wire.extend_from_slice(format!("x-amz-trailer-signature:{signature}\r\n").as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
    (head("PUT", "/examplebucket/chunkObject.txt", &headers), wire)
}

async fn read_published(trailer: bool, wire: &[u8], step: usize) -> Result<(Vec<u8>, Verified), ErrorCode> {
    let (head, _) = published(trailer);
    let admitted =
        authenticate(&head, &Keys::one(ACCESS_KEY, SECRET), example_time()).map_err(|error| error.code)?;
    let declared = Declared::new(&head, admitted.payload).map_err(|error| error.code)?;
    let (mut incoming, tags) = (incoming_by(wire, step), Tags::default());
    read(
        BodyReader::new(&mut incoming, &tags, declared, admitted.chunks, u64::MAX)
            .map_err(|error| error.code)?,
    )
    .await
}

#[tokio::test]
async fn published_chunked_uploads_are_taken() {
    for trailer in [false, true] {
        let (_, wire) = published(trailer);
        for step in [wire.len(), 4096, 7] {
            let (data, verified) = read_published(trailer, &wire, step).await.unwrap();
            assert_eq!(data, vec![b'a'; 66_560]);
            assert_eq!(verified.checksum.is_some(), trailer);
        }
    }
}

#[tokio::test]
async fn a_signed_chunk_that_was_changed_is_refused() {
    for trailer in [false, true] {
        let (_, wire) = published(trailer);
        let data_at = [100, 60_000, 65_536 + 86 + 2 + 86 + 10];
        for at in data_at {
            let mut changed = wire.clone();
            assert_eq!(changed[at], b'a');
            changed[at] = b'b';
            assert_eq!(
                read_published(trailer, &changed, 4096).await,
                Err(ErrorCode::SignatureDoesNotMatch),
                "{at}"
            );
        }
    }
    let (_, wire) = published(true);
    let text = String::from_utf8(wire).unwrap();
    for (from, to, code) in [
        ("2ca2aba2", "2ca2aba3", ErrorCode::SignatureDoesNotMatch),
        ("d81f82fc", "d81f82fd", ErrorCode::SignatureDoesNotMatch),
        ("sOO8/Q==", "sOO8/A==", ErrorCode::SignatureDoesNotMatch),
        ("x-amz-checksum-crc32c:sOO8/Q==\r\n", "", ErrorCode::MalformedTrailerError),
        ("x-amz-checksum-crc32c", "x-amz-checksum-crc32", ErrorCode::MalformedTrailerError),
        ("x-amz-trailer-signature", "x-amz-other", ErrorCode::MalformedTrailerError),
        (
            ";chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "",
            ErrorCode::SignatureDoesNotMatch,
        ),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        assert_eq!(read_published(true, changed.as_bytes(), 4096).await, Err(code), "{from}");
    }
}

#[tokio::test]
async fn a_chunked_body_cut_anywhere_is_incomplete() {
    for trailer in [false, true] {
        let (_, wire) = published(trailer);
        for len in (0..wire.len()).step_by(997).chain(wire.len() - 300..wire.len()) {
            assert_eq!(
                read_published(trailer, &wire[..len], 8192).await,
                Err(ErrorCode::IncompleteBody),
                "{len}"
            );
        }
        let longer = [&wire[..], b"x"].concat();
        let code = read_published(trailer, &longer, 8192).await.err();
        assert!(matches!(code, Some(ErrorCode::IncompleteBody | ErrorCode::InvalidRequest)), "{code:?}");
    }
}

fn declared(payload: Payload, len_bytes: Option<u64>) -> Declared {
    let wire_len_bytes = if payload.is_chunked() { None } else { len_bytes };
    Declared { payload, wire_len_bytes, len_bytes, md5: None, checksum: None }
}

async fn read_as(declared: Declared, wire: &[u8]) -> Result<u64, ErrorCode> {
    let (mut incoming, tags) = (incoming(wire), Tags::default());
    let reader = BodyReader::new(&mut incoming, &tags, declared, None, 1000).map_err(|error| error.code)?;
    read(reader).await.map(|(_, verified)| verified.len_bytes)
}

#[tokio::test]
async fn lengths_must_be_what_was_announced() {
    for (announced, wire, result) in [
        (Some(3), "abc", Ok(3)),
        (Some(4), "abc", Err(ErrorCode::IncompleteBody)),
        (Some(2), "abc", Err(ErrorCode::IncompleteBody)),
        (Some(0), "", Ok(0)),
        (None, "abc", Ok(3)),
    ] {
        assert_eq!(
            read_as(declared(Payload::Unsigned, announced), wire.as_bytes()).await,
            result,
            "{announced:?}"
        );
    }
    let chunked = Payload::UnsignedChunksTrailer;
    for (announced, wire, result) in [
        (3, "3\r\nabc\r\n0\r\n\r\n", Ok(3)),
        (4, "3\r\nabc\r\n0\r\n\r\n", Err(ErrorCode::IncompleteBody)),
        (2, "3\r\nabc\r\n0\r\n\r\n", Err(ErrorCode::IncompleteBody)),
        (2, "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", Err(ErrorCode::IncompleteBody)),
        (3, "ffffffffffffffff\r\nabc", Err(ErrorCode::IncompleteBody)),
        (3, "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n", Err(ErrorCode::MalformedTrailerError)),
        (3, "3\r\nabcd\r\n0\r\n\r\n", Err(ErrorCode::InvalidRequest)),
    ] {
        assert_eq!(
            read_as(declared(chunked, Some(announced)), wire.as_bytes()).await,
            result,
            "{announced} {wire:?}"
        );
    }
    let bound = vec![b'a'; 1000];
    assert_eq!(read_as(declared(Payload::Unsigned, Some(1000)), &bound).await, Ok(1000));
    assert_eq!(read_as(declared(Payload::Unsigned, None), &bound).await, Ok(1000));
    assert_eq!(read_as(declared(Payload::Unsigned, Some(1001)), b"").await, Err(ErrorCode::EntityTooLarge));
    let above = vec![b'a'; 1001];
    assert_eq!(read_as(declared(Payload::Unsigned, None), &above).await, Err(ErrorCode::EntityTooLarge));
}

#[tokio::test]
async fn a_connection_that_breaks_or_rests_ends_the_body() {
    let broken =
        stream::iter([Ok(Frame::data(Bytes::from_static(b"ab"))), Err(std::io::Error::other("reset"))]);
    let mut broken = Incoming::new(StreamBody::new(broken), clock());
    let tags = Tags::default();
    let reader =
        BodyReader::new(&mut broken, &tags, declared(Payload::Unsigned, Some(3)), None, 1000).unwrap();
    assert_eq!(read(reader).await.err(), Some(ErrorCode::IncompleteBody));

    let clock = clock();
    let resting =
        stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"ab")))]).chain(stream::pending());
    let mut resting = Incoming::new(StreamBody::new(resting), Arc::<ManualClock>::clone(&clock));
    let reader =
        BodyReader::new(&mut resting, &tags, declared(Payload::Unsigned, Some(3)), None, 1000).unwrap();
    let mut reading = Box::pin(read(reader));
    assert!((&mut reading).now_or_never().is_none());
    clock.advance(BODY_IDLE_PATIENCE - std::time::Duration::from_millis(1));
    assert!((&mut reading).now_or_never().is_none());
    clock.advance(std::time::Duration::from_millis(1));
    assert_eq!(reading.now_or_never().unwrap().err(), Some(ErrorCode::RequestTimeout));
}

/// No tag is made of a part.
#[tokio::test]
async fn what_was_dropped_half_way_is_not_gone_on_with() {
    let (body, tags) = (vec![7; 100_000], Tags::default());
    let mut incoming = incoming(&body);
    let declared = declared(Payload::Unsigned, Some(100_000));
    let mut reader = BodyReader::new(&mut incoming, &tags, declared, None, 1_000_000).unwrap();
    let (at_once, lanes) = (reader.next().now_or_never().is_some(), strongroom_erasure::md5::lanes());
    assert_eq!(at_once, lanes == 1, "a machine that hashes one message at a time waits for nothing");
    if at_once {
        return;
    }
    let again = AssertUnwindSafe(async { while reader.next().await.unwrap().is_some() {} });
    assert!(again.catch_unwind().await.is_err());
}

#[tokio::test]
async fn what_is_thrown_away_is_bounded() {
    let of = |len: u64| {
        let piece = Bytes::from(vec![0; 1 << 20]);
        let pieces = (0..len.div_ceil(1 << 20)).map(move |index| {
            let take = (len - (index << 20)).min(1 << 20);
            Ok::<_, Infallible>(Frame::data(piece.slice(..usize::try_from(take).unwrap())))
        });
        Incoming::new(StreamBody::new(stream::iter(pieces)), clock())
    };
    assert!(of(DISCARD_LEN_BYTES_MAX).discard().await);
    assert!(!of(DISCARD_LEN_BYTES_MAX + 1).discard().await);
}

#[test]
fn what_headers_say_is_checked_before_the_body() {
    let sha = Payload::Sha256([0; 32]);
    let of = |payload, headers: &[(&str, &str)]| {
        Declared::new(&head("PUT", "/abc/k", headers), payload).map_err(|e| e.code)
    };
    for (payload, headers, code) in [
        (sha, &[("content-md5", "")][..], ErrorCode::InvalidDigest),
        (sha, &[("content-md5", "x")], ErrorCode::InvalidDigest),
        (sha, &[("content-md5", "AAAA")], ErrorCode::InvalidDigest),
        (sha, &[("content-length", "-1")], ErrorCode::InvalidArgument),
        (sha, &[("content-length", "18446744073709551616")], ErrorCode::InvalidArgument),
        (sha, &[("x-amz-checksum-crc32", "AAAA")], ErrorCode::InvalidRequest),
        (
            sha,
            &[("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-checksum-sha1", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=")],
            ErrorCode::InvalidRequest,
        ),
        (sha, &[("x-amz-sdk-checksum-algorithm", "CRC32")], ErrorCode::InvalidRequest),
        (
            sha,
            &[("x-amz-sdk-checksum-algorithm", "MD4"), ("x-amz-checksum-crc32", "AAAAAA==")],
            ErrorCode::InvalidRequest,
        ),
        (sha, &[("x-amz-trailer", "x-amz-checksum-crc32")], ErrorCode::InvalidRequest),
        (Payload::SignedChunks, &[("content-length", "1")], ErrorCode::MissingContentLength),
        (
            Payload::UnsignedChunksTrailer,
            &[("x-amz-decoded-content-length", "1"), ("x-amz-trailer", "x-other")],
            ErrorCode::InvalidRequest,
        ),
    ] {
        assert_eq!(of(payload, headers).err(), Some(code), "{headers:?}");
    }
    let good = of(
        Payload::UnsignedChunksTrailer,
        &[
            ("x-amz-decoded-content-length", "1"),
            ("x-amz-trailer", "x-amz-checksum-crc64nvme"),
            ("x-amz-sdk-checksum-algorithm", "CRC64NVME"),
        ],
    );
    assert_eq!(good.unwrap().checksum, Some(declared::Expected::Trailer(Algorithm::Crc64Nvme)));
}
