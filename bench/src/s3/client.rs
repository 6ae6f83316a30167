//! One seam over both clients: put, get with comparison, delete.

use super::lean::Connection;
use super::{ClientKind, PayloadSignature, Server};
use aws_credential_types::Credentials;
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use http::{StatusCode, Uri};
use strongroom_tier::{Endpoint, EndpointError};

/// What is written under a key.
pub struct Body {
    /// The bytes.
    pub bytes: Bytes,
    /// Their SHA-256 in hexadecimal.
    pub sha256: String,
}

/// Why a request failed, by what the load does about it.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// `503`: to be sent again later.
    #[error("busy (503)")]
    Busy,
    /// Another answer than was expected.
    #[error("answered {status}: {body}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// How the body begins.
        body: String,
    },
    /// The bytes read are not the bytes written. Never to be waved through.
    #[error(
        "WRONG BYTES: {found_len_bytes} bytes read, {expected_len_bytes} written, first difference at {offset}"
    )]
    Wrong {
        /// Bytes written.
        expected_len_bytes: usize,
        /// Bytes read.
        found_len_bytes: usize,
        /// Where they differ first, or end.
        offset: usize,
    },
    /// No connection, or it broke.
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer in {:?}", crate::limits::REQUEST_WAIT_MAX)]
    Late,
    /// The request could not be made.
    #[error("the request cannot be made")]
    Unsendable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything else the SDK says.
    #[error("SDK: {0}")]
    Sdk(String),
}

/// The server and how to talk to it.
pub struct Target {
    /// Authorities (`host:port`) in turn.
    pub authorities: Vec<String>,
    /// The bucket.
    pub bucket: String,
    /// The region.
    pub region: String,
    /// The key.
    pub identity: Identity,
    /// What signatures cover.
    pub payload: PayloadSignature,
    kind: ClientKind,
    endpoints: Vec<Endpoint>,
}

impl Target {
    /// # Errors
    /// When an endpoint is not plain `http://host[:port]`.
    pub fn new(server: &Server) -> Result<Self, EndpointError> {
        let endpoints: Vec<Endpoint> = server
            .endpoint
            .iter()
            .map(|url| Endpoint {
                url: url.clone(),
                region: server.region.clone(),
                access_key: server.access_key.clone(),
                secret_key: server.secret_key.clone(),
                path_style: true,
            })
            .collect();
        let mut authorities = Vec::new();
        for endpoint in &endpoints {
            // The client is dropped: making it is what checks the endpoint.
            strongroom_tier::connect(endpoint)?;
            let uri: Uri = endpoint.url.parse().expect("the endpoint was checked above");
            let authority = uri.authority().expect("the endpoint was checked above");
            authorities.push(match authority.port() {
                Some(_) => authority.to_string(),
                None => format!("{authority}:80"),
            });
        }
        let key = Credentials::new(&server.access_key, &server.secret_key, None, None, "strongroom-bench");
        Ok(Self {
            authorities,
            bucket: server.bucket.clone(),
            region: server.region.clone(),
            identity: key.into(),
            payload: server.payload,
            kind: server.client,
            endpoints,
        })
    }
}

/// One of the two clients, for one request at a time.
pub enum Client<'a> {
    /// Own connection.
    Lean(Box<Connection<'a>>),
    /// The SDK.
    Sdk {
        /// It.
        client: aws_sdk_s3::Client,
        /// The bucket.
        bucket: &'a str,
    },
}

impl<'a> Client<'a> {
    /// Client `index` of a run; they are spread over the endpoints.
    ///
    /// # Errors
    /// When the endpoint cannot be used.
    pub fn new(target: &'a Target, index: usize) -> Result<Self, RequestError> {
        Ok(match target.kind {
            ClientKind::Lean => {
                Self::Lean(Box::new(Connection::new(target, index % target.authorities.len())))
            }
            ClientKind::Sdk => Self::Sdk {
                client: strongroom_tier::connect(&target.endpoints[index % target.endpoints.len()])
                    .map_err(|error| RequestError::Unsendable(error.into()))?,
                bucket: &target.bucket,
            },
        })
    }

    /// Stores `body`.
    ///
    /// # Errors
    /// When it was not acknowledged.
    pub async fn put(&mut self, key: &str, body: &Body) -> Result<(), RequestError> {
        match self {
            Self::Lean(connection) => connection.put(key, body).await,
            Self::Sdk { client, bucket } => {
                let put =
                    client.put_object().bucket(*bucket).key(key).body(ByteStream::from(body.bytes.clone()));
                put.send().await.map(drop).map_err(sdk_error)
            }
        }
    }

    /// Reads and compares every byte.
    ///
    /// # Errors
    /// When it cannot be read, or differs.
    pub async fn get(&mut self, key: &str, expected: &Bytes) -> Result<(), RequestError> {
        match self {
            Self::Lean(connection) => connection.get(key, expected).await,
            Self::Sdk { client, bucket } => {
                let answer = client.get_object().bucket(*bucket).key(key).send().await.map_err(sdk_error)?;
                let mut body = answer.body;
                let mut comparison = Comparison::new(expected);
                while let Some(chunk) = body.next().await {
                    comparison.add(&chunk.map_err(|error| RequestError::Broken(error.into()))?);
                }
                comparison.finish()
            }
        }
    }

    /// Deletes.
    ///
    /// # Errors
    /// When it was not acknowledged.
    pub async fn delete(&mut self, key: &str) -> Result<(), RequestError> {
        match self {
            Self::Lean(connection) => connection.delete(key).await,
            Self::Sdk { client, bucket } => {
                client.delete_object().bucket(*bucket).key(key).send().await.map(drop).map_err(sdk_error)
            }
        }
    }
}

fn sdk_error<E>(error: SdkError<E, HttpResponse>) -> RequestError
where
    E: std::error::Error + 'static,
{
    match error.raw_response().map(|response| response.status().as_u16()) {
        Some(503) => RequestError::Busy,
        _ => RequestError::Sdk(DisplayErrorContext(error).to_string()),
    }
}

/// Makes the bucket, or finds that it is there.
///
/// # Errors
/// When the server answers anything else.
pub async fn ensure_bucket(target: &Target) -> Result<(), RequestError> {
    let local = tokio::task::LocalSet::new();
    local.run_until(async { Connection::new(target, 0).make_bucket().await }).await
}

/// Compares a body with what is expected as it comes in, without keeping it.
pub struct Comparison<'a> {
    expected: &'a [u8],
    found_len_bytes: usize,
    offset_of_difference: Option<usize>,
}

impl<'a> Comparison<'a> {
    /// Nothing read yet.
    pub fn new(expected: &'a [u8]) -> Self {
        Self { expected, found_len_bytes: 0, offset_of_difference: None }
    }

    /// The next bytes.
    pub fn add(&mut self, chunk: &[u8]) {
        let rest = self.expected.get(self.found_len_bytes..).unwrap_or(&[]);
        let common_len_bytes = rest.len().min(chunk.len());
        if self.offset_of_difference.is_none()
            && (chunk.len() > rest.len() || rest[..common_len_bytes] != chunk[..common_len_bytes])
        {
            let equal_count = rest.iter().zip(chunk).take_while(|(left, right)| left == right).count();
            self.offset_of_difference = Some(self.found_len_bytes + equal_count);
        }
        self.found_len_bytes += chunk.len();
    }

    /// # Errors
    /// When a byte differed, was missing or was over.
    pub fn finish(self) -> Result<(), RequestError> {
        let expected_len_bytes = self.expected.len();
        if self.offset_of_difference.is_none() && self.found_len_bytes == expected_len_bytes {
            return Ok(());
        }
        let offset = self.offset_of_difference.unwrap_or(self.found_len_bytes);
        Err(RequestError::Wrong { expected_len_bytes, found_len_bytes: self.found_len_bytes, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, RequestError};

    fn compare(expected: &[u8], chunks: &[&[u8]]) -> Option<usize> {
        let mut comparison = Comparison::new(expected);
        chunks.iter().for_each(|chunk| comparison.add(chunk));
        match comparison.finish() {
            Ok(()) => None,
            Err(RequestError::Wrong { offset, .. }) => Some(offset),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn equal_bytes_pass_however_they_are_cut() {
        assert_eq!(compare(b"", &[]), None);
        assert_eq!(compare(b"abcdef", &[b"abcdef"]), None);
        assert_eq!(compare(b"abcdef", &[b"ab", b"", b"cde", b"f"]), None);
    }

    #[test]
    fn each_difference_is_found_where_it_begins() {
        assert_eq!(compare(b"abcdef", &[b"abXdef"]), Some(2));
        assert_eq!(compare(b"abcdef", &[b"abc", b"dXf"]), Some(4));
        assert_eq!(compare(b"abcdef", &[b"abc"]), Some(3));
        assert_eq!(compare(b"abc", &[b"abc", b"d"]), Some(3));
        assert_eq!(compare(b"abc", &[b"abcd"]), Some(3));
        assert_eq!(compare(b"", &[b"x"]), Some(0));
        assert_eq!(compare(b"abcdef", &[b"Xbc", b"Xef"]), Some(0));
    }
}
