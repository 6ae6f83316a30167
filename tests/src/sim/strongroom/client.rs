//! An S3 client: turns what a client of the simulator wants into signed requests, and answers into outcomes.

use super::{ACCESS_KEY, SECRET_KEY, Shared};
use crate::sim::operation::{Operation, Outcome};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use strongroom::node::Node;
use strongroom_env::{Clock, Env};
use strongroom_gateway::checksum::Algorithm;
use strongroom_gateway::percent::{self, Slash};
use strongroom_gateway::testing::{Client as Signer, Sign};
use strongroom_gateway::xml;

/// A bucket with its class; keys take turns.
pub(super) const BUCKETS: [(&str, &str); 2] = [("letters", "mail"), ("settings", "config")];
/// Pages of a list; a server that gives more never ends.
const PAGES_MAX: usize = 100;

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
}

/// The place of a key among [`BUCKETS`].
fn bucket_of(key: &str) -> usize {
    usize::from(key.bytes().last().unwrap_or(0)) % BUCKETS.len()
}

impl Client {
    pub(super) fn new(node: Arc<Node>, shared: Arc<Shared>, env: &Env, clock: Arc<dyn Clock>) -> Self {
        Self { node, shared, env: env.clone(), signer: Signer::new(ACCESS_KEY, SECRET_KEY, clock) }
    }

    pub(super) async fn perform(self, operation: Operation) -> Outcome {
        match operation {
            Operation::Put { key, value, if_absent } => {
                let headers: &[(&str, &str)] = if if_absent { &[("if-none-match", "*")] } else { &[] };
                let answer = self.object("PUT", &key, headers, &value.bytes()).await;
                match answer.status {
                    StatusCode::OK => Outcome::Stored,
                    StatusCode::PRECONDITION_FAILED if if_absent => Outcome::ConditionFailed,
                    _ => self.failed(bucket_of(&key), &answer).await,
                }
            }
            Operation::Get { key } => self.get(&key).await,
            Operation::Delete { key } => {
                let answer = self.object("DELETE", &key, &[], b"").await;
                match answer.status {
                    StatusCode::NO_CONTENT => Outcome::Deleted,
                    _ => self.failed(bucket_of(&key), &answer).await,
                }
            }
            Operation::List => self.list().await,
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
        match self.env.rng.u64() {
            draw if draw % 4 == 0 && !bytes.is_empty() => match self.range(key, &answer.etag, &bytes).await {
                Some(wrong) => Outcome::Wrong(wrong),
                None => Outcome::Found(bytes),
            },
            _ => Outcome::Found(bytes),
        }
    }

    /// Reads a part of what was just read whole, as long as it is the same; says what is wrong with it.
    async fn range(&self, key: &str, etag: &str, whole: &Bytes) -> Option<String> {
        let from = usize::try_from(self.env.rng.u64() % whole.len() as u64).expect("below a usize");
        let to =
            from + usize::try_from(self.env.rng.u64() % (whole.len() - from) as u64).expect("below a usize");
        let range = format!("bytes={from}-{to}");
        let answer = self.object("GET", key, &[("range", &range), ("if-match", etag)], b"").await;
        let body = answer.body?;
        let wrong = answer.status == StatusCode::PARTIAL_CONTENT && body != whole[from..=to];
        wrong.then(|| format!("{range} of {etag} are other bytes than in the whole"))
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
                let contents = root.children.iter().filter(|child| child.name == "Contents");
                keys.extend(contents.filter_map(|child| child.child_text("Key").map(str::to_owned)));
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
        if !keys.iter().filter(|key| bucket_of(key) == 0).is_sorted()
            || !keys.iter().filter(|key| bucket_of(key) == 1).is_sorted()
        {
            return Outcome::Wrong(format!("a list is out of order: {keys:?}"));
        }
        keys.sort();
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
        let (parts, body) = self.node.door().handle(request).await.into_parts();
        let etag = parts.headers.get("etag").and_then(|etag| etag.to_str().ok()).unwrap_or("").to_owned();
        let body = body.collect().await.ok().map(|collected| collected.to_bytes());
        Answer { status: parts.status, etag, body }
    }

    /// What an error means for a request to the bucket of this place.
    async fn failed(&self, index: usize, answer: &Answer) -> Outcome {
        let code = answer.code();
        let told = format!("{} {code}: {}", answer.status.as_u16(), answer.message());
        match code.as_str() {
            "SlowDown" | "RequestTimeTooSkewed" => Outcome::Refused(told),
            // A presigned request says so where the calendar of the node is off.
            "AccessDenied" if told.contains("expired") || told.contains("not valid yet") => {
                Outcome::Refused(told)
            }
            "ServiceUnavailable" | "InternalError" | "RequestTimeout" => Outcome::Unknown(told),
            "NoSuchBucket" if !self.shared.made[index].load(Ordering::Relaxed) => {
                self.make(index).await;
                Outcome::Refused(told)
            }
            _ if answer.body.is_none() => Outcome::Unknown("the body broke off".to_owned()),
            _ => Outcome::Wrong(told),
        }
    }

    async fn make(&self, index: usize) {
        let (bucket, class) = BUCKETS[index];
        let answer = self.send("PUT", &format!("/{bucket}"), &[("x-strongroom-class", class)], b"").await;
        if answer.status == StatusCode::OK {
            self.shared.made[index].store(true, Ordering::Relaxed);
        }
    }
}
