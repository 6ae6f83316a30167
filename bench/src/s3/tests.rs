//! The load against a server in this process that can be told to misbehave.

use super::client::{Body, Target};
use super::load::{self, Operation, Phase, PhaseDone, PhaseEnd};
use super::{Arguments, bodies, hex};
use crate::limits;
use bytes::Bytes;
use clap::Parser;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// What the server does wrong, and what it holds.
#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Bytes>,
    connections: u32,
    /// Requests still to be answered with 503.
    busy_left: u32,
    /// Flips a bit of every object that is read.
    flips: bool,
    /// Cuts the last byte of every object that is read.
    cuts: bool,
    /// Closes the connection after every answer.
    closes: bool,
}

/// A server on a thread of its own, which ends with the process.
fn start(server: Server) -> (String, Arc<Mutex<Server>>) {
    let server = Arc::new(Mutex::new(server));
    let shared = server.clone();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                let shared = shared.clone();
                let service = service_fn(move |request| answer(request, shared.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    });
    (told.recv().unwrap(), server)
}

async fn answer(
    request: Request<Incoming>,
    server: Arc<Mutex<Server>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let said = parts.headers.get("x-amz-content-sha256").map(|value| value.to_str().unwrap().to_owned());
    let signed = parts
        .headers
        .get("authorization")
        .is_some_and(|value| value.as_bytes().starts_with(b"AWS4-HMAC-SHA256"));
    let mut server = server.lock().unwrap();
    let key = parts.uri.path().to_owned();
    use sha2::Digest;
    let (status, bytes) = if !signed || said != Some(hex(&sha2::Sha256::digest(&body))) {
        (StatusCode::FORBIDDEN, Bytes::from_static(b"wrong signature"))
    } else if server.busy_left > 0 {
        server.busy_left -= 1;
        (StatusCode::SERVICE_UNAVAILABLE, Bytes::new())
    } else if parts.method == Method::PUT {
        server.objects.insert(key, body);
        (StatusCode::OK, Bytes::new())
    } else if parts.method == Method::DELETE {
        server.objects.remove(&key);
        (StatusCode::NO_CONTENT, Bytes::new())
    } else if let Some(bytes) = server.objects.get(&key) {
        let mut bytes = bytes.to_vec();
        if server.flips {
            bytes[0] ^= 1;
        }
        if server.cuts {
            bytes.pop();
        }
        (StatusCode::OK, bytes.into())
    } else {
        (StatusCode::NOT_FOUND, Bytes::from_static(b"NoSuchKey"))
    };
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = status;
    if server.closes {
        response.headers_mut().insert("connection", "close".parse().unwrap());
    }
    Ok(response)
}

fn arguments(url: &str, more: &[&str]) -> Arguments {
    let line = ["x", "--endpoint", url, "--access-key", "mail", "--secret-key", "correct", "--bodies", "20"];
    Line::parse_from(line.iter().chain(more)).arguments
}

struct Load {
    target: Arc<Target>,
    bodies: Arc<[Body]>,
}

impl Load {
    fn new(url: &str, more: &[&str]) -> Self {
        let arguments = arguments(url, more);
        Self {
            target: Arc::new(Target::new(&arguments.server).unwrap()),
            bodies: bodies(&arguments).unwrap().into(),
        }
    }

    fn phase(&self, operation: Operation, end: PhaseEnd, stored: &[u64]) -> PhaseDone {
        load::run(Phase {
            operation,
            concurrency: 4,
            threads: 2,
            end,
            prefix: "run".into(),
            target: self.target.clone(),
            bodies: self.bodies.clone(),
            stored: stored.into(),
        })
        .unwrap()
    }
}

const ONCE: PhaseEnd = PhaseEnd { count: 50, after: None };

#[test]
fn what_is_written_is_read_back_and_deleted() {
    let (url, server) = start(Server::default());
    let load = Load::new(&url, &[]);
    let written = load.phase(Operation::Put, ONCE, &[]);
    assert_eq!(written.failures, Vec::<String>::new());
    assert_eq!(written.stored, (0..50).collect::<Vec<u64>>());
    assert_eq!(written.latency_us.len(), 50);
    let expected: usize = (0..50).map(|index| load.bodies[index % 20].bytes.len()).sum();
    assert_eq!(written.len_bytes, expected as u64);
    assert_eq!(server.lock().unwrap().objects.len(), 50);
    assert_eq!(server.lock().unwrap().objects["/strongroom-bench/run/00000021"], load.bodies[1].bytes);
    let read = load.phase(Operation::Get, PhaseEnd { count: 120, after: None }, &written.stored);
    assert_eq!((read.latency_us.len(), read.failed_count), (120, 0));
    let deleted = load.phase(Operation::Delete, ONCE, &written.stored);
    assert_eq!((deleted.latency_us.len(), deleted.failed_count), (50, 0));
    assert!(server.lock().unwrap().objects.is_empty());
    // Four in flight at most, three phases.
    assert!((3..=12).contains(&server.lock().unwrap().connections));
}

#[test]
fn a_wrong_byte_and_a_missing_byte_are_failures() {
    for (flips, cuts) in [(true, false), (false, true)] {
        let (url, _) = start(Server { flips, cuts, ..Server::default() });
        let load = Load::new(&url, &[]);
        let written = load.phase(Operation::Put, ONCE, &[]);
        let read = load.phase(Operation::Get, ONCE, &written.stored);
        assert_eq!((read.failed_count, read.latency_us.len(), read.len_bytes), (50, 0, 0));
        assert_eq!(read.failures.len(), limits::FAILURES_SHOWN_MAX);
        assert!(read.failures[0].contains("WRONG BYTES"), "{}", read.failures[0]);
    }
}

#[test]
fn busy_is_counted_and_tried_again() {
    let (url, _) = start(Server { busy_left: 7, ..Server::default() });
    let written = Load::new(&url, &[]).phase(Operation::Put, ONCE, &[]);
    assert_eq!((written.busy_count, written.failed_count, written.latency_us.len()), (7, 0, 50));
}

#[test]
fn a_refusal_is_a_failure_and_too_many_end_the_phase() {
    let (url, _) = start(Server::default());
    let missing =
        Load::new(&url, &[]).phase(Operation::Get, PhaseEnd { count: 10_000, after: None }, &[1, 2, 3]);
    // Each of four workers may have had one more in flight when the bound was met.
    assert!((limits::FAILURES_MAX..limits::FAILURES_MAX + 4).contains(&missing.failed_count));
    assert!(missing.failures[0].contains("404") && missing.failures[0].contains("NoSuchKey"));
}

#[test]
fn a_server_that_closes_connections_costs_connections_only() {
    let (url, server) = start(Server { closes: true, ..Server::default() });
    let written = Load::new(&url, &[]).phase(Operation::Put, ONCE, &[]);
    assert_eq!(written.failures, Vec::<String>::new());
    assert_eq!((written.latency_us.len(), server.lock().unwrap().connections), (50, 50));
}

#[test]
fn no_server_is_a_failure_in_words() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let done = Load::new(&format!("http://127.0.0.1:{port}"), &[]).phase(Operation::Put, ONCE, &[]);
    assert_eq!((done.failed_count, done.latency_us.len()), (50, 0));
    assert!(done.failures[0].contains("refused"), "{}", done.failures[0]);
}

#[test]
fn a_phase_ends_when_its_time_is_up() {
    let (url, _) = start(Server::default());
    let end = PhaseEnd { count: u64::MAX, after: Some(Duration::from_millis(50)) };
    let written = Load::new(&url, &[]).phase(Operation::Put, end, &[]);
    assert!(written.duration >= Duration::from_millis(50) && !written.latency_us.is_empty());
}

#[test]
fn arguments_out_of_bounds_are_refused() {
    let refused = |more: &[&str]| super::check(&arguments("http://host", more)).is_err();
    assert!(!refused(&[]));
    for more in [
        ["--concurrency", "0"],
        ["--concurrency", "4097"],
        ["--threads", "0"],
        ["--threads", "65"],
        ["--count", "0"],
        ["--seconds", "0"],
    ] {
        assert!(refused(&more), "{more:?}");
    }
    assert!(!refused(&["--concurrency", "4096"]) && !refused(&["--threads", "64"]));
}

#[test]
fn a_filter_that_leaves_nothing_is_refused() {
    assert!(bodies(&arguments("http://host", &["--len-bytes-max", "10"])).is_err());
    let short = bodies(&arguments("http://host", &["--len-bytes-max", "4096"])).unwrap();
    assert!(short.len() == 20 && short.iter().all(|body| body.bytes.len() <= 4096));
}
