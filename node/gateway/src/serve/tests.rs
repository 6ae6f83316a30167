//! The door on a socket: hyper's client, and bytes by hand.

use super::*;
use crate::checksum::Algorithm;
use crate::door::{DoorConfig, DoorParts};
use crate::testing::{Client, Keys, ManualClock, MemoryStore, SeededRng, Sign};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::client::conn::http1::{SendRequest, handshake};
use strongroom_env::Task;
use strongroom_types::WallTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

struct World {
    door: Arc<Door>,
    client: Client,
    clock: Arc<ManualClock>,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(WallTime::from_unix_millis(1_800_000_000_000)));
        let rng = Arc::new(SeededRng::new(1));
        let door = Arc::new(Door::new(DoorParts {
            store: Arc::new(MemoryStore::new(
                Arc::<ManualClock>::clone(&clock),
                Arc::<SeededRng>::clone(&rng),
            )),
            credentials: Arc::new(Keys::one("KEY", "secret")),
            observer: None,
            clock: Arc::<ManualClock>::clone(&clock),
            rng,
            config: DoorConfig::default(),
        }));
        let client = Client::new("KEY", "secret", Arc::<ManualClock>::clone(&clock));
        let world = Self { door, client, clock };
        let made = world.door.handle(world.client.request(Sign::Sha256, "PUT", "/mail", &[], b"")).await;
        assert_eq!(made.status(), StatusCode::OK);
        world
    }

    /// A connection: the client's end, and the task that serves it.
    fn connect(&self, ended: watch::Receiver<bool>) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        (near, tokio::spawn(connection(far, Arc::clone(&self.door), clock, ended)))
    }
}

type ClientBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn client_of(stream: DuplexStream) -> SendRequest<ClientBody> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(sender: &mut SendRequest<ClientBody>, request: Request<ClientBody>) -> (Response<()>, Bytes) {
    sender.ready().await.unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    (Response::from_parts(parts, ()), body.collect().await.unwrap().to_bytes())
}

/// The request with its body sent in frames of unknown number: Transfer-Encoding: chunked.
fn streamed(request: Request<Full<Bytes>>) -> Request<ClientBody> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove("content-length");
    let whole = body.collect().now_or_never().unwrap().unwrap().to_bytes();
    let frames: Vec<_> =
        whole.chunks(1000).map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect();
    Request::from_parts(parts, StreamBody::new(futures::stream::iter(frames)).boxed_unsync())
}

fn whole(request: Request<Full<Bytes>>) -> Request<ClientBody> {
    request.map(|body| body.boxed_unsync())
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let world = World::new().await;
    let (_ending, ended) = watch::channel(false);
    let (stream, served) = world.connect(ended);
    let mut sender = client_of(stream).await;
    let body = vec![5; 100_000];
    // boto3 over TLS: aws-chunked within Transfer-Encoding: chunked, and no Content-Length.
    let put =
        world.client.request(Sign::UnsignedTrailer(30_000, Algorithm::Crc32), "PUT", "/mail/k", &[], &body);
    assert_eq!(send(&mut sender, streamed(put)).await.0.status(), StatusCode::OK);
    let get = whole(world.client.request(Sign::Sha256, "GET", "/mail/k", &[], b""));
    let (answer, read) = send(&mut sender, get).await;
    assert_eq!((answer.status(), read), (StatusCode::OK, Bytes::from(body)));
    let head = whole(world.client.request(Sign::Sha256, "HEAD", "/mail/k", &[], b""));
    let (answer, read) = send(&mut sender, head).await;
    assert_eq!((answer.headers()["content-length"].as_bytes(), read.len()), (&b"100000"[..], 0));
    let absent = whole(world.client.request(Sign::Sha256, "HEAD", "/mail/absent", &[], b""));
    assert_eq!(send(&mut sender, absent).await.0.status(), StatusCode::NOT_FOUND);
    // A refused body is read to its end, so the connection goes on.
    let refused = world.client.request(Sign::Unsigned, "PUT", "/nowhere/k", &[], &vec![1; 1_000_000]);
    let (answer, text) = send(&mut sender, streamed(refused)).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(text.starts_with(b"<?xml"));
    let get = whole(world.client.request(Sign::Sha256, "GET", "/mail", &[], b""));
    assert_eq!(send(&mut sender, get).await.0.status(), StatusCode::OK);
    drop(sender);
    served.await.unwrap();
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told_or_refused() {
    let world = World::new().await;
    let (_ending, ended) = watch::channel(false);
    for (target, first_line) in
        [("/mail/k", "HTTP/1.1 100 Continue\r\n"), ("/nowhere/k", "HTTP/1.1 404 Not Found\r\n")]
    {
        let (mut stream, served) = world.connect(ended.clone());
        let request = world.client.request(Sign::Unsigned, "PUT", target, &[], b"hello");
        let mut text = format!("PUT {target} HTTP/1.1\r\nexpect: 100-continue\r\n");
        for (name, value) in request.headers() {
            text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        stream.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
        let mut line = vec![0; first_line.len()];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(std::str::from_utf8(&line).unwrap(), first_line);
        if target == "/mail/k" {
            stream.write_all(b"hello").await.unwrap();
            let mut answer = [0; 17];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"\r\nHTTP/1.1 200 OK");
        }
        drop(stream);
        served.await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_left() {
    let world = World::new().await;
    let put = world.client.request(Sign::Unsigned, "PUT", "/mail/k", &[], &vec![1; 1_000_000]);
    assert_eq!(world.door.handle(put).await.status(), StatusCode::OK);
    let (_ending, ended) = watch::channel(false);
    let (mut stream, served) = world.connect(ended);
    let request = world.client.request(Sign::Sha256, "GET", "/mail/k", &[], b"");
    let mut text = "GET /mail/k HTTP/1.1\r\n".to_owned();
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    while world.clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    world.clock.advance(WRITE_IDLE_PATIENCE - Duration::from_millis(1));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!served.is_finished());
    world.clock.advance(Duration::from_millis(1));
    served.await.unwrap();
}

#[tokio::test]
async fn heads_above_the_bounds_are_refused() {
    let world = World::new().await;
    let (_ending, ended) = watch::channel(false);
    let (mut stream, served) = world.connect(ended);
    let mut text = "GET / HTTP/1.1\r\nhost: localhost\r\n".to_owned();
    (0..HEADERS_MAX + 1).for_each(|index| text.push_str(&format!("h{index}: v\r\n")));
    stream.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    served.await.unwrap();
}

struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let task = tokio::spawn(future);
        Task::new(move || task.abort())
    }

    fn blocking(&self, _name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn an_end_lets_the_request_in_flight_finish() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let parts = ServeParts { clock: Arc::<ManualClock>::clone(&world.clock), spawn: Arc::new(TokioSpawn) };
    let shutdown = async move { stopped.await.unwrap() };
    let serving = tokio::spawn(serve(listener, Arc::clone(&world.door), parts, shutdown));

    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (frames, rest) = futures::channel::mpsc::unbounded::<Result<Frame<Bytes>, Infallible>>();
    let (parts, _) = world.client.request(Sign::Unsigned, "PUT", "/mail/k", &[], b"hello").into_parts();
    let request = Request::from_parts(parts, StreamBody::new(rest).boxed_unsync());
    frames.unbounded_send(Ok(Frame::data(Bytes::from_static(b"hel")))).unwrap();
    let answer = tokio::spawn(async move {
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap().status()
    });
    // The door has read the first bytes and waits for more.
    while world.clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!serving.is_finished());
    frames.unbounded_send(Ok(Frame::data(Bytes::from_static(b"lo")))).unwrap();
    drop(frames);
    assert_eq!(answer.await.unwrap(), StatusCode::OK);
    serving.await.unwrap();
    let get = world.client.request(Sign::Sha256, "GET", "/mail/k", &[], b"");
    let read = world.door.handle(get).await.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(read, "hello");
}
