use super::*;
use std::time::Duration;
use strongroom_types::{BucketName, ObjectKey};

#[tokio::test]
async fn what_was_put_is_read_with_all_that_was_said_of_it() {
    let world = World::with_buckets().await;
    let headers = [
        ("content-type", "message/rfc822"),
        ("content-encoding", "gzip"),
        ("cache-control", "max-age=1"),
        ("content-disposition", "inline"),
        ("content-language", "de"),
        ("expires", "Fri, 24 May 2013 00:00:00 GMT"),
        ("x-amz-meta-guid", "abc"),
    ];
    let put = world.send("PUT", "/mail/a/b", &headers, b"0123456789").await;
    assert_eq!(put.status, StatusCode::OK);
    assert_eq!(put.header("x-amz-version-id"), "", "mail keeps no versions");
    for method in ["GET", "HEAD"] {
        let answer = world.send(method, "/mail/a/b", &[], b"").await;
        assert_eq!(answer.status, StatusCode::OK);
        for (name, value) in headers {
            assert_eq!(answer.header(name), value, "{method}");
        }
        assert_eq!(answer.header("content-length"), "10");
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("etag"), "\"781e5e245d69b566979b86e28d23f2c7\"");
        assert_eq!(answer.header("last-modified"), "Fri, 15 Jan 2027 08:00:00 GMT");
        assert_eq!(answer.body.as_ref(), if method == "GET" { &b"0123456789"[..] } else { b"" });
    }
    let answer = world
        .send("GET", "/mail/a/b?response-content-type=text%2Fplain&response-expires=never", &[], b"")
        .await;
    assert_eq!((answer.header("content-type"), answer.header("expires")), ("text/plain", "never"));
    let bad = world.send("GET", "/mail/a/b?response-content-type=a%0Ab", &[], b"").await;
    assert_eq!(bad.code(), "InvalidArgument");
    world.send("PUT", "/mail/plain", &[], b"").await;
    assert_eq!(
        world.send("HEAD", "/mail/plain", &[], b"").await.header("content-type"),
        "binary/octet-stream"
    );
}

#[tokio::test]
async fn ranges() {
    let world = World::with_buckets().await;
    world.send("PUT", "/mail/k", &[("x-amz-checksum-crc32", "poTHxg==")], b"0123456789").await;
    assert_eq!(world.read("/mail/k").await, Some(b"0123456789".to_vec()));
    for (range, part, content_range) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=5-99", "56789", "bytes 5-9/10"),
    ] {
        let answer =
            world.send("GET", "/mail/k", &[("range", range), ("x-amz-checksum-mode", "ENABLED")], b"").await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(answer.body, part);
        assert_eq!(answer.header("content-range"), content_range);
        assert_eq!(answer.header("content-length"), part.len().to_string());
        assert_eq!(answer.header("x-amz-checksum-crc32"), "", "a checksum of the whole is not of the part");
        let head = world.send("HEAD", "/mail/k", &[("range", range)], b"").await;
        assert_eq!((head.status, head.header("content-range")), (StatusCode::PARTIAL_CONTENT, content_range));
    }
    for range in ["bytes=0-1,3-4", "bytes=x", "bytes=5-2"] {
        let answer = world.send("GET", "/mail/k", &[("range", range)], b"").await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 10), "{range}");
    }
    let answer = world.send("GET", "/mail/k", &[("range", "bytes=10-")], b"").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"));
    assert_eq!(answer.header("content-range"), "bytes */10");
    let other = [("range", "bytes=0-0"), ("if-range", "\"other\"")];
    assert_eq!(world.send("GET", "/mail/k", &other, b"").await.status, StatusCode::OK);
}

#[tokio::test]
async fn conditional_reads() {
    let world = World::with_buckets().await;
    let etag = world.send("PUT", "/mail/k", &[], b"one").await.header("etag").to_owned();
    for method in ["GET", "HEAD"] {
        for (header, value, status) in [
            ("if-match", etag.as_str(), 200),
            ("if-match", "\"other\"", 412),
            ("if-none-match", etag.as_str(), 304),
            ("if-none-match", "\"other\"", 200),
            ("if-modified-since", "Fri, 15 Jan 2027 08:00:00 GMT", 304),
            ("if-modified-since", "Fri, 15 Jan 2027 07:59:59 GMT", 200),
            ("if-unmodified-since", "Fri, 15 Jan 2027 08:00:00 GMT", 200),
            ("if-unmodified-since", "Fri, 15 Jan 2027 07:59:59 GMT", 412),
        ] {
            let answer = world.send(method, "/mail/k", &[(header, value)], b"").await;
            assert_eq!(answer.status.as_u16(), status, "{method} {header}: {value}");
            if status == 304 {
                assert_eq!((answer.header("etag"), answer.body.len()), (etag.as_str(), 0));
            }
        }
    }
}

#[tokio::test]
async fn conditional_writes() {
    let world = World::with_buckets().await;
    let absent = [("if-none-match", "*")];
    let first = world.send("PUT", "/mail/k", &absent, b"one").await;
    assert_eq!(first.status, StatusCode::OK);
    let second = world.send("PUT", "/mail/k", &absent, b"two").await;
    assert_eq!(
        (second.status, second.code().as_str()),
        (StatusCode::PRECONDITION_FAILED, "PreconditionFailed")
    );
    assert_eq!(world.read("/mail/k").await, Some(b"one".to_vec()));
    let matches = [("if-match", first.header("etag"))];
    assert_eq!(world.send("PUT", "/mail/k", &matches, b"two").await.status, StatusCode::OK);
    assert_eq!(world.send("PUT", "/mail/k", &matches, b"three").await.code(), "PreconditionFailed");
    assert_eq!(world.send("DELETE", "/mail/k", &matches, b"").await.code(), "PreconditionFailed");
    assert_eq!(world.read("/mail/k").await, Some(b"two".to_vec()));
    assert_eq!(
        world.send("DELETE", "/mail/k", &[("if-match", "*")], b"").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(world.read("/mail/k").await, None);
    assert_eq!(world.send("DELETE", "/mail/k", &[], b"").await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        world.send("PUT", "/mail/k", &[("if-none-match", "\"a\"")], b"").await.code(),
        "NotImplemented"
    );
}

#[tokio::test]
async fn versions_of_config_are_told_and_read() {
    let world = World::with_buckets().await;
    let mut versions = Vec::new();
    for body in ["one", "two"] {
        let put = world.send("PUT", "/config/k", &[], body.as_bytes()).await;
        versions.push((put.header("x-amz-version-id").to_owned(), body));
    }
    world.send("DELETE", "/config/k", &[], b"").await;
    assert_eq!(world.read("/config/k").await, None);
    for (version, body) in &versions {
        let answer = world.send("GET", &format!("/config/k?versionId={version}"), &[], b"").await;
        assert_eq!(
            (answer.body.as_ref(), answer.header("x-amz-version-id")),
            (body.as_bytes(), version.as_str())
        );
    }
    for (version, code) in [
        ("00000000000000000000000000000001", "NoSuchVersion"),
        ("1", "InvalidArgument"),
        ("+0000000000000000000000000000001", "InvalidArgument"),
    ] {
        let answer = world
            .send("GET", &format!("/config/k?versionId={}", version.replace('+', "%2B")), &[], b"")
            .await;
        assert_eq!(answer.code(), code, "{version}");
    }
}

/// A store gives longer pieces than a body comes in.
#[tokio::test]
async fn copies_of_long_objects() {
    let world = World::with_buckets().await;
    let body: Vec<u8> = (0..2_500_000u32).map(|place| (place >> 3) as u8).collect();
    let put = world.send("PUT", "/mail/from", &[], &body).await;
    let copy = world.send("PUT", "/mail/to", &[("x-amz-copy-source", "/mail/from")], b"").await;
    assert_eq!(copy.status, StatusCode::OK, "{copy:?}");
    let read = world.send("GET", "/mail/to", &[], b"").await;
    assert!(read.body == body, "{} bytes", read.body.len());
    assert_eq!(read.header("etag"), put.header("etag"));
}

#[tokio::test]
async fn copies() {
    let world = World::with_buckets().await;
    let given = [("x-amz-meta-a", "1"), ("content-type", "text/a"), ("x-amz-checksum-crc32", "hlF8jQ==")];
    // The checksum is of other bytes: nothing to copy from yet.
    assert_eq!(world.send("PUT", "/mail/from%20here%2B", &given, b"body").await.code(), "BadDigest");
    let put = world.send("PUT", "/mail/from%20here%2B", &given[..2], b"body").await;
    let etag = put.header("etag").to_owned();
    world.clock.advance(Duration::from_secs(10));
    let source = ("x-amz-copy-source", "/mail/from%20here%2B");
    let copy = world.send("PUT", "/config/to", &[source, ("x-amz-checksum-algorithm", "SHA1")], b"").await;
    assert_eq!(copy.status, StatusCode::OK, "{copy:?}");
    let result = copy.xml();
    assert_eq!(result.child_text("ETag"), Some(etag.as_str()));
    assert_eq!(result.child_text("LastModified"), Some("2027-01-15T08:00:10.123Z"));
    assert!(result.child_text("ChecksumSHA1").is_some());
    let read = world.send("GET", "/config/to", &[], b"").await;
    assert_eq!((read.header("x-amz-meta-a"), read.header("content-type")), ("1", "text/a"));
    assert_eq!(read.body, "body");

    let replace = [source, ("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-b", "2")];
    assert_eq!(
        world.send("PUT", "/mail/from%20here%2B", &replace, b"").await.status,
        StatusCode::OK,
        "onto itself"
    );
    let read = world.send("GET", "/mail/from%20here%2B", &[], b"").await;
    assert_eq!((read.header("x-amz-meta-a"), read.header("x-amz-meta-b")), ("", "2"));
    assert_eq!(read.header("content-type"), "binary/octet-stream");
    assert_eq!(world.send("PUT", "/mail/from%20here%2B", &[source], b"").await.code(), "InvalidRequest");

    for (name, value, code) in [
        ("x-amz-copy-source-if-match", "\"other\"", "PreconditionFailed"),
        ("x-amz-copy-source-if-none-match", etag.as_str(), "PreconditionFailed"),
        ("x-amz-copy-source-if-modified-since", "Sat, 15 Jan 2028 08:00:00 GMT", "PreconditionFailed"),
        ("x-amz-copy-source-if-unmodified-since", "Wed, 15 Jan 2025 08:00:00 GMT", "PreconditionFailed"),
        ("x-amz-copy-source-if-match", etag.as_str(), ""),
        ("if-none-match", "*", "PreconditionFailed"),
        ("x-amz-metadata-directive", "OTHER", "InvalidArgument"),
        ("x-amz-tagging-directive", "REPLACE", "NotImplemented"),
    ] {
        assert_eq!(
            world.send("PUT", "/config/to", &[source, (name, value)], b"").await.code(),
            code,
            "{name}: {value}"
        );
    }
    for (source, code) in [
        ("mail", "InvalidArgument"),
        ("/mail/", "InvalidArgument"),
        ("/mail/%ff", "InvalidArgument"),
        ("/nowhere/k", "NoSuchBucket"),
        ("/mail/absent", "NoSuchKey"),
        ("mail/from%20here%2B?versionId=00000000000000000000000000000001", "NoSuchVersion"),
    ] {
        assert_eq!(
            world.send("PUT", "/config/to", &[("x-amz-copy-source", source)], b"").await.code(),
            code,
            "{source}"
        );
    }
}

#[tokio::test]
async fn bytes_that_are_missing_never_pass_as_the_object() {
    let world = World::with_buckets().await;
    world.send("PUT", "/mail/k", &[], &[7; 100]).await;
    world.send("PUT", "/mail/empty", &[], b"").await;
    let bucket = BucketName::new("mail").unwrap();
    world.store.stretch(&bucket, &ObjectKey::new("k").unwrap(), 1);
    world.store.stretch(&bucket, &ObjectKey::new("empty").unwrap(), 1);
    let response = world.door.handle(world.client.request(Sign::Sha256, "GET", "/mail/k", &[], b"")).await;
    assert!(http_body_util::BodyExt::collect(response.into_body()).await.is_err(), "the body breaks off");
    assert_eq!(world.send("GET", "/mail/empty", &[], b"").await.code(), "InternalError");
    let copy = world.send("PUT", "/mail/copy", &[("x-amz-copy-source", "mail/k")], b"").await;
    assert_eq!(copy.code(), "InternalError");
    assert_eq!(world.read("/mail/copy").await, None);
}
