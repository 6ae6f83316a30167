use super::*;
use crate::checksum::{Algorithm, Checksum};
use crate::limits::BODY_PIECE_LEN_BYTES_MAX;
use crate::testing::client::answer;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use md5::Digest as _;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

const HELLO_MD5: &str = "5d41402abc4b2a76b9719d911017c592";

#[tokio::test]
async fn every_way_to_send_a_body_stores_the_same_bytes() {
    let world = World::with_buckets().await;
    let body: Vec<u8> = (0..200_000_u32).map(|index| (index % 251) as u8).collect();
    let mut ways =
        vec![Sign::Sha256, Sign::Unsigned, Sign::Presigned(60), Sign::Chunks(65_536), Sign::Chunks(7)];
    for algorithm in Algorithm::ALL {
        ways.push(Sign::ChunksTrailer(65_536, algorithm));
        ways.push(Sign::UnsignedTrailer(100_000, algorithm));
    }
    for (index, sign) in ways.into_iter().enumerate() {
        let target = format!("/mail/way-{index}");
        let answer = world.send_as(sign, "PUT", &target, &[], &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{sign:?}: {answer:?}");
        let read = world.send("GET", &target, &[("x-amz-checksum-mode", "ENABLED")], b"").await;
        assert_eq!(read.body, body, "{sign:?}");
        assert_eq!(read.header("content-encoding"), "", "aws-chunked is not kept");
        assert_eq!(read.header("etag"), answer.header("etag"));
        if let Sign::ChunksTrailer(_, algorithm) | Sign::UnsignedTrailer(_, algorithm) = sign {
            let mut checksum = Checksum::new(algorithm);
            checksum.update(&body);
            assert_eq!(read.header(algorithm.header()), checksum.finish());
            assert_eq!(answer.header(algorithm.header()), read.header(algorithm.header()));
            assert_eq!(read.header("x-amz-checksum-type"), "FULL_OBJECT");
        }
        for sign in [Sign::Sha256, Sign::Chunks(10)] {
            assert_eq!(world.send_as(sign, "PUT", "/mail/empty", &[], b"").await.status, StatusCode::OK);
            assert_eq!(world.read("/mail/empty").await, Some(vec![]));
        }
    }
}

#[tokio::test]
async fn what_vouches_for_a_body_must_be_true_or_nothing_is_stored() {
    let world = World::with_buckets().await;
    let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert!(crate::percent::hex(&sha2::Sha256::digest(b"hello")) == sha256);
    for (header, good, bad) in [
        ("content-md5", "XUFAKrxLKna5cZ2REBfFkg==", "XUFAKrxLKna5cZ2REBfFkQ=="),
        ("x-amz-checksum-crc32", "NhCmhg==", "NhCmhQ=="),
        ("x-amz-checksum-crc32c", "mnG7TA==", "mnG7Sw=="),
        ("x-amz-checksum-crc64nvme", "M3eFcAZSQlc=", "M3eFcAZSQlY="),
        ("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00=", "qvTGHdzF6KLavt4PO0gs2a6pQ0w="),
        (
            "x-amz-checksum-sha256",
            "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
            "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCU=",
        ),
    ] {
        for sign in [Sign::Sha256, Sign::Unsigned, Sign::Chunks(2)] {
            let answer = world.send_as(sign, "PUT", "/mail/bad", &[(header, bad)], b"hello").await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (StatusCode::BAD_REQUEST, "BadDigest"),
                "{header}"
            );
            assert_eq!(world.read("/mail/bad").await, None, "refused and yet visible");
            let answer = world.send_as(sign, "PUT", "/mail/good", &[(header, good)], b"hello").await;
            assert_eq!(answer.status, StatusCode::OK, "{header}: {answer:?}");
            assert_eq!(answer.header("etag"), format!("\"{HELLO_MD5}\""));
        }
    }
    let malformed = world.send("PUT", "/mail/bad", &[("content-md5", "AAAA")], b"hello").await;
    assert_eq!(malformed.code(), "InvalidDigest");

    // The hash that was signed is not the body's.
    let mut request = world.client.request(Sign::Sha256, "PUT", "/mail/bad", &[], b"hello");
    *request.body_mut() = http_body_util::Full::new(Bytes::from_static(b"jello"));
    assert_eq!(answer(&world.door, request).await.code(), "XAmzContentSHA256Mismatch");
    // A trailer that is not the data's.
    let request =
        world.client.request(Sign::UnsignedTrailer(9, Algorithm::Crc32), "PUT", "/mail/bad", &[], b"hello");
    let (parts, _) = request.into_parts();
    let wire = b"5\r\njello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let mut changed = http::Request::from_parts(parts, http_body_util::Full::new(Bytes::from_static(wire)));
    changed.headers_mut().insert("content-length", wire.len().into());
    assert_eq!(answer(&world.door, changed).await.code(), "BadDigest");
    assert_eq!(world.read("/mail/bad").await, None);
    assert_eq!(world.store.counts().aborts.load(Ordering::Relaxed), 20);
}

#[tokio::test]
async fn a_decoded_length_that_is_not_the_bodys_is_refused_and_nothing_is_stored() {
    let world = World::with_buckets().await;
    for announced in ["4", "6", "600"] {
        for sign in [
            Sign::Chunks(2),
            Sign::UnsignedTrailer(2, Algorithm::Crc32),
            Sign::ChunksTrailer(9, Algorithm::Crc32),
        ] {
            let headers = [("x-amz-decoded-content-length", announced)];
            let answer = world.send_as(sign, "PUT", "/mail/k", &headers, b"hello").await;
            assert_eq!(answer.code(), "IncompleteBody", "{announced} {sign:?}");
            assert_eq!(world.read("/mail/k").await, None);
        }
    }
}

#[tokio::test]
async fn a_body_cut_short_is_refused_and_the_old_object_stays() {
    let world = World::with_buckets().await;
    world.send("PUT", "/mail/k", &[], b"old").await;
    for sign in [Sign::Unsigned, Sign::Sha256, Sign::Chunks(3)] {
        let request = world.client.request(sign, "PUT", "/mail/k", &[], b"the new one");
        let (parts, body) = request.into_parts();
        let whole = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        for len in [0, 1, whole.len() - 1] {
            let body = http_body_util::Full::new(whole.slice(..len));
            let answer = answer(&world.door, http::Request::from_parts(parts.clone(), body)).await;
            assert_eq!(answer.code(), "IncompleteBody", "{sign:?} {len}");
        }
    }
    assert_eq!(world.read("/mail/k").await.as_deref(), Some(&b"old"[..]));
}

#[tokio::test]
async fn a_length_must_be_known_one_way_or_another() {
    let world = World::with_buckets().await;
    let put = |sign, transfer: bool| {
        let mut request = world.client.request(sign, "PUT", "/mail/k", &[], b"hello");
        request.headers_mut().remove("content-length");
        if transfer {
            request.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
        }
        answer(&world.door, request)
    };
    // boto3 over TLS.
    assert_eq!(put(Sign::UnsignedTrailer(1 << 20, Algorithm::Crc32), true).await.status, StatusCode::OK);
    assert_eq!(put(Sign::Unsigned, true).await.status, StatusCode::OK);
    assert_eq!(put(Sign::Unsigned, false).await.code(), "MissingContentLength");
    assert_eq!(world.read("/mail/k").await.as_deref(), Some(&b"hello"[..]));
}

#[tokio::test]
async fn an_object_above_the_bound_is_refused_before_its_body() {
    let world = World::with_buckets().await;
    let bound = strongroom_types::limits::OBJECT_LEN_BYTES_MAX;
    let answer_for = |len: u64| {
        let mut request = world.client.request(Sign::Unsigned, "PUT", "/mail/k", &[], b"");
        request.headers_mut().insert("content-length", len.into());
        answer(&world.door, request)
    };
    assert_eq!(answer_for(bound + 1).await.code(), "EntityTooLarge");
    assert_eq!(answer_for(bound).await.code(), "IncompleteBody");
}

/// One chunk of 300 MB in one aws-chunked body. The source makes each frame when it is asked for one, and counts how many
/// of them are alive at once: that is all that the door can be holding.
#[tokio::test]
async fn one_chunk_of_300_megabytes_streams_through() {
    const FRAME: usize = 1 << 20;
    const FRAMES: usize = 300;
    struct Counted(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let world = World::with(MemoryStore::forgetful);
    world.send("PUT", "/mail", &[], b"").await;
    let headers = [("x-amz-decoded-content-length", "314572800")];
    let request = world.client.request(
        Sign::UnsignedTrailer(1, Algorithm::Crc64Nvme),
        "PUT",
        "/mail/big",
        &headers,
        b"",
    );
    let (mut parts, _) = request.into_parts();
    parts.headers.remove("content-length");
    parts.headers.insert("transfer-encoding", "chunked".parse().unwrap());

    let mut checksum = Checksum::new(Algorithm::Crc64Nvme);
    let zeros = vec![0; FRAME];
    (0..FRAMES).for_each(|_| checksum.update(&zeros));
    let tail = format!("\r\n0\r\n{}:{}\r\n\r\n", Algorithm::Crc64Nvme.header(), checksum.finish());
    let (alive, alive_max) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (alive_in, max_in) = (Arc::clone(&alive), Arc::clone(&alive_max));
    let frames = (0..FRAMES).map(move |_| {
        max_in.fetch_max(alive_in.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        Bytes::from_owner(Counted(vec![0; FRAME], Arc::clone(&alive_in)))
    });
    let wire = stream::once(async { Bytes::from_static(b"12c00000\r\n") })
        .chain(stream::iter(frames))
        .chain(stream::once(async move { Bytes::from(tail) }))
        .map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    let answer = answer(&world.door, http::Request::from_parts(parts, StreamBody::new(wire))).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let counts = world.store.counts();
    assert_eq!(counts.written_bytes.load(Ordering::Relaxed), (FRAME * FRAMES) as u64);
    assert!(counts.piece_len_bytes_max.load(Ordering::Relaxed) <= BODY_PIECE_LEN_BYTES_MAX);
    // The frame in work, and the next where the last piece of one is still held.
    assert!(alive_max.load(Ordering::Relaxed) <= 2, "{alive_max:?}");
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_refused_client_is_heard_out_within_bounds() {
    let world = World::with_buckets().await;
    let left = |expect: bool, len: usize| {
        let mut request = world.client.request(Sign::Unsigned, "PUT", "/nowhere/k", &[], &vec![0; len]);
        if expect {
            request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        }
        let (parts, body) = request.into_parts();
        let read = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&read);
        let body = http_body_util::BodyExt::map_frame(body, move |frame| {
            count.fetch_add(1, Ordering::Relaxed);
            frame
        });
        let world = &world;
        async move {
            let answer = answer(&world.door, http::Request::from_parts(parts, body)).await;
            assert_eq!(answer.code(), "NoSuchBucket");
            (read.load(Ordering::Relaxed), answer.header("connection").to_owned())
        }
    };
    assert_eq!(left(false, 1 << 20).await, (1, String::new()));
    assert_eq!(left(false, 16 << 20).await, (1, "close".to_owned()));
    // Never told to go on, it sends nothing.
    assert_eq!(left(true, 1 << 20).await, (0, String::new()));
}
