//! The client against a server on the loopback that counts what reaches it.

use super::{Endpoint, EndpointError, connect};
use crate::limits::ATTEMPTS_MAX;
use aws_sdk_s3::primitives::ByteStream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use tokio::net::TcpListener;

/// What the server keeps: bodies by path, how many requests it saw, and how many more it will refuse.
#[derive(Default)]
struct Seen {
    objects: BTreeMap<String, Bytes>,
    requests: u32,
    refusals_left: u32,
}

/// Serves PUT and GET of whole bodies from memory on the current thread; `503` while refusals are left.
async fn serve(seen: Rc<RefCell<Seen>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            let service = service_fn(move |request| answer(request, seen.clone()));
            tokio::task::spawn_local(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    url
}

async fn answer(
    request: Request<Incoming>,
    seen: Rc<RefCell<Seen>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut seen = seen.borrow_mut();
    seen.requests += 1;
    let signed =
        parts.headers.get("authorization").is_some_and(|value| value.as_bytes().starts_with(b"AWS4-"));
    let (status, body) = if !signed {
        (StatusCode::FORBIDDEN, Bytes::new())
    } else if seen.refusals_left > 0 {
        seen.refusals_left -= 1;
        (StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(b"<Error><Code>SlowDown</Code></Error>"))
    } else if parts.method == http::Method::PUT {
        seen.objects.insert(parts.uri.path().to_owned(), body);
        (StatusCode::OK, Bytes::new())
    } else {
        match seen.objects.get(parts.uri.path()) {
            Some(body) => (StatusCode::OK, body.clone()),
            None => (StatusCode::NOT_FOUND, Bytes::from_static(b"<Error><Code>NoSuchKey</Code></Error>")),
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}

fn endpoint(url: impl Into<String>) -> Endpoint {
    Endpoint {
        url: url.into(),
        region: "eu-central-1".into(),
        access_key: "mail".into(),
        secret_key: "correct horse".into(),
        path_style: true,
    }
}

async fn put_then_get() {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let client = connect(&endpoint(serve(seen.clone()).await)).unwrap();
    client
        .put_object()
        .bucket("letters")
        .key("a/b")
        .checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Crc32)
        .body(ByteStream::from_static(b"From: a@example.com\r\n\r\nbody"))
        .send()
        .await
        .unwrap();
    let read = client.get_object().bucket("letters").key("a/b").send().await.unwrap();
    let read = read.body.collect().await.unwrap().into_bytes();
    // The server keeps what came over the wire; where the SDK framed it in signed or trailed chunks, the plain body is within.
    let plain = b"From: a@example.com\r\n\r\nbody";
    assert!(read.windows(plain.len()).any(|window| window == plain));
    let missing = client.get_object().bucket("letters").key("none").send().await.unwrap_err();
    assert!(missing.into_service_error().is_no_such_key());
    assert_eq!(seen.borrow().requests, 3, "path style, and no retry of an answer that is final");
    assert_eq!(seen.borrow().objects.keys().collect::<Vec<_>>(), ["/letters/a/b"]);
}

fn on_tokio(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work);
}

#[test]
fn put_then_get_on_tokio() {
    on_tokio(put_then_get());
}

#[test]
fn put_then_get_inside_tokio_uring() {
    // Where the kernel forbids io_uring there is no such runtime, and the node runs on tokio alone.
    if tokio_uring_is_allowed() {
        tokio_uring::start(put_then_get());
    }
}

fn tokio_uring_is_allowed() -> bool {
    let quiet = std::panic::catch_unwind(|| tokio_uring::start(async {}));
    quiet.is_ok()
}

#[test]
fn a_refusal_is_tried_again() {
    on_tokio(async {
        let seen = Rc::new(RefCell::new(Seen { refusals_left: ATTEMPTS_MAX - 1, ..Seen::default() }));
        let client = connect(&endpoint(serve(seen.clone()).await)).unwrap();
        let put = client.put_object().bucket("letters").key("k").body(ByteStream::from_static(b"x"));
        put.send().await.unwrap();
        assert_eq!(seen.borrow().requests, ATTEMPTS_MAX);
    });
}

#[test]
fn tries_are_bounded() {
    on_tokio(async {
        let seen = Rc::new(RefCell::new(Seen { refusals_left: u32::MAX, ..Seen::default() }));
        let client = connect(&endpoint(serve(seen.clone()).await)).unwrap();
        client.head_bucket().bucket("letters").send().await.unwrap_err();
        assert_eq!(seen.borrow().requests, ATTEMPTS_MAX);
    });
}

#[test]
fn an_endpoint_is_checked_before_anything_is_sent() {
    let refused = |url: &str| connect(&endpoint(url)).err();
    for url in [
        "",
        "localhost:9000",
        "ftp://host",
        "http://",
        "http://host/path",
        "http://host?a=b",
        "http://u:p@host",
    ] {
        assert_eq!(refused(url), Some(EndpointError::Malformed { url: url.into() }), "{url}");
    }
    assert_eq!(refused("https://host"), Some(EndpointError::TlsMissing { url: "https://host".into() }));
    for url in ["http://host", "http://host/", "http://127.0.0.1:9000", "http://[::1]:9000"] {
        assert_eq!(refused(url), None, "{url}");
    }
    let empty = Endpoint { secret_key: String::new(), ..endpoint("http://host") };
    assert_eq!(
        connect(&empty).err(),
        Some(EndpointError::Empty { url: "http://host".into(), field: "secret_key" })
    );
}

#[test]
fn the_secret_is_never_printed() {
    assert!(!format!("{:?}", endpoint("http://host")).contains("horse"));
}
