//! Signature Version 4: canonical request, string to sign, signing key, chunk signatures. Pure; used to verify, and by
//! the test client to sign.
//!
//! Source: AWS, "Authenticating Requests (AWS Signature Version 4)", S3 API reference.

use crate::auth::credentials::Secret;
use crate::head::Parameter;
use crate::percent::{self, Slash};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, Method};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The algorithm's name.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// SHA-256 of nothing.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What a signature is bound to besides the request: `20130524/us-east-1/s3/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The day, `20130524`.
    pub day: String,
    /// The region.
    pub region: String,
    /// The service, `s3`.
    pub service: String,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.day, self.region, self.service)
    }
}

/// What is signed of a request.
pub struct Canonical<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, decoded.
    pub path: &'a str,
    /// The parameters without the signature itself.
    pub parameters: Vec<&'a Parameter>,
    /// All headers; only those of `signed_headers` count.
    pub headers: &'a HeaderMap,
    /// The host, which some clients send in the request line alone.
    pub host: &'a str,
    /// Names in lower case, in the order that the client gave.
    pub signed_headers: &'a [String],
    /// The payload's hash or one of its fixed words.
    pub payload: &'a str,
}

impl Canonical<'_> {
    /// The canonical request. Bytes, because header values need not be UTF-8.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::with_capacity(512);
        text.push_str(self.method.as_str());
        text.push('\n');
        percent::encode_into(&mut text, self.path.as_bytes(), Slash::Keep);
        text.push('\n');
        let mut pairs: Vec<(String, String)> = self
            .parameters
            .iter()
            .map(|parameter| {
                let encode = |part: &str| percent::encode(part.as_bytes(), Slash::Encode);
                (encode(&parameter.name), encode(&parameter.value))
            })
            .collect();
        pairs.sort();
        for (index, (name, value)) in pairs.iter().enumerate() {
            if index > 0 {
                text.push('&');
            }
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        }
        text.push('\n');
        let mut out = text.into_bytes();
        for name in self.signed_headers {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            if name == "host" {
                out.extend_from_slice(self.host.as_bytes());
            } else {
                for (index, value) in self.headers.get_all(name.as_str()).iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    push_collapsed(&mut out, value.as_bytes());
                }
            }
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(self.signed_headers.join(";").as_bytes());
        out.push(b'\n');
        out.extend_from_slice(self.payload.as_bytes());
        out
    }
}

/// Appends a header value without outer blanks and with inner runs of blanks as one.
fn push_collapsed(out: &mut Vec<u8>, value: &[u8]) {
    let mut words = value.split(|byte| *byte == b' ' || *byte == b'\t').filter(|word| !word.is_empty());
    if let Some(first) = words.next() {
        out.extend_from_slice(first);
    }
    for word in words {
        out.push(b' ');
        out.extend_from_slice(word);
    }
}

/// The string that is signed for `canonical`.
pub fn string_to_sign(amz_date: &str, scope: &Scope, canonical: &[u8]) -> String {
    format!("{ALGORITHM}\n{amz_date}\n{scope}\n{}", percent::hex(&Sha256::digest(canonical)))
}

/// A key derived from a secret for one scope.
#[derive(Clone)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// Derives the key.
    pub fn derive(secret: &Secret, scope: &Scope) -> Self {
        let day = hmac(format!("AWS4{}", secret.expose()).as_bytes(), scope.day.as_bytes());
        let region = hmac(&day, scope.region.as_bytes());
        let service = hmac(&region, scope.service.as_bytes());
        Self(hmac(&service, b"aws4_request"))
    }

    /// The signature of `text`.
    pub fn sign(&self, text: &str) -> [u8; 32] {
        hmac(&self.0, text.as_bytes())
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Whether two signatures are equal, in a time that tells nothing of where they differ.
pub fn equal(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.ct_eq(right).into()
}

/// The chain of signatures of an aws-chunked body: each chunk's signature covers the one before.
#[derive(Clone)]
pub struct ChunkSigner {
    key: SigningKey,
    amz_date: String,
    scope: Scope,
    previous: [u8; 32],
}

impl ChunkSigner {
    /// The chain that begins with the request's own signature.
    pub fn new(key: SigningKey, amz_date: String, scope: Scope, seed: [u8; 32]) -> Self {
        Self { key, amz_date, scope, previous: seed }
    }

    /// The signature of the next chunk, whose data has this SHA-256; the chain goes on from it.
    pub fn chunk(&mut self, data_sha256: &[u8; 32]) -> [u8; 32] {
        let text = format!(
            "{ALGORITHM}-PAYLOAD\n{}\n{}\n{}\n{EMPTY_SHA256}\n{}",
            self.amz_date,
            self.scope,
            percent::hex(&self.previous),
            percent::hex(data_sha256)
        );
        self.previous = self.key.sign(&text);
        self.previous
    }

    /// The signature of the trailers, which as `name:value\n` lines have this SHA-256.
    pub fn trailers(&mut self, trailers_sha256: &[u8; 32]) -> [u8; 32] {
        let text = format!(
            "{ALGORITHM}-TRAILER\n{}\n{}\n{}\n{}",
            self.amz_date,
            self.scope,
            percent::hex(&self.previous),
            percent::hex(trailers_sha256)
        );
        self.previous = self.key.sign(&text);
        self.previous
    }
}
