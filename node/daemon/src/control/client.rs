//! Asks a node over its control socket.

use crate::status::{NodeStatus, Problem};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;

/// Bytes of an answer at most.
const ANSWER_LEN_BYTES_MAX: usize = 4 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a node gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens on the socket.
    #[error("{path}: {source}; is the node running?")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke, the answer was too long, or none came in time.
    #[error("{path}: no usable answer: {reason}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// In words.
        reason: String,
    },
    /// The node refused.
    #[error("{}: {} ({})", .0.title, .0.detail, .0.status)]
    Refused(Problem),
}

/// A client of one node.
#[derive(Clone, Debug)]
pub struct ControlClient {
    path: PathBuf,
}

impl ControlClient {
    /// A client of the socket at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn status(&self) -> Result<NodeStatus, ControlError> {
        let body = self.ask(Method::GET, "/v1/status").await?;
        serde_json::from_slice(&body).map_err(|error| self.broken(error))
    }

    /// `POST` to `path`, such as `/v1/jobs/seal`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn post(&self, path: &str) -> Result<(), ControlError> {
        self.ask(Method::POST, path).await.map(|_| ())
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Bytes, ControlError> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, path)).await {
            Ok(result) => result,
            Err(_) => Err(self.broken(format!("none within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Bytes, ControlError> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|source| ControlError::Unreachable { path: self.path.clone(), source })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "strongroom")
            .body(Empty::<Bytes>::new())
            .expect("method and path are constants");
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LEN_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| self.broken(error))?
                .to_bytes();
            if status.is_success() {
                return Ok(body);
            }
            Err(match serde_json::from_slice(&body) {
                Ok(problem) => ControlError::Refused(problem),
                Err(_) => self.broken(format!("status {status}")),
            })
        };
        // The connection is driven here and ends with this call.
        tokio::pin!(connection);
        tokio::pin!(exchange);
        tokio::select! {
            result = &mut exchange => result,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(self.broken(error)),
            },
        }
    }

    fn broken(&self, reason: impl ToString) -> ControlError {
        ControlError::Broken { path: self.path.clone(), reason: reason.to_string() }
    }
}
