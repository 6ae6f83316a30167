//! The S3 client: where the endpoint is and who asks, turned into an `aws_sdk_s3::Client` with bounded retries and waits.
//!
//! It needs a tokio runtime and nothing else, so it works inside `tokio_uring::start` too: there its sockets are tokio's, not
//! the ring's. Nothing is read from the environment, from profiles or from a metadata service: what an
//! [`Endpoint`] says is all there is, because a node must not start to talk to another place when a variable is set.

use crate::limits;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use http::Uri;
use std::fmt;

#[cfg(test)]
mod tests;

/// An S3 service and the key that opens it.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host[:port]`, without a path.
    pub url: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The key's id.
    pub access_key: String,
    /// The key. Never printed.
    pub secret_key: String,
    /// `http://host/bucket/key` if set, `http://bucket.host/key` otherwise.
    pub path_style: bool,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("url", &self.url)
            .field("region", &self.region)
            .field("access_key", &self.access_key)
            .field("path_style", &self.path_style)
            .finish_non_exhaustive()
    }
}

/// Why an [`Endpoint`] cannot be used. Nothing was sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not `http://host[:port]`.
    #[error("S3 endpoint {url:?}: expected http://host[:port] and no path")]
    Malformed {
        /// As given.
        url: String,
    },
    /// TLS is asked for, and this build has none.
    #[error("S3 endpoint {url:?}: https is not supported yet; use http:// on a network that you trust")]
    TlsMissing {
        /// As given.
        url: String,
    },
    /// A field that must not be empty is.
    #[error("S3 endpoint {url:?}: {field} is empty")]
    Empty {
        /// As given.
        url: String,
        /// Which field.
        field: &'static str,
    },
}

/// A client for `endpoint`. No connection is made yet.
///
/// # Errors
/// When `endpoint` is not plain `http://host[:port]`, or its region or key is empty.
pub fn connect(endpoint: &Endpoint) -> Result<aws_sdk_s3::Client, EndpointError> {
    check(endpoint)?;
    let http = aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(limits::IDLE_MAX)
        .pool_max_idle_per_host(limits::IDLE_CONNECTIONS_MAX)
        .build_http();
    let key = Credentials::new(&endpoint.access_key, &endpoint.secret_key, None, None, "strongroom");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .endpoint_url(&endpoint.url)
        .region(Region::new(endpoint.region.clone()))
        .credentials_provider(key)
        .force_path_style(endpoint.path_style)
        .retry_config(retries())
        .timeout_config(waits())
        .build();
    Ok(aws_sdk_s3::Client::from_conf(config))
}

fn check(endpoint: &Endpoint) -> Result<(), EndpointError> {
    let url = &endpoint.url;
    let malformed = || EndpointError::Malformed { url: url.clone() };
    let parsed: Uri = url.parse().map_err(|_| malformed())?;
    match parsed.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(EndpointError::TlsMissing { url: url.clone() }),
        _ => return Err(malformed()),
    }
    let host_is_plain =
        parsed.authority().is_some_and(|at| !at.host().is_empty() && !at.as_str().contains('@'));
    if !host_is_plain || !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
        return Err(malformed());
    }
    let fields = [
        ("region", &endpoint.region),
        ("access_key", &endpoint.access_key),
        ("secret_key", &endpoint.secret_key),
    ];
    match fields.into_iter().find(|(_, value)| value.is_empty()) {
        Some((field, _)) => Err(EndpointError::Empty { url: url.clone(), field }),
        None => Ok(()),
    }
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(limits::ATTEMPTS_MAX)
        .with_initial_backoff(limits::BACKOFF_INITIAL)
        .with_max_backoff(limits::BACKOFF_MAX)
}

fn waits() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(limits::CONNECT_WAIT_MAX)
        .read_timeout(limits::READ_WAIT_MAX)
        .operation_attempt_timeout(limits::ATTEMPT_MAX)
        .operation_timeout(limits::OPERATION_MAX)
        .build()
}
