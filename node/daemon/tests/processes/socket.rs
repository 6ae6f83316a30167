//! Bytes to a control socket and back, as any client could send them.

use super::support::World;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long an answer may take before a test fails rather than hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// It is a problem body of this status and sort; gives it.
    #[track_caller]
    pub fn problem(&self, status: u16, sort: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:strongroom:problem:{sort}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        problem
    }
}

pub fn path(world: &World, node: u64) -> PathBuf {
    world.cluster.processes.node_dir(node).join("control.sock")
}

fn connect(world: &World, node: u64) -> UnixStream {
    let stream = UnixStream::connect(path(world, node)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends these bytes and reads what comes until the node closes.
pub fn raw(world: &World, node: u64, request: &[u8]) -> Answer {
    let mut stream = connect(world, node);
    // A node that refuses may close before it has read everything.
    let _ = stream.write_all(request);
    answer(stream)
}

/// Reads a whole answer.
pub fn answer(stream: impl Read) -> Answer {
    let mut reader = BufReader::new(stream);
    let (status, headers) = head(&mut reader);
    let header =
        |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let mut body = Vec::new();
    match (header("content-length"), header("transfer-encoding")) {
        (Some(len), _) => {
            reader.take(len.parse().unwrap()).read_to_end(&mut body).unwrap();
        }
        (None, Some("chunked")) => {
            reader.read_to_end(&mut body).unwrap();
            body = unchunked(&body);
        }
        (None, _) => {
            reader.read_to_end(&mut body).unwrap();
        }
    }
    Answer { status, headers, body }
}

fn head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { return (status, headers) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").expect("the length of a chunk");
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if len == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + len]);
        rest = &rest[end + 2 + len + 2..];
    }
}

/// A request without a body, on a connection of its own.
pub fn ask(world: &World, node: u64, method: &str, target: &str) -> Answer {
    let request = format!("{method} {target} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    raw(world, node, request.as_bytes())
}

/// A request with a body of JSON.
pub fn send(world: &World, node: u64, method: &str, target: &str, body: &str) -> Answer {
    send_as(world, node, "application/json", method, target, body)
}

/// A request with a body of this type; none is named where it is empty.
pub fn send_as(
    world: &World,
    node: u64,
    content_type: &str,
    method: &str,
    target: &str,
    body: &str,
) -> Answer {
    let named =
        if content_type.is_empty() { String::new() } else { format!("content-type: {content_type}\r\n") };
    let len = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n{named}content-length: {len}\r\n\r\n{body}"
    );
    raw(world, node, request.as_bytes())
}

/// A stream of events, as it comes.
pub struct Stream {
    reader: BufReader<UnixStream>,
}

/// One of them.
#[derive(Debug)]
pub struct Event {
    pub id: String,
    pub kind: String,
    pub data: Value,
}

impl Stream {
    /// Follows a node's events, from behind `last` on where it is given.
    pub fn follow(world: &World, node: u64, last: Option<&str>) -> Self {
        let mut stream = connect(world, node);
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let request =
            format!("GET /v1/events HTTP/1.1\r\nhost: node\r\naccept: text/event-stream\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let (status, headers) = head(&mut reader);
        assert_eq!(status, 200);
        let content_type = headers.iter().find(|(name, _)| name == "content-type");
        assert_eq!(content_type.map(|(_, value)| value.as_str()), Some("text/event-stream"));
        Self { reader }
    }

    /// The next event. Lengths of chunks and comments lie between.
    #[track_caller]
    pub fn next(&mut self) -> Event {
        let mut event = Event { id: String::new(), kind: String::new(), data: Value::Null };
        let begun = Instant::now();
        loop {
            // A silent stream is kept alive by comments.
            assert!(begun.elapsed() < PATIENCE, "no event comes");
            let mut line = String::new();
            assert_ne!(self.reader.read_line(&mut line).unwrap(), 0, "the stream has ended");
            let Some((field, value)) = line.trim_end().split_once(": ") else {
                if event.data != Value::Null && line.trim_end().is_empty() {
                    return event;
                }
                continue;
            };
            match field {
                "id" => event.id = value.to_owned(),
                "event" => event.kind = value.to_owned(),
                "data" => event.data = serde_json::from_str(value).unwrap(),
                _ => {}
            }
        }
    }

    /// The next event of this kind.
    #[track_caller]
    pub fn next_of(&mut self, kind: &str) -> Event {
        let mut others = Vec::new();
        loop {
            let event = self.next();
            if event.kind == kind {
                return event;
            }
            others.push(event.data);
            assert!(others.len() < 1000, "no {kind} among {others:?}");
        }
    }
}
