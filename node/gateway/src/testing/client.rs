//! A client that signs requests in every way that S3's clients do, and sends them to a [`Door`] without a socket.

use crate::auth::signature::{ALGORITHM, Canonical, ChunkSigner, SigningKey, string_to_sign};
use crate::auth::{Scope, Secret};
use crate::checksum::{Algorithm, Checksum};
use crate::date;
use crate::door::Door;
use crate::head::{Head, Parameter};
use crate::percent::{self, Slash};
use crate::xml::{self, Element};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use strongroom_env::Clock;

/// How a request is signed and its body sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// By header, with the body's SHA-256.
    Sha256,
    /// By header, the body not covered.
    Unsigned,
    /// By header, in signed chunks of this many bytes.
    Chunks(usize),
    /// The same, with a signed trailer.
    ChunksTrailer(usize, Algorithm),
    /// By header, in unsigned chunks of this many bytes, with a trailer.
    UnsignedTrailer(usize, Algorithm),
    /// By query, valid for this many seconds.
    Presigned(u64),
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as XML.
    ///
    /// # Panics
    /// Where it is none.
    pub fn xml(&self) -> Element {
        xml::parse(&self.body).expect("the answer is XML")
    }

    /// The error's code; empty where the answer is none.
    pub fn code(&self) -> String {
        let root = xml::parse(&self.body).ok().filter(|root| root.name == "Error");
        root.and_then(|root| root.child_text("Code").map(str::to_owned)).unwrap_or_default()
    }

    /// A header; empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// A client with one key.
#[derive(Clone)]
pub struct Client {
    /// The key's id.
    pub access_key: String,
    /// The key.
    pub secret: Secret,
    /// The region it signs for.
    pub region: String,
    /// The host it asks.
    pub host: String,
    /// The clock it signs by.
    pub clock: Arc<dyn Clock>,
}

impl Client {
    /// A client with this key.
    pub fn new(access_key: &str, secret: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            access_key: access_key.to_owned(),
            secret: Secret::new(secret),
            region: "us-east-1".to_owned(),
            host: "localhost".to_owned(),
            clock,
        }
    }

    /// Sends a request with a body in one piece, and gives the answer.
    pub async fn send(
        &self,
        door: &Door,
        sign: Sign,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        answer(door, self.request(sign, method, target, headers, body)).await
    }

    /// A signed request. `target` is the path, percent-encoded, and the query.
    ///
    /// # Panics
    /// Where `method`, `target` or `headers` are none.
    pub fn request(
        &self,
        sign: Sign,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Request<Full<Bytes>> {
        let amz_date = date::amz(self.clock.wall());
        let scope =
            Scope { day: amz_date[..8].to_owned(), region: self.region.clone(), service: "s3".to_owned() };
        let mut request =
            Request::builder().method(method).uri(target).body(()).expect("the test gives a request");
        let mut set = |name: &str, value: &str| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("the test gives a header");
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("the test gives a header");
            request.headers_mut().append(name, value);
        };
        set("host", &self.host);
        for (name, value) in headers {
            set(name, value);
        }
        let payload = match sign {
            Sign::Sha256 => percent::hex(&Sha256::digest(body)),
            Sign::Unsigned | Sign::Presigned(_) => "UNSIGNED-PAYLOAD".to_owned(),
            Sign::Chunks(_) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned(),
            Sign::ChunksTrailer(..) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER".to_owned(),
            Sign::UnsignedTrailer(..) => "STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned(),
        };
        match sign {
            Sign::Presigned(_) => {}
            Sign::Sha256 | Sign::Unsigned => {
                set("x-amz-date", &amz_date);
                set("x-amz-content-sha256", &payload);
            }
            Sign::Chunks(_) | Sign::ChunksTrailer(..) | Sign::UnsignedTrailer(..) => {
                set("x-amz-date", &amz_date);
                set("x-amz-content-sha256", &payload);
                set("content-encoding", "aws-chunked");
                if !headers.iter().any(|(name, _)| *name == "x-amz-decoded-content-length") {
                    set("x-amz-decoded-content-length", &body.len().to_string());
                }
            }
        }
        if let Sign::ChunksTrailer(_, algorithm) | Sign::UnsignedTrailer(_, algorithm) = sign {
            set("x-amz-trailer", algorithm.header());
        }
        if let Sign::Presigned(seconds) = sign {
            let separator = if target.contains('?') { '&' } else { '?' };
            let credential =
                percent::encode(format!("{}/{scope}", self.access_key).as_bytes(), Slash::Encode);
            let names = signed_names(&request).join("%3B");
            let uri = format!(
                "{target}{separator}X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date={amz_date}\
                 &X-Amz-Expires={seconds}&X-Amz-SignedHeaders={names}"
            );
            *request.uri_mut() = uri.parse().expect("the test gives a target");
        }

        let key = SigningKey::derive(&self.secret, &scope);
        let signed_headers = signed_names(&request);
        let head = Head::new(request.clone().into_parts().0).expect("the test gives a head within bounds");
        let canonical = Canonical {
            method: &head.method,
            path: &head.path,
            parameters: head.parameters.iter().collect::<Vec<&Parameter>>(),
            headers: &head.headers,
            host: &head.host,
            signed_headers: &signed_headers,
            payload: &payload,
        };
        let signature = key.sign(&string_to_sign(&amz_date, &scope, &canonical.to_bytes()));
        let digits = percent::hex(&signature);
        if let Sign::Presigned(_) = sign {
            let uri = format!("{}&X-Amz-Signature={digits}", request.uri());
            *request.uri_mut() = uri.parse().expect("the target was one before");
        } else {
            let text = format!(
                "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={digits}",
                self.access_key,
                signed_headers.join(";")
            );
            request
                .headers_mut()
                .insert("authorization", HeaderValue::try_from(text).expect("the text is ASCII"));
        }
        let signer = ChunkSigner::new(key, amz_date, scope, signature);
        let body = match sign {
            Sign::Sha256 | Sign::Unsigned | Sign::Presigned(_) => body.to_vec(),
            Sign::Chunks(len) => chunked(body, len, Some(signer), None),
            Sign::ChunksTrailer(len, algorithm) => chunked(body, len, Some(signer), Some(algorithm)),
            Sign::UnsignedTrailer(len, algorithm) => chunked(body, len, None, Some(algorithm)),
        };
        if (!body.is_empty() || method == "PUT") && !request.headers().contains_key("content-length") {
            request.headers_mut().insert("content-length", HeaderValue::from(body.len()));
        }
        request.map(|()| Full::new(Bytes::from(body)))
    }
}

/// Gives `request` to `door` and collects the answer.
///
/// # Panics
/// Where the answer's body breaks off.
pub async fn answer<B>(door: &Door, request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = door.handle(request).await.into_parts();
    let body = body.collect().await.expect("the answer does not break off").to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// The names of all headers that can be signed, sorted.
fn signed_names(request: &Request<()>) -> Vec<String> {
    let mut names: Vec<String> = request
        .headers()
        .keys()
        .map(|name| name.as_str().to_owned())
        .filter(|name| {
            !matches!(name.as_str(), "content-length" | "expect" | "transfer-encoding" | "authorization")
        })
        .collect();
    names.sort();
    names
}

/// `body` in the aws-chunked form.
pub fn chunked(
    body: &[u8],
    len: usize,
    mut signer: Option<ChunkSigner>,
    trailer: Option<Algorithm>,
) -> Vec<u8> {
    let mut wire = Vec::new();
    let last: &[u8] = &[];
    for chunk in body.chunks(len.max(1)).chain([last]) {
        wire.extend_from_slice(format!("{:x}", chunk.len()).as_bytes());
        if let Some(signer) = &mut signer {
            let signature = signer.chunk(&Sha256::digest(chunk).into());
            wire.extend_from_slice(format!(";chunk-signature={}", percent::hex(&signature)).as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        if !chunk.is_empty() {
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
    }
    if let Some(algorithm) = trailer {
        let mut checksum = Checksum::new(algorithm);
        checksum.update(body);
        let line = format!("{}:{}", algorithm.header(), checksum.finish());
        wire.extend_from_slice(format!("{line}\r\n").as_bytes());
        if let Some(signer) = &mut signer {
            let signature = signer.trailers(&Sha256::digest(format!("{line}\n").as_bytes()).into());
            wire.extend_from_slice(
                format!("x-amz-trailer-signature:{}\r\n", percent::hex(&signature)).as_bytes(),
            );
        }
    }
    wire.extend_from_slice(b"\r\n");
    wire
}
