//! Requests of a mixed load, each checked by the oracle. No request is retried: one request, one outcome.

use super::limits::{MAIL_LEN_BYTES_MAX, REQUEST_PATIENCE, SETTINGS, SHARDS};
use super::nodes::Nodes;
use super::oracle::{Begun, Ending, Name, Oracle, Span, Value};
use crate::sim::draws::Draws;
use anyhow::Context as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use strongroom::mail::generate;
use strongroom_tier::{Endpoint, connect};

/// The bucket of mail.
pub const MAIL: &str = "mail";
/// The bucket of settings.
pub const SETTINGS_BUCKET: &str = "settings";

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Answered as asked; "not found" is an answer.
    pub answered: u64,
    /// Refused, with no effect.
    pub refused: u64,
    /// No answer, or an error after which nobody knows.
    pub unknown: u64,
}

/// What all tasks of a soak share. They run on one thread.
pub struct Load {
    /// The judge.
    pub oracle: RefCell<Oracle>,
    /// By kind of request.
    pub tallies: RefCell<BTreeMap<&'static str, Tally>>,
    gateways: Vec<(u64, Client)>,
    seed: u64,
    stop: Cell<bool>,
    written_bytes: Cell<u64>,
    last_error: RefCell<String>,
}

/// An answer to a request that did not succeed.
struct Failure {
    status: Option<u16>,
    code: String,
    words: String,
}

impl Failure {
    fn of<E>(error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        Self {
            status: error.raw_response().map(|response| response.status().as_u16()),
            code: error.code().unwrap_or_default().to_owned(),
            words: DisplayErrorContext(&error).to_string(),
        }
    }

    /// Whether the server said that nothing was done and nothing will be. Of its 503 that is not said: it may stand for a commit that
    /// nobody waited for.
    fn is_refusal(&self) -> bool {
        self.status.is_some_and(|status| (400..500).contains(&status) && status != 408)
    }
}

impl Load {
    /// Clients of all gateways of a running cluster, and its buckets made.
    ///
    /// # Errors
    /// The buckets cannot be made.
    pub async fn new(nodes: &Nodes, seed: u64) -> anyhow::Result<Rc<Self>> {
        let waits = TimeoutConfig::builder()
            .operation_timeout(REQUEST_PATIENCE)
            .read_timeout(REQUEST_PATIENCE)
            .build();
        let mut gateways = Vec::new();
        for node in nodes.planned() {
            let client = connect(&Endpoint {
                url: format!("http://{}", node.s3),
                region: String::from("us-east-1"),
                access_key: nodes.credentials.access_key.clone(),
                secret_key: nodes.credentials.secret_key.clone(),
                path_style: true,
            })?;
            let config = client.config().to_builder();
            let config = config.retry_config(RetryConfig::disabled()).timeout_config(waits.clone()).build();
            gateways.push((node.id, Client::from_conf(config)));
        }
        let load = Self {
            oracle: RefCell::default(),
            tallies: RefCell::default(),
            gateways,
            seed,
            stop: Cell::new(false),
            written_bytes: Cell::new(0),
            last_error: RefCell::default(),
        };
        for (bucket, class) in [(MAIL, "mail"), (SETTINGS_BUCKET, "config")] {
            let made = load.gateways[0].1.create_bucket().bucket(bucket).customize().mutate_request(
                move |request| {
                    request.headers_mut().insert("x-strongroom-class", class);
                },
            );
            made.send()
                .await
                .map_err(|error| Failure::of(error).words)
                .map_err(anyhow::Error::msg)
                .with_context(|| format!("bucket {bucket}"))?;
        }
        Ok(Rc::new(load))
    }

    /// Tasks end after the request that they are at.
    pub fn stop(&self) {
        self.stop.set(true);
    }

    /// Bytes of objects sent, acknowledged or not.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.get()
    }

    /// What the last request without success came to.
    pub fn last_error(&self) -> String {
        self.last_error.borrow().clone()
    }

    /// The client of a node's gateway.
    pub fn gateway(&self, id: u64) -> &Client {
        let found = self.gateways.iter().find(|(node, _)| *node == id);
        &found.expect("a gateway is asked for by the id of a node").1
    }

    /// All gateways' nodes.
    pub fn gateway_ids(&self) -> Vec<u64> {
        self.gateways.iter().map(|(id, _)| *id).collect()
    }

    fn any_gateway(&self, draws: &mut Draws) -> &Client {
        &draws.pick(&self.gateways).1
    }

    /// The bytes of a value.
    pub fn bytes(&self, value: Value) -> Option<Bytes> {
        let Value::Bytes { id, len_bytes } = value else { return None };
        let source = generate(self.seed, 0);
        let len = usize::try_from(len_bytes).expect("an object of a test");
        if source.len_bytes(id) == len {
            return Some(source.mail(id).bytes);
        }
        let mut draws = Draws::new(self.seed).split(&format!("value {id}"));
        let words = (0..len.div_ceil(8)).flat_map(|_| draws.u64().to_le_bytes());
        Some(words.take(len).collect())
    }

    fn count(&self, kind: &'static str, failure: Option<&Failure>) {
        let mut tallies = self.tallies.borrow_mut();
        let tally = tallies.entry(kind).or_default();
        match failure {
            None => tally.answered += 1,
            Some(failure) => {
                match failure.is_refusal() {
                    true => tally.refused += 1,
                    false => tally.unknown += 1,
                }
                *self.last_error.borrow_mut() = format!("{kind}: {}", failure.words);
            }
        }
    }

    /// A new value, of a length of its own or that of the mail of its number.
    fn value(&self, len_bytes: Option<u64>) -> Value {
        let source = generate(self.seed, 0);
        loop {
            let id = self.oracle.borrow_mut().number();
            let mail_len = source.len_bytes(id);
            match len_bytes {
                Some(len_bytes) => return Value::Bytes { id, len_bytes },
                None if mail_len <= MAIL_LEN_BYTES_MAX => {
                    return Value::Bytes { id, len_bytes: mail_len as u64 };
                }
                None => {}
            }
        }
    }

    fn begin(&self, name: &Name, value: Value) -> (Begun, Instant) {
        let mut oracle = self.oracle.borrow_mut();
        let number = match value {
            Value::Bytes { id, .. } => id,
            Value::Absent => oracle.number(),
        };
        (oracle.begin(name, number, value), Instant::now())
    }

    fn end(&self, begun: Begun, failure: Option<&Failure>, etag: Option<String>) {
        let ending = match failure {
            None => Ending::Acknowledged(etag),
            Some(failure) if failure.is_refusal() => Ending::Refused,
            Some(_) => Ending::Unknown,
        };
        self.oracle.borrow_mut().end(begun, ending);
    }

    /// Stores a new value. Whether it was acknowledged.
    pub async fn put(&self, client: &Client, name: &Name, len_bytes: Option<u64>) -> bool {
        let value = self.value(len_bytes);
        let body = self.bytes(value).unwrap_or_default();
        self.written_bytes.set(self.written_bytes.get() + body.len() as u64);
        let (begun, _) = self.begin(name, value);
        let request = client.put_object().bucket(name.bucket).key(&name.key).body(ByteStream::from(body));
        let (failure, etag) = outcome(request.send().await.map(|answer| answer.e_tag));
        self.count("put", failure.as_ref());
        self.end(begun, failure.as_ref(), etag);
        failure.is_none()
    }

    async fn put_if_absent(&self, client: &Client, name: &Name) {
        let value = self.value(None);
        let body = self.bytes(value).unwrap_or_default();
        self.written_bytes.set(self.written_bytes.get() + body.len() as u64);
        let (begun, from) = self.begin(name, value);
        let request = client.put_object().bucket(name.bucket).key(&name.key).if_none_match("*");
        let (failure, etag) =
            outcome(request.body(ByteStream::from(body)).send().await.map(|answer| answer.e_tag));
        let span = Span { begun: from, ended: Instant::now() };
        let (could_be_absent, could_be_there) = self.oracle.borrow().could_be(name, span, &begun);
        self.judge_condition("put-if-absent", name, failure.as_ref(), could_be_absent, could_be_there);
        self.end(begun, failure.as_ref(), etag);
    }

    async fn put_if_match(&self, client: &Client, name: &Name, len_bytes: u64) {
        let Some(tag) = self.oracle.borrow().certain_etag(name) else { return };
        let value = self.value(Some(len_bytes));
        let body = self.bytes(value).unwrap_or_default();
        let (begun, from) = self.begin(name, value);
        let request = client.put_object().bucket(name.bucket).key(&name.key).if_match(&tag);
        let (failure, etag) =
            outcome(request.body(ByteStream::from(body)).send().await.map(|answer| answer.e_tag));
        let span = Span { begun: from, ended: Instant::now() };
        let (could_match, could_differ) = self.oracle.borrow().tag_could(name, &tag, span, &begun);
        self.judge_condition("put-if-match", name, failure.as_ref(), could_match, could_differ);
        self.end(begun, failure.as_ref(), etag);
    }

    fn judge_condition(
        &self,
        kind: &'static str,
        name: &Name,
        failure: Option<&Failure>,
        could_hold: bool,
        could_fail: bool,
    ) {
        self.count(kind, failure);
        let is_wrong = match failure {
            None => !could_hold,
            Some(failure) if failure.status == Some(412) => !could_fail,
            Some(_) => false,
        };
        let mut oracle = self.oracle.borrow_mut();
        oracle.checked();
        if is_wrong {
            let answer = if failure.is_none() { "was done" } else { "was refused" };
            let words = format!("{name}: {kind} {answer}, which cannot be; {}", oracle.history(name));
            oracle.violate("condition", words);
        }
    }

    async fn delete(&self, client: &Client, name: &Name) {
        let (begun, _) = self.begin(name, Value::Absent);
        let request = client.delete_object().bucket(name.bucket).key(&name.key);
        let (failure, _) = outcome(request.send().await.map(|_| None));
        self.count("delete", failure.as_ref());
        self.end(begun, failure.as_ref(), None);
    }

    /// Reads an object and judges it. Whether there was an answer.
    pub async fn get(&self, client: &Client, name: &Name) -> bool {
        let from = Instant::now();
        let answer = client.get_object().bucket(name.bucket).key(&name.key).send().await;
        let found = match answer {
            Ok(answer) => match answer.body.collect().await {
                Ok(body) => Ok(Some(body.into_bytes())),
                Err(error) => Err(Failure { status: None, code: String::new(), words: error.to_string() }),
            },
            Err(error) => absent_or(Failure::of(error)),
        };
        self.count("get", found.as_ref().err());
        let Ok(found) = found else { return false };
        self.judge(
            name,
            Span { begun: from, ended: Instant::now() },
            "get",
            |expected| match (&found, expected) {
                (None, None) => true,
                (Some(found), Some(expected)) => found == expected,
                (_, _) => false,
            },
            &found.as_ref().map_or(String::from("nothing"), describe),
        );
        true
    }

    async fn get_range(&self, client: &Client, name: &Name, draws: &mut Draws) {
        let now = Instant::now();
        let values = self.oracle.borrow().allowed(name, Span { begun: now, ended: now });
        let Some(Value::Bytes { len_bytes, .. }) = values.last().copied() else { return };
        if len_bytes == 0 {
            return;
        }
        let first = draws.below(len_bytes);
        let last = first + draws.below(len_bytes - first);
        let request =
            client.get_object().bucket(name.bucket).key(&name.key).range(format!("bytes={first}-{last}"));
        let found = match request.send().await {
            Ok(answer) => match answer.body.collect().await {
                Ok(body) => Ok(Some(body.into_bytes())),
                Err(error) => Err(Failure { status: None, code: String::new(), words: error.to_string() }),
            },
            // Another version may be shorter.
            Err(error) => absent_or(Failure::of(error)),
        };
        self.count("range", found.as_ref().err());
        let Ok(found) = found else { return };
        let part = |bytes: &Bytes| {
            let end = usize::try_from(last + 1).unwrap_or(usize::MAX).min(bytes.len());
            let begin = usize::try_from(first).unwrap_or(usize::MAX).min(end);
            bytes.slice(begin..end)
        };
        self.judge(
            name,
            Span { begun: now, ended: Instant::now() },
            "range",
            |expected| match (&found, expected) {
                (None, None) => true,
                (Some(found), Some(expected)) => *found == part(expected),
                (_, _) => false,
            },
            &found.as_ref().map_or(String::from("nothing"), describe),
        );
    }

    async fn head(&self, client: &Client, name: &Name) {
        let from = Instant::now();
        let answer = client.head_object().bucket(name.bucket).key(&name.key).send().await;
        let found = match answer {
            Ok(answer) => Ok(answer.content_length.and_then(|len| u64::try_from(len).ok())),
            Err(error) => match Failure::of(error) {
                failure if failure.status == Some(404) => Ok(None),
                failure => Err(failure),
            },
        };
        self.count("head", found.as_ref().err());
        let Ok(found) = found else { return };
        let span = Span { begun: from, ended: Instant::now() };
        let mut oracle = self.oracle.borrow_mut();
        oracle.checked();
        let lens: Vec<Option<u64>> =
            oracle.allowed(name, span).iter().map(|value| value.len_bytes()).collect();
        if !lens.contains(&found) {
            let words = format!("{name}: HEAD says {found:?} bytes; {}", oracle.history(name));
            oracle.violate(if found.is_none() { "lost" } else { "wrong" }, words);
        }
    }

    fn judge(
        &self,
        name: &Name,
        span: Span,
        what: &str,
        is_it: impl Fn(Option<&Bytes>) -> bool,
        found: &str,
    ) {
        let allowed = self.oracle.borrow().allowed(name, span);
        let is_allowed = allowed.iter().any(|value| is_it(self.bytes(*value).as_ref()));
        let mut oracle = self.oracle.borrow_mut();
        oracle.checked();
        if !is_allowed {
            let words = format!(
                "{name}: {what} from second {:.3} to {:.3} gave {found}; {}",
                oracle.second(span.begun),
                oracle.second(span.ended),
                oracle.history(name)
            );
            oracle.violate(if found == "nothing" { "lost" } else { "wrong" }, words);
        }
    }

    /// Lists all keys with a prefix and judges them. Whether there was an answer.
    pub async fn list(&self, client: &Client, bucket: &'static str, prefix: &str, page: i32) -> bool {
        let from = Instant::now();
        let mut listed: BTreeMap<String, u64> = BTreeMap::new();
        let mut token = None;
        loop {
            let request = client.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(page);
            let answer = match request.set_continuation_token(token.take()).send().await {
                Ok(answer) => answer,
                Err(error) => {
                    self.count("list", Some(&Failure::of(error)));
                    return false;
                }
            };
            for entry in answer.contents() {
                let key = entry.key().unwrap_or_default().to_owned();
                let is_in_order = listed.last_key_value().is_none_or(|(last, _)| *last < key);
                if !is_in_order {
                    let words = format!("{bucket}/{prefix}: {key} is listed twice or out of order");
                    self.oracle.borrow_mut().violate("list", words);
                }
                listed
                    .insert(key, entry.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default());
            }
            token = answer.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        self.count("list", None);
        let span = Span { begun: from, ended: Instant::now() };
        let mut oracle = self.oracle.borrow_mut();
        oracle.checked();
        for name in oracle.names(bucket, prefix) {
            let lens: Vec<Option<u64>> =
                oracle.allowed(&name, span).iter().map(|value| value.len_bytes()).collect();
            let found = listed.remove(&name.key);
            if !lens.contains(&found) {
                let words = format!("{name}: a list has it with {found:?} bytes; {}", oracle.history(&name));
                oracle.violate("list", words);
            }
        }
        for key in listed.into_keys() {
            oracle.violate("list", format!("{bucket}/{key}: listed, and nobody ever wrote it"));
        }
        true
    }

    fn known(&self, bucket: &'static str, draws: &mut Draws) -> Option<Name> {
        let prefix = match bucket {
            MAIL => shard(draws.below(SHARDS)),
            _ => String::new(),
        };
        let names = self.oracle.borrow().names(bucket, &prefix);
        if names.is_empty() {
            return None;
        }
        // Half of the reads go to what was written lately.
        let from = if draws.chance(500_000) { names.len() - names.len().min(20) } else { 0 };
        Some(names[from + draws.index(names.len() - from)].clone())
    }

    fn new_mail(&self, draws: &mut Draws) -> Name {
        let number = self.oracle.borrow_mut().number();
        Name { bucket: MAIL, key: format!("{}{number:08}", shard(draws.below(SHARDS))) }
    }

    async fn request(&self, draws: &mut Draws) {
        let client = self.any_gateway(draws);
        let setting = Name { bucket: SETTINGS_BUCKET, key: format!("setting-{:03}", draws.below(SETTINGS)) };
        let setting_len = 1 + draws.below(20_000);
        match draws.below(100) {
            0..32 => {
                let name = self.new_mail(draws);
                self.put(client, &name, None).await;
            }
            32..36 => {
                let name = self.new_mail(draws);
                self.put_if_absent(client, &name).await;
            }
            36..38 => {
                if let Some(name) = self.known(MAIL, draws) {
                    self.put_if_absent(client, &name).await;
                }
            }
            38..42 => {
                if let Some(name) = self.known(MAIL, draws) {
                    self.put(client, &name, None).await;
                }
            }
            42..48 => {
                self.put(client, &setting, Some(setting_len)).await;
            }
            48..52 => self.put_if_match(client, &setting, setting_len).await,
            52..57 => {
                if let Some(name) = self.known(MAIL, draws) {
                    self.delete(client, &name).await;
                }
            }
            57..76 => {
                if let Some(name) = self.known(MAIL, draws) {
                    self.get(client, &name).await;
                }
            }
            76..80 => {
                self.get(client, &setting).await;
            }
            80..90 => {
                if let Some(name) = self.known(MAIL, draws) {
                    self.get_range(client, &name, draws).await;
                }
            }
            90..95 => {
                if let Some(name) = self.known(MAIL, draws) {
                    self.head(client, &name).await;
                }
            }
            _ => {
                let page = if draws.chance(500_000) { 1000 } else { 1 + draws.below(20) as i32 };
                let prefix = shard(draws.below(SHARDS));
                self.list(client, MAIL, &prefix, page).await;
            }
        }
    }

    /// One client: requests with pauses until told to stop. `pace` is the mean pause; what was written never runs ahead of `bytes_per_s`.
    pub async fn client(self: Rc<Self>, mut draws: Draws, pace: Duration, bytes_per_s: u64) {
        let begun = Instant::now();
        while !self.stop.get() {
            let may = begun.elapsed().as_secs_f64() * bytes_per_s as f64;
            if self.written_bytes.get() as f64 <= may {
                self.request(&mut draws).await;
            }
            tokio::time::sleep(draws.duration(Duration::ZERO..2 * pace)).await;
        }
    }

    /// Reads back every key, through any gateway; what cannot be read at all in the patience is a violation.
    pub async fn read_back(&self, patience: Duration, draws: &mut Draws) -> u64 {
        use futures::stream::{self, StreamExt};
        let mut names = self.oracle.borrow().names(MAIL, "");
        names.extend(self.oracle.borrow().names(SETTINGS_BUCKET, ""));
        let count = names.len() as u64;
        let seed = draws.u64();
        stream::iter(names)
            .for_each_concurrent(super::limits::READERS, |name| async move {
                let mut draws = Draws::new(seed).split(&name.key);
                let begun = Instant::now();
                while !self.get(self.any_gateway(&mut draws), &name).await {
                    if begun.elapsed() > patience {
                        let words = format!("{name}: cannot be read; {}", self.last_error());
                        return self.oracle.borrow_mut().violate("unreadable", words);
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            })
            .await;
        for (bucket, prefix) in
            (0..SHARDS).map(|part| (MAIL, shard(part))).chain([(SETTINGS_BUCKET, String::new())])
        {
            let begun = Instant::now();
            while !self.list(self.any_gateway(draws), bucket, &prefix, 1000).await {
                if begun.elapsed() > patience {
                    let words = format!("{bucket}/{prefix}: cannot be listed; {}", self.last_error());
                    self.oracle.borrow_mut().violate("unreadable", words);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        count
    }
}

fn outcome<E>(answer: Result<Option<String>, SdkError<E>>) -> (Option<Failure>, Option<String>)
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match answer {
        Ok(etag) => (None, etag),
        Err(error) => (Some(Failure::of(error)), None),
    }
}

fn absent_or(failure: Failure) -> Result<Option<Bytes>, Failure> {
    if failure.code == "NoSuchKey" { Ok(None) } else { Err(failure) }
}

fn shard(part: u64) -> String {
    format!("box-{part:02}/")
}

fn describe(bytes: &Bytes) -> String {
    let first: Vec<String> = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes that begin with {}", bytes.len(), first.concat())
}
