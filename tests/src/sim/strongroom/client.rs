//! An S3 client: turns what a client of the simulator wants into signed requests, and answers into outcomes.

use super::{ACCESS_KEY, SECRET_KEY, Shared};
use crate::sim::operation::{Condition, Described, Listed, Operation, Outcome, Tag, Value};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt as _};
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use strongroom::node::Node;
use strongroom_env::{Clock, Env};
use strongroom_gateway::checksum::Algorithm;
use strongroom_gateway::percent::{self, Slash};
use strongroom_gateway::testing::{Client as Signer, Sign};
use strongroom_gateway::xml;
use strongroom_types::VersionId;

/// A bucket with its class; keys take turns.
pub(super) const BUCKETS: [(&str, &str); 2] = [("letters", "mail"), ("settings", "config")];
/// Pages of a list; a server that gives more never ends.
const PAGES_MAX: usize = 100;

/// Bodies above this come in two parts, the second after a while. It is more than one needle: by then the first may be in a slab that is sealed.
const SLOW_LEN_BYTES: usize = 7 << 19;
/// How long that may take: longer than a slab is open and a sealed one cools for.
const SLOW_MS_MAX: u64 = 12_000;

/// Answers above this are read slowly: they have more needles than a node reads ahead.
const READ_SLOWLY_LEN_BYTES: u64 = 9 << 20;
/// So long that a slab which begins to be written at once is sealed, compacted and freed meanwhile.
const READ_PAUSE: Duration = Duration::from_secs(25);

/// See the module.
#[derive(Clone)]
pub(super) struct Client {
    node: Arc<Node>,
    shared: Arc<Shared>,
    env: Env,
    signer: Signer,
}

struct Answer {
    status: StatusCode,
    etag: String,
    version: Option<VersionId>,
    len_bytes: Option<u64>,
    /// `None` where the body broke off.
    body: Option<Bytes>,
}

impl Answer {
    fn code(&self) -> String {
        let root = self.body.as_ref().and_then(|body| xml::parse(body).ok());
        let root = root.filter(|root| root.name == "Error");
        root.and_then(|root| root.child_text("Code").map(str::to_owned)).unwrap_or_default()
    }

    fn message(&self) -> String {
        let root = self.body.as_ref().and_then(|body| xml::parse(body).ok());
        root.and_then(|root| root.child_text("Message").map(str::to_owned)).unwrap_or_default()
    }

    fn told(&self) -> String {
        format!("{} {}: {}", self.status.as_u16(), self.code(), self.message())
    }
}

/// What came of asking for a part of what was just read whole, as long as it is the same.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// That part; or it changed in between; or the body broke off.
    Fits,
    /// What it must never be.
    Wrong(&'static str),
    /// An error, to be judged like any other.
    Failed,
}

fn judge_part(answer: &Answer, expected: &[u8]) -> Part {
    match (answer.status, &answer.body) {
        (StatusCode::PARTIAL_CONTENT, Some(body)) if *body == expected => Part::Fits,
        (StatusCode::PARTIAL_CONTENT, Some(_)) => Part::Wrong("other bytes than in the whole"),
        (StatusCode::PARTIAL_CONTENT, None) | (StatusCode::PRECONDITION_FAILED, _) => Part::Fits,
        (StatusCode::NOT_FOUND, _) if answer.code() == "NoSuchKey" => Part::Fits,
        (StatusCode::OK, _) => Part::Wrong("the whole instead"),
        _ => Part::Failed,
    }
}

/// What an error means for a request to a bucket that is there.
fn error(answer: &Answer) -> Outcome {
    let (code, told) = (answer.code(), answer.told());
    match code.as_str() {
        "SlowDown" | "RequestTimeTooSkewed" => Outcome::Refused(told),
        // A presigned request says so where the calendar of the node is off.
        "AccessDenied" if told.contains("expired") || told.contains("not valid yet") => {
            Outcome::Refused(told)
        }
        "ServiceUnavailable" | "InternalError" | "RequestTimeout" => Outcome::Unknown(told),
        _ if answer.body.is_none() => Outcome::Unknown("the body broke off".to_owned()),
        _ => Outcome::Wrong(told),
    }
}

/// The place of a key among [`BUCKETS`].
pub(super) fn bucket_of(key: &str) -> usize {
    usize::from(key.bytes().last().unwrap_or(0)) % BUCKETS.len()
}

impl Client {
    pub(super) fn new(node: Arc<Node>, shared: Arc<Shared>, env: &Env, clock: Arc<dyn Clock>) -> Self {
        Self { node, shared, env: env.clone(), signer: Signer::new(ACCESS_KEY, SECRET_KEY, clock) }
    }

    pub(super) async fn perform(self, operation: Operation) -> Outcome {
        if let Some(key) = operation.key() {
            self.shared.keys().insert(key.to_owned());
        }
        match operation {
            Operation::Put { key, value, condition } => {
                let answer = self.conditional("PUT", &key, condition, &value.bytes()).await;
                match answer.status {
                    StatusCode::OK if Tag::parse(&answer.etag) != Some(value.tag()) => {
                        Outcome::Wrong(format!("stored with the tag {} of other bytes", answer.etag))
                    }
                    StatusCode::OK => Outcome::Stored(answer.version),
                    _ => self.not_written(&key, condition, &answer).await,
                }
            }
            Operation::Get { key } => self.get(&key).await,
            Operation::Head { key } => self.head(&key).await,
            Operation::GetVersion { key, version, .. } => {
                let (bucket, _) = BUCKETS[bucket_of(&key)];
                let answer =
                    self.send("GET", &format!("/{bucket}/{key}?versionId={version}"), &[], b"").await;
                match answer.status {
                    StatusCode::OK if answer.version != Some(version) => {
                        Outcome::Wrong(format!("asked for {version}, got {:?}", answer.version))
                    }
                    StatusCode::OK => match answer.body {
                        Some(bytes) => Outcome::Found(bytes),
                        None => Outcome::Unknown("the body broke off".to_owned()),
                    },
                    StatusCode::NOT_FOUND if answer.code() == "NoSuchVersion" => Outcome::Missing,
                    _ => self.failed(bucket_of(&key), &answer).await,
                }
            }
            Operation::Delete { key, condition } => {
                let answer = self.conditional("DELETE", &key, condition, b"").await;
                match answer.status {
                    StatusCode::NO_CONTENT => Outcome::Deleted,
                    _ => self.not_written(&key, condition, &answer).await,
                }
            }
            Operation::List => self.list().await,
        }
    }

    async fn conditional(&self, method: &str, key: &str, condition: Condition, body: &[u8]) -> Answer {
        match condition {
            Condition::None => self.object(method, key, &[], body).await,
            Condition::Absent => self.object(method, key, &[("if-none-match", "*")], body).await,
            Condition::Matches(value) => {
                let tag = format!("\"{}\"", value.tag());
                self.object(method, key, &[("if-match", &tag)], body).await
            }
        }
    }

    /// What an error means for a write with this condition.
    async fn not_written(&self, key: &str, condition: Condition, answer: &Answer) -> Outcome {
        match (answer.status, condition) {
            (StatusCode::PRECONDITION_FAILED, Condition::Absent | Condition::Matches(_)) => {
                Outcome::ConditionFailed
            }
            (StatusCode::NOT_FOUND, Condition::Matches(_)) if answer.code() == "NoSuchKey" => {
                Outcome::Missing
            }
            _ => self.failed(bucket_of(key), answer).await,
        }
    }

    async fn get(&self, key: &str) -> Outcome {
        let answer = self.object("GET", key, &[], b"").await;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND if answer.code() == "NoSuchKey" => return Outcome::Missing,
            _ => return self.failed(bucket_of(key), &answer).await,
        }
        let Some(bytes) = answer.body else { return Outcome::Unknown("the body broke off".to_owned()) };
        if let Some(value) = Value::of(&bytes)
            && Tag::parse(&answer.etag) != Some(value.tag())
        {
            return Outcome::Wrong(format!("{value} came with the tag {}", answer.etag));
        }
        match self.env.rng.u64() {
            draw if draw % 4 == 0 && !bytes.is_empty() => match self.range(key, &answer.etag, &bytes).await {
                Some(wrong) => Outcome::Wrong(wrong),
                None => Outcome::Found(bytes),
            },
            _ => Outcome::Found(bytes),
        }
    }

    /// Answers to HEAD have no body, so what an error means must be taken from its status.
    async fn head(&self, key: &str) -> Outcome {
        let answer = self.object("HEAD", key, &[], b"").await;
        let told = format!("{} to HEAD", answer.status.as_u16());
        match (answer.status, Tag::parse(&answer.etag), answer.len_bytes) {
            (StatusCode::OK, Some(tag), Some(len_bytes)) => Outcome::Described(Described { tag, len_bytes }),
            (StatusCode::OK, ..) => Outcome::Wrong("an object without a tag or a length".to_owned()),
            (StatusCode::NOT_FOUND, ..) if self.shared.made[bucket_of(key)].load(Ordering::Relaxed) => {
                Outcome::Missing
            }
            // There may be no such bucket yet; or the node's calendar is off.
            (StatusCode::NOT_FOUND | StatusCode::FORBIDDEN, ..) => Outcome::Refused(told),
            (status, ..) if status.is_server_error() => Outcome::Unknown(told),
            _ => Outcome::Wrong(told),
        }
    }

    /// Reads a part of what was just read whole, as long as it is the same; says what is wrong with it.
    async fn range(&self, key: &str, etag: &str, whole: &Bytes) -> Option<String> {
        let from = usize::try_from(self.env.rng.u64() % whole.len() as u64).expect("below a usize");
        let to =
            from + usize::try_from(self.env.rng.u64() % (whole.len() - from) as u64).expect("below a usize");
        let range = format!("bytes={from}-{to}");
        let answer = self.object("GET", key, &[("range", &range), ("if-match", etag)], b"").await;
        let wrong = match judge_part(&answer, &whole[from..=to]) {
            Part::Fits => return None,
            Part::Wrong(what) => what.to_owned(),
            Part::Failed => match self.failed(bucket_of(key), &answer).await {
                Outcome::Wrong(what) => what,
                _ => return None,
            },
        };
        Some(format!("{range} of {etag}, just read whole: {wrong}"))
    }

    async fn list(&self) -> Outcome {
        let mut keys = Vec::new();
        for (index, (bucket, _)) in BUCKETS.iter().enumerate() {
            let mut token: Option<String> = None;
            for page in 0.. {
                if page == PAGES_MAX {
                    return Outcome::Wrong("a list that never ends".to_owned());
                }
                let limit = if self.env.rng.u64().is_multiple_of(2) { 3 } else { 1000 };
                let mut target = format!("/{bucket}?list-type=2&max-keys={limit}");
                if let Some(token) = &token {
                    let token = percent::encode(token.as_bytes(), Slash::Encode);
                    target.push_str(&format!("&continuation-token={token}"));
                }
                let answer = self.send("GET", &target, &[], b"").await;
                if answer.status != StatusCode::OK {
                    return self.failed(index, &answer).await;
                }
                let Some(root) = answer.body.as_ref().and_then(|body| xml::parse(body).ok()) else {
                    return Outcome::Unknown("the body broke off".to_owned());
                };
                for child in root.children.iter().filter(|child| child.name == "Contents") {
                    let described = child.child_text("ETag").and_then(Tag::parse).and_then(|tag| {
                        let len_bytes = child.child_text("Size")?.parse().ok()?;
                        Some(Described { tag, len_bytes })
                    });
                    let Some((key, described)) = child.child_text("Key").zip(described) else {
                        return Outcome::Wrong("an entry without key, tag or size".to_owned());
                    };
                    keys.push(Listed { key: key.to_owned(), described: Some(described) });
                }
                if root.child_text("IsTruncated") != Some("true") {
                    break;
                }
                token = root.child_text("NextContinuationToken").map(str::to_owned);
                if token.is_none() {
                    return Outcome::Wrong("a list is cut and says not where to go on".to_owned());
                }
            }
        }
        // Each bucket's list is in order; a key is in one of them.
        let in_order = |bucket: usize| {
            keys.iter().map(|listed: &Listed| &listed.key).filter(|key| bucket_of(key) == bucket).is_sorted()
        };
        if !in_order(0) || !in_order(1) {
            return Outcome::Wrong(format!("a list is out of order: {keys:?}"));
        }
        keys.sort_by(|one, next| one.key.cmp(&next.key));
        Outcome::Listed(keys)
    }

    async fn object(&self, method: &str, key: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let (bucket, _) = BUCKETS[bucket_of(key)];
        self.send(method, &format!("/{bucket}/{key}"), headers, body).await
    }

    async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let sign = match (body.is_empty(), self.env.rng.u64() % 4) {
            (true, draw) if draw % 2 == 0 => Sign::Sha256,
            (true, _) => Sign::Presigned(900),
            (false, 0) => Sign::Sha256,
            (false, 1) => Sign::Unsigned,
            (false, 2) => Sign::Chunks(65_536),
            (false, _) => Sign::UnsignedTrailer(65_536, Algorithm::Crc32c),
        };
        let request = self.signer.request(sign, method, target, headers, body);
        let (parts, body) = if body.len() > SLOW_LEN_BYTES {
            self.node.door().handle(request.map(|body| self.slowly(body))).await.into_parts()
        } else {
            self.node.door().handle(request).await.into_parts()
        };
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let etag = header("etag").unwrap_or("").to_owned();
        let version = header("x-amz-version-id").and_then(|id| u128::from_str_radix(id, 16).ok());
        let len_bytes = header("content-length").and_then(|len| len.parse().ok());
        let body = self.read(len_bytes.unwrap_or(0), body).await;
        Answer { status: parts.status, etag, version: version.map(VersionId::new), len_bytes, body }
    }

    /// The body in two parts, with a pause between.
    fn slowly(
        &self,
        body: Full<Bytes>,
    ) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + use<> {
        let pause = Duration::from_millis(self.env.rng.u64() % SLOW_MS_MAX);
        let clock = self.env.clock.clone();
        let parts = stream::once(async move {
            let mut first = body.collect().await.expect("bytes in memory").to_bytes();
            let rest = first.split_off(SLOW_LEN_BYTES);
            let frames = stream::iter([(first, Duration::ZERO), (rest, pause)]);
            frames.then(move |(bytes, pause)| {
                let clock = clock.clone();
                async move {
                    clock.sleep(pause).await;
                    Ok(Frame::data(bytes))
                }
            })
        });
        StreamBody::new(Box::pin(parts.flatten()))
    }

    /// Reads the body of an answer; a very long one slowly. `None` where it breaks off.
    async fn read<B>(&self, len_bytes: u64, mut body: B) -> Option<Bytes>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let mut read = BytesMut::new();
        let mut pause = (len_bytes >= READ_SLOWLY_LEN_BYTES).then_some(READ_PAUSE);
        while let Some(frame) = body.frame().await {
            read.extend_from_slice(&frame.ok()?.into_data().unwrap_or_default());
            if let Some(pause) = pause.take() {
                self.env.clock.sleep(pause).await;
            }
        }
        Some(read.freeze())
    }

    /// What an error means for a request to the bucket of this place.
    async fn failed(&self, index: usize, answer: &Answer) -> Outcome {
        if answer.code() == "NoSuchBucket" && !self.shared.made[index].load(Ordering::Relaxed) {
            self.make(index).await;
            return Outcome::Refused(answer.told());
        }
        error(answer)
    }

    async fn make(&self, index: usize) {
        let (bucket, class) = BUCKETS[index];
        let answer = self.send("PUT", &format!("/{bucket}"), &[("x-strongroom-class", class)], b"").await;
        if answer.status == StatusCode::OK {
            self.shared.made[index].store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
