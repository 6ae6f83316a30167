//! The lean client: one HTTP/1.1 connection, signed requests, one at a time.
//!
//! On one machine the client's CPU is taken from the server's, and in first runs the SDK took more of it a request
//! (`--client sdk` shows how much). This one signs as every client does, sends the length, and knows four requests.

use super::PayloadSignature;
use super::client::{Body, Comparison, RequestError, Target};
use crate::limits;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::time::SystemTime;
use tokio::net::TcpStream;

/// SHA-256 of nothing.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A connection that is made when it is needed, and made again when it broke. Must be used within a `LocalSet`.
pub struct Connection<'a> {
    target: &'a Target,
    authority: &'a str,
    settings: SigningSettings,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl<'a> Connection<'a> {
    /// To endpoint `index`.
    pub fn new(target: &'a Target, index: usize) -> Self {
        let mut settings = SigningSettings::default();
        // What S3 asks for, where it differs from other services.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        Self { target, authority: &target.authorities[index], settings, sender: None }
    }

    /// Stores `body`.
    ///
    /// # Errors
    /// When it was not acknowledged.
    pub async fn put(&mut self, key: &str, body: &Body) -> Result<(), RequestError> {
        let path = self.path(key);
        self.bounded(Method::PUT, &path, body.bytes.clone(), &body.sha256, None).await
    }

    /// Reads and compares every byte.
    ///
    /// # Errors
    /// When it cannot be read, or differs.
    pub async fn get(&mut self, key: &str, expected: &Bytes) -> Result<(), RequestError> {
        let path = self.path(key);
        self.bounded(Method::GET, &path, Bytes::new(), EMPTY_SHA256, Some(expected)).await
    }

    /// Deletes.
    ///
    /// # Errors
    /// When it was not acknowledged.
    pub async fn delete(&mut self, key: &str) -> Result<(), RequestError> {
        let path = self.path(key);
        self.bounded(Method::DELETE, &path, Bytes::new(), EMPTY_SHA256, None).await
    }

    /// Makes the bucket, or finds that it is there.
    ///
    /// # Errors
    /// When the server answers anything else.
    pub async fn make_bucket(&mut self) -> Result<(), RequestError> {
        let path = format!("/{}", self.target.bucket);
        match self.bounded(Method::PUT, &path, Bytes::new(), EMPTY_SHA256, None).await {
            Err(RequestError::Refused { status: StatusCode::CONFLICT, .. }) => Ok(()),
            done => done,
        }
    }

    /// Keys of the load hold letters, digits, `-` and `/` alone: nothing to encode.
    fn path(&self, key: &str) -> String {
        format!("/{}/{key}", self.target.bucket)
    }

    async fn bounded(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        sha256: &str,
        expected: Option<&Bytes>,
    ) -> Result<(), RequestError> {
        let exchange = self.exchange(method, path, body, sha256, expected);
        let done =
            tokio::time::timeout(limits::REQUEST_WAIT_MAX, exchange).await.unwrap_or(Err(RequestError::Late));
        if let Err(RequestError::Late | RequestError::Broken(_)) = done {
            self.sender = None;
        }
        done
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        sha256: &str,
        expected: Option<&Bytes>,
    ) -> Result<(), RequestError> {
        let request = self.signed(&method, path, body, sha256)?;
        let response = self.send(request).await?;
        let status = response.status();
        let mut incoming = response.into_body();
        let mut comparison = Comparison::new(expected.map_or(&[], |bytes| bytes.as_ref()));
        let mut said = Vec::new();
        // The body is read to its end in any case: the connection is to be used again.
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| RequestError::Broken(error.into()))?;
            let Ok(chunk) = frame.into_data() else { continue };
            if status.is_success() {
                comparison.add(&chunk);
            } else {
                let room = limits::ERROR_BODY_LEN_BYTES_MAX - said.len();
                said.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
        }
        match (status, expected) {
            (StatusCode::SERVICE_UNAVAILABLE, _) => Err(RequestError::Busy),
            (status, Some(_)) if status == StatusCode::OK => comparison.finish(),
            (status, None) if status.is_success() => Ok(()),
            _ => Err(RequestError::Refused { status, body: String::from_utf8_lossy(&said).into_owned() }),
        }
    }

    fn signed(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
        sha256: &str,
    ) -> Result<Request<Full<Bytes>>, RequestError> {
        let unsendable = |error: Box<dyn std::error::Error + Send + Sync>| RequestError::Unsendable(error);
        let parameters: SigningParams<'_> = v4::SigningParams::builder()
            .identity(&self.target.identity)
            .region(&self.target.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(self.settings.clone())
            .build()
            .map_err(|error| unsendable(error.into()))?
            .into();
        let signable_body = match self.target.payload {
            PayloadSignature::Sha256 => SignableBody::Precomputed(sha256.to_owned()),
            PayloadSignature::Unsigned => SignableBody::UnsignedPayload,
        };
        let uri = format!("http://{}{path}", self.authority);
        let headers = std::iter::once(("host", self.authority));
        let signable = SignableRequest::new(method.as_str(), uri, headers, signable_body)
            .map_err(|error| unsendable(error.into()))?;
        let (instructions, _) =
            sign(signable, &parameters).map_err(|error| unsendable(error.into()))?.into_parts();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.authority)
            .body(Full::new(body))
            .map_err(|error| unsendable(error.into()))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    /// Sends on the open connection, or on a new one when there is none or the server closed it in between.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, RequestError> {
        let mut request = request;
        if let Some(sender) = &mut self.sender {
            if sender.ready().await.is_ok() {
                match sender.try_send_request(request).await {
                    Ok(response) => return Ok(response),
                    // Given back means that not a byte of it was sent.
                    Err(mut failed) => match failed.take_message() {
                        Some(unsent) => request = unsent,
                        None => return Err(RequestError::Broken(failed.into_error().into())),
                    },
                }
            }
            self.sender = None;
        }
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| RequestError::Broken(error);
        let stream = TcpStream::connect(self.authority).await.map_err(|error| broken(error.into()))?;
        stream.set_nodelay(true).map_err(|error| broken(error.into()))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.into()))?;
        // Whatever ends the connection is seen by the request in flight, or by the next one.
        tokio::task::spawn_local(connection);
        self.sender.insert(sender).send_request(request).await.map_err(|error| broken(error.into()))
    }
}
